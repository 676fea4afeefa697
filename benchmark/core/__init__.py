"""What the commands share: constants, models, servers, results."""
