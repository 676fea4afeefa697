"""The graphs run in the onnxruntime of Triton 24.10, the oldest that is supported, and give the same text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from locations import BUILD, DEMO_CHECKPOINT, DEMO_MANIFEST, RNNT_CHECKPOINT, ROOT

ONNXRUNTIME_1_19 = BUILD / "onnxruntime_1_19"

SCRIPT = """
import json, sys
from pathlib import Path
import onnxruntime
from client.audio import load_audio
from export_scripts.runner import Runner
batch = Runner(Path(sys.argv[1]), sys.argv[2]).run([load_audio(file) for file in sys.argv[3:]])
print(json.dumps([onnxruntime.__version__, [item["TEXT"].item() for item in batch]]))
"""


@pytest.mark.parametrize("model", [DEMO_CHECKPOINT.stem, RNNT_CHECKPOINT.stem])
def test_texts_of_a_mixed_batch(repository: Path, model: str) -> None:
    transcripts = [json.loads(line) for line in (BUILD / "nemo_transcripts.jsonl").read_text().splitlines()]
    rows = [row for row in transcripts if (row["model"], row["set"]) == (model, DEMO_MANIFEST.parent.name)][:8]
    command = [sys.executable, "-c", SCRIPT, str(repository), model, *(row["audio"] for row in rows)]
    environment = {**os.environ, "PYTHONPATH": str(ONNXRUNTIME_1_19)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    version, texts = json.loads(done.stdout)
    assert version == "1.19.2"
    assert texts == [row["nemo"] for row in rows]
