"""The command `python client/bench.py` against a real server."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
import soundfile
from bench_files import Spoken, answers, write_manifest
from tritonclient.grpc import InferenceServerClient
from waiting import wait_until

from nemo_triton.audio import load_audio
from nemo_triton.loadtest.csv_rows import COLUMNS, CSV_START
from nemo_triton.loadtest.figures_json import JSON_START
from nemo_triton.terminal.outputs import check_is_result


@pytest.fixture(scope="session")
def benched(triton: Any, run_command: Any, demo_manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One run over the demo's manifest: the finished process, its JSON, its rows and its CSV file."""
    folder = tmp_path_factory.mktemp("bench")
    files = ("--json", folder / "out.json", "--rows", folder / "rows.jsonl", "--csv", folder / "out.csv")
    arguments = ("--manifest", demo_manifest, "--concurrency", 8, "--worst", 2, *files)
    done = run_command(
        "bench", "--model", triton.model, "--url", triton.url, "--metrics-url", triton.metrics, *arguments
    )
    return done, json.loads((folder / "out.json").read_text()), answers(folder / "rows.jsonl"), folder / "out.csv"


def test_a_whole_manifest_succeeds(triton: Any, benched: Any, spoken: Spoken) -> None:
    done, figures, *_ = benched
    assert (done.returncode, done.stderr) == (0, "")
    assert (figures["model"], figures["url"]) == (triton.model, triton.url)
    assert [load["load"] for load in figures["loads"]] == [{"concurrency": 8}]
    assert (figures["utterances"], figures["failures"], figures["changed_texts"]) == (len(spoken), [], [])
    assert figures["complete"] is True


def test_earlier_results_can_be_overwritten(benched: Any) -> None:
    path = benched[3]
    for output, start in ((path, CSV_START), (path.with_suffix(".json"), JSON_START)):
        assert output.read_text().startswith(start)
        check_is_result("--out", output, start)


def test_the_json_has_everything_to_repeat_the_run(benched: Any, repository: Path, demo_manifest: Path) -> None:
    figures = benched[1]
    parity = (repository / figures["model"] / "1" / "parity.json").read_bytes()
    assert figures["parity_id"] == hashlib.sha256(parity).hexdigest()[:16]
    assert figures["precision"] == "fp32"
    assert figures["nemo_class"] == "EncDecCTCModel"
    assert figures["parameters"] > 100_000 and figures["checkpoint_bytes"] > figures["parameters"]
    assert figures["slo"] is None
    assert figures["server"].startswith("triton 2.")
    assert figures["manifest"] == str(demo_manifest)
    assert figures["flags"]["seed"] == 0 and figures["flags"]["concurrency"] == [8]
    assert figures["machine"]["cores"] >= 1 and figures["machine"]["memory_bytes"] > 2**30
    assert {"python", "tritonclient", "numpy", "jiwer"} <= set(figures["versions"])
    assert figures["dataset"]["utterances"] == figures["utterances"]
    assert len(figures["dataset"]["sha256"]) == 64


def test_the_csv_has_a_row_per_load_with_the_values_of_the_json(benched: Any) -> None:
    _, figures, _, path = benched
    with path.open(newline="") as file:
        (row,) = csv.DictReader(file)
    (load,) = figures["loads"]
    assert tuple(row) == COLUMNS
    assert (row["model"], row["started"], row["load"]) == (figures["model"], figures["started"], "8 in flight")
    assert (row["concurrency"], row["rate_per_second"], row["slo_kept"]) == ("8", "", "")
    assert int(row["answered"]) == load["answered"] and row["complete"] == "yes"
    for column, value in {
        "rtfx": load["rtfx"],
        "requests_per_second": load["requests_per_second"],
        "latency_p95_ms": load["latency_ms"]["p95"],
        "wer": figures["wer"],
    }.items():
        assert float(row[column]) == pytest.approx(value)


def test_rtfx_is_audio_seconds_over_wall_seconds(benched: Any, spoken: Spoken) -> None:
    (figures,) = benched[1]["loads"]
    seconds = sum(soundfile.info(path).duration for path, _ in spoken)
    assert figures["audio_seconds"] == pytest.approx(seconds, rel=1e-3)
    assert figures["rtfx"] == pytest.approx(seconds / figures["wall_seconds"], rel=1e-3)


