"""Names and numbers that the commands, the report and the studies share."""

from __future__ import annotations

from pathlib import Path
from pkgutil import iter_modules

ROOT = Path(__file__).parents[2]
"""The checkout."""
EXPORT_SCRIPT = ROOT / "export_scripts" / "export.py"
EXPORT_PYTHON = Path(".venv/export/bin/python")
"""Default of the options that name the Python with NeMo."""

CONCURRENCIES = "1,4,16,32"
"""Default concurrencies of the closed loops."""
COMPARED_AT = 16
"""Concurrency at which models are compared. It is measured in three rounds, at different times."""
MORE_ROUNDS = ("round_2", "round_3")
"""The rounds after the first, which is one of the closed loops."""
RATES_OF_CAPACITY = (0.25, 0.5, 0.75, 1.0)
"""Rates of the open loops, as fractions of the highest requests per second of a closed loop."""
OPEN_REQUESTS = 100
"""Minimum requests at each rate. Percentiles of fewer requests mean little."""

OURS = "served by Triton (ours)"
NEMO = "NeMo transcribe()"
"""Names of these two systems in results and tables."""
OWN_MODELS = {"pocketsphinx": "pocketsphinx", "faster_whisper": "faster-whisper"}
"""Baselines that bring their own model, by adapter name. All others run the weights of the compared model."""
_ADAPTERS = {module.name for module in iter_modules([str(ROOT / "benchmark" / "baselines" / "adapters")])}
BASELINES = (*sorted(_ADAPTERS - {"nemo", *OWN_MODELS}), *OWN_MODELS)
"""Adapter names of the baselines. NeMo is not listed: it runs in the export environment."""

SCORES = "scores.json"
REPORT = "report.json"
"""File names in a results folder."""
