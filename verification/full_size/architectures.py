"""Architectures of published recognizers at full size, by name."""

from __future__ import annotations

from verification.full_size.conformer_models import CONFORMERS
from verification.full_size.convolutional_models import CONVOLUTIONAL
from verification.full_size.fastconformer_models import FAST_CONFORMERS
from verification.full_size.model_parts import Architecture

ARCHITECTURES: dict[str, Architecture] = CONVOLUTIONAL | CONFORMERS
"""The recognizers of the catalogue."""

LATER: dict[str, Architecture] = FAST_CONFORMERS
"""Later recognizers, which the catalogue does not list; for benchmarks on GPUs."""
