"""Requests in the bare protocol; the client library refuses to send invalid ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferResult, service_pb2, service_pb2_grpc

from nemo_triton.contract import LABELS, LOG_PROBS, TEXT, Part
from verification.attack.cases import Case

LARGEST_MESSAGE = 2**31 - 1


@dataclass(frozen=True, eq=False)
class Answer:
    """The response to a request.

    Attributes:
        texts: Text of each recording.
        log_probs: float32 [frames, labels] of each recording; None if they were not requested.
    """

    texts: tuple[str, ...]
    log_probs: tuple[NDArray[np.float32], ...] | None = None


def open_channel(url: str) -> grpc.aio.Channel:
    """Connect to the gRPC endpoint host:port."""
    limits = [("grpc.max_send_message_length", LARGEST_MESSAGE), ("grpc.max_receive_message_length", LARGEST_MESSAGE)]
    return grpc.aio.insecure_channel(url, options=limits)


def call(channel: grpc.aio.Channel, model: str, case: Case, *, log_probs: bool, timeout: float) -> Any:
    """Send a case to a recognizer. Returns the pending request, which can be awaited or cancelled."""
    name = f"{model}{case.recognizer.suffix}"
    request = service_pb2.ModelInferRequest(model_name=Part.LOG_PROBS.of(name) if log_probs else name)
    data_type = case.data_type or case.recognizer.audio.dtype
    request.inputs.add(name=case.input_name, datatype=data_type, shape=case.audio.shape)
    for output in (case.output_name, *([LOG_PROBS.name, LABELS.length.name] if log_probs else [])):
        request.outputs.add(name=output)
    content = case.audio.tobytes()
    request.raw_input_contents.append(content[: len(content) - case.cut_bytes])
    return service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=timeout)


def read(response: Any, log_probs: bool) -> Answer:
    """Read texts and log-probs from a response."""
    result = InferResult(response)
    texts = tuple(text.decode() for text in result.as_numpy(TEXT.name).ravel())
    if not log_probs:
        return Answer(texts)
    lengths = result.as_numpy(LABELS.length.name)[:, 0]
    rows = zip(result.as_numpy(LOG_PROBS.name), lengths, strict=True)
    return Answer(texts, tuple(row[:length] for row, length in rows))
