"""FastConformers, as NeMo's example configs build them. Data only.

Source: NeMo, examples/asr/conf/fastconformer: fast-conformer_ctc_bpe.yaml and fast-conformer_transducer_bpe.yaml, with
the sizes of the tables at their top and of the model cards.
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


def _fast_conformer(width: int, layers: int) -> Config:
    subsampling = Subsampling("dw_striding", factor=8, channels=256)
    return conformer_encoder(width, heads=8, layers=layers, kernel=9, subsampling=subsampling)


def _ctc(width: int, layers: int) -> Config:
    return ctc_model(front_end(80, 0.025, pad_to=0), _fast_conformer(width, layers), width=None)


FAST_CONFORMERS = {
    "stt_en_fastconformer_ctc_large": Architecture(
        "EncDecCTCModelBPE",
        _ctc(width=512, layers=18),
        parameters=115_600_385,
        encoder_parameters=115_074_560,
        nemo_version=ZERO_EDGES,
        pieces=1024,
    ),
    "stt_en_fastconformer_transducer_large": Architecture(
        "EncDecRNNTBPEModel",
        transducer_model(
            front_end(80, 0.025, pad_to=0), _fast_conformer(512, 17), width=512, hidden=640, max_symbols=10
        ),
        parameters=114_095_617,
        encoder_parameters=108_762_112,
        nemo_version=ZERO_EDGES,
        pieces=1024,
    ),
    "parakeet-ctc-0.6b": Architecture(
        "EncDecCTCModelBPE",
        _ctc(width=1024, layers=24),
        parameters=608_799_745,
        encoder_parameters=607_749_120,
        nemo_version=ZERO_EDGES,
        pieces=1024,
    ),
}
