"""The packed serving environment: kernels for one chip, parts, unpacking, env.sh. Nothing is downloaded."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from benchmark_results import RunModule
from locations import ROOT

from benchmark.studies.gpu.fatbins import ELF, PTX, prune
from benchmark.studies.gpu.portable_archive import Parts, open_archive
from benchmark.studies.gpu.portable_packages import PROJECT, required
from benchmark.studies.gpu.portable_unpack import ARCHIVE

pytestmark = pytest.mark.fast

GPU = ROOT / "benchmark" / "studies" / "gpu"
SECTION_NAMES = b"\0.nv_fatbin\0.text\0"
ENTRY_HEADER = 64
Code = tuple[int, int, bytes]
"""Kind, architecture, payload."""


def fatbin(*codes: Code) -> bytes:
    entries = b"".join(
        struct.pack("<HHIQ12xI", kind, 0x101, ENTRY_HEADER, len(payload), architecture).ljust(ENTRY_HEADER, b"\xee")
        + payload
        for kind, architecture, payload in codes
    )
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(entries)) + entries


def library(file: Path, fatbins: Sequence[bytes]) -> Path:
    """Write an ELF file whose section .nv_fatbin has `fatbins` with padding between them."""
    code = (b"\0" * 8).join(fatbins)
    names_at, code_at = 64, 64 + len(SECTION_NAMES)
    table = code_at + len(code)
    rows = [
        struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, names_at, len(SECTION_NAMES), 0, 0, 1, 0),
        struct.pack("<IIQQQQIIQQ", 1, 1, 2, 0, code_at, len(code), 0, 0, 8, 0),
    ]
    header = b"\x7fELF\x02\x01".ljust(0x28, b"\0") + struct.pack("<Q", table)
    header = header.ljust(0x3A, b"\0") + struct.pack("<HHH", 64, len(rows), 1)
    file.write_bytes(header + SECTION_NAMES + code + b"".join(rows))
    return file


def code(kind: int, architecture: int) -> Code:
    return kind, architecture, bytes([kind, architecture]) * 20


FIRST = [code(ELF, 75), code(ELF, 80), code(ELF, 86), code(ELF, 90), code(ELF, 90), code(PTX, 90)]
SECOND = [code(ELF, 75), code(PTX, 52), code(PTX, 75), code(ELF, 120)]
ONLY_HOPPER = [code(ELF, 90)]


@pytest.mark.parametrize(
    ("capability", "kept"),
    [
        (90, ([3, 4], [2], [0])),
        (86, ([2], [2], [])),
        (87, ([2], [2], [])),
        (80, ([1], [2], [])),
        (75, ([0], [0], [])),
        (100, ([5], [2], [])),
        (121, ([5], [3], [])),
        (61, ([], [1], [])),
    ],
)
def test_only_code_that_the_chip_would_choose_is_kept(
    tmp_path: Path, capability: int, kept: tuple[list[int], ...]
) -> None:
    all_codes = (FIRST, SECOND, ONLY_HOPPER)
    file = library(tmp_path / "cuda.so", [fatbin(*codes) for codes in all_codes])
    size = file.stat().st_size
    pruned = prune(file, capability)
    expected = [
        fatbin(
            *(
                (kind, architecture, payload if index in indices else bytes(len(payload)))
                for index, (kind, architecture, payload) in enumerate(codes)
            )
        )
        for codes, indices in zip(all_codes, kept, strict=True)
    ]
    assert file.read_bytes() == library(tmp_path / "expected.so", expected).read_bytes()
    assert file.stat().st_size == size
    assert (pruned.fatbins, pruned.bytes, pruned.kept_bytes) == (3, 11 * 40, sum(map(len, kept)) * 40)


def test_a_library_without_code_for_the_chip_is_named_and_unchanged(tmp_path: Path) -> None:
    file = library(tmp_path / "cuda.so", [fatbin(*ONLY_HOPPER)])
    before = file.read_bytes()
    with pytest.raises(ValueError, match=r"cuda\.so: no GPU code for compute capability 80 \(it has: 90\)"):
        prune(file, 80)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (fatbin((16, 90, b"1234")), "unknown kind of GPU code"),
        (fatbin((ELF, 90, b"1234"))[:-2], "unknown format of GPU code"),
        (b"\x01" * 64, "unknown format of GPU code"),
        (struct.pack("<IHHQ", 0xBA55ED50, 2, 16, 0), "unknown format of GPU code"),
        (fatbin(), "no GPU code for compute capability 90"),
        (b"", "no GPU code for compute capability 90"),
    ],
)
def test_an_unknown_format_is_an_error(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=rf"cuda\.so: {message}"):
        prune(library(tmp_path / "cuda.so", [content]), 90)


def test_other_files_are_an_error(tmp_path: Path) -> None:
    for content in (b"", b"#!/bin/sh\n" * 20, b"\x7fELF\x02\x01"):
        file = tmp_path / "file"
        file.write_bytes(content)
        with pytest.raises(ValueError, match="file: "):
            prune(file, 90)


def test_joined_parts_equal_the_data(tmp_path: Path) -> None:
    (tmp_path / "data.7").write_bytes(b"of an earlier run")
    data = os.urandom(2500)
    with Parts(tmp_path / "data", 1000) as parts:
        for start in range(0, len(data), 300):
            parts.write(data[start : start + 300])
    assert [part.name for part in parts.written] == ["data.00", "data.01", "data.02"]
    assert sorted(tmp_path.iterdir()) == parts.written
    assert [part.stat().st_size for part in parts.written] == [1000, 1000, 500]
    assert b"".join(part.read_bytes() for part in parts.written) == data


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A folder with a small archive in parts, and unpack.py."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "noise").write_bytes(os.urandom(5000))
    (source / "zeros").write_bytes(b"begin" + bytes(4_000_000) + b"end" + bytes(1_000_000))
    (source / "program").write_text("#!/bin/sh\necho runs\n")
    (source / "program").chmod(0o700)
    folder = tmp_path / "packed"
    folder.mkdir()
    with open_archive(Parts(folder / ARCHIVE, 2000)) as archive:
        for name in ("noise", "zeros", "program"):
            archive.add(f"/opt/kit/bin/{name}", source / name)
        archive.add_link("/opt/kit/bin/link", "program")
        archive.add_text("/opt/kit/empty", "")
    shutil.copy(GPU / "portable_unpack.py", folder / "unpack.py")
    return folder


def unpack(folder: Path, root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(folder / "unpack.py"), str(root)]
    return subprocess.run(command, capture_output=True, text=True)


def test_unpack_restores_modes_links_and_holes(packed: Path, tmp_path: Path) -> None:
    root, source = tmp_path / "root", tmp_path / "source"
    assert len(list(packed.glob(f"{ARCHIVE}.*"))) >= 3
    for _ in range(2):  # the second time over existing files
        unpacked = unpack(packed, root)
        assert (unpacked.returncode, unpacked.stderr) == (0, "")
        assert unpacked.stdout == f"5 files unpacked below {root}\n"
    kit = root / "opt" / "kit"
    for name in ("noise", "zeros", "program"):
        assert (kit / "bin" / name).read_bytes() == (source / name).read_bytes()
    assert (kit / "bin" / "link").readlink() == Path("program")
    assert subprocess.run([kit / "bin" / "link"], capture_output=True).stdout == b"runs\n"
    assert (kit / "bin" / "noise").stat().st_mode & 0o777 == 0o644
    assert (kit / "empty").read_bytes() == b""
    assert (kit / "bin" / "zeros").stat().st_blocks * 512 < 1_000_000


@pytest.mark.parametrize(("part", "message"), [("01", "part is missing"), ("last", "ends early")])
def test_unpack_names_the_missing_part(packed: Path, tmp_path: Path, part: str, message: str) -> None:
    (sorted(packed.glob(f"{ARCHIVE}.*"))[-1] if part == "last" else packed / f"{ARCHIVE}.{part}").unlink()
    unpacked = unpack(packed, tmp_path / "root")
    assert unpacked.returncode == 1
    assert unpacked.stderr.startswith("error: ")
    assert message in unpacked.stderr
    assert unpacked.stderr.count("\n") == 1


def test_an_archive_is_reproducible_and_removed_on_failure(tmp_path: Path) -> None:
    source = tmp_path / "file"
    contents = []
    for number in range(2):
        source.write_text("text")
        os.utime(source, (number, number))
        parts = Parts(tmp_path / f"{number}.tar.xz", 10**6)
        with open_archive(parts) as archive:
            archive.add_folder("/kit", tmp_path, [Path("file"), Path("left/out")], ["*/out"])
        contents.append(parts.written[0].read_bytes())
    assert contents[0] == contents[1]
    with pytest.raises(FileNotFoundError), open_archive(Parts(tmp_path / "failed", 10)) as archive:
        archive.add("/kit/file", tmp_path / "nothing")
    assert not list(tmp_path.glob("failed*"))


def source_env(tmp_path: Path, argument: str, **environment: str) -> tuple[list[str], str]:
    """Source env.sh. Returns LD_LIBRARY_PATH, PATH and PYTHONPATH, and its stderr."""
    file = tmp_path / "env.sh"
    file.write_text((GPU / "portable_env.sh").read_text().replace("@PREFIX@", "/opt/kit"))
    script = f'set -eu; . "{file}" {argument}; printf "%s\\n" "${{LD_LIBRARY_PATH:-}}" "$PATH" "$PYTHONPATH"'
    bash = shutil.which("bash")
    assert bash is not None
    subprocess.run([bash, "-n", file], check=True)
    ended = subprocess.run(
        [bash, "-c", script], env={"PATH": "/usr/bin:/bin", **environment}, cwd=tmp_path, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines(), ended.stderr


def test_env_finds_the_cuda_libraries(tmp_path: Path) -> None:
    site = tmp_path / "site"
    folders = [site / "nvidia" / name / "lib" for name in ("cu13", "cudnn")]
    for folder in folders:
        folder.mkdir(parents=True)
    (site / "nvidia" / "headers" / "include").mkdir(parents=True)
    library_path = f"{folders[1]}:{folders[0]}"
    expected = [library_path, "/opt/kit/bin:/usr/bin:/bin", "."]
    assert source_env(tmp_path, str(site)) == (expected, "")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(sys.executable)
    path = f"{tmp_path / 'bin'}:/usr/bin:/bin"
    lines, error = source_env(tmp_path, "", PATH=path, PYTHONPATH=str(site), LD_LIBRARY_PATH="/kept")
    assert (lines, error) == ([f"{library_path}:/kept", f"/opt/kit/bin:{path}", "."], "")


def test_env_warns_without_cuda_libraries(tmp_path: Path) -> None:
    (tmp_path / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python3").chmod(0o755)
    lines, error = source_env(tmp_path, "/nowhere", PATH=f"{tmp_path}:/usr/bin:/bin")
    assert lines[0] == ""
    assert error.startswith("env.sh: no CUDA wheels found")


def test_packages_are_those_that_serving_needs() -> None:
    names = [str(package.metadata["Name"]) for package in required([f"{PROJECT}[server,client]"])]
    assert len(names) == len(set(names))
    assert {"numpy", "click", "nvidia-pytriton", "tritonclient", "grpcio", "protobuf", "soundfile"} <= set(names)
    assert not {PROJECT, "pytest", "ruff", "mypy", "pip", "matplotlib", "onnxruntime", "gevent"} & set(names)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--onnxruntime-gpu", "0.0.0"], "onnxruntime-gpu 0.0.0: download failed"),
        (["--wheel", ROOT / "README.md"], "README.md: not a wheel for Python"),
        (["--prefix", "opt/kit"], "opt/kit: not an absolute path"),
        (["--compute-capability", "9"], "Invalid value for '--compute-capability'"),
    ],
)
def test_errors_are_one_line(
    run_module: RunModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[object], message: str
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    ended = run_module("studies.gpu.portable", "--out", tmp_path, *flags)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ")
    assert message in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
