"""The compose files as one, and a Prometheus of our own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from deployment import BIN, DOCKER, PROFILES, TOOLS, Compose


@pytest.fixture
def compose(monkeypatch: pytest.MonkeyPatch) -> Compose:
    """The compose files of those names put together, variables filled in, as podman-compose would run them."""

    def config(*names: str, **variables: str) -> dict[str, Any]:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        files = [f"--file={DOCKER / name}" for name in names]
        profiles = [f"--profile={profile}" for profile in PROFILES]
        done = subprocess.run(
            [BIN / "podman-compose", *files, *profiles, "config"], capture_output=True, text=True, check=True
        )
        made: dict[str, Any] = yaml.safe_load(done.stdout)
        return made

    return config


@pytest.fixture(scope="session")
def prometheus_bin() -> Path:
    """The folder that has `prometheus` and `promtool`."""
    for folder in (TOOLS / "prometheus" / "usr" / "bin", Path(shutil.which("promtool") or "/none").parent):
        if (folder / "promtool").exists() and (folder / "prometheus").exists():
            return folder
    pytest.skip("Prometheus is not here (Debian's package prometheus; make docker-tools fetches it)")
