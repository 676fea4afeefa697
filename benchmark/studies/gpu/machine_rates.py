"""Rates that a machine reaches in PyTorch: FLOPs per second by number format, and bytes per second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

MATRIX = {"cuda": 8192, "cpu": 1024}
"""Rows and columns of the matrices in the timed product."""
COPIED_BYTES = {"cuda": 4 << 30, "cpu": 512 << 20}
REPEATS = 5
MAX_SECONDS = 2.0
"""Time after which a measurement ends. A CPU that lacks a number format may need seconds for one product."""


def machine_rates(device: torch.device) -> dict[str, Any]:
    """Time large products and copies.

    Returns:
        The best FLOPs per second by number format (operations), and bytes per second (bytes).
    """
    operations = {}
    size = MATRIX[device.type]
    formats = {"fp32": (torch.float32, False), "bf16": (torch.bfloat16, False)}
    if device.type == "cuda":
        formats |= {"tf32": (torch.float32, True), "fp16": (torch.float16, False)}
    for name, (dtype, tf32) in formats.items():
        left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        with _tf32(tf32):
            operations[name] = 2 * size**3 / _fastest(partial(torch.matmul, left, right), device)
    source = torch.zeros(COPIED_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    # Each byte is read and written.
    moved = 2 * source.numel() / _fastest(lambda: target.copy_(source), device)
    return {"operations": operations, "bytes": moved}


def _fastest(work: Callable[[], Any], device: torch.device) -> float:
    seconds: list[float] = []
    while len(seconds) <= REPEATS and sum(seconds) < MAX_SECONDS:
        finish(device)
        started = time.perf_counter()
        work()
        finish(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def finish(device: torch.device) -> None:
    """Wait until the device has finished all queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_name(device: torch.device) -> str:
    """The GPU's name, or CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
