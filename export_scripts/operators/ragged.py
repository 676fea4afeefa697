"""The beginning of every ragged stage: requests laid end to end, to be padded all together or group by group.

Triton gives a ragged input as one flat tensor, the items of all requests one after the other, and
(batch_input BATCH_ITEM_SHAPE) the shape of each item. A stage before may have padded its items, so
the number of valid steps of each item comes beside them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, helper

from export_scripts.operators.builder import Graph, ints


def item_dims_key(name: str) -> str:
    """The metadata entry of a graph that holds the dims of one item of a ragged input, as "-1,80"."""
    return f"item_dims.{name}"


@dataclass(frozen=True)
class Ragged:
    """Items of many lengths end to end, inside a graph.

    table: [N], or [N, width] where a step is a vector
    start, steps: int64 [B], the rows of each item in the table
    length: int64 [B], how many of them are valid
    """

    table: str
    start: str
    steps: str
    length: str
    width: int | None


@dataclass(frozen=True)
class Padded:
    """A padded batch inside a graph.

    values: [B, longest, width], or [B, longest] where a step is a number; zero where not valid
    valid: bool [B, longest]
    length: int64 [B], valid steps of each item
    """

    values: str
    valid: str
    length: str


def ragged_input(g: Graph, name: str, dtype: int, width: int | None = None) -> Ragged:
    """Declare the ragged input `name` with its shapes and true lengths.

    Inputs: `name` flat [N] of type `dtype`; `name`_SHAPE int32 [B, rank], the shape of each item ([steps] or
    [steps, width]); `name`_LENGTH int32 [B, 1]. An item has at least one step, valid or not: an
    empty item in a ragged batch makes Triton's C++ onnxruntime backend (24.10, and main of
    2026-02) read uninitialised memory for every later request, so no stage ever emits one.
    """
    flat = g.input(name, dtype, ["values"])
    g.metadata[item_dims_key(name)] = "-1" if width is None else f"-1,{width}"
    shapes = g.input(f"{name}_SHAPE", TensorProto.INT32, ["items", 1 if width is None else 2])
    lengths = g.input(f"{name}_LENGTH", TensorProto.INT32, ["items", 1])
    steps = g.Cast(g.Gather(shapes, np.array(0), axis=1), to=TensorProto.INT64)
    return Ragged(
        table=flat if width is None else g.Reshape(flat, ints(-1, width)),
        start=g.CumSum(steps, np.array(0), exclusive=1),
        steps=steps,
        length=g.Reshape(g.Cast(lengths, to=TensorProto.INT64), ints(-1)),
        width=width,
    )


def padded(g: Graph, items: Ragged, values: int = TensorProto.FLOAT) -> Padded:
    """The items as a batch of type `values`, as long as the longest of them, and at least 1 long."""
    time, valid = time_mask(g, items.length)
    last = g.Unsqueeze(g.Sub(g.Add(items.start, items.steps), np.array(1)), ints(1))
    rows = g.Min(g.Add(g.Unsqueeze(items.start, ints(1)), g.Unsqueeze(time, ints(0))), last)
    gathered = g.Cast(g.Gather(items.table, rows, axis=0), to=values)
    mask = valid if items.width is None else g.Unsqueeze(valid, ints(2))
    return Padded(g.Where(mask, gathered, helper.tensor_dtype_to_np_dtype(values).type(0)), valid, items.length)


def time_mask(g: Graph, length: str) -> tuple[str, str]:
    """Of lengths int64 [B]: the steps of the longest, int64 [T] with T at least 1, and which are valid, bool [B, T]."""
    time = g.Range(np.array(0), g.Max(g.ReduceMax(length, keepdims=0), np.array(1)), np.array(1))
    return time, g.Less(g.Unsqueeze(time, ints(0)), g.Unsqueeze(length, ints(1)))


def pack(g: Graph, columns: list[str], kept: str) -> tuple[list[str], str]:
    """Move the kept entries of each row to its front.

    columns: int64 [B, steps] each; kept: bool [B, steps]. Returns the columns as int64
    [B, most kept], at least 1 wide and -1 where a row has no more, and the count of each row, int64 [B].
    """
    chosen = g.Cast(kept, to=TensorProto.INT64)
    length = g.ReduceSum(chosen, ints(1), keepdims=0)
    most = g.Max(g.ReduceMax(length, keepdims=0), np.array(1))
    beyond = g.Expand(g.Unsqueeze(most, ints(0)), g.Shape(kept))
    target = g.Where(kept, g.Sub(g.CumSum(chosen, np.array(1)), np.array(1)), beyond)
    width = g.Unsqueeze(g.Add(most, np.array(1)), ints(0))
    empty = g.Expand(ints(-1), g.Concat(g.Shape(kept, start=0, end=1), width, axis=0))
    packed = [g.ScatterElements(empty, target, column, axis=1) for column in columns]
    return [g.Slice(row, ints(0), g.Unsqueeze(most, ints(0)), ints(1)) for row in packed], length


def length_output(g: Graph, name: str, length: str) -> None:
    """Emit lengths [B] as an int32 output [B, 1], the form that `ragged_input` takes."""
    g.output(name, g.Unsqueeze(g.Cast(length, to=TensorProto.INT32), ints(1)), TensorProto.INT32, ["items", 1])
