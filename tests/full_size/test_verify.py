"""Choice of recordings and models, and reuse of results. Needs neither NeMo nor a server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from export_scripts.checkpoints.catalogue import PUBLISHED
from nemo_triton.contract import AUDIO_STAGE, FEATURES_STAGE, Part
from verification.full_size import verify
from verification.full_size.architectures import ARCHITECTURES
from verification.full_size.records import UNBATCHED, Record, is_of, write_records
from verification.full_size.speech import spread
from verification.full_size.verify import Run, StepFailed, _step, _verified, remove_model

pytestmark = pytest.mark.fast

NAME = "stt_en_citrinet_256"


def run_in(folder: Path, recordings: int | None = None) -> Run:
    manifest = folder / "speech.jsonl"
    manifest.write_text("")
    python = Path(sys.executable)
    return Run(python, python, folder, manifest, recordings, concurrency=16)


def test_all_published_models_have_an_architecture() -> None:
    transducers = [model.name for model in PUBLISHED if ARCHITECTURES[model.name].is_transducer]
    assert (len(PUBLISHED), len(transducers)) == (22, 8)


def test_both_front_ends_are_covered_for_both_numbers_of_mels() -> None:
    published = [ARCHITECTURES[model.name] for model in PUBLISHED]
    front_ends = {(model.config["preprocessor"]["features"], model.nemo_version) for model in published}
    assert front_ends == {(64, "1.0.0"), (64, "2.7.3"), (80, "1.0.0"), (80, "2.7.3")}


def test_chosen_recordings_are_spread_over_all_lengths_and_keep_their_order() -> None:
    assert spread([50, 10, 40, 20, 30], 3) == [0, 1, 4]


def test_a_single_recording_is_the_shortest_and_no_limit_means_all() -> None:
    lengths = [3, 1, 2]
    assert spread(lengths, 1) == [1]
    assert spread(lengths, None) == spread(lengths, 5) == [0, 1, 2]


def test_equal_lengths_are_chosen_once_each() -> None:
    assert spread([7] * 6, 4) == [0, 2, 3, 5]


def test_records_of_other_recordings_are_rejected(tmp_path: Path) -> None:
    file = tmp_path / f"{UNBATCHED}.jsonl"
    assert not is_of(file, ["one.flac"])
    write_records(file, [Record("one.flac", 1.0, "a")])
    assert is_of(file, ["one.flac"])
    assert not is_of(file, ["one.flac", "other.flac"])


def test_a_step_reports_its_memory_and_a_failed_one_its_name() -> None:
    # In a process of its own: a child's peak is at least the memory of its parent, and pytest's can be large.
    program = (
        "import sys; from verification.full_size.verify import _step\n"
        "for size in (0, 400): print(*_step([sys.executable, '-c', f'b\"x\" * ({size} << 20)']))"
    )
    printed = subprocess.check_output([sys.executable, "-c", program], text=True).splitlines()
    (seconds, small), (_, large) = (map(float, line.split()) for line in printed)
    assert 0 < seconds < 60
    assert 300 << 20 < large - small < 500 << 20
    with pytest.raises(StepFailed, match="-c ended with code 3"):
        _step([sys.executable, "-c", "raise SystemExit(3)"])


def test_a_model_with_results_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = []

    def make_results(run: Run, name: str) -> None:
        limits.append(run.recordings)
        run.results(name).mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(verify, "make_results", make_results)
    assert _verified(run_in(tmp_path), NAME, clean=False) and _verified(run_in(tmp_path), NAME, clean=False)
    assert limits == [None]
    assert _verified(run_in(tmp_path, recordings=5), NAME, clean=False)
    assert limits == [None, 5]


def test_a_failed_model_is_kept_and_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(run: Run, name: str) -> None:
        run.checkpoint(name).touch()
        raise StepFailed("export.py ended with code 1")

    monkeypatch.setattr(verify, "make_results", fail)
    run = run_in(tmp_path)
    assert not _verified(run, NAME, clean=True)
    assert run.checkpoint(NAME).exists() and not (run.results(NAME) / "complete.json").exists()


def test_cleaning_leaves_shared_stages_and_other_models(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    removed = [NAME, *(part.of(NAME) for part in Part)]
    features = FEATURES_STAGE.format(mels=80, milliseconds=25, edges="reflect", digest="1d0b7e")
    others = [AUDIO_STAGE, features, f"{NAME}_gamma_0_25", Part.ENCODER.of(f"{NAME}_gamma_0_25")]
    for model in removed + others:
        (run.repository / model).mkdir(parents=True)
    run.checkpoint(NAME).touch()
    remove_model(run, NAME)
    assert sorted(path.name for path in run.repository.iterdir()) == sorted(others)
    assert not run.checkpoint(NAME).exists()
