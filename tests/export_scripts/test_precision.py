"""Encoders in fp16 and int8: what stays exact, what stays in float32, and what refuses an export."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from locations import DEMO_CHECKPOINT, DEMO_MANIFEST, RNNT_CHECKPOINT, ROOT
from onnx import TensorProto, helper, numpy_helper
from tiny_models import NEW_NEMO, tiny_model

from export_scripts.export import export
from export_scripts.operators.tuning import CPU
from export_scripts.percentage import share
from export_scripts.precision.choice import MAX_WORD_CHANGE, Precision, PrecisionName
from export_scripts.precision.fp16 import to_half
from export_scripts.precision.int8 import Batch, sums_in_double, to_int8
from export_scripts.repository.config import Serving, read_config
from export_scripts.stages.encoder import CtcEncoder, _trace
from export_scripts.verify.local_ensemble import Runner
from export_scripts.verify.parity import Calibration, Parity, words_changed
from export_scripts.verify.probes import read_probes, read_recordings
from export_scripts.verify.recordings import NO_RECORDINGS, Recordings, Trace

SPEECH = read_recordings(DEMO_MANIFEST)
COMMANDS = SPEECH.signals
NO_SHARES = ("2", "50", "101%", "-0.1", "-1%", "nan", "nan%", "inf", "few", "%", "2%%", "")
Numbers = npt.NDArray[Any]


def run_export(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "export_scripts/export.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module", params=[DEMO_CHECKPOINT, RNNT_CHECKPOINT], ids=["ctc", "rnnt"])
def repository(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model in each precision, the bounds of the reduced ones as they are by default but for the shipped."""
    folder = tmp_path_factory.mktemp("precisions")
    probes = read_probes(None, most=None)
    for name in ("fp32", "fp16", "int8"):
        choice = Precision(name, MAX_WORD_CHANGE[name], SPEECH if name == "int8" else NO_RECORDINGS)
        export(str(request.param), folder, Serving(), probes, precision=choice, suffix=f"_{name}")
    return folder


def model_of(repository: Path, precision: str) -> str:
    (config,) = (path for path in repository.glob(f"coffee_*_{precision}/config.pbtxt"))
    return config.parent.name


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_text_does_not_depend_on_its_company(repository: Path, precision: str) -> None:
    runner = Runner(repository, model_of(repository, precision))
    alone = [runner.run([samples])[0]["TEXT"].item() for samples in COMMANDS]
    assert len(set(alone)) == len(COMMANDS)
    order = np.random.default_rng(3).permutation(len(COMMANDS))
    for batch in np.array_split(order, 3):
        items = runner.run([COMMANDS[index] for index in batch])
        assert [item["TEXT"].item() for item in items] == [alone[index] for index in batch]


def test_what_the_export_says_of_its_precision(repository: Path) -> None:
    for precision in ("fp32", "fp16", "int8"):
        name = model_of(repository, precision)
        parity = json.loads((repository / name / "1" / "parity.json").read_text())
        parameters = read_config(repository / name).parameters
        assert parity["precision"] == parameters["precision"].string_value == precision
        assert parity["words_compared"] == int(parameters["words_compared"].string_value) > 180
        assert parity["words_changed"] == int(parameters["words_changed"].string_value)
        assert parity["words_changed"] <= parity["max_word_change"] * parity["words_compared"]
        assert (precision == "fp32") <= (parity["words_changed"] == 0)
        texts = parity["changed_texts"]
        assert sum(words_changed(text["nemo"], text["export"]) for text in texts) == parity["words_changed"]
        assert {text["probe"] for text in texts} <= {*SPEECH.names, *read_probes(None).made.names}
        assert parity["probe_recordings"] == {**asdict(SPEECH.trace()), "source": "demo commands"}
        assert parity["probe_recordings"]["recordings"] + parity["probes_made"]["recordings"] == parity["probes"]
        learnt = {**asdict(SPEECH.trace()), "among_probes": len(COMMANDS)} if precision == "int8" else None
        assert parity["calibration"] == learnt
        assert parity["calibrated_on_probes"] == (precision == "int8")
        assert str(ROOT) not in json.dumps(parity)


@pytest.mark.parametrize("among_probes", [0, 3])
def test_the_result_line_says_which_texts_and_words_count(among_probes: int) -> None:
    speech, made = Trace("mine", 8, 20.0, "a"), Trace("made", 2, 4.0, "b")
    parity = Parity(
        model="coffee",
        checkpoint_sha256="",
        nemo_class="EncDecCTCModel",
        checkpoint_nemo_version=None,
        front_end="mel",
        scores="LOG_PROBS",
        versions={},
        precision="int8",
        max_word_change=0.02,
        probes=10,
        probe_seconds=24.0,
        probe_recordings=speech,
        probes_made=made,
        calibration=Calibration("others", 3, 7.0, "c", among_probes),
        texts_compared=30,
        texts_equal=27,
        words_compared=100,
        words_changed=2,
    )
    line = parity.summary()
    assert line.startswith(
        "coffee: 27/30 texts equal NeMo's of 10 probes (24 s), each alone and in two mixed batches; int8 changes "
        "2 of 100 words, 2.00%, counted on each probe once, alone"
    )
    assert ("on recordings that it learnt from" in line) == (among_probes > 0)


