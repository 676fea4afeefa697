"""Scale random weights so that a model's texts follow the audio.

With its initial weights, a deep model's activations drift out of range, float noise grows from layer to layer, and one
label wins every frame. Here the batch norms get the statistics of real speech. The CTC head or the joint gets logits
with the spread and balance of a trained one. Labels then change with the audio (and, in a transducer, with the tokens
so far), and few frames are near ties.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from nemo.collections.asr.modules import ConvASRDecoder
from torch.nn.modules.batchnorm import _BatchNorm

from nemo_triton.audio import Samples, as_float
from verification.full_size.seeded import draw, is_drawn

LOGIT_DEVIATION = 4.0
"""Standard deviation of the logits."""
BLANK_SHARE = 0.5
"""Fraction of a CTC model's frames that are blank."""
JOINT_BLANK_SHARE = 0.55
"""Fraction of a joint's decisions that are blank. The fraction of blank frames is higher: other frames have several
tokens."""
RANDOM_TOKENS = 400
EMBEDDING_SCALE = 3.0
"""Factor that lets the prediction network depend more on its tokens than on its state."""
REPEAT_PENALTY = 8.0
"""Reduction of a token's logit right after that token. Without it, random texts repeat one token."""


@torch.no_grad()
def draw_weights(encoder: torch.nn.Module) -> None:
    """Set the large weights of a NeMo encoder to the values that verification.full_size.seeded draws for their names.

    Args:
        encoder: NeMo's encoder; changed in place.
    """
    for name, weight in encoder.named_parameters():
        if is_drawn(weight.shape):
            weight.copy_(torch.from_numpy(draw(name, weight.shape)))


@torch.no_grad()
def settle(model: Any, audio: Sequence[Samples]) -> None:
    """Set the batch norms and the heads of a NeMo model: CTC's, a joint, or both.

    Args:
        model: NeMo's model; changed in place and left in evaluation mode.
        audio: Recordings of speech, int16 [T] at 16 kHz.
    """
    model.eval()
    features = [_features(model, samples) for samples in audio]
    _calibrate_batch_norms(model.encoder, features)
    encoded = torch.cat([_encode(model.encoder, item) for item in features])
    if hasattr(model, "joint"):
        _spread_joint(model, encoded)
    for decoder in (model.decoder, getattr(model, "ctc_decoder", None)):
        if isinstance(decoder, ConvASRDecoder):
            _spread(decoder.decoder_layers[0], encoded)


def _features(model: Any, samples: Samples) -> torch.Tensor:
    """Features float32 [1, mels, frames], without the frames that pad_to appends."""
    signal = torch.from_numpy(as_float(samples))[None]
    features, length = model.preprocessor(input_signal=signal, length=torch.tensor([signal.shape[1]]))
    return torch.as_tensor(features[:, :, : int(length)])


def _encode(encoder: Any, features: torch.Tensor) -> torch.Tensor:
    """The encoder's output float32 [frames, width]."""
    encoded, length = encoder(audio_signal=features, length=torch.tensor([features.shape[2]]))
    return torch.as_tensor(encoded[0, :, : int(length)].T)


def _calibrate_batch_norms(encoder: torch.nn.Module, features: Sequence[torch.Tensor]) -> None:
    """Set batch norms to the mean statistics of all utterances, with a bias that keeps most ReLUs open.

    Closed ReLUs make each layer a coarse function of the one before, which amplifies noise.
    """
    norms = [module for module in encoder.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.bias.fill_(1.0)
        norm.train()
    for item in features:
        _encode(encoder, item)
    for norm in norms:
        norm.eval()


def _spread(head: torch.nn.Conv1d, encoded: torch.Tensor) -> None:
    """Set a CTC head of kernel 1 to random weights; `encoded` is [frames, width]."""
    weight, bias = _spread_weights(head.out_channels, head.out_channels - 1, encoded, BLANK_SHARE)
    head.weight.copy_(weight[:, :, None])
    assert head.bias is not None
    head.bias.copy_(bias)


def _spread_weights(
    outputs: int, blank: int, inputs: torch.Tensor, blank_share: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a weight [outputs, width] and a bias that centre the logits of each output.

    Args:
        outputs: Number of outputs: the labels, the blank, and the durations of a TDT model.
        blank: Number of the blank.
        inputs: float32 [n, width].
        blank_share: Fraction of the inputs whose best label is the blank.
    """
    centre = inputs.mean(0)
    weight = torch.randn(outputs, inputs.shape[1])
    weight *= LOGIT_DEVIATION / ((inputs - centre) @ weight.T).std()
    logits = (inputs - centre) @ weight.T
    bias = -(weight @ centre)
    bias[blank] += (logits[:, :blank].amax(1) - logits[:, blank]).quantile(blank_share)
    return weight, bias


def _spread_joint(model: Any, encoded: torch.Tensor) -> None:
    """Scale the joint so that audio and earlier tokens both matter, and spread its logits.

    Args:
        model: NeMo's transducer; changed in place.
        encoded: float32 [frames, width].
    """
    joint, blank = model.joint, model.decoding.blank_id
    model.decoder.prediction["embed"].weight.mul_(EMBEDDING_SCALE)
    tokens = torch.randint(blank, (1, RANDOM_TOKENS))
    predicted, _ = model.decoder.predict(tokens, None, add_sos=False, batch_size=1)
    _whiten(joint.enc, encoded)
    _whiten(joint.pred, predicted[0])
    pairs = joint.enc(encoded) + joint.pred(predicted[0])[torch.randint(RANDOM_TOKENS, (len(encoded),))]
    output = joint.joint_net[-1]
    weight, bias = _spread_weights(output.out_features, blank, torch.relu(pairs), JOINT_BLANK_SHARE)
    after_each, _ = model.decoder.predict(torch.arange(blank)[:, None], None, add_sos=False, batch_size=blank)
    after_itself = torch.relu(joint.pred(after_each[:, 0]))
    after_itself -= after_itself.mean(0)
    weight[:blank] -= REPEAT_PENALTY * after_itself / after_itself.square().sum(1, keepdim=True)
    output.weight.copy_(weight)
    output.bias.copy_(bias)


def _whiten(projection: torch.nn.Linear, inputs: torch.Tensor) -> None:
    """Scale and shift a layer so that each output has mean 0 and deviation 1 over `inputs` [n, width]."""
    projection.bias.zero_()
    outputs = projection(inputs)
    projection.weight.div_(outputs.std(0)[:, None])
    projection.bias.copy_(-projection(inputs).mean(0))
