"""Mutations of a request by HTTP: of every field of its JSON, of its bytes, headers and path."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from verification.fuzz import values
from verification.fuzz.mutations import DATA_TYPES, PARAMETERS, Context
from verification.fuzz.targets import Target, tensors

_HEADER_LENGTH = "Inference-Header-Content-Length"
_DEPTH = 100
"""Nesting that Triton's parser survives."""


@dataclass
class HttpRequest:
    """A request that mutations change in place.

    Attributes:
        method: Method.
        path: Path on the server.
        fields: The JSON object of the body.
        headers: Headers besides those that every request has.
        text: Changes the serialized body; applied last.
    """

    method: str
    path: str
    fields: Any
    headers: dict[str, str] = field(default_factory=dict)
    text: list[Callable[[bytes], bytes]] = field(default_factory=list)

    def body(self) -> bytes:
        """The bytes to send."""
        content = json.dumps(self.fields).encode()
        for change in self.text:
            content = change(content)
        return content


Mutation: TypeAlias = Callable[[HttpRequest, random.Random, Context], None]


def valid_http_request(target: Target, rng: random.Random) -> HttpRequest:
    """A valid request with all data as JSON."""
    contents = tensors(target, rng)
    inputs = [
        {"name": name, "shape": list(contents[name].shape), "datatype": data_type, "data": _numbers(contents[name])}
        for name, data_type, _ in target.inputs
    ]
    fields = {"id": "1", "inputs": inputs, "outputs": [{"name": name} for name, _ in target.outputs]}
    return HttpRequest("POST", f"/v2/models/{target.name}/infer", fields)


