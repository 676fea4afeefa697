"""The command `python client/transcribe.py` against a real server."""

from __future__ import annotations

import json
import re
import shutil
import signal
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
import soundfile
from waiting import wait_until

from nemo_triton.audio import load_audio
from nemo_triton.recognizer import Recognizer
from verification.faults.faulty_server import faulty_server
from verification.faults.sick_servers import hang

Spoken = list[tuple[Path, str]]


@pytest.fixture(scope="session")
def texts(triton: Any, spoken: Spoken) -> list[str]:
    """The library's transcripts of the demo's files."""
    with Recognizer(triton.model, triton.url) as recognizer:
        return [recognizer.transcribe(load_audio(path)).text for path, _ in spoken]


def test_one_file_prints_just_its_text(triton: Any, run_command: Any, spoken: Spoken, texts: list[str]) -> None:
    done = run_command("transcribe", spoken[0][0], "--model", triton.model, "--url", triton.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, texts[0] + "\n", "")


@pytest.mark.parametrize("concurrency", [1, 3, 64])
def test_several_files_keep_their_order(
    triton: Any, run_command: Any, spoken: Spoken, texts: list[str], concurrency: int
) -> None:
    paths = [path for path, _ in reversed(spoken)]
    done = run_command("transcribe", *paths, "--url", triton.url, "--concurrency", concurrency)
    lines = [f"{path}\t{text}" for path, text in zip(paths, reversed(texts), strict=True)]
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, lines, "")


def test_files_of_a_folder_are_sorted(
    triton: Any, run_command: Any, spoken: Spoken, texts: list[str], tmp_path: Path
) -> None:
    for position, name in enumerate(("b", "a")):
        shutil.copy(spoken[position][0], tmp_path / f"{name}{spoken[position][0].suffix}")
    done = run_command("transcribe", tmp_path, "--url", triton.url)
    assert [line.split("\t")[1] for line in done.stdout.splitlines()] == [texts[1], texts[0]]


