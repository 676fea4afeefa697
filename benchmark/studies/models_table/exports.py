"""Make a checkpoint with random weights and its exports in fp32 and int8, unless they exist."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from benchmark.core.models import Model
from benchmark.studies.exports import FULL, export_all
from export_scripts.checkpoints.catalogue import PUBLISHED
from export_scripts.precision.choice import PrecisionName
from nemo_triton.errors import ClientError, one_line
from verification.full_size.architectures import KNOWN
from verification.full_size.model_parts import ZERO_EDGES

INT8: PrecisionName = "int8"


class CheckpointError(ClientError):
    """A checkpoint can't be made."""


@dataclass(frozen=True)
class Folder:
    """The working folder: checkpoints, the model repository, speech and results."""

    root: Path

    @property
    def repository(self) -> Path:
        """The model repository of all exports."""
        return self.root / "repository"

    @property
    def speech(self) -> Path:
        """The folder of the recordings."""
        return self.root / "speech"

    def checkpoint(self, name: str) -> Path:
        """The .nemo file of a model."""
        return self.root / "checkpoints" / f"{name}.nemo"

    def result(self, name: str) -> Path:
        """The JSON file of a model's measurement."""
        return self.root / "results" / f"{name}.json"

    def long_audio(self, name: str) -> Path:
        """The JSON file of a model's memory by length of audio."""
        return self.root / "long_audio" / f"{name}.json"


@dataclass(frozen=True)
class Exports:
    """One model's exports.

    Attributes:
        fp32: The export with default options.
        int8: Export in int8; None if export.py refuses it.
        refusal: Reason why there is no int8 export; empty if there is one.
    """

    fp32: Model
    int8: Model | None
    refusal: str = ""


def make_exports(
    name: str, folder: Folder, export_python: Path, *, precisions: Sequence[PrecisionName] = (FULL, INT8)
) -> Exports:
    """Write the checkpoint and its exports, unless they exist.

    Args:
        name: Name of an architecture; any name if the folder has its checkpoint.
        folder: Folder to write to.
        export_python: Python with NeMo.
        precisions: Precisions to export, fp32 first.

    Raises:
        CheckpointError: The checkpoint can't be made.
        RepositoryError: The checkpoint can't be exported in fp32.
    """
    checkpoint = folder.checkpoint(name)
    if not checkpoint.exists():
        make_checkpoint(name, checkpoint, export_python)
    models, refused = export_all(checkpoint, folder.repository, export_python, precisions=precisions)
    return Exports(models[FULL], models.get(INT8), refused.get(INT8, ""))


def make_checkpoint(name: str, checkpoint: Path, export_python: Path) -> None:
    """Write a checkpoint with random weights for the installed NeMo release.

    Raises:
        CheckpointError: The program failed; the message is the last line that it printed.
    """
    if name not in KNOWN:
        raise CheckpointError(f"no such architecture, and no checkpoint {checkpoint}; see export.py --list for names")
    click.echo(f"{name}: making a checkpoint with random weights", err=True)
    # Record a release with the installed NeMo's front end, so that NeMo computes the same features as the export.
    program = [str(export_python), "-m", "verification.full_size.make_checkpoint", name]
    command = [*program, "--nemo-version", ZERO_EDGES, "--out", str(checkpoint)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise CheckpointError(
            f"{export_python}: {error.strerror}; create this environment with `make install`"
        ) from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise CheckpointError(f"no checkpoint: {one_line(lines[-1])}")


def smallest_first() -> list[str]:
    """The published models by number of parameters, one per architecture: models that share one also share files."""
    names = sorted((model.name for model in PUBLISHED), key=lambda name: KNOWN[name].parameters)
    return [name for number, name in enumerate(names) if all(KNOWN[name] != KNOWN[other] for other in names[:number])]
