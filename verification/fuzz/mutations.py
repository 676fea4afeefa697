"""Mutations of a ModelInferRequest: of every field by its type, and of fields that depend on each other."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from tritonclient.utils import triton_to_np_dtype

from verification.fuzz import values
from verification.fuzz.targets import Target, raw

Mutation: TypeAlias = Callable[[Any, random.Random, "Context"], None]
"""Changes a request in place."""

DATA_TYPES = (
    *("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
    *("FP16", "FP32", "FP64", "BF16", "BYTES", "fp32", "", "TYPE_FP32", "X"),
)
PARAMETERS = {
    "sequence_id": ("request", "int64_param"),
    "sequence_start": ("request", "bool_param"),
    "sequence_end": ("request", "bool_param"),
    "priority": ("request", "uint64_param"),
    "timeout": ("request", "int64_param"),
    "binary_data_output": ("request", "bool_param"),
    "triton_enable_empty_final_response": ("request", "bool_param"),
    "headers": ("request", "string_param"),
    "binary_data_size": ("inputs", "int64_param"),
    "binary_data": ("outputs", "bool_param"),
    "classification": ("outputs", "int64_param"),
    "shared_memory_region": ("outputs", "string_param"),
    "shared_memory_offset": ("outputs", "int64_param"),
    "shared_memory_byte_size": ("outputs", "int64_param"),
    "x": ("request", "double_param"),
}
"""Names that Triton gives a meaning, with the place and the kind that it expects, and one that it doesn't know."""
_REPEATED_BYTES = 1000
"""Contents up to this size are repeated 1,000 times."""
_INTEGER_BITS = {
    FieldDescriptor.CPPTYPE_INT32: (32, True),
    FieldDescriptor.CPPTYPE_INT64: (64, True),
    FieldDescriptor.CPPTYPE_UINT32: (32, False),
    FieldDescriptor.CPPTYPE_UINT64: (64, False),
}


@dataclass(frozen=True)
class Context:
    """What mutations may know.

    Attributes:
        target: The model of the request.
        others: All models of the server.
    """

    target: Target
    others: tuple[Target, ...]

    @property
    def names(self) -> list[str]:
        """Names of all models and tensors."""
        return [name for target in self.others for name in target.names]


def any_field(request: Any, rng: random.Random, context: Context) -> None:
    """Change a random field of the request or of one of its inputs and outputs."""
    message = rng.choice([request, *request.inputs, *request.outputs, *(tensor.contents for tensor in request.inputs)])
    _change_field(message, rng.choice(message.DESCRIPTOR.fields), rng, context)


def _change_field(message: Any, field: Any, rng: random.Random, context: Context) -> None:
    if field.message_type is not None:
        if field.message_type.GetOptions().map_entry:
            parameter(message, rng, context)
        elif field.is_repeated:
            repeated(getattr(message, field.name), rng)
        else:
            inner = getattr(message, field.name)
            _change_field(inner, rng.choice(inner.DESCRIPTOR.fields), rng, context)
        return
    scalars = [_scalar(field, rng, context) for _ in range(rng.choice((1, 1, 2, 400)) if field.is_repeated else 1)]
    if not field.is_repeated:
        setattr(message, field.name, scalars[0])
    elif rng.random() < 0.3 and len(getattr(message, field.name)):
        repeated(getattr(message, field.name), rng)
    else:
        getattr(message, field.name).extend(scalars)


def _scalar(field: Any, rng: random.Random, context: Context) -> Any:
    if field.cpp_type in _INTEGER_BITS:
        bits, signed = _INTEGER_BITS[field.cpp_type]
        return values.integer(rng, bits=bits, signed=signed)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return rng.random() < 0.5
    if field.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return rng.choice(values.FLOATS[2:] if field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT else values.FLOATS)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return values.corrupted(rng.randbytes(rng.choice((0, 1, 4, 3200))), rng)
    return values.text(rng, [*context.names, *DATA_TYPES])


