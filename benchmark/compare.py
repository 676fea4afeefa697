"""The command that measures a served model beside others: `python -m benchmark.compare MODEL --data FOLDER ...`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress

from benchmark.baselines.errors import NotRun
from benchmark.baselines.in_process import InProcess
from benchmark.baselines.process import Process, peer_command
from benchmark.baselines.recordings import read_recordings
from benchmark.baselines.served import Served
from benchmark.baselines.system import Measured, System, start
from benchmark.core.model_control import EXPLICIT
from benchmark.core.models import Model, read_models
from benchmark.core.results_folder import is_measured, read_json, write_json
from benchmark.core.serving import serving
from benchmark.data.dataset import MANIFEST, Description
from benchmark.run import choose, describe
from nemo_triton.loadtest.provenance import machine, versions
from nemo_triton.loadtest.recording import Recording
from nemo_triton.terminal import options as cli

OURS = "served by Triton (ours)"
NEMO = "NeMo transcribe()"
PEERS = ("onnx_asr", "sherpa_onnx", "pocketsphinx", "faster_whisper")
OWN_MODELS = {"pocketsphinx": "pocketsphinx", "faster_whisper": "faster-whisper"}
"""Peers that bring a model of their own, by adapter; all others run the weights of the model that is compared."""


@click.command()
@click.argument("model", metavar="MODEL")
@click.option("--repository", default="model_repository", type=click.Path(exists=True, path_type=Path))
@click.option("--checkpoint", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="For NeMo itself.")
@click.option(
    "--peer-models",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="What benchmark.baselines.baseline_models made of the checkpoint, for onnx-asr and sherpa-onnx.",
)
@click.option(
    "--faster-whisper", "whisper", type=click.Path(path_type=Path), help="A model folder of faster-whisper's form."
)
@click.option("--data", "dataset", required=True, type=click.Path(path_type=Path), help="Of benchmark.prepare.")
@click.option("--out", required=True, metavar="RESULTS", type=click.Path(file_okay=False, path_type=Path))
@click.option("--at-once", type=click.IntRange(1), default=16, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--without", multiple=True, type=click.Choice(PEERS), help="A peer to leave out; may be given again.")
@click.option("--export-python", default=".venv/export/bin/python", type=click.Path(path_type=Path))
@click.option("--peers-python", default=".venv/peers/bin/python", type=click.Path(path_type=Path))
def compare(
    model: str,
    repository: Path,
    checkpoint: Path | None,
    peer_models: Path | None,
    whisper: Path | None,
    dataset: Path,
    out: Path,
    at_once: int,
    rounds: int,
    without: tuple[str, ...],
    export_python: Path,
    peers_python: Path,
) -> int:
    """Transcribe a data set with MODEL as served and with other systems, each in turn, in so many rounds.

    All get the same recordings on the same machine; ratios are then taken round by round. A system that can't run is
    named with its reason.
    """
    (chosen,) = choose(read_models(repository), [model], repository)
    folder, description = describe(dataset)
    file = out / chosen.name / description.name / "compared.json"
    conditions = {
        "parity_id": chosen.parity_id,
        "manifest_sha256": description.manifest_sha256,
        "audio_sha256": description.audio_sha256,
        "at_once": at_once,
        "rounds": rounds,
        "without": sorted(without),
    }
    if is_measured(file, conditions):
        click.echo(f"{chosen.name} on {description.name}: compared already")
        for name, reason in read_json(file)["not_run"].items():
            click.echo(f"{name}: not run: {reason}; with that mended, remove {file} to compare again")
        return cli.EXIT_OK
    write_json(out / chosen.name / "model.json", asdict(chosen))
    recordings = read_recordings(folder / MANIFEST)
    with ExitStack() as stack:
        server = stack.enter_context(serving(repository, [EXPLICIT, f"--load-model={chosen.name}"]))
        systems: list[System] = [
            Served(OURS, chosen.name, server.grpc, recordings),
            InProcess(repository, chosen.name),
            Process(NEMO, peer_command(export_python, "nemo", checkpoint), recordings),
        ]
        models = {"faster_whisper": whisper, "pocketsphinx": None}
        for peer in PEERS:
            if peer not in without:
                path = models.get(peer, peer_models and peer_models / peer)
                name = OWN_MODELS.get(peer, peer.replace("_", "-"))
                systems.append(Process(name, peer_command(peers_python, peer, path), recordings))
        running, not_run = start(systems, recordings, stack)
        passes = _rounds(running, recordings, at_once, rounds, not_run, f"{chosen.name} on {description.name}")
    found = _result(chosen, description, recordings, running, passes, not_run)
    write_json(file, {"conditions": conditions, **found})
    for system in found["systems"]:
        click.echo(f"{system['name']}: RTFx {found['audio_seconds'] / median(system['seconds']):.1f}")
    for name, reason in not_run.items():
        click.echo(f"{name}: not run: {reason}")
    click.echo(file)
    return cli.EXIT_OK


def _rounds(
    systems: list[System],
    recordings: Sequence[Recording],
    at_once: int,
    rounds: int,
    not_run: dict[str, str],
    what: str,
) -> dict[str, list[Measured]]:
    """Each system's passes, by name. One that fails on the way moves to `not_run`."""
    passes: dict[str, list[Measured]] = {system.name: [] for system in systems}
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=rounds * len(systems))
        for _ in range(rounds):
            for system in systems:
                if system.name not in not_run:
                    try:
                        passes[system.name].append(system.measure(recordings, at_once))
                    except NotRun as reason:
                        not_run[system.name] = str(reason)
                        del passes[system.name]
                progress.advance(task)
    return passes


def _result(
    model: Model,
    description: Description,
    recordings: Sequence[Recording],
    systems: Sequence[System],
    passes: dict[str, list[Measured]],
    not_run: dict[str, str],
) -> dict[str, Any]:
    by_name = {system.name: system for system in systems}
    return {
        "model": model.name,
        "random_weights": model.random_weights,
        "dataset": asdict(description),
        "audio_seconds": sum(recording.duration for recording in recordings),
        "machine": machine(),
        "versions": versions(),
        "references": {recording.utterance.name: recording.utterance.text for recording in recordings},
        "systems": [
            {
                "name": name,
                "own_model": name in OWN_MODELS.values(),
                "version": getattr(by_name[name], "version", ""),
                "seconds": [one.seconds for one in rounds],
                "mean_batch": rounds[0].mean_batch,
                "texts": rounds[0].texts,
                "changed_texts": sum(any(one.texts[audio] != text for one in rounds) for audio, text in _texts(rounds)),
            }
            for name, rounds in passes.items()
        ],
        "not_run": not_run,
    }


def _texts(rounds: Sequence[Measured]) -> list[tuple[str, str]]:
    return list(rounds[0].texts.items())


if __name__ == "__main__":
    cli.run(compare)
