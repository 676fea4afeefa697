"""Talks to a served recognizer: a library, and the commands transcribe.py and bench.py."""

import os

# Before gRPC is imported: it writes lines about each failed handshake to stderr, and the errors raised tell as much.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
