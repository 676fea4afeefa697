"""bench.py finds a server's metrics, and never takes the metrics of another server."""

from __future__ import annotations

import json
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until

from nemo_triton.contract import Part
from nemo_triton.loadtest.server_metrics import candidate_metrics_urls
from server.process import running_server


def next_port(url: str) -> int:
    return int(url.rpartition(":")[2]) + 1


@contextmanager
def metrics_at(port: int, content: Callable[[], bytes]) -> Iterator[None]:
    """Serve metrics at a port that no server of these tests has."""

    class Metrics(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content())

        def log_message(self, *arguments: object) -> None:
            pass

    try:
        server = HTTPServer(("127.0.0.1", port), Metrics)
    except OSError:
        pytest.skip(f"port {port} is in use")
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


def read(url: str) -> bytes:
    with urllib.request.urlopen(url) as answer:
        content: bytes = answer.read()
    return content


def has_measured_its_machine(metrics: str) -> bool:
    """Whether Triton's gauges have values; for some seconds after the start they are zero."""
    content = read(metrics).decode()
    return "\nnv_cpu_memory_used_bytes " in content and "\nnv_cpu_memory_used_bytes 0" not in content


def two_free_ports() -> tuple[int, int]:
    """Two consecutive ports that nothing listens on."""
    while True:
        with suppress(OSError), socket.create_server(("127.0.0.1", 0)) as first:
            port = first.getsockname()[1]
            with socket.create_server(("127.0.0.1", port + 1)):
                return port, port + 1


def bench(run_command: Any, *arguments: object) -> tuple[Any, str]:
    done = run_command("bench", "--duration", 0.8, "--json", "-", *arguments)
    assert done.returncode == 0
    # The tables follow the warnings, since the JSON goes to stdout.
    return json.loads(done.stdout), "\n".join(line for line in done.stderr.splitlines() if line.startswith("warning: "))


@pytest.mark.fast
@pytest.mark.parametrize(
    ("url", "ports"),
    [("one:8001", [8002]), ("one:9001", [9002, 8002]), ("[::1]:65535", [8002]), ("a:8000", [8001, 8002])],
)
def test_the_port_after_grpc_is_tried_first(url: str, ports: list[int]) -> None:
    host = url.rpartition(":")[0]
    assert candidate_metrics_urls(url) == [f"http://{host}:{port}/metrics" for port in ports]


def test_metrics_at_the_port_after_grpc_are_found(repository: Path, triton: Any, run_command: Any) -> None:
    grpc, metrics = two_free_ports()
    loads = [f"--load-model={name}" for name in (triton.model, Part.FLOAT.of(triton.model))]
    flags = ["--model-control-mode=explicit", *loads, f"--metrics-port={metrics}"]
    with running_server(repository, flags, grpc=f"127.0.0.1:{grpc}") as server:
        wait_until(lambda: has_measured_its_machine(f"http://127.0.0.1:{metrics}/metrics"))
        figures, warnings = bench(run_command, "--url", server.grpc)
        (load,) = figures["loads"]
        assert list(load["usages"]) == [f"http://127.0.0.1:{metrics}/metrics"] and load["usage"]["cpu"] is not None
        assert (warnings, figures["metrics_problem"]) == ("", None)
        # The metrics of one of two servers are missing.
        figures, warnings = bench(run_command, "--url", f"{server.grpc},{triton.url}")
        assert list(figures["loads"][0]["usages"]) == [f"http://127.0.0.1:{metrics}/metrics"]
        assert warnings.startswith(f"warning: no metrics of {triton.url} at ") and warnings.count("\n") == 0
        # These are real metrics of the same model, but of another server.
        with metrics_at(next_port(triton.url), lambda: read(f"http://127.0.0.1:{metrics}/metrics")):
            figures, warnings = bench(run_command, "--url", triton.url)
    assert figures["loads"][0]["usages"] == {}
    assert warnings.startswith(
        f"warning: no metrics of {triton.url} at http://127.0.0.1:{next_port(triton.url)}/metrics"
    )
    assert "--metrics-url http://HOST:PORT/metrics" in warnings and warnings.count("\n") == 0
    assert f"warning: {figures['metrics_problem']}" == warnings


def test_metrics_that_do_not_count_the_load_are_dropped(triton: Any, run_command: Any) -> None:
    """They can be metrics of another server that happened to have the same count before the load."""
    first_counts: list[bytes] = []

    def frozen() -> bytes:
        first_counts.append(first_counts[0] if first_counts else read(triton.metrics))
        return first_counts[0]

    with metrics_at(next_port(triton.url), frozen):
        figures, warnings = bench(run_command, "--url", triton.url, "--concurrency", "2,3")
    assert len(first_counts) > 1
    assert [load["usages"] for load in figures["loads"]] == [{}, {}]
    assert warnings.startswith(f"warning: no metrics of {triton.url} at ") and warnings.count("\n") == 0


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a 1\n"])
def test_other_services_are_not_taken_for_metrics(triton: Any, run_command: Any, content: bytes) -> None:
    with metrics_at(next_port(triton.url), lambda: content):
        done = run_command("bench", "--url", triton.url, "--requests", 2, "--warmup", 0)
    assert done.returncode == 0
    assert done.stderr.startswith("warning: no metrics of ") and done.stderr.count("\n") == 1
