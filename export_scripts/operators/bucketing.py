"""Length bucketing inside the graph: a loop runs a network on buckets of items of similar length.

If a whole batch were padded to its longest item, mixed lengths would waste most of the work, and memory would grow with
the longest item times the batch size. Buckets bound both, for every batch and on every backend.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from onnx import TensorProto

from export_scripts.operators.builder import Graph, Value, ints
from export_scripts.operators.ragged import Padded, Ragged, padded, time_mask
from export_scripts.operators.tuning import Tuning

Network = Callable[[Graph, Padded], tuple[Value, Value]]
"""A function that adds nodes to a graph: padded batch -> values float32 [B, steps', width], length int64 [B]."""


PASS_STEPS, STEPS_AT_ONCE = "pass_steps", "steps_at_once"
"""Names of two of Tuning's numbers in a graph, in steps of the input; benchmark.studies.gpu varies them."""


def in_buckets(g: Graph, items: Ragged, network: Network, *, width: int, step_rate: int, tuning: Tuning) -> Ragged:
    """Run a network on each item, bucket by bucket.

    Items are sorted from longest to shortest. A bucket ends as soon as the padding of all its items costs more than one
    more pass. If lengths shrink evenly by d per item, that cut is the cheapest: a bucket of k items has d * k^2 / 2
    steps of padding, a pass costs c steps, and the cost per item, (d * k^2 / 2 + c) / k, is least where the padding
    equals c. tests/export_scripts/test_bucketing.py compares it with the best cut on lengths of speech.

    Args:
        g: Graph to add to.
        items: Batch of items.
        network: Network that runs once per bucket.
        width: Numbers per step of the network's values.
        step_rate: Steps per second of the input.
        tuning: Tuning that decides how buckets are cut.

    Returns:
        The network's values of each item. Row 0 of the table belongs to no item and is zero.
    """
    count = items.length.shape
    length, order = g.add("TopK", [items.length, count], 2, largest=1, sorted=1)
    by_length = replace(items, length=length, start=items.start[order], steps=items.steps[order])
    body = _bucket(by_length, network, width=width, step_rate=step_rate, tuning=tuning)
    initial = [np.zeros((1, width), np.float32), ints(), ints()]
    table, start, length = g.add("Loop", ["", np.array(True), *initial], 3, body=body.graph())
    # Undo the sorting.
    zeros = g.Expand(0, count)
    start, length = (g.ScatterElements(zeros, order, column) for column in (start, length))
    return Ragged(table=table, start=start, steps=length, length=length, width=width)


def _bucket(items: Ragged, network: Network, *, width: int, step_rate: int, tuning: Tuning) -> Graph:
    """The loop's body. It carries the rows so far, and the first row and number of rows of each item."""
    g = Graph("group")
    items = items.read_by(g)
    g.input("group_number", TensorProto.INT64, [])
    g.input("go_on_in", TensorProto.BOOL, [])
    table = g.input("table_in", TensorProto.FLOAT, ["rows", width])
    starts = g.input("starts_in", TensorProto.INT64, ["items_done"])
    lengths = g.input("made_in", TensorProto.INT64, ["items_done"])

    # Counts are read from shapes, which the host knows without waiting for a GPU.
    done, count = lengths.shape, items.length.shape
    end = done + _bucket_size(g, items.length[done:count], step_rate, tuning)

    start, steps, length = (column[done:end] for column in (items.start, items.steps, items.length))
    values, length = network(g, padded(g, replace(items, start=start, steps=steps, length=length)))
    # Rows of padding stay in the table, unread. To drop them, the host would have to wait for the GPU to count them.
    row = g.arange(length.shape.squeeze()) * values.size(1)
    first = row + table.size(0)

    go_on = done + start.shape < count
    g.output("go_on", go_on.squeeze(), TensorProto.BOOL, [])
    g.output("table", g.Concat(table, values.reshape(-1, width), axis=0), TensorProto.FLOAT, ["rows", width])
    g.output("starts", g.Concat(starts, first, axis=0), TensorProto.INT64, ["items_done"])
    g.output("made", g.Concat(lengths, length, axis=0), TensorProto.INT64, ["items_done"])
    return g


def _bucket_size(g: Graph, lengths: Value, step_rate: int, tuning: Tuning) -> Value:
    """Size of the next bucket, int64 [1].

    Args:
        g: Body of the loop.
        lengths: int64 [n], lengths of the remaining items, longest first.
        step_rate: Steps per second of the input.
        tuning: Tuning that decides how buckets are cut.
    """
    longest = g.Max(lengths[:1], ints(1))
    pass_steps = g.constant(ints(round(tuning.pass_seconds * step_rate)), PASS_STEPS)
    steps_at_once = g.constant(ints(round(tuning.seconds_at_once * step_rate)), STEPS_AT_ONCE)
    padding = (longest - lengths).cumsum(axis=0)
    similar = padding <= pass_steps
    largest_bucket = g.Max(steps_at_once // longest, ints(1))
    fits = g.arange(lengths.shape.squeeze()) < largest_bucket
    size = (similar & fits).astype(np.int64).sum(0, keepdims=True)
    # At least one item per bucket, or the loop would never end: an item without steps is padded to one step, which may
    # already exceed the limit.
    return g.Max(size, ints(1))


def side_by_side(g: Graph, items: Ragged) -> Value:
    """Results of `in_buckets` as [B, longest, width] or [B, longest]; zero (row 0) beyond each item's last step."""
    time, valid = time_mask(g, items.length)
    rows = items.start[:, None] + time[None, :]
    return items.table[g.Where(valid, rows, 0)]
