"""Run a baseline in a separate process, in the environment that has its package.

    python -m benchmark.baselines.worker BASELINE [--model PATH]

The first line of standard input is JSON: {"recordings": [{"audio": file}, ...]}; segments have "offset", "duration" and
"channel". Each further line is a batch size, and starts a pass over all recordings. Standard output has one line of
JSON per input line: first {"ready": package and version, "batches": whether it can batch}, then {"seconds": wall-clock
time, "texts": [one per recording]}. After a failure the line is {"reason": one line}; if the model can't be loaded, the
process then ends. Audio is read before the first pass.
Each baseline gets one thread per core that the process may use.
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

from benchmark.baselines import adapters
from benchmark.baselines.baseline import Audio, Baseline
from benchmark.baselines.errors import NotRun
from nemo_triton.audio import as_float
from nemo_triton.errors import AudioError, one_line
from nemo_triton.manifest import Utterance
from nemo_triton.utterances import load_utterance

ADAPTERS = [module.name for module in pkgutil.iter_modules(adapters.__path__)]


@click.command(help=__doc__)
@click.argument("name", metavar="BASELINE", type=click.Choice(ADAPTERS))
@click.option("--model", type=click.Path(path_type=Path), help="File or folder of the baseline's model.")
def main(name: str, model: Path | None) -> None:
    answer = take_standard_output()
    logging.disable(logging.ERROR)
    try:
        utterances = _read_utterances(sys.stdin.readline())
        baseline = _load(name, model)
        audio = [(baseline.read or _read)(utterance) for utterance in utterances]
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
    """Reserve stdout for answers, and send everything that libraries print, also from C, to stderr."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return lambda answer: print(json.dumps(answer), file=answers, flush=True)


def _read_utterances(line: str) -> list[Utterance]:
    try:
        return [Utterance(Path(entry.pop("audio")), **entry) for entry in json.loads(line)["recordings"]]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise NotRun('the first line is not {"recordings": [{"audio": file}, ...]} in JSON') from None


def _read(utterance: Utterance) -> Audio:
    return as_float(load_utterance(utterance))


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
        # Packages raise any exception while they load a model.
        raise NotRun(f"{model} can't be loaded: {_reason(error)}") from error
    return baseline


def _transcribe(baseline: Baseline, audio: Sequence[Audio], line: str) -> dict[str, Any]:
    if not line.strip().isdecimal() or int(line) < 1:
        raise NotRun(f"{line.strip()!r} is not a batch size; send a whole number above 0")
    started = time.perf_counter()
    texts = baseline.transcribe(audio, int(line))
    return {"seconds": time.perf_counter() - started, "texts": texts}


def _reason(error: Exception) -> str:
    known = isinstance(error, NotRun | AudioError)
    return one_line(error if known else f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
