"""Where nodes run and which values are copied."""

from __future__ import annotations

from dataclasses import dataclass, field

PER_BATCH, PER_BUCKET, PER_BLOCK = "batch", "bucket", "block"


@dataclass(frozen=True)
class PlacedNode:
    """A node and where it runs.

    per: how often it runs, such as PER_BUCKET
    why: the reason if it runs on the CPU, else empty
    shapes: whether it only calculates with shapes, on the CPU because they are there
    """

    name: str
    operator: str
    per: str
    on_cpu: bool
    why: str = ""
    shapes: bool = False


@dataclass(frozen=True)
class Copy:
    """A value that moves between host and device.

    to_host: a wait for the GPU; otherwise a copy to the device
    per: how often, such as PER_BUCKET
    name, operator: of the node that needs it, or of the Loop that takes it
    at_edge: whether it is copied as the body of a Loop or If begins or ends, and not by a Memcpy node
    """

    value: str
    to_host: bool
    per: str
    name: str
    operator: str
    at_edge: bool = False


@dataclass
class Placement:
    """What onnxruntime does with a graph on a GPU.

    nodes: without those that onnxruntime folds into constants, merges or drops before it places the rest
    copies: without the graph's own inputs and outputs, which come from and go to requests
    refusals: why onnxruntime does not load the graph, empty if it does
    """

    nodes: list[PlacedNode] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def count(self, to_host: bool, per: str) -> int:
        """How many copies in that direction there are each time."""
        return sum(copy.to_host == to_host and copy.per == per for copy in self.copies)

    def often(self) -> list[str]:
        """How often its nodes run, outermost first."""
        return list(dict.fromkeys(node.per for node in self.nodes))
