"""Measure one model: speed compared with NeMo in alternating rounds, latency of a single request, memory."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmark.baselines.process import Process, baseline_command
from benchmark.baselines.served import Served
from benchmark.baselines.system import Measured
from benchmark.core.constants import COMPARED_AT, NEMO, OURS
from benchmark.core.model_control import only
from benchmark.core.models import Model
from benchmark.core.serving import serving
from benchmark.studies.models_table.exports import Exports
from benchmark.studies.models_table.memory import MEASURE, PeakMemory
from benchmark.studies.models_table.speech import Speech
from nemo_triton.loadtest.provenance import machine, versions

REQUESTS = COMPARED_AT
"""Recordings, concurrent requests and NeMo's largest batch."""
SECONDS = 10.0
"""Length of each recording."""
WARM_UP_REQUESTS = 8
LOAD_SECONDS = 600.0
"""Time that a server may take to load a model."""

Json = dict[str, Any]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Effort:
    """Numbers of passes and requests. Slow models get fewer, so that all models take less than an hour.

    Attributes:
        rounds: Passes over all recordings by the server and by NeMo, in turn.
        both_ways: Rounds in which NeMo takes the recordings both one by one and in one batch; in further rounds it
            takes them in the faster way only.
        int8_rounds: Passes by the int8 model.
        single_requests: Requests that are sent one at a time.
    """

    rounds: int
    both_ways: int
    int8_rounds: int
    single_requests: int


FULL_EFFORT = Effort(rounds=5, both_ways=5, int8_rounds=3, single_requests=16)
SLOW_EFFORT = Effort(rounds=3, both_ways=1, int8_rounds=1, single_requests=8)
SLOW_RTFX = 25.0
"""Below this throughput a model is slow."""


def chosen_effort(rounds: int) -> Effort:
    """The effort with this number of rounds."""
    return Effort(rounds=rounds, both_ways=rounds, int8_rounds=rounds, single_requests=REQUESTS)


def conditions(exports: Exports, speech: Speech, rounds: int | None) -> Json:
    """Conditions of a result; a result with other conditions is measured again."""
    return {
        "version": 1,
        "fp32": exports.fp32.parity_id,
        "int8": exports.int8.parity_id if exports.int8 else None,
        "speech": speech.digest,
        "requests": REQUESTS,
        "rounds": rounds,
    }


def measure_model(
    exports: Exports,
    repository: Path,
    checkpoint: Path,
    speech: Speech,
    export_python: Path,
    *,
    rounds: int | None = None,
    say: Say = lambda line: None,
) -> Json:
    """Measure one model.

    Args:
        exports: Models to serve.
        repository: Model repository that has them.
        checkpoint: .nemo file for NeMo.
        speech: Recordings to transcribe.
        export_python: Python with NeMo.
        rounds: Passes of each system; None chooses by the model's speed.
        say: Function that gets one line per step.

    Returns:
        The result, ready for JSON.

    Raises:
        NotRun: The model or NeMo fails.
        ServerUnavailableError: The server does not start.
    """
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    timed = _measure_speed(exports, repository, checkpoint, speech, export_python, rounds, say)
    memory = measure_memory(exports.fp32, repository, speech)
    say(f"peak memory {memory['peak_bytes'] / 1e9:.2f} GB")
    int8 = exports.int8
    return {
        "conditions": conditions(exports, speech, rounds),
        "name": exports.fp32.name,
        "nemo_class": exports.fp32.nemo_class,
        "random_weights": exports.fp32.random_weights,
        "parameters": exports.fp32.parameters,
        "checkpoint_bytes": exports.fp32.checkpoint_bytes,
        "onnx_bytes": {"fp32": exports.fp32.onnx_bytes, "int8": int8.onnx_bytes if int8 else None},
        "int8_refusal": exports.refusal,
        "speech": {"name": speech.name, "recordings": len(speech.recordings), "seconds": speech.seconds},
        **timed,
        "memory": memory,
        "started": started,
        "machine": machine(),
        "versions": {**versions(), "onnxruntime": version("onnxruntime"), "tritonserver": timed["server"]},
    }


