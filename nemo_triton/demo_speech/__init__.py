"""Synthesized coffee orders: the default recordings of bench and of the export's comparison with NeMo."""

from __future__ import annotations

from pathlib import Path

MANIFEST = Path(__file__).with_name("manifest.jsonl")
"""NeMo JSON lines: audio_filepath, duration, text."""
