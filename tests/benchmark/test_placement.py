"""Which nodes run on the CPU of a GPU instance: graphs with a known answer, and the exported stages."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from benchmark_results import RunModule
from locations import FAMILY_REPOSITORY, PRECISION_REPOSITORY, TEST_REPOSITORY
from onnx import TensorProto

from benchmark.core.models import RepositoryError
from benchmark.studies.gpu.placement.graphs import place
from benchmark.studies.gpu.placement.kernels import known_releases, read_kernels
from benchmark.studies.gpu.placement.result import PER_BATCH, PER_BLOCK, PER_BUCKET, Placement
from benchmark.studies.gpu.placement.stages import place_stages
from export_scripts.operators.builder import Graph, Value, ints
from export_scripts.stages.text import split_text
from nemo_triton.contract import FEATURES_STAGE, Part

TRITON_24_10, NEWEST = known_releases()
FLOAT, INT64, BOOL, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING
FEATURES_STAGES = f"/{FEATURES_STAGE.partition('{')[0]}"
"""Prefix of the names of feature stages, after their repository."""

REPOSITORIES = {TEST_REPOSITORY: "*", FAMILY_REPOSITORY: "*", PRECISION_REPOSITORY: "*_fp16"}
"""Repositories whose stages are placed, with the pattern of their recognizers."""

FEATURE_WAITS = {release: {PER_BATCH: 1, PER_BUCKET: 2} for release in (NEWEST, TRITON_24_10)}
"""Upper limits. Per batch: the longest item, which the result is padded to. Per bucket: its end and its longest
item."""
ENCODER_WAITS = {NEWEST: {PER_BATCH: 1, PER_BUCKET: 2}, TRITON_24_10: {PER_BATCH: 2, PER_BUCKET: 2}}
"""Upper limits, for the same reasons. CTC's ArgMax, which onnxruntime 1.19 lacks, reads on the host."""
WAITS_PER_BLOCK = 0
"""Limit per layer of a Conformer: the loop over blocks of queries needs only shapes, which the host knows."""
CTC_DECODER_WAITS = {NEWEST: {PER_BATCH: 4}, TRITON_24_10: {PER_BATCH: 4}}
RNNT_DECODER_WAITS = {NEWEST: {PER_BATCH: 3, "step": 1}, TRITON_24_10: {PER_BATCH: 3, "step": 3}}
"""Upper limits in decoders without text. Per batch: the longest item, before and after decoding, and CTC's Pad. Per
step: whether another step follows."""
ON_CPU_OUTSIDE_THE_LOOP = {"Pad"}
"""Pad of int64, once per batch: CTC's label before each label."""
MISSING_IN_1_19 = {"ArgMax"}
"""Operators of the exported graphs' opset without a CUDA kernel in onnxruntime 1.19."""


def placed(g: Graph, release: str = NEWEST, opset: int | None = None) -> Placement:
    model = g.model()
    if opset is not None:
        model.opset_import[0].version = opset
    onnx.checker.check_model(model)
    return place(model, read_kernels(release))


def operators_on_cpu(placement: Placement) -> Counter[str]:
    return Counter(node.operator for node in placement.nodes if node.on_cpu)


def reduced_to_scalar(g: Graph, values: Value) -> Value:
    return g.ReduceSum(values, ints(0), keepdims=0)


def test_a_network_stays_on_the_gpu() -> None:
    g = Graph("network")
    x = g.input("x", FLOAT, ["items", 4])
    g.output("y", g.Softmax(g.MatMul(g.Relu(x), np.ones((4, 3), np.float32)), axis=1), FLOAT, ["items", 3])
    placement = placed(g)
    assert not operators_on_cpu(placement) and not placement.copies and not placement.refusals
    assert {node.per for node in placement.nodes} == {PER_BATCH}


def test_shapes_are_calculated_on_the_cpu_without_a_copy() -> None:
    g = Graph("shapes")
    x = g.input("x", FLOAT, ["items", "frames", 4])
    rows = g.Mul(g.Gather(g.Shape(x), np.array([0])), g.Gather(g.Shape(x), np.array([1])))
    g.output("y", g.Reshape(g.Relu(x), g.Concat(rows, ints(4), axis=0)), FLOAT, ["rows", 4])
    placement = placed(g)
    assert operators_on_cpu(placement) == {"Gather": 2, "Mul": 1, "Concat": 1}
    assert all(node.shapes for node in placement.nodes if node.on_cpu)
    assert not placement.copies


