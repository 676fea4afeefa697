"""Every command in README and docs is run here or by another test, or is listed with the reason why no test runs it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from locations import DEMO_MANIFEST, PRECISION_REPOSITORY, ROOT
from pages import Command, commands

from nemo_triton.audio import as_float, load_audio
from server.process import running_server
from verification.encoding import encode

RUN_HERE = (
    r"python client/(transcribe|bench)\.py (?!.*(--slo|--ca|one:8001,two:8001)\b).*",
    r"nemo-triton (transcribe|bench|models).*",
    r"python -m benchmark\.report fp32\.json .*",
    r"curl .*/v2/health/ready",
)
"""Commands that a test here runs, in the order of the pages, with a server of the demo's models."""

SERVERS = r"tritonserver --model-repository[= ]model_repository.*"
"""Commands that a test here runs with the same options on free ports."""

ELSEWHERE = {
    r"make (demo|test|install|baselines)": ".ci/run",
    r"\. \.venv/(serve|export)/bin/activate|python3\.11 -m venv .*|\.venv/\w+/bin/pip install .*": ".ci/run",
    r"\.venv/serve/bin/python -m server\.install": ".ci/run",
    r"python export_scripts/export\.py (demo/coffee_\w+\.nemo|CHECKPOINT\S*) --repository model_repository": ".ci/run",
    r"python export_scripts/export\.py .*--target gpu": "tests/export_scripts/test_export.py",
    r"python export_scripts/export\.py .*--precision int8 .*": "tests/export_scripts/test_precision.py",
    r"python export_scripts/check\.py .*": "tests/export_scripts/test_export_command.py",
    r"pip install PATH_OF_THIS_CHECKOUT": "tests/packaging/test_wheel.py",
    r"(\S+/)?python -m benchmark\.(prepare|run|compare|score|report) .*": "tests/benchmark/test_run.py",
    r"(\S+/)?python -m benchmark\.baselines\.baseline_models .*": "tests/export_scripts/test_baseline_models.py",
    r"python -m benchmark\.studies\.gpu\.(pack|unpack) .*": "tests/export_scripts/test_pack.py",
    r"python -m benchmark\.studies\.gpu\.(texts|stages) .*": "tests/benchmark/test_gpu_stages.py",
    r"python -m benchmark\.studies\.gpu\.pytorch_encoder .*": "tests/export_scripts/test_pack.py",
    r"python -m benchmark\.studies\.gpu\.sweep .*": "tests/benchmark/test_gpu.py",
    r"python -m benchmark\.studies\.gpu\.placement .*": "tests/benchmark/test_placement.py",
    r"\S+python -m benchmark\.studies\.gpu\.portable .*": "tests/benchmark/test_portable.py",
    r"python3 build/portable/unpack\.py|\. build/portable/env\.sh": "tests/benchmark/test_portable.py",
    r"python3? -c 'import (soundfile|array).*": "tests/client/test_protocol_page.py",
    r"sh docker/tls/make_certificates\.sh .*|python client/\S+ .*--ca .*": "tests/client/test_tls.py",
    r"python client/bench\.py .*--slo .*": "tests/client/test_slo.py",
    r"python client/bench\.py --url one:8001,two:8001": "tests/client/test_bench_endpoints.py",
}
"""Commands by pattern, and the file of `make test` or the script of CI that runs them, some with other arguments."""

GRPC = r"[\w.]+:(8001|9001)\b"
"""gRPC addresses in commands."""

NOT_RUN = {
    r"python export_scripts/export\.py stt_en_.*": "downloads a published checkpoint",
    r".*docker (compose|build|push|tag|run) .*": "needs Docker; `make image-proof` builds and runs the same files",
    r"(helm|kubectl|sed .*kubectl) .*": "needs a cluster; tests check the files against their schemas",
    r"sudo .*": "changes the system",
    r"make (install|benchmark-gpu) SERVER=server-gpu|make benchmark-gpu": "needs a GPU",
    r"make install TORCH=.*": "needs PyTorch's index of CPU builds",
    r"make (attack|server-enders|stage-kills|sick-server|soak|fuzz|bench-memory|verify-\w+|report|models-\w+"
    r"|benchmark-\w+|image-proof|gpu-pack|perf-analyzer|test-nemo3).*": (
        "takes from some minutes to two hours; its programs have tests"
    ),
    r"\.venv/nemo3/bin/python export_scripts/export\.py .*": "`make test-nemo3` exports the same checkpoints",
    r"make pod-memory.*": "needs root and the exports of `make models-memory`; its program has a test",
    r"tar .*|export NEMO_PYTHON=.*|bash benchmark/studies/gpu/measure\.sh .*|.*build/gpu_pack/portable.*": (
        "is for a GPU machine without a network"
    ),
    r"\S+python -m verification\.fuzz\.fuzz_requests .* --replay FILE": "needs a file that the fuzzer wrote",
    r"python -m verification\.full_size\.make_checkpoint .*": "full-size architecture; `make verify-full` runs it",
    r"curl --remote-name .*|MAPPING=.*|protoc .*|go (mod|run|install) .*": "downloads Triton's protocol and Go modules",
    r"export PATH=.*GOPATH.*": "for the commands before and after it, which download",
}
"""Commands by pattern, and why no test runs them."""


