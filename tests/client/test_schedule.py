"""Plans: which requests, in which order, when."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemo_triton.loadtest.schedule import ClosedLoop, OpenLoop, Plan, ordered

pytestmark = pytest.mark.fast


def plan(recordings: int = 5, **changes: Any) -> Plan:
    whole = Plan(ClosedLoop(2), tuple(range(recordings)), shuffled=True, seed=0, requests=recordings)
    return replace(whole, **changes)


@given(st.integers(1, 7), st.integers(1, 40), st.integers(1, 4), st.sets(st.integers(0, 45)), st.booleans())
def test_all_parts_together_are_the_plan(
    recordings: int, requests: int, parts: int, answered: set[int], is_open: bool
) -> None:
    load = OpenLoop(3.0) if is_open else ClosedLoop(2)
    whole = plan(recordings, load=load, requests=requests, answered=frozenset(answered))
    sent = [request for part in range(parts) for request in whole.part(part, of=parts)]
    assert sorted(request.number for request in sent) == [n for n in range(requests) if n not in answered]
    assert len(sent) == whole.remaining
    assert sorted(sent, key=lambda request: request.number) == list(whole.part())


@given(st.integers(1, 9), st.integers(1, 4))
def test_each_pass_has_each_recording_once(recordings: int, passes: int) -> None:
    numbers = [request.recording for request in plan(recordings, requests=recordings * passes).part()]
    for start in range(0, len(numbers), recordings):
        assert sorted(numbers[start : start + recordings]) == list(range(recordings))


def test_each_pass_has_a_different_order_that_depends_on_the_seed() -> None:
    numbers = [request.recording for request in plan(50, requests=100).part()]
    assert numbers[:50] != numbers[50:] and numbers[:50] != list(range(50))
    assert numbers == [request.recording for request in plan(50, requests=100).part()]
    assert numbers != [request.recording for request in plan(50, requests=100, seed=1).part()]


def test_every_pass_keeps_a_fixed_order() -> None:
    assert ordered([2.0, 9.0, 4.0], "sorted") == (1, 2, 0)
    assert ordered([2.0, 9.0, 4.0], "given") == (0, 1, 2)
    kept = replace(plan(), recordings=(1, 2, 0), shuffled=False, requests=4)
    assert [request.recording for request in kept.part()] == [1, 2, 0, 1]


def test_arrivals_are_a_poisson_process() -> None:
    moments = [request.due for request in plan(load=OpenLoop(20.0), requests=4000).part()]
    gaps = np.diff([0.0, *moments])
    # The standard deviation of an exponential distribution equals its mean; a fraction 1 - 1/e is below the mean.
    assert np.std(gaps) == pytest.approx(1 / 20, rel=0.1)
    assert np.mean(gaps < 1 / 20) == pytest.approx(1 - np.exp(-1), abs=0.03)


@pytest.mark.parametrize("requests", [10, 58, 104, 1000])
@pytest.mark.parametrize("rate", [0.5, 40.0])
def test_an_open_loop_offers_exactly_its_rate(requests: int, rate: float) -> None:
    moments = [request.due for request in plan(load=OpenLoop(rate), requests=requests).part()]
    assert len(moments) == requests
    assert 0.6 * requests / rate < moments[-1] <= requests / rate
    fewer = [moment for moment in moments if moment <= requests / rate / 2]
    assert len(fewer) == pytest.approx(requests / 2, abs=4 * requests**0.5)


def test_every_rate_has_the_same_pattern() -> None:
    slow, fast = ([request.due for request in plan(load=OpenLoop(rate)).part()] for rate in (2.0, 8.0))
    assert slow == pytest.approx([4 * moment for moment in fast])


def test_an_open_loop_is_resumed_where_it_stopped() -> None:
    whole = plan(load=OpenLoop(5.0), requests=40)
    moments = [request.due for request in whole.part()]
    remaining = list(replace(whole, answered=frozenset(range(25))).part())
    assert [request.number for request in remaining] == list(range(25, 40))
    assert [request.due for request in remaining] == pytest.approx([moment - moments[24] for moment in moments[25:]])


def test_time_bounds_an_open_loop() -> None:
    timed = plan(load=OpenLoop(50.0), requests=None, seconds=4.0)
    moments = [request.due for request in timed.part()]
    assert len(moments) == timed.remaining == 200 and moments[-1] <= 4.0
    assert replace(timed, requests=30).remaining == 30


def test_a_closed_loop_without_a_number_of_requests_has_no_end() -> None:
    endless = plan(3, requests=None, seconds=1.0)
    assert endless.remaining is None
    assert len(list(islice(endless.part(), 100))) == 100


@pytest.mark.parametrize(("concurrency", "parts"), [(1, 1), (5, 2), (2, 3), (16, 4)])
def test_senders_share_the_concurrency(concurrency: int, parts: int) -> None:
    assert sum(ClosedLoop(concurrency).part(part, of=parts) for part in range(parts)) == concurrency
