"""transcribe.py over a folder and manifests with good and mutated files, and what must come out."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import hypothesis
from hypothesis import HealthCheck
from hypothesis import strategies as st

from nemo_triton.audio import load_audio
from nemo_triton.manifest import Manifest, find_audio, read_manifest
from nemo_triton.recognizer import Recognizer
from nemo_triton.terminal.exit_codes import EXIT_PROBLEM
from verification.fuzz.audio_files import mutated_audio
from verification.fuzz.manifest_lines import mutated_line

Value = TypeVar("Value")

TRANSCRIBE = Path(__file__).parents[2] / "client" / "transcribe.py"
_SECONDS_FOR_START, _SECONDS_PER_FILE = 120.0, 0.5
"""Time after which it counts as hung, for each mutated file with its good one: ten times the usual."""
_FIELDS = ("audio_filepath", "text")


@dataclass
class Results:
    """What came out.

    Attributes:
        good: Number of good files and lines with their text.
        mutated: Number of mutated files and lines.
        mutated_with_text: Number of these that could still be read.
        lines: Number of error lines.
        warnings: Number of warnings.
        seconds: Duration of the command.
        wrong: One line for each good file without its text, each bad one without its line, and anything else printed.
    """

    good: int = 0
    mutated: int = 0
    mutated_with_text: int = 0
    lines: int = 0
    warnings: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


def texts_of(manifest: Path, model: str, url: str) -> dict[Path, str]:
    """Transcribe the recordings of a manifest one at a time, by the library."""
    with Recognizer(model, url) as recognizer:
        return {
            utterance.audio: recognizer.transcribe(load_audio(utterance.audio)).text
            for utterance in read_manifest(manifest).utterances
        }


def draw(strategy: st.SearchStrategy[Value], *, seed: int, count: int) -> list[Value]:
    """Draw values from a strategy, the same for the same seed."""
    values: list[Value] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(max_examples=count, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @hypothesis.given(strategy)
    def collect(value: Value) -> None:
        values.append(value)

    collect()
    return values


def transcribe_folder(
    folder: Path, speech: Mapping[Path, str], *, model: str, url: str, files: int, seed: int
) -> Results:
    """Write good and mutated files and manifests into a folder, transcribe all, and compare.

    Args:
        folder: An empty folder.
        speech: Text of each good recording, FLAC files.
        model: The recognizer.
        url: Its server.
        files: Number of mutated files. There are as many good ones, and as many lines of manifests.
        seed: Seed of the mutations.
    """
    good = _write_audio(folder / "audio", speech, files, seed)
    manifests, good_lines = _write_manifests(folder, speech, files, seed)
    paths = [folder / "audio", *manifests]
    results = Results()
    started = time.monotonic()
    command = [sys.executable, str(TRANSCRIBE), *map(str, paths), "--model", model, "--url", url, "--format", "jsonl"]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=_SECONDS_FOR_START + _SECONDS_PER_FILE * files,
        )
    except subprocess.TimeoutExpired as error:
        results.wrong.append(f"{TRANSCRIBE.name} had not ended after {error.timeout:.0f} s")
        return results
    results.seconds = time.monotonic() - started
    if done.returncode != EXIT_PROBLEM:
        results.wrong.append(f"exit code {done.returncode}")
    _compare(results, done.stdout, done.stderr, good | good_lines, find_audio(paths))
    return results


def _write_audio(folder: Path, speech: Mapping[Path, str], count: int, seed: int) -> dict[str, str]:
    """Write mutated files, and a good one after each. Returns the text of each good one by its path."""
    folder.mkdir()
    good = {}
    recordings = list(speech)
    for number, (suffix, content) in enumerate(draw(mutated_audio(), seed=seed, count=count)):
        (folder / f"{number:05}_mutated.{suffix}").write_bytes(content)
        recording = recordings[number % len(recordings)]
        path = folder / f"{number:05}_good.flac"
        shutil.copy(recording, path)
        good[str(path)] = speech[recording]
    return good


def _write_manifests(
    folder: Path, speech: Mapping[Path, str], count: int, seed: int
) -> tuple[list[Path], dict[str, str]]:
    """Write JSON lines, CSV and TSV with mutated lines, and a good one after each.

    Returns:
        The manifests, and the text of each good line by the path of its recording.
    """
    manifests, good = [], {}
    recordings = list(speech)
    for name, delimiter in (("lines.jsonl", None), ("rows.csv", ","), ("rows.tsv", "\t")):
        audio = folder / name.partition(".")[2]
        audio.mkdir()
        shutil.copy(recordings[0], audio / "mutated.flac")
        lines = [] if delimiter is None else [delimiter.join(_FIELDS)]
        line_to_mutate = mutated_line(_line(audio / "mutated.flac", delimiter))
        for number, line in enumerate(draw(line_to_mutate, seed=seed, count=max(count // 3, 1))):
            recording = recordings[number % len(recordings)]
            path = audio / f"{number:05}_good.flac"
            shutil.copy(recording, path)
            good[str(path)] = speech[recording]
            lines += [line, _line(path, delimiter)]
        manifests.append(folder / name)
        manifests[-1].write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="")
    return manifests, good


def _line(path: Path, delimiter: str | None) -> str:
    entry = (f"{path.parent.name}/{path.name}", "one coffee")
    return json.dumps(dict(zip(_FIELDS, entry, strict=True))) if delimiter is None else delimiter.join(entry)


def _compare(results: Results, output: str, printed: str, good: Mapping[str, str], listed: Manifest) -> None:
    texts: dict[str, list[str]] = {}
    # splitlines() would also split at characters that JSON allows in a string, such as U+2028.
    for line in output.split("\n")[:-1]:
        try:
            entry = json.loads(line)
        except ValueError:
            results.wrong.append(f"printed: {line}")
            continue
        texts.setdefault(entry["audio_filepath"], []).append(entry["pred_text"])
    errors = []
    for line in printed.split("\n")[:-1]:
        if line.startswith("error: "):
            errors.append(line.removeprefix("error: "))
        elif line.startswith("warning: "):
            results.warnings += 1
        else:
            results.wrong.append(f"printed: {line}")
    for path, text in good.items():
        if texts.get(path) == [text]:
            results.good += 1
        else:
            results.wrong.append(f"{path}: {texts.get(path)}, expected {text!r}")
    lines = Counter(line.partition(": ")[0] for line in errors)
    for path in (str(utterance.audio) for utterance in listed.utterances if not utterance.line):
        outcomes = len(texts.get(path, ())) + lines[path]
        if outcomes != 1:
            results.wrong.append(f"{path}: {outcomes} texts and lines")
    results.mutated = len(listed.utterances) + len(listed.problems) - len(good)
    results.mutated_with_text = sum(map(len, texts.values())) - results.good
    results.lines = len(errors)
    if results.mutated != results.mutated_with_text + results.lines:
        results.wrong.append(
            f"{results.mutated} mutated inputs gave {results.mutated_with_text} texts and {results.lines} lines"
        )
