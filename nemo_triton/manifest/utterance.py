"""An utterance, and the list of them that a manifest or folder holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nemo_triton.audio import Channel
from nemo_triton.errors import printable


@dataclass(frozen=True)
class Utterance:
    """One recording or a segment of one, with its reference text if there is one.

    Attributes:
        audio: Path of the audio file.
        text: Reference transcript; None if unknown.
        duration: Seconds, from the manifest; None if unknown, for a segment up to the end of the file.
        line: Line number in `source`, starting at 1; 0 if the recording comes from no manifest.
        offset: Start of the segment in seconds; None if the manifest has none.
        channel: Channel of the recording; None if the manifest has none.
        source: The manifest, Kaldi's segments or wav.scp, or LibriSpeech's transcript; None if there is none.
        other_fields: The fields of the manifest's entry that none of these was read from, such as a speaker, by their
            names as written; empty unless they were to be kept. For a line of Kaldi its utterance ID, as utt_id.
    """

    audio: Path
    text: str | None = None
    # Not compared: most manifests have durations only for information, rounded in different ways.
    duration: float | None = field(default=None, compare=False, repr=False)
    line: int = field(default=0, compare=False, repr=False)
    offset: float | None = field(default=None, kw_only=True)
    channel: Channel | None = field(default=None, kw_only=True)
    source: Path | None = field(default=None, compare=False, repr=False, kw_only=True)
    other_fields: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False, kw_only=True)

    @property
    def name(self) -> str:
        """The audio path as text, for output. A segment adds its seconds and channel: `call.wav [12.5-15 s, left]`.

        One up to the end is `call.wav [from 12.5 s]`.
        """
        parts = [*self._seconds(), *self._channel()]
        return f"{self.audio} [{', '.join(parts)}]" if parts else str(self.audio)

    @property
    def segment_seconds(self) -> float | None:
        """Length of the segment; None up to the end. Without an offset there is no segment: `duration` only informs."""
        return None if self.offset is None else self.duration

    def problem(self, reason: object) -> str:
        """A reason why the audio can't be used, with the manifest and line, which the reason doesn't know."""
        return f"{reason} ({printable(str(self.source))}:{self.line})" if self.source else str(reason)

    def _seconds(self) -> list[str]:
        if self.offset is None or (self.offset == 0 and self.duration is None):
            return []
        # 15 digits hide rounding errors of the sum, such as 12.5 + 0.1 = 12.600000000000001.
        start = f"{self.offset:.15g}"
        return [f"from {start} s" if self.duration is None else f"{start}-{self.offset + self.duration:.15g} s"]

    def _channel(self) -> list[str]:
        if self.channel is None:
            return []
        return [f"channel {self.channel}" if isinstance(self.channel, int) else self.channel]


@dataclass
class Manifest:
    """The contents of a manifest or folder.

    Attributes:
        utterances: The usable entries, in the manifest's order.
        problems: One message (file:line and field) for each entry that can't be used.
        notes: Messages for each folder with recordings or other files that were skipped, with their numbers, and for
            each manifest with times that are not used.
        sources: The files that list the recordings and their texts.
    """

    utterances: list[Utterance] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    # Not compared: it says where the others come from.
    sources: list[Path] = field(default_factory=list, compare=False)
