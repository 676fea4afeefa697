"""Which served texts of a transducer differ from NeMo's only by a tie, told by NeMo's own search.

    python -m verification.full_size.judge_transducer build/full_size/NAME.nemo --results build/full_size/results/NAME

Writes ties.json into RESULTS: for each pass the recordings whose first other decision is one that NeMo
takes by less than the tie of export_scripts/checkpoints/families.py. NeMo is loaded only where a text differs.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np

from benchmark.core.results_folder import write_text
from verification.full_size.judging import is_same
from verification.full_size.records import Record, read_records

PASSES = ("alone", "text")


@click.command(help=__doc__)
@click.argument("checkpoint", type=click.Path(exists=True, path_type=Path))
@click.option("--results", type=click.Path(exists=True, path_type=Path), required=True)
def main(checkpoint: Path, results: Path) -> None:
    nemo = read_records(results / "nemo.jsonl")
    differing = {}
    for way in PASSES:
        served = read_records(results / f"{way}.jsonl")
        differing[way] = [pair for pair in zip(served, nemo, strict=True) if not is_same(*pair)]
    ties = find_ties(checkpoint, differing) if any(differing.values()) else {way: [] for way in PASSES}
    write_text(results / "ties.json", json.dumps(ties, indent=2) + "\n")
    counts = (f"{way}: {len(ties[way])} of {len(differing[way])} that differ" for way in PASSES)
    click.echo(f"{results / 'ties.json'}: ties {', '.join(counts)}")


def find_ties(checkpoint: Path, differing: dict[str, list[tuple[Record, Record]]]) -> dict[str, list[str]]:
    """The recordings of each pass whose first other decision is a tie.

    differing: by pass, served records beside NeMo's that are not the same
    """
    from export_scripts.checkpoints.checkpoint import open_checkpoint

    logging.disable(logging.ERROR)
    decoder = open_checkpoint(str(checkpoint)).decoder

    def is_tie(ours: Record, theirs: Record) -> bool:
        assert theirs.log_probs is not None
        return decoder.differs_by_a_tie(theirs.log_probs, _array(ours.tokens), _array(ours.frames), theirs.log_probs)

    return {way: [ours.audio for ours, theirs in pairs if is_tie(ours, theirs)] for way, pairs in differing.items()}


def _array(values: Sequence[int] | None) -> np.ndarray:
    return np.array(values, np.int64)


if __name__ == "__main__":
    main()
