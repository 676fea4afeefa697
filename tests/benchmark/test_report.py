"""Scores and report pages show the numbers of the results."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jiwer
import pytest
from benchmark_results import Measured, RunModule

from benchmark.core.constants import COMPARED_AT, MORE_ROUNDS
from benchmark.core.sclite import count_words, find_sclite
from benchmark.core.scoring import mean_capped_wer
from benchmark.reporting.charts import pareto_front
from benchmark.reporting.tables import all_tables
from export_scripts.checkpoints.catalogue import CATALOGUE
from nemo_triton.loadtest.wer import score

QUESTIONS = (
    "Which model should I take?",
    "How much faster than the others?",
    "What happens under load?",
    "Where does the time go?",
)


class Tables(HTMLParser):
    """The cells of the tables of a page by row, its scripts, and the addresses that it loads."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.headings: list[list[str | None]] = []
        """Of each row: the headings that its cells show on a phone."""
        self.scripts = 0
        self.loads: list[str] = []
        self.inside: str | None = None

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "wbr":
            return
        self.inside = tag
        self.scripts += tag == "script"
        values = dict(attributes)
        self.loads += [value for name, value in values.items() if name in ("src", "href") and value]
        if tag == "tr":
            self.rows.append([])
            self.headings.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.headings[-1].append(values.get("data-heading"))

    def handle_endtag(self, tag: str) -> None:
        self.inside = None

    def handle_data(self, data: str) -> None:
        if self.inside in ("td", "th"):
            self.rows[-1][-1] += data


