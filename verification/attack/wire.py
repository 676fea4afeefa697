"""Requests by the bare protocol, since a well-behaved client refuses to send most of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferResult, service_pb2, service_pb2_grpc

from verification.attack.cases import Case

LARGEST_MESSAGE = 2**31 - 1
LOG_PROBS = ("LOG_PROBS", "LABELS_LENGTH")


@dataclass(frozen=True, eq=False)
class Answer:
    """Of each recording of a request its text and, where they were asked for, log-probs [frames, labels]."""

    texts: tuple[str, ...]
    log_probs: tuple[NDArray[np.float32], ...] | None = None


def open_channel(url: str) -> grpc.aio.Channel:
    limits = [("grpc.max_send_message_length", LARGEST_MESSAGE), ("grpc.max_receive_message_length", LARGEST_MESSAGE)]
    return grpc.aio.insecure_channel(url, options=limits)


def call(channel: grpc.aio.Channel, model: str, case: Case, log_probs: bool, timeout: float) -> Any:
    """The request under way: to be awaited, or cancelled."""
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name=case.input_name, datatype=case.data_type, shape=case.audio.shape)
    for name in (case.output_name, *(LOG_PROBS if log_probs else ())):
        request.outputs.add(name=name)
    content = case.audio.tobytes()
    request.raw_input_contents.append(content[: len(content) - case.cut_bytes])
    return service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=timeout)


def read(response: Any, log_probs: bool) -> Answer:
    result = InferResult(response)
    texts = tuple(text.decode() for text in result.as_numpy("TEXT").ravel())
    if not log_probs:
        return Answer(texts)
    lengths = result.as_numpy("LABELS_LENGTH")[:, 0]
    return Answer(texts, tuple(row[:own] for row, own in zip(result.as_numpy("LOG_PROBS"), lengths, strict=True)))
