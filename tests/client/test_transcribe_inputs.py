"""The commands on stereo files, segments, damaged files and folders, against a real server."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from bench_files import answers

from nemo_triton.audio import Samples, as_float, load_audio
from nemo_triton.contract import SAMPLE_RATE
from nemo_triton.errors import RecognitionError
from nemo_triton.recognizer import Recognizer
from verification.encoding import encode

Spoken = list[tuple[Path, str]]


@pytest.fixture(scope="module")
def talkers(spoken: Spoken) -> list[Samples]:
    """Two recordings of the same length."""
    both = [load_audio(path) for path, _ in spoken[:2]]
    length = min(map(len, both))
    return [samples[:length] for samples in both]


@pytest.fixture(scope="module")
def texts(triton: Any, talkers: list[Samples]) -> list[str]:
    with Recognizer(triton.model, triton.url) as recognizer:
        texts = [recognizer.transcribe(samples).text for samples in talkers]
    assert texts[0] != texts[1]
    return texts


@pytest.fixture
def call(talkers: list[Samples], tmp_path: Path) -> Path:
    path = tmp_path / "call.wav"
    soundfile.write(path, np.stack(talkers, axis=1), SAMPLE_RATE)
    return path


def test_each_channel_has_its_result(triton: Any, run_command: Any, call: Path, texts: list[str]) -> None:
    done = run_command("transcribe", call, "--url", triton.url, "--channel", "each")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"{call}\tchannel {number}\t{text}" for number, text in enumerate(texts)]
    done = run_command("transcribe", call, "--url", triton.url, "--channel", "each", "--format", "jsonl")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    expected = [(str(call), number, text) for number, text in enumerate(texts)]
    assert [(row["audio_filepath"], row["channel"], row["pred_text"]) for row in rows] == expected


@pytest.mark.parametrize(("channel", "number"), [("left", 0), ("right", 1), ("1", 1)])
def test_one_channel(triton: Any, run_command: Any, call: Path, texts: list[str], channel: str, number: int) -> None:
    done = run_command("transcribe", call, "--url", triton.url, "--channel", channel)
    assert (done.returncode, done.stdout, done.stderr) == (0, texts[number] + "\n", "")
    done = run_command("transcribe", call, "--url", triton.url, "--channel", channel, "--format", "jsonl")
    row = json.loads(done.stdout)
    assert (row["channel"], row["pred_text"]) == (int(channel) if channel.isdecimal() else channel, texts[number])


@pytest.mark.parametrize("channel", ["middle", "-1", "1.5"])
def test_an_unknown_channel_is_refused_before_connecting(run_command: Any, call: Path, channel: str) -> None:
    done = run_command("transcribe", call, f"--channel={channel}", "--url", "nowhere:1")
    assert done.returncode == 2 and "give a number from 0, left, right, average or each" in done.stderr


def test_bench_measures_a_channel(triton: Any, run_command: Any, call: Path, texts: list[str], tmp_path: Path) -> None:
    entries: list[dict[str, int]] = [{}, {"channel": 0}]
    manifest, rows = tmp_path / "m.jsonl", tmp_path / "rows.jsonl"
    manifest.write_text(
        "".join(
            json.dumps({"audio_filepath": "call.wav", "text": text} | entry) + "\n"
            for entry, text in zip(entries, reversed(texts), strict=True)
        )
    )
    server = ("--model", triton.model, "--url", triton.url, "--metrics-url", triton.metrics)
    done = run_command("bench", *server, "--manifest", manifest, "--channel", "right", "--rows", rows)
    assert (done.returncode, done.stderr) == (0, "")
    heard = {row["audio"]: row["text"] for row in answers(rows)}
    assert heard == {f"{call} [right]": texts[1], f"{call} [channel 0]": texts[0]}


def test_a_missing_channel_costs_its_file_only(
    triton: Any, run_command: Any, call: Path, spoken: Spoken, texts: list[str]
) -> None:
    done = run_command("transcribe", spoken[0][0], call, "--url", triton.url, "--channel", "right")
    assert (done.returncode, done.stdout) == (2, f"{call}\t{texts[1]}\n")
    assert done.stderr.startswith(f"error: {spoken[0][0]}: has 1 channel (mono), so there is no channel 1")


def test_segments_and_channels_of_a_manifest(
    triton: Any, run_command: Any, call: Path, talkers: list[Samples], texts: list[str], tmp_path: Path
) -> None:
    joined = tmp_path / "joined.wav"
    soundfile.write(joined, np.concatenate(talkers), SAMPLE_RATE)
    seconds = len(talkers[0]) / SAMPLE_RATE
    lines = [
        {"audio_filepath": "joined.wav", "offset": 0, "duration": seconds},
        {"audio_filepath": "joined.wav", "offset": seconds},
        {"audio_filepath": "call.wav", "channel": "right"},
        {"audio_filepath": "joined.wav", "offset": 3 * seconds},
    ]
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = run_command("transcribe", manifest, "--url", triton.url, "--format", "jsonl")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["pred_text"] for row in rows] == [texts[0], texts[1], texts[1]]
    assert [(row.get("offset"), row.get("channel")) for row in rows] == [(0, None), (seconds, None), (None, "right")]
    assert [row["duration"] for row in rows] == [pytest.approx(seconds, abs=1e-4)] * 3
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {joined}: offset {3 * seconds:g} s is beyond its end")
    assert done.stderr.endswith(f" ({manifest}:4)\n")


def test_a_channel_of_a_manifest_goes_before_each(
    triton: Any, run_command: Any, call: Path, texts: list[str], tmp_path: Path
) -> None:
    manifest = tmp_path / "m.jsonl"
    manifest.write_text(
        "".join(
            json.dumps(line) + "\n"
            for line in ({"audio_filepath": "call.wav", "channel": 1}, {"audio_filepath": "call.wav"})
        )
    )
    done = run_command("transcribe", manifest, "--url", triton.url, "--channel", "each")
    right, left = f"{call} [channel 1]\t{texts[1]}", f"{call}\tchannel 0\t{texts[0]}"
    assert done.stdout.splitlines() == [right, left, f"{call}\tchannel 1\t{texts[1]}"]


def test_other_fields_of_a_manifest_are_kept(
    triton: Any, run_command: Any, call: Path, texts: list[str], tmp_path: Path
) -> None:
    """As NeMo's transcribe_speech.py keeps them."""
    words = [{"start": 0.5}, {"start": None}]
    others = {"utt_id": "u1", "speaker": None, "words": words, "odd": "\udc80\ud800", "pred_text": "old"}
    line = {"path": "call.wav", "duration": 1000, **others, "channel": "right", "sentence": "bear"}
    manifest = tmp_path / "m.jsonl"
    # NaN is not JSON, but Python writes it.
    manifest.write_text(json.dumps(line).replace('{"start": null}', '{"start": NaN}') + "\n")
    output = tmp_path / "out.jsonl"
    for style in (("--output", output), ()):
        done = run_command("transcribe", manifest, "--url", triton.url, "--format", "jsonl", *style)
        assert done.returncode == 0
    assert done.stdout == output.read_text(encoding="utf-8")
    row = json.loads(done.stdout)
    assert list(row)[:4] == ["utt_id", "speaker", "words", "odd"]
    expected = {**others, "audio_filepath": str(call), "channel": "right", "text": "bear", "pred_text": texts[1]}
    assert row == {**expected, "duration": pytest.approx(soundfile.info(call).duration, abs=1e-4)}
    done = run_command("transcribe", output, "--url", triton.url, "--format", "jsonl")
    assert (done.stdout, done.stderr) == (output.read_text(encoding="utf-8"), "")


