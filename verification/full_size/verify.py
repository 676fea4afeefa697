"""Build full-size models with random weights, export and serve them, and compare their texts with NeMo's.

    python -m verification.full_size.verify NAME... --manifest M.jsonl --folder build/full_size --out parity.md

Runs in .venv/serve. NAME is an architecture of verification/full_size/architectures.py. Models are processed one after
the other; results go to FOLDER/results/NAME, and those of a hybrid's CTC head to NAME_ctc. A model that has results of
the same recordings and code is skipped, so an interrupted run can be continued. A model that fails does not stop the
others. Exit code 1 if a model failed or a text differs from NeMo's by more than a near tie.
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
from benchmark.core.options import concurrency_option
from benchmark.core.results_folder import write_text
from nemo_triton.contract import Part
from nemo_triton.terminal import options
from verification.full_size.architectures import ARCHITECTURES, KNOWN, LATER, recognizers
from verification.full_size.records import RECORDINGS_HELP, is_done

CODE = ("export_scripts", "server", "nemo_triton")
"""Folders whose code changes the results."""


@dataclass(frozen=True)
class Run:
    """Settings that all models share.

    Attributes:
        export_python: Python of the export environment.
        serve_python: Python of the serving environment.
        folder: Folder for checkpoints, model repository and results.
        manifest: Recordings.
        recordings: Number of recordings to use; None for all.
        concurrency: Concurrent requests.
    """

    export_python: Path
    serve_python: Path
    folder: Path
    manifest: Path
    recordings: int | None
    concurrency: int

    @property
    def repository(self) -> Path:
        """The model repository."""
        return self.folder / "repository"

    def checkpoint(self, name: str) -> Path:
        """The .nemo file of a model."""
        return self.folder / f"{name}.nemo"

    def results(self, name: str) -> Path:
        """The folder of a recognizer's results."""
        return self.folder / "results" / name

    def settings(self) -> dict[str, object]:
        """The settings that results depend on. Results of other settings are not reused."""
        speech = hashlib.sha256(self.manifest.read_bytes()).hexdigest()
        return {"manifest": speech, "recordings": self.recordings, "at_once": self.concurrency, "code": _code_digest()}


class StepFailed(Exception):
    """A step that ended with an error; the message names it."""


@click.command(help=__doc__)
@click.argument("names", metavar="NAME...", type=click.Choice(list(KNOWN)), nargs=-1)
@click.option("--all", "every", is_flag=True, help="Verify all 22 models, the smallest first.")
@click.option("--later", is_flag=True, help="Verify the later models, the smallest first.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder for checkpoints, model repository and results.",
)
@click.option("--manifest", type=click.Path(exists=True, path_type=Path), required=True, help="Recordings to use.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Markdown file to write.")
@click.option("--recordings", type=click.IntRange(1), help=RECORDINGS_HELP)
@concurrency_option(16, "Concurrent requests.")
@click.option("--clean", is_flag=True, help="Remove the checkpoint and stages of a model once it has results.")
@click.option(
    "--export-python",
    type=click.Path(path_type=Path),
    default=EXPORT_PYTHON,
    show_default=True,
    help="Python of the export environment.",
)
@click.option(
    "--serve-python",
    type=click.Path(path_type=Path),
    default=Path(".venv/serve/bin/python"),
    show_default=True,
    help="Python of the serving environment.",
)
def main(
    names: tuple[str, ...],
    every: bool,
    later: bool,
    folder: Path,
    manifest: Path,
    out: Path,
    recordings: int | None,
    concurrency: int,
    clean: bool,
    export_python: Path,
    serve_python: Path,
) -> None:
    if sum(map(bool, (names, every, later))) != 1:
        raise click.UsageError("give NAME..., --all or --later")
    architectures = ARCHITECTURES if every else LATER
    chosen = list(names) or sorted(architectures, key=lambda name: KNOWN[name].parameters)
    run = Run(
        export_python=export_python,
        serve_python=serve_python,
        folder=folder,
        manifest=manifest,
        recordings=recordings,
        concurrency=concurrency,
    )
    failed = [name for name in chosen if not _verified(run, name, clean)]
    done = [recognizer for name in chosen if name not in failed for recognizer in recognizers(name)]
    compare = [*_program(export_python, "compare"), *done, "--folder", str(folder), "--out", str(out)]
    compare += ["--later"] if later else []
    differs = bool(done) and subprocess.run(compare).returncode != 0
    for name in failed:
        click.echo(f"{name}: failed; not in the table (see the error above)", err=True)
    sys.exit(1 if failed or differs else 0)


