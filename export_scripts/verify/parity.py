"""Compare the written models with NeMo before they are published."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import jiwer
import numpy as np
import onnxruntime as ort

from export_scripts.checkpoints.checkpoint import Checkpoint
from export_scripts.checkpoints.families import Decoder
from export_scripts.checkpoints.nemo_reference import Reference, nemo_reference, nemo_samples
from export_scripts.errors import ParityError
from export_scripts.precision.choice import FP32, Precision
from export_scripts.recordings import Recordings, Trace
from export_scripts.repository.config import read_config, write_config
from export_scripts.repository.existing import REPORT
from export_scripts.stages.text import text_graph
from export_scripts.verify.local_ensemble import Item, LocalEnsemble, StageError
from export_scripts.verify.probes import Probes
from nemo_triton.audio import Samples
from nemo_triton.contract import FEATURES, FRAMES, TEXT, TOKENS, Description, Part

FEATURES_TOLERANCE = 2e-3
SCORES_TOLERANCE = 5e-2
"""Convolutions with batch normalization amplify rounding to about 1e-3; a missing mask changes scores by more than
this."""
RANDOM_SEQUENCES = 200
MISMATCHES_SHOWN = 5
ID_LENGTH = 16
"""Hexadecimal digits of the report's SHA-256 that make the parity_id, by which results name their export."""


@dataclass(frozen=True)
class Calibration(Trace):
    """The recordings that calibrated int8.

    Attributes:
        among_probes: Number of these recordings that are also probes.
    """

    among_probes: int


@dataclass(frozen=True)
class ChangedText:
    """A probe whose unbatched text differs from NeMo's.

    Attributes:
        probe: Name of the probe.
        nemo: Transcript of NeMo.
        export: Transcript of the export.
    """

    probe: str
    nemo: str
    export: str


@dataclass(kw_only=True)
class Parity:
    """The comparison of an export with NeMo, written as parity.json. Differences are the largest absolute ones.

    In fp32 all texts must be NeMo's, except near ties. fp16 and int8 may change words: `words_changed` of
    `words_compared`, at most the fraction `max_word_change`. In every precision the text of a probe in a batch must be
    its unbatched text.

    Attributes:
        model: Name of the recognizer.
        checkpoint_sha256: Digest of the .nemo file.
        nemo_class: NeMo's class of the checkpoint.
        checkpoint_nemo_version: NeMo version that wrote the checkpoint.
        front_end: Name of the feature stage.
        scores: Kind of the compared output of the encoder: log-probs, or the joint's projection.
        versions: Versions of the packages that made the comparison.
        precision: Precision of the encoder.
        max_word_change: Limit of changed words, as a fraction.
        probes: Number of signals.
        probe_seconds: Seconds of audio in all signals.
        probe_recordings: Recordings among the probes.
        recordings_read_by_nemo: Number of these recordings that NeMo read from their files itself.
        exact_references: Number of probes that are compared with NeMo's front end in float64, because the export's
            features are closer to it than NeMo's own in float32 are. So it is in bands without sound, such as those
            above 4 kHz in telephone speech.
        probes_made: Signals derived from the recordings.
        calibration: Recordings that calibrated int8.
        calibrated_on_probes: Whether words were counted on recordings that calibrated int8.
        characters: Number of characters in NeMo's texts of all probes.
        features_difference: Largest difference between the export's features and NeMo's.
        scores_difference: Largest difference between the export's scores and NeMo's.
        scores_difference_in_batches: Largest difference between the export's scores in batches and unbatched.
        texts_compared: Number of compared texts: one per probe unbatched, and one per probe in every mixed batch.
        texts_equal: Number of texts that equal NeMo's.
        texts_tied: Number of texts that differ by near ties only (NeMo's top two labels within TIE).
        words_compared: Number of words in NeMo's texts.
        words_changed: Word edits between NeMo's texts and the export's unbatched texts.
        changed_texts: Unbatched texts that differ.
        token_sequences: Number of random token sequences whose text was compared.
        mismatches: Reasons to refuse the export, one line each.
    """

    model: str
    checkpoint_sha256: str
    nemo_class: str
    checkpoint_nemo_version: str | None
    front_end: str
    scores: str
    versions: dict[str, str]
    precision: str
    max_word_change: float
    probes: int
    probe_seconds: float
    probe_recordings: Trace
    probes_made: Trace
    calibration: Calibration | None = None
    calibrated_on_probes: bool = field(init=False)
    recordings_read_by_nemo: int = 0
    exact_references: int = 0
    characters: int = 0
    features_difference: float = 0.0
    scores_difference: float = 0.0
    scores_difference_in_batches: float = 0.0
    texts_compared: int = 0
    texts_equal: int = 0
    texts_tied: int = 0
    words_compared: int = 0
    words_changed: int = 0
    changed_texts: list[ChangedText] = field(default_factory=list)
    token_sequences: int = 0
    mismatches: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.calibrated_on_probes = self.calibration is not None and self.calibration.among_probes > 0

    def publish(self, folder: Path) -> None:
        """Write the report into an ensemble's folder, and its id into the configuration, where clients read it."""
        report = json.dumps(asdict(self), indent=2) + "\n"
        (folder / "1" / REPORT).write_text(report)
        config = read_config(folder)
        description = Description(parity_id=hashlib.sha256(report.encode()).hexdigest()[:ID_LENGTH])
        words = {"words_compared": str(self.words_compared), "words_changed": str(self.words_changed)}
        for name, value in {**description.as_parameters(), **words}.items():
            config.parameters[name].string_value = value
        write_config(folder, config)

    @property
    def reduced(self) -> bool:
        return self.precision != FP32.name

    @property
    def word_change(self) -> float:
        """Changed words as a fraction of NeMo's; infinite if NeMo has none."""
        if not self.words_compared:
            return math.inf if self.words_changed else 0.0
        return self.words_changed / self.words_compared

    def summary(self) -> str:
        """One line for the terminal."""
        calibrated = " (which also calibrated it; use other --probes)" if self.calibrated_on_probes else ""
        words = (
            f"; {self.precision} changes {self.words_changed} of {self.words_compared} words ({self.word_change:.2%}), "
            f"counted on the unbatched probes{calibrated}"
        )
        return (
            f"{self.model}: {self.texts_equal}/{self.texts_compared} texts equal NeMo's"
            + (f", {self.texts_tied} more differ by near ties" if self.texts_tied else "")
            + f" ({self.probes} probes, {self.probe_seconds:.0f} s of audio, each unbatched and in two mixed batches)"
            + (words if self.reduced else "")
            + f"; largest differences: features {self.features_difference:.1e}, "
            f"{self.scores} {self.scores_difference:.1e}, "
            f"batched from unbatched {self.scores_difference_in_batches:.1e}"
        )


