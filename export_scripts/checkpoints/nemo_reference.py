"""NeMo's own results for an utterance, with which an export is compared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import MethodType
from typing import Any

import numpy as np
import torch

from export_scripts.checkpoints.checkpoint import Checkpoint
from export_scripts.stages.features import Edges
from nemo_triton.contract import INT16_FULL_SCALE


@dataclass(frozen=True)
class Reference:
    """NeMo's results for one unbatched utterance.

    Attributes:
        features: float32 [frames, mels].
        scores: float32 [frames', width], see Decoder.encoder_output.
        text: Transcript of NeMo's greedy search.
    """

    features: np.ndarray
    scores: np.ndarray
    text: str


def nemo_reference(checkpoint: Checkpoint, samples: np.ndarray) -> Reference:
    """Run NeMo's front end, encoder and greedy decoding on one utterance.

    Args:
        checkpoint: The model and its front end.
        samples: int16 [samples], 16 kHz.
    """
    model: Any = checkpoint.model
    signal = torch.from_numpy(samples.astype(np.float32) / INT16_FULL_SCALE)[None]
    length = torch.tensor([len(samples)])
    with torch.no_grad(), older_front_end(model.preprocessor.featurizer, checkpoint.front_end.edges):
        features, frames = model.preprocessor(input_signal=signal, length=length)
        scores, text = checkpoint.decoder.nemo(features, frames)
    return Reference(features[0, :, : int(frames)].T.numpy(), scores, text)


@contextmanager
def older_front_end(featurizer: Any, edges: Edges) -> Iterator[None]:
    """Let NeMo's FilterbankFeatures compute as before 2.5 if `edges` is "reflect", for unbatched utterances.

    NeMo 2.5 and later reads every checkpoint with its new front end. Older checkpoints were trained with the old one,
    which reflects the signal at its ends and has one frame more.

    Source: nemo/collections/asr/parts/preprocessing/features.py of NeMo 2.4.
    """
    if edges == "zero":
        yield
        return

    def stft(self: Any, signal: torch.Tensor) -> torch.Tensor:
        return torch.stft(
            signal,
            n_fft=self.n_fft,
            hop_length=self.hop_length,
            win_length=self.win_length,
            center=True,
            window=self.window.to(dtype=torch.float),
            return_complex=True,
            pad_mode="reflect",
        )

    def get_seq_len(self: Any, samples: torch.Tensor) -> torch.Tensor:
        return torch.div(samples, self.hop_length, rounding_mode="floor").to(torch.long) + 1

    featurizer.stft = MethodType(stft, featurizer)
    featurizer.get_seq_len = MethodType(get_seq_len, featurizer)
    try:
        yield
    finally:
        del featurizer.stft, featurizer.get_seq_len
