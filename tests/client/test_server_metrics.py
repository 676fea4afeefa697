"""CPU, GPU and memory from the metrics of a real server, and from recorded metrics of a server with GPUs."""

from __future__ import annotations

import os
import re
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from waiting import wait_until_async

from nemo_triton.loadtest.server_metrics import GpuUsage, Level, Monitor

METRICS_OF_GPUS = b"""\
# TYPE nv_gpu_utilization gauge
nv_gpu_utilization{gpu_uuid="GPU-b"} 0.25
nv_gpu_utilization{gpu_uuid="GPU-a"} 0.5
# TYPE nv_gpu_memory_used_bytes gauge
nv_gpu_memory_used_bytes{gpu_uuid="GPU-a"} 1000000000
# TYPE nv_gpu_power_usage gauge
nv_gpu_power_usage{gpu_uuid="GPU-a"} 70
# TYPE nv_cpu_utilization gauge
nv_cpu_utilization 0.125
# TYPE nv_cpu_memory_used_bytes gauge
nv_cpu_memory_used_bytes 4000000000
# TYPE nv_inference_count counter
nv_inference_count{model="coffee_ctc"} 7
"""


@pytest.fixture
def metrics_of_gpus() -> Iterator[str]:
    """The URL of metrics as Triton serves them on a machine with two GPUs."""

    class Metrics(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(METRICS_OF_GPUS)

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Metrics) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/metrics"
        server.shutdown()


async def watch(monitor: Monitor, samples: int) -> None:
    async with monitor.watching():
        await wait_until_async(lambda: (usage := monitor.usage()) is not None and usage.samples >= samples)


async def problem_of(url: str) -> str:
    """The problem of metrics that can't be read."""
    monitor = Monitor(url)
    async with monitor.watching():
        await wait_until_async(lambda: monitor.problem is not None)
    assert monitor.usage() is None
    return str(monitor.problem)


async def test_the_machine_is_watched(triton: Any) -> None:
    monitor = Monitor(triton.metrics)
    await watch(monitor, samples=2)
    usage = monitor.usage()
    assert monitor.problem is None and usage is not None
    assert usage.samples >= 2
    assert usage.cpu is not None and 0 <= usage.cpu.mean <= usage.cpu.highest <= 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert usage.memory_bytes is not None and 2**28 < usage.memory_bytes.highest < memory
    with urllib.request.urlopen(triton.metrics) as answer:
        uuids = set(re.findall(r'gpu_uuid="([^"]+)"', answer.read().decode()))
    assert [gpu.uuid for gpu in usage.gpus] == sorted(uuids), "none on a machine without a GPU"


async def test_gpus_are_watched(metrics_of_gpus: str) -> None:
    monitor = Monitor(metrics_of_gpus)
    await watch(monitor, samples=1)
    usage = monitor.usage()
    assert usage is not None and usage.cpu == Level(mean=0.125, highest=0.125)
    assert usage.gpus == (
        GpuUsage(
            uuid="GPU-a",
            busy=Level(mean=0.5, highest=0.5),
            memory_bytes=Level(mean=1e9, highest=1e9),
            watts=Level(mean=70, highest=70),
        ),
        GpuUsage(uuid="GPU-b", busy=Level(mean=0.25, highest=0.25), memory_bytes=None, watts=None),
    )


async def test_absent_metrics_are_named(absent_url: str) -> None:
    problem = await problem_of(f"http://{absent_url}/metrics")
    assert absent_url in problem and "--metrics-url" in problem


async def test_a_port_with_another_protocol_is_named(triton: Any) -> None:
    problem = await problem_of(f"http://{triton.url}/metrics")
    assert triton.url in problem
    assert problem.isprintable() and "not HTTP" in problem
