"""Scores and pages: every number on them is one of the results."""

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
from benchmark.reporting.speechloop import ENGINES
from benchmark.reporting.tables import all_tables
from export_scripts.checkpoints.catalogue import CATALOGUE
from nemo_triton.loadtest.wer import score


class Tables(HTMLParser):
    """The cells of a page's tables, by row; its scripts; and what it would load from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.scripts = 0
        self.loads: list[str] = []
        self.inside: str | None = None

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.inside = tag
        self.scripts += tag == "script"
        values = dict(attributes)
        self.loads += [value for name, value in values.items() if name in ("src", "href") and value]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

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
    assert page.scripts == 0
    assert [address for address in page.loads if not address.startswith("#")] == []
    assert not re.search(r"url\((?!#)", (pages / "report.html").read_text())
    assert (pages / "report.html").read_text().count("<svg") == 5


def test_speeds_are_those_of_the_benchmark(measured: Measured, page: Tables) -> None:
    for model in ("coffee_ctc", "coffee_rnnt"):
        folder = measured.results / model / "demo"
        closed, *rounds = (json.loads((folder / f"{kind}.json").read_text()) for kind in ("closed", *MORE_ROUNDS))
        compared = [load for load in closed["loads"] if load["load"] == {"concurrency": COMPARED_AT}]
        compared += [load for measured_round in rounds for load in measured_round["loads"]]
        slow, middle, fast = sorted(compared, key=lambda load: load["rtfx"])
        row = row_of(page, model, "EncDecCTCModel" if model == "coffee_ctc" else "EncDecRNNTBPEModel")
        assert row[3] == "fp32"
        assert row[10:13] == [
            f"{middle['rtfx']:.1f} ({slow['rtfx']:.1f} to {fast['rtfx']:.1f})",
            f"{middle['latency_ms']['p50']:.0f}",
            f"{middle['latency_ms']['p95']:.0f}",
        ]
        assert row[13] == f"{closed['loads'][0]['latency_ms']['p50']:.0f}"
        assert row[8].startswith(f"{closed['wer']:.2%} (")
        for load in closed["loads"]:
            cells = row_of(page, model, "demo", str(load["load"]["concurrency"]), f"{load['rtfx']:.1f}")
            assert cells[4] == f"{load['requests_per_second']:.2f}"


def test_a_model_without_figures_is_not_lost(measured: Measured, run_module: RunModule, tmp_path: Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(measured.results, results)
    for file in (results / "coffee_ctc" / "demo").iterdir():
        file.unlink()
    assert run_module("report", results, "--out", tmp_path / "pages").returncode == 0
    report = json.loads((results / "report.json").read_text())
    (model,) = [model for model in report["models"] if model["model"] == "coffee_ctc"]
    assert model["dataset"] is None and model["onnx_bytes"] > 0


def test_published_models_that_were_not_measured_have_no_measured_figure(page: Tables) -> None:
    for model in CATALOGUE:
        row = row_of(page, model.served_as)
        assert row[7:9] == ["-", "-"] and row[10:] == ["-"] * 6
        assert row[9].startswith(" / ".join(f"{rate:g}" for rate in model.word_error_rates))


def test_markdown_has_the_same_tables(pages: Path, page: Tables) -> None:
    text = (pages / "report.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    assert [row for row in rows if set("".join(row)) != {"-"}] == [
        row for row in page.rows if set("".join(row)) != {"-"}
    ]
    for chart in re.findall(r"\]\((\w+\.svg)\)", text):
        assert (pages / chart).read_text().startswith("<svg")


def test_error_rates_are_jiwers(measured: Measured) -> None:
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


def test_engines_are_reprinted_beside_ours(page: Tables) -> None:
    for engine in ENGINES:
        assert row_of(page, engine.name, engine.version)[3] == f"{engine.mean_wer:.4f}"


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
def test_results_that_are_none_are_one_line(run_module: RunModule, tmp_path: Path) -> None:
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
    measured_models = [model for model in report["models"] if model["dataset"]]
    assert len(measured_models) == 2
    assert all(model["wer"] is None and model["rtfx"] > 0 for model in measured_models)
    text = (tmp_path / "pages" / "report.md").read_text()
    assert "random" in text and not re.search(r"coffee_\w+ \|[^\n]*\d%\b[^\n]*\(", text)
