"""Spoken coffee orders, synthesized: what bench.py measures and the export compares on unless told otherwise."""

from __future__ import annotations

from pathlib import Path

MANIFEST = Path(__file__).with_name("manifest.jsonl")
"""NeMo JSON lines: audio_filepath, duration, text."""
