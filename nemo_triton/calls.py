"""Sequences of calls to a server, written once for the blocking and the asyncio client.

A sequence is a generator (`Calls`). It yields the name of a method of Triton's client with its arguments, and receives
the result. The two clients differ only in how they make each call (connections.py).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeAlias, TypeVar

Answer = TypeVar("Answer")
MethodCall: TypeAlias = tuple[str, dict[str, Any]]
"""The name of a method of Triton's client, and its keyword arguments."""
Calls: TypeAlias = Generator[MethodCall, Any, Answer]


def single_call(method: str, arguments: dict[str, Any]) -> Calls[Any]:
    """Make one call and return its result."""
    return (yield method, arguments)
