"""Write a full-size .nemo checkpoint with random weights.

    python -m verification.full_size.make_checkpoint stt_en_citrinet_256 --out build/full_size/stt_en_citrinet_256.nemo

The weights are scaled so that texts follow the audio. An existing file is not changed. Needs NeMo.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click
import torch

from export_scripts.checkpoints.checkpoint import RANDOM_WEIGHTS
from nemo_triton.demo_speech import MANIFEST as DEMO_MANIFEST
from nemo_triton.terminal import options
from verification.full_size.architectures import KNOWN
from verification.full_size.model_parts import Architecture
from verification.full_size.speech import read_recordings

SEED = 0
DEMO_MANIFEST_RECORDINGS = 11


@click.command(help=__doc__)
@click.argument("name", metavar="NAME", type=click.Choice(list(KNOWN)))
@click.option("--out", type=click.Path(path_type=Path), required=True, help=".nemo file to write.")
@click.option(
    "--nemo-version",
    help="NeMo release to record in the checkpoint; it decides the front end.  [default: the architecture's]",
)
@click.option(
    "--audio",
    type=click.Path(exists=True, path_type=Path),
    default=DEMO_MANIFEST,
    help="Manifest of recordings that the weights are scaled with.  [default: the demo's recordings]",
)
@click.option(
    "--seeded",
    is_flag=True,
    help="Generate the encoder's large weights from their names. benchmark.studies.gpu.pack then leaves them out, and "
    "benchmark.studies.gpu.unpack generates them again on another machine.",
)
def main(*, name: str, out: Path, nemo_version: str | None, audio: Path, seeded: bool) -> None:
    if out.exists():
        click.echo(f"{out}: exists")
        return
    from nemo.utils import logging as nemo_logging

    from verification.full_size.random_weights import draw_weights, settle

    nemo_logging.setLevel("ERROR")
    architecture = KNOWN[name]
    recordings = read_recordings(audio)[:DEMO_MANIFEST_RECORDINGS]
    torch.manual_seed(SEED)
    with tempfile.TemporaryDirectory() as folder:
        model = build(architecture, nemo_version or architecture.nemo_version, Path(folder))
        if seeded:
            draw_weights(model.encoder)
        settle(model, [recording.samples for recording in recordings])
        save(model, out)
    click.echo(f"{out}: {architecture.parameters:,} parameters, {out.stat().st_size / 1e6:.1f} MB")


def build(architecture: Architecture, nemo_version: str, folder: Path) -> Any:
    """Build the NeMo model with its initial weights.

    Args:
        architecture: Architecture of the published model.
        nemo_version: NeMo release to record in the checkpoint.
        folder: Folder for the tokenizer's files, which are needed until the model is saved.

    Raises:
        ClickException: The number of parameters is not that of the published model.
    """
    from nemo.collections.asr import models
    from omegaconf import OmegaConf

    config = architecture.config | {"nemo_version": nemo_version, RANDOM_WEIGHTS: True}
    if architecture.pieces:
        from verification.full_size.tokenizer import train_tokenizer

        train_tokenizer(architecture.pieces, folder, punctuated=architecture.punctuated)
        config["tokenizer"] = {"dir": str(folder), "type": "bpe"}
    model = getattr(models, architecture.nemo_class)(cfg=OmegaConf.create(config))
    parameters = (count(model), count(model.encoder))
    if parameters != (architecture.parameters, architecture.encoder_parameters):
        expected = f"{architecture.parameters:,} ({architecture.encoder_parameters:,} in the encoder)"
        raise click.ClickException(
            f"built {parameters[0]:,} parameters ({parameters[1]:,} in the encoder), expected {expected}"
        )
    return model


def count(module: torch.nn.Module) -> int:
    """Number of parameters of a module, frozen ones included."""
    return sum(parameter.numel() for parameter in module.parameters())


def save(model: Any, out: Path) -> None:
    """Write the .nemo file atomically."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}")
    model.save_to(str(partial))
    partial.rename(out)


if __name__ == "__main__":
    options.run(main)
