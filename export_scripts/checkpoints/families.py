"""The two kinds of recognizer: what each has behind its encoder, in NeMo and as stages.

What a kind's encoder stage gives, and by which it is compared with NeMo, is its `scores`: log-probs of
a CTC model, the joint's projection of the encoding of an RNNT model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal

import numpy as np
import onnx
import torch

from export_scripts.checkpoints.rnnt_weights import read_transducer
from export_scripts.operators.tuning import CPU, Tuning
from export_scripts.stages.ctc_decoder import ctc_decoder_graph
from export_scripts.stages.encoder import (
    Conversion,
    CtcEncoder,
    RnntEncoder,
    ctc_encoder_graph,
    rnnt_encoder_graph,
    unchanged,
)
from export_scripts.stages.rnnt_decoder import rnnt_decoder_graph
from export_scripts.stages.text import Pieces

TIE = 1e-3
"""A label that NeMo prefers by less than this is decided by float rounding, in NeMo too."""

Scores = np.ndarray


class Decoder(ABC):
    """A kind of recognizer, for one NeMo model."""

    scores: str
    """The encoder stage's output that is compared with NeMo."""
    length: str
    """The output with its number of frames."""
    scores_are_asked_for: bool
    """Whether clients may want the scores."""

    def __init__(self, model: Any) -> None:
        self.model = model

    @abstractmethod
    def encoder_graph(
        self, mels: int, frame_rate: int, convert: Conversion = unchanged, tuning: Tuning = CPU
    ) -> onnx.ModelProto: ...

    @abstractmethod
    def decoder_graph(self, pieces: Pieces) -> onnx.ModelProto: ...

    @abstractmethod
    def nemo(self, features: torch.Tensor, frames: torch.Tensor) -> tuple[Scores, str]:
        """NeMo's scores [frames', width] and text of one utterance's features [1, mels, frames]."""

    @abstractmethod
    def differs_by_a_tie(self, scores: Scores, tokens: np.ndarray, frames: np.ndarray, nemo: Scores) -> bool:
        """Whether an utterance's tokens [n], found at `frames`, differ from NeMo's only by choices closer than TIE."""


class CtcDecoder(Decoder):
    """EncDecCTCModel and EncDecCTCModelBPE."""

    scores, length, scores_are_asked_for = "LOG_PROBS", "LABELS_LENGTH", True

    def encoder_graph(
        self, mels: int, frame_rate: int, convert: Conversion = unchanged, tuning: Tuning = CPU
    ) -> onnx.ModelProto:
        encoder = CtcEncoder(self.model.encoder, self.model.decoder)
        return ctc_encoder_graph(encoder, mels, frame_rate, convert, tuning)

    def decoder_graph(self, pieces: Pieces) -> onnx.ModelProto:
        return ctc_decoder_graph(pieces)

    def nemo(self, features: torch.Tensor, frames: torch.Tensor) -> tuple[Scores, str]:
        log_probs, length, _ = self.model.forward(processed_signal=features, processed_signal_length=frames)
        (found,) = self.model.decoding.ctc_decoder_predictions_tensor(log_probs, decoder_lengths=length)
        return log_probs[0, : int(length)].numpy(), found.text

    def differs_by_a_tie(self, scores: Scores, tokens: np.ndarray, frames: np.ndarray, nemo: Scores) -> bool:
        ours, best = scores.argmax(axis=1), nemo.argmax(axis=1)
        begins = np.diff(ours, prepend=-1) != 0
        if ours[begins & (ours != self.model.decoding.blank_id)].tolist() != tokens.tolist():
            return False  # not what the scores say: the decoder is at fault
        flipped = np.flatnonzero(ours != best)
        margins = nemo[flipped, best[flipped]] - nemo[flipped, ours[flipped]]
        return len(flipped) > 0 and bool((margins < TIE).all())


class RnntDecoder(Decoder):
    """EncDecRNNTModel and EncDecRNNTBPEModel."""

    scores, length, scores_are_asked_for = "ENCODED", "ENCODED_LENGTH", False

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.transducer = read_transducer(model)

    def encoder_graph(
        self, mels: int, frame_rate: int, convert: Conversion = unchanged, tuning: Tuning = CPU
    ) -> onnx.ModelProto:
        encoder = RnntEncoder(self.model.encoder, self.model.joint.enc)
        return rnnt_encoder_graph(encoder, mels, frame_rate, convert, tuning)

    def decoder_graph(self, pieces: Pieces) -> onnx.ModelProto:
        return rnnt_decoder_graph(self.transducer, pieces)

    def nemo(self, features: torch.Tensor, frames: torch.Tensor) -> tuple[Scores, str]:
        encoded, length = self.model.forward(processed_signal=features, processed_signal_length=frames)
        (found,) = self.model.decoding.rnnt_decoder_predictions_tensor(encoder_output=encoded, encoded_lengths=length)
        projected = self.model.joint.enc(encoded.transpose(1, 2))
        return projected[0, : int(length)].numpy(), found.text

    @torch.no_grad()
    def differs_by_a_tie(self, scores: Scores, tokens: np.ndarray, frames: np.ndarray, nemo: Scores) -> bool:
        """NeMo's greedy search is followed to the first decision that is not ours; later ones follow from it."""
        decisions = dict(enumerate(zip(frames.tolist(), tokens.tolist(), strict=True)))
        joint, blank = self.model.joint, self.model.decoding.blank_id
        label, state, made = torch.tensor([[blank]]), self.model.decoder.initialize_state(torch.zeros(1, 1, 1)), 0
        for frame, encoded in enumerate(torch.split(torch.from_numpy(nemo)[None], 1, dim=1)):
            for _ in range(self.transducer.max_symbols):
                predicted, after = self.model.decoder.predict(label, state, add_sos=False, batch_size=1)
                log_probs = joint.joint_after_projection(encoded, joint.pred(predicted)).log_softmax(-1).flatten()
                ours_at, ours = decisions.get(made, (None, blank))
                ours = ours if ours_at == frame else blank
                best = int(log_probs.argmax())
                if best != ours:
                    return bool(log_probs[best] - log_probs[ours] < TIE)
                if best == blank:
                    break
                label, state, made = torch.tensor([[best]]), after, made + 1
        return False


def make_decoder(kind: Literal["ctc", "rnnt"], model: Any) -> Decoder:
    """Raises ValueError where a model of that kind has a part that can't be exported."""
    return CtcDecoder(model) if kind == "ctc" else RnntDecoder(model)
