"""The command that prepares data sets, against a real HTTP server that serves a small LibriSpeech."""

from __future__ import annotations

import hashlib
import io
import json
import re
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmark.data import librispeech
from benchmark.prepare import prepare
from nemo_triton.manifest import Utterance, read_manifest

ROOT = Path(__file__).parents[2]
RANDOM = np.random.default_rng(0)


@dataclass
class Server:
    """Serves `files` by path. Each request takes the next of `breaks`: the bytes after which it hangs up, if any."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    breaks: list[int | None] = field(default_factory=list)
    knows_ranges: bool = True
    ranges: list[str | None] = field(default_factory=list)
    """The Range header of each request so far."""


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers["Range"]
            state.ranges.append(wanted)
            content = state.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            start = 0
            if wanted is not None and state.knows_ranges:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                if start >= len(content):
                    self.send_error(416)
                    return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            limit = state.breaks.pop(0) if state.breaks else None
            self.wfile.write(content[start:] if limit is None else content[start : start + limit])

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        state.url = f"http://127.0.0.1:{listener.server_address[1]}/12"
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        listener.shutdown()
        thread.join()


def flac(seconds: float = 0.5, rate: int = 16000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, RANDOM.integers(-999, 999, round(seconds * rate), np.int16), rate, format="FLAC")
    return file.getvalue()


def librispeech_files() -> dict[str, bytes]:
    chapter = "LibriSpeech/dev-clean/84/121123"
    other = "LibriSpeech/dev-clean/1272/128104"
    return {
        "LibriSpeech/README.TXT": b"about",
        f"{chapter}/84-121123.trans.txt": b"84-121123-0000 GO DO YOU HEAR\n84-121123-0001 IT'S ALL\n",
        f"{chapter}/84-121123-0000.flac": flac(0.5),
        f"{chapter}/84-121123-0001.flac": flac(1.25),
        f"{other}/1272-128104.trans.txt": b"1272-128104-0000 MISTER QUILTER\n",
        f"{other}/1272-128104-0000.flac": flac(2),
    }


def archive_of(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return content.getvalue()


@dataclass
class Mirror:
    server: Server
    content: bytes

    def run(self, out: Path) -> int:
        return run("dev-clean", "--out", out, "--mirror", self.server.url)


@pytest.fixture
def mirror(server: Server, monkeypatch: pytest.MonkeyPatch) -> Mirror:
    """dev-clean in miniature, with its own checksum in place of the real one's."""
    return serve(server, monkeypatch, archive_of(librispeech_files()))


def serve(server: Server, monkeypatch: pytest.MonkeyPatch, content: bytes) -> Mirror:
    server.files["/12/dev-clean.tar.gz"] = content
    monkeypatch.setitem(librispeech.SHA256, "dev-clean", hashlib.sha256(content).hexdigest())
    return Mirror(server, content)


def run(*arguments: object) -> int:
    return int(prepare.main([str(argument) for argument in arguments], standalone_mode=False))


def run_module(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmark.prepare", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def errors(capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("error: ") for line in lines)
    return [line.removeprefix("error: ") for line in lines]


def entries(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def description(folder: Path) -> dict[str, object]:
    content = json.loads((folder / "dataset.json").read_text())
    assert isinstance(content, dict)
    return content


def test_librispeech_becomes_a_manifest_and_a_description(mirror: Mirror, tmp_path: Path) -> None:
    out = tmp_path / "sets"
    assert mirror.run(out) == 0
    folder = out / "dev-clean"
    names = ["1272/128104/1272-128104-0000", "84/121123/84-121123-0000", "84/121123/84-121123-0001"]
    paths = [f"LibriSpeech/dev-clean/{name}.flac" for name in names]
    assert entries(folder) == [
        {"audio_filepath": paths[0], "duration": 2.0, "text": "mister quilter"},
        {"audio_filepath": paths[1], "duration": 0.5, "text": "go do you hear"},
        {"audio_filepath": paths[2], "duration": 1.25, "text": "it's all"},
    ]
    assert description(folder) == {
        "name": "dev-clean",
        "source": "https://www.openslr.org/resources/12/dev-clean.tar.gz",
        "licence": "CC BY 4.0",
        "utterances": 3,
        "seconds": 3.75,
        "manifest_sha256": hashlib.sha256((folder / "manifest.jsonl").read_bytes()).hexdigest(),
        "audio_sha256": hashlib.sha256(b"".join((folder / path).read_bytes() for path in paths)).hexdigest(),
    }
    utterances = read_manifest(folder / "manifest.jsonl").utterances
    assert utterances[0] == Utterance(folder / paths[0], "mister quilter")
    assert not list(folder.glob("*.tar.gz*"))


def test_a_second_run_fetches_and_writes_nothing(
    mirror: Mirror, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mirror.run(tmp_path) == 0
    first = capsys.readouterr().out
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "dev-clean").rglob("*")}
    assert mirror.run(tmp_path) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "dev-clean").rglob("*")} == written
    assert mirror.server.ranges == [None]
    assert "prepared, 3 utterances, 3.8 s" in first
    assert "already prepared, unchanged" in capsys.readouterr().out


