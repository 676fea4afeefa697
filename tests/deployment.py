"""Paths of docker/ and of the tools that check it, and its flags for a server on this machine."""

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
"""Where `make docker-tools` puts tools that are not in the virtual environment."""
BIN = Path(sys.prefix) / "bin"
PROFILES = ("export", "cpu", "gpu", "bench", "monitoring")

Compose = Callable[..., dict[str, Any]]


def for_this_machine(flags: Sequence[str], **folders: str) -> list[str]:
    """Adapt a container's flags: without the repository, and with other folders, such as tls="/tmp/x" for /tls."""
    kept = [flag for flag in flags if not flag.startswith("--model-repository=")]
    for name, folder in folders.items():
        kept = [flag.replace(f"=/{name}/", f"={folder}/") for flag in kept]
    return kept
