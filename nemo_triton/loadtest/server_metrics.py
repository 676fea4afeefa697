"""CPU, GPU and memory of the server's machine during a load, from Triton's metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from nemo_triton.addresses import split_url
from nemo_triton.errors import one_line
from nemo_triton.loadtest.servers import Servers
from nemo_triton.proxies import open_url

DEFAULT_METRICS_PORT = 8002

_INTERVAL_SECONDS = 1.0
_ANSWER_SECONDS = 5.0
_CPU, _MEMORY = "nv_cpu_utilization", "nv_cpu_memory_used_bytes"
_GPU, _GPU_MEMORY, _GPU_POWER = "nv_gpu_utilization", "nv_gpu_memory_used_bytes", "nv_gpu_power_usage"
_SUCCESSES = "nv_inference_request_success_total"
"""Triton's counter nv_inference_request_success; the parser adds OpenMetrics' suffix to names of counters."""
_MAX_BYTES = 2**24
"""More bytes than Triton's metrics have. Another service at that port may send data without end."""


@dataclass(frozen=True, kw_only=True)
class Level:
    """Mean and highest value of one gauge during a load."""

    mean: float
    highest: float


@dataclass(frozen=True, kw_only=True)
class GpuUsage:
    """One GPU during a load; values that Triton does not report are None.

    Attributes:
        uuid: The GPU's UUID.
        busy: Utilization, 0 to 1.
        memory_bytes: Memory in use.
        watts: Power.
    """

    uuid: str
    busy: Level | None
    memory_bytes: Level | None
    watts: Level | None


@dataclass(frozen=True, kw_only=True)
class Usage:
    """The server's whole machine during a load, other programs included; values not reported are None.

    Attributes:
        samples: Number of samples of the metrics.
        cpu: Utilization of all cores together, 0 to 1.
        memory_bytes: Memory in use.
        gpus: One entry per GPU.
    """

    samples: int
    cpu: Level | None
    memory_bytes: Level | None
    gpus: tuple[GpuUsage, ...]


@dataclass
class Monitor:
    """A monitor that samples the metrics of one server once per second.

    Attributes:
        url: URL of the metrics.
        problem: One line that says why there are no samples; None if there are some.
    """

    url: str
    problem: str | None = None
    _samples: list[dict[tuple[str, str], float]] = field(default_factory=list)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Collect samples until the block ends; earlier samples are dropped."""
        self._samples.clear()
        sampling = asyncio.ensure_future(self._keep_sampling())
        try:
            yield
        finally:
            sampling.cancel()
            with suppress(asyncio.CancelledError):
                await sampling

    async def _keep_sampling(self) -> None:
        while True:
            try:
                sample = await asyncio.to_thread(_read, self.url)
                # Triton's gauges are zero until it first measures its machine.
                if sample.get((_MEMORY, ""), 1.0):
                    self._samples.append(sample)
                    self.problem = None
            except (OSError, ValueError) as error:
                self._miss(one_line(error))
            except HTTPException:
                # The exception's text is the response itself: binary data if this is a gRPC port.
                self._miss("not HTTP; Triton's metrics port is 8002 by default")
            await asyncio.sleep(_INTERVAL_SECONDS)

    def _miss(self, reason: str) -> None:
        # A late response, as on a busy machine, is no reason to give up.
        if not self._samples:
            self.problem = f"no metrics at {self.url} ({reason}); check --metrics-url"

    async def confirm(self, servers: Servers) -> bool:
        """Whether these are metrics of the measured server; an address that the user gave is trusted."""
        return True

    def usage(self) -> Usage | None:
        """Summarize the samples; None if there are none."""
        if not self._samples:
            return None
        uuids = sorted({uuid for sample in self._samples for _, uuid in sample if uuid})
        return Usage(
            samples=len(self._samples),
            cpu=self._level(_CPU),
            memory_bytes=self._level(_MEMORY),
            gpus=tuple(map(self._gpu_usage, uuids)),
        )

    def _gpu_usage(self, uuid: str) -> GpuUsage:
        return GpuUsage(
            uuid=uuid,
            busy=self._level(_GPU, uuid),
            memory_bytes=self._level(_GPU_MEMORY, uuid),
            watts=self._level(_GPU_POWER, uuid),
        )

    def _level(self, metric: str, gpu: str = "") -> Level | None:
        values: Sequence[float] = [sample[metric, gpu] for sample in self._samples if (metric, gpu) in sample]
        return Level(mean=sum(values) / len(values), highest=max(values)) if values else None


def candidate_metrics_urls(url: str) -> list[str]:
    """URLs where the metrics of a server may be, the likeliest first.

    Triton's ports are consecutive by convention: HTTP, gRPC, metrics.

    Args:
        url: Address of the server's gRPC endpoint as host:port.
    """
    _, port = split_url(url)
    return [_metrics_url(url, number) for number in dict.fromkeys([port + 1, DEFAULT_METRICS_PORT]) if number < 2**16]


def read_successes(url: str, models: Sequence[str]) -> int | None:
    """Read how many requests of models have succeeded, by the metrics at `url`.

    Returns:
        The count, summed over models and versions; None if these metrics list none of them.

    Raises:
        OSError: Nothing answers at the URL.
        HTTPException: The response is not HTTP.
        ValueError: The response is not Prometheus text.
    """
    counts = [
        sample.value for sample in _samples(url) if sample.name == _SUCCESSES and sample.labels["model"] in models
    ]
    return round(sum(counts)) if counts else None


def _metrics_url(url: str, port: int) -> str:
    # Triton has no TLS for metrics.
    return f"http://{url.rpartition(':')[0]}:{port}/metrics"


def _read(url: str) -> dict[tuple[str, str], float]:
    """The gauges of the machine, by name and GPU (empty for the CPU)."""
    wanted = {_CPU, _MEMORY, _GPU, _GPU_MEMORY, _GPU_POWER}
    return {
        (sample.name, sample.labels.get("gpu_uuid", "")): sample.value
        for sample in _samples(url)
        if sample.name in wanted
    }


def _samples(url: str) -> list[Sample]:
    with open_url(url, timeout=_ANSWER_SECONDS) as answer:
        content = answer.read(_MAX_BYTES).decode()
    return [sample for family in text_string_to_metric_families(content) for sample in family.samples]
