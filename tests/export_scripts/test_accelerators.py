"""What a GPU is asked for, as configurations say it, and what warms TensorRT up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from locations import DEMO_MANIFEST
from onnx import TensorProto
from tiny_models import NEW_NEMO
from tritonclient.grpc import model_config_pb2 as triton

from export_scripts.chain import write_recognizer
from export_scripts.check import check_repository
from export_scripts.checkpoints.checkpoint import open_checkpoint
from export_scripts.errors import ExportError
from export_scripts.operators.builder import Graph, ints
from export_scripts.operators.ragged import length_output, ragged_input
from export_scripts.repository.config import Serving, Stage, read_config, stage_config
from export_scripts.repository.durations import read_lengths
from export_scripts.repository.gpu import ENGINE_CACHE, Lengths, TensorRt, computes_in_half, warm_up
from export_scripts.stages.audio import audio_graph

TENSORRT = Serving(max_batch_size=8, accelerator="tensorrt", tensorrt=TensorRt(Lengths(0.5, 20.0), "/engines"))


def ragged_graph(values: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """FEATURES (ragged, 4 wide) -> FEATURES_LENGTH again; weights of type `values` within an If."""
    g = Graph("ragged")
    items = ragged_input(g, "FEATURES", TensorProto.FLOAT, width=4)
    body = Graph("body")
    weights = body.constant(np.ones(3, onnx.helper.tensor_dtype_to_np_dtype(values)))
    body.output("length", body.Add(items.length, body.Cast(body.Shape(weights), to=TensorProto.INT64)), 7, ["items"])
    (length,) = g.add(
        "If",
        [g.Squeeze(g.Greater(g.Shape(items.length), ints(0)))],
        1,
        then_branch=body.graph(),
        else_branch=body.graph(),
    )
    length_output(g, "LENGTH", length)
    return g.model()


def accelerators(config: triton.ModelConfig) -> dict[str, dict[str, str]]:
    """Of GPUs, with their parameters, in their order."""
    found = config.optimization.execution_accelerators.gpu_execution_accelerator
    return {one.name: dict(one.parameters) for one in found}


def test_a_stage_for_gpus_is_run_by_cuda_with_products_rounded_in_the_encoder_only() -> None:
    encoder = stage_config(Stage("encoder", ragged_graph(), "any", encodes=True), Serving())
    features = stage_config(Stage("mel", ragged_graph(), "any", shared=True), Serving())
    for config, tf32 in ((encoder, "1"), (features, "0")):
        assert accelerators(config) == {
            "cuda": {"cudnn_conv_use_max_workspace": "1", "cudnn_conv1d_pad_to_nc1d": "1", "use_tf32": tf32}
        }
        # The C++ backend takes these two from the parameters alone.
        assert config.parameters["cudnn_conv_algo_search"].string_value == "2"
        assert config.parameters["arena_extend_strategy"].string_value == "1"
        assert config.instance_group[0].kind == triton.ModelInstanceGroup.KIND_AUTO


def test_a_stage_for_cpus_has_no_accelerator() -> None:
    config = stage_config(Stage("audio", audio_graph(16000), "cpu", shared=True), TENSORRT)
    assert accelerators(config) == {} and "cudnn_conv_algo_search" not in config.parameters


def test_tensorrt_is_the_encoders_with_cuda_behind_it() -> None:
    encoder = accelerators(stage_config(Stage("my_encoder", ragged_graph(), "any", encodes=True), TENSORRT))
    assert list(encoder) == ["tensorrt", "cuda"]
    assert encoder["tensorrt"]["trt_engine_cache_path"] == encoder["tensorrt"]["trt_timing_cache_path"] == "/engines"
    assert encoder["tensorrt"]["trt_engine_cache_prefix"] == "my_encoder"
    assert not [key for key in encoder["tensorrt"] if "profile" in key], (
        "parts of a Loop's body have names of their own"
    )
    features = accelerators(stage_config(Stage("mel", ragged_graph(), "any", shared=True), TENSORRT))
    decoder = accelerators(stage_config(Stage("decoder", ragged_graph(), "any"), TENSORRT))
    assert list(features) == list(decoder) == ["cuda"]


@pytest.mark.parametrize(("values", "mode"), [(TensorProto.FLOAT, "FP32"), (TensorProto.FLOAT16, "FP16")])
def test_tensorrt_computes_as_the_graph_does(values: int, mode: str) -> None:
    graph = ragged_graph(values)
    assert computes_in_half(graph) == (mode == "FP16")
    config = stage_config(Stage("encoder", graph, "any", encodes=True), TENSORRT)
    assert accelerators(config)["tensorrt"]["precision_mode"] == mode


def test_a_warm_up_has_the_shortest_and_a_batch_of_the_longest() -> None:
    config = stage_config(Stage("encoder", ragged_graph(), "any", encodes=True), TENSORRT)
    files = warm_up(config, Lengths(0.5, 20.0), step_rate=100)
    assert [(sample.name, sample.batch_size) for sample in config.model_warmup] == [("shortest", 1), ("longest", 8)]
    for sample, steps in zip(config.model_warmup, (50, 2000), strict=True):
        assert list(sample.inputs["FEATURES"].dims) == [steps, 4] and sample.inputs["FEATURES"].random_data
        file = sample.inputs["FEATURES_LENGTH"].input_data_file
        assert np.frombuffer(files[f"warmup/{file}"], np.int32).tolist() == [steps]
    assert len(files) == 2


def test_a_recognizer_for_tensorrt_has_its_warm_up_beside_it(
    checkpoint_file: Callable[[str, str], Path], tmp_path: Path
) -> None:
    checkpoint = open_checkpoint(str(checkpoint_file("quartznet", NEW_NEMO)))
    write_recognizer(tmp_path, checkpoint, TENSORRT)
    assert check_repository(tmp_path) == []
    encoder = tmp_path / f"{checkpoint.name}_encoder"
    for sample in read_config(encoder).model_warmup:
        (named,) = {given.input_data_file for given in sample.inputs.values()} - {""}
        assert (encoder / "warmup" / named).stat().st_size == 4
    assert [path.name for path in tmp_path.glob("*/warmup")] == ["warmup"]


@pytest.mark.parametrize(("device", "kind"), [("cpu", "KIND_CPU"), ("gpu", "KIND_AUTO")])
def test_the_decoders_device(
    device: str, kind: str, checkpoint_file: Callable[[str, str], Path], tmp_path: Path
) -> None:
    checkpoint = open_checkpoint(str(checkpoint_file("contextnet", NEW_NEMO)))
    write_recognizer(tmp_path, checkpoint, Serving(decoder_device="gpu" if device == "gpu" else "cpu"))
    decoder = read_config(tmp_path / f"{checkpoint.name}_decoder")
    assert triton.ModelInstanceGroup.Kind.Name(decoder.instance_group[0].kind) == kind
    assert list(accelerators(decoder)) == (["cuda"] if device == "gpu" else [])


def test_lengths_of_a_manifest() -> None:
    manifest = DEMO_MANIFEST
    durations = [json.loads(line)["duration"] for line in manifest.read_text().splitlines()]
    assert read_lengths(manifest) == Lengths(min(durations), max(durations))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"duration": 2}\n{"text": "no duration"}\n', ":2: no duration"),
        ('{"duration": -1}\n', ":1: duration is -1; it must be more"),
        ("\n", ": holds no line"),
        ("audio,text\n", ":1: no duration"),
    ],
)
def test_a_manifest_without_lengths(content: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "manifest.jsonl"
    file.write_text(content)
    with pytest.raises(ExportError) as error:
        read_lengths(file)
    assert str(error.value).startswith(f"{file}{says}")


def test_what_the_command_line_leaves_out_is_a_plain_cuda_export() -> None:
    assert Serving() == Serving(
        accelerator="cuda", decoder_device="cpu", tensorrt=TensorRt(Lengths(1, 35), ENGINE_CACHE)
    )
