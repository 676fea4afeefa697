"""`python client/bench.py` against several servers."""

from __future__ import annotations

import json
import signal
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from bench_files import Spoken, answers
from several_servers import Serve, both, restart
from waiting import wait_until

from server.process import Server


@pytest.mark.parametrize("processes", [1, 2])
def test_bench_measures_all_servers(
    pair: tuple[Server, Server], run_command: Any, triton: Any, spoken: Spoken, tmp_path: Path, processes: int
) -> None:
    metrics = [f"http://{server.metrics}/metrics" for server in pair]
    files = ("--rows", tmp_path / "rows.jsonl", "--json", tmp_path / "out.json")
    options = ("--requests", 600, "--concurrency", 6, "--processes", processes)
    done = run_command("bench", "--url", both(pair), "--metrics-url", ",".join(metrics), *options, *files)
    assert (done.returncode, done.stderr) == (0, "")
    figures = json.loads((tmp_path / "out.json").read_text())
    (load,) = figures["loads"]
    rows = Counter(row["target"] for row in answers(tmp_path / "rows.jsonl"))
    assert sum(rows.values()) == 600 and min(rows[server.grpc] for server in pair) > 0.2 * 600
    assert {server["target"]: server["answered"] for server in load["targets"]} == rows
    assert {server["target"]: server["recognizer"]["inferences"] for server in load["targets"]} == rows
    assert load["recognizer"]["inferences"] == load["steps"][0]["inferences"] == 600
    assert load["counters_complete"] and load["usages"].keys() <= {*metrics}
    assert all(f"│ {endpoint} " in done.stdout for endpoint in rows)
    assert figures["metrics_problem"] is None


@pytest.mark.parametrize("processes", [1, 2])
def test_bench_outlasts_one_of_its_servers(
    mortal: tuple[Server, Server], start_command: Any, run_command: Any, spoken: Spoken, tmp_path: Path, processes: int
) -> None:
    rows, output = tmp_path / "rows.jsonl", tmp_path / "out.json"
    load = ("--requests", 600, "--concurrency", 6, "--processes", processes)
    metrics = ",".join(f"http://{server.metrics}/metrics" for server in mortal)
    command = ("bench", "--url", both(mortal), "--metrics-url", metrics, *load, "--rows", rows, "--json", output)
    process = start_command(*command)
    wait_until(lambda: rows.exists() and rows.read_bytes().count(b"\n") > 100)
    mortal[0].process.kill()
    stdout, stderr = process.communicate(timeout=100)
    assert process.returncode == 0
    assert stderr.startswith(f"warning: {mortal[0].grpc}: not used until it recovers") and stderr.count("\n") == 1
    responses = answers(rows)
    assert sorted(row["number"] for row in responses) == list(range(600))
    assert Counter(row["error"] for row in responses) == {None: 600}
    retries = sum(row["attempts"] for row in responses) - 600
    assert 1 <= retries <= 6, "the requests in flight on the server that was killed"
    (figures,) = json.loads(output.read_text())["loads"]
    assert (figures["answered"], figures["failed"], figures["counters_complete"]) == (600, 0, False)
    assert figures["retries"] == retries
    assert "servers that came or went" in stdout
    again = run_command(*command, "--resume")
    assert again.returncode == 0 and len(answers(rows)) == 600


@pytest.mark.parametrize("processes", [1, 2])
def test_the_user_sees_when_a_server_is_back(
    mortal: tuple[Server, Server], serve: Serve, start_command: Any, processes: int
) -> None:
    victim, _ = mortal
    load = ("--rate", 10, "--duration", 110, "--processes", processes)
    metrics = ",".join(f"http://{server.metrics}/metrics" for server in mortal)
    process = start_command("bench", "--url", both(mortal), "--metrics-url", metrics, *load)
    victim.process.kill()
    gone = process.stderr.readline()
    assert gone.startswith(f"warning: {victim.grpc}: not used until it recovers")
    with ExitStack() as stack:
        restart(serve, victim, stack)
        assert process.stderr.readline() == f"info: {victim.grpc}: is back and gets requests again\n"
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert stderr.startswith("error: interrupted") and stderr.count("\n") == 1


def test_shared_memory_is_for_one_server(pair: tuple[Server, Server], run_command: Any) -> None:
    done = run_command("bench", "--url", both(pair), "--shared-memory")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--shared-memory works with one server on this machine" in done.stderr and done.stderr.count("\n") == 1
