"""The command that turns results into pages: `python -m benchmark.report RESULTS --out FOLDER`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from jinja2 import Environment, PackageLoader

from benchmark.core.constants import REPORT
from benchmark.core.results_folder import write_json
from benchmark.core.tables import Table, markdown
from benchmark.reporting.charts import all_charts
from benchmark.reporting.gather import gather
from benchmark.reporting.tables import all_tables
from nemo_triton.terminal import exit_codes, options

TITLE = "NeMo recognizers served by Triton: speed, latency and word error rate"
NAME = "report"


@click.command()
@click.argument("results", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", required=True, metavar="FOLDER", type=click.Path(file_okay=False, path_type=Path))
def run(results: Path, out: Path) -> int:
    """Write FOLDER/report.md with its charts, and FOLDER/report.html, one file that needs no network.

    RESULTS/report.json gets all values, for programs; tables and charts are drawn from these alone.
    """
    report = gather(results)
    tables, charts = all_tables(report), all_charts(report)
    out.mkdir(parents=True, exist_ok=True)
    write_json(results / REPORT, report)
    for name, (_, svg) in charts.items():
        (out / f"{name}.svg").write_text(svg, encoding="utf-8")
    (out / f"{NAME}.md").write_text(_markdown(report, tables, charts), encoding="utf-8")
    (out / f"{NAME}.html").write_text(_page(report, tables, charts), encoding="utf-8")
    click.echo(f"{out / NAME}.html")
    return exit_codes.EXIT_OK


def introduction(report: dict[str, Any]) -> str:
    """What was measured on, in one paragraph."""
    # As texts, so that what was measured on the same machine with the same versions is said once.
    machines = {_machine(measured): None for measured in [*report["served"], *report["comparisons"]]}
    return f"Measured on {'; and on '.join(machines)}. docs/method.md says what is measured where."


def _machine(measured: dict[str, Any]) -> str:
    machine = measured["machine"]
    memory = f"{machine['memory_bytes'] / 2**30:.0f} GiB"
    packages = ", ".join(f"{name} {version}" for name, version in measured["versions"].items())
    return f"{machine['cores']} cores of {machine['processor']}, {memory}, {machine['system']} with {packages}"


def _markdown(report: dict[str, Any], tables: list[Table], charts: dict[str, tuple[str, str]]) -> str:
    drawn = [f"![{title}]({name}.svg)" for name, (title, _) in charts.items()]
    return "\n\n".join([f"# {TITLE}", introduction(report), *drawn, *map(markdown, tables)]).rstrip() + "\n"


def _page(report: dict[str, Any], tables: list[Table], charts: dict[str, tuple[str, str]]) -> str:
    environment = Environment(loader=PackageLoader("benchmark.reporting", ""), autoescape=True)
    worst_utterances = [
        {"model": run["model"], **utterance}
        for run in report["served"]
        if not run["random_weights"]
        for utterance in run["worst"]
    ]
    return environment.get_template("page.html.j2").render(
        title=TITLE,
        introduction=introduction(report),
        charts=[{"title": title, "svg": svg} for title, svg in charts.values()],
        tables=tables,
        worst=worst_utterances,
    )


if __name__ == "__main__":
    options.run(run)
