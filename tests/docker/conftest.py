"""Fixtures: the merged compose files, and Prometheus's programs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from deployment import BIN, DOCKER, PROFILES, TOOLS, Compose


@pytest.fixture(scope="session")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in for podman. podman-compose requests its version even if it runs no container."""
    path = tmp_path_factory.mktemp("podman") / "podman"
    path.write_text("#!/bin/sh\necho podman version 4.3.1\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def compose(podman: Path, monkeypatch: pytest.MonkeyPatch) -> Compose:
    """Merge compose files and fill in variables, as podman-compose does before it runs them."""

    def config(*names: str, **variables: str) -> dict[str, Any]:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        files = [f"--file={DOCKER / name}" for name in names]
        profiles = [f"--profile={profile}" for profile in PROFILES]
        command = [str(BIN / "podman-compose"), f"--podman-path={podman}", *files, *profiles, "config"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        config: dict[str, Any] = yaml.safe_load(done.stdout)
        return config

    return config


@pytest.fixture(scope="session")
def prometheus_bin() -> Path:
    """The folder with the programs `prometheus` and `promtool`."""
    for folder in (TOOLS / "prometheus" / "usr" / "bin", Path(shutil.which("promtool") or "/none").parent):
        if (folder / "promtool").exists() and (folder / "prometheus").exists():
            return folder
    pytest.skip("Prometheus is missing; make docker-tools downloads it (Debian's package prometheus)")
