"""A budget for retries, so that they can't multiply the load when every server fails."""

from __future__ import annotations

from dataclasses import dataclass, field

TOKENS = 100.0
"""Retries in a burst."""
TOKENS_PER_ANSWER = 0.2
"""Retries per answered request in the long run."""


@dataclass
class RetryBudget:
    """Tokens for retries. An answered request adds a part of a token, and a retry takes one.

    Not safe for threads: the caller holds a lock.

    Source: retry budgets of Finagle and Envoy, retry throttling of gRPC (gRFC A6).
    """

    _tokens: float = field(default=TOKENS, init=False)

    def deposit(self) -> None:
        """Add the tokens of one answered request."""
        self._tokens = min(self._tokens + TOKENS_PER_ANSWER, TOKENS)

    def withdraw(self) -> bool:
        """Take a token for a retry; returns whether there was one."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
