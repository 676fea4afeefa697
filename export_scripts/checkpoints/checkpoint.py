"""Open a NeMo checkpoint and read what the stages need."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from export_scripts.checkpoints.downloads import download
from export_scripts.checkpoints.families import Decoder, decoder_classes, refusal
from export_scripts.checkpoints.names import is_file, recognizer_name
from export_scripts.checkpoints.restore import restore, unpacked
from export_scripts.checkpoints.saved_decoding import unknown_settings
from export_scripts.errors import ExportError
from export_scripts.stages.features import Edges, FrontEnd, Normalization
from export_scripts.stages.text import Pieces, read_pieces
from nemo_triton.contract import SAMPLE_RATE

if TYPE_CHECKING:
    from nemo.collections.asr.models import ASRModel

ZERO_EDGES_SINCE = (2, 5)
"""The NeMo release whose front end pads with zeros instead of reflecting (NeMo pull request 13827)."""

NOT_NORMALIZED = "NA"
"""No normalization, in the configs of streaming models. NeMo leaves features as they are for a name it doesn't know."""

RANDOM_WEIGHTS = "random_weights"
"""Key of a checkpoint's config that is true if the model was never trained."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model restored from a checkpoint file, on the CPU and in evaluation mode.

    Attributes:
        file: Path of the .nemo file.
        name: Name of the model's main recognizer in the model repository.
        model_class: NeMo's class of the model.
        nemo_version: NeMo version that wrote the file; None if the config has none.
        random_weights: Whether the model was never trained.
        model: NeMo's model.
        front_end: Settings of the model's front end.
        pieces: Vocabulary of the model.
        decoders: The heads of the model, the main one first; each has a decoder stage.
        unknown_settings: Settings of its decoding that are left out because this version of NeMo doesn't know them.
    """

    file: Path
    name: str
    model_class: str
    nemo_version: str | None
    random_weights: bool
    model: ASRModel
    front_end: FrontEnd
    pieces: Pieces
    decoders: tuple[Decoder, ...]
    unknown_settings: tuple[str, ...] = ()

    @cached_property
    def sha256(self) -> str:
        """Digest of the file, which may have gigabytes: it is read once, and piece by piece."""
        digest = hashlib.sha256()
        with self.file.open("rb") as content:
            while piece := content.read(1 << 20):
                digest.update(piece)
        return digest.hexdigest()

    @property
    def decoder(self) -> Decoder:
        """The main head."""
        return self.decoders[0]

    @property
    def recognizers(self) -> dict[str, Decoder]:
        """The heads by the names of their recognizers, the main one first."""
        return {f"{self.name}{decoder.suffix}": decoder for decoder in self.decoders}

    @property
    def encoder_bytes(self) -> int:
        """Size of the encoder's weights in float32."""
        return sum(weights.nbytes for weights in self.model.encoder.parameters())


def open_checkpoint(source: str, suffix: str = "") -> Checkpoint:
    """Open a local .nemo file, or download a pretrained model through NeMo.

    Args:
        source: Path of a .nemo file, or name of a pretrained model.
        suffix: Suffix of the recognizer's name.

    Raises:
        ExportError: The checkpoint doesn't exist, can't be read, has a name that a recognizer can't have, or is of a
            kind that can't be exported.
    """
    if Path(source).is_dir():
        raise ExportError(f"{source}: is a folder; give a .nemo file in it, or the name of a pretrained model")
    name = recognizer_name(source, suffix)
    file = Path(source) if is_file(source) else download(source)
    with unpacked(file) as saved:
        config = saved.config
        model_class = str(config.get("target", "")).rpartition(".")[2]
        kinds = decoder_classes(model_class)
        if not kinds:
            raise ExportError(f"{file}: {refusal(model_class)}")
        model = restore(saved)
    version = config.get("nemo_version")
    from export_scripts.stages.encoder import check_encoder

    try:
        check_encoder(model.encoder)
        return Checkpoint(
            file=file,
            name=name,
            model_class=model_class,
            nemo_version=None if version is None else str(version),
            random_weights=bool(config.get(RANDOM_WEIGHTS)),
            model=model,
            front_end=_front_end(model, edges_of(version)),
            pieces=_pieces(model, kinds),
            decoders=tuple(kind(model) for kind in kinds),
            unknown_settings=tuple(unknown_settings(config)),
        )
    except ValueError as error:
        raise ExportError(f"{file}: {error}") from error


