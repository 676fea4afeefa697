"""Measure the speed and accuracy of served recognizers, and compare them with baselines."""

import os
import sys

from benchmark.core import missing_package

# Before onnxruntime is imported: its official builds send data about the machine and the process to Microsoft.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Python's value while `python -m benchmark.NAME` imports this package; a program that imports it keeps its own hook.
if sys.argv[:1] == ["-m"]:
    sys.excepthook = missing_package.report
