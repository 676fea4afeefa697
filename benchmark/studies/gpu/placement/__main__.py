"""The command: `python -m benchmark.studies.gpu.placement model_repository --model coffee_ctc`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from benchmark.studies.gpu.placement.kernels import known_releases, read_kernels
from benchmark.studies.gpu.placement.stages import PlacedStage, place_stages
from nemo_triton.terminal import exit_codes, options


@click.command()
@click.argument("repository", type=click.Path(file_okay=False, exists=True, path_type=Path))
@click.option(
    "--model",
    "patterns",
    multiple=True,
    metavar="NAME",
    help="Recognizer of the repository, or a pattern; repeat for more.  [default: all]",
)
@click.option(
    "--onnxruntime",
    "release",
    type=click.Choice(known_releases()),
    default=known_releases()[0],
    show_default=True,
    help="Version whose CUDA kernels to assume; 1.19.2 is in NVIDIA's Triton container 24.10.",
)
@click.option(
    "--nodes", "list_nodes", is_flag=True, help="Also list the nodes on the CPU and the copies, one per line."
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=options.check_output,
    help="Also write all nodes and copies to this file.",
)
def placement(
    repository: Path, patterns: tuple[str, ...], release: str, list_nodes: bool, json_file: Path | None
) -> int:
    """Show which nodes of exported stages run on the CPU of a GPU instance, and what is copied for them.

    Needs no GPU: it follows onnxruntime's rules. A copy to the host waits for the GPU. Inputs and outputs of a stage
    are not counted.
    """
    stages = place_stages(repository, patterns, read_kernels(release))
    console = options.console()
    console.print(_table(stages, release))
    for stage in stages:
        for refusal in dict.fromkeys(stage.placement.refusals):
            click.echo(f"{stage.name}: would not load on a GPU: {refusal}")
    if list_nodes:
        for line in _lines(stages):
            click.echo(line)
    if json_file is not None:
        json_file.write_text(json.dumps(_json(stages, release), indent=1) + "\n", encoding="utf-8")
    return exit_codes.EXIT_OK


def _table(stages: Sequence[PlacedStage], release: str) -> Table:
    table = Table(
        "stage", "configured for", "runs per", title=f"Placement by onnxruntime {release}", title_justify="left"
    )
    for heading in ("nodes", "on the CPU", "of these, shapes", "copies to the GPU", "copies to the host (waits)"):
        table.add_column(heading, justify="right")
    for stage in stages:
        title = (stage.name, "GPU" if stage.on_gpu else "CPU")
        for per in stage.placement.frequencies():
            nodes = [node for node in stage.placement.nodes if node.per == per]
            counts = (
                len(nodes),
                sum(node.on_cpu for node in nodes),
                sum(node.shapes for node in nodes),
                stage.placement.count(False, per),
                stage.placement.count(True, per),
            )
            table.add_row(*title, per, *map(str, counts))
            title = ("", "")
    return table


def _lines(stages: Sequence[PlacedStage]) -> Iterator[str]:
    """One line per node on the CPU, without calculations with shapes, and one per copy."""
    for stage in stages:
        for node in stage.placement.nodes:
            if node.on_cpu and not node.shapes:
                yield f"{stage.name}: per {node.per}: {node.operator} {node.name} on the CPU: {node.why}"
        for copy in sorted(
            stage.placement.copies, key=lambda copy: (copy.to_host, stage.placement.frequencies().index(copy.per))
        ):
            direction = "to the host" if copy.to_host else "to the GPU"
            yield f"{stage.name}: per {copy.per}: {copy.value} {direction} for {copy.operator} {copy.name}"


def _json(stages: Sequence[PlacedStage], release: str) -> dict[str, Any]:
    return {
        "onnxruntime": release,
        "stages": {stage.name: {"on_gpu": stage.on_gpu, **asdict(stage.placement)} for stage in stages},
    }


if __name__ == "__main__":
    options.run(placement)
