"""Measure NeMo's encoders in PyTorch, on batches with the same lengths as in benchmark.studies.gpu.stages.

    python -m benchmark.studies.gpu.pytorch_encoder NAME... --out pytorch.json

NAME is an architecture of verification/full_size/architectures.py. Needs PyTorch and NeMo, but no checkpoint: weights
are NeMo's initial ones, and features are noise. The file is rewritten after each measurement.
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
from benchmark.studies.gpu.cuts import FRAME_RATE
from benchmark.studies.gpu.machine_rates import device_name, finish, machine_rates
from benchmark.studies.gpu.measure_options import batch_options
from benchmark.studies.gpu.timing import NO_TIME, Limits, time_runs
from nemo_triton.errors import ClientError
from nemo_triton.terminal import exit_codes

AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@click.command(help=__doc__)
@click.argument("names", metavar="NAME...", nargs=-1)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="JSON file to write.")
@batch_options("Longest run. A longer one ends its measurement, and larger batches in that precision are skipped.")
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
        # NeMo and CUDA raise exceptions of any class. One failing model must not stop the others.
        except Exception as error:
            rows["error"] = bare_cli.describe(error)
            exit_codes.print_error(f"{name}: {rows['error']}")
            code = exit_codes.EXIT_PROBLEM
        write_json(out, report)
    return code


@dataclass(frozen=True)
class Plan:
    """Measurements of each model.

    Attributes:
        device: Device of the encoder.
        sizes: Batch sizes, smallest first.
        count: Batches of each size.
        limits: Time limits of each measurement.
    """

    device: torch.device
    sizes: tuple[int, ...]
    count: int
    limits: Limits


def measure(name: str, plan: Plan) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Measure one architecture.

    Yields:
        Precision, batch size, and Timing.row of each measurement or {"skipped": reason}.

    Raises:
        ClientError: The architecture is unknown or no time is left.
    """
    if plan.limits.no_time_left():
        raise ClientError(NO_TIME)
    encoder = build_encoder(name).eval().to(plan.device)
    for precision, dtype in AUTOCAST.items():
        if plan.device.type == "cpu" and dtype is torch.float16:
            continue
        run = partial(run_encoder, encoder, dtype)
        # Warm-up, so that the first measured run loads no libraries.
        run(_draw_features(encoder, [1.0], plan.device))
        skip_reason = ""
        for size in plan.sizes:
            if skip_reason or plan.limits.no_time_left():
                yield precision, size, {"skipped": skip_reason or NO_TIME}
                continue
            lengths = [batch_lengths(size, number) for number in range(plan.count)]
            feeds = [_draw_features(encoder, seconds, plan.device) for seconds in lengths]
            timing, _ = time_runs(run, feeds, [sum(seconds) for seconds in lengths], plan.limits)
            click.echo(f"{name} {precision} batch {size}: {timing.line()}")
            skip_reason = f"batch {size} was too slow" if timing.too_slow else ""
            yield precision, size, timing.row()


@torch.no_grad()
def run_encoder(encoder: Any, dtype: torch.dtype | None, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Run one padded batch and wait for its end.

    Args:
        encoder: NeMo's encoder.
        dtype: Type of autocast; None for float32.
        batch: Features float32 [B, mels, frames] and their lengths int64 [B].
    """
    features, frames = batch
    with nullcontext() if dtype is None else torch.autocast(features.device.type, dtype):
        encoder(audio_signal=features, length=frames)
    finish(features.device)


def _draw_features(encoder: Any, seconds: Sequence[float], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a batch of noise with these lengths in seconds, for `run_encoder`."""
    frames = torch.tensor([round(length * FRAME_RATE) for length in seconds], device=device)
    return torch.randn(len(seconds), encoder._feat_in, int(frames.max()), device=device), frames


def build_encoder(name: str) -> Any:
    """Build the NeMo encoder of an architecture, with its initial weights.

    Raises:
        ClientError: No architecture has this name.
    """
    from verification.full_size.architectures import KNOWN

    if name not in KNOWN:
        raise ClientError(f"no such architecture; choose from: {', '.join(sorted(KNOWN))}")
    from nemo.collections.asr import modules

    config = dict(KNOWN[name].config["encoder"])
    kind = getattr(modules, config.pop("_target_").rpartition(".")[2])
    if "jasper" in config:
        from omegaconf import OmegaConf

        # NeMo reads the blocks' settings as attributes.
        config = dict(OmegaConf.create(config))
    return kind(**config)


if __name__ == "__main__":
    bare_cli.run(main)
