"""English recognizers by name, as data: the 22 that NVIDIA published first for NeMo, and later ones.

Word error rates are in percent, greedy decoding without a language model. Those of the 22 are from NeMo's documentation
(docs/source/asr/data/scores/en). For later models a row names its source: the Open ASR Leaderboard, which measures
all models alike, NeMo's documentation, or the model card at Hugging Face. Parameters of later models were counted
from their architectures, or are the model card's. A figure that was not found is left out. A checkpoint of the same
NeMo classes exports by its name or file even if it is not listed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from export_scripts.checkpoints.listed_model import CC_BY, LEADERBOARD, NVIDIA_OPEN, Average, Family, Model
from export_scripts.checkpoints.names import NVIDIA, is_file

FAMILIES: tuple[Family, ...] = get_args(Family)
CARD = "model card at Hugging Face"

PUBLISHED: tuple[Model, ...] = (
    Model("stt_en_quartznet15x5", "quartznet", 18.9, (4.38, 11.3), "dev-clean/other", ngc_version="1.0.0rc1"),
    Model("stt_en_jasper10x5dr", "jasper", 332.6, (3.74, 10.21), "dev-clean/other"),
    Model("stt_en_citrinet_256", "citrinet", 10.3, (4.4, 10.7)),
    Model("stt_en_citrinet_512", "citrinet", 37.0, (3.7, 8.9)),
    Model("stt_en_citrinet_1024", "citrinet", 141.2, (3.6, 7.9)),
    Model("stt_en_citrinet_256_gamma_0_25", "citrinet", 9.8, (4.8, 10.7)),
    Model("stt_en_citrinet_512_gamma_0_25", "citrinet", 36.0, (3.9, 9.0)),
    Model("stt_en_citrinet_1024_gamma_0_25", "citrinet", 141.2, (3.4, 7.6), licence=CC_BY),
    Model("stt_en_conformer_ctc_small", "conformer_ctc", 13.2, (3.7, 8.1), licence=CC_BY, average=Average(11.16, 5687)),
    Model("stt_en_conformer_ctc_medium", "conformer_ctc", 30.8, (2.6, 5.9)),
    Model("stt_en_conformer_ctc_large", "conformer_ctc", 121.5, (2.1, 4.5), licence=CC_BY, average=Average(8.32, 4295)),
    Model("stt_en_conformer_ctc_small_ls", "conformer_ctc", 13.0, (3.4, 8.8)),
    Model("stt_en_conformer_ctc_medium_ls", "conformer_ctc", 30.5, (3.0, 7.3)),
    Model("stt_en_conformer_ctc_large_ls", "conformer_ctc", 121.5, (2.7, 6.0)),
    Model("stt_en_contextnet_512", "contextnet", 40.8, (2.2, 5.0), ngc_version="1.6.0"),
    Model("stt_en_contextnet_1024", "contextnet", 144.9, (1.9, 4.0), ngc_version="1.9.0"),
    Model("stt_en_contextnet_256_mls", "contextnet", 14.5, (9.2,), "test-other", ngc_version="1.0.0"),
    Model("stt_en_contextnet_512_mls", "contextnet", 40.8, (5.2,), "test-other", ngc_version="1.0.0"),
    Model("stt_en_contextnet_1024_mls", "contextnet", 144.9, (4.2,), "test-other", ngc_version="1.0.0"),
    Model("stt_en_conformer_transducer_small", "conformer_transducer", 14.6, (2.5, 6.6), average=Average(10.26, 3714)),
    Model("stt_en_conformer_transducer_medium", "conformer_transducer", 32.5, (2.1, 4.7)),
    Model("stt_en_conformer_transducer_large", "conformer_transducer", 120.4, (1.7, 3.7), licence=CC_BY),
)
"""The 22 published models, as NeMo's classes list them."""
LATER_MODELS: tuple[Model, ...] = (
    Model("nvidia/stt_en_citrinet_256_ls", "citrinet", 10, (3.78, 9.6), licence=CC_BY, source=CARD),
    Model("nvidia/stt_en_citrinet_512_ls", "citrinet", 36, licence=CC_BY),
    Model("stt_en_conformer_ctc_xlarge", "conformer_ctc", 637, (2.00, 3.74)),
    Model("stt_en_contextnet_256", "contextnet", 14.5, (3.3, 8.0), ngc_version="1.6.0"),
    Model("stt_en_conformer_transducer_large_ls", "conformer_transducer", None, (2.3, 5.1)),
    Model("stt_en_conformer_transducer_xlarge", "conformer_transducer", 644.9, (1.62, 3.01), licence=CC_BY),
    Model("stt_en_conformer_transducer_xxlarge", "conformer_transducer", None, (1.72, 3.14)),
    Model(
        "stt_en_fastconformer_ctc_large",
        "fastconformer",
        115.6,
        (1.93, 4.04),
        licence=CC_BY,
        source=LEADERBOARD,
        decoder="CTC",
        average=Average(8.97, 6399),
    ),
    Model("stt_en_fastconformer_ctc_large_ls", "fastconformer", None, decoder="CTC"),
    Model(
        "stt_en_fastconformer_ctc_xlarge",
        "fastconformer",
        608.8,
        (1.80, 3.65),
        licence=CC_BY,
        source=CARD,
        decoder="CTC",
    ),
    Model(
        "stt_en_fastconformer_ctc_xxlarge",
        "fastconformer",
        1062,
        (1.77, 3.77),
        licence=CC_BY,
        source=CARD,
        decoder="CTC",
    ),
    Model(
        "stt_en_fastconformer_transducer_large",
        "fastconformer",
        114.1,
        (1.80, 3.97),
        licence=CC_BY,
        source=LEADERBOARD,
        decoder="RNNT",
        average=Average(9.06, 4097),
    ),
    Model("stt_en_fastconformer_transducer_large_ls", "fastconformer", None, decoder="RNNT"),
    Model(
        "stt_en_fastconformer_transducer_xlarge",
        "fastconformer",
        616.7,
        (1.64, 3.07),
        licence=CC_BY,
        source=CARD,
        decoder="RNNT",
    ),
    Model(
        "stt_en_fastconformer_transducer_xxlarge",
        "fastconformer",
        1070,
        (1.59, 2.71),
        licence=CC_BY,
        source=CARD,
        decoder="RNNT",
    ),
    Model(
        "nvidia/stt_en_fastconformer_tdt_large",
        "fastconformer",
        115,
        (1.83, 3.73),
        licence=CC_BY,
        source=CARD,
        decoder="TDT",
    ),
    Model(
        "stt_en_fastconformer_hybrid_large_pc",
        "fastconformer",
        114.6,
        (2.0, 4.1),
        licence=CC_BY,
        decoder="RNNT + CTC",
        punctuated=True,
    ),
    Model(
        "nvidia/parakeet-ctc-0.6b",
        "parakeet",
        608.8,
        (1.88, 3.80),
        licence=CC_BY,
        source=LEADERBOARD,
        decoder="CTC",
        average=Average(7.69, 4282),
    ),
    Model(
        "nvidia/parakeet-ctc-1.1b",
        "parakeet",
        1062,
        (1.83, 3.51),
        licence=CC_BY,
        source=LEADERBOARD,
        decoder="CTC",
        average=Average(7.40, 2729),
    ),
    Model(
        "nvidia/parakeet-rnnt-0.6b",
        "parakeet",
        616.7,
        (1.62, 3.02),
        licence=CC_BY,
        source=LEADERBOARD,
        decoder="RNNT",
        average=Average(7.50, 2816),
    ),
    Model(
        "nvidia/parakeet-rnnt-1.1b",
        "parakeet",
        1070,
        (1.45, 2.50),
        licence=CC_BY,
        source=LEADERBOARD,
        decoder="RNNT",
        average=Average(7.12, 2053),
    ),
    # Its card has the mean of the leaderboard's sets, but it is not in the leaderboard's file.
    Model(
        "nvidia/parakeet-unified-en-0.6b",
        "parakeet",
        618.3,
        (1.63, 3.11),
        licence=NVIDIA_OPEN,
        source=CARD,
        decoder="RNNT",
        average=Average(5.91, source=CARD),
        punctuated=True,
    ),
    Model(
        "nvidia/parakeet-tdt-0.6b-v2",
        "parakeet",
        617.8,
        (1.69, 3.19),
        licence=CC_BY,
        source=LEADERBOARD,
        decoder="TDT",
        average=Average(6.05, 3386),
        punctuated=True,
    ),
    Model(
        "nvidia/parakeet-tdt-0.6b-v3",
        "parakeet",
        627,
        (1.92, 3.59),
        licence=CC_BY,
        source=LEADERBOARD,
        decoder="TDT",
        average=Average(6.32, 3333),
        punctuated=True,
        languages=25,
    ),
    Model(
        "nvidia/parakeet-tdt-1.1b",
        "parakeet",
        1070,
        (1.40, 2.60),
        licence=CC_BY,
        source=LEADERBOARD,
        decoder="TDT",
        average=Average(7.02, 2391),
    ),
    Model(
        "nvidia/parakeet-tdt_ctc-110m",
        "parakeet",
        114.6,
        (2.40, 5.22),
        licence=CC_BY,
        source=LEADERBOARD,
        decoder="TDT + CTC",
        average=Average(7.49, 5345),
        punctuated=True,
    ),
    Model(
        "nvidia/parakeet-tdt_ctc-1.1b",
        "parakeet",
        1100,
        (1.82, 3.67),
        licence=CC_BY,
        source=CARD,
        decoder="TDT + CTC",
        punctuated=True,
    ),
)
"""Later models, and variants of the 22: add a row to list a checkpoint."""
CATALOGUE = PUBLISHED + LATER_MODELS
"""The models of --list, --family and patterns of names. --all means PUBLISHED."""


