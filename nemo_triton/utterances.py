"""Read the audio of a manifest's entries: files, or segments and channels of files."""

from __future__ import annotations

import logging

from nemo_triton.audio import LOG_NAME, Channel, Samples, load_audio, load_channels, seconds
from nemo_triton.errors import printable
from nemo_triton.manifest import Utterance

_log = logging.getLogger(LOG_NAME)

_DIFFERENT_SECONDS, _DIFFERENT_FRACTION = 0.5, 0.05
"""How far a file's length may be from its duration in the manifest; both have to be exceeded for a warning."""


def load_utterance(utterance: Utterance, channel: Channel = "average") -> Samples:
    """Read an utterance's samples.

    With an offset, the segment of `duration` seconds from there is read, as NeMo does. Without one, the whole file is
    read, and the logger `nemo_triton.audio` gets a warning if `duration` is far from its length.

    Args:
        utterance: The entry.
        channel: Channel to read if the entry names none.

    Returns:
        int16 [T], or float32 [T] with a full scale of 1.0, at 16 kHz.

    Raises:
        AudioError: The file can't be read, or has no such segment or channel.
    """
    if utterance.channel is not None:
        channel = utterance.channel
    offset, duration = utterance.offset or 0.0, utterance.segment_seconds
    samples = load_audio(utterance.audio, channel=channel, offset=offset, duration=duration)
    _check_duration(utterance, samples)
    return samples


def load_utterance_channels(utterance: Utterance) -> dict[int | None, Samples]:
    """Read each channel of an utterance; if the entry names a channel, only that.

    Returns:
        The samples by number of the channel; None if the entry names the channel.

    Raises:
        AudioError: See `load_utterance`.
    """
    if utterance.channel is not None:
        return {None: load_utterance(utterance)}
    channels = load_channels(utterance.audio, offset=utterance.offset or 0.0, duration=utterance.segment_seconds)
    _check_duration(utterance, channels[0])
    return dict(enumerate(channels))


def _check_duration(utterance: Utterance, samples: Samples) -> None:
    if utterance.offset is not None or not utterance.duration:
        return
    difference = abs(seconds(samples) - utterance.duration)
    if difference > max(_DIFFERENT_SECONDS, _DIFFERENT_FRACTION * utterance.duration):
        _log.warning(
            printable(
                f"{utterance.audio}: is {seconds(samples):.1f} s long, but its duration in the manifest is "
                f"{utterance.duration:g} s; all of it is used (add an offset to cut a segment)"
            ),
            extra={"kind": "files with another duration in the manifest"},
        )
