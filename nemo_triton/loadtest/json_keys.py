"""Convert dataclasses to and from JSON objects, with the keys of earlier result files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_KEYS = {"endpoint": "target", "endpoints": "targets", "counted_by_endpoint": "counted_by_target"}
_FIELDS = {key: name for name, key in _KEYS.items()}


def to_json(instance: DataclassInstance) -> dict[str, Any]:
    """Convert a dataclass, and the dataclasses within it, to a JSON object."""
    return dataclasses.asdict(instance, dict_factory=_by_key)


def from_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the keys of a JSON object to the names of dataclass fields."""
    return {_FIELDS.get(key, key): value for key, value in row.items()}


def _by_key(fields: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    return {_KEYS.get(name, name): value for name, value in fields}
