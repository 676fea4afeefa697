"""The command that brings data sets to one form: `python -m benchmark.prepare NAME... --out FOLDER`."""

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
from benchmark.data.dataset import Source, Written, intact, write_dataset
from nemo_triton.errors import ClientError
from nemo_triton.manifest import Utterance, read_manifest
from nemo_triton.terminal import exit_codes, options

_FOLDER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_SCHEMES = ("http", "https", "file")


@dataclass(frozen=True)
class Wanted:
    """A data set to prepare: one of LibriSpeech where `manifest` is None."""

    name: str
    manifest: str | None


def parse_names(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> list[Wanted]:
    """An argument's callback: NAME or NAME=PATH. Refuses what cannot become a folder of its own."""
    wanted: dict[str, Wanted] = {}
    for value in values:
        name, separator, path = value.partition("=")
        known = ", ".join(librispeech.SHA256)
        if not separator and name not in librispeech.SHA256:
            raise click.BadParameter(f"{value} is not one of {known}; give a manifest of your own as NAME=PATH")
        if separator and (name in librispeech.SHA256 or not _FOLDER_NAME.fullmatch(name) or not path):
            raise click.BadParameter(
                f"{value}: write NAME=PATH, NAME of letters, digits, '.', '_' and '-', and none of {known}"
            )
        if name in wanted:
            raise click.BadParameter(f"{name} is given twice; choose another name for one of them")
        wanted[name] = Wanted(name, path if separator else None)
    return list(wanted.values())


def check_mirror(context: click.Context, parameter: click.Parameter, url: str) -> str:
    """An option's callback: refuse what cannot be fetched from."""
    try:
        scheme = urlsplit(url).scheme
    except ValueError as error:
        raise click.BadParameter(f"{url} is no URL ({error}); write it as https://HOST/FOLDER") from error
    if scheme not in _SCHEMES:
        raise click.BadParameter(f"{url} is no URL; begin it with https://, http:// or file://")
    return url


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", callback=parse_names)
@click.option(
    "--out",
    required=True,
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    help="Each data set becomes FOLDER/NAME.",
)
@click.option(
    "--mirror",
    default=librispeech.MIRROR,
    show_default=True,
    metavar="URL",
    callback=check_mirror,
    help="The folder that LibriSpeech's archives are fetched from.",
)
def prepare(names: list[Wanted], out: Path, mirror: str) -> int:
    """Bring data sets to one form: FOLDER/NAME/manifest.jsonl, NeMo JSON lines, and FOLDER/NAME/dataset.json.

    NAME is dev-clean, dev-other, test-clean or test-other, which are fetched (about 330 MB each), or NAME=PATH for a
    manifest of your own: NeMo JSON lines, or a CSV filename,transcript. An interrupted download goes on from where it
    was. What is prepared already and has not changed is left alone.

    An entry that cannot be used gives one line on standard error, and so does a data set; the rest is prepared, and the
    exit code is 2.
    """
    code = exit_codes.EXIT_OK
    for wanted in names:
        try:
            problems = _prepare_one(wanted, out / wanted.name, mirror)
        except ClientError as error:
            problems = [str(error)]
        except OSError as error:
            problems = [f"{error.filename or out / wanted.name}: {error.strerror or error}; mend this and run it again"]
        for problem in problems:
            exit_codes.print_error(problem)
            code = exit_codes.EXIT_PROBLEM
    return code


def _prepare_one(wanted: Wanted, folder: Path, mirror: str) -> list[str]:
    """Prepare one data set and say so; a line for each entry that was left out. Raises ClientError and OSError."""
    if wanted.manifest is not None:
        listed = read_manifest(wanted.manifest, text_required=True)
        written = _write(folder, Source(wanted.name, wanted.manifest), listed.utterances)
    else:
        if (description := intact(folder)) is not None:
            _say(Written(description, changed=False), folder)
            return []
        folder.mkdir(parents=True, exist_ok=True)
        with _download_bar() as bar:
            listed = librispeech.fetch(wanted.name, folder, mirror, _reporter(bar, wanted.name))
        # Named as OpenSLR names it, wherever it came from: the checksum says that it is that file.
        source = Source(wanted.name, librispeech.archive_url(wanted.name), librispeech.LICENCE)
        written = _write(folder, source, listed.utterances)
        librispeech.remove_archive(wanted.name, folder)
    _say(written, folder)
    return [*listed.problems, *written.problems]


def _write(folder: Path, source: Source, utterances: list[Utterance]) -> Written:
    with options.progress_bar() as bar:
        task = bar.add_task(f"{source.name}: reading audio", total=len(utterances))
        return write_dataset(folder, source, utterances, lambda: bar.advance(task))


def _say(written: Written, folder: Path) -> None:
    state = "prepared" if written.changed else "already prepared, unchanged"
    description = written.description
    click.echo(f"{folder}: {state}, {description.utterances} utterances, {description.seconds:.1f} s")


def _download_bar() -> Progress:
    """As options.progress_bar, in bytes."""
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


def _reporter(bar: Progress, name: str) -> Callable[[int, int | None], None]:
    task = bar.add_task(f"{name}: fetching", total=None)
    return lambda done, total: bar.update(task, completed=done, total=total)


if __name__ == "__main__":
    options.run(prepare)
