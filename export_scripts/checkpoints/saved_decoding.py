"""Reduce the `decoding` section of a saved config to what greedy search reads, whichever release of NeMo saved it.

NeMo 2.7.3 refuses confidence settings that it doesn't know, and a boosting tree without all of its settings, as NeMo
2.5 and 2.6 save it. The export uses neither.

Source: CTCDecodingConfig, RNNTDecodingConfig, GreedyCTCInferConfig, GreedyBatchedRNNTInferConfig, ConfidenceConfig and
BoostingTreeModelConfig of NeMo 2.5.0, 2.5.3, 2.6.0, 2.6.2, 2.7.3 and 3.0.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from export_scripts.errors import RefusedFileError, excerpt

AUX_CTC = "aux_ctc"
"""Section of a hybrid's config with the CTC head and its own `decoding`."""
GREEDY = ("greedy", "greedy_batch")
BEAM_SEARCH = ("beam", "wfst")
"""Sections that name language models. The export decodes greedily."""

_READ = {"strategy", "model_type", "durations", "big_blank_durations", "temperature", "fused_batch_size"}
_READ_OF_GREEDY = {"max_symbols", "max_symbols_per_step", "loop_labels", "use_cuda_graph_decoder", "allow_cuda_graphs"}
"""Settings by which NeMo's greedy search finds a text. They stay as they are."""

_TIMESTAMPS = {"compute_timestamps", "word_seperator", "segment_seperators", "segment_gap_threshold"}
_TIMESTAMPS |= {"ctc_timestamp_type", "rnnt_timestamp_type"}
_CONFIDENCE = {"confidence_cfg", "confidence_method_cfg", "preserve_frame_confidence", "tdt_include_token_duration"}
_CONFIDENCE |= {"tdt_include_duration_confidence"}
_DETAILS = {"preserve_alignments", "compute_hypothesis_token_set", "compute_langs", "batch_dim_index"}
_FUSION = {"ngram_lm_model", "ngram_lm_alpha", "boosting_tree", "boosting_tree_alpha", "enable_per_stream_biasing"}
_LANGUAGE_TAGS = {"strip_lang_tags", "lang_tag_pattern"}
_UNUSED = _TIMESTAMPS | _CONFIDENCE | _DETAILS | _FUSION | _LANGUAGE_TAGS
"""Settings that don't change the text, or are refused if they would: see `check_decoding`."""
_PHRASES = ("key_phrases_list", "key_phrase_items_list")


def searches_beams(config: Mapping[str, Any]) -> bool:
    """Whether a config as saved, or its section AUX_CTC, asks for another decoding than greedy."""
    decoding = config.get("decoding")
    return isinstance(decoding, dict) and decoding.get("strategy", GREEDY[0]) not in GREEDY


def check_decoding(decoding: Mapping[str, Any], path: str) -> None:
    """Refuse settings that change the text of NeMo's greedy search but not that of the export.

    Language models and lists of phrases in files are refused with all other files of a config.

    Args:
        decoding: A section `decoding`.
        path: Its path in the config.

    Raises:
        RefusedFileError: The section has such a setting.
    """
    if decoding.get("strip_lang_tags"):
        raise RefusedFileError(
            f"{path}.strip_lang_tags is {excerpt(decoding['strip_lang_tags'])}; the export doesn't remove language "
            "tags from a text: set it to false in the config"
        )
    tree = _section(_section(decoding, "greedy"), "boosting_tree")
    for name in _PHRASES:
        if tree.get(name):
            raise RefusedFileError(
                f"{path}.greedy.boosting_tree.{name} is {excerpt(tree[name])}; the export doesn't boost phrases: set "
                "it to null in the config"
            )


def greedy_decoding(decoding: Mapping[str, Any]) -> dict[str, Any]:
    """Return a `decoding` section with only what greedy search reads, and greedy search as its strategy."""
    kept = {name: value for name, value in decoding.items() if name in _READ}
    if isinstance(decoding.get("greedy"), dict):
        greedy = decoding["greedy"]
        kept["greedy"] = {name: value for name, value in greedy.items() if name in _READ_OF_GREEDY}
    if searches_beams({"decoding": decoding}):
        kept = {"greedy": {}, **kept, "strategy": "greedy_batch"}
    return kept


def unknown_settings(config: Mapping[str, Any]) -> list[str]:
    """Settings of greedy search that no release of NeMo had when this was written, and that are not off.

    They are left out, as NeMo 2.7.3 does, and may change the text of the release that saved them.

    Returns:
        Each as `decoding.name: value`.
    """
    of_all = _READ | _UNUSED | {"greedy", *BEAM_SEARCH}
    of_greedy = _READ_OF_GREEDY | _UNUSED
    unknown: list[tuple[str, Any]] = []
    for path, parent in (("decoding", config), (f"{AUX_CTC}.decoding", _section(config, AUX_CTC))):
        decoding = _section(parent, "decoding")
        greedy = _section(decoding, "greedy")
        unknown += [(f"{path}.{name}", value) for name, value in decoding.items() if name not in of_all]
        unknown += [(f"{path}.greedy.{name}", value) for name, value in greedy.items() if name not in of_greedy]
    return [f"{excerpt(name)}: {excerpt(value)}" for name, value in unknown if value]


def _section(parent: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = parent.get(name)
    return section if isinstance(section, dict) else {}
