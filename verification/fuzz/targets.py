"""Valid requests to every model of a server, which mutations begin with."""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2
from tritonclient.utils import triton_to_np_dtype

SIZES = (1, 2, 40, 400, 16_000)
"""Sizes of a variable dimension."""


@dataclass(frozen=True)
class Target:
    """A model as its configuration describes it.

    Attributes:
        name: Name of the model.
        inputs: Name, data type and dims of each input, without the batch dimension.
        outputs: Name and data type of each output.
    """

    name: str
    inputs: tuple[tuple[str, str, tuple[int, ...]], ...]
    outputs: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, config: Any) -> Target:
        """Read a ModelConfig message."""
        types = type(config.input[0]).DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number

        def data_type(tensor: Any) -> str:
            name = str(types[tensor.data_type].name.removeprefix("TYPE_"))
            return "BYTES" if name == "STRING" else name

        return cls(
            config.name,
            tuple((tensor.name, data_type(tensor), tuple(tensor.dims)) for tensor in config.input),
            tuple((tensor.name, data_type(tensor)) for tensor in config.output),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the model and of its tensors."""
        return (self.name, *(name for name, *_ in self.inputs), *(name for name, _ in self.outputs))


def read_targets(stub: Any) -> list[Target]:
    """Describe all models that are ready, sorted by name."""
    statistics = stub.ModelStatistics(service_pb2.ModelStatisticsRequest(), timeout=30)
    names = sorted({model.name for model in statistics.model_stats})
    return [Target.of(stub.ModelConfig(service_pb2.ModelConfigRequest(name=name), timeout=30).config) for name in names]


def tensors(target: Target, rng: random.Random) -> dict[str, NDArray[Any]]:
    """Input values of a valid request, shape [1, ...]; a length has the size of its tensor."""
    size = rng.choice(SIZES[:-1] if any(len(dims) > 1 for _, _, dims in target.inputs) else SIZES)
    values: dict[str, NDArray[Any]] = {}
    for name, data_type, dims in target.inputs:
        shape = (1, *(size if dim == -1 else dim for dim in dims))
        if data_type == "BYTES":
            values[name] = np.array([b"words"] * prod(shape), object).reshape(shape)
        elif name.endswith("_LENGTH"):
            values[name] = np.full(shape, size, triton_to_np_dtype(data_type))
        else:
            noise = np.random.default_rng(rng.randrange(2**32)).integers(0, 20, shape)
            values[name] = noise.astype(triton_to_np_dtype(data_type))
    return values


def valid_request(target: Target, rng: random.Random) -> Any:
    """A valid ModelInferRequest."""
    request = service_pb2.ModelInferRequest(model_name=target.name)
    values = tensors(target, rng)
    for name, data_type, _ in target.inputs:
        request.inputs.add(name=name, datatype=data_type, shape=values[name].shape)
        request.raw_input_contents.append(raw(values[name]))
    for name, _ in target.outputs:
        request.outputs.add(name=name)
    return request


def raw(values: NDArray[Any]) -> bytes:
    """The bytes of a tensor in a request; each string follows its length."""
    if values.dtype == object:
        return b"".join(len(text).to_bytes(4, "little") + text for text in values.ravel())
    return values.tobytes()
