"""Find the served transducer texts that differ from NeMo's only by a near tie.

    python -m verification.full_size.judge_transducer build/full_size/NAME.nemo --results build/full_size/results/NAME

Writes ties.json into RESULTS. For each pass it lists the recordings whose first differing decision is a near tie:
NeMo's margin there is below TIE of export_scripts/checkpoints/families.py. NeMo is loaded only if a text differs.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np

from benchmark.core.results_folder import write_text
from nemo_triton.terminal import options
from verification.full_size.judging import is_same
from verification.full_size.records import BATCHED, UNBATCHED, Record, read_records

PASSES = (UNBATCHED, BATCHED)


@click.command(help=__doc__)
@click.argument("checkpoint", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--results",
    type=click.Path(exists=True, path_type=Path),
    required=True,
    help="Folder with the records of NeMo and of the server.",
)
def main(checkpoint: Path, results: Path) -> None:
    nemo = read_records(results / "nemo.jsonl")
    differing = {}
    for name in PASSES:
        served = read_records(results / f"{name}.jsonl")
        differing[name] = [pair for pair in zip(served, nemo, strict=True) if not is_same(*pair)]
    ties = find_ties(checkpoint, differing) if any(differing.values()) else {name: [] for name in PASSES}
    write_text(results / "ties.json", json.dumps(ties, indent=2) + "\n")
    counts = (f"{name}: {len(ties[name])} of {len(differing[name])} differences" for name in PASSES)
    click.echo(f"{results / 'ties.json'}: near ties, {', '.join(counts)}")


def find_ties(checkpoint: Path, differing: dict[str, list[tuple[Record, Record]]]) -> dict[str, list[str]]:
    """The recordings whose first differing decision is a near tie, by pass.

    Args:
        checkpoint: The .nemo file.
        differing: Pairs of a served record and NeMo's that are not the same, by pass.
    """
    from export_scripts.checkpoints.checkpoint import open_checkpoint

    logging.disable(logging.ERROR)
    decoder = open_checkpoint(str(checkpoint)).decoder

    def is_tie(ours: Record, theirs: Record) -> bool:
        assert theirs.log_probs is not None
        return decoder.differs_by_a_tie(theirs.log_probs, _array(ours.tokens), _array(ours.frames), theirs.log_probs)

    return {name: [ours.audio for ours, theirs in pairs if is_tie(ours, theirs)] for name, pairs in differing.items()}


def _array(values: Sequence[int] | None) -> np.ndarray:
    return np.array(values, np.int64)


if __name__ == "__main__":
    options.run(main)
