"""How long a server takes to answer, learnt from its answers."""

from __future__ import annotations

from dataclasses import dataclass, field

_MEAN_WEIGHT, _DEVIATION_WEIGHT = 1 / 8, 1 / 4
_DEVIATIONS = 4
"""As in TCP. With two, more accepted requests were late in two of two rounds of the overload study."""


@dataclass
class LatencyEstimate:
    """Smoothed mean and mean deviation of the latency.

    Not safe for threads: the caller holds a lock.

    Source: TCP's estimate of the round-trip time and its timeout, RFC 6298, with its constants. TCP begins with a large
    deviation, because it may send again later. Here a request that is given up too early is lost.
    """

    _mean: float | None = field(default=None, init=False)
    _deviation: float = field(default=0.0, init=False)

    def note(self, seconds: float) -> None:
        """Note the latency of an answer."""
        if self._mean is None:
            self._mean = seconds
            return
        self._deviation += _DEVIATION_WEIGHT * (abs(seconds - self._mean) - self._deviation)
        self._mean += _MEAN_WEIGHT * (seconds - self._mean)

    @property
    def high(self) -> float:
        """Seconds that few answers exceed; 0 before the first answer."""
        return 0.0 if self._mean is None else self._mean + _DEVIATIONS * self._deviation
