"""Large random weights are left out of a repository and generated again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from benchmark_results import RunModule
from onnx import TensorProto, numpy_helper

from benchmark.studies.gpu.stand_ins import STAND_INS, StandIn, entries_of, fill, strip
from benchmark.studies.gpu.unpack import unpack
from export_scripts.operators.builder import Graph
from export_scripts.operators.walk import all_graphs
from export_scripts.operators.weights import LARGEST_GRAPH
from export_scripts.precision.fp16 import to_fp16
from verification.full_size.seeded import SMALLEST, draw, is_drawn

pytestmark = pytest.mark.fast

SHAPE = (96, 64)
Float32 = npt.NDArray[np.float32]


def weights_of(model: onnx.ModelProto) -> dict[tuple[int, ...], npt.NDArray[Any]]:
    """The large weights of a graph and the graphs inside it, by shape."""
    arrays = [numpy_helper.to_array(tensor) for graph in all_graphs(model.graph) for tensor in graph.initializer]
    return {array.shape: array for array in arrays if array.size >= SMALLEST}


def product(weight: Float32) -> onnx.ModelProto:
    """A graph of x @ weight @ a small weight, which to_fp16 leaves in float32."""
    g = Graph("product")
    x = g.input("x", TensorProto.FLOAT, ["rows", weight.shape[0]])
    hidden = g.MatMul(x, weight)
    g.output("y", g.MatMul(hidden, np.ones((weight.shape[1], 2), np.float32)), TensorProto.FLOAT, ["rows", 2])
    return g.model()


def convolution(weight: Float32) -> onnx.ModelProto:
    g = Graph("convolution")
    x = g.input("x", TensorProto.FLOAT, ["items", weight.shape[1], "frames"])
    g.output("y", g.Conv(x, weight), TensorProto.FLOAT, ["items", weight.shape[0], "frames_out"])
    return g.model()


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


def packed(model: onnx.ModelProto, shapes: dict[str, tuple[int, ...]]) -> tuple[onnx.ModelProto, list[StandIn], Any]:
    """The stripped model, written and read again; its stand-ins; and their JSON list, written and read again."""
    stand_ins: list[StandIn] = []
    stripped = onnx.load_from_string(strip(copy_of(model), shapes, stand_ins).SerializeToString())
    return stripped, stand_ins, json.loads(json.dumps(entries_of(stand_ins)))


def outputs_of(model: onnx.ModelProto | Path, x: Float32) -> Float32:
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = ort.InferenceSession(source, providers=["CPUExecutionProvider"])
    result: Float32 = session.run(None, {"x": x})[0]
    return result


def test_draws_are_the_same_on_every_machine() -> None:
    drawn = draw("layers.0.weight", (64, 32, 3))
    assert drawn.dtype == np.float32 and drawn.shape == (64, 32, 3)
    assert hashlib.sha256(drawn.astype("<f4").tobytes()).hexdigest()[:16] == "1866933511890870"
    assert drawn.std() == pytest.approx(1 / np.sqrt(3 * 32 * 3), rel=0.05)
    assert not np.array_equal(drawn, draw("layers.1.weight", (64, 32, 3)))


def test_only_large_matrices_are_drawn() -> None:
    assert is_drawn((64, 64)) and is_drawn((64, 1, 64)) and not is_drawn((SMALLEST,)) and not is_drawn((63, 64))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    ("kind", "shape"),
    [("plain", SHAPE), ("transposed", SHAPE), ("rows", (96, 1, 64)), ("rows", (480, 1, 9)), ("transposed rows", SHAPE)],
)
def test_weights_are_restored_bit_for_bit(kind: str, shape: tuple[int, ...], seed: int) -> None:
    name = f"weight {seed}"
    weight = draw(name, shape)
    if "rows" in kind:
        factors = np.random.default_rng(seed).uniform(-3, 3, shape[0]).astype(np.float32)
        weight = weight * factors.reshape(-1, *[1] * (len(shape) - 1))
    if "transposed" in kind:
        weight = np.ascontiguousarray(weight.T)
    model = convolution(weight) if weight.ndim == 3 else product(weight)
    stripped, stand_ins, entries = packed(model, {"another": shape, name: shape})
    assert [(stand_in.name, stand_in.transposed, bool(stand_in.rows)) for stand_in in stand_ins] == [
        (name, "transposed" in kind, "rows" in kind)
    ]
    assert not weights_of(stripped)
    assert stripped.ByteSize() < model.ByteSize() / 5
    restored = weights_of(fill(stripped, entries))[weight.shape]
    assert restored.dtype == np.float32 and np.array_equal(restored, weight)


def test_weights_are_restored_in_float16() -> None:
    weight = draw("weight", SHAPE)
    model = product(weight)
    stripped, _, entries = packed(model, {"weight": SHAPE})
    filled = fill(to_fp16(stripped), entries)
    restored = weights_of(filled)[SHAPE]
    assert restored.dtype == np.float16 and np.array_equal(restored, weight.astype(np.float16))
    x = np.random.default_rng(1).standard_normal((5, SHAPE[0]), np.float32)
    assert np.array_equal(outputs_of(filled, x), outputs_of(to_fp16(copy_of(model)), x))


def loop(weight: Float32) -> onnx.ModelProto:
    """A Loop that computes x @ weight twice; the weight is square."""
    body = Graph("body")
    body.input("number", TensorProto.INT64, [])
    body.input("go_on_in", TensorProto.BOOL, [])
    x = body.input("x_in", TensorProto.FLOAT, ["rows", len(weight)])
    body.output("go_on", body.Identity("go_on_in"), TensorProto.BOOL, [])
    body.output("x_out", body.MatMul(x, weight), TensorProto.FLOAT, ["rows", len(weight)])
    g = Graph("loop")
    x = g.input("x", TensorProto.FLOAT, ["rows", len(weight)])
    (y,) = g.add("Loop", [np.array(2), np.array(True), x], 1, body=body.graph())
    g.output("y", y, TensorProto.FLOAT, ["rows", len(weight)])
    return g.model()


def test_weights_in_a_loop_are_restored() -> None:
    model = loop(draw("weight", (64, 64)))
    stripped, stand_ins, entries = packed(model, {"weight": (64, 64)})
    assert len(stand_ins) == 1 and not weights_of(stripped)
    x = np.random.default_rng(1).standard_normal((3, 64), np.float32)
    assert np.array_equal(outputs_of(fill(stripped, entries), x), outputs_of(model, x))


def test_weights_that_are_not_drawn_stay() -> None:
    noise = np.random.default_rng(0).standard_normal(SHAPE, np.float32)
    nearly = draw("weight", SHAPE)
    nearly[50] = nearly[51]
    for weight in (noise, nearly, draw("weight", SHAPE)[::-1].copy()):
        model = product(weight)
        stripped, stand_ins, _ = packed(model, {"weight": SHAPE})
        assert not stand_ins and stripped == model


@pytest.fixture
def packed_folder(tmp_path: Path) -> Path:
    """A repository of one packed stage, and one stage that has no stand-ins."""
    model = loop(draw("weight", (64, 64)))
    stripped, _, entries = packed(model, {"weight": (64, 64)})
    for name, graph in {"tiny_encoder": stripped, "audio": model}.items():
        version = tmp_path / "packed" / name / "1"
        version.mkdir(parents=True)
        onnx.save(graph, version / "model.onnx")
        (version.parent / "config.pbtxt").write_text(f'name: "{name}"\n')
    (tmp_path / "packed" / "tiny_encoder" / "1" / STAND_INS).write_text(json.dumps(entries))
    # As of a packed model over 2 GiB, some weights of which are no stand-ins.
    (tmp_path / "packed" / "tiny_encoder" / "1" / "model.onnx.data").write_bytes(bytes(8))
    return tmp_path / "packed"


@pytest.mark.parametrize("external", [False, True])
def test_an_unpacked_stage_computes_the_same(packed_folder: Path, tmp_path: Path, external: bool) -> None:
    stage = tmp_path / "unpacked" / "tiny_encoder"
    assert unpack(packed_folder / "tiny_encoder", stage, largest_graph=1000 if external else LARGEST_GRAPH)
    names = {"model.onnx", *(["model.onnx.data"] if external else [])}
    assert {file.name for file in (stage / "1").iterdir()} == names
    if external:
        assert (
            (stage / "1" / "model.onnx").stat().st_size
            < 4 * 64 * 64
            <= (stage / "1" / "model.onnx.data").stat().st_size
        )
    x = np.random.default_rng(2).standard_normal((3, 64), np.float32)
    assert np.array_equal(
        outputs_of(stage / "1" / "model.onnx", x), outputs_of(packed_folder / "audio" / "1" / "model.onnx", x)
    )


def test_unpack_keeps_existing_models(packed_folder: Path, tmp_path: Path, run_module: RunModule) -> None:
    kept = tmp_path / "unpacked" / "audio" / "kept"
    kept.parent.mkdir(parents=True)
    kept.write_text("kept")
    finished = run_module("studies.gpu.unpack", packed_folder, "--out", tmp_path / "unpacked")
    assert finished.returncode == 0, finished.stderr
    assert [file.name for file in kept.parent.iterdir()] == ["kept"]
    assert {folder.name for folder in (tmp_path / "unpacked").iterdir()} == {"audio", "tiny_encoder"}


def test_a_damaged_stage_prints_one_error_line(packed_folder: Path, tmp_path: Path, run_module: RunModule) -> None:
    damaged = packed_folder / "damaged"
    (damaged / "1").mkdir(parents=True)
    (damaged / "1" / "model.onnx").write_bytes(b"no graph")
    (damaged / "1" / STAND_INS).write_text("[]")
    flags = ("--model", "damaged", "--model", "audio", "--model", "nope*")
    finished = run_module("studies.gpu.unpack", packed_folder, "--out", tmp_path / "unpacked", *flags)
    assert finished.returncode == 2
    errors = finished.stderr.splitlines()
    assert len(errors) == 2 and all(line.startswith("error: ") for line in errors)
    assert "nope*" in errors[0] and "damaged" in errors[1]
    assert (tmp_path / "unpacked" / "audio" / "1" / "model.onnx").exists()
    assert not (tmp_path / "unpacked" / "damaged").exists()
