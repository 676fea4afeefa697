"""Write a .nemo checkpoint of a recognizer at its full size, with random weights that say something.

    python tests/full_size/make_checkpoint.py stt_en_citrinet_256 --out build/full_size/stt_en_citrinet_256.nemo

A checkpoint that is there already is left as it is.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click
import torch
from architectures import ARCHITECTURES, LATER
from model_parts import Architecture
from speech import read_recordings

from export_scripts.checkpoint import RANDOM_WEIGHTS

SEED = 0
CALIBRATION = Path(__file__).parent.parent.parent / "demo" / "commands" / "manifest.jsonl"
CALIBRATION_RECORDINGS = 11


@click.command(help=__doc__)
@click.argument("name", type=click.Choice([*ARCHITECTURES, *LATER]))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The .nemo file to write.")
@click.option(
    "--nemo-version", help="The release that the checkpoint says wrote it; the architecture's own by default."
)
@click.option(
    "--audio",
    type=click.Path(exists=True, path_type=Path),
    default=CALIBRATION,
    help="Manifest of speech to settle the weights with; the demo's commands by default.",
)
@click.option(
    "--seeded",
    is_flag=True,
    help="Draw the encoder's large weights from their names, so that another machine can make them again "
    "(benchmark.gpu.pack) instead of carrying them.",
)
def main(name: str, out: Path, nemo_version: str | None, audio: Path, seeded: bool) -> None:
    if out.exists():
        click.echo(f"{out}: is there already")
        return
    from nemo.utils import logging as nemo_logging
    from random_weights import draw_weights, settle

    nemo_logging.setLevel("ERROR")
    architecture = (ARCHITECTURES | LATER)[name]
    recordings = read_recordings(audio)[:CALIBRATION_RECORDINGS]
    torch.manual_seed(SEED)
    with tempfile.TemporaryDirectory() as folder:
        model = build(architecture, nemo_version or architecture.nemo_version, Path(folder))
        if seeded:
            draw_weights(model.encoder)
        settle(model, [recording.samples for recording in recordings])
        save(model, out)
    click.echo(f"{out}: {architecture.parameters:,} parameters, {out.stat().st_size / 1e6:.1f} MB")


def build(architecture: Architecture, nemo_version: str, folder: Path) -> Any:
    """The NeMo model as initialised; its tokenizer's files are in `folder` and are needed until it is saved.

    Raises ClickException where it has not the number of parameters that the published model has.
    """
    from nemo.collections.asr import models
    from omegaconf import OmegaConf

    config = architecture.config | {"nemo_version": nemo_version, RANDOM_WEIGHTS: True}
    if architecture.pieces:
        from tokenizer import train_tokenizer

        train_tokenizer(architecture.pieces, folder)
        config["tokenizer"] = {"dir": str(folder), "type": "bpe"}
    model = getattr(models, architecture.nemo_class)(cfg=OmegaConf.create(config))
    found = (count(model), count(model.encoder))
    if found != (architecture.parameters, architecture.encoder_parameters):
        expected = f"{architecture.parameters:,} ({architecture.encoder_parameters:,} in the encoder)"
        raise click.ClickException(f"built {found[0]:,} parameters ({found[1]:,} in the encoder), expected {expected}")
    return model


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def save(model: Any, out: Path) -> None:
    """All of the file or nothing, whatever interrupts."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}")
    model.save_to(str(partial))
    partial.rename(out)


if __name__ == "__main__":
    main()
