"""Errors inside a graph."""

from __future__ import annotations

import numpy as np

from export_scripts.operators.builder import Graph, Value, ints


def refuse_if(g: Graph, refused: Value, message: str) -> Value:
    """Zero, int64, of the shape of `refused`, or an onnxruntime error that quotes the message.

    ONNX has no operator that raises an error. On a CPU, a look-up beyond the end of a table fails, and the error has
    the node's name. On a GPU it returns anything.

    Args:
        g: Graph of a stage that runs on the CPU. A later node must read the result: onnxruntime drops nodes that
            nothing needs.
        refused: bool; any true value fails the run.
        message: Name of the failing node.
    """
    zero = g.Gather(ints(0), refused.astype(np.int64), axis=0)
    g.nodes[-1].name = message
    return zero
