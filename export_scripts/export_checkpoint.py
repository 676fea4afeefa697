"""Export one checkpoint: open it, write its stages, compare them with NeMo, publish them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from export_scripts.checkpoints.checkpoint import Checkpoint, open_checkpoint
from export_scripts.checkpoints.families import decoder_classes
from export_scripts.errors import ExportError
from export_scripts.operators.weights import LARGEST_GRAPH
from export_scripts.precision.choice import FP32, Precision
from export_scripts.repository.audio_limit import REQUESTS
from export_scripts.repository.config import Serving
from export_scripts.repository.existing import Existing, find_existing
from export_scripts.repository.publish import check_space, publishing
from export_scripts.repository.validate import check_repository
from export_scripts.verify.probes import Probes
from nemo_triton.contract import Description, Part


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """Settings of an export, the same for all checkpoints.

    Attributes:
        repository: Model repository to write.
        serving: Settings of how Triton runs the stages.
        probes: Recordings on which the export is compared with NeMo.
        precision: Precision of the encoder.
        suffix: Suffix of each recognizer's name.
        largest_graph: Most bytes of weights in an encoder's graph, see write_recognizer.
    """

    repository: Path
    serving: Serving
    probes: Probes
    precision: Precision = FP32
    suffix: str = ""
    largest_graph: int = LARGEST_GRAPH


def export_checkpoint(source: str, settings: ExportSettings, report: Callable[[str], None] = lambda part: None) -> str:
    """Export one checkpoint and publish it. If anything fails, the repository stays unchanged.

    Args:
        source: .nemo file or name of a pretrained model.
        settings: Settings of the export.
        report: Function that is called with the name of each step when it begins.

    Returns:
        One line: the comparison with NeMo, the longest audio and its memory, settings that were left out, and the model
        that was replaced.

    Raises:
        ExportError: The checkpoint can't be exported.
        ParityError: The export differs from NeMo.
    """
    repository = settings.repository
    with publishing(repository) as folder:
        report("loading NeMo and the checkpoint")
        checkpoint = open_checkpoint(source, settings.suffix)
        existing = [known for name in checkpoint.recognizers if (known := find_existing(repository, name))]
        for known in existing:
            _check_replaceable(source, checkpoint, known)
        if checkpoint.encoder_bytes > settings.largest_graph:
            check_space(repository, folder, checkpoint.encoder_bytes)
        # Imported late: NeMo and PyTorch take half a minute, and a wrong argument should fail before that.
        from export_scripts.chain import ensembles, write_recognizer
        from export_scripts.verify.parity import verify

        report("writing the stages")
        description = write_recognizer(
            folder, checkpoint, settings.serving, settings.precision, largest_graph=settings.largest_graph
        )
        _check_fits(source, repository, folder)
        report("comparing with NeMo")
        summaries = []
        for name, decoder in checkpoint.recognizers.items():
            parity = verify(checkpoint, name, folder, settings.probes, settings.precision)
            for ensemble in ensembles(name, decoder):
                parity.publish(folder / ensemble)
            summaries.append(parity.summary())
        line = f"{'; '.join(summaries)}; {_needs(description)}"
        if checkpoint.unknown_settings:
            line += f"; left out what this version of NeMo doesn't know ({', '.join(checkpoint.unknown_settings)})"
        if existing:
            line += f"; replaced {' and '.join(known.describe(parity.checkpoint_sha256) for known in existing)}"
        for text in map(Part.TEXT.of, checkpoint.recognizers):
            if (repository / text).exists() and not (folder / text).exists():
                line += f"; {text} is left from an earlier export and can be deleted"
        return line


def _needs(description: Description) -> str:
    """The longest audio that a recognizer takes, and the memory for it."""
    return (
        f"takes audio of up to {description.max_audio_seconds} s; {REQUESTS} concurrent requests of it need "
        f"{description.memory_bytes / 1e9:.1f} GB of memory, {description.shared_memory_bytes / 1e9:.1f} GB of it in "
        "/dev/shm"
    )


def _check_replaceable(source: str, checkpoint: Checkpoint, existing: Existing) -> None:
    """Refuse to replace a CTC recognizer by an RNNT one, or the reverse: parts that only the old one has would remain.

    So would those of a recognizer that shares its encoder with another, if only one of both were replaced. And nobody
    chose the name of a hybrid's second recognizer, so it must not replace a model of another tool.

    Raises:
        ExportError: The name is used by another kind of recognizer, or by one with another encoder stage; or that of
            the second by a model that is no recognizer.
    """
    kinds = decoder_classes(existing.nemo_class)
    if existing.encoder not in ("", Part.ENCODER.of(checkpoint.name)):
        difference = f"with another encoder ({existing.encoder})"
    elif kinds and kinds != decoder_classes(checkpoint.model_class):
        difference = f"of another class ({existing.nemo_class})"
    elif not existing.nemo_class and existing.name != checkpoint.name:
        difference = "that is no recognizer"
    else:
        return
    raise ExportError(
        f"{source}: the repository has a {existing.name} {difference}; add a --name-suffix or export to another "
        "repository"
    )


def _check_fits(source: str, repository: Path, folder: Path) -> None:
    """Refuse new models in `folder` that don't fit other models of the repository, such as the user's ensembles.

    Raises:
        ExportError: New models don't fit; the message has every new problem.
    """
    known = set(check_repository(repository))
    problems = [problem for problem in check_repository(repository, folder) if problem not in known]
    if problems:
        raise ExportError(
            f"{source}: does not fit the repository ({'; '.join(problems)}); export to another repository"
        )
