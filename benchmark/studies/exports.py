"""Export checkpoints in several precisions into one repository, with the Python that has NeMo."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import click

from benchmark.core.constants import EXPORT_SCRIPT
from benchmark.core.models import Model, RepositoryError, read_models
from export_scripts.operators.tuning import Target
from export_scripts.precision.choice import PRECISIONS, PrecisionName
from nemo_triton.errors import one_line

FULL: PrecisionName = "fp32"
"""Precision that the others are compared with."""
ANY_CHANGE = "1000%"
"""The limit for random weights, which don't show what a precision costs a trained model. More words can change than
there are."""


def export_all(
    checkpoint: Path,
    repository: Path,
    python: Path,
    *,
    precisions: Sequence[PrecisionName] = PRECISIONS,
    target: Target = "cpu",
) -> tuple[dict[str, Model], dict[str, str]]:
    """Export a checkpoint in each precision that the repository lacks.

    Args:
        checkpoint: The .nemo file.
        repository: Model repository to export to.
        python: Python with NeMo.
        precisions: Precisions to export, fp32 first.
        target: Device that the graphs are tuned for.

    Returns:
        The models by precision, and the reasons of failed exports by precision.

    Raises:
        RepositoryError: The export in fp32 failed.
    """
    models: dict[str, Model] = {}
    refused: dict[str, str] = {}
    for precision in precisions:
        name = checkpoint.stem + precision_suffix(precision)
        model, reason = _find(repository, name), ""
        if model is None:
            click.echo(f"{checkpoint.stem}: exporting {precision}", err=True)
            flags = ["--precision", precision, "--name-suffix", precision_suffix(precision), "--target", target]
            if precision != FULL and models[FULL].random_weights:
                flags += ["--max-word-change", ANY_CHANGE]
            command = [str(python), str(EXPORT_SCRIPT), str(checkpoint), "--repository", str(repository), *flags]
            done = subprocess.run(command, capture_output=True, text=True)
            reason = one_line(done.stderr).removeprefix("error: ")
            model = _find(repository, name) if done.returncode == 0 else None
        if model:
            models[precision] = model
        elif precision == FULL:
            raise RepositoryError(f"{checkpoint}: can't be exported: {reason}")
        else:
            refused[precision] = reason
    return models, refused


def precision_suffix(precision: PrecisionName) -> str:
    """Suffix of the model name in that precision."""
    return "" if precision == FULL else f"_{precision}"


def _find(repository: Path, name: str) -> Model | None:
    if not repository.exists():
        return None
    try:
        return next((model for model in read_models(repository) if model.name == name), None)
    except RepositoryError:
        return None
