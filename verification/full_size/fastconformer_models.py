"""FastConformers, as NeMo's example configs build them. Data only.

Sources: examples/asr/conf of NeMo, fastconformer/fast-conformer_ctc_bpe.yaml and fast-conformer_transducer_bpe.yaml,
with the sizes of the tables at their top and of the model cards.
"""

from __future__ import annotations

from verification.full_size.model_parts import ZERO_EDGES, Architecture, Config, ctc_model, front_end, transducer_model


def _fast_conformer(width: int, layers: int) -> Config:
    return {
        "_target_": "nemo.collections.asr.modules.ConformerEncoder",
        "feat_in": 80,
        "feat_out": -1,
        "n_layers": layers,
        "d_model": width,
        "subsampling": "dw_striding",
        "subsampling_factor": 8,
        "subsampling_conv_channels": 256,
        "ff_expansion_factor": 4,
        "self_attention_model": "rel_pos",
        "n_heads": 8,
        "att_context_size": [-1, -1],
        "xscaling": True,
        "untie_biases": True,
        "pos_emb_max_len": 5000,
        "conv_kernel_size": 9,
        "conv_norm_type": "batch_norm",
        "dropout": 0.1,
        "dropout_emb": 0.0,
        "dropout_att": 0.1,
    }


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
    "parakeet_ctc_0.6b": Architecture(
        "EncDecCTCModelBPE",
        _ctc(width=1024, layers=24),
        parameters=608_799_745,
        encoder_parameters=607_749_120,
        nemo_version=ZERO_EDGES,
        pieces=1024,
    ),
}
