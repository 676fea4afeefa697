"""Names of recognizers, and names reserved for their parts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from locations import DEMO_CHECKPOINT, ROOT

from export_scripts.checkpoints.catalogue import CATALOGUE
from export_scripts.checkpoints.names import check_suffix, recognizer_name
from export_scripts.errors import ExportError
from nemo_triton.contract import AUDIO_STAGE, Part

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("suffix", ["", "_int8"])
def test_listed_names_are_free(suffix: str) -> None:
    names = [model.name.removeprefix("nvidia/") for model in CATALOGUE]
    assert [recognizer_name(model.name, suffix) for model in CATALOGUE] == [name + suffix for name in names]


@pytest.mark.parametrize(
    ("source", "suffix", "name"),
    [
        ("demo/coffee_ctc.nemo", "", "coffee_ctc"),
        ("demo/coffee_ctc.nemo", "_int8", "coffee_ctc_int8"),
        ("my model.nemo", "", "my_model"),
        ("audio.nemo", "_en", "audio_en"),
        ("x_encoder.nemo", "_2", "x_encoder_2"),
        ("text.nemo", "", "text"),
        ("mel_gibson.nemo", "", "mel_gibson"),
        ("nvidia/stt_en", "", "stt_en"),
        ("nvidia/parakeet-tdt_ctc-1.1b", "_int8", "parakeet-tdt_ctc-1.1b_int8"),
        ("owner/stt_en", "", "owner_stt_en"),
    ],
)
def test_a_recognizers_name(source: str, suffix: str, name: str) -> None:
    assert recognizer_name(source, suffix) == name


@pytest.mark.parametrize(
    ("source", "suffix", "name"),
    [
        *((f"coffee{part.value}.nemo", "", f"coffee{part.value}") for part in Part),
        *(("demo/coffee.nemo", part.value, f"coffee{part.value}") for part in Part),
        (f"{AUDIO_STAGE}.nemo", "", AUDIO_STAGE),
        (AUDIO_STAGE, "", AUDIO_STAGE),
        ("mel_80_25ms.nemo", "_zero_1d0b7e", "mel_80_25ms_zero_1d0b7e"),
    ],
)
def test_a_reserved_name(source: str, suffix: str, name: str) -> None:
    with pytest.raises(ExportError) as refusal:
        recognizer_name(source, suffix)
    assert str(refusal.value).startswith(f"{source}: a recognizer can't be called {name}, which is ")
    assert str(refusal.value).endswith("; rename the file or add a --name-suffix")


@pytest.mark.parametrize("suffix", ["a/b", " ", "é", "..\\"])
def test_a_suffix_that_no_model_has(suffix: str) -> None:
    with pytest.raises(ExportError, match=r"--name-suffix: .* use letters, digits, _, . and -"):
        check_suffix(suffix)
    check_suffix("_int8.v2-a")


def test_a_name_is_refused_before_nemo_is_loaded(tmp_path: Path) -> None:
    """A module that fails on import takes the place of NeMo."""
    (tmp_path / "nemo.py").write_text("raise RuntimeError('NeMo is loaded')")
    options = ["--repository", str(tmp_path / "repository"), "--name-suffix", Part.LOG_PROBS.value]
    command = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; from export_scripts.export import main; main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", command, str(DEMO_CHECKPOINT), *options], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    name = Part.LOG_PROBS.of(DEMO_CHECKPOINT.stem)
    assert line.startswith(f"error: {DEMO_CHECKPOINT}: a recognizer can't be called {name}, ")
    assert not (tmp_path / "repository").exists()
