"""Where the parts of docker/ and the tools that check them are, and its flags on a server of this machine."""

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
"""Where `make docker-tools` puts what is no part of the virtual environment."""
BIN = Path(sys.prefix) / "bin"
PROFILES = ("export", "cpu", "gpu", "bench", "monitoring")

Compose = Callable[..., dict[str, Any]]


def for_this_machine(flags: Sequence[str], **folders: str) -> list[str]:
    """A container's `flags` less the repository, with folders elsewhere: tls="/tmp/x" for /tls."""
    kept = [flag for flag in flags if not flag.startswith("--model-repository=")]
    for name, folder in folders.items():
        kept = [flag.replace(f"=/{name}/", f"={folder}/") for flag in kept]
    return kept
