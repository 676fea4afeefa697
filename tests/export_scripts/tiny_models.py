"""Small NeMo models with random weights, one of each architecture."""

from __future__ import annotations

import functools
import io
import pydoc_data.topics
import re
import tarfile
from pathlib import Path
from typing import Any

import soundfile
import torch
import yaml
from architectures import ARCHITECTURES, CHARACTERS, TRANSDUCER, Block, ctc_head, hybrid, tdt
from locations import DEMO_MANIFEST
from nemo.collections.asr.models import (
    EncDecCTCModel,
    EncDecCTCModelBPE,
    EncDecHybridRNNTCTCBPEModel,
    EncDecHybridRNNTCTCModel,
    EncDecRNNTBPEModel,
    EncDecRNNTModel,
)
from nemo.collections.asr.modules import ConvASRDecoder
from omegaconf import OmegaConf
from tasks import train_tokenizer


@functools.cache
def tokenizer_folder() -> str:
    """A folder with a SentencePiece model of 96 pieces, trained on words that come with Python."""
    words = re.findall("[a-z']+", " ".join(pydoc_data.topics.topics.values()).lower())
    return train_tokenizer([" ".join(words[start : start + 12]) for start in range(0, 24_000, 12)], 96)


def tiny_model(architecture: str, nemo_version: str) -> Any:
    """A NeMo model with varied text."""
    torch.manual_seed(7)
    front_end, encoder, kind = ARCHITECTURES[architecture]
    config: Block = {"preprocessor": front_end, "encoder": encoder, "nemo_version": nemo_version}
    model: Any
    if kind in ("transducer", "tdt"):
        decoder = TRANSDUCER if kind == "transducer" else tdt()
        config |= {"tokenizer": {"dir": tokenizer_folder(), "type": "bpe"}, **decoder}
        model = EncDecRNNTBPEModel(cfg=OmegaConf.create(config))
    elif kind in ("hybrid", "hybrid_tdt"):
        heads = hybrid(TRANSDUCER if kind == "hybrid" else tdt(), [])
        config |= {"tokenizer": {"dir": tokenizer_folder(), "type": "bpe"}, **heads}
        model = EncDecHybridRNNTCTCBPEModel(cfg=OmegaConf.create(config))
    elif kind == "hybrid_characters":
        config |= {**hybrid(TRANSDUCER, CHARACTERS), "labels": CHARACTERS}
        model = EncDecHybridRNNTCTCModel(cfg=OmegaConf.create(config))
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
    """Set batch-norm statistics from speech, and spread the labels so that rounding decides nothing."""
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
    if isinstance(model, EncDecRNNTModel):
        _spread_joint(model, encoded)
    for decoder in (model.decoder, getattr(model, "ctc_decoder", None)):
        if isinstance(decoder, ConvASRDecoder):
            _spread_labels(decoder.decoder_layers[0], encoded)


def _spread_labels(head: Any, encoded: torch.Tensor) -> None:
    """Spread the log-probs of a CTC head."""
    head.bias.zero_()
    head.weight.mul_(4 / head(encoded).std())
    head.bias.copy_(-head(encoded).mean(dim=(0, 2)))


def _spread_joint(model: Any, encoded: torch.Tensor) -> None:
    """Spread the logits, and let the blank win about half of the frames."""
    projected = model.joint.enc(encoded.transpose(1, 2))
    output = model.joint.joint_net[-1]
    output.bias.zero_()
    output.weight.mul_(4 / output(torch.relu(projected)).std())
    logits = output(torch.relu(projected))
    output.bias.copy_(-logits.mean(dim=(0, 1)))
    blank = model.decoding.blank_id
    output.bias[blank] += (logits + output.bias)[:, :, : blank + 1].amax(dim=2).median()


def _encode(model: Any, signal: Any) -> torch.Tensor:
    audio = torch.from_numpy(signal)[None]
    features, length = model.preprocessor(input_signal=audio, length=torch.tensor([audio.shape[1]]))
    encoded: torch.Tensor = model.encoder(audio_signal=features, length=length)[0]
    return encoded


def save_tiny_model(architecture: str, nemo_version: str, file: Path) -> None:
    """Save the model as if that version of NeMo had saved it."""
    tiny_model(architecture, nemo_version).save_to(str(file))
    rewrite_config(file, nemo_version=nemo_version)


def read_config(file: Path) -> Block:
    """Read the model_config.yaml of a .nemo file."""
    with tarfile.open(file) as archive:
        for member in archive:
            if Path(member.name).name == "model_config.yaml" and (source := archive.extractfile(member)):
                return dict(yaml.safe_load(source.read()))
    raise FileNotFoundError(file)


def rewrite_config(file: Path, **changes: object) -> None:
    """Change entries of a .nemo file's model_config.yaml, such as those that NeMo's save_to sets itself."""
    with tarfile.open(file) as archive:
        members = [(member, archive.extractfile(member)) for member in archive if member.isfile()]
        contents = [(member, source.read() if source else b"") for member, source in members]
    with tarfile.open(file, "w") as archive:
        for member, content in contents:
            if Path(member.name).name == "model_config.yaml":
                content = yaml.safe_dump({**yaml.safe_load(content), **changes}).encode()
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
