"""What a model repository tells of its recognizers, without a server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as triton

from nemo_triton.errors import ClientError

_LOG_PROBS = "LOG_PROBS"


class RepositoryError(ClientError):
    """A folder that is no model repository, or lacks a model."""


@dataclass(frozen=True)
class Model:
    """One recognizer. Sizes are in bytes; None where the export (an older one) did not note it.

    onnx_bytes: of all its stages, those that it shares with others too
    precision: of its encoder
    words_compared, words_changed: NeMo's words of the probes, and edits that make of them what this export gives
    """

    name: str
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


def read_models(repository: Path) -> list[Model]:
    """All recognizers of a repository, by name. Raises RepositoryError where there is none."""
    found = [model for folder in sorted(repository.glob("*/config.pbtxt")) for model in _read(folder.parent)]
    if not found:
        raise RepositoryError(f"{repository}: holds no recognizer; export one with export_scripts/export.py")
    return found


def _read(folder: Path) -> Iterator[Model]:
    config = _config(folder)
    outputs = {tensor.name for tensor in config.output}
    if not config.ensemble_scheduling.step or "TEXT" not in outputs or _LOG_PROBS in outputs:
        return
    parameters = {key: value.string_value for key, value in config.parameters.items()}
    steps = [step.model_name for step in config.ensemble_scheduling.step]
    yield Model(
        name=folder.name,
        random_weights=parameters.get("weights") == "random",
        parity_id=parameters.get("parity_id"),
        nemo_class=parameters.get("nemo_class", ""),
        nemo_version=parameters.get("nemo_version", ""),
        parameters=_number(parameters.get("parameters")),
        checkpoint_bytes=_number(parameters.get("checkpoint_bytes")),
        onnx_bytes=sum(file.stat().st_size for step in steps for file in (folder.parent / step).rglob("*.onnx")),
        precision=parameters.get("precision", "fp32"),
        words_compared=_number(parameters.get("words_compared")),
        words_changed=_number(parameters.get("words_changed")),
    )


def _config(folder: Path) -> Any:
    file = folder / "config.pbtxt"
    try:
        return text_format.Parse(file.read_text(), triton.ModelConfig())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise RepositoryError(f"{file}: not readable as a model configuration; export the model again") from error


def _number(text: str | None) -> int | None:
    return int(text) if text else None
