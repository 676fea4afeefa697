"""The kinds of recognizer: what follows the encoder, in NeMo and as stages.

docs/extending.md shows how to add one. NeMo and PyTorch are imported inside functions, so that commands that only need
the names of classes start fast.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import onnx

from export_scripts.stages.ctc_decoder import ctc_decoder_graph
from export_scripts.stages.rnnt_decoder import rnnt_decoder_graph
from export_scripts.stages.text import Pieces
from nemo_triton.contract import DURATIONS, ENCODED, LABELS, LOG_PROBS, Tensor

if TYPE_CHECKING:
    import torch

    from export_scripts.stages.heads import Head

TIE = 1e-3
"""Near tie: if NeMo prefers a label by less than this (log-prob), float rounding may decide, in NeMo too."""

Scores = np.ndarray
"""float32 [frames', width]: the encoder stage's output for one utterance."""


HYBRIDS = ("EncDecHybridRNNTCTCModel", "EncDecHybridRNNTCTCBPEModel")
"""NeMo's classes with an encoder for two heads: an RNNT's or a TDT's, and a CTC's."""
OF_EACH_CLASS = ("kind", "nemo_classes")
"""Attributes that each Decoder must set itself: inherited ones would be those of another kind."""
OF_EACH_STAGE = ("encoder_output", "encoder_length")
"""Attributes that a Decoder may inherit, together with the encoder stage."""


class Decoder(ABC):
    """A kind of recognizer, for one NeMo model.

    Raises:
        TypeError: A subclass doesn't set an attribute of OF_EACH_CLASS or OF_EACH_STAGE. Raised when the class is
            defined.
        ValueError: A part of the model can't be exported.
    """

    kind: str
    """Short name, such as ctc."""
    suffix: ClassVar[str] = ""
    """What the recognizer's name has behind the checkpoint's: a hybrid checkpoint has a recognizer for each head."""
    nemo_classes: ClassVar[tuple[str, ...]]
    """NeMo's classes with this kind of head."""
    module: ClassVar[str] = "nemo.collections.asr.models"
    """Module or package with these classes. NeMo imports it to open a checkpoint, so others are refused."""
    encoder_output: ClassVar[Tensor]
    """The output of the encoder stage that is compared with NeMo's scores."""
    encoder_length: ClassVar[Tensor]
    """The output with the number of frames of `encoder_output`."""
    scores_are_served: ClassVar[bool] = False
    """Whether clients can request `encoder_output`, from another ensemble."""
    further_outputs: tuple[Tensor, ...] = ()
    """Outputs of the decoder stage for clients, besides TRANSCRIPT."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        missing = [name for name in OF_EACH_CLASS if name not in vars(cls)]
        missing += [name for name in OF_EACH_STAGE if not hasattr(cls, name)]
        if missing:
            raise TypeError(f"{cls.__name__} does not set {', '.join(missing)}; see Decoder")

    def __init__(self, model: Any) -> None:
        self.model = model

    @classmethod
    @abstractmethod
    def vocabulary(cls, model: Any) -> list[str]:
        """The labels of a NeMo model, without the blank."""

    @staticmethod
    def decoding(model: Any) -> Any:
        """NeMo's object that searches with this head and writes the text."""
        return model.decoding

    @staticmethod
    @abstractmethod
    def hypotheses(model: Any, encoded: torch.Tensor, length: torch.Tensor) -> list[Any]:
        """NeMo's greedy search on a batch of outputs of `model.forward`; each result has a `text`."""

    @abstractmethod
    def head(self) -> Head:
        """What the encoder stage computes `encoder_output` with."""

    @abstractmethod
    def decoder_graph(self, pieces: Pieces) -> onnx.ModelProto:
        """The stage that computes the transcript from `encoder_output`."""

    @abstractmethod
    def scores_of(self, encoded: torch.Tensor) -> torch.Tensor:
        """Scores float32 [B, frames', width], like `encoder_output`, from the first output of `model.forward`."""

    @abstractmethod
    def differs_by_a_tie(self, scores: Scores, tokens: np.ndarray, frames: np.ndarray, nemo: Scores) -> bool:
        """Whether a transcript differs from NeMo's only by near ties, see TIE.

        Args:
            scores: Scores of the export.
            tokens: int32 [n], tokens of the export.
            frames: int32 [n], encoder frame of each token.
            nemo: Scores of NeMo.
        """

    def nemo(self, features: torch.Tensor, frames: torch.Tensor) -> tuple[Scores, str]:
        """NeMo's scores and text of one utterance.

        Args:
            features: float32 [1, mels, frames].
            frames: int64 [1].
        """
        encoded, length, *_ = self.model.forward(processed_signal=features, processed_signal_length=frames)
        (hypothesis,) = self.hypotheses(self.model, encoded, length)
        return self.scores_of(encoded)[0, : int(length)].numpy(), hypothesis.text


class CtcDecoder(Decoder):
    """CTC: the best label of each frame. The scores are log-probs."""

    kind = "ctc"
    nemo_classes: ClassVar[tuple[str, ...]] = ("EncDecCTCModel", "EncDecCTCModelBPE")
    encoder_output = LOG_PROBS
    encoder_length = LABELS.length
    scores_are_served = True

    @staticmethod
    def layers(model: Any) -> Any:
        """NeMo's module that computes the log-probs."""
        return model.decoder

    @classmethod
    def vocabulary(cls, model: Any) -> list[str]:
        return list(cls.layers(model).vocabulary)

    @staticmethod
    def hypotheses(model: Any, encoded: torch.Tensor, length: torch.Tensor) -> list[Any]:
        return list(model.decoding.ctc_decoder_predictions_tensor(encoded, decoder_lengths=length))

    def head(self) -> Head:
        from export_scripts.stages.heads import CtcHead

        return CtcHead(self.layers(self.model))

    def decoder_graph(self, pieces: Pieces) -> onnx.ModelProto:
        return ctc_decoder_graph(pieces)

    def scores_of(self, encoded: torch.Tensor) -> torch.Tensor:
        return encoded

    def tokens_of(self, labels: np.ndarray) -> np.ndarray:
        """Tokens int [n] of the best labels int [frames']."""
        begins = np.diff(labels, prepend=-1) != 0
        tokens: np.ndarray = labels[begins & (labels != self.decoding(self.model).blank_id)]
        return tokens

    def differs_by_a_tie(self, scores: Scores, tokens: np.ndarray, frames: np.ndarray, nemo: Scores) -> bool:
        exported, best = scores.argmax(axis=1), nemo.argmax(axis=1)
        if self.tokens_of(exported).tolist() != tokens.tolist():
            return False  # The tokens don't follow from the scores, so the decoder is wrong.
        flipped = np.flatnonzero(exported != best)
        margins = nemo[flipped, best[flipped]] - nemo[flipped, exported[flipped]]
        return len(flipped) > 0 and bool((margins < TIE).all())


class HybridCtcDecoder(CtcDecoder):
    """The CTC head of a hybrid model, whose main head is an RNNT's or a TDT's."""

    kind = "ctc"
    suffix = "_ctc"
    nemo_classes = HYBRIDS

    @staticmethod
    def layers(model: Any) -> Any:
        return model.ctc_decoder

    @staticmethod
    def decoding(model: Any) -> Any:
        return model.ctc_decoding

    @staticmethod
    def hypotheses(model: Any, encoded: torch.Tensor, length: torch.Tensor) -> list[Any]:
        log_probs = model.ctc_decoder(encoder_output=encoded)
        return list(model.ctc_decoding.ctc_decoder_predictions_tensor(log_probs, decoder_lengths=length))

    def scores_of(self, encoded: torch.Tensor) -> torch.Tensor:
        log_probs: torch.Tensor = self.model.ctc_decoder(encoder_output=encoded)
        return log_probs


class RnntDecoder(Decoder):
    """RNNT or TDT: a prediction network and a joint. The scores are the joint's projection of the encoder's output."""

    kind = "rnnt"
    nemo_classes: ClassVar[tuple[str, ...]] = ("EncDecRNNTModel", "EncDecRNNTBPEModel", *HYBRIDS)
    encoder_output = ENCODED
    encoder_length = ENCODED.length

    def __init__(self, model: Any) -> None:
        from export_scripts.checkpoints.rnnt_weights import read_rnnt_weights, settle_search

        super().__init__(model)
        settle_search(model)
        self.weights = read_rnnt_weights(model)
        if self.weights.durations:
            self.kind = "tdt"
            self.further_outputs = (DURATIONS,)

    @classmethod
    def vocabulary(cls, model: Any) -> list[str]:
        return list(model.joint.vocabulary)

    @staticmethod
    def hypotheses(model: Any, encoded: torch.Tensor, length: torch.Tensor) -> list[Any]:
        decoding = model.decoding
        return list(decoding.rnnt_decoder_predictions_tensor(encoder_output=encoded, encoded_lengths=length))

    def head(self) -> Head:
        from export_scripts.stages.heads import RnntHead

        return RnntHead(self.model.joint.enc)

    def decoder_graph(self, pieces: Pieces) -> onnx.ModelProto:
        return rnnt_decoder_graph(self.weights, pieces)

    def scores_of(self, encoded: torch.Tensor) -> torch.Tensor:
        projected: torch.Tensor = self.model.joint.enc(encoded.transpose(1, 2))
        return projected

    def differs_by_a_tie(self, scores: Scores, tokens: np.ndarray, frames: np.ndarray, nemo: Scores) -> bool:
        """Whether NeMo's search finds this transcript by decisions that are each best or a near tie, not all best."""
        from export_scripts.checkpoints.near_ties import is_found_by_ties

        transcript = list(zip(frames.tolist(), tokens.tolist(), strict=True))
        tied: bool = is_found_by_ties(self.model, nemo, transcript, limit=self.weights.max_symbols, tie=TIE)
        return tied


DECODERS: tuple[type[Decoder], ...] = (CtcDecoder, RnntDecoder, HybridCtcDecoder)
"""All kinds. To add one, write a class and add its name here. A model's main head comes before its others."""

NO_EXPORT = {
    "EncDecMultiTask": (
        "a multi-task model such as Canary",
        "choose a CTC or RNNT checkpoint",
    ),
}
"""NeMo classes that users often try and that can't be exported, by the beginning of their names: a description and what
to do."""


def decoder_classes(nemo_class: str) -> tuple[type[Decoder], ...]:
    """The kinds of a NeMo class's heads, the main one first; none if it can't be exported."""
    return tuple(decoder for decoder in DECODERS if nemo_class in decoder.nemo_classes)


def decoder_class_of(model: Any) -> type[Decoder]:
    """The kind of a NeMo model's main head.

    Raises:
        ValueError: The model's class can't be exported.
    """
    kinds = decoder_classes(type(model).__name__)
    if not kinds:
        raise ValueError(refusal(type(model).__name__))
    return kinds[0]


def refusal(nemo_class: str) -> str:
    """Return the reason why a NeMo class can't be exported, and what to do."""
    if not nemo_class:
        return "its config names no class (target); save it again with NeMo's save_to"
    for beginning, (kind, advice) in NO_EXPORT.items():
        if nemo_class.startswith(beginning):
            return f"{nemo_class}, {kind}, can't be exported; {advice}"
    return f"{nemo_class} can't be exported; choose a checkpoint of {', '.join(exported_classes())}"


def exported_classes() -> list[str]:
    """NeMo's classes that can be exported."""
    return list(dict.fromkeys(nemo_class for decoder in DECODERS for nemo_class in decoder.nemo_classes))
