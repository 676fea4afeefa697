"""Transcribe recordings on the CPU and on a GPU, and compare the texts.

    python -m benchmark.studies.gpu.texts NAME... --repository model_repository --out texts.json

Runs in this process, in batches of mixed lengths, with features and encoder on the device, decoder and text on the CPU.
Without a GPU it prints and writes the CPU's texts, to compare them on another machine. Exit code 1 if a text of a
trained model differs.

Needs the same packages as benchmark.studies.gpu.stages.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import onnxruntime as ort

from benchmark.core.results_folder import write_json
from benchmark.studies.gpu import bare_cli
from benchmark.studies.gpu.batches import make_batch
from benchmark.studies.gpu.ensemble import Ensemble, read_ensemble
from benchmark.studies.gpu.stage import Device, Setup, Stage, best_device, next_feeds
from nemo_triton.audio import Samples
from nemo_triton.contract import TEXT
from nemo_triton.demo_speech import MANIFEST as DEMO_MANIFEST
from nemo_triton.manifest import Utterance, read_manifest
from nemo_triton.terminal import exit_codes
from nemo_triton.utterances import load_utterance


@click.command(help=__doc__)
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option(
    "--repository",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Model repository.",
)
@click.option(
    "--manifest",
    default=DEMO_MANIFEST,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Recordings to transcribe.  [default: the demo's recordings]",
)
@click.option("--batch", "size", type=click.IntRange(1), default=16, show_default=True, help="Recordings per batch.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="JSON file to write.")
def main(*, names: tuple[str, ...], repository: Path, manifest: Path, size: int, out: Path) -> int:
    ort.set_default_logger_severity(3)
    utterances = read_manifest(manifest).utterances
    audio = [load_utterance(utterance) for utterance in utterances]
    devices = list(dict.fromkeys(["cpu", best_device()]))
    report: dict[str, Any] = {}
    code = exit_codes.EXIT_OK
    for name in names:
        try:
            ensemble = read_ensemble(repository, name)
            texts = {device: transcribe(repository, ensemble, device, audio, size) for device in devices}
        # onnxruntime's errors have no common base but Exception. One failing model must not stop the others.
        except Exception as error:
            exit_codes.print_error(f"{name}: {bare_cli.describe(error).removeprefix(f'{name}: ')}")
            code = exit_codes.EXIT_PROBLEM
            continue
        report[name] = compare(utterances, texts, trained=ensemble.trained)
        show(name, report[name])
        write_json(out, report)
        if ensemble.trained and report[name]["differing"]:
            code = max(code, bare_cli.EXIT_DIFFERENT)
    return code


def transcribe(repository: Path, ensemble: Ensemble, device: Device, audio: Sequence[Samples], size: int) -> list[str]:
    """Transcribe recordings.

    Args:
        repository: The model repository.
        ensemble: The recognizer.
        device: Device of features and encoder.
        audio: Recordings, int16 [T] at 16 kHz.
        size: Recordings per batch.

    Returns:
        The text of each recording.
    """
    features = Stage(repository / ensemble.features, Setup(device))
    encoder = Stage(repository / ensemble.encoder, Setup(device, tf32=True))
    last_stages = [Stage(repository / name, Setup("cpu")) for name in dict.fromkeys([ensemble.decoder, ensemble.text])]
    texts: list[str] = []
    for start in range(0, len(audio), size):
        results = features.run(make_batch(audio[start : start + size]).feeds())
        results = encoder.run(next_feeds(results, device))
        for stage in last_stages:
            results = stage.run(next_feeds(results, "cpu"))
        texts += [text.decode() if isinstance(text, bytes) else text for text in results[TEXT.name].numpy().reshape(-1)]
    return texts


def compare(utterances: Sequence[Utterance], texts: dict[Device, list[str]], *, trained: bool) -> dict[str, Any]:
    """Compare the texts of the devices: texts by recording, and the number of recordings that differ. For JSON."""
    rows = [
        {"audio": utterance.audio.name, **dict(zip(texts, row, strict=True))}
        for utterance, row in zip(utterances, zip(*texts.values(), strict=True), strict=True)
    ]
    differing = sum(len({row[device] for device in texts}) > 1 for row in rows)
    return {"trained": trained, "devices": list(texts), "differing": differing, "texts": rows}


def show(name: str, result: dict[str, Any]) -> None:
    """Print the CPU's texts, the GPU's if they differ, and the number of equal texts."""
    devices = result["devices"]
    for row in result["texts"]:
        shown = devices if len({row[device] for device in devices}) > 1 else devices[:1]
        for device in shown:
            click.echo(f"{name}\t{device}\t{row['audio']}\t{row[device]}")
    count = len(result["texts"])
    if len(devices) > 1:
        click.echo(f"{name}: {count - result['differing']} of {count} texts are the same on {' and '.join(devices)}")
    else:
        click.echo(f"{name}: {count} texts on the CPU; no GPU to compare with")


if __name__ == "__main__":
    bare_cli.run(main)
