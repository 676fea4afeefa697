"""The log of a run: resuming, files that are refused, a full disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nemo_triton.loadtest.measure import Session
from nemo_triton.loadtest.recording import Recording, Response
from nemo_triton.loadtest.run_log import RunLog, RunLogError
from nemo_triton.loadtest.schedule import ClosedLoop, OpenLoop
from nemo_triton.loadtest.server_counters import Counters
from nemo_triton.loadtest.server_metrics import GpuUsage, Level, Usage
from nemo_triton.manifest import Utterance

pytestmark = pytest.mark.fast

HEADER = {"model": "coffee_ctc", "seed": 0}
LOAD = ClosedLoop(4)
RECORDINGS = [Recording(Utterance(Path("one.wav"), "half a pair \ud83d \u2028 and a line"), np.zeros(160, np.int16))]
RESPONSE = Response(
    number=0, recording=0, text="text", due=0.0, sent=0.1, answered=0.4, attempts=2, endpoint="one:8001"
)
SESSION = Session(
    wall_seconds=1.5,
    counted_by_endpoint={
        "one:8001": {
            "encoder": Counters(
                inferences=3,
                executions=2,
                requests=3,
                request_ns=9,
                queue_ns=1,
                input_ns=2,
                infer_ns=3,
                output_ns=4,
                batches={1: 1, 2: 1},
            )
        }
    },
    uncounted=("two:8001",),
    usages={
        "http://one:8002/metrics": Usage(
            samples=2,
            cpu=Level(mean=0.5, highest=0.9),
            memory_bytes=None,
            gpus=(
                GpuUsage(
                    uuid="GPU-1",
                    busy=Level(mean=0.1, highest=0.2),
                    memory_bytes=Level(mean=1e9, highest=2e9),
                    watts=None,
                ),
            ),
        )
    },
    client_cpu_seconds=(0.25, 0.5),
    loop_lag_seconds=(0.01, 0.02),
)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """One response, one failure and the session that they belong to."""
    path = tmp_path / "rows.jsonl"
    run_log = RunLog.begin(path, HEADER, RECORDINGS)
    run_log.answer(LOAD, RESPONSE)
    run_log.answer(LOAD, Response(number=1, recording=0, text="", due=0.0, sent=0.0, answered=0.5, error="refused"))
    run_log.session(LOAD, SESSION)
    run_log.close()
    return path


def test_a_resumed_log_has_all_responses_but_the_failures(rows: Path) -> None:
    run_log, (run, other) = RunLog.resume(rows, HEADER, RECORDINGS, [LOAD, OpenLoop(2.0)])
    run_log.close()
    assert run.responses == [RESPONSE]
    assert run.sessions == [SESSION]
    assert (other.responses, other.sessions) == ([], [])
    kept = [json.loads(line) for line in rows.read_text().split("\n") if line]
    assert [row.get("number") for row in kept] == [None, 0, None]
    assert kept[1]["reference"] == RECORDINGS[0].utterance.text
    # Files of earlier versions must stay readable, so the keys must not change.
    assert kept[1]["target"] == "one:8001"
    assert kept[2]["session"]["counted_by_target"].keys() == {"one:8001"}


def test_open_loops_of_earlier_versions_are_resumed(rows: Path) -> None:
    header = HEADER | {"load list": ["2.5 per second"]}
    earlier_name = " ".join(("2.5", "a", "second"))
    lines = rows.read_text().replace(LOAD.name, earlier_name).splitlines()[1:]
    earlier = HEADER | {"load list": [earlier_name]}
    rows.write_text("\n".join([json.dumps(earlier), *lines]) + "\n")
    run_log, (run,) = RunLog.resume(rows, header, RECORDINGS, [OpenLoop(2.5)])
    run_log.close()
    assert run.responses == [RESPONSE]


def test_a_killed_session_ends_with_its_last_response(rows: Path) -> None:
    with rows.open("a") as file:
        for number in (2, 3):
            row = json.loads(rows.read_text().split("\n")[1]) | {"number": number, "answered": 7.0 + number}
            file.write(json.dumps(row) + "\n")
        file.write('{"load": "4 in fl')
    for _ in range(2):
        run_log, (run,) = RunLog.resume(rows, HEADER, RECORDINGS, [LOAD])
        run_log.close()
        assert [response.number for response in run.responses] == [0, 2, 3]
        assert [session.wall_seconds for session in run.sessions] == [1.5, 10.0]


def test_existing_rows_are_not_overwritten(rows: Path) -> None:
    content = rows.read_bytes()
    with pytest.raises(RunLogError, match="exists already"):
        RunLog.begin(rows, HEADER, RECORDINGS)
    assert rows.read_bytes() == content


def test_rows_of_another_run_are_refused_and_left_alone(rows: Path) -> None:
    content = rows.read_bytes()
    with pytest.raises(RunLogError, match="another seed;"):
        RunLog.resume(rows, HEADER | {"seed": 1}, RECORDINGS, [LOAD])
    assert rows.read_bytes() == content


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe\n", b"[]\n", b"{}\n[1]\n", b'{"load": "x"}\n', b"{}\nnot JSON\n", b"[" * 100_000 + b"\n"],
)
def test_a_file_that_is_not_a_run_log_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(RunLogError, match=r"not a log of bench\.py --rows"):
        RunLog.resume(path, HEADER, RECORDINGS, [LOAD])
    assert path.read_bytes() == content


def test_a_full_disk_is_one_line_that_names_the_file() -> None:
    run_log = RunLog(Path("/dev/full"), RECORDINGS)
    with pytest.raises(RunLogError, match=r"/dev/full: cannot be written \(No space left on device\)"):
        run_log.answer(LOAD, RESPONSE)


@pytest.mark.parametrize(
    ("line", "changes"),
    [
        (1, {"recording": 99}),
        (1, {"answered": None}),
        (1, {"text": 1}),
        (1, {"sent": float("nan")}),
        (1, {"number": "0"}),
        (1, {"attempts": 1.5}),
        (2, {"session": None}),
        (2, {"session": {}}),
        (2, {"session": []}),
        (2, {"session": {"wall_seconds": "1"}}),
    ],
)
def test_rows_with_other_types_are_refused_and_left_unchanged(
    rows: Path, line: int, changes: dict[str, object]
) -> None:
    lines = rows.read_text().splitlines()
    lines[line] = json.dumps(json.loads(lines[line]) | changes)
    rows.write_text("\n".join(lines) + "\n")
    content = rows.read_bytes()
    with pytest.raises(RunLogError, match=r"was written by an incompatible version of bench\.py; name a new file"):
        RunLog.resume(rows, HEADER, RECORDINGS, [LOAD])
    assert rows.read_bytes() == content


def test_a_row_without_a_field_is_refused(rows: Path) -> None:
    header, first, *others = rows.read_text().splitlines()
    incomplete = json.loads(first)
    del incomplete["error"]
    rows.write_text("\n".join([header, json.dumps(incomplete), *others]) + "\n")
    with pytest.raises(RunLogError, match="incompatible version"):
        RunLog.resume(rows, HEADER, RECORDINGS, [LOAD])
