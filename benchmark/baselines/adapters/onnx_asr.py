"""onnx-asr with a folder from baseline_models.py: NeMo's own ONNX export, in onnxruntime."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import onnx_asr
import onnxruntime

from benchmark.baselines.baseline import Audio, Baseline, in_batches, model_path


def load(model: Path | None, threads: int) -> Baseline:
    """Load a folder from baseline_models.py.

    Raises:
        NotRun: No model is given, or it does not exist.
    """
    folder = model_path(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    recognizer = onnx_asr.load_model(
        json.loads((folder / "config.json").read_text())["model_type"],
        folder,
        sess_options=options,
        providers=["CPUExecutionProvider"],
        preprocessor_config={"max_concurrent_workers": threads},
    )

    def transcribe(audio: Sequence[Audio], batch_size: int) -> list[str]:
        return [text for batch in in_batches(audio, batch_size) for text in recognizer.recognize(batch)]

    return Baseline("onnx-asr", transcribe)
