"""What goes over the wire, for the sync and the async client alike: requests, responses, and what a server serves.

Questions to the server that take several calls are generators of calls (`Calls`): they yield a method of Triton's
client and its arguments, and get the answer back. So each is written once, and the two clients only differ in how
they make a call. targets.py puts them to one of several servers.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from nemo_triton.audio import SAMPLE_RATE, Samples
from nemo_triton.errors import (
    DeadlineExceededError,
    RecognitionError,
    RecognizerError,
    ServerUnavailableError,
    UnavailableError,
    UnknownModelError,
    one_line,
)

Answer = TypeVar("Answer")
Call: TypeAlias = tuple[str, dict[str, Any]]
Calls: TypeAlias = Generator[Call, Any, Answer]

_OUTPUTS = ("TEXT", "TOKENS", "FRAMES", "TOKENS_LENGTH")
_LOG_PROB_OUTPUTS = ("LOG_PROBS", "LABELS_LENGTH")

# Log probabilities have an ensemble of their own, since an ensemble computes and carries every output it has.
_LOG_PROBS_SUFFIX = "_log_probs"


@dataclass(frozen=True)
class ServedModel:
    """What the server tells of one recognizer."""

    name: str
    frame_seconds: float
    """Seconds from one encoder frame to the next."""
    steps: tuple[str, ...]
    """The models that a request passes, in the order the ensemble lists them."""
    log_probs_name: str | None
    """The model to ask for log probabilities as well; None where the server has none."""
    parity_id: str | None = None
    """Names the comparison with NeMo that this very export passed; None where the export left none."""
    random_weights: bool = False
    """Whether it was exported from a checkpoint that says that it was never trained."""
    precision: str = "fp32"
    """In which its encoder computes; exports that do not say so are fp32."""


@dataclass(frozen=True)
class SharedSamples:
    """Int16 samples [count] at 16 kHz that the server reads from a region of shared memory, not from the wire.

    `offset`: where they begin in the region, in bytes.
    """

    region: str
    offset: int
    count: int


@dataclass(frozen=True, eq=False)
class Transcript:
    """What was recognized in one utterance."""

    text: str
    tokens: NDArray[np.int32]
    """Token ids [n]."""
    token_times: NDArray[np.float64]
    """Seconds from the start of the audio to each token's encoder frame [n]."""
    log_probs: NDArray[np.float32] | None
    """Log probability of each label in each encoder frame [frames, labels]; None unless it was asked for."""
    target: str
    """The server that answered, as host:port."""
    attempts: int = 1
    """How often it was asked for; more than once where servers went away meanwhile."""


@dataclass(frozen=True)
class Answered:
    """What came of one request: Triton's `InferResult`, the server that gave it and the attempts that it took."""

    result: Any
    target: str
    attempts: int


def request(model: ServedModel, samples: Samples | SharedSamples, log_probs: bool) -> dict[str, Any]:
    """The arguments of `infer` for int16 samples [T].

    Raises TypeError for samples of another type, ValueError for another shape, and RecognitionError where the server
    has no log probabilities of this model to give.
    """
    if log_probs and model.log_probs_name is None:
        raise RecognitionError(f"the server has no {model.name}{_LOG_PROBS_SUFFIX}; ask without log_probs")
    audio = _audio_input(samples)
    names = _OUTPUTS + _LOG_PROB_OUTPUTS if log_probs else _OUTPUTS
    outputs = [triton.InferRequestedOutput(name) for name in names]
    name = model.log_probs_name if log_probs else model.name
    return {"model_name": name, "inputs": [audio], "outputs": outputs}


def _audio_input(samples: Samples | SharedSamples) -> Any:
    if isinstance(samples, SharedSamples):
        audio = triton.InferInput("AUDIO", [1, samples.count], "INT16")
        audio.set_shared_memory(samples.region, samples.count * np.int16().itemsize, samples.offset)
        return audio
    if not isinstance(samples, np.ndarray) or samples.dtype != np.int16:
        got = samples.dtype if isinstance(samples, np.ndarray) else type(samples).__name__
        raise TypeError(f"samples are {got}; give a numpy array of int16 at 16 kHz, e.g. nemo_triton.load_audio(path)")
    if samples.ndim != 1:
        raise ValueError(f"samples have the shape {samples.shape}; give one channel, shape [T]")
    audio = triton.InferInput("AUDIO", [1, len(samples)], "INT16")
    audio.set_data_from_numpy(samples[np.newaxis])
    return audio


def read_response(model: ServedModel, answered: Answered, log_probs: bool) -> Transcript:
    """The transcript in an answer, its padding cut away."""
    result = answered.result
    count = int(result.as_numpy("TOKENS_LENGTH").item())
    frames = result.as_numpy("FRAMES")[0, :count]
    rows = result.as_numpy("LOG_PROBS")[0, : int(result.as_numpy("LABELS_LENGTH").item())] if log_probs else None
    return Transcript(
        text=result.as_numpy("TEXT").item().decode(),
        tokens=result.as_numpy("TOKENS")[0, :count],
        token_times=frames * model.frame_seconds,
        log_probs=rows,
        target=answered.target,
        attempts=answered.attempts,
    )


