"""Labels, loss and text of the kinds of models that can be trained: CTC, transducers (RNNT and TDT) and hybrids."""

from __future__ import annotations

import copy
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from dataset import Batch
from nemo.collections.asr.models import EncDecCTCModel, EncDecHybridRNNTCTCBPEModel, EncDecRNNTBPEModel
from omegaconf import DictConfig, open_dict
from rnnt_loss import rnnt_loss
from tdt_loss import tdt_loss

CTC_WEIGHT = 0.3
"""Weight of the CTC loss, which helps the encoder of a transducer to find alignments."""


class Task(ABC):
    """A model to train.

    Attributes:
        model: NeMo's model.
        parts: All modules to train; the model is `parts.model`.
    """

    model: Any
    parts: torch.nn.ModuleDict

    @abstractmethod
    def labels_of(self, text: str) -> torch.Tensor:
        """Labels of a transcript, int64 [labels]."""

    @abstractmethod
    def loss(self, batch: Batch) -> torch.Tensor:
        """Scalar loss of a batch."""

    @abstractmethod
    def decode(self, encoded: torch.Tensor, lengths: torch.Tensor) -> dict[str, list[str]]:
        """NeMo's texts of the encoder's output [B, D, frames], by the name of the head that decodes them."""

    def encode(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        encoded, lengths = self.model.encoder(audio_signal=batch.features, length=batch.lengths)
        return encoded, lengths


class CtcTask(Task):
    """An EncDecCTCModel with the characters of its config."""

    def __init__(self, config: DictConfig) -> None:
        self.model = EncDecCTCModel(cfg=config)
        self.parts = torch.nn.ModuleDict({"model": self.model})
        self.label_ids = {label: number for number, label in enumerate(config.labels)}

    def labels_of(self, text: str) -> torch.Tensor:
        return torch.tensor([self.label_ids[character] for character in text])

    def loss(self, batch: Batch) -> torch.Tensor:
        encoded, lengths = self.encode(batch)
        return ctc_loss(self.model.decoder(encoder_output=encoded), batch, lengths)

    def decode(self, encoded: torch.Tensor, lengths: torch.Tensor) -> dict[str, list[str]]:
        log_probs = self.model.decoder(encoder_output=encoded)
        hypotheses = self.model.decoding.ctc_decoder_predictions_tensor(log_probs, lengths)
        return {"CTC": [hypothesis.text for hypothesis in hypotheses]}


class TransducerTask(Task):
    """An EncDecRNNTBPEModel, RNNT or TDT, with a CTC head on its encoder during training."""

    def __init__(self, config: DictConfig, texts: Sequence[str]) -> None:
        config = copy.deepcopy(config)
        config.tokenizer.dir = train_tokenizer(texts, config.tokenizer.vocab_size)
        self.model = self._build(config)
        with open_dict(self.model.cfg):
            # NeMo's transcribe() needs this setting in models with SentencePiece.
            self.model.cfg.validation_ds = {"use_start_end_token": False}
        self.blank = self.model.tokenizer.vocab_size
        self.tdt = config.loss.tdt_kwargs if config.loss.loss_name == "tdt" else None
        self.parts = torch.nn.ModuleDict({"model": self.model})
        self._add_ctc_head(config)

    def _build(self, config: DictConfig) -> Any:
        return EncDecRNNTBPEModel(cfg=config)

    def _add_ctc_head(self, config: DictConfig) -> None:
        self.ctc_weight = CTC_WEIGHT
        self.ctc_head = torch.nn.Conv1d(config.model_defaults.enc_hidden, self.blank + 1, kernel_size=1)
        self.parts["ctc_head"] = self.ctc_head

    def _ctc_log_probs(self, encoded: torch.Tensor) -> torch.Tensor:
        """Log-probs of the CTC head, float32 [B, frames, classes]."""
        log_probs: torch.Tensor = self.ctc_head(encoded).transpose(1, 2).log_softmax(dim=2)
        return log_probs

    def labels_of(self, text: str) -> torch.Tensor:
        return torch.tensor(self.model.tokenizer.text_to_ids(text))

    def loss(self, batch: Batch) -> torch.Tensor:
        encoded, lengths = self.encode(batch)
        transducer = self._transducer_loss(encoded, lengths, batch)
        ctc = ctc_loss(self._ctc_log_probs(encoded), batch, lengths)
        return (1 - self.ctc_weight) * transducer + self.ctc_weight * ctc

    def _transducer_loss(self, encoded: torch.Tensor, lengths: torch.Tensor, batch: Batch) -> torch.Tensor:
        rows = torch.split(batch.labels, batch.label_lengths.tolist())
        labels = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
        predicted, _, _ = self.model.decoder(targets=labels, target_length=batch.label_lengths)
        logits = self.model.joint.joint(encoded.transpose(1, 2), predicted.transpose(1, 2))
        if self.tdt is None:
            return rnnt_loss(
                logits.log_softmax(dim=3),
                labels,
                frames=lengths,
                label_lengths=batch.label_lengths,
                blank=self.blank,
            )
        return tdt_loss(
            logits,
            labels,
            frames=lengths,
            label_lengths=batch.label_lengths,
            durations=list(self.tdt.durations),
            sigma=self.tdt.sigma,
        )

    def decode(self, encoded: torch.Tensor, lengths: torch.Tensor) -> dict[str, list[str]]:
        decoding = self.model.decoding
        hypotheses = decoding.rnnt_decoder_predictions_tensor(encoder_output=encoded, encoded_lengths=lengths)
        return {"RNNT" if self.tdt is None else "TDT": [hypothesis.text for hypothesis in hypotheses]}


class HybridTask(TransducerTask):
    """An EncDecHybridRNNTCTCBPEModel: a transducer with a CTC head that is part of the saved model."""

    def _build(self, config: DictConfig) -> Any:
        return EncDecHybridRNNTCTCBPEModel(cfg=config)

    def _add_ctc_head(self, config: DictConfig) -> None:
        self.ctc_weight = config.aux_ctc.ctc_loss_weight

    def _ctc_log_probs(self, encoded: torch.Tensor) -> torch.Tensor:
        log_probs: torch.Tensor = self.model.ctc_decoder(encoder_output=encoded)
        return log_probs

    def decode(self, encoded: torch.Tensor, lengths: torch.Tensor) -> dict[str, list[str]]:
        log_probs = self._ctc_log_probs(encoded)
        hypotheses = self.model.ctc_decoding.ctc_decoder_predictions_tensor(log_probs, lengths)
        return super().decode(encoded, lengths) | {"CTC": [hypothesis.text for hypothesis in hypotheses]}


def make_task(config: DictConfig, texts: Sequence[str]) -> Task:
    """The task for a model's config.

    Args:
        config: Configuration of NeMo; a transducer has a joint, a hybrid has a joint and `aux_ctc`.
        texts: Texts on which the SentencePiece model of a transducer or hybrid is trained.
    """
    if "joint" not in config:
        return CtcTask(config)
    return HybridTask(config, texts) if "aux_ctc" in config else TransducerTask(config, texts)


def ctc_loss(log_probs: torch.Tensor, batch: Batch, lengths: torch.Tensor) -> torch.Tensor:
    """Mean CTC loss over utterances, per label.

    Args:
        log_probs: float32 [B, frames, labels]; the last label is the blank.
        batch: Batch with the labels.
        lengths: int64 [B], encoder frames of each item.
    """
    blank = log_probs.shape[2] - 1
    return torch.nn.functional.ctc_loss(
        log_probs.transpose(0, 1), batch.labels, lengths, batch.label_lengths, blank=blank, zero_infinity=True
    )


def train_tokenizer(texts: Sequence[str], vocabulary_size: int) -> str:
    """Train a SentencePiece model; returns its folder, for NeMo's tokenizer config."""
    folder = Path(tempfile.mkdtemp(prefix="tokenizer-"))
    (folder / "texts").write_text("\n".join(texts))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "texts"),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=vocabulary_size,
        model_type="bpe",
        bos_id=-1,
        eos_id=-1,
        pad_id=-1,
        minloglevel=2,
    )
    pieces = (folder / "tokenizer.vocab").read_text().splitlines()[1:]
    (folder / "vocab.txt").write_text("".join(line.split("\t")[0] + "\n" for line in pieces))
    return str(folder)
