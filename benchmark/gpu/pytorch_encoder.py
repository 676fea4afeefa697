"""NeMo's encoder modules in PyTorch on the batches of benchmark.gpu.stages: `python -m benchmark.gpu.pytorch_encoder`.

Needs PyTorch and NeMo's modules, but no checkpoint: weights are as initialised. Writes a JSON file after each model.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
import torch

from benchmark.gpu.mixed_speech import draw_lengths
from benchmark.gpu.pytorch import machine_rates

ROOT = Path(__file__).parent.parent.parent
FULL_SIZE = ROOT / "tests" / "full_size"
FRAME_RATE = 100
AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@click.command(help=__doc__)
@click.argument("names", nargs=-1)
@click.option("--out", required=True, type=click.Path(path_type=Path))
@click.option("--batch", "sizes", multiple=True, type=int, default=(1, 8, 32, 128), show_default=True)
@click.option("--batches", "count", default=4, show_default=True)
@click.option("--seconds", default=1.0, show_default=True, help="Of each measurement, about.")
@click.option("--budget", default=600.0, show_default=True)
def main(names: Sequence[str], out: Path, sizes: Sequence[int], count: int, seconds: float, budget: float) -> None:
    stop_at = time.monotonic() + budget
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    about = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    report: dict[str, Any] = {"torch": torch.__version__, "device": about, "rates": machine_rates(device), "models": {}}
    out.write_text(json.dumps(report, indent=1) + "\n")
    for name in names:
        try:
            report["models"][name] = _measure(name, device, sizes, count, seconds, stop_at)
        except Exception as error:  # one must not cost the others their figures
            report["models"][name] = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
            click.echo(f"{name}: {report['models'][name]['error']}")
        out.write_text(json.dumps(report, indent=1) + "\n")


@torch.no_grad()
def _measure(
    name: str, device: torch.device, sizes: Sequence[int], count: int, seconds: float, stop_at: float
) -> dict[str, Any]:
    encoder = build_encoder(name).eval().to(device)
    mels = encoder._feat_in
    result: dict[str, Any] = {}
    for precision, dtype in AUTOCAST.items():
        rows = result[precision] = {}
        if device.type == "cpu" and dtype is torch.float16:
            continue
        for size in sizes:
            if time.monotonic() > stop_at:
                return result
            lengths = [draw_lengths(size, seed=1000 * size + number) for number in range(count)]
            spent = [_time(encoder, mels, one, device, dtype, seconds / count) for one in lengths]
            audio = sum(map(sum, lengths))
            rows[size] = {
                "ms_per_batch": 1000 * statistics.mean(spent),
                "ms_by_batch": [round(1000 * one, 3) for one in spent],
                "rtfx": audio / sum(spent),
            }
        shown = ", ".join(f"batch {size} {row['ms_per_batch']:.1f} ms RTFx {row['rtfx']:.0f}" for size, row in rows.items())
        click.echo(f"{name} {precision}: {shown}")
    return result


def _time(
    encoder: Any, mels: int, lengths: Sequence[float], device: torch.device, dtype: torch.dtype | None, seconds: float
) -> float:
    """Median seconds of one batch, padded to its longest."""
    frames = torch.tensor([round(length * FRAME_RATE) for length in lengths], device=device)
    features = torch.randn(len(lengths), mels, int(frames.max()), device=device)
    spent: list[float] = []
    while len(spent) < 5 or sum(spent) < seconds:
        _finish(device)
        started = time.perf_counter()
        with nullcontext() if dtype is None else torch.autocast(device.type, dtype):
            encoder(audio_signal=features, length=frames)
        _finish(device)
        spent.append(time.perf_counter() - started)
        if len(spent) == 2:
            spent = spent[1:]  # the first one tunes itself to the shape
    return statistics.median(spent)


def build_encoder(name: str) -> Any:
    """The NeMo encoder of that architecture, as initialised."""
    sys.path.insert(0, str(FULL_SIZE))
    from architectures import ARCHITECTURES, LATER
    from nemo.collections.asr import modules

    config = dict((ARCHITECTURES | LATER)[name].config["encoder"])
    kind = getattr(modules, config.pop("_target_").rpartition(".")[2])
    if "jasper" in config:
        from omegaconf import OmegaConf

        config = dict(OmegaConf.create(config))
    return kind(**config)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
