"""RNNT decoding: our decoder stage beside NeMo's greedy_batch, in one run.

    python -m benchmark.studies.rnnt_decoding demo/coffee_rnnt.nemo --frames-per-step 1,2,4,8

Runs where NeMo is. All get the same encodings, computed beforehand, and the same number of threads; they
take turns, and the ratio of each turn is counted. Tokens are compared as well: a decoder that is quick and
wrong is not quick. Prints milliseconds of decoding for a second of audio and for a step of the graph's loop, and the
median of the ratios. Stages are built from the checkpoint as export builds them, each looking at another number of
frames per step, and run by each of onnxruntime's providers that is here: the CPU's and, with onnxruntime-gpu beside
NeMo, CUDA's. NeMo runs on a GPU where PyTorch has one.
"""

from __future__ import annotations

import logging
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import onnxruntime as ort
import torch
from rich.console import Console
from rich.table import Table

from export_scripts.checkpoints.checkpoint import open_checkpoint
from export_scripts.checkpoints.families import RnntDecoder
from export_scripts.errors import ExportError
from export_scripts.stages.rnnt_decoder import FRAMES_PER_STEP, rnnt_decoder_graph
from nemo_triton.audio import load_audio, seconds
from nemo_triton.contract import ENCODED, INT16_FULL_SCALE, TRANSCRIPT
from nemo_triton.demo_speech import MANIFEST as DEMO_MANIFEST
from nemo_triton.errors import ClientError
from nemo_triton.manifest import read_manifest
from nemo_triton.terminal import options

PROVIDERS = {"CPU": "CPUExecutionProvider", "CUDA": "CUDAExecutionProvider"}


@dataclass(frozen=True)
class Utterance:
    """encoded: float32 [frames, D] of NeMo's encoder; projected: float32 [frames, joint size]; seconds of audio."""

    encoded: torch.Tensor
    projected: np.ndarray
    seconds: float


Tokens = tuple[list[int], list[int]]
"""Of an utterance, and their frames."""
Decode = Callable[[Sequence[Utterance]], list[Tokens]]


@dataclass(frozen=True)
class Stage:
    """A decoder stage: its frames per step, and where it runs."""

    frames_per_step: int
    provider: str
    decode: Decode


@torch.no_grad()
def encode(model: Any, manifest: Path) -> list[Utterance]:
    """Encode the utterances of a manifest, one by one, by a NeMo RNNT model. Raises ManifestError and AudioError."""
    utterances = []
    for entry in read_manifest(manifest).utterances:
        samples = load_audio(entry.audio)
        signal, length = torch.from_numpy(samples)[None] / INT16_FULL_SCALE, torch.tensor([len(samples)])
        encoded, frames = model.forward(input_signal=signal, input_signal_length=length)
        unpadded = encoded[0, :, : int(frames)].T.contiguous()
        utterances.append(Utterance(unpadded, model.joint.enc(unpadded).numpy(), seconds(samples)))
    return utterances


def nemo_decoder(model: Any, device: torch.device) -> Decode:
    """NeMo's own decoding of padded batches, as the model is configured."""
    model.to(device)

    def decode(batch: Sequence[Utterance]) -> list[Tokens]:
        padded = torch.nn.utils.rnn.pad_sequence([utterance.encoded for utterance in batch], batch_first=True)
        lengths = torch.tensor([len(utterance.encoded) for utterance in batch])
        hypotheses = model.decoding.rnnt_decoder_predictions_tensor(
            encoder_output=padded.transpose(1, 2).to(device),
            encoded_lengths=lengths.to(device),
            return_hypotheses=True,
        )
        return [([int(token) for token in hypothesis.y_sequence], []) for hypothesis in hypotheses]

    return decode


def stage_decoder(graph: onnx.ModelProto, threads: int, provider: str) -> Decode:
    """A decoder stage of ours in onnxruntime, by the provider of that name in PROVIDERS."""
    session_options = ort.SessionOptions()
    session_options.intra_op_num_threads = threads
    providers = dict.fromkeys([PROVIDERS[provider], PROVIDERS["CPU"]])
    session = ort.InferenceSession(graph.SerializeToString(), session_options, providers=list(providers))

    def decode(batch: Sequence[Utterance]) -> list[Tokens]:
        rows = [utterance.projected for utterance in batch]
        feeds = {
            ENCODED.name: np.concatenate([row.ravel() for row in rows]),
            ENCODED.shape.name: np.array([row.shape for row in rows], np.int32),
            ENCODED.length.name: np.array([[len(row)] for row in rows], np.int32),
        }
        _, tokens, frames, length = session.run([tensor.name for tensor in TRANSCRIPT], feeds)
        counts = length[:, 0].tolist()
        return [(tokens[row, :count].tolist(), frames[row, :count].tolist()) for row, count in enumerate(counts)]

    return decode


def loop_steps(batch: Sequence[tuple[Sequence[int], int]], frames_per_step: int, max_symbols: int) -> int:
    """How often the loop's body runs for a batch of (frames of the tokens, frames of the utterance).

    A step ends at the first token among the frames that it looks at, or goes on behind them; see
    export_scripts/stages/rnnt_decoder.py.
    """
    longest = 0
    for token_frames, length in batch:
        steps, position, at_this_frame = 0, 0, 0
        for frame in token_frames:
            passed = (frame - position) // frames_per_step
            steps += passed + 1
            at_this_frame = at_this_frame + 1 if frame == position and not passed else 1
            full = at_this_frame >= max_symbols
            position, at_this_frame = frame + full, 0 if full else at_this_frame
        steps += math.ceil(max(length - position, 0) / frames_per_step)
        # The loop's body runs once before it asks whether to go on.
        longest = max(longest, steps, 1)
    return longest


