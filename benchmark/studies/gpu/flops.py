"""FLOPs and memory traffic of a PyTorch module, counted while it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from benchmark.studies.gpu.roofline import NetworkCost


class FlopCounter:
    """Context manager that counts matrix products and convolutions; other operators count as free.

    Attributes:
        operations: FLOPs by the formulas of torch.utils.flop_counter: a multiplication and an addition are two.
        elements: Numbers read and written: each operand and each result of a product once.
    """

    def __init__(self) -> None:
        self.operations = 0
        self.elements = 0
        # torch's base class has no types, so mypy would reject a subclass in a class statement.
        mode = type("CountingMode", (TorchDispatchMode,), {"__torch_dispatch__": lambda mode, *call: self._run(*call)})
        self._mode: Any = mode()

    def __enter__(self) -> FlopCounter:
        self._mode.__enter__()
        return self

    def __exit__(self, *failure: object) -> None:
        self._mode.__exit__(*failure)

    def _run(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.operations += int(formula(*args, **(kwargs or {}), out_val=result))
            tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
            self.elements += sum(tensor.numel() for tensor in tensors)
        return result


PROBED_SECONDS = (4, 8, 16, 24, 32)
DEGREE = 2
"""Attention grows with the square of the length, the other layers with the length."""


@torch.no_grad()
def count_cost(run: Callable[[int], Any], weights: int) -> NetworkCost:
    """Count FLOPs and memory traffic for several lengths, and fit polynomials to them.

    Args:
        run: Function that runs the network on an utterance of this number of seconds.
        weights: Number of elements of the parameters that are operands of products.
    """
    operations, elements = [], []
    for seconds in PROBED_SECONDS:
        with FlopCounter() as counter:
            run(seconds)
        operations.append(counter.operations)
        elements.append(counter.elements - weights)
    return NetworkCost(_fit(operations), _fit(elements), weights)


def _fit(counts: Sequence[int]) -> tuple[float, ...]:
    return tuple(float(value) for value in np.polyfit(PROBED_SECONDS, counts, DEGREE))
