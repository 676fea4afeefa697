"""What the architectures have in common: NeMo's configs of front ends, of Conformers and of whole models.

What only matters in training is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Config: TypeAlias = dict[str, Any]

CHARACTERS = [" ", *"abcdefghijklmnopqrstuvwxyz", "'"]
REFLECTING_EDGES = "1.0.0"
"""A NeMo release with the front end that the published checkpoints were trained with (2.4 and before)."""
ZERO_EDGES = "2.7.3"


@dataclass(frozen=True)
class Architecture:
    """One model.

    config: NeMo's model config, without tokenizer and nemo_version
    parameters, encoder_parameters: what the published model has
    nemo_version: what the checkpoint says wrote it, which decides its front end
    pieces: size of its SentencePiece vocabulary; None where its labels are characters
    """

    nemo_class: str
    config: Config
    parameters: int
    encoder_parameters: int
    nemo_version: str = REFLECTING_EDGES
    pieces: int | None = None

    @property
    def is_transducer(self) -> bool:
        """Whether it decodes by a joint."""
        return "joint" in self.config


def front_end(mels: int, window_size: float, pad_to: int) -> Config:
    """The configuration of the preprocessor."""
    return {
        "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
        "sample_rate": 16000,
        "normalize": "per_feature",
        "window_size": window_size,
        "window_stride": 0.01,
        "window": "hann",
        "features": mels,
        "n_fft": 512,
        "frame_splicing": 1,
        "dither": 0.00001,
        "pad_to": pad_to,
    }


@dataclass(frozen=True)
class Subsampling:
    """What stands before a Conformer's layers: NeMo's name of it, mel frames per encoder frame, its channels."""

    kind: str
    factor: int
    channels: int


def conformer_encoder(width: int, heads: int, layers: int, *, kernel: int, subsampling: Subsampling) -> Config:
    """The configuration of a Conformer or FastConformer; `kernel` is its convolutions'."""
    return {
        "_target_": "nemo.collections.asr.modules.ConformerEncoder",
        "feat_in": 80,
        "feat_out": -1,
        "n_layers": layers,
        "d_model": width,
        "subsampling": subsampling.kind,
        "subsampling_factor": subsampling.factor,
        "subsampling_conv_channels": subsampling.channels,
        "ff_expansion_factor": 4,
        "self_attention_model": "rel_pos",
        "n_heads": heads,
        "att_context_size": [-1, -1],
        "xscaling": True,
        "untie_biases": True,
        "pos_emb_max_len": 5000,
        "conv_kernel_size": kernel,
        "conv_norm_type": "batch_norm",
        "dropout": 0.1,
        "dropout_emb": 0.0,
        "dropout_att": 0.1,
    }


def ctc_model(preprocessor: Config, encoder: Config, width: int | None, labels: Sequence[str] = ()) -> Config:
    """A CTC model; `labels` where they are characters, else NeMo takes them from the tokenizer."""
    decoder = {
        "_target_": "nemo.collections.asr.modules.ConvASRDecoder",
        "feat_in": width,
        "num_classes": len(labels) or -1,
        "vocabulary": list(labels),
    }
    config = {"sample_rate": 16000, "preprocessor": preprocessor, "encoder": encoder, "decoder": decoder}
    return config | ({"labels": list(labels)} if labels else {})


def transducer_model(preprocessor: Config, encoder: Config, width: int, hidden: int, max_symbols: int) -> Config:
    """An RNNT model; `width` is the encoder's, `hidden` the prediction network's and the joint's."""
    return {
        "sample_rate": 16000,
        "labels": [],
        "model_defaults": {"enc_hidden": width, "pred_hidden": hidden, "joint_hidden": hidden},
        "preprocessor": preprocessor,
        "encoder": encoder,
        "decoder": {
            "_target_": "nemo.collections.asr.modules.RNNTDecoder",
            "normalization_mode": None,
            "random_state_sampling": False,
            "blank_as_pad": True,
            "prednet": {"pred_hidden": hidden, "pred_rnn_layers": 1, "t_max": None, "dropout": 0.1},
        },
        "joint": {
            "_target_": "nemo.collections.asr.modules.RNNTJoint",
            "log_softmax": None,
            "preserve_memory": False,
            "fuse_loss_wer": False,
            "jointnet": {"joint_hidden": hidden, "activation": "relu", "dropout": 0.1},
        },
        "decoding": {"strategy": "greedy_batch", "greedy": {"max_symbols": max_symbols}},
        "loss": {"loss_name": "default"},
    }
