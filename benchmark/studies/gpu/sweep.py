"""Serve recognizers and measure them at several concurrencies, in about a minute each.

    python -m benchmark.studies.gpu.sweep NAME... --repository model_repository --out FOLDER

A short form of `python -m benchmark.studies.gpu`, without checkpoints, rounds and PyTorch, for a GPU machine that is
available only for minutes. FOLDER gets one JSON file per model and variant, rewritten after each concurrency.

Runs in .venv/serve (make install SERVER=server-gpu).
"""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from google.protobuf.message import DecodeError

from benchmark.core.model_control import EXPLICIT, loaded
from benchmark.core.results_folder import write_json
from benchmark.core.run_bench import Bench, run_bench
from benchmark.core.serving import serving
from benchmark.data.dataset import MANIFEST
from benchmark.studies.gpu.mixed_speech import write_mixed_speech
from benchmark.studies.gpu.timing import NO_TIME
from benchmark.studies.gpu.variants import BASELINE, VARIANTS
from benchmark.studies.variants import write_variant
from export_scripts.errors import ExportError
from export_scripts.repository.gpu import TensorRt
from nemo_triton.demo_speech import MANIFEST as DEMO_MANIFEST
from nemo_triton.errors import ClientError
from nemo_triton.terminal import exit_codes, options

BY_NAME = {variant.name: variant for variant in VARIANTS}
UTTERANCES = 512
START_SECONDS = 120
"""Time that the server may take to start."""


def _each_concurrency(text: str, parameter: click.Parameter, context: click.Context) -> float:
    value: int = click.IntRange(1)(text, parameter, context)
    return value


@click.command(help=__doc__)
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option(
    "--repository",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Model repository.",
)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder for results.")
@click.option(
    "--manifest",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help=f"Recordings to send.  [default: {UTTERANCES} utterances of LibriSpeech's lengths, joined from the demo's]",
)
@click.option(
    "--variant",
    "variants",
    multiple=True,
    type=click.Choice(list(BY_NAME)),
    default=(BASELINE,),
    show_default=True,
    help="Serving variant; repeat for more.",
)
@click.option(
    "--concurrency",
    "concurrencies",
    default="1,16,64,256",
    show_default=True,
    metavar="N[,N...]",
    callback=options.number_list(_each_concurrency),
    help="Concurrent requests; each number is one load.",
)
@click.option("--seconds", default=3.0, show_default=True, help="Length of each load.")
@click.option(
    "--bench", "flags", default="--processes 4 --shared-memory", show_default=True, help="More flags for bench.py."
)
@click.option(
    "--budget", default=600.0, show_default=True, metavar="SECONDS", help="End after this time, also during a load."
)
def sweep(
    *,
    names: tuple[str, ...],
    repository: Path,
    out: Path,
    manifest: Path | None,
    variants: tuple[str, ...],
    concurrencies: tuple[float, ...],
    seconds: float,
    flags: str,
    budget: float,
) -> int:
    stop_at = time.monotonic() + budget
    if not concurrencies:
        raise click.BadParameter("--concurrency: name at least one number")
    if manifest is None:
        write_mixed_speech(out / "data", DEMO_MANIFEST, count=UTTERANCES, seed=0)
        manifest = out / "data" / MANIFEST
    loads = Loads(
        manifest=manifest,
        concurrencies=tuple(map(int, concurrencies)),
        seconds=seconds,
        flags=tuple(flags.split()),
        stop_at=stop_at,
    )
    code = exit_codes.EXIT_OK
    for variant in variants:
        for name in names:
            served = (out / "variants" / variant).resolve()
            try:
                loads.seconds_left()
                write_variant(repository, name, served, BY_NAME[variant].change_for(TensorRt()))
                measure(name, variant=variant, repository=served, loads=loads, file=out / f"{name}.{variant}.json")
            except (ClientError, ExportError, DecodeError, OSError) as error:
                exit_codes.print_error(f"{name}, {variant}: {error}")
                code = exit_codes.EXIT_PROBLEM
    return code


@dataclass(frozen=True)
class Loads:
    """Loads on each server.

    Attributes:
        manifest: Recordings to send.
        concurrencies: Concurrent requests of the closed loops, one load each.
        seconds: Approximate length of each load.
        flags: More flags for bench.py.
        stop_at: End of the last load, by time.monotonic.
    """

    manifest: Path
    concurrencies: tuple[int, ...]
    seconds: float
    flags: tuple[str, ...]
    stop_at: float

    def seconds_left(self) -> float:
        """Seconds until `stop_at`.

        Raises:
            ClientError: No time is left.
        """
        remaining = self.stop_at - time.monotonic()
        if remaining <= 0:
            raise ClientError(NO_TIME)
        return remaining


def measure(name: str, *, variant: str, repository: Path, loads: Loads, file: Path) -> None:
    """Serve one model and measure the loads one after the other; `file` is rewritten after each.

    Raises:
        ClientError: The server does not start, a load has no results, or no time is left.
    """
    report: dict[str, Any] = {"name": name, "variant": variant, "loads": [], "skipped": []}
    started = time.perf_counter()
    with serving(repository, [EXPLICIT], START_SECONDS) as server, loaded(server.grpc, name):
        report["opened_seconds"] = time.perf_counter() - started
        metrics_url = f"http://{server.metrics}/metrics"
        bench = Bench(model=name, url=server.grpc, manifest=loads.manifest, metrics_url=metrics_url, flags=loads.flags)
        fresh = file.with_suffix(".fresh")
        # Warm-up: each new shape costs time on a GPU, and the first pass over the recordings has most of them.
        measure_load(bench, ["--concurrency", str(max(loads.concurrencies))], fresh, loads.seconds_left())
        for index, concurrency in enumerate(loads.concurrencies):
            flags = ["--concurrency", str(concurrency), "--duration", str(loads.seconds)]
            try:
                figures = measure_load(bench, flags, fresh, loads.seconds_left())
            except ClientError as error:
                report["skipped"] = [f"concurrency {skipped}: {error}" for skipped in loads.concurrencies[index:]]
                write_json(file, report)
                raise
            report["loads"] += figures["loads"]
            report |= {key: figures[key] for key in ("machine", "versions")}
            write_json(file, report)
            click.echo(f"{name} {variant} {_line(figures['loads'][0])}")


def measure_load(bench: Bench, flags: list[str], fresh: Path, seconds_left: float) -> dict[str, Any]:
    """Run bench.py for one load, and return its results.

    Raises:
        ClientError: bench.py has no results in time.
    """
    try:
        figures, _ = run_bench(bench, flags, fresh, timeout=seconds_left)
    except subprocess.TimeoutExpired:
        raise ClientError(NO_TIME) from None
    return figures


def _line(load: dict[str, Any]) -> str:
    steps = ", ".join(f"{step['model'].rpartition('_')[2]} {step['executing_ms']:.0f}" for step in load["steps"])
    p50 = load["latency_ms"]["p50"]
    latency = "no response" if p50 is None else f"p50 {p50:.0f} ms"
    return (
        f"concurrency {load['load']['concurrency']}: RTFx {load['rtfx']:.0f}, {latency}, "
        f"mean batch {load['mean_batch_size']}, failed {load['failed']}; ms executing: {steps}"
    )


if __name__ == "__main__":
    options.run(sweep)
