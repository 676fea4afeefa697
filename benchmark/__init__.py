"""Measures recognizers beside each other."""

import os

# Before onnxruntime is imported: its official builds tell Microsoft of the machine and the process that it runs in.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
