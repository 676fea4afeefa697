"""The training script learns, stops and continues."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from locations import DEMO_MANIFEST, ROOT

ENCODER = """
model:
  sample_rate: 16000
  preprocessor:
    _target_: nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor
    features: 32
    window_size: 0.02
    window_stride: 0.01
    n_fft: 512
  spec_augment: {_target_: nemo.collections.asr.modules.SpectrogramAugmentation, freq_masks: 1, freq_width: 4}
  encoder:
    _target_: nemo.collections.asr.modules.ConvASREncoder
    feat_in: 32
    activation: relu
    conv_mask: true
    jasper:
      - {filters: 48, repeat: 1, kernel: [11], stride: [4], dilation: [1], dropout: 0.0, residual: false}
  optim: {lr: 0.1}
"""
CTC = (
    ENCODER
    + """
  labels: &labels [" ", a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, "y", z, "'"]
  decoder: {_target_: nemo.collections.asr.modules.ConvASRDecoder, feat_in: 48, num_classes: 28, vocabulary: *labels}
  decoding: {strategy: greedy_batch}
"""
)
TRANSDUCER = (
    ENCODER
    + """
  model_defaults: {enc_hidden: 48, pred_hidden: 16, joint_hidden: 16}
  tokenizer: {type: bpe, vocab_size: 36}
  decoder:
    _target_: nemo.collections.asr.modules.RNNTDecoder
    blank_as_pad: true
    prednet: {pred_hidden: 16, pred_rnn_layers: 1}
  joint:
    _target_: nemo.collections.asr.modules.RNNTJoint
    log_softmax: null
    jointnet: {joint_hidden: 16, activation: relu}
  decoding: {strategy: greedy_batch, greedy: {max_symbols: 10}}
  loss: {loss_name: default}
"""
)
HYBRID = (
    TRANSDUCER.replace("decoding: {", "decoding: {model_type: tdt, durations: [0, 1, 2], ")
    .replace("loss: {loss_name: default}", "loss: {loss_name: tdt, tdt_kwargs: {durations: [0, 1, 2], sigma: 0.05}}")
    .replace("    log_softmax: null\n", "    log_softmax: null\n    num_extra_outputs: 3\n")
    + """
  aux_ctc:
    ctc_loss_weight: 0.3
    decoder: {_target_: nemo.collections.asr.modules.ConvASRDecoder, feat_in: 48, num_classes: -1, vocabulary: []}
    decoding: {strategy: greedy_batch}
"""
)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A manifest of the first six demo commands, with absolute paths."""
    rows = [json.loads(line) for line in DEMO_MANIFEST.read_text().splitlines()[:6]]
    for row in rows:
        row["audio_filepath"] = str(DEMO_MANIFEST.parent / row["audio_filepath"])
    file = tmp_path / "manifest.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def train(settings: str, manifest: Path, out: Path, epochs: int, *more: str) -> subprocess.CompletedProcess[str]:
    config = manifest.with_name("tiny.yaml")
    config.write_text(settings)
    options = {"--config": config, "--train": manifest, "--validate": manifest, "--out": out, "--epochs": epochs}
    words = [str(word) for option in options.items() for word in option]
    command = [sys.executable, "training/train.py", *words, "--variants", "2"]
    command += ["--batch-seconds", "12", "--threads", "1", *more]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("settings", "heads"),
    [(CTC, ["CTC"]), (TRANSDUCER, ["RNNT"]), (HYBRID, ["TDT", "CTC"])],
    ids=["ctc", "transducer", "hybrid"],
)
def test_training_learns_saves_and_continues(settings: str, heads: list[str], manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.nemo"
    first = train(settings, manifest, out, epochs=20).stdout
    losses = [float(loss) for loss in re.findall(r"loss ([\d.]+)", first)]
    assert len(losses) == 20
    assert losses[-1] < 0.7 * losses[0]
    assert out.exists()
    assert re.findall(r"(\w+) WER [\d.]+", first) == 4 * heads
    second = train(settings, manifest, out, epochs=21).stdout
    assert "continuing after epoch 20" in second
    assert re.findall(r"epoch (\d+)  step", second) == ["21"]


def test_short_utterances_come_first(manifest: Path, tmp_path: Path) -> None:
    """Two of the six commands are shorter than 4.7 s: one batch. All six are three batches."""
    short = ("--short-epochs", "2", "--short-seconds", "4.7")
    output = train(CTC, manifest, tmp_path / "model.nemo", 3, *short).stdout
    assert re.findall(r"epoch (\d+)  step (\d+)", output) == [("1", "1"), ("2", "2"), ("3", "5")]


def test_no_utterance_is_short_enough(manifest: Path, tmp_path: Path) -> None:
    run = train(CTC, manifest, tmp_path / "model.nemo", 3, "--short-epochs", "2")
    assert run.returncode == 2
    assert "no utterance is at most 3 s long; raise --short-seconds" in run.stderr
