"""Weights of large graphs, which lie in files: protobuf limits a graph in memory or in a file to 2 GiB.

ONNX calls a weight in a file external data. In memory its location is an absolute path, so that a graph can be changed
and copied without its weights. `write_graph` puts them all into one file in the graph's folder. There the location is
that file's name, as onnxruntime requires.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from export_scripts.operators.walk import all_graphs

LARGEST_GRAPH = 1_900_000_000
"""Most bytes of weights in an ONNX file by default, which leaves 0.2 GB of protobuf's 2 GiB for nodes."""
SMALLEST_IN_FILE = 1 << 10
"""Smallest weight in a file, in bytes: as in PyTorch's exporter. Shapes and axes, which onnxruntime needs to optimize a
graph, are smaller."""
ALIGNMENT = 4096
"""Offsets in a file of weights are multiples of this, so that onnxruntime can map weights into memory."""
SUFFIX = ".data"
"""The file of weights is called like the graph's file, with this suffix."""
_PIECE = 1 << 20


def has_files(model: onnx.ModelProto) -> bool:
    """Whether any weight of a model lies in a file."""
    return any(_is_in_file(tensor) for tensor in _weights(model))


def array_of(tensor: TensorProto) -> npt.NDArray[Any]:
    """A weight's array; that of a weight in a file is read where it is used."""
    if not _is_in_file(tensor):
        return numpy_helper.to_array(tensor)
    values = _entries(tensor)
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return np.memmap(values["location"], dtype, "r", int(values["offset"]), shape=tuple(tensor.dims))


def read_graph(file: Path) -> onnx.ModelProto:
    """Read a graph without its large weights, which stay in their files."""
    model = onnx.load(file, load_external_data=False)
    for tensor in _weights(model):
        if _is_in_file(tensor):
            values = _entries(tensor)
            path = (file.parent / values["location"]).resolve()
            offset = int(values.get("offset", 0))
            _refer(tensor, str(path), offset, int(values.get("length", path.stat().st_size - offset)))
    return model


