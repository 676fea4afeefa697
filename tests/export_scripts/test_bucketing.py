"""Length bucketing: how a batch is cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from feeds import open_graph, ragged_feeds

from export_scripts.operators.bucketing import in_buckets, side_by_side
from export_scripts.operators.builder import Graph, Value
from export_scripts.operators.ragged import Padded, give_length, ragged_input
from export_scripts.operators.tuning import CPU, GPU, Tuning
from nemo_triton.contract import Tensor

pytestmark = pytest.mark.fast

X, Y = Tensor("X", "FP32", ("steps",)), Tensor("Y", "FP32", ("steps", 1))
RATE = 100
"""Steps per second."""


def padded_to(tuning: Tuning, lengths: list[int]) -> list[int]:
    """Steps to which each item is padded, from a graph whose network returns the padded length."""
    g = Graph("padded_to")
    items = ragged_input(g, X)

    def network(bucket: Graph, batch: Padded) -> tuple[Value, Value]:
        steps = batch.values.size(1).astype(np.float32)
        return bucket.Expand(steps, batch.values.shape)[:, :, None], batch.length

    results = in_buckets(g, items, network, width=1, step_rate=RATE, tuning=tuning)
    g.give(Y, side_by_side(g, results))
    give_length(g, Y, results.length)
    feeds = ragged_feeds(X, [np.zeros(length) for length in lengths])
    values, result_lengths = open_graph(g.model()).run(None, feeds)
    assert result_lengths[:, 0].tolist() == lengths
    for row, length in zip(values, lengths, strict=True):
        # All steps of an item come from one bucket, and padding is zero.
        assert len(set(row[:length, 0].tolist())) == min(length, 1)
        assert not row[length:].any()
    return [int(row[0, 0]) for row in values]


def speech(count: int, seed: int) -> list[int]:
    """Lengths of `count` utterances in steps, distributed like LibriSpeech (1 to 35 s, median 6.6 s)."""
    seconds = np.exp(np.random.default_rng(seed).normal(np.log(6.6), 0.49, count)).clip(1, 35)
    return [int(steps) for steps in np.round(seconds * RATE)]


def cheapest(lengths: list[int], tuning: Tuning) -> float:
    """Cost of the best cut in steps: padded items, and the cost of each pass (dynamic programming)."""
    pass_steps, limit = tuning.pass_seconds * RATE, tuning.seconds_at_once * RATE
    longest_first = sorted(lengths, reverse=True)
    best = [0.0] + [np.inf] * len(lengths)
    for end in range(1, len(lengths) + 1):
        for start in range(end):
            padded = (end - start) * longest_first[start]
            if padded <= limit or end - start == 1:
                best[end] = min(best[end], best[start] + padded + pass_steps)
    return best[-1]


def buckets(padded: npt.NDArray[np.int64], tuning: Tuning) -> int:
    """Number of buckets. Items of one padded length may fill several, since each holds a limited number of seconds."""
    lengths, counts = np.unique(padded, return_counts=True)
    at_most = np.maximum(tuning.seconds_at_once * RATE // lengths, 1)
    return int(np.ceil(counts / at_most).sum())


def test_a_bucket_ends_where_its_padding_costs_more_than_a_pass() -> None:
    tuning = replace(CPU, pass_seconds=1.0)
    # 100 steps are a pass: 1000 + 950 + 950 pad 100 in all, and one step more does not fit.
    assert padded_to(tuning, [950, 1000, 950]) == [1000] * 3
    assert padded_to(tuning, [950, 1000, 949]) == [1000, 1000, 949]
    assert padded_to(tuning, [300, 1000, 290, 999]) == [300, 1000, 300, 1000]
    assert padded_to(tuning, [7]) == [7]


def test_a_free_pass_pads_nothing_and_an_expensive_one_takes_all_items() -> None:
    lengths = speech(32, seed=1)
    assert padded_to(replace(CPU, pass_seconds=0.0), lengths) == lengths
    # An item without steps is padded to one and keeps none; the loop still ends.
    assert padded_to(replace(CPU, pass_seconds=0.0), [0, 5, 0, 0]) == [0, 5, 0, 0]
    assert padded_to(replace(CPU, pass_seconds=1e6), lengths) == [max(lengths)] * 32


def test_a_bucket_has_a_limit_of_seconds_except_for_a_single_longer_item() -> None:
    tuning = replace(CPU, pass_seconds=1e6, seconds_at_once=20.0)
    assert padded_to(tuning, [900, 1000, 800, 700]) == [1000, 1000, 800, 800]
    assert padded_to(tuning, [5000, 100]) == [5000, 100]


@pytest.mark.parametrize(
    ("tuning", "count", "most"),
    [(CPU, 8, 1.01), (CPU, 16, 1.01), (CPU, 64, 1.02), (GPU, 16, 1.2), (GPU, 64, 1.2), (GPU, 128, 1.2)],
)
def test_the_cut_costs_little_more_than_the_best(tuning: Tuning, count: int, most: float) -> None:
    costs: list[float] = []
    best: list[float] = []
    for seed in range(10):
        lengths = speech(count, seed)
        padded: npt.NDArray[np.int64] = np.array(padded_to(tuning, lengths))
        costs.append(float(padded.sum()) + tuning.pass_seconds * RATE * buckets(padded, tuning))
        best.append(cheapest(lengths, tuning))
    assert sum(costs) <= most * sum(best)
