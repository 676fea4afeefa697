"""NeMo's own results for an utterance, with which an export is compared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np
import soundfile
import torch

from export_scripts.checkpoints.checkpoint import Checkpoint
from export_scripts.checkpoints.families import Decoder
from export_scripts.stages.features import Edges
from nemo_triton.audio import Samples, as_float, channel_number
from nemo_triton.audio_decoders import decode, read_header
from nemo_triton.contract import SAMPLE_RATE
from nemo_triton.manifest import Utterance


@dataclass(frozen=True)
class Reference:
    """NeMo's results for one unbatched utterance.

    Attributes:
        features: float32 [frames, mels].
        scores: float32 [frames', width], see Decoder.encoder_output.
        text: Transcript of NeMo's greedy search.
        rounding: Root mean square of the rounding errors of NeMo's features in float32, if these are float64's; else 0.
        scores_rounding: Root mean square of their effect on the scores.
    """

    features: np.ndarray
    scores: np.ndarray
    text: str
    rounding: float = 0.0
    scores_rounding: float = 0.0


def nemo_reference(checkpoint: Checkpoint, decoder: Decoder, samples: Samples, *, exact: bool = False) -> Reference:
    """Run NeMo's front end, encoder and greedy decoding on one utterance.

    Args:
        checkpoint: The model and its front end.
        decoder: The head whose results they are.
        samples: int16 or float32 [samples], 16 kHz.
        exact: Compute the spectrum and what follows in the front end in float64.
    """
    model: Any = checkpoint.model
    signal = torch.from_numpy(as_float(samples))[None]
    length = torch.tensor([len(samples)])
    edges = checkpoint.front_end.edges
    with (
        torch.no_grad(),
        with_front_end(model.preprocessor.featurizer, edges, torch.float64 if exact else torch.float32),
    ):
        features, frames = model.preprocessor(input_signal=signal, length=length)
        features = features.float()
        scores, text = decoder.nemo(features, frames)
    return Reference(features[0, :, : int(frames)].T.numpy(), scores, text)


def nemo_samples(utterance: Utterance) -> Samples | None:
    """Read a recording as NeMo does, so that the comparison covers our reader of audio files too.

    NeMo has two readers. The reference is AudioSegment, which all models use with `use_lhotse=False`: the other's
    results for telephone speech depend on whether torchaudio is installed.

    Args:
        utterance: The recording.

    Returns:
        float32 [samples], 16 kHz; None if NeMo can't read the file, or only with the installed ffmpeg program, whose
        versions round differently, or if the file is damaged: of some, our reader uses more.
    """
    from nemo.collections.asr.parts.preprocessing.segment import AudioSegment

    if not _is_read_by_libsndfile(utterance.audio):
        return None
    number = channel_number("average" if utterance.channel is None else utterance.channel)
    try:
        segment = AudioSegment.from_file(
            str(utterance.audio),
            target_sr=SAMPLE_RATE,
            offset=utterance.offset or 0,
            duration=utterance.segment_seconds or 0,
            channel_selector="average" if number is None else number,
        )
    except Exception:
        # It raises any error of the packages that it tries.
        return None
    samples: Samples = segment.samples
    return samples


def _is_read_by_libsndfile(path: Path) -> bool:
    """Whether libsndfile reads a whole file, as it does for NeMo.

    Otherwise NeMo 2.7.3 tries ffmpeg, also for files whose names don't end as one of libsndfile's formats. NeMo 3.0
    reads all files by libsndfile.
    """
    suffixes = {f".{name.lower()}" for name in soundfile.available_formats()}
    return path.suffix in suffixes and read_header(path) is not None and decode(path).problem is None


@contextmanager
def with_front_end(featurizer: Any, edges: Edges, dtype: torch.dtype = torch.float32) -> Iterator[None]:
    """Let NeMo's FilterbankFeatures compute with these edges and this precision, for unbatched utterances.

    NeMo 2.5 and later reads every checkpoint with its new front end. Older checkpoints were trained with the old one,
    which reflects the signal at its ends and has one frame more.

    Source: nemo/collections/asr/parts/preprocessing/features.py of NeMo 2.4 and 2.7.

    Args:
        featurizer: NeMo's FilterbankFeatures.
        edges: "reflect" computes as before NeMo 2.5.
        dtype: Type of the spectrum and of what follows.
    """
    if edges == "zero" and dtype == torch.float32:
        yield
        return

    def stft(self: Any, signal: torch.Tensor) -> torch.Tensor:
        return torch.stft(
            signal.to(dtype),
            n_fft=self.n_fft,
            hop_length=self.hop_length,
            win_length=self.win_length,
            center=not self.exact_pad,
            window=self.window.to(dtype),
            return_complex=True,
            pad_mode="reflect" if edges == "reflect" else "constant",
        )

    def get_seq_len(self: Any, samples: torch.Tensor) -> torch.Tensor:
        return torch.div(samples, self.hop_length, rounding_mode="floor").to(torch.long) + 1

    featurizer.stft = MethodType(stft, featurizer)
    if edges == "reflect":
        featurizer.get_seq_len = MethodType(get_seq_len, featurizer)
    try:
        yield
    finally:
        featurizer.__dict__.pop("stft")
        featurizer.__dict__.pop("get_seq_len", None)
