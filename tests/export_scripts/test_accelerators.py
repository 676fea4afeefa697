"""GPU settings in configurations, and TensorRT's warm-up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
from locations import DEMO_MANIFEST
from onnx import TensorProto
from tritonclient.grpc import model_config_pb2 as triton

from export_scripts.errors import ExportError
from export_scripts.operators.builder import Graph, ints
from export_scripts.operators.ragged import give_length, ragged_input
from export_scripts.repository.config import Serving, Stage, stage_config
from export_scripts.repository.durations import read_lengths
from export_scripts.repository.gpu import ENGINE_CACHE, Lengths, TensorRt, computes_in_fp16, warm_up
from export_scripts.stages.audio import audio_graph
from nemo_triton.contract import AUDIO_STAGE, FEATURES, Part, Tensor

pytestmark = pytest.mark.fast

AUDIO_PATH = '"audio_filepath": "a.wav"'
LENGTHS = Lengths(shortest=0.5, longest=20.0)
TENSORRT = Serving(max_batch_size=8, accelerator="tensorrt", tensorrt=TensorRt(LENGTHS, "/engines"))
LENGTH_OF = Tensor("LENGTH_OF", "FP32", ("steps",))
ENCODER = Part.ENCODER.of("my")


def ragged_graph(values: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """A graph from FEATURES (ragged, width 4) to their lengths, with weights of type `values` inside an If."""
    g = Graph("ragged")
    items = ragged_input(g, FEATURES, mels=4)
    body = Graph("body")
    weights = body.constant(np.ones(3, onnx.helper.tensor_dtype_to_np_dtype(values)))
    length = body.read(items.length) + weights.shape
    body.output("length", length, TensorProto.INT64, ["items"])
    (length,) = g.add(
        "If",
        [(items.length.shape > ints(0)).squeeze()],
        1,
        then_branch=body.graph(),
        else_branch=body.graph(),
    )
    give_length(g, LENGTH_OF, length)
    return g.model()


def accelerators(config: triton.ModelConfig) -> dict[str, dict[str, str]]:
    """GPU accelerators of a configuration in order, with their parameters."""
    listed = config.optimization.execution_accelerators.gpu_execution_accelerator
    return {accelerator.name: dict(accelerator.parameters) for accelerator in listed}


def test_cuda_runs_gpu_stages_with_tf32_in_the_encoder_only() -> None:
    encoder = stage_config(Stage(name=ENCODER, graph=ragged_graph(), device="any", encodes=True), Serving())
    features = stage_config(Stage(name="mel", graph=ragged_graph(), device="any", shared=True), Serving())
    for config, tf32 in ((encoder, "1"), (features, "0")):
        assert accelerators(config) == {
            "cuda": {"cudnn_conv_use_max_workspace": "1", "cudnn_conv1d_pad_to_nc1d": "1", "use_tf32": tf32}
        }
        # The C++ backend reads these two from the parameters only.
        assert config.parameters["cudnn_conv_algo_search"].string_value == "2"
        assert config.parameters["arena_extend_strategy"].string_value == "1"
        assert config.instance_group[0].kind == triton.ModelInstanceGroup.KIND_AUTO


def test_a_stage_for_cpus_has_no_accelerator() -> None:
    config = stage_config(Stage(name=AUDIO_STAGE, graph=audio_graph(16000), device="cpu", shared=True), TENSORRT)
    assert accelerators(config) == {} and "cudnn_conv_algo_search" not in config.parameters


def test_tensorrt_runs_the_encoder_and_cuda_the_rest_of_it() -> None:
    encoder = accelerators(
        stage_config(Stage(name=ENCODER, graph=ragged_graph(), device="any", encodes=True), TENSORRT)
    )
    assert list(encoder) == ["tensorrt", "cuda"]
    assert encoder["tensorrt"]["trt_engine_cache_path"] == encoder["tensorrt"]["trt_timing_cache_path"] == "/engines"
    assert encoder["tensorrt"]["trt_engine_cache_prefix"] == ENCODER
    assert not [key for key in encoder["tensorrt"] if "profile" in key], (
        "shape ranges can't name the inputs of parts of a Loop's body"
    )
    features = accelerators(stage_config(Stage(name="mel", graph=ragged_graph(), device="any", shared=True), TENSORRT))
    decoder = accelerators(stage_config(Stage(name="decoder", graph=ragged_graph(), device="any"), TENSORRT))
    assert list(features) == list(decoder) == ["cuda"]


@pytest.mark.parametrize(("values", "mode"), [(TensorProto.FLOAT, "FP32"), (TensorProto.FLOAT16, "FP16")])
def test_tensorrt_computes_as_the_graph_does(values: int, mode: str) -> None:
    graph = ragged_graph(values)
    assert computes_in_fp16(graph) == (mode == "FP16")
    config = stage_config(Stage(name=ENCODER, graph=graph, device="any", encodes=True), TENSORRT)
    assert accelerators(config)["tensorrt"]["precision_mode"] == mode


def test_warm_up_runs_the_shortest_audio_and_a_batch_of_the_longest() -> None:
    config = stage_config(Stage(name=ENCODER, graph=ragged_graph(), device="any", encodes=True), TENSORRT)
    files = warm_up(config, LENGTHS, step_rate=100)
    assert [(sample.name, sample.batch_size) for sample in config.model_warmup] == [("shortest", 1), ("longest", 8)]
    for sample, steps in zip(config.model_warmup, (50, 2000), strict=True):
        assert list(sample.inputs[FEATURES.name].dims) == [steps, 4] and sample.inputs[FEATURES.name].random_data
        file = sample.inputs[FEATURES.length.name].input_data_file
        assert np.frombuffer(files[f"warmup/{file}"], np.int32).tolist() == [steps]
    assert len(files) == 2


def test_lengths_of_a_manifest() -> None:
    manifest = DEMO_MANIFEST
    durations = [json.loads(line)["duration"] for line in manifest.read_text().splitlines()]
    assert read_lengths(manifest) == Lengths(shortest=min(durations), longest=max(durations))


def test_lengths_without_durations(tmp_path: Path) -> None:
    """Most kinds of manifests have no durations, and folders none at all: the recordings are read."""
    for name, length in (("a", 32_000), ("b", 8_000), ("c", 24_000)):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(length, np.int16), 16_000)
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("filename,transcript,duration\na.wav,bear,-1\nb.wav,,\nc.wav,,1.75\n")
    assert read_lengths(manifest) == read_lengths(tmp_path) == Lengths(shortest=0.5, longest=2.0)
    manifest.write_text("filename,offset\na.wav,1.75\n")
    assert read_lengths(manifest) == Lengths(shortest=0.25, longest=0.25)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (f'{{{AUDIO_PATH}, "duration": 2}}\n{{{AUDIO_PATH}}}\n', ":2: {folder}/a.wav: no such file"),
        (f'{{{AUDIO_PATH}, "duration": "long"}}', ':1: duration is "long"; write seconds'),
        (f'{{{AUDIO_PATH}, "duration": 1}}\n{{"duration": 2}}\n', ":2: no audio_filepath"),
        ("\n", ": the manifest is empty"),
        ("filename,transcript\na.wav,text\n", ":2: {folder}/a.wav: no such file"),
        ("file,text\n", ": not a manifest"),
    ],
)
def test_lengths_that_cannot_be_read(content: str, complaint: str, tmp_path: Path) -> None:
    file = tmp_path / "manifest.jsonl"
    file.write_text(content)
    with pytest.raises(ExportError) as error:
        read_lengths(file)
    assert str(error.value).startswith(f"{file}{complaint.replace('{folder}', str(tmp_path))}")


def test_default_options_make_a_plain_cuda_export() -> None:
    engines = TensorRt(Lengths(shortest=1, longest=35), ENGINE_CACHE)
    assert Serving() == Serving(accelerator="cuda", decoder_device="cpu", tensorrt=engines)
