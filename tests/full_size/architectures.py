"""The 22 published recognizers at their full size, by name."""

from __future__ import annotations

from conformer_models import CONFORMERS
from convolutional_models import CONVOLUTIONAL
from fastconformer_models import FAST_CONFORMERS
from model_parts import Architecture

ARCHITECTURES: dict[str, Architecture] = CONVOLUTIONAL | CONFORMERS

LATER: dict[str, Architecture] = FAST_CONFORMERS
"""Recognizers that are not of the catalogue; benchmarks on GPUs have some."""
