"""Texts of recognizers on a GPU beside those on the CPU: `python -m benchmark.gpu.texts NAME... --repository FOLDER`.

In this process, all recordings of a manifest in mixed batches, features and encoder on the device. Exit code 1 where a text of a
trained model differs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime as ort

from benchmark.gpu.stages import DEMO, Stage, ragged, steps_of
from client.audio import load_audio
from client.manifest import read_manifest


@click.command(help=__doc__)
@click.argument("names", nargs=-1, required=True)
@click.option("--repository", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--manifest", default=DEMO, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--batch", default=16, show_default=True)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="JSON file to write.")
def main(names: tuple[str, ...], repository: Path, manifest: Path, batch: int, out: Path) -> None:
    ort.set_default_logger_severity(3)
    audio = [load_audio(utterance.audio) for utterance in read_manifest(manifest).utterances]
    devices = ["cpu", *(["cuda"] if "CUDAExecutionProvider" in ort.get_available_providers() else [])]
    report, wrong = {}, False
    for name in names:
        texts = {device: transcribe(repository, name, device, audio, batch) for device in devices}
        differing = [pair for pair in zip(*texts.values(), strict=True) if len(set(pair)) > 1]
        report[name] = {"devices": devices, "texts": len(audio), "differing": differing}
        trained = 'key: "weights"\n  value {\n    string_value: "random"' not in (repository / name / "config.pbtxt").read_text()
        wrong = wrong or (trained and bool(differing))
        click.echo(f"{name}: {len(audio) - len(differing)} of {len(audio)} texts are the same on {' and '.join(devices)}")
        out.write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(1 if wrong else 0)


def transcribe(repository: Path, name: str, device: str, audio: Sequence[Any], size: int) -> list[str]:
    """The text of each recording (int16 [T]), `size` recordings at a time in their order."""
    steps = steps_of(repository / name)
    features = Stage(repository / steps["features"], device)
    encoder = Stage(repository / steps["encoder"], device, tf32=True)
    decoder = Stage(repository / steps["decoder"], "cpu")
    texts: list[str] = []
    for start in range(0, len(audio), size):
        some = audio[start : start + size]
        lengths = np.array([[len(signal)] for signal in some], np.int32)
        made = features.run({"SAMPLES": np.concatenate(some), "SAMPLES_SHAPE": lengths, "SAMPLES_LENGTH": lengths})
        encoded = encoder.run(ragged("FEATURES", made["FEATURES"], made["FEATURES_LENGTH"]))
        source = "LABELS" if "LABELS" in encoded else "ENCODED"
        found = decoder.run(ragged(source, encoded[source].numpy(), encoded[f"{source}_LENGTH"].numpy()))
        texts += [row.decode() if isinstance(row, bytes) else row for row in found["TEXT"].numpy().reshape(-1)]
    return texts


if __name__ == "__main__":
    main()
