"""Find the metrics of the measured servers, and check that they belong to these servers.

Triton does not report its metrics port over gRPC. The port after the gRPC port is tried first, then port 8002. Another
server may listen there, so an address is used only while its count of the model's successful requests equals the
server's gRPC statistics. The check runs before the first load and after each load, when the count has risen by the
load's requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.client import HTTPException

from nemo_triton.errors import RecognizerError
from nemo_triton.loadtest.server_metrics import Monitor, candidate_metrics_urls, read_successes
from nemo_triton.loadtest.servers import Servers


@dataclass(kw_only=True)
class ServerMonitor(Monitor):
    """A monitor of discovered metrics.

    Attributes:
        endpoint: Address as host:port of the server that the metrics belong to.
        proved: Whether the counts agreed at a time when they were not zero, as they are on every fresh server.
        rejected: Whether the counts disagreed: these are metrics of another server.
    """

    endpoint: str
    proved: bool = False
    rejected: bool = False

    async def confirm(self, servers: Servers) -> bool:
        await self.check(servers)
        return self.proved and not self.rejected

    async def check(self, servers: Servers) -> bool:
        """Compare the request count of the metrics with the server's statistics; False if they can't be read."""
        models = servers.recognizer.model.request_names
        try:
            # Other clients' requests may arrive between the two reads of the statistics.
            lowest = await servers.successes(self.endpoint)
            count = await asyncio.to_thread(read_successes, self.url, models)
            highest = await servers.successes(self.endpoint)
        except (RecognizerError, OSError, HTTPException, ValueError):
            return False
        if count is None or not lowest <= count <= highest:
            self.rejected = True
        elif count:
            self.proved = True
        return True


@dataclass
class MetricsFinder:
    """A finder of each server's metrics. It drops metrics that turn out to belong to another server.

    Attributes:
        servers: The measured servers.
        monitors: The monitor of each server, by host:port; None if its metrics were not found.
    """

    servers: Servers
    monitors: dict[str, ServerMonitor | None] = field(default_factory=dict)

    async def find(self) -> list[str]:
        """Look for the metrics of servers that are new.

        Returns:
            The new servers without metrics.
        """
        names = [name for name in self.servers.names if name not in self.monitors]
        monitors = await asyncio.gather(*map(self._find, names))
        self.monitors.update(zip(names, monitors, strict=True))
        return [name for name, monitor in zip(names, monitors, strict=True) if monitor is None]

    def drop_foreign(self) -> list[str]:
        """Drop the metrics that were not confirmed after a load.

        Returns:
            The servers that lost their metrics.
        """
        foreign = [monitor.endpoint for monitor in self.current() if monitor.rejected or not monitor.proved]
        self.monitors.update(dict.fromkeys(foreign))
        return foreign

    def current(self) -> list[ServerMonitor]:
        """The monitors of the current servers."""
        return [monitor for name in self.servers.names if (monitor := self.monitors.get(name))]

    async def _find(self, name: str) -> ServerMonitor | None:
        candidates = [ServerMonitor(url=url, endpoint=name) for url in candidate_metrics_urls(name)]
        readable = await asyncio.gather(*(candidate.check(self.servers) for candidate in candidates))
        accepted = [
            candidate
            for candidate, was_read in zip(candidates, readable, strict=True)
            if was_read and not candidate.rejected
        ]
        return next(iter(accepted), None)


def missing_metrics(names: Sequence[str]) -> str:
    """One line for servers whose metrics were not found."""
    tried = ", ".join(dict.fromkeys(url for name in names for url in candidate_metrics_urls(name)))
    return (
        f"no metrics of {', '.join(names)} at {tried}; CPU, GPU and memory are not measured, give "
        "--metrics-url http://HOST:PORT/metrics"
    )
