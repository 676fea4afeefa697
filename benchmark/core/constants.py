"""Names and numbers that commands, reporting and studies share."""

from __future__ import annotations

from pathlib import Path
from pkgutil import iter_modules

ROOT = Path(__file__).parents[2]
"""The checkout."""
EXPORT_SCRIPT = ROOT / "export_scripts" / "export.py"
EXPORT_PYTHON = Path(".venv/export/bin/python")
"""The default of options that name the Python with NeMo."""

CONCURRENCIES = "1,4,16,32"
"""Of the closed loops."""
COMPARED_AT = 16
"""The concurrency by which models are compared; it is measured in rounds, at different times."""
MORE_ROUNDS = ("round_2", "round_3")
RATES_OF_CAPACITY = (0.25, 0.5, 0.75, 1.0)
"""Rates of the open loops, as fractions of the requests per second that the server answers in a closed loop."""
OPEN_REQUESTS = 100
"""Requests at each rate, at least: a percentile of fewer means little."""

OURS = "served by Triton (ours)"
NEMO = "NeMo transcribe()"
"""Names of systems in results and tables."""
OWN_MODELS = {"pocketsphinx": "pocketsphinx", "faster_whisper": "faster-whisper"}
"""Baselines with a model of their own, by adapter; all others run the weights of the model that is compared."""
_ADAPTERS = {module.name for module in iter_modules([str(ROOT / "benchmark" / "baselines" / "adapters")])}
BASELINES = (*sorted(_ADAPTERS - {"nemo", *OWN_MODELS}), *OWN_MODELS)
"""Packages to compare with, by the name of the adapter; NeMo itself runs in the environment of the export."""

SCORES = "scores.json"
REPORT = "report.json"
"""Files in a folder of results."""
