"""What a client learns from refusals and answers, and the line of requests that wait for room."""

from __future__ import annotations

import math
import time

import pytest

from nemo_triton.addresses import Address
from nemo_triton.concurrency_limit import ConcurrencyLimit
from nemo_triton.endpoint import Endpoint, Pending, Turn
from nemo_triton.endpoint_pool import Attempts, EndpointPool
from nemo_triton.latency_estimate import LatencyEstimate
from nemo_triton.waiting_line import Waiting, WaitingLine

pytestmark = pytest.mark.fast


def refused_burst(sent: int, room: int, now: float = 0.0) -> ConcurrencyLimit:
    """The limit after a burst of requests to a server that had room for some of them."""
    limit = ConcurrencyLimit()
    for in_flight in reversed(range(room, sent)):
        limit.note_refusal(sent=now - 1, in_flight=in_flight, now=now)
    return limit


def test_a_client_is_unlimited_until_a_refusal() -> None:
    limit = ConcurrencyLimit()
    assert limit.room(10_000, now=0) == math.inf
    limit.note_answer()
    assert limit.room(10_000, now=0) == math.inf


@pytest.mark.parametrize(("sent", "room"), [(64, 32), (33, 32), (1000, 1)])
def test_a_burst_shows_how_many_requests_fit(sent: int, room: int) -> None:
    limit = refused_burst(sent, room)
    fitting = sum(1 for in_flight in range(sent) if limit.room(in_flight, now=0))
    assert max(0.9 * room - 1, 0.5) < fitting <= room


def test_the_limit_grows_by_one_for_as_many_answers() -> None:
    limit = refused_burst(64, 32)
    answers = 0
    while not limit.room(39, now=0):
        limit.note_answer()
        answers += 1
    # 32 + 33 + ... + 39 answers, less rounding.
    assert 32 * 8 - 8 <= answers <= 39 * 8


def test_refusals_of_later_rounds_lower_the_limit_by_a_tenth() -> None:
    limit = refused_burst(64, 32)
    limit.note_refusal(sent=1, in_flight=30, now=2)
    assert limit.room(26, now=2) >= 1 and not limit.room(27, now=2)


def test_the_limit_is_forgotten_some_time_after_the_last_refusal() -> None:
    limit = refused_burst(64, 32)
    assert limit.room(2, now=9.9) < 32
    assert limit.room(32, now=10.1) == math.inf


def test_a_limit_that_keeps_requests_waiting_is_not_forgotten() -> None:
    limit = refused_burst(64, 32)
    assert not any(limit.room(32, now) for now in range(0, 60, 5))
    assert limit.room(32, now=65.1) == math.inf


def test_room_is_whole_so_that_no_request_overtakes_the_one_that_waits() -> None:
    limit = refused_burst(64, 8)
    limit.note_answer()
    assert [limit.room(in_flight, now=0) for in_flight in range(6, 9)] == [2, 1, 0]


def test_requests_that_are_late_together_lower_the_limit_by_a_tenth() -> None:
    limit = ConcurrencyLimit()
    for in_flight in reversed(range(11, 25)):
        limit.note_late(sent=0, in_flight=in_flight, now=5)
    assert [limit.room(in_flight, now=5) for in_flight in (20, 21)] == [1, 0]
    limit.note_late(sent=6, in_flight=10, now=9)
    assert [limit.room(in_flight, now=9) for in_flight in (8, 9)] == [1, 0]


def test_a_server_that_others_fill_is_tried_again_after_growing_random_waits() -> None:
    def wait(refusals: int) -> float:
        limit = ConcurrencyLimit()
        for _ in range(refusals):
            limit.note_refusal(sent=0, in_flight=0, now=1)
        seconds = limit.blocked_seconds(1)
        assert not limit.room(0, now=1 + 0.99 * seconds)
        assert limit.room(0, now=1.001 + seconds) == 1
        return seconds

    for refusals, longest in ((1, 0.1), (2, 0.2), (4, 0.8), (10, 2.0)):
        seconds = [wait(refusals) for _ in range(200)]
        assert 0.5 * longest < max(seconds) <= longest
        assert min(seconds) < 0.5 * longest


