"""Save a tiny model of each family as a .nemo file, for exports and served tests.

python tests/export_scripts/save_tiny_models.py FOLDER
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "training")]


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(path_type=Path))
def main(folder: Path) -> None:
    logging.disable(logging.ERROR)
    from architectures import ARCHITECTURES, OLD_NEMO
    from tiny_models import save_tiny_model

    folder.mkdir(parents=True, exist_ok=True)
    for architecture in ARCHITECTURES:
        save_tiny_model(architecture, OLD_NEMO, folder / f"tiny_{architecture}.nemo")


if __name__ == "__main__":
    main()
