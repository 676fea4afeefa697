"""sherpa-onnx with a folder from baseline_models.py: NeMo's own ONNX export, CTC or transducer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sherpa_onnx

from benchmark.baselines.baseline import Audio, Baseline, in_batches, model_path
from nemo_triton.contract import SAMPLE_RATE


def load(model: Path | None, threads: int) -> Baseline:
    """Load a folder from baseline_models.py. sherpa-onnx ends the process if it can't read the model.

    Raises:
        NotRun: No model is given, or it does not exist.
    """
    recognizer = _recognizer(model_path(model), threads)

    def transcribe(audio: Sequence[Audio], batch_size: int) -> list[str]:
        return [text for batch in in_batches(audio, batch_size) for text in _transcribe(recognizer, batch)]

    return Baseline("sherpa-onnx", transcribe)


def _recognizer(folder: Path, threads: int) -> Any:
    settings = {
        "tokens": str(folder / "tokens.txt"),
        "num_threads": threads,
        "sample_rate": SAMPLE_RATE,
        "feature_dim": json.loads((folder / "config.json").read_text())["feature_dim"],
    }
    if (folder / "model.onnx").is_file():
        return sherpa_onnx.OfflineRecognizer.from_nemo_ctc(model=str(folder / "model.onnx"), **settings)
    graphs = {part: str(folder / f"{part}.onnx") for part in ("encoder", "decoder", "joiner")}
    return sherpa_onnx.OfflineRecognizer.from_transducer(**graphs, model_type="nemo_transducer", **settings)


def _transcribe(recognizer: Any, batch: Sequence[Audio]) -> list[str]:
    streams = [recognizer.create_stream() for _ in batch]
    for stream, audio in zip(streams, batch, strict=True):
        stream.accept_waveform(SAMPLE_RATE, audio)
    recognizer.decode_streams(streams)
    return [stream.result.text for stream in streams]
