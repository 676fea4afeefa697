"""Variants of a recognizer with other batching methods, for benchmark.studies.variants.write_variant."""

from __future__ import annotations

import os

import onnx

from benchmark.studies.dense import dense
from benchmark.studies.variants import Step, each_step
from export_scripts.repository.config import THREADS_PARAMETER
from nemo_triton.contract import Part


def _without_batcher(step: Step) -> None:
    step.config.ClearField("dynamic_batching")


def _encoder_per_core(step: Step) -> None:
    if step.config.name.endswith(Part.ENCODER.value):
        step.config.instance_group[0].count = len(os.sched_getaffinity(0))
        step.config.parameters[THREADS_PARAMETER].string_value = "1"


def _equal_shapes_only(step: Step) -> None:
    step.config.ClearField("batch_input")
    for tensor in step.config.input:
        tensor.allow_ragged_batch = False
    step.graph = dense(onnx.load(step.graph_file))


without_batcher = each_step(_without_batcher)
"""No batching: every request runs unbatched."""
encoder_per_core = each_step(_encoder_per_core)
"""One encoder per core, with one thread each, as export.py's --encoders and --encoder-threads=1 write it."""
equal_shapes_only = each_step(_equal_shapes_only)
"""No ragged inputs: Triton batches only requests of equal shape, so clients have to pad."""
