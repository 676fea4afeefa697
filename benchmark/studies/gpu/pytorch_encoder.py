"""Measure NeMo's encoders in PyTorch on batches of the lengths that benchmark.studies.gpu.stages has.

    python -m benchmark.studies.gpu.pytorch_encoder NAME... --out pytorch.json

NAME is an architecture of verification/full_size/architectures.py. Needs PyTorch and NeMo, but no
checkpoint: weights are as NeMo initialises them, and features are noise. The file is written again after each
measurement.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch

from benchmark.core.results_folder import write_json
from benchmark.studies.gpu import bare_cli, measure_options
from benchmark.studies.gpu.batches import batch_lengths
from benchmark.studies.gpu.machine_rates import device_name, finish, machine_rates
from benchmark.studies.gpu.measure_options import batch_options
from benchmark.studies.gpu.timing import NO_TIME, Limits, time_runs
from benchmark.studies.gpu.tuning_inputs import FRAME_RATE
from nemo_triton.errors import ClientError
from nemo_triton.terminal import exit_codes

AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@click.command(help=__doc__)
@click.argument("names", nargs=-1)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="JSON file to write.")
@batch_options("A longer run ends its measurement; larger batches in that precision are skipped.")
def main(
    *,
    names: tuple[str, ...],
    out: Path,
    sizes: tuple[int, ...],
    count: int,
    seconds: float,
    slowest: float,
    budget: float,
) -> int:
    limits = measure_options.limits(seconds=seconds, slowest=slowest, budget=budget)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    about = {"torch": torch.__version__, "device": device_name(device)}
    report: dict[str, Any] = {**about, "rates": machine_rates(device), "models": {}}
    write_json(out, report)
    plan = Plan(device, tuple(sorted(set(sizes))), count, limits)
    code = exit_codes.EXIT_OK
    for name in names:
        rows: dict[str, Any] = report["models"].setdefault(name, {})
        try:
            for precision, size, row in measure(name, plan):
                rows.setdefault(precision, {})[str(size)] = row
                write_json(out, report)
        # NeMo and CUDA raise whatever they like, and one model must not cost the others their figures.
        except Exception as error:
            rows["error"] = bare_cli.describe(error)
            exit_codes.print_error(f"{name}: {rows['error']}")
            code = exit_codes.EXIT_PROBLEM
        write_json(out, report)
    return code


@dataclass(frozen=True)
class Plan:
    """What is measured of each model.

    sizes: of batches, smallest first
    count: batches of each size
    """

    device: torch.device
    sizes: tuple[int, ...]
    count: int
    limits: Limits


def measure(name: str, plan: Plan) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Yields precision, batch size and Timing.row of each measurement, or {"skipped": why}. Raises ClientError."""
    if plan.limits.no_time_left():
        raise ClientError(NO_TIME)
    encoder = build_encoder(name).eval().to(plan.device)
    for precision, dtype in AUTOCAST.items():
        if plan.device.type == "cpu" and dtype is torch.float16:
            continue
        run = partial(run_encoder, encoder, dtype)
        # So that no first run loads libraries.
        run(_draw_features(encoder, [1.0], plan.device))
        why = ""
        for size in plan.sizes:
            if why or plan.limits.no_time_left():
                yield precision, size, {"skipped": why or NO_TIME}
                continue
            lengths = [batch_lengths(size, number) for number in range(plan.count)]
            feeds = [_draw_features(encoder, seconds, plan.device) for seconds in lengths]
            timing, _ = time_runs(run, feeds, [sum(seconds) for seconds in lengths], plan.limits)
            click.echo(f"{name} {precision} batch {size}: {timing.line()}")
            why = f"batch {size} was too slow" if timing.too_slow else ""
            yield precision, size, timing.row()


@torch.no_grad()
def run_encoder(encoder: Any, dtype: torch.dtype | None, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Run one padded batch to its end, with autocast to `dtype`.

    batch: features float32 [B, mels, frames] and their lengths int64 [B]
    """
    features, frames = batch
    with nullcontext() if dtype is None else torch.autocast(features.device.type, dtype):
        encoder(audio_signal=features, length=frames)
    finish(features.device)


def _draw_features(encoder: Any, seconds: Sequence[float], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch for `run_encoder` of these lengths in seconds."""
    frames = torch.tensor([round(length * FRAME_RATE) for length in seconds], device=device)
    return torch.randn(len(seconds), encoder._feat_in, int(frames.max()), device=device), frames


def build_encoder(name: str) -> Any:
    """The NeMo encoder of that architecture, as initialised. Raises ClientError for an unknown name."""
    from verification.full_size.architectures import ARCHITECTURES, LATER

    known = ARCHITECTURES | LATER
    if name not in known:
        raise ClientError(f"no such architecture; choose one of {', '.join(sorted(known))}")
    from nemo.collections.asr import modules

    config = dict(known[name].config["encoder"])
    kind = getattr(modules, config.pop("_target_").rpartition(".")[2])
    if "jasper" in config:
        from omegaconf import OmegaConf

        # NeMo reads the blocks' settings as attributes.
        config = dict(OmegaConf.create(config))
    return kind(**config)


if __name__ == "__main__":
    bare_cli.run(main)