def verify(checkpoint: Checkpoint, repository: Path, probes: Probes, precision: Precision = FP32) -> Parity:
    """Compare the recognizer in `repository` with the checkpoint's NeMo model.

    Args:
        checkpoint: Checkpoint with NeMo's model.
        repository: Folder with the new models.
        probes: Recordings to compare on.
        precision: Precision of the export.

    Raises:
        ExportError: A recording among the probes is longer than the model takes, or too short for its front end.
        ParityError: A stage fails; features, scores or texts differ by more than rounding; or in a reduced precision,
            too many words change or a text depends on the batch.
    """
    decoder = checkpoint.decoder
    name = Part.LOG_PROBS.of(checkpoint.name) if decoder.scores_are_served else checkpoint.name
    ensemble = LocalEnsemble(repository, name)
    probes = probes.up_to(int(ensemble.config.parameters["max_audio_seconds"].string_value))
    probes = probes.for_front_end(checkpoint.front_end)
    parity = _empty_report(checkpoint, probes, precision)
    references, unbatched = [], []
    for index, (probe, probe_name) in enumerate(zip(probes.signals, probes.names, strict=True)):
        label = f"probe {index} unbatched"
        unbatched += _run(ensemble, label, [probe])
        references.append(_reference(parity, checkpoint, _as_nemo_reads(parity, probes, index), unbatched[-1]))
        _compare(parity, decoder, label, nemo=references[-1], item=unbatched[-1])
        _count_words(parity, probe_name, nemo=references[-1].text, exported=_text(unbatched[-1]))
    for batch in mixed_batches(parity.probes, ensemble.config.max_batch_size):
        items = _run(ensemble, f"probes {batch} in a batch", [probes.signals[index] for index in batch])
        for index, item in zip(batch, items, strict=True):
            label = f"probe {index} in a batch of {len(batch)}"
            _compare(parity, decoder, label, nemo=references[index], item=item)
            _compare_batched(parity, decoder, label, unbatched=unbatched[index], batched=item)
    _compare_texts(parity, checkpoint)
    if parity.reduced and not parity.word_change <= precision.max_word_change:
        parity.mismatches.insert(0, _too_many_words(parity, checkpoint))
    if parity.mismatches:
        more = len(parity.mismatches) - MISMATCHES_SHOWN
        problems = "; ".join(parity.mismatches[:MISMATCHES_SHOWN]) + (f"; and {more} more" if more > 0 else "")
        raise ParityError(f"{checkpoint.name}: {problems}; nothing was published, see docs/export.md")
    return parity


