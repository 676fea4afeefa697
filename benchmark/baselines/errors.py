"""Why a system is not measured."""


class NotRun(Exception):
    """A system that can't be measured here; `str(error)` is one line that says why, fit for a table."""
