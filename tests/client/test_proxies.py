"""HTTP proxies in the environment: never between a client and its own machine, and named if they are in the way."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from servers import Triton

from nemo_triton.errors import ServerUnavailableError
from nemo_triton.loadtest.server_metrics import read_successes
from nemo_triton.proxies import open_url
from nemo_triton.recognizer import list_recognizers

VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy", "no_proxy", "no_grpc_proxy")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def refusing_proxy() -> Iterator[str]:
    """A proxy that answers every CONNECT with 403."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            try:
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(4096)
                        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            except OSError:
                pass  # The listener was closed.

        threading.Thread(target=refuse, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("variable", ["grpc_proxy", "https_proxy", "http_proxy"])
def test_requests_to_this_machine_use_no_proxy(
    triton: Triton, monkeypatch: pytest.MonkeyPatch, absent_url: str, variable: str
) -> None:
    monkeypatch.setenv(variable, f"http://{absent_url}")
    port = triton.url.rpartition(":")[2]
    for url in (triton.url, f"localhost:{port}"):
        assert list_recognizers(url) == [triton.model]
    assert read_successes(triton.metrics, [triton.model]) is not None


def test_a_proxy_that_refuses_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, refusing_proxy: str
) -> None:
    monkeypatch.setenv("https_proxy", f"http://user:secret@{refusing_proxy}")
    with pytest.raises(ServerUnavailableError) as caught:
        list_recognizers("triton.example:8001")
    assert str(caught.value) == (
        f"triton.example:8001: the proxy {refusing_proxy} in the variable https_proxy does not connect to it "
        "(HTTP proxy returned response code 403); add triton.example to no_proxy, or see the proxy's log"
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_proxy_that_is_absent_is_named(monkeypatch: pytest.MonkeyPatch, absent_url: str, host: str) -> None:
    proxy = f"{host}:{absent_url.rpartition(':')[2]}"
    monkeypatch.setenv("http_proxy", f"http://{proxy}")
    with pytest.raises(ServerUnavailableError, match=f"the proxy {proxy} in the variable http_proxy does not connect"):
        list_recognizers("triton.example:8001")
    with pytest.raises(OSError, match=f"through the proxy {proxy} of http_proxy; add triton.example to no_proxy"):
        open_url("http://triton.example:8002/metrics", timeout=5)


def test_a_proxy_that_is_not_used_is_not_named(monkeypatch: pytest.MonkeyPatch, absent_url: str) -> None:
    monkeypatch.setenv("http_proxy", f"http://{absent_url}")
    monkeypatch.setenv("no_proxy", "triton.invalid")
    with pytest.raises(ServerUnavailableError) as caught:
        list_recognizers("triton.invalid:8001")
    assert "proxy" not in str(caught.value)
