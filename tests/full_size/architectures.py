"""Published recognizers at their full size, by name: the 22 of the catalogue, and later ones."""

from __future__ import annotations

from conformer_models import CONFORMERS
from convolutional_models import CONVOLUTIONAL
from fastconformer_models import FAST_CONFORMERS
from model_parts import Architecture

ARCHITECTURES: dict[str, Architecture] = CONVOLUTIONAL | CONFORMERS

LATER: dict[str, Architecture] = FAST_CONFORMERS
"""Recognizers outside the catalogue, for benchmarks on GPUs."""
