"""Options of the export command that don't fit together, and percentages."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import invoke_export
from locations import DEMO_CHECKPOINT

from export_scripts.percentage import percentage
from export_scripts.precision.choice import CALIBRATED, PRECISIONS, REDUCED, RULES

pytestmark = pytest.mark.fast

NO_PERCENTAGES = ("2", "50", "inf%", "-0.1", "-1%", "nan", "nan%", "inf", "few", "%", "2%%", "")


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("--max-word-change", 0.1), "--max-word-change is for --precision fp16 and int8"),
        (("--precision", "fp16", "--calibration", "."), "--calibration is for --precision int8"),
        (
            ("--precision", "int8", "--calibration", "missing.jsonl"),
            "error: missing.jsonl: cannot be read (No such ",
        ),
        *((("--precision", "int8", f"--max-word-change={text}"), "write 2% or 0.02") for text in NO_PERCENTAGES),
        (("--max-audio-seconds", 0), "Invalid value for '--max-audio-seconds'"),
        (("--name-suffix", "a/b"), "error: --name-suffix: 'a/b' can't be in a model's name; use letters"),
    ],
)
def test_options_that_do_not_fit(flags: tuple[object, ...], complaint: str, tmp_path: Path) -> None:
    result = invoke_export(DEMO_CHECKPOINT, "--repository", tmp_path / "repository", *flags)
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert not (tmp_path / "repository").exists()


def test_each_precision_has_rules_and_all_but_fp32_a_purpose() -> None:
    assert tuple(RULES) == PRECISIONS
    assert set(PRECISIONS) - set(REDUCED) == {"fp32"} and set(CALIBRATED) <= set(REDUCED)
    assert [name for name, rules in RULES.items() if rules.purpose] == list(REDUCED)


@pytest.mark.parametrize(
    ("text", "value"), [("2%", 0.02), ("0.02", 0.02), ("0", 0), ("100%", 1), ("1", 1), ("0.5 %", 0.005), ("300%", 3)]
)
def test_a_percentage(text: str, value: float) -> None:
    assert percentage(text) == pytest.approx(value)
