"""The contract between exported models, the server and its clients: tensors, model names, model parameters.

Stages, configurations, verification, client and tests take every name from here. docs/protocol.md tells the same to
people who write clients in other languages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Literal

SAMPLE_RATE = 16000
"""Of AUDIO, in Hz: samples per second on the wire."""
INT16_FULL_SCALE = 32768
"""AUDIO's samples divided by it are within [-1, 1), as NeMo and most others take audio."""

TensorType = Literal["INT16", "INT32", "FP32", "BYTES"]
"""Triton's names; BYTES is UTF-8 text."""


@dataclass(frozen=True)
class Tensor:
    """An input or output of a served model.

    name: in configurations, graphs and requests
    dtype: Triton's data type
    dims: of one request, without the batch dimension: a size, or the name of one that varies
    """

    name: str
    dtype: TensorType
    dims: tuple[int | str, ...]

    @property
    def length(self) -> Tensor:
        """How many steps of this tensor are valid, in each request; the rest is padding."""
        return Tensor(f"{self.name}_LENGTH", "INT32", (1,))

    @property
    def shape(self) -> Tensor:
        """The shape of each request's part of this tensor, which Triton gives to stages that batch ragged inputs."""
        return Tensor(f"{self.name}_SHAPE", "INT32", (len(self.dims),))


# Client -> recognizer.
AUDIO = Tensor("AUDIO", "INT16", ("samples",))
# Recognizer -> client.
TEXT = Tensor("TEXT", "BYTES", (1,))
TOKENS = Tensor("TOKENS", "INT32", ("tokens",))
FRAMES = Tensor("FRAMES", "INT32", ("tokens",))
"""The encoder frame of each token."""
LABELS = Tensor("LABELS", "INT32", ("encoded",))
"""The best label of each encoder frame of a CTC model; clients get its length."""
LOG_PROBS = Tensor("LOG_PROBS", "FP32", ("encoded", "labels"))
TRANSCRIPT = (TEXT, TOKENS, FRAMES, TOKENS.length)
"""What every recognizer gives."""
# Stage -> stage.
SAMPLES = Tensor("SAMPLES", "INT16", ("at_least_one",))
FEATURES = Tensor("FEATURES", "FP32", ("frames", "mels"))
ENCODED = Tensor("ENCODED", "FP32", ("encoded", "width"))
"""The joint's projection of the encoder's output, of an RNNT model."""
PIECES = Tensor("PIECES", "INT32", ("tokens",))
"""A copy of TOKENS, from a decoder on a GPU to the text stage."""


class Part(Enum):
    """What a repository holds of a recognizer NAME beside the recognizer itself, by the end of its name."""

    ENCODER = "_encoder"
    DECODER = "_decoder"
    TEXT = "_text"
    LOG_PROBS = "_log_probs"
    """The recognizer again, with log-probs: an ensemble computes and carries every output that it has."""

    def of(self, recognizer: str) -> str:
        """The part's model name."""
        return f"{recognizer}{self.value}"


REQUIRED_PARAMETERS = ("sample_rate", "frame_seconds")
"""Of a Description: what a recognizer's configuration must say."""
RANDOM_WEIGHTS = "random"
"""Description.weights of a checkpoint that was never trained."""
AUDIO_STAGE = "audio"
FEATURES_STAGE = "mel_{mels}_{milliseconds}ms_{edges}_{digest}"
"""The stages that recognizers share."""
TARGET_SUFFIXES = {"cpu": "", "gpu": "_gpu"}
"""What the name of a stage for features ends in where it is tuned for a target."""


class ParameterError(ValueError):
    """A parameter of a configuration that should be a number and is not."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"parameter {name} is {text!r}, not a number")
        self.name = name
        self.text = text


@dataclass(frozen=True)
class Description:
    """What a recognizer's configuration says of it, as `parameters`. Empty or zero: it does not say.

    frame_seconds: from one encoder frame to the next
    parity_id: names the comparison with NeMo that this very export passed
    parameters: weights of the model
    checkpoint_bytes: size of the .nemo file
    weights: "trained" or "random"
    words_compared, words_changed: NeMo's words of the probes, and edits that make of them what this export gives
    """

    sample_rate: int = 0
    frame_seconds: float = 0.0
    nemo_class: str = ""
    nemo_version: str = ""
    parameters: int = 0
    checkpoint_bytes: int = 0
    weights: str = ""
    precision: str = ""
    target: str = ""
    parity_id: str = ""
    words_compared: int = 0
    words_changed: int = 0

    def as_parameters(self) -> dict[str, str]:
        """The configuration's parameters, without those that say nothing."""
        return {
            name: f"{value:g}" if isinstance(value, float) else str(value)
            for name, value in asdict(self).items()
            if value
        }

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> Description:
        """Read a configuration's parameters; others than these are passed over.

        Raises:
            ParameterError: one that should be a number is not.
        """

        def number(name: str) -> float:
            text = parameters.get(name, "0")
            try:
                return float(text)
            except ValueError:
                raise ParameterError(name, text) from None

        def integer(name: str) -> int:
            value = number(name)
            if not value.is_integer():
                raise ParameterError(name, parameters[name])
            return int(value)

        return cls(
            sample_rate=integer("sample_rate"),
            frame_seconds=number("frame_seconds"),
            nemo_class=parameters.get("nemo_class", ""),
            nemo_version=parameters.get("nemo_version", ""),
            parameters=_count(parameters.get("parameters", "")),
            checkpoint_bytes=_count(parameters.get("checkpoint_bytes", "")),
            weights=parameters.get("weights", ""),
            precision=parameters.get("precision", ""),
            target=parameters.get("target", ""),
            parity_id=parameters.get("parity_id", ""),
            words_compared=int(number("words_compared")),
            words_changed=int(number("words_changed")),
        )


def _count(text: str) -> int:
    """A number that only informs: a model that says something else is served all the same."""
    return int(text) if text.isdecimal() else 0
