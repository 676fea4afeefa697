"""Errors that a user of the export can fix."""


class ExportError(Exception):
    """One line: what is wrong, in which file, model or field, and what to do."""


class ParityError(ExportError):
    """The exported models don't give NeMo's results."""
