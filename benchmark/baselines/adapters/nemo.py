"""NeMo's transcribe() with a .nemo file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmark.baselines.baseline import Audio, Baseline, model_path
from export_scripts.checkpoints.nemo_reference import nemo_samples
from export_scripts.checkpoints.restore import restore_file
from nemo_triton.audio import as_float
from nemo_triton.contract import SAMPLE_RATE
from nemo_triton.manifest import Utterance
from nemo_triton.utterances import load_utterance


def load(model: Path | None, threads: int) -> Baseline:
    """Load a .nemo file.

    Raises:
        NotRun: No model is given, or it does not exist.
    """
    torch.set_num_threads(threads)
    restored: Any = restore_file(model_path(model))
    # NeMo needs the sample rate for arrays, and some checkpoints do not state it.
    restored.sample_rate = SAMPLE_RATE
    settings = restored.get_transcribe_config()
    settings.verbose = False
    # NeMo pads arrays, but not files, to at least one second.
    settings.pad_min_duration = 0.0

    def transcribe(audio: Sequence[Audio], batch_size: int) -> list[str]:
        settings.batch_size = batch_size
        return [hypothesis.text for hypothesis in restored.transcribe(list(audio), override_config=settings)]

    return Baseline("nemo_toolkit", transcribe, read=_read)


def _read(utterance: Utterance) -> Audio:
    """Read a recording as NeMo does, or as nemo_triton does if NeMo can't, for example without ffmpeg."""
    samples = nemo_samples(utterance)
    return as_float(load_utterance(utterance) if samples is None else samples)
