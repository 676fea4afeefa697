"""Paths of the project's data, of what `make test` builds, and of data that only some machines have."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parent.parent
DEMO_CHECKPOINT = ROOT / "demo" / "coffee_ctc.nemo"
RNNT_CHECKPOINT = ROOT / "demo" / "coffee_rnnt.nemo"
HYBRID_CHECKPOINT = ROOT / "demo" / "coffee_hybrid.nemo"
DEMO_MANIFEST = ROOT / "nemo_triton" / "demo_speech" / "manifest.jsonl"
BUILD = ROOT / "build"
TEST_REPOSITORY = BUILD / "test_repository"
FAMILY_REPOSITORY = BUILD / "family_repository"
"""Tiny models of each family with random weights."""
PRECISION_REPOSITORY = BUILD / "precision_repository"
"""The demo models in fp16 and int8."""
HYBRID_REPOSITORY = BUILD / "hybrid_repository"
"""The demo's hybrid of TDT and CTC."""
AUDIO_FORMATS = BUILD / "audio_formats"
"""Recordings in the formats that people have, written with the texts of NeMo."""
SHARED = Path(os.environ.get("SHARED", ROOT.parent / "shared"))
"""More recordings and checkpoints. Tests that need them are skipped where they are missing."""
SPEECH = SHARED / "speech"
