"""Write the table of models: models.json, models.md, both charts, and the short table in README.

    python -m benchmark.studies.models_table.write --folder build/models_table --docs docs --readme README.md

Reads the results that models_table.run and models_table.long_audio left in the folder. A model without a result gets a
row that says so. The memory of long audio and the measurements of later models are kept from the earlier models.json
for models without a result. With --memory-only, so are those of the 22, if there is an earlier one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from benchmark.core.results_folder import read_json, write_json, write_text
from benchmark.studies.models_table.chart import THEMES, draw
from benchmark.studies.models_table.choice import candidates
from benchmark.studies.models_table.exports import Folder
from benchmark.studies.models_table.page import page, processor_text, replace_table, short_table
from benchmark.studies.models_table.rows import all_rows, long_audio_rows, other_rows
from nemo_triton.terminal import exit_codes, options

Json = dict[str, Any]


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
@click.option(
    "--memory-only",
    is_flag=True,
    help="Update only the memory of long audio and the list of later models, in models.json and models.md.",
)
def main(folder: Path, docs: Path, readme: Path, memory_only: bool) -> int:
    file = docs / "models.json"
    earlier = read_json(file) if file.exists() else None
    if memory_only and earlier:
        table = {
            **earlier,
            "others": other_rows(Folder(folder), earlier.get("others", [])),
            "long_audio": long_audio_rows(Folder(folder), earlier["long_audio"]),
        }
    else:
        memory_only = False
        table = all_rows(Folder(folder), earlier=earlier)
    write_json(file, table)
    write_text(docs / "models.md", page(table))
    if not memory_only:
        _write_charts_and_readme(table, docs, readme)
    return exit_codes.EXIT_OK


def _write_charts_and_readme(table: Json, docs: Path, readme: Path) -> None:
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


if __name__ == "__main__":
    options.run(main)
