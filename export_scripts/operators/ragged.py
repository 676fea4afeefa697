"""The beginning of every ragged stage: requests laid end to end, to be padded all together or bucket by bucket.

Triton gives a ragged input as one flat tensor, the items of all requests one after the other, and
(batch_input BATCH_ITEM_SHAPE) the shape of each item. A stage before may have padded its items, so
the number of valid steps of each item comes beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from export_scripts.operators.builder import ONNX_TYPES, Graph, Value, ints
from nemo_triton.contract import Tensor


def item_dims_key(name: str) -> str:
    """The metadata entry of a graph that holds the dims of one item of a ragged input, as "-1,80"."""
    return f"item_dims.{name}"


@dataclass(frozen=True, kw_only=True)
class Ragged:
    """Items of many lengths end to end, inside a graph.

    table: [N], or [N, width] where a step is a vector
    start, steps: int64 [B], the rows of each item in the table
    length: int64 [B], how many of them are valid
    """

    table: Value
    start: Value
    steps: Value
    length: Value
    width: int | None

    def read_by(self, body: Graph) -> Ragged:
        """The same items, to be calculated with in the body of a loop."""
        start, steps, length = (body.read(column) for column in (self.start, self.steps, self.length))
        return replace(self, table=body.read(self.table), start=start, steps=steps, length=length)


@dataclass(frozen=True)
class Padded:
    """A padded batch inside a graph.

    values: [B, longest, width], or [B, longest] where a step is a number; zero where not valid
    valid: bool [B, longest]
    length: int64 [B], valid steps of each item
    """

    values: Value
    valid: Value
    length: Value


def ragged_input(g: Graph, tensor: Tensor, **sizes: int) -> Ragged:
    """Declare a ragged input with its shapes and true lengths.

    An item has at least one step, valid or not: an empty item in a ragged batch makes Triton's C++ onnxruntime backend
    (24.10, and main of 2026-02) read uninitialised memory for every later request, so no stage ever emits one.

    Args:
        g: gets the inputs NAME, flat [N]; NAME_SHAPE int32 [B, rank], the shape of each item, [steps] or
            [steps, width]; NAME_LENGTH int32 [B, 1]
        tensor: of one item, [steps] or [steps, width]
        sizes: the width, by the name that the tensor's dims have for it
    """
    flat = g.input(tensor.name, ONNX_TYPES[tensor.dtype], ["values"])
    width = sizes[str(tensor.dims[1])] if len(tensor.dims) > 1 else None
    g.metadata[item_dims_key(tensor.name)] = "-1" if width is None else f"-1,{width}"
    shapes, lengths = g.take(tensor.shape), g.take(tensor.length)
    steps = shapes[:, 0].astype(np.int64)
    return Ragged(
        table=flat if width is None else flat.reshape(-1, width),
        start=steps.sum_before(axis=0),
        steps=steps,
        length=lengths.astype(np.int64).reshape(-1),
        width=width,
    )


def padded(g: Graph, items: Ragged, dtype: npt.DTypeLike = np.float32) -> Padded:
    """The items as a batch of that type, as long as the longest of them, and at least 1 long."""
    time, valid = time_mask(g, items.length)
    last = (items.start + items.steps - 1)[:, None]
    rows = g.Min(items.start[:, None] + time[None, :], last)
    values = items.table[rows].astype(dtype)
    mask = valid if items.width is None else valid[:, :, None]
    return Padded(g.Where(mask, values, np.dtype(dtype).type(0)), valid, items.length)


def time_mask(g: Graph, length: Value) -> tuple[Value, Value]:
    """Of lengths int64 [B]: the steps of the longest, int64 [T] with T at least 1, and which are valid, bool [B, T]."""
    time = g.arange(g.Max(length.max(), 1))
    return time, time[None, :] < length[:, None]


def pack(g: Graph, columns: Sequence[Value], kept: Value) -> tuple[list[Value], Value]:
    """Move the kept entries of each row to its front.

    Args:
        columns: int64 [B, steps] each
        kept: bool [B, steps]

    Returns:
        The columns as int64 [B, most kept], at least 1 wide and -1 where a row has no more, and the count of each row,
        int64 [B].
    """
    counted = kept.astype(np.int64)
    length = counted.sum(1)
    most = g.Max(length.max(), 1)
    beyond = g.Expand(most[None], kept.shape)
    target = g.Where(kept, counted.cumsum(axis=1) - 1, beyond)
    width = (most + 1)[None]
    empty = g.Expand(ints(-1), g.Concat(kept.size(0), width, axis=0))
    packed = [g.ScatterElements(empty, target, column, axis=1) for column in columns]
    return [row[:, : most[None]] for row in packed], length


def give_length(g: Graph, tensor: Tensor, length: Value) -> None:
    """Emit the lengths [B] of a tensor as int32 [B, 1], the form that `ragged_input` takes."""
    g.give(tensor.length, length.astype(np.int32)[:, None])
