"""Requests that are known to end Triton 2.51. The fuzzer leaves them out to find others.

`make server-enders` tries each of them (docs/security_server.md).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from math import prod
from typing import Any

from verification.fuzz.json_mutations import HttpRequest
from verification.fuzz.targets import Target

CLASSIFICATION = "parameter classification on an output of strings"
SHAPE_OVERFLOW = "a shape whose size in bytes overflows"
SHAPE_WITHOUT_DATA = "JSON: a shape much larger than its data"
_LARGEST_ELEMENT = 8
_OVERFLOW = 2**62
_JSON_ELEMENTS = 2**24


def known_fault(request: Any, targets: Sequence[Target]) -> str:
    """The known fault that a ModelInferRequest hits; empty if none."""
    strings = {name for target in targets for name, data_type in target.outputs if data_type == "BYTES"}
    for output in request.outputs:
        if output.name in strings and "classification" in output.parameters:
            return CLASSIFICATION
    for tensor in request.inputs:
        if abs(prod(dim for dim in tensor.shape if dim)) * _LARGEST_ELEMENT >= _OVERFLOW:
            return SHAPE_OVERFLOW
    return ""


def known_http_fault(request: HttpRequest) -> str:
    """The known fault that a request by HTTP hits; empty if none."""
    body = request.body()
    if b"classification" in body:
        return CLASSIFICATION
    for shape in re.findall(rb'"shape"\s*:\s*(\[[^\[\]]*\])', body):
        try:
            dims = [int(dim) for dim in json.loads(shape) if isinstance(dim, int | float) and dim]
        except (ValueError, OverflowError):
            continue
        if abs(prod(dims)) > _JSON_ELEMENTS:
            return SHAPE_WITHOUT_DATA
    return ""
