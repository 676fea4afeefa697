"""RNNT decoding: our decoder stage beside NeMo's greedy_batch, in one run.

    python -m benchmark.studies.rnnt_decoding demo/coffee_rnnt.nemo --frames-a-step 1,2,4,8

Runs where NeMo is. All get the same encodings, computed beforehand, and the same number of threads; they
take turns, and the ratio of each turn is counted. Tokens are compared as well: a decoder that is quick and
wrong is not quick. Prints milliseconds of decoding for a second of audio and for a step of the graph's loop, and the
median of the ratios. Stages are built from the checkpoint as export builds them, each looking at another number of
frames a step, and run by each of onnxruntime's providers that is here: the CPU's and, with onnxruntime-gpu beside
NeMo, CUDA's. NeMo runs on a GPU where PyTorch has one.
"""

from __future__ import annotations

import json
import logging
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import onnxruntime as ort
import soundfile
import torch
from rich.console import Console
from rich.table import Table

from export_scripts.checkpoints.checkpoint import open_checkpoint
from export_scripts.checkpoints.families import RnntDecoder
from export_scripts.errors import ExportError
from export_scripts.stages.rnnt_decoder import FRAMES_PER_STEP, rnnt_decoder_graph
from nemo_triton.demo_speech import MANIFEST as DEMO_MANIFEST
from nemo_triton.terminal import options as cli

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
    """A decoder stage: its frames a step, and where it runs."""

    frames_a_step: int
    provider: str
    decode: Decode


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


def nemo_decoder(model: Any, device: torch.device) -> Decode:
    model.to(device)

    def decode(batch: Sequence[Utterance]) -> list[Tokens]:
        padded = torch.nn.utils.rnn.pad_sequence([utterance.encoded for utterance in batch], batch_first=True)
        lengths = torch.tensor([len(utterance.encoded) for utterance in batch])
        found = model.decoding.rnnt_decoder_predictions_tensor(
            encoder_output=padded.transpose(1, 2).to(device),
            encoded_lengths=lengths.to(device),
            return_hypotheses=True,
        )
        return [([int(token) for token in hypothesis.y_sequence], []) for hypothesis in found]

    return decode


def stage_decoder(graph: onnx.ModelProto, threads: int, provider: str) -> Decode:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    providers = dict.fromkeys([PROVIDERS[provider], PROVIDERS["CPU"]])
    session = ort.InferenceSession(graph.SerializeToString(), options, providers=list(providers))

    def decode(batch: Sequence[Utterance]) -> list[Tokens]:
        rows = [utterance.projected for utterance in batch]
        feeds = {
            "ENCODED": np.concatenate([row.ravel() for row in rows]),
            "ENCODED_SHAPE": np.array([row.shape for row in rows], np.int32),
            "ENCODED_LENGTH": np.array([[len(row)] for row in rows], np.int32),
        }
        _, tokens, frames, length = session.run(["TEXT", "TOKENS", "FRAMES", "TOKENS_LENGTH"], feeds)
        counts = length[:, 0].tolist()
        return [(tokens[row, :count].tolist(), frames[row, :count].tolist()) for row, count in enumerate(counts)]

    return decode


def loop_steps(batch: Sequence[tuple[Sequence[int], int]], frames_a_step: int, max_symbols: int) -> int:
    """How often the loop's body runs for a batch of (frames of the tokens, frames of the utterance).

    A step ends at the first token among the frames that it looks at, or goes on behind them; see graphs/rnnt.py.
    """
    longest = 0
    for token_frames, length in batch:
        steps, position, at_this_frame = 0, 0, 0
        for frame in token_frames:
            passed = (frame - position) // frames_a_step
            steps += passed + 1
            at_this_frame = at_this_frame + 1 if frame == position and not passed else 1
            full = at_this_frame >= max_symbols
            position, at_this_frame = frame + full, 0 if full else at_this_frame
        steps += math.ceil(max(length - position, 0) / frames_a_step)
        # The loop's body runs once before it asks whether to go on.
        longest = max(longest, steps, 1)
    return longest


def take_turns(
    batches: Sequence[Sequence[Utterance]], rounds: int, decoders: Sequence[Decode]
) -> tuple[list[list[float]], list[list[Tokens]]]:
    """Seconds of each decoder for all batches, round by round after one that is not counted; and what each found."""
    spent: list[list[float]] = [[] for _ in decoders]
    found: list[list[Tokens]] = [[] for _ in decoders]
    for number in range(rounds + 1):
        for place, decode in enumerate(decoders):
            started = time.perf_counter()
            found[place] = [tokens for batch in batches for tokens in decode(batch)]
            if number:
                spent[place].append(time.perf_counter() - started)
    return spent, found


@click.command(help=__doc__)
@click.argument("checkpoint", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--manifest", type=click.Path(exists=True, path_type=Path), default=DEMO_MANIFEST, help="The demo's commands."
)
@click.option("--batch-size", "batch_sizes", type=int, multiple=True, default=(1, 8), show_default=True)
@click.option(
    "--frames-a-step",
    "sizes_of_step",
    callback=cli.number_list(click.IntRange(min=1)),
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
    transducer = opened.decoder.weights
    utterances = encode(opened.model, manifest)
    stages = [
        Stage(size, provider, stage_decoder(rnnt_decoder_graph(transducer, opened.pieces, size), threads, provider))
        for size in sizes_of_step
        for provider in here
    ]
    nemo = nemo_decoder(opened.model, device)
    audio = sum(utterance.seconds for utterance in utterances)
    headings = ("batch", "on", "frames a step", "stage ms/s", "steps", "ms a step", f"NeMo ms/s, {device.type}")
    table = Table(*headings, "NeMo / stage", "lowest", "highest", "other tokens")
    wrong = 0
    for size in batch_sizes:
        batches = [utterances[start : start + size] for start in range(0, len(utterances), size)]
        spent, found = take_turns(batches, rounds, [nemo, *(stage.decode for stage in stages)])
        for stage, seconds, tokens in zip(stages, spent[1:], found[1:], strict=True):
            ratios = [theirs / ours for theirs, ours in zip(spent[0], seconds, strict=True)]
            differing = sum(theirs[0] != ours[0] for theirs, ours in zip(found[0], tokens, strict=True))
            wrong += differing
            made = [(frames, len(utterance.encoded)) for (_, frames), utterance in zip(tokens, utterances, strict=True)]
            steps = sum(
                loop_steps(made[start : start + size], stage.frames_a_step, transducer.max_symbols)
                for start in range(0, len(made), size)
            )
            table.add_row(
                str(size),
                stage.provider,
                str(stage.frames_a_step),
                f"{1000 * statistics.median(seconds) / audio:.2f}",
                str(steps),
                f"{1000 * statistics.median(seconds) / steps:.3f}",
                f"{1000 * statistics.median(spent[0]) / audio:.2f}",
                f"{statistics.median(ratios):.1f}",
                f"{min(ratios):.1f}",
                f"{max(ratios):.1f}",
                f"{differing} of {len(utterances)}",
            )
    console = Console(width=130)
    console.print(f"{checkpoint.name}: {len(utterances)} utterances, {audio:.0f} s; {threads} threads, {rounds} rounds")
    if "CUDA" not in here:
        console.print("No GPU: onnxruntime has no CUDA provider here, so the stage's figures on a GPU are missing.")
    console.print(table)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