def test_an_answer_ends_the_wait() -> None:
    limit = ConcurrencyLimit()
    limit.note_refusal(sent=0, in_flight=0, now=0)
    limit.note_answer()
    assert limit.blocked_seconds(0) == math.inf and limit.room(0, now=0) == 2


def test_the_earliest_deadline_is_first_in_the_line() -> None:
    line = WaitingLine()
    late, early, same = Waiting(deadline=3), Waiting(deadline=1), Waiting(deadline=3)
    for waiting in (late, early, same):
        line.join(waiting)
    assert [line.position(waiting, "A") for waiting in (early, late, same, None)] == [0, 1, 2, 3]
    line.wake({"A": 1})
    assert [waiting.turn.done() for waiting in (early, late, same)] == [True, False, False]
    line.leave(early)
    line.wake({"A": 1})
    line.wake({"A": 1, "B": 0})
    line.wake_first()
    assert [waiting.turn.done() for waiting in (late, same)] == [True, False]
    line.wake({"A": math.inf})
    assert same.turn.done()


def test_a_request_that_cannot_use_a_server_keeps_no_other_from_it() -> None:
    line = WaitingLine()
    only_b, any_server = Waiting(deadline=1, excluded={"A"}), Waiting(deadline=2)
    for waiting in (only_b, any_server):
        line.join(waiting)
    assert [line.position(any_server, servers) for servers in ("A", "B", "AB")] == [0, 1, 1]
    line.wake({"A": 1, "B": 0})
    assert (only_b.turn.done(), any_server.turn.done()) == (False, True)


def full_and_free() -> tuple[EndpointPool, Endpoint, Endpoint]:
    """A pool with one endpoint that has a full queue and one that has room."""
    pool = EndpointPool()
    full, free = (Endpoint(Address(url=name, host_port=name), None, up=True) for name in ("full:1", "free:1"))
    pool.add([full, free])
    full.pending.add(Pending(1.0))
    full.limit.note_refusal(sent=0, in_flight=1, now=time.monotonic())
    return pool, full, free


def test_requests_that_wait_for_the_same_server_do_not_wake_each_other() -> None:
    pool, full, free = full_and_free()
    first, second = (Attempts(time.monotonic() + 60, 60, exhausted={free}) for _ in range(2))
    turns = [pool.take(attempts, 1.0, wait_for_room=True) for attempts in (first, second)]
    again = pool.take(first, 1.0, wait_for_room=True)
    assert isinstance(turns[1], Turn) and not turns[1].future.done()
    assert isinstance(again, Turn) and not again.future.done()
    pool.release(full, next(iter(full.pending)))
    assert again.future.done()
    choice = pool.take(first, 1.0, wait_for_room=True)
    assert choice and not isinstance(choice, Turn) and choice[0] is full


def test_a_new_request_goes_where_there_is_room() -> None:
    pool, _, free = full_and_free()
    for _ in range(3):
        choice = pool.take(Attempts(time.monotonic() + 60, 60), 1.0, wait_for_room=True)
        assert choice and not isinstance(choice, Turn) and choice[0] is free


def test_a_request_that_leaves_the_line_lets_the_next_one_move_up() -> None:
    pool, full, free = full_and_free()
    pool.remove([free])
    first, second = (Attempts(time.monotonic() + 60, 60) for _ in range(2))
    for attempts in (first, second):
        assert isinstance(pool.take(attempts, 1.0, wait_for_room=True), Turn)
    assert second.waiting
    turn = second.waiting.turn
    full.pending.clear()
    pool.leave_line(first)
    assert turn.done()
    choice = pool.take(second, 1.0, wait_for_room=True)
    assert choice and not isinstance(choice, Turn) and choice[0] is full