def find_recognizer(name: str | None) -> Calls[ServedModel]:
    """Check that the server is live and serves that recognizer; with None, the only one that it serves.

    Raises ServerUnavailableError, UnknownModelError or RecognizerError.
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
    served = _describe((yield "get_model_config", {"model_name": name}).config, index) if entries else None
    if served is None:
        known = ", ".join((yield from _recognizers(index))) or "none"
        problem = "not served"
        if entries and name.endswith(_LOG_PROBS_SUFFIX):
            problem = f"no recognizer of its own; ask {name.removesuffix(_LOG_PROBS_SUFFIX)}, with log_probs"
        elif entries:
            problem = "no recognizer (those take AUDIO and give TEXT)"
        raise UnknownModelError(f"model {name} is {problem}; recognizers served: {known}")
    return served


def find_recognizers() -> Calls[list[str]]:
    """The names of all recognizers that are ready, sorted."""
    return sorted((yield from _recognizers((yield "get_model_repository_index", {}))))


def one_call(method: str, arguments: dict[str, Any]) -> Calls[Any]:
    """The answer to a single call."""
    return (yield method, arguments)


def explain(error: InferenceServerException, url: str, timeout: float) -> RecognizerError:
    """The error to raise for what Triton's client raised while it talked to `url`."""
    reason = one_line(error.message())
    if error.status() == "StatusCode.UNAVAILABLE":
        return ServerUnavailableError(
            f"no Triton server answers at {url} ({reason}); start tritonserver, or give the host:port of its gRPC "
            "endpoint (port 8001 unless told otherwise)"
        )
    if error.status() == "StatusCode.DEADLINE_EXCEEDED":
        return ServerUnavailableError(f"no answer from {url} within {timeout:g} s; see the server's log")
    return RecognizerError(f"the server at {url} refused: {reason}")


def explain_request(error: InferenceServerException, model: ServedModel, url: str, timeout: float) -> RecognitionError:
    """The error to raise for one failed recognition."""
    if error.status() == "StatusCode.DEADLINE_EXCEEDED":
        return DeadlineExceededError(
            f"no answer from {model.name} at {url} within {timeout:g} s; allow a longer timeout"
        )
    kind = UnavailableError if error.status() == "StatusCode.UNAVAILABLE" else RecognitionError
    return kind(f"{model.name} at {url}: {one_line(error.message())}")


def _is_ready(entry: Any) -> bool:
    return bool(entry.state == "READY")


def _recognizers(index: Any) -> Calls[dict[str, ServedModel]]:
    """Each ready recognizer of a repository index, by name."""
    served = {}
    for name in sorted({entry.name for entry in index.models if _is_ready(entry)}):
        config = (yield "get_model_config", {"model_name": name}).config
        try:
            model = _describe(config, index)
        except RecognizerError:
            continue  # Another's model that happens to take audio; asked for by name, it is refused with the reason.
        if model is not None:
            served[name] = model
    return served


def _describe(config: Any, index: Any) -> ServedModel | None:
    """What a model's config says of a recognizer; None for a model of another kind, its log-probability twin too."""
    inputs = {tensor.name for tensor in config.input}
    outputs = {tensor.name for tensor in config.output}
    if inputs != {"AUDIO"} or "TEXT" not in outputs or "LOG_PROBS" in outputs:
        return None
    if _parameter(config, "sample_rate") != SAMPLE_RATE:
        raise RecognizerError(f"model {config.name} does not take {SAMPLE_RATE} Hz audio; export it again")
    steps = tuple(step.model_name for step in config.ensemble_scheduling.step)
    twin = config.name + _LOG_PROBS_SUFFIX
    has_twin = any(entry.name == twin and _is_ready(entry) for entry in index.models)
    return ServedModel(
        name=config.name,
        frame_seconds=_parameter(config, "frame_seconds"),
        steps=steps,
        log_probs_name=twin if has_twin else None,
        parity_id=_text_parameter(config, "parity_id") or None,
        random_weights=_text_parameter(config, "weights") == "random",
        precision=_text_parameter(config, "precision") or "fp32",
    )


def _parameter(config: Any, name: str) -> float:
    text = _text_parameter(config, name)
    try:
        return float(text)
    except ValueError:
        problem = f"parameter {name} of model {config.name} is {text!r}, not a number"
        raise RecognizerError(f"{problem}; export the model again") from None


def _text_parameter(config: Any, name: str) -> str:
    return str(config.parameters[name].string_value) if name in config.parameters else ""


def _only(models: list[ServedModel]) -> ServedModel:
    if len(models) == 1:
        return models[0]
    if not models:
        raise UnknownModelError("the server has no recognizer that is ready; see its log and its model repository")
    raise UnknownModelError(f"name the model to ask; recognizers served: {', '.join(model.name for model in models)}")