def test_the_host_waits_for_a_length_that_the_gpu_calculates() -> None:
    g = Graph("length")
    x = g.input("x", FLOAT, ["frames"])
    lengths = g.input("lengths", INT64, ["items"])
    longest = g.ReduceMax(lengths, ints(0), keepdims=1)
    g.output("y", g.Slice(x, ints(0), g.Add(longest, ints(1)), ints(0)), FLOAT, ["longest"])
    placement = placed(g)
    assert not operators_on_cpu(placement)
    (copy,) = placement.copies
    assert copy.to_host and copy.operator == "Slice"


def test_compress_runs_on_the_gpu_and_waits() -> None:
    g = Graph("compress")
    x = g.input("x", FLOAT, ["rows", 4])
    kept = g.Compress(g.Relu(x), g.Greater(reduced_to_scalar(g, g.Transpose(x, perm=[1, 0])), np.float32(0)), axis=0)
    g.output("y", g.Relu(kept), FLOAT, ["kept", 4])
    placement = placed(g)
    assert not operators_on_cpu(placement)
    assert [(copy.to_host, copy.operator) for copy in placement.copies] == [(True, "Compress")]


@pytest.mark.parametrize(("values", "on_cpu"), [(FLOAT, 0), (TensorProto.FLOAT16, 0), (INT64, 1)])
def test_a_type_without_a_kernel_runs_on_the_cpu_with_copies_there_and_back(values: int, on_cpu: int) -> None:
    g = Graph("pad")
    x = g.input("x", values, ["frames"])
    g.output("y", g.Add(g.Pad(g.Add(x, x), ints(1, 1)), g.Pad(g.Add(x, x), ints(2, 0))), values, ["longer"])
    placement = placed(g)
    assert operators_on_cpu(placement) == ({"Pad": 2} if on_cpu else {})
    # The sum is one calculation, copied once; each padded one goes back.
    assert (placement.count(True, PER_BATCH), placement.count(False, PER_BATCH)) == (on_cpu, 2 * on_cpu)
    assert {node.why for node in placement.nodes if node.on_cpu} == ({"no kernel for int64"} if on_cpu else set())


@pytest.mark.parametrize(
    ("release", "opset", "why"),
    [(TRITON_24_10, 20, "no kernel for version 20"), (TRITON_24_10, 18, ""), (NEWEST, 20, ""), (NEWEST, 18, "")],
)
def test_a_kernel_without_a_last_version_serves_no_later_one(release: str, opset: int, why: str) -> None:
    """ReduceMax 20 brought two types; the kernel of version 18 in onnxruntime 1.19 names no last version."""
    g = Graph("version")
    x = g.input("x", FLOAT, ["frames"])
    g.output("y", g.ReduceMax(g.Relu(x), ints(0), keepdims=1), FLOAT, [1])
    placement = placed(g, release, opset)
    assert [node.why for node in placement.nodes if node.operator == "ReduceMax"] == [why]
    assert placement.count(True, PER_BATCH) == bool(why)


def test_strings_stay_on_the_cpu() -> None:
    g = Graph("strings")
    x = g.input("x", STRING, ["items"])
    g.output("y", g.StringConcat(x, x), STRING, ["items"])
    placement = placed(g)
    assert operators_on_cpu(placement) == {"StringConcat": 1} and not placement.copies and not placement.refusals


def test_a_loop_that_carries_strings_does_not_load() -> None:
    """CUDA's Loop takes strings, but nothing copies them to the device."""
    body = Graph("join")
    body.input("round", INT64, [])
    more = body.input("more", BOOL, [])
    row = body.input("row", STRING, ["items"])
    body.output("go_on", more, BOOL, [])
    body.output("joined", body.StringConcat(row, row), STRING, ["items"])
    g = Graph("strings")
    x = g.input("x", STRING, ["items"])
    g.output("y", g.Loop(np.array(3), "", g.StringConcat(x, x), body=body.graph()), STRING, ["items"])
    (refusal,) = placed(g).refusals
    assert "Loop" in refusal and "strings" in refusal


