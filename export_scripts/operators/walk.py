"""Walk the subgraphs of a graph (bodies of loops and branches), and find the values that they read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx


def all_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and all its subgraphs."""
    yield graph
    for node in graph.node:
        for body in bodies(node):
            yield from all_graphs(body)


def bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that are attributes of a node."""
    return (attribute.g for attribute in node.attribute if attribute.HasField("g"))


def names_read(node: onnx.NodeProto) -> set[str]:
    """Names that a node and its subgraphs read, including values that the subgraphs calculate."""
    names = set(node.input)
    for body in bodies(node):
        for graph in all_graphs(body):
            names.update(output.name for output in graph.output)
            names.update(name for inner in graph.node for name in inner.input)
    return names


def rename_reads(graph: onnx.GraphProto, renamed: Mapping[str, str]) -> None:
    """Rename values where nodes of the graph and its subgraphs read them."""
    for inner in all_graphs(graph):
        for node in inner.node:
            node.input[:] = [renamed.get(name, name) for name in node.input]


def drop_unread(graph: onnx.GraphProto) -> None:
    """Remove nodes and initializers that nothing reads."""
    read = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if read.intersection(node.output):
            kept.append(node)
            read |= names_read(node)
    initializers = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(initializers)
