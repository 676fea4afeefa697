"""One checkpoint from its file into a model repository: open, write the stages, compare with NeMo, publish."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from export_scripts.checkpoints.checkpoint import Checkpoint, open_checkpoint
from export_scripts.checkpoints.families import decoder_class
from export_scripts.errors import ExportError
from export_scripts.precision.choice import FP32, Precision
from export_scripts.repository.config import Serving
from export_scripts.repository.existing import Existing, find_existing
from export_scripts.repository.publish import publishing
from export_scripts.repository.validate import check_repository
from export_scripts.verify.probes import Probes
from nemo_triton.contract import Part


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """Where checkpoints are exported to, and how.

    probes: to compare with NeMo on
    suffix: added to each checkpoint's name
    """

    repository: Path
    serving: Serving
    probes: Probes
    precision: Precision = FP32
    suffix: str = ""


def export_checkpoint(source: str, settings: ExportSettings, report: Callable[[str], None] = lambda part: None) -> str:
    """Export one checkpoint and publish it. Where anything fails, the repository stays as it was.

    Args:
        source: a .nemo file or the name of a pretrained model
        report: called with the name of each part of the work as it begins

    Returns:
        A line that sums up its parity with NeMo and what it replaced.

    Raises:
        ExportError: where the checkpoint can't be exported or differs from NeMo.
    """
    repository = settings.repository
    with publishing(repository) as folder:
        report("loads NeMo and the checkpoint")
        checkpoint = open_checkpoint(source, settings.suffix)
        existing = find_existing(repository, checkpoint.name)
        _check_replaceable(source, checkpoint, existing)
        # Both import NeMo and PyTorch, which take half a minute that a wrong argument need not cost.
        from export_scripts.chain import ensembles, write_recognizer
        from export_scripts.verify.parity import verify

        report("writes the stages")
        write_recognizer(folder, checkpoint, settings.serving, settings.precision)
        _check_fits(source, repository, folder)
        report("compares with NeMo")
        parity = verify(checkpoint, folder, settings.probes, settings.precision)
        for ensemble in ensembles(checkpoint):
            parity.publish(folder / ensemble)
        line = parity.summary()
        if existing:
            line += f"; replaced {existing.described(parity.checkpoint_sha256)}"
        text = Part.TEXT.of(checkpoint.name)
        if (repository / text).exists() and not (folder / text).exists():
            line += f"; {text}, of an earlier export, is no longer used and can be deleted"
        return line


def _check_replaceable(source: str, checkpoint: Checkpoint, existing: Existing | None) -> None:
    """Parts that only the other kind of recognizer has would be left behind and fit nothing."""
    kind = decoder_class(existing.nemo_class) if existing else None
    if existing and kind and kind is not type(checkpoint.decoder):
        raise ExportError(
            f"{source}: {existing.name} is there already, from another checkpoint ({existing.nemo_class}): export to "
            "another repository or give it another name by --name-suffix"
        )


def _check_fits(source: str, repository: Path, folder: Path) -> None:
    """Whether the new models in `folder` fit those that the repository has and keeps."""
    known = set(check_repository(repository))
    problems = [problem for problem in check_repository(repository, folder) if problem not in known]
    if problems:
        raise ExportError(f"{source}: does not fit the repository: {'; '.join(problems)}")
