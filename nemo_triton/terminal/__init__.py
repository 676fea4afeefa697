"""What the commands share: options, error lines, progress bars, tables."""
