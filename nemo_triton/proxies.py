"""HTTP proxies between client and server, which gRPC and urllib take from environment variables."""

from __future__ import annotations

import os
import socket
import urllib.request
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from nemo_triton.addresses import is_loopback

_GRPC_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
"""Variables in gRPC's order; it uses the first that is set, with and without TLS."""
_DEFAULT_PORT = 443


def proxy_problem(reason: str, host: str) -> str | None:
    """Return why a proxy prevents a connection and what to do; None if the failure has nothing to do with a proxy.

    Args:
        reason: gRPC's message about the failed connection, which names the address that it connected to.
        host: Host of the server.
    """
    variable = next((name for name in _GRPC_VARIABLES if os.environ.get(name)), None)
    if variable is None:
        return None
    proxy_host, port = _split_proxy(os.environ[variable])
    ips = set()
    with suppress(OSError):
        ips = {str(address[0]) for *_, address in socket.getaddrinfo(proxy_host, port, type=socket.SOCK_STREAM)}
    addresses = {f"{proxy_host}:{port}", *(f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}" for ip in ips)}
    if not any(f"{address}:" in reason for address in addresses):
        return None
    return (
        f"the proxy {proxy_host}:{port} in the variable {variable} does not connect to it "
        f"({reason.rpartition(': ')[2]}); add {host} to no_proxy, or see the proxy's log"
    )


def open_url(url: str, timeout: float) -> Any:
    """Open a URL like urllib's urlopen, but never send a request to this machine through a proxy.

    Args:
        url: The URL.
        timeout: Seconds to wait for each answer.

    Raises:
        OSError: Nothing answers. The message names the proxy if there is one.
    """
    host = urlsplit(url).hostname or ""
    proxy = urllib.request.getproxies().get(urlsplit(url).scheme)
    if is_loopback(host) or not proxy or urllib.request.proxy_bypass(host):
        return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=timeout)
    try:
        return urllib.request.urlopen(url, timeout=timeout)
    except OSError as error:
        proxy_host, port = _split_proxy(proxy)
        raise OSError(
            f"{error}, through the proxy {proxy_host}:{port} of {urlsplit(url).scheme}_proxy; add {host} to no_proxy"
        ) from error


def _split_proxy(url: str) -> tuple[str, int]:
    """Host and port of a proxy's URL, without its password."""
    parts = urlsplit(url if "//" in url else f"//{url}")
    try:
        port = parts.port
    except ValueError:
        port = None
    return parts.hostname or "", port or _DEFAULT_PORT