def parameter(message: Any, rng: random.Random, context: Context) -> None:
    """Add a parameter to the request or a tensor, mostly in the place and of the kind that Triton expects."""
    name, (place, kind) = rng.choice(list(PARAMETERS.items()))
    tensors = list(getattr(message, place, ()))
    holder: Any = rng.choice(tensors) if tensors else message
    if rng.random() < 0.2:
        name = values.text(rng, list(PARAMETERS))
        holder = rng.choice([message, *getattr(message, "inputs", ()), *getattr(message, "outputs", ())])
    if "parameters" not in holder.DESCRIPTOR.fields_by_name:
        return
    entry = holder.parameters[name]
    fields = entry.DESCRIPTOR.fields_by_name
    field = rng.choice(list(fields.values())) if rng.random() < 0.2 else fields[kind]
    setattr(entry, field.name, _scalar(field, rng, context))


def classification(request: Any, rng: random.Random, context: Context) -> None:
    """Request the largest values of an output instead of the output."""
    if request.outputs:
        count = values.integer(rng, bits=rng.choice((4, 32, 64)), signed=True)
        rng.choice(request.outputs).parameters["classification"].int64_param = count


def shared_memory(request: Any, rng: random.Random, context: Context) -> None:
    """Let a tensor be in shared memory that the client didn't register."""
    tensor = rng.choice([*request.inputs, *request.outputs] or [request])
    tensor.parameters["shared_memory_region"].string_param = values.text(rng, context.names)
    tensor.parameters["shared_memory_byte_size"].int64_param = values.integer(rng, bits=64, signed=True)
    if rng.random() < 0.5:
        tensor.parameters["shared_memory_offset"].int64_param = values.integer(rng, bits=64, signed=True)
    if rng.random() < 0.5:
        del request.raw_input_contents[:]


def shape(request: Any, rng: random.Random, context: Context) -> None:
    """Change one dimension, or their number."""
    if not request.inputs:
        return
    dims = rng.choice(request.inputs).shape
    if rng.random() < 0.6 and dims:
        dims[rng.randrange(len(dims))] = values.integer(rng, bits=64, signed=True)
    elif rng.random() < 0.5 and dims:
        del dims[rng.randrange(len(dims))]
    else:
        dims.insert(rng.randrange(len(dims) + 1), rng.choice((0, 1, 2, -1, 17)))


def wrapped_shape(request: Any, rng: random.Random, context: Context) -> None:
    """Give a shape whose size in bytes is 0, or a little more, in 64 or 32 bits."""
    if not request.inputs:
        return
    number = rng.randrange(len(request.inputs))
    dims, bits = request.inputs[number].shape, rng.choice((64, 64, 32))
    if len(dims) < 2:
        return
    first = rng.choice((1, 2, 4, 8, 16))
    item_bytes = np.dtype(triton_to_np_dtype(request.inputs[number].datatype) or np.int8).itemsize
    second = 2**bits // first // item_bytes // rng.choice((1, 1, 2)) + rng.choice((0, 0, 1))
    dims[0], dims[1] = first, min(second, 2**63 - 1)
    if number < len(request.raw_input_contents):
        request.raw_input_contents[number] = request.raw_input_contents[number][
            : rng.choice((0, 0, item_bytes * first))
        ]


def more_items(request: Any, rng: random.Random, context: Context) -> None:
    """Send several items in the request, each tensor with the bytes of its shape."""
    count = rng.choice((0, 2, 8, 9, 16, 17))
    for number, tensor in enumerate(request.inputs[: len(request.raw_input_contents)]):
        if tensor.shape:
            tensor.shape[0] = count
            request.raw_input_contents[number] *= count


def data_type(request: Any, rng: random.Random, context: Context) -> None:
    """Name another data type; half of the time with as many bytes as that needs."""
    if not request.inputs:
        return
    number = rng.randrange(len(request.inputs))
    tensor = request.inputs[number]
    tensor.datatype = rng.choice(DATA_TYPES)
    dtype = triton_to_np_dtype(tensor.datatype)
    if rng.random() < 0.5 and dtype not in (None, np.object_) and number < len(request.raw_input_contents):
        elements = len(request.raw_input_contents[number]) // 4
        request.raw_input_contents[number] = bytes(elements * np.dtype(dtype).itemsize)


