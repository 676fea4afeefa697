"""Where tests find what the project carries, what `make test` builds and what some machines have beside it."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parent.parent
DEMO_CHECKPOINT = ROOT / "demo" / "coffee_ctc.nemo"
RNNT_CHECKPOINT = ROOT / "demo" / "coffee_rnnt.nemo"
DEMO_MANIFEST = ROOT / "nemo_triton" / "demo_speech" / "manifest.jsonl"
BUILD = ROOT / "build"
TEST_REPOSITORY = BUILD / "test_repository"
FAMILY_REPOSITORY = BUILD / "family_repository"
"""A tiny model of each family, with random weights."""
PRECISION_REPOSITORY = BUILD / "precision_repository"
"""The demo's models in fp16 and int8."""
SHARED = Path(os.environ.get("SHARED", ROOT.parent / "shared"))
"""Recordings and checkpoints of others, used for more tests where they are."""
SPEECH = SHARED / "speech"
