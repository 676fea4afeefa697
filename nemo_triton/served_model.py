"""What a server serves: its recognizers, and what each says of itself in its configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nemo_triton.calls import Calls
from nemo_triton.contract import (
    AUDIO,
    LOG_PROBS,
    RANDOM_WEIGHTS,
    REQUIRED_PARAMETERS,
    SAMPLE_RATE,
    TEXT,
    Description,
    ParameterError,
    Part,
)
from nemo_triton.errors import RecognizerError, ServerUnavailableError, UnknownModelError, one_line


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """One recognizer that a server serves.

    Attributes:
        name: Its model name.
        frame_seconds: Seconds from one encoder frame to the next.
        steps: The models that a request passes, in the order the ensemble lists them.
        log_probs_name: The model to ask for log-probs as well; None if the server has none.
        parity_id: Names the comparison with NeMo that this very export passed; None if the export left none.
        random_weights: Whether the checkpoint says that it was never trained.
        precision: Of the encoder's computation; exports that do not say so are fp32.
    """

    name: str
    frame_seconds: float
    steps: tuple[str, ...]
    log_probs_name: str | None
    parity_id: str | None = None
    random_weights: bool = False
    precision: str = "fp32"


def find_recognizer(name: str | None) -> Calls[ServedModel]:
    """Check that the server is live and serves that recognizer; with None, the only one that it serves.

    Raises:
        ServerUnavailableError: The server is not live.
        UnknownModelError: The model is not served, not ready or no recognizer; or None and not exactly one is served.
        RecognizerError: The model's configuration can't be used.
    """
    if not (yield "is_server_live", {}):
        raise ServerUnavailableError("the server answers but is not live yet; wait, or see its log")
    index = yield "get_model_repository_index", {}
    if name is None:
        return _only(list((yield from _recognizers(index)).values()))
    entries = [entry for entry in index.models if entry.name == name]
    if entries and not any(map(_is_ready, entries)):
        reason = one_line(entries[-1].reason or entries[-1].state.lower() or "not loaded")
        raise UnknownModelError(f"model {name} is not ready ({reason}); load it, or see the server's log")
    model = _describe((yield "get_model_config", {"model_name": name}).config, index) if entries else None
    if model is None:
        known = ", ".join((yield from _recognizers(index))) or "none"
        problem = "not served"
        suffix = Part.LOG_PROBS.value
        if entries and name.endswith(suffix):
            problem = f"no recognizer of its own; ask {name.removesuffix(suffix)}, with log_probs"
        elif entries:
            problem = f"no recognizer (those take {AUDIO.name} and give {TEXT.name})"
        raise UnknownModelError(f"model {name} is {problem}; recognizers served: {known}")
    return model


def find_recognizers() -> Calls[list[str]]:
    """The names of all recognizers that are ready, sorted."""
    return sorted((yield from _recognizers((yield "get_model_repository_index", {}))))


def _is_ready(entry: Any) -> bool:
    return bool(entry.state == "READY")


def _recognizers(index: Any) -> Calls[dict[str, ServedModel]]:
    """Each ready recognizer of a repository index, by name."""
    models = {}
    for name in sorted({entry.name for entry in index.models if _is_ready(entry)}):
        config = (yield "get_model_config", {"model_name": name}).config
        try:
            model = _describe(config, index)
        except RecognizerError:
            continue  # Another's model that happens to take audio; asked for by name, it is refused with the reason.
        if model is not None:
            models[name] = model
    return models


def _describe(config: Any, index: Any) -> ServedModel | None:
    """What a model's config says of a recognizer; None for a model of another kind, its log-probs twin too."""
    inputs = {tensor.name for tensor in config.input}
    outputs = {tensor.name for tensor in config.output}
    if inputs != {AUDIO.name} or TEXT.name not in outputs or LOG_PROBS.name in outputs:
        return None
    description = _description(config)
    if description.sample_rate != SAMPLE_RATE:
        raise RecognizerError(f"model {config.name} does not take {SAMPLE_RATE} Hz audio; export it again")
    twin = Part.LOG_PROBS.of(config.name)
    has_twin = any(entry.name == twin and _is_ready(entry) for entry in index.models)
    return ServedModel(
        name=config.name,
        frame_seconds=description.frame_seconds,
        steps=tuple(step.model_name for step in config.ensemble_scheduling.step),
        log_probs_name=twin if has_twin else None,
        parity_id=description.parity_id or None,
        random_weights=description.weights == RANDOM_WEIGHTS,
        precision=description.precision or "fp32",
    )


def _description(config: Any) -> Description:
    parameters = {name: str(value.string_value) for name, value in config.parameters.items()}
    try:
        # Empty, one that is missing is refused like any other text that is no number.
        return Description.of(dict.fromkeys(REQUIRED_PARAMETERS, "") | parameters)
    except ParameterError as error:
        raise RecognizerError(
            f"parameter {error.name} of model {config.name} is {error.text!r}, not a number; export the model again"
        ) from None


def _only(models: list[ServedModel]) -> ServedModel:
    if len(models) == 1:
        return models[0]
    if not models:
        raise UnknownModelError("the server has no recognizer that is ready; see its log and its model repository")
    raise UnknownModelError(f"name the model to ask; recognizers served: {', '.join(model.name for model in models)}")
