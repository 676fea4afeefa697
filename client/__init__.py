"""Talks to a served recognizer: a library, and the commands transcribe.py and bench.py."""
