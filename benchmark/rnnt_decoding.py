"""RNNT decoding: the repository's decoder stage beside NeMo's greedy_batch, in one run.

    python benchmark/rnnt_decoding.py demo/coffee_rnnt.nemo --repository model_repository

Runs where NeMo is. Both get the same encodings, computed beforehand, and the same number of threads; they
take turns, and the ratio of each turn is counted. Tokens are compared as well: a decoder that is quick and
wrong is not quick. Prints milliseconds of decoding for a second of audio, and the median of the ratios.
"""

from __future__ import annotations

import json
import logging
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime as ort
import soundfile
import torch
from nemo.collections.asr.models import ASRModel
from rich.console import Console
from rich.table import Table

MANIFEST = Path(__file__).parent.parent / "demo" / "commands" / "manifest.jsonl"


@dataclass(frozen=True)
class Utterance:
    """encoded: float32 [frames, D] of NeMo's encoder; projected: float32 [frames, joint size]; seconds of audio."""

    encoded: torch.Tensor
    projected: np.ndarray
    seconds: float


@dataclass(frozen=True)
class Turn:
    """Seconds that each took for the same utterances in the same batches."""

    nemo: float
    stage: float


@torch.no_grad()
def encode(model: Any, manifest: Path) -> list[Utterance]:
    utterances = []
    for line in manifest.read_text().splitlines():
        samples, rate = soundfile.read(manifest.parent / json.loads(line)["audio_filepath"], dtype="float32")
        signal, length = torch.from_numpy(samples)[None], torch.tensor([len(samples)])
        encoded, frames = model.forward(input_signal=signal, input_signal_length=length)
        own = encoded[0, :, : int(frames)].T.contiguous()
        utterances.append(Utterance(own, model.joint.enc(own).numpy(), len(samples) / rate))
    return utterances


def nemo_decoder(model: Any) -> Callable[[Sequence[Utterance]], list[list[int]]]:
    def decode(batch: Sequence[Utterance]) -> list[list[int]]:
        padded = torch.nn.utils.rnn.pad_sequence([utterance.encoded for utterance in batch], batch_first=True)
        lengths = torch.tensor([len(utterance.encoded) for utterance in batch])
        found = model.decoding.rnnt_decoder_predictions_tensor(
            encoder_output=padded.transpose(1, 2), encoded_lengths=lengths, return_hypotheses=True
        )
        return [[int(token) for token in hypothesis.y_sequence] for hypothesis in found]

    return decode


def stage_decoder(graph: Path, threads: int) -> Callable[[Sequence[Utterance]], list[list[int]]]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])

    def decode(batch: Sequence[Utterance]) -> list[list[int]]:
        rows = [utterance.projected for utterance in batch]
        feeds = {
            "ENCODED": np.concatenate([row.ravel() for row in rows]),
            "ENCODED_SHAPE": np.array([row.shape for row in rows], np.int32),
            "ENCODED_LENGTH": np.array([[len(row)] for row in rows], np.int32),
        }
        _, tokens, length = session.run(["TEXT", "TOKENS", "TOKENS_LENGTH"], feeds)
        return [row[:count].tolist() for row, count in zip(tokens, length[:, 0], strict=True)]

    return decode


def take_turns(
    utterances: Sequence[Utterance],
    batch_size: int,
    rounds: int,
    nemo: Callable[[Sequence[Utterance]], list[list[int]]],
    stage: Callable[[Sequence[Utterance]], list[list[int]]],
) -> tuple[list[Turn], int]:
    """One turn a round after one that is not counted, and how many utterances have other tokens than NeMo's."""
    batches = [utterances[start : start + batch_size] for start in range(0, len(utterances), batch_size)]
    turns, differing = [], 0
    for number in range(rounds + 1):
        spent, tokens = [], []
        for decode in (nemo, stage):
            started = time.perf_counter()
            tokens.append([row for batch in batches for row in decode(batch)])
            spent.append(time.perf_counter() - started)
        differing = sum(theirs != ours for theirs, ours in zip(*tokens, strict=True))
        if number:
            turns.append(Turn(*spent))
    return turns, differing


@click.command(help=__doc__)
@click.argument("checkpoint", type=click.Path(exists=True, path_type=Path))
@click.option("--repository", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--manifest", type=click.Path(exists=True, path_type=Path), default=MANIFEST, help="The demo's commands.")
@click.option("--batch-size", "batch_sizes", type=int, multiple=True, default=(1, 8), show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--threads", default=2, show_default=True)
def main(
    checkpoint: Path, repository: Path, manifest: Path, batch_sizes: tuple[int, ...], rounds: int, threads: int
) -> None:
    logging.disable(logging.ERROR)
    torch.set_num_threads(threads)
    model: Any = ASRModel.restore_from(str(checkpoint), map_location="cpu").eval()
    graph = repository / f"{checkpoint.stem}_decoder" / "1" / "model.onnx"
    if not graph.exists():
        raise click.UsageError(f"{graph}: not there; export {checkpoint} into {repository} first")
    utterances = encode(model, manifest)
    audio = sum(utterance.seconds for utterance in utterances)
    table = Table("batch", "NeMo ms/s", "stage ms/s", "NeMo / stage", "lowest", "highest", "other tokens")
    wrong = 0
    for size in batch_sizes:
        turns, differing = take_turns(utterances, size, rounds, nemo_decoder(model), stage_decoder(graph, threads))
        ratios = [turn.nemo / turn.stage for turn in turns]
        wrong += differing
        table.add_row(
            str(size),
            f"{1000 * statistics.median(turn.nemo for turn in turns) / audio:.2f}",
            f"{1000 * statistics.median(turn.stage for turn in turns) / audio:.2f}",
            f"{statistics.median(ratios):.1f}",
            f"{min(ratios):.1f}",
            f"{max(ratios):.1f}",
            f"{differing} of {len(utterances)}",
        )
    console = Console(width=100)
    console.print(f"{checkpoint.name}: {len(utterances)} utterances, {audio:.0f} s; {threads} threads, {rounds} rounds")
    console.print(table)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
