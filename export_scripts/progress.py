"""Output of export.py: the progress of each export, and the list of models."""

from __future__ import annotations

import gc
import sys
from collections.abc import Collection, Sequence

import click
from rich.console import Console
from rich.status import Status
from rich.table import Table

from export_scripts.checkpoints.catalogue import FAMILIES, LATER_MODELS, PUBLISHED
from export_scripts.checkpoints.listed_model import NEMO_CLASSES, NVIDIA_OPEN, UNREAD, Model
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


LIST_WIDTH = 80
LIST_NOTES = """\
NeMo's classes: CTC EncDecCTCModelBPE (characters: EncDecCTCModel), RNNT and TDT
EncDecRNNTBPEModel, with CTC EncDecHybridRNNTCTCBPEModel.
M: millions of parameters. MB: weights as float32. WER %: published, no language
model, LibriSpeech test-clean / test-other (dev: dev-clean / dev-other), or the
set that is named. avg: mean WER of the Open ASR Leaderboard's eight sets. -: no
figure was found. docs/models.md names the sources.
+: writes punctuation and capitals. NGC page: licence not read. NVIDIA: its Open
Model License. You can leave out nvidia/.

Other checkpoints of these classes export too, by their name or file.
Not exported: Canary and other multi-task models, streaming models.
docs/export.md says what to do then."""
_SHORT_SETS = {"test-clean/other": "", "dev-clean/other": "dev"}
_SHORT_LICENCES = {UNREAD: "NGC page", NVIDIA_OPEN: "NVIDIA"}
_NONE = "-"


def catalogue_table(models: Sequence[Model], title: str) -> Table:
    """Models by family and decoder, at most LIST_WIDTH columns wide.

    Args:
        models: Models of the catalogue.
        title: Heading of the column of names.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(title, no_wrap=True)
    for heading in ("M", "MB"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("WER %", no_wrap=True)
    table.add_column("avg", justify="right", no_wrap=True)
    table.add_column("licence", no_wrap=True)
    for family in FAMILIES:
        for kind in NEMO_CLASSES:
            chosen = [model for model in models if (model.family, model.decoder_kind) == (family, kind)]
            if chosen:
                table.add_row(f"{family}, {kind}", style="bold")
            for model in chosen:
                table.add_row(*_cells(model))
    return table


def _cells(model: Model) -> tuple[str, ...]:
    rates = " / ".join(map(str, model.word_error_rates))
    average = model.average
    return (
        f"  {model.name}{' +' * model.punctuated}",
        _NONE if model.parameters is None else f"{model.parameters:g}",
        _NONE if model.megabytes is None else f"{model.megabytes:.0f}",
        f"{rates} {_SHORT_SETS.get(model.measured_on, model.measured_on)}".rstrip() if rates else _NONE,
        f"{average.word_error_rate:.2f}" if average else _NONE,
        _SHORT_LICENCES.get(model.licence, model.licence),
    )


def print_catalogue(families: Collection[str]) -> None:
    """Print both lists of the catalogue, and what is not in them.

    Args:
        families: Families to print; empty for all.
    """
    console = Console(width=LIST_WIDTH)
    for models, title in ((PUBLISHED, "the 22, by --family"), (LATER_MODELS, "later, by --family")):
        chosen = [model for model in models if model.family in (families or FAMILIES)]
        if chosen:
            console.print(catalogue_table(chosen, title))
            console.print()
    multilingual = [f"{model.served_as} ({model.languages} languages)" for model in LATER_MODELS if model.languages > 1]
    click.echo(f"Multilingual: {', '.join(multilingual)}.\n{LIST_NOTES}")
