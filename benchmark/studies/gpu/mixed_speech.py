"""Utterances of LibriSpeech's lengths, made of whatever speech is at hand.

LibriSpeech's test-clean (Panayotov et al., ICASSP 2015) has 2,620 utterances of 5.4 hours, the shortest 1.3 s long and
the longest 35 s. Lengths here are drawn from the log-normal distribution that fits these figures: its mean is that of
the set, and its spread is such that of so many draws one is expected below the shortest, and one above the longest.
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
    """That many lengths in seconds; the same for the same seed."""
    generator = random.Random(f"{seed} lengths")
    lengths: list[float] = []
    while len(lengths) < count:
        length = generator.lognormvariate(MU, SIGMA)
        if SHORTEST <= length <= LONGEST:
            lengths.append(length)
    return lengths


def join(pool: Sequence[Samples], length: float, generator: random.Random) -> Samples:
    """int16 samples [length * rate]: recordings of the pool in turn, from a random one on, cut at the end."""
    wanted = round(length * SAMPLE_RATE)
    start = generator.randrange(len(pool))
    joined: list[Samples] = []
    while sum(map(len, joined)) < wanted:
        joined.append(pool[(start + len(joined)) % len(pool)])
    return np.concatenate(joined)[:wanted]


def write_mixed_speech(
    folder: Path, speech: Path, *, count: int, seed: int, done: Callable[[], None] = lambda: None
) -> Description:
    """A prepared data set of `count` utterances of LibriSpeech's lengths, made of the recordings of manifest `speech`.

    They have no text: what was cut has none, so no error rate can be had of them. What is there already and has not
    changed is left alone; `done` is called after each utterance. Raises ClientError where the speech can't be read.
    """
    # A path in this project is the same for everyone; of a path outside, only the end is shown.
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
