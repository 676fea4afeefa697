"""The protocol between a benchmark and the process of a baseline."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from locations import DEMO_MANIFEST, ROOT

from benchmark.baselines.errors import NotRun
from benchmark.baselines.process import Process, baseline_command
from benchmark.baselines.recordings import shuffled_recordings

BASELINES_PYTHON = ROOT / ".venv" / "baselines" / "bin" / "python"
RECORDINGS = shuffled_recordings(DEMO_MANIFEST)[:2]
READY = json.dumps({"ready": "it 1.0", "batches": True})


def answers(lines: list[str]) -> list[dict[str, Any]]:
    """Answers of a real worker to lines on its standard input."""
    command = baseline_command(BASELINES_PYTHON, "pocketsphinx")
    ended = subprocess.run(command, input="\n".join([*lines, ""]), capture_output=True, text=True)
    return [json.loads(line) for line in ended.stdout.splitlines()]


@pytest.mark.parametrize(
    "line", ["", "no JSON", "[]", '{"files": []}', '{"recordings": ["a.wav"]}', '{"recordings": [{"name": "a"}]}']
)
def test_a_worker_needs_its_files_first(line: str) -> None:
    assert answers([line, "1"]) == [{"reason": 'the first line is not {"recordings": [{"audio": file}, ...]} in JSON'}]


def test_a_worker_survives_invalid_lines() -> None:
    files = json.dumps({"recordings": [{"audio": RECORDINGS[0].utterance.name}]})
    ready, zero, word, answer = answers([files, "0", "many", "1"])
    assert ready["ready"].startswith("pocketsphinx 5.") and ready["batches"] is False
    assert zero == {"reason": "'0' is not a batch size; send a whole number above 0"}
    assert word == {"reason": "'many' is not a batch size; send a whole number above 0"}
    assert answer["seconds"] > 0 and len(answer["texts"]) == 1


@pytest.mark.fast
def test_output_of_libraries_is_kept_from_the_answers() -> None:
    code = """
import os
from benchmark.baselines.worker import take_standard_output
answer = take_standard_output()
print("noise")
os.write(1, b"more noise\\n")
answer({"texts": []})
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == '{"texts": []}\n'
    assert "noise" in ended.stderr and "more noise" in ended.stderr


def process_that_prints(*lines: str, then: str = "") -> Process:
    """A process that reads a line before it prints each of these lines."""
    code = f"for line in {lines!r}: input(); print(line, flush=True)\n{then}"
    return Process("it", [sys.executable, "-c", code], RECORDINGS)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("process", "reason"),
    [
        (process_that_prints("hello"), "^its process answered 'hello', which is not a JSON object$"),
        (process_that_prints("[1]"), r"^its process answered '\[1\]', which is not a JSON object$"),
        (process_that_prints("{}"), "^its process answered without ready of type str$"),
        (process_that_prints('{"reason": "two\\nlines"}'), "^two lines$"),
        (process_that_prints(), "^its process ended with code 0: no error message$"),
        (process_that_prints(then="import sys; sys.exit('no memory')"), "^its process ended with code 1: no memory$"),
        (
            process_that_prints(then="import os; os.kill(os.getpid(), 9)"),
            "^its process was killed by SIGKILL, as Linux",
        ),
        (Process("it", ["nowhere/python"], RECORDINGS), "^nowhere/python: No such file or directory; create this env"),
    ],
)
def test_a_process_that_fails_to_start_is_not_run(process: Process, reason: str) -> None:
    with pytest.raises(NotRun, match=reason):
        process.__enter__()


@pytest.mark.fast
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ('{"seconds": 1.0}', "^its process answered without texts of type list$"),
        ('{"texts": ["a", "b"]}', "^its process answered without seconds of type float$"),
        ('{"seconds": 1.0, "texts": ["a"]}', "^its process answered with 1 texts for 2 recordings$"),
        ('{"reason": "MemoryError: "}', "^MemoryError:"),
    ],
)
def test_an_incomplete_pass_is_not_run(answer: str, reason: str) -> None:
    with process_that_prints(READY, answer) as process, pytest.raises(NotRun, match=reason):
        process.measure(RECORDINGS, 1)


@pytest.mark.fast
def test_a_process_is_measured_by_its_own_clock() -> None:
    with process_that_prints(READY, '{"seconds": 2.5, "texts": ["short", "long"]}') as process:
        measured = process.measure(RECORDINGS, 32)
    by_length = sorted(RECORDINGS, key=lambda recording: recording.duration)
    assert measured.texts == dict(
        zip((recording.utterance.name for recording in by_length), ("short", "long"), strict=True)
    )
    assert (measured.seconds, measured.mean_batch, process.version) == (2.5, 2, "it 1.0")


@pytest.mark.fast
def test_children_of_a_process_are_ended_too(tmp_path: Path) -> None:
    child = tmp_path / "child"
    code = f"import subprocess; open({str(child)!r}, 'w').write(str(subprocess.Popen(['sleep', '60']).pid)); input()"
    with process_that_prints(READY, then=code):
        while not (child.exists() and child.read_text()):
            time.sleep(0.01)
    number = int(child.read_text())
    deadline = time.monotonic() + 10
    while psutil.pid_exists(number) and psutil.Process(number).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)
