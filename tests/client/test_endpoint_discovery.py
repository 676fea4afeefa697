"""Servers behind one host name, whose addresses come and go."""

from __future__ import annotations

import asyncio
import signal
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from several_servers import Loop, Serve
from waiting import wait_until_async

from nemo_triton.audio import Samples
from nemo_triton.recognizer import AsyncRecognizer


class Names:
    """Takes the place of the system's resolver for one name, whose addresses come and go as those of pods do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str = "triton.headless") -> None:
        self.name = name
        self.addresses: list[str] = []
        self.failures = 0
        self._resolve = socket.getaddrinfo
        monkeypatch.setattr("socket.getaddrinfo", self._answer)

    def _answer(self, host: Any, port: Any, *arguments: Any, **more: Any) -> Any:
        if host != self.name:
            return self._resolve(host, port, *arguments, **more)
        if not self.addresses:
            self.failures += 1
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.addresses]


@dataclass(frozen=True)
class Cluster:
    """What servers behind a name are started with, and what they are asked.

    port: that of each of them
    texts: of `recordings`, in their order
    """

    serve: Serve
    model: str
    port: str
    recordings: list[Samples]
    texts: list[str]


@pytest.fixture
def cluster(serve: Serve, triton: Any, absent_url: str, recordings: list[Samples], served_texts: list[str]) -> Cluster:
    return Cluster(serve, triton.model, absent_url.rpartition(":")[2], recordings, served_texts)


async def test_a_name_with_several_addresses_is_a_server_at_each(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names(monkeypatch)
    pods = [f"127.0.0.{number}:{cluster.port}" for number in (1, 2, 3)]
    with ExitStack() as stack:
        for pod in pods[:2]:
            stack.enter_context(cluster.serve(pod))
        names.addresses = ["127.0.0.1", "127.0.0.2"]
        async with AsyncRecognizer(cluster.model, f"{names.name}:{cluster.port}") as recognizer:
            loop = Loop(recognizer, cluster.recordings)
            await loop.until(lambda: min(loop.by_endpoint()[pod] for pod in pods[:2]) > 10)
            assert loop.by_endpoint().keys() == {*pods[:2]}
            stack.enter_context(cluster.serve(pods[2]))
            names.addresses.append("127.0.0.3")
            await loop.until(lambda: loop.by_endpoint()[pods[2]] > 10)
            names.addresses.remove("127.0.0.1")
            await loop.until(lambda: [endpoint.name for endpoint in recognizer.endpoints] == pods[1:])
            # Those that were on the way to it.
            sent = loop.sent
            await loop.until(lambda: loop.answered_all_before(sent))
            since = len(loop.answers)
            await loop.until(
                lambda: len(loop.answers) > since + 60 and all(loop.by_endpoint(since)[pod] for pod in pods[1:])
            )
            assert loop.by_endpoint(since).keys() == {*pods[1:]}
            names.addresses.clear()
            failures = names.failures
            # With the second of them the look at the servers that the first one began has ended.
            await loop.until(lambda: names.failures >= failures + 2)
            since = len(loop.answers)
            # A resolver that fails takes no server away. On a busy machine one of them may be slow for a while.
            await loop.until(
                lambda: len(loop.answers) > since + 30 and all(loop.by_endpoint(since)[pod] for pod in pods[1:])
            )
            assert loop.by_endpoint(since).keys() == {*pods[1:]}
            await loop.stop()
        loop.check(cluster.texts)


async def test_a_request_at_a_server_that_leaves_the_name_and_ends_is_asked_for_at_the_last_one(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    # gRPC itself looks up a name with a single address, and does not ask the resolver of this test.
    names, port = Names(monkeypatch, "localhost"), cluster.port
    names.addresses = ["127.0.0.1", "127.0.0.2"]
    with cluster.serve(f"127.0.0.1:{port}"), cluster.serve(f"127.0.0.2:{port}") as leaving:
        async with AsyncRecognizer(cluster.model, f"{names.name}:{port}") as recognizer:
            leaving.process.send_signal(signal.SIGSTOP)
            asked = [asyncio.ensure_future(recognizer.transcribe(samples)) for samples in cluster.recordings[:2]]
            # The other server answers the other request.
            await wait_until_async(lambda: any(request.done() for request in asked))
            names.addresses.remove("127.0.0.2")
            remaining = [f"localhost:{port}"]
            await wait_until_async(lambda: [endpoint.name for endpoint in recognizer.endpoints] == remaining)
            assert [request.done() for request in asked].count(False) == 1
            leaving.process.kill()
            answered = await asyncio.gather(*asked)
    assert [transcript.text for transcript in answered] == cluster.texts[:2]
