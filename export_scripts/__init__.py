"""Write model repositories from NeMo checkpoints, and check them."""

import os

# Set before onnxruntime is imported: its official builds report machine and process to Microsoft.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
