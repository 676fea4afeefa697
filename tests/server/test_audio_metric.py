"""The metric's copy of the contract. The backend runs in the server's Python, which has no nemo_triton."""

from __future__ import annotations

import ast

import pytest
from locations import ROOT

from nemo_triton.contract import AUDIO, SAMPLE_RATE

pytestmark = pytest.mark.fast


def test_the_copy_equals_the_contract() -> None:
    source = (ROOT / "server" / "backends" / "onnxruntime" / "audio_metric.py").read_text(encoding="utf-8")
    assignments = [node for node in ast.parse(source).body if isinstance(node, ast.Assign)]
    constants = {ast.unparse(node.targets[0]): ast.literal_eval(node.value) for node in assignments}
    assert (constants["AUDIO_INPUT"], constants["SAMPLES_PER_SECOND"]) == (AUDIO.name, SAMPLE_RATE)
