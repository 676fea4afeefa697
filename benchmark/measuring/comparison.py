"""Compare a served model with baselines, in rounds that run each system once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from benchmark.baselines.errors import NotRun
from benchmark.baselines.in_process import InProcess
from benchmark.baselines.process import Process, baseline_command
from benchmark.baselines.recordings import shuffled_recordings
from benchmark.baselines.served import Served
from benchmark.baselines.system import Measured, System, start
from benchmark.core.constants import BASELINES, NEMO, OURS, OWN_MODELS
from benchmark.core.model_control import only
from benchmark.core.models import Model
from benchmark.core.serving import serving
from benchmark.data.dataset import Dataset
from nemo_triton.loadtest.provenance import machine, versions
from nemo_triton.loadtest.recording import Recording


@dataclass(frozen=True)
class Baselines:
    """The baselines of a comparison, and their models. A baseline without its model is reported as not run.

    Attributes:
        checkpoint: .nemo file for NeMo.
        baseline_models: Folder that benchmark.baselines.baseline_models wrote.
        whisper: Model folder of faster-whisper.
        without: Baselines to leave out.
        export_python: Python with NeMo.
        baselines_python: Python with the other baselines.
    """

    checkpoint: Path | None
    baseline_models: Path | None
    whisper: Path | None
    without: tuple[str, ...]
    export_python: Path
    baselines_python: Path

    def systems(self, repository: Path, model: str, url: str, recordings: Sequence[Recording]) -> list[System]:
        """All systems, ours first. None is started."""
        systems: list[System] = [
            Served(OURS, model, url, recordings),
            InProcess(repository, model),
            Process(NEMO, baseline_command(self.export_python, "nemo", self.checkpoint), recordings),
        ]
        # pocketsphinx has its model in its package, so that it needs no path.
        models = {**dict.fromkeys(OWN_MODELS), "faster_whisper": self.whisper}
        for baseline in BASELINES:
            if baseline not in self.without:
                path = models.get(baseline, self.baseline_models and self.baseline_models / baseline)
                name = OWN_MODELS.get(baseline, baseline.replace("_", "-"))
                systems.append(Process(name, baseline_command(self.baselines_python, baseline, path), recordings))
        return systems


def compare_systems(
    baselines: Baselines,
    repository: Path,
    model: Model,
    dataset: Dataset,
    *,
    concurrency: int,
    rounds: int,
    reload: bool = False,
) -> dict[str, Any]:
    """Serve the model and measure all systems.

    Args:
        baselines: Systems to compare with.
        repository: Model repository with the model.
        model: Model to serve.
        dataset: Recordings.
        concurrency: Concurrent requests, and the batch size of systems that get the whole list.
        rounds: Passes of each system.
        reload: Load each system in its turn, and none but the server longer: for models that don't fit the memory
            several times.

    Returns:
        The content of compared.json, without its conditions.

    Raises:
        ClientError: The server does not start, or the data set can't be read.
    """
    recordings = shuffled_recordings(dataset.manifest)
    with ExitStack() as stack:
        server = stack.enter_context(serving(repository, only(repository, model.name)))
        systems = baselines.systems(repository, model.name, server.grpc, recordings)
        running, not_run = (systems, {}) if reload else start(systems, recordings, stack, concurrency=concurrency)
        passes: dict[str, list[Measured]] = {system.name: [] for system in running}
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task(f"{model.name} on {dataset.description.name}", total=rounds * len(running))
            for _ in range(rounds):
                for system in running:
                    with ExitStack() as turn:
                        if reload and system.name not in not_run:
                            not_run |= start([system], recordings, turn, concurrency=concurrency)[1]
                        _add_pass(system, recordings, concurrency, passes, not_run)
                    progress.advance(task)
    return {
        "model": model.name,
        "random_weights": model.random_weights,
        "dataset": asdict(dataset.description),
        "audio_seconds": sum(recording.duration for recording in recordings),
        "machine": machine(),
        "versions": versions(),
        "references": {recording.utterance.name: recording.utterance.text for recording in recordings},
        "systems": [_system_row(system, passes[system.name]) for system in running if system.name not in not_run],
        "not_run": not_run,
    }


def _add_pass(
    system: System,
    recordings: Sequence[Recording],
    concurrency: int,
    passes: dict[str, list[Measured]],
    not_run: dict[str, str],
) -> None:
    """Measure one pass. A system that fails is added to `not_run`."""
    if system.name in not_run:
        return
    try:
        passes[system.name].append(system.measure(recordings, concurrency))
    except NotRun as reason:
        not_run[system.name] = str(reason)


def _system_row(system: System, rounds: Sequence[Measured]) -> Mapping[str, Any]:
    texts = rounds[0].texts
    return {
        "name": system.name,
        "own_model": system.name in OWN_MODELS.values(),
        "version": getattr(system, "version", ""),
        "seconds": [measured.seconds for measured in rounds],
        "mean_batch": rounds[0].mean_batch,
        "texts": texts,
        "changed_texts": sum(
            any(measured.texts[audio] != text for measured in rounds) for audio, text in texts.items()
        ),
    }
