"""NeMo's relative-position attention in blocks, so that memory doesn't grow with the square of the length."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from nemo.collections.asr.parts.submodules.multi_head_attention import RelPositionMultiHeadAttention


def attention(scores_at_once: int) -> Callable[..., torch.Tensor]:
    """A replacement for NeMo's RelPositionMultiHeadAttention.forward that computes blocks of queries.

    Args:
        scores_at_once: Number of attention scores in memory at a time, see Tuning.

    Source: Dai et al. 2019, "Transformer-XL", section 3.3.
    """

    def forward(
        self: RelPositionMultiHeadAttention,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor,
        pos_emb: torch.Tensor,
        cache: None = None,
    ) -> torch.Tensor:
        """Attend to all frames.

        Args:
            self: NeMo's attention, which this replaces a method of.
            query: float32 [B, frames, D].
            key: float32 [B, frames, D].
            value: float32 [B, frames, D].
            mask: bool [B, 1, frames], true if a frame is padding.
            pos_emb: float32 [1, 2 * frames - 1, D], from the farthest past to the farthest future.
            cache: Not used.
        """
        q, k, v = self.forward_qkv(query, key, value)
        position = self.linear_pos(pos_emb).view(1, -1, self.h, self.d_k).transpose(1, 2)
        # Scale the queries, not the products, which have many more numbers.
        scale = 1 / math.sqrt(self.d_k)
        by_content = (q + self.pos_bias_u.unsqueeze(1)) * scale
        by_position = (q + self.pos_bias_v.unsqueeze(1)) * scale
        attended = _attend(by_content, by_position, k, v, position, mask.unsqueeze(1), scores_at_once)
        projected: torch.Tensor = self.linear_out(attended.transpose(1, 2).flatten(2))
        return projected

    return forward


@torch.jit.script
def _attend(
    by_content: torch.Tensor,
    by_position: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    position: torch.Tensor,
    mask: torch.Tensor,
    scores_at_once: int,
) -> torch.Tensor:
    """Attention of all queries, block by block; each block sees all keys.

    Scripted, so that the loop becomes a Loop in the graph.

    Args:
        by_content: float32 [B, heads, frames, width], queries with the content bias, scaled.
        by_position: float32 [B, heads, frames, width], queries with the position bias, scaled.
        key: float32 [B, heads, frames, width].
        value: float32 [B, heads, frames, width].
        position: float32 [1, heads, 2 * frames - 1, width].
        mask: bool [B, 1, 1, frames], true if a frame is padding.
        scores_at_once: Number of attention scores in memory at a time, see Tuning.

    Returns:
        float32 [B, heads, frames, width].
    """
    items, heads, frames = key.size(0), key.size(1), key.size(2)
    block = max(1, min(frames, scores_at_once // (items * heads * 2 * frames)))
    keys, attended = key.transpose(2, 3), by_content[:, :, :0]
    positions = position.transpose(2, 3)
    for index in range((frames + block - 1) // block):
        # Read the sizes again: values from outside an ONNX loop are on the GPU, and the host would wait for them.
        items, heads, frames = value.size(0), value.size(1), value.size(2)
        block = max(1, min(frames, scores_at_once // (items * heads * 2 * frames)))
        start = index * block
        stop = min(frames, start + block)
        rows = stop - start
        # Query i and key j have the relative position frames - 1 - i + j: NeMo's rel_shift, for these rows.
        near = positions[:, :, :, frames - stop : 2 * frames - 1 - start]
        skewed = torch.nn.functional.pad(by_position[:, :, start:stop].matmul(near), [1, 0])
        skewed = skewed.reshape(items, heads, frames + rows, rows)[:, :, 1:]
        bias = skewed.reshape(items, heads, rows, frames + rows - 1)[:, :, :, :frames]
        scores = by_content[:, :, start:stop].matmul(keys) + bias
        weights = scores.masked_fill(mask, -10000.0).softmax(dim=3)
        attended = torch.cat([attended, weights.matmul(value)], dim=2)
    return attended
