"""Loads of `python client/bench.py`: open loops, several processes, shared memory, killed clients and servers."""

from __future__ import annotations

import json
import os
import re
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from bench_files import Spoken, answers, write_manifest
from waiting import wait_until

from nemo_triton.loadtest.schedule import OpenLoop, Plan
from server.process import Server, running_server


@pytest.fixture
def short_lived(repository: Path, triton: Any) -> Any:
    """A server that a test can kill."""
    only = ["--model-control-mode=explicit", f"--load-model={triton.model}"]
    with running_server(repository, only) as server:
        yield server


def rows_in(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_an_open_loop_offers_its_rate_and_the_server_counts_the_same(
    triton: Any, run_command: Any, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    command = ("bench", "--url", triton.url, "--metrics-url", triton.metrics, "--rows", rows, "--json", "-")
    figures = json.loads(run_command(*command, "--rate", "8", "--duration", "5").stdout)
    (load,) = figures["loads"]
    assert load["load"] == {"rate": 8.0}
    assert load["answered"] == 40
    assert load["recognizer"]["inferences"] == load["answered"]
    assert load["recognizer"]["request_ms"] < load["latency_ms"]["mean"]
    late_ms = [1000 * (row["sent"] - row["due"]) for row in answers(rows)]
    assert load["late_ms"] == pytest.approx(np.percentile(late_ms, 95)) and load["failed"] == 0


def test_open_loop_latency_counts_from_the_scheduled_send_time(triton: Any, run_command: Any, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    arguments = ("--rate", "5000", "--requests", "44", "--rows", rows, "--json", "-")
    (load,) = json.loads(run_command("bench", "--url", triton.url, *arguments).stdout)["loads"]
    responses = answers(rows)
    due = [request.due for request in Plan(OpenLoop(5000.0), (0,), shuffled=False, seed=0, requests=44).part()]
    assert [row["due"] for row in sorted(responses, key=lambda row: row["number"])] == pytest.approx(due)
    assert all(row["due"] <= row["sent"] < row["answered"] for row in responses)
    with_text = [row for row in responses if row["error"] is None]  # A full queue refuses some.
    assert load["latency_ms"]["mean"] == pytest.approx(
        np.mean([1000 * (row["answered"] - row["due"]) for row in with_text])
    )


def test_a_sweep_is_a_row_per_load(triton: Any, run_command: Any, spoken: Spoken) -> None:
    done = run_command("bench", "--url", triton.url, "--concurrency", "1,6", "--rate", "9,5", "--json", "-")
    figures = json.loads(done.stdout)
    names = ["1 in flight", "6 in flight", "9 per second", "5 per second"]
    assert [load["name"] for load in figures["loads"]] == names
    assert all(load["answered"] == len(spoken) for load in figures["loads"])
    assert figures["saturation"] in names[:2] and figures["knee"].endswith(" per second")
    assert figures["changed_texts"] == [], "a text is the same under every load"
    assert all(name in done.stderr for name in names)


@pytest.mark.parametrize(
    "arguments", [("--processes", "3"), ("--shared-memory",), ("--processes", "2", "--shared-memory")]
)
@pytest.mark.parametrize("load", [("--concurrency", "4"), ("--rate", "20")])
def test_processes_and_shared_memory_give_the_same_texts(
    triton: Any, run_command: Any, benched_texts: dict[str, str], tmp_path: Path, arguments: Any, load: Any
) -> None:
    rows = tmp_path / "rows.jsonl"
    server = ("--url", triton.url, "--metrics-url", triton.metrics)
    done = run_command("bench", *server, "--rows", rows, *arguments, *load)
    assert (done.returncode, done.stderr) == (0, "")
    assert {row["audio"]: row["text"] for row in answers(rows)} == benched_texts
    assert len(answers(rows)) == len(benched_texts)


@pytest.fixture(scope="session")
def benched_texts(triton: Any, run_command: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    rows = tmp_path_factory.mktemp("texts") / "rows.jsonl"
    run_command("bench", "--url", triton.url, "--concurrency", 1, "--rows", rows)
    return {row["audio"]: row["text"] for row in answers(rows)}


def test_shared_memory_of_silence_without_samples(triton: Any, run_command: Any, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "none.wav", np.zeros(0, np.int16), 16000)
    manifest = write_manifest(tmp_path / "m.jsonl", [(tmp_path / "none.wav", "")])
    done = run_command("bench", "--url", triton.url, "--manifest", manifest, "--shared-memory", "--json", "-")
    assert (done.returncode, json.loads(done.stdout)["utterances"]) == (0, 1)


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_killed_run_is_resumed_where_it_stopped(
    triton: Any, start_command: Any, run_command: Any, tmp_path: Path, processes: str
) -> None:
    rows = tmp_path / "rows.jsonl"
    bounds = ("--concurrency", "2,3", "--requests", "220", "--processes", processes)
    command = ("bench", "--url", triton.url, "--metrics-url", triton.metrics, "--rows", rows, *bounds)
    process = start_command(*command)
    wait_until(lambda: rows_in(rows) > 290)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    with rows.open("a") as torn:
        torn.write('{"load": "3 in flight", "number": 2')
    before = {(row["load"], row["number"]): row["text"] for row in answers_of_whole_lines(rows)}
    assert 220 < len(before) < 440
    done = run_command(*command, "--resume", "--json", tmp_path / "out.json")
    assert (done.returncode, done.stderr) == (0, "")
    answered = [(row["load"], row["number"]) for row in answers(rows)]
    assert Counter(answered) == Counter({(f"{n} in flight", number): 1 for n in (2, 3) for number in range(220)})
    assert before.items() <= {(row["load"], row["number"]): row["text"] for row in answers(rows)}.items()
    figures = json.loads((tmp_path / "out.json").read_text())
    assert [load["answered"] for load in figures["loads"]] == [220, 220]
    assert [load["counters_complete"] for load in figures["loads"]] == [True, False]
    assert "statistics lack a session" in done.stdout
    again = run_command(*command, "--resume", "--json", tmp_path / "again.json")
    assert again.returncode == 0
    repeated = json.loads((tmp_path / "again.json").read_text())
    assert [load["wall_seconds"] for load in repeated["loads"]] == [load["wall_seconds"] for load in figures["loads"]]


def answers_of_whole_lines(rows: Path) -> list[Any]:
    lines = rows.read_text().split("\n")[:-1]
    return [row for row in map(json.loads, lines) if "number" in row]


def test_rows_of_another_run_are_refused(triton: Any, run_command: Any, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    command = ("bench", "--url", triton.url, "--rows", rows)
    assert run_command(*command, "--concurrency", "2").returncode == 0
    content = rows.read_bytes()
    done = run_command(*command, "--concurrency", "3", "--seed", "1", "--resume")
    assert (done.returncode, done.stdout) == (2, "")
    assert "another load list, seed;" in done.stderr and done.stderr.count("\n") == 1
    assert rows.read_bytes() == content


def test_a_server_that_dies_fails_only_the_requests_in_flight(
    short_lived: Server, start_command: Any, run_command: Any, repository: Path, triton: Any, tmp_path: Path
) -> None:
    rows, output = tmp_path / "rows.jsonl", tmp_path / "out.json"
    command = ("bench", "--concurrency", "4", "--rate", "70", "--requests", "400", "--rows", rows, "--json", output)
    metrics = f"http://{short_lived.metrics}/metrics"
    process = start_command(*command, "--url", short_lived.grpc, "--metrics-url", metrics)
    wait_until(lambda: rows_in(rows) > 100)
    short_lived.process.kill()
    stdout, stderr = process.communicate(timeout=60)
    figures = json.loads(output.read_text())
    (load,) = figures["loads"]
    assert process.returncode == 2 and "Traceback" not in stderr
    assert figures["complete"] is False
    assert load["answered"] >= 100 and load["answered"] + load["failed"] < 400
    assert 1 <= load["failed"] <= 4, "those that were in flight"
    unsent = 400 - load["answered"] - load["failed"]
    went_down, not_started = figures["notes"]
    assert went_down.startswith(f"the server at {short_lived.grpc} went down; {unsent} requests were not sent")
    assert not_started.startswith("70 per second: not started")
    errors = [f"error: {line}" for line in (*figures["failures"], *figures["notes"])]
    assert stderr.splitlines() == errors
    assert len(figures["failures"]) == load["failed"] == sum(row["error"] is not None for row in answers(rows))
    assert re.search(rf"│ failed +│ {load['failed']} ", stdout)
    assert figures["wer"] < 0.3 and "RTFx" in stdout
    with running_server(repository, ["--model-control-mode=explicit", f"--load-model={triton.model}"]) as another:
        metrics = f"http://{another.metrics}/metrics"
        done = run_command(*command, "--url", another.grpc, "--metrics-url", metrics, "--resume")
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("4 in flight", "70 per second"):
        assert sorted(row["number"] for row in answers(rows) if row["load"] == name) == list(range(400))
    figures = json.loads(output.read_text())
    assert figures["complete"] is True
    urls = sorted((short_lived.grpc, another.grpc))
    assert (figures["url"], figures["flags"]["url"]) == (",".join(urls), another.grpc)
    assert f"{figures['model']} at {','.join(urls)} " in done.stdout
    # A slow machine refuses some requests of the open loop, and no server answered those.
    assert {row["target"] for row in answers(rows) if not row["refused"]} == {*urls}
    assert {row["target"] for row in answers(rows) if row["refused"]} <= {""}


def test_retries_outlast_a_restart(
    short_lived: Server, start_command: Any, repository: Path, triton: Any, tmp_path: Path
) -> None:
    rows, output = tmp_path / "rows.jsonl", tmp_path / "out.json"
    arguments = ("--concurrency", "2", "--requests", "300", "--retries", "9", "--rows", rows, "--json", output)
    metrics = f"http://{short_lived.metrics}/metrics"
    process = start_command("bench", "--url", short_lived.grpc, "--metrics-url", metrics, *arguments)
    wait_until(lambda: rows_in(rows) > 40)
    short_lived.process.kill()
    short_lived.process.wait()
    only = ["--model-control-mode=explicit", f"--load-model={triton.model}"]
    with running_server(repository, only, grpc=short_lived.grpc):
        stdout, stderr = process.communicate(timeout=110)
    (load,) = json.loads(output.read_text())["loads"]
    assert (process.returncode, stderr) == (0, "")
    assert (load["answered"], load["failed"]) == (300, 0)
    assert load["retries"] >= 2 and f"{load['retries']} retries" in stdout