def halving(name: str, condition: str) -> Graph:
    """A body that halves a value, until it is small or for the Loop's number of iterations."""
    body = Graph(name)
    body.input(f"{name}_number", INT64, [])
    go_on = body.input(f"{name}_go_on_in", BOOL, [])
    x = body.input(f"{name}_x", FLOAT, ["frames"])
    half = body.Mul(x, np.float32(0.5))
    if condition == "of values":
        go_on = body.Greater(reduced_to_scalar(body, half), np.float32(1))
    elif condition == "of shapes":
        go_on = body.GreaterOrEqual(body.Squeeze(body.Shape(x)), np.array(1))
    body.output(f"{name}_go_on", go_on, BOOL, [])
    body.output(f"{name}_half", half, FLOAT, ["frames"])
    return body


@pytest.mark.parametrize(
    ("condition", "waits", "copies"), [("of values", 1, 0), ("of shapes", 0, 0), ("passed through", 1, 1)]
)
def test_the_host_waits_for_the_condition_of_a_loop_on_the_gpu(condition: str, waits: int, copies: int) -> None:
    """A condition that is passed through is copied to the device for Identity, and back."""
    g = Graph("loop")
    x = g.input("x", FLOAT, ["frames"])
    body = halving("step", condition)
    g.output("y", g.Loop(np.array(9), np.array(True), g.Relu(x), body=body.graph()), FLOAT, ["frames"])
    placement = placed(g)
    assert sum(node.on_cpu for node in placement.nodes) == (2 if condition == "of shapes" else 0)
    assert (placement.count(True, "step"), placement.count(False, "step"), placement.count(True, PER_BATCH)) == (
        waits,
        copies,
        0,
    )


def test_carried_values_of_a_loop_are_on_the_gpu_and_copied_for_each_read_on_the_host() -> None:
    body = Graph("group")
    number = body.input("number", INT64, [])
    body.input("go_on_in", BOOL, [])
    done = body.input("done_in", INT64, [1])
    body.output("go_on", body.GreaterOrEqual(body.Squeeze(body.Shape("x")), np.array(0)), BOOL, [])
    body.output("done", body.Add(done, ints(1)), INT64, [1])
    body.output("part", body.Relu(body.Slice("x", done, body.Unsqueeze(number, ints(0)), ints(0))), FLOAT, ["part"])
    g = Graph("loop")
    g.input("x", FLOAT, ["frames"])
    done, part = g.add("Loop", [np.array(5), "", ints(0)], 2, body=body.graph())
    g.output("done", done, INT64, [1])
    g.output("parts", part, FLOAT, ["buckets", "part"])
    placement = placed(g)
    moved = {(copy.value, copy.to_host) for copy in placement.copies}
    # Slice reads `done` on the host, Add on the device. The number is on the host, Unsqueeze on the device.
    assert moved == {
        ("done_in", True),
        ("done_in", False),
        ("number", False),
        (next(node.name for node in placement.nodes if node.operator == "Unsqueeze"), True),
    }
    assert {copy.per for copy in placement.copies} == {PER_BUCKET}


def test_copies_of_a_nested_loop_are_counted_separately() -> None:
    inner = halving("sub_graph", "of values")
    outer = Graph("group")
    outer.input("number", INT64, [])
    outer.input("go_on_in", BOOL, [])
    x = outer.input("group_x", FLOAT, ["frames"])
    result = outer.Loop(np.array(9), np.array(True), x, body=inner.graph())
    outer.output("go_on", outer.GreaterOrEqual(outer.Squeeze(outer.Shape(x)), np.array(0)), BOOL, [])
    outer.output("result", outer.Compress(result, outer.Greater(result, np.float32(0))), FLOAT, ["kept"])
    g = Graph("loops")
    x = g.input("x", FLOAT, ["frames"])
    g.output("y", g.Loop(np.array(3), "", g.Relu(x), body=outer.graph()), FLOAT, ["kept"])
    placement = placed(g)
    assert {per: placement.count(True, per) for per in placement.frequencies()} == {
        PER_BATCH: 0,
        PER_BUCKET: 1,
        PER_BLOCK: 1,
    }


