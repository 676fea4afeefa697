"""The command `tritonserver` of a virtual environment: NVIDIA's binary with this project's onnxruntime backend.

The binary comes from the package nvidia-pytriton and takes the same flags as the one in NVIDIA's container. The package
has no onnxruntime backend, so the one in server/backends is added.
"""

from __future__ import annotations

import filecmp
import hashlib
import importlib.util
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import NoReturn

from server.access import HELP, restrict
from server.cgroup import available_cpus, cpu_limit
from server.python_library import LaunchError, python_library_folder, python_version
from server.repositories import check_paths, local_repositories
from server.shared_memory import shared_memory_warning, size_of_shared_memory

BACKENDS = Path(__file__).parent / "backends"
ASSEMBLE_ONLY = "--assemble-only"
"""Assemble the backends and exit. For images and installations where the server's user can't write."""
_SUPERVISE = "import sys; sys.path.insert(0, sys.argv.pop(1)); from server.supervisor import main; main()"
CPUS_VARIABLE = "NEMO_TRITON_CPUS"
"""Environment variable with the CPU cores of an encoder that has no `--encoder-threads`."""
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(128 * 1024), "MALLOC_ARENA_MAX": "2"}
"""Settings of glibc's malloc that give tensors' memory back when they are freed.

By default malloc raises the threshold to the size of the largest freed block, up to 32 MiB, and keeps smaller blocks in
fragments, in up to 8 arenas per core. With audio of mixed lengths, the memory of a server then grows for a long time.
"""
MALLOC_ON_GPUS = {**MALLOC, "MALLOC_MMAP_THRESHOLD_": str(2**20), "MALLOC_TRIM_THRESHOLD_": str(16 * 2**20)}
"""The same for GPU servers, which keep tensors up to 1 MiB. To map them anew costs little beside an encoder on a CPU,
but a fast GPU waits: with MALLOC, an H200 had 0.78 times the throughput of glibc's own settings (docs/gpu.md)."""


def main() -> NoReturn:
    """Become the server's supervisor. If the server can't run here, print one line to stderr and exit with code 2."""
    try:
        triton = find_triton()
        libraries = python_library_folder()
        backends = assemble_backends(triton, backend_folder(triton))
        if sys.argv[1:] == [ASSEMBLE_ONLY]:
            sys.exit(0)
        check_paths([backends, *local_repositories(sys.argv[1:])])
        arguments = restrict(sys.argv[1:])
    except LaunchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    if {"--help", "-h"} & {*arguments}:
        print(HELP, flush=True)
    if not any(argument.partition("=")[0] == "--backend-directory" for argument in arguments):
        arguments = [f"--backend-directory={backends}", *arguments]
    warning = shared_memory_warning(arguments, size_of_shared_memory())
    if warning:
        print(f"warning: {warning}", file=sys.stderr)
    server = [str(triton / "bin" / "tritonserver"), *arguments]
    # In a new process, because this one has onnxruntime in memory.
    supervisor = [sys.executable, "-I", "-c", _SUPERVISE, str(Path(__file__).parent.parent), *server]
    os.execve(sys.executable, supervisor, environment(triton, libraries))


def find_triton() -> Path:
    """Find the folder in nvidia-pytriton that holds bin, backends and python_backend_stubs.

    Raises:
        LaunchError: This platform, this Python or this environment can't run the server.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise LaunchError(
            f"tritonserver runs on Linux x86_64 only, this is {sys.platform} {platform.machine()}; "
            "use NVIDIA's container here"
        )
    package = importlib.util.find_spec("pytriton")
    if package is None or not package.submodule_search_locations:
        raise LaunchError(
            f"{sys.prefix} has no tritonserver (package nvidia-pytriton); activate the environment for serving "
            "(. .venv/serve/bin/activate), or create it with `make install`"
        )
    triton = Path(package.submodule_search_locations[0]) / "tritonserver"
    if not _stub(triton).exists():
        known = sorted(folder.name for folder in (triton / "python_backend_stubs").iterdir())
        raise LaunchError(
            f"nvidia-pytriton has no Python backend for Python {python_version()}; use Python {', '.join(known)}"
        )
    if importlib.util.find_spec("onnxruntime") is None:
        raise LaunchError(
            f"{sys.prefix} has no onnxruntime; pip install -c constraints/serve.txt onnxruntime (or onnxruntime-gpu)"
        )
    return triton


def backend_folder(triton: Path) -> Path:
    """Choose the folder for the backends: the environment if it is writable or complete, else this user's cache."""
    in_environment = Path(sys.prefix) / "share" / "tritonserver" / "backends"
    existing = next(folder for folder in (in_environment, *in_environment.parents) if folder.exists())
    if os.access(existing, os.W_OK) or all(
        _is_copy(source, target) for source, target in _parts(triton, in_environment)
    ):
        return in_environment
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "nemo-triton" / hashlib.sha256(sys.prefix.encode()).hexdigest()[:12] / "backends"