def select(
    arguments: Sequence[str], families: Sequence[str] = (), everything: bool = False
) -> tuple[dict[str, bool], list[str]]:
    """Resolve a command line to checkpoints, each listed once.

    Args:
        arguments: Files, names, and patterns of the catalogue's names.
        families: Families whose listed models are all chosen.
        everything: Whether to choose the 22 models.

    Returns:
        The checkpoints, with whether an argument names them, and the patterns that match no listed model.
    """
    chosen, unmatched = {}, []
    for argument in arguments:
        is_pattern = bool(set(argument) & set("*?[")) and not Path(argument).is_file()
        matches = (
            [model.name for model in CATALOGUE if model.matches(argument)] if is_pattern else [full_name(argument)]
        )
        chosen.update(dict.fromkeys(matches, True))
        if not matches:
            unmatched.append(argument)
    for model in PUBLISHED if everything else ():
        chosen.setdefault(model.name, False)
    for model in CATALOGUE:
        if model.family in families:
            chosen.setdefault(model.name, False)
    return chosen, unmatched


def full_name(argument: str) -> str:
    """The listed name that a CHECKPOINT abbreviates by leaving out nvidia/; anything else as it is."""
    if is_file(argument):
        return argument
    return next((model.name for model in CATALOGUE if model.name == NVIDIA + argument), argument)


def find(name: str) -> Model | None:
    """The listed model of this name, or None."""
    return next((model for model in CATALOGUE if model.name == name), None)