def test_percentiles_are_those_of_the_rows(benched: Any) -> None:
    (figures,), rows = benched[1]["loads"], benched[2]
    latencies = [1000 * (row["answered"] - row["due"]) for row in rows]
    percentiles = figures["latency_ms"]
    assert percentiles["p50"] <= percentiles["p95"] <= percentiles["p99"] <= max(latencies)
    assert percentiles["p50"] == pytest.approx(np.median(latencies))


def test_latencies_fit_the_wall_clock(triton: Any, run_command: Any, tmp_path: Path) -> None:
    files = ("--json", tmp_path / "out.json", "--rows", tmp_path / "rows.jsonl")
    # Fewer requests end before Triton starts the last batch, up to 0.5 s late (docs/design.md).
    run_command("bench", "--model", triton.model, "--url", triton.url, "--concurrency", 8, "--requests", 200, *files)
    (figures,) = json.loads((tmp_path / "out.json").read_text())["loads"]
    seconds = [row["answered"] - row["due"] for row in answers(tmp_path / "rows.jsonl")]
    assert len(seconds) == 200
    # Eight are in flight, so that the latencies add up to at most eight times the wall clock, and to nearly that.
    assert 6 < sum(seconds) / figures["wall_seconds"] <= 8.001


def test_latency_agrees_with_the_servers_statistics(benched: Any) -> None:
    (figures,) = benched[1]["loads"]
    in_server = figures["recognizer"]["request_ms"]
    assert in_server < figures["latency_ms"]["mean"] < 1.25 * in_server + 20
    assert figures["recognizer"]["inferences"] == figures["answered"]


def test_wer_equals_that_of_the_rows(benched: Any, spoken: Spoken) -> None:
    _, figures, rows, _ = benched
    assert {(row["audio"], row["reference"]) for row in rows} == {(str(path), text) for path, text in spoken}
    references, texts = zip(*((row["reference"], row["text"]) for row in rows), strict=True)
    expected = jiwer.process_words(list(references), list(texts))
    assert figures["wer"] == pytest.approx(expected.wer)
    assert figures["wer"] < 0.3
    assert figures["wer_interval"][0] <= figures["wer"] <= figures["wer_interval"][1]
    assert figures["cer"] == pytest.approx(jiwer.cer(list(references), list(texts)))
    assert figures["words"]["total"] == sum(len(text.split()) for _, text in spoken)
    assert figures["words"]["substitutions"] == expected.substitutions


def test_utterances_with_most_errors_are_aligned_with_their_references(benched: Any) -> None:
    done, figures, *_ = benched
    assert len(figures["worst"]) == 2
    assert figures["worst"][0]["errors"] >= figures["worst"][1]["errors"] > 0
    for utterance in figures["worst"]:
        assert utterance["alignment"].startswith("REF: ") and utterance["alignment"] in done.stdout
        marks = utterance["alignment"].splitlines()[2].split()
        assert len(marks) == utterance["errors"] and set(marks) <= {"S", "D", "I"}


def test_each_step_served_each_utterance_once(benched: Any, spoken: Spoken) -> None:
    (figures,) = benched[1]["loads"]
    assert len(figures["steps"]) >= 3
    for step in figures["steps"]:
        assert step["inferences"] == len(spoken), "warm-up requests are not counted"
        assert step["mean_batch_size"] == pytest.approx(len(spoken) / step["executions"])
        assert sum(step["batch_sizes"].values()) == step["executions"]
        assert sum(int(size) * count for size, count in step["batch_sizes"].items()) == len(spoken)
        parts = [step[part] for part in ("queue_ms", "input_ms", "infer_ms", "output_ms")]
        assert min(parts) >= 0 and step["infer_ms"] > 0
        assert sum(parts) <= step["request_ms"] * 1.01
    assert max(step["mean_batch_size"] for step in figures["steps"]) > 1, "requests share batches"


