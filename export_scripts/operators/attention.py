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
        position = positions_by_head(self, pos_emb)
        by_content, by_position = scaled_queries(self, q)
        attended = _attend(by_content, by_position, k, v, position, mask.unsqueeze(1), scores_at_once)
        projected: torch.Tensor = self.linear_out(attended.transpose(1, 2).flatten(2))
        return projected

    return forward


def scaled_queries(module: RelPositionMultiHeadAttention, query: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries with the bias for contents and with that for positions, both float32 [B, heads, frames, width].

    The queries are scaled, not the products, which have many more numbers.
    """
    scale = 1 / math.sqrt(module.d_k)
    return (query + module.pos_bias_u.unsqueeze(1)) * scale, (query + module.pos_bias_v.unsqueeze(1)) * scale


def positions_by_head(module: RelPositionMultiHeadAttention, positions: torch.Tensor) -> torch.Tensor:
    """Projected positions, float32 [1, heads, positions, width], from float32 [1, positions, D]."""
    projected: torch.Tensor = module.linear_pos(positions)
    return projected.view(1, -1, module.h, module.d_k).transpose(1, 2)


def sines_and_cosines(distances: torch.Tensor, width: int) -> torch.Tensor:
    """Rows of NeMo's table of positions (PositionalEncoding.create_pe), for any distances.

    Args:
        distances: int64 or float32 [n], of the keys from a query; the past is positive.
        width: Numbers per row.

    Returns:
        float32 [1, n, width].
    """
    rate = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * -(math.log(10000.0) / width))
    angle = distances.to(torch.float32).unsqueeze(1) * rate
    return torch.stack([torch.sin(angle), torch.cos(angle)], dim=2).flatten(1).unsqueeze(0)


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
