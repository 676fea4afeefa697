"""The server of a fixture, as tests see it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Triton:
    """A running server.

    Attributes:
        url: Address of the gRPC endpoint as host:port.
        metrics: URL of its metrics.
        model: Name of the demo's recognizer.
        http: Address of the HTTP endpoint as host:port.
    """

    url: str
    metrics: str
    model: str
    http: str
