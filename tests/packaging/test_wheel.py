"""The built wheel in a separate environment, with a folder `client` that belongs to the user."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable
from email import message_from_string
from pathlib import Path
from typing import TypeAlias

import pytest
from locations import ROOT
from servers import Triton

from nemo_triton import Recognizer, load_audio

Finished: TypeAlias = "subprocess.CompletedProcess[str]"
Run: TypeAlias = Callable[..., Finished]

PROGRAM = """
import client
from nemo_triton import Recognizer, Transcript, load_audio

def text_of(path: str, url: str) -> str:
    with Recognizer(url=url) as recognizer:
        transcript: Transcript = recognizer.transcribe(load_audio(path))
        return transcript.text

if __name__ == "__main__":
    import sys
    assert client.OF_THE_USER
    print(text_of(sys.argv[1], sys.argv[2]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Built from a copy, because setuptools writes into the folder of the sources.
    folder, source = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, source)
    shutil.copytree(ROOT / "nemo_triton", source / "nemo_triton", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), "."]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def run(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run a command of an environment with the wheel and this environment's other packages."""
    environment, folder = tmp_path_factory.mktemp("environment"), tmp_path_factory.mktemp("folder")
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", str(wheel)], check=True
    )
    (packages,) = environment.glob("lib/python3*/site-packages")
    # Python ignores .pth files in a folder named by a .pth file, so the checkout's editable install has no effect.
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (folder / "client").mkdir()
    (folder / "client" / "__init__.py").write_text("OF_THE_USER = True\n")
    (folder / "program.py").write_text(PROGRAM)

    def run(*command: object) -> Finished:
        program, *arguments = map(str, command)
        return subprocess.run(
            [str(environment / "bin" / program), *arguments], cwd=folder, capture_output=True, text=True, timeout=300
        )

    return run


@pytest.mark.fast
def test_the_wheel_contains_the_package_and_its_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        (scripts,) = (name for name in names if name.endswith(".dist-info/entry_points.txt"))
        described = message_from_string(archive.read(metadata).decode())
        assert archive.read(scripts).decode().split() == [
            "[console_scripts]",
            "nemo-triton",
            "=",
            "nemo_triton.commands.main:main",
        ]
    assert {name.split("/")[0] for name in names} == {"nemo_triton", Path(metadata).parent.name}
    assert "nemo_triton/py.typed" in names
    assert sum(name.startswith("nemo_triton/demo_speech/") and name.endswith(".flac") for name in names) == 22
    assert all(described.get_all(field) for field in ("Classifier", "Keywords", "Project-URL", "Summary"))


@pytest.mark.fast
def test_the_wheel_installs_nemo_triton_and_no_tritonserver(run: Run, wheel: Path) -> None:
    shown = run("nemo-triton", "--version")
    assert shown.stdout == f"nemo-triton, version {wheel.name.split('-')[1]}\n", shown.stderr
    assert {"bench", "models", "transcribe"} <= set(run("nemo-triton", "--help").stdout.split())
    with pytest.raises(FileNotFoundError):
        run("tritonserver", "--help")


@pytest.mark.fast
def test_the_wheel_is_typed(run: Run) -> None:
    strict = run("python", "-m", "mypy", "--strict", "program.py")
    assert strict.returncode == 0, strict.stdout
    wrong = run("python", "-m", "mypy", "--strict", "-c", "from nemo_triton import load_audio; load_audio(1)")
    assert 'incompatible type "int"' in wrong.stdout


def test_program_and_commands_with_a_server(run: Run, triton: Triton, demo_manifest: Path) -> None:
    recording = next(iter(sorted(demo_manifest.parent.glob("*.flac"))))
    with Recognizer(url=triton.url) as recognizer:
        text = recognizer.transcribe(load_audio(recording)).text
    for command in (
        ("python", "program.py", recording, triton.url),
        ("nemo-triton", "transcribe", recording, "--url", triton.url),
    ):
        done = run(*command)
        assert (done.returncode, done.stdout.strip()) == (0, text), done.stderr
    measured = run("nemo-triton", "bench", "--url", triton.url, "--duration", 1, "--concurrency", 4)
    assert measured.returncode == 0 and "RTFx" in measured.stdout, measured.stderr
    assert run("nemo-triton", "models", "--url", triton.url).stdout == f"{triton.model}\n"
