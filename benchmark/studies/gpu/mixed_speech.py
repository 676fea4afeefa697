"""Utterances of LibriSpeech's lengths, made of any speech.

Lengths are drawn from a log-normal distribution. Its mean is that of LibriSpeech test-clean. Its spread is
chosen so that among as many draws as test-clean has utterances, one is expected to be shorter than the shortest
utterance, and one longer than the longest.

Source: Panayotov et al., ICASSP 2015: test-clean has 2,620 utterances, 5.4 hours, from 1.3 s to 35 s.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import NormalDist

import numpy as np
import soundfile

from benchmark.baselines.recordings import shuffled_recordings
from benchmark.core.constants import ROOT
from benchmark.data.dataset import DESCRIPTION, Description, Source, intact, write_dataset
from nemo_triton.audio import Samples
from nemo_triton.contract import SAMPLE_RATE
from nemo_triton.manifest import Utterance

UTTERANCES, HOURS = 2620, 5.4
SHORTEST, LONGEST = 1.3, 35.0
"""Seconds."""

MEAN = HOURS * 3600 / UTTERANCES
SIGMA = math.log(LONGEST / SHORTEST) / (2 * NormalDist().inv_cdf(UTTERANCES / (UTTERANCES + 1)))
MU = math.log(MEAN) - SIGMA**2 / 2

STATEMENT = (
    f"log-normal, median {math.exp(MU):.2f} s, sigma {SIGMA:.3f}, from {SHORTEST:g} to {LONGEST:g} s, which fits "
    f"LibriSpeech test-clean ({UTTERANCES} utterances, {HOURS:g} h, {SHORTEST:g} to {LONGEST:g} s)"
)


def draw_lengths(count: int, seed: int) -> list[float]:
    """Draw `count` lengths in seconds; the same for the same seed."""
    generator = random.Random(f"{seed} lengths")
    lengths: list[float] = []
    while len(lengths) < count:
        length = generator.lognormvariate(MU, SIGMA)
        if SHORTEST <= length <= LONGEST:
            lengths.append(length)
    return lengths


def join(pool: Sequence[Samples], length: float, generator: random.Random) -> Samples:
    """Join recordings to an utterance of `length` seconds.

    Args:
        pool: Recordings, int16 [T] each. They are used in turn, starting with a random one.
        length: Seconds; the last recording is cut there.
        generator: Random generator, which chooses the first recording.

    Returns:
        int16 [length * rate].
    """
    samples = round(length * SAMPLE_RATE)
    start = generator.randrange(len(pool))
    joined: list[Samples] = []
    while sum(map(len, joined)) < samples:
        joined.append(pool[(start + len(joined)) % len(pool)])
    return np.concatenate(joined)[:samples]


def write_mixed_speech(
    folder: Path, speech: Path, *, count: int, seed: int, done: Callable[[], None] = lambda: None
) -> Description:
    """Write a data set of utterances of LibriSpeech's lengths. An unchanged one is kept.

    The utterances have no text, because they are cut anywhere; so they have no WER.

    Args:
        folder: Folder of the data set.
        speech: Manifest of recordings to join.
        count: Number of utterances.
        seed: Seed of lengths and joins.
        done: Function that is called after each utterance.

    Raises:
        ClientError: The speech is not readable.
    """
    # A path in this project is the same on every machine. For other paths only the end is shown.
    inside = speech.resolve().is_relative_to(ROOT)
    shown = speech.resolve().relative_to(ROOT) if inside else Path(*speech.resolve().parts[-2:])
    pool = [recording.samples for recording in shuffled_recordings(speech) if len(recording.samples)]
    content = hashlib.sha256(b"".join(samples.tobytes() for samples in pool)).hexdigest()[:8]
    name, source = f"mixed_{count}_{seed}", f"{shown} ({content}), cut and joined; lengths {STATEMENT}"
    known = intact(folder)
    if known is not None and (known.name, known.source, known.utterances) == (name, source, count):
        return known
    (folder / DESCRIPTION).unlink(missing_ok=True)
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    generator, utterances = random.Random(f"{seed} joins"), []
    for number, length in enumerate(draw_lengths(count, seed)):
        file = folder / "audio" / f"{number:05}.flac"
        soundfile.write(file, join(pool, length, generator), SAMPLE_RATE, subtype="PCM_16")
        utterances.append(Utterance(file, ""))
        done()
    return write_dataset(folder, Source(name, source), utterances).description
