"""The onnxruntime backend in a real tritonserver: what it serves and what it refuses."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
import small_models as small
import tritonclient.grpc
import tritonclient.grpc.aio
from tritonclient.utils import InferenceServerException

from export_scripts.operators.weights import write_graph
from server.process import Server, running_server

UNUSED = """
    parameters { key: "intra_op_thread_count" value { string_value: "1" } }
    parameters { key: "enable_mem_arena" value { string_value: "false" } }
"""
FOR_GPUS = """
    parameters { key: "cudnn_conv_algo_search" value { string_value: "1" } }
    optimization { execution_accelerators { gpu_execution_accelerator : [
        { name: "tensorrt" parameters { key: "precision_mode" value: "FP16" } },
        { name: "cuda" parameters { key: "use_tf32" value: "1" } }
    ] } }
"""

REFUSED: dict[str, tuple[onnx.ModelProto, str, str]] = {
    "missing_input": (
        small.ragged_sums(),
        small.RAGGED_SUMS[: small.RAGGED_SUMS.index("batch_input")],
        "configuration expects 1 inputs, model provides 2",
    ),
    "unknown_input": (
        small.double(),
        small.DOUBLE.replace('"X"', '"Y"'),
        "unexpected inference input 'Y', allowed inputs are: X",
    ),
    "unknown_output": (
        small.double(),
        small.DOUBLE.replace('"TWICE"', '"HALF"'),
        "unexpected inference output 'HALF', allowed outputs are: TWICE",
    ),
    "input_type": (
        small.double(),
        small.DOUBLE.replace("TYPE_FP32", "TYPE_INT32", 1),
        "configuration expects datatype TYPE_INT32 for input 'X', model provides TYPE_FP32",
    ),
    "ragged_but_two_dimensional": (
        small.shout(),
        small.SHOUT.replace("dims: [ 1 ]", "dims: [ 1 ] allow_ragged_batch: true", 1),
        "expects model provides input with shape [-1] for ragged input 'WORD', model provides [-1, 1]",
    ),
    "open_output": (
        small.ragged_sums(),
        small.RAGGED_SUMS.replace("dims: [ 1 ]", "dims: [ -1 ]"),
        "tensor 'SUM': the model expects 2 dimensions (shape [-1, 1])",
    ),
    "batch_input_of_int64": (
        small.ragged_sums(),
        small.RAGGED_SUMS.replace("TYPE_INT32", "TYPE_INT64"),
        "batch input",
    ),
    "optional_input": (
        small.double(),
        small.DOUBLE.replace("dims: [ 1 ]", "dims: [ 1 ] optional: true", 1),
        "optional input 'X' is not supported for models that support batching",
    ),
    "no_batch_dimension": (
        small.model(
            [onnx.helper.make_node("Identity", ["X"], ["Y"])],
            [("X", onnx.TensorProto.FLOAT, [1, 2])],
            [("Y", onnx.TensorProto.FLOAT, [1, 2])],
            {},
        ),
        """
        backend: "onnxruntime" max_batch_size: 4
        input { name: "X" data_type: TYPE_FP32 dims: [ 2 ] }
        output { name: "Y" data_type: TYPE_FP32 dims: [ 2 ] }
        """,
        "the first dimension must be -1",
    ),
    "bad_parameter": (
        small.double(),
        small.DOUBLE + 'parameters { key: "enable_mem_arena" value { string_value: "perhaps" } }',
        "parameter enable_mem_arena is 'perhaps'",
    ),
    "on_a_gpu": (
        small.double(),
        small.DOUBLE.replace("KIND_CPU", "KIND_GPU"),
        "GPU",
    ),
    "sequences": (
        small.double(),
        small.DOUBLE + "sequence_batching { }",
        "sequence batching is not implemented in this backend",
    ),
}

SERVED = (
    "sums",
    "two_instances",
    "for_gpus",
    "shout",
    "shout_in_threes",
    "double",
    "completed",
    "too_few_rows",
    "too_many_rows",
    "look_up",
    "weights_beside",
    "weights_in_a_folder",
)
DAMAGED_WEIGHTS = ("weights_missing", "weights_too_short")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    repository = tmp_path_factory.mktemp("repository")
    small.write(repository, "sums", small.ragged_sums(), small.RAGGED_SUMS)
    small.write(repository, "two_instances", small.double(), small.DOUBLE.replace("count: 1", "count: 2"))
    small.write(repository, "shout", small.shout(), small.SHOUT)
    patient = "max_batch_size: 3 dynamic_batching { max_queue_delay_microseconds: 2000000 }"
    small.write(repository, "shout_in_threes", small.shout(), small.SHOUT.replace("max_batch_size: 8", patient))
    small.write(repository, "double", small.double(), small.DOUBLE + UNUSED)
    small.write(repository, "for_gpus", small.double(), small.DOUBLE + FOR_GPUS)
    small.write(repository, "completed.onnx", small.double(), None)
    small.write(repository, "completed", small.shout(), 'backend: "onnxruntime"')
    few = 'backend: "onnxruntime" max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 200000 }'
    small.write(repository, "too_few_rows", small.too_few_rows(), few)
    small.write(repository, "too_many_rows", small.too_many_rows(), few)
    small.write(repository, "look_up", small.look_up(), f'backend: "onnxruntime" {patient}')
    for name in ("weights_beside", *DAMAGED_WEIGHTS):
        small.write(repository, name, small.shifted(), 'backend: "onnxruntime" max_batch_size: 4')
        write_graph(small.shifted(), repository / name / "1" / "model.onnx", largest_graph=0)
    in_folder = repository / "weights_in_a_folder"
    shutil.copytree(repository / "weights_beside" / "1", in_folder / "1" / "model.onnx")
    shutil.copy(repository / "weights_beside" / "config.pbtxt", in_folder)
    (repository / "weights_missing" / "1" / "model.onnx.data").unlink()
    (repository / "weights_too_short" / "1" / "model.onnx.data").write_bytes(bytes(100))
    for name, (graph, config, _) in REFUSED.items():
        small.write(repository, name, graph, config)
    with running_server(repository, ["--model-control-mode=explicit"], log=repository.parent / "log") as running:
        client = tritonclient.grpc.InferenceServerClient(running.grpc)
        for name in SERVED:
            client.load_model(name)
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Any:
    return tritonclient.grpc.InferenceServerClient(server.grpc)


def tensor(name: str, values: Any, triton_type: str = "FP32", module: Any = tritonclient.grpc) -> Any:
    infer_input = module.InferInput(name, list(values.shape), triton_type)
    infer_input.set_data_from_numpy(values)
    return infer_input


async def sums_of(server: Server, items: list[Any]) -> list[Any]:
    """Results or errors of concurrent requests, one per item."""
    async with tritonclient.grpc.aio.InferenceServerClient(server.grpc) as aio:
        calls = [aio.infer("sums", [tensor("X", item)]) for item in items]
        results = await asyncio.gather(*calls, return_exceptions=True)
    return [result if isinstance(result, BaseException) else result.as_numpy("SUM") for result in results]


def counters(client: Any, model: str, inferences: int = 0) -> tuple[int, int]:
    """Inferences and executions. Waits for `inferences`, because Triton counts a batch after its responses."""
    for _ in range(100):
        (statistics,) = client.get_inference_statistics(model).model_stats
        if statistics.inference_count >= inferences:
            break
        time.sleep(0.05)
    return statistics.inference_count, statistics.execution_count


async def test_requests_of_different_lengths_run_as_one_batch(server: Server, client: Any) -> None:
    inferences, executions = counters(client, "sums")
    items = [np.full((1, length), 1.0, np.float32) for length in (3, 1, 7, 2, 5, 4, 9, 6)]
    sums = await sums_of(server, items)
    assert [total.tolist() for total in sums] == [[[float(item.size)]] for item in items]
    assert counters(client, "sums", inferences + 8) == (inferences + 8, executions + 1)


async def test_a_request_of_two_items_in_a_batch(server: Server) -> None:
    pair = np.array([[1, 2, 3], [10, 20, 30]], np.float32)
    single = np.array([[5, 5]], np.float32)
    first, second, third = await sums_of(server, [single, pair, single])
    assert second.tolist() == [[6], [60]]
    assert first.tolist() == third.tolist() == [[10]]


async def test_only_the_item_without_elements_is_refused(server: Server) -> None:
    good = np.array([[4, 5]], np.float32)
    results = await sums_of(server, [good, np.zeros((1, 0), np.float32), good])
    assert "ragged input 'X' has an item without elements" in str(results[1])
    assert [results[0].tolist(), results[2].tolist()] == [[[9]], [[9]]]


@pytest.mark.parametrize("words", [["soy milk"], ["", "flat white"], ["crème brûlée", "a" * 5000, "x"]])
def test_strings(client: Any, words: list[str]) -> None:
    values = np.array([[word.encode()] for word in words], dtype=object)
    loud = client.infer("shout", [tensor("WORD", values, "BYTES")]).as_numpy("LOUD")
    assert [row[0].decode() for row in loud] == [word + "!" for word in words]


@pytest.mark.parametrize("model", ["double", "two_instances", "for_gpus"])
def test_reshaped_scalars(client: Any, model: str) -> None:
    values = np.array([[1], [2.5], [-4]], np.float32)
    assert client.infer(model, [tensor("X", values)]).as_numpy("TWICE").tolist() == [[2], [5], [-8]]


def test_a_configuration_completed_from_the_graph(client: Any) -> None:
    config = client.get_model_config("completed").config
    assert config.max_batch_size == 4
    assert [(entry.name, list(entry.dims)) for entry in (*config.input, *config.output)] == [
        ("WORD", [1]),
        ("LOUD", [1]),
    ]
    assert config.HasField("dynamic_batching")
    loud = client.infer("completed", [tensor("WORD", np.array([[b"tea"]], dtype=object), "BYTES")])
    assert loud.as_numpy("LOUD").tolist() == [[b"tea!"]]


def test_a_graph_with_fewer_rows_than_items_fails_its_batch(client: Any) -> None:
    with pytest.raises(InferenceServerException, match=r"output 'Y' has shape \[1, 1\] for a batch of 3"):
        client.infer("too_few_rows", [tensor("X", np.ones((3, 1), np.float32))])
    assert client.infer("too_few_rows", [tensor("X", np.ones((1, 1), np.float32))]).as_numpy("Y").tolist() == [[1]]


def test_a_graph_with_more_rows_than_items_fails_its_batch(client: Any) -> None:
    """The C++ backend drops the extra rows, whichever they are."""
    with pytest.raises(InferenceServerException, match=r"output 'Y' has shape \[6, 1\] for a batch of 3"):
        client.infer("too_many_rows", [tensor("X", np.ones((3, 1), np.float32))])


@pytest.mark.parametrize(
    ("word", "complaint"),
    [
        (b"la\0te", "input 'WORD' has a string with a NUL in it"),
        (b"\xff", "input 'WORD' has a string that is not UTF-8"),
    ],
)
async def test_only_the_invalid_string_is_refused(server: Server, client: Any, word: bytes, complaint: str) -> None:
    inferences, executions = counters(client, "shout_in_threes")
    async with tritonclient.grpc.aio.InferenceServerClient(server.grpc) as aio:
        words = [np.array([[value]], dtype=object) for value in (b"tea", word, b"milk")]
        calls = [aio.infer("shout_in_threes", [tensor("WORD", value, "BYTES")]) for value in words]
        results: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
    assert complaint in str(results.pop(1))
    assert [result.as_numpy("LOUD").item() for result in results] == [b"tea!", b"milk!"]
    assert counters(client, "shout_in_threes", inferences + 2)[1] == executions + 1, "not one batch"


async def test_only_the_request_that_fails_by_itself_fails(server: Server, client: Any) -> None:
    """The C++ backend fails the whole batch."""
    inferences, executions = counters(client, "look_up")
    async with tritonclient.grpc.aio.InferenceServerClient(server.grpc) as aio:
        calls = [aio.infer("look_up", [tensor("X", np.array([[index]]), "INT64")]) for index in (1, 99, 2)]
        results: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
    assert "idx=99 must be within the inclusive range" in str(results.pop(1))
    assert [result.as_numpy("Y").item() for result in results] == [11, 12]
    assert counters(client, "look_up", inferences + 2)[1] == executions + 1, "not one batch"


@pytest.mark.parametrize("model", ["weights_beside", "weights_in_a_folder"])
def test_weights_in_a_file(client: Any, model: str) -> None:
    """Beside the graph, as exports write them, and in Triton's layout with a folder called model.onnx."""
    result = client.infer(model, [tensor("X", np.ones((2, small.SHIFTED_WIDTH), np.float32))]).as_numpy("Y")
    assert np.array_equal(result, np.tile(1 + np.arange(small.SHIFTED_WIDTH, dtype=np.float32), (2, 1)))


@pytest.mark.parametrize("model", DAMAGED_WEIGHTS)
def test_a_model_without_its_weights_is_refused_in_one_line(client: Any, model: str) -> None:
    with pytest.raises(InferenceServerException) as refusal:
        client.load_model(model)
    assert f"model '{model}': the file of weights beside " in str(refusal.value)
    assert "is missing, too short or a link out of the folder; copy the model's whole folder" in str(refusal.value)
    assert client.is_server_live()


def test_two_instances_by_default(client: Any) -> None:
    """Two is Triton's default on a CPU."""
    config = client.get_model_config("completed").config
    assert [group.count for group in config.instance_group] == [2]


@pytest.mark.parametrize("model", REFUSED)
def test_configurations_that_the_cpp_backend_refuses_are_refused(client: Any, model: str) -> None:
    with pytest.raises(InferenceServerException) as refusal:
        client.load_model(model)
    assert REFUSED[model][2] in str(refusal.value)
    assert client.is_server_live()
