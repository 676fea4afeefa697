"""One recognition: build the request, read the response, explain a failure.

docs/protocol.md describes the same for clients in other languages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from nemo_triton.audio import Samples
from nemo_triton.contract import (
    AUDIO,
    AUDIO_FLOAT,
    FRAMES,
    LABELS,
    LOG_PROBS,
    TEXT,
    TOKENS,
    TOO_LONG,
    TRANSCRIPT,
    Part,
    Tensor,
)
from nemo_triton.errors import (
    DeadlineExceededError,
    QueueFullError,
    RecognitionError,
    RecognizerError,
    ServerUnavailableError,
    UnavailableError,
    one_line,
)
from nemo_triton.faults import LIVE_OUTAGES, Fault, fault_of, model_refusal
from nemo_triton.served_model import ServedModel
from nemo_triton.transcript import Transcript

_TIMEOUTS = ("timed out", "ping timeout")
"""Messages of gRPC, with status UNAVAILABLE, for a connection that died without being closed."""
_RESTRICTED = "protocol is restricted"
"""Triton's message, with status UNAVAILABLE, for a request without the header that it names."""
_AUDIO_TENSORS = {"int16": AUDIO, "float32": AUDIO_FLOAT}
_SPLIT = "split it, or export the model with a larger --max-audio-seconds"

_INT16 = np.dtype(np.int16)


@dataclass(frozen=True, kw_only=True)
class SharedSamples:
    """Samples in a shared memory region that the server reads, instead of samples in the request.

    Attributes:
        region: Name under which the region is registered with the server.
        offset: First byte of the samples in the region.
        count: Number of samples at 16 kHz.
        dtype: Type of the samples: int16, or float32 with full scale 1.0.
    """

    region: str
    offset: int
    count: int
    dtype: np.dtype[Any] = _INT16

    @property
    def byte_size(self) -> int:
        """Size of the samples in bytes."""
        return self.count * self.dtype.itemsize


@dataclass(frozen=True, kw_only=True)
class ServerResponse:
    """The server's response to one request.

    Attributes:
        result: Triton's `InferResult`.
        endpoint: Address as host:port of the server that sent the response.
        attempts: Number of times that the request was sent.
        refusals: Number of these attempts that a full queue refused.
    """

    result: Any
    endpoint: str
    attempts: int
    refusals: int = 0


def request(model: ServedModel, samples: Samples | SharedSamples, log_probs: bool) -> dict[str, Any]:
    """Build the arguments of Triton's `infer`.

    Args:
        model: The recognizer.
        samples: int16 or float32 [T] at 16 kHz, or their place in shared memory.
        log_probs: Whether to request log-probs as well.

    Raises:
        TypeError: The samples are not an array of int16 or float32.
        ValueError: The samples have another shape.
        RecognitionError: The server has no log-probs for this model, or doesn't take float samples.
    """
    tensor = _audio_tensor(samples)
    is_float = tensor is AUDIO_FLOAT
    if log_probs and model.log_probs_name is None:
        raise RecognitionError(f"the server has no {Part.LOG_PROBS.of(model.name)}; leave out log_probs")
    if is_float and model.float_name is None:
        raise RecognitionError(
            f"the server has no {Part.FLOAT.of(model.name)} for float samples; load it, too, or export the model again"
        )
    names = {
        (False, False): model.name,
        (False, True): model.log_probs_name,
        (True, False): model.float_name,
        (True, True): model.float_log_probs_name,
    }
    tensors = [*TRANSCRIPT, LOG_PROBS, LABELS.length] if log_probs else TRANSCRIPT
    outputs = [triton.InferRequestedOutput(output.name) for output in tensors]
    return {
        "model_name": names[is_float, log_probs],
        "inputs": [_audio_input(tensor, samples)],
        "outputs": outputs,
    }


def _audio_tensor(samples: Samples | SharedSamples) -> Tensor:
    """The input that the samples fit."""
    is_array = isinstance(samples, SharedSamples | np.ndarray)
    tensor = _AUDIO_TENSORS.get(str(samples.dtype)) if is_array else None
    if tensor is None:
        actual = samples.dtype if is_array else type(samples).__name__
        raise TypeError(
            f"samples are {actual}; give a numpy array of int16 or float32 at 16 kHz, e.g. nemo_triton.load_audio(path)"
        )
    return tensor


