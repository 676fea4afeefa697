"""Error lines of many requests that fail for one reason."""

from __future__ import annotations

import pytest

from nemo_triton.loadtest.repeated import SHOWN, RepeatedErrors

pytestmark = pytest.mark.fast


def test_the_first_lines_of_each_reason_are_shown_and_the_others_counted() -> None:
    lines: list[str] = []
    errors = RepeatedErrors(lines.append)
    for number in range(SHOWN + 2):
        errors.add(f"{number}.wav: too late", "too late")
    errors.add("a.wav: too long", "too long")
    assert lines == [*(f"{number}.wav: too late" for number in range(SHOWN)), "a.wav: too long"]
    errors.end()
    assert lines[SHOWN + 1 :] == ["2 more requests: too late"]
    errors.end()
    assert len(lines) == SHOWN + 2
