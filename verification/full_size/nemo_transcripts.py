"""Transcribe the recordings of a manifest with NeMo, one at a time.

    python -m verification.full_size.nemo_transcripts NAME.nemo --manifest M.jsonl --out R/NAME/nemo.jsonl

Writes three files: texts (.jsonl), log-probs or projected encodings (.npz), and NeMo's speed (.json). Results that are
newer than the checkpoint and the manifest are kept.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.progress import track

from benchmark.core.results_folder import write_text
from export_scripts.checkpoints.checkpoint import Checkpoint, open_checkpoint
from export_scripts.checkpoints.families import Decoder
from nemo_triton.terminal import options
from verification.full_size.records import RECORDINGS_HELP, Record, is_done, is_of, write_records
from verification.full_size.speech import Recording, read_recordings


@click.command(help=__doc__)
@click.argument("checkpoint", type=click.Path(exists=True, path_type=Path))
@click.option("--manifest", type=click.Path(exists=True, path_type=Path), required=True, help="Recordings to use.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help=".jsonl file to write.")
@click.option("--recognizer", help="One of a hybrid's two.  [default: the file's name]")
@click.option("--recordings", "at_most", type=click.IntRange(1), help=RECORDINGS_HELP)
def main(checkpoint: Path, manifest: Path, out: Path, recognizer: str | None, at_most: int | None) -> None:
    recordings = read_recordings(manifest, at_most)
    summary = out.with_suffix(".json")
    if is_done(summary, checkpoint, manifest) and is_of(out, [recording.name for recording in recordings]):
        click.echo(f"{out}: up to date")
        return
    logging.disable(logging.ERROR)
    opened = open_checkpoint(str(checkpoint))
    decoder = opened.recognizers[recognizer or opened.name]
    transcribe(opened, decoder, recordings[0])
    started = time.perf_counter()
    records = [transcribe(opened, decoder, recording) for recording in track(recordings, checkpoint.stem)]
    speed = sum(recording.seconds for recording in recordings) / (time.perf_counter() - started)
    measured = {"rtfx": speed, "checkpoint_bytes": checkpoint.stat().st_size}
    write_records(out, records)
    write_text(summary, json.dumps(measured) + "\n")
    click.echo(f"{out}: {len(recordings)} recordings")


def transcribe(checkpoint: Checkpoint, decoder: Decoder, recording: Recording) -> Record:
    """Transcribe one recording with NeMo: its text and scores, and the tokens of a transducer."""
    from export_scripts.checkpoints.nemo_reference import nemo_reference

    with kept_tokens(decoder.decoding(checkpoint.model)) as tokens:
        truth = nemo_reference(checkpoint, decoder, recording.samples)
    return Record(recording.name, recording.seconds, truth.text, tokens[-1] if tokens else None, truth.scores)


@contextmanager
def kept_tokens(decoding: Any) -> Iterator[list[list[int]]]:
    """Collect the tokens that a transducer's decoding returns in the block; nemo_reference returns only the text."""
    tokens: list[list[int]] = []
    name = "rnnt_decoder_predictions_tensor"
    decode = getattr(decoding, name, None)
    if decode is None:
        yield tokens
        return

    def decode_and_keep(*arguments: Any, **named: Any) -> Any:
        hypotheses = decode(*arguments, **named)
        tokens.extend([int(token) for token in hypothesis.y_sequence] for hypothesis in hypotheses)
        return hypotheses

    setattr(decoding, name, decode_and_keep)
    try:
        yield tokens
    finally:
        delattr(decoding, name)


if __name__ == "__main__":
    options.run(main)