def _verified(run: Run, name: str, clean: bool) -> bool:
    """Make the model's results unless they exist. Returns whether they exist now."""
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
    """Run all steps of one model.

    Raises:
        StepFailed: A step ended with an error.
    """
    checkpoint = run.checkpoint(name)
    speech = ["--manifest", str(run.manifest)]
    if run.recordings:
        speech += ["--recordings", str(run.recordings)]
    run.results(name).mkdir(parents=True, exist_ok=True)
    _step([*_program(run.export_python, "make_checkpoint"), name, "--out", str(checkpoint)])
    _export(run, name)
    for recognizer, served in recognizers(name).items():
        results = run.results(recognizer)
        results.mkdir(parents=True, exist_ok=True)
        transcripts = [*_program(run.export_python, "nemo_transcripts"), str(checkpoint), "--recognizer", recognizer]
        _step([*transcripts, *speech, "--out", str(results / "nemo.jsonl")])
        serve = [*_program(run.serve_python, "serve_and_collect"), recognizer, "--repository", str(run.repository)]
        _step([*serve, *speech, "--out", str(results), "--concurrency", str(run.concurrency)])
        if served.is_transducer:
            judge = _program(run.export_python, "judge_transducer")
            _step([*judge, str(checkpoint), "--results", str(results)])


def _export(run: Run, name: str) -> None:
    """Export the model and record time and memory, unless the same code has exported it already."""
    measured, digest = run.results(name) / "export.json", _code_digest()
    published = run.repository / name / "config.pbtxt"
    checkpoint = run.checkpoint(name)
    if is_done(published, checkpoint) and measured.exists() and json.loads(measured.read_text())["code"] == digest:
        return
    for recognizer in recognizers(name):
        (run.results(recognizer) / "nemo.json").unlink(missing_ok=True)
    export = [str(EXPORT_SCRIPT), str(checkpoint), "--repository", str(run.repository)]
    seconds, peak = _step([str(run.export_python), *export])
    write_text(measured, json.dumps({"code": digest, "seconds": seconds, "peak_bytes": peak}) + "\n")


def _program(python: Path, name: str) -> list[str]:
    """The command line of another program of this package."""
    return [str(python), "-m", f"verification.full_size.{name}"]


def _step(command: list[str]) -> tuple[float, int]:
    """Run a command, and return its seconds and its peak memory in bytes.

    Raises:
        StepFailed: The command ended with an error.
    """
    started = time.monotonic()
    process = subprocess.Popen(command)
    # wait4 reports this child only. RUSAGE_CHILDREN would report the largest child so far. Linux counts the memory that
    # this process had at the start of the child too, which is small beside any step's.
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        program = command[2] if command[1] == "-m" else command[1]
        raise StepFailed(f"{program} ended with code {process.returncode}; see its error above")
    return time.monotonic() - started, usage.ru_maxrss * 1024


def remove_model(run: Run, name: str) -> None:
    """Remove the checkpoint and the stages that only this model uses; shared stages stay."""
    run.checkpoint(name).unlink(missing_ok=True)
    for recognizer in recognizers(name):
        for model in (recognizer, *(part.of(recognizer) for part in Part)):
            shutil.rmtree(run.repository / model, ignore_errors=True)


def _code_digest() -> str:
    digest = hashlib.sha256()
    for file in sorted(file for folder in CODE for file in (ROOT / folder).rglob("*.py")):
        digest.update(file.relative_to(ROOT).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    options.run(main)
