"""What the launcher closes, and that Triton refuses it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from nemo_triton.recognizer import Recognizer
from server.access import KEY_VARIABLE, restrict
from server.process import Server, running_server
from server.python_library import LaunchError

CLOSED = "model-repository,shared-memory,trace,logging"
KEY = {KEY_VARIABLE: "secret"}
HEADER = "triton-grpc-protocol-nemo-triton-admin"


@pytest.fixture(scope="module")
def closed_server(repository: Path) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY_VARIABLE, "secret")
        arguments = ["--model-control-mode=explicit", "--load-model=coffee_ctc"]
        with running_server(repository, arguments, opened=()) as server:
            yield server


@pytest.mark.fast
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["--model-repository=m"],
            [
                "--http-address=127.0.0.1",
                f"--grpc-restricted-protocol={CLOSED}:nemo-triton-admin=secret",
                f"--http-restricted-api=inference,{CLOSED}:nemo-triton-admin=secret",
                "--model-repository=m",
            ],
        ),
        (["--open=admin,http-inference", "--http-address=0.0.0.0"], ["--http-address=0.0.0.0"]),
        (
            ["--open", "admin", "--http-address", "::1"],
            ["--http-restricted-api=inference:nemo-triton-admin=secret", "--http-address", "::1"],
        ),
        (
            ["--open=http-inference", "--grpc-restricted-protocol=trace:a=b"],
            [
                "--http-address=127.0.0.1",
                f"--http-restricted-api={CLOSED}:nemo-triton-admin=secret",
                "--grpc-restricted-protocol=trace:a=b",
            ],
        ),
    ],
)
def test_triton_gets_restrictions(arguments: list[str], expected: list[str]) -> None:
    assert restrict(arguments, KEY) == expected


@pytest.mark.fast
def test_each_start_has_another_secret() -> None:
    assert restrict([], {}) != restrict([], {})


@pytest.mark.fast
@pytest.mark.parametrize("value", ["everything", "", "admin,"])
def test_an_unknown_name_to_open(value: str) -> None:
    with pytest.raises(LaunchError, match="is unknown; use admin, http-inference or both"):
        restrict([f"--open={value}"], {})


@pytest.mark.fast
def test_a_key_that_no_header_can_carry() -> None:
    with pytest.raises(LaunchError, match=f"{KEY_VARIABLE}: has a character that a header can't carry"):
        restrict([], {KEY_VARIABLE: "two\nlines"})


def test_a_recognizer_connects_to_a_closed_server(closed_server: Server) -> None:
    with Recognizer(url=closed_server.grpc) as recognizer:
        assert recognizer.transcribe(np.zeros(16_000, np.int16)).attempts == 1


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("load_model", ["coffee_rnnt"]),
        ("register_system_shared_memory", ["region", "/key", 1]),
        ("update_trace_settings", [None, {"trace_file": "/tmp/file"}]),
        ("update_log_settings", [{"log_file": "/tmp/file"}]),
    ],
)
def test_administration_is_closed(method: str, arguments: list[object], closed_server: Server) -> None:
    with InferenceServerClient(closed_server.grpc) as client, pytest.raises(InferenceServerException) as refusal:
        getattr(client, method)(*arguments)
    assert HEADER in str(refusal.value)


def test_the_key_opens_administration(closed_server: Server) -> None:
    with InferenceServerClient(closed_server.grpc) as client:
        assert client.get_log_settings(headers={HEADER: "secret"})


def test_inference_by_http_is_refused_before_it_is_read(closed_server: Server) -> None:
    # Triton 2.51 ends if it reads this shape.
    tensor = {"name": "AUDIO", "shape": [1, 2**62], "datatype": "INT16", "data": [0]}
    url = f"http://{closed_server.http}/v2/models/coffee_ctc/infer"
    request = urllib.request.Request(url, json.dumps({"inputs": [tensor]}).encode())
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(request)
    assert refusal.value.code == 403
    with urllib.request.urlopen(f"http://{closed_server.http}/v2/health/ready") as answer:
        assert answer.status == 200
