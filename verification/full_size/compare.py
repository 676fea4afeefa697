"""Write a page that compares served texts with NeMo's, from the results of verify.py.

    python -m verification.full_size.compare NAME... --folder build/full_size --out docs/full_size.md

Needs the results, not the models. Exit code 1 if a text differs by more than a near tie, or if the texts are too short
to prove anything.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmark.core.results_folder import write_text
from benchmark.core.tables import NONE, markdown_rows, number
from nemo_triton.contract import Part
from nemo_triton.terminal import options
from verification.full_size.architectures import KNOWN, RECOGNIZERS
from verification.full_size.judging import (
    TIE,
    Comparison,
    compare,
    compare_texts,
    compare_transducer,
    largest_difference,
    near_ties,
)
from verification.full_size.records import BATCHED, BATCHED_WITH_LOG_PROBS, UNBATCHED, Record, read_records

FEWEST_CHARACTERS = 20
"""Smallest median length of a text. Shorter texts are equal too easily."""


COMMAND = """# Full-size models: served text compared with NeMo's

In the checkout, after `make install`:

```sh
make verify-all MANIFEST=my_speech.jsonl
```

This exports and serves all 22 models and writes docs/full_size.md. It continues an interrupted run. Without `MANIFEST`
it uses the demo's recordings."""
LATER_COMMAND = """# Later models at full size: served text compared with NeMo's

In the checkout, after `make install`:

```sh
make verify-later MANIFEST=my_speech.jsonl
```

This exports and serves later models, of which some have more than 2 GiB of weights, and writes docs/full_size_later.md.
It continues an interrupted run. Without `MANIFEST` it uses the demo's recordings. A hybrid has two rows, one for each
head."""


@dataclass(frozen=True)
class Row:
    """One model's results.

    Attributes:
        name: The model.
        concurrency: Concurrent requests of the batched passes.
        checkpoint_bytes: Size of the .nemo file.
        graphs_bytes: Size of all graphs.
        export_seconds: Duration of the export; None if it was not measured.
        export_peak_bytes: Peak memory of the export; None if it was not measured.
        comparisons: Served texts compared with NeMo's, by pass. Transducers have no pass with log-probs.
        difference_to_nemo: Largest difference of a served log-prob from NeMo's, unbatched. For a transducer: of its
            projected encodings, as measured at export.
        difference_in_batches: Largest difference of the same values between batched and unbatched.
        characters: Median length of NeMo's texts.
        frames: Number of encoder frames.
        near_ties: Frames in which NeMo's top two labels are closer than TIE; None for a transducer.
        rtfx: Seconds of audio per second, by pass.
        nemo_rtfx: RTFx of NeMo, one recording at a time.
        recordings_per_execution: Mean batch size of the encoder in the batched pass.
    """

    name: str
    concurrency: int
    checkpoint_bytes: int
    graphs_bytes: int
    export_seconds: float | None
    export_peak_bytes: int | None
    comparisons: dict[str, Comparison]
    difference_to_nemo: float
    difference_in_batches: float
    characters: float
    frames: int
    near_ties: int | None
    rtfx: dict[str, float]
    nemo_rtfx: float
    recordings_per_execution: float

    @property
    def problems(self) -> list[str]:
        """One line per mismatch, and one if the texts are too short."""
        problems = [
            f"{PASS_LABELS[name]}: {line}"
            for name, comparison in self.comparisons.items()
            for line in comparison.mismatches
        ]
        if self.characters < FEWEST_CHARACTERS:
            problems.append(f"half of the texts have {self.characters:.0f} characters or fewer")
        return problems

    @property
    def ties(self) -> list[str]:
        """One line per near tie."""
        return [
            f"{PASS_LABELS[name]}: {line}" for name, comparison in self.comparisons.items() for line in comparison.ties
        ]


PASS_LABELS = {
    UNBATCHED: "one at a time",
    BATCHED_WITH_LOG_PROBS: "concurrent, with log-probs",
    BATCHED: "concurrent",
}


