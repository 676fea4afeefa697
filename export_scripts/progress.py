"""What export.py prints: the progress of each export, and the catalogue."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

import click
from rich.console import Console
from rich.status import Status
from rich.table import Table

from export_scripts.checkpoints.catalogue import CATALOGUE, FRONT_ENDS, NEMO_CLASSES
from export_scripts.errors import ExportError
from export_scripts.export_checkpoint import ExportSettings, export_checkpoint


def export_each(sources: Sequence[str], settings: ExportSettings) -> dict[str, Exception]:
    """Export one after the other, each freed before the next is opened.

    Returns:
        What failed, and why.
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
            click.echo(f"error: {error}", err=True)
            failures[source] = error
        except KeyboardInterrupt:
            click.echo(f"interrupted: {source} is in the repository as a whole or not at all", err=True)
            sys.exit(130)
        except Exception as error:
            # An unforeseen model must not cost the others their export.
            reason = (str(error).strip() or "no message").splitlines()[0]
            click.echo(f"error: {source}: {type(error).__name__}: {reason}", err=True)
            failures[source] = error
        gc.collect()
    return failures


def catalogue_table() -> Table:
    """The models of the catalogue, one per row."""
    table = Table("name", "NeMo class", "front end", "parameters", "MB", "licence", "WER, NVIDIA's figures")
    for model in CATALOGUE:
        rates = " / ".join(f"{rate:g}" for rate in model.word_error_rates)
        table.add_row(
            model.name,
            NEMO_CLASSES[model.family],
            FRONT_ENDS[model.family],
            f"{model.parameters:.1f} M",
            f"{model.megabytes:.0f}",
            model.licence,
            f"{rates} % ({model.measured_on})",
        )
    return table
