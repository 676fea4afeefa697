"""PocketSphinx with the English model in its package: no batches, but as many processes as threads."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
import pocketsphinx

from benchmark.baselines.baseline import Audio, Baseline
from benchmark.baselines.errors import NotRun
from nemo_triton.contract import INT16_FULL_SCALE, SAMPLE_RATE


def load(model: Path | None, threads: int) -> Baseline:
    """Raises NotRun where a model is named."""
    if model is not None:
        raise NotRun(f"{model}: only the model in its package is measured; name none")
    # Its decoder keeps Python's lock, so that threads would wait for each other.
    pool = ProcessPoolExecutor(threads, initializer=_decoder)

    def transcribe(audio: Sequence[Audio], batch_size: int) -> list[str]:
        if batch_size == 1:
            return [_transcribe(recording) for recording in audio]
        return list(pool.map(_transcribe, audio))

    return Baseline("pocketsphinx", transcribe, batches=False)


@lru_cache
def _decoder() -> pocketsphinx.Decoder:
    """One for each process."""
    return pocketsphinx.Decoder(samprate=SAMPLE_RATE, loglevel="FATAL")


def _transcribe(audio: Audio) -> str:
    decoder = _decoder()
    # Otherwise its text depends on the recordings before.
    decoder.reinit_feat()
    decoder.start_utt()
    decoder.process_raw((audio * INT16_FULL_SCALE).astype(np.int16).tobytes(), full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    return hypothesis.hypstr if hypothesis else ""
