"""Pack the serving environment for a GPU machine without a network.

    python -m benchmark.studies.gpu.portable --out FOLDER

Runs in .venv/serve on Linux and needs no GPU. Writes FOLDER/serve.tar.xz.00, .01, ..., unpack.py and env.sh. They hold
this Python, the packages of server and client, and onnxruntime-gpu for one kind of chip. The project itself is not
packed: run it from a checkout. See docs/portable.md.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from collections.abc import Iterable
from importlib.metadata import Distribution
from pathlib import Path

import click
from packaging.tags import sys_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from benchmark.studies.gpu.fatbins import prune
from benchmark.studies.gpu.portable_archive import Archive, Parts, open_archive
from benchmark.studies.gpu.portable_packages import PROJECT, required
from benchmark.studies.gpu.portable_unpack import ARCHIVE
from nemo_triton.terminal import options
from server.python_library import LaunchError, python_library_folder, python_version

HERE = Path(__file__).parent
NEEDED = [f"{PROJECT}[server,client,benchmark]", "onnx", "psutil"]
STUBS = "/pytriton/tritonserver/python_backend_stubs"
LEFT_OUT_FILES = [
    *("*/__pycache__/*", "*/test/*", "*/tests/*", "*.a"),
    *("/site-packages/*", "/dist-packages/*", "/config-*", "/ensurepip/*", "/idlelib/*", "/lib2to3/*", "/pydoc_data/*"),
    *("/tkinter/*", "/turtledemo/*", "/lib-dynload/_tkinter.*"),
    *("/onnxruntime/capi/libonnxruntime.so.*", "/onnxruntime/capi/libonnxruntime_providers_tensorrt.so"),
    "/nvidia_pytriton.libs/libpython*",
    *(f"{STUBS}/3.{minor}/*" for minor in range(8, 30) if f"3.{minor}" != python_version()),
]
"""Patterns for files of the standard library and of packages that serving doesn't need."""
GLIBC = {"ld-linux-x86-64", "libc", "libdl", "libm", "libmvec", "libpthread", "libresolv", "librt", "libutil"}
CUDA_LIBRARY = "onnxruntime/capi/libonnxruntime_providers_cuda.so"

WRAPPER = """#!/bin/sh
export LD_LIBRARY_PATH={prefix}/python/lib${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}
exec {prefix}/bin/python{version} "$@"
"""
TRITONSERVER = """#!{prefix}/bin/python3
from server.launch import main

main()
"""


@click.command(help=__doc__)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write.")
@click.option(
    "--prefix",
    default="/opt/nemo-triton",
    show_default=True,
    help="Folder of the environment on the GPU machine; it works in no other folder.",
)
@click.option(
    "--onnxruntime-gpu",
    "version",
    default="1.31.1",
    show_default=True,
    help="Version that pip downloads; choose one for the machine's CUDA.",
)
@click.option(
    "--wheel",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Wheel of onnxruntime-gpu to use instead of a download.",
)
@click.option(
    "--compute-capability",
    "capability",
    type=click.IntRange(min=10),
    default=90,
    show_default=True,
    help="Chip whose kernels to keep: 80 for A100, 90 for H100 and H200.",
)
@click.option(
    "--part-mb",
    default=46,
    show_default=True,
    type=click.IntRange(1),
    help="Largest size of a part in MB (10^6 bytes); lower it if copies are limited.",
)
def main(out: Path, prefix: str, version: str, wheel: Path | None, capability: int, part_mb: int) -> None:
    started = time.monotonic()
    if not prefix.startswith("/") or len(prefix.split()) != 1:
        raise click.ClickException(f"{prefix}: not an absolute path, or has spaces; change --prefix")
    prefix = prefix.rstrip("/")
    libpython = shared_libpython()
    out.mkdir(parents=True, exist_ok=True)
    parts = Parts(out / ARCHIVE, part_mb * 1_000_000)
    with tempfile.TemporaryDirectory(dir=out) as work, open_archive(parts) as archive:
        onnxruntime = unpack_onnxruntime(wheel or download(version, Path(work)), Path(work) / "onnxruntime", capability)
        add_python(archive, prefix, libpython)
        click.echo(f"Python {python_version()}: {archive.bytes / 1e6:.0f} MB")
        add_packages(archive, prefix, onnxruntime)
    for name, source in (("unpack.py", "portable_unpack.py"), ("env.sh", "portable_env.sh")):
        (out / name).write_text((HERE / source).read_text().replace("@PREFIX@", prefix))
    for part in parts.written:
        click.echo(f"{part}: {part.stat().st_size / 1e6:.1f} MB")
    total = sum(part.stat().st_size for part in parts.written)
    click.echo(f"{archive.bytes / 1e6:.0f} MB packed as {total / 1e6:.1f} MB in {time.monotonic() - started:.0f} s")


def shared_libpython() -> Path:
    """Find this Python's shared library, which Triton's Python backend loads."""
    name = f"libpython{python_version()}.so.1.0"
    try:
        folder = python_library_folder()
    except LaunchError as error:
        raise click.ClickException(str(error)) from error
    if folder is not None:
        return folder / name
    ctypes.CDLL(name)
    mapped = (line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines())
    return next(Path(file) for file in mapped if file.endswith(name))


