"""Options, error lines, progress bars and tables of the commands."""
