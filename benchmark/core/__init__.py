"""Shared by all commands: constants, models, servers, results."""
