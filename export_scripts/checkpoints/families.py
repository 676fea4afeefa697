"""The kinds of recognizer: what each has behind its encoder, in NeMo and as stages.

docs/extending.md shows how to add one. NeMo and PyTorch are imported where they are used, so that a command that only
asks what can be exported does not wait for them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import onnx

from export_scripts.stages.ctc_decoder import ctc_decoder_graph
from export_scripts.stages.rnnt_decoder import rnnt_decoder_graph
from export_scripts.stages.text import Pieces
from nemo_triton.contract import ENCODED, LABELS, LOG_PROBS, Tensor

if TYPE_CHECKING:
    import torch

    from export_scripts.stages.encoder import EncoderOptions

TIE = 1e-3
"""A label that NeMo prefers by less than this is decided by float rounding, in NeMo too."""

Scores = np.ndarray
"""float32 [frames', width], what the encoder stage gives of one utterance."""


OF_EACH_CLASS = ("kind", "nemo_classes")
"""What a Decoder must say itself: a name that it inherited would be that of another kind."""
OF_EACH_STAGE = ("encoder_output", "encoder_length")
"""What it may inherit, with the encoder stage that it shares."""


class Decoder(ABC):
    """A kind of recognizer, for one NeMo model.

    Raises:
        TypeError: where a class leaves out what each kind must say, as soon as the class is written.
        ValueError: where a part of the model can't be exported.
    """

    kind: ClassVar[str]
    """Its short name, as ctc."""
    nemo_classes: ClassVar[tuple[str, ...]]
    """NeMo's classes of such models."""
    encoder_output: ClassVar[Tensor]
    """The encoder stage's output that is compared with NeMo's scores."""
    encoder_length: ClassVar[Tensor]
    """The output with its number of frames."""
    scores_are_served: ClassVar[bool] = False
    """Whether clients may ask for `encoder_output`, from an ensemble of its own."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        missing = [name for name in OF_EACH_CLASS if name not in vars(cls)]
        missing += [name for name in OF_EACH_STAGE if not hasattr(cls, name)]
        if missing:
            raise TypeError(f"{cls.__name__} does not set {', '.join(missing)}; see Decoder")

    def __init__(self, model: Any) -> None:
        self.model = model

    @staticmethod
    @abstractmethod
    def vocabulary(model: Any) -> list[str]:
        """The labels of a NeMo model, without the blank."""

    @staticmethod
    @abstractmethod
    def hypotheses(model: Any, encoded: torch.Tensor, length: torch.Tensor) -> list[Any]:
        """NeMo's greedy search on a batch of what `model.forward` gives; each result has a `text`."""

    @abstractmethod
    def encoder_graph(self, options: EncoderOptions) -> onnx.ModelProto:
        """The stage from features to `encoder_output`."""

    @abstractmethod
    def decoder_graph(self, pieces: Pieces) -> onnx.ModelProto:
        """The stage from the encoder's output to the transcript."""

    @abstractmethod
    def scores_of(self, encoded: torch.Tensor) -> torch.Tensor:
        """[B, frames', width] as `encoder_output`, of what `model.forward` gives first."""

    @abstractmethod
    def differs_by_a_tie(self, scores: Scores, tokens: np.ndarray, frames: np.ndarray, nemo: Scores) -> bool:
        """Whether a transcript differs from NeMo's only by choices closer than TIE.

        Args:
            scores: of the export
            tokens: [n] of the export
            frames: [n] where the tokens are spoken
            nemo: NeMo's scores
        """

    def nemo(self, features: torch.Tensor, frames: torch.Tensor) -> tuple[Scores, str]:
        """NeMo's scores and text of one utterance.

        Args:
            features: float32 [1, mels, frames]
            frames: int64 [1]
        """
        encoded, length, *_ = self.model.forward(processed_signal=features, processed_signal_length=frames)
        (hypothesis,) = self.hypotheses(self.model, encoded, length)
        return self.scores_of(encoded)[0, : int(length)].numpy(), hypothesis.text


class CtcDecoder(Decoder):
    """The best label of each frame; the scores are log-probs."""

    kind = "ctc"
    nemo_classes: ClassVar[tuple[str, ...]] = ("EncDecCTCModel", "EncDecCTCModelBPE")
    encoder_output = LOG_PROBS
    encoder_length = LABELS.length
    scores_are_served = True

    @staticmethod
    def vocabulary(model: Any) -> list[str]:
        return list(model.decoder.vocabulary)

    @staticmethod
    def hypotheses(model: Any, encoded: torch.Tensor, length: torch.Tensor) -> list[Any]:
        return list(model.decoding.ctc_decoder_predictions_tensor(encoded, decoder_lengths=length))

    def encoder_graph(self, options: EncoderOptions) -> onnx.ModelProto:
        from export_scripts.stages.encoder import CtcEncoder, ctc_encoder_graph

        return ctc_encoder_graph(CtcEncoder(self.model.encoder, self.model.decoder), options)

    def decoder_graph(self, pieces: Pieces) -> onnx.ModelProto:
        return ctc_decoder_graph(pieces)

    def scores_of(self, encoded: torch.Tensor) -> torch.Tensor:
        return encoded

    def tokens_of(self, labels: np.ndarray) -> np.ndarray:
        """The tokens [n] of the best labels [frames']."""
        begins = np.diff(labels, prepend=-1) != 0
        tokens: np.ndarray = labels[begins & (labels != self.model.decoding.blank_id)]
        return tokens

    def differs_by_a_tie(self, scores: Scores, tokens: np.ndarray, frames: np.ndarray, nemo: Scores) -> bool:
        ours, best = scores.argmax(axis=1), nemo.argmax(axis=1)
        if self.tokens_of(ours).tolist() != tokens.tolist():
            return False  # The scores say something else, so the decoder is at fault.
        flipped = np.flatnonzero(ours != best)
        margins = nemo[flipped, best[flipped]] - nemo[flipped, ours[flipped]]
        return len(flipped) > 0 and bool((margins < TIE).all())


class RnntDecoder(Decoder):
    """A prediction network and a joint; the scores are the joint's projection of the encoder's output."""

    kind = "rnnt"
    nemo_classes: ClassVar[tuple[str, ...]] = ("EncDecRNNTModel", "EncDecRNNTBPEModel")
    encoder_output = ENCODED
    encoder_length = ENCODED.length

    def __init__(self, model: Any) -> None:
        from export_scripts.checkpoints.rnnt_weights import read_rnnt_weights

        super().__init__(model)
        self.weights = read_rnnt_weights(model)

    @staticmethod
    def vocabulary(model: Any) -> list[str]:
        return list(model.joint.vocabulary)

    @staticmethod
    def hypotheses(model: Any, encoded: torch.Tensor, length: torch.Tensor) -> list[Any]:
        decoding = model.decoding
        return list(decoding.rnnt_decoder_predictions_tensor(encoder_output=encoded, encoded_lengths=length))

    def encoder_graph(self, options: EncoderOptions) -> onnx.ModelProto:
        from export_scripts.stages.encoder import RnntEncoder, rnnt_encoder_graph

        return rnnt_encoder_graph(RnntEncoder(self.model.encoder, self.model.joint.enc), options)

    def decoder_graph(self, pieces: Pieces) -> onnx.ModelProto:
        return rnnt_decoder_graph(self.weights, pieces)

    def scores_of(self, encoded: torch.Tensor) -> torch.Tensor:
        projected: torch.Tensor = self.model.joint.enc(encoded.transpose(1, 2))
        return projected

    def differs_by_a_tie(self, scores: Scores, tokens: np.ndarray, frames: np.ndarray, nemo: Scores) -> bool:
        """NeMo's greedy search is followed to the first decision that is not ours; later ones follow from it."""
        import torch

        decisions = dict(enumerate(zip(frames.tolist(), tokens.tolist(), strict=True)))
        decoder, joint, blank = self.model.decoder, self.model.joint, self.model.decoding.blank_id
        label, state, spoken = torch.tensor([[blank]]), decoder.initialize_state(torch.zeros(1, 1, 1)), 0
        with torch.no_grad():
            for frame, encoded in enumerate(torch.split(torch.from_numpy(nemo)[None], 1, dim=1)):
                for _ in range(self.weights.max_symbols):
                    predicted, after = decoder.predict(label, state, add_sos=False, batch_size=1)
                    log_probs = joint.joint_after_projection(encoded, joint.pred(predicted)).log_softmax(-1).flatten()
                    our_frame, ours = decisions.get(spoken, (None, blank))
                    ours = ours if our_frame == frame else blank
                    best = int(log_probs.argmax())
                    if best != ours:
                        return bool(log_probs[best] - log_probs[ours] < TIE)
                    if best == blank:
                        break
                    label, state, spoken = torch.tensor([[best]]), after, spoken + 1
        return False


DECODERS: tuple[type[Decoder], ...] = (CtcDecoder, RnntDecoder)
"""All kinds. A new one is a class and its name here."""


def decoder_class(nemo_class: str) -> type[Decoder] | None:
    """The kind of a NeMo class's models, or None if they can't be exported."""
    return next((decoder for decoder in DECODERS if nemo_class in decoder.nemo_classes), None)


def decoder_class_of(model: Any) -> type[Decoder]:
    """The kind of a NeMo model.

    Raises:
        ValueError: if there is none for its class.
    """
    decoder = decoder_class(type(model).__name__)
    if decoder is None:
        raise ValueError(f"is of {type(model).__name__}; can be exported: {', '.join(exported_classes())}")
    return decoder


def exported_classes() -> list[str]:
    """NeMo's classes that can be exported."""
    return [nemo_class for decoder in DECODERS for nemo_class in decoder.nemo_classes]
