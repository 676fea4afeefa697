"""PocketSphinx with the English model of its package. It has no batches, so it runs one process per thread."""

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
    """Load the model of the package.

    Raises:
        NotRun: A model is given.
    """
    if model is not None:
        raise NotRun(f"{model}: only the model in its package can be measured; leave --model out")
    # Its decoder holds Python's global lock, so that threads would wait for each other.
    pool = ProcessPoolExecutor(threads, initializer=_decoder)

    def transcribe(audio: Sequence[Audio], batch_size: int) -> list[str]:
        if batch_size == 1:
            return [_transcribe(recording) for recording in audio]
        return list(pool.map(_transcribe, audio))

    return Baseline("pocketsphinx", transcribe, batches=False)


@lru_cache
def _decoder() -> pocketsphinx.Decoder:
    """The decoder of this process."""
    return pocketsphinx.Decoder(samprate=SAMPLE_RATE, loglevel="FATAL")


def _transcribe(audio: Audio) -> str:
    decoder = _decoder()
    # Without this, the text depends on the earlier recordings.
    decoder.reinit_feat()
    decoder.start_utt()
    scaled = (audio * INT16_FULL_SCALE).clip(-INT16_FULL_SCALE, INT16_FULL_SCALE - 1)
    decoder.process_raw(scaled.astype(np.int16).tobytes(), full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    return hypothesis.hypstr if hypothesis else ""
