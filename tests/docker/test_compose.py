"""compose.yaml and its overrides: their schema, the merged result, and their flags on a real server."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from deployment import BIN, DOCKER, MAKE_CERTIFICATES, Compose, for_this_machine
from locations import DEMO_CHECKPOINT, DEMO_MANIFEST, ROOT
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from nemo_triton.audio import load_audio
from nemo_triton.manifest import read_manifest
from nemo_triton.recognizer import Recognizer
from server.process import Server, running_server

BASE = "compose.yaml"
OVERRIDES = ("compose.tls.yaml", "compose.tracing.yaml")
SERVERS = ("server-cpu", "server-gpu")
MODEL = DEMO_CHECKPOINT.stem
ONLY_THE_DEMO = ["--model-control-mode=explicit", f"--load-model={MODEL}"]


def test_compose_files_match_the_schema(tmp_path: Path) -> None:
    validate: list[str | Path] = [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec"]
    files = [DOCKER / name for name in (BASE, *OVERRIDES)]
    done = subprocess.run([*validate, *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    bad = tmp_path / "compose.yaml"
    bad.write_text((DOCKER / BASE).read_text().replace("shm_size:", "shmsize:"))
    assert subprocess.run([*validate, bad], capture_output=True).returncode == 1


def test_profiles(compose: Compose) -> None:
    services = compose(BASE)["services"]
    assert {name: service["profiles"] for name, service in services.items()} == {
        "export": ["export"],
        "server-cpu": ["cpu"],
        "server-gpu": ["gpu"],
        "bench": ["bench"],
        "prometheus": ["monitoring"],
        "grafana": ["monitoring"],
    }


def test_dockerfiles_exist_and_images_have_versions(compose: Compose) -> None:
    services = compose(BASE, "compose.tracing.yaml")["services"]
    for name, service in services.items():
        tag = service["image"].rpartition(":")[2]
        assert tag[:1] in "0123456789v" and tag != "latest", service["image"]
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).exists(), name


@pytest.mark.parametrize("files", [(BASE,), *((BASE, name) for name in OVERRIDES)])
def test_services_run_with_minimal_rights(compose: Compose, files: tuple[str, ...]) -> None:
    for name, service in compose(*files)["services"].items():
        assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"], name
        assert service.get("read_only") or name == "export", name
        for port in service.get("ports", ()):
            assert str(port).startswith("127.0.0.1:"), port
        for volume in service.get("volumes", ()):
            assert not (name in SERVERS and not volume.endswith(":ro")), volume


@pytest.mark.parametrize("files", [(BASE,), *((BASE, name) for name in OVERRIDES)])
def test_servers_publish_grpc_only_and_restart(compose: Compose, files: tuple[str, ...]) -> None:
    services = compose(*files)["services"]
    for name in SERVERS:
        server = services[name]
        assert [port.rpartition(":")[2] for port in server["ports"]] == ["8001"]
        # Any POST of 33 MB to the HTTP port ends Triton 2.51, so other containers must not reach it.
        assert {"--http-address=127.0.0.1", "--metrics-address=0.0.0.0"} <= set(server["command"])
        assert not [flag for flag in server["command"] if flag.startswith("--open")]
        # A server ends when the process of a model dies.
        assert server["restart"] == "unless-stopped"


def test_bench_writes_audio_to_a_volume_and_not_into_memory(compose: Compose) -> None:
    bench = compose(BASE)["services"]["bench"]
    (folder,) = re.findall(r"^ +TMPDIR=(\S+)$", (DOCKER / "client.Dockerfile").read_text(), re.MULTILINE)
    assert folder in bench["volumes"] and folder not in bench["tmpfs"]


def test_the_admin_key_comes_from_the_environment(compose: Compose) -> None:
    keys = [
        compose(BASE, **variables)["services"]["server-gpu"]["environment"]["NEMO_TRITON_ADMIN_KEY"]
        for variables in ({}, {"NEMO_TRITON_ADMIN_KEY": "secret"})
    ]
    assert [key or "" for key in keys] == ["", "secret"]


@pytest.mark.parametrize("override", OVERRIDES)
def test_an_override_keeps_flags_and_volumes(compose: Compose, override: str) -> None:
    base, over = compose(BASE)["services"], compose(BASE, override)["services"]
    for name in SERVERS:
        assert set(base[name]["command"]) < set(over[name]["command"])
        assert set(base[name]["volumes"]) <= set(over[name]["volumes"])


def test_settings_from_the_environment(compose: Compose) -> None:
    config = compose(
        BASE, MODEL_CONTROL="poll", LOG_VERBOSE="1", GRPC_PORT="9001", CHECKPOINT="stt_en_citrinet_512", BIND="0.0.0.0"
    )
    server = config["services"]["server-cpu"]
    assert "--model-control-mode=poll" in server["command"] and "--log-verbose=1" in server["command"]
    assert server["ports"] == ["0.0.0.0:9001:8001"]
    assert config["services"]["export"]["command"] == ["stt_en_citrinet_512", "--repository", "/models"]


def transcribe_all(server: Server) -> int:
    utterances = read_manifest(DEMO_MANIFEST).utterances
    with Recognizer(MODEL, server.grpc) as recognizer:
        return sum(bool(recognizer.transcribe(load_audio(utterance.audio)).text) for utterance in utterances)


def test_traces_of_each_stage_arrive(compose: Compose, repository: Path) -> None:
    with collector() as (url, received):
        flags = compose(BASE, "compose.tracing.yaml", TRACE_RATE="1")["services"]["server-cpu"]["command"]
        flags = [flag.replace("http://jaeger:4318", url) for flag in for_this_machine(flags)]
        # Triton sends the last spans when it ends.
        with running_server(repository, [*flags, *ONLY_THE_DEMO]) as server:
            assert transcribe_all(server)
    spans = [
        span["name"]
        for body in received
        for resource in body["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
    resources = [spans["resource"]["attributes"] for body in received for spans in body["resourceSpans"]]
    assert {"key": "service.name", "value": {"stringValue": "nemo-triton"}} in resources[0]
    assert {"audio", f"{MODEL}_encoder", f"{MODEL}_decoder", MODEL} <= set(spans)


@contextmanager
def collector() -> Iterator[tuple[str, list[Any]]]:
    """A stand-in for Jaeger. Yields its address and the list of what it received, OTLP as JSON."""
    received: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls") / "certificates"
    subprocess.run([MAKE_CERTIFICATES, folder, "localhost"], check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("mutual", ["false", "true"])
def test_tls_accepts_valid_clients_only(compose: Compose, repository: Path, certificates: Path, mutual: str) -> None:
    flags = compose(BASE, "compose.tls.yaml", MUTUAL=mutual)["services"]["server-cpu"]["command"]
    flags = for_this_machine(flags, tls=str(certificates))
    authority = {"ssl": True, "root_certificates": str(certificates / "ca.pem")}
    client_certificate = {
        "private_key": str(certificates / "client.key"),
        "certificate_chain": str(certificates / "client.pem"),
    }
    with running_server(repository, [*flags, *ONLY_THE_DEMO]) as server:
        url = f"localhost:{server.grpc.rpartition(':')[2]}"
        assert is_live(url, **authority, **client_certificate)
        assert is_live(url, **authority) == (mutual == "false")
        assert not is_live(url)
        assert not is_live(url, ssl=True)
        log = server.log.read_text()
    assert "HTTPService at 127.0.0.1" in log and "Metrics Service at 0.0.0.0" in log, (
        "Prometheus must reach the metrics"
    )


def is_live(url: str, **connection: object) -> bool:
    try:
        with InferenceServerClient(url, **connection) as client:
            return bool(client.is_server_live(client_timeout=30))
    except (InferenceServerException, grpc.RpcError):
        return False
