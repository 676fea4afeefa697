"""Output of export.py: the progress of each export, and the list of models."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

import click
from rich.console import Console
from rich.status import Status
from rich.table import Table

from export_scripts.checkpoints.catalogue import CATALOGUE, NEMO_CLASSES
from export_scripts.errors import ExportError
from export_scripts.export_checkpoint import ExportSettings, export_checkpoint
from nemo_triton.errors import printable


def export_each(sources: Sequence[str], settings: ExportSettings) -> dict[str, Exception]:
    """Export checkpoints one at a time; each is freed before the next is opened.

    Returns:
        The error of each checkpoint that failed.
    """
    console = Console(stderr=True)
    failures: dict[str, Exception] = {}
    for source in sources:
        try:
            with console.status(source) as status:

                def report(part: str, status: Status = status, source: str = source) -> None:
                    status.update(f"{source}: {part}")

                summary = export_checkpoint(source, settings, report)
            click.echo(summary)
        except ExportError as error:
            click.echo(f"error: {printable(error)}", err=True)
            failures[source] = error
        except KeyboardInterrupt:
            click.echo(
                f"interrupted: {printable(source)} is either completely in the repository or not at all", err=True
            )
            sys.exit(130)
        except Exception as error:
            # An unforeseen error in one model must not stop the other exports.
            reason = (str(error).strip() or "no message").splitlines()[0]
            click.echo(f"error: {printable(f'{source}: {type(error).__name__}: {reason}')}", err=True)
            failures[source] = error
        gc.collect()
    return failures


LIST_NOTES = """\
MB: weights as float32. WER %: NVIDIA's figures, no language model, LibriSpeech
test-clean / test-other (dev: dev-clean / dev-other), or the set that is named.

Other checkpoints of these classes export too, by their name or file:
FastConformer CTC and RNNT, Conformers of other sizes, your own models.
Not exported: TDT, hybrid, Canary and streaming models, and encoders over 2 GiB.
docs/export.md says what to do then."""
_SHORT_SETS = {"test-clean/other": "", "dev-clean/other": "dev"}


def catalogue_table() -> Table:
    """The models of the catalogue by family, at most 80 columns wide."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("name, by --family", no_wrap=True)
    for heading in ("parameters", "MB"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("WER %", no_wrap=True)
    for family, nemo_class in NEMO_CLASSES.items():
        table.add_row(f"{family} ({nemo_class})", style="bold")
        for model in CATALOGUE:
            if model.family == family:
                rates = " / ".join(str(rate) for rate in model.word_error_rates)
                wer = f"{rates} {_SHORT_SETS.get(model.measured_on, model.measured_on)}".rstrip()
                table.add_row(f"  {model.name}", f"{model.parameters:.1f} M", f"{model.megabytes:.0f}", wer)
    return table
