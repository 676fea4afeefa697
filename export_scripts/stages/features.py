"""Feature stage: samples become the normalised log-mel spectrogram that a checkpoint was trained on.

The calculation is NeMo's FilterbankFeatures (nemo/collections/asr/parts/preprocessing/features.py)
on one utterance alone, whatever company the utterance has in its batch. The windowed DFT is one
convolution: onnxruntime's STFT operator is several times slower and less exact, and has no CUDA
kernel.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto

from export_scripts.operators.bucketing import in_groups, side_by_side
from export_scripts.operators.builder import Graph, ints
from export_scripts.operators.ragged import Padded, length_output, ragged_input
from export_scripts.operators.tuning import CPU, Tuning
from export_scripts.repository.names import FEATURES

INT16_SCALE = np.float32(1 / 32768)
STANDARD_DEVIATION_GUARD = np.float32(1e-5)

Edges = Literal["reflect", "zero"]
Normalization = Literal["per_feature", "all_features", "none"]


@dataclass(frozen=True)
class FrontEnd:
    """All that decides the features of an utterance.

    window: float32 [window length], the analysis window before it is padded to n_fft
    mel: float32 [mels, n_fft // 2 + 1], the filter bank
    edges: what the first and the last window see beyond the signal: its mirror image, with
        samples // hop + 1 frames (NeMo before 2.5), or zeros, with samples // hop (since)
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
        """Frames a second."""
        return self.sample_rate // self.hop_length

    @property
    def name(self) -> str:
        """The stage's name: equal for equal settings, different for different ones."""
        digest = hashlib.sha256()
        for field in fields(self):
            value = getattr(self, field.name)
            digest.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
        milliseconds = round(1000 * len(self.window) / self.sample_rate)
        return FEATURES.format(
            mels=self.mels, milliseconds=milliseconds, edges=self.edges, digest=digest.hexdigest()[:6]
        )


def features_graph(front_end: FrontEnd, tuning: Tuning = CPU) -> onnx.ModelProto:
    """SAMPLES int16 (ragged) -> FEATURES float32 [B, frames, mels], FEATURES_LENGTH int32 [B, 1].

    FEATURES is zero beyond an item's own frames and has at least one row. No samples, or with zero
    edges fewer than a hop of them, make no frame.
    """
    g = Graph("features")
    samples = ragged_input(g, "SAMPLES", TensorProto.INT16)

    def network(group: Graph, batch: Padded) -> tuple[str, str]:
        return _features(group, batch, front_end)

    features = in_groups(g, samples, network, width=front_end.mels, step_rate=front_end.sample_rate, tuning=tuning)
    g.output("FEATURES", side_by_side(g, features), TensorProto.FLOAT, ["items", "frames", front_end.mels])
    length_output(g, "FEATURES_LENGTH", features.length)
    return g.model()


def _features(g: Graph, samples: Padded, front_end: FrontEnd) -> tuple[str, str]:
    """float32 [B, longest frames, mels], and how many of them are the item's own, int64 [B]."""
    signal = _preemphasis(g, samples, front_end)
    power = _power_spectrum(g, _with_edges(g, signal, samples.length, front_end), front_end)
    mel = g.Transpose(g.MatMul(front_end.mel, power), perm=[0, 2, 1])
    frames = g.Div(samples.length, np.array(front_end.hop_length))
    if front_end.edges == "reflect":
        heard = g.Cast(g.Greater(samples.length, np.array(0)), to=TensorProto.INT64)
        frames = g.Add(frames, heard)
    # There may be one frame more than any item has; the next mask zeroes it.
    return _normalize(g, _log(g, mel, front_end) if front_end.log else mel, frames, front_end), frames


def _preemphasis(g: Graph, samples: Padded, front_end: FrontEnd) -> str:
    """float32 [B, longest] in [-1, 1), high frequencies raised, zero beyond each item's end."""
    signal = g.Mul(samples.values, INT16_SCALE)
    if front_end.preemphasis == 0:
        return signal
    first = g.Slice(signal, ints(0), ints(1), ints(1))
    later = g.Slice(signal, ints(1), ints(np.iinfo(np.int64).max), ints(1))
    before = g.Slice(signal, ints(0), ints(-1), ints(1))
    raised = g.Sub(later, g.Mul(before, np.float32(front_end.preemphasis)))
    return g.Where(samples.valid, g.Concat(first, raised, axis=1), np.float32(0))


def _with_edges(g: Graph, signal: str, length: str, front_end: FrontEnd) -> str:
    """Half a window more at each end of every item: [B, longest + window length]."""
    before = _samples_before_frame(front_end)
    after = len(front_end.window) - before
    if front_end.edges == "zero":
        return g.Pad(signal, ints(0, before, 0, after))
    last = g.Unsqueeze(g.Max(g.Sub(length, np.array(1)), np.array(0)), ints(1))
    padded_end = g.Add(g.Squeeze(g.Shape(signal, start=1, end=2)), np.array(after))
    position = g.Unsqueeze(g.Range(np.array(-before), padded_end, np.array(1)), ints(0))
    mirrored = g.Sub(last, g.Abs(g.Sub(g.Abs(position), last)))
    return g.GatherElements(signal, g.Max(mirrored, np.array(0)), axis=1)


def _samples_before_frame(front_end: FrontEnd) -> int:
    """How far the window reaches before the sample that its frame stands at (torch.stft, center=True)."""
    return front_end.n_fft // 2 - (front_end.n_fft - len(front_end.window)) // 2


def _power_spectrum(g: Graph, signal: str, front_end: FrontEnd) -> str:
    """[B, n_fft // 2 + 1, frames] from [B, samples]."""
    bins = front_end.n_fft // 2 + 1
    start = (front_end.n_fft - len(front_end.window)) // 2
    sample = np.arange(start, start + len(front_end.window))
    angle = 2 * np.pi * np.outer(np.arange(bins), sample) / front_end.n_fft
    window = front_end.window.astype(np.float64)
    kernel = np.concatenate([np.cos(angle) * window, -np.sin(angle) * window])[:, None, :].astype(np.float32)
    spectrum = g.Conv(g.Unsqueeze(signal, ints(1)), kernel, strides=[front_end.hop_length])
    squared = g.Mul(spectrum, spectrum)
    real, imaginary = g.add("Split", [squared], 2, axis=1, num_outputs=2)
    power = g.Add(real, imaginary)
    if front_end.magnitude_power == 2:
        return power
    return g.Pow(power, np.float32(front_end.magnitude_power / 2))


def _log(g: Graph, mel: str, front_end: FrontEnd) -> str:
    guard = np.float32(front_end.log_guard_value)
    return g.Log(g.Add(mel, guard) if front_end.log_guard == "add" else g.Max(mel, guard))


def _normalize(g: Graph, features: str, length: str, front_end: FrontEnd) -> str:
    """Zero mean and unit variance over an item's own frames (NeMo's normalize_batch), zero beyond them."""
    frame = g.Range(np.array(0), g.Squeeze(g.Shape(features, start=1, end=2)), np.array(1))
    valid = g.Less(g.Unsqueeze(frame, ints(0)), g.Unsqueeze(length, ints(1)))
    mask = g.Unsqueeze(valid, ints(2))
    if front_end.normalization == "none":
        return g.Where(mask, features, np.float32(0))
    axes, values_per_frame = (ints(1), 1) if front_end.normalization == "per_feature" else (ints(1, 2), front_end.mels)
    count = g.Cast(g.Mul(g.Reshape(length, ints(-1, 1, 1)), np.array(values_per_frame)), to=TensorProto.FLOAT)
    # Taken from the first value, so that constant features (digital silence) are centred exactly:
    # their deviation is all rounding, which the guard below would blow up to the size of speech.
    origin = g.Slice(features, ints(0, 0, 0), ints(np.iinfo(np.int64).max, 1, _origins(front_end)), ints(0, 1, 2))
    own = g.Where(mask, g.Sub(features, origin), np.float32(0))
    mean = g.Div(_sum(g, own, axes), g.Max(count, np.float32(1)))
    centred = g.Where(mask, g.Sub(own, mean), np.float32(0))
    squares = _sum(g, g.Mul(centred, centred), axes)
    variance = g.Div(squares, g.Max(g.Sub(count, np.float32(1)), np.float32(1)))
    return g.Div(centred, g.Add(g.Sqrt(variance), STANDARD_DEVIATION_GUARD))


def _sum(g: Graph, values: str, axes: np.ndarray) -> str:
    """float32 of a sum in float64: how long the padding is decides the order of a sum, and so its rounding."""
    return g.Cast(g.ReduceSum(g.Cast(values, to=TensorProto.DOUBLE), axes, keepdims=1), to=TensorProto.FLOAT)


def _origins(front_end: FrontEnd) -> int:
    return front_end.mels if front_end.normalization == "per_feature" else 1
