"""Convert a checkpoint for onnx-asr and sherpa-onnx, with NeMo's own export() and the same weights.

    python -m benchmark.baselines.baseline_models CHECKPOINT --out FOLDER

Needs NeMo (.venv/export). Writes FOLDER/onnx_asr and FOLDER/sherpa_onnx. If a package can't run the model, its folder
holds the reason in not_run.txt.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import onnx
import torch

from benchmark.baselines.baseline import REASON
from export_scripts.checkpoints.checkpoint import Checkpoint, open_checkpoint
from export_scripts.errors import ExportError
from nemo_triton.terminal import options

BLANK = "<blk>"
WORD_START = "\u2581"

WINDOW, HOP, N_FFT = 400, 160, 512
"""Samples at 16 kHz. Both packages use these fixed values for NeMo's models."""


@dataclass(frozen=True)
class Form:
    """A package's format, and the NeMo models that it supports.

    Attributes:
        write: Function that writes the package's folder from a checkpoint and the folder of NeMo's export.
        kinds: Supported values of `Decoder.kind`.
        mels: Supported numbers of mel bands; any if empty.
    """

    write: Callable[[Checkpoint, Path, Path], None]
    kinds: tuple[str, ...] = ("ctc", "rnnt", "tdt")
    mels: tuple[int, ...] = ()


@click.command(help=__doc__)
@click.argument("source", metavar="CHECKPOINT")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder to write. An existing one is replaced."
)
def main(source: str, out: Path) -> None:
    logging.disable(logging.ERROR)
    try:
        checkpoint = open_checkpoint(source)
    except ExportError as error:
        raise click.ClickException(str(error)) from error
    shutil.rmtree(out, ignore_errors=True)
    for name, reason in write_baseline_models(checkpoint, out).items():
        click.echo(f"{out / name}: {reason or 'written'}")


def write_baseline_models(checkpoint: Checkpoint, out: Path) -> dict[str, str]:
    """Write one folder per package. The model can't be used afterwards, since NeMo's export() changes it.

    Returns:
        By package, the reason why it can't run the model; "" if it can.
    """
    reasons = {name: reason_unsupported(checkpoint, package) for name, package in FORMS.items()}
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder)
        if not all(reasons.values()):
            checkpoint.model.export(str(exported / "model.onnx"))
        for name, reason in reasons.items():
            (out / name).mkdir(parents=True)
            if reason:
                (out / name / REASON).write_text(reason + "\n", encoding="utf-8")
            else:
                FORMS[name].write(checkpoint, exported, out / name)
    return reasons


def reason_unsupported(checkpoint: Checkpoint, package: Form) -> str:
    """The reason why a package can't run the model; "" if it can."""
    front_end, kind = checkpoint.front_end, checkpoint.decoder.kind
    if kind not in package.kinds:
        return f"it decodes {', '.join(package.kinds)} models, this one is {kind}"
    if (len(front_end.window), front_end.hop_length, front_end.n_fft) != (WINDOW, HOP, N_FFT):
        ours, theirs = _milliseconds(len(front_end.window), front_end.hop_length), _milliseconds(WINDOW, HOP)
        return f"its front end has {theirs}, the model's {ours}"
    if package.mels and len(front_end.mel) not in package.mels:
        return f"its front end has {' or '.join(map(str, package.mels))} mel bands, the model's {len(front_end.mel)}"
    if front_end.normalization != "per_feature":
        return f"its front end normalizes per feature, the model's {front_end.normalization}"
    return ""


def _milliseconds(window: int, hop: int) -> str:
    return f"windows of {window / 16:g} ms every {hop / 16:g} ms"


def _write_onnx_asr(checkpoint: Checkpoint, exported: Path, folder: Path) -> None:
    for graph in exported.iterdir():
        shutil.copy(graph, folder)
    _write_tokens(checkpoint, folder / "vocab.txt")
    kind = checkpoint.decoder.kind
    settings = {
        "model_type": f"nemo-conformer-{kind}",
        "features_size": len(checkpoint.front_end.mel),
        "subsampling_factor": _subsampling_factor(checkpoint.model),
    }
    if kind != "ctc":
        settings["max_tokens_per_step"] = _max_tokens_per_frame(checkpoint.model)
    (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n")


def _write_sherpa_onnx(checkpoint: Checkpoint, exported: Path, folder: Path) -> None:
    model: Any = checkpoint.model
    properties = {
        "vocab_size": len(_vocabulary(checkpoint)),
        "normalize_type": "per_feature",
        "subsampling_factor": _subsampling_factor(model),
        "model_type": checkpoint.model_class,
    }
    if checkpoint.decoder.kind == "tdt":
        # sherpa-onnx looks for these letters in the address of the model.
        properties["url"] = "tdt"
    if checkpoint.decoder.kind == "ctc":
        _add_properties(exported / "model.onnx", properties, folder / "model.onnx")
    else:
        properties |= {"pred_rnn_layers": model.decoder.pred_rnn_layers, "pred_hidden": model.decoder.pred_hidden}
        _add_properties(exported / "encoder-model.onnx", properties, folder / "encoder.onnx")
        model.decoder.export(str(folder / "decoder.onnx"))
        model.joint.export(str(folder / "joiner.onnx"))
    _write_tokens(checkpoint, folder / "tokens.txt")
    (folder / "config.json").write_text(json.dumps({"feature_dim": len(checkpoint.front_end.mel)}) + "\n")


def _add_properties(graph: Path, properties: dict[str, Any], out: Path) -> None:
    """Write a graph with properties. Weights that NeMo's export() put into files of their own are copied, too."""
    model = onnx.load(graph, load_external_data=False)
    onnx.helper.set_model_props(model, {name: str(value) for name, value in properties.items()})
    onnx.save(model, out)
    for weights in graph.parent.iterdir():
        if weights.suffix != graph.suffix:
            shutil.copy(weights, out.parent)


def _write_tokens(checkpoint: Checkpoint, file: Path) -> None:
    tokens = [*_vocabulary(checkpoint), BLANK]
    # Character models have a space where others have WORD_START; both packages split the line at spaces.
    lines = [f"{token.replace(' ', WORD_START)} {number}\n" for number, token in enumerate(tokens)]
    file.write_text("".join(lines), encoding="utf-8")


def _vocabulary(checkpoint: Checkpoint) -> list[str]:
    """Tokens without the blank."""
    return checkpoint.decoder.vocabulary(checkpoint.model)


def _max_tokens_per_frame(model: Any) -> int | None:
    """NeMo's limit; None means unlimited, also for onnx-asr. sherpa-onnx always uses 10, NeMo's default."""
    limit: int | None = model.decoding.decoding.max_symbols
    return limit


@torch.no_grad()
def _subsampling_factor(model: Any) -> int:
    """Feature frames per encoder frame."""
    frames = 1024
    features = torch.zeros(1, model.encoder.input_example()[0].shape[1], frames)
    _, length = model.encoder.forward(audio_signal=features, length=torch.tensor([frames]))
    return round(frames / int(length))


FORMS: dict[str, Form] = {
    "onnx_asr": Form(_write_onnx_asr, mels=(80, 128)),
    "sherpa_onnx": Form(_write_sherpa_onnx),
}
"""Formats by adapter name, which is also the name of the folder."""


if __name__ == "__main__":
    options.run(main)
