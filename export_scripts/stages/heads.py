"""Heads of the encoder stage: what each recognizer computes from the encoder's output, and gives to its decoder.

A hybrid checkpoint has two recognizers, which share the encoder: its stage has a head for each.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

import numpy as np
import torch

from export_scripts.operators.bucketing import side_by_side
from export_scripts.operators.builder import Graph
from export_scripts.operators.ragged import Ragged, give_length
from nemo_triton.contract import ENCODED, LABELS, LOG_PROBS


class Head(torch.nn.Module, ABC):
    """The layers of a recognizer behind the encoder."""

    @abstractmethod
    def forward(self, encoded: torch.Tensor) -> torch.Tensor:
        """Scores float32 [B, frames', width] from the encoder's output float32 [B, D, frames']."""

    @staticmethod
    @abstractmethod
    def give(g: Graph, scores: Ragged) -> None:
        """Add the outputs of the stage for the recognizer, from the scores of each item's valid frames."""


class CtcHead(Head):
    """NeMo's CTC decoder; the scores are log-probs.

    Outputs: LABELS int32 [B, frames'], the best label of each frame, as in NeMo; LABELS_LENGTH; LOG_PROBS float32
    [B, frames', labels], for the ensemble with log-probs.
    """

    def __init__(self, decoder: torch.nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, encoded: torch.Tensor) -> torch.Tensor:
        log_probs: torch.Tensor = self.decoder(encoder_output=encoded)
        return log_probs

    @staticmethod
    def give(g: Graph, scores: Ragged) -> None:
        best = scores.table.argmax(axis=1).astype(np.int32)
        g.give(LABELS, side_by_side(g, replace(scores, table=best, width=None)))
        give_length(g, LABELS, scores.length)
        g.give(LOG_PROBS, side_by_side(g, scores), labels=scores.width or 1)


class RnntHead(Head):
    """The joint's projection, which doesn't depend on decoded tokens.

    Outputs: ENCODED float32 [B, frames', joint size], ENCODED_LENGTH.
    """

    def __init__(self, projection: torch.nn.Module) -> None:
        super().__init__()
        self.projection = projection

    def forward(self, encoded: torch.Tensor) -> torch.Tensor:
        projected: torch.Tensor = self.projection(encoded.transpose(1, 2))
        return projected

    @staticmethod
    def give(g: Graph, scores: Ragged) -> None:
        g.give(ENCODED, side_by_side(g, scores), width=scores.width or 1)
        give_length(g, ENCODED, scores.length)