def _measure_speed(
    exports: Exports,
    repository: Path,
    checkpoint: Path,
    speech: Speech,
    export_python: Path,
    rounds: int | None,
    say: Say,
) -> Json:
    """Measure throughput and latency; the server and NeMo take turns."""
    recordings = speech.recordings
    names = [exports.fp32.name, *([exports.int8.name] if exports.int8 else [])]
    with ExitStack() as stack:
        server = stack.enter_context(serving(repository, only(repository, *names), LOAD_SECONDS))
        fp32, *others = (Served(OURS, name, server.grpc, recordings) for name in names)
        command = baseline_command(export_python, "nemo", checkpoint)
        nemo = stack.enter_context(Process(NEMO, command, recordings))

        warm_up = recordings[:WARM_UP_REQUESTS]
        fp32.measure(warm_up, REQUESTS)
        seconds = fp32.measure(warm_up, REQUESTS).seconds
        speed = speech.seconds * len(warm_up) / len(recordings) / seconds
        by_speed = SLOW_EFFORT if speed < SLOW_RTFX else FULL_EFFORT
        effort = chosen_effort(rounds) if rounds else by_speed
        single = fp32.measure(recordings[: effort.single_requests], 1).latencies
        say(f"single request p50 {1e3 * statistics.median(single):.0f} ms")
        for other in others:
            other.measure(warm_up, REQUESTS)

        passes = Passes(speech.seconds, say)
        sizes: tuple[int, ...] = (1, REQUESTS)
        if effort.both_ways > 1:
            # A slow model spends little of its first pass on starting up.
            nemo.measure(recordings, REQUESTS)
        for number in range(max(effort.rounds, effort.int8_rounds)):
            if number < effort.rounds:
                passes.add("fp32", fp32.measure(recordings, REQUESTS))
                for size in sizes:
                    passes.add(f"nemo {size}", nemo.measure(recordings, size))
                if number + 1 >= effort.both_ways:
                    sizes = (passes.faster(sizes),)
            if number < effort.int8_rounds:
                for other in others:
                    passes.add("int8", other.measure(recordings, REQUESTS))
        (batch_size,) = sizes
        version_of_server = triton_version(server.grpc)
    return {
        "server": version_of_server,
        "served_seconds": passes.seconds("fp32"),
        "int8_seconds": passes.seconds("int8"),
        "nemo": {
            "version": nemo.version,
            "batch_size": batch_size,
            "seconds_by_batch_size": {str(size): passes.seconds(f"nemo {size}") for size in (1, REQUESTS)},
        },
        "single_request_seconds": single,
        "texts": passes.equal_texts("fp32", f"nemo {batch_size}"),
    }


class Passes:
    """All passes over the recordings, by system.

    Attributes:
        audio_seconds: Seconds of audio in one pass.
        say: Function that gets one line per pass.
    """

    def __init__(self, audio_seconds: float, say: Say) -> None:
        self.audio_seconds = audio_seconds
        self.say = say
        self._passes: dict[str, list[Measured]] = {}

    def add(self, system: str, measured: Measured) -> None:
        """Add one pass."""
        passes = self._passes.setdefault(system, [])
        passes.append(measured)
        self.say(f"{system}, round {len(passes)}: {self.audio_seconds / measured.seconds:.1f} x real time")

    def seconds(self, system: str) -> list[float]:
        """Wall-clock seconds of each pass."""
        return [measured.seconds for measured in self._passes.get(system, [])]

    def faster(self, batch_sizes: Sequence[int]) -> int:
        """NeMo's batch size with the shorter median time."""
        return min(batch_sizes, key=lambda size: statistics.median(self.seconds(f"nemo {size}")))

    def equal_texts(self, system: str, reference: str) -> Json:
        """Count recordings whose text in every pass is the reference's."""
        expected = self._passes[reference][0].texts
        equal = sum(
            all(measured.texts[audio] == text for measured in self._passes[system]) for audio, text in expected.items()
        )
        return {"compared": len(expected), "equal": equal}


def measure_memory(model: Model, repository: Path, speech: Speech) -> Json:
    """Measure the memory of a server that loads one model and answers all recordings concurrently."""
    with serving(repository, only(repository, model.name), LOAD_SECONDS) as server:
        served = Served(OURS, model.name, server.grpc, speech.recordings)
        with PeakMemory(server.process.pid) as memory:
            served.measure(speech.recordings, REQUESTS)
    return {"measure": MEASURE, "loaded_bytes": memory.first, "peak_bytes": memory.peak}


def triton_version(url: str) -> str:
    """The version that a server reports."""
    import tritonclient.grpc as triton

    with triton.InferenceServerClient(url) as client:
        return str(client.get_server_metadata().version)
