"""Feature stage: from samples to the normalized log-mel spectrogram that a checkpoint was trained on.

The result is that of NeMo's FilterbankFeatures for an unbatched utterance, whatever else is in the batch. The windowed
DFT is a convolution, or a matrix product on a GPU: onnxruntime's STFT operator is several times slower, less exact, and
has no CUDA kernel.

Source: nemo/collections/asr/parts/preprocessing/features.py.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
import onnx

from export_scripts.operators.bucketing import in_buckets, side_by_side
from export_scripts.operators.builder import Graph, Value, ints
from export_scripts.operators.ragged import Padded, give_length, ragged_input
from export_scripts.operators.tuning import CPU, Target, Tuning
from nemo_triton.contract import (
    FEATURES,
    FEATURES_STAGE,
    INT16_AUDIO,
    INT16_FULL_SCALE,
    TARGET_SUFFIXES,
    AudioFormat,
)

STANDARD_DEVIATION_GUARD = np.float32(1e-5)

Edges = Literal["reflect", "zero"]
Normalization = Literal["per_feature", "all_features", "none"]


@dataclass(frozen=True, kw_only=True)
class FrontEnd:
    """All settings that decide the features of an utterance.

    Attributes:
        sample_rate: Samples per second.
        n_fft: Length of the DFT, in samples.
        hop_length: Samples per frame.
        window: float32 [window length], the analysis window before it is padded to n_fft.
        mel: float32 [mels, n_fft // 2 + 1], the filter bank.
        preemphasis: Factor of the previous sample; 0 for no pre-emphasis.
        magnitude_power: 2 for the power spectrum, 1 for magnitudes.
        log: Whether to take logarithms.
        log_guard: Way to avoid log(0): "add" or "clamp", with `log_guard_value`.
        log_guard_value: Value that is added or clamped to.
        normalization: Whether features are normalized over each mel band, over all of them, or not at all.
        edges: Signal that the first and last windows read beyond the ends: "reflect" is its mirror image, with samples
            // hop + 1 frames (NeMo before 2.5), and "zero" is silence, with samples // hop frames (2.5 and later).
    """

    sample_rate: int
    n_fft: int
    hop_length: int
    window: np.ndarray
    mel: np.ndarray
    preemphasis: float
    magnitude_power: float
    log: bool
    log_guard: Literal["add", "clamp"]
    log_guard_value: float
    normalization: Normalization
    edges: Edges

    @property
    def mels(self) -> int:
        return int(self.mel.shape[0])

    @property
    def frame_rate(self) -> int:
        """Frames per second."""
        return self.sample_rate // self.hop_length

    @property
    def name(self) -> str:
        """Name of its stage for a CPU: the same for the same settings, different for others."""
        digest = hashlib.sha256()
        for field in fields(self):
            value = getattr(self, field.name)
            digest.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
        milliseconds = round(1000 * len(self.window) / self.sample_rate)
        return FEATURES_STAGE.format(
            mels=self.mels, milliseconds=milliseconds, edges=self.edges, digest=digest.hexdigest()[:6]
        )

    def stage_name(self, target: Target, audio_format: AudioFormat = INT16_AUDIO) -> str:
        """Name of its stage for a target and a type of samples."""
        return self.name + TARGET_SUFFIXES[target] + audio_format.suffix


def features_graph(
    front_end: FrontEnd, tuning: Tuning = CPU, audio_format: AudioFormat = INT16_AUDIO
) -> onnx.ModelProto:
    """SAMPLES (ragged) -> FEATURES float32 [B, frames, mels], FEATURES_LENGTH int32 [B, 1].

    FEATURES has at least one row and is zero beyond an item's frames. An item without samples has no frame, and with
    edges "zero" an item shorter than a hop has none either.
    """
    g = Graph("features")
    samples = ragged_input(g, audio_format.samples)
    scale = 1 / INT16_FULL_SCALE if audio_format is INT16_AUDIO else 1.0

    def network(bucket: Graph, batch: Padded) -> tuple[Value, Value]:
        # No multiplication by 1: it would be a pass over all samples.
        signal = batch if scale == 1 else replace(batch, values=batch.values * np.float32(scale))
        return _features(bucket, signal, front_end, tuning)

    features = in_buckets(g, samples, network, width=front_end.mels, step_rate=front_end.sample_rate, tuning=tuning)
    g.give(FEATURES, side_by_side(g, features), mels=front_end.mels)
    give_length(g, FEATURES, features.length)
    return g.model()


def _features(g: Graph, samples: Padded, front_end: FrontEnd, tuning: Tuning) -> tuple[Value, Value]:
    """Features float32 [B, longest, mels] of samples with a full scale of 1, and the frames of each item, int64 [B]."""
    signal = _preemphasis(g, samples, front_end)
    signal = _with_edges(g, signal, samples.length, front_end)
    mel = (_mel_by_conv if tuning.convolutions else _mel_by_product)(g, signal, front_end)
    frames = samples.length // front_end.hop_length
    if front_end.edges == "reflect":
        frames = frames + (samples.length > 0).astype(np.int64)
    # There may be frames too many; the mask of `_normalize` zeroes them.
    return _normalize(g, _log(g, mel, front_end) if front_end.log else mel, frames, front_end), frames


def _preemphasis(g: Graph, samples: Padded, front_end: FrontEnd) -> Value:
    """Signal float32 [B, longest] with pre-emphasis, zero beyond each item's end."""
    signal = samples.values
    if front_end.preemphasis == 0:
        return signal
    first = signal[:, :1]
    raised = signal[:, 1:] - front_end.preemphasis * signal[:, :-1]
    return g.Where(samples.valid, g.Concat(first, raised, axis=1), 0.0)


def _with_edges(g: Graph, signal: Value, length: Value, front_end: FrontEnd) -> Value:
    """Add half a window at each end of every item: [B, longest + window length]."""
    before = _samples_before_frame(front_end)
    after = len(front_end.window) - before
    if front_end.edges == "zero":
        return signal.pad((0, 0), (before, after))
    last = g.Max(length - 1, 0)[:, None]
    end = signal.size(1).squeeze() + after
    position = g.Range(-before, end, 1)[None, :]
    mirrored = last - abs(abs(position) - last)
    return g.GatherElements(signal, g.Max(mirrored, 0), axis=1)


def _samples_before_frame(front_end: FrontEnd) -> int:
    """Samples of the window before the frame's position (torch.stft, center=True)."""
    return front_end.n_fft // 2 - (front_end.n_fft - len(front_end.window)) // 2


def _mel_by_conv(g: Graph, signal: Value, front_end: FrontEnd) -> Value:
    """Mel spectrum [B, frames, mels] of a signal [B, samples]."""
    dft = _dft(front_end).T[:, None]
    spectrum = g.Conv(signal[:, None], np.ascontiguousarray(dft), strides=[front_end.hop_length])
    mel: Value = front_end.mel @ _power(g, spectrum, front_end, axis=1)
    return mel.transpose(0, 2, 1)


def _mel_by_product(g: Graph, signal: Value, front_end: FrontEnd) -> Value:
    """The same without a Conv, which cuDNN would plan again for each new number of samples.

    The signal is cut into hops. A window reads a few whole hops, beyond its own length times zero.
    """
    hop = front_end.hop_length
    window = math.ceil(len(front_end.window) / hop)
    samples = signal.size(1)
    hops = (samples + (hop - 1)) // ints(hop)
    missing = g.Concat(ints(0, 0, 0), hops * ints(hop) - samples, axis=0)
    cut = g.Pad(signal, missing).reshape(0, -1, hop)
    frames = hops - (window - 1)
    windows = g.Concat(*(g.Slice(cut, ints(first), frames + first, ints(1)) for first in range(window)), axis=2)
    dft = np.pad(_dft(front_end), ((0, window * hop - len(front_end.window)), (0, 0)))
    mel: Value = _power(g, windows @ dft, front_end, axis=2) @ np.ascontiguousarray(front_end.mel.T)
    return mel


def _dft(front_end: FrontEnd) -> np.ndarray:
    """The windowed DFT, float32 [window length, 2 * bins]: real parts, then imaginary parts."""
    bins = front_end.n_fft // 2 + 1
    start = (front_end.n_fft - len(front_end.window)) // 2
    sample = np.arange(start, start + len(front_end.window))
    angle = 2 * np.pi * np.outer(sample, np.arange(bins)) / front_end.n_fft
    window = front_end.window.astype(np.float64)[:, None]
    return np.concatenate([np.cos(angle) * window, -np.sin(angle) * window], axis=1).astype(np.float32)


def _power(g: Graph, spectrum: Value, front_end: FrontEnd, axis: int) -> Value:
    """Power, or magnitude, of a spectrum with real and imaginary parts along `axis`."""
    real, imaginary = g.add("Split", [spectrum * spectrum], 2, axis=axis, num_outputs=2)
    power = real + imaginary
    return power if front_end.magnitude_power == 2 else power ** (front_end.magnitude_power / 2)


def _log(g: Graph, mel: Value, front_end: FrontEnd) -> Value:
    guard = front_end.log_guard_value
    return g.Log(mel + guard if front_end.log_guard == "add" else g.Max(mel, guard))


def _normalize(g: Graph, features: Value, length: Value, front_end: FrontEnd) -> Value:
    """Zero mean and unit variance over each item's frames, as in NeMo's normalize_batch; padding is zero."""
    frame = g.arange(features.size(1).squeeze())
    mask = (frame[None, :] < length[:, None])[:, :, None]
    if front_end.normalization == "none":
        return g.Where(mask, features, 0.0)
    per_feature = front_end.normalization == "per_feature"
    axes, values_per_frame = ((1,), 1) if per_feature else ((1, 2), front_end.mels)
    count = (length.reshape(-1, 1, 1) * values_per_frame).astype(np.float32)
    # Subtract the first value first, so that constant features (digital silence) become exactly zero. Their deviation
    # is pure rounding, which the division below would amplify to the size of speech.
    origin = features[:, :1, : front_end.mels if per_feature else 1]
    shifted = g.Where(mask, features - origin, 0.0)
    mean = _sum(shifted, axes) / g.Max(count, 1.0)
    centred = g.Where(mask, shifted - mean, 0.0)
    variance = _sum(centred * centred, axes) / g.Max(count - 1.0, 1.0)
    return centred / (g.Sqrt(variance) + STANDARD_DEVIATION_GUARD)


def _sum(values: Value, axes: tuple[int, ...]) -> Value:
    """Sum in float64, as float32: the length of the padding changes a sum's order, and so its rounding."""
    return values.astype(np.float64).sum(*axes, keepdims=True).astype(np.float32)
