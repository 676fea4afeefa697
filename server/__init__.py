"""Run tritonserver from a virtual environment, without NVIDIA's container."""

import os

# Before onnxruntime is imported: its official builds send data about the machine and the process to Microsoft.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
