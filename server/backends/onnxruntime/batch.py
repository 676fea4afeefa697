"""Join several requests into one batch, and split its results by request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from checks import dims_of, is_ragged
from joining import Array, Joiner

NUMPY_TYPES = {"TYPE_INT32": np.int32, "TYPE_FP32": np.float32}


class BatchError(Exception):
    """The requests can't be batched, or the graph's results can't be split by request."""


def feeds(config: Mapping[str, Any], requests: Sequence[Mapping[str, Array]], joiner: Joiner) -> dict[str, Array]:
    """Build the graph's inputs from those of the requests.

    Args:
        config: The model's configuration as JSON.
        requests: The inputs of each request by name; shape [items, ...] if the model batches.
        joiner: Memory for joined inputs. The result is valid until the next call with the same joiner.

    Returns:
        The graph's inputs by name. Ragged inputs are concatenated into one flat tensor, and the configuration's
        batch_input tensors are added.
    """
    batching = int(config.get("max_batch_size", 0)) > 0
    result = {}
    for entry in config.get("input", ()):
        arrays = [request[entry["name"]] for request in requests]
        if is_ragged(entry):
            joined = joiner.join(entry["name"], [array.ravel() for array in arrays])
        elif batching:
            joined = joiner.join(entry["name"], [_reshape(array, entry) for array in arrays])
        else:
            joined = arrays[0].reshape(dims_of(entry)) if entry.get("reshape") else arrays[0]
        result[entry["name"]] = _as_text(joined) if entry["data_type"] == "TYPE_STRING" else joined
    for entry in config.get("batch_input", ()):
        source = [request[entry["source_input"][0]] for request in requests]
        values = batch_input(entry["kind"], source).astype(NUMPY_TYPES[entry["data_type"]])
        result.update(dict.fromkeys(entry["target_name"], values))
    return result


def invalid_input(config: Mapping[str, Any], request: Mapping[str, Array]) -> str | None:
    """Return why a request is invalid, whatever else is in its batch, or None if it can run.

    Triton's C++ backend (24.10, and main of 2026-02) checks neither: it serves a batch with an empty ragged item from
    uninitialized memory, and cuts a string at its first NUL.
    """
    for entry in config.get("input", ()):
        name, values = entry["name"], request[entry["name"]]
        if is_ragged(entry) and values.size == 0:
            return f"ragged input '{name}' has an item without elements"
        if entry["data_type"] == "TYPE_STRING":
            for value in values.ravel():
                if b"\0" in value:
                    return f"input '{name}' has a string with a NUL in it"
                try:
                    value.decode()
                except UnicodeDecodeError:
                    return f"input '{name}' has a string that is not UTF-8"
    return None


def batch_input(kind: str, source: Sequence[Array]) -> Array:
    """Compute one of Triton's batch_input tensors.

    Args:
        kind: A ModelConfig.BatchInput.Kind.
        source: The source input of each request, shape [items, ...].
    """
    counts = np.array([array.size for array in source])
    if kind == "BATCH_ELEMENT_COUNT":
        return counts
    if kind == "BATCH_ACCUMULATED_ELEMENT_COUNT":
        return np.cumsum(counts)
    if kind == "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO":
        return np.concatenate([[0], np.cumsum(counts)])
    if kind == "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE":
        return np.zeros(counts.max())
    shapes = [array.shape[1:] for array in source for _ in range(array.shape[0])]
    if kind == "BATCH_ITEM_SHAPE":
        return np.array(shapes).reshape(len(shapes), -1)
    if kind == "BATCH_ITEM_SHAPE_FLATTEN":
        return np.array(shapes).ravel()
    raise BatchError(f"unknown kind of batch_input '{kind}'")


def split(output: Array, name: str, items: Sequence[int]) -> list[Array]:
    """Split an output's rows by request.

    Args:
        output: The output of the batch, shape [sum(items), ...].
        name: The output's name, for the error.
        items: The number of rows of each request.

    Raises:
        BatchError: The output has more or fewer rows than the batch has items. Triton's C++ backend crashes there,
            fails some of the requests, or returns rows to the wrong request.
    """
    if output.ndim == 0 or output.shape[0] != sum(items):
        raise BatchError(f"output '{name}' has shape {list(output.shape)} for a batch of {sum(items)}")
    return np.split(output, np.cumsum(items)[:-1])


def _reshape(array: Array, entry: Mapping[str, Any]) -> Array:
    return array.reshape(array.shape[0], *dims_of(entry)) if entry.get("reshape") else array


def _as_text(array: Array) -> Array:
    return np.array([value.decode() for value in array.ravel()], dtype=object).reshape(array.shape)
