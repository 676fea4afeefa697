"""Paths of docker/ and its tools, and a container's server flags adapted to this machine."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from locations import BUILD, ROOT

DOCKER = ROOT / "docker"
CHART = DOCKER / "chart"
MAKE_CERTIFICATES = DOCKER / "tls" / "make_certificates.sh"
TOOLS = BUILD / "deployment"
"""Tools outside the virtual environment; `make docker-tools` installs them."""
BIN = Path(sys.prefix) / "bin"
PROFILES = ("export", "cpu", "gpu", "bench", "monitoring")

Compose = Callable[..., dict[str, Any]]


def for_this_machine(flags: Sequence[str], **folders: str) -> list[str]:
    """Remove the repository from a container's flags and move folders: tls="/tmp/x" replaces /tls by /tmp/x."""
    kept = [flag for flag in flags if not flag.startswith("--model-repository=")]
    for name, folder in folders.items():
        kept = [flag.replace(f"=/{name}/", f"={folder}/") for flag in kept]
    return kept
