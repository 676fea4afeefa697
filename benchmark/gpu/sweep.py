"""Recognizers through the real server, concurrency swept, in a minute each.

    python -m benchmark.gpu.sweep NAME... --repository model_repository --out FOLDER

The short form of `python -m benchmark.gpu`, without checkpoints, rounds and PyTorch: for a machine that is at hand for
minutes. Each model's figures are a JSON file in FOLDER, written as soon as it is measured.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click

from benchmark.dataset import MANIFEST
from benchmark.gpu.mixed_speech import write_mixed_speech
from benchmark.gpu.variants import BASELINE, VARIANTS, write_variant
from benchmark.model_control import EXPLICIT, loaded
from benchmark.results_folder import read_json, write_json
from benchmark.run import BENCH
from benchmark.serving import serving
from client import cli
from client.errors import ClientError
from export_scripts.accelerators import TensorRt
from export_scripts.errors import ExportError

ROOT = Path(__file__).parent.parent.parent
DEMO = ROOT / "demo" / "commands" / MANIFEST
BY_NAME = {variant.name: variant for variant in VARIANTS}
UTTERANCES = 512


@click.command(help=__doc__)
@click.argument("names", nargs=-1, required=True)
@click.option("--repository", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--manifest", type=click.Path(path_type=Path), help="[default: the demo's, at LibriSpeech's lengths]")
@click.option("--variant", "variants", multiple=True, type=click.Choice(list(BY_NAME)), default=(BASELINE,))
@click.option("--concurrency", default="1,16,64,256", show_default=True)
@click.option("--seconds", default=3.0, show_default=True, help="Of each load.")
@click.option("--bench", "flags", default="--processes 4 --shared-memory", show_default=True)
@click.option("--budget", default=600.0, show_default=True, help="Seconds after which nothing new is begun.")
def sweep(
    names: tuple[str, ...],
    repository: Path,
    out: Path,
    manifest: Path | None,
    variants: tuple[str, ...],
    concurrency: str,
    seconds: float,
    flags: str,
    budget: float,
) -> int:
    """Measure each model in each way; one that fails costs a line and exit code 2."""
    stop_at = time.monotonic() + budget
    code = cli.EXIT_OK
    if manifest is None:
        write_mixed_speech(out / "data", DEMO, UTTERANCES, 0)
        manifest = out / "data" / MANIFEST
    for variant in variants:
        served = (out / "variants" / variant).resolve()
        for name in names:
            if time.monotonic() > stop_at:
                cli.print_error(f"{name}, {variant}: no time left")
                return cli.EXIT_PROBLEM
            try:
                write_variant(repository, name, served, BY_NAME[variant], TensorRt())
                _measure(name, variant, served, manifest, concurrency, seconds, flags.split(), out)
            except (ClientError, ExportError, OSError) as error:
                cli.print_error(f"{name}, {variant}: {error}")
                code = cli.EXIT_PROBLEM
    return code


def _measure(
    name: str,
    variant: str,
    repository: Path,
    manifest: Path,
    concurrency: str,
    seconds: float,
    flags: list[str],
    out: Path,
) -> None:
    file = out / f"{name}.{variant}.json"
    started = time.perf_counter()
    with serving(repository, [EXPLICIT], 120) as server, loaded(server.grpc, name):
        opened = time.perf_counter() - started
        common = ["--model", name, "--url", server.grpc, "--metrics-url", f"http://{server.metrics}/metrics"]
        common += ["--manifest", str(manifest), *flags]
        # Each new shape costs time on a GPU; the first pass meets the most of them.
        _bench([*common, "--concurrency", concurrency.rpartition(",")[2]], file.with_suffix(".pilot"))
        loads = ["--concurrency", concurrency, "--duration", str(seconds)]
        found = _bench([*common, *loads], file.with_suffix(".fresh"))
    write_json(file, {"name": name, "variant": variant, "opened_seconds": opened, "found": found})
    for load in found["loads"]:
        steps = ", ".join(f"{step['model'].rpartition('_')[2]} {step['executing_ms']:.0f}" for step in load["steps"])
        click.echo(
            f"{name} {variant} {load['load']['concurrency']} in flight: RTFx {load['rtfx']:.0f}, "
            f"p50 {load['latency_ms']['p50']:.0f} ms, batch {load['mean_batch_size']}, failures {load['failed']}; "
            f"ms executing: {steps}"
        )


def _bench(flags: list[str], fresh: Path) -> dict[str, Any]:
    fresh.unlink(missing_ok=True)
    ended = subprocess.run([sys.executable, str(BENCH), "--json", str(fresh), *flags], stdout=subprocess.DEVNULL)
    if not fresh.exists():
        raise ClientError(f"bench.py ended with code {ended.returncode} and no figures")
    found = read_json(fresh)
    fresh.unlink()
    return found


if __name__ == "__main__":
    cli.run(sweep)
