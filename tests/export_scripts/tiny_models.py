"""Small NeMo models with random weights, one of each architecture that is exported."""

from __future__ import annotations

import functools
import io
import pydoc_data.topics
import re
import tarfile
from pathlib import Path
from typing import Any, Literal

import soundfile
import torch
import yaml
from locations import DEMO_MANIFEST
from nemo.collections.asr.models import EncDecCTCModel, EncDecCTCModelBPE, EncDecRNNTBPEModel
from omegaconf import OmegaConf
from tasks import train_tokenizer

OLD_NEMO, NEW_NEMO = "1.10.0", "2.7.3"
"""Releases with the front end of the 22 published checkpoints, and with the one since 2.5."""
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


Kind = Literal["characters", "pieces", "transducer"]

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
ARCHITECTURES = CTC | RNNT
"""Front end, encoder, and what is behind it."""


@functools.cache
def tokenizer_folder() -> str:
    """A folder with a SentencePiece model of 96 pieces, trained on words that come with Python."""
    words = re.findall("[a-z']+", " ".join(pydoc_data.topics.topics.values()).lower())
    return train_tokenizer([" ".join(words[start : start + 12]) for start in range(0, 24_000, 12)], 96)


def tiny_model(architecture: str, nemo_version: str) -> Any:
    """A NeMo model whose text is not trivial."""
    torch.manual_seed(7)
    front_end, encoder, kind = ARCHITECTURES[architecture]
    config: Block = {"preprocessor": front_end, "encoder": encoder, "nemo_version": nemo_version}
    model: Any
    if kind == "transducer":
        config |= {"tokenizer": {"dir": tokenizer_folder(), "type": "bpe"}, **TRANSDUCER}
        model = EncDecRNNTBPEModel(cfg=OmegaConf.create(config))
    elif kind == "pieces":
        config |= {"tokenizer": {"dir": tokenizer_folder(), "type": "bpe"}, "decoder": ctc_head([])}
        model = EncDecCTCModelBPE(cfg=OmegaConf.create(config))
    else:
        config |= {"labels": CHARACTERS, "decoder": ctc_head(CHARACTERS)}
        model = EncDecCTCModel(cfg=OmegaConf.create(config))
    _settle(model)
    return model


@torch.no_grad()
def _settle(model: Any) -> None:
    """Batch-norm statistics of speech, and labels far enough apart that rounding decides nothing."""
    signals = [soundfile.read(file, dtype="float32")[0] for file in sorted(DEMO_MANIFEST.parent.glob("*.flac"))[:4]]
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.momentum = None
            module.reset_running_stats()
            module.bias.fill_(0.5)
    model.train()
    for signal in signals:
        _encode(model, signal)
    model.eval()
    encoded = _encode(model, signals[0])
    if isinstance(model, EncDecRNNTBPEModel):
        _spread_joint(model, encoded)
        return
    head = model.decoder.decoder_layers[0]
    head.bias.zero_()
    head.weight.mul_(4 / head(encoded).std())
    head.bias.copy_(-head(encoded).mean(dim=(0, 2)))


def _spread_joint(model: Any, encoded: torch.Tensor) -> None:
    """Spread logits, and a blank that wins about half of the frames."""
    projected = model.joint.enc(encoded.transpose(1, 2))
    output = model.joint.joint_net[-1]
    output.bias.zero_()
    output.weight.mul_(4 / output(torch.relu(projected)).std())
    logits = output(torch.relu(projected))
    output.bias.copy_(-logits.mean(dim=(0, 1)))
    output.bias[-1] += (logits + output.bias).amax(dim=2).median()


def _encode(model: Any, signal: Any) -> torch.Tensor:
    audio = torch.from_numpy(signal)[None]
    features, length = model.preprocessor(input_signal=audio, length=torch.tensor([audio.shape[1]]))
    encoded: torch.Tensor = model.encoder(audio_signal=features, length=length)[0]
    return encoded


def save_tiny_model(architecture: str, nemo_version: str, file: Path) -> None:
    """Write the model as if that NeMo had written it."""
    tiny_model(architecture, nemo_version).save_to(str(file))
    rewrite_config(file, nemo_version=nemo_version)


def read_config(file: Path) -> Block:
    """The model_config.yaml inside a .nemo file."""
    with tarfile.open(file) as archive:
        for member in archive:
            if Path(member.name).name == "model_config.yaml" and (source := archive.extractfile(member)):
                return dict(yaml.safe_load(source.read()))
    raise FileNotFoundError(file)


def rewrite_config(file: Path, **changes: object) -> None:
    """Change entries of the model_config.yaml inside a .nemo file, which NeMo's save_to sets itself."""
    with tarfile.open(file) as archive:
        members = [(member, archive.extractfile(member)) for member in archive if member.isfile()]
        contents = [(member, source.read() if source else b"") for member, source in members]
    with tarfile.open(file, "w") as archive:
        for member, content in contents:
            if Path(member.name).name == "model_config.yaml":
                content = yaml.safe_dump({**yaml.safe_load(content), **changes}).encode()
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
