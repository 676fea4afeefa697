"""Attributes that a kind of recognizer must set."""

from __future__ import annotations

from typing import Any

import pytest

from export_scripts.checkpoints.families import CtcDecoder, Decoder
from nemo_triton.contract import ENCODED

pytestmark = pytest.mark.fast

WHOLE: dict[str, Any] = {
    "kind": "new",
    "nemo_classes": ("EncDecNewModel",),
    "encoder_output": ENCODED,
    "encoder_length": ENCODED.length,
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_decoder_without_an_attribute_is_refused_when_it_is_defined(name: str) -> None:
    type("Whole", (Decoder,), WHOLE)
    incomplete = {key: value for key, value in WHOLE.items() if key != name}
    with pytest.raises(TypeError, match=f"Short does not set {name}; see Decoder"):
        type("Short", (Decoder,), incomplete)


def test_a_decoder_inherits_the_encoder_but_not_the_names() -> None:
    type("Whole", (CtcDecoder,), {"kind": "new", "nemo_classes": ("EncDecNewModel",)})
    with pytest.raises(TypeError, match="Short does not set kind, nemo_classes; see Decoder"):
        type("Short", (CtcDecoder,), {})
