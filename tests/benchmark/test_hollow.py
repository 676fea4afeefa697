"""Recognizers without their networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from locations import DEMO_CHECKPOINT, DEMO_MANIFEST, RNNT_CHECKPOINT

from benchmark.baselines.recordings import shuffled_recordings
from benchmark.studies.hollow import hollow
from benchmark.studies.variants import write_variant
from export_scripts.errors import ExportError
from export_scripts.repository.validate import check_repository
from export_scripts.verify.local_ensemble import LocalEnsemble
from nemo_triton.contract import TEXT, TOKENS, Part


def test_it_has_the_same_interface_and_texts_of_the_audios_length(repository: Path, tmp_path: Path) -> None:
    model = DEMO_CHECKPOINT.stem
    write_variant(repository, model, tmp_path, hollow)
    assert check_repository(tmp_path) == []
    ensemble = LocalEnsemble(tmp_path, model)
    recordings = [recording.samples for recording in shuffled_recordings(DEMO_MANIFEST)[:3]]
    answers = ensemble.run(recordings)
    tokens = [answer[TOKENS.length.name].item() for answer in answers]
    assert np.argsort(tokens).tolist() == np.argsort([len(samples) for samples in recordings]).tolist()
    assert len({answer[TEXT.name].item() for answer in answers}) > 1


@pytest.mark.parametrize("name", [RNNT_CHECKPOINT.stem, Part.LOG_PROBS.of(DEMO_CHECKPOINT.stem)])
def test_others_are_refused(repository: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ExportError, match=f"{name}: not a CTC recognizer"):
        write_variant(repository, name, tmp_path, hollow)
