"""The installed packages that serving needs; the others in .venv/serve are development tools."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution

import click
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = "nemo-triton"
LEFT_OUT = {"matplotlib", "onnxruntime", "onnxruntime-gpu"}
WITHOUT_REQUIREMENTS = {"nvidia-pytriton"}
"""Packages whose requirements are left out: only this package's server binary is used, not its Python interface."""


def required(names: Iterable[str]) -> Iterator[Distribution]:
    """The installed packages that `names` require, directly or indirectly, without the project."""
    queue = [Requirement(name) for name in names]
    seen: set[str] = set()
    while queue:
        requirement = queue.pop()
        extras = ["", *sorted(requirement.extras)]
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        name = canonicalize_name(requirement.name)
        if name in LEFT_OUT or f"{name}{extras}" in seen:
            continue
        try:
            package = distribution(name)
        except PackageNotFoundError as error:
            raise click.ClickException(f"{name}: not installed in {sys.prefix}; run make install") from error
        if name != PROJECT and not any(key.startswith(f"{name}[") for key in seen):
            yield package
        seen.add(f"{name}{extras}")
        for line in package.requires or ():
            needed = Requirement(line)
            if name in WITHOUT_REQUIREMENTS:
                break
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                needed.marker = None
                queue.append(needed)
