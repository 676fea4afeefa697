"""Write NeMo's transcribe() of the test recordings as JSON lines.

Runs in the export environment. The tests that compare the served texts with these run in the serving environment.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parent.parent))
from locations import DEMO_MANIFEST, SPEECH

MANIFESTS = (DEMO_MANIFEST, SPEECH / "coffee" / "test.jsonl", SPEECH / "read" / "manifest.jsonl")


@click.command(help=__doc__)
@click.argument("checkpoints", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help=".jsonl file to write.")
def main(checkpoints: tuple[Path, ...], out: Path) -> None:
    logging.disable(logging.ERROR)
    from nemo.collections.asr.models import ASRModel

    out.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for checkpoint in checkpoints:
        model = ASRModel.restore_from(str(checkpoint), map_location="cpu")
        for manifest in filter(Path.exists, MANIFESTS):
            rows = [json.loads(line) for line in manifest.read_text().splitlines()]
            recordings = [str(manifest.parent / row["audio_filepath"]) for row in rows]
            hypotheses = model.transcribe(recordings, batch_size=1, verbose=False)
            for recording, row, hypothesis in zip(recordings, rows, hypotheses, strict=True):
                identity = {"model": checkpoint.stem, "set": manifest.parent.name, "audio": recording}
                lines.append(json.dumps({**identity, "text": row["text"], "nemo": hypothesis.text}) + "\n")
    out.write_text("".join(lines))


if __name__ == "__main__":
    main()
