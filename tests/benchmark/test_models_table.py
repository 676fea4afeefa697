"""The table of models: a real measurement of a demo model, and pages from results of all models."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_results import RunModule
from locations import DEMO_CHECKPOINT, DEMO_MANIFEST, PRECISION_REPOSITORY

from benchmark.baselines.system import Measured
from benchmark.core.results_folder import write_json
from benchmark.studies.models_table.choice import Candidate, balanced, candidates, pareto_front
from benchmark.studies.models_table.exports import Folder, smallest_first
from benchmark.studies.models_table.labels import Box, Point, place_labels
from benchmark.studies.models_table.measure import Passes
from benchmark.studies.models_table.page import BEGIN, END, page, replace_table, short_table
from benchmark.studies.models_table.rows import all_rows
from benchmark.studies.models_table.speech import cut, cut_recordings
from export_scripts.checkpoints.catalogue import LATER_MODELS, PUBLISHED
from export_scripts.checkpoints.listed_model import Model
from export_scripts.checkpoints.refused_models import REFUSED
from export_scripts.repository.config import read_config, write_config
from verification.full_size.architectures import KNOWN

Json = dict[str, Any]

LATER_NAME = "stt_en_fastconformer_ctc_large"


def result(name: str, served_seconds: float = 4.0) -> Json:
    """A result as run.py writes it for one model."""
    architecture = KNOWN[name]
    return {
        "name": name,
        "nemo_class": architecture.nemo_class,
        "random_weights": True,
        "parameters": architecture.parameters,
        "checkpoint_bytes": 4 * architecture.parameters,
        "onnx_bytes": {"fp32": 4 * architecture.parameters, "int8": architecture.parameters},
        "int8_refusal": "",
        "speech": {"name": "read", "recordings": 16, "seconds": 160.0},
        "served_seconds": [served_seconds, 2 * served_seconds, 4 * served_seconds],
        "int8_seconds": [2.0],
        "nemo": {
            "version": "nemo_toolkit 2.7.3",
            "batch_size": 1,
            "seconds_by_batch_size": {"1": [3 * served_seconds] * 3, "16": [100.0]},
        },
        "single_request_seconds": [0.3, 0.1, 0.2],
        "memory": {"measure": "PSS", "loaded_bytes": 1e9, "peak_bytes": 1.5e9},
        "texts": {"compared": 16, "equal": 16},
        "started": "2026-01-01T00:00:00+00:00",
        "machine": {"system": "Linux", "processor": "a processor", "cores": 2, "memory_bytes": 2**34},
        "versions": {"python": "3.11", "tritonserver": "2.51.0"},
    }


def write_results(root: Path, *names: str) -> Folder:
    """A working folder with results of these models, each a little slower than the one before."""
    folder = Folder(root)
    for number, name in enumerate(names):
        folder.result(name).parent.mkdir(parents=True, exist_ok=True)
        folder.result(name).write_text(json.dumps(result(name, 2.0 + number)))
    return folder


@pytest.fixture
def complete(tmp_path: Path) -> Folder:
    """Results of all published models."""
    return write_results(tmp_path / "table", *(model.name for model in PUBLISHED))


def table_rows(text: str, name: str) -> list[list[str]]:
    """The cells of each table row about a model."""
    lines = [line for line in text.splitlines() if line.startswith(f"| `{name}` ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_measures_a_model_and_goes_on_after_a_failure(run_module: RunModule, repository: Path, tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.checkpoint("coffee_ctc").parent.mkdir()
    folder.checkpoint("coffee_ctc").symlink_to(DEMO_CHECKPOINT)
    folder.repository.mkdir()
    for exported in [*PRECISION_REPOSITORY.glob("coffee_ctc_int8*"), *repository.iterdir()]:
        if exported.is_dir():
            (folder.repository / exported.name).symlink_to(exported)
    arguments = ("studies.models_table.run", "nothing", "coffee_ctc", "--folder", tmp_path, "--rounds", 2)
    done = run_module(*arguments)
    assert done.returncode == 2
    assert f"error: nothing: no such architecture, and no checkpoint {folder.checkpoint('nothing')}" in done.stderr
    assert "coffee_ctc: measured in " in done.stderr, done.stderr

    measured = json.loads(folder.result("coffee_ctc").read_text())
    assert measured["texts"] == {"compared": 16, "equal": 16}
    assert len(measured["served_seconds"]) == len(measured["nemo"]["seconds_by_batch_size"]["16"]) == 2
    assert len(measured["single_request_seconds"]) == 16 and len(measured["int8_seconds"]) == 2
    assert 1e8 < measured["memory"]["loaded_bytes"] <= measured["memory"]["peak_bytes"] < 1e10
    assert measured["onnx_bytes"]["int8"] < measured["onnx_bytes"]["fp32"]
    assert measured["random_weights"] is False and measured["nemo"]["version"].startswith("nemo_toolkit ")

    again = run_module(*arguments)
    assert "coffee_ctc: already measured" in again.stderr
    assert json.loads(folder.result("coffee_ctc").read_text()) == measured

    # The demo's model becomes a row by one line of data.
    row = Model("coffee_ctc", "citrinet", 1.1, (5.0, 9.0), source="demo/MODEL_CARD.md")
    table = all_rows(folder, [row], {}, {})
    assert table["models"][0]["status"] == "measured with trained weights"
    assert table["models"][0]["published"]["source"] == "demo/MODEL_CARD.md"
    assert [cells[-1] for cells in table_rows(page(table), "coffee_ctc")][-1] == "16/16"


@pytest.mark.fast
def test_no_row_of_the_22_has_a_gap(complete: Folder) -> None:
    table = all_rows(complete)
    assert [row["name"] for row in table["models"]] == [model.served_as for model in PUBLISHED]
    text, short = page(table), short_table(table)
    for model in PUBLISHED:
        rows = table_rows(text, model.name)
        assert len(rows) >= 3
        assert all(cell not in ("", "-") for cells in [*rows, *table_rows(short, model.name)] for cell in cells)
    assert "not measured yet" not in short
    conditions = "at full size with random weights, in fp32, on 2 cores of a processor with 16 GiB (2026-01-01)"
    assert " ".join(text.split()).count(conditions) == 1


@pytest.mark.fast
def test_a_row_describes_its_measurement(complete: Folder) -> None:
    (first,) = [row for row in all_rows(complete)["models"] if row["name"] == PUBLISHED[0].name]
    measured = first["measured"]
    assert measured["served_rtfx"] == {"median": 40.0, "lowest": 20.0, "highest": 80.0, "rounds": 3}
    assert measured["times_nemo"] == {"median": 1.5, "lowest": 0.75, "highest": 3.0, "rounds": 3}
    assert measured["nemo_batch_size"] == 1 and measured["single_request_p50_ms"] == 200.0
    assert first["published"]["wer_percent"] == {"dev-clean": 4.38, "dev-other": 11.3}
    assert first["published"]["source"].endswith("/quartznet15x5_en.csv")
    (cells,) = table_rows(short_table(all_rows(complete)), first["name"])
    assert cells == ["`stt_en_quartznet15x5`", "18.9", "76 / 18.9", r"4.38 / 11.3 \*", "40", "200", "1.50"]


def long_audio_result(name: str, limit: int, *cases: tuple[int, int, float, float], failed: str = "") -> Json:
    """A result as long_audio.py writes it, from (requests, seconds, GB of the encoder, GB of the server)."""
    measured = {
        f"{requests} x {seconds} s": {
            "requests": requests,
            "seconds": seconds,
            "encoder_peak_bytes": encoder * 1e9,
            "peak_bytes": server * 1e9,
            "after_bytes": 0.5e9,
            "error": "the server is down" if f"{requests} x {seconds} s" == failed else None,
        }
        for requests, seconds, encoder, server in cases
    }
    conditions = {"max_audio_seconds": limit}
    return {"name": name, "conditions": conditions, "computed_bytes": 8.1e9, "measure": "PSS", "cases": measured}


@pytest.mark.fast
def test_the_table_of_long_audio(complete: Folder) -> None:
    name = "stt_en_jasper10x5dr"
    assert "Memory of long audio" not in page(all_rows(complete))
    cases = [(1, 60, 1.0, 1.5), (1, 300, 1.8, 2.3), (16, 60, 2.0, 3.0), (16, 300, 2.0, 6.5)]
    write_json(complete.long_audio(name), long_audio_result(name, 300, *cases))
    *_, cells = table_rows(page(all_rows(complete)), name)
    assert cells[1:] == ["300", "200", "1.00 / 1.50", "1.80 / 2.30", "(4.80)", "3.00", "6.50", "8.10", "0.50"]

    write_json(complete.long_audio(name), long_audio_result(name, 300, *cases, failed="16 x 300 s"))
    text = page(all_rows(complete))
    *_, cells = table_rows(text, name)
    assert cells[-3:] == ["-", "8.10", "-"]
    assert f"- `{name}`, 16 x 300 s: the server is down\n" in text


@pytest.mark.fast
def test_the_memory_of_long_audio_is_updated_without_the_rest(
    run_module: RunModule, complete: Folder, tmp_path: Path
) -> None:
    added = Folder(tmp_path / "added")
    write_json(complete.long_audio("stt_en_jasper10x5dr"), long_audio_result("stt_en_jasper10x5dr", 300, (1, 60, 1, 2)))
    before = all_rows(complete)
    write_json(tmp_path / "models.json", before)
    write_json(added.long_audio("stt_en_citrinet_256"), long_audio_result("stt_en_citrinet_256", 300, (1, 60, 3, 4)))
    arguments = ("studies.models_table.write", "--docs", tmp_path, "--readme", tmp_path / "none", "--memory-only")
    done = run_module(*arguments, "--folder", added.root)
    assert done.returncode == 0, done.stderr
    after = json.loads((tmp_path / "models.json").read_text())
    assert [row["name"] for row in after["long_audio"]] == ["stt_en_jasper10x5dr", "stt_en_citrinet_256"]
    assert {**after, "long_audio": before["long_audio"]} == before
    assert "3.00 / 4.00" in (tmp_path / "models.md").read_text()
    write_json(added.long_audio("stt_en_citrinet_256"), long_audio_result("stt_en_citrinet_256", 300))
    write_json(added.long_audio("stt_en_citrinet_512"), long_audio_result("stt_en_citrinet_512", 240))
    limits = {row["name"]: row for row in all_rows(added, earlier=after)["long_audio"]}
    assert limits["stt_en_citrinet_256"]["peaks"], "not replaced by a result without cases"
    assert limits["stt_en_citrinet_512"]["max_audio_seconds"] == 240
    again = all_rows(complete, earlier=after)
    assert again["long_audio"] == after["long_audio"], "kept without a result in the folder"


def test_measures_the_memory_of_long_audio(run_module: RunModule, repository: Path, tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.repository.mkdir()
    for exported in repository.iterdir():
        if exported.is_dir() and exported.name != "coffee_ctc":
            (folder.repository / exported.name).symlink_to(exported)
    shutil.copytree(repository / "coffee_ctc", folder.repository / "coffee_ctc")
    config = read_config(repository / "coffee_ctc")
    config.parameters["max_audio_seconds"].string_value = "90"
    write_config(folder.repository / "coffee_ctc", config)
    arguments = ("studies.models_table.long_audio", "coffee_ctc", "--folder", tmp_path)
    unknown = run_module(*arguments, "nothing")
    assert unknown.returncode == 2 and "error: nothing: matches no model" in unknown.stderr
    done = run_module(*arguments, "--limits-only")
    assert done.returncode == 0, done.stderr
    limits = json.loads(folder.long_audio("coffee_ctc").read_text())
    assert not limits["cases"]
    assert limits["computed_bytes"] == int(config.parameters["memory_bytes"].string_value)
    done = run_module(*arguments)
    assert done.returncode == 0, done.stderr
    cases = json.loads(folder.long_audio("coffee_ctc").read_text())["cases"]
    assert list(cases) == ["1 x 60 s", "1 x 90 s", "16 x 60 s", "16 x 90 s"], "longer audio would be refused"
    for case in cases.values():
        assert case["error"] is None
        assert 1e7 < case["encoder_peak_bytes"] < case["peak_bytes"] < 2e9
    assert cases["16 x 60 s"]["peak_bytes"] > cases["1 x 60 s"]["peak_bytes"]
    assert "coffee_ctc: already measured" in run_module(*arguments).stderr


@pytest.mark.fast
def test_a_later_model_needs_data_alone(complete: Folder) -> None:
    new = Model(LATER_NAME, "conformer_ctc", 115.6, (1.9, 4.2), source="its model card")
    table = all_rows(complete, [*PUBLISHED, new])
    (row,) = [row for row in table["models"] if row["name"] == LATER_NAME]
    assert (row["status"], row["measured"]) == ("not measured", None)
    assert all(
        "not measured yet" in cells or "its model card" in cells for cells in table_rows(page(table), LATER_NAME)
    )

    write_results(complete.root, LATER_NAME)
    table = all_rows(complete, [*PUBLISHED, new])
    assert table["models"][-1]["measured"]["served_rtfx"]["median"] == 40.0
    assert len(candidates(table["models"])) == 23


@pytest.mark.fast
def test_later_models_are_rows_by_data_and_keep_their_measurements(complete: Folder, tmp_path: Path) -> None:
    table = all_rows(complete)
    assert [row["name"] for row in table["others"]] == [model.served_as for model in LATER_MODELS]
    of_the_22 = "stt_en_contextnet_256"
    assert {row["name"] for row in table["others"] if row["measured"]} == {of_the_22}, "stt_en_contextnet_256_mls's"
    text = page(table)
    for model in LATER_MODELS:
        if model.name == of_the_22:
            continue
        assert [cells[-2] for cells in table_rows(text, model.served_as)] == ["not measured yet"]
    (cells,) = table_rows(text, "parakeet-tdt-0.6b-v3")
    assert cells[1:7] == ["Parakeet", "TDT", "627.0", "1.92 / 3.59", "leaderboard", "6.32"]
    assert cells[7:10] == ["3333", "punctuation, capitals; 25 languages", "CC-BY-4.0"]
    (cells,) = table_rows(text, "stt_en_fastconformer_ctc_large_ls")
    assert cells[3:8] == ["-", "-", "-", "-", "-"] and "NGC page" in cells[9]
    for kind in REFUSED:
        assert f"`{kind.example}`" in text and kind.kind in text
    assert not any(table_rows(short_table(table), model.served_as) for model in LATER_MODELS)

    write_results(tmp_path, LATER_NAME)
    measured = all_rows(Folder(tmp_path))
    again = all_rows(complete, earlier=measured)
    for rows in (measured["others"], again["others"]):
        (row,) = [row for row in rows if row["name"] == LATER_NAME]
        assert row["measured"]["served_rtfx"]["median"] == 40.0
        assert row["published"]["leaderboard"]["word_error_rate"] == 8.97


@pytest.mark.fast
def test_models_of_one_architecture_share_a_measurement(tmp_path: Path) -> None:
    table = all_rows(write_results(tmp_path, "stt_en_contextnet_512"))
    by_name = {row["name"]: row for row in table["models"]}
    twin = by_name["stt_en_contextnet_512_mls"]
    assert twin["measured_as"] == "stt_en_contextnet_512"
    assert by_name["stt_en_citrinet_256"]["measured"] is None
    assert "- `stt_en_contextnet_512_mls` as `stt_en_contextnet_512`\n" in page(table)
    measured = smallest_first()
    assert len(measured) == 18 and measured[-1] == "stt_en_jasper10x5dr"
    complete = all_rows(write_results(tmp_path, *measured))["models"]
    assert all(row["measured"] for row in complete) and len(complete) == 22


@pytest.mark.fast
def test_readme_changes_between_its_markers_only() -> None:
    readme = f"before\n{BEGIN}\nold\n{END}\nafter {END}\n"
    assert replace_table(readme, "new") == f"before\n{BEGIN}\nnew\n{END}\nafter {END}\n"
    assert replace_table("no markers\n", "new") is None
    assert replace_table(f"{BEGIN}\nno end\n", "new") is None


@pytest.mark.fast
def test_the_command_writes_all_files(run_module: RunModule, complete: Folder, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("no markers\n")
    arguments = ("studies.models_table.write", "--folder", complete.root, "--docs", tmp_path, "--readme", readme)
    done = run_module(*arguments)
    assert (done.returncode, readme.read_text()) == (0, "no markers\n")
    assert f"{readme}: has no markers for the table of models; not changed\n" in done.stderr
    assert "22 of 22 models measured" in done.stderr
    assert len(json.loads((tmp_path / "models.json").read_text())["models"]) == len(PUBLISHED)

    readme.write_text(f"{BEGIN}\n{END}\n")
    assert run_module(*arguments).returncode == 0
    assert len(readme.read_text().splitlines()) < 32
    assert "| `stt_en_jasper10x5dr` " in readme.read_text()
    for theme in ("light", "dark"):
        chart = (tmp_path / f"models_{theme}.svg").read_text()
        texts = re.findall(r"<text[^>]*>([^<]*)</text>", chart)
        assert {
            "Jasper 10x5dr*",
            "Citrinet 256 \N{GREEK SMALL LETTER GAMMA}",
            "CTC small ls",
            "ContextNet 1024 mls",
            "20",
            "50",
        } <= set(texts)
        assert "system-ui" in chart and "DejaVu" not in chart


@pytest.mark.fast
def test_the_front_has_the_models_that_no_other_beats() -> None:
    model = Candidate("a", "citrinet", speed=10.0, error=5.0, parameters=1, on_dev=False)
    faster = replace(model, name="b", speed=20.0, error=6.0)
    beaten = replace(model, name="c", speed=9.0)
    front = pareto_front([beaten, model, faster])
    assert [model.name for model in front] == ["b", "a"]
    middle = replace(model, name="d", speed=15.0, error=5.1)
    assert balanced([front[0], middle, front[1]]) is middle
    assert balanced([model]) is model


@pytest.mark.fast
def test_labels_do_not_overlap() -> None:
    points = [Point(200.0 + 3 * number, 200.0, 5.0, 80.0, 12.0) for number in range(6)]
    places = place_labels(points, Box(0.0, 0.0, 400.0, 400.0))
    boxes = [Box(place.x - 40, place.y - 6, place.x + 40, place.y + 6) for place in places]
    assert not any(box.overlap(other) for box in boxes for other in boxes if box is not other)
    assert not any(box.overlap(point.box) for box in boxes for point in points)
    assert any(place.leader for place in places)


@pytest.mark.fast
@pytest.mark.parametrize("samples", [7, 40, 4000])
def test_recordings_have_equal_lengths_and_differ(samples: int) -> None:
    pieces = cut(np.arange(samples, dtype=np.int16), 5, 100)
    assert {len(piece) for piece in pieces} == {100}
    assert len({piece.tobytes() for piece in pieces}) == 5


@pytest.mark.fast
def test_recordings_are_written_and_named_after_their_speech(tmp_path: Path) -> None:
    speech = cut_recordings(DEMO_MANIFEST, tmp_path, count=3, seconds=2.0)
    assert (speech.name, speech.seconds) == ("demo_speech", 6.0)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["00.wav", "01.wav", "02.wav"]


@pytest.mark.fast
def test_nemo_gets_its_faster_batch_size() -> None:
    passes = Passes(10.0, lambda line: None)
    for system, seconds in (("nemo 1", (3.0, 1.0, 3.0)), ("nemo 16", (2.0,))):
        for spent in seconds:
            passes.add(system, Measured(spent, {}))
    assert passes.faster((1, 16)) == 16