@pytest.fixture(scope="session")
def pages(measured: Measured, run_module: RunModule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    done = run_module("report", measured.results, "--out", folder)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


@pytest.fixture(scope="session")
def page(pages: Path) -> Tables:
    tables = Tables()
    tables.feed((pages / "report.html").read_text())
    return tables


def row_of(page: Tables, *beginning: str) -> list[str]:
    (matching,) = [row for row in page.rows if tuple(row[: len(beginning)]) == beginning]
    return matching


def test_the_page_is_drawn_from_the_json_and_loads_nothing(measured: Measured, pages: Path, page: Tables) -> None:
    report = json.loads((measured.results / "report.json").read_text())
    assert page.rows == [list(row) for table in all_tables(report) for row in (table.headings, *table.rows)]
    text = (pages / "report.html").read_text()
    assert page.scripts == 0
    assert [address for address in page.loads if not address.startswith("#")] == []
    assert not re.search(r"url\((?!#)", text)
    assert text.count("<svg") == len(QUESTIONS)
    assert all(question in text for question in QUESTIONS)


def test_each_cell_has_its_heading_for_phones(measured: Measured, page: Tables) -> None:
    tables = all_tables(json.loads((measured.results / "report.json").read_text()))
    assert page.headings == [
        list(row) for table in tables for row in ([None] * len(table.headings), *[table.headings] * len(table.rows))
    ]


def test_the_page_begins_with_what_was_measured(measured: Measured, pages: Path) -> None:
    text = (pages / "report.md").read_text()
    report = json.loads((measured.results / "report.json").read_text())
    title, conditions, sentences, summary = text.split("\n\n")[:4]
    assert title == "# coffee_ctc and coffee_rnnt: speed and accuracy"
    assert re.match(r"Measured on \d+ \w+ \d{4} on \d+ cores of .*Recordings: demo \(\d+ recordings", conditions)
    speeds = {row["model"]: row["rtfx"] for row in report["models"]}
    fast, slow = sorted(speeds, key=lambda name: -speeds[name])
    assert f"{fast} is {speeds[fast] / speeds[slow]:.2f} times as fast as {slow}" in sentences
    assert summary == "## Summary"


def test_speeds_equal_the_results(measured: Measured, page: Tables) -> None:
    for model in ("coffee_ctc", "coffee_rnnt"):
        folder = measured.results / model / "demo"
        closed, *rounds = (json.loads((folder / f"{kind}.json").read_text()) for kind in ("closed", *MORE_ROUNDS))
        compared = [load for load in closed["loads"] if load["load"] == {"concurrency": COMPARED_AT}]
        compared += [load for measured_round in rounds for load in measured_round["loads"]]
        slow, middle, fast = sorted(compared, key=lambda load: load["rtfx"])
        row = dict(zip(page.rows[0], row_of(page, model, f"{middle['rtfx']:.1f}"), strict=True))
        assert row["RTFx, lowest to highest"] == f"{slow['rtfx']:.1f} to {fast['rtfx']:.1f}"
        assert row["p95, ms"] == f"{middle['latency_ms']['p95']:.0f}"
        assert row["p50 of a single request, ms"] == f"{closed['loads'][0]['latency_ms']['p50']:.0f}"
        assert row["WER, %"] == f"{100 * closed['wer']:.2f}"
        for load in closed["loads"]:
            cells = row_of(page, model, "demo", str(load["load"]["concurrency"]), f"{load['rtfx']:.1f}")
            assert cells[7] == f"{load['requests_per_second']:.2f}"


def test_a_model_without_results_is_listed(measured: Measured, run_module: RunModule, tmp_path: Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(measured.results, results)
    for file in (results / "coffee_ctc" / "demo").iterdir():
        file.unlink()
    assert run_module("report", results, "--out", tmp_path / "pages").returncode == 0
    report = json.loads((results / "report.json").read_text())
    (model,) = [model for model in report["models"] if model["model"] == "coffee_ctc"]
    assert model["dataset"] is None and model["onnx_bytes"] > 0
    assert "| coffee_ctc | EncDecCTCModel | trained |" in (tmp_path / "pages" / "report.md").read_text()


def test_only_measured_models_are_listed(measured: Measured, pages: Path) -> None:
    report = json.loads((measured.results / "report.json").read_text())
    assert {model["model"] for model in report["models"]} == {"coffee_ctc", "coffee_rnnt"}
    text = (pages / "report.md").read_text() + (pages / "report.html").read_text()
    assert not any(model.served_as in text for model in CATALOGUE)


def test_markdown_has_the_same_tables_and_both_pictures_of_each_chart(pages: Path, page: Tables) -> None:
    text = (pages / "report.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    assert [row for row in rows if not set("".join(row)) <= set("-:")] == [
        row for row in page.rows if not set("".join(row)) <= set("-:")
    ]
    drawn = re.findall(r'srcset="(\w+)_dark\.svg">\n  <img alt="([^"]+)" src="(\w+)_light\.svg"', text)
    assert [question for _, question, _ in drawn] == list(QUESTIONS)
    for dark, question, light in drawn:
        assert dark == light
        pictures = [(pages / f"{dark}_{theme}.svg").read_text() for theme in ("light", "dark")]
        assert pictures[0].startswith("<svg") and all(question in picture for picture in pictures)
        assert "#ffffff" in pictures[0] and "#ffffff" not in pictures[1]


def test_numbers_are_aligned_right(pages: Path) -> None:
    headings, marks = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (pages / "report.md").read_text().splitlines()
        if line[:1] == "|"
    ][:2]
    aligned = dict(zip(headings, marks, strict=True))
    assert aligned["model"] == "---" and aligned["RTFx"] == aligned["RTFx, lowest to highest"] == "---:"


def test_error_rates_equal_jiwers(measured: Measured) -> None:
    assert measured.score.returncode == 0
    scores = json.loads((measured.results / "scores.json").read_text())["scores"]
    assert len(scores) == 4, "two models served, one of them also in process and by NeMo"
    compared = json.loads((measured.results / "coffee_rnnt" / "demo" / "compared.json").read_text())
    (nemo,) = [system for system in compared["systems"] if system["name"] == "NeMo transcribe()"]
    audio = sorted(nemo["texts"])
    references = [compared["references"][file] for file in audio]
    texts = [nemo["texts"][file] for file in audio]
    for row in scores:
        if row["model"] == "coffee_rnnt":
            assert row["wer"] == pytest.approx(jiwer.wer(references, texts))
            assert row["cer"] == pytest.approx(jiwer.cer(references, texts))


def test_speechloops_engines_are_only_shown_with_its_words(pages: Path) -> None:
    assert not (pages / "speechloop.md").exists()
    text = (pages / "report.md").read_text() + (pages / "report.html").read_text()
    assert "SpeechLoop" not in text and "Vosk" not in text


@pytest.mark.skipif(find_sclite() is None, reason="sclite (Debian's sctk) is not installed; `make sclite` tries to")
def test_sclite_counts_as_many_errors(measured: Measured, tmp_path: Path) -> None:
    sclite = find_sclite()
    assert sclite is not None
    scores = json.loads((measured.results / "scores.json").read_text())["scores"]
    for row in scores:
        assert sum(row["sclite"].values()) - row["sclite"]["hits"] == round(row["wer"] * 225)
    references = ["a b c d", "it's here", "one", "caf\u00e9 au lait"]
    hypotheses = ["a x c", "its here now", "", "cafe au lait"]
    scored = score(references, hypotheses)
    assert count_words(sclite, scored.pairs, tmp_path) == scored.words


@pytest.mark.fast
def test_the_pareto_front() -> None:
    points = [(1.0, 5.0), (10.0, 5.0), (8.0, 3.0), (20.0, 9.0), (5.0, 3.0), (2.0, 1.0)]
    assert pareto_front(points) == [(20.0, 9.0), (10.0, 5.0), (8.0, 3.0), (2.0, 1.0)]
    assert pareto_front([]) == []


@pytest.mark.fast
def test_speechloops_mean_is_over_utterances_and_capped() -> None:
    assert mean_capped_wer(score(["a b", "a", ""], ["a x", "x y z", "b"])) == pytest.approx(0.75)
    assert mean_capped_wer(score([], [])) is None


def test_scores_older_than_the_results_are_refused(measured: Measured, run_module: RunModule, tmp_path: Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(measured.results, results)
    (results / "coffee_ctc" / "demo" / "closed.json").touch()
    done = run_module("report", results, "--out", tmp_path / "pages")
    assert done.returncode == 2 and "run python -m benchmark.score again" in done.stderr
    (results / "scores.json").unlink()
    done = run_module("report", results, "--out", tmp_path / "pages")
    assert done.returncode == 2 and "run python -m benchmark.score first" in done.stderr


@pytest.mark.fast
def test_folders_without_results_are_one_error_line(run_module: RunModule, tmp_path: Path) -> None:
    for command in (("score", tmp_path), ("report", tmp_path, "--out", tmp_path)):
        done = run_module(*command)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_random_weights_have_no_error_rate(measured: Measured, run_module: RunModule, tmp_path: Path) -> None:
    results = tmp_path / "results"
    for file in measured.results.rglob("*"):
        if file.is_file() and file.name != "scores.json":
            copy = results / file.relative_to(measured.results)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(file.read_text().replace('"random_weights": false', '"random_weights": true'))
    assert run_module("score", results).returncode == 0
    assert run_module("report", results, "--out", tmp_path / "pages").returncode == 0
    report: Any = json.loads((results / "report.json").read_text())
    assert len(report["models"]) == 2
    assert all(model["wer"] is None and model["rtfx"] > 0 for model in report["models"])
    text = (tmp_path / "pages" / "report.md").read_text()
    assert "coffee_ctc (random weights)" in text
    assert "WER, %" not in text and "Which model" not in text and "## Accuracy" not in text
