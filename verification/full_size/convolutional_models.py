"""QuartzNet, Jasper, Citrinet and ContextNet, as NeMo's example configs build them. Data only.

Source: NeMo, examples/asr/conf: quartznet_15x5.yaml, jasper_10x5dr.yaml, citrinet_512.yaml, citrinet_1024.yaml and
contextnet_rnnt.yaml, with the number of filters in the model's name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from verification.full_size.model_parts import (
    CHARACTERS,
    ZERO_EDGES,
    Architecture,
    Config,
    ctc_model,
    front_end,
    transducer_model,
)

SQUEEZE: Config = {"se": True, "se_context_size": -1}
HALVING: Config = {"stride": [2], "stride_last": True, "residual_mode": "stride_add"}
"""A block that halves the frame rate."""


def _block(filters: int, kernel: int, repeat: int = 1, **more: Any) -> Config:
    block = {"filters": filters, "kernel": [kernel], "repeat": repeat, "stride": [1], "dilation": [1], "dropout": 0.0}
    return block | {"residual": repeat > 1, "separable": True} | more


def _convolutions(mels: int, blocks: Iterable[Config], activation: str = "relu") -> Config:
    return {
        "_target_": "nemo.collections.asr.modules.ConvASREncoder",
        "feat_in": mels,
        "activation": activation,
        "conv_mask": True,
        "jasper": list(blocks),
    }


def _quartznet() -> Config:
    body = [(256, 33), (256, 39), (512, 51), (512, 63), (512, 75)]
    blocks = [
        _block(256, 33, stride=[2]),
        *(_block(filters, kernel, repeat=5) for filters, kernel in body for _ in range(3)),
        _block(512, 87, dilation=[2]),
        _block(1024, 1, separable=False),
    ]
    return ctc_model(front_end(64, 0.02, pad_to=16), _convolutions(64, blocks), 1024, CHARACTERS)


def _jasper() -> Config:
    body = [(256, 11), (384, 13), (512, 17), (640, 21), (768, 25)]
    dense: Config = {"residual_dense": True, "separable": False}
    blocks = [
        _block(256, 11, stride=[2], separable=False),
        *(_block(filters, kernel, repeat=5, **dense) for filters, kernel in body for _ in range(2)),
        _block(896, 29, dilation=[2], separable=False),
        _block(1024, 1, separable=False),
    ]
    return ctc_model(front_end(64, 0.02, pad_to=16), _convolutions(64, blocks), 1024, CHARACTERS)


def _citrinet(filters: int, last: int, kernel_size_factor: float = 1.0) -> Config:
    """Three mega blocks. The first block of each halves the frame rate; the final block has `last` filters."""
    scaled: Config = SQUEEZE | {"kernel_size_factor": kernel_size_factor}
    inside = scaled | {"dropout": 0.1}
    kernels = [range(11, 22, 2), range(13, 26, 2), range(25, 40, 2)]
    blocks = [
        _block(filters, 5, **SQUEEZE),
        *(
            _block(filters, kernel, repeat=5, **inside, **(HALVING if index == 0 else {}))
            for mega_block in kernels
            for index, kernel in enumerate(mega_block)
        ),
        _block(last, 41, **scaled),
    ]
    return ctc_model(front_end(80, 0.025, pad_to=16), _convolutions(80, blocks), last)


def _contextnet(filters: int) -> Config:
    """21 blocks of five convolutions; three of the blocks halve the frame rate."""
    inside: Config = SQUEEZE | {"dropout": 0.1, "kernel_size_factor": 1.0}
    blocks = [
        _block(filters, 5, **SQUEEZE),
        *(_block(filters, 5, repeat=5, **inside, **(HALVING if index in (3, 7, 14) else {})) for index in range(1, 22)),
        _block(640, 5, **SQUEEZE),
    ]
    encoder = _convolutions(80, blocks, "swish")
    return transducer_model(front_end(80, 0.025, pad_to=16), encoder, width=640, hidden=640, max_symbols=10)


def _citrinet_model(parameters: int, encoder_parameters: int, *shape: Any) -> Architecture:
    return Architecture("EncDecCTCModelBPE", _citrinet(*shape), parameters, encoder_parameters, pieces=1024)


def _contextnet_model(parameters: int, encoder_parameters: int, filters: int) -> Architecture:
    return Architecture("EncDecRNNTBPEModel", _contextnet(filters), parameters, encoder_parameters, pieces=1024)


_CITRINET_1024 = _citrinet_model(141_224_337, 140_173_712, 1024, 1024, 0.25)
_CONTEXTNET_512 = _contextnet_model(40_761_489, 35_346_064, 512)
_CONTEXTNET_1024 = _contextnet_model(144_947_345, 139_531_920, 1024)

CONVOLUTIONAL = {
    "stt_en_quartznet15x5": Architecture("EncDecCTCModel", _quartznet(), 18_924_381, 18_894_656),
    # The published checkpoint has reflecting edges. QuartzNet covers those with the same 64 mels, so this one has zero
    # edges and covers the other front end.
    "stt_en_jasper10x5dr": Architecture("EncDecCTCModel", _jasper(), 332_632_349, 332_602_624, ZERO_EDGES),
    "stt_en_citrinet_256": _citrinet_model(10_259_729, 9_602_704, 256, 640),
    "stt_en_citrinet_512": _citrinet_model(36_994_321, 36_337_296, 512, 640),
    "stt_en_citrinet_1024": _CITRINET_1024,
    "stt_en_citrinet_256_gamma_0_25": _citrinet_model(9_786_129, 9_129_104, 256, 640, 0.25),
    "stt_en_citrinet_512_gamma_0_25": _citrinet_model(36_047_121, 35_390_096, 512, 640, 0.25),
    "stt_en_citrinet_1024_gamma_0_25": _CITRINET_1024,
    "stt_en_contextnet_512": _CONTEXTNET_512,
    "stt_en_contextnet_1024": _CONTEXTNET_1024,
    "stt_en_contextnet_256_mls": _contextnet_model(14_522_513, 9_107_088, 256),
    "stt_en_contextnet_512_mls": _CONTEXTNET_512,
    "stt_en_contextnet_1024_mls": _CONTEXTNET_1024,
}
