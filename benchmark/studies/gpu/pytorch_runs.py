"""Run benchmark.studies.gpu.pytorch in the export environment."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.core.processes import how_it_ended
from benchmark.core.results_folder import ResultsError, is_measured, read_json, write_json
from benchmark.data.dataset import Dataset
from nemo_triton.errors import ClientError


@dataclass(frozen=True)
class PyTorchRunner:
    """A runner of PyTorch measurements in another environment.

    Attributes:
        python: Python of the export environment.
        gpus: Names of the GPUs that it may use.
    """

    python: Path
    gpus: Sequence[str]

    def run(self, flags: list[str], fresh: Path) -> dict[str, Any]:
        """Run benchmark.studies.gpu.pytorch and return its results.

        Args:
            flags: Arguments of the program.
            fresh: File that it writes its results to; removed before and after.

        Raises:
            ClientError: The run wrote no results.
        """
        fresh.parent.mkdir(parents=True, exist_ok=True)
        fresh.unlink(missing_ok=True)
        command = [str(self.python), "-m", "benchmark.studies.gpu.pytorch", *flags, "--out", str(fresh)]
        try:
            done = subprocess.run(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace"
            )
        except OSError as error:
            raise ClientError(
                f"{self.python}: {error.strerror}; set --export-python to the export environment's Python"
            ) from error
        if done.returncode or not fresh.exists():
            raise ResultsError(f"PyTorch {how_it_ended(done.returncode, done.stderr)}")
        results = read_json(fresh)
        fresh.unlink()
        return results


def measure_pytorch(
    runner: PyTorchRunner, checkpoint: Path, dataset: Dataset, file: Path, *, batch: int, rounds: int
) -> dict[str, Any]:
    """Measure NeMo's module in PyTorch on a data set; results in `file` of the same conditions are reused.

    Raises:
        ClientError: The export environment can't run it.
    """
    conditions = {
        "checkpoint": checkpoint.name,
        "checkpoint_bytes": checkpoint.stat().st_size,
        "audio_sha256": dataset.description.audio_sha256,
        "batch": batch,
        "rounds": rounds,
        "gpus": list(runner.gpus),
    }
    if not is_measured(file, conditions):
        flags = [str(checkpoint), "--data", str(dataset.folder), "--batch", str(batch), "--rounds", str(rounds)]
        write_json(file, {"conditions": conditions, **runner.run(flags, file.with_suffix(".measured.json"))})
    return read_json(file)


def measure_rates(runner: PyTorchRunner, file: Path) -> dict[str, Any]:
    """Measure the machine's rates in PyTorch; results in `file` are reused.

    Raises:
        ClientError: The export environment can't run it.
    """
    conditions = {"rates": True, "gpus": list(runner.gpus)}
    if not is_measured(file, conditions):
        write_json(file, {"conditions": conditions, **runner.run(["--rates"], file.with_suffix(".measured.json"))})
    return read_json(file)
