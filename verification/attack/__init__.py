"""Thousands of good and bad requests at once."""
