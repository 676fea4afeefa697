"""What a recognizer says of one utterance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, kw_only=True)
class Transcript:
    """The text of one utterance, its tokens and when they were spoken.

    Attributes:
        text: The transcript.
        tokens: int32 [n], the label ids of the text's tokens.
        token_times: float64 [n], seconds from the start of the audio to each token's encoder frame.
        log_probs: float32 [frames, labels], natural logarithms of each label's probability in each encoder frame;
            None unless the request asked for them.
        endpoint: The server that answered, as host:port.
        attempts: How many times the request was sent; more than 1 if servers failed meanwhile.
    """

    text: str
    tokens: NDArray[np.int32]
    token_times: NDArray[np.float64]
    log_probs: NDArray[np.float32] | None
    endpoint: str
    attempts: int = 1
