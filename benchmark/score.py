"""The command that scores measured transcripts: `python -m benchmark.score RESULTS`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.table import Table

from benchmark.core.constants import SCORES
from benchmark.core.results_folder import ResultsError, write_json
from benchmark.core.scoring import read_texts, sclite_agrees, score_texts
from nemo_triton.loadtest.wer import NORMALIZATIONS
from nemo_triton.terminal import exit_codes, options


@click.command()
@click.argument("results", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--normalization",
    type=click.Choice(list(NORMALIZATIONS)),
    default="basic",
    show_default=True,
    help="Text normalization before words are compared; `whisper` is the Open ASR Leaderboard's.",
)
def run(results: Path, normalization: str) -> int:
    """Write RESULTS/scores.json: word and character error rates of every system on every data set.

    RESULTS is a folder of benchmark.run and benchmark.compare. If NIST's sclite is installed, it counts the same texts
    from .trn files in RESULTS/trn. Models with random weights are not scored.
    """
    rows = [score_texts(texts, normalization, results / "trn", exit_codes.print_error) for texts in read_texts(results)]
    if not rows:
        raise ResultsError(f"{results}: holds no transcripts; measure with benchmark.run or benchmark.compare")
    write_json(results / SCORES, {"normalization": normalization, "scores": rows})
    options.console().print(_table(rows))
    return exit_codes.EXIT_OK


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("system", "model", "data", "WER, %", "95 % interval", "CER, %", "errors by sclite")
    for row in rows:
        if row.get("wer") is None:
            cells = ["random weights" if row["random_weights"] else "-", "", ""]
        else:
            low, high = row["wer_interval"]
            cells = [f"{100 * row['wer']:.2f}", f"{100 * low:.2f} to {100 * high:.2f}", f"{100 * row['cer']:.2f}"]
        agrees = {True: "as many", False: "more", None: "-"}[sclite_agrees(row)]
        table.add_row(row["system"], row["model"], row["dataset"], *cells, agrees)
    return table


if __name__ == "__main__":
    options.run(run)
