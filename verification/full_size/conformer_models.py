"""Conformer-CTC and Conformer-Transducer, as NeMo's example configs build them. Data only.

Source: NeMo, examples/asr/conf: conformer_ctc_bpe.yaml and conformer_transducer_bpe.yaml, with the sizes of the tables
at their top.
"""

from __future__ import annotations

from verification.full_size.model_parts import (
    ZERO_EDGES,
    Architecture,
    Config,
    Subsampling,
    conformer_encoder,
    ctc_model,
    front_end,
    transducer_model,
)


def _conformer(width: int, heads: int, layers: int) -> Config:
    subsampling = Subsampling("striding", factor=4, channels=-1)
    return conformer_encoder(width, heads, layers, kernel=31, subsampling=subsampling)


def _conformer_ctc(width: int, heads: int, layers: int) -> Config:
    return ctc_model(front_end(80, 0.025, pad_to=0), _conformer(width, heads, layers), width=None)


def _conformer_transducer(width: int, heads: int, layers: int, hidden: int) -> Config:
    encoder = _conformer(width, heads, layers)
    return transducer_model(front_end(80, 0.025, pad_to=0), encoder, width, hidden, max_symbols=30)


_SMALL = _conformer_ctc(width=176, heads=4, layers=16)
_MEDIUM = _conformer_ctc(width=256, heads=4, layers=18)
_LARGE = Architecture(
    "EncDecCTCModelBPE",
    _conformer_ctc(width=512, heads=8, layers=18),
    parameters=121_501_313,
    encoder_parameters=121_435_136,
    pieces=128,
)

CONFORMERS = {
    # The published checkpoint has reflecting edges. Citrinet covers those with the same 80 mels, so this one has zero
    # edges and covers the other front end.
    "stt_en_conformer_ctc_small": Architecture(
        "EncDecCTCModelBPE",
        _SMALL,
        parameters=13_154_033,
        encoder_parameters=12_972_608,
        nemo_version=ZERO_EDGES,
        pieces=1024,
    ),
    "stt_en_conformer_ctc_medium": Architecture(
        "EncDecCTCModelBPE", _MEDIUM, parameters=30_768_897, encoder_parameters=30_505_472, pieces=1024
    ),
    "stt_en_conformer_ctc_large": _LARGE,
    "stt_en_conformer_ctc_small_ls": Architecture(
        "EncDecCTCModelBPE", _SMALL, parameters=12_995_441, encoder_parameters=12_972_608, pieces=128
    ),
    "stt_en_conformer_ctc_medium_ls": Architecture(
        "EncDecCTCModelBPE", _MEDIUM, parameters=30_538_625, encoder_parameters=30_505_472, pieces=128
    ),
    "stt_en_conformer_ctc_large_ls": _LARGE,
    "stt_en_conformer_transducer_small": Architecture(
        "EncDecRNNTBPEModel",
        _conformer_transducer(width=176, heads=4, layers=16, hidden=320),
        parameters=14_610_753,
        encoder_parameters=12_972_608,
        pieces=1024,
    ),
    # The published checkpoint has reflecting edges. Zero edges here, so that both front ends are tested with a
    # transducer.
    "stt_en_conformer_transducer_medium": Architecture(
        "EncDecRNNTBPEModel",
        _conformer_transducer(width=256, heads=4, layers=16, hidden=640),
        parameters=32_497_153,
        encoder_parameters=27_327_488,
        nemo_version=ZERO_EDGES,
        pieces=1024,
    ),
    "stt_en_conformer_transducer_large": Architecture(
        "EncDecRNNTBPEModel",
        _conformer_transducer(width=512, heads=8, layers=17, hidden=640),
        parameters=120_444_929,
        encoder_parameters=115_111_424,
        pieces=1024,
    ),
}

CONFORMER_XLARGE = Architecture(
    "EncDecCTCModelBPE",
    _conformer_ctc(width=1024, heads=8, layers=24),
    parameters=636_999_681,
    encoder_parameters=635_949_056,
    pieces=1024,
)
"""stt_en_conformer_ctc_xlarge."""
