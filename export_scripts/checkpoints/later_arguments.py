"""Leave out constructor arguments of later NeMo releases where their value means what this release does."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from export_scripts.checkpoints.saved_decoding import AUX_CTC
from export_scripts.errors import RefusedFileError, excerpt

SECTIONS = ("preprocessor", "encoder", "decoder", "joint")
"""Sections that name a class and its arguments, and that an exported model needs. A hybrid's AUX_CTC has one inside."""

_SAME_FOR_WHOLE_FILES: dict[tuple[str, str], tuple[object, ...]] = {
    ("ConformerEncoder", "conv_context_style"): ("regular", "dcc"),
    ("LSTMDecoder", "add_blank"): (True,),
}
"""Arguments that NeMo 3.0.0 has and 2.7.3 lacks, with the values that compute what 2.7.3 does for a whole file."""

_CHUNKS = "att_chunk_context_size"
_CHUNKED_STYLE = "chunked_limited_with_rc"


def without_later_arguments(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config whose classes, as the installed NeMo has them, take all of its arguments.

    Args:
        config: A config whose class names are checked. Imports these classes.

    Raises:
        RefusedFileError: An argument that the installed NeMo doesn't know changes what the class computes, or may.
    """
    kept = {
        name: _known_arguments(name, section) if name in SECTIONS and isinstance(section, dict) else section
        for name, section in config.items()
    }
    aux_ctc = kept.get(AUX_CTC)
    if isinstance(aux_ctc, dict) and isinstance(aux_ctc.get("decoder"), dict):
        kept[AUX_CTC] = {**aux_ctc, "decoder": _known_arguments(f"{AUX_CTC}.decoder", aux_ctc["decoder"])}
    return kept


def _known_arguments(path: str, section: dict[str, Any]) -> dict[str, Any]:
    target = str(section.get("_target_") or "")
    if not target:
        # Configs before Hydra 1.0 are older than this release of NeMo.
        return section
    module, _, name = target.rpartition(".")
    known = _arguments(getattr(importlib.import_module(module), name))
    if known is None:
        return section
    if name == "ConformerEncoder" and _CHUNKS not in known and section.get("att_context_style") == _CHUNKED_STYLE:
        section = _for_whole_files(section)
    kept = {}
    for argument, value in section.items():
        if argument in known or argument == "_target_":
            kept[argument] = value
        # An argument that is null isn't set: whatever it is for is off.
        elif value is not None and value not in _SAME_FOR_WHOLE_FILES.get((name, argument), ()):
            from nemo import __version__

            raise RefusedFileError(
                f"{excerpt(f'{path}.{argument}')} is {excerpt(value)}, which NeMo {__version__} doesn't know; choose a "
                "checkpoint that this version of NeMo can restore"
            )
    return kept


def _for_whole_files(encoder: dict[str, Any]) -> dict[str, Any]:
    """Name the attention that NeMo 3.0 uses for a whole file if the encoder was trained with and without chunks.

    It is full, whatever att_context_size says: only training and streaming read the sizes of chunks.

    Source: _calc_context_sizes and _create_masks of NeMo 3.0.0's ConformerEncoder.
    """
    kept = {argument: value for argument, value in encoder.items() if argument != _CHUNKS}
    return {**kept, "att_context_style": "regular", "att_context_size": [-1, -1]}


def _arguments(cls: type) -> set[str] | None:
    """Names of a constructor's arguments; None if it takes any."""
    parameters = inspect.signature(cls).parameters.values()
    return (
        None
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        else {p.name for p in parameters}
    )
