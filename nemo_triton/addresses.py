"""Where servers listen: host:port as people write it, and the addresses that a host name has."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address

from nemo_triton.errors import RecognizerError

DEFAULT_URL = "localhost:8001"

_LOCALHOST = ("127.0.0.1", "::1")


@dataclass(frozen=True)
class Address:
    """Where one server listens.

    url: host:port as the user gave it
    host_port: host:port that gRPC connects to; another than `url` where that host has several addresses
    """

    url: str
    host_port: str

    @property
    def host(self) -> str:
        """The name that the server's certificate must have."""
        return split_url(self.url)[0]


def parse_urls(url: str | Sequence[str]) -> tuple[str, ...]:
    """Check the addresses of one or several servers.

    Args:
        url: host:port, several separated by commas, or a sequence of them.

    Returns:
        Each host:port.

    Raises:
        RecognizerError: One is not host:port, one server is given twice, or there is none.
    """
    urls = tuple(part.strip() for part in (url.split(",") if isinstance(url, str) else url))
    for part in urls:
        if "://" in part:
            raise RecognizerError(f"{part}: is not host:port; leave out what comes before //, e.g. {DEFAULT_URL}")
        host, port = part.rpartition(":")[::2]
        if not _is_host(host) or not _is_port(port):
            raise RecognizerError(f"{part or 'an empty URL'}: is not host:port; write it as in {DEFAULT_URL}")
    if not urls:
        raise RecognizerError(f"no server is named; give host:port, e.g. {DEFAULT_URL}")
    for number, part in enumerate(urls):
        earlier = next((url for url in urls[:number] if _canonical(url) == _canonical(part)), None)
        if earlier:
            problem = "is given twice" if earlier == part else f"is the same server as {earlier}"
            raise RecognizerError(f"{part}: {problem}; name each server once")
    return urls


def split_url(url: str) -> tuple[str, int]:
    """Host and port of host:port; an IPv6 address without its brackets."""
    host, _, port = url.rpartition(":")
    return host.strip("[]"), int(port)


def resolve(urls: Sequence[str]) -> list[Address]:
    """Look up the addresses of the servers at `urls`.

    A host with addresses of both families, IPv4 and IPv6, has each of its servers in both: one family is taken.

    Returns:
        One address per server: the URL itself where its host has one address, none for a host that is not found.
    """
    addresses: dict[str, Address] = {}
    for url in urls:
        host, port = split_url(url)
        families: dict[int, list[str]] = {}
        with suppress(OSError):
            for family, *_, where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                families.setdefault(family, []).append(str(where[0]))
        if not families:
            continue
        ips = max(families.values(), key=len)
        several = [f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}" for ip in sorted(set(ips))]
        # gRPC itself finds the one of its addresses that answers, and the one that it moves to.
        for host_port in several if len(several) > 1 else [url]:
            addresses.setdefault(host_port, Address(url=url, host_port=host_port))
    return list(addresses.values())


def has_fixed_address(url: str) -> bool:
    """Whether the host of `url` can never get another address."""
    host = split_url(url)[0]
    if host == "localhost":
        return True
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _is_host(text: str) -> bool:
    try:
        text.encode("idna")
    except UnicodeError:
        return False
    return bool(text) and (":" not in text or text.startswith("["))


def _is_port(text: str) -> bool:
    return text.isdecimal() and 0 < int(text) < 2**16


def _canonical(url: str) -> tuple[str, int]:
    """The same for all ways to write an address. Names are not looked up: a proxy may tell apart two that share one."""
    host, port = split_url(url.lower())
    with suppress(ValueError):
        host = str(ip_address(host))
    return "localhost" if host in _LOCALHOST else host, port
