"""Large graphs, whose weights lie in a file in their folder: here from 20 kB of weights on instead of 1.9 GB."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto

from export_scripts.operators.builder import Graph
from export_scripts.operators.walk import all_graphs
from export_scripts.operators.weights import (
    ALIGNMENT,
    array_of,
    damage,
    has_files,
    read_graph,
    with_files,
    write_graph,
)
from export_scripts.precision.fp16 import to_fp16

pytestmark = pytest.mark.fast

WIDTH = 64
"""A weight of this width and height has 16 kB."""
LARGEST_GRAPH = 20_000
DATA = "model.onnx.data"


def model_of(layers: int) -> onnx.ModelProto:
    """A Loop that multiplies x twice by its body's weights, and a product after it; and the shape of x."""
    rng = np.random.default_rng(0)
    body = Graph("body")
    body.input("number", TensorProto.INT64, [])
    body.input("go_on_in", TensorProto.BOOL, [])
    x = body.input("x_in", TensorProto.FLOAT, ["rows", WIDTH])
    for _ in range(layers):
        x = x @ (rng.standard_normal((WIDTH, WIDTH), np.float32) / WIDTH**0.5)
    body.output("go_on", body.Identity("go_on_in"), TensorProto.BOOL, [])
    body.output("x_out", x + np.ones(WIDTH, np.float32), TensorProto.FLOAT, ["rows", WIDTH])
    g = Graph("outer")
    x = g.input("x", TensorProto.FLOAT, ["rows", WIDTH])
    (y,) = g.add("Loop", [np.array(2), np.array(True), x], 1, body=body.graph())
    g.output("y", y @ np.ones((WIDTH, 2), np.float32), TensorProto.FLOAT, ["rows", 2])
    g.output("shape", g.Shape(x), TensorProto.INT64, [2])
    return g.model()


def output_of(model: onnx.ModelProto | Path) -> np.ndarray:
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    x = np.random.default_rng(1).standard_normal((3, WIDTH), np.float32)
    (y,) = ort.InferenceSession(source, providers=["CPUExecutionProvider"]).run(["y"], {"x": x})
    return np.asarray(y)


def written(model: onnx.ModelProto, folder: Path) -> dict[str, bytes]:
    """The files of a model by name."""
    folder.mkdir()
    write_graph(model, folder / "model.onnx", LARGEST_GRAPH)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def large_weights(model: onnx.ModelProto) -> list[np.ndarray]:
    arrays = [array_of(tensor) for graph in all_graphs(model.graph) for tensor in graph.initializer]
    return [array for array in arrays if array.size >= WIDTH**2]


def test_a_small_graph_is_one_file(tmp_path: Path) -> None:
    expected = {"model.onnx": model_of(1).SerializeToString(deterministic=True)}
    assert written(model_of(1), tmp_path / "from_memory") == expected


def test_a_small_graph_keeps_its_weights_in_a_file(tmp_path: Path) -> None:
    in_files = with_files(model_of(1), tmp_path)
    assert has_files(in_files) and in_files.ByteSize() < 4 * WIDTH**2
    assert set(written(in_files, tmp_path / "small")) == {"model.onnx", DATA}
    assert np.array_equal(output_of(tmp_path / "small" / "model.onnx"), output_of(model_of(1)))


def test_a_large_graph_gets_a_file_of_weights(tmp_path: Path) -> None:
    files = written(model_of(3), tmp_path / "from_memory")
    assert set(files) == {"model.onnx", DATA}
    assert len(files["model.onnx"]) < 4 * WIDTH**2 <= len(files[DATA]) / 3
    graph = onnx.load_from_string(files["model.onnx"])
    external = [tensor for inner in all_graphs(graph.graph) for tensor in inner.initializer if tensor.external_data]
    assert len(external) == 3
    for tensor in external:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        assert entries["location"] == DATA
        assert int(entries["offset"]) % ALIGNMENT == 0
    # The same files, wherever the weights are and whatever else lies in their files.
    assert written(with_files(model_of(3), tmp_path), tmp_path / "from_files") == files
    assert written(read_graph(tmp_path / "from_memory" / "model.onnx"), tmp_path / "read_again") == files


def test_a_large_graph_computes_the_same(tmp_path: Path) -> None:
    written(model_of(3), tmp_path / "large")
    assert np.array_equal(output_of(tmp_path / "large" / "model.onnx"), output_of(model_of(3)))
    moved = shutil.move(tmp_path / "large", tmp_path / "moved")
    assert np.array_equal(output_of(Path(moved) / "model.onnx"), output_of(model_of(3)))


