"""docs/protocol.md: its programs run as printed against a real server, and its tables match contract and server."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import grpc
import numpy as np
import pytest
import soundfile
import soxr
import tritonclient.grpc as triton_grpc
from bench_files import Spoken
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from locations import ROOT
from numpy.typing import NDArray
from servers import Triton
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException
from waiting import wait_until

from nemo_triton.audio import Samples, as_float, load_audio
from nemo_triton.contract import (
    AUDIO,
    AUDIO_FLOAT,
    DURATIONS,
    LABELS,
    LOG_PROBS,
    TEXT,
    TOKENS,
    TRANSCRIPT,
    Description,
    Part,
    Tensor,
    TensorType,
)
from nemo_triton.faults import OUTAGES
from nemo_triton.recognizer import Recognizer
from server.process import Server, running_server

PAGE = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
DEBIAN_GO = Path("/usr/share/gocode")
"""Where Debian installs the sources of Go packages."""
GO_PACKAGES = "golang-go golang-google-grpc-dev protobuf-compiler protoc-gen-go-1-3"
LONGEST = 1200 * 16000


def code(language: str, content: str) -> str:
    """Find the page's only block of code in this language with this content."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    (block,) = (block for block in blocks if content in block)
    return str(block)


def table(heading: str) -> list[list[str]]:
    """Read the rows of the first table under a heading, without its header."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line for line in section.partition("\n|")[2].partition("\n\n")[0].splitlines() if line]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip("|"))] for row in rows[2:]]


@pytest.fixture
def folder(tmp_path: Path, spoken: Spoken) -> Path:
    """A folder with order.wav, as the page's first command writes it."""
    command = code("sh", 'order.wav", *').replace("nemo_triton/demo_speech/0000_awb.flac", str(spoken[0][0]))
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment, check=True)
    return tmp_path


@pytest.fixture(scope="module")
def samples(spoken: Spoken) -> Samples:
    return load_audio(spoken[0][0])


@pytest.fixture(scope="module")
def text(triton: Triton, samples: Samples) -> str:
    with Recognizer(triton.model, triton.url) as recognizer:
        return recognizer.transcribe(samples).text


@pytest.fixture(scope="module")
def client(triton: Triton) -> Iterator[Any]:
    with triton_grpc.InferenceServerClient(triton.url) as client:
        yield client


def test_curl(folder: Path, triton: Triton, text: str) -> None:
    command = code("sh", "/infer").replace("localhost:8000", triton.http)
    response = json.loads(subprocess.run(["bash", "-c", command], cwd=folder, check=True, capture_output=True).stdout)
    assert response["outputs"][0]["data"][0] == text


def test_python(folder: Path, triton: Triton, text: str) -> None:
    program = code("python", '"order.wav"').replace("localhost:8001", triton.url)
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True)
    assert done.stdout.startswith(f"{text}\n["), done.stderr


def test_python_with_float_samples(folder: Path, triton: Triton, samples: Samples) -> None:
    telephone = folder / "telephone.wav"
    soundfile.write(telephone, soxr.resample(as_float(samples), 16_000, 8_000), 8_000, subtype="ULAW")
    with Recognizer(triton.model, triton.url) as recognizer:
        expected = recognizer.transcribe(load_audio(telephone)).text
    program = code("python", '"telephone.wav"').replace("localhost:8001", triton.url)
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True)
    assert expected and done.stdout == f"{expected}\n", done.stderr


