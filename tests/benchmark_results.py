"""What tests of the benchmark commands share."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

Finished: TypeAlias = "subprocess.CompletedProcess[str]"
RunModule: TypeAlias = Callable[..., Finished]


@dataclass(frozen=True)
class Measured:
    """Folders of data and results, and what the commands printed that made them."""

    data: Path
    results: Path
    run: Finished
    compare: Finished
    score: Finished
