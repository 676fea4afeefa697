"""Check that the configurations and graphs of a model repository agree.

    python export_scripts/check.py model_repository

Compares the types and dims of each configuration with its graph, by the rules of Triton's onnxruntime
backend, the wiring of each ensemble with its steps, and the weights of large models (model.onnx.data) with
their checksums. Needs neither NeMo nor a server.

Exit code 0: all agree. 1: one line per problem. 2: wrong argument.
"""

from __future__ import annotations

import sys
from pathlib import Path

try:
    import click

    from export_scripts.repository.validate import check_repository, models_in
    from nemo_triton.errors import printable
    from nemo_triton.terminal.exit_codes import run_and_exit
except ModuleNotFoundError as missing:
    if __name__ != "__main__":
        raise
    # Imported from this folder, since the package export_scripts itself may be missing.
    from missing_package import report

    sys.exit(report(missing))


@click.command(help=__doc__)
@click.argument("repository", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(repository: Path) -> None:
    models = models_in(repository)
    if not models:
        click.echo(f"error: {repository}: no models in this folder; name a model repository", err=True)
        sys.exit(2)
    problems = check_repository(repository, contents=True)
    for problem in problems:
        click.echo(printable(problem))
    if not problems:
        noun = "model agrees" if len(models) == 1 else "models agree"
        click.echo(f"{len(models)} {noun} with the graphs and each other")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    run_and_exit(main)
