"""Encoder stage: NeMo's own modules, traced with all length masks on.

NeMo's `export()` switches the masks of convolutions off and drops the lengths, so a text depends on the other
utterances in the batch. This trace keeps both.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MethodType
from typing import Any

import onnx
import torch
from nemo.collections.asr.modules import ConformerEncoder, ConvASREncoder
from nemo.collections.asr.parts.submodules.conformer_modules import (
    ConformerConvolution,
    ConformerFeedForward,
    ConformerLayer,
)
from nemo.collections.asr.parts.submodules.jasper import MaskedConv1d, SqueezeExcite
from nemo.collections.asr.parts.submodules.multi_head_attention import RelPositionalEncoding
from nemo.core.classes.common import typecheck

from export_scripts.operators.attention import sines_and_cosines
from export_scripts.operators.bucketing import in_buckets
from export_scripts.operators.builder import OPSET, Graph, Value
from export_scripts.operators.convolutions import without_convolutions
from export_scripts.operators.ragged import Padded, ragged_input
from export_scripts.operators.rotated_attention import with_rotated_attention
from export_scripts.operators.tuning import CPU, Tuning
from export_scripts.operators.weights import read_graph, with_files
from export_scripts.stages.conformer_attention import attention_of, check_attention, is_full
from export_scripts.stages.heads import Head
from nemo_triton.contract import FEATURES

Conversion = Callable[[onnx.ModelProto], onnx.ModelProto]
"""Changes the traced encoder and keeps its inputs (features, length) and outputs (scores, scores_length)."""


def unchanged(traced: onnx.ModelProto) -> onnx.ModelProto:
    """The conversion of an encoder that stays in float32."""
    return traced


@dataclass(frozen=True, kw_only=True)
class EncoderOptions:
    """Settings of an encoder stage.

    Attributes:
        mels: Number of mel bands of the input.
        frame_rate: Frames per second of the input.
        convert: Conversion of the traced encoder.
        tuning: Settings of how the stage divides its work.
        weights: Folder for the weights of a large encoder, which the stage's graph refers to; it must exist until the
            graph is written. None: the graph holds its weights in memory.
    """

    mels: int
    frame_rate: int
    convert: Conversion = unchanged
    tuning: Tuning = CPU
    weights: Path | None = None


class LengthKeepingEncoder(torch.nn.Module):
    """NeMo's encoder and the heads behind it, time-major; items may have no frames."""

    def __init__(self, encoder: torch.nn.Module, heads: Sequence[Head]) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = torch.nn.ModuleList(heads)

    def forward(self, features: torch.Tensor, length: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode a padded batch.

        An item without frames is encoded with one, since means over no frames are NaN, and its result is dropped.

        Args:
            features: float32 [B, frames, mels].
            length: int64 [B], valid frames of each item.

        Returns:
            Scores of all heads side by side, float32 [B, frames', width], and their valid frames, int64 [B].
        """
        scores, encoded_length = self.scores(features, length)
        joined = torch.cat(scores, dim=2) if len(scores) > 1 else scores[0]
        return joined, torch.where(length > 0, encoded_length.to(torch.int64), 0)

    def scores(self, features: torch.Tensor, length: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Scores of each head, float32 [B, frames', width], and the frames of items that have at least one."""
        at_least_one = length.clamp(min=1)
        encoded, encoded_length = self.encoder(audio_signal=features.transpose(1, 2), length=at_least_one)
        return [head(encoded) for head in self.heads], encoded_length


def encoder_graph(encoder: torch.nn.Module, heads: Sequence[Head], options: EncoderOptions) -> onnx.ModelProto:
    """The encoder stage: FEATURES float32 (ragged) -> the outputs of each head.

    Args:
        encoder: NeMo's encoder.
        heads: Heads of the recognizers that share it.
        options: Settings of the stage.
    """
    tuning, module = options.tuning, LengthKeepingEncoder(encoder, heads)
    traced, widths = trace(module, options.mels, tuning, options.weights)
    converted = options.convert(traced)
    if options.weights:
        converted = with_files(converted, options.weights)

    def network(bucket: Graph, batch: Padded) -> tuple[Value, Value]:
        results = bucket.append(converted, {"features": batch.values, "length": batch.length})
        return results["scores"], results["scores_length"]

    g = Graph("encoder")
    features = ragged_input(g, FEATURES, mels=options.mels)
    joined = in_buckets(g, features, network, width=sum(widths), step_rate=options.frame_rate, tuning=tuning)
    end = 0
    for head, width in zip(heads, widths, strict=True):
        start, end = end, end + width
        table = joined.table if len(heads) == 1 else joined.table[:, start:end]
        head.give(g, replace(joined, table=table, width=width))
    return g.model()


def trace(
    module: LengthKeepingEncoder, mels: int, tuning: Tuning, weights: Path | None = None
) -> tuple[onnx.ModelProto, list[int]]:
    """Trace a module as a graph for one padded batch (see Conversion).

    Args:
        module: Encoder and the heads behind it.
        mels: Number of mel bands of the input.
        tuning: Settings of how the stage divides its work.
        weights: Folder for weights, see EncoderOptions.

    Returns:
        The graph, and the width of each head's scores.
    """
    example = torch.randn(2, 120, mels), torch.tensor([120, 73])
    with (
        tempfile.TemporaryDirectory() as folder,
        torch.no_grad(),
        warnings.catch_warnings(),
        typecheck.disable_checks(),
        lengths_from_shapes(module.eval(), tuning),
    ):
        warnings.simplefilter("ignore")
        widths = [scores.shape[2] for scores in module.scores(*example)[0]]
        # PyTorch's exporter puts the weights of a graph over 2 GiB into files in its folder, where they can stay.
        file = (weights or Path(folder)) / "encoder.onnx"
        torch.onnx.export(
            module,
            example,
            str(file),
            input_names=["features", "length"],
            output_names=["scores", "scores_length"],
            dynamic_axes={
                "features": {0: "items", 1: "frames"},
                "length": {0: "items"},
                "scores": {0: "items", 1: "encoded"},
                "scores_length": {0: "items"},
            },
            opset_version=OPSET,
            dynamo=False,
        )
        traced = with_files(read_graph(file), weights) if weights else onnx.load(file)
        file.unlink()
    if not tuning.convolutions:
        traced = without_convolutions(traced)
    if tuning.rotated_attention and isinstance(module.encoder, ConformerEncoder) and is_full(module.encoder):
        size = module.encoder.d_model
        traced = with_rotated_attention(traced, width=size, scores_at_once=tuning.scores_at_once)
    return traced, widths


def check_encoder(encoder: torch.nn.Module) -> None:
    """Refuse an encoder that can't be exported.

    Raises:
        ValueError: The encoder has no length masks, or is of a kind that was never compared with NeMo.
    """
    if isinstance(encoder, ConvASREncoder):
        masked = {child.conv for child in encoder.modules() if isinstance(child, MaskedConv1d) and child.use_mask}
        if any(isinstance(child, torch.nn.Conv1d) and child not in masked for child in encoder.modules()):
            raise ValueError(
                "encoder.conv_mask is false: texts would depend on the other requests of a batch; choose a checkpoint "
                "that was trained with true"
            )
    elif isinstance(encoder, ConformerEncoder):
        check_attention(encoder)
        for layer in encoder.layers:
            if layer.conv.norm_type == "instance_norm" or layer.conv.norm_type.startswith("group_norm"):
                raise ValueError(
                    f"encoder.conv_norm_type is {layer.conv.norm_type}, which has no length mask: texts would depend "
                    "on the other requests of a batch; choose a checkpoint with batch_norm or layer_norm"
                )
    else:
        raise ValueError(
            f"the encoder is a {type(encoder).__name__}; only ConvASREncoder and ConformerEncoder can be "
            "exported; choose another checkpoint"
        )


@contextmanager
def lengths_from_shapes(module: torch.nn.Module, tuning: Tuning) -> Iterator[None]:
    """Compute masks and positions from shapes instead of reading them from NeMo's caches.

    A traced cache keeps the size that it had during the trace, and longer audio would exceed it. Conformer's attention,
    and for a GPU its convolutions and feed-forward layers, get forms that compute the same in another order.
    """
    before: list[tuple[torch.nn.Module, dict[str, Any]]] = []
    masks = _Masks()

    def mask_input(self: MaskedConv1d, x: torch.Tensor, lens: torch.Tensor) -> torch.Tensor:
        return x * masks.of(lens, x.size(2))[1]

    def make_pad_mask(
        self: SqueezeExcite, seq_lens: torch.Tensor, max_audio_length: int, device: Any = None
    ) -> torch.Tensor:
        return masks.of(seq_lens, max_audio_length)[0]

    def patch(owner: torch.nn.Module, name: str, function: Any) -> None:
        before.append((owner, dict(owner.__dict__)))
        owner.__dict__[name] = MethodType(function, owner)

    try:
        for child in module.modules():
            if isinstance(child, MaskedConv1d):
                patch(child, "mask_input", mask_input)
                patch(child, "update_masked_length", _keep)
            elif isinstance(child, SqueezeExcite):
                patch(child, "make_pad_mask", make_pad_mask)
                patch(child, "set_max_len", _keep)
            elif isinstance(child, ConvASREncoder):
                patch(child, "update_max_sequence_length", _keep)
            elif isinstance(child, ConformerEncoder):
                patch(child, "update_max_seq_length", _keep)
                patch(child, "_create_masks", _padding_masks)
                for layer in child.layers:
                    patch(layer.self_attn, "forward", attention_of(child, tuning))
            elif isinstance(child, ConformerConvolution) and not tuning.convolutions:
                patch(child, "forward", _convolution)
            elif isinstance(child, ConformerLayer) and not tuning.convolutions:
                before.append((child, dict(child.__dict__)))
                for layer in (child.feed_forward1, child.feed_forward2):
                    patch(layer, "forward", _feed_forward(child.fc_factor))
                child.fc_factor = 1
            elif isinstance(child, RelPositionalEncoding):
                patch(child, "forward", _relative_positions)
        yield
    finally:
        for owner, attributes in reversed(before):
            owner.__dict__.clear()
            owner.__dict__.update(attributes)


def _keep(self: torch.nn.Module, *args: Any, **kwargs: Any) -> None:
    """Do nothing, in place of a method that resizes a cache."""


class _Masks:
    """Masks of valid steps, shared by all layers of a time resolution: one per layer would cost more than some layers.

    Layers pass the same tensor of lengths on until one has a stride.
    """

    def __init__(self) -> None:
        self._masks: list[tuple[torch.Tensor, int, tuple[torch.Tensor, torch.Tensor]]] = []

    def of(self, lengths: torch.Tensor, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Mask of valid steps [B, 1, steps], as bool and as float32."""
        for known, known_steps, mask in self._masks:
            if known is lengths and known_steps == int(steps):
                return mask
        valid = (torch.arange(steps).unsqueeze(0) < lengths.unsqueeze(1)).unsqueeze(1)
        self._masks.append((lengths, int(steps), (valid, valid.to(torch.float32))))
        return self._masks[-1][2]


def _padding_masks(
    self: ConformerEncoder, padding_length: torch.Tensor, max_audio_length: int, **kwargs: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks of padding: bool [B, frames], and bool [B, 1, frames] for attentions, which know their context.

    NeMo's mask has frames by frames, gigabytes for a single recording of ten minutes. One row is enough: the attention
    of padding is never read.
    """
    invalid = torch.arange(max_audio_length).unsqueeze(0) >= padding_length.unsqueeze(1)
    return invalid, invalid.unsqueeze(1)


def _relative_positions(
    self: RelPositionalEncoding, x: torch.Tensor, cache_len: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Relative positions as in NeMo's table, for any number of frames."""
    if self.xscale:
        x = x * self.xscale
    frames = x.size(1)
    return x, sines_and_cosines(torch.arange(frames - 1, -frames, -1, dtype=torch.float32), self.d_model)


def _convolution(
    self: ConformerConvolution, x: torch.Tensor, pad_mask: torch.Tensor | None = None, cache: None = None
) -> torch.Tensor:
    """NeMo's ConformerConvolution.forward with the time before the channels, which saves copies without Conv nodes.

    Args:
        self: NeMo's module, which this replaces a method of.
        x: float32 [B, frames, D].
        pad_mask: bool [B, frames], true if a frame is padding.
        cache: Not used.
    """
    first, last = self.pointwise_conv1, self.pointwise_conv2
    x = torch.nn.functional.linear(x, first.weight.squeeze(2), first.bias)
    x = torch.nn.functional.glu(x, dim=2) if self.pointwise_activation == "glu_" else self.pointwise_activation(x)
    if pad_mask is not None:
        x = x.masked_fill(pad_mask.unsqueeze(2), 0.0)
    x = self.depthwise_conv(x.transpose(1, 2), cache=cache)
    x = self.batch_norm(x).transpose(1, 2) if self.norm_type != "layer_norm" else self.batch_norm(x.transpose(1, 2))
    return torch.nn.functional.linear(self.activation(x), last.weight.squeeze(2), last.bias)


def _feed_forward(factor: float) -> Callable[[ConformerFeedForward, torch.Tensor], torch.Tensor]:
    """A replacement for NeMo's ConformerFeedForward.forward whose last weight contains the layer's `fc_factor`."""

    def forward(self: ConformerFeedForward, x: torch.Tensor) -> torch.Tensor:
        last = self.linear2
        bias = None if last.bias is None else last.bias * factor
        return torch.nn.functional.linear(self.activation(self.linear1(x)), last.weight * factor, bias)

    return forward