@click.command(help=__doc__)
@click.argument("names", metavar="NAME...", type=click.Choice(list(RECOGNIZERS)), nargs=-1, required=True)
@click.option(
    "--folder", type=click.Path(exists=True, path_type=Path), required=True, help="Folder of verify.py's results."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Markdown file to write.")
@click.option("--later", is_flag=True, help="The page is that of the later models.")
def main(names: tuple[str, ...], folder: Path, out: Path, later: bool) -> None:
    rows, recordings = [], set()
    for name in names:
        nemo = read_records(folder / "results" / name / "nemo.jsonl")
        recordings.add((len(nemo), sum(record.seconds for record in nemo)))
        rows.append(row_of(name, folder, nemo))
    if len(recordings) > 1 or len({row.concurrency for row in rows}) > 1:
        raise click.ClickException(
            f"{folder}: the models have results of different recordings or concurrencies; run verify.py again for all"
        )
    table = markdown(rows, *recordings.pop(), introduction=LATER_COMMAND if later else COMMAND)
    write_text(out, table)
    click.echo(table)
    sys.exit(1 if any(row.problems for row in rows) else 0)


def row_of(name: str, folder: Path, nemo: Sequence[Record]) -> Row:
    """Read and compare the results of one model.

    Args:
        name: The model.
        folder: The folder of verify.py's results.
        nemo: NeMo's records.
    """
    results = folder / "results" / name
    served, nemo_summary = (json.loads((results / f"{file}.json").read_text()) for file in ("served", "nemo"))
    export = results / "export.json"
    exported = json.loads(export.read_text()) if export.exists() else {}
    passes = served["passes"]
    records = {pass_name: read_records(results / f"{pass_name}.jsonl") for pass_name in passes}
    encoders = [step for step in passes[BATCHED]["steps"] if step["model"].endswith(Part.ENCODER.value)]
    return Row(
        name=name,
        concurrency=served["at_once"],
        checkpoint_bytes=nemo_summary["checkpoint_bytes"],
        graphs_bytes=served["graphs_bytes"],
        export_seconds=exported.get("seconds"),
        export_peak_bytes=exported.get("peak_bytes"),
        characters=statistics.median(len(record.text) for record in nemo),
        frames=sum(len(record.log_probs) for record in nemo if record.log_probs is not None),
        rtfx={pass_name: entry["rtfx"] for pass_name, entry in passes.items()},
        nemo_rtfx=nemo_summary["rtfx"],
        recordings_per_execution=encoders[0]["mean_batch_size"],
        **(
            _judge_transducer(records, nemo, served["parity"], json.loads((results / "ties.json").read_text()))
            if RECOGNIZERS[name].is_transducer
            else _judge_ctc(records, nemo)
        ),
    )


def _judge_ctc(served: dict[str, list[Record]], nemo: Sequence[Record]) -> dict[str, Any]:
    """The fields of a Row that compare a CTC model with NeMo."""
    unbatched, batched = served[UNBATCHED], served[BATCHED_WITH_LOG_PROBS]
    return {
        "comparisons": {
            UNBATCHED: compare(unbatched, nemo),
            BATCHED_WITH_LOG_PROBS: compare(batched, nemo),
            BATCHED: compare_texts(served[BATCHED], nemo, [unbatched, batched]),
        },
        "difference_to_nemo": largest_difference(unbatched, nemo),
        "difference_in_batches": largest_difference(batched, unbatched),
        "near_ties": sum(near_ties(record.log_probs) for record in nemo if record.log_probs is not None),
    }


def _judge_transducer(
    served: dict[str, list[Record]], nemo: Sequence[Record], parity: dict[str, Any], ties: dict[str, list[str]]
) -> dict[str, Any]:
    """The fields of a Row that compare a transducer with NeMo."""
    return {
        "comparisons": {name: compare_transducer(records, nemo, ties[name]) for name, records in served.items()},
        "difference_to_nemo": parity["scores_difference"],
        "difference_in_batches": parity["scores_difference_in_batches"],
        "near_ties": None,
    }


def markdown(rows: Sequence[Row], recordings: int, seconds: float, *, introduction: str = COMMAND) -> str:
    """The page: two tables and a list of all differences.

    Args:
        rows: The models.
        recordings: Number of recordings.
        seconds: Duration of all recordings together.
        introduction: Title, and what writes the page.
    """
    lines = [
        introduction,
        "",
        f"{RANDOM_WEIGHTS_NOTE} {recordings} recordings, {seconds / 60:.1f} minutes.",
        "",
        *_table(PARITY, rows),
        "",
        PARITY_NOTE,
        "",
        *_table(COST, rows),
        "",
        COST_NOTE,
        "",
    ]
    for row in rows:
        for title, differences in (("near ties", row.ties), ("problems", row.problems)):
            if differences:
                lines += [f"{row.name}, {title}:", "", *(f"- {line}" for line in differences), ""]
    return "\n".join(lines)


def _equal(row: Row, pass_name: str) -> str:
    comparison = row.comparisons.get(pass_name)
    return f"{comparison.equal}/{comparison.compared}" if comparison else NONE


def _speed(row: Row, pass_name: str) -> str:
    return _rounded(row.rtfx[pass_name]) if pass_name in row.rtfx else NONE


def _rounded(rtfx: float) -> str:
    return number(rtfx, digits=0 if rtfx >= 10 else 1)


RANDOM_WEIGHTS_NOTE = (
    "**All weights are random.** Architectures and sizes are those of the published models. Each text is gibberish "
    "that follows the audio. It is compared with NeMo's text for the same recording, transcribed unbatched. For "
    "transducers the tokens are compared too. A near tie is a text that differs only where NeMo's top two labels are "
    f"within {TIE}."
)
PARITY_NOTE = (
    "Differences are maxima over all served log-probs; for transducers, over the projected encodings measured at "
    "export. Batched vs. unbatched: the same recording in a batch and unbatched. It shows what padding changes."
)
COST_NOTE = (
    "RTFx is seconds of audio per second, on the CPU of one machine that had other work. Rows are of different "
    "times: compare the figures within a row. One at a time, CTC models are served with log-probs. NeMo "
    "runs in a separate process, one recording at a time."
)

Column = tuple[str, Callable[[Row], str]]

PARITY: tuple[Column, ...] = (
    ("model", lambda row: row.name),
    ("parameters", lambda row: f"{KNOWN[RECOGNIZERS[row.name].checkpoint].parameters:,}"),
    ("equal, one at a time", lambda row: _equal(row, UNBATCHED)),
    ("equal, {concurrency} concurrent, with log-probs", lambda row: _equal(row, BATCHED_WITH_LOG_PROBS)),
    ("equal, {concurrency} concurrent", lambda row: _equal(row, BATCHED)),
    ("near ties", lambda row: str(len(row.ties))),
    ("difference from NeMo", lambda row: f"{row.difference_to_nemo:.1e}"),
    ("batched vs. unbatched", lambda row: f"{row.difference_in_batches:.1e}"),
    ("characters per recording", lambda row: f"{row.characters:.0f}"),
    ("frames (near ties)", lambda row: f"{row.frames:,} ({NONE if row.near_ties is None else row.near_ties})"),
)

COST: tuple[Column, ...] = (
    ("model", lambda row: row.name),
    (".nemo MB", lambda row: f"{row.checkpoint_bytes / 1e6:.1f}"),
    ("ONNX MB", lambda row: f"{row.graphs_bytes / 1e6:.1f}"),
    ("export s", lambda row: NONE if row.export_seconds is None else f"{row.export_seconds:.0f}"),
    ("export peak GB", lambda row: NONE if row.export_peak_bytes is None else f"{row.export_peak_bytes / 1e9:.1f}"),
    ("RTFx, one at a time", lambda row: _speed(row, UNBATCHED)),
    ("RTFx, {concurrency} concurrent, with log-probs", lambda row: _speed(row, BATCHED_WITH_LOG_PROBS)),
    ("RTFx, {concurrency} concurrent", lambda row: _speed(row, BATCHED)),
    ("NeMo's RTFx, one at a time", lambda row: _rounded(row.nemo_rtfx)),
    ("recordings per encoder execution", lambda row: f"{row.recordings_per_execution:.1f}"),
)


def _table(columns: Sequence[Column], rows: Sequence[Row]) -> list[str]:
    titles = [title.format(concurrency=rows[0].concurrency) for title, _ in columns]
    return markdown_rows(titles, [[cell(row) for _, cell in columns] for row in rows])


if __name__ == "__main__":
    options.run(main)