def _numbers(array: Any) -> list[Any]:
    flat = array.ravel()[:4000]
    return [text.decode() for text in flat] if array.dtype == object else list(flat.tolist())


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each container in a JSON value with each of its keys; of a long list the first keys."""
    if isinstance(value, dict | list):
        keys = list(value) if isinstance(value, dict) else list(range(min(len(value), 4)))
        for key in keys:
            yield value, key
            yield from _places(value[key])


def _any_json(rng: random.Random, context: Context, *, lists: bool = True) -> Any:
    kind = rng.randrange(7)
    if kind == 0:
        return rng.choice((None, True, False, [], {}, [[]], [None], {"": None}))
    if kind == 1:
        return values.integer(rng, bits=64, signed=True)
    if kind == 2:
        return rng.choice((0.5, -0.0, 1e308, 2**64, -(2**70)))
    if kind == 3 and lists:
        return [_any_json(rng, context, lists=False) for _ in range(rng.choice((1, 3, 40)))]
    if kind == 4:
        nested: Any = 1
        for _ in range(rng.choice((2, 30, _DEPTH))):
            nested = [nested] if rng.random() < 0.5 else {"x": nested}
        return nested
    return values.text(rng, [*context.names, *DATA_TYPES, *PARAMETERS])


def any_value(request: HttpRequest, rng: random.Random, context: Context) -> None:
    """Replace, drop or repeat a random value."""
    places = list(_places(request.fields))
    if not places:
        request.fields = _any_json(rng, context)
        return
    container, key = rng.choice(places)
    kind = rng.random()
    if kind < 0.6:
        container[key] = _any_json(rng, context)
    elif kind < 0.8:
        del container[key]
    elif isinstance(container, list):
        container.extend([container[key]] * rng.choice((1, 2, 300)))
    else:
        container[values.text(rng, list(PARAMETERS))] = container[key]


def parameter(request: HttpRequest, rng: random.Random, context: Context) -> None:
    """Add a parameter to the request or a tensor."""
    holders = [value for container, key in _places(request.fields) if isinstance(value := container[key], dict)]
    holder = rng.choice([*holders, request.fields])
    if isinstance(holder, dict):
        parameters = holder.setdefault("parameters", {})
        if isinstance(parameters, dict):
            parameters[rng.choice(list(PARAMETERS))] = _any_json(rng, context)


def binary_data(request: HttpRequest, rng: random.Random, context: Context) -> None:
    """Send a tensor as binary data behind the JSON, with sizes that may be wrong."""
    inputs = request.fields.get("inputs") if isinstance(request.fields, dict) else None
    if not isinstance(inputs, list) or not inputs or not isinstance(inputs[0], dict):
        return
    content = rng.randbytes(rng.choice((0, 4, 3200)))
    inputs[0].pop("data", None)
    size = len(content) if rng.random() < 0.5 else values.integer(rng, bits=64, signed=True)
    inputs[0]["parameters"] = {"binary_data_size": size}
    wrong_length = values.integer(rng, bits=32, signed=True) if rng.random() < 0.3 else None

    def append(body: bytes) -> bytes:
        request.headers[_HEADER_LENGTH] = str(len(body) if wrong_length is None else wrong_length)
        return body + content

    request.text.append(append)


def body_bytes(request: HttpRequest, rng: random.Random, context: Context) -> None:
    """Corrupt the bytes of the body."""
    state = rng.getstate()

    def corrupt(body: bytes) -> bytes:
        rng.setstate(state)
        return values.corrupted(body, rng)

    request.text.append(corrupt)


def large_number(request: HttpRequest, rng: random.Random, context: Context) -> None:
    """Write a number that JSON allows and no type holds."""
    number = rng.choice((b"1e400", b"-1e-400", b"9" * 400, b"0.0000000000000000000000000000001", b"-0", b"1E+2"))
    request.text.append(lambda body: body.replace(b"1", number, 1))


def headers(request: HttpRequest, rng: random.Random, context: Context) -> None:
    """Add a header with which Triton reads the body differently."""
    name, value = rng.choice(
        (
            (_HEADER_LENGTH, str(values.integer(rng, bits=64, signed=True))),
            (_HEADER_LENGTH, rng.choice(("", "x", "1e3", "0x10", "9" * 40))),
            ("Content-Encoding", rng.choice(("gzip", "deflate", "identity", "br", "x"))),
            ("Accept-Encoding", rng.choice(("gzip", "deflate", "br", "gzip;q=x"))),
            ("Content-Type", rng.choice(("application/octet-stream", "text/plain", "multipart/form-data", ""))),
            ("Expect", "100-continue"),
            ("triton-request-id", "x" * 5000),
            ("traceparent", "00-" + "f" * 32 + "-" + "f" * 16 + "-01"),
        )
    )
    request.headers[name] = value


def path(request: HttpRequest, rng: random.Random, context: Context) -> None:
    """Ask for another model, version or kind of inference."""
    model = rng.choice([*(target.name for target in context.others), "x", "..", "%2e%2e", "%00", "a" * 5000])
    version = rng.choice(("", "/versions/1", "/versions/-1", "/versions/99999999999999999999", "/versions/"))
    kind = rng.choice(("infer", "generate", "generate_stream", "infer/", "stats"))
    request.path = f"/v2/models/{model}{version}/{kind}"
    if rng.random() < 0.1:
        request.method = rng.choice(("GET", "PUT", "DELETE", "HEAD", "X"))


def numbers(request: HttpRequest, rng: random.Random, context: Context) -> None:
    """Set a tensor's numbers to edges of their type."""
    tensors_of_request = request.fields.get("inputs") if isinstance(request.fields, dict) else None
    for tensor in tensors_of_request if isinstance(tensors_of_request, list) else ():
        if isinstance(tensor, dict) and isinstance(tensor.get("data"), list) and rng.random() < 0.5:
            dtype = np.dtype(rng.choice((np.int8, np.int16, np.int32, np.int64)))
            tensor["data"] = values.edge_values(dtype, rng, len(tensor["data"]) or 1).tolist()


JSON_MUTATIONS: dict[str, Mutation] = {
    mutation.__name__: mutation
    for mutation in (any_value, parameter, binary_data, body_bytes, large_number, headers, path, numbers)
}
