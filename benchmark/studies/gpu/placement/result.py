"""Placement of a graph: where nodes run, and which values are copied."""

from __future__ import annotations

from dataclasses import dataclass, field

PER_BATCH, PER_BUCKET, PER_BLOCK = "batch", "bucket", "block"


@dataclass(frozen=True)
class PlacedNode:
    """A node and where it runs.

    Attributes:
        name: The node.
        operator: Operator of the node.
        per: Frequency of the node, such as PER_BUCKET.
        on_cpu: Whether it runs on the CPU.
        why: Reason why it runs on the CPU; else empty.
        shapes: Whether it runs on the CPU because it calculates only with shapes.
    """

    name: str
    operator: str
    per: str
    on_cpu: bool
    why: str = ""
    shapes: bool = False


@dataclass(frozen=True)
class Copy:
    """A copy of a value between host and device.

    Attributes:
        value: The value.
        to_host: Whether it is copied to the host, which waits for the GPU.
        per: Frequency of the copy, such as PER_BUCKET.
        name: Name of the node that needs it, or of the Loop that reads it.
        operator: Operator of that node.
        at_edge: Whether it is copied where the body of a Loop or If begins or ends, not by a Memcpy node.
    """

    value: str
    to_host: bool
    per: str
    name: str
    operator: str
    at_edge: bool = False


@dataclass
class Placement:
    """Placement of a graph on a GPU.

    Attributes:
        nodes: Nodes that remain after onnxruntime has folded, merged and dropped others.
        copies: Copies inside the graph; its inputs and outputs are not counted.
        refusals: Reasons why onnxruntime can't load the graph; empty if it can.
    """

    nodes: list[PlacedNode] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def count(self, to_host: bool, per: str) -> int:
        """Number of copies in one direction each time."""
        return sum(copy.to_host == to_host and copy.per == per for copy in self.copies)

    def frequencies(self) -> list[str]:
        """How often nodes run (PER_BATCH, ...), outermost first."""
        return list(dict.fromkeys(node.per for node in self.nodes))
