"""Shapes of values in a model, by ONNX's shape inference."""

from __future__ import annotations

import onnx
from onnx import helper


def widths(model: onnx.ModelProto) -> dict[str, int]:
    """Return the size of the last axis of each value for which it is known."""
    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    light.graph.name = "shapes"
    light.graph.node.extend(model.graph.node)
    light.graph.output.extend(model.graph.output)
    light.graph.input.extend(model.graph.input)
    # Declare weights as inputs: onnx takes at most 2 GiB, and shapes only depend on small constants.
    for tensor in model.graph.initializer:
        if len(tensor.dims) > 1:
            light.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        else:
            light.graph.initializer.append(tensor)
    inferred = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
    dims = {value.name: value.type.tensor_type.shape.dim for value in (*inferred.input, *inferred.value_info)}
    return {name: dim[-1].dim_value for name, dim in dims.items() if dim and dim[-1].dim_value}
