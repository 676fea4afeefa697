"""Words for loads, dates, machines and lists."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

Json = dict[str, Any]


def amount(load: Json) -> float:
    """The rate of an open loop, the concurrency of a closed one."""
    (value,) = load["load"].values()
    return float(value)


def load_text(load: Json) -> str:
    """The load as `16 concurrent requests` or `39.9 requests per second`."""
    unit = "concurrent requests" if "concurrency" in load["load"] else "requests per second"
    return f"{amount(load):g} {unit}"


def knee_text(run: Json) -> str | None:
    """The knee as `39.9 per second` or `below 38.3 per second`; None if there is none."""
    if not run["knee"]:
        return None
    measured = next((load for load in run["open"] if load["name"] == run["knee"]), None)
    if measured is not None:
        return f"{amount(measured):g} per second"
    side, _, rate = run["knee"].partition(" ")
    return f"{side} {rate.split(' ')[0]} per second"


def days(moments: Iterable[str]) -> str:
    """The day of ISO moments, or the first and the last one."""
    dates = sorted({datetime.fromisoformat(moment).date() for moment in moments})
    texts = [f"{date.day} {date:%B %Y}" for date in (dates[0], dates[-1])]
    return texts[0] if texts[0] == texts[1] else " to ".join(texts)


def machine(values: Json) -> str:
    """Cores, processor, memory and operating system."""
    memory = f"{values['memory_bytes'] / 2**30:.0f} GiB"
    system = re.sub(r"^(\w+)-(\d+\.\d+).*", r"\1 \2", values["system"])
    return f"{values['cores']} cores of {values['processor']}, {memory} of memory, {system}"


def versions(values: Json) -> str:
    """Packages and their versions."""
    return ", ".join(f"{name} {version}" for name, version in values.items())


def listing(names: Sequence[str]) -> str:
    """The names as `a, b and c`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
