"""benchmark.run and benchmark.compare with a real server."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmark_results import ROWS, Measured, RunModule, answers
from locations import DEMO_MANIFEST, HYBRID_REPOSITORY, ROOT
from tritonclient.grpc import InferenceServerClient

from benchmark.baselines.in_process import InProcess
from benchmark.core.constants import BASELINES, COMPARED_AT, CONCURRENCIES, MORE_ROUNDS, OURS, RATES_OF_CAPACITY
from benchmark.core.model_control import EXPLICIT, loaded
from benchmark.core.models import read_models
from nemo_triton.errors import ServerUnavailableError
from nemo_triton.manifest import read_manifest
from server.process import Server, running_server

MODELS = ("coffee_ctc", "coffee_rnnt")


def read(file: Path) -> Any:
    return json.loads(file.read_text())


@pytest.mark.parametrize("model", MODELS)
def test_each_model_has_closed_and_open_loops_up_to_its_capacity(measured: Measured, model: str) -> None:
    assert measured.run.stderr == ""
    assert measured.run.returncode == 0
    closed, opened = (read(measured.results / model / "demo" / f"{kind}.json") for kind in ("closed", "open"))
    assert [load["load"] for load in closed["loads"]] == [
        {"concurrency": int(number)} for number in CONCURRENCIES.split(",")
    ]
    for load in (*closed["loads"], *opened["loads"]):
        # Bursts of an open loop may overfill the encoder's queue.
        sent = load["answered"] + load["refused"]
        assert load["answered"] and sent % 22 == 0, "each utterance equally often"
        assert not load["refused"] or "rate" in load["load"]
    capacity = max(load["requests_per_second"] for load in closed["loads"])
    rates = [load["load"]["rate"] for load in opened["loads"]]
    assert rates == pytest.approx([fraction * capacity for fraction in RATES_OF_CAPACITY], rel=0.01)
    for kind in MORE_ROUNDS:
        (load,) = read(measured.results / model / "demo" / f"{kind}.json")["loads"]
        assert load["load"] == {"concurrency": COMPARED_AT}
    assert closed["model"] == opened["model"] == model
    assert closed["parity_id"] and not closed["random_weights"]


@pytest.mark.parametrize("model", MODELS)
def test_sizes_equal_those_of_the_files(measured: Measured, repository: Path, model: str) -> None:
    description = read(measured.results / model / "model.json")
    assert description["checkpoint_bytes"] == (ROOT / "demo" / f"{model}.nemo").stat().st_size
    graph_bytes = sum(
        (repository / f"{model}_{stage}" / "1" / "model.onnx").stat().st_size for stage in ("encoder", "decoder")
    )
    assert graph_bytes < description["onnx_bytes"] < 2 * graph_bytes
    # ONNX stores each of them in four bytes, except those that are folded or shared.
    assert 2 < graph_bytes / description["parameters"] < 8


def test_existing_results_are_not_measured_again(measured: Measured, run_module: RunModule, repository: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in measured.results.rglob("*.json")}
    shared = ("--repository", repository, "--data", measured.data, "--out", measured.results)
    done = run_module("run", "coffee_*", *shared, "--seconds", 0.5)
    assert (done.returncode, done.stdout.count("already measured")) == (0, 2)
    changed = {file.name for file, written in before.items() if file.stat().st_mtime_ns != written}
    assert changed <= {"model.json"}


def test_a_killed_run_resumes(measured: Measured) -> None:
    folder = measured.results / "coffee_ctc" / "demo"
    assert measured.killed.returncode == -signal.SIGKILL
    assert "closed.json" not in measured.killed.files
    (rows,) = folder.glob(ROWS)
    assert rows.name in measured.killed.files and read(folder / "closed.json")["rows"] == rows.name
    assert rows.read_text().startswith(measured.killed.files[rows.name].rpartition("\n")[0])
    assert (folder / "pilot.json").read_text() == measured.killed.files["pilot.json"]
    answered = answers(rows)
    assert len(set(answered)) == len(answered)
    assert len(answered) == sum(load["answered"] for load in read(folder / "closed.json")["loads"])


def test_an_interrupted_run_leaves_no_result(measured: Measured) -> None:
    assert measured.cut_short.returncode == 2 and "Traceback" not in measured.cut_short.stderr
    assert "error: coffee_rnnt: " in measured.cut_short.stderr
    assert "closed.json" not in measured.cut_short.files
    closed = read(measured.results / "coffee_rnnt" / "demo" / "closed.json")
    assert closed["complete"] and closed["failures"] == []


@pytest.fixture(scope="module")
def empty_server(repository: Path) -> Iterator[Server]:
    """A server that starts without models."""
    with running_server(repository, [EXPLICIT]) as server:
        yield server


def ready(client: InferenceServerClient) -> set[str]:
    """Names of the loaded models."""
    return {model.name for model in client.get_model_repository_index().models if model.state == "READY"}


def test_a_model_is_unloaded_before_the_next_is_loaded(empty_server: Server) -> None:
    with InferenceServerClient(empty_server.grpc) as client:
        for model in MODELS:
            with loaded(empty_server.grpc, model):
                present = ready(client)
                assert {model, f"{model}_encoder", "audio"} <= present
                assert not any(other in name for other in MODELS for name in present if other != model)
            assert ready(client) == set()


def test_a_model_is_unloaded_after_a_failure(empty_server: Server) -> None:
    with InferenceServerClient(empty_server.grpc) as client:
        with pytest.raises(ValueError), loaded(empty_server.grpc, "coffee_ctc"):
            raise ValueError("in the middle of a measurement")
        assert ready(client) == set()


def test_models_loaded_before_stay(empty_server: Server) -> None:
    with loaded(empty_server.grpc, "coffee_ctc"), InferenceServerClient(empty_server.grpc) as client:
        with loaded(empty_server.grpc, "coffee_rnnt"):
            assert client.is_model_ready("coffee_rnnt")
        assert client.is_model_ready("coffee_ctc") and not client.is_model_ready("coffee_rnnt")


def test_a_server_without_model_control_is_named(repository: Path, tmp_path: Path) -> None:
    # One small model is enough: this server can't load others.
    (tmp_path / "audio").symlink_to((repository / "audio").resolve())
    with (
        running_server(tmp_path) as server,
        pytest.raises(ServerUnavailableError, match=EXPLICIT),
        loaded(server.grpc, "audio"),
    ):
        pass


def test_recognizers_of_a_repository(repository: Path) -> None:
    assert [model.name for model in read_models(repository)] == list(MODELS)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": "stt_*"}, "stt_*: matches no model"),
        ({"data": ROOT / "docs"}, "holds no dataset.json"),
        ({"repository": ROOT / "docs"}, "holds no recognizer"),
    ],
)
def test_bad_arguments_are_one_error_line(
    measured: Measured, repository: Path, run_module: RunModule, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    arguments = {"model": "coffee_ctc", "repository": repository, "data": measured.data} | changes
    flags = ("--repository", arguments["repository"], "--data", arguments["data"], "--out", tmp_path)
    done = run_module("run", arguments["model"], *flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and says in done.stderr and done.stderr.count("\n") == 1


def test_a_server_with_mutual_tls(repository: Path, run_module: RunModule, tmp_path: Path) -> None:
    certificates = tmp_path / "certificates"
    subprocess.run(["sh", str(ROOT / "docker" / "tls" / "make_certificates.sh"), str(certificates)], check=True)
    # The shortest recordings: open loops send 100 requests at a fraction of the capacity.
    shortest = sorted(read_manifest(DEMO_MANIFEST).utterances, key=lambda utterance: utterance.audio.stat().st_size)[:4]
    lines = [json.dumps({"audio_filepath": entry.name, "text": entry.text}) for entry in shortest]
    (tmp_path / "short.jsonl").write_text("\n".join(lines))
    assert run_module("prepare", f"demo={tmp_path / 'short.jsonl'}", "--out", tmp_path).returncode == 0
    flags = ("coffee_ctc", "--repository", repository, "--data", tmp_path / "demo", "--out", tmp_path / "results")
    ours = ("--ca", certificates / "ca.pem")
    shown = ("--certificate", certificates / "client.pem", "--key", certificates / "client.key")
    serving = ["server-cert=" + str(certificates / "server.pem"), "server-key=" + str(certificates / "server.key")]
    serving += ["root-cert=" + str(certificates / "ca.pem"), "use-ssl-mutual=true"]
    with running_server(repository, [EXPLICIT, *(f"--grpc-{flag}" for flag in serving)]) as server:
        metrics = ("--metrics-url", f"http://{server.metrics}/metrics")
        command = (*flags, "--seconds", 0.1, "--concurrency", 2, "--url", server.grpc, *metrics)
        refused = run_module("run", *command, *ours)
        done = run_module("run", *command, *ours, *shown)
    assert refused.returncode == 2 and refused.stderr.startswith("error: coffee_ctc: ")
    assert (done.returncode, done.stderr) == (0, "")
    assert read(tmp_path / "results" / "coffee_ctc" / "demo" / "closed.json")["tls"] is True


@pytest.mark.parametrize(
    ("flags", "says"),
    [(("--url", "a:1,b:2"), "names several servers"), (("--tls",), "need --url")],
)
def test_flags_for_one_running_server(
    repository: Path, run_module: RunModule, tmp_path: Path, flags: tuple[str, ...], says: str
) -> None:
    done = run_module("run", "coffee_ctc", "--repository", repository, "--data", "x", "--out", tmp_path, *flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and says in done.stderr and done.stderr.count("\n") == 1


def test_the_ctc_head_of_a_hybrid_is_not_compared_with_its_other_head(
    measured: Measured, run_module: RunModule, tmp_path: Path
) -> None:
    shared = ("--repository", HYBRID_REPOSITORY, "--data", measured.data, "--out", tmp_path)
    done = run_module("compare", "coffee_hybrid_ctc", *shared)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: coffee_hybrid_ctc is the second recognizer of a hybrid, and NeMo decodes with the first; "
        "compare coffee_hybrid\n"
    )


def test_systems_are_compared_in_rounds(measured: Measured) -> None:
    assert measured.compare.returncode == 0
    compared = read(measured.results / "coffee_rnnt" / "demo" / "compared.json")
    systems = {system["name"]: system for system in compared["systems"]}
    assert list(systems) == ["served by Triton (ours)", "in process, sorted by length", "NeMo transcribe()"]
    assert compared["not_run"] == {"onnx-asr": "no model", "faster-whisper": "no model"}
    texts = systems["NeMo transcribe()"]["texts"]
    assert len(texts) == 22
    for system in systems.values():
        assert len(system["seconds"]) == 2 and min(system["seconds"]) > 0
        assert system["texts"] == texts and system["changed_texts"] == 0


def test_systems_that_do_not_fit_the_memory_together_are_loaded_in_turn(
    run_module: RunModule, repository: Path, measured: Measured, tmp_path: Path
) -> None:
    shared = ("--repository", repository, "--data", measured.data, "--out", tmp_path, "--reload", "--rounds", 2)
    baselines = [option for name in BASELINES for option in ("--without", name)]
    done = run_module("compare", "coffee_ctc", *shared, *baselines)
    assert done.returncode == 0, done.stderr
    compared = read(tmp_path / "coffee_ctc" / "demo" / "compared.json")
    systems = {system["name"]: system for system in compared["systems"]}
    assert compared["not_run"].keys() == {"NeMo transcribe()"}, "its checkpoint isn't given"
    assert {name: len(system["seconds"]) for name, system in systems.items()} == {OURS: 2, InProcess.name: 2}
    assert systems[OURS]["texts"] == systems[InProcess.name]["texts"]
