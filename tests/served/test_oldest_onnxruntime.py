"""The graphs produce the same texts in the onnxruntime of Triton 24.10, the oldest supported version."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from locations import (
    BUILD,
    DEMO_CHECKPOINT,
    DEMO_MANIFEST,
    FAMILY_REPOSITORY,
    PRECISION_REPOSITORY,
    RNNT_CHECKPOINT,
    ROOT,
)

ONNXRUNTIME_1_19 = BUILD / "onnxruntime_1_19"

SCRIPT = """
import json, sys
from pathlib import Path
import onnxruntime
from nemo_triton.audio import load_audio
from nemo_triton.contract import TEXT
from export_scripts.verify.local_ensemble import LocalEnsemble
batch = LocalEnsemble(Path(sys.argv[1]), sys.argv[2]).run([load_audio(file) for file in sys.argv[3:]])
print(json.dumps([onnxruntime.__version__, [item[TEXT.name].item() for item in batch]]))
"""

MODELS = [DEMO_CHECKPOINT.stem, RNNT_CHECKPOINT.stem]


def texts(repository: Path, model: str, files: list[str], packages: Path | None = None) -> tuple[str, list[str]]:
    """Transcribe one batch of mixed lengths. Returns the version of onnxruntime that ran, and the texts."""
    command = [sys.executable, "-c", SCRIPT, str(repository), model, *files]
    environment = {**os.environ, "PYTHONPATH": str(packages)} if packages else None
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    version, batch_texts = json.loads(done.stdout)
    return version, batch_texts


@pytest.mark.parametrize("model", MODELS)
def test_texts_of_a_mixed_batch(repository: Path, model: str) -> None:
    transcripts = [json.loads(line) for line in (BUILD / "nemo_transcripts.jsonl").read_text().splitlines()]
    rows = [row for row in transcripts if (row["model"], row["set"]) == (model, DEMO_MANIFEST.parent.name)][:8]
    version_and_texts = texts(repository, model, [row["audio"] for row in rows], ONNXRUNTIME_1_19)
    assert version_and_texts == ("1.19.2", [row["nemo"] for row in rows])


@pytest.mark.parametrize(
    ("repository", "model"),
    [
        *((PRECISION_REPOSITORY, f"{model}_{precision}") for model in MODELS for precision in ("fp16", "int8")),
        (FAMILY_REPOSITORY, "tiny_conformer_gpu"),
        (FAMILY_REPOSITORY, "tiny_fastconformer_hybrid"),
        (FAMILY_REPOSITORY, "tiny_fastconformer_hybrid_ctc"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_texts_of_other_exports(repository: Path, model: str) -> None:
    files = [str(file) for file in sorted(DEMO_MANIFEST.parent.glob("*.flac"))[:8]]
    oldest, old_texts = texts(repository, model, files, ONNXRUNTIME_1_19)
    newest, new_texts = texts(repository, model, files)
    assert oldest == "1.19.2" != newest
    assert old_texts == new_texts
