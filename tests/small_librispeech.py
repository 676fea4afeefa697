"""A small LibriSpeech, an HTTP server that serves it, and the command that prepares it."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmark.data import librispeech
from benchmark.prepare import prepare

RANDOM = np.random.default_rng(0)


@dataclass
class Server:
    """State of an HTTP server.

    Attributes:
        url: Address of the mirror.
        files: Contents of its files by path.
        breaks: Bytes after which the next request is cut off; None sends the whole file.
        knows_ranges: Whether it honours the Range header.
        ranges: Range header of each request so far.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    breaks: list[int | None] = field(default_factory=list)
    knows_ranges: bool = True
    ranges: list[str | None] = field(default_factory=list)


@contextmanager
def running_mirror() -> Iterator[Server]:
    """Run an HTTP server on this machine, at first without files."""
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            byte_range = self.headers["Range"]
            state.ranges.append(byte_range)
            content = state.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            start = 0
            if byte_range is not None and state.knows_ranges:
                start = int(byte_range.removeprefix("bytes=").removesuffix("-"))
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


def serve(server: Server, monkeypatch: pytest.MonkeyPatch, content: bytes) -> Mirror:
    server.files["/12/dev-clean.tar.gz"] = content
    monkeypatch.setitem(librispeech.SHA256, "dev-clean", hashlib.sha256(content).hexdigest())
    return Mirror(server, content)


def run(*arguments: object) -> int:
    return int(prepare.main([str(argument) for argument in arguments], standalone_mode=False))


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


def write_own_set(folder: Path, *more: str) -> Path:
    """Write a CSV like SpeechLoop's with two good recordings, one at 8 kHz, and the lines in `more`."""
    (folder / "wavs").mkdir(parents=True)
    (folder / "wavs" / "bear.flac").write_bytes(flac(0.5))
    (folder / "wavs" / "ant.flac").write_bytes(flac(0.75, rate=8000))
    lines = ['"filename","transcript"', '"./data/set/wavs/bear.flac","bear"', '"./data/set/wavs/ant.flac","Ant"', *more]
    path = folder / "words.csv"
    path.write_text("\n".join(lines) + "\n")
    return path
