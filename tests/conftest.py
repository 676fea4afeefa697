"""Fixtures around real tritonservers of the demo models.

The tests run in two environments, since NeMo's requirements and the server's do not install
together: tests/export_scripts and tests/training where NeMo is, the others where tritonserver is.
`make test` runs both, and exports what the second serves. `make check` runs only the tests marked as fast.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from locations import DEMO_CHECKPOINT, DEMO_MANIFEST, TEST_REPOSITORY
from servers import Triton

from nemo_triton.contract import Part
from server.process import running_server

# Whoever starts the tests in the background of a shell has them ignore interrupts, which some of them try.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave files without fast tests unread in a run of those: they may import what only another environment has."""
    if config.option.markexpr == "fast" and collection_path.name.startswith("test_"):
        return True if "pytest.mark.fast" not in collection_path.read_text(encoding="utf-8") else None
    return None


@pytest.fixture(scope="session")
def repository() -> Path:
    """The demo models, exported by `make test` before the tests run."""
    if not (TEST_REPOSITORY / DEMO_CHECKPOINT.stem).exists():
        pytest.fail(f"{TEST_REPOSITORY} holds no {DEMO_CHECKPOINT.stem}; `make test` exports it")
    return TEST_REPOSITORY


@pytest.fixture(scope="session")
def triton(repository: Path) -> Iterator[Triton]:
    """A server of the CTC model alone."""
    name = DEMO_CHECKPOINT.stem
    only = ["--model-control-mode=explicit", f"--load-model={name}", f"--load-model={Part.LOG_PROBS.of(name)}"]
    with running_server(repository, only) as server:
        yield Triton(server.grpc, f"http://{server.metrics}/metrics", name)


@pytest.fixture(scope="session")
def triton_of_all(repository: Path) -> Iterator[str]:
    """The gRPC address of a server of all models."""
    with running_server(repository) as server:
        yield server.grpc


@pytest.fixture(scope="session")
def demo_manifest() -> Path:
    return DEMO_MANIFEST
