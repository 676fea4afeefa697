"""Conversations with a server, written once for the blocking and the asyncio client.

A question that takes several calls is a generator (`Calls`): it yields a method of Triton's client with its
arguments and gets the answer sent back. The two clients only differ in how they make a call (connections.py).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeAlias, TypeVar

Answer = TypeVar("Answer")
MethodCall: TypeAlias = tuple[str, dict[str, Any]]
"""A method of Triton's client and its keyword arguments."""
Calls: TypeAlias = Generator[MethodCall, Any, Answer]


def single_call(method: str, arguments: dict[str, Any]) -> Calls[Any]:
    """The answer to one call."""
    return (yield method, arguments)
