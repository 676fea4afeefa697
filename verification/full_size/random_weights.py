"""Gives a model of random weights texts that follow the audio.

As initialised, a deep model's activations drift out of any range, its float noise grows from layer
to layer and one label wins every frame. Here its batch norms get the statistics of real speech, and
its CTC head or its joint a spread and a balance like those of a trained one, so that labels change
with the audio, and in a transducer with the text so far, and few frames are near ties.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from export_scripts.checkpoints.families import RnntDecoder, decoder_class_of
from nemo_triton.audio import Samples
from nemo_triton.contract import INT16_FULL_SCALE
from verification.full_size.seeded import draw, is_drawn

LOGIT_DEVIATION = 4.0
BLANK_SHARE = 0.5
"""How many frames are blank."""
JOINT_BLANK_SHARE = 0.55
"""How many decisions of a joint are blank; more of the frames are, for others have several tokens."""
RANDOM_TOKENS = 400
EMBEDDING_SCALE = 3.0
"""Makes the prediction network listen to its tokens rather than to its state."""
REPEAT_PENALTY = 8.0
"""What a token's logit loses right after that token, or random texts would repeat one token for ever."""


@torch.no_grad()
def draw_weights(encoder: torch.nn.Module) -> None:
    """Give the large weights of a NeMo encoder the values that verification.full_size.seeded draws for their names."""
    for name, weight in encoder.named_parameters():
        if is_drawn(weight.shape):
            weight.copy_(torch.from_numpy(draw(name, weight.shape)))


@torch.no_grad()
def settle(model: Any, audio: Sequence[Samples]) -> None:
    """Set batch norms and CTC head or joint of a NeMo model by recordings of speech; leaves it in evaluation mode."""
    model.eval()
    features = [_features(model, samples) for samples in audio]
    _calibrate_batch_norms(model.encoder, features)
    encoded = torch.cat([_encode(model.encoder, item) for item in features])
    if issubclass(decoder_class_of(model), RnntDecoder):
        _spread_joint(model, encoded)
    else:
        _spread(model.decoder.decoder_layers[0], encoded)


def _features(model: Any, samples: Samples) -> torch.Tensor:
    """[1, mels, frames], without the frames that pad_to appends."""
    signal = torch.from_numpy(samples).float()[None] / INT16_FULL_SCALE
    features, length = model.preprocessor(input_signal=signal, length=torch.tensor([signal.shape[1]]))
    return torch.as_tensor(features[:, :, : int(length)])


def _encode(encoder: Any, features: torch.Tensor) -> torch.Tensor:
    """[frames, width]"""
    encoded, length = encoder(audio_signal=features, length=torch.tensor([features.shape[2]]))
    return torch.as_tensor(encoded[0, :, : int(length)].T)


def _calibrate_batch_norms(encoder: torch.nn.Module, features: Sequence[torch.Tensor]) -> None:
    """Give batch norms the mean statistics of all utterances, and a bias that keeps ReLUs mostly open.

    Closed ReLUs would make each layer a coarse function of the one before, which amplifies noise.
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
    """Random weights for a CTC head of kernel 1; encoded: [frames, width]."""
    weight, bias = _spread_weights(head.out_channels, encoded, BLANK_SHARE)
    head.weight.copy_(weight[:, :, None])
    assert head.bias is not None
    head.bias.copy_(bias)


def _spread_weights(labels: int, inputs: torch.Tensor, blank_share: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Random weight [labels, width] and bias that centre logits per label and have blank best in `blank_share`.

    inputs: [n, width], of which the share is counted; the last label is the blank
    """
    centre = inputs.mean(0)
    weight = torch.randn(labels, inputs.shape[1])
    weight *= LOGIT_DEVIATION / ((inputs - centre) @ weight.T).std()
    logits = (inputs - centre) @ weight.T
    bias = -(weight @ centre)
    bias[-1] += (logits[:, :-1].amax(1) - logits[:, -1]).quantile(blank_share)
    return weight, bias


def _spread_joint(model: Any, encoded: torch.Tensor) -> None:
    """Have both audio and the text so far count in the joint, and spread its logits; encoded: [frames, width]."""
    joint, blank = model.joint, model.decoding.blank_id
    model.decoder.prediction["embed"].weight.mul_(EMBEDDING_SCALE)
    tokens = torch.randint(blank, (1, RANDOM_TOKENS))
    predicted, _ = model.decoder.predict(tokens, None, add_sos=False, batch_size=1)
    _whiten(joint.enc, encoded)
    _whiten(joint.pred, predicted[0])
    pairs = joint.enc(encoded) + joint.pred(predicted[0])[torch.randint(RANDOM_TOKENS, (len(encoded),))]
    output = joint.joint_net[-1]
    weight, bias = _spread_weights(output.out_features, torch.relu(pairs), JOINT_BLANK_SHARE)
    after_each, _ = model.decoder.predict(torch.arange(blank)[:, None], None, add_sos=False, batch_size=blank)
    after_itself = torch.relu(joint.pred(after_each[:, 0]))
    after_itself -= after_itself.mean(0)
    weight[:blank] -= REPEAT_PENALTY * after_itself / after_itself.square().sum(1, keepdim=True)
    output.weight.copy_(weight)
    output.bias.copy_(bias)


def _whiten(projection: torch.nn.Linear, inputs: torch.Tensor) -> None:
    """Scale and shift so that each output has mean 0 and deviation 1 over `inputs` [n, width]."""
    projection.bias.zero_()
    outputs = projection(inputs)
    projection.weight.div_(outputs.std(0)[:, None])
    projection.bias.copy_(-projection(inputs).mean(0))
