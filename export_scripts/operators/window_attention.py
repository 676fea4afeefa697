"""NeMo's relative-position attention with a limited context, in chunks of queries that read only the keys near them.

It replaces two attentions of NeMo, which compute the same for equal sides: `rel_pos_local_attn` (Longformer), and
`rel_pos` with an `att_context_size`. Work and memory grow with the length of the audio, not with its square.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from nemo.collections.asr.parts.submodules.multi_head_attention import (
    RelPositionMultiHeadAttention,
    RelPositionMultiHeadAttentionLongformer,
)

from export_scripts.operators.attention import positions_by_head, scaled_queries, sines_and_cosines

UNLIMITED = 1 << 40
"""A context longer than any audio."""


def window_attention(*, left: int, right: int, scores_at_once: int) -> Callable[..., torch.Tensor]:
    """A replacement for the forward method of NeMo's RelPositionMultiHeadAttention and its Longformer.

    Args:
        left: Frames before a frame that it attends to.
        right: Frames after a frame that it attends to.
        scores_at_once: Number of attention scores in memory at a time, see Tuning.

    Source: Dai et al. 2019, "Transformer-XL", section 3.3; Beltagy et al. 2020, "Longformer".
    """
    longest = max(left, right)
    is_limited = longest < UNLIMITED
    # A query computes scores for its whole chunk's window, and a window's keys are copied: this balances the costs.
    largest_chunk = max(32, (left + right) // 4) if is_limited else 128
    # With a limited context, chunks and windows begin at the same frames in audio of any length, so that sums are
    # rounded alike in every batch: int8 could turn another rounding into another text. Only a batch whose scores would
    # exceed `scores_at_once` has smaller chunks, and an unlimited past makes windows as long as the longest item.
    shortest_past = left if is_limited else 0

    def forward(
        self: RelPositionMultiHeadAttention,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        pos_emb: torch.Tensor,
        mask: torch.Tensor | None = None,
        pad_mask: torch.Tensor | None = None,
        cache: None = None,
    ) -> torch.Tensor:
        """Attend to the frames of the context.

        Args:
            self: NeMo's attention, which this replaces a method of.
            query: float32 [B, frames, D].
            key: float32 [B, frames, D].
            value: float32 [B, frames, D].
            pos_emb: float32 [1, positions, D], from the farthest past to the farthest future.
            mask: bool [B, 1, frames], true if a frame is padding; of `rel_pos`.
            pad_mask: bool [B, frames], the same; of `rel_pos_local_attn`.
            cache: Not used.
        """
        if isinstance(self, RelPositionMultiHeadAttentionLongformer):
            pos_emb = _as_placed_by_nemo(pos_emb, left=left, right=right)
        elif is_limited:
            pos_emb = sines_and_cosines(torch.arange(longest, -longest - 1, -1), pos_emb.size(2))
        padding = pad_mask if mask is None else mask.squeeze(1)
        q, k, v = self.forward_qkv(query, key, value)
        position = positions_by_head(self, _near(pos_emb, query, left, right, shortest_past))
        by_content, by_position = scaled_queries(self, q)
        limits = (left, right, shortest_past, largest_chunk, scores_at_once)
        attended = _attend(by_content, by_position, k, v, position, padding, *limits)
        projected: torch.Tensor = self.linear_out(attended.transpose(1, 2).flatten(2))
        return projected

    return forward


def _as_placed_by_nemo(positions: torch.Tensor, *, left: int, right: int) -> torch.Tensor:
    """Positions [1, 2 * longer side + 1, D] with the present frame in the middle, from [1, left + 1 + right, D].

    NeMo adds the past's products at the begin and the others at the end of the longer side's window. With unequal sides
    those of the shorter side are too far away: some frames get another frame's position, and some none. The model was
    trained that way.
    """
    gap = 2 * max(left, right) - left - right
    return torch.cat([positions[:, :left], torch.zeros(1, gap, positions.size(2)), positions[:, left:]], dim=1)


@torch.jit.script
def _sides(frames: int, left: int, right: int, shortest_past: int) -> tuple[int, int]:
    """Frames before and after a chunk that are in its window."""
    return min(left, max(frames - 1, shortest_past)), min(right, frames - 1)


@torch.jit.script
def _near(positions: torch.Tensor, x: torch.Tensor, left: int, right: int, shortest_past: int) -> torch.Tensor:
    """Positions of a window, float32 [1, before + 1 + after, D].

    Args:
        positions: float32 [1, odd, D], with the present frame in the middle.
        x: float32 [B, frames, D].
        left: Frames of context before a frame.
        right: Frames of context after a frame.
        shortest_past: Least number of positions before the present one.
    """
    middle = positions.size(1) // 2
    before, after = _sides(x.size(1), left, right, shortest_past)
    return positions[:, middle - before : middle + after + 1]


@torch.jit.script
def _chunks(
    key: torch.Tensor, left: int, right: int, shortest_past: int, largest_chunk: int, scores_at_once: int
) -> tuple[int, int]:
    """Queries in a chunk, and chunks to compute at a time.

    Besides the scores, keys and values are copied for each window. A single query may have more scores than allowed.
    """
    items, heads, frames, width = key.size(0), key.size(1), key.size(2), key.size(3)
    before, after = _sides(frames, left, right, shortest_past)
    longest = min(frames, largest_chunk)
    keys = items * heads * (before + longest + after)
    chunk = max(1, min(longest, scores_at_once // keys))
    return chunk, max(1, scores_at_once // (keys * (chunk + 2 * width)))


@torch.jit.script
def _attend(
    by_content: torch.Tensor,
    by_position: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    position: torch.Tensor,
    padding: torch.Tensor,
    left: int,
    right: int,
    shortest_past: int,
    largest_chunk: int,
    scores_at_once: int,
) -> torch.Tensor:
    """Attention of all queries, some chunks at a time; a chunk sees the frames from `left` before to `right` after it.

    Scripted, so that the loop becomes a Loop in the graph.

    Args:
        by_content: float32 [B, heads, frames, width], queries with the content bias, scaled.
        by_position: float32 [B, heads, frames, width], queries with the position bias, scaled.
        key: float32 [B, heads, frames, width].
        value: float32 [B, heads, frames, width].
        position: float32 [1, heads, near, width], see `_near`.
        padding: bool [B, frames], true if a frame is padding.
        left: Frames of context before a frame.
        right: Frames of context after a frame.
        shortest_past: Least number of frames before a chunk that are in its window.
        largest_chunk: Most queries in a chunk.
        scores_at_once: Number of attention scores in memory at a time, see Tuning.

    Returns:
        float32 [B, heads, frames, width].
    """
    chunk, chunks = _chunks(key, left, right, shortest_past, largest_chunk, scores_at_once)
    frames = key.size(2)
    positions = position.unsqueeze(2).transpose(3, 4)
    attended = by_content[:, :, :0]
    for index in range((frames + chunk * chunks - 1) // (chunk * chunks)):
        # Read the sizes again: values from outside an ONNX loop are on the GPU, and the host would wait for them.
        items, heads, frames, width = value.size(0), value.size(1), value.size(2), value.size(3)
        chunk, chunks = _chunks(value, left, right, shortest_past, largest_chunk, scores_at_once)
        before, after = _sides(frames, left, right, shortest_past)
        window = before + chunk + after
        first = index * chunk * chunks
        count = min(chunks, (frames - first + chunk - 1) // chunk)
        # The last chunk and the windows at both ends reach beyond the audio: there, read the nearest frame and mask it.
        starts = first + chunk * torch.arange(count)
        rows = (starts.unsqueeze(1) + torch.arange(chunk)).flatten().clamp(max=frames - 1)
        near = (starts.unsqueeze(1) - before + torch.arange(window)).flatten()
        read = near.clamp(min=0, max=frames - 1)
        masked = padding.index_select(1, read) | (near != read).unsqueeze(0)
        masked = masked.reshape(items, 1, count, 1, window)
        keys = key.index_select(2, read).reshape(items, heads, count, window, width)
        values = value.index_select(2, read).reshape(items, heads, count, window, width)
        content = by_content.index_select(2, rows).reshape(items, heads, count, chunk, width)
        queries = by_position.index_select(2, rows).reshape(items, heads, count, chunk, width)
        # Row i begins i columns later, as its context does. What it doesn't reach has a score of -10000, as in NeMo.
        bias = torch.nn.functional.pad(queries.matmul(positions), [0, chunk], value=-10000.0)
        bias = bias.reshape(items, heads, count, chunk * (window + 1))[:, :, :, : chunk * window]
        scores = content.matmul(keys.transpose(3, 4)) + bias.reshape(items, heads, count, chunk, window)
        weights = scores.masked_fill(masked, -10000.0).softmax(dim=4)
        result = weights.matmul(values).reshape(items, heads, count * chunk, width)
        attended = torch.cat([attended, result], dim=2)
    return attended[:, :, : by_content.size(2)]