def test_the_utterances_of_kaldi_have_their_names(
    triton: Any, run_command: Any, call: Path, texts: list[str], tmp_path: Path
) -> None:
    (tmp_path / "wav.scp").write_text("rec call.wav\n")
    (tmp_path / "segments").write_text("first rec 0 -1 0\nsecond rec 0 -1 1\n")
    done = run_command("transcribe", tmp_path, "--url", triton.url, "--format", "jsonl")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    expected = [("first", 0, texts[0]), ("second", 1, texts[1])]
    assert [(row["utt_id"], row["channel"], row["pred_text"]) for row in rows] == expected


def test_a_duration_far_from_the_file_is_said(
    triton: Any, run_command: Any, spoken: Spoken, talkers: list[Samples], texts: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, talkers[0], SAMPLE_RATE)
    manifest = tmp_path / "m.jsonl"
    manifest.write_text(json.dumps({"audio_filepath": "a.wav", "duration": 1.0}) + "\n")
    done = run_command("transcribe", manifest, "--url", triton.url)
    assert (done.returncode, done.stdout) == (0, f"{path}\t{texts[0]}\n")
    assert done.stderr.startswith(f"warning: {path}: is ") and "its duration in the manifest is 1 s" in done.stderr


def test_a_folder_of_phone_recordings(triton: Any, run_command: Any, talkers: list[Samples], tmp_path: Path) -> None:
    folder = tmp_path / "phone"
    folder.mkdir()
    encode(as_float(talkers[0]), folder / "note.m4a", codec="aac", rate=44100, container="mp4")
    (folder / "note.txt").write_text("no audio")
    damaged = folder / "order.wav"
    soundfile.write(damaged, talkers[1], SAMPLE_RATE)
    damaged.write_bytes(damaged.read_bytes()[:-20000])
    with Recognizer(triton.model, triton.url) as recognizer:
        expected = [recognizer.transcribe(load_audio(path)).text for path in (folder / "note.m4a", damaged)]
    assert all(expected)
    done = run_command("transcribe", folder, "--url", triton.url)
    assert done.stdout.splitlines() == [f"{folder / 'note.m4a'}\t{expected[0]}", f"{damaged}\t{expected[1]}"]
    skipped, cut = done.stderr.splitlines()
    assert skipped == f"warning: {folder}: 1 file skipped, not audio (1 .txt)"
    assert cut.startswith(f"warning: {damaged}: its header says ") and cut.endswith(" s that can be read are used")
    assert done.returncode == 0


def test_a_server_without_float_samples(triton: Any, talkers: list[Samples]) -> None:
    with Recognizer(triton.model, triton.url) as recognizer:
        recognizer.model = replace(recognizer.model, float_name=None)
        with pytest.raises(RecognitionError, match=f"the server has no {triton.model}_float for float samples"):
            recognizer.transcribe(as_float(talkers[0]))


@pytest.mark.parametrize("sample", [np.nan, np.inf, 1e30])
def test_float_samples_that_cannot_be_used_fail_by_themselves(
    triton: Any, talkers: list[Samples], sample: float
) -> None:
    samples = as_float(talkers[0]).copy()
    samples[700] = sample
    with Recognizer(triton.model, triton.url) as recognizer:
        with pytest.raises(RecognitionError, match="audio has NaN, infinite or huge samples"):
            recognizer.transcribe(samples)
        assert recognizer.transcribe(as_float(talkers[0])).text
