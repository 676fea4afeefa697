"""Small architectures of each family, as NeMo configurations."""

from __future__ import annotations

from typing import Any, Literal

OLD_NEMO, NEW_NEMO = "1.10.0", "2.7.3"
"""NeMo versions with the front end of the 22 published checkpoints, and with the front end since 2.5."""
CHARACTERS = [" ", *"abcdefghijklmnopqrstuvwxyz", "'"]
WIDTH = 32

Block = dict[str, Any]


def block(kernel: int, stride: int = 1, **more: Any) -> Block:
    settings: Block = {"filters": WIDTH, "repeat": 2, "kernel": [kernel], "stride": [stride], "dilation": [1]}
    return {**settings, "dropout": 0.0, "residual": stride == 1, **more}


QUARTZNET = [
    block(11, stride=2, repeat=1, separable=True),
    block(13, separable=True),
    block(29, repeat=1, residual=False, separable=True, dilation=[2]),
]
JASPER = [block(11, stride=2, repeat=1), block(13, residual_dense=True), block(17, residual_dense=True)]
CITRINET = [
    block(5, repeat=1, residual=False, separable=True, se=True, se_context_size=-1),
    block(11, stride=2, separable=True, se=True, se_context_size=-1, residual=True, stride_last=True,
          residual_mode="stride_add"),
    block(13, separable=True, se=True, se_context_size=-1),
]  # fmt: skip


TRANSDUCER: Block = {
    "labels": [],
    "model_defaults": {"enc_hidden": WIDTH, "pred_hidden": 24, "joint_hidden": 28},
    "decoder": {
        "_target_": "nemo.collections.asr.modules.RNNTDecoder",
        "normalization_mode": None,
        "blank_as_pad": True,
        "prednet": {"pred_hidden": 24, "pred_rnn_layers": 1, "dropout": 0.0},
    },
    "joint": {
        "_target_": "nemo.collections.asr.modules.RNNTJoint",
        "log_softmax": None,
        "fuse_loss_wer": False,
        "jointnet": {"joint_hidden": 28, "activation": "relu", "dropout": 0.0},
    },
    "decoding": {"strategy": "greedy_batch", "greedy": {"max_symbols": 3}},
    "loss": {"loss_name": "default"},
}


DURATIONS = [0, 1, 2, 3, 4]


def tdt() -> Block:
    """A token-and-duration transducer: its joint also predicts how many frames a label lasts."""
    return {
        **TRANSDUCER,
        "joint": {**TRANSDUCER["joint"], "num_extra_outputs": len(DURATIONS)},
        "decoding": {**TRANSDUCER["decoding"], "model_type": "tdt", "durations": DURATIONS},
        "loss": {"loss_name": "tdt", "tdt_kwargs": {"durations": DURATIONS}},
    }


def hybrid(transducer: Block, vocabulary: list[str]) -> Block:
    """A transducer that also has a CTC head."""
    aux_ctc = {"ctc_loss_weight": 0.3, "decoder": ctc_head(vocabulary), "decoding": {"strategy": "greedy"}}
    return {**transducer, "aux_ctc": aux_ctc}


def ctc_head(vocabulary: list[str]) -> Block:
    return {
        "_target_": "nemo.collections.asr.modules.ConvASRDecoder",
        "feat_in": WIDTH,
        "num_classes": len(vocabulary) or -1,
        "vocabulary": vocabulary,
    }


def preprocessor(mels: int, window: float, pad_to: int) -> Block:
    return {
        "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
        "sample_rate": 16000,
        "normalize": "per_feature",
        "window_size": window,
        "window_stride": 0.01,
        "window": "hann",
        "features": mels,
        "n_fft": 512,
        "dither": 1e-5,
        "pad_to": pad_to,
    }


def convolutional(blocks: list[Block], mels: int) -> Block:
    return {
        "_target_": "nemo.collections.asr.modules.ConvASREncoder",
        "feat_in": mels,
        "activation": "relu",
        "conv_mask": True,
        "jasper": blocks,
    }


def conformer(mels: int) -> Block:
    return {
        "_target_": "nemo.collections.asr.modules.ConformerEncoder",
        "feat_in": mels,
        "n_layers": 2,
        "d_model": WIDTH,
        "subsampling": "striding",
        "subsampling_factor": 4,
        "subsampling_conv_channels": WIDTH,
        "ff_expansion_factor": 4,
        "self_attention_model": "rel_pos",
        "n_heads": 4,
        "conv_kernel_size": 31,
        "pos_emb_max_len": 500,
        "xscaling": True,
    }


def fast_conformer(mels: int = 80, **settings: object) -> Block:
    """A FastConformer's encoder: depthwise subsampling by 8, short kernels."""
    fast = {"subsampling": "dw_striding", "subsampling_factor": 8, "conv_kernel_size": 9}
    return {**conformer(mels), **fast, **settings}


UNIFIED: Block = {
    "att_context_style": "chunked_limited_with_rc",
    "att_chunk_context_size": [[70], [1, 2, 7, 13], [0, 1, 3, 7, 13]],
    "conv_context_style": "dcc",
}
"""Settings of an encoder that was trained for whole files and for chunks, as parakeet-unified-en-0.6b (NeMo 3.0)."""

Kind = Literal["characters", "pieces", "transducer", "tdt", "hybrid", "hybrid_tdt", "hybrid_characters"]

CTC: dict[str, tuple[Block, Block, Kind]] = {
    "quartznet": (preprocessor(64, 0.02, 16), convolutional(QUARTZNET, 64), "characters"),
    "jasper": (preprocessor(64, 0.02, 16), convolutional(JASPER, 64), "characters"),
    "citrinet": (preprocessor(80, 0.025, 16), convolutional(CITRINET, 80), "pieces"),
    "conformer": (preprocessor(80, 0.025, 0), conformer(80), "pieces"),
}
RNNT: dict[str, tuple[Block, Block, Kind]] = {
    "contextnet": (preprocessor(80, 0.025, 16), convolutional(CITRINET, 80), "transducer"),
    "conformer_transducer": (preprocessor(80, 0.025, 0), conformer(80), "transducer"),
}
HYBRID: dict[str, tuple[Block, Block, Kind]] = {
    "fastconformer_hybrid": (preprocessor(80, 0.025, 0), fast_conformer(), "hybrid_tdt"),
}
ARCHITECTURES = CTC | RNNT | HYBRID
"""Preprocessor, encoder and kind of decoder, by family."""
