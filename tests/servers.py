"""The server of a fixture, as tests see it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Triton:
    """A running server.

    Attributes:
        url: host:port of its gRPC endpoint.
        metrics: URL of its metrics.
        model: Name of the demo's recognizer.
        http: host:port of its HTTP endpoint.
    """

    url: str
    metrics: str
    model: str
    http: str
