"""Ragged batches: the inputs of every ragged stage, laid end to end, and padding.

Triton passes a ragged input as one flat tensor, the items of all requests one after another, with the shape of each
item (batch_input BATCH_ITEM_SHAPE). The previous stage may have padded its items, so the number of valid steps of each
item is an input too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from export_scripts.operators.builder import ONNX_TYPES, Graph, Value, ints
from nemo_triton.contract import Tensor


def item_dims_key(name: str) -> str:
    """Key of the graph's metadata with the dims of one item of a ragged input, such as "-1,80"."""
    return f"item_dims.{name}"


@dataclass(frozen=True, kw_only=True)
class Ragged:
    """Items of different lengths end to end, inside a graph.

    Attributes:
        table: [N], or [N, width] if a step is a vector.
        start: int64 [B], first row of each item in the table.
        steps: int64 [B], rows of each item in the table.
        length: int64 [B], valid rows of each item.
        width: Numbers per step; None if a step is a number.
    """

    table: Value
    start: Value
    steps: Value
    length: Value
    width: int | None

    def read_by(self, body: Graph) -> Ragged:
        """The same items, for calculations in the body of a loop."""
        start, steps, length = (body.read(column) for column in (self.start, self.steps, self.length))
        return replace(self, table=body.read(self.table), start=start, steps=steps, length=length)


@dataclass(frozen=True)
class Padded:
    """A padded batch inside a graph.

    Attributes:
        values: [B, longest, width], or [B, longest] if a step is a number; padding is zero.
        valid: bool [B, longest], false for padding.
        length: int64 [B], valid steps of each item.
    """

    values: Value
    valid: Value
    length: Value


def ragged_input(g: Graph, tensor: Tensor, **sizes: int) -> Ragged:
    """Declare a ragged input with the shape and valid length of each item.

    Every item has at least one step, valid or not. After an empty item in a ragged batch, Triton's C++ onnxruntime
    backend (24.10, and main of 2026-02) reads uninitialized memory for all later requests, so no stage emits one.

    Args:
        g: Graph that gets the inputs NAME, flat [N]; NAME_SHAPE int32 [B, rank], the shape of each item, [steps] or
            [steps, width]; NAME_LENGTH int32 [B, 1],
            which counts as 0 below 0 and as the item's steps above them.
        tensor: Tensor of one item, [steps] or [steps, width].
        sizes: Size of the width, by its name in the tensor's dims.
    """
    flat = g.input(tensor.name, ONNX_TYPES[tensor.dtype], ["values"])
    width = sizes[str(tensor.dims[1])] if len(tensor.dims) > 1 else None
    g.metadata[item_dims_key(tensor.name)] = "-1" if width is None else f"-1,{width}"
    shapes, lengths = g.take(tensor.shape), g.take(tensor.length)
    steps = shapes[:, 0].astype(np.int64)
    # A client that sends requests to this stage itself must not make the batch longer than its data.
    length = g.Max(g.Min(lengths.astype(np.int64).reshape(-1), steps), 0)
    return Ragged(
        table=flat if width is None else flat.reshape(-1, width),
        start=steps.sum_before(axis=0),
        steps=steps,
        length=length,
        width=width,
    )


def padded(g: Graph, items: Ragged, dtype: npt.DTypeLike = np.float32) -> Padded:
    """The items as a batch of that type, padded to the longest item and at least 1 step long."""
    time, valid = time_mask(g, items.length)
    last = (items.start + items.steps - 1)[:, None]
    rows = g.Min(items.start[:, None] + time[None, :], last)
    values = items.table[rows].astype(dtype)
    mask = valid if items.width is None else valid[:, :, None]
    return Padded(g.Where(mask, values, np.dtype(dtype).type(0)), valid, items.length)


def time_mask(g: Graph, length: Value) -> tuple[Value, Value]:
    """Steps int64 [T] up to the longest of the lengths int64 [B], at least 1, and the valid ones, bool [B, T]."""
    time = g.arange(g.Max(length.max(), 1))
    return time, time[None, :] < length[:, None]


def pack(g: Graph, columns: Sequence[Value], kept: Value) -> tuple[list[Value], Value]:
    """Move the kept entries of each row to its front.

    Args:
        g: Graph to add to.
        columns: int64 [B, steps] each.
        kept: bool [B, steps], true for entries to keep.

    Returns:
        The columns as int64 [B, longest], at least 1 wide, filled with -1; and the kept entries of each row, int64 [B].
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
    """Emit a tensor's lengths [B] as int32 [B, 1], the form that `ragged_input` reads."""
    g.give(tensor.length, length.astype(np.int32)[:, None])
