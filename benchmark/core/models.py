"""Read the recognizers of a model repository, without a server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as triton

from nemo_triton import contract
from nemo_triton.errors import ClientError
from nemo_triton.served_model import is_recognizer


class RepositoryError(ClientError):
    """A folder is not a model repository, or lacks a model."""


@dataclass(frozen=True)
class Model:
    """One recognizer. Fields are None where an older export did not write them.

    Attributes:
        name: Name of the recognizer.
        encoder: Name of its encoder stage, which a hybrid's recognizers share.
        random_weights: Whether the checkpoint was never trained.
        parity_id: ID of the export's comparison with NeMo.
        nemo_class: Class of the checkpoint in NeMo.
        nemo_version: NeMo's version at export.
        parameters: Number of the checkpoint's parameters.
        checkpoint_bytes: Size of the .nemo file.
        onnx_bytes: Size of all stages, including those that it shares with other recognizers.
        precision: Precision of the encoder.
        words_compared: Words of NeMo's transcripts of the export's test recordings.
        words_changed: Word edits between those transcripts and the export's.
        max_audio_seconds: Longest audio that it takes.
        memory_bytes: Computed memory of a server with 16 concurrent requests of that length.
    """

    name: str
    encoder: str
    random_weights: bool
    parity_id: str | None
    nemo_class: str
    nemo_version: str
    parameters: int | None
    checkpoint_bytes: int | None
    onnx_bytes: int
    precision: str = "fp32"
    words_compared: int | None = None
    words_changed: int | None = None
    max_audio_seconds: int | None = None
    memory_bytes: int | None = None


def read_models(repository: Path) -> list[Model]:
    """Read all recognizers of a repository, sorted by name.

    Raises:
        RepositoryError: The repository has no recognizer.
    """
    models = [model for file in sorted(repository.glob("*/config.pbtxt")) for model in _read(file.parent)]
    if not models:
        raise RepositoryError(f"{repository}: holds no recognizer; export one with export_scripts/export.py")
    return models


def choose(models: Sequence[Model], patterns: Sequence[str], repository: Path) -> list[Model]:
    """The models that match any of the patterns.

    Raises:
        RepositoryError: A pattern matches no model.
    """
    for pattern in patterns:
        if not any(fnmatchcase(model.name, pattern) for model in models):
            known = ", ".join(model.name for model in models)
            raise RepositoryError(f"{pattern}: matches no model in {repository}; it has {known}")
    return [model for model in models if any(fnmatchcase(model.name, pattern) for pattern in patterns)]


def _read(folder: Path) -> Iterator[Model]:
    config = _config(folder)
    if not (config.ensemble_scheduling.step and is_recognizer(config)):
        return
    try:
        description = contract.Description.of({key: value.string_value for key, value in config.parameters.items()})
    except ValueError as error:
        raise RepositoryError(f"{folder / 'config.pbtxt'}: {error}; export the model again") from error
    steps = [step.model_name for step in config.ensemble_scheduling.step]
    yield Model(
        name=folder.name,
        encoder=next(step for step in steps if step.endswith(contract.Part.ENCODER.value)),
        random_weights=description.weights == "random",
        parity_id=description.parity_id or None,
        nemo_class=description.nemo_class,
        nemo_version=description.nemo_version,
        parameters=description.parameters or None,
        checkpoint_bytes=description.checkpoint_bytes or None,
        onnx_bytes=sum(file.stat().st_size for step in steps for file in (folder.parent / step).rglob("*.onnx*")),
        precision=description.precision or "fp32",
        words_compared=description.words_compared or None,
        words_changed=description.words_changed if description.words_compared else None,
        max_audio_seconds=description.max_audio_seconds or None,
        memory_bytes=description.memory_bytes or None,
    )


def _config(folder: Path) -> Any:
    file = folder / "config.pbtxt"
    try:
        return text_format.Parse(file.read_text(), triton.ModelConfig())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise RepositoryError(f"{file}: not readable as a model configuration; export the model again") from error
