"""Addresses of servers: parsing host:port, looking up host names, detecting a wrong port."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from ipaddress import ip_address

from nemo_triton.errors import RecognizerError

DEFAULT_URL = "localhost:8001"

_HTTP_SECONDS = 1.0
_LOCALHOST = ("127.0.0.1", "::1")


@dataclass(frozen=True)
class Address:
    """The address of one server.

    Attributes:
        url: Address as host:port, as the user wrote it.
        host_port: Address as host:port that gRPC connects to. It differs from `url` if that host has several IP
            addresses.
    """

    url: str
    host_port: str

    @property
    def host(self) -> str:
        """The host name that the server's certificate must contain."""
        return split_url(self.url)[0]


def parse_urls(url: str | Sequence[str]) -> tuple[str, ...]:
    """Split and check the addresses of one or several servers.

    Args:
        url: Address as host:port, several separated by commas, or a sequence of addresses.

    Returns:
        Each host:port.

    Raises:
        RecognizerError: An address is not host:port, a server is given twice, or there is no address.
    """
    urls = tuple(part.strip() for part in (url.split(",") if isinstance(url, str) else url))
    for part in urls:
        if "://" in part:
            raise RecognizerError(f"{part}: is not host:port; remove the part up to //, e.g. {DEFAULT_URL}")
        host, port = part.rpartition(":")[::2]
        if not _is_host(host) or not _is_port(port):
            raise RecognizerError(f"{part or 'an empty URL'}: is not host:port; write it as in {DEFAULT_URL}")
    if not urls:
        raise RecognizerError(f"no server given; give host:port, e.g. {DEFAULT_URL}")
    for number, part in enumerate(urls):
        earlier = next((url for url in urls[:number] if _canonical(url) == _canonical(part)), None)
        if earlier:
            problem = "is given twice" if earlier == part else f"is the same server as {earlier}"
            raise RecognizerError(f"{part}: {problem}; give each server once")
    return urls


def split_url(url: str) -> tuple[str, int]:
    """Split host:port; the brackets of an IPv6 address are removed."""
    host, _, port = url.rpartition(":")
    return host.strip("[]"), int(port)


def resolve(urls: Sequence[str]) -> list[Address]:
    """Look up the servers behind `urls`.

    A host name with several IP addresses counts as one server per IP address. If the name has both IPv4 and IPv6
    addresses, each server has one of each, so only one family is used.

    Returns:
        One address per server. A host with a single IP address keeps its URL; a host that is not found has none.
    """
    addresses: dict[str, Address] = {}
    for url in urls:
        host, port = split_url(url)
        families: dict[int, list[str]] = {}
        with suppress(OSError):
            for family, *_, socket_address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                families.setdefault(family, []).append(str(socket_address[0]))
        if not families:
            continue
        ips = max(families.values(), key=len)
        host_ports = [f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}" for ip in sorted(set(ips))]
        # For a single server keep the name: gRPC then follows it to another IP address.
        for host_port in host_ports if len(host_ports) > 1 else [url]:
            addresses.setdefault(host_port, Address(url=url, host_port=host_port))
    return list(addresses.values())


def is_loopback(host: str) -> bool:
    """Whether `host` is localhost or a loopback address, so that the server runs on this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_http_port(host: str, port: int) -> bool:
    """Whether Triton's HTTP or metrics endpoint listens at host:port."""
    return any(_http_status(host, port, path) == HTTPStatus.OK for path in ("/v2/health/live", "/metrics"))


def _http_status(host: str, port: int, path: str) -> int | None:
    connection = HTTPConnection(host, port, timeout=_HTTP_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


def _is_host(text: str) -> bool:
    try:
        text.encode("idna")
    except UnicodeError:
        return False
    return bool(text) and (":" not in text or text.startswith("["))


def _is_port(text: str) -> bool:
    return text.isdecimal() and 0 < int(text) < 2**16


def _canonical(url: str) -> tuple[str, int]:
    """Host and port in one spelling.

    Names are not looked up: a proxy can route two names at the same IP address to different servers.
    """
    host, port = split_url(url.lower())
    with suppress(ValueError):
        host = str(ip_address(host))
    return "localhost" if host in _LOCALHOST else host, port
