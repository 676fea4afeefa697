"""The contract, written out a second time: a change breaks servers and clients that are in use."""

from __future__ import annotations

import pytest

from nemo_triton import contract
from nemo_triton.contract import Description, ParameterError, Part

pytestmark = pytest.mark.fast


def test_inputs_and_outputs_of_a_recognizer() -> None:
    assert contract.SAMPLE_RATE == 16000
    tensors = [contract.AUDIO, contract.AUDIO_FLOAT, *contract.TRANSCRIPT, contract.LOG_PROBS, contract.LABELS.length]
    assert [(tensor.name, tensor.dtype, tensor.dims) for tensor in tensors] == [
        ("AUDIO", "INT16", ("samples",)),
        ("AUDIO", "FP32", ("samples",)),
        ("TEXT", "BYTES", (1,)),
        ("TOKENS", "INT32", ("tokens",)),
        ("FRAMES", "INT32", ("tokens",)),
        ("TOKENS_LENGTH", "INT32", (1,)),
        ("LOG_PROBS", "FP32", ("encoded", "labels")),
        ("LABELS_LENGTH", "INT32", (1,)),
    ]


def test_names_of_a_recognizers_models() -> None:
    assert [part.of("coffee") for part in Part] == [
        "coffee_encoder",
        "coffee_decoder",
        "coffee_text",
        "coffee_log_probs",
        "coffee_float",
        "coffee_float_log_probs",
    ]


def test_written_parameters_are_read_back() -> None:
    description = Description(
        sample_rate=16000,
        frame_seconds=0.04,
        max_audio_seconds=600,
        nemo_class="EncDecCTCModelBPE",
        nemo_version="2.7.3",
        parameters=13_000_000,
        checkpoint_bytes=50_000_000_000,
        weights="random",
        precision="int8",
        target="cpu",
        parity_id="0123456789abcdef",
    )
    written = description.as_parameters()
    assert written == {
        "sample_rate": "16000",
        "frame_seconds": "0.04",
        "max_audio_seconds": "600",
        "nemo_class": "EncDecCTCModelBPE",
        "nemo_version": "2.7.3",
        "parameters": "13000000",
        "checkpoint_bytes": "50000000000",
        "weights": "random",
        "precision": "int8",
        "target": "cpu",
        "parity_id": "0123456789abcdef",
    }
    assert Description.of({**written, "another": "x"}) == description
    assert description.weights == contract.RANDOM_WEIGHTS


def test_missing_parameters_are_empty() -> None:
    assert Description.of({}) == Description()
    assert Description().as_parameters() == {}


@pytest.mark.parametrize(("name", "text"), [("frame_seconds", "x"), ("sample_rate", ""), ("sample_rate", "1.5")])
def test_the_error_names_a_parameter_that_is_not_a_number(name: str, text: str) -> None:
    with pytest.raises(ParameterError, match=f"parameter {name} is '{text}', not a number"):
        Description.of({name: text})


def test_bad_counts_are_ignored() -> None:
    assert Description.of({"parameters": "1.5", "checkpoint_bytes": "?"}) == Description()
