"""Measure the speed and accuracy of served recognizers, and compare them with baselines."""

import os
import sys

from benchmark.core import missing_package

# Before onnxruntime is imported: its official builds send data about the machine and the process to Microsoft.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# `python -m benchmark.NAME` imports this package with argv[0] == "-m". Other programs keep their hook.
if sys.argv[:1] == ["-m"]:
    sys.excepthook = missing_package.report
