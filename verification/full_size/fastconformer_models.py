"""FastConformers and Parakeets, as NeMo's example configs and model cards describe them. Data only.

Source: NeMo, examples/asr/conf/fastconformer: fast-conformer_ctc_bpe.yaml, fast-conformer_transducer_bpe.yaml and
hybrid_transducer_ctc/fastconformer_hybrid_tdt_ctc_bpe.yaml, with the sizes of the tables at their top and of the model
cards. Parakeet v2 and v3: 128 mels, no bias, no xscaling, two LSTM layers.
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
    hybrid_model,
    transducer_model,
)

LARGE, XLARGE, XXLARGE = (512, 17), (1024, 24), (1024, 42)
"""Width and layers."""
JOINT = 640
MAX_SYMBOLS = 10
DURATIONS = (0, 1, 2, 3, 4)
OF_PARAKEET_V2 = {"xscaling": False, "use_bias": False}


def _encoder(width: int, layers: int, mels: int = 80, **more: object) -> Config:
    subsampling = Subsampling("dw_striding", factor=8, channels=256)
    return conformer_encoder(width, heads=8, layers=layers, kernel=9, subsampling=subsampling, feat_in=mels, **more)


def _ctc(width: int, layers: int) -> Config:
    return ctc_model(front_end(80, 0.025, pad_to=0), _encoder(width, layers), width=None)


def _transducer(encoder: Config, *, layers: int, durations: tuple[int, ...] = ()) -> Config:
    preprocessor = front_end(encoder["feat_in"], 0.025, pad_to=0)
    width = encoder["d_model"]
    return transducer_model(preprocessor, encoder, width, JOINT, MAX_SYMBOLS, layers=layers, durations=durations)


def _hybrid(transducer: Config) -> Config:
    return hybrid_model(transducer, width=transducer["encoder"]["d_model"])


def _architecture(
    config: Config, *, parameters: int, encoder_parameters: int, pieces: int = 1024, punctuated: bool = False
) -> Architecture:
    kind = "EncDecHybridRNNTCTC" if "aux_ctc" in config else "EncDecRNNT" if "joint" in config else "EncDecCTC"
    return Architecture(
        f"{kind}ModelBPE" if kind == "EncDecCTC" else f"{kind}BPEModel",
        config,
        parameters=parameters,
        encoder_parameters=encoder_parameters,
        nemo_version=ZERO_EDGES,
        pieces=pieces,
        punctuated=punctuated,
    )


_PARAKEET_V2 = _transducer(_encoder(*XLARGE, mels=128, **OF_PARAKEET_V2), layers=2, durations=DURATIONS)

FAST_CONFORMERS = {
    "stt_en_fastconformer_ctc_large": _architecture(
        _ctc(512, 18), parameters=115_600_385, encoder_parameters=115_074_560
    ),
    "stt_en_fastconformer_transducer_large": _architecture(
        _transducer(_encoder(*LARGE), layers=1), parameters=114_095_617, encoder_parameters=108_762_112
    ),
    "stt_en_fastconformer_hybrid_large_pc": _architecture(
        _hybrid(_transducer(_encoder(*LARGE), layers=1)),
        parameters=114_621_442,
        encoder_parameters=108_762_112,
        punctuated=True,
    ),
    "parakeet-tdt_ctc-110m": _architecture(
        _hybrid(_transducer(_encoder(*LARGE, xscaling=False), layers=1, durations=DURATIONS)),
        parameters=114_624_647,
        encoder_parameters=108_762_112,
        punctuated=True,
    ),
    "parakeet-ctc-0.6b": _architecture(_ctc(*XLARGE), parameters=608_799_745, encoder_parameters=607_749_120),
    "parakeet-rnnt-0.6b": _architecture(
        _transducer(_encoder(*XLARGE), layers=2), parameters=616_692_225, encoder_parameters=607_749_120
    ),
    "parakeet-tdt-0.6b-v2": _architecture(
        _PARAKEET_V2, parameters=617_825_926, encoder_parameters=608_879_616, punctuated=True
    ),
    "parakeet-tdt-0.6b-v3": _architecture(
        _PARAKEET_V2, parameters=627_008_134, encoder_parameters=608_879_616, pieces=8192, punctuated=True
    ),
    "parakeet-ctc-1.1b": _architecture(_ctc(*XXLARGE), parameters=1_062_540_289, encoder_parameters=1_061_489_664),
}
