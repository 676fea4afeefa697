"""The short GPU benchmark (stages, texts, sweep) on this machine."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from benchmark_results import Finished, RunModule
from locations import DEMO_CHECKPOINT, DEMO_MANIFEST, RNNT_CHECKPOINT, ROOT

from benchmark.core import run_bench
from benchmark.studies.gpu import sweep, timing
from benchmark.studies.gpu.batches import make_batch
from benchmark.studies.gpu.cuts import CUTS, ONE_BUCKET, Cut, apply_cut
from benchmark.studies.gpu.ensemble import EnsembleError, parse, read_ensemble
from benchmark.studies.gpu.profiles import profile_stages
from benchmark.studies.gpu.stage import Setup
from benchmark.studies.gpu.texts import transcribe
from benchmark.studies.gpu.timing import NO_TIME, Limits, Timing, time_runs
from benchmark.studies.gpu.variants import VARIANTS
from benchmark.studies.variants import write_variant
from export_scripts.errors import ExportError
from export_scripts.repository.config import read_config
from export_scripts.repository.gpu import TensorRt
from nemo_triton.audio import load_audio
from nemo_triton.contract import SAMPLE_RATE
from nemo_triton.errors import ClientError
from nemo_triton.manifest import read_manifest

CTC, RNNT = DEMO_CHECKPOINT.stem, RNNT_CHECKPOINT.stem
KINDS = ("first", "repeat", "alternating")


@pytest.mark.parametrize("name", [CTC, RNNT, f"{CTC}_log_probs"])
def test_a_recognizer_is_read_as_triton_reads_it(repository: Path, name: str) -> None:
    config = read_config(repository / name)
    ensemble = read_ensemble(repository, name)
    steps = [step.model_name for step in config.ensemble_scheduling.step]
    assert [ensemble.features, ensemble.encoder, ensemble.decoder] == steps[1:]
    assert ensemble.text == ensemble.decoder
    assert ensemble.trained and config.parameters["weights"].string_value == "trained"


@pytest.mark.fast
def test_the_order_of_fields_and_their_layout_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "config.pbtxt").write_text(
        """# model_name: "not this one"
        parameters: { value: <string_value: 'ran' "dom">; key: "weights" }
        ensemble_scheduling { step: [
          { input_map { value: "FEATURES", key: "FEATURES" } output_map { key: "LABELS" value: "L\\"{" }
            model_version: -1 model_name: "middle" },
          { model_name: "last" output_map { key: "TOKENS" value: "TOKENS" } },
          { model_name: "text" output_map { key: "TEXT" value: "TEXT" } },
          { model_name: "begin" output_map { key: "FEATURES" value: "FEATURES" } }
        ] }
        dims: [ -1, 1e3 ]"""
    )
    ensemble = read_ensemble(tmp_path, "tiny")
    assert (ensemble.features, ensemble.encoder, ensemble.decoder) == ("begin", "middle", "last")
    assert ensemble.text == "text"
    assert not ensemble.trained


@pytest.mark.fast
@pytest.mark.parametrize(
    ("text", "line"), [("a: 1\nb {", 2), ("a: }", 1), ("a\n\nb: 1", 3), ('a: "x', 1), ("}", 1), ("a: 1 \n ? ", 2)]
)
def test_a_syntax_error_names_its_line(text: str, line: int) -> None:
    with pytest.raises(ValueError, match=f"line {line}: "):
        parse(text)


@pytest.mark.fast
def test_escapes_and_repeated_fields() -> None:
    assert parse(r"""a: "q\"\n" a: 'two' b < c: x >""") == {"a": ['q"\n', "two"], "b": [{"c": ["x"]}]}


def test_a_stage_is_not_a_recognizer(repository: Path) -> None:
    with pytest.raises(EnsembleError, match="not a recognizer"):
        read_ensemble(repository, f"{CTC}_encoder")
    with pytest.raises(EnsembleError, match=f"nope: no such model in .*; choose from: {CTC}"):
        read_ensemble(repository, "nope")


class Clock:
    """A clock that advances only during runs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.runs: list[int] = []

    def monotonic(self) -> float:
        return self.now

    perf_counter = monotonic

    def running(self, seconds: Callable[[int, bool], float]) -> Callable[[int], int]:
        """A run of batch 0, 1, ...; `seconds` gets the batch and whether the run before had the same batch."""

        def run(batch: int) -> int:
            self.now += seconds(batch, self.runs[-1:] == [batch])
            self.runs.append(batch)
            return batch

        return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


@pytest.mark.fast
def test_new_and_repeated_shapes_are_measured_separately(clock: Clock) -> None:
    run = clock.running(lambda batch, same: 0.01 if same else 1.0 + batch)
    timing, results = time_runs(run, [0, 1], [10.0, 20.0], Limits(0.04, slowest=5, stop_at=100))
    assert clock.runs == [0] * 4 + [1] * 4 + [0, 1] * 3 and results == [0, 1]
    row = timing.row()
    assert row["batches"] == 2 and row["stopped"] is None
    assert row["first"]["ms_by_batch"] == [1000, 2000] == row["alternating"]["ms_by_batch"]
    assert row["repeat"]["ms_by_batch"] == [10, 10] and row["repeat"]["runs"] == 6
    assert row["first"]["rtfx"] == pytest.approx(10) and row["repeat"]["rtfx"] == pytest.approx(1500)


@pytest.mark.fast
def test_a_slow_first_run_ends_the_measurement_after_one_more(clock: Clock) -> None:
    run = clock.running(lambda batch, same: 0.01 if same else 3.0 * batch)
    timing, results = time_runs(run, [0, 1, 2], [10.0] * 3, Limits(0.01, slowest=2, stop_at=100))
    assert clock.runs == [0] * 4 + [1] * 2 and results == [0, 1]
    assert timing.too_slow and "3.00 s" in timing.stopped and "--slowest 2" in timing.stopped
    assert timing.row()["alternating"] is None and timing.row()["repeat"]["runs"] == 4


@pytest.mark.fast
def test_slow_alternating_runs_end_the_measurement(clock: Clock) -> None:
    run = clock.running(lambda batch, same: 3.0 if len(clock.runs) >= 8 else 0.1)
    timing, _ = time_runs(run, [0, 1], [10.0] * 2, Limits(0.1, slowest=2, stop_at=100))
    assert clock.runs == [0] * 4 + [1] * 4 + [0] and timing.too_slow


@pytest.mark.fast
@pytest.mark.parametrize("stop_at", [-1.0, 0.5, 2.5, 5.5, 9.5])
def test_no_run_starts_after_the_budget(clock: Clock, stop_at: float) -> None:
    run = clock.running(lambda batch, same: 1.0)
    timing, _ = time_runs(run, [0, 1], [10.0] * 2, Limits(1.0, slowest=2, stop_at=stop_at))
    assert len(clock.runs) == int(stop_at) + 1
    assert timing.stopped == NO_TIME and not timing.too_slow


@pytest.mark.fast
def test_a_measurement_without_runs_has_no_figures() -> None:
    assert Timing(stopped=NO_TIME).row() == {"batches": 0, "stopped": NO_TIME, **dict.fromkeys(KINDS)}


def runs_by_operator(repository: Path, folder: Path, cut: Cut) -> dict[str, float]:
    folder.mkdir()
    speech = load_audio(read_manifest(DEMO_MANIFEST).utterances[0].audio)
    batch = make_batch([np.resize(speech, seconds * SAMPLE_RATE) for seconds in (1, 2, 3)])
    profiles = profile_stages(
        repository, read_ensemble(repository, CTC), batch, Setup(), prefix=str(folder / "x"), cut=cut
    )
    assert [file.name for file in folder.iterdir()] == ["x.encoder.profile.json.gz"]
    return {operator: row["runs"] for kind in profiles["encoder"].values() for operator, row in kind.items()}


def test_a_cut_changes_the_number_of_buckets(repository: Path, tmp_path: Path) -> None:
    one_bucket = runs_by_operator(repository, tmp_path / "one_bucket", ONE_BUCKET)
    three_buckets = runs_by_operator(repository, tmp_path / "three_buckets", Cut("three buckets", pass_seconds=0))
    operators = [name for name in one_bucket if "Conv" in name or "MatMul" in name]
    assert operators
    for name in operators:
        assert three_buckets[name] == 3 * one_bucket[name] > 0


def test_a_graph_without_length_bucketing_cannot_be_tuned(repository: Path) -> None:
    model = onnx.load(repository / f"{CTC}_decoder" / "1" / "model.onnx")
    with pytest.raises(ExportError, match="export the model again"):
        apply_cut(model, ONE_BUCKET)


STAGE_FLAGS = ("--batch", 2, "--batch", 1, "--batches", 2, "--seconds", 0.05, "--device", "cpu", "--slowest", 600)


@pytest.fixture(scope="module")
def damaged(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a truncated encoder of the RNNT model."""
    folder = tmp_path_factory.mktemp("damaged")
    shutil.copytree(repository, folder, dirs_exist_ok=True)
    graph = folder / f"{RNNT}_encoder" / "1" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:1000])
    return folder


def error_lines(finished: Finished) -> list[str]:
    lines = finished.stderr.splitlines()
    assert all(line.startswith("error: ") for line in lines), finished.stderr
    return lines


def test_stages_on_the_cpu(damaged: Path, tmp_path: Path, run_module: RunModule) -> None:
    """Models that fail come first and print one error line each."""
    # A decoder with other frames per step, as pack writes it.
    shutil.copytree(damaged / f"{CTC}_decoder", damaged / f"{CTC}_decoder.4", dirs_exist_ok=True)
    flags = ("--repository", damaged, "--out", tmp_path, "--label", ".small", *STAGE_FLAGS)
    finished = run_module("studies.gpu.stages", "nope", RNNT, CTC, *flags)
    assert finished.returncode == 2
    assert [line.split(":")[1].strip() for line in error_lines(finished)] == ["nope", RNNT]
    report = json.loads((tmp_path / f"{CTC}.small.json").read_text())
    assert report["device"] == "cpu" and report["providers"] == ["CPUExecutionProvider"] and report["trained"]
    assert report["skipped"] == [] and report["profiled_batch"] == 2
    assert set(report["profiles"]) == {"features", "encoder", "decoder"}
    assert [row["size"] for row in report["batches"]] == [1, 2]
    for row in report["batches"]:
        assert set(row["encoder"]) == {cut.name for cut in CUTS}
        assert set(row["decoder"]) == {"cpu", "cpu.4"}
        for part in (row["features"], *row["encoder"].values(), *row["decoder"].values()):
            check_figures(part, row["audio_seconds"])
        assert row["decoder"]["cpu"]["tokens"] == row["decoder"]["cpu.4"]["tokens"] > 0
    lines = [line for line in finished.stdout.splitlines() if line.startswith(f"{CTC} batch ")]
    assert len(lines) == 2 * (1 + len(CUTS) + 2) and all("repeat" in line for line in lines)
    assert (tmp_path / f"{CTC}.small.encoder.profile.json.gz").exists()


def check_figures(part: dict[str, Any], audio_seconds: list[float]) -> None:
    assert part["batches"] == 2 and part["stopped"] is None
    for kind in KINDS:
        figures = part[kind]
        for fastest, median, slowest in zip(
            figures["fastest_ms_by_batch"], figures["ms_by_batch"], figures["slowest_ms_by_batch"], strict=True
        ):
            assert 0 < fastest <= median <= slowest
        assert figures["ms_per_batch"] == pytest.approx(sum(figures["ms_by_batch"]) / 2, abs=0.001)
        assert figures["rtfx"] == pytest.approx(1000 * sum(audio_seconds) / sum(figures["ms_by_batch"]), rel=0.05)
        assert figures["runs"] == 2 if kind == "first" else figures["runs"] >= 6


def test_slow_measurements_are_skipped_and_listed(repository: Path, tmp_path: Path, run_module: RunModule) -> None:
    flags = ("--repository", repository, "--out", tmp_path, "--no-profile", *STAGE_FLAGS, "--slowest", 0.000001)
    finished = run_module("studies.gpu.stages", CTC, *flags)
    assert finished.returncode == 0 and not error_lines(finished)
    report = json.loads((tmp_path / f"{CTC}.json").read_text())
    (row,) = report["batches"]
    assert row["features"]["batches"] == 1 and "--slowest" in row["features"]["stopped"]
    assert row["features"]["first"]["runs"] == row["features"]["repeat"]["runs"] == 1
    assert list(row["encoder"]) == [CUTS[0].name] and set(row["decoder"]) == {"cpu"}
    assert len(report["skipped"]) == len(CUTS) and report["skipped"][-1] == "batch 2: batch 1 was too slow"
    assert "profiles" not in report
    over = run_module("studies.gpu.stages", CTC, *flags[:5], "--budget", 0)
    assert over.returncode == 2 and error_lines(over) == [f"error: {CTC}: {NO_TIME}"]


@pytest.mark.fast
def test_a_printed_line_is_flushed_immediately() -> None:
    program = (
        "import click\nfrom benchmark.studies.gpu import bare_cli\n"
        "@click.command()\ndef main():\n    print('measured')\n    input()\nbare_cli.run(main)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "measured\n"
        process.communicate("\n")
    assert process.returncode == 0


@pytest.mark.fast
@pytest.mark.parametrize(
    ("module", "missing"),
    [
        ("benchmark.studies.gpu.stages", ""),
        ("benchmark.studies.gpu.texts", ""),
        ("benchmark.studies.gpu.unpack", "onnxruntime soundfile soxr"),
        ("verification.full_size.seeded", "onnx onnxruntime soundfile"),
    ],
)
def test_a_bare_machine_needs_few_packages(module: str, missing: str) -> None:
    absent = ["tritonclient", "grpc", "rich", "jiwer", "prometheus_client", "torch", "yaml", *missing.split()]
    program = f"import sys\nsys.modules.update(dict.fromkeys({absent}))\nimport {module}"
    finished = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.fast
@pytest.mark.parametrize("command", ["stages", "texts", "sweep"])
def test_a_wrong_repository_is_one_line(command: str, tmp_path: Path, run_module: RunModule) -> None:
    finished = run_module(f"studies.gpu.{command}", CTC, "--repository", tmp_path / "nope", "--out", tmp_path / "out")
    assert finished.returncode == 2
    (line,) = error_lines(finished)
    assert "nope" in line


def test_texts_on_the_cpu(damaged: Path, tmp_path: Path, run_module: RunModule) -> None:
    flags = ("--repository", damaged, "--batch", 4, "--out", tmp_path / "texts.json")
    finished = run_module("studies.gpu.texts", CTC, *flags)
    assert finished.returncode == 0, finished.stderr
    report = json.loads((tmp_path / "texts.json").read_text())[CTC]
    assert report["trained"] and "cpu" in report["devices"] and report["differing"] == 0
    utterances = read_manifest(DEMO_MANIFEST).utterances
    assert [row["audio"] for row in report["texts"]] == [utterance.audio.name for utterance in utterances]
    correct = sum(row["cpu"] == utterance.text for row, utterance in zip(report["texts"], utterances, strict=True))
    assert correct > len(utterances) / 2
    for row in report["texts"]:
        assert f"{CTC}\tcpu\t{row['audio']}\t{row['cpu']}" in finished.stdout.splitlines()
    failing = run_module("studies.gpu.texts", "nope", RNNT, CTC, *flags)
    assert failing.returncode == 2 and len(error_lines(failing)) == 2
    assert list(json.loads((tmp_path / "texts.json").read_text())) == [CTC]


@pytest.mark.parametrize("name", [CTC, RNNT])
def test_texts_of_a_decoder_for_a_gpu(repository: Path, tmp_path: Path, name: str) -> None:
    """A separate stage makes the text."""
    (variant,) = (variant for variant in VARIANTS if variant.splits_text)
    write_variant(repository, name, tmp_path, variant.change_for(TensorRt()))
    split, exported = read_ensemble(tmp_path, name), read_ensemble(repository, name)
    assert (split.decoder, split.text) == (f"{name}_decoder", f"{name}_text")
    audio = [load_audio(utterance.audio) for utterance in read_manifest(DEMO_MANIFEST).utterances[:5]]
    texts = transcribe(tmp_path, split, "cpu", audio, 3)
    assert texts == transcribe(repository, exported, "cpu", audio, 3) and all(texts)


def test_a_sweep_on_the_real_server(repository: Path, tmp_path: Path, run_module: RunModule) -> None:
    flags = ("--repository", repository, "--out", tmp_path, "--manifest", DEMO_MANIFEST, "--bench", "")
    finished = run_module("studies.gpu.sweep", "nope", CTC, *flags, "--concurrency", "1,4", "--seconds", 0.5)
    assert finished.returncode == 2
    errors = [line for line in finished.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and errors[0].startswith("error: nope, ragged: ")
    report = json.loads((tmp_path / f"{CTC}.ragged.json").read_text())
    assert report["name"] == CTC and report["variant"] == "ragged" and report["opened_seconds"] > 0
    assert [load["load"]["concurrency"] for load in report["loads"]] == [1, 4] and report["skipped"] == []
    for load in report["loads"]:
        assert load["failed"] == 0 and load["answered"] > 0 and load["rtfx"] > 0
        assert load["latency_ms"]["p50"] > 0 and len(load["steps"]) == 4
    assert sum(": RTFx " in line for line in finished.stdout.splitlines()) == 2
    assert not list(tmp_path.glob("*.fresh"))
    over = run_module("studies.gpu.sweep", CTC, *flags, "--budget", 0)
    assert over.returncode == 2 and over.stderr == f"error: {CTC}, ragged: {NO_TIME}\n"


@pytest.mark.fast
def test_a_load_ends_with_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = tmp_path / "bench.py"
    bench.write_text("import signal\nsignal.pause()\n")
    monkeypatch.setattr(run_bench, "BENCH", bench)
    with pytest.raises(ClientError, match=NO_TIME):
        sweep.measure_load(
            run_bench.Bench(CTC, "localhost:1", DEMO_MANIFEST), [], tmp_path / "fresh", seconds_left=0.01
        )


@pytest.mark.fast
def test_a_load_can_end_its_processes() -> None:
    program = (
        "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "print('ready', flush=True)\nsignal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        run_bench.end(process)
        assert process.returncode == 7
