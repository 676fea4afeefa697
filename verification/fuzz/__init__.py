"""Mutated requests to a running server, and mutated files to the readers."""
