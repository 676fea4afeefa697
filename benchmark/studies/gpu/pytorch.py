"""Measure a checkpoint with NeMo in PyTorch: FLOPs of its encoder, speed and texts.

    python -m benchmark.studies.gpu.pytorch CHECKPOINT --data FOLDER --out FILE

Runs in .venv/export, on a GPU if PyTorch has one. FOLDER is a data set of benchmark.prepare; its recordings are sorted
by length and run in batches of --batch. Writes a JSON file. --rates measures the machine instead of a CHECKPOINT.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import torch

from benchmark.baselines.recordings import by_length, shuffled_recordings
from benchmark.core.results_folder import write_json
from benchmark.data.dataset import MANIFEST
from benchmark.studies.gpu.flops import count_cost
from benchmark.studies.gpu.machine_rates import device_name, finish, machine_rates
from benchmark.studies.gpu.roofline import NetworkCost
from export_scripts.checkpoints.families import RnntDecoder, decoder_class_of
from nemo_triton.audio import as_float
from nemo_triton.loadtest.recording import Recording
from nemo_triton.terminal import options

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}

Batch = tuple[list[str], torch.Tensor, torch.Tensor]
"""Names of the recordings, samples float32 [B, longest], lengths int64 [B]."""


@click.command(help=__doc__)
@click.argument("checkpoint", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--rates", is_flag=True, help="Measure FLOPs per second and bytes per second of this machine.")
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Data set written by benchmark.prepare.",
)
@click.option(
    "--batch", "batch_size", type=click.IntRange(1), default=16, show_default=True, help="Recordings per batch."
)
@click.option(
    "--rounds", type=click.IntRange(1), default=3, show_default=True, help="Passes over the data set per precision."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="JSON file to write.")
def main(checkpoint: Path | None, rates: bool, data: Path | None, batch_size: int, rounds: int, out: Path) -> None:
    logging.disable(logging.ERROR)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    about = {"torch": torch.__version__, "device": device_name(device)}
    if rates:
        write_json(out, {**about, **machine_rates(device)})
        return
    if checkpoint is None or data is None:
        raise click.UsageError("nothing to measure; give a CHECKPOINT and --data, or --rates")
    from export_scripts.checkpoints.restore import restore_file

    model: Any = restore_file(checkpoint)
    cost = encoder_cost(model)
    model.to(device)
    batches = list(make_batches(by_length(shuffled_recordings(data / MANIFEST)), batch_size, device))
    measured = {name: measure(model, batches, dtype, device, rounds) for name, dtype in PRECISIONS.items()}
    write_json(out, {**about, "batch": batch_size, "rounds": rounds, "needs": asdict(cost), "measured": measured})
    click.echo(json.dumps({name: statistics.median(passes["seconds"]) for name, passes in measured.items()}))


def encoder_cost(model: Any) -> NetworkCost:
    """FLOPs and memory traffic of the encoder stage: the encoder with the CTC head or the joint's projection."""
    mels, rate = model.encoder._feat_in, 1 / model.cfg.preprocessor.window_stride
    joint = model.joint if issubclass(decoder_class_of(model), RnntDecoder) else None

    def run(seconds: int) -> None:
        features = torch.randn(1, mels, round(seconds * rate))
        encoded, _ = model.encoder(audio_signal=features, length=torch.tensor([features.shape[2]]))
        if joint is not None:
            joint.enc(encoded.transpose(1, 2))
        else:
            model.decoder(encoder_output=encoded)

    parts = [model.encoder, joint.enc if joint is not None else model.decoder]
    # Vectors (biases, norms) are not operands of products.
    weights = sum(weight.numel() for part in parts for weight in part.parameters() if weight.dim() > 1)
    return count_cost(run, weights)


def make_batches(recordings: Sequence[Recording], size: int, device: torch.device) -> Iterator[Batch]:
    """Make batches of recordings, padded to the longest of each batch."""
    for start in range(0, len(recordings), size):
        batch = recordings[start : start + size]
        signals = [torch.from_numpy(as_float(recording.samples)) for recording in batch]
        padded = torch.nn.utils.rnn.pad_sequence(signals, batch_first=True)
        lengths = torch.tensor([len(signal) for signal in signals])
        yield [recording.utterance.name for recording in batch], padded.to(device), lengths.to(device)


@torch.no_grad()
def measure(
    model: Any, batches: Sequence[Batch], dtype: torch.dtype | None, device: torch.device, rounds: int
) -> dict[str, Any]:
    """Time passes over all batches.

    Returns:
        Seconds of each pass without decoding (encoding_seconds) and in total (seconds), and the texts of the last pass.
    """
    texts: dict[str, str] = {}
    # Warm-up: a GPU needs each shape once, a CPU any batch.
    _pass(model, batches if device.type == "cuda" else batches[:1], dtype, device, texts)
    encoding, whole = [], []
    for _ in range(rounds):
        encoded, spent = _pass(model, batches, dtype, device, texts)
        encoding.append(encoded)
        whole.append(spent)
    return {"encoding_seconds": encoding, "seconds": whole, "texts": texts}


def _pass(
    model: Any, batches: Sequence[Batch], dtype: torch.dtype | None, device: torch.device, texts: dict[str, str]
) -> tuple[float, float]:
    encoding = 0.0
    started = time.perf_counter()
    for names, signal, length in batches:
        batch_started = time.perf_counter()
        with torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None):
            scores, frames, *_ = model.forward(input_signal=signal, input_signal_length=length)
        finish(device)
        encoding += time.perf_counter() - batch_started
        scores = scores.float()
        hypotheses = decoder_class_of(model).hypotheses(model, scores, frames)
        texts.update({name: hypothesis.text for name, hypothesis in zip(names, hypotheses, strict=True)})
    finish(device)
    return encoding, time.perf_counter() - started


if __name__ == "__main__":
    options.run(main)