def test_a_trace_is_of_the_samples_in_any_order() -> None:
    one, other = np.arange(3, dtype=np.int16), np.arange(3, 6, dtype=np.int16)
    digest = Recordings("a", (one, other), ("x", "y")).trace().sha256
    assert digest == Recordings("b", (other, one), ("p", "q")).trace().sha256
    assert digest != Recordings("a", (np.concatenate([one, other]),), ("x",)).trace().sha256
    assert Recordings("a", (one,), ("x",)).count_in(Recordings("b", (other, one), ("p", "q"))) == 1


def test_sizes(repository: Path) -> None:
    size = {
        precision: (repository / f"{model_of(repository, precision)}_encoder/1/model.onnx").stat().st_size
        for precision in ("fp32", "fp16", "int8")
    }
    assert size["fp16"] < 0.6 * size["fp32"]
    assert size["int8"] < 0.45 * size["fp32"]


def test_int8_is_for_cpus(repository: Path) -> None:
    kinds = {
        precision: read_config(repository / f"{model_of(repository, precision)}_encoder").instance_group[0].kind
        for precision in ("fp32", "fp16", "int8")
    }
    assert kinds["fp16"] == kinds["fp32"] != kinds["int8"]


def test_more_words_than_allowed_are_refused_with_the_figure(tmp_path: Path) -> None:
    bound = ("--precision", "int8", "--max-word-change", 0, "--name-suffix", "_int8")
    result = run_export(DEMO_CHECKPOINT, "--repository", tmp_path / "repository", *bound)
    assert result.returncode == 1
    assert "coffee_ctc_int8: int8 changes " in result.stderr
    assert "of NeMo's" in result.stderr and "more than 0.00%" in result.stderr
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("--max-word-change", 0.1), "--max-word-change is for --precision fp16 and int8"),
        (("--precision", "fp16", "--calibration", "."), "--calibration is for --precision int8"),
        (("--precision", "int8", "--calibration", "missing.jsonl"), "error: missing.jsonl: No such file"),
        *((("--precision", "int8", f"--max-word-change={no_share}"), "write 2% or 0.02") for no_share in NO_SHARES),
        (("--name-suffix", "a/b"), "error: --name-suffix: 'a/b' can't be in a model's name; use letters"),
    ],
)
def test_flags_that_do_not_fit(flags: tuple[object, ...], complaint: str, tmp_path: Path) -> None:
    result = run_export(DEMO_CHECKPOINT, "--repository", tmp_path / "repository", *flags)
    assert result.returncode == 2
    assert complaint in result.stderr
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize(
    ("text", "value"), [("2%", 0.02), ("0.02", 0.02), ("0", 0), ("100%", 1), ("1", 1), ("0.5 %", 0.005)]
)
def test_a_share(text: str, value: float) -> None:
    assert share(text) == pytest.approx(value)


def test_words_changed() -> None:
    assert words_changed("a b c", "a c d d") == 3
    assert words_changed("", "a b") == 2
    assert words_changed("a b", "") == 2
    assert words_changed("", "") == 0


@pytest.fixture(scope="module", params=["citrinet", "conformer"])
def traced(request: pytest.FixtureRequest) -> tuple[onnx.ModelProto, int]:
    """A tiny encoder as it is before it is put into the loop, and its mel bands."""
    model = tiny_model(request.param, NEW_NEMO)
    mels = model.cfg.preprocessor.features
    return _trace(CtcEncoder(model.encoder, model.decoder), mels, CPU.scores_at_once)[0], mels


def batches(mels: int, *lengths: int) -> Iterator[Batch]:
    rng = np.random.default_rng(4)
    for _ in range(4):
        features = rng.normal(0, 1, (len(lengths), max(lengths), mels)).astype(np.float32)
        for item, length in zip(features, lengths, strict=True):
            item[length:] = 0
        yield {"features": features, "length": np.array(lengths)}


def run(model: onnx.ModelProto, batch: Batch) -> tuple[Numbers, Numbers]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    scores, length = session.run(["scores", "scores_length"], batch)
    return scores, length


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_what_is_masked_counts_for_nothing(traced: tuple[onnx.ModelProto, int], precision: PrecisionName) -> None:
    """What is behind an item's end is zero in the next layer too: garbage there leaves every number as it was."""
    model, mels = traced
    converted = to_half(model) if precision == "fp16" else to_int8(model, batches(mels, 300, 211))
    (batch, *_) = batches(mels, 300, 211, 57)
    before, length = run(converted, batch)
    garbage = {**batch, "features": batch["features"].copy()}
    garbage["features"][1, 211:] = 1000
    garbage["features"][2, 57:] = -1000
    after, _ = run(converted, garbage)
    for one, other, own in zip(before, after, length, strict=True):
        np.testing.assert_array_equal(one[:own], other[:own])


