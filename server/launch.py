"""The `tritonserver` command of a virtual environment: NVIDIA's binary, with an onnxruntime backend.

The binary is the one that the package nvidia-pytriton carries; it takes the same flags as the one in
NVIDIA's container. That package has no onnxruntime backend, so the one beside this file is added.
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

from server.orphans import watch_over
from server.python_library import LaunchError, python_library_folder, python_version

BACKENDS = Path(__file__).parent / "backends"
ASSEMBLE_ONLY = "--assemble-only"
"""Our one flag: prepare the backends, as an installation by another user than the server's needs, and end."""


def main() -> NoReturn:
    """Become the server; only a reason why it can't run here returns control, with exit code 2."""
    try:
        triton = find_triton()
        libraries = python_library_folder()
        backends = assemble_backends(triton, backend_folder(triton))
        if sys.argv[1:] == [ASSEMBLE_ONLY]:
            sys.exit(0)
    except LaunchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    arguments = sys.argv[1:]
    if not any(argument.partition("=")[0] == "--backend-directory" for argument in arguments):
        arguments = [f"--backend-directory={backends}", *arguments]
    binary = triton / "bin" / "tritonserver"
    watch_over(os.getpid())
    os.execve(binary, [str(binary), *arguments], environment(triton, libraries))


def find_triton() -> Path:
    """The folder in nvidia-pytriton that holds bin, backends and python_backend_stubs."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise LaunchError(
            f"tritonserver runs on Linux x86_64 only, this is {sys.platform} {platform.machine()}; "
            "elsewhere use NVIDIA's container"
        )
    package = importlib.util.find_spec("pytriton")
    if package is None or not package.submodule_search_locations:
        raise LaunchError(
            f"{sys.prefix} has no tritonserver (package nvidia-pytriton): activate the environment for serving "
            "(. .venv/serve/bin/activate), or install this project's [server,client] into one of its own"
        )
    triton = Path(package.submodule_search_locations[0]) / "tritonserver"
    if not _stub(triton).exists():
        known = sorted(folder.name for folder in (triton / "python_backend_stubs").iterdir())
        raise LaunchError(
            f"nvidia-pytriton has no Python backend for Python {python_version()}; it has {', '.join(known)}"
        )
    if importlib.util.find_spec("onnxruntime") is None:
        raise LaunchError(
            f"{sys.prefix} has no onnxruntime: pip install -c constraints/serve.txt onnxruntime (or onnxruntime-gpu)"
        )
    return triton


def backend_folder(triton: Path) -> Path:
    """In the virtual environment where all is there already or can be written, else in this user's cache."""
    in_environment = Path(sys.prefix) / "share" / "tritonserver" / "backends"
    existing = next(folder for folder in (in_environment, *in_environment.parents) if folder.exists())
    if os.access(existing, os.W_OK) or all(
        _is_copy(source, target) for source, target in _parts(triton, in_environment)
    ):
        return in_environment
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "nemo-triton" / hashlib.sha256(sys.prefix.encode()).hexdigest()[:12] / "backends"


def assemble_backends(triton: Path, folder: Path) -> Path:
    """Bring the Python backend's parts together in `folder`, with the onnxruntime backend beside them."""
    try:
        for source, target in _parts(triton, folder):
            _copy(source, target)
    except OSError as error:
        raise LaunchError(f"{folder}: can't be written: {error.strerror}") from error
    return folder


def environment(triton: Path, python_library: Path | None) -> dict[str, str]:
    """This process's environment, such that the Python backend finds its libraries and this Python's packages.

    Triton's stub ignores PYTHONPATH; it finds the environment by the first python3 in PATH.
    """
    bundled = triton.parent.parent / "nvidia_pytriton.libs"
    folders = [*filter(None, [python_library]), bundled, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    hidden = {} if onnxruntime_uses_gpus() else {"CUDA_VISIBLE_DEVICES": "-1"}
    return {
        **os.environ,
        **hidden,
        "LD_LIBRARY_PATH": os.pathsep.join(map(str, folders)),
        "PATH": os.pathsep.join([str(Path(sys.prefix) / "bin"), os.environ.get("PATH", "")]),
    }


def onnxruntime_uses_gpus() -> bool:
    """Whether the installed onnxruntime has CUDA. If not, Triton must not place models on a GPU."""
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        return True
    if Path("/dev/nvidia0").exists():
        print("GPUs are not used: onnxruntime is its CPU build; install onnxruntime-gpu in its place", file=sys.stderr)
    return False


def _parts(triton: Path, folder: Path) -> list[tuple[Path, Path]]:
    """Each file that the backends in `folder` consist of, and where it is a copy from: (source, target)."""
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
    """Copy where the target is not the same file already, safely beside a server that starts at the same time.

    Triton refuses links that lead out of its backend folder.
    """
    if _is_copy(source, target):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copy2(source, fresh)
    fresh.replace(target)


if __name__ == "__main__":
    main()