def lengths(request: Any, rng: random.Random, context: Context) -> None:
    """Claim another length than the tensor has."""
    for number, (name, data_type, _) in enumerate(context.target.inputs):
        if name.endswith("_LENGTH") and number < len(request.raw_input_contents):
            dtype = np.dtype(triton_to_np_dtype(data_type))
            request.raw_input_contents[number] = dtype.type(values.integer(rng, bits=32, signed=True)).tobytes()


def elements(request: Any, rng: random.Random, context: Context) -> None:
    """Set some elements to the edges of their type."""
    if not request.raw_input_contents:
        return
    number = rng.randrange(min(len(request.raw_input_contents), len(context.target.inputs)))
    dtype = triton_to_np_dtype(context.target.inputs[number][1])
    if dtype == np.object_:
        request.raw_input_contents[number] = raw(np.array([values.text(rng, context.names).encode()], object))
        return
    content = request.raw_input_contents[number]
    array = np.frombuffer(content[: len(content) // np.dtype(dtype).itemsize * np.dtype(dtype).itemsize], dtype).copy()
    if array.size:
        places = [rng.randrange(array.size) for _ in range(rng.choice((1, 10, array.size)))]
        array[places] = values.edge_values(array.dtype, rng, len(places))
    request.raw_input_contents[number] = array.tobytes()


def content_bytes(request: Any, rng: random.Random, context: Context) -> None:
    """Corrupt the bytes of a tensor."""
    if request.raw_input_contents:
        number = rng.randrange(len(request.raw_input_contents))
        request.raw_input_contents[number] = values.corrupted(request.raw_input_contents[number], rng)


def typed_contents(request: Any, rng: random.Random, context: Context) -> None:
    """Send a tensor as typed contents, which may have another type or number of elements."""
    if not request.inputs:
        return
    tensor = rng.choice(request.inputs)
    field = rng.choice(tensor.contents.DESCRIPTOR.fields)
    count = rng.choice((1, 2, 400, max(1, min(20_000, abs(int(np.prod([dim % 2**16 for dim in tensor.shape])))))))
    getattr(tensor.contents, field.name).extend([_scalar(field, rng, context)] * count)
    if rng.random() < 0.7:
        del request.raw_input_contents[:]


def tensor_list(request: Any, rng: random.Random, context: Context) -> None:
    """Repeat, drop or swap inputs, outputs or contents."""
    repeated(rng.choice((request.inputs, request.outputs, request.raw_input_contents)), rng)


def repeated(items: Any, rng: random.Random) -> None:
    """Repeat, drop or swap entries of a repeated field."""
    if not len(items):
        return
    first, second = rng.randrange(len(items)), rng.randrange(len(items))
    kind = rng.random()
    if kind < 0.3:
        del items[first]
    elif kind < 0.6:
        size = len(items[first]) if isinstance(items[first], bytes) else 1
        items.extend([items[first]] * rng.choice((1, 2, 1000 if size < _REPEATED_BYTES else 3)))
    else:
        entries = list(items)
        entries[first], entries[second] = entries[second], entries[first]
        copies = [entry.__deepcopy__() if hasattr(entry, "__deepcopy__") else entry for entry in entries]
        del items[:]
        items.extend(copies)


def names(request: Any, rng: random.Random, context: Context) -> None:
    """Rename the model, its version, or a tensor; half of the time to another one of the server."""
    holder = rng.choice([request, request, *request.inputs, *request.outputs])
    if holder is request:
        field = rng.choice(("model_name", "model_version", "id"))
        setattr(request, field, values.text(rng, [*context.names, "1", "2", "-1"]))
    else:
        holder.name = values.text(rng, context.names)


MUTATIONS: dict[str, Mutation] = {
    mutation.__name__: mutation
    for mutation in (
        *(any_field, parameter, classification, shared_memory, names, tensor_list),
        *(shape, wrapped_shape, more_items, data_type, lengths, elements, content_bytes, typed_contents),
    )
}
