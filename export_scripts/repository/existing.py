"""The model that an export would replace."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from export_scripts.errors import ExportError
from export_scripts.repository.config import read_config
from nemo_triton.contract import Description, Part

REPORT = "parity.json"


@dataclass(frozen=True, kw_only=True)
class Existing:
    """A model in the repository, under the name of a new export.

    Attributes:
        name: Name of the model.
        nemo_class: NeMo's class of the checkpoint; empty if unknown, as for models of other tools.
        encoder: Name of its encoder stage; empty if unknown.
        precision: Precision of the encoder; empty if unknown.
        checkpoint_sha256: SHA-256 of the checkpoint; empty if unknown.
    """

    name: str
    nemo_class: str = ""
    encoder: str = ""
    precision: str = ""
    checkpoint_sha256: str = ""

    def describe(self, new_sha256: str) -> str:
        """Name and precision, and whether the model's checkpoint differs from the new one, by SHA-256."""
        is_other = self.checkpoint_sha256 not in ("", new_sha256)
        details = ", ".join(filter(None, [self.precision, "from another checkpoint" if is_other else ""]))
        return f"{self.name} ({details})" if details else self.name


def find_existing(repository: Path, name: str) -> Existing | None:
    """The repository's model of that name, if there is one."""
    folder = repository / name
    if not folder.is_dir():
        return None
    try:
        config = read_config(folder)
        description = Description.of({key: value.string_value for key, value in config.parameters.items()})
    except (ExportError, ValueError):
        return Existing(name=name)
    stages = [step.model_name for step in config.ensemble_scheduling.step]
    return Existing(
        name=name,
        nemo_class=description.nemo_class,
        encoder=next((stage for stage in stages if stage.endswith(Part.ENCODER.value)), ""),
        precision=description.precision,
        checkpoint_sha256=_checkpoint(folder),
    )


def _checkpoint(folder: Path) -> str:
    try:
        return str(json.loads((folder / "1" / REPORT).read_text(encoding="utf-8"))["checkpoint_sha256"])
    except (OSError, ValueError, TypeError, KeyError):
        return ""
