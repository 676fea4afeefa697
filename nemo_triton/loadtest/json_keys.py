"""Results as JSON values, under the keys that files of results have always had."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_KEYS = {"endpoint": "target", "endpoints": "targets", "counted_by_endpoint": "counted_by_target"}
_FIELDS = {key: name for name, key in _KEYS.items()}


def to_json(instance: DataclassInstance) -> dict[str, Any]:
    """The fields of a dataclass, and of those within it, by their keys."""
    return dataclasses.asdict(instance, dict_factory=_by_key)


def from_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a JSON object by the names of fields."""
    return {_FIELDS.get(key, key): value for key, value in row.items()}


def _by_key(fields: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    return {_KEYS.get(name, name): value for name, value in fields}
