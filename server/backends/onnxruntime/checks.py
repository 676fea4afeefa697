"""Checks of a model configuration by the rules of Triton's C++ onnxruntime backend.

What the C++ backend refuses is refused here too, in the same words. Otherwise an export could pass here and fail in
NVIDIA's container.

Source: triton-inference-server/onnxruntime_backend, src/onnxruntime.cc (ValidateInputs, ValidateOutputs, ModelState),
and triton-inference-server/backend, CompareDimsSupported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WILDCARD = -1

TRITON_TYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(uint16)": "TYPE_UINT16",
    "tensor(uint32)": "TYPE_UINT32",
    "tensor(uint64)": "TYPE_UINT64",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(float16)": "TYPE_FP16",
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
    "tensor(string)": "TYPE_STRING",
}
BATCH_INPUT_TYPES = ("TYPE_INT32", "TYPE_FP32")


class ConfigError(Exception):
    """A configuration that does not match its graph."""


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a graph. A dimension of variable size is -1."""

    name: str
    data_type: str
    dims: tuple[int, ...]

    @classmethod
    def of(cls, argument: Any) -> TensorInfo:
        """Convert an onnxruntime NodeArg."""
        dims = tuple(dim if isinstance(dim, int) else WILDCARD for dim in argument.shape)
        return cls(argument.name, TRITON_TYPES.get(argument.type, argument.type), dims)


def check(config: Mapping[str, Any], inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> None:
    """Check a configuration against its graph.

    Args:
        config: The model's configuration (Triton's ModelConfig) as JSON.
        inputs: The graph's inputs.
        outputs: The graph's outputs.

    Raises:
        ConfigError: The configuration does not match the graph; the message is one line that says where.
    """
    prefix = f"unable to load model '{config['name']}', "
    batching = int(config.get("max_batch_size", 0)) > 0
    if config.get("sequence_batching"):
        raise ConfigError(prefix + "sequence batching is not implemented in this backend")
    if config.get("batch_output"):
        raise ConfigError(prefix + "batch_output is not implemented in this backend")
    given = {info.name: info for info in inputs}
    declared = [*config.get("input", ()), *config.get("batch_input", ())]
    if len(declared) != len(given):
        raise ConfigError(prefix + f"configuration expects {len(declared)} inputs, model provides {len(given)}")
    for entry in config.get("input", ()):
        _check_input(entry, _find(entry["name"], given, "input"), batching, prefix)
    for entry in config.get("batch_input", ()):
        _check_batch_input(entry, given, prefix)
    produced = {info.name: info for info in outputs}
    for entry in config.get("output", ()):
        info = _find(entry["name"], produced, "output")
        _check_type(entry, info, "output", prefix)
        _check_dims(entry, info, batching, exact=True, prefix=prefix)


def is_ragged(entry: Mapping[str, Any]) -> bool:
    return bool(entry.get("allow_ragged_batch"))


def dims_of(entry: Mapping[str, Any]) -> list[int]:
    """The dims of an input or output as the graph sees them: after `reshape`, without the batch dimension."""
    reshape = entry.get("reshape")
    return [int(dim) for dim in (entry["dims"] if not reshape else reshape.get("shape", ()))]


def _check_input(entry: Mapping[str, Any], info: TensorInfo, batching: bool, prefix: str) -> None:
    if entry.get("optional"):
        raise ConfigError(
            prefix + f"optional input '{info.name}' is not supported for models that support batching"
            if batching
            else prefix + f"optional input '{info.name}' is not implemented in this backend"
        )
    _check_type(entry, info, "input", prefix)
    if not is_ragged(entry):
        _check_dims(entry, info, batching, exact=False, prefix=prefix)
    elif info.dims != (WILDCARD,):
        raise ConfigError(
            prefix + f"configuration expects model provides input with shape [-1] for ragged input '{info.name}', "
            f"model provides {list(info.dims)}"
        )


def _check_batch_input(entry: Mapping[str, Any], given: Mapping[str, TensorInfo], prefix: str) -> None:
    for name in entry["target_name"]:
        info = _find(name, given, "batch input")
        if entry["data_type"] not in BATCH_INPUT_TYPES:
            raise ConfigError(
                prefix + f"batch input '{name}' has type {entry['data_type']}; "
                f"only {' and '.join(BATCH_INPUT_TYPES)} are supported"
            )
        _check_type(entry, info, "batch input", prefix)


def _check_type(entry: Mapping[str, Any], info: TensorInfo, kind: str, prefix: str) -> None:
    if entry["data_type"] != info.data_type:
        raise ConfigError(
            prefix + f"configuration expects datatype {entry['data_type']} for {kind} '{info.name}', "
            f"model provides {info.data_type}"
        )


def _check_dims(entry: Mapping[str, Any], info: TensorInfo, batching: bool, exact: bool, prefix: str) -> None:
    """Compare dims. Outputs must equal the graph's (`exact`); inputs may fix dimensions that the graph leaves open."""
    expected = ([WILDCARD] if batching else []) + dims_of(entry)
    if batching and info.dims[:1] != (WILDCARD,):
        raise ConfigError(
            prefix + f"tensor '{info.name}': for the model to support batching the shape should have at least "
            f"1 dimension and the first dimension must be -1; but shape expected by the model is {list(info.dims)}"
        )
    fits = len(expected) == len(info.dims) and all(
        configured == given or (given == WILDCARD and not exact)
        for configured, given in zip(expected, info.dims, strict=True)
    )
    if not fits:
        raise ConfigError(
            prefix + f"tensor '{info.name}': the model expects {len(info.dims)} dimensions (shape {list(info.dims)}) "
            f"but the model configuration specifies {len(expected)} dimensions (shape {expected})"
        )


def _find(name: str, infos: Mapping[str, TensorInfo], kind: str) -> TensorInfo:
    if name not in infos:
        raise ConfigError(f"unexpected inference {kind} '{name}', allowed {kind}s are: {', '.join(sorted(infos))}")
    return infos[name]
