"""A table of served text beside NeMo's, from the results of verify.py's steps.

    python -m verification.full_size.compare NAME... --folder build/full_size --out docs/full_size.md

Needs the results only, not the models. Exit code 1 where a text differs that is not a tie, or where the
texts say too little to prove anything.
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
from benchmark.core.tables import NONE, markdown_rows
from nemo_triton.contract import Part
from verification.full_size.architectures import ARCHITECTURES
from verification.full_size.judging import (
    TIE,
    Comparison,
    compare,
    compare_texts,
    compare_transducer,
    largest_difference,
    near_ties,
)
from verification.full_size.records import Record, read_records

FEWEST_CHARACTERS = 20
"""Of a recording in the middle; with less, equal texts would prove little."""


@dataclass(frozen=True)
class Row:
    """One model's results; a transducer has the passes `alone` and `text` only.

    checkpoint_bytes, graphs_bytes: sizes of the .nemo file and of all graphs
    export_seconds, export_peak_bytes: None where the export was not measured
    difference_to_nemo, difference_in_batches: largest of the log-probs as served, between alone and others alone;
        of a transducer, of its projected encodings as compared at export
    frames: the encoder's; near_ties: those whose best labels NeMo holds closer than TIE, unknown of a transducer
    rtfx, nemo_rtfx: seconds of audio a second; NeMo's each recording alone
    recordings_per_execution: the encoder's, in the pass `text`
    """

    name: str
    at_once: int
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
        """A line for each text that is not NeMo's, and for texts that prove too little."""
        problems = [f"{way}: {line}" for way, comparison in self.comparisons.items() for line in comparison.mismatches]
        if self.characters < FEWEST_CHARACTERS:
            problems.append(f"half of the texts have {self.characters:.0f} characters or less")
        return problems

    @property
    def ties(self) -> list[str]:
        """A line for each tie."""
        return [f"{way}: {line}" for way, comparison in self.comparisons.items() for line in comparison.ties]