def with_files(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Move the large weights of a model into a new file in `folder`; returns a model without them.

    The old model is not to be used any more. Its memory is free as soon as nothing refers to it.
    """
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as data:
        for tensor in _weights(model):
            if len(tensor.raw_data) >= SMALLEST_IN_FILE:
                offset = data.tell()
                data.write(tensor.raw_data)
                _refer(tensor, data.name, offset, data.tell() - offset)
    # protobuf keeps the memory of a cleared field, so only a copy is light.
    light = onnx.ModelProto()
    light.CopyFrom(model)
    return light


def write_graph(model: onnx.ModelProto, file: Path, largest_graph: int = LARGEST_GRAPH) -> None:
    """Write a graph as one file, or with a file of weights in its folder; equal graphs give equal files.

    Weights are copied piece by piece. Afterwards the model refers to those in the file.

    Args:
        model: Graph to write. If weights of it lie in files, it gets a file of weights.
        file: File to write. The file of weights has its name and `.data`.
        largest_graph: Bytes of weights in memory from which on it gets a file of weights too.
    """
    if not has_files(model) and sum(map(_bytes_of, _weights(model))) <= largest_graph:
        file.write_bytes(model.SerializeToString(deterministic=True))
        return
    path = file.with_name(file.name + SUFFIX)
    with path.open("wb") as data:
        for tensor in _weights(model):
            length = _bytes_of(tensor)
            if length >= SMALLEST_IN_FILE or _is_in_file(tensor):
                data.write(bytes(-data.tell() % ALIGNMENT))
                offset = data.tell()
                _copy(tensor, data)
                _refer(tensor, str(path.resolve()), offset, length)
    written = onnx.ModelProto()
    written.CopyFrom(model)
    checksum = _checksum(path)
    for tensor in _weights(written):
        if _is_in_file(tensor):
            values = _entries(tensor)
            _refer(tensor, path.name, int(values["offset"]), int(values["length"]), checksum)
    file.write_bytes(written.SerializeToString(deterministic=True))


def damage(model: onnx.ModelProto, file: Path, *, contents: bool) -> Iterator[str]:
    """Find files of weights that are outside of the graph's folder, missing, too short or changed.

    Args:
        model: The graph as it is in its file. Anyone may have written it.
        file: The graph's file.
        contents: Whether to read the files and compare their checksums.

    Yields:
        What is wrong with a file.
    """
    files: dict[str, list[dict[str, str]]] = {}
    for tensor in _weights(model):
        if _is_in_file(tensor):
            values = _entries(tensor)
            files.setdefault(values.get("location", ""), []).append(values)
    for location, weights in files.items():
        path = file.parent / location
        if not _is_beside(path, file):
            yield f"its weights, {location}, are outside of its folder; if you trust the model, copy them into it"
            continue
        ends = [_end(values) for values in weights]
        checksums = {values["checksum"] for values in weights if "checksum" in values}
        if not path.is_file():
            yield f"its weights, {location}, are missing; copy the file or export the model again"
        elif None in ends:
            yield f"{location} has a weight without a valid offset and length; export the model again"
        elif (size := path.stat().st_size) < (needed := max(end for end in ends if end is not None)):
            yield f"{location} has {size} bytes of weights instead of {needed}; copy it or export the model again"
        elif contents and checksums and checksums != {_checksum(path)}:
            yield f"{location} has another checksum than when it was exported; copy it or export the model again"


def _is_beside(path: Path, file: Path) -> bool:
    """Whether a path, with its links followed, is in the folder of a graph's file.

    Later releases of onnxruntime than 1.19 refuse others. 1.19 reads any file of the machine as weights.
    """
    try:
        return Path(os.path.realpath(path)).is_relative_to(Path(os.path.realpath(file)).parent)
    except ValueError:
        return False  # A name with a NUL.


def _end(values: Mapping[str, str]) -> int | None:
    """Where a weight ends in its file; None if its offset or length is no number, or negative."""
    try:
        offset, length = int(values.get("offset", 0)), int(values.get("length", 0))
    except ValueError:
        return None
    return offset + length if min(offset, length) >= 0 else None


def _weights(model: onnx.ModelProto) -> Iterator[TensorProto]:
    return (tensor for graph in all_graphs(model.graph) for tensor in graph.initializer)


def _bytes_of(tensor: TensorProto) -> int:
    return int(_entries(tensor)["length"]) if _is_in_file(tensor) else len(tensor.raw_data)


def _is_in_file(tensor: TensorProto) -> bool:
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def _entries(tensor: TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _refer(tensor: TensorProto, location: str, offset: int, length: int, checksum: str = "") -> None:
    """Let a weight refer to its bytes in a file."""
    tensor.ClearField("raw_data")
    tensor.ClearField("external_data")
    tensor.data_location = TensorProto.EXTERNAL
    values = {"location": location, "offset": str(offset), "length": str(length), "checksum": checksum}
    for key, value in values.items():
        if value:
            tensor.external_data.add(key=key, value=value)


def _copy(tensor: TensorProto, target: IO[bytes]) -> None:
    if not _is_in_file(tensor):
        target.write(tensor.raw_data)
        return
    values = _entries(tensor)
    with Path(values["location"]).open("rb") as source:
        source.seek(int(values["offset"]))
        # Weights that are cut out of a larger file end before it does.
        remaining = int(values["length"])
        while remaining:
            piece = source.read(min(remaining, _PIECE))
            if not piece:
                raise OSError(f"{source.name}: ends before the weight {tensor.name}")
            target.write(piece)
            remaining -= len(piece)


def _checksum(file: Path) -> str:
    """ONNX's checksum of a file of weights, a SHA-1."""
    digest = hashlib.sha1(usedforsecurity=False)
    with file.open("rb") as content:
        while piece := content.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
