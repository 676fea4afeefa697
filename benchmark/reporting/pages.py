"""The report as Markdown and as one HTML file, and SpeechLoop's page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from benchmark.core.tables import NONE, Table, markdown, numeric_columns
from benchmark.reporting import speechloop
from benchmark.reporting.drawing import Chart, theme_css, themed
from benchmark.reporting.headline import measured_on, sentences, versions_line

Json = dict[str, Any]


def markdown_page(report: Json, tables: Sequence[Table], charts: Sequence[Chart]) -> str:
    """The report; its charts are files in the same folder."""
    summary, *details = tables
    parts = [f"# {report['title']}", measured_on(report), *_list(sentences(report)), markdown(summary)]
    parts += [f"{chart.picture()}\n\n{chart.caption}" for chart in charts]
    parts += [*map(markdown, details), f"Versions: {versions_line(report)}."]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def html_page(report: Json, tables: Sequence[Table], charts: Sequence[Chart]) -> str:
    """The report as one self-contained file."""
    environment = Environment(loader=PackageLoader("benchmark.reporting", ""), autoescape=True, trim_blocks=True)
    environment.filters["breakable"] = breakable
    wrong = [
        {"model": run["model"], **utterance, "audio": PurePath(utterance["audio"]).name}
        for run in report["served"]
        if not run["random_weights"]
        for utterance in run["worst"]
    ]
    summary, *details = ({"table": table, "numeric": numeric_columns(table.rows)} for table in tables)
    return environment.get_template("page.html.j2").render(
        title=report["title"],
        measured_on=measured_on(report),
        sentences=sentences(report),
        theme_css=theme_css(),
        none_text=NONE,
        summary=summary,
        charts=[{"question": chart.question, "caption": chart.caption, "svg": themed(chart.svg)} for chart in charts],
        details=details,
        wrong=wrong,
        versions=versions_line(report),
    )


def breakable(name: str) -> Markup:
    """A name that a narrow page may break after each underscore."""
    return Markup("_<wbr>").join(name.split("_"))


def speechloop_page(report: Json) -> str:
    """The page that compares our measurements on SpeechLoop's words with its published table."""
    return (
        f"# {speechloop.TITLE}\n\n"
        "Measure a model on the 78 words, in `.venv/serve`:\n\n"
        "```sh\n"
        "python -m benchmark.prepare words=simple_test.csv --out data\n"
        "python -m benchmark.run coffee_rnnt --data data/words --out results\n"
        "python -m benchmark.score results\n"
        "python -m benchmark.report results --out report\n"
        "```\n\n"
        "[SpeechLoop](https://github.com/robmsmt/SpeechLoop) compared speech recognizers on single spoken words. "
        "`benchmark.report` writes this page to `report/speechloop.md` if the results have a data set named "
        f"`{speechloop.WORDS}` with these words.\n\n"
        f"{markdown(speechloop.engines(report))}\n"
        "The coffee models know 55 words, few of them among the 78: their rows show that the measurement works, not "
        "what NeMo's published models do.\n"
    )


def _list(lines: Sequence[str]) -> list[str]:
    return ["\n".join(f"- {line}" for line in lines)] if lines else []
