"""Decode the recordings of a load test into a spool, each different recording once."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Hashable, Sequence
from contextlib import aclosing

from nemo_triton.audio import bytes_per_sample
from nemo_triton.concurrency import map_in_order
from nemo_triton.contract import SAMPLE_RATE
from nemo_triton.errors import AudioError
from nemo_triton.loadtest.recording import Checksum, SpooledRecording
from nemo_triton.loadtest.spool import Spool, SpooledSamples
from nemo_triton.manifest import Utterance
from nemo_triton.utterances import load_utterance

_EXAMINED_HEADERS = 1000
"""Headers of files that the expected size is computed from. Reading a million would take minutes."""
CONCURRENT_FILE_READS = 4
"""Files that are decoded concurrently. Only these are in memory."""


async def read_into_spool(
    utterances: Sequence[Utterance],
    spool: Spool,
    *,
    on_problem: Callable[[str], None],
    advance: Callable[[], None],
) -> tuple[list[SpooledRecording], str]:
    """Decode all utterances.

    Args:
        utterances: Entries of the manifest.
        spool: The file that receives the samples.
        on_problem: Function that is called with one line for each utterance that can't be read.
        advance: Function that is called after each utterance.

    Returns:
        The readable recordings in the order of the utterances, and their digest (recording.digest).

    Raises:
        ClientError: The spool has too little free space.
    """
    reader, checksum, recordings = _Reader(spool), Checksum(), []
    async with aclosing(map_in_order(reader.read, utterances, CONCURRENT_FILE_READS)) as results:
        async for utterance, audio in results:
            if isinstance(audio, AudioError):
                on_problem(utterance.problem(audio))
            else:
                # A thread computes the checksum, while others decode the next files.
                await asyncio.to_thread(checksum.add, utterance.text, audio.dtype, audio.count, audio.chunks())
                recordings.append(SpooledRecording(utterance, audio))
            advance()
    return recordings, checksum.hexdigest()


def expected_bytes(utterances: Sequence[Utterance]) -> float:
    """Size of the decoded audio by the manifest's durations and the headers of the files.

    Recordings without a duration count as empty. Of many files, the headers of some are read.
    """
    recordings = list({_audio_key(utterance): utterance for utterance in utterances if utterance.duration}.values())
    examined = recordings[:: math.ceil(len(recordings) / _EXAMINED_HEADERS) or 1]
    size = sum(
        _duration(utterance)
        * SAMPLE_RATE
        * bytes_per_sample(utterance.audio, channel="average" if utterance.channel is None else utterance.channel)
        for utterance in examined
    )
    return size * sum(map(_duration, recordings)) / (sum(map(_duration, examined)) or 1.0)


def _duration(utterance: Utterance) -> float:
    return utterance.duration or 0.0


class _Reader:
    """Decodes each different recording once, however many utterances name it."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        # An error is a value here, because each `raise` of one exception would lengthen its traceback.
        self._results: dict[Hashable, asyncio.Future[SpooledSamples | AudioError]] = {}

    async def read(self, utterance: Utterance) -> tuple[Utterance, SpooledSamples | AudioError]:
        key = _audio_key(utterance)
        if key not in self._results:
            self._results[key] = asyncio.ensure_future(asyncio.to_thread(self._decode, utterance))
        return utterance, await self._results[key]

    def _decode(self, utterance: Utterance) -> SpooledSamples | AudioError:
        try:
            samples = load_utterance(utterance)
        except AudioError as error:
            return AudioError(str(error))
        return self._spool.add(samples)


def _audio_key(utterance: Utterance) -> Hashable:
    """What is equal for two utterances with the same audio: file, segment and channel."""
    return utterance.audio, utterance.offset, utterance.segment_seconds, utterance.channel
