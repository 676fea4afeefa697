"""NeMo's text, and log-probs or projected encodings, for the recordings of a manifest, each alone.

    python -m verification.full_size.nemo_transcripts NAME.nemo --manifest M.jsonl --out R/NAME/nemo.jsonl

Writes JSON lines and, beside them, the log-probs as .npz, and how fast NeMo was as .json. Results newer than the
checkpoint are left as they are.
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
from verification.full_size.records import Record, is_done, is_of, write_records
from verification.full_size.speech import Recording, read_recordings


@click.command(help=__doc__)
@click.argument("checkpoint", type=click.Path(exists=True, path_type=Path))
@click.option("--manifest", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The .jsonl file to write.")
@click.option("--recordings", "at_most", type=click.IntRange(1), help="Only so many, spread over their lengths.")
def main(checkpoint: Path, manifest: Path, out: Path, at_most: int | None) -> None:
    recordings = read_recordings(manifest, at_most)
    summary = out.with_suffix(".json")
    if is_done(summary, checkpoint, manifest) and is_of(out, [recording.name for recording in recordings]):
        click.echo(f"{out}: is there already")
        return
    logging.disable(logging.ERROR)
    opened = open_checkpoint(str(checkpoint))
    transcribe(opened, recordings[0])
    started = time.perf_counter()
    records = [transcribe(opened, recording) for recording in track(recordings, checkpoint.stem)]
    speed = sum(recording.seconds for recording in recordings) / (time.perf_counter() - started)
    measured = {"rtfx": speed, "checkpoint_bytes": checkpoint.stat().st_size}
    write_records(out, records)
    write_text(summary, json.dumps(measured) + "\n")
    click.echo(f"{out}: {len(recordings)} recordings")


def transcribe(checkpoint: Checkpoint, recording: Recording) -> Record:
    """NeMo's text and scores of one recording, and a transducer's tokens."""
    from export_scripts.checkpoints.nemo_reference import nemo_reference

    model: Any = checkpoint.model
    with kept_tokens(model.decoding) as tokens:
        truth = nemo_reference(checkpoint, recording.samples)
    return Record(recording.name, recording.seconds, truth.text, tokens[-1] if tokens else None, truth.scores)


@contextmanager
def kept_tokens(decoding: Any) -> Iterator[list[list[int]]]:
    """What a transducer's decoding finds within the block, of which the reference tells the text only."""
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
    main()