@pytest.mark.parametrize("victim", ["manifest.jsonl", "dataset.json", "84-121123-0000.flac"])
def test_a_set_that_was_damaged_is_prepared_again(mirror: Mirror, tmp_path: Path, victim: str) -> None:
    assert mirror.run(tmp_path) == 0
    before = description(tmp_path / "dev-clean")
    [path] = tmp_path.rglob(victim)
    path.write_bytes(path.read_bytes() + b"x")
    assert mirror.run(tmp_path) == 0
    assert description(tmp_path / "dev-clean") == before
    assert mirror.server.ranges == [None, None]


def test_a_transfer_that_breaks_off_goes_on_by_itself(mirror: Mirror, tmp_path: Path) -> None:
    mirror.server.breaks = [1000, 500, None]
    assert mirror.run(tmp_path) == 0
    assert mirror.server.ranges == [None, "bytes=1000-", "bytes=1500-"]
    assert description(tmp_path / "dev-clean")["utterances"] == 3


def test_a_transfer_that_gets_no_further_is_taken_up_by_the_next_run(
    mirror: Mirror, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror.server.breaks = [1000, 0]
    assert mirror.run(tmp_path) == 2
    [line] = errors(capsys)
    assert line.startswith(f"{mirror.server.url}/dev-clean.tar.gz: ") and "1000 of" in line and "--mirror" in line
    assert mirror.run(tmp_path) == 0
    assert mirror.server.ranges[2:] == ["bytes=1000-"]


def test_a_server_without_ranges_sends_all_again(mirror: Mirror, tmp_path: Path) -> None:
    mirror.server.breaks = [1000, None]
    mirror.server.knows_ranges = False
    assert mirror.run(tmp_path) == 0
    assert description(tmp_path / "dev-clean")["utterances"] == 3


def test_a_server_without_ranges_that_always_breaks_off_is_given_up(mirror: Mirror, tmp_path: Path) -> None:
    mirror.server.breaks = [1000] * 9
    mirror.server.knows_ranges = False
    assert mirror.run(tmp_path) == 2
    assert len(mirror.server.ranges) == 2


def test_all_bytes_there_but_not_yet_named(mirror: Mirror, tmp_path: Path) -> None:
    part = tmp_path / "dev-clean" / "dev-clean.tar.gz.part"
    part.parent.mkdir()
    part.write_bytes(mirror.content)
    assert mirror.run(tmp_path) == 0
    assert description(tmp_path / "dev-clean")["utterances"] == 3


@pytest.mark.parametrize("excess", [b"", b"more than the server has"])
def test_a_wrong_checksum_is_one_line_and_the_file_is_removed(
    mirror: Mirror, tmp_path: Path, capsys: pytest.CaptureFixture[str], excess: bytes
) -> None:
    part = tmp_path / "dev-clean" / "dev-clean.tar.gz.part"
    part.parent.mkdir()
    part.write_bytes(bytes(len(mirror.content) - 9) if not excess else mirror.content + excess)
    assert mirror.run(tmp_path) == 2
    [line] = errors(capsys)
    assert line.startswith(f"{mirror.server.url}/dev-clean.tar.gz: wrong file, its SHA-256 is")
    assert not list(part.parent.iterdir())
    assert mirror.run(tmp_path) == 0


def test_a_mirror_without_the_archive_costs_the_other_sets_nothing(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = write_own_set(tmp_path / "own")
    assert run("test-other", f"own={manifest}", "--out", tmp_path / "sets", "--mirror", server.url) == 2
    [line] = errors(capsys)
    assert line.startswith(f"{server.url}/test-other.tar.gz: the server answers 404")
    assert description(tmp_path / "sets" / "own")["utterances"] == 2


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/12"
    assert run("dev-clean", "--out", tmp_path, "--mirror", url) == 2
    [line] = errors(capsys)
    assert line.startswith(f"{url}/dev-clean.tar.gz: cannot be reached (")


def test_a_folder_serves_as_a_mirror(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "dev-clean.tar.gz").write_bytes(mirror.content)
    assert run("dev-clean", "--out", tmp_path / "sets", "--mirror", tmp_path.as_uri()) == 0
    assert description(tmp_path / "sets" / "dev-clean")["utterances"] == 3


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (archive_of({"../../evil.txt": b"x"}), "cannot be unpacked"),
        (archive_of(librispeech_files())[:2000], "cannot be unpacked"),
        (b"not an archive", "cannot be unpacked"),
        (archive_of({"LibriSpeech/README.TXT": b"x"}), "no utterance in LibriSpeech/dev-clean"),
    ],
)
def test_an_archive_that_is_no_good_is_one_line(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes,
    says: str,
) -> None:
    out = tmp_path / "a" / "b"
    assert serve(server, monkeypatch, content).run(out) == 2
    [line] = errors(capsys)
    assert line.startswith(f"{out / 'dev-clean' / 'dev-clean.tar.gz'}: {says}")
    assert not list(tmp_path.rglob("evil.txt"))


