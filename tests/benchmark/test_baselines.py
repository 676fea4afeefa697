"""Baselines in their real workers and environments, with models that NeMo exported."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from locations import BUILD, DEMO_CHECKPOINT, DEMO_MANIFEST, RNNT_CHECKPOINT, ROOT

from benchmark.baselines.errors import NotRun
from benchmark.baselines.process import Process, baseline_command
from benchmark.baselines.recordings import shuffled_recordings
from nemo_triton.loadtest.recording import Recording
from nemo_triton.manifest import Utterance

NEMO_PYTHON = ROOT / ".venv" / "export" / "bin" / "python"
BASELINES_PYTHON = ROOT / ".venv" / "baselines" / "bin" / "python"
CONFORMER_CHECKPOINT = BUILD / "tiny_models" / "tiny_conformer.nemo"
RECORDINGS = shuffled_recordings(DEMO_MANIFEST)[:4]
FILES = [recording.utterance.name for recording in RECORDINGS]

BaselineModels = Callable[[Path], Path]


@pytest.fixture(scope="session")
def baseline_models(tmp_path_factory: pytest.TempPathFactory) -> BaselineModels:
    """Convert a checkpoint with the real command, once, and return the folder."""

    @cache
    def write(checkpoint: Path) -> Path:
        folder = tmp_path_factory.mktemp("baseline_models") / checkpoint.stem
        command = [str(NEMO_PYTHON), "-m", "benchmark.baselines.baseline_models", str(checkpoint), "--out", str(folder)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        return folder

    return write


def nemo_texts(checkpoint: Path) -> dict[str, str]:
    """NeMo's transcripts, which `make test` writes beforehand."""
    entries = [json.loads(line) for line in (BUILD / "nemo_transcripts.jsonl").read_text().splitlines()]
    texts = {entry["audio"]: entry["nemo"] for entry in entries if entry["model"] == checkpoint.stem}
    return {file: texts[file] for file in FILES}


def nemo(checkpoint: Path) -> Process:
    return Process("NeMo", baseline_command(NEMO_PYTHON, "nemo", checkpoint), RECORDINGS)


def baseline(name: str, model: Path | None = None) -> Process:
    return Process(name, baseline_command(BASELINES_PYTHON, name, model), RECORDINGS)


def test_nemo_gives_its_transcripts() -> None:
    with nemo(DEMO_CHECKPOINT) as system:
        assert system.version.startswith("nemo_toolkit 2.")
        unbatched, batched = system.measure(RECORDINGS, 1), system.measure(RECORDINGS, 32)
    assert unbatched.texts == batched.texts == nemo_texts(DEMO_CHECKPOINT)
    assert (unbatched.mean_batch, batched.mean_batch, batched.latencies) == (1, len(RECORDINGS), [])
    assert batched.seconds > 0


@pytest.mark.parametrize("name", ["onnx_asr", "sherpa_onnx"])
def test_a_transducer_gives_nemos_transcripts(baseline_models: BaselineModels, name: str) -> None:
    with baseline(name, baseline_models(RNNT_CHECKPOINT) / name) as system:
        unbatched, batched = system.measure(RECORDINGS, 1), system.measure(RECORDINGS, 32)
    assert unbatched.texts == batched.texts == nemo_texts(RNNT_CHECKPOINT)
    assert (unbatched.mean_batch, batched.mean_batch) == (1, len(RECORDINGS))


def words(text: str) -> list[str]:
    """Words, without two differences of onnx-asr that occur only with random weights: spaces and unknown tokens."""
    return text.replace("<unk>", " \u2047 ").split()


def test_a_ctc_model_with_length_masks_gives_nemos_transcripts(baseline_models: BaselineModels) -> None:
    with (
        nemo(CONFORMER_CHECKPOINT) as reference,
        baseline("onnx_asr", baseline_models(CONFORMER_CHECKPOINT) / "onnx_asr") as system,
    ):
        nemo_texts, texts = reference.measure(RECORDINGS, 1).texts, system.measure(RECORDINGS, 1).texts
    assert {file: words(text) for file, text in texts.items()} == {
        file: words(text) for file, text in nemo_texts.items()
    }
    assert any(texts.values())


def test_sherpa_onnx_runs_a_ctc_model(baseline_models: BaselineModels) -> None:
    with baseline("sherpa_onnx", baseline_models(CONFORMER_CHECKPOINT) / "sherpa_onnx") as system:
        measured = system.measure(RECORDINGS, 32)
    assert set(measured.texts) == set(FILES) and any(measured.texts.values())


@pytest.mark.parametrize("name", ["onnx_asr", "sherpa_onnx"])
def test_a_model_with_another_front_end_is_not_run(baseline_models: BaselineModels, name: str) -> None:
    with pytest.raises(NotRun, match=r"^its front end has .* 25 ms every 10 ms, the model's .* 20 ms every 10 ms$"):
        baseline(name, baseline_models(DEMO_CHECKPOINT) / name).__enter__()


def test_pocketsphinx_recognizes_most_words_without_batches() -> None:
    with baseline("pocketsphinx") as system:
        unbatched, batched = system.measure(RECORDINGS, 1), system.measure(RECORDINGS, 32)
    assert unbatched.texts == batched.texts
    assert (unbatched.mean_batch, batched.mean_batch) == (1, 1)
    spoken = [word for recording in RECORDINGS for word in (recording.utterance.text or "").split()]
    recognized = {word for text in unbatched.texts.values() for word in text.split()}
    assert sum(word in recognized for word in spoken) > len(spoken) / 2


@pytest.mark.parametrize(
    ("name", "model", "reason"),
    [
        ("faster_whisper", None, "^no model$"),
        ("onnx_asr", Path("nowhere"), "^no model: nowhere does not exist$"),
        ("sherpa_onnx", DEMO_MANIFEST.parent, "demo_speech can't be loaded: FileNotFoundError: .*config.json"),
        ("faster_whisper", DEMO_MANIFEST.parent, "demo_speech can't be loaded: RuntimeError: Unable to open file"),
        ("nemo", DEMO_CHECKPOINT, "^no package torch in .*baselines; install it there$"),
        (
            "pocketsphinx",
            DEMO_CHECKPOINT,
            "coffee_ctc.nemo: only the model in its package can be measured; leave --model out$",
        ),
    ],
)
def test_a_baseline_that_cannot_start_has_its_reason(name: str, model: Path | None, reason: str) -> None:
    with pytest.raises(NotRun, match=reason):
        baseline(name, model).__enter__()


def test_unreadable_audio_is_the_reason() -> None:
    missing = Recording(Utterance(Path("missing.flac")), RECORDINGS[0].samples)
    with pytest.raises(NotRun, match=r"^missing\.flac: no such file; check the path$"):
        Process("x", baseline_command(BASELINES_PYTHON, "pocketsphinx"), [missing]).__enter__()
