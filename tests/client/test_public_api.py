"""The public API: complete, documented, typed, and independent of the load test's packages."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import FunctionType

import pytest
from locations import ROOT

import nemo_triton

pytestmark = pytest.mark.fast

CLASSES = [getattr(nemo_triton, name) for name in nemo_triton.__all__ if inspect.isclass(getattr(nemo_triton, name))]
FUNCTIONS = [
    member
    for owner in (nemo_triton, nemo_triton.Recognizer, nemo_triton.AsyncRecognizer)
    for name, member in vars(owner).items()
    if isinstance(member, FunctionType) and not name.startswith("_") and member.__module__.startswith("nemo_triton")
]
NO_ARGUMENTS = ("close",)

PROGRAM = """
import asyncio
from pathlib import Path
from typing import assert_type

import numpy as np
from numpy.typing import NDArray

import nemo_triton
from nemo_triton import (
    AsyncRecognizer, Manifest, Recognizer, Tls, Transcript, Utterance, find_audio, list_recognizers, load_audio,
    read_manifest,
)

samples = load_audio(Path("order.wav"))
assert_type(samples, NDArray[np.int16 | np.float32])
with Recognizer("model", ["localhost:8001"], timeout=1.0, tls=Tls(ca="ca.pem")) as recognizer:
    transcript = recognizer.transcribe(samples, log_probs=True)
assert_type(transcript, Transcript)
assert_type(transcript.text, str)
assert_type(transcript.token_times, NDArray[np.float64])
assert_type(transcript.endpoint, str)
assert_type(list_recognizers(), list[str])
assert_type(read_manifest("m.jsonl"), Manifest)
assert_type(find_audio(["folder"]).utterances, list[Utterance])


async def texts() -> list[str]:
    async with AsyncRecognizer() as recognizer:
        return [answer.text for answer in await asyncio.gather(recognizer.transcribe(samples))]


try:
    asyncio.run(texts())
except nemo_triton.RecognitionError as error:
    assert_type(error.attempts, int)
"""


def test_public_names_are_sorted() -> None:
    assert nemo_triton.__all__ == sorted(nemo_triton.__all__)
    assert {"Recognizer", "AsyncRecognizer", "Transcript", "Tls", "load_audio", "list_recognizers"} <= {
        *nemo_triton.__all__
    }


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__qualname__)
def test_functions_document_arguments_results_and_errors(function: FunctionType) -> None:
    name, text = function.__name__, inspect.getdoc(function) or ""
    assert text
    for argument in inspect.signature(function).parameters:
        assert argument == "self" or f"\n    {argument}: " in text, f"{name} does not document {argument}"
    assert "Returns:" in text or name in NO_ARGUMENTS
    assert "Raises:" in text or name in (*NO_ARGUMENTS, "find_audio")


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_classes_document_their_fields(kind: type) -> None:
    text = inspect.getdoc(kind) or ""
    assert text
    for field in getattr(kind, "__dataclass_fields__", {}):
        assert f"\n    {field}" in text, f"{kind.__name__} does not document {field}"


@pytest.mark.parametrize("method", ["__init__", "transcribe"])
def test_both_recognizers_document_the_same_arguments(method: str) -> None:
    blocking, concurrent = (
        dict(re.findall(r"^    (\w+): ((?:.|\n {8})*)", inspect.getdoc(getattr(owner, method)) or "", re.MULTILINE))
        for owner in (nemo_triton.Recognizer, nemo_triton.AsyncRecognizer)
    )
    # The asyncio client also takes samples in shared memory, and reports connection errors in `async with`.
    concurrent["samples"] = concurrent.get("samples", "").split(" SharedSamples")[0]
    shared = blocking.keys() & concurrent.keys()
    assert len(shared) > 4
    assert {name: blocking[name] for name in shared - {"RecognizerError"}} == {
        name: concurrent[name] for name in shared - {"RecognizerError"}
    }


@pytest.mark.parametrize("error", [kind for kind in CLASSES if issubclass(kind, Exception)])
def test_every_error_is_a_client_error(error: type[Exception]) -> None:
    assert issubclass(error, nemo_triton.ClientError)


def test_types_are_visible_to_other_programs(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    # Without the project's settings, as in another project.
    (tmp_path / "mypy.ini").write_text(
        f"[mypy]\nstrict = true\nmypy_path = {ROOT}\n"
        + "".join(
            f"[mypy-{package}.*]\nignore_missing_imports = true\n" for package in ("grpc", "soundfile", "tritonclient")
        )
        + "[mypy-soxr.*]\nignore_missing_imports = true\n"
    )
    command = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--follow-imports=silent", "program.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_the_library_needs_no_package_of_the_load_test() -> None:
    """A program that only transcribes needs neither the packages of the load test nor those of the terminal."""
    blocked = ("jiwer", "prometheus_client", "whisper_normalizer", "rich", "click")
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked!r})); import nemo_triton; "
        "ours = {name.split('.')[1] for name in sys.modules if name.startswith('nemo_triton.')}; "
        "print(sorted(ours & {'loadtest', 'terminal', 'commands'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
