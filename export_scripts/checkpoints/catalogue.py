"""English recognizers by name, as data: the 22 that NVIDIA published for NeMo, and others.

Word error rates are in percent, greedy decoding without a language model, from NeMo's documentation
(docs/source/asr/data/scores/en). Megabytes are 4 bytes per parameter. A checkpoint of the same NeMo classes exports by
its name or file even if it is not listed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from export_scripts.checkpoints.names import model_name

Family = Literal["quartznet", "jasper", "citrinet", "conformer_ctc", "contextnet", "conformer_transducer"]
TestSet = Literal["dev-clean/other", "test-clean/other", "test-other"]

NEMO_CLASSES: dict[Family, str] = {
    "quartznet": "EncDecCTCModel",
    "jasper": "EncDecCTCModel",
    "citrinet": "EncDecCTCModelBPE",
    "conformer_ctc": "EncDecCTCModelBPE",
    "contextnet": "EncDecRNNTBPEModel",
    "conformer_transducer": "EncDecRNNTBPEModel",
}
SCORES = "NeMo docs/source/asr/data/scores/en"
"""The folder of published word error rates, a CSV file per architecture."""
_SCORE_FILES: dict[Family, str] = {
    "quartznet": "quartznet15x5_en.csv",
    "jasper": "jasper10x5dr_en.csv",
    "citrinet": "citrinet_en.csv",
    "conformer_ctc": "conformer_en.csv",
    "contextnet": "contextnet_en.csv",
    "conformer_transducer": "conformer_en.csv",
}
CC_BY = "CC-BY-4.0"
UNREAD = "see its NGC page"
"""Licence of checkpoints from NVIDIA's NGC catalogue, whose pages could not be read for this list."""


@dataclass(frozen=True)
class Model:
    """A published checkpoint.

    Attributes:
        name: Name for NeMo's download: as in NeMo's list, or nvidia/NAME for Hugging Face.
        family: Family, as for --family.
        parameters: Number of parameters in millions.
        word_error_rates: Word error rates in percent, one for each part of `measured_on`.
        measured_on: Test set of the word error rates.
        licence: Licence on the model's page at Hugging Face, if it has one.
        source: Publication of the word error rates; empty for NeMo's documentation.
    """

    name: str
    family: Family
    parameters: float
    word_error_rates: tuple[float, ...]
    measured_on: TestSet = "test-clean/other"
    licence: str = UNREAD
    source: str = ""

    @property
    def megabytes(self) -> float:
        return 4 * self.parameters

    @property
    def rates_source(self) -> str:
        """Where the word error rates are published."""
        return self.source or f"{SCORES}/{_SCORE_FILES[self.family]}"

    @property
    def served_as(self) -> str:
        """The recognizer's name in a model repository."""
        return model_name(self.name)


PUBLISHED: tuple[Model, ...] = (
    Model("stt_en_quartznet15x5", "quartznet", 18.9, (4.38, 11.3), "dev-clean/other"),
    Model("stt_en_jasper10x5dr", "jasper", 332.6, (3.74, 10.21), "dev-clean/other"),
    Model("stt_en_citrinet_256", "citrinet", 10.3, (4.4, 10.7)),
    Model("stt_en_citrinet_512", "citrinet", 37.0, (3.7, 8.9)),
    Model("stt_en_citrinet_1024", "citrinet", 141.2, (3.6, 7.9)),
    Model("stt_en_citrinet_256_gamma_0_25", "citrinet", 9.8, (4.8, 10.7)),
    Model("stt_en_citrinet_512_gamma_0_25", "citrinet", 36.0, (3.9, 9.0)),
    Model("stt_en_citrinet_1024_gamma_0_25", "citrinet", 141.2, (3.4, 7.6), licence=CC_BY),
    Model("stt_en_conformer_ctc_small", "conformer_ctc", 13.2, (3.7, 8.1), licence=CC_BY),
    Model("stt_en_conformer_ctc_medium", "conformer_ctc", 30.8, (2.6, 5.9)),
    Model("stt_en_conformer_ctc_large", "conformer_ctc", 121.5, (2.1, 4.5), licence=CC_BY),
    Model("stt_en_conformer_ctc_small_ls", "conformer_ctc", 13.0, (3.4, 8.8)),
    Model("stt_en_conformer_ctc_medium_ls", "conformer_ctc", 30.5, (3.0, 7.3)),
    Model("stt_en_conformer_ctc_large_ls", "conformer_ctc", 121.5, (2.7, 6.0)),
    Model("stt_en_contextnet_512", "contextnet", 40.8, (2.2, 5.0)),
    Model("stt_en_contextnet_1024", "contextnet", 144.9, (1.9, 4.0)),
    Model("stt_en_contextnet_256_mls", "contextnet", 14.5, (9.2,), "test-other"),
    Model("stt_en_contextnet_512_mls", "contextnet", 40.8, (5.2,), "test-other"),
    Model("stt_en_contextnet_1024_mls", "contextnet", 144.9, (4.2,), "test-other"),
    Model("stt_en_conformer_transducer_small", "conformer_transducer", 14.6, (2.5, 6.6)),
    Model("stt_en_conformer_transducer_medium", "conformer_transducer", 32.5, (2.1, 4.7)),
    Model("stt_en_conformer_transducer_large", "conformer_transducer", 120.4, (1.7, 3.7), licence=CC_BY),
)
"""The 22 published models, as NeMo's classes list them."""
OTHERS: tuple[Model, ...] = ()
"""Other checkpoints: add a row to list one."""
CATALOGUE = PUBLISHED + OTHERS
"""The models of --list, --all, --family and patterns of names."""


def select(
    arguments: Sequence[str], families: Sequence[str] = (), everything: bool = False
) -> tuple[dict[str, bool], list[str]]:
    """Resolve a command line to checkpoints, each listed once.

    Args:
        arguments: Files, names, and patterns of the catalogue's names.
        families: Families whose listed models are all chosen.
        everything: Whether to choose all listed models.

    Returns:
        The checkpoints, with whether an argument names them, and the patterns that match no listed model.
    """
    chosen, unmatched = {}, []
    for argument in arguments:
        is_pattern = bool(set(argument) & set("*?[")) and not Path(argument).is_file()
        matches = [model.name for model in CATALOGUE if fnmatchcase(model.name, argument)] if is_pattern else [argument]
        chosen.update(dict.fromkeys(matches, True))
        if not matches:
            unmatched.append(argument)
    for model in CATALOGUE:
        if everything or model.family in families:
            chosen.setdefault(model.name, False)
    return chosen, unmatched