def _reference(parity: Parity, checkpoint: Checkpoint, samples: Samples, item: Item) -> Reference:
    """NeMo's results for a probe: in float32, or in float64 if the features of `item` are closer to these."""
    nemo = nemo_reference(checkpoint, samples)
    features = item[FEATURES.name][0, : int(item[FEATURES.length.name].item())]
    scores = _scores(checkpoint.decoder, item)
    if (features.shape, scores.shape) != (nemo.features.shape, nemo.scores.shape):
        return nemo
    # In a reduced precision scores differ for other reasons.
    if _largest(features, nemo.features) <= FEATURES_TOLERANCE and (
        parity.reduced or _largest(scores, nemo.scores) <= SCORES_TOLERANCE
    ):
        return nemo
    exact = nemo_reference(checkpoint, samples, exact=True)
    rounding = _root_mean_square(nemo.features, exact.features)
    if not _root_mean_square(features, exact.features) <= rounding:
        return nemo
    parity.exact_references += 1
    return replace(exact, rounding=rounding, scores_rounding=_root_mean_square(nemo.scores, exact.scores))


def _largest(first: np.ndarray, second: np.ndarray) -> float:
    """The largest absolute difference."""
    return float(np.abs(first - second).max(initial=0))


def _root_mean_square(first: np.ndarray, second: np.ndarray) -> float:
    """The root mean square of the differences."""
    return float(np.sqrt(np.square(first - second).mean()))


def _as_nemo_reads(parity: Parity, probes: Probes, index: int) -> Samples:
    """A probe as NeMo reads its file, if it has a file that NeMo can read."""
    utterances = probes.recordings.utterances
    samples = nemo_samples(utterances[index]) if index < len(utterances) else None
    if samples is None:
        return probes.signals[index]
    parity.recordings_read_by_nemo += 1
    return samples


def _run(ensemble: LocalEnsemble, label: str, signals: Sequence[np.ndarray]) -> list[Item]:
    try:
        return ensemble.run(signals)
    except StageError as error:
        name = ensemble.config.name.removesuffix(Part.LOG_PROBS.value)
        raise ParityError(f"{name}: {label}: {error}; nothing was published, see docs/export.md") from error


def _empty_report(checkpoint: Checkpoint, probes: Probes, precision: Precision) -> Parity:
    packages = ("nemo_toolkit", "torch", "onnx", "onnxruntime")
    return Parity(
        model=checkpoint.name,
        checkpoint_sha256=hashlib.sha256(checkpoint.file.read_bytes()).hexdigest(),
        nemo_class=checkpoint.model_class,
        checkpoint_nemo_version=checkpoint.nemo_version,
        front_end=checkpoint.front_end.name,
        scores=checkpoint.decoder.encoder_output.name,
        versions={package: version(package) for package in packages},
        precision=precision.name,
        max_word_change=precision.max_word_change,
        probes=len(probes.signals),
        probe_seconds=probes.recordings.seconds + probes.derived.seconds,
        probe_recordings=probes.recordings.trace(),
        probes_made=probes.derived.trace(),
        calibration=_calibration(precision.calibration, probes.recordings),
    )


def _calibration(recordings: Recordings, probes: Recordings) -> Calibration | None:
    if not recordings.signals:
        return None
    return Calibration(**asdict(recordings.trace()), among_probes=recordings.count_in(probes))


def words_changed(before: str, after: str) -> int:
    """Word edits (substitutions, insertions, deletions) that turn one text into the other."""
    if not before.split():
        return len(after.split())  # jiwer needs a reference with words.
    edits = jiwer.process_words(before, after)
    return int(edits.substitutions + edits.insertions + edits.deletions)


def _too_many_words(parity: Parity, checkpoint: Checkpoint) -> str:
    line = (
        f"{parity.precision} changes {parity.words_changed} of NeMo's {parity.words_compared} words on the probes "
        f"({parity.word_change:.2%}), more than {parity.max_word_change:.2%}; choose another --precision or raise "
        "--max-word-change"
    )
    if checkpoint.random_weights:
        line += " (this checkpoint has random weights: its labels are closer to each other than a trained model's)"
    return line


