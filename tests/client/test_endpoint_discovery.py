"""Servers behind one host name whose IP addresses change."""

from __future__ import annotations

import asyncio
import os
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
    """A resolver for one host name with changing IP addresses, like a headless service of Kubernetes."""

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
    """Servers behind one host name, and the requests to send.

    Attributes:
        serve: Function that starts a server.
        model: Name of the recognizer.
        port: The port of every server.
        recordings: The samples to send.
        texts: The expected transcripts, in the same order.
    """

    serve: Serve
    model: str
    port: str
    recordings: list[Samples]
    texts: list[str]


@pytest.fixture
def cluster(serve: Serve, triton: Any, absent_url: str, recordings: list[Samples], served_texts: list[str]) -> Cluster:
    return Cluster(serve, triton.model, absent_url.rpartition(":")[2], recordings, served_texts)


async def test_requests_go_to_every_address_of_a_host_name(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
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
            # Wait for the requests that were already sent to it.
            sent = loop.sent
            await loop.until(lambda: loop.answered_all_before(sent))
            since = len(loop.answers)
            await loop.until(
                lambda: len(loop.answers) > since + 60 and all(loop.by_endpoint(since)[pod] for pod in pods[1:])
            )
            assert loop.by_endpoint(since).keys() == {*pods[1:]}
            names.addresses.clear()
            failures = names.failures
            # At the second failure, the check that saw the first one has finished.
            await loop.until(lambda: names.failures >= failures + 2)
            since = len(loop.answers)
            # A failing resolver removes no server. On a busy machine a server can be slow for a while.
            await loop.until(
                lambda: len(loop.answers) > since + 30 and all(loop.by_endpoint(since)[pod] for pod in pods[1:])
            )
            assert loop.by_endpoint(since).keys() == {*pods[1:]}
            await loop.stop()
        loop.check(cluster.texts)


async def test_a_request_to_a_removed_server_that_crashes_is_retried(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    # gRPC looks up a name with a single address itself, without this test's resolver. So the name is localhost.
    names, port = Names(monkeypatch, "localhost"), cluster.port
    names.addresses = ["127.0.0.1", "127.0.0.2"]
    with cluster.serve(f"127.0.0.1:{port}"), cluster.serve(f"127.0.0.2:{port}") as leaving:
        async with AsyncRecognizer(cluster.model, f"{names.name}:{port}") as recognizer:
            os.killpg(leaving.process.pid, signal.SIGSTOP)
            requests = [asyncio.ensure_future(recognizer.transcribe(samples)) for samples in cluster.recordings[:2]]
            # The other server responds to the other request.
            await wait_until_async(lambda: any(request.done() for request in requests))
            names.addresses.remove("127.0.0.2")
            remaining = [f"localhost:{port}"]
            await wait_until_async(lambda: [endpoint.name for endpoint in recognizer.endpoints] == remaining)
            assert [request.done() for request in requests].count(False) == 1
            leaving.process.kill()
            responses = await asyncio.gather(*requests)
    assert [transcript.text for transcript in responses] == cluster.texts[:2]
