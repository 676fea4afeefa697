"""A row of the catalogue: a published checkpoint with its published figures."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from fnmatch import fnmatchcase
from typing import Literal

from export_scripts.checkpoints.names import bare_name, recognizer_name

Family = Literal[
    "quartznet",
    "jasper",
    "citrinet",
    "conformer_ctc",
    "contextnet",
    "conformer_transducer",
    "fastconformer",
    "parakeet",
]
DecoderKind = Literal["characters", "CTC", "RNNT", "TDT", "RNNT + CTC", "TDT + CTC"]
"""What follows the encoder. `characters` is CTC on characters, the others write SentencePiece pieces."""
TestSet = Literal["dev-clean/other", "test-clean/other", "test-other"]

NEMO_CLASSES: dict[DecoderKind, str] = {
    "characters": "EncDecCTCModel",
    "CTC": "EncDecCTCModelBPE",
    "RNNT": "EncDecRNNTBPEModel",
    "TDT": "EncDecRNNTBPEModel",
    "RNNT + CTC": "EncDecHybridRNNTCTCBPEModel",
    "TDT + CTC": "EncDecHybridRNNTCTCBPEModel",
}
_DECODERS: dict[Family, DecoderKind] = {
    "quartznet": "characters",
    "jasper": "characters",
    "citrinet": "CTC",
    "conformer_ctc": "CTC",
    "contextnet": "RNNT",
    "conformer_transducer": "RNNT",
}
"""The decoder of families that have only one."""
SCORES = "NeMo docs/source/asr/data/scores/en"
"""The folder of published word error rates, a CSV file per architecture."""
_SCORE_FILES: dict[Family, str] = {
    "quartznet": "quartznet15x5_en.csv",
    "jasper": "jasper10x5dr_en.csv",
    "citrinet": "citrinet_en.csv",
    "conformer_ctc": "conformer_en.csv",
    "contextnet": "contextnet_en.csv",
    "conformer_transducer": "conformer_en.csv",
    "fastconformer": "fastconformer_en.csv",
}
LEADERBOARD = "huggingface/open_asr_leaderboard scripts/data/25032026_en_shortform.csv"
"""The Open ASR Leaderboard of March 2026: mean word error rate over eight English sets, and NeMo's RTFx."""
CC_BY = "CC-BY-4.0"
NVIDIA_OPEN = "NVIDIA Open Model License"
UNREAD = "see its NGC page"
"""Licence of checkpoints from NVIDIA's NGC catalogue, whose pages could not be read for this list."""
NGC_FILES = "https://api.ngc.nvidia.com/v2/models/nvidia/nemo/"
"""Beginning of the addresses in NeMo's list of models."""


@dataclass(frozen=True)
class Average:
    """A model's result on the eight test sets of the Open ASR Leaderboard.

    Attributes:
        word_error_rate: Mean of the sets' word error rates, in percent.
        rtfx: Seconds of audio that NeMo transcribes per second on the leaderboard's GPU; None if not published.
        source: Publication of both.
    """

    word_error_rate: float
    rtfx: int | None = None
    source: str = LEADERBOARD


@dataclass(frozen=True)
class Model:
    """A published checkpoint.

    Attributes:
        name: Name for NeMo's download: as in NeMo's list, or nvidia/NAME for Hugging Face.
        family: Family, as for --family.
        parameters: Number of parameters in millions; None if it was not found.
        word_error_rates: Word error rates in percent, one for each part of `measured_on`; empty if none were found.
        measured_on: LibriSpeech sets of the word error rates.
        licence: Licence on the model's page at Hugging Face, if it has one.
        source: Publication of the word error rates; empty for NeMo's documentation.
        decoder: What follows the encoder; None for the only one of the family.
        average: Result on the Open ASR Leaderboard; None if it is not there.
        punctuated: Whether the text has punctuation and capitals.
        languages: Number of languages; 1 is English.
        ngc_version: Version in NVIDIA's NGC catalogue, as NeMo 2.7.3 lists it. For models that later releases of NeMo
            don't list.
    """

    name: str
    family: Family
    parameters: float | None
    word_error_rates: tuple[float, ...] = ()
    measured_on: TestSet = "test-clean/other"
    licence: str = UNREAD
    source: str = ""
    _: KW_ONLY
    decoder: DecoderKind | None = None
    average: Average | None = None
    punctuated: bool = False
    languages: int = 1
    ngc_version: str = ""

    @property
    def megabytes(self) -> float | None:
        """Size of the weights as float32."""
        return None if self.parameters is None else 4 * self.parameters

    @property
    def decoder_kind(self) -> DecoderKind:
        return self.decoder or _DECODERS[self.family]

    @property
    def nemo_class(self) -> str:
        """Name of NeMo's class."""
        return NEMO_CLASSES[self.decoder_kind]

    @property
    def rates_source(self) -> str:
        """Where the word error rates are published; empty if there are none."""
        if not self.word_error_rates:
            return ""
        return self.source or f"{SCORES}/{_SCORE_FILES[self.family]}"

    @property
    def served_as(self) -> str:
        """The recognizer's name in a model repository."""
        return recognizer_name(self.name)

    @property
    def location(self) -> str | None:
        """Address of the checkpoint, for releases of NeMo that don't list it; None if all do."""
        return (
            f"{NGC_FILES}{self.name}/versions/{self.ngc_version}/files/{self.name}.nemo" if self.ngc_version else None
        )

    def matches(self, pattern: str) -> bool:
        """Whether a pattern matches the name, with or without nvidia/."""
        return fnmatchcase(self.name, pattern) or fnmatchcase(bare_name(self.name), pattern)
