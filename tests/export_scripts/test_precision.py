"""Exports in fp16 and int8: texts, reports and refusals."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from command import invoke_export
from locations import DEMO_CHECKPOINT, DEMO_MANIFEST, RNNT_CHECKPOINT, ROOT

from export_scripts.export_checkpoint import ExportSettings, export_checkpoint
from export_scripts.precision.choice import CALIBRATED, MAX_WORD_CHANGE, PRECISIONS, REDUCED, Precision
from export_scripts.recordings import NO_RECORDINGS, read_recordings
from export_scripts.repository.config import Serving, read_config
from export_scripts.verify.local_ensemble import LocalEnsemble
from export_scripts.verify.parity import words_changed
from export_scripts.verify.probes import read_probes
from nemo_triton.contract import TEXT, Part

SPEECH = read_recordings(DEMO_MANIFEST)
COMMANDS = SPEECH.signals


@pytest.fixture(scope="module", params=[DEMO_CHECKPOINT, RNNT_CHECKPOINT], ids=["ctc", "rnnt"])
def repository(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model in each precision, with the default limits of changed words."""
    folder = tmp_path_factory.mktemp("precisions")
    probes = read_probes(None, most=None)
    for name in PRECISIONS:
        settings = ExportSettings(
            repository=folder,
            serving=Serving(),
            probes=probes,
            precision=Precision(name, MAX_WORD_CHANGE[name], SPEECH if name in CALIBRATED else NO_RECORDINGS),
            suffix=f"_{name}",
        )
        export_checkpoint(str(request.param), settings)
    return folder


def model_of(repository: Path, precision: str) -> str:
    (config,) = (path for path in repository.glob(f"coffee_*_{precision}/config.pbtxt"))
    return config.parent.name


@pytest.mark.parametrize("precision", REDUCED)
def test_a_text_does_not_depend_on_its_batch(repository: Path, precision: str) -> None:
    ensemble = LocalEnsemble(repository, model_of(repository, precision))
    unbatched = [ensemble.run([samples])[0][TEXT.name].item() for samples in COMMANDS]
    assert len(set(unbatched)) == len(COMMANDS)
    order = np.random.default_rng(3).permutation(len(COMMANDS))
    for batch in np.array_split(order, 3):
        items = ensemble.run([COMMANDS[index] for index in batch])
        assert [item[TEXT.name].item() for item in items] == [unbatched[index] for index in batch]


def test_the_report_of_each_precision(repository: Path) -> None:
    for precision in PRECISIONS:
        name = model_of(repository, precision)
        parity = json.loads((repository / name / "1" / "parity.json").read_text())
        parameters = read_config(repository / name).parameters
        assert parity["precision"] == parameters["precision"].string_value == precision
        assert parity["words_compared"] == int(parameters["words_compared"].string_value) > 180
        assert parity["words_changed"] == int(parameters["words_changed"].string_value)
        assert parity["words_changed"] <= parity["max_word_change"] * parity["words_compared"]
        assert (precision == "fp32") <= (parity["words_changed"] == 0)
        texts = parity["changed_texts"]
        assert sum(words_changed(text["nemo"], text["export"]) for text in texts) == parity["words_changed"]
        assert {text["probe"] for text in texts} <= {*SPEECH.names, *read_probes(None).derived.names}
        assert parity["probe_recordings"] == {**asdict(SPEECH.trace()), "source": "demo commands"}
        assert parity["exact_references"] == 0, "no recording has a band without sound"
        assert parity["recordings_read_by_nemo"] == parity["probe_recordings"]["recordings"], "all are FLAC"
        assert parity["probe_recordings"]["recordings"] + parity["probes_made"]["recordings"] == parity["probes"]
        calibration = {**asdict(SPEECH.trace()), "among_probes": len(COMMANDS)} if precision in CALIBRATED else None
        assert parity["calibration"] == calibration
        assert parity["calibrated_on_probes"] == (precision in CALIBRATED)
        assert str(ROOT) not in json.dumps(parity)


def test_sizes(repository: Path) -> None:
    size = {
        precision: (repository / Part.ENCODER.of(model_of(repository, precision)) / "1" / "model.onnx").stat().st_size
        for precision in PRECISIONS
    }
    assert size["fp16"] < 0.6 * size["fp32"]
    assert size["int8"] < 0.45 * size["fp32"]


def test_int8_is_for_cpus(repository: Path) -> None:
    kinds = {
        precision: read_config(repository / Part.ENCODER.of(model_of(repository, precision))).instance_group[0].kind
        for precision in PRECISIONS
    }
    assert kinds["fp16"] == kinds["fp32"] != kinds["int8"]


def test_too_many_changed_words_are_refused_with_their_number(tmp_path: Path) -> None:
    bound = ("--precision", "int8", "--max-word-change", 0, "--name-suffix", "_int8")
    result = invoke_export(DEMO_CHECKPOINT, "--repository", tmp_path / "repository", *bound)
    assert result.exit_code == 1
    assert "coffee_ctc_int8: int8 changes " in result.stderr
    assert "of NeMo's" in result.stderr and "more than 0.00%" in result.stderr
    assert not (tmp_path / "repository").exists()