def test_the_host_waits_for_the_condition_of_an_if() -> None:
    branch = Graph("branch")
    branch.output("doubled", branch.Add("x", "x"), FLOAT, ["frames"])
    g = Graph("if")
    x = g.input("x", FLOAT, ["frames"])
    condition = g.Greater(reduced_to_scalar(g, x), np.float32(0))
    (y,) = g.add("If", [condition], 1, then_branch=branch.graph(), else_branch=branch.graph())
    g.output("y", y, FLOAT, ["frames"])
    placement = placed(g)
    assert [(copy.to_host, copy.operator) for copy in placement.copies] == [(True, "If")]


def test_folded_and_merged_nodes_are_not_counted() -> None:
    g = Graph("folded")
    x = g.input("x", FLOAT, ["frames"])
    twice = [g.Add(x, g.Mul(np.float32(2), np.float32(3))) for _ in range(2)]
    g.output("y", g.Identity(g.Concat(*twice, axis=0)), FLOAT, ["doubled"])
    assert [node.operator for node in placed(g).nodes] == ["Add", "Concat"]


def test_an_operator_with_unknown_kernels_is_named() -> None:
    g = Graph("unknown")
    x = g.input("x", FLOAT, ["frames"])
    g.output("y", g.Acosh(x), FLOAT, ["frames"])
    with pytest.raises(RepositoryError, match=r"cuda_kernels\.json lacks the operator Acosh"):
        placed(g)


@cache
def stages(release: str) -> dict[str, tuple[bool, Placement]]:
    """Stages of all repositories: whether each is configured for a GPU, and its placement."""
    return {
        f"{repository.name}/{stage.name}": (stage.on_gpu, stage.placement)
        for repository, pattern in REPOSITORIES.items()
        for stage in place_stages(repository, [pattern], read_kernels(release))
    }


def of_kind(release: str, ending: str) -> dict[str, Placement]:
    placements = {name: placement for name, (_, placement) in stages(release).items() if ending in name}
    assert placements
    return placements


@pytest.mark.parametrize("release", [NEWEST, TRITON_24_10])
def test_no_node_of_a_network_runs_on_the_cpu(release: str) -> None:
    """The traced nodes of NeMo's modules in the encoder's body; calculations with shapes are excepted."""
    for name, placement in of_kind(release, Part.ENCODER.value).items():
        network = [node for node in placement.nodes if node.name.startswith("group.model.")]
        assert len(network) > 40, name
        on_cpu = {node.operator for node in network if node.on_cpu and not node.shapes}
        assert on_cpu <= (MISSING_IN_1_19 if release == TRITON_24_10 else set()), name


@pytest.mark.parametrize("release", [NEWEST, TRITON_24_10])
def test_stages_for_a_gpu_load_there_with_nodes_on_the_cpu_for_a_known_reason(release: str) -> None:
    for name, (on_gpu, placement) in stages(release).items():
        if on_gpu:
            assert not placement.refusals, name
            on_cpu = {node.operator for node in placement.nodes if node.on_cpu and not node.shapes}
            assert on_cpu <= (MISSING_IN_1_19 if release == TRITON_24_10 else set()), name


@pytest.mark.parametrize("release", [NEWEST, TRITON_24_10])
@pytest.mark.parametrize(("kind", "limits"), [(FEATURES_STAGES, FEATURE_WAITS), (Part.ENCODER.value, ENCODER_WAITS)])
def test_waits_for_the_gpu_are_within_limits(release: str, kind: str, limits: dict[str, dict[str, int]]) -> None:
    for name, placement in of_kind(release, kind).items():
        for per, limit in limits[release].items():
            assert placement.count(True, per) <= limit, f"{name}, per {per}"


@pytest.mark.parametrize("release", [NEWEST, TRITON_24_10])
def test_waits_per_attention_block_are_within_limits(release: str) -> None:
    for name, placement in of_kind(release, "conformer").items():
        layers = sum(node.operator == "Softmax" for node in placement.nodes if node.per == PER_BLOCK)
        assert (Part.ENCODER.value in name) == (layers > 0)
        assert placement.count(True, PER_BLOCK) <= WAITS_PER_BLOCK * layers, name


