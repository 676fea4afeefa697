"""benchmark.prepare with the user's manifests."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from benchmark_results import RunModule
from small_librispeech import description, entries, errors, flac, run, write_own_set

from nemo_triton.manifest import read_manifest

pytestmark = pytest.mark.fast


def test_a_csv_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = write_own_set(tmp_path / "words set")
    folder = tmp_path / "sets" / "words"
    assert run(f"words={manifest}", "--out", tmp_path / "sets") == 0
    assert entries(folder) == [
        {"audio_filepath": "../../words set/wavs/bear.flac", "duration": 0.5, "text": "bear"},
        {"audio_filepath": "../../words set/wavs/ant.flac", "duration": 0.75, "text": "Ant"},
    ]
    dataset = description(folder)
    assert (dataset["name"], dataset["source"], dataset["licence"]) == ("words", str(manifest), None)
    assert dataset["seconds"] == 1.25
    assert [utterance.audio.is_file() for utterance in read_manifest(folder / "manifest.jsonl").utterances] == [
        True
    ] * 2

    written = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    capsys.readouterr()
    assert run(f"words={manifest}", "--out", tmp_path / "sets") == 0
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == written
    assert "already prepared, unchanged" in capsys.readouterr().out

    (tmp_path / "words set" / "wavs" / "bear.flac").write_bytes(flac(0.5))
    assert run(f"words={manifest}", "--out", tmp_path / "sets") == 0
    assert "unchanged" not in capsys.readouterr().out
    assert description(folder)["audio_sha256"] != dataset["audio_sha256"]


def test_a_nemo_manifest_with_bad_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = tmp_path / "good.flac"
    good.write_bytes(flac())
    (tmp_path / "noise.flac").write_bytes(b"no audio at all")
    manifest = tmp_path / "m.jsonl"
    rows = [
        {"audio_filepath": "good.flac", "duration": 99, "text": "half a pair"},
        {"audio_filepath": "good.flac"},
        {"audio_filepath": "gone.flac", "text": "gone"},
        {"audio_filepath": "noise.flac", "text": "noise"},
    ]
    manifest.write_text("\n".join(map(json.dumps, rows)) + "\nnot JSON\n")
    assert run(f"own={manifest}", "--out", tmp_path / "sets") == 2
    no_text, no_json, no_file, no_audio = errors(capsys)
    assert no_text.startswith(f"{manifest}:2: no text")
    assert no_json.startswith(f"{manifest}:5: not valid JSON")
    assert no_file.startswith(f"{tmp_path / 'gone.flac'}: no such file")
    assert no_audio.startswith(f"{tmp_path / 'noise.flac'}: not readable as audio")
    expected = {"audio_filepath": "../../good.flac", "duration": 0.5, "text": "half a pair"}
    assert entries(tmp_path / "sets" / "own") == [expected]


def test_a_recording_listed_twice_counts_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = write_own_set(tmp_path / "words", '"./data/set/wavs/bear.flac","another"')
    assert run(f"words={manifest}", "--out", tmp_path / "sets") == 2
    (twice,) = errors(capsys)
    assert "bear.flac: listed twice" in twice
    assert [entry["text"] for entry in entries(tmp_path / "sets" / "words")] == ["bear", "Ant"]


def test_a_set_without_usable_recordings_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text("filename,transcript\ngone.wav,bear\n")
    assert run(f"own={manifest}", f"none={tmp_path / 'none.csv'}", "--out", tmp_path / "sets") == 2
    without_audio, without_manifest = errors(capsys)
    assert "gone.wav: no such file" in without_audio and "no other utterance of own can be used either" in without_audio
    assert without_manifest.startswith(f"{tmp_path / 'none.csv'}: cannot be read")
    assert not (tmp_path / "sets" / "own" / "dataset.json").exists()


def test_a_file_in_place_of_the_folder_is_one_error_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = write_own_set(tmp_path / "own")
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "words").write_text("in the way")
    assert run(f"words={manifest}", f"more={manifest}", "--out", tmp_path / "sets") == 2
    [line] = errors(capsys)
    assert line.startswith(f"{tmp_path / 'sets' / 'words'}: ")
    assert description(tmp_path / "sets" / "more")["utterances"] == 2


def test_audio_behind_a_symbolic_link(tmp_path: Path) -> None:
    manifest = write_own_set(tmp_path / "deep" / "down" / "own")
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "down")
    (tmp_path / "elsewhere" / "sets").mkdir(parents=True)
    (tmp_path / "sets").symlink_to(tmp_path / "elsewhere" / "sets")
    assert run(f"own={tmp_path / 'link' / 'own' / manifest.name}", "--out", tmp_path / "sets") == 0
    prepared = read_manifest(tmp_path / "sets" / "own" / "manifest.jsonl").utterances
    assert [utterance.audio.resolve().parent for utterance in prepared] == [manifest.parent / "wavs"] * 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["dev-cleen"], "dev-cleen is not one of dev-clean, dev-other, test-clean, test-other"),
        (["dev-clean=m.jsonl"], "dev-clean=m.jsonl: write NAME=PATH"),
        (["../up=m.jsonl"], "../up=m.jsonl: write NAME=PATH"),
        (["own="], "own=: write NAME=PATH"),
        (["own=a.csv", "own=b.csv"], "own is given twice"),
        (["dev-clean", "--mirror", "openslr.org"], "openslr.org is not a URL"),
        (["dev-clean", "--mirror", "https://[half"], "https://[half is not a URL"),
        ([], "NAME"),
    ],
)
def test_invalid_arguments_are_one_error_line(
    run_module: RunModule, tmp_path: Path, arguments: list[str], says: str
) -> None:
    finished = run_module("prepare", *arguments, "--out", tmp_path / "sets")
    assert finished.returncode == 2
    assert re.fullmatch(r"error: [^\n]*\n", finished.stderr) and says in finished.stderr
    assert not (tmp_path / "sets").exists()


def test_output_of_the_command(run_module: RunModule, tmp_path: Path) -> None:
    manifest = write_own_set(tmp_path / "own", "gone.wav,gone")
    finished = run_module("prepare", f"words={manifest}", "--out", tmp_path / "sets")
    assert finished.returncode == 2
    assert finished.stdout == f"{tmp_path / 'sets' / 'words'}: prepared, 2 utterances, 1.2 s\n"
    assert re.fullmatch(r"error: [^\n]*gone\.wav: no such file[^\n]*\n", finished.stderr)