def test_transcripts_without_text_or_audio_cost_the_others_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = librispeech_files()
    files["LibriSpeech/dev-clean/84/121123/84-121123.trans.txt"] += b"84-121123-0002\n84-121123-0003 GONE\n"
    assert serve(server, monkeypatch, archive_of(files)).run(tmp_path) == 2
    no_text, no_audio = errors(capsys)
    assert "84-121123.trans.txt:3: no text" in no_text
    assert "84-121123-0003.flac: no such file" in no_audio
    assert description(tmp_path / "dev-clean")["utterances"] == 3


def write_own_set(folder: Path, *more: str) -> Path:
    """A CSV as SpeechLoop writes it: two good recordings, one of them at 8 kHz, and whatever lines `more` has."""
    (folder / "wavs").mkdir(parents=True)
    (folder / "wavs" / "bear.flac").write_bytes(flac(0.5))
    (folder / "wavs" / "ant.flac").write_bytes(flac(0.75, rate=8000))
    lines = ['"filename","transcript"', '"./data/set/wavs/bear.flac","bear"', '"./data/set/wavs/ant.flac","Ant"', *more]
    path = folder / "words.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_csv_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = write_own_set(tmp_path / "words set")
    folder = tmp_path / "sets" / "words"
    assert run(f"words={manifest}", "--out", tmp_path / "sets") == 0
    assert entries(folder) == [
        {"audio_filepath": "../../words set/wavs/bear.flac", "duration": 0.5, "text": "bear"},
        {"audio_filepath": "../../words set/wavs/ant.flac", "duration": 0.75, "text": "Ant"},
    ]
    found = description(folder)
    assert (found["name"], found["source"], found["licence"]) == ("words", str(manifest), None)
    assert found["seconds"] == 1.25
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
    assert description(folder)["audio_sha256"] != found["audio_sha256"]


def test_a_nemo_manifest_with_bad_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = tmp_path / "good.flac"
    good.write_bytes(flac())
    (tmp_path / "noise.flac").write_bytes(b"no audio at all")
    manifest = tmp_path / "m.jsonl"
    rows = [
        {"audio_filepath": "good.flac", "duration": 99, "text": "half a pair \ud83d"},
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
    expected = {"audio_filepath": "../../good.flac", "duration": 0.5, "text": "half a pair \ud83d"}
    assert entries(tmp_path / "sets" / "own") == [expected]


def test_a_recording_that_is_listed_twice_counts_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = write_own_set(tmp_path / "words", '"./data/set/wavs/bear.flac","another"')
    assert run(f"words={manifest}", "--out", tmp_path / "sets") == 2
    (twice,) = errors(capsys)
    assert "bear.flac: is listed twice" in twice
    assert [entry["text"] for entry in entries(tmp_path / "sets" / "words")] == ["bear", "Ant"]


def test_a_set_without_one_good_recording_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text("filename,transcript\ngone.wav,bear\n")
    assert run(f"own={manifest}", f"none={tmp_path / 'none.csv'}", "--out", tmp_path / "sets") == 2
    own, none = errors(capsys)
    assert "gone.wav: no such file" in own and "no other utterance of own can be used" in own
    assert none.startswith(f"{tmp_path / 'none.csv'}: cannot be read")
    assert not (tmp_path / "sets" / "own" / "dataset.json").exists()


def test_a_file_where_the_folder_should_be_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = write_own_set(tmp_path / "own")
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "words").write_text("in the way")
    assert run(f"words={manifest}", f"more={manifest}", "--out", tmp_path / "sets") == 2
    [line] = errors(capsys)
    assert line.startswith(f"{tmp_path / 'sets' / 'words'}: ")
    assert description(tmp_path / "sets" / "more")["utterances"] == 2


def test_audio_behind_a_link_is_found_from_the_manifest(tmp_path: Path) -> None:
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
        (["dev-clean", "--mirror", "openslr.org"], "openslr.org is no URL"),
        (["dev-clean", "--mirror", "https://[half"], "https://[half is no URL"),
        ([], "NAME"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(tmp_path: Path, arguments: list[str], says: str) -> None:
    finished = run_module(*arguments, "--out", tmp_path / "sets")
    assert finished.returncode == 2
    assert re.fullmatch(r"error: [^\n]*\n", finished.stderr) and says in finished.stderr
    assert not (tmp_path / "sets").exists()


def test_the_command_as_it_is_typed(tmp_path: Path) -> None:
    manifest = write_own_set(tmp_path / "own", "gone.wav,gone")
    finished = run_module(f"words={manifest}", "--out", tmp_path / "sets")
    assert finished.returncode == 2
    assert finished.stdout == f"{tmp_path / 'sets' / 'words'}: prepared, 2 utterances, 1.2 s\n"
    assert re.fullmatch(r"error: [^\n]*gone\.wav: no such file[^\n]*\n", finished.stderr)
