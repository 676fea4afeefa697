"""Errors that a user of the export can fix."""

from __future__ import annotations

_EXCERPT = 100


class ExportError(Exception):
    """One line: what is wrong, in which file, model or field, and what to do."""


class ParityError(ExportError):
    """The exported models don't give NeMo's results."""


class RefusedFileError(Exception):
    """What is wrong with an untrusted file, and what to do, without the name of the checkpoint."""


def excerpt(value: object) -> str:
    """The beginning of a text from an untrusted file, for an error."""
    text = str(value)
    return text if len(text) <= _EXCERPT else f"{text[:_EXCERPT]}…"
