"""A network over items of many lengths: inside the graph, a loop over groups of similar length.

Padding all requests of a batch to its longest would waste most of the work where lengths differ, and memory
would follow the longest times the batch. Here it is bounded, whoever shares the batch, on every backend.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from onnx import TensorProto

from export_scripts.operators.builder import Graph, ints
from export_scripts.operators.ragged import Padded, Ragged, padded, time_mask
from export_scripts.operators.tuning import Tuning

Network = Callable[[Graph, Padded], tuple[str, str]]
"""Adds itself to a graph: a padded batch -> values float32 [B, steps', width], length int64 [B]."""


PASS_STEPS, STEPS_AT_ONCE = "pass_steps", "steps_at_once"
"""Names of two of Tuning's numbers in a graph, in steps of its input; benchmark.studies.gpu.stages varies them."""


def in_groups(g: Graph, items: Ragged, network: Network, *, width: int, step_rate: int, tuning: Tuning) -> Ragged:
    """What `network` makes of each item, `width` numbers a step; row 0 of the table is no item's, and zero.

    step_rate: of the input, in Hz

    Items are taken from the longest to the shortest, and a group is closed as soon as the padding of all its items
    together costs more than a pass. For lengths that shrink evenly that cut is the cheapest: with padding d * k^2 / 2
    in a group of k items and c for a pass, the cost per item (d * k^2 / 2 + c) / k is least where the padding equals c.
    On speech it costs at most 2 % more than the best cut where a pass is cheap, and 20 % where it is expensive and
    groups are few (tests/export_scripts/test_groups.py).
    """
    count = g.Shape(items.length)
    length, order = g.add("TopK", [items.length, count], 2, largest=1, sorted=1)
    by_length = replace(items, length=length, start=g.Gather(items.start, order), steps=g.Gather(items.steps, order))
    body = _group(by_length, network, width, step_rate, tuning)
    initial = [np.zeros((1, width), np.float32), ints(), ints()]
    table, start, made = g.add("Loop", ["", np.array(True), *initial], 3, body=body.graph())
    # The loop met the items in another order.
    nowhere = g.Expand(np.array(0), count)
    start, made = (g.ScatterElements(nowhere, order, column) for column in (start, made))
    return Ragged(table, start, steps=made, length=made, width=width)


def _group(items: Ragged, network: Network, width: int, step_rate: int, tuning: Tuning) -> Graph:
    """The loop's body; it carries the rows made so far, where those of each item start, and how many they are."""
    g = Graph("group")
    g.input("group_number", TensorProto.INT64, [])
    g.input("go_on_in", TensorProto.BOOL, [])
    table = g.input("table_in", TensorProto.FLOAT, ["rows", width])
    starts = g.input("starts_in", TensorProto.INT64, ["items_done"])
    made = g.input("made_in", TensorProto.INT64, ["items_done"])

    # Sizes of shapes are the host's: it need not wait for a GPU to know them.
    done, count = g.Shape(made), g.Shape(items.length)
    rest = g.Slice(items.length, done, count, ints(0))
    longest = g.Max(g.Slice(rest, ints(0), ints(1), ints(0)), ints(1))
    pass_steps = g.constant(ints(round(tuning.pass_seconds * step_rate)), PASS_STEPS)
    steps_at_once = g.constant(ints(round(tuning.seconds_at_once * step_rate)), STEPS_AT_ONCE)
    padding = g.CumSum(g.Sub(longest, rest), np.array(0))
    similar = g.LessOrEqual(padding, pass_steps)
    at_once = g.Max(g.Div(steps_at_once, longest), ints(1))
    fits = g.Less(g.Range(np.array(0), g.Squeeze(g.Shape(rest)), np.array(1)), at_once)
    many = g.ReduceSum(g.Cast(g.And(similar, fits), to=TensorProto.INT64), ints(0), keepdims=1)
    # An item without steps is padded to one, which may be too much; a group without items would go on for ever.
    size = g.Max(many, ints(1))
    end = g.Add(done, size)

    start, steps, length = (g.Slice(row, done, end, ints(0)) for row in (items.start, items.steps, items.length))
    values, length = network(g, padded(g, Ragged(items.table, start, steps, length, items.width)))
    # Rows of padding stay in the table and nothing reads them; to leave them out, the host would have to ask a GPU how
    # many there are.
    row = g.Mul(g.Range(np.array(0), g.Squeeze(g.Shape(length)), np.array(1)), g.Shape(values, start=1, end=2))
    first = g.Add(row, g.Shape(table, start=0, end=1))

    g.output("go_on", g.Squeeze(g.Less(g.Add(done, g.Shape(start)), count)), TensorProto.BOOL, [])
    g.output("table", g.Concat(table, g.Reshape(values, ints(-1, width)), axis=0), TensorProto.FLOAT, ["rows", width])
    g.output("starts", g.Concat(starts, first, axis=0), TensorProto.INT64, ["items_done"])
    g.output("made", g.Concat(made, length, axis=0), TensorProto.INT64, ["items_done"])
    return g


def side_by_side(g: Graph, items: Ragged) -> str:
    """[B, longest, width], or [B, longest], of what `in_groups` made, zero (row 0) beyond each item's own."""
    time, valid = time_mask(g, items.length)
    rows = g.Add(g.Unsqueeze(items.start, ints(1)), g.Unsqueeze(time, ints(0)))
    return g.Gather(items.table, g.Where(valid, rows, np.array(0)), axis=0)