def download(version: str, folder: Path) -> Path:
    """Download the wheel of onnxruntime-gpu for this Python with pip."""
    click.echo(f"Downloading onnxruntime-gpu {version}")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--dest", str(folder), f"onnxruntime-gpu=={version}"]
    pip = subprocess.run(command, capture_output=True, text=True)
    if pip.returncode:
        reason = next((line for line in pip.stderr.splitlines() if line.startswith("ERROR")), "ERROR: pip failed")
        raise click.ClickException(f"onnxruntime-gpu {version}: download failed ({reason[7:]}); give a --wheel")
    return next(folder.glob("*.whl"))


def unpack_onnxruntime(wheel: Path, folder: Path, capability: int) -> Path:
    """Unpack the wheel into `folder`, with only the kernels for one kind of chip."""
    try:
        fits = not parse_wheel_filename(wheel.name)[3].isdisjoint(sys_tags())
    except InvalidWheelFilename:
        fits = False
    if not fits or not zipfile.is_zipfile(wheel):
        raise click.ClickException(f"{wheel}: not a wheel for Python {python_version()} on this system; change --wheel")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    library = folder / CUDA_LIBRARY
    try:
        pruned = prune(library, capability)
    except (OSError, ValueError) as error:
        message = str(error).replace(str(folder), wheel.name)
        raise click.ClickException(f"{message}; change --compute-capability or --onnxruntime-gpu") from error
    click.echo(f"Kernels for capability {capability}: {pruned.kept_bytes / 1e6:.0f} of {pruned.bytes / 1e6:.0f} MB")
    missing = [line.split()[0] for line in _ldd([library]) if line.endswith("not found")]
    click.echo(f"The GPU machine must have: {', '.join(sorted(missing))}, cuDNN")
    return folder


def add_python(archive: Archive, prefix: str, libpython: Path) -> None:
    """Add the interpreter in PREFIX/python, and its virtual environment in PREFIX."""
    version = python_version()
    home = f"{prefix}/python"
    standard_library = Path(sysconfig.get_path("stdlib"))
    binary = Path(sys.executable).resolve()
    archive.add(f"{home}/bin/python{version}", binary)
    archive.add_link(f"{home}/bin/python3", f"python{version}")
    archive.add(f"{home}/lib/{libpython.name}", libpython)
    for name, library in libraries([binary, *standard_library.glob("lib-dynload/*.so")]):
        if name != libpython.name and not name.startswith(("libtcl", "libtk", "libX")):
            archive.add(f"{home}/lib/{name}", library)
    archive.add_folder(f"{home}/lib/python{version}", standard_library, _files(standard_library), LEFT_OUT_FILES)
    archive.add_text(f"{prefix}/pyvenv.cfg", f"home = {home}/bin\ninclude-system-site-packages = false\n")
    archive.add_link(f"{prefix}/bin/python{version}", f"../python/bin/python{version}")
    archive.add_text(f"{prefix}/bin/python3", WRAPPER.format(prefix=prefix, version=version), 0o755)
    archive.add_link(f"{prefix}/bin/python", "python3")
    archive.add_text(f"{prefix}/bin/tritonserver", TRITONSERVER.format(prefix=prefix), 0o755)


def libraries(binaries: Iterable[Path]) -> list[tuple[str, Path]]:
    """Name and path of each shared library that `binaries` load, without glibc's."""
    rows = [line.split() for line in _ldd(binaries)]
    paths = {row[0]: Path(row[2]) for row in rows if row[1:2] == ["=>"] and row[2].startswith("/")}
    return sorted((name, path) for name, path in paths.items() if name.partition(".so")[0] not in GLIBC)


def _ldd(binaries: Iterable[Path]) -> list[str]:
    ldd = shutil.which("ldd")
    if ldd is None:
        raise click.ClickException("ldd: not found; run this on Linux with glibc")
    return subprocess.run([ldd, *map(str, binaries)], capture_output=True, text=True).stdout.splitlines()


def _files(folder: Path) -> list[Path]:
    return [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]


def add_packages(archive: Archive, prefix: str, onnxruntime: Path) -> None:
    """Add onnxruntime-gpu from its folder, and the packages that it and the project need."""
    site = f"{prefix}/lib/python{python_version()}/site-packages"
    wheel = Distribution.at(next(onnxruntime.glob("*.dist-info")))
    packages = sorted(required([*NEEDED, *(wheel.requires or ())]), key=lambda package: str(package.metadata["Name"]))
    for package in packages:
        # Skip the packages' commands (../../../bin/...): they name this machine's Python.
        files = [Path(file) for file in package.files or () if ".." not in file.parts]
        root = Path(str(package.locate_file("")))
        archive.add_folder(site, root, [file for file in files if (root / file).is_file()], LEFT_OUT_FILES)
    click.echo(f"{len(packages)} packages of {sys.prefix}: {archive.bytes / 1e6:.0f} MB with Python")
    archive.add_folder(site, onnxruntime, _files(onnxruntime), LEFT_OUT_FILES)


if __name__ == "__main__":
    options.run(main)
