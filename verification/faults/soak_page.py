"""The results of a soak test, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from benchmark.core.tables import NONE, markdown_rows, number
from nemo_triton.contract import SAMPLE_RATE
from verification.faults.clips import SHORTEST_SECONDS
from verification.faults.injection import Fault, Injected
from verification.faults.soak_judge import (
    SETTLE_SECONDS,
    STEADY,
    Memory,
    Soak,
    bounds,
    quiet_p95s,
)
from verification.faults.soak_run import Settings

TITLE = "# Soak test"
COMMAND = """In the checkout, after `make install`:

```sh
make soak
```"""
_MAX_LINES = 20
"""Wrong texts and failed requests that are listed."""


def markdown(settings: Settings, soak: Soak) -> str:
    """The page: bounds, latency, memory and faults."""
    retried = sum(request.attempts > 1 for request in soak.requests)
    broken = [bound for bound in bounds(soak) if not bound.holds]
    longest = max(len(samples) for samples in settings.clips) / SAMPLE_RATE
    return "\n".join(
        [
            TITLE,
            "",
            COMMAND,
            "",
            f"{settings.seconds / 60:g} minutes of full load on {settings.servers} servers, with {len(soak.faults)} "
            f"faults: **{len(broken)} of {len(bounds(soak))} bounds broken.** {len(soak.requests):,} requests to "
            f"{' and '.join(settings.models)}, {settings.concurrency} concurrent per recognizer, {retried} of them "
            f"retried. Audio: no samples, silence, and speech of {SHORTEST_SECONDS:g} to {longest:.0f} s. Each text is "
            "compared with that of the same audio sent unbatched.",
            "",
            "## Bounds",
            "",
            *markdown_rows(
                ["what", "measured", "limit", "holds"],
                [[bound.name, bound.measured, bound.limit, "yes" if bound.holds else "no"] for bound in bounds(soak)],
            ),
            "",
            f"Memory: server {STEADY}, whose processes live from begin to end; the median of the last quarter of its "
            "measurements compared with that of the second. Latency: requests in quiet times, without a fault, its "
            f"recovery or the {SETTLE_SECONDS:g} s after it.",
            "",
            *_wrong(soak),
            "## Latency and memory",
            "",
            *markdown_rows(
                ["quarter", "p95 in quiet times s", *(f"server {index} MiB" for index in range(settings.servers))],
                [
                    [str(quarter + 1), number(p95, 2), *_memory(soak, settings.servers, quarter)]
                    for quarter, p95 in enumerate(quiet_p95s(soak))
                ],
            ),
            "",
            f"MiB: median (highest) of all processes of a server. Faults end all servers except server {STEADY}.",
            "",
            "## Faults by kind",
            "",
            *markdown_rows(
                ["fault", "count", "recovery s, median", "highest"],
                [_kind_row(fault, soak.faults) for fault in Fault],
            ),
            "",
            "Recovery: from the fault to the first response to a request that was sent after it. It includes the "
            "time for which a server is stopped.",
            "",
            "## All faults",
            "",
            *markdown_rows(
                ["at s", "server", "fault", "exit code", "recovery s"],
                [_fault_row(fault, soak.began) for fault in soak.faults],
            ),
            "",
        ]
    )


def _wrong(soak: Soak) -> list[str]:
    lines = [
        f"- {request.model}, audio {request.clip}, {request.sent - soak.began:.0f} s: "
        + (f"text {request.wrong!r}" if request.error is None else request.error)
        for request in soak.requests
        if request.wrong is not None or request.error is not None
    ]
    return ["Wrong texts and failed requests:", "", *lines[:_MAX_LINES], ""] if lines else []


def _memory(soak: Soak, servers: int, quarter: int) -> list[str]:
    length = (soak.ended - soak.began) / 4
    begin = soak.began + quarter * length
    return [
        _median_and_highest([sample for sample in soak.memory if begin <= sample.at < begin + length], index)
        for index in range(servers)
    ]


def _median_and_highest(samples: Sequence[Memory], server: int) -> str:
    sizes = [sample.bytes / 2**20 for sample in samples if sample.server == server]
    return f"{median(sizes):,.0f} ({max(sizes):,.0f})" if sizes else NONE


def _kind_row(kind: Fault, faults: Sequence[Injected]) -> list[str]:
    of_kind = [fault for fault in faults if fault.fault is kind]
    times = [fault.recovery_seconds for fault in of_kind if fault.recovery_seconds is not None]
    if not times:
        return [kind.value, str(len(of_kind)), NONE, NONE]
    return [kind.value, str(len(of_kind)), number(median(times), 1), number(max(times), 1)]


def _fault_row(fault: Injected, began: float) -> list[str]:
    return [
        number(fault.at - began),
        str(fault.server),
        fault.fault.value,
        number(fault.code),
        number(fault.recovery_seconds, 1),
    ]