@click.command(help=__doc__)
@click.argument("names", type=click.Choice(list(ARCHITECTURES)), nargs=-1, required=True)
@click.option("--folder", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The Markdown file to write.")
def main(names: tuple[str, ...], folder: Path, out: Path) -> None:
    rows, recordings = [], set()
    for name in names:
        nemo = read_records(folder / "results" / name / "nemo.jsonl")
        recordings.add((len(nemo), sum(record.seconds for record in nemo)))
        rows.append(row_of(name, folder, nemo))
    if len(recordings) > 1 or len({row.at_once for row in rows}) > 1:
        raise click.ClickException("the models' results are of different recordings or numbers of requests at once")
    table = markdown(rows, *recordings.pop())
    write_text(out, table)
    click.echo(table)
    sys.exit(1 if any(row.problems for row in rows) else 0)


def row_of(name: str, folder: Path, nemo: Sequence[Record]) -> Row:
    """Read and judge the results of one model.

    Args:
        name: of the model
        folder: that verify.py was given
        nemo: NeMo's records
    """
    results = folder / "results" / name
    served, by_nemo = (json.loads((results / f"{file}.json").read_text()) for file in ("served", "nemo"))
    export = results / "export.json"
    exported = json.loads(export.read_text()) if export.exists() else {}
    counted = served["passes"]
    records = {way: read_records(results / f"{way}.jsonl") for way in counted}
    encoders = [step for step in counted["text"]["steps"] if step["model"] == Part.ENCODER.of(name)]
    return Row(
        name=name,
        at_once=served["at_once"],
        checkpoint_bytes=by_nemo["checkpoint_bytes"],
        graphs_bytes=served["graphs_bytes"],
        export_seconds=exported.get("seconds"),
        export_peak_bytes=exported.get("peak_bytes"),
        characters=statistics.median(len(record.text) for record in nemo),
        frames=sum(len(record.log_probs) for record in nemo if record.log_probs is not None),
        rtfx={way: entry["rtfx"] for way, entry in counted.items()},
        nemo_rtfx=by_nemo["rtfx"],
        recordings_per_execution=encoders[0]["mean_batch_size"],
        **(
            _judge_transducer(records, nemo, served["parity"], json.loads((results / "ties.json").read_text()))
            if ARCHITECTURES[name].is_transducer
            else _judge_ctc(records, nemo)
        ),
    )


def _judge_ctc(served: dict[str, list[Record]], nemo: Sequence[Record]) -> dict[str, Any]:
    """The fields of a Row that compare."""
    with_log_probs = [served["alone"], served["together"]]
    return {
        "comparisons": {
            "alone": compare(served["alone"], nemo),
            "together": compare(served["together"], nemo),
            "text": compare_texts(served["text"], nemo, with_log_probs),
        },
        "difference_to_nemo": largest_difference(served["alone"], nemo),
        "difference_in_batches": largest_difference(served["together"], served["alone"]),
        "near_ties": sum(near_ties(record.log_probs) for record in nemo if record.log_probs is not None),
    }


def _judge_transducer(
    served: dict[str, list[Record]], nemo: Sequence[Record], parity: dict[str, Any], ties: dict[str, list[str]]
) -> dict[str, Any]:
    """The fields of a Row that compare."""
    return {
        "comparisons": {way: compare_transducer(records, nemo, ties[way]) for way, records in served.items()},
        "difference_to_nemo": parity["scores_difference"],
        "difference_in_batches": parity["scores_difference_in_batches"],
        "near_ties": None,
    }


def markdown(rows: Sequence[Row], recordings: int, seconds: float) -> str:
    """Two tables and all that differs, over so many recordings of so many seconds together."""
    lines = [
        "# Full-size models: served text beside NeMo's",
        "",
        "**All weights are random.** The architectures and sizes are those of the published models, so each text is "
        "gibberish that follows the audio, and is compared with NeMo's own gibberish for the same recording alone: "
        f"{recordings} recordings, {seconds / 60:.1f} minutes. Of a transducer the tokens are compared as well. A tie "
        f"is a text that differs only in what NeMo decides by less than {TIE}.",
        "",
        *_table(PARITY, rows),
        "",
        "Differences are the largest of any log-prob as served, or, of a transducer, of any number of its projected "
        "encodings when it was exported. 'In company' is beside the same recording alone: what padding changes.",
        "",
        *_table(CIRCUMSTANCES, rows),
        "",
        "Speeds are seconds of audio a second on the CPU of one machine, shared with other work: ours served, with "
        "log-probs where a CTC model is asked alone, NeMo's in its own process, each recording alone.",
        "",
    ]
    for row in rows:
        for title, differences in (("ties", row.ties), ("problems", row.problems)):
            if differences:
                lines += [f"{row.name}, {title}:", "", *(f"- {line}" for line in differences), ""]
    return "\n".join(lines)


def _equal(row: Row, way: str) -> str:
    comparison = row.comparisons.get(way)
    return f"{comparison.equal}/{comparison.compared}" if comparison else NONE


def _speed(row: Row, way: str) -> str:
    return f"{row.rtfx[way]:.0f}" if way in row.rtfx else NONE


Column = tuple[str, Callable[[Row], str]]

PARITY: tuple[Column, ...] = (
    ("model", lambda row: row.name),
    ("parameters", lambda row: f"{ARCHITECTURES[row.name].parameters:,}"),
    ("equal alone", lambda row: _equal(row, "alone")),
    ("equal, {at_once} at once, with log-probs", lambda row: _equal(row, "together")),
    ("equal, {at_once} at once", lambda row: _equal(row, "text")),
    ("ties", lambda row: str(len(row.ties))),
    ("difference from NeMo", lambda row: f"{row.difference_to_nemo:.1e}"),
    ("in company", lambda row: f"{row.difference_in_batches:.1e}"),
    ("characters a recording", lambda row: f"{row.characters:.0f}"),
    ("frames (near ties)", lambda row: f"{row.frames:,} ({NONE if row.near_ties is None else row.near_ties})"),
)

CIRCUMSTANCES: tuple[Column, ...] = (
    ("model", lambda row: row.name),
    (".nemo MB", lambda row: f"{row.checkpoint_bytes / 1e6:.1f}"),
    ("ONNX MB", lambda row: f"{row.graphs_bytes / 1e6:.1f}"),
    ("export s", lambda row: NONE if row.export_seconds is None else f"{row.export_seconds:.0f}"),
    ("export peak GB", lambda row: NONE if row.export_peak_bytes is None else f"{row.export_peak_bytes / 1e9:.1f}"),
    ("speed alone", lambda row: _speed(row, "alone")),
    ("{at_once} at once, with log-probs", lambda row: _speed(row, "together")),
    ("{at_once} at once", lambda row: _speed(row, "text")),
    ("NeMo alone", lambda row: f"{row.nemo_rtfx:.0f}"),
    ("recordings an encoder execution", lambda row: f"{row.recordings_per_execution:.1f}"),
)


def _table(columns: Sequence[Column], rows: Sequence[Row]) -> list[str]:
    titles = [title.format(at_once=rows[0].at_once) for title, _ in columns]
    return markdown_rows(titles, [[cell(row) for _, cell in columns] for row in rows])


if __name__ == "__main__":
    main()
