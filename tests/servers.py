"""What tests know of a server that a fixture started."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Triton:
    """A running server: `url` is its gRPC address, `metrics` the URL of its metrics, `model` the demo's recognizer."""

    url: str
    metrics: str
    model: str