def larger(largest: float, value: float) -> float:
    """The larger number; NaN if either is NaN, which Python's max could lose."""
    return float(np.maximum(largest, value))


def mixed_batches(count: int, largest: int) -> Iterator[list[int]]:
    """Every probe twice, in random batches of different sizes."""
    rng = random.Random(0)
    for size in (largest, 3):
        order = rng.sample(range(count), count)
        yield from (order[start : start + size] for start in range(0, count, size))


def _count_words(parity: Parity, probe: str, *, nemo: str, exported: str) -> None:
    parity.characters += len(nemo)
    parity.words_compared += len(nemo.split())
    parity.words_changed += words_changed(nemo, exported)
    if exported != nemo:
        parity.changed_texts.append(ChangedText(probe, nemo, exported))


def _compare(parity: Parity, decoder: Decoder, label: str, *, nemo: Reference, item: Item) -> None:
    frames = int(item[FEATURES.length.name].item())
    scores, text = _scores(decoder, item), _text(item)
    parity.texts_compared += 1
    if frames != len(nemo.features) or len(scores) != len(nemo.scores):
        parity.mismatches.append(
            f"{label}: {frames} frames and {len(scores)} encoded, NeMo has {len(nemo.features)} and {len(nemo.scores)}"
        )
        return
    features = item[FEATURES.name][0, :frames]
    difference = _largest(features, nemo.features)
    parity.features_difference = larger(parity.features_difference, difference)
    if not (difference <= FEATURES_TOLERANCE or _root_mean_square(features, nemo.features) < nemo.rounding):
        parity.mismatches.append(f"{label}: features differ by {difference:.1e}, more than {FEATURES_TOLERANCE}")
    change = float(np.abs(scores - nemo.scores).max(initial=0))
    parity.scores_difference = larger(parity.scores_difference, change)
    if parity.reduced:
        if not np.isfinite(scores).all():
            parity.mismatches.append(f"{label}: {parity.scores} are not finite in {parity.precision}")
    elif not (change <= SCORES_TOLERANCE or _root_mean_square(scores, nemo.scores) < nemo.scores_rounding):
        parity.mismatches.append(f"{label}: {parity.scores} differ by {change:.1e}, more than {SCORES_TOLERANCE}")
    if text == nemo.text:
        parity.texts_equal += 1
        return
    count = int(item[TOKENS.length.name].item())
    tokens, token_frames = (item[tensor.name][0, :count] for tensor in (TOKENS, FRAMES))
    if decoder.differs_by_a_tie(scores, tokens, token_frames, nemo.scores):
        parity.texts_tied += 1
    elif not parity.reduced:
        parity.mismatches.append(f"{label}: text {text!r}, NeMo has {nemo.text!r}")


def _compare_batched(parity: Parity, decoder: Decoder, label: str, *, unbatched: Item, batched: Item) -> None:
    if parity.reduced and _text(batched) != _text(unbatched):
        parity.mismatches.append(f"{label}: text {_text(batched)!r}, unbatched {_text(unbatched)!r}")
    scores, expected = _scores(decoder, batched), _scores(decoder, unbatched)
    if len(scores) == len(expected):
        change = float(np.abs(scores - expected).max(initial=0))
        parity.scores_difference_in_batches = larger(parity.scores_difference_in_batches, change)


def _scores(decoder: Decoder, item: Item) -> np.ndarray:
    length = int(item[decoder.encoder_length.name].item())
    scores: np.ndarray = item[decoder.encoder_output.name][0, :length]
    return scores


def _text(item: Item) -> str:
    return str(item[TEXT.name].item())


def _compare_texts(parity: Parity, checkpoint: Checkpoint) -> None:
    """Compare the text of random token sequences with NeMo's."""
    rng = np.random.default_rng(0)
    session = ort.InferenceSession(text_graph(checkpoint.pieces).SerializeToString())
    for _ in range(RANDOM_SEQUENCES):
        tokens = rng.choice(rng.integers(0, len(checkpoint.pieces), 12), size=rng.integers(1, 40))
        text = session.run(None, {TOKENS.name: tokens[None]})[0].item()
        nemo = checkpoint.model.decoding.decode_tokens_to_str_with_strip_punctuation(tokens.tolist())
        parity.token_sequences += 1
        if text != nemo:
            parity.mismatches.append(f"tokens {tokens.tolist()}: text {text!r}, NeMo has {nemo!r}")
