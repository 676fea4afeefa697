"""Thousands of valid and invalid concurrent requests, each compared with the same request unbatched."""
