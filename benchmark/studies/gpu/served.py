"""A recognizer under closed loops of one server after the other, by client/bench.py."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.core.model_control import EXPLICIT
from benchmark.core.results_folder import ResultsError, is_measured, read_json, write_json
from benchmark.core.serving import serving
from benchmark.data.dataset import MANIFEST, Description
from benchmark.run import BENCH, fastest
from nemo_triton.errors import ClientError, one_line

LOAD_SECONDS = 1800
"""TensorRT may build its engines meanwhile."""


@dataclass(frozen=True)
class Loads:
    """What each server is asked.

    concurrencies: of the closed loops, comma-separated
    seconds: how long each lasts, about
    flags: more of bench.py's own
    """

    concurrencies: str
    seconds: float
    flags: tuple[str, ...]


def measure_served(
    repository: Path, model: str, data: Path, description: Description, loads: Loads, file: Path, conditions: Any
) -> dict[str, Any]:
    """Figures of all loads, kept in `file`; what is there already, of the same conditions, is taken as it is.

    A pass over the data set at the middle concurrency comes first, to warm up and to see how many requests fill the
    seconds. Raises ClientError where the server does not start, or nothing is answered.
    """
    wanted = {
        **conditions,
        "manifest_sha256": description.manifest_sha256,
        "audio_sha256": description.audio_sha256,
        "concurrencies": loads.concurrencies,
        "seconds": loads.seconds,
        "flags": list(loads.flags),
    }
    if is_measured(file, wanted):
        return read_json(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(json.dumps(wanted).encode()).hexdigest()[:8]
    rows = file.with_name(f"{file.stem}_{digest}.rows.jsonl")
    with serving(repository, [EXPLICIT, f"--load-model={model}"], LOAD_SECONDS) as server:
        reached = ["--model", model, "--url", server.grpc, "--metrics-url", f"http://{server.metrics}/metrics"]
        common = [*reached, "--manifest", str(data / MANIFEST), *loads.flags]
        middle = loads.concurrencies.split(",")[len(loads.concurrencies.split(",")) // 2]
        pilot = _pilot(file.with_suffix(".pilot.json"), wanted, [*common, "--concurrency", middle])
        passes = max(math.ceil(loads.seconds * pilot["requests_per_second"] / description.utterances), 1)
        asked = ["--concurrency", loads.concurrencies, "--requests", str(passes * description.utterances)]
        resumed = ["--resume"] if rows.exists() else []
        found = _bench([*common, *asked, "--rows", str(rows), *resumed], file.with_suffix(".measured.json"))
    if not found["complete"]:
        raise ResultsError("cut short; run this again to go on")
    if found["failures"]:
        raise ResultsError(f"{len(found['failures'])} requests failed, the first: {found['failures'][0]}")
    kept = {key: found[key] for key in ("loads", "changed_texts", "parity_id", "random_weights", "machine", "versions")}
    result = {"conditions": wanted, "requests": passes * description.utterances, **kept, "texts": _texts(rows)}
    write_json(file, result)
    return result


def _pilot(file: Path, conditions: Any, flags: list[str]) -> dict[str, Any]:
    """The load of one pass; kept, so that a run that goes on asks for as many requests."""
    if not is_measured(file, conditions):
        found = _bench(flags, file.with_suffix(".fresh.json"))
        write_json(file, {"conditions": conditions, "load": fastest(found["loads"])})
    load: dict[str, Any] = read_json(file)["load"]
    if not load["answered"]:
        raise ResultsError("no request was answered; see the lines above")
    return load


def _bench(flags: list[str], fresh: Path) -> dict[str, Any]:
    fresh.unlink(missing_ok=True)
    command = [sys.executable, str(BENCH), "--json", str(fresh), *flags]
    # Its tables are for those who ask for one model; here they go to the report.
    ended = subprocess.run(command, stdout=subprocess.DEVNULL)
    if not fresh.exists():
        raise ResultsError(f"no figures: bench.py ended with code {ended.returncode}")
    found = read_json(fresh)
    fresh.unlink()
    return found


def _texts(rows: Path) -> dict[str, str]:
    """The first answer of each recording, by its file."""
    texts: dict[str, str] = {}
    for line in rows.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row.get("error", "") is None:
            texts.setdefault(row["audio"], row["text"])
    return texts


def measure_pytorch(
    python: Path,
    checkpoint: Path,
    data: Path,
    description: Description,
    batch: int,
    rounds: int,
    gpus: Sequence[str],
    file: Path,
) -> dict[str, Any]:
    """NeMo's module in PyTorch on the same recordings. Raises ClientError where its environment can't run it."""
    size = checkpoint.stat().st_size
    wanted = {
        "checkpoint": checkpoint.name,
        "checkpoint_bytes": size,
        "audio_sha256": description.audio_sha256,
        "batch": batch,
        "rounds": rounds,
        "gpus": list(gpus),
    }
    if not is_measured(file, wanted):
        flags = [str(checkpoint), "--data", str(data), "--batch", str(batch), "--rounds", str(rounds)]
        write_json(file, {"conditions": wanted, **_pytorch(python, flags, file.with_suffix(".measured.json"))})
    return read_json(file)


def measure_rates(python: Path, gpus: Sequence[str], file: Path) -> dict[str, Any]:
    """What large products and copies reach on this machine in PyTorch. Raises ClientError as measure_pytorch."""
    wanted = {"rates": True, "gpus": list(gpus)}
    if not is_measured(file, wanted):
        write_json(file, {"conditions": wanted, **_pytorch(python, ["--rates"], file.with_suffix(".measured.json"))})
    return read_json(file)


def _pytorch(python: Path, flags: list[str], fresh: Path) -> dict[str, Any]:
    fresh.parent.mkdir(parents=True, exist_ok=True)
    fresh.unlink(missing_ok=True)
    command = [str(python), "-m", "benchmark.studies.gpu.pytorch", *flags, "--out", str(fresh)]
    try:
        ended = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace")
    except OSError as error:
        raise ClientError(f"{python}: {error.strerror}; --export-python names the Python that has NeMo") from error
    if ended.returncode or not fresh.exists():
        lines = ended.stderr.strip().splitlines()
        raise ResultsError(f"PyTorch ended with code {ended.returncode}: {one_line(lines[-1]) if lines else 'silent'}")
    found = read_json(fresh)
    fresh.unlink()
    return found
