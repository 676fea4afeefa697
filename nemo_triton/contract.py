"""The contract between exported models, the server and its clients: tensors, model names, model parameters.

The export, the configurations, the client and the tests import every name from here. docs/protocol.md describes the
same contract for clients in other languages; a test keeps the two equal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Literal

SAMPLE_RATE = 16000
"""Samples per second of AUDIO."""
INT16_FULL_SCALE = 32768
"""Divides int16 samples into the range [-1, 1) that NeMo expects."""

TensorType = Literal["INT16", "INT32", "FP32", "BYTES"]
"""Triton's names of data types; BYTES is UTF-8 text."""


@dataclass(frozen=True)
class Tensor:
    """An input or output of a served model.

    Attributes:
        name: The tensor's name in configurations, graphs and requests.
        dtype: Triton's data type.
        dims: Sizes without the batch dimension; a string names a size that varies.
    """

    name: str
    dtype: TensorType
    dims: tuple[int | str, ...]

    @property
    def length(self) -> Tensor:
        """The tensor with the number of valid steps per request; the remaining steps are padding."""
        return Tensor(f"{self.name}_LENGTH", "INT32", (1,))

    @property
    def shape(self) -> Tensor:
        """The tensor with each request's shape, which Triton adds to the inputs of a ragged batch."""
        return Tensor(f"{self.name}_SHAPE", "INT32", (len(self.dims),))


# Client -> recognizer.
AUDIO = Tensor("AUDIO", "INT16", ("samples",))
AUDIO_FLOAT = Tensor(AUDIO.name, "FP32", AUDIO.dims)
"""The input of NAME_float: samples with a full scale of 1.0, which may exceed it."""
# Recognizer -> client.
TEXT = Tensor("TEXT", "BYTES", (1,))
TOKENS = Tensor("TOKENS", "INT32", ("tokens",))
FRAMES = Tensor("FRAMES", "INT32", ("tokens",))
"""The encoder frame of each token."""
DURATIONS = Tensor("DURATIONS", "INT32", ("tokens",))
"""The encoder frames that each token lasts, as a TDT model predicts."""
LABELS = Tensor("LABELS", "INT32", ("encoded",))
"""The best label of each encoder frame of a CTC model. Clients receive only its length."""
LOG_PROBS = Tensor("LOG_PROBS", "FP32", ("encoded", "labels"))
TRANSCRIPT = (TEXT, TOKENS, FRAMES, TOKENS.length)
"""The outputs of every recognizer."""
# Stage -> stage.
SAMPLES = Tensor("SAMPLES", "INT16", ("at_least_one",))
SAMPLES_FLOAT = Tensor(SAMPLES.name, "FP32", SAMPLES.dims)
FEATURES = Tensor("FEATURES", "FP32", ("frames", "mels"))
ENCODED = Tensor("ENCODED", "FP32", ("encoded", "width"))
"""Encoder output of an RNNT model, projected by the joint."""
PIECES = Tensor("PIECES", "INT32", ("tokens",))
"""A copy of TOKENS, from a decoder on a GPU to the text stage."""


@dataclass(frozen=True)
class AudioFormat:
    """A type of samples that recognizers take. Each has its own first two stages.

    Attributes:
        suffix: Suffix of the names of these stages.
        audio: Input of the first stage.
        samples: Input of the second stage.
    """

    suffix: str
    audio: Tensor
    samples: Tensor


INT16_AUDIO = AudioFormat("", AUDIO, SAMPLES)
"""For 16-bit recordings: half the data of FLOAT_AUDIO."""
FLOAT_AUDIO = AudioFormat("_float", AUDIO_FLOAT, SAMPLES_FLOAT)
"""For recordings that 16 bits would change: float and 24-bit files, other sample rates, lossy codecs."""
AUDIO_FORMATS = (INT16_AUDIO, FLOAT_AUDIO)


class Part(Enum):
    """The models that belong to a recognizer NAME: each is named NAME plus a suffix."""

    ENCODER = "_encoder"
    DECODER = "_decoder"
    TEXT = "_text"
    LOG_PROBS = "_log_probs"
    """The same recognizer with log-probs. It is separate because Triton computes all outputs of an ensemble."""
    FLOAT = "_float"
    """The same recognizer for float samples. It is separate because an ensemble's input has one type."""
    FLOAT_LOG_PROBS = "_float_log_probs"

    def of(self, recognizer: str) -> str:
        """Return the model name of this part of a recognizer."""
        return f"{recognizer}{self.value}"


