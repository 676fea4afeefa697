"""Compare our RNNT and TDT decoder stage with NeMo's greedy_batch: speed and tokens.

    python -m benchmark.studies.rnnt_decoding demo/coffee_rnnt.nemo --frames-per-step 1,2,4,8

Needs NeMo (.venv/export). Builds one decoder stage per number of frames per step, as export.py does. All decoders get
the same encodings and the same number of threads, and run in turn. Stages run on the CPU and, with onnxruntime-gpu, on
CUDA. NeMo runs on a GPU if PyTorch has one.

Prints milliseconds of decoding per second of audio and, for RNNT, per step of the graph's loop, and NeMo's time divided
by the stage's, taken within each round. Exit code 1: a stage's tokens differ from NeMo's.
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

from benchmark.core.tables import NONE
from export_scripts.checkpoints.checkpoint import open_checkpoint
from export_scripts.checkpoints.families import RnntDecoder
from export_scripts.errors import ExportError
from export_scripts.stages.rnnt_decoder import FRAMES_PER_STEP, rnnt_decoder_graph
from nemo_triton.audio import as_float, seconds
from nemo_triton.contract import ENCODED, TRANSCRIPT
from nemo_triton.demo_speech import MANIFEST as DEMO_MANIFEST
from nemo_triton.errors import ClientError
from nemo_triton.manifest import read_manifest
from nemo_triton.terminal import options
from nemo_triton.utterances import load_utterance

PROVIDERS = {"CPU": "CPUExecutionProvider", "CUDA": "CUDAExecutionProvider"}


@dataclass(frozen=True)
class Utterance:
    """Encodings of one recording.

    Attributes:
        encoded: float32 [frames, D], output of NeMo's encoder.
        projected: float32 [frames, joint size], the joint's projection of `encoded`.
        seconds: Duration of the audio.
    """

    encoded: torch.Tensor
    projected: np.ndarray
    seconds: float


Tokens = tuple[list[int], list[int]]
"""Tokens of an utterance, and the frame of each."""
Decode = Callable[[Sequence[Utterance]], list[Tokens]]


@dataclass(frozen=True)
class Stage:
    """A decoder stage.

    Attributes:
        frames_per_step: Frames that one step of the loop evaluates.
        provider: Key of PROVIDERS.
        decode: Function that decodes a batch.
    """

    frames_per_step: int
    provider: str
    decode: Decode


@torch.no_grad()
def encode(model: Any, manifest: Path) -> list[Utterance]:
    """Encode the utterances of a manifest, one at a time, with NeMo's encoder of an RNNT or TDT model.

    Raises:
        ManifestError: The manifest can't be read.
        AudioError: An audio file can't be read.
    """
    utterances = []
    for entry in read_manifest(manifest).utterances:
        samples = load_utterance(entry)
        signal, length = torch.from_numpy(as_float(samples))[None], torch.tensor([len(samples)])
        encoded, frames = model.forward(input_signal=signal, input_signal_length=length)
        unpadded = encoded[0, :, : int(frames)].T.contiguous()
        utterances.append(Utterance(unpadded, model.joint.enc(unpadded).numpy(), seconds(samples)))
    return utterances


def nemo_decoder(model: Any, device: torch.device) -> Decode:
    """NeMo's decoding of padded batches, with the model's own settings."""
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
    """Our decoder stage in onnxruntime. `provider` is a key of PROVIDERS."""
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
    """Number of runs of the loop's body for one batch of RNNT. Those of TDT also follow from the blanks' durations.

    A step ends at the first token among its frames. Without a token, the next step starts after these frames. See
    export_scripts/stages/rnnt_decoder.py.

    Args:
        batch: Frames of the tokens, and number of frames, of each utterance.
        frames_per_step: Frames that one step evaluates.
        max_symbols: Highest number of tokens per frame.
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
        # The loop's body runs once before the loop's condition is checked.
        longest = max(longest, steps, 1)
    return longest


@dataclass
class Decoded:
    """Result of one decoder: seconds for all utterances, per round, and the tokens of each utterance."""

    seconds: list[float] = field(default_factory=list)
    tokens: list[Tokens] = field(default_factory=list)


def take_turns(batches: Sequence[Sequence[Utterance]], rounds: int, decoders: Sequence[Decode]) -> list[Decoded]:
    """Run all decoders in turn on all batches, in rounds. A first round is not counted."""
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
    """Results of a stage and of NeMo on the same batches.

    Attributes:
        size: Utterances per batch.
        stage: The stage.
        ours: Result of the stage.
        nemo: Result of NeMo.
        steps: Number of steps of the graph's loop, over all batches; None for TDT.
    """

    size: int
    stage: Stage
    ours: Decoded
    nemo: Decoded
    steps: int | None

    @property
    def differing(self) -> int:
        """Number of utterances whose tokens differ from NeMo's."""
        return sum(theirs[0] != ours[0] for theirs, ours in zip(self.nemo.tokens, self.ours.tokens, strict=True))

    def cells(self, audio: float) -> list[str]:
        """Cells of a table row. `audio` is the total duration in seconds."""
        ours, nemo = statistics.median(self.ours.seconds), statistics.median(self.nemo.seconds)
        ratios = [theirs / ours for theirs, ours in zip(self.nemo.seconds, self.ours.seconds, strict=True)]
        return [
            str(self.size),
            self.stage.provider,
            str(self.stage.frames_per_step),
            f"{1000 * ours / audio:.2f}",
            NONE if self.steps is None else str(self.steps),
            NONE if self.steps is None else f"{1000 * ours / self.steps:.3f}",
            f"{1000 * nemo / audio:.2f}",
            f"{statistics.median(ratios):.1f}",
            f"{min(ratios):.1f}",
            f"{max(ratios):.1f}",
            f"{self.differing} of {len(self.ours.tokens)}",
        ]


