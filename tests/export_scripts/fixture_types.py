"""Types of the fixtures in conftest.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from export_scripts.checkpoints.checkpoint import Checkpoint
    from export_scripts.operators.tuning import Target

CheckpointFile = Callable[[str, str], Path]
OpenCheckpoint = Callable[[str], "Checkpoint"]
ExportOnce = Callable[[str, str, "Target"], tuple[Path, str]]