def test_int8_alone_is_int8_in_a_padded_batch(traced: tuple[onnx.ModelProto, int]) -> None:
    """To the last bit: a single different rounding to 8 bits would move the scores by much more than rounding."""
    model, mels = traced
    converted = to_int8(model, batches(mels, 300, 211))
    (batch, *_) = batches(mels, 300, 211, 57)
    together, length = run(converted, batch)
    for item, frames in enumerate(batch["length"]):
        alone, _ = run(
            converted, {"features": batch["features"][item : item + 1, :frames], "length": np.array([frames])}
        )
        np.testing.assert_array_equal(together[item, : length[item]], alone[0, : length[item]])


def test_int8_has_fixed_scales_and_weights_of_seven_bits(traced: tuple[onnx.ModelProto, int]) -> None:
    model, mels = traced
    converted = to_int8(model, batches(mels, 300, 211))
    operators = {node.op_type for node in converted.graph.node}
    assert "DynamicQuantizeLinear" not in operators and {"QuantizeLinear", "DequantizeLinear"} <= operators
    weights = [
        numpy_helper.to_array(tensor)
        for tensor in converted.graph.initializer
        if tensor.data_type == TensorProto.INT8 and len(tensor.dims) > 1
    ]
    assert len(weights) > 4
    assert max(int(np.abs(weight.astype(int)).max()) for weight in weights) == 64
    assert {output.type.tensor_type.elem_type for output in converted.graph.output} == {
        TensorProto.FLOAT,
        TensorProto.INT64,
    }


def test_half_weights_and_single_sums(traced: tuple[onnx.ModelProto, int]) -> None:
    model, mels = traced
    (batch, *_) = batches(mels, 300, 57)
    converted = to_half(model)
    (single, length), (half, _) = run(model, batch), run(converted, batch)
    for item, own in enumerate(length):
        np.testing.assert_allclose(half[item, :own], single[item, :own], atol=0.2, rtol=0)
    kinds = {value.name: value.type.tensor_type.elem_type for value in inferred(converted)}
    for node in converted.graph.node:
        if node.op_type in ("LayerNormalization", "LogSoftmax", "ReduceSum", "ReduceMean", "Softmax"):
            assert kinds.get(node.input[0]) != TensorProto.FLOAT16, node.name
    heavy = [node for node in converted.graph.node if node.op_type in ("Conv", "MatMul")]
    assert all(kinds[node.input[0]] == TensorProto.FLOAT16 for node in heavy[:-1])
    assert kinds[heavy[-1].input[0]] == TensorProto.FLOAT, "the last layer tells labels apart"


def inferred(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    return [*graph.value_info, *graph.input]


def test_half_survives_a_sum_that_float16_does_not_hold() -> None:
    """200 in each of 1000 places: their sum is beyond 65504."""
    nodes = [
        helper.make_node("MatMul", ["features", "weight"], ["product"], name="product"),
        helper.make_node("Relu", ["product"], ["gated"], name="gated"),
        helper.make_node("ReduceSum", ["gated", "axes"], ["total"], name="total", keepdims=1),
        helper.make_node("Log", ["total"], ["log"], name="log"),
        helper.make_node("MatMul", ["log", "last"], ["scores"], name="scores"),
    ]
    constants = [
        numpy_helper.from_array(np.full((1, 1000), 200, np.float32), "weight"),
        numpy_helper.from_array(np.array([1]), "axes"),
        numpy_helper.from_array(np.ones((1, 1), np.float32), "last"),
    ]
    graph = helper.make_graph(
        nodes,
        "sums",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, 1])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 1])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    converted = to_half(model)
    kinds = {value.name: value.type.tensor_type.elem_type for value in inferred(converted)}
    assert kinds["product"] == kinds["gated"] == TensorProto.FLOAT16 and kinds["total"] == TensorProto.FLOAT
    session = ort.InferenceSession(converted.SerializeToString(), providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {"features": np.ones((1, 1), np.float32)})
    assert scores.item() == pytest.approx(np.log(200_000), rel=1e-6)


def test_a_sum_does_not_depend_on_padding() -> None:
    node = helper.make_node("ReduceSum", ["values", "axes"], ["total"], name="total", keepdims=0)
    graph = helper.make_graph(
        [helper.make_node("Relu", ["features"], ["values"], name="values"), node],
        "sum",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["items", "steps"])],
        [helper.make_tensor_value_info("total", TensorProto.FLOAT, ["items"])],
        [numpy_helper.from_array(np.array([1]), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    values = np.random.default_rng(8).uniform(0, 1, (50, 997)).astype(np.float32)

    def totals(model: onnx.ModelProto) -> list[bytes]:
        session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        lengths = [997, 1024, 1031, 2500]
        return [session.run(None, {"features": np.pad(values, ((0, 0), (0, to - 997)))})[0].tobytes() for to in lengths]

    assert len(set(totals(model))) > 1, "float32 sums do depend on it"
    assert len(set(totals(sums_in_double(model)))) == 1