def test_the_table_shows_the_figures(triton: Any, benched: Any) -> None:
    done, figures, *_ = benched
    (load,), words = figures["loads"], figures["words"]
    for shown in (
        f"{triton.model} at {triton.url}, 8 in flight",
        f"{load['rtfx']:.1f}",
        f"{figures['wer']:.2%}",
        f"{figures['cer']:.2%}",
        f"{words['substitutions']} sub, {words['insertions']} ins, {words['deletions']} del in {words['total']} words",
        f"p95 {load['latency_ms']['p95']:.0f} ms",
        figures["normalization_statement"],
        "audio files are read before it starts",
        f"Client: {figures['machine']['processor']}, {figures['machine']['cores']} cores. Server: triton 2.",
        *(step["model"] for step in load["steps"]),
        *(f"{step['mean_batch_size']:.2f}" for step in load["steps"]),
    ):
        assert shown in done.stdout


def test_stdout_has_only_the_json(triton: Any, run_command: Any, spoken: Spoken, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "m.jsonl", [(spoken[0][0], spoken[0][1].upper() + "!")])
    command = ("bench", "--url", triton.url, "--manifest", manifest, "--warmup", 0, "--json", "-")
    figures = {name: json.loads(run_command(*command, "--normalization", name).stdout) for name in ("none", "basic")}
    assert figures["none"]["wer"] == 1, "capitals count where nothing is normalized"
    assert figures["basic"]["wer"] < 1
    done = run_command(*command)
    assert "RTFx" in done.stderr and "RTFx" not in done.stdout


def test_failures_are_named_and_the_other_utterances_are_measured(
    triton: Any, run_command: Any, spoken: Spoken, tmp_path: Path
) -> None:
    empty, gone = tmp_path / "empty.wav", tmp_path / "gone.wav"
    empty.touch()
    bad = [(empty, "a"), (gone, "b")]
    manifest = write_manifest(tmp_path / "m.jsonl", [*bad, *spoken[:2]], "not json", '{"audio_filepath": "x.wav"}')
    done = run_command("bench", "--url", triton.url, "--manifest", manifest, "--json", "-")
    figures = json.loads(done.stdout)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2
    assert errors == [f"error: {failure}" for failure in figures["failures"]]
    assert [failure.split(": ")[0] for failure in figures["failures"][:2]] == [f"{manifest}:5", f"{manifest}:6"]
    assert {failure.split(": ")[0] for failure in figures["failures"][2:]} == {str(empty), str(gone)}
    assert (figures["utterances"], len(figures["failures"])) == (2, 4)
    assert figures["words"]["total"] == sum(len(text.split()) for _, text in spoken[:2])


def test_a_damaged_mp3_prints_one_line(triton: Any, run_command: Any, spoken: Spoken, tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, load_audio(spoken[0][0]), 16000, format="MP3")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    gone = tmp_path / "gone.wav"
    manifest = write_manifest(tmp_path / "m.jsonl", [(path, "a"), (gone, "b")])
    done = run_command("bench", "--url", triton.url, "--metrics-url", triton.metrics, "--manifest", manifest)
    lines = sorted(done.stderr.splitlines())
    assert [line.split(str(tmp_path))[0] for line in lines] == ["error: ", "warning: "], done.stderr
    assert lines[0].startswith(f"error: {gone}: ") and lines[1].startswith(f"warning: {path}: its header says")


def test_recordings_that_a_folder_does_not_list_are_counted(
    triton: Any, run_command: Any, spoken: Spoken, tmp_path: Path
) -> None:
    (tmp_path / "wav.scp").write_text(f"a {spoken[0][0]}\n")
    (tmp_path / "text").write_text(f"a {spoken[0][1]}\n")
    shutil.copy(spoken[1][0], tmp_path / "b.flac")
    done = run_command(
        "bench", "--model", triton.model, "--url", triton.url, "--manifest", tmp_path, "--metrics-url", triton.metrics
    )
    assert (done.returncode, done.stderr) == (0, f"warning: {tmp_path}: 1 file skipped, not in wav.scp (1 .flac)\n")


def test_requests_that_fail_are_counted_and_named(
    triton: Any, run_command: Any, spoken: Spoken, tmp_path: Path
) -> None:
    manifest = write_manifest(tmp_path / "m.jsonl", spoken[:3])
    done = run_command(
        "bench", "--url", triton.url, "--manifest", manifest, "--timeout", "0.0001", "--warmup", 0, "--json", "-"
    )
    figures = json.loads(done.stdout)
    assert done.returncode == 2
    (load,) = figures["loads"]
    assert (figures["utterances"], figures["wer"], load["latency_ms"]) == (0, None, None)
    assert (load["failed"], load["deadlines_exceeded"]) == (3, 3)
    assert {failure.split(": ")[0] for failure in figures["failures"]} == {str(path) for path, _ in spoken[:3]}


