"""Names of recognizers: how they follow from a checkpoint, and which are reserved."""

from __future__ import annotations

import re
from pathlib import Path

from export_scripts.errors import ExportError
from nemo_triton.contract import FEATURES_STAGE, Part, is_audio_stage

MAX_LENGTH = 200
"""Longest name of a recognizer. File systems allow 255, and its parts and their temporary files have longer names."""


NVIDIA = "nvidia/"
"""NVIDIA's name at Hugging Face, as NeMo's downloads have it in front of a model's name."""


def is_file(source: str) -> bool:
    """Whether a CHECKPOINT is a file name (of a missing file, too) and not the name of a pretrained model."""
    return source.endswith(".nemo") or Path(source).is_file()


def bare_name(name: str) -> str:
    """The name of a pretrained model without nvidia/."""
    return name.removeprefix(NVIDIA)


def recognizer_name(source: str, suffix: str = "") -> str:
    """The name of a checkpoint's recognizer: the name of its file or pretrained model, with `suffix`.

    NVIDIA's models at Hugging Face are called as in NeMo's list, without nvidia/.

    Raises:
        ExportError: The name is no name of a folder, such as `..`, or too long, or reserved for a part of a recognizer,
            which an export would replace.
    """
    name = model_name(Path(source).stem if is_file(source) else bare_name(source)) + suffix
    if not re.match("[A-Za-z0-9_]", name):
        raise ExportError(
            f"{source}: a recognizer can't be called {name!r}; rename the file: its name must begin with a letter, a "
            "digit or _"
        )
    if len(name) > MAX_LENGTH:
        raise ExportError(
            f"{source}: makes a name of {len(name)} characters; rename the file: with the suffix, at most {MAX_LENGTH}"
        )
    owner = _owner(name)
    if owner:
        raise ExportError(
            f"{source}: a recognizer can't be called {name}, which is {owner}; rename the file or add a --name-suffix"
        )
    return name


def check_suffix(suffix: str) -> None:
    """Refuse a suffix that can't be part of a model's name.

    Raises:
        ExportError: The suffix has other characters; the message names those that can be used.
    """
    if suffix != model_name(suffix):
        raise ExportError(f"--name-suffix: {suffix!r} can't be in a model's name; use letters, digits, _, . and -")


def model_name(name: str) -> str:
    """The name with characters that Triton or a file system may refuse replaced by an underscore."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)


def _owner(name: str) -> str:
    """Describe the owner of a reserved name; empty if the name is free."""
    if is_audio_stage(name) or re.fullmatch(re.sub(r"{\w+}", r"\\w+", FEATURES_STAGE), name):
        return "the name of a stage that recognizers share"
    ending = next((part.value for part in Part if name.endswith(part.value)), None)
    return f"the {ending} of a recognizer {name.removesuffix(ending)}" if ending else ""
