"""Fixtures: tiny checkpoints with random weights and their exports, each made once for all tests.

The fixtures that need NeMo import it, so that the fast tests run without it.
"""

from __future__ import annotations

import logging
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from architectures import ARCHITECTURES, NEW_NEMO
from fixture_types import CheckpointFile, ExportOnce, OpenCheckpoint
from locations import DEMO_CHECKPOINT

if TYPE_CHECKING:
    from export_scripts.checkpoints.checkpoint import Checkpoint
    from export_scripts.operators.tuning import Target

logging.disable(logging.ERROR)
# Set before PyTorch is imported. Threads don't speed tiny models up: with two, the tests take twice the CPU time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

if find_spec("nemo") is None:
    # The serving environment runs the fast tests only; it can't import the other modules.
    modules = Path(__file__).parent.glob("test_*.py")
    collect_ignore = [module.name for module in modules if "pytest.mark.fast" not in module.read_text()]


@pytest.fixture(scope="session")
def checkpoint_file(tmp_path_factory: pytest.TempPathFactory) -> CheckpointFile:
    """A .nemo file of an architecture, as if saved by the given version of NeMo."""
    folder = tmp_path_factory.mktemp("checkpoints")

    def save(architecture: str, nemo_version: str) -> Path:
        from tiny_models import save_tiny_model

        file = folder / f"{architecture}_{nemo_version}.nemo"
        if not file.exists():
            save_tiny_model(architecture, nemo_version, file)
        return file

    return save


@pytest.fixture(scope="session")
def checkpoint(checkpoint_file: CheckpointFile) -> OpenCheckpoint:
    """An open checkpoint of an architecture. Tests share it and don't change it."""
    opened: dict[str, Checkpoint] = {}

    def open_once(architecture: str) -> Checkpoint:
        from export_scripts.checkpoints.checkpoint import open_checkpoint

        if architecture not in opened:
            opened[architecture] = open_checkpoint(str(checkpoint_file(architecture, NEW_NEMO)))
        return opened[architecture]

    return open_once


@pytest.fixture(scope="session")
def exported(checkpoint_file: CheckpointFile, tmp_path_factory: pytest.TempPathFactory) -> ExportOnce:
    """The repository with an exported architecture, and the recognizer's name. Tests share it and only read it."""
    repository = tmp_path_factory.mktemp("exported") / "repository"
    suffixes: dict[Target, str] = {"cpu": "", "gpu": "_for_gpus"}

    def export_once(architecture: str, nemo_version: str, target: Target) -> tuple[Path, str]:
        from export_scripts.export_checkpoint import ExportSettings, export_checkpoint
        from export_scripts.repository.config import Serving
        from export_scripts.verify.probes import read_probes

        file = checkpoint_file(architecture, nemo_version)
        name = file.stem + suffixes[target]
        if not (repository / name).exists():
            serving = Serving(max_batch_size=8, target=target)
            settings = ExportSettings(
                repository=repository, serving=serving, probes=read_probes(None), suffix=suffixes[target]
            )
            export_checkpoint(str(file), settings)
        return repository, name

    return export_once


@pytest.fixture(scope="session")
def demo_checkpoint() -> Path:
    return DEMO_CHECKPOINT


@pytest.fixture(params=sorted(ARCHITECTURES))
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)