def _matches(patterns: Iterable[str], command: str) -> list[str]:
    return [pattern for pattern in patterns if re.fullmatch(pattern, command)]


RULES = (*RUN_HERE, SERVERS, *ELSEWHERE, *NOT_RUN)


@pytest.mark.fast
@pytest.mark.parametrize("command", commands(), ids=str)
def test_each_command_has_a_test_or_a_reason(command: Command) -> None:
    assert _matches(RULES, command.text), "run it in a test, or list it with a reason"


@pytest.mark.fast
def test_every_rule_matches_a_command() -> None:
    texts = [command.text for command in commands()]
    assert [rule for rule in RULES if not any(re.fullmatch(rule, text) for text in texts)] == []
    assert [file for file in ELSEWHERE.values() if not (ROOT / file).exists()] == []


@pytest.fixture(scope="module")
def repository_of_all(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's models in fp32 and int8, in one repository."""
    folder = tmp_path_factory.mktemp("all") / "model_repository"
    folder.mkdir()
    for source in (repository, PRECISION_REPOSITORY):
        for model in source.iterdir():
            if model.is_dir() and not (folder / model.name).exists():
                (folder / model.name).symlink_to(model)
    return folder


@pytest.fixture(scope="module")
def checkout(repository_of_all: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the checkout, with a model repository and the files that commands name."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("benchmark", "client", "docker", "export_scripts", "nemo_triton"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "model_repository").symlink_to(repository_of_all)
    entries = [json.loads(line) for line in DEMO_MANIFEST.read_text(encoding="utf-8").splitlines()[:4]]
    for entry in entries:
        entry["audio_filepath"] = str(DEMO_MANIFEST.parent / entry["audio_filepath"])
    (folder / "recordings").mkdir()
    for name in ("order.wav", "recording.wav", "call.wav", "more.flac", "recordings/one.flac"):
        shutil.copy2(entries[0]["audio_filepath"], folder / name)
    samples = as_float(load_audio(entries[0]["audio_filepath"]))
    encode(samples, folder / "voice_note.m4a", codec="aac", rate=44100, container="mp4")
    for name in ("my_speech.jsonl", "manifest.jsonl"):
        (folder / name).write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def addresses(repository_of_all: Path) -> Iterator[dict[str, str]]:
    """Addresses of a server of all models, by pattern of the addresses in commands."""
    with running_server(repository_of_all) as server:
        yield {
            GRPC: server.grpc,
            r"localhost:8000\b": server.http,
            r"localhost:(8002|9002|9102)\b": server.metrics,
        }


def _environment() -> dict[str, str]:
    return os.environ | {"PATH": f"{ROOT / '.venv/serve/bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


def _for_this_server(command: str, addresses: dict[str, str]) -> str:
    for pattern, address in addresses.items():
        command = re.sub(pattern, address, command)
    command = command.replace("--model NAME", "--model coffee_rnnt")
    if re.match(r"python client/|nemo-triton ", command) and "--url" not in command:
        command = f"{command} --url {addresses[GRPC]}"
    if re.match(r"python client/|nemo-triton (transcribe|bench)", command) and "--model" not in command:
        command = f"{command} --model coffee_rnnt"
    return command


@pytest.mark.parametrize("command", [command for command in commands() if _matches(RUN_HERE, command.text)], ids=str)
def test_commands_run(command: Command, checkout: Path, addresses: dict[str, str]) -> None:
    line = _for_this_server(command.text, addresses)
    done = subprocess.run(["bash", "-c", line], cwd=checkout, env=_environment(), capture_output=True, text=True)
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


def _server_options() -> set[tuple[str, ...]]:
    """Return the options of all commands that start a server, without repository and ports."""
    elsewhere = r"--model-repository\b|model_repository$|--(grpc|http|metrics)-port\b"
    lines = [shlex.split(command.text)[1:] for command in commands() if re.fullmatch(SERVERS, command.text)]
    return {tuple(word for word in line if not re.match(elsewhere, word)) for line in lines}


@pytest.mark.parametrize("options", sorted(_server_options()), ids=" ".join)
def test_servers_start(options: tuple[str, ...], repository: Path, checkout: Path) -> None:
    folder = checkout / "certificates"
    if "--grpc-use-ssl=true" in options and not folder.exists():
        subprocess.run(["sh", "docker/tls/make_certificates.sh", folder], cwd=checkout, capture_output=True, check=True)
    with running_server(repository, [option.replace("=certificates", f"={folder}") for option in options]) as server:
        assert server.process.poll() is None
