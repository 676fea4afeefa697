"""A checkpoint in PyTorch, for the benchmark: what its encoder needs, and how fast NeMo runs it here.

    python -m benchmark.studies.gpu.pytorch CHECKPOINT --data FOLDER --out FILE

Runs where NeMo is, on a GPU where PyTorch has one. FOLDER is a prepared data set; its recordings are taken sorted by
length, --batch at a time. Writes a JSON file; --rates, without a CHECKPOINT, measures what the machine itself can do.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch

from benchmark.baselines.recordings import by_length, read_recordings
from benchmark.core.results_folder import write_json
from benchmark.data.dataset import MANIFEST
from benchmark.studies.gpu.needs import Needs
from benchmark.studies.gpu.products import needs_of
from export_scripts.checkpoints.families import decoder_class_of
from nemo_triton.loadtest.recording import Recording

INT16_SCALE = 1 / 32768
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}
MATRIX = {"cuda": 8192, "cpu": 1024}
"""Rows and columns of the matrices whose product is timed."""
COPIED_BYTES = {"cuda": 4 << 30, "cpu": 512 << 20}
REPEATS = 5
PATIENCE_SECONDS = 2.0
"""A CPU without a number format may take seconds for one product of it."""

Batch = tuple[list[str], torch.Tensor, torch.Tensor]
"""Names of the files, float32 [B, longest], int64 [B]."""


@click.command(help=__doc__)
@click.argument("checkpoint", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--rates", is_flag=True)
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--batch", "batch_size", type=click.IntRange(1), default=16, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(checkpoint: Path | None, rates: bool, data: Path | None, batch_size: int, rounds: int, out: Path) -> None:
    logging.disable(logging.ERROR)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    about = {"torch": torch.__version__, "device": _device_name(device)}
    if rates:
        write_json(out, {**about, **machine_rates(device)})
        return
    if checkpoint is None or data is None:
        raise click.UsageError("give a CHECKPOINT and --data, or --rates")
    from nemo.collections.asr.models import ASRModel

    # Before anything is frozen or moved: restoring is NeMo's.
    model: Any = ASRModel.restore_from(str(checkpoint), map_location="cpu").eval()
    model.freeze()
    needs = encoder_needs(model)
    model.to(device)
    batches = list(make_batches(by_length(read_recordings(data / MANIFEST)), batch_size, device))
    measured = {name: measure(model, batches, dtype, device, rounds) for name, dtype in PRECISIONS.items()}
    write_json(out, {**about, "batch": batch_size, "rounds": rounds, "needs": asdict(needs), "measured": measured})
    click.echo(json.dumps({name: statistics.median(found["seconds"]) for name, found in measured.items()}))


def encoder_needs(model: Any) -> Needs:
    """Of the encoder and what our encoder stage has behind it: the CTC head, or the joint's projection."""
    mels, rate = model.encoder._feat_in, 1 / model.cfg.preprocessor.window_stride
    head = getattr(model, "joint", None)

    def run(seconds: int) -> None:
        features = torch.randn(1, mels, round(seconds * rate))
        encoded, _ = model.encoder(audio_signal=features, length=torch.tensor([features.shape[2]]))
        if head is not None:
            head.enc(encoded.transpose(1, 2))
        else:
            model.decoder(encoder_output=encoded)

    parts = [model.encoder, head.enc if head is not None else model.decoder]
    # Vectors (biases, norms) are no operands of a product worth counting.
    weights = sum(weight.numel() for part in parts for weight in part.parameters() if weight.dim() > 1)
    return needs_of(run, weights)


def make_batches(recordings: Sequence[Recording], size: int, device: torch.device) -> Iterator[Batch]:
    """The recordings, padded to the longest of each batch."""
    for start in range(0, len(recordings), size):
        some = recordings[start : start + size]
        signals = [torch.from_numpy(recording.samples).float() * INT16_SCALE for recording in some]
        padded = torch.nn.utils.rnn.pad_sequence(signals, batch_first=True)
        lengths = torch.tensor([len(signal) for signal in signals])
        yield [recording.utterance.name for recording in some], padded.to(device), lengths.to(device)


@torch.no_grad()
def measure(
    model: Any, batches: Sequence[Batch], dtype: torch.dtype | None, device: torch.device, rounds: int
) -> dict[str, Any]:
    """Seconds of passes over all batches, up to the scores and in all, and the texts of the last one."""
    texts: dict[str, str] = {}
    # A GPU tunes itself to each shape; a CPU only has to be awake.
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
        asked = time.perf_counter()
        with torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None):
            scores, frames, *_ = model.forward(input_signal=signal, input_signal_length=length)
        _finish(device)
        encoding += time.perf_counter() - asked
        scores = scores.float()
        hypotheses = decoder_class_of(model).hypotheses(model, scores, frames)
        texts.update({name: hypothesis.text for name, hypothesis in zip(names, hypotheses, strict=True)})
    _finish(device)
    return encoding, time.perf_counter() - started


def machine_rates(device: torch.device) -> dict[str, Any]:
    """The best of some large products and copies: operations a second by number format, and bytes a second."""
    operations = {}
    size = MATRIX[device.type]
    formats = {"fp32": (torch.float32, False), "bf16": (torch.bfloat16, False)}
    if device.type == "cuda":
        formats |= {"tf32": (torch.float32, True), "fp16": (torch.float16, False)}
    for name, (dtype, tf32) in formats.items():
        left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        with _tf32(tf32):
            operations[name] = 2 * size**3 / _fastest(partial(torch.matmul, left, right), device)
    source = torch.zeros(COPIED_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    # Each byte is read and written.
    moved = 2 * source.numel() / _fastest(lambda: target.copy_(source), device)
    return {"operations": operations, "bytes": moved}


def _fastest(work: Callable[[], Any], device: torch.device) -> float:
    seconds: list[float] = []
    while len(seconds) <= REPEATS and sum(seconds) < PATIENCE_SECONDS:
        _finish(device)
        started = time.perf_counter()
        work()
        _finish(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


if __name__ == "__main__":
    main()
