"""Convert a traced encoder to the precision of an export."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
import onnxruntime as ort

from export_scripts.precision.choice import Precision
from export_scripts.precision.fp16 import to_fp16
from export_scripts.precision.int8 import Batch, to_int8
from export_scripts.stages.encoder import Conversion, unchanged
from export_scripts.stages.features import FrontEnd, features_graph
from nemo_triton.audio import as_float
from nemo_triton.contract import FEATURES, FLOAT_AUDIO, SAMPLES

RECORDINGS_AT_ONCE = 4


def conversion(precision: Precision, front_end: FrontEnd) -> Conversion:
    """The conversion of the traced encoder, before it is put into the loop over length buckets."""
    if precision.name == "fp16":
        return to_fp16
    if precision.name == "int8":
        return lambda traced: to_int8(traced, padded_features(front_end, precision.calibration.signals))
    return unchanged


def padded_features(front_end: FrontEnd, recordings: Sequence[np.ndarray]) -> Iterator[Batch]:
    """Features of recordings in padded batches of similar length, as the encoder gets them.

    Args:
        front_end: Front end of the checkpoint.
        recordings: int16 or float32 [samples] each, 16 kHz.
    """
    session = _open(features_graph(front_end, audio_format=FLOAT_AUDIO))
    by_length = sorted(recordings, key=len)
    for start in range(0, len(by_length), RECORDINGS_AT_ONCE):
        batch = [as_float(samples) for samples in by_length[start : start + RECORDINGS_AT_ONCE]]
        shapes = np.array([[len(samples)] for samples in batch], np.int32)
        feeds = {SAMPLES.name: np.concatenate(batch), SAMPLES.shape.name: shapes, SAMPLES.length.name: shapes}
        features, length = session.run([FEATURES.name, FEATURES.length.name], feeds)
        yield {"features": features, "length": length[:, 0].astype(np.int64)}


def _open(graph: onnx.ModelProto) -> ort.InferenceSession:
    return ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
