"""Write the table of models: models.json, models.md, both charts, and the short table in README.

    python -m benchmark.studies.models_table.write --folder build/models_table --docs docs --readme README.md

Reads the results that benchmark.studies.models_table.run left in the folder. A model without a result gets a row that
says so.
"""

from __future__ import annotations

from pathlib import Path

import click

from benchmark.core.results_folder import write_json, write_text
from benchmark.studies.models_table.chart import THEMES, draw
from benchmark.studies.models_table.choice import candidates
from benchmark.studies.models_table.exports import Folder
from benchmark.studies.models_table.page import page, processor_text, replace_table, short_table
from benchmark.studies.models_table.rows import all_rows
from nemo_triton.terminal import exit_codes, options


@click.command(help=__doc__)
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), required=True, help="Working folder.")
@click.option(
    "--docs",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("docs"),
    show_default=True,
    help="Folder for models.json, models.md and the charts.",
)
@click.option(
    "--readme",
    type=click.Path(path_type=Path),
    default=Path("README.md"),
    show_default=True,
    help="README with the markers of the short table.",
)
def main(folder: Path, docs: Path, readme: Path) -> int:
    table = all_rows(Folder(folder))
    write_json(docs / "models.json", table)
    write_text(docs / "models.md", page(table))
    points = candidates(table["models"])
    for theme in THEMES if points else ():
        write_text(docs / f"models_{theme.name}.svg", draw(points, processor_text(table), theme))
    text = replace_table(readme.read_text(encoding="utf-8"), short_table(table))
    if text is None:
        click.echo(f"{readme}: has no markers for the table of models; not changed", err=True)
    else:
        write_text(readme, text)
    measured = sum(row["measured"] is not None for row in table["models"])
    click.echo(f"{docs / 'models.md'}: {measured} of {len(table['models'])} models measured", err=True)
    return exit_codes.EXIT_OK


if __name__ == "__main__":
    options.run(main)
