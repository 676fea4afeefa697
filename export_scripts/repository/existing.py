"""What a repository has already under a recognizer's name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from export_scripts.errors import ExportError
from export_scripts.repository.config import read_config

REPORT = "parity.json"


@dataclass(frozen=True)
class Published:
    """A model that an export of its name would replace. Empty where it does not say, or another tool wrote it."""

    name: str
    nemo_class: str = ""
    precision: str = ""
    checkpoint_sha256: str = ""

    def described(self, beside: str) -> str:
        """The name and what tells it apart from an export of the checkpoint with the SHA-256 `beside`."""
        other = self.checkpoint_sha256 not in ("", beside)
        details = [self.precision, "from another checkpoint" if other else ""]
        told = ", ".join(filter(None, details))
        return f"{self.name} ({told})" if told else self.name


def find_published(repository: Path, name: str) -> Published | None:
    """The model of that name, if there is one."""
    folder = repository / name
    if not folder.is_dir():
        return None
    try:
        parameters = {key: value.string_value for key, value in read_config(folder).parameters.items()}
    except ExportError:
        return Published(name)
    return Published(name, parameters.get("nemo_class", ""), parameters.get("precision", ""), _checkpoint(folder))


def _checkpoint(folder: Path) -> str:
    try:
        return str(json.loads((folder / "1" / REPORT).read_text(encoding="utf-8"))["checkpoint_sha256"])
    except (OSError, ValueError, TypeError, KeyError):
        return ""