def test_the_estimate_follows_the_latency() -> None:
    estimate = LatencyEstimate()
    assert estimate.high == 0
    estimate.note(2.0)
    assert estimate.high == 2.0
    for _ in range(100):
        estimate.note(0.5)
    assert estimate.high == pytest.approx(0.5, abs=0.01)
    seconds = [0.4, 0.6] * 100
    for each in seconds:
        estimate.note(each)
    assert 0.8 < estimate.high < 1.0


def test_a_request_that_waited_is_given_up_when_answers_take_longer_than_is_left() -> None:
    pool, full, free = full_and_free()
    pool.remove([free])
    full.latency.note(0.1)
    short, long = (Attempts(time.monotonic() + seconds, seconds) for seconds in (0.2, 60))
    for attempts in (short, long):
        turn = pool.take(attempts, 1.0, wait_for_room=True)
        assert isinstance(turn, Turn)
        assert turn.seconds == pytest.approx(attempts.seconds - 0.1, abs=0.05)
    full.latency.note(10)
    assert pool.take(short, 1.0, wait_for_room=True) is None
    assert isinstance(pool.take(long, 1.0, wait_for_room=True), Turn)


def test_without_pending_requests_one_finds_out_how_long_answers_take() -> None:
    pool, full, free = full_and_free()
    pool.remove([free])
    full.latency.note(100)
    attempts = Attempts(time.monotonic() + 60, 60)
    assert isinstance(pool.take(attempts, 1.0, wait_for_room=True), Turn)
    full.pending.clear()
    choice = pool.take(attempts, 1.0, wait_for_room=True)
    assert choice and not isinstance(choice, Turn)


@pytest.mark.parametrize(
    ("waited", "answered", "lowered"), [(0.6, True, True), (0.4, True, False), (0.6, False, False)]
)
def test_late_answers_of_a_busy_server_lower_the_limit(waited: float, answered: bool, lowered: bool) -> None:
    pool, _, server = full_and_free()
    now = time.monotonic()
    late = Pending(1.0, sent=now - waited)
    server.pending.update(Pending(1.0) for _ in range(10))
    server.last_answer = now if answered else late.sent - 1
    pool.note_late(server, Attempts(now, 1.0), late)
    assert bool(server.limit.room(10, now)) is not lowered


def test_an_attempt_with_little_time_says_nothing_about_its_server() -> None:
    pool, silent, other = full_and_free()
    now = time.monotonic()
    attempts, late = Attempts(now, 1.0), Pending(1.0, sent=now - 0.4)
    for _ in range(10):
        pool.note_success(other, attempts, Pending(1.0))
        pool.note_late(silent, attempts, late)
    assert silent.usable
    for _ in range(3):
        pool.note_late(silent, attempts, Pending(1.0, sent=now - 0.6))
    assert not silent.usable


def test_a_delayed_request_is_not_sent_to_a_server_that_is_too_slow_for_it() -> None:
    pool, slow, fast = full_and_free()
    slow.limit = ConcurrencyLimit()
    slow.latency.note(3.0)
    fast.limit.note_refusal(sent=0, in_flight=0, now=time.monotonic())
    refused = Attempts(time.monotonic() + 1, 5, refusals=1)
    turn = pool.take(refused, 1.0, wait_for_room=True)
    # It is the turn of none: the only server with room takes 3 s.
    assert turn is None
    fast.limit.note_answer()
    choice = pool.take(refused, 1.0, wait_for_room=True)
    assert choice and not isinstance(choice, Turn) and choice[0] is fast


def test_the_end_of_a_block_reaches_the_first_request_that_waits() -> None:
    pool, full, free = full_and_free()
    pool.remove([free])
    attempts = Attempts(time.monotonic() + 60, 60)
    turn = pool.take(attempts, 1.0, wait_for_room=True)
    assert isinstance(turn, Turn) and turn.seconds > 10
    full.pending.clear()
    full.limit.note_refusal(sent=0, in_flight=0, now=time.monotonic())
    pool.wake()
    assert turn.future.done()
    again = pool.take(attempts, 1.0, wait_for_room=True)
    assert isinstance(again, Turn) and again.seconds <= 0.1 and not again.future.done()
