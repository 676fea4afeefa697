"""faster-whisper with a converted Whisper model. It has its own weights, and transcribes one recording at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import faster_whisper

from benchmark.baselines.baseline import Audio, Baseline, model_path


def load(model: Path | None, threads: int) -> Baseline:
    """Load a folder with a converted Whisper model.

    Raises:
        NotRun: No model is given, or it does not exist.
    """
    folder = model_path(model)
    recognizer = faster_whisper.WhisperModel(str(folder), device="cpu", cpu_threads=threads, local_files_only=True)

    def transcribe_one(audio: Audio) -> str:
        segments, _ = recognizer.transcribe(audio, language="en")
        return "".join(segment.text for segment in segments).strip()

    def transcribe(audio: Sequence[Audio], batch_size: int) -> list[str]:
        return [transcribe_one(recording) for recording in audio]

    return Baseline("faster-whisper", transcribe, batches=False)
