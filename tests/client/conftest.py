"""Fixtures for the commands, and for one and several servers."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from audio_formats import write_all
from audio_signals import noise, tone
from bench_files import Spoken
from locations import ROOT
from several_servers import Serve

from nemo_triton.audio import Samples, load_audio
from nemo_triton.recognizer import Recognizer
from server.process import Server, running_server

Command: TypeAlias = Callable[..., "subprocess.Popen[str]"]
Finished: TypeAlias = "subprocess.CompletedProcess[str]"


@pytest.fixture(scope="session")
def start_command() -> Command:
    """Start `python client/NAME.py` with piped output."""

    def start(name: str, *arguments: object) -> subprocess.Popen[str]:
        script = ROOT / "client" / f"{name}.py"
        command = [sys.executable, str(script), *map(str, arguments)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


@pytest.fixture(scope="session")
def run_command(start_command: Command) -> Callable[..., Finished]:
    """Run a command and wait for its end."""

    def run(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        process = start_command(name, *arguments)
        stdout, stderr = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    return run


@pytest.fixture
def absent_url() -> str:
    """The address of a port of this machine that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(scope="session")
def spoken(demo_manifest: Path) -> Spoken:
    """The audio files and texts of the demo's manifest, read without the code under test."""
    entries = [json.loads(line) for line in demo_manifest.read_text().splitlines()]
    return [(demo_manifest.parent / entry["audio_filepath"], entry["text"]) for entry in entries]


@pytest.fixture(scope="session")
def serve(repository: Path, triton: Any) -> Serve:
    """Start a server of the CTC model, on a free port or at `grpc`."""
    only = ["--model-control-mode=explicit", f"--load-model={triton.model}"]

    def start(grpc: str | None = None, models: Path = repository) -> AbstractContextManager[Server]:
        return running_server(models, only, grpc=grpc)

    return start


@pytest.fixture(scope="session")
def pair(serve: Serve) -> Iterator[tuple[Server, Server]]:
    """Two servers that all tests share."""
    with serve() as first, serve() as second:
        yield first, second


@pytest.fixture
def mortal(serve: Serve) -> Iterator[tuple[Server, Server]]:
    """Two servers that a test can kill."""
    with serve() as first, serve() as second:
        yield first, second


@pytest.fixture(scope="session")
def recordings(spoken: Spoken) -> list[Samples]:
    return [load_audio(path) for path, _ in spoken]


@pytest.fixture(scope="session")
def served_texts(triton: Any, recordings: list[Samples]) -> list[str]:
    """The transcripts of a single server."""
    with Recognizer(triton.model, triton.url) as recognizer:
        return [recognizer.transcribe(samples).text for samples in recordings]


@pytest.fixture
def warnings_are_logged() -> Iterator[None]:
    """Let warnings be logged: programs that other tests call in this process disable them."""
    level = logging.root.manager.disable
    logging.disable(logging.NOTSET)
    yield
    logging.disable(level)


@pytest.fixture(scope="session")
def in_every_format(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Six seconds of a tone in every format, by file name."""
    # With noise, because the codecs' headers are longer than a compressed tone.
    recording = tone(16000, 6.0) + noise(96000) * 3e-6
    return {file.name: file for file in write_all(recording.astype(np.float32), tmp_path_factory.mktemp("formats"))}
