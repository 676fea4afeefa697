"""The walk of docs/extending.md for a decoder, with the code of that page."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from architectures import NEW_NEMO
from fixture_types import CheckpointFile
from locations import ROOT
from tiny_models import rewrite_config

from export_scripts.checkpoints import families
from export_scripts.errors import ExportError
from export_scripts.export_checkpoint import ExportSettings, export_checkpoint
from export_scripts.repository.config import Serving
from export_scripts.repository.validate import check_repository
from export_scripts.verify.local_ensemble import LocalEnsemble
from export_scripts.verify.probes import Probes, read_probes
from nemo_triton.contract import LABELS, TOKENS, Part

NEMO_CLASS = "EncDecFrameModel"
PROBES = Probes(read_probes(None).recordings.first(3))


def code_of_the_page() -> list[str]:
    """The Python of the section about decoders: the graph, the class, and the line with its name."""
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    section = page.partition("## A decoder\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^ *```python\n(.*?)^ *```$", section, re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(block) for block in blocks]


@pytest.fixture
def frame_checkpoint(checkpoint_file: CheckpointFile, tmp_path: Path) -> Path:
    file = tmp_path / "frames.nemo"
    file.write_bytes(checkpoint_file("citrinet", NEW_NEMO).read_bytes())
    rewrite_config(file, target=f"frame_model.{NEMO_CLASS}")
    return file


def test_a_decoder_is_a_class_and_a_line(
    frame_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ExportSettings(repository=tmp_path / "repository", serving=Serving(), probes=PROBES)
    with pytest.raises(ExportError, match=f"is of {NEMO_CLASS}; can be exported: EncDecCTCModel, "):
        export_checkpoint(str(frame_checkpoint), settings)

    graph, decoder, line = code_of_the_page()
    names: dict[str, Any] = {**vars(families), "__name__": "frame_decoder"}
    exec(graph + decoder + line, names)
    monkeypatch.setattr(families, "DECODERS", names["DECODERS"])

    summary = export_checkpoint(str(frame_checkpoint), settings)
    assert summary.startswith("frames: ")
    assert check_repository(settings.repository) == []
    parity = json.loads((settings.repository / "frames" / "1" / "parity.json").read_text())
    assert parity["nemo_class"] == NEMO_CLASS
    assert parity["texts_equal"] + parity["texts_tied"] == parity["texts_compared"] == 9
    assert parity["characters"] > 60

    ensemble = LocalEnsemble(settings.repository, Part.LOG_PROBS.of("frames"))
    for item in ensemble.run(PROBES.signals):
        count, frames = (int(item[tensor.length.name].item()) for tensor in (TOKENS, LABELS))
        tokens, labels = item[TOKENS.name][0, :count], item[LABELS.name][0, :frames]
        assert np.count_nonzero(np.diff(tokens) == 0) > 0, "repeated labels are tokens"
        assert set(tokens.tolist()) <= set(labels.tolist())
