"""Write variants of exported recognizers: changed configurations and graphs, and links to the unchanged files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import onnx
from tritonclient.grpc import model_config_pb2 as triton

from export_scripts.repository.config import read_config, write_config
from export_scripts.repository.gpu import WARM_UP_FOLDER, write_files
from export_scripts.repository.publish import write_model

CONFIG = "config.pbtxt"


@dataclass
class Step:
    """One model of the variant: a stage or the ensemble.

    Attributes:
        config: Configuration, which a change may edit.
        exported: Folder in the exported repository; None for a model that the export does not have.
        graph: Graph that replaces the exported one; None keeps the exported graph.
        files: Additional files, by path in the model's folder.
    """

    config: triton.ModelConfig
    exported: Path | None = None
    graph: onnx.ModelProto | None = None
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def graph_file(self) -> Path:
        """File of the exported graph."""
        assert self.exported is not None
        return self.exported / "1" / "model.onnx"


@dataclass
class RecognizerVariant:
    """A recognizer that a change may edit: its ensemble and its stages."""

    ensemble: Step
    steps: list[Step]


Change: TypeAlias = Callable[[RecognizerVariant], None]


def write_variant(repository: Path, model: str, folder: Path, change: Change) -> None:
    """Write a changed copy of a recognizer and its stages. Unchanged graphs are links to the exported files.

    Args:
        repository: Model repository with the exported recognizer.
        model: Name of the recognizer.
        folder: Folder to write; an existing one is replaced.
        change: Function that edits the recognizer.
    """
    shutil.rmtree(folder, ignore_errors=True)
    variant = read_variant(repository, model)
    change(variant)
    for step in (variant.ensemble, *variant.steps):
        target = folder / step.config.name
        if step.exported is None or step.graph is not None:
            write_model(folder, step.config, step.graph)
        else:
            _link(step.exported, target)
            write_config(target, step.config)
        write_files(target, step.files)


def read_variant(repository: Path, model: str) -> RecognizerVariant:
    """Read an exported recognizer, unchanged."""
    ensemble = read_config(repository / model)
    names = [step.model_name for step in ensemble.ensemble_scheduling.step]
    steps = [Step(read_config(repository / name), repository / name) for name in names]
    return RecognizerVariant(Step(ensemble, repository / model), steps)


def each_step(change: Callable[[Step], None]) -> Change:
    """A change of a recognizer that applies `change` to each stage."""

    def change_all(variant: RecognizerVariant) -> None:
        for step in variant.steps:
            change(step)

    return change_all


def _link(model: Path, folder: Path) -> None:
    """Link all files of a model except its configuration and warm-up data."""
    for file in sorted(path for path in model.rglob("*") if path.is_file()):
        inside = file.relative_to(model)
        if inside.parts[0] in (CONFIG, WARM_UP_FOLDER):
            continue
        target = folder / inside
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file.resolve(), target)
        except OSError:
            # The folders are on different file systems, or on one without hard links.
            shutil.copyfile(file, target)
    (folder / "1").mkdir(parents=True, exist_ok=True)
