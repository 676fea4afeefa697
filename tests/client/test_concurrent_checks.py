"""Checks of one server by concurrent requests, and cancellations while its connection is replaced."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tritonclient.utils import InferenceServerException

from nemo_triton.addresses import Address
from nemo_triton.connections import run_calls_async
from nemo_triton.endpoint import Endpoint, EndpointCall, EndpointCalls
from nemo_triton.endpoint_checks import EndpointChecks, Export
from nemo_triton.endpoint_pool import EndpointPool
from nemo_triton.served_model import ServedModel

pytestmark = pytest.mark.fast

ADDRESS = Address(url="server:8001", host_port="server:8001")
MODEL = ServedModel(name="model", frame_seconds=0.04, steps=(), log_probs_name=None)
EXPORT = Export(MODEL, ADDRESS.host_port)


class HangingConnection:
    """A connection whose calls are late until it is closed, which cancels them, as gRPC does."""

    def __init__(self, late_after: float) -> None:
        self.late_after = late_after
        self.calls = 0
        self.closed = asyncio.Event()

    async def close(self) -> None:
        self.closed.set()

    def __getattr__(self, method: str) -> Any:
        async def call(**arguments: Any) -> None:
            self.calls += 1
            try:
                await asyncio.wait_for(self.closed.wait(), self.late_after)
            except asyncio.TimeoutError:
                raise InferenceServerException("Deadline Exceeded", "StatusCode.DEADLINE_EXCEEDED") from None
            raise asyncio.CancelledError

        return call


def call_to(endpoint: Endpoint) -> EndpointCalls[str]:
    try:
        yield EndpointCall(endpoint, "infer", {})
    except InferenceServerException as error:
        return str(error.status())
    return "answered"


async def test_requests_that_fail_together_share_one_check() -> None:
    opened: list[HangingConnection] = []

    def connect(_: Address) -> HangingConnection:
        opened.append(HangingConnection(0.05))
        return opened[-1]

    checks = EndpointChecks(EndpointPool(), connect, EXPORT)
    endpoint = Endpoint(ADDRESS, connect(ADDRESS), up=True)
    await asyncio.gather(*(run_calls_async(checks.check(endpoint)) for _ in range(16)))
    assert (opened[0].calls, endpoint.late_checks, endpoint.up, endpoint.checking) == (1, 1, True, False)
    await run_calls_async(checks.check(endpoint))
    assert (endpoint.late_checks, endpoint.up, len(opened)) == (2, False, 1)


async def test_an_abandoned_check_does_not_block_the_next() -> None:
    connection = HangingConnection(60)
    checks = EndpointChecks(EndpointPool(), lambda _: connection, EXPORT)
    endpoint = Endpoint(ADDRESS, connection, up=True)
    check = asyncio.ensure_future(run_calls_async(checks.check(endpoint)))
    await asyncio.sleep(0)
    assert endpoint.checking
    check.cancel()
    with pytest.raises(asyncio.CancelledError):
        await check
    assert not endpoint.checking


async def test_a_callers_cancellation_is_its_own_although_the_connection_was_replaced() -> None:
    endpoint = Endpoint(ADDRESS, HangingConnection(60))
    task = asyncio.ensure_future(run_calls_async(call_to(endpoint)))
    await asyncio.sleep(0)
    endpoint.connection = HangingConnection(60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_replaced_connection_fails_its_calls() -> None:
    replaced = HangingConnection(60)
    endpoint = Endpoint(ADDRESS, replaced)
    task = asyncio.ensure_future(run_calls_async(call_to(endpoint)))
    await asyncio.sleep(0)
    endpoint.connection = HangingConnection(60)
    await replaced.close()
    assert await task == "StatusCode.CANCELLED"