def test_go(folder: Path, triton: Triton, text: str) -> None:
    missing = [program for program in ("go", "protoc", "protoc-gen-go") if shutil.which(program) is None]
    if missing or not (DEBIAN_GO / "src" / "google.golang.org" / "grpc").exists():
        pytest.skip(f"install Debian's {GO_PACKAGES}")
    version = subprocess.run(["protoc-gen-go", "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if version.stdout:
        pytest.skip("Debian's golang-google-grpc-dev needs protoc-gen-go-1-3 in place of protoc-gen-go")
    speech = folder / "src" / "speech"
    (speech / "triton").mkdir(parents=True)
    shutil.copy2(folder / "order.wav", speech)
    (speech / "main.go").write_text(code("go", "func main").replace("localhost:8001", triton.url))
    # The protocol files from tritonclient instead of GitHub.
    protocol = FileDescriptorSet()
    for module in (model_config_pb2, service_pb2):
        module.DESCRIPTOR.CopyToProto(protocol.file.add())
    (speech / "protocol.binpb").write_bytes(protocol.SerializeToString())
    generate = ["protoc", "--descriptor_set_in=protocol.binpb", "--go_out=plugins=grpc,import_path=triton:triton"]
    subprocess.run([*generate, "grpc_service.proto", "model_config.proto"], cwd=speech, check=True)
    # Without modules: Debian's packages take the place of `go mod tidy`.
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": f"{folder}:{DEBIAN_GO}", "GOFLAGS": ""}
    done = subprocess.run(["go", "run", "."], cwd=speech, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{text}\n"), done.stderr


def tensors(heading: str) -> list[Tensor]:
    """Read the tensors of a table on the page; of a row `TENSOR` of `MODEL` the tensor."""
    rows = []
    for name, dtype, shape, _ in table(heading):
        batch, *dims = shape.strip("[]").split(", ")
        assert batch == "1"
        sizes = tuple(int(size) if size.isdecimal() else size for size in dims)
        rows.append(Tensor(name.partition(" of ")[0].strip("`"), cast("TensorType", dtype), sizes))
    return rows


@pytest.mark.fast
def test_tensors_match_the_contract() -> None:
    assert tensors("Request") == [AUDIO, AUDIO_FLOAT]
    assert tensors("Response") == [*TRANSCRIPT, DURATIONS, LOG_PROBS, LABELS.length]


@pytest.mark.fast
def test_model_names_match_the_contract() -> None:
    names = re.findall(r"`NAME(_\w+)`", " ".join(row[0] for row in table("Models")))
    assert sorted(names) == sorted(part.value for part in Part)


@pytest.mark.fast
def test_parameters_match_the_contract() -> None:
    section = PAGE.partition("has these parameters")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted(field.name for field in fields(Description))


@pytest.mark.fast
def test_retries_match_the_client() -> None:
    statuses = {
        status for row in table("Errors") if row[3] in ("yes", "on another server") for status in row[0].split(", ")
    }
    assert {f"StatusCode.{status}" for status in statuses} == {*OUTAGES}
    retried = re.search(r'"retryableStatusCodes": (\[.*?\])', PAGE)
    assert retried and {*json.loads(retried[1])} == statuses


def test_tensors_and_parameters_match_the_served_models(client: Any, triton: Triton) -> None:
    int16, float32 = ([tensor] for tensor in tensors("Request"))
    with_log_probs = [tensor for tensor in tensors("Response") if tensor != DURATIONS]
    for name, inputs, outputs in (
        (triton.model, int16, TRANSCRIPT),
        (Part.FLOAT.of(triton.model), float32, TRANSCRIPT),
        (Part.LOG_PROBS.of(triton.model), int16, with_log_probs),
        (Part.FLOAT_LOG_PROBS.of(triton.model), float32, with_log_probs),
    ):
        metadata = client.get_model_metadata(name)
        for served, expected in ((metadata.inputs, inputs), (metadata.outputs, outputs)):
            assert {(tensor.name, tensor.datatype, len(tensor.shape)) for tensor in served} == {
                (tensor.name, tensor.dtype, 1 + len(tensor.dims)) for tensor in expected
            }
    parameters = client.get_model_config(triton.model).config.parameters
    assert {*parameters} == {field.name for field in fields(Description)}


def audio_input(samples: NDArray[Any], name: str = "AUDIO", dtype: str = "INT16") -> list[Any]:
    audio = triton_grpc.InferInput(name, samples.shape, dtype)
    audio.set_data_from_numpy(samples)
    return [audio]


def status(client: Any, *arguments: Any, **more: Any) -> tuple[str, str]:
    """Send a request that fails, and return its status and message."""
    with pytest.raises(InferenceServerException) as failed:
        client.infer(*arguments, **more)
    return failed.value.status().removeprefix("StatusCode."), failed.value.message()


def http_status(address: str, model: str, body: bytes, header: int | None = None) -> int:
    headers = {"Content-Type": "application/octet-stream"}
    if header is not None:
        headers["Inference-Header-Content-Length"] = str(header)
    request = urllib.request.Request(f"http://{address}/v2/models/{model}/infer", body, headers)
    try:
        with urllib.request.urlopen(request) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def json_request(count: int, name: str = "AUDIO") -> bytes:
    audio = {"name": name, "datatype": "INT16", "shape": [1, count], "parameters": {"binary_data_size": 2 * count}}
    return json.dumps({"inputs": [audio]}).encode()


def test_errors_of_invalid_requests(client: Any, triton: Triton, samples: Samples) -> None:
    model, good = triton.model, samples[None]
    outputs = [triton_grpc.InferRequestedOutput(LOG_PROBS.name)]
    invalid: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((model, audio_input(good, name="SPEECH")), {}),
        ((model, audio_input(good.astype(np.float32), dtype="FP32")), {}),
        ((model, audio_input(samples)), {}),
        ((model, audio_input(np.zeros((17, 160), np.int16))), {}),
        ((model, audio_input(good)), {"outputs": outputs}),
    ]
    for arguments, more in invalid:
        assert status(client, *arguments, **more)[0] == "INVALID_ARGUMENT"
    log_probs = Part.LOG_PROBS.of(model)
    deadlock = status(client, log_probs, audio_input(good), outputs=outputs)
    assert deadlock[0] == "INVALID_ARGUMENT" and "unexpected deadlock" in deadlock[1]
    with_text = [*outputs, triton_grpc.InferRequestedOutput(TEXT.name)]
    assert client.infer(log_probs, audio_input(good), outputs=with_text).as_numpy(LOG_PROBS.name).ndim == 3
    with grpc.insecure_channel(triton.url) as channel:
        request = service_pb2.ModelInferRequest(model_name=model, raw_input_contents=[bytes(50)])
        request.inputs.add(name="AUDIO", datatype="INT16", shape=[1, 100])
        with pytest.raises(grpc.RpcError) as short:
            service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request)
    assert short.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert http_status(triton.http, model, json_request(0, "SPEECH"), len(json_request(0, "SPEECH"))) == 400
    assert http_status(triton.http, model, b"{") == 500
    assert status(client, "none", audio_input(good))[0] == "NOT_FOUND"
    assert http_status(triton.http, "none", json_request(0), len(json_request(0))) == 404


def test_limits(client: Any, triton: Triton, samples: Samples, text: str) -> None:
    limits = {row[0]: row[1:] for row in table("Limits")}
    assert f"at most {LONGEST // 16000} seconds" in limits["longest recording"][0]
    too_long = np.zeros((1, LONGEST + 1), np.int16)
    reason = limits["longest recording"][1].split("`")[1]
    code, message = status(client, triton.model, audio_input(too_long))
    assert code == "INTERNAL" and reason in message
    header = json_request(LONGEST + 1)
    assert http_status(triton.http, triton.model, header + too_long.tobytes(), len(header)) == 500
    empty = client.infer(triton.model, audio_input(too_long[:, :0]))
    assert (empty.as_numpy(TEXT.name).item(), empty.as_numpy(TOKENS.length.name).item()) == (b"", 0)
    several = client.infer(triton.model, audio_input(np.stack([samples, samples])))
    assert several.as_numpy(TEXT.name).tolist() == [[text.encode()]] * 2


def test_deadlines_and_message_sizes(client: Any, triton: Triton, samples: Samples, text: str) -> None:
    minutes = np.resize(samples, LONGEST // 4)[None]
    assert status(client, triton.model, audio_input(minutes), client_timeout=0.01)[0] == "DEADLINE_EXCEEDED"
    ignored = client.infer(triton.model, audio_input(samples[None]), timeout=1)
    assert ignored.as_numpy(TEXT.name).item().decode() == text
    small = [("grpc.max_receive_message_length", 1000)]
    with triton_grpc.InferenceServerClient(triton.url, channel_args=small) as limited:
        code, _ = status(limited, Part.LOG_PROBS.of(triton.model), audio_input(samples[None]))
    assert code == "RESOURCE_EXHAUSTED"


def test_health_and_metadata(triton: Triton) -> None:
    rows = table("Health and metadata")
    assert len(rows) == 7
    with grpc.insecure_channel(triton.url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for _, methods, request in rows:
            for method in re.findall(r"`([\w.]+/?\w*)`", methods):
                if "/" in method:
                    # An empty message, and the field status with the value SERVING.
                    assert channel.unary_unary(f"/{method}", bytes, bytes)(b"") == b"\x08\x01"
                    continue
                message = getattr(service_pb2, f"{method}Request")()
                if method.startswith("Model"):
                    message.name = triton.model
                assert getattr(stub, method)(message).ByteSize() > 0
            method, path = request.strip("`").split()
            url = f"http://{triton.http}{path}".replace("NAME", triton.model)
            with urllib.request.urlopen(urllib.request.Request(url, method=method)) as response:
                assert response.status == 200


def send_over_http(
    server: Server, model: str, samples: NDArray[Any], finished: threading.Event, codes: list[int]
) -> None:
    header = json_request(samples.size)
    while not finished.is_set():
        with suppress(OSError):
            codes.append(http_status(server.http, model, header + samples.tobytes(), len(header)))


def send_over_grpc(
    server: Server, model: str, samples: NDArray[Any], finished: threading.Event, statuses: list[str]
) -> None:
    with triton_grpc.InferenceServerClient(server.grpc) as client:
        while not finished.is_set():
            try:
                client.infer(model, audio_input(samples))
                statuses.append("OK")
            except InferenceServerException as error:
                statuses.append(str(error.status()).removeprefix("StatusCode."))


def test_statuses_of_a_full_queue_and_of_a_server_that_shuts_down(
    repository: Path, triton: Triton, samples: Samples, tmp_path: Path
) -> None:
    shutil.copytree(repository, tmp_path / "models")
    config = tmp_path / "models" / Part.ENCODER.of(triton.model) / "config.pbtxt"
    content, count = re.subn(r"max_queue_size: \d+", "max_queue_size: 1", config.read_text())
    assert count == 1
    config.write_text(content)
    finished, statuses, codes = threading.Event(), list[str](), list[int]()
    only = ["--model-control-mode=explicit", f"--load-model={triton.model}"]
    with running_server(tmp_path / "models", only) as server:
        half_minute = np.resize(samples, 16000 * 30)[None]
        arguments = (server, triton.model, half_minute, finished)
        threads = [threading.Thread(target=send_over_grpc, args=(*arguments, statuses)) for _ in range(16)]
        threads += [threading.Thread(target=send_over_http, args=(*arguments, codes)) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: {*statuses} >= {"OK", "UNAVAILABLE"} and {*codes} >= {200, 503})
            full = {*statuses}, {*codes}
            server.process.send_signal(signal.SIGTERM)
            server.process.wait()
        finally:
            finished.set()
            for thread in threads:
                thread.join()
    assert full == ({"OK", "UNAVAILABLE"}, {200, 503})
    assert {*statuses} <= {"OK", *(status.removeprefix("StatusCode.") for status in OUTAGES)}


def test_the_demo_recording_is_as_the_page_says(folder: Path) -> None:
    info = soundfile.info(folder / "order.wav")
    assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
