"""Which attention a Conformer is exported with: in full, or with a limited context."""

from __future__ import annotations

from collections.abc import Callable

import torch
from nemo.collections.asr.modules import ConformerEncoder

from export_scripts.operators.attention import attention
from export_scripts.operators.rotated_attention import placeholder
from export_scripts.operators.tuning import Tuning
from export_scripts.operators.window_attention import UNLIMITED, window_attention

LOCAL = "rel_pos_local_attn"
FULL = "rel_pos"

_UNLIMITED_CONTEXTS = ([[-1, -1]], [[-1, -1, -1]])
"""Contexts that limit nothing. The second has the style chunked_limited_with_rc of NeMo 3.0 for whole files."""


def check_attention(encoder: ConformerEncoder) -> None:
    """Refuse an attention that can't be exported.

    Raises:
        ValueError: It has no relative positions, has global tokens, or is that of a streaming model.
    """
    model, contexts = encoder.self_attention_model, [list(context) for context in encoder.att_context_size_all]
    if model not in (FULL, LOCAL):
        raise ValueError(
            f"encoder.self_attention_model is {model}; only {FULL} and {LOCAL} can be exported; "
            "choose a checkpoint with one of them"
        )
    context = contexts[0] if len(contexts) == 1 else contexts
    if len(contexts) > 1 or (encoder.att_context_style != "regular" and contexts not in _UNLIMITED_CONTEXTS):
        raise ValueError(
            f"encoder.att_context_size is {context}, with att_context_style {encoder.att_context_style}, as in "
            "streaming models; only a single context of the style regular can be exported; choose an offline checkpoint"
        )
    if model == LOCAL and encoder.global_tokens:
        raise ValueError(
            f"encoder.global_tokens is {encoder.global_tokens}; only 0 can be exported; choose a checkpoint without "
            "global tokens"
        )
    if model == LOCAL and (min(contexts[0]) < 0 or max(contexts[0]) < 2):
        raise ValueError(
            f"encoder.att_context_size is {context}, which NeMo can't compute with {LOCAL}; set it to 0 or more, and "
            "to 2 or more on one side"
        )


def is_full(encoder: ConformerEncoder) -> bool:
    """Whether each frame attends to all others."""
    return bool(encoder.self_attention_model == FULL and max(encoder.att_context_size) < 0)


def attention_of(encoder: ConformerEncoder, tuning: Tuning) -> Callable[..., torch.Tensor]:
    """The replacement for the forward method of an encoder's attentions."""
    if is_full(encoder):
        return placeholder if tuning.rotated_attention else attention(tuning.scores_at_once)
    left, right = (UNLIMITED if side < 0 else side for side in encoder.att_context_size)
    return window_attention(left=left, right=right, scores_at_once=tuning.scores_at_once)
