"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


def concurrency_option(default: int, help: str, minimum: int = 1) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the decorator for --concurrency.

    Args:
        default: Number of concurrent requests without the option.
        help: What the requests are for.
        minimum: Fewest requests.
    """
    return click.option(
        "--concurrency",
        type=click.IntRange(minimum),
        default=default,
        show_default=True,
        help=help,
    )
