"""How a program that a benchmark ran has ended."""

from __future__ import annotations

import signal

from nemo_triton.errors import one_line


def how_it_ended(code: int, errors: str) -> str:
    """The end of a process, as the predicate of a sentence.

    Args:
        code: Exit code; negative for a signal, as in subprocess.
        errors: What it wrote to stderr.
    """
    if code == -signal.SIGKILL:
        return "was killed by SIGKILL, as Linux does when memory runs out"
    lines = errors.strip().splitlines()
    return f"ended with code {code}: {one_line(lines[-1]) if lines else 'no error message'}"
