"""A network over items of many lengths: inside the graph, a loop over buckets of similar length.

Padding all requests of a batch to its longest would waste most of the work where lengths differ, and memory
would grow with the longest times the batch size. Here it is bounded for every batch, on every backend.
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
"""Adds itself to a graph: a padded batch -> values float32 [B, steps', width], length int64 [B]."""


PASS_STEPS, STEPS_AT_ONCE = "pass_steps", "steps_at_once"
"""Names of two of Tuning's numbers in a graph, in steps of its input; benchmark.studies.gpu varies them."""


def in_buckets(g: Graph, items: Ragged, network: Network, *, width: int, step_rate: int, tuning: Tuning) -> Ragged:
    """Run a network on each item, bucket by bucket.

    Items are taken from the longest to the shortest, and a bucket is closed as soon as the padding of all its items
    together costs more than a pass. For lengths that shrink evenly that cut is the cheapest: with padding d * k^2 / 2
    in a bucket of k items and c for a pass, the cost per item (d * k^2 / 2 + c) / k is least where the padding equals
    c. On speech it costs at most 2 % more than the best cut where a pass is cheap, and 20 % where it is expensive and
    buckets are few (tests/export_scripts/test_bucketing.py).

    Args:
        width: numbers per step of the network's values
        step_rate: of the input, in Hz

    Returns:
        The network's values of each item. Row 0 of the table belongs to no item and is zero.
    """
    count = items.length.shape
    length, order = g.add("TopK", [items.length, count], 2, largest=1, sorted=1)
    by_length = replace(items, length=length, start=items.start[order], steps=items.steps[order])
    body = _bucket(by_length, network, width=width, step_rate=step_rate, tuning=tuning)
    initial = [np.zeros((1, width), np.float32), ints(), ints()]
    table, start, length = g.add("Loop", ["", np.array(True), *initial], 3, body=body.graph())
    # The loop met the items in another order.
    nowhere = g.Expand(0, count)
    start, length = (g.ScatterElements(nowhere, order, column) for column in (start, length))
    return Ragged(table=table, start=start, steps=length, length=length, width=width)


def _bucket(items: Ragged, network: Network, *, width: int, step_rate: int, tuning: Tuning) -> Graph:
    """The loop's body; it carries the rows so far, where those of each item start, and how many they are."""
    g = Graph("group")
    items = items.read_by(g)
    g.input("group_number", TensorProto.INT64, [])
    g.input("go_on_in", TensorProto.BOOL, [])
    table = g.input("table_in", TensorProto.FLOAT, ["rows", width])
    starts = g.input("starts_in", TensorProto.INT64, ["items_done"])
    lengths = g.input("made_in", TensorProto.INT64, ["items_done"])

    # Sizes of shapes are the host's: it need not wait for a GPU to know them.
    done, count = lengths.shape, items.length.shape
    end = done + _bucket_size(g, items.length[done:count], step_rate, tuning)

    start, steps, length = (column[done:end] for column in (items.start, items.steps, items.length))
    values, length = network(g, padded(g, replace(items, start=start, steps=steps, length=length)))
    # Rows of padding stay in the table and nothing reads them; to leave them out, the host would have to ask a GPU how
    # many there are.
    row = g.arange(length.shape.squeeze()) * values.size(1)
    first = row + table.size(0)

    go_on = done + start.shape < count
    g.output("go_on", go_on.squeeze(), TensorProto.BOOL, [])
    g.output("table", g.Concat(table, values.reshape(-1, width), axis=0), TensorProto.FLOAT, ["rows", width])
    g.output("starts", g.Concat(starts, first, axis=0), TensorProto.INT64, ["items_done"])
    g.output("made", g.Concat(lengths, length, axis=0), TensorProto.INT64, ["items_done"])
    return g


def _bucket_size(g: Graph, rest: Value, step_rate: int, tuning: Tuning) -> Value:
    """int64 [1]: how many of the items that are left the next bucket takes; rest: their lengths, the longest first."""
    longest = g.Max(rest[:1], ints(1))
    pass_steps = g.constant(ints(round(tuning.pass_seconds * step_rate)), PASS_STEPS)
    steps_at_once = g.constant(ints(round(tuning.seconds_at_once * step_rate)), STEPS_AT_ONCE)
    padding = (longest - rest).cumsum(axis=0)
    similar = padding <= pass_steps
    at_once = g.Max(steps_at_once // longest, ints(1))
    fits = g.arange(rest.shape.squeeze()) < at_once
    size = (similar & fits).astype(np.int64).sum(0, keepdims=True)
    # An item without steps is padded to one, which may be too much; a bucket without items would go on for ever.
    return g.Max(size, ints(1))


def side_by_side(g: Graph, items: Ragged) -> Value:
    """[B, longest, width], or [B, longest], of what `in_buckets` gives; zero (row 0) beyond each item's last step."""
    time, valid = time_mask(g, items.length)
    rows = items.start[:, None] + time[None, :]
    return items.table[g.Where(valid, rows, 0)]
