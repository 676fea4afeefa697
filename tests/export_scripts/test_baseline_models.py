"""Models for other packages, the baselines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fixture_types import OpenCheckpoint

from benchmark.baselines.baseline import REASON
from benchmark.baselines.baseline_models import FORMS, write_baseline_models
from export_scripts.checkpoints.families import CtcDecoder


class FrameDecoder(CtcDecoder):
    """A kind of decoder that no package knows."""

    kind = "frame"
    nemo_classes = ("EncDecFrameModel",)


def test_packages_that_cannot_decode_a_kind_get_a_reason_instead_of_a_model(
    checkpoint: OpenCheckpoint, tmp_path: Path
) -> None:
    known = checkpoint("conformer")
    reasons = write_baseline_models(replace(known, decoders=(FrameDecoder(known.model),)), tmp_path)
    assert reasons == dict.fromkeys(FORMS, "it decodes ctc, rnnt, tdt models, this one is frame")
    assert {str(file.relative_to(tmp_path)) for file in tmp_path.glob("*/*")} == {f"{name}/{REASON}" for name in FORMS}
