"""The entry of the image server-gpu: which flags it adds, and what they close on a real tritonserver."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

import grpc
import pytest
from deployment import DOCKER
from locations import DEMO_CHECKPOINT
from tritonclient.grpc import service_pb2, service_pb2_grpc

from server.access import KEY_VARIABLE, restrict
from server.process import running_server

LAUNCH = DOCKER / "server-gpu" / "launch_tritonserver"
HEADER = "nemo-triton-admin"
KEY = "a-key"

Launch = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    """Run the entry with a stand-in for tritonserver that prints its arguments, one a line."""
    stand_in = tmp_path / "tritonserver"
    stand_in.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    stand_in.chmod(0o755)

    def run(*arguments: str, key: str | None = KEY) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        environment.pop("NEMO_TRITON_ADMIN_KEY", None)
        if key is not None:
            environment["NEMO_TRITON_ADMIN_KEY"] = key
        return subprocess.run([LAUNCH, *arguments], env=environment, capture_output=True, text=True)

    return run


@pytest.mark.fast
@pytest.mark.parametrize(
    "arguments",
    [
        ["--model-repository=/a b"],
        ["--open=admin"],
        ["--open=http-inference"],
        ["--open=http-inference,admin", "--log-verbose=1"],
        ["--grpc-restricted-protocol=trace:a=b"],
        ["--http-restricted-api", "trace:a=b"],
        ["--http-address=0.0.0.0"],
        ["--open=http-inference", "--log-verbose=1", "--open", "admin"],
    ],
    ids=str,
)
def test_the_flags_are_the_launchers(launch: Launch, arguments: list[str]) -> None:
    expected = restrict(arguments, {KEY_VARIABLE: KEY})
    assert sorted(launch(*arguments).stdout.splitlines()) == sorted(expected)


@pytest.mark.fast
def test_the_key_is_random_unless_the_environment_has_one(launch: Launch) -> None:
    outputs = [launch("--http-address=::1", key=key).stdout for key in (None, None, "", KEY)]
    keys = {output.rpartition("=")[2].strip() for output in outputs}
    assert len(keys) == 4 and KEY in keys
    assert all(len(key) >= 32 for key in keys - {KEY})


@pytest.mark.fast
@pytest.mark.parametrize(
    ("arguments", "key", "error"),
    [
        (["--open=everything"], KEY, "--open=everything: unknown; use admin, http-inference or both"),
        (["--open"], KEY, "--open needs a value"),
        ([], "a:key", "NEMO_TRITON_ADMIN_KEY has a character"),
    ],
    ids=["unknown group", "no value", "key"],
)
def test_wrong_settings_are_refused_in_one_line(launch: Launch, arguments: list[str], key: str, error: str) -> None:
    done = launch(*arguments, key=key)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"error: {error}") and done.stderr.count("\n") == 1


def test_tritonserver_closes_what_the_flags_name(launch: Launch, repository: Path) -> None:
    model = DEMO_CHECKPOINT.stem
    flags = launch("--model-control-mode=explicit", f"--load-model={model}").stdout.splitlines()
    with (
        running_server(repository, flags) as server,
        grpc.insecure_channel(server.grpc) as channel,
    ):
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        request = service_pb2.LogSettingsRequest()
        with pytest.raises(grpc.RpcError, match=f"restricted, expecting header 'triton-grpc-protocol-{HEADER}'"):
            stub.LogSettings(request, timeout=30)
        stub.LogSettings(request, timeout=30, metadata=[(f"triton-grpc-protocol-{HEADER}", KEY)])
        audio = service_pb2.ModelInferRequest(model_name=model, raw_input_contents=[bytes(3200)])
        audio.inputs.add(name="AUDIO", datatype="INT16", shape=[1, 1600])
        assert stub.ModelInfer(audio, timeout=60).outputs
        # Refused before the body is parsed: this JSON isn't valid, and one that is nested deeply ends Triton 2.51.
        assert http_status(server.http, f"/v2/models/{model}/infer", "[" * 1_000_000) == 403
        assert http_status(server.http, "/v2/logging", "[" * 1_000_000) == 403
        assert http_status(server.http, "/v2/logging", "{}", key=KEY) == 200
        assert http_status(server.http, "/v2/health/ready") == 200


def http_status(address: str, path: str, body: str | None = None, key: str = "another") -> int:
    connection = HTTPConnection(address, timeout=30)
    connection.request("POST" if body else "GET", path, body, {"Content-Type": "application/json", HEADER: key})
    try:
        return connection.getresponse().status
    finally:
        connection.close()
