"""CPU, GPU and memory of the server's machine while a run lasts, from Triton's own metrics."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException

from prometheus_client.parser import text_string_to_metric_families

from nemo_triton.errors import one_line

_INTERVAL_SECONDS = 1.0
_ANSWER_SECONDS = 5.0
_CPU, _MEMORY = "nv_cpu_utilization", "nv_cpu_memory_used_bytes"
_GPU, _GPU_MEMORY, _GPU_POWER = "nv_gpu_utilization", "nv_gpu_memory_used_bytes", "nv_gpu_power_usage"


@dataclass(frozen=True, kw_only=True)
class Level:
    """One quantity over the samples of a run."""

    mean: float
    highest: float


@dataclass(frozen=True, kw_only=True)
class GpuUsage:
    """One GPU: share of time that it was busy (0 to 1), bytes in use, watts; None where Triton does not tell."""

    uuid: str
    busy: Level | None
    memory_bytes: Level | None
    watts: Level | None


@dataclass(frozen=True, kw_only=True)
class Usage:
    """The machine that the server runs on, with all that runs on it, not the server alone.

    `cpu`: share of all its cores (0 to 1); `memory_bytes`: in use on the machine. None where Triton does not tell.
    """

    samples: int
    cpu: Level | None
    memory_bytes: Level | None
    gpus: tuple[GpuUsage, ...]


@dataclass
class Monitor:
    """Asks the metrics endpoint once a second. `problem`: why there are no samples, where there are none."""

    url: str
    problem: str | None = None
    _samples: list[dict[tuple[str, str], float]] = field(default_factory=list)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Collect samples while the block lasts; what was collected before is dropped."""
        self._samples.clear()
        asking = asyncio.ensure_future(self._keep_asking())
        try:
            yield
        finally:
            asking.cancel()
            with suppress(asyncio.CancelledError):
                await asking

    async def _keep_asking(self) -> None:
        while True:
            try:
                sample = await asyncio.to_thread(_read, self.url)
                # Triton's gauges are zero until it has looked at its machine for the first time.
                if sample.get((_MEMORY, ""), 1.0):
                    self._samples.append(sample)
                    self.problem = None
            except (OSError, ValueError) as error:
                self._miss(one_line(error))
            except HTTPException:
                # Its text is what came instead of HTTP: of a gRPC port, bytes for no reader.
                self._miss("what answers there speaks no HTTP; metrics are at port 8002 unless told otherwise")
            await asyncio.sleep(_INTERVAL_SECONDS)

    def _miss(self, reason: str) -> None:
        # One that is late, as on a machine that is busy, is no reason to give up.
        if not self._samples:
            self.problem = f"no metrics at {self.url} ({reason}); see --metrics-url"

    def usage(self) -> Usage | None:
        """Of the samples collected; None without any."""
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


def default_metrics_url(url: str) -> str:
    """Where a server with its gRPC endpoint at `url` (host:port) has its metrics unless told otherwise.

    Triton has no TLS there.
    """
    return f"http://{url.rpartition(':')[0]}:8002/metrics"


def _read(url: str) -> dict[tuple[str, str], float]:
    """The gauges of the machine, by name and GPU (empty for the CPU)."""
    with urllib.request.urlopen(url, timeout=_ANSWER_SECONDS) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    wanted = {_CPU, _MEMORY, _GPU, _GPU_MEMORY, _GPU_POWER}
    return {
        (sample.name, sample.labels.get("gpu_uuid", "")): sample.value
        for family in families
        for sample in family.samples
        if sample.name in wanted
    }
