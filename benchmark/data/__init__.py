"""Data sets in one form."""
