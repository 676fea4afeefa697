"""Find the recognizers on a server and read their configuration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

from tritonclient.grpc import model_config_pb2 as triton

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
from nemo_triton.errors import RecognizerError, ServerUnavailableError, UnknownModelError

_TWINS = {
    Part.FLOAT_LOG_PROBS: " with float samples and log_probs",
    Part.LOG_PROBS: " with log_probs",
    Part.FLOAT: " with float samples",
}
"""The other ensembles of a recognizer, and how to use them. The longer suffixes are first."""


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """One recognizer that a server serves.

    Attributes:
        name: Name of the model.
        frame_seconds: Seconds from one encoder frame to the next.
        steps: Names of the models that requests pass through, in the ensemble's order; those for float samples follow
            their counterparts for 16-bit samples.
        log_probs_name: Name of the same recognizer with log-probs; None if the server does not serve one.
        float_name: Name of the same recognizer for float samples; None if the server does not serve one, as in exports
            before float samples.
        float_log_probs_name: Name of the same recognizer for float samples with log-probs; None if there is none.
        parity_id: ID of the comparison with NeMo that this export passed; None if the configuration has none.
        random_weights: Whether the checkpoint was never trained.
        precision: Precision of the encoder: fp32, fp16 or int8.
        max_audio_seconds: Longest audio that the server accepts; None if the configuration has none, as in exports
            before it was a setting.
    """

    name: str
    frame_seconds: float
    steps: tuple[str, ...]
    log_probs_name: str | None
    float_name: str | None = None
    float_log_probs_name: str | None = None
    parity_id: str | None = None
    random_weights: bool = False
    precision: str = "fp32"
    max_audio_seconds: int | None = None

    @property
    def request_names(self) -> tuple[str, ...]:
        """Names under which requests without log-probs call this model: for 16-bit and for float samples."""
        return (self.name,) if self.float_name is None else (self.name, self.float_name)


def find_recognizer(name: str | None) -> Calls[ServedModel]:
    """Check that the server is live and serves the recognizer.

    Args:
        name: The recognizer's name; None finds the only recognizer served.

    Raises:
        ServerUnavailableError: The server is not live.
        UnknownModelError: The model is not served, not ready or not a recognizer; or `name` is None and the server
            serves none or several.
        RecognizerError: The model's configuration can't be used.
    """
    if not (yield "is_server_live", {}):
        raise ServerUnavailableError("the server is not live yet; wait, or see its log")
    ready = yield from _ready_models()
    if name is None:
        return (yield from _with_float_steps(_only(list((yield from _recognizers(ready)).values()))))
    model = _describe((yield "get_model_config", {"model_name": name}).config, ready) if name in ready else None
    if model is None:
        known = ", ".join((yield from _recognizers(ready))) or "none"
        problem, hint = (
            "not served",
            "; restart the server to serve a new export (--load-model loads only what it names), or see its log",
        )
        twin = _recognizer_of(name, ready)
        if twin:
            problem, hint = f"not a recognizer; use {twin}", ""
        elif name in ready:
            problem, hint = f"not a recognizer (input {AUDIO.name}, output {TEXT.name})", ""
        raise UnknownModelError(f"model {name} is {problem}; recognizers served: {known}{hint}")
    return (yield from _with_float_steps(model))


def _recognizer_of(name: str, ready: frozenset[str]) -> str | None:
    """How to use an ensemble that belongs to a recognizer; None for other models."""
    for part, argument in _TWINS.items():
        recognizer = name.removesuffix(part.value)
        if name in ready and name != recognizer and recognizer in ready:
            return recognizer + argument
    return None


def find_recognizers() -> Calls[list[str]]:
    """Find the names of all recognizers that are ready, sorted."""
    return sorted((yield from _recognizers((yield from _ready_models()))))


def _ready_models() -> Calls[frozenset[str]]:
    """The names of all models that are ready.

    Triton's repository index would also give reasons, but belongs to its administration, which servers close.
    """
    statistics = yield "get_inference_statistics", {}
    return frozenset(model.name for model in statistics.model_stats)


def _recognizers(ready: frozenset[str]) -> Calls[dict[str, ServedModel]]:
    """Describe each recognizer among the models that are ready, by name."""
    models = {}
    for name in sorted(ready):
        config = (yield "get_model_config", {"model_name": name}).config
        try:
            model = _describe(config, ready)
        except RecognizerError:
            continue  # Not exported by this project. A client that gives its name gets the error.
        if model is not None:
            models[name] = model
    return models


def is_recognizer(config: Any) -> bool:
    """Whether a model's configuration is that of a recognizer, and not of one of its other ensembles."""
    inputs = {(tensor.name, tensor.data_type) for tensor in config.input}
    outputs = {tensor.name for tensor in config.output}
    return inputs == {(AUDIO.name, triton.TYPE_INT16)} and TEXT.name in outputs and LOG_PROBS.name not in outputs


def _describe(config: Any, ready: frozenset[str]) -> ServedModel | None:
    """Describe a recognizer by its configuration; None for other models, including its other ensembles."""
    if not is_recognizer(config):
        return None
    description = _description(config)
    if description.sample_rate != SAMPLE_RATE:
        raise RecognizerError(f"model {config.name} does not take {SAMPLE_RATE} Hz audio; export it again")
    twins = {part: part.of(config.name) if part.of(config.name) in ready else None for part in _TWINS}
    return ServedModel(
        name=config.name,
        frame_seconds=description.frame_seconds,
        steps=tuple(step.model_name for step in config.ensemble_scheduling.step),
        log_probs_name=twins[Part.LOG_PROBS],
        float_name=twins[Part.FLOAT],
        float_log_probs_name=twins[Part.FLOAT_LOG_PROBS],
        parity_id=description.parity_id or None,
        random_weights=description.weights == RANDOM_WEIGHTS,
        precision=description.precision or "fp32",
        max_audio_seconds=description.max_audio_seconds or None,
    )


def _with_float_steps(model: ServedModel) -> Calls[ServedModel]:
    """Add the stages that only float samples pass through."""
    if model.float_name is None:
        return model
    config = (yield "get_model_config", {"model_name": model.float_name}).config
    others = [step.model_name for step in config.ensemble_scheduling.step]
    pairs = zip_longest(model.steps, others)
    steps = dict.fromkeys(name for pair in pairs for name in pair if name is not None)
    return replace(model, steps=tuple(steps))


def _description(config: Any) -> Description:
    parameters = {name: str(value.string_value) for name, value in config.parameters.items()}
    try:
        # A missing parameter counts as empty text, which is refused because it is not a number.
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
    raise UnknownModelError(
        f"several models are served; choose one with --model: {', '.join(model.name for model in models)}"
    )
