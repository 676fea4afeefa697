"""The kernels of onnxruntime's CUDA execution provider, by release."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, defs

from benchmark.core.models import RepositoryError

KERNELS = Path(__file__).parent / "cuda_kernels.json"
TYPE_NAMES = {number: name.lower() for name, number in TensorProto.DataType.items()}
"""A type's name in cuda_kernels.json."""


@dataclass(frozen=True)
class Kernels:
    """The CUDA kernels of one release of onnxruntime, by operator.

    release: onnxruntime's version
    operators: entries of cuda_kernels.json
    """

    release: str
    operators: Mapping[str, Any]

    def why_not(self, node: onnx.NodeProto, opset: int, types: Mapping[str, int]) -> str | None:
        """Why no kernel serves the node, or None if one does.

        Args:
            node: with an operator of cuda_kernels.json
            opset: of the node's domain
            types: element type of each value

        Raises:
            RepositoryError: for an operator that cuda_kernels.json does not have.
        """
        schema = defs.get_schema(node.op_type, opset, node.domain)
        kernels = [kernel for kernel in self._entry(node)["kernels"] if self.release in kernel["releases"]]
        version = schema.since_version
        # VerifyVersion: a kernel without a last version serves the version that it was written for, and no later one.
        serving = [
            kernel
            for kernel in kernels
            if kernel["since"] == version or kernel["since"] <= version <= (kernel["until"] or 0)
        ]
        if not serving:
            return f"no kernel for version {version}" if kernels else "no kernel"
        for kernel in serving:
            unserved = _unserved_type(node, schema, kernel["types"], types)
            if unserved is None:
                return None
        return f"no kernel for {unserved}"

    def host_inputs(self, node: onnx.NodeProto) -> Sequence[int]:
        """Places of the inputs that the kernel reads on the host."""
        return tuple(self._entry(node).get("host_inputs", ()))

    def host_outputs(self, node: onnx.NodeProto) -> Sequence[int]:
        """Places of the outputs that the kernel writes on the host."""
        return tuple(self._entry(node).get("host_outputs", ()))

    def waits(self, node: onnx.NodeProto) -> bool:
        """Whether the kernel itself waits for the GPU."""
        return bool(self._entry(node).get("waits", False))

    def _entry(self, node: onnx.NodeProto) -> Any:
        name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        if name not in self.operators:
            raise RepositoryError(f"{node.name}: {KERNELS.name} lacks the operator {name}; add it")
        return self.operators[name]


def _unserved_type(
    node: onnx.NodeProto, schema: defs.OpSchema, allowed: Mapping[str, str], types: Mapping[str, int]
) -> str | None:
    """A type of the node's that a kernel does not have; onnxruntime looks at the first value of each constraint."""
    for constraint, names in allowed.items():
        for formals, values in ((schema.inputs, node.input), (schema.outputs, node.output)):
            given = [
                value for formal, value in zip(formals, values, strict=False) if formal.type_str == constraint and value
            ]
            if given:
                name: str = TYPE_NAMES[types[given[0]]]
                if name not in names.split():
                    return name
                break
    return None


@cache
def _published() -> Any:
    return json.loads(KERNELS.read_text(encoding="utf-8"))


def known_releases() -> list[str]:
    """The versions of onnxruntime that cuda_kernels.json has, the oldest first."""
    return list(_published()["releases"])


def read_kernels(release: str) -> Kernels:
    """The kernels of a version of onnxruntime, one of `known_releases`."""
    return Kernels(release, _published()["kernels"])
