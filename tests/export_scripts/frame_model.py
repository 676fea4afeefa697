"""A NeMo class without a decoder, for the steps of docs/extending.md. Its layers are those of a CTC model."""

from __future__ import annotations

from nemo.collections.asr.models import EncDecCTCModelBPE

EncDecFrameModel = type("EncDecFrameModel", (EncDecCTCModelBPE,), {})
