"""One of adapters/ in a process of its own, in the environment that has its package.

    python -m benchmark.baselines.worker BASELINE [--model PATH]

Standard input: a line of JSON, {"files": [audio files]}, then a line for each pass over all of them: how many to take
at a time. Standard output, a line of JSON for each line: {"ready": package and version, "batches": whether it takes
several at a time}, then {"seconds": of the wall clock, "texts": [one for each file]}. Where something can't be done,
the line is {"reason": one line} instead; without a model to run, the process ends after it. Audio is read beforehand.
All baselines get as many threads as the process may use cores.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import logging
import os
import pkgutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmark.baselines import adapters
from benchmark.baselines.baseline import Audio, Baseline
from benchmark.baselines.errors import NotRun
from nemo_triton.audio import load_audio
from nemo_triton.contract import INT16_FULL_SCALE
from nemo_triton.errors import AudioError, one_line

ADAPTERS = [module.name for module in pkgutil.iter_modules(adapters.__path__)]


@click.command(help=__doc__)
@click.argument("name", metavar="BASELINE", type=click.Choice(ADAPTERS))
@click.option("--model", type=click.Path(path_type=Path), help="Its model's file or folder.")
def main(name: str, model: Path | None) -> None:
    answer = take_standard_output()
    logging.disable(logging.ERROR)
    try:
        audio = _read_audio(sys.stdin.readline())
        baseline = _load(name, model)
    except Exception as error:
        answer({"reason": _reason(error)})
        sys.exit(1)
    version = importlib.metadata.version(baseline.distribution)
    answer({"ready": f"{baseline.distribution} {version}", "batches": baseline.batches})
    for line in sys.stdin:
        try:
            answer(_transcribe(baseline, audio, line))
        except Exception as error:
            answer({"reason": _reason(error)})


def take_standard_output() -> Callable[[dict[str, Any]], None]:
    """Keep standard output for answers: what libraries print, in C as well, goes to standard error from now on."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return lambda answer: print(json.dumps(answer), file=answers, flush=True)


def _read_audio(line: str) -> list[Audio]:
    try:
        files = json.loads(line)["files"]
    except (ValueError, TypeError, KeyError):
        raise NotRun('the first line is not {"files": [audio files]} in JSON') from None
    return [load_audio(file) * np.float32(1 / INT16_FULL_SCALE) for file in files]


def _load(name: str, model: Path | None) -> Baseline:
    try:
        adapter = importlib.import_module(f"{adapters.__name__}.{name}")
    except ModuleNotFoundError as error:
        raise NotRun(f"no package {error.name} in {sys.prefix}; install it there") from error
    try:
        baseline: Baseline = adapter.load(model, len(os.sched_getaffinity(0)))
    except NotRun:
        raise
    except Exception as error:
        # A package may raise anything while it loads a model.
        raise NotRun(f"{model} can't be loaded: {_reason(error)}") from error
    return baseline


def _transcribe(baseline: Baseline, audio: Sequence[Audio], line: str) -> dict[str, Any]:
    if not line.strip().isdecimal() or int(line) < 1:
        raise NotRun(f"{line.strip()!r} is no number of recordings to take at a time")
    started = time.perf_counter()
    texts = baseline.transcribe(audio, int(line))
    return {"seconds": time.perf_counter() - started, "texts": texts}


def _reason(error: Exception) -> str:
    known = isinstance(error, NotRun | AudioError)
    return one_line(error if known else f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