def compare(
    utterances: Sequence[Utterance],
    size: int,
    rounds: int,
    nemo: Decode,
    stages: Sequence[Stage],
    *,
    max_symbols: int | None,
) -> list[Comparison]:
    """Run NeMo and all stages on batches of one size.

    Args:
        utterances: Utterances to decode.
        size: Utterances per batch.
        rounds: Counted passes.
        nemo: NeMo's decoder.
        stages: Stages to compare with NeMo.
        max_symbols: Highest number of tokens per frame; None if steps can't be counted.
    """
    batches = [utterances[start : start + size] for start in range(0, len(utterances), size)]
    by_nemo, *by_stages = take_turns(batches, rounds, [nemo, *(stage.decode for stage in stages)])
    comparisons = []
    for stage, ours in zip(stages, by_stages, strict=True):
        lengths = [
            (frames, len(utterance.encoded)) for (_, frames), utterance in zip(ours.tokens, utterances, strict=True)
        ]
        steps = max_symbols and sum(
            loop_steps(lengths[start : start + size], stage.frames_per_step, max_symbols)
            for start in range(0, len(lengths), size)
        )
        comparisons.append(Comparison(size, stage, ours, by_nemo, steps))
    return comparisons


@click.command(help=__doc__)
@click.argument("checkpoint", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--manifest",
    metavar="FILE",
    type=click.Path(exists=True, path_type=Path),
    default=DEMO_MANIFEST,
    help="Recordings to decode.  [default: the demo's]",
)
@click.option(
    "--batch-size",
    "batch_sizes",
    type=int,
    multiple=True,
    default=(1, 8),
    show_default=True,
    help="Utterances per batch. Repeat the option to measure several sizes.",
)
@click.option(
    "--frames-per-step",
    "--frames-a-step",
    "frames_per_step",
    callback=options.number_list(click.IntRange(min=1)),
    default=str(FRAMES_PER_STEP),
    show_default=True,
    help="Encoder frames per step of the decoder's loop. A comma-separated list runs a sweep.",
)
@click.option("--rounds", default=5, show_default=True, help="Passes of each decoder.")
@click.option(
    "--threads",
    default=1,
    show_default=True,
    help="CPU threads of each decoder. With more, idle threads of one decoder slow down the next.",
)
def main(
    checkpoint: Path,
    manifest: Path,
    batch_sizes: tuple[int, ...],
    frames_per_step: tuple[int, ...],
    rounds: int,
    threads: int,
) -> None:
    logging.disable(logging.ERROR)
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    available = [name for name, provider in PROVIDERS.items() if provider in ort.get_available_providers()]
    try:
        opened = open_checkpoint(str(checkpoint))
    except ExportError as error:
        raise click.UsageError(str(error)) from error
    if not isinstance(opened.decoder, RnntDecoder):
        raise click.UsageError(f"{checkpoint}: is a {opened.model_class}; give an RNNT or TDT model")
    weights = opened.decoder.weights
    try:
        utterances = encode(opened.model, manifest)
    except ClientError as error:
        raise click.UsageError(str(error)) from error
    stages = [
        Stage(frames, provider, stage_decoder(rnnt_decoder_graph(weights, opened.pieces, frames), threads, provider))
        for frames in frames_per_step
        for provider in available
    ]
    nemo = nemo_decoder(opened.model, device)
    audio = sum(utterance.seconds for utterance in utterances)
    headings = ("batch", "device", "frames per step", "stage ms/s", "steps", "ms per step", f"NeMo ms/s, {device.type}")
    table = Table(*headings, "NeMo / stage", "lowest", "highest", "tokens differ")
    differing, countable = 0, None if weights.durations else weights.max_symbols
    for size in batch_sizes:
        for comparison in compare(utterances, size, rounds, nemo, stages, max_symbols=countable):
            table.add_row(*comparison.cells(audio))
            differing += comparison.differing
    console = Console(width=130)
    console.print(f"{checkpoint.name}: {len(utterances)} utterances, {audio:.0f} s; {threads} threads, {rounds} rounds")
    if "CUDA" not in available:
        console.print("The stage is not measured on a GPU: this onnxruntime has no CUDA provider.")
    console.print(table)
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    options.run(main)
