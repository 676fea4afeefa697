"""Prepare data sets for the benchmark: `python -m benchmark.prepare NAME... --out FOLDER`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from benchmark.data import librispeech
from benchmark.data.dataset import Source, WriteResult, intact, write_dataset
from nemo_triton.errors import ClientError
from nemo_triton.manifest import Utterance, read_manifest
from nemo_triton.terminal import exit_codes, options

_FOLDER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_SCHEMES = ("http", "https", "file")


@dataclass(frozen=True)
class DatasetArgument:
    """A data set to prepare: the user's manifest, or a set of LibriSpeech if `manifest` is None."""

    name: str
    manifest: str | None


def parse_names(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> list[DatasetArgument]:
    """Parse NAME or NAME=PATH, as click's callback. Each NAME must be usable as a folder name."""
    datasets: dict[str, DatasetArgument] = {}
    for value in values:
        name, separator, path = value.partition("=")
        known = ", ".join(librispeech.SHA256)
        if not separator and name not in librispeech.SHA256:
            raise click.BadParameter(f"{value} is not one of {known}; write NAME=PATH for your own manifest")
        if separator and (name in librispeech.SHA256 or not _FOLDER_NAME.fullmatch(name) or not path):
            raise click.BadParameter(
                f"{value}: write NAME=PATH; NAME has letters, digits, '.', '_' and '-', and is not one of {known}"
            )
        if name in datasets:
            raise click.BadParameter(f"{name} is given twice; choose another name for one of them")
        datasets[name] = DatasetArgument(name, path if separator else None)
    return list(datasets.values())


def check_mirror(context: click.Context, parameter: click.Parameter, url: str) -> str:
    """Check that a URL can be downloaded from, as click's callback."""
    try:
        scheme = urlsplit(url).scheme
    except ValueError as error:
        raise click.BadParameter(f"{url} is not a URL ({error}); write it as https://HOST/FOLDER") from error
    if scheme not in _SCHEMES:
        raise click.BadParameter(f"{url} is not a URL; begin it with https://, http:// or file://")
    return url


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", callback=parse_names)
@click.option(
    "--out",
    required=True,
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write each data set to FOLDER/NAME.",
)
@click.option(
    "--mirror",
    default=librispeech.MIRROR,
    show_default=True,
    metavar="URL",
    callback=check_mirror,
    help="Folder of LibriSpeech's archives. Change it if openslr.org is slow or blocked.",
)
def prepare(names: list[DatasetArgument], out: Path, mirror: str) -> int:
    """Prepare data sets for benchmark.run and benchmark.compare.

    NAME is a set of LibriSpeech: dev-clean, dev-other, test-clean or test-other. Each is a download of about 330 MB.
    NAME=PATH is your own manifest: NeMo JSON lines, or a CSV file with the columns filename,transcript.

    Writes FOLDER/NAME/manifest.jsonl (NeMo JSON lines) and FOLDER/NAME/dataset.json (source and checksums). Downloads
    resume after an interruption. A data set that has not changed is not written again.

    Entries and data sets that can't be used are skipped. Each prints one line to stderr, and the exit code is 2.
    """
    code = exit_codes.EXIT_OK
    for dataset in names:
        try:
            problems = _prepare_one(dataset, out / dataset.name, mirror)
        except ClientError as error:
            problems = [str(error)]
        except OSError as error:
            problems = [f"{error.filename or out / dataset.name}: {error.strerror or error}; fix this and run it again"]
        for problem in problems:
            exit_codes.print_error(problem)
            code = exit_codes.EXIT_PROBLEM
    return code


def _prepare_one(dataset: DatasetArgument, folder: Path, mirror: str) -> list[str]:
    """Prepare one data set, print a summary, and return one line per skipped entry."""
    if dataset.manifest is not None:
        manifest = read_manifest(dataset.manifest, text_required=True)
        written = _write(folder, Source(dataset.name, dataset.manifest), manifest.utterances)
    else:
        if (description := intact(folder)) is not None:
            _print_summary(WriteResult(description, changed=False), folder)
            return []
        folder.mkdir(parents=True, exist_ok=True)
        with _download_bar() as bar:
            manifest = librispeech.fetch(dataset.name, folder, mirror, _progress_callback(bar, dataset.name))
        # OpenSLR's URL even with another mirror: the checksum proves that it is the same file.
        source = Source(dataset.name, librispeech.archive_url(dataset.name), librispeech.LICENCE)
        written = _write(folder, source, manifest.utterances)
        librispeech.remove_archive(dataset.name, folder)
    _print_summary(written, folder)
    return [*manifest.problems, *written.problems]


def _write(folder: Path, source: Source, utterances: list[Utterance]) -> WriteResult:
    with options.progress_bar() as bar:
        task = bar.add_task(f"{source.name}: reading audio", total=len(utterances))
        return write_dataset(folder, source, utterances, lambda: bar.advance(task))


def _print_summary(written: WriteResult, folder: Path) -> None:
    state = "prepared" if written.changed else "already prepared, unchanged"
    description = written.description
    click.echo(f"{folder}: {state}, {description.utterances} utterances, {description.seconds:.1f} s")


def _download_bar() -> Progress:
    """A progress bar like options.progress_bar, but in bytes."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        redirect_stdout=False,
        disable=not console.is_terminal,
    )


def _progress_callback(bar: Progress, name: str) -> Callable[[int, int | None], None]:
    task = bar.add_task(f"{name}: downloading", total=None)
    return lambda done, total: bar.update(task, completed=done, total=total)


if __name__ == "__main__":
    options.run(prepare)
