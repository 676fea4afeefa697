"""Kernels of onnxruntime's CUDA execution provider, by release."""

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
"""Names of types in cuda_kernels.json."""


@dataclass(frozen=True)
class Kernels:
    """The CUDA kernels of one release of onnxruntime.

    Attributes:
        release: Version of onnxruntime.
        operators: Entries of cuda_kernels.json, by operator.
    """

    release: str
    operators: Mapping[str, Any]

    def why_not(self, node: onnx.NodeProto, opset: int, types: Mapping[str, int]) -> str | None:
        """The reason why no kernel can run the node; None if one can.

        Args:
            node: The node.
            opset: Opset of the node's domain.
            types: Element type of each value.

        Raises:
            RepositoryError: Cuda_kernels.json lacks the operator.
        """
        schema = defs.get_schema(node.op_type, opset, node.domain)
        kernels = [kernel for kernel in self._entry(node)["kernels"] if self.release in kernel["releases"]]
        version = schema.since_version
        # VerifyVersion: a kernel without a last version serves only the version that it was written for.
        usable = [
            kernel
            for kernel in kernels
            if kernel["since"] == version or kernel["since"] <= version <= (kernel["until"] or 0)
        ]
        if not usable:
            return f"no kernel for version {version}" if kernels else "no kernel"
        for kernel in usable:
            unserved = _unserved_type(node, schema, kernel["types"], types)
            if unserved is None:
                return None
        return f"no kernel for {unserved}"

    def host_inputs(self, node: onnx.NodeProto) -> Sequence[int]:
        """Indices of the inputs that the kernel reads on the host."""
        return tuple(self._entry(node).get("host_inputs", ()))

    def host_outputs(self, node: onnx.NodeProto) -> Sequence[int]:
        """Indices of the outputs that the kernel writes on the host."""
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
    """A type of the node that a kernel lacks. onnxruntime checks the first value of each constraint."""
    for constraint, names in allowed.items():
        for formals, values in ((schema.inputs, node.input), (schema.outputs, node.output)):
            constrained = [
                value for formal, value in zip(formals, values, strict=False) if formal.type_str == constraint and value
            ]
            if constrained:
                name: str = TYPE_NAMES[types[constrained[0]]]
                if name not in names.split():
                    return name
                break
    return None


@cache
def _published() -> Any:
    return json.loads(KERNELS.read_text(encoding="utf-8"))


def known_releases() -> list[str]:
    """The versions of onnxruntime in cuda_kernels.json, the oldest first."""
    return list(_published()["releases"])


def read_kernels(release: str) -> Kernels:
    """Read the kernels of a version of onnxruntime, one of `known_releases`."""
    return Kernels(release, _published()["kernels"])
