"""Schemas of onnxruntime's own operators that exported graphs have, for onnx's type inference."""

from __future__ import annotations

from typing import Any

from onnx import defs, helper
from onnx.defs import OpSchema

from export_scripts.operators.builder import CONTRIB, OTHER_OPSETS

ROTARY = "RotaryEmbedding"


def register() -> None:
    """Register the schemas with onnx, once per process.

    Source: onnxruntime, docs/ContribOperators.md.
    """
    if not defs.has(ROTARY, CONTRIB):
        defs.register_schema(_rotary_embedding())


def _rotary_embedding() -> OpSchema:
    inputs = [("input", "T"), ("position_ids", "M"), ("cos_cache", "T"), ("sin_cache", "T")]
    schema = OpSchema(
        ROTARY,
        CONTRIB,
        OTHER_OPSETS[CONTRIB],
        inputs=[OpSchema.FormalParameter(name, kind) for name, kind in inputs],
        outputs=[OpSchema.FormalParameter("output", "T")],
        type_constraints=[
            ("T", ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"], ""),
            ("M", ["tensor(int64)"], ""),
        ],
        attributes=[
            OpSchema.Attribute(name, helper.make_attribute(name, 0))
            for name in ("interleaved", "num_heads", "rotary_embedding_dim")
        ],
    )
    schema.set_type_and_shape_inference_function(_as_first_input)
    return schema


def _as_first_input(context: Any) -> None:
    context.set_output_type(0, context.get_input_type(0))