FURTHER_ENSEMBLES = (Part.LOG_PROBS, Part.FLOAT, Part.FLOAT_LOG_PROBS)
"""The ensembles besides NAME that clients can call, as far as an export has them."""

REQUIRED_PARAMETERS = ("sample_rate", "frame_seconds")
"""Fields of Description that every recognizer's configuration must have."""
RANDOM_WEIGHTS = "random"
"""Value of Description.weights for a checkpoint that was never trained."""
AUDIO_STAGE = "audio"
FEATURES_STAGE = "mel_{mels}_{milliseconds}ms_{edges}_{digest}"
"""The stages that recognizers share, for 16-bit samples. AUDIO_STAGE has the limit MAX_AUDIO_SECONDS."""
TARGET_SUFFIXES = {"cpu": "", "gpu": "_gpu"}
"""Suffix of a feature stage's name, by target."""

MAX_AUDIO_SECONDS = 1200
"""Longest audio by default; models that need much memory get less."""


def audio_stage(max_seconds: int, audio_format: AudioFormat = INT16_AUDIO) -> str:
    """Return the name of the stage that takes audio of at most `max_seconds` seconds."""
    limit = "" if max_seconds == MAX_AUDIO_SECONDS else f"_{max_seconds}s"
    return AUDIO_STAGE + limit + audio_format.suffix


def is_audio_stage(model: str) -> bool:
    """Return whether a model's name is one of `audio_stage`."""
    suffixes = "|".join(audio_format.suffix for audio_format in AUDIO_FORMATS)
    return re.fullmatch(rf"{AUDIO_STAGE}(_\d+s)?({suffixes})", model) is not None


TOO_LONG = "audio is longer than"
NOT_FINITE = "audio has NaN, infinite or huge samples"
TOO_MANY_TOKENS = "tokens in one frame"
"""Parts of the errors by which a model refuses a request. Triton gives them the status of a failed server."""


def too_long(max_seconds: int) -> str:
    """Return the error for longer audio, in the server and in clients."""
    return f"{TOO_LONG} {max_seconds} seconds"


class ParameterError(ValueError):
    """A parameter of a configuration is not a number."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"parameter {name} is {text!r}, not a number")
        self.name = name
        self.text = text


@dataclass(frozen=True)
class Description:
    """The `parameters` in a recognizer's configuration. A field is empty or zero if its parameter is missing.

    Attributes:
        sample_rate: Samples per second of AUDIO.
        frame_seconds: Seconds from one encoder frame to the next.
        max_audio_seconds: Longest accepted audio.
        memory_bytes: Memory of a server with only this model for 16 concurrent requests of the longest audio, /dev/shm
            included.
        shared_memory_bytes: Part of it in /dev/shm.
        nemo_class: NeMo class of the checkpoint.
        nemo_version: NeMo version that wrote the checkpoint.
        parameters: Number of weights.
        checkpoint_bytes: Size of the .nemo file.
        weights: "trained" or "random".
        precision: "fp32", "fp16" or "int8".
        target: "cpu" or "gpu".
        parity_id: ID of the comparison with NeMo that this export passed.
        words_compared: Words in NeMo's transcripts of the probes.
        words_changed: Word edits between NeMo's transcripts and this export's.
    """

    sample_rate: int = 0
    frame_seconds: float = 0.0
    max_audio_seconds: int = 0
    memory_bytes: int = 0
    shared_memory_bytes: int = 0
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
        """Return the configuration's parameters, without empty and zero fields."""
        return {
            name: f"{value:g}" if isinstance(value, float) else str(value)
            for name, value in asdict(self).items()
            if value
        }

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> Description:
        """Read a configuration's parameters. Unknown parameters are ignored.

        Raises:
            ParameterError: `sample_rate`, `frame_seconds`, `max_audio_seconds` or a word count is not a number.
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
            max_audio_seconds=integer("max_audio_seconds"),
            memory_bytes=_count(parameters.get("memory_bytes", "")),
            shared_memory_bytes=_count(parameters.get("shared_memory_bytes", "")),
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
    """Parse a number that is only displayed; anything else becomes 0, so the model can still be used."""
    return int(text) if text.isdecimal() else 0
