"""Write NeMo's transcribe() of the test recordings as JSON lines; of a hybrid, by each of its heads.

Runs in the export environment. The tests that compare the served texts with these run in the serving environment.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import Any

import click
import soundfile

sys.path.insert(0, str(Path(__file__).parent.parent))
from audio_formats import write_all
from locations import AUDIO_FORMATS, DEMO_MANIFEST, SPEECH

RECORDINGS_IN_EVERY_FORMAT = 3

MANIFESTS = (DEMO_MANIFEST, SPEECH / "coffee" / "test.jsonl", SPEECH / "read" / "manifest.jsonl")


@click.command(help=__doc__)
@click.argument("checkpoints", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help=".jsonl file to write.")
@click.option(
    "--in-formats",
    type=click.IntRange(min=0),
    default=RECORDINGS_IN_EVERY_FORMAT,
    help="Recordings to write and transcribe in every format.",
)
def main(checkpoints: tuple[Path, ...], out: Path, in_formats: int) -> None:
    logging.disable(logging.CRITICAL)
    out.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    formats = list(_in_every_format(in_formats))
    for name, model in (named for checkpoint in checkpoints for named in _recognizers(checkpoint)):
        for manifest in filter(Path.exists, MANIFESTS):
            rows = [json.loads(line) for line in manifest.read_text().splitlines()]
            recordings = [str(manifest.parent / row["audio_filepath"]) for row in rows]
            hypotheses = model.transcribe(recordings, batch_size=1, verbose=False)
            for recording, row, hypothesis in zip(recordings, rows, hypotheses, strict=True):
                identity = {"model": name, "set": manifest.parent.name, "audio": recording}
                lines.append(json.dumps({**identity, "text": row["text"], "nemo": hypothesis.text}) + "\n")
        # A hybrid's transcribe() has no option to read by AudioSegment. The heads don't change how a file is read.
        for file, text in () if _is_hybrid(model) else formats:
            identity = {"model": name, "set": AUDIO_FORMATS.name, "audio": str(file)}
            lines.append(json.dumps({**identity, "text": text, "nemo": _text_of(model, file)}) + "\n")
    out.write_text("".join(lines))


def _recognizers(checkpoint: Path) -> Iterator[tuple[str, Any]]:
    """The recognizers of a checkpoint: their names, and NeMo's model set to each in turn."""
    from nemo.collections.asr.models import ASRModel

    model: Any = ASRModel.restore_from(str(checkpoint), map_location="cpu")
    yield checkpoint.stem, model
    if _is_hybrid(model):
        model.change_decoding_strategy(decoder_type="ctc", verbose=False)
        yield f"{checkpoint.stem}_ctc", model


def _is_hybrid(model: Any) -> bool:
    return hasattr(model, "ctc_decoder")


def _in_every_format(recordings: int) -> Iterator[tuple[Path, str]]:
    for line in DEMO_MANIFEST.read_text().splitlines()[:recordings]:
        row = json.loads(line)
        samples, _ = soundfile.read(DEMO_MANIFEST.parent / row["audio_filepath"], dtype="float32")
        for file in write_all(samples, AUDIO_FORMATS / Path(row["audio_filepath"]).stem):
            yield file, row["text"]


def _text_of(model: Any, file: Path) -> str | None:
    """NeMo's text of a file, read by its AudioSegment; None if NeMo can't read it, for example without ffmpeg."""
    lhotse = {"use_lhotse": False} if "use_lhotse" in signature(model.transcribe).parameters else {}
    try:
        (hypothesis,) = model.transcribe(
            [str(file)], batch_size=1, verbose=False, channel_selector="average", num_workers=0, **lhotse
        )
    except Exception:
        # NeMo raises any error of the packages that it reads audio with.
        return None
    text: str = hypothesis.text
    return text


if __name__ == "__main__":
    main()
