"""Checkpoints to export: tiny ones with random weights, made once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from locations import DEMO_CHECKPOINT
from tiny_models import ARCHITECTURES, save_tiny_model

logging.disable(logging.ERROR)


@pytest.fixture(scope="session")
def checkpoint_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """A .nemo file of an architecture, as if written by the given NeMo."""
    folder = tmp_path_factory.mktemp("checkpoints")

    def make(architecture: str, nemo_version: str) -> Path:
        file = folder / f"{architecture}_{nemo_version}.nemo"
        if not file.exists():
            save_tiny_model(architecture, nemo_version, file)
        return file

    return make


@pytest.fixture(scope="session")
def demo_checkpoint() -> Path:
    return DEMO_CHECKPOINT


@pytest.fixture(params=sorted(ARCHITECTURES))
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)
