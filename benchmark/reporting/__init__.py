"""Pages from results."""
