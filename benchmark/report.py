"""The command that turns results into pages: `python -m benchmark.report RESULTS --out FOLDER`."""

from __future__ import annotations

from pathlib import Path

import click

from benchmark.core.constants import REPORT
from benchmark.core.results_folder import write_json, write_text
from benchmark.reporting.charts import all_charts
from benchmark.reporting.gather import gather_files, gather_folder
from benchmark.reporting.headline import default_title
from benchmark.reporting.pages import html_page, markdown_page, speechloop_page
from benchmark.reporting.tables import all_tables
from nemo_triton.terminal import exit_codes, options

NAME = "report"
SPEECHLOOP = "speechloop.md"


@click.command()
@click.argument(
    "results", nargs=-1, required=True, metavar="RESULTS | FILE...", type=click.Path(exists=True, path_type=Path)
)
@click.option(
    "--out",
    required=True,
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for report.md, report.html and the charts.",
)
@click.option(
    "--title", metavar="TEXT", help="Title of the report.  [default: the names of the models, or their number]"
)
def run(results: tuple[Path, ...], out: Path, title: str | None) -> int:
    """Write tables and charts: FOLDER/report.md with SVG files, and FOLDER/report.html, a single self-contained file.

    RESULTS is a folder of benchmark.run, benchmark.compare and benchmark.score. Or give files that bench.py wrote with
    --json, one per model. All values go to report.json in RESULTS, or in FOLDER if files are given.
    """
    folders = [path for path in results if path.is_dir()]
    if folders and len(results) > 1:
        raise click.UsageError(f"{folders[0]}: give one folder of results, or only files of bench.py --json")
    report = gather_folder(folders[0]) if folders else gather_files(results)
    report = {"title": title or default_title(report), **report}
    tables, charts = all_tables(report), all_charts(report)
    out.mkdir(parents=True, exist_ok=True)
    write_json((folders[0] if folders else out) / REPORT, report)
    for chart in charts:
        for name, svg in chart.files().items():
            write_text(out / name, svg)
    write_text(out / f"{NAME}.md", markdown_page(report, tables, charts))
    write_text(out / f"{NAME}.html", html_page(report, tables, charts))
    if report["engines"]["measured"]:
        write_text(out / SPEECHLOOP, speechloop_page(report))
        click.echo(out / SPEECHLOOP)
    click.echo(out / f"{NAME}.html")
    return exit_codes.EXIT_OK


if __name__ == "__main__":
    options.run(run)