def assemble_backends(triton: Path, folder: Path) -> Path:
    """Copy the Python backend and the onnxruntime backend into `folder`.

    Raises:
        LaunchError: The folder can't be written.
    """
    try:
        for source, target in _parts(triton, folder):
            _copy(source, target)
    except OSError as error:
        raise LaunchError(
            f"{folder}: can't be written: {error.strerror}; check the path and its permissions"
        ) from error
    return folder


def environment(triton: Path, python_library: Path | None) -> dict[str, str]:
    """Environment variables with which the Python backend finds its libraries and this Python's packages.

    Triton's stub ignores PYTHONPATH. It uses the packages of the first python3 in PATH.
    """
    bundled = triton.parent.parent / "nvidia_pytriton.libs"
    folders = [*filter(None, [python_library]), bundled, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    hidden_gpus, malloc = ({}, MALLOC_ON_GPUS) if onnxruntime_uses_gpus() else ({"CUDA_VISIBLE_DEVICES": "-1"}, MALLOC)
    given = {**cpu_share(), **malloc, **os.environ}
    return {
        # Without empty settings of malloc, which it would take as 0 instead of its default.
        **{name: value for name, value in given.items() if value or name not in MALLOC_ON_GPUS},
        **hidden_gpus,
        "LD_LIBRARY_PATH": os.pathsep.join(map(str, folders)),
        "PATH": os.pathsep.join([str(Path(sys.prefix) / "bin"), os.environ.get("PATH", "")]),
    }


def cpu_share() -> dict[str, str]:
    """The variable for the CPU limit of this container, if there is one; onnxruntime would use all cores."""
    limit = cpu_limit()
    return {} if limit is None or limit >= available_cpus() else {CPUS_VARIABLE: str(limit)}


def onnxruntime_uses_gpus() -> bool:
    """Whether the installed onnxruntime has CUDA. If not, GPUs are hidden, so that Triton places no model there."""
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        return True
    if Path("/dev/nvidia0").exists():
        print("warning: GPUs are not used: this onnxruntime is for CPUs only; install onnxruntime-gpu", file=sys.stderr)
    return False


def _parts(triton: Path, folder: Path) -> list[tuple[Path, Path]]:
    """The files of the backends in `folder`, each with its source: (source, target)."""
    python = triton / "backends" / "python"
    return [
        *((path, folder / "python" / path.name) for path in python.iterdir() if path.is_file()),
        (_stub(triton), folder / "python" / "triton_python_backend_stub"),
        *((path, folder / "onnxruntime" / path.name) for path in (BACKENDS / "onnxruntime").glob("*.py")),
    ]


def _stub(triton: Path) -> Path:
    return triton / "python_backend_stubs" / python_version() / "triton_python_backend_stub"


def _is_copy(source: Path, target: Path) -> bool:
    return target.exists() and filecmp.cmp(source, target)


def _copy(source: Path, target: Path) -> None:
    """Copy a file unless it is there already. Safe while another server starts.

    Not a link: Triton refuses links that lead out of its backend folder.
    """
    if _is_copy(source, target):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copy2(source, fresh)
    fresh.replace(target)


if __name__ == "__main__":
    main()
