"""Train a small NeMo recognizer on any manifest; a CPU is enough.

    python training/train.py --config training/coffee_ctc.yaml --train a.jsonl --train b.jsonl \
        --validate c.jsonl --out model.nemo

The config is NeMo's: a CTC model with characters; an RNNT or TDT model (one with a joint) with SentencePiece; or a
hybrid (one with a joint and aux_ctc), whose two heads are trained together. Features are computed once, at several
speeds and noise levels, and kept in memory. SpecAugment, encoder, decoder and decoding are NeMo's modules. The saved
weights are a moving average over the updates. If a training is interrupted, start it again: it continues from the
.state file next to --out.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import compress
from pathlib import Path

import click
import jiwer
import numpy as np
import torch
from dataset import Batch, Example, Utterance, batches, features_of, perturb, read_manifest
from omegaconf import DictConfig, OmegaConf
from rich.progress import track
from tasks import Task, make_task

from nemo_triton.contract import SAMPLE_RATE
from nemo_triton.terminal import options

WARMUP_STEPS = 300
"""Updates until the highest learning rate, if the config's optim.sched doesn't say."""
LOWEST_RATE = 0.005
"""The last learning rate, as a fraction of the highest."""
AVERAGE_DECAY = 0.997
EPOCHS_BETWEEN_CHECKPOINTS = 5


class Trainer:
    """A model, its optimizer, the average of its weights, and the progress of the training."""

    def __init__(self, task: Task, out: Path, *, optim: DictConfig, epochs: int, minutes: float) -> None:
        self.task, self.learning_rate = task, float(optim.lr)
        self.warmup_steps = int(OmegaConf.select(optim, "sched.warmup_steps", default=WARMUP_STEPS))
        self.optimizer = torch.optim.AdamW(task.parts.parameters(), betas=(0.9, 0.98), weight_decay=1e-3)
        self.average = {name: value.detach().clone() for name, value in task.parts.state_dict().items()}
        self.epochs, self.minutes, self.out = epochs, minutes, out
        self.epoch, self.step, self.seconds = 0, 0, 0.0

    @property
    def state_file(self) -> Path:
        return self.out.with_suffix(".state")

    @property
    def progress(self) -> float:
        """From 0 to 1, when all epochs are done or the time is up."""
        return min(1.0, max(self.epoch / self.epochs, self.seconds / (60 * self.minutes)))

    def examples(self, utterances: list[Utterance], variants: int, rng: random.Random) -> list[list[Example]]:
        """Features of each utterance and of its perturbed copies."""
        self.task.model.eval()
        result = []
        for utterance in track(utterances, "features"):
            labels = self.task.labels_of(utterance.text)
            copies = [utterance.samples, *(perturb(utterance.samples, rng) for _ in range(variants - 1))]
            result.append([Example(features_of(self.task.model, copy), labels) for copy in copies])
        return result

    def train_epoch(self, examples: Sequence[Sequence[Example]], batch_seconds: float, seed: int) -> float:
        """Train on one copy of each utterance; returns the mean loss."""
        started, rng = time.perf_counter(), random.Random(seed * 1000 + self.epoch)
        self.task.parts.train()
        chosen = [rng.choice(copies) for copies in examples]
        losses = [self._train_batch(batch) for batch in batches(chosen, batch_seconds, rng)]
        self.epoch += 1
        self.seconds += time.perf_counter() - started
        return float(np.mean(losses))

    def _train_batch(self, batch: Batch) -> float:
        cosine = 0.5 * (1 + math.cos(math.pi * self.progress))
        warmth = min(1.0, (self.step + 1) / self.warmup_steps)
        self.optimizer.param_groups[0]["lr"] = self.learning_rate * warmth * max(LOWEST_RATE, cosine)
        features = self.task.model.spec_augmentation(input_spec=batch.features, length=batch.lengths)
        loss = self.task.loss(replace(batch, features=features))
        self.optimizer.zero_grad()
        torch.autograd.backward([loss])
        torch.nn.utils.clip_grad_norm_(self.task.parts.parameters(), 5.0)
        self.optimizer.step()
        self._update_average()
        self.step += 1
        return float(loss)

    def _update_average(self) -> None:
        decay = min(AVERAGE_DECAY, (1 + self.step) / (10 + self.step))
        for name, value in self.task.parts.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    def save(self, validation: list[Utterance]) -> dict[str, float]:
        """Save the averaged model and the state to continue from; returns the word error rate of each head."""
        weights = {name: value.clone() for name, value in self.task.parts.state_dict().items()}
        self.task.parts.load_state_dict(self.average)
        rates = self._word_error_rates(validation)
        self.task.model.save_to(str(self.out))
        self.task.parts.load_state_dict(weights)
        state = {"parts": weights, "optimizer": self.optimizer.state_dict(), "average": self.average}
        partial = self.state_file.with_suffix(".partial")
        torch.save({**state, "epoch": self.epoch, "step": self.step, "seconds": self.seconds}, partial)
        partial.replace(self.state_file)
        return rates

    def resume(self) -> None:
        """Continue from the saved state of an earlier training."""
        state = torch.load(self.state_file, weights_only=True)
        self.task.parts.load_state_dict(state["parts"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = state["average"]
        self.epoch, self.step, self.seconds = state["epoch"], state["step"], state["seconds"]

    @torch.no_grad()
    def _word_error_rates(self, utterances: list[Utterance]) -> dict[str, float]:
        self.task.parts.eval()
        hypotheses: dict[str, list[str]] = {}
        for utterance in utterances:
            signal = features_of(self.task.model, utterance.samples).float()[None]
            length = torch.tensor([signal.shape[2]])
            encoded, encoded_length = self.task.model.encoder(audio_signal=signal, length=length)
            for head, texts in self.task.decode(encoded, encoded_length).items():
                hypotheses.setdefault(head, []).extend(texts)
        references = [utterance.text for utterance in utterances]
        return {head: float(jiwer.wer(references, texts)) for head, texts in hypotheses.items()}


@click.command(help=__doc__)
@click.option(
    "--config", type=click.Path(exists=True, path_type=Path), required=True, help="NeMo's config of the model."
)
@click.option(
    "--train",
    "manifests",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    required=True,
    help="Manifest to train on; repeat it for more.",
)
@click.option(
    "--validate",
    "validation",
    type=click.Path(exists=True, path_type=Path),
    required=True,
    help="Manifest to measure WER on.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help=".nemo file to write.")
@click.option("--epochs", default=80, show_default=True, help="Passes over the training data.")
@click.option("--minutes", default=math.inf, help="Stop after this time even if --epochs aren't done.")
@click.option(
    "--variants", default=5, show_default=True, help="Perturbed copies of each utterance; an epoch uses one of them."
)
@click.option(
    "--short-epochs",
    default=0,
    show_default=True,
    help="First epochs, on short utterances only. Encoders with attention learn little without them.",
)
@click.option(
    "--short-seconds", default=3.0, show_default=True, help="Longest utterance of the --short-epochs, in seconds."
)
@click.option(
    "--batch-seconds", default=110.0, show_default=True, help="Most padded audio per batch. Less saves memory."
)
@click.option("--threads", default=2, show_default=True, help="CPU threads.")
@click.option("--seed", default=0, show_default=True, help="Seed of weights and perturbations.")
def main(
    config: Path,
    manifests: tuple[Path, ...],
    validation: Path,
    out: Path,
    epochs: int,
    minutes: float,
    variants: int,
    short_epochs: int,
    short_seconds: float,
    batch_seconds: float,
    threads: int,
    seed: int,
) -> None:
    logging.disable(logging.ERROR)
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    utterances = [utterance for path in manifests for utterance in read_manifest(path)]
    short = [len(utterance.samples) <= short_seconds * SAMPLE_RATE for utterance in utterances]
    if short_epochs and not any(short):
        raise click.UsageError(f"no utterance is at most {short_seconds:g} s long; raise --short-seconds")
    settings = OmegaConf.load(config).model
    task = make_task(settings, [utterance.text for utterance in utterances])
    click.echo(f"{task.model.num_weights:,} parameters")
    trainer = Trainer(task, out, optim=settings.optim, epochs=epochs, minutes=minutes)
    examples = trainer.examples(utterances, variants, random.Random(seed))
    held_out = read_manifest(validation)
    if trainer.state_file.exists():
        trainer.resume()
        click.echo(f"continuing after epoch {trainer.epoch}")
    while trainer.progress < 1:
        chosen = list(compress(examples, short)) if trainer.epoch < short_epochs else examples
        loss = trainer.train_epoch(chosen, batch_seconds, seed)
        line = f"epoch {trainer.epoch}  step {trainer.step}  loss {loss:.3f}"
        if trainer.epoch % EPOCHS_BETWEEN_CHECKPOINTS == 0 or trainer.progress >= 1:
            line += "".join(f"  {head} WER {rate:.4f}" for head, rate in trainer.save(held_out).items())
        click.echo(line)


if __name__ == "__main__":
    options.run(main)
