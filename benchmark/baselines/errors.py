"""The error of a system that can't be measured."""


class NotRun(Exception):
    """A system can't be measured here. `str(error)` is a one-line reason for a table."""
