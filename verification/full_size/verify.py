"""Build, export, serve and compare models of full size with random weights, one after the other.

    python -m verification.full_size.verify NAME... --manifest M.jsonl --folder build/full_size --out parity.md

Runs in the serving environment, or in any Python with click and numpy. Each model's results are in FOLDER/results/NAME,
and a model whose results are there, of the same recordings and code, is not run again. One that fails
does not stop the others. Exit code 1 where one failed, or where a text is not NeMo's.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import click

from benchmark.core.constants import EXPORT_PYTHON, EXPORT_SCRIPT, ROOT
from benchmark.core.results_folder import write_text
from nemo_triton.contract import Part
from verification.full_size.architectures import ARCHITECTURES
from verification.full_size.records import is_done

CODE = ("export_scripts", "server", "nemo_triton")
"""Folders whose code the results depend on."""


@dataclass(frozen=True)
class Run:
    """What is the same for all models. `recordings`: how many, all where it is None."""

    export_python: Path
    serve_python: Path
    folder: Path
    manifest: Path
    recordings: int | None
    at_once: int

    @property
    def repository(self) -> Path:
        """Where models are exported to."""
        return self.folder / "repository"

    def checkpoint(self, name: str) -> Path:
        """The .nemo file of a model."""
        return self.folder / f"{name}.nemo"

    def results(self, name: str) -> Path:
        """The folder of a model's results."""
        return self.folder / "results" / name

    def settings(self) -> dict[str, object]:
        """What results must have been made with."""
        speech = hashlib.sha256(self.manifest.read_bytes()).hexdigest()
        return {"manifest": speech, "recordings": self.recordings, "at_once": self.at_once, "code": _code_digest()}


class StepFailed(Exception):
    """The message says which."""


@click.command(help=__doc__)
@click.argument("names", type=click.Choice(list(ARCHITECTURES)), nargs=-1)
@click.option("--all", "every", is_flag=True, help="All models, the smallest first.")
@click.option("--folder", type=click.Path(path_type=Path), required=True)
@click.option("--manifest", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The Markdown file to write.")
@click.option("--recordings", type=click.IntRange(1), help="Only so many, spread over their lengths.")
@click.option("--at-once", type=click.IntRange(1), default=16, show_default=True, help="Requests in flight.")
@click.option("--clean", is_flag=True, help="Remove a model's checkpoint and stages when its results are there.")
@click.option("--export-python", type=click.Path(path_type=Path), default=EXPORT_PYTHON)
@click.option("--serve-python", type=click.Path(path_type=Path), default=Path(".venv/serve/bin/python"))
def main(
    names: tuple[str, ...],
    every: bool,
    folder: Path,
    manifest: Path,
    out: Path,
    recordings: int | None,
    at_once: int,
    clean: bool,
    export_python: Path,
    serve_python: Path,
) -> None:
    chosen = sorted(ARCHITECTURES, key=lambda name: ARCHITECTURES[name].parameters) if every else list(names)
    if not chosen:
        raise click.UsageError("give NAME... or --all")
    run = Run(
        export_python=export_python,
        serve_python=serve_python,
        folder=folder,
        manifest=manifest,
        recordings=recordings,
        at_once=at_once,
    )
    failed = [name for name in chosen if not _verified(run, name, clean)]
    done = [name for name in chosen if name not in failed]
    compare = [*_program(export_python, "compare"), *done, "--folder", str(folder), "--out", str(out)]
    differs = bool(done) and subprocess.run(compare).returncode != 0
    for name in failed:
        click.echo(f"{name}: failed, and is not in the table", err=True)
    sys.exit(1 if failed or differs else 0)


def _verified(run: Run, name: str, clean: bool) -> bool:
    """Whether the model's results are there, if need be after making them."""
    marker, settings = run.results(name) / "complete.json", run.settings()
    if not (marker.exists() and json.loads(marker.read_text()) == settings):
        marker.unlink(missing_ok=True)
        started = time.monotonic()
        try:
            make_results(run, name)
        except StepFailed as error:
            click.echo(f"{name}: {error}", err=True)
            return False
        write_text(marker, json.dumps(settings, indent=2) + "\n")
        click.echo(f"{name}: done in {time.monotonic() - started:.0f} s")
    if clean:
        remove_model(run, name)
    return True


def make_results(run: Run, name: str) -> None:
    """Raises StepFailed."""
    checkpoint, results = run.checkpoint(name), run.results(name)
    speech = ["--manifest", str(run.manifest)]
    if run.recordings:
        speech += ["--recordings", str(run.recordings)]
    results.mkdir(parents=True, exist_ok=True)
    _step([*_program(run.export_python, "make_checkpoint"), name, "--out", str(checkpoint)])
    _export(run, name)
    transcripts = _program(run.export_python, "nemo_transcripts")
    _step([*transcripts, str(checkpoint), *speech, "--out", str(results / "nemo.jsonl")])
    serve = ["--repository", str(run.repository), *speech, "--out", str(results), "--at-once", str(run.at_once)]
    _step([*_program(run.serve_python, "serve_and_collect"), name, *serve])
    if ARCHITECTURES[name].is_transducer:
        judge = _program(run.export_python, "judge_transducer")
        _step([*judge, str(checkpoint), "--results", str(results)])


def _export(run: Run, name: str) -> None:
    """Publish the model, unless that was done by the same code, and note what it took."""
    measured, digest = run.results(name) / "export.json", _code_digest()
    published = run.repository / name / "config.pbtxt"
    checkpoint = run.checkpoint(name)
    if is_done(published, checkpoint) and measured.exists() and json.loads(measured.read_text())["code"] == digest:
        return
    (run.results(name) / "nemo.json").unlink(missing_ok=True)
    export = [str(EXPORT_SCRIPT), str(checkpoint), "--repository", str(run.repository)]
    seconds, peak = _step([str(run.export_python), *export])
    write_text(measured, json.dumps({"code": digest, "seconds": seconds, "peak_bytes": peak}) + "\n")


def _program(python: Path, name: str) -> list[str]:
    """The command line of another program of this package."""
    return [str(python), "-m", f"verification.full_size.{name}"]


def _step(command: list[str]) -> tuple[float, int]:
    """Run it; the seconds it took and the bytes of memory that it had at most. Raises StepFailed."""
    started = time.monotonic()
    process = subprocess.Popen(command)
    # wait4, since the usage of all children together would be that of the largest so far.
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        program = command[2] if command[1] == "-m" else command[1]
        raise StepFailed(f"{program} ended with code {process.returncode}")
    return time.monotonic() - started, usage.ru_maxrss * 1024


def remove_model(run: Run, name: str) -> None:
    """Checkpoint and the stages that are this model's own; what models share stays."""
    run.checkpoint(name).unlink(missing_ok=True)
    for model in (name, *(part.of(name) for part in Part)):
        shutil.rmtree(run.repository / model, ignore_errors=True)


def _code_digest() -> str:
    digest = hashlib.sha256()
    for file in sorted(file for folder in CODE for file in (ROOT / folder).rglob("*.py")):
        digest.update(file.relative_to(ROOT).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
