"""What the user of the export can put right."""


class ExportError(Exception):
    """One clear line: what is wrong, with which file, model or field, and what would mend it."""


class ParityError(ExportError):
    """The exported models do not give NeMo's results."""
