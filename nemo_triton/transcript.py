"""The result of one recognition."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, kw_only=True)
class Transcript:
    """The text of one recording, with its tokens and their times.

    Attributes:
        text: The transcript.
        tokens: int32 [n], IDs of the text's tokens in the checkpoint's vocabulary.
        token_times: float64 [n], seconds from the start of the audio to each token's encoder frame.
        log_probs: float32 [frames, labels], natural logarithm of each label's probability in each encoder frame. The
            last label is the blank. None unless requested.
        endpoint: Address as host:port of the server that sent the response.
        attempts: Number of times that the request was sent; more than 1 after retries.
        refusals: Number of these attempts that a full queue refused.
    """

    text: str
    tokens: NDArray[np.int32]
    token_times: NDArray[np.float64]
    log_probs: NDArray[np.float32] | None
    endpoint: str
    attempts: int = 1
    refusals: int = 0