def test_another_format_and_rate_is_recognized_alike(
    triton: Any, run_command: Any, spoken: Spoken, texts: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "a.wav"
    samples = load_audio(spoken[0][0]).repeat(3)
    soundfile.write(path, np.stack([samples, samples], axis=1), 48000, subtype="PCM_24")
    done = run_command("transcribe", path, "--url", triton.url)
    heard, expected = done.stdout.split(), texts[0].split()
    assert len(set(heard) & set(expected)) > 0.7 * len(set(expected))


def test_a_manifest_as_jsonl_to_a_file(
    triton: Any, run_command: Any, demo_manifest: Path, spoken: Spoken, texts: list[str], tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    arguments = ("--url", triton.url, "--format", "jsonl", "--output", output)
    done = run_command("transcribe", demo_manifest, *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    voices = [json.loads(line)["voice"] for line in demo_manifest.read_text().splitlines()]
    assert [json.loads(line) for line in output.read_text().splitlines()] == [
        {
            "voice": voice,
            "audio_filepath": str(path),
            "duration": pytest.approx(soundfile.info(path).duration, abs=1e-4),
            "text": reference,
            "pred_text": text,
        }
        for voice, (path, reference), text in zip(voices, spoken, texts, strict=True)
    ]


def test_jsonl_output_is_a_manifest(triton: Any, run_command: Any, spoken: Spoken, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    run_command("transcribe", spoken[0][0], "--url", triton.url, "--format", "jsonl", "--output", output)
    assert "text" not in json.loads(output.read_text()), "a bare file has no reference"
    done = run_command("transcribe", output, "--url", triton.url)
    assert done.stdout.startswith(f"{spoken[0][0]}\t")


def test_bad_files_do_not_affect_the_good_ones(
    triton: Any, run_command: Any, spoken: Spoken, texts: list[str], tmp_path: Path
) -> None:
    empty, prose, gone = tmp_path / "empty.wav", tmp_path / "prose.wav", tmp_path / "gone.wav"
    empty.touch()
    prose.write_text("words about audio\n" * 10)
    first, second = spoken[0][0], spoken[1][0]
    done = run_command("transcribe", empty, first, prose, gone, second, "--url", triton.url)
    assert done.returncode == 2
    assert done.stdout.splitlines() == [f"{first}\t{texts[0]}", f"{second}\t{texts[1]}"]
    errors = done.stderr.splitlines()
    assert [line.split(": ")[:2] for line in errors] == [["error", str(path)] for path in (empty, prose, gone)]


def test_failed_requests_are_named_file_by_file(triton: Any, run_command: Any, spoken: Spoken) -> None:
    paths = [path for path, _ in spoken[:2]]
    done = run_command("transcribe", *paths, "--url", triton.url, "--timeout", "0.0001")
    assert (done.returncode, done.stdout) == (2, "")
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == [str(path) for path in paths]


def test_an_absent_server_is_one_line(run_command: Any, spoken: Spoken, absent_url: str, tmp_path: Path) -> None:
    output = tmp_path / "kept.txt"
    output.write_text("kept")
    done = run_command("transcribe", spoken[0][0], "--url", absent_url, "--output", output)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and absent_url in done.stderr and done.stderr.count("\n") == 1
    assert output.read_text() == "kept"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Missing argument"),
        (("a.wav", "--concurrency", "0"), "--concurrency"),
        (("a.wav", "--format", "srt"), "--format"),
        (("a.wav", "--output", "no/such/folder/out.txt"), "no/such/folder/out.txt"),
        (("a.wav", "--model", "no_such_model"), "no_such_model"),
    ],
)
def test_bad_arguments_are_one_line(triton: Any, run_command: Any, arguments: tuple[str, ...], says: str) -> None:
    done = run_command("transcribe", *arguments, "--url", triton.url)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and says in done.stderr and done.stderr.count("\n") == 1


def test_an_interrupt_keeps_the_results_so_far(triton: Any, start_command: Any, spoken: Spoken) -> None:
    paths = [spoken[0][0]] * 2000
    process = start_command("transcribe", *paths, "--url", triton.url, "--concurrency", 2, "--format", "jsonl")
    first = [process.stdout.readline() for _ in range(3)]
    process.send_signal(signal.SIGINT)
    # Not communicate(), which would skip the lines that readline() has buffered.
    following, stderr = process.stdout.read(), process.stderr.read()
    assert process.wait(timeout=60) == 130
    written = [json.loads(line) for line in [*first, *following.splitlines()]]
    assert 3 <= len(written) < 2000
    assert f"error: interrupted; {len(written)} of 2000 files were transcribed" in stderr
    assert "Traceback" not in stderr


def hang_first(number: int, context: Any) -> None:
    if number == 0:
        hang(number, context)


def test_an_interrupt_keeps_results_behind_a_slow_file(
    triton: Any, start_command: Any, spoken: Spoken, texts: list[str]
) -> None:
    paths = [path for path, _ in spoken[:9]]
    before = answered(triton)
    with faulty_server(triton.url, hang_first) as server:
        process = start_command("transcribe", *paths, "--url", server.grpc, "--concurrency", 2)
        wait_until(lambda: answered(triton) == before + len(paths) - 1)
        process.send_signal(signal.SIGINT)
        output, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    expected = [f"{path}\t{text}" for path, text in zip(paths, texts[:9], strict=True)]
    lines = output.splitlines()
    # Either of the first two requests arrives first. The last answer may be on its way.
    assert len(lines) >= 7 and any(lines == (expected[:slow] + expected[slow + 1 :])[: len(lines)] for slow in (0, 1))
    assert stderr == f"error: interrupted; {len(lines)} of 9 files were transcribed\n"


def answered(triton: Any) -> int:
    """Number of requests to the recognizer that succeeded."""
    with urlopen(triton.metrics) as response:
        (count,) = re.findall(
            rf'^nv_inference_request_success{{model="{triton.model}",.*}} (\d+)', response.read().decode(), re.M
        )
    return int(count)


def test_a_damaged_mp3_prints_one_line(triton: Any, run_command: Any, spoken: Spoken, tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, load_audio(spoken[0][0]), 16000, format="MP3")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    done = run_command("transcribe", path, "--url", triton.url)
    assert done.stderr.startswith(f"warning: {path}: ") and done.stderr.count("\n") == 1