@dataclass
class Decoded:
    """What one decoder made of all utterances, and its seconds for all of them, round by round."""

    seconds: list[float] = field(default_factory=list)
    tokens: list[Tokens] = field(default_factory=list)


def take_turns(batches: Sequence[Sequence[Utterance]], rounds: int, decoders: Sequence[Decode]) -> list[Decoded]:
    """Run each decoder on all batches, in turn, in rounds after one that is not counted."""
    results = [Decoded() for _ in decoders]
    for number in range(rounds + 1):
        for decode, result in zip(decoders, results, strict=True):
            started = time.perf_counter()
            result.tokens = [tokens for batch in batches for tokens in decode(batch)]
            if number:
                result.seconds.append(time.perf_counter() - started)
    return results


@dataclass(frozen=True)
class Comparison:
    """A stage beside NeMo on batches of one size. `steps`: of the graph's loop, over all batches."""

    size: int
    stage: Stage
    ours: Decoded
    nemo: Decoded
    steps: int

    @property
    def differing(self) -> int:
        """Utterances with other tokens than NeMo's."""
        return sum(theirs[0] != ours[0] for theirs, ours in zip(self.nemo.tokens, self.ours.tokens, strict=True))

    def cells(self, audio: float) -> list[str]:
        """A row of the table. audio: seconds of all utterances"""
        ours, nemo = statistics.median(self.ours.seconds), statistics.median(self.nemo.seconds)
        ratios = [theirs / ours for theirs, ours in zip(self.nemo.seconds, self.ours.seconds, strict=True)]
        return [
            str(self.size),
            self.stage.provider,
            str(self.stage.frames_per_step),
            f"{1000 * ours / audio:.2f}",
            str(self.steps),
            f"{1000 * ours / self.steps:.3f}",
            f"{1000 * nemo / audio:.2f}",
            f"{statistics.median(ratios):.1f}",
            f"{min(ratios):.1f}",
            f"{max(ratios):.1f}",
            f"{self.differing} of {len(self.ours.tokens)}",
        ]


def compare(
    utterances: Sequence[Utterance], size: int, rounds: int, nemo: Decode, stages: Sequence[Stage], *, max_symbols: int
) -> list[Comparison]:
    """All stages beside NeMo, on batches of that size.

    max_symbols: tokens per frame, at most
    """
    batches = [utterances[start : start + size] for start in range(0, len(utterances), size)]
    by_nemo, *by_stages = take_turns(batches, rounds, [nemo, *(stage.decode for stage in stages)])
    comparisons = []
    for stage, ours in zip(stages, by_stages, strict=True):
        lengths = [
            (frames, len(utterance.encoded)) for (_, frames), utterance in zip(ours.tokens, utterances, strict=True)
        ]
        steps = sum(
            loop_steps(lengths[start : start + size], stage.frames_per_step, max_symbols)
            for start in range(0, len(lengths), size)
        )
        comparisons.append(Comparison(size, stage, ours, by_nemo, steps))
    return comparisons


@click.command(help=__doc__)
@click.argument("checkpoint", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--manifest", type=click.Path(exists=True, path_type=Path), default=DEMO_MANIFEST, help="The demo's commands."
)
@click.option("--batch-size", "batch_sizes", type=int, multiple=True, default=(1, 8), show_default=True)
@click.option(
    "--frames-per-step",
    "--frames-a-step",
    "sizes_of_step",
    callback=options.number_list(click.IntRange(min=1)),
    default=str(FRAMES_PER_STEP),
    show_default=True,
    help="Frames that a step of the graph's loop looks at; a list is a sweep, 4 is what export writes.",
)
@click.option("--rounds", default=5, show_default=True)
@click.option("--threads", default=2, show_default=True)
def main(
    checkpoint: Path,
    manifest: Path,
    batch_sizes: tuple[int, ...],
    sizes_of_step: tuple[int, ...],
    rounds: int,
    threads: int,
) -> None:
    logging.disable(logging.ERROR)
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    here = [name for name, provider in PROVIDERS.items() if provider in ort.get_available_providers()]
    try:
        opened = open_checkpoint(str(checkpoint))
    except ExportError as error:
        raise click.UsageError(str(error)) from error
    if not isinstance(opened.decoder, RnntDecoder):
        raise click.UsageError(f"{checkpoint}: is a {opened.model_class}; only RNNT models decode by a loop")
    weights = opened.decoder.weights
    try:
        utterances = encode(opened.model, manifest)
    except ClientError as error:
        raise click.UsageError(str(error)) from error
    stages = [
        Stage(size, provider, stage_decoder(rnnt_decoder_graph(weights, opened.pieces, size), threads, provider))
        for size in sizes_of_step
        for provider in here
    ]
    nemo = nemo_decoder(opened.model, device)
    audio = sum(utterance.seconds for utterance in utterances)
    headings = ("batch", "on", "frames per step", "stage ms/s", "steps", "ms per step", f"NeMo ms/s, {device.type}")
    table = Table(*headings, "NeMo / stage", "lowest", "highest", "other tokens")
    wrong = 0
    for size in batch_sizes:
        for comparison in compare(utterances, size, rounds, nemo, stages, max_symbols=weights.max_symbols):
            table.add_row(*comparison.cells(audio))
            wrong += comparison.differing
    console = Console(width=130)
    console.print(f"{checkpoint.name}: {len(utterances)} utterances, {audio:.0f} s; {threads} threads, {rounds} rounds")
    if "CUDA" not in here:
        console.print("No GPU: onnxruntime has no CUDA provider here, so the stage's figures on a GPU are missing.")
    console.print(table)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