def test_weights_are_read_where_they_are_used(tmp_path: Path) -> None:
    written(model_of(3), tmp_path / "large")
    read = read_graph(tmp_path / "large" / "model.onnx")
    assert has_files(read) and read.ByteSize() < 4 * WIDTH**2
    for array, expected in zip(large_weights(read), large_weights(model_of(3)), strict=True):
        assert np.array_equal(array, expected)


def test_weights_in_a_file_each_are_read(tmp_path: Path) -> None:
    """As PyTorch's exporter writes them, without offset and length."""
    folder = tmp_path / "exported"
    folder.mkdir()
    onnx.save(model_of(3), folder / "model.onnx", save_as_external_data=True, all_tensors_to_one_file=False)
    assert len(list(folder.iterdir())) == 4
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    for tensor in (tensor for graph in all_graphs(model.graph) for tensor in graph.initializer):
        locations = [entry for entry in tensor.external_data if entry.key == "location"]
        del tensor.external_data[:]
        tensor.external_data.extend(locations)
    onnx.save(model, folder / "model.onnx")
    read = read_graph(folder / "model.onnx")
    assert [array.tolist() for array in large_weights(read)] == [array.tolist() for array in large_weights(model_of(3))]
    assert written(read, tmp_path / "from_files") == written(model_of(3), tmp_path / "from_memory")


def test_weights_in_files_become_float16(tmp_path: Path) -> None:
    in_files = to_fp16(with_files(model_of(3), tmp_path))
    in_memory = to_fp16(model_of(3))
    assert [array.dtype for array in large_weights(in_files)] == [np.float16] * 3
    assert in_files == in_memory


def test_damaged_weights(tmp_path: Path) -> None:
    content = written(model_of(3), tmp_path / "large")[DATA]
    file = tmp_path / "large" / DATA

    def problems(contents: bool = True) -> list[str]:
        graph = onnx.load(tmp_path / "large" / "model.onnx", load_external_data=False)
        return list(damage(graph, tmp_path / "large" / "model.onnx", contents=contents))

    assert problems() == []
    file.write_bytes(content[:-1])
    expected = f"{DATA} has {len(content) - 1} bytes of weights instead of {len(content)}; copy it or export"
    assert [problem.startswith(expected) for problem in problems(contents=False)] == [True]
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert problems(contents=False) == []
    assert problems() == [f"{DATA} has another checksum than when it was exported; copy it or export the model again"]
    file.unlink()
    assert problems(contents=False) == [f"its weights, {DATA}, are missing; copy the file or export the model again"]


def placed(location: str, offset: str = "0", length: str = "4096") -> onnx.ModelProto:
    """A graph with one weight in a file, as anyone may write it."""
    model = onnx.ModelProto()
    tensor = model.graph.initializer.add(name="weight", dims=[1024], data_type=TensorProto.FLOAT)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=value)
    return model


def test_weights_outside_of_the_graphs_folder_are_not_opened(tmp_path: Path) -> None:
    """With onnxruntime 1.19, a server would read them as weights, wherever they are."""
    outside, folder = tmp_path / "outside", tmp_path / "model"
    outside.write_bytes(bytes(4096))
    folder.mkdir()
    (folder / "link").symlink_to(outside)
    (folder / "loop").symlink_to("loop")
    (folder / "beside").write_bytes(bytes(4096))
    (folder / "link_beside").symlink_to("beside")
    for location in ("../outside", str(outside), "link", "out\0side", ""):
        (problem,) = damage(placed(location), folder / "model.onnx", contents=True)
        expected = "are missing" if location == "" else "are outside of its folder; if you trust the model, copy them"
        assert problem.startswith(f"its weights, {location}, {expected}")
    assert [*damage(placed("loop"), folder / "model.onnx", contents=True)] == [
        "its weights, loop, are missing; copy the file or export the model again"
    ]
    for location in ("beside", "link_beside"):
        assert [*damage(placed(location), folder / "model.onnx", contents=True)] == []
    # The whole model is a folder of links, as in some stores.
    links = tmp_path / "links"
    links.mkdir()
    for name in ("model.onnx", "beside"):
        (folder / name).touch()
        (links / name).symlink_to(folder / name)
    assert [*damage(placed("beside"), links / "model.onnx", contents=True)] == []


@pytest.mark.parametrize(("offset", "length"), [("x", "4"), ("0", ""), ("-4", "4096"), ("0", "-1")])
def test_invalid_offsets_and_lengths_are_named(tmp_path: Path, offset: str, length: str) -> None:
    (tmp_path / DATA).write_bytes(bytes(4096))
    assert [*damage(placed(DATA, offset, length), tmp_path / "model.onnx", contents=True)] == [
        f"{DATA} has a weight without a valid offset and length; export the model again"
    ]
