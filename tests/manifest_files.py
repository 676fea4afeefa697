"""Manifests and recordings for the tests of their readers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_wav(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(160, np.int16), 16000)
    return path
