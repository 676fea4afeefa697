"""Addresses of servers: parsing, and looking up host names."""

from __future__ import annotations

import re
import socket
from typing import Any

import pytest

from nemo_triton.addresses import parse_urls, resolve
from nemo_triton.errors import RecognizerError

pytestmark = pytest.mark.fast


def test_ipv4_and_ipv6_addresses_of_a_host_are_the_same_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = {
        "dual": ["::1", "127.0.0.1"],
        "pods": ["fd00::1", "fd00::2", "10.0.0.1", "10.0.0.2"],
        "plain": ["10.0.0.2", "10.0.0.1", "10.0.0.1"],
    }

    def answer(host: str, port: int, **more: Any) -> Any:
        if host not in hosts:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET6 if ":" in each else socket.AF_INET, 1, 6, "", (each, port)) for each in hosts[host]]

    monkeypatch.setattr("socket.getaddrinfo", answer)

    def resolved(*urls: str) -> list[str]:
        return [address.host_port for address in resolve(urls)]

    assert resolved("dual:1") == ["dual:1"]
    assert resolved("pods:1") == ["[fd00::1]:1", "[fd00::2]:1"]
    assert resolved("plain:1", "dual:2", "gone:3") == ["10.0.0.1:1", "10.0.0.2:1", "dual:2"]


@pytest.mark.parametrize("url", ["", "localhost", "localhost:", "localhost:x", "a:1,", "a:1,a:1", "::1:8001", [], ":1"])
def test_anything_but_host_and_port_is_refused(url: Any) -> None:
    with pytest.raises(RecognizerError, match=r"host:port|given twice"):
        parse_urls(url)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("localhost:8001", "127.0.0.1:8001"),
        ("[::1]:8001", "localhost:8001"),
        ("[fd00::1]:1", "[FD00:0::1]:1"),
        ("Triton:1", "triton:01"),
    ],
)
def test_two_spellings_of_one_server_are_refused(first: str, second: str) -> None:
    with pytest.raises(RecognizerError, match=re.escape(f"{second}: is the same server as {first}; give each")):
        parse_urls([first, "else:1", second])


def test_several_servers() -> None:
    assert parse_urls("localhost:1,localhost:2,127.0.0.2:1") == ("localhost:1", "localhost:2", "127.0.0.2:1")
    assert parse_urls("a:1, b:2") == parse_urls(["a:1", "b:2"]) == ("a:1", "b:2")
    assert parse_urls("[::1]:8001") == ("[::1]:8001",)
