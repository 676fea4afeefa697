"""LibriSpeech from a real HTTP server: interrupted transfers, missing files and wrong files."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_librispeech import (
    Mirror,
    Server,
    archive_of,
    description,
    entries,
    errors,
    librispeech_files,
    run,
    running_mirror,
    serve,
    write_own_set,
)

from nemo_triton.manifest import Utterance, read_manifest

pytestmark = pytest.mark.fast


@pytest.fixture
def server() -> Iterator[Server]:
    with running_mirror() as state:
        yield state


@pytest.fixture
def mirror(server: Server, monkeypatch: pytest.MonkeyPatch) -> Mirror:
    """A small dev-clean on the server; its checksum replaces the real one."""
    return serve(server, monkeypatch, archive_of(librispeech_files()))


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


def test_a_second_run_downloads_and_writes_nothing(
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
def test_a_damaged_set_is_prepared_again(mirror: Mirror, tmp_path: Path, victim: str) -> None:
    assert mirror.run(tmp_path) == 0
    before = description(tmp_path / "dev-clean")
    [path] = tmp_path.rglob(victim)
    path.write_bytes(path.read_bytes() + b"x")
    assert mirror.run(tmp_path) == 0
    assert description(tmp_path / "dev-clean") == before
    assert mirror.server.ranges == [None, None]


def test_a_broken_transfer_resumes(mirror: Mirror, tmp_path: Path) -> None:
    mirror.server.breaks = [1000, 500, None]
    assert mirror.run(tmp_path) == 0
    assert mirror.server.ranges == [None, "bytes=1000-", "bytes=1500-"]
    assert description(tmp_path / "dev-clean")["utterances"] == 3


def test_the_next_run_resumes_a_failed_transfer(
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


def test_repeated_failures_without_ranges_end_the_download(mirror: Mirror, tmp_path: Path) -> None:
    mirror.server.breaks = [1000] * 9
    mirror.server.knows_ranges = False
    assert mirror.run(tmp_path) == 2
    assert len(mirror.server.ranges) == 2


def test_a_complete_part_file_is_used(mirror: Mirror, tmp_path: Path) -> None:
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


def test_a_missing_archive_does_not_stop_other_sets(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = write_own_set(tmp_path / "own")
    assert run("test-other", f"own={manifest}", "--out", tmp_path / "sets", "--mirror", server.url) == 2
    [line] = errors(capsys)
    assert line.startswith(f"{server.url}/test-other.tar.gz: the server answers 404")
    assert description(tmp_path / "sets" / "own")["utterances"] == 2


def test_an_unreachable_server_is_one_error_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
def test_a_bad_archive_is_one_error_line(
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


def test_transcripts_without_text_or_audio_are_skipped(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = librispeech_files()
    files["LibriSpeech/dev-clean/84/121123/84-121123.trans.txt"] += b"84-121123-0002\n84-121123-0003 GONE\n"
    assert serve(server, monkeypatch, archive_of(files)).run(tmp_path) == 2
    no_text, no_audio = errors(capsys)
    assert "84-121123.trans.txt:3: no text" in no_text
    assert "84-121123-0003.flac: no such file" in no_audio
    assert description(tmp_path / "dev-clean")["utterances"] == 3
