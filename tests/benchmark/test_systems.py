"""The recognizer served and in process, and systems that can't run."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from locations import DEMO_CHECKPOINT, DEMO_MANIFEST

from benchmark.baselines.errors import NotRun
from benchmark.baselines.in_process import InProcess
from benchmark.baselines.recordings import by_length, shuffled_recordings
from benchmark.baselines.served import Served
from benchmark.baselines.system import Measured, System, mean_batch, start
from benchmark.studies.batching.variants import encoder_per_core, equal_shapes_only
from benchmark.studies.variants import write_variant
from nemo_triton.contract import Part
from nemo_triton.errors import ManifestError
from nemo_triton.loadtest.recording import Recording
from server.process import running_server

RECORDINGS = shuffled_recordings(DEMO_MANIFEST)[:6]


def test_clients_pad_to_whole_multiples(repository: Path, tmp_path: Path) -> None:
    model = DEMO_CHECKPOINT.stem
    write_variant(repository, model, tmp_path, equal_shapes_only)
    with running_server(tmp_path) as server:
        system = Served("padded", model, server.grpc, RECORDINGS, pad_to=10)
        measured = system.measure(RECORDINGS, 4)
    duration = sum(recording.duration for recording in RECORDINGS)
    assert system.padding == pytest.approx(10 * len(RECORDINGS) / duration - 1), "all are shorter than 10 s"
    assert set(measured.texts) == {recording.utterance.name for recording in RECORDINGS}
    assert len(measured.latencies) == len(RECORDINGS) and measured.seconds > 0


def test_in_process_batched_and_unbatched(repository: Path) -> None:
    with InProcess(repository, DEMO_CHECKPOINT.stem) as system:
        batched, unbatched = system.measure(RECORDINGS, 32), system.measure(RECORDINGS, 1)
    assert batched.texts == unbatched.texts
    assert (batched.latencies, len(unbatched.latencies)) == ([], len(RECORDINGS))
    assert (batched.mean_batch, unbatched.mean_batch, mean_batch(40, 16)) == (len(RECORDINGS), 1, 40 / 3)


def test_in_process_has_the_threads_of_all_encoders(repository: Path, tmp_path: Path) -> None:
    write_variant(repository, DEMO_CHECKPOINT.stem, tmp_path, encoder_per_core)
    with InProcess(tmp_path, DEMO_CHECKPOINT.stem) as system:
        encoder = system.local_ensemble.sessions[Part.ENCODER.of(DEMO_CHECKPOINT.stem)]
    assert encoder.get_session_options().intra_op_num_threads == len(os.sched_getaffinity(0))


@pytest.mark.fast
def test_a_repository_without_the_model_is_not_run(tmp_path: Path) -> None:
    with pytest.raises(NotRun, match="no_such_model"), InProcess(tmp_path, "no_such_model"):
        pass


@pytest.mark.fast
def test_a_missing_package_is_the_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "export_scripts.verify.local_ensemble", raising=False)
    with pytest.raises(NotRun, match=r"^no package onnxruntime in .*; install it there$"), InProcess(tmp_path, "any"):
        pass


@pytest.mark.fast
def test_an_unreachable_server_is_not_run() -> None:
    with pytest.raises(NotRun, match="localhost:1"):
        Served("gone", DEMO_CHECKPOINT.stem, "localhost:1", RECORDINGS).measure(RECORDINGS, 1)


class Broken(System):
    """A system that starts, but can't transcribe."""

    name = "broken"
    closed = False

    def __exit__(self, *failure: object) -> None:
        self.closed = True

    def measure(self, recordings: Sequence[Recording], concurrency: int) -> Measured:
        raise NotRun("it is broken")


def test_a_broken_system_does_not_stop_the_others(repository: Path) -> None:
    broken, ours = Broken(), InProcess(repository, DEMO_CHECKPOINT.stem)
    with ExitStack() as stack:
        running, not_run = start([broken, ours], RECORDINGS, stack, concurrency=2)
        assert broken.closed
    assert (running, not_run) == ([ours], {"broken": "it is broken"})


class Counted(System):
    """A system that notes the concurrency of each pass."""

    name = "counted"

    def __init__(self) -> None:
        self.passes: list[int] = []

    def measure(self, recordings: Sequence[Recording], concurrency: int) -> Measured:
        self.passes.append(concurrency)
        return Measured(1.0, {})


@pytest.mark.fast
def test_warm_up_passes_are_as_the_measured_ones() -> None:
    counted = Counted()
    with ExitStack() as stack:
        start([counted], RECORDINGS, stack, concurrency=16)
    assert counted.passes == [16, 16]


@pytest.mark.fast
def test_recordings_come_in_random_order_and_by_length() -> None:
    recordings = shuffled_recordings(DEMO_MANIFEST)
    lengths = [len(recording.samples) for recording in recordings]
    assert lengths != sorted(lengths)
    assert [len(recording.samples) for recording in by_length(recordings)] == sorted(lengths)
    first_read = [recording.utterance.name for recording in RECORDINGS]
    assert [recording.utterance.name for recording in recordings[:6]] == first_read, "the same order each time"


@pytest.mark.fast
def test_a_manifest_with_a_bad_line_is_an_error(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text(DEMO_MANIFEST.read_text().splitlines()[0] + "\n{}\n")
    with pytest.raises(ManifestError, match=r"manifest\.jsonl:2: no audio_filepath"):
        shuffled_recordings(manifest)
