"""Fixtures with real servers of the demo models.

The tests run in two environments, because NeMo and tritonserver can't be installed together: tests/export_scripts and
tests/training in .venv/export, the others in .venv/serve. `make test` exports the models and runs both. `make check`
runs only the tests marked as fast.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from locations import DEMO_CHECKPOINT, DEMO_MANIFEST, TEST_REPOSITORY
from servers import Triton

from benchmark.core.model_control import only
from server.launch import BACKENDS
from server.process import running_server

# A shell starts background jobs with interrupts ignored. Some tests send interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skip files without fast tests in a fast run, because they can import packages of the other environment."""
    if config.option.markexpr == "fast" and collection_path.name.startswith("test_"):
        return True if "pytest.mark.fast" not in collection_path.read_text(encoding="utf-8") else None
    return None


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Name tests by numbers instead of bytes: compressed bytes hold the time, so each worker had other names."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def repository() -> Path:
    """The model repository of the demo, exported by `make test`."""
    if not (TEST_REPOSITORY / DEMO_CHECKPOINT.stem).exists():
        pytest.fail(f"{TEST_REPOSITORY} contains no {DEMO_CHECKPOINT.stem}; export it with `make test`")
    return TEST_REPOSITORY


@pytest.fixture(scope="session")
def triton(repository: Path) -> Iterator[Triton]:
    """A server with only the CTC model."""
    name = DEMO_CHECKPOINT.stem
    with running_server(repository, only(repository, name)) as server:
        yield Triton(server.grpc, f"http://{server.metrics}/metrics", name, server.http)


@pytest.fixture(scope="session")
def triton_of_all(repository: Path) -> Iterator[str]:
    """The gRPC address of a server with all models."""
    with running_server(repository) as server:
        yield server.grpc


@pytest.fixture
def backend_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The onnxruntime backend's files import each other from their folder, as in Triton."""
    monkeypatch.syspath_prepend(BACKENDS / "onnxruntime")


@pytest.fixture(scope="session")
def demo_manifest() -> Path:
    return DEMO_MANIFEST