@cache
def split_decoders(release: str) -> dict[str, tuple[Placement, Placement]]:
    """Decoders of all repositories, split as by `export.py --decoder-device gpu`: decoder and text stage."""
    kernels, placements = read_kernels(release), {}
    for repository, pattern in REPOSITORIES.items():
        for file in sorted(repository.glob(f"{Part.DECODER.of(pattern)}/1/model.onnx")):
            decoder, text = split_text(onnx.load(file))
            placements[file.parent.parent.name] = place(decoder, kernels), place(text, kernels)
    assert placements
    return placements


@pytest.mark.parametrize("release", [NEWEST, TRITON_24_10])
def test_a_decoder_with_text_does_not_load_on_a_gpu(release: str) -> None:
    for name, placement in of_kind(release, Part.DECODER.value).items():
        (refusal,) = placement.refusals
        assert "strings" in refusal, name


@pytest.mark.parametrize("release", [NEWEST, TRITON_24_10])
def test_a_decoder_without_text_loads_on_a_gpu(release: str) -> None:
    for name, (decoder, text) in split_decoders(release).items():
        assert not decoder.refusals and text.refusals, name
        on_cpu = {node.operator for node in decoder.nodes if node.on_cpu and not node.shapes}
        assert on_cpu <= ON_CPU_OUTSIDE_THE_LOOP | (MISSING_IN_1_19 if release == TRITON_24_10 else set()), name
        limits = RNNT_DECODER_WAITS if "step" in decoder.frequencies() else CTC_DECODER_WAITS
        for per, waits in limits[release].items():
            assert decoder.count(True, per) <= waits, f"{name}, per {per}"


@pytest.mark.parametrize("release", [NEWEST, TRITON_24_10])
def test_no_node_of_a_decoders_loop_runs_on_the_cpu(release: str) -> None:
    loops = 0
    for name, (decoder, _) in split_decoders(release).items():
        inside = [node for node in decoder.nodes if node.per != PER_BATCH]
        loops += bool(inside)
        on_cpu = {node.operator for node in inside if node.on_cpu and not node.shapes}
        assert on_cpu <= (MISSING_IN_1_19 if release == TRITON_24_10 else set()), name
    assert loops >= 2


def test_the_command_prints_a_table_and_writes_json(run_module: RunModule, tmp_path: Path) -> None:
    file = tmp_path / "placement.json"
    arguments = ("--model", "coffee_ctc", "--onnxruntime", NEWEST, "--nodes", "--json", file)
    finished = run_module("studies.gpu.placement", TEST_REPOSITORY, *arguments)
    assert finished.returncode == 0, finished.stderr
    assert Part.ENCODER.of("coffee_ctc") in finished.stdout and "coffee_rnnt" not in finished.stdout
    assert "to the host for Loop" in finished.stdout
    written = json.loads(file.read_text())
    assert written["onnxruntime"] == NEWEST
    encoder = written["stages"][Part.ENCODER.of("coffee_ctc")]
    assert encoder["on_gpu"] and {copy["per"] for copy in encoder["copies"]} == {PER_BATCH, PER_BUCKET}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((TEST_REPOSITORY, "--model", "nobody"), "nobody: "),
        ((TEST_REPOSITORY, "--onnxruntime", "0.1"), "Invalid value for '--onnxruntime'"),
        (("nowhere",), "'nowhere' does not exist"),
    ],
)
def test_errors_are_one_line(run_module: RunModule, arguments: tuple[object, ...], says: str) -> None:
    finished = run_module("studies.gpu.placement", *arguments)
    assert finished.returncode == 2 and finished.stderr.startswith("error: ")
    assert says in finished.stderr and finished.stderr.count("\n") == 1


def test_an_unreadable_graph_is_named(run_module: RunModule, tmp_path: Path) -> None:
    copied = tmp_path / "repository"
    for file in TEST_REPOSITORY.rglob("config.pbtxt"):
        target = copied / file.relative_to(TEST_REPOSITORY)
        target.parent.mkdir(parents=True)
        target.write_bytes(file.read_bytes())
        (target.parent / "1").mkdir()
        (target.parent / "1" / "model.onnx").write_bytes(b"no graph")
    finished = run_module("studies.gpu.placement", copied)
    assert finished.returncode == 2 and "model.onnx: not readable as an ONNX graph" in finished.stderr
