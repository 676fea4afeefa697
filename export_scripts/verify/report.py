"""The report of a comparison with NeMo, parity.json."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

from export_scripts.precision.choice import FP32
from export_scripts.recordings import Trace
from export_scripts.repository.config import read_config, write_config
from export_scripts.repository.existing import REPORT
from nemo_triton.contract import Description

ID_LENGTH = 16
"""Hexadecimal digits of the report's SHA-256 that make the parity_id, by which results name their export."""


@dataclass(frozen=True)
class Calibration(Trace):
    """The recordings that calibrated int8.

    Attributes:
        among_probes: Number of these recordings that are also probes.
    """

    among_probes: int


@dataclass(frozen=True)
class ChangedText:
    """A probe whose unbatched text differs from NeMo's.

    Attributes:
        probe: Name of the probe.
        nemo: Transcript of NeMo.
        export: Transcript of the export.
    """

    probe: str
    nemo: str
    export: str


@dataclass(kw_only=True)
class Parity:
    """The comparison of an export with NeMo, written as parity.json. Differences are the largest absolute ones.

    In fp32 all texts must be NeMo's, except near ties. fp16 and int8 may change words: `words_changed` of
    `words_compared`, at most the fraction `max_word_change`. In every precision the text of a probe in a batch must be
    its unbatched text.

    Attributes:
        model: Name of the recognizer.
        checkpoint_sha256: Digest of the .nemo file.
        nemo_class: NeMo's class of the checkpoint.
        checkpoint_nemo_version: NeMo version that wrote the checkpoint.
        front_end: Name of the feature stage.
        scores: Kind of the compared output of the encoder: log-probs, or the joint's projection.
        versions: Versions of the packages that made the comparison.
        precision: Precision of the encoder.
        max_word_change: Limit of changed words, as a fraction.
        probes: Number of signals.
        probe_seconds: Seconds of audio in all signals.
        probe_recordings: Recordings among the probes.
        recordings_read_by_nemo: Number of these recordings that NeMo read from their files itself.
        exact_references: Number of probes that are compared with NeMo's front end in float64, because the export's
            features are closer to it than NeMo's own in float32 are. So it is in bands without sound, such as those
            above 4 kHz in telephone speech.
        probes_made: Signals derived from the recordings.
        calibration: Recordings that calibrated int8.
        calibrated_on_probes: Whether words were counted on recordings that calibrated int8.
        characters: Number of characters in NeMo's texts of all probes.
        features_difference: Largest difference between the export's features and NeMo's.
        scores_difference: Largest difference between the export's scores and NeMo's.
        scores_difference_in_batches: Largest difference between the export's scores in batches and unbatched.
        texts_compared: Number of compared texts: one per probe unbatched, and one per probe in every mixed batch.
        texts_equal: Number of texts that equal NeMo's.
        texts_tied: Number of texts that differ by near ties only (NeMo's top two labels within TIE).
        words_compared: Number of words in NeMo's texts.
        words_changed: Word edits between NeMo's texts and the export's unbatched texts.
        changed_texts: Unbatched texts that differ.
        token_sequences: Number of random token sequences whose text was compared.
        mismatches: Reasons to refuse the export, one line each.
    """

    model: str
    checkpoint_sha256: str
    nemo_class: str
    checkpoint_nemo_version: str | None
    front_end: str
    scores: str
    versions: dict[str, str]
    precision: str
    max_word_change: float
    probes: int
    probe_seconds: float
    probe_recordings: Trace
    probes_made: Trace
    calibration: Calibration | None = None
    calibrated_on_probes: bool = field(init=False)
    recordings_read_by_nemo: int = 0
    exact_references: int = 0
    characters: int = 0
    features_difference: float = 0.0
    scores_difference: float = 0.0
    scores_difference_in_batches: float = 0.0
    texts_compared: int = 0
    texts_equal: int = 0
    texts_tied: int = 0
    words_compared: int = 0
    words_changed: int = 0
    changed_texts: list[ChangedText] = field(default_factory=list)
    token_sequences: int = 0
    mismatches: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.calibrated_on_probes = self.calibration is not None and self.calibration.among_probes > 0

    def publish(self, folder: Path) -> None:
        """Write the report into an ensemble's folder, and its id into the configuration, where clients read it."""
        report = json.dumps(asdict(self), indent=2) + "\n"
        (folder / "1" / REPORT).write_text(report)
        config = read_config(folder)
        description = Description(parity_id=hashlib.sha256(report.encode()).hexdigest()[:ID_LENGTH])
        words = {"words_compared": str(self.words_compared), "words_changed": str(self.words_changed)}
        for name, value in {**description.as_parameters(), **words}.items():
            config.parameters[name].string_value = value
        write_config(folder, config)

    @property
    def reduced(self) -> bool:
        return self.precision != FP32.name

    @property
    def word_change(self) -> float:
        """Changed words as a fraction of NeMo's; infinite if NeMo has none."""
        if not self.words_compared:
            return math.inf if self.words_changed else 0.0
        return self.words_changed / self.words_compared

    def summary(self) -> str:
        """One line for the terminal."""
        calibrated = " (which also calibrated it; use other --probes)" if self.calibrated_on_probes else ""
        words = (
            f"; {self.precision} changes {self.words_changed} of {self.words_compared} words ({self.word_change:.2%}), "
            f"counted on the unbatched probes{calibrated}"
        )
        return (
            f"{self.model}: {self.texts_equal}/{self.texts_compared} texts equal NeMo's"
            + (f", {self.texts_tied} more differ by near ties" if self.texts_tied else "")
            + f" ({self.probes} probes, {self.probe_seconds:.0f} s of audio, each unbatched and in two mixed batches)"
            + (words if self.reduced else "")
            + f"; largest differences: features {self.features_difference:.1e}, "
            f"{self.scores} {self.scores_difference:.1e}, "
            f"batched from unbatched {self.scores_difference_in_batches:.1e}"
        )
