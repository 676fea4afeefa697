"""The command tritonserver of the virtual environment."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from server import launch, python_library
from server.model_processes import SUPERVISOR_VARIABLE
from server.process import running_server
from server.python_library import LaunchError
from server.repositories import check_paths
from server.shared_memory import shared_memory_warning

TRITONSERVER = Path(sys.prefix) / "bin" / "tritonserver"


@pytest.mark.fast
def test_the_command_accepts_nvidias_flags() -> None:
    result = subprocess.run([TRITONSERVER, "--help"], capture_output=True, text=True)
    assert "--model-repository" in result.stdout + result.stderr
    assert "--model-control-mode" in result.stdout + result.stderr
    assert "--open <list>" in result.stdout


@pytest.mark.fast
@pytest.mark.parametrize(("name", "shown"), [("my models", "a space"), ("models;reboot", ";"), ("$HOME", "$")])
def test_a_repository_that_a_shell_reads_differently(name: str, shown: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    result = subprocess.run([TRITONSERVER, "--model-repository", folder], capture_output=True, text=True)
    reason = f"Triton can't start models from a path with {shown}; rename the folder"
    assert (result.returncode, result.stderr) == (2, f"error: {folder}: {reason}\n")


@pytest.mark.fast
def test_names_of_other_languages_are_no_trouble(tmp_path: Path) -> None:
    check_paths([tmp_path / "modèles-話/v1.0_a@b+c"])


@pytest.mark.parametrize("form", ["--model-repository={}", "--model-store {}"])
def test_shared_memory_that_is_too_small(form: str, repository: Path) -> None:
    arguments = form.format(repository).split(" ")
    warning = shared_memory_warning(arguments, 64_000_000)
    assert warning is not None
    assert warning.startswith("/dev/shm has 64 MB and 16 concurrent requests of coffee_")
    assert shared_memory_warning(arguments, 3_000_000_000) is None
    assert shared_memory_warning(["--model-repository=s3://bucket/models"], 0) is None


def test_a_missing_repository(tmp_path: Path) -> None:
    result = subprocess.run(
        [TRITONSERVER, "--model-repository", tmp_path / "none", "--http-port=0", "--allow-grpc=0"],
        capture_output=True,
        text=True,
    )
    assert result.returncode != 0
    assert "none" in result.stdout + result.stderr


@pytest.mark.fast
def test_backends_are_assembled_and_updated(tmp_path: Path) -> None:
    triton = launch.find_triton()
    for _ in range(2):
        launch.assemble_backends(triton, tmp_path)
        names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
        assert names >= {
            "python/libtriton_python.so",
            "python/triton_python_backend_stub",
            "python/triton_python_backend_utils.py",
            "onnxruntime/model.py",
            "onnxruntime/checks.py",
        }
    (tmp_path / "onnxruntime" / "model.py").write_text("of an older version")
    launch.assemble_backends(triton, tmp_path)
    assert "class TritonPythonModel" in (tmp_path / "onnxruntime" / "model.py").read_text()


@pytest.mark.fast
def test_a_backend_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LaunchError, match="can't be written: Not a directory"):
        launch.assemble_backends(launch.find_triton(), tmp_path / "file" / "backends")


@pytest.mark.fast
@pytest.mark.parametrize(
    ("variable", "reader"), [(launch.CPUS_VARIABLE, "session.py"), (SUPERVISOR_VARIABLE, "supervision.py")]
)
def test_the_backend_reads_the_variables_that_the_server_sets(variable: str, reader: str) -> None:
    """Triton's stub runs the backend from a copy, without this package, so both sides write the name."""
    assert f'"{variable}"' in (launch.BACKENDS / "onnxruntime" / reader).read_text()


@pytest.mark.fast
@pytest.mark.parametrize(("on_gpus", "malloc"), [(False, launch.MALLOC), (True, launch.MALLOC_ON_GPUS)])
def test_settings_of_malloc_can_be_replaced(
    monkeypatch: pytest.MonkeyPatch, on_gpus: bool, malloc: dict[str, str]
) -> None:
    monkeypatch.setattr(launch, "onnxruntime_uses_gpus", lambda: on_gpus)
    for name in launch.MALLOC_ON_GPUS:
        monkeypatch.delenv(name, raising=False)
    environment = launch.environment(Path("triton"), None)
    assert {name: value for name, value in environment.items() if name.startswith("MALLOC_")} == malloc
    monkeypatch.setenv("MALLOC_ARENA_MAX", "16")
    environment = launch.environment(Path("triton"), None)
    assert environment["MALLOC_ARENA_MAX"] == "16"
    assert environment["MALLOC_MMAP_THRESHOLD_"] == malloc["MALLOC_MMAP_THRESHOLD_"]
    for name in launch.MALLOC_ON_GPUS:
        monkeypatch.setenv(name, "")
    environment = launch.environment(Path("triton"), None)
    assert not [name for name in environment if name.startswith("MALLOC_")], "malloc's defaults"


@pytest.mark.fast
def test_another_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(LaunchError, match="runs on Linux x86_64 only, this is linux aarch64"):
        launch.find_triton()


@pytest.mark.fast
def test_a_python_without_a_stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "python_version", lambda: "3.99")
    with pytest.raises(LaunchError, match=r"no Python backend for Python 3.99; use Python .*3\.11"):
        launch.find_triton()


@pytest.mark.fast
def test_a_python_without_its_shared_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    monkeypatch.setattr(sysconfig, "get_config_var", lambda name: None)
    monkeypatch.setattr(python_library, "find_library", lambda name: None)
    with pytest.raises(LaunchError, match=r"apt-get install libpython3\."):
        python_library.python_library_folder()


@pytest.mark.fast
@pytest.mark.parametrize("package", ["server", "export_scripts", "benchmark"])
def test_onnxruntime_sends_no_telemetry(package: str, tmp_path: Path) -> None:
    home = {**os.environ, "HOME": str(tmp_path)}
    home.pop("ORT_DISABLE_TELEMETRY", None)
    subprocess.run([sys.executable, "-c", f"import {package}, onnxruntime"], check=True, env=home)
    assert not [*tmp_path.rglob("*onnxruntime*")]


def test_onnxruntime_in_a_server_sends_no_telemetry(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    with running_server(repository, ["--model-control-mode=explicit", "--load-model=audio"]):
        assert not [*tmp_path.rglob("*onnxruntime*")]