def test_an_empty_reference_counts_insertions(triton: Any, run_command: Any, spoken: Spoken, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "m.jsonl", [(spoken[0][0], "")])
    done = run_command("bench", "--url", triton.url, "--manifest", manifest, "--json", "-")
    figures = json.loads(done.stdout)
    assert done.returncode == 0
    assert figures["wer"] is None and figures["words"]["insertions"] > 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--model", "no_such_model"), "recognizers served: "),
        (("--manifest", "no/such/manifest.jsonl"), "no/such/manifest.jsonl"),
        (("--manifest", __file__), "not a manifest"),
        (("--concurrency", "0"), "--concurrency"),
        (("--concurrency", "4,x"), "--concurrency"),
        (("--concurrency", "4,8,4"), "twice"),
        (("--rows", __file__), "exists already"),
        (("--rate", "0"), "--rate"),
        (("--duration", "-1"), "--duration"),
        (("--resume",), "--rows"),
        (("--resume", "--rows", "no_such_rows.jsonl"), "no_such_rows.jsonl"),
        (("--resume", "--rows", __file__), "not a log of bench.py --rows"),
        (("--slo", "p95=fast"), "'p95=fast' is not an objective; write it as p95=500ms"),
        (("--slo", "p95=1s", "--rate", "5"), "leave out --concurrency and --rate"),
        (("--slo", "p95=1s", "--resume", "--rows", "rows.jsonl"), "--slo can't be resumed"),
        (("--csv", "no/such/folder/out.csv"), "no/such/folder"),
        (("--warmup", "-1"), "--warmup"),
        (("--channel", "each"), "'each' is no channel; give a number from 0, left, right or average"),
        (("--normalization", "nemo"), "--normalization"),
        (("--json", "no/such/folder/out.json"), "no/such/folder"),
        (("--url", "http://localhost:8001"), "is not host:port"),
        (("--url", "localhost:99999"), "is not host:port"),
        (("--url", "localhost:²"), "is not host:port"),
        (("--url", "a..b:8001"), "is not host:port"),
    ],
)
def test_bad_arguments_are_one_line(
    triton: Any, run_command: Any, demo_manifest: Path, arguments: tuple[str, ...], says: str
) -> None:
    done = run_command("bench", "--url", triton.url, "--manifest", demo_manifest, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and says in done.stderr and done.stderr.count("\n") == 1


def test_an_absent_server_is_one_line(run_command: Any, demo_manifest: Path, absent_url: str) -> None:
    done = run_command("bench", "--url", absent_url, "--manifest", demo_manifest)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and absent_url in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("processes", [1, 2])
def test_an_interrupt_prints_the_results_so_far(
    triton: Any, start_command: Any, spoken: Spoken, tmp_path: Path, number: signal.Signals, processes: int
) -> None:
    long = tmp_path / "long.wav"
    soundfile.write(long, np.random.default_rng(0).integers(-3000, 3000, 16000 * 20, dtype=np.int16), 16000)
    manifest = write_manifest(tmp_path / "m.jsonl", [spoken[0], *[(long, "noise")] * 200])
    output = tmp_path / "out.json"
    arguments = ("--manifest", manifest, "--concurrency", 2, "--warmup", 0, "--json", output, "--processes", processes)
    served = requests_served(triton)
    process = start_command("bench", "--url", triton.url, *arguments)
    wait_until(lambda: requests_served(triton) >= served + 4)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "error: interrupted; " in stderr and "Traceback" not in stderr
    assert "incomplete" in stdout and "RTFx" in stdout
    figures = json.loads(output.read_text())
    assert figures["complete"] is False
    assert 2 <= figures["utterances"] < 201


def requests_served(triton: Any) -> int:
    """Number of recognitions since the server started."""
    with InferenceServerClient(triton.url) as server:
        return int(server.get_inference_statistics(triton.model).model_stats[0].inference_stats.success.count)


def test_without_arguments_it_measures_the_demos_commands(triton: Any, run_command: Any, spoken: Spoken) -> None:
    done = run_command("bench", "--url", triton.url, "--json", "-")
    assert done.returncode == 0
    assert json.loads(done.stdout)["utterances"] == len(spoken)