def _audio_input(tensor: Tensor, samples: Samples | SharedSamples) -> Any:
    if isinstance(samples, SharedSamples):
        audio = triton.InferInput(tensor.name, [1, samples.count], tensor.dtype)
        audio.set_shared_memory(samples.region, samples.byte_size, samples.offset)
        return audio
    if samples.ndim != 1:
        raise ValueError(f"samples have shape {samples.shape}; give one channel, shape [T]")
    audio = triton.InferInput(tensor.name, [1, len(samples)], tensor.dtype)
    audio.set_data_from_numpy(samples[np.newaxis])
    return audio


def read_response(model: ServedModel, response: ServerResponse, log_probs: bool) -> Transcript:
    """Read the transcript from a response, without its padding."""
    result = response.result
    count = int(result.as_numpy(TOKENS.length.name).item())
    frames = result.as_numpy(FRAMES.name)[0, :count]
    label_frames = int(result.as_numpy(LABELS.length.name).item()) if log_probs else 0
    return Transcript(
        text=result.as_numpy(TEXT.name).item().decode(),
        tokens=result.as_numpy(TOKENS.name)[0, :count],
        token_times=frames * model.frame_seconds,
        log_probs=result.as_numpy(LOG_PROBS.name)[0, :label_frames] if log_probs else None,
        endpoint=response.endpoint,
        attempts=response.attempts,
        refusals=response.refusals,
    )


def explain(error: InferenceServerException, url: str, timeout: float) -> RecognizerError:
    """Return the error to raise for a failed call other than a recognition.

    Args:
        error: The error of Triton's client.
        url: Address of the server as host:port.
        timeout: Deadline of the call in seconds.
    """
    reason = one_line(error.message())
    if error.status() == "StatusCode.UNAVAILABLE":
        return ServerUnavailableError(
            f"no Triton server answers at {url} ({reason}); start tritonserver, or give the host:port of its gRPC "
            "endpoint (port 8001 by default)"
        )
    if error.status() == "StatusCode.DEADLINE_EXCEEDED":
        return ServerUnavailableError(f"no response from {url} within {timeout:g} s; see the server's log")
    return RecognizerError(f"the server at {url} refused the call: {reason}")


def explain_request(error: InferenceServerException, model: ServedModel, url: str, timeout: float) -> RecognitionError:
    """Return the error to raise for a failed recognition.

    Args:
        error: The error of Triton's client.
        model: The recognizer.
        url: Address of the server as host:port.
        timeout: Deadline of the recognition in seconds.
    """
    if error.status() == "StatusCode.DEADLINE_EXCEEDED":
        return DeadlineExceededError(
            f"no response from {model.name} at {url} within {timeout:g} s; set a longer timeout, or lower the load"
        )
    reason = one_line(error.message())
    if fault_of(error) is Fault.QUEUE:
        return QueueFullError(
            f"{model.name} at {url}: the queue is full ({reason}); retry later, send fewer concurrent requests, or add "
            "servers"
        )
    if error.status() == "StatusCode.UNAVAILABLE" and any(text in reason for text in _TIMEOUTS):
        return UnavailableError(
            f"{model.name} at {url}: the server hangs or can't be reached ({reason}); restart it, or check the network"
        )
    refusal = model_refusal(reason)
    if refusal:
        advice = f"{refusal}; {_SPLIT}" if TOO_LONG in refusal else refusal
        return RecognitionError(f"{model.name} at {url}: {advice}")
    if fault_of(error) is not Fault.OUTAGE:
        return RecognitionError(f"{model.name} at {url}: {reason}")
    if error.status() in LIVE_OUTAGES or _RESTRICTED in reason:
        return UnavailableError(f"{model.name} at {url}: {reason}")
    return UnavailableError(
        f"{model.name} at {url}: the server went down ({reason}); see its log, start it again, or add servers"
    )
