"""Check that values read from a file have the types that dataclasses declare."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints


def check_types(instance: Any) -> None:
    """Check the fields of a dataclass, and the dataclasses within it.

    Raises:
        TypeError: A value has another type than its field, or is NaN or infinite.
    """
    hints = get_type_hints(type(instance))
    for field in dataclasses.fields(instance):
        if not _conforms(getattr(instance, field.name), hints[field.name]):
            raise TypeError(f"{field.name} is {getattr(instance, field.name)!r}, not {field.type}")


def _conforms(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_conforms(value, argument) for argument in arguments)
    if origin is not None and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            _conforms(key, arguments[0]) and _conforms(content, arguments[1]) for key, content in value.items()
        )
    if origin is tuple:
        return isinstance(value, tuple) and all(_conforms(content, arguments[0]) for content in value)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        if isinstance(value, hint):
            check_types(value)
            return True
        return False
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, NoneType if hint is None else hint)
