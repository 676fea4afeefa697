"""What a repository has already under a recognizer's name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from export_scripts.errors import ExportError
from export_scripts.repository.config import read_config
from nemo_triton.contract import Description

REPORT = "parity.json"


@dataclass(frozen=True, kw_only=True)
class Existing:
    """A model that an export of its name would replace. Empty where it does not say, or another tool wrote it."""

    name: str
    nemo_class: str = ""
    precision: str = ""
    checkpoint_sha256: str = ""

    def described(self, beside: str) -> str:
        """The name and what tells it apart from an export of the checkpoint with the SHA-256 `beside`."""
        other = self.checkpoint_sha256 not in ("", beside)
        details = ", ".join(filter(None, [self.precision, "from another checkpoint" if other else ""]))
        return f"{self.name} ({details})" if details else self.name


def find_existing(repository: Path, name: str) -> Existing | None:
    """The model of that name, if there is one."""
    folder = repository / name
    if not folder.is_dir():
        return None
    try:
        parameters = {key: value.string_value for key, value in read_config(folder).parameters.items()}
        description = Description.of(parameters)
    except (ExportError, ValueError):
        return Existing(name=name)
    return Existing(
        name=name,
        nemo_class=description.nemo_class,
        precision=description.precision,
        checkpoint_sha256=_checkpoint(folder),
    )


def _checkpoint(folder: Path) -> str:
    try:
        return str(json.loads((folder / "1" / REPORT).read_text(encoding="utf-8"))["checkpoint_sha256"])
    except (OSError, ValueError, TypeError, KeyError):
        return ""
