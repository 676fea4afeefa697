"""Published recognizers at their full size, by name: those of the catalogue, and later ones."""

from __future__ import annotations

from verification.full_size.conformer_models import CONFORMERS
from verification.full_size.convolutional_models import CONVOLUTIONAL
from verification.full_size.fastconformer_models import FAST_CONFORMERS
from verification.full_size.model_parts import Architecture

ARCHITECTURES: dict[str, Architecture] = CONVOLUTIONAL | CONFORMERS

LATER: dict[str, Architecture] = FAST_CONFORMERS
"""Recognizers outside the catalogue, for benchmarks on GPUs."""
