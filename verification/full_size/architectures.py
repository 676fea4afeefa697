"""Architectures of published recognizers at full size, by name."""

from __future__ import annotations

from verification.full_size.conformer_models import CONFORMERS
from verification.full_size.convolutional_models import CONVOLUTIONAL
from verification.full_size.fastconformer_models import FAST_CONFORMERS
from verification.full_size.model_parts import Architecture

ARCHITECTURES: dict[str, Architecture] = CONVOLUTIONAL | CONFORMERS
"""The 22 of the catalogue."""

LATER: dict[str, Architecture] = FAST_CONFORMERS
"""Today's recognizers; for benchmarks on GPUs and the table of models."""
