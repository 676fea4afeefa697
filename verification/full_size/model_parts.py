"""Building blocks of the architectures: NeMo's configs of front ends, Conformers and whole models.

Settings that matter only in training are left out.
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
"""A NeMo release that pads the edges with zeros (2.5 and later)."""


@dataclass(frozen=True)
class Architecture:
    """One model.

    Attributes:
        nemo_class: Name of NeMo's model class.
        config: NeMo's model config, without tokenizer and nemo_version.
        parameters: Number of parameters of the published model.
        encoder_parameters: Number of parameters of its encoder.
        nemo_version: NeMo release recorded in the checkpoint; it decides the front end.
        pieces: Size of the SentencePiece vocabulary; None if the labels are characters.
        punctuated: Whether the pieces have capitals and punctuation.
    """

    nemo_class: str
    config: Config
    parameters: int
    encoder_parameters: int
    nemo_version: str = REFLECTING_EDGES
    pieces: int | None = None
    punctuated: bool = False

    @property
    def is_transducer(self) -> bool:
        """Whether the model has a joint network."""
        return "joint" in self.config

    @property
    def is_hybrid(self) -> bool:
        """Whether the model has a joint network and a CTC head."""
        return "aux_ctc" in self.config


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
    """The subsampling before a Conformer's layers.

    Attributes:
        kind: Kind of subsampling, by NeMo's name.
        factor: Mel frames per encoder frame.
        channels: Channels of its convolutions; -1 for the encoder's width.
    """

    kind: str
    factor: int
    channels: int


def conformer_encoder(
    width: int, heads: int, layers: int, *, kernel: int, subsampling: Subsampling, **more: object
) -> Config:
    """The configuration of a Conformer or FastConformer.

    Args:
        width: Width of its layers.
        heads: Heads of its attention.
        layers: Number of layers.
        kernel: Kernel size of its convolutions.
        subsampling: Subsampling before the layers.
        more: Settings in place of the usual ones, by NeMo's names.
    """
    usual = {
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
    return usual | more


def ctc_model(preprocessor: Config, encoder: Config, width: int | None, labels: Sequence[str] = ()) -> Config:
    """The configuration of a CTC model; without `labels`, NeMo takes them from the tokenizer."""
    decoder = {
        "_target_": "nemo.collections.asr.modules.ConvASRDecoder",
        "feat_in": width,
        "num_classes": len(labels) or -1,
        "vocabulary": list(labels),
    }
    config = {"sample_rate": 16000, "preprocessor": preprocessor, "encoder": encoder, "decoder": decoder}
    return config | ({"labels": list(labels)} if labels else {})


def transducer_model(
    preprocessor: Config,
    encoder: Config,
    width: int,
    hidden: int,
    max_symbols: int,
    *,
    layers: int = 1,
    durations: Sequence[int] = (),
) -> Config:
    """The configuration of an RNNT or TDT model.

    Args:
        preprocessor: Configuration of the front end.
        encoder: Configuration of the encoder.
        width: Width of the encoder.
        hidden: Width of the prediction network and of the joint.
        max_symbols: Limit of tokens per frame.
        layers: LSTM layers of the prediction network.
        durations: Durations that a TDT model chooses from; empty for RNNT.
    """
    greedy = {"strategy": "greedy_batch", "greedy": {"max_symbols": max_symbols}}
    tdt = {"loss_name": "tdt", "tdt_kwargs": {"durations": list(durations)}}
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
            "prednet": {"pred_hidden": hidden, "pred_rnn_layers": layers, "t_max": None, "dropout": 0.1},
        },
        "joint": {
            "_target_": "nemo.collections.asr.modules.RNNTJoint",
            "log_softmax": None,
            "preserve_memory": False,
            "fuse_loss_wer": False,
            "num_extra_outputs": len(durations),
            "jointnet": {"joint_hidden": hidden, "activation": "relu", "dropout": 0.1},
        },
        "decoding": greedy | ({"model_type": "tdt", "durations": list(durations)} if durations else {}),
        "loss": tdt if durations else {"loss_name": "default"},
    }


def hybrid_model(transducer: Config, width: int) -> Config:
    """The configuration of a transducer with a CTC head; `width` is the encoder's."""
    head = {
        "_target_": "nemo.collections.asr.modules.ConvASRDecoder",
        "feat_in": width,
        "num_classes": -1,
        "vocabulary": [],
    }
    return transducer | {
        "aux_ctc": {"ctc_loss_weight": 0.3, "use_cer": False, "decoder": head, "decoding": {"strategy": "greedy"}}
    }
