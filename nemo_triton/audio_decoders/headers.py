"""Whether a file has the samples that its header says. libsndfile itself reads what is left without an error."""

from __future__ import annotations

import re
from io import FileIO

_SIZES = re.compile(
    r"^ *(?:(?:data|riff|SSND|Data Size|BODY) *: |Data length )(\d+) \(?should be (\d+)\)?", re.MULTILINE
)
"""A line of libsndfile's log: the size of the samples in the header, and their true size. `riff` is that of W64, `BODY`
that of 8SVX and `Data length` that of WVE."""
_RF64_SIZE = re.compile(r"^RF64\n.*^  Data size : (\d+)$.*^  Block Align +: (\d+)$", re.MULTILINE | re.DOTALL)
"""In RF64's log: the size of the samples in the header, and that of the samples of all channels at one time."""
_VOC_IS_SHORT = "\nSeems to be a truncated file."
_UNKNOWN_SIZE = 0x7FFF0000
"""Headers of streams, such as those that ffmpeg writes into a pipe, have the largest size instead of the true one. RF64
has none in 32 bits."""
_NIST_COUNT = re.compile(rb"^NIST_1A\n.*^sample_count -i (\d+)\s", re.MULTILINE | re.DOTALL)
"""Samples per channel. Source: the text in the header of NIST SPHERE 2.7."""
_NIST_HEADER_BYTES = 1024


def missing_samples(file: FileIO, log: str, frames: int) -> str | None:
    """Compare the number of samples with that in the header.

    Args:
        file: The open file; its position changes.
        log: libsndfile's log of its header.
        frames: Samples per channel that are in the file.

    Returns:
        The reason why samples are missing; None if all are there, or if the header doesn't say.
    """
    sizes = _SIZES.search(log)
    if sizes and int(sizes[2]) < int(sizes[1]) < _UNKNOWN_SIZE:
        return _too_few(int(sizes[1]), int(sizes[2]), "bytes of samples")
    rf64 = _RF64_SIZE.search(log)
    if rf64 and (frames + 1) * int(rf64[2]) <= int(rf64[1]):
        return _too_few(int(rf64[1]), frames * int(rf64[2]), "bytes of samples")
    if _VOC_IS_SHORT in log:
        return "it is cut off"
    file.seek(0)
    nist = _NIST_COUNT.match(file.read(_NIST_HEADER_BYTES))
    if nist and frames < int(nist[1]):
        return _too_few(int(nist[1]), frames, "samples")
    return None


def _too_few(expected: int, actual: int, unit: str) -> str:
    return f"its header says {expected:,} {unit}, but there are {actual:,}"
