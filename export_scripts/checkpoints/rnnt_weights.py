"""Read what RNNT and TDT decoding needs from a NeMo model: prediction network, joint and limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

from export_scripts.stages.rnnt_decoder import ACTIVATIONS, NO_LIMIT, Linear, LstmLayer, RnntWeights


def read_rnnt_weights(model: Any) -> RnntWeights:
    """Read a NeMo model's prediction network and joint.

    Raises:
        ValueError: The model isn't an LSTM transducer, RNNT or TDT.
    """
    decoder, joint = model.decoder, model.joint
    if type(decoder).__name__ != "RNNTDecoder":
        raise ValueError(
            f"the decoder is a {type(decoder).__name__}; only RNNTDecoder can be exported; choose another checkpoint"
        )
    durations = tuple(int(duration) for duration in model.decoding.durations or ())
    if joint.num_extra_outputs != len(durations):
        raise ValueError(
            f"joint.num_extra_outputs is {joint.num_extra_outputs}, but decoding.durations has {len(durations)}: a "
            "multi-blank model can't be exported; choose an RNNT, TDT or CTC checkpoint"
        )
    if durations and (min(durations) < 0 or max(durations) == 0):
        raise ValueError(
            f"decoding.durations is {list(durations)}; only 0 or more can be exported, and not only 0; choose "
            "another checkpoint"
        )
    if not decoder.blank_as_pad:
        raise ValueError("decoder.blank_as_pad is false; only true can be exported; choose another checkpoint")
    lstm = getattr(decoder.prediction["dec_rnn"], "lstm", None)
    if not isinstance(lstm, torch.nn.LSTM):
        raise ValueError(
            "the prediction network is not a plain LSTM; only decoder.normalization_mode null can be "
            "exported; choose another checkpoint"
        )
    if lstm.proj_size:
        raise ValueError(
            "decoder.prednet.rnn_hidden_size is set; only an LSTM without projection can be exported; "
            "choose another checkpoint"
        )
    activation = type(joint.joint_net[0]).__name__
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"joint.jointnet.activation is {activation}; only {', '.join(ACTIVATIONS)} can be exported; "
            "choose another checkpoint"
        )
    return RnntWeights(
        embedding=_array(decoder.prediction["embed"].weight),
        layers=tuple(_layer(lstm, index) for index in range(lstm.num_layers)),
        prediction=_linear(joint.pred),
        output=_linear(joint.joint_net[-1]),
        activation=activation,
        max_symbols=min(model.decoding.decoding.max_symbols or NO_LIMIT, NO_LIMIT),
        durations=durations,
    )


def settle_search(model: Any) -> None:
    """Let NeMo's greedy search end, and search as in a batch.

    NeMo reads max_symbols null and 0 as no limit, and refuses negative numbers. Without one it would never end where
    the blank never wins, and so would the comparison of an export. At NO_LIMIT tokens, it goes to the next frame.

    NeMo has two greedy searches, greedy and greedy_batch. For TDT they differ after `max_symbols` tokens of which the
    last moves on: greedy moves one frame more.
    """
    decoding: Any = OmegaConf.to_container(model.cfg.decoding)
    needed = dict(decoding)
    if (model.decoding.decoding.max_symbols or NO_LIMIT) >= NO_LIMIT:
        needed["greedy"] = {**(decoding.get("greedy") or {}), "max_symbols": NO_LIMIT}
    if model.decoding.durations:
        needed["strategy"] = "greedy_batch"
    if needed != decoding:
        model.change_decoding_strategy(needed, verbose=False)


def _layer(lstm: torch.nn.LSTM, index: int) -> LstmLayer:
    parameters = {name: getattr(lstm, f"{name}_l{index}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    bias = _array(parameters["bias_ih"] + parameters["bias_hh"])
    return LstmLayer(Linear(_array(parameters["weight_ih"].T), bias), _array(parameters["weight_hh"].T))


def _linear(linear: torch.nn.Linear) -> Linear:
    return Linear(_array(linear.weight.T), _array(linear.bias))


def _array(parameter: torch.Tensor) -> np.ndarray:
    array: np.ndarray = np.ascontiguousarray(parameter.detach().numpy(), dtype=np.float32)
    return array