def edges_of(nemo_version: object) -> Edges:
    """Return how the front end of a NeMo release pads an utterance; None is an early release."""
    numbers = re.match(r"(\d+)\.(\d+)", str(nemo_version))
    release = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
    return "zero" if release >= ZERO_EDGES_SINCE else "reflect"


def _front_end(model: ASRModel, edges: Edges) -> FrontEnd:
    """Read the settings of the front end that NeMo built from the checkpoint's config."""
    from nemo.collections.asr.parts.preprocessing.features import FilterbankFeatures

    featurizer: Any = getattr(model.preprocessor, "featurizer", None)
    if type(featurizer) is not FilterbankFeatures:
        raise ValueError(
            f"preprocessor {type(model.preprocessor).__name__} can't be exported; only NeMo's mel spectrogram "
            "can; choose another checkpoint"
        )
    if featurizer.sample_rate != SAMPLE_RATE:
        raise ValueError(
            f"preprocessor.sample_rate is {featurizer.sample_rate}; only {SAMPLE_RATE} can be exported; "
            "choose another checkpoint"
        )
    if featurizer.exact_pad:
        raise ValueError("preprocessor.exact_pad is true; only false can be exported; choose another checkpoint")
    if featurizer.frame_splicing != 1:
        raise ValueError(
            f"preprocessor.frame_splicing is {featurizer.frame_splicing}; only 1 can be exported; "
            "choose another checkpoint"
        )
    normalization: Any = featurizer.normalize or "none"
    if normalization == NOT_NORMALIZED:
        normalization = "none"
    if normalization not in get_args(Normalization):
        supported = ", ".join((*get_args(Normalization), NOT_NORMALIZED))
        raise ValueError(
            f"preprocessor.normalize is {normalization}; only {supported} can be exported; choose another checkpoint"
        )
    mel = featurizer.fb[0].numpy().astype(np.float32)
    window = np.ones(featurizer.win_length) if featurizer.window is None else featurizer.window.numpy()
    return FrontEnd(
        sample_rate=featurizer.sample_rate,
        n_fft=featurizer.n_fft,
        hop_length=featurizer.hop_length,
        window=window.astype(np.float32),
        mel=mel,
        preemphasis=float(featurizer.preemph or 0),
        magnitude_power=float(featurizer.mag_power),
        log=bool(featurizer.log),
        log_guard=featurizer.log_zero_guard_type,
        log_guard_value=float(featurizer.log_zero_guard_value_fn(featurizer.fb)),
        normalization=normalization,
        edges=edges,
    )


def _pieces(model: ASRModel, kinds: Sequence[type[Decoder]]) -> Pieces:
    """Read the labels, which are the same for all heads: NeMo builds them from one tokenizer, or one list."""
    labels = kinds[0].vocabulary(model)
    size = len(labels)
    for kind in kinds:
        if kind.vocabulary(model) != labels:
            raise ValueError(
                "aux_ctc.decoder.vocabulary differs from the labels of the main head; only a hybrid with the same "
                "labels can be exported; choose another checkpoint"
            )
        blank = kind.decoding(model).blank_id
        if blank != size:
            raise ValueError(
                f"the blank is label {blank}; only the last, {size}, can be exported; choose another checkpoint"
            )
    return read_pieces(size, model.decoding.decode_ids_to_str, model.decoding.supported_punctuation or ())
