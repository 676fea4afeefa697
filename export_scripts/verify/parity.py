"""Compare the written models with NeMo before they are published."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
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
from export_scripts.recordings import Recordings
from export_scripts.stages.text import text_graph
from export_scripts.verify.local_ensemble import Item, LocalEnsemble, StageError
from export_scripts.verify.probes import Probes
from export_scripts.verify.report import Calibration, ChangedText, Parity
from nemo_triton.audio import Samples
from nemo_triton.contract import FEATURES, FRAMES, TEXT, TOKENS, Part

FEATURES_TOLERANCE = 2e-3
SCORES_TOLERANCE = 5e-2
"""Convolutions with batch normalization amplify rounding to about 1e-3; a missing mask changes scores by more than
this."""
RANDOM_SEQUENCES = 200
MISMATCHES_SHOWN = 5


def verify(checkpoint: Checkpoint, name: str, repository: Path, probes: Probes, precision: Precision = FP32) -> Parity:
    """Compare a recognizer in `repository` with the checkpoint's NeMo model.

    Args:
        checkpoint: Checkpoint with NeMo's model.
        name: Name of one of the checkpoint's recognizers.
        repository: Folder with the new models.
        probes: Recordings to compare on.
        precision: Precision of the export.

    Raises:
        ExportError: A recording among the probes is longer than the model takes, or too short for its front end.
        ParityError: A stage fails; features, scores or texts differ by more than rounding; or in a reduced precision,
            too many words change or a text depends on the batch.
    """
    decoder = checkpoint.recognizers[name]
    ensemble = LocalEnsemble(repository, Part.LOG_PROBS.of(name) if decoder.scores_are_served else name)
    probes = probes.up_to(int(ensemble.config.parameters["max_audio_seconds"].string_value))
    probes = probes.for_front_end(checkpoint.front_end)
    parity = _empty_report(checkpoint, name, probes, precision)
    references, unbatched = [], []
    for index, (probe, probe_name) in enumerate(zip(probes.signals, probes.names, strict=True)):
        label = f"probe {index} unbatched"
        unbatched += _run(ensemble, label, [probe])
        references.append(_reference(parity, checkpoint, decoder, _as_nemo_reads(parity, probes, index), unbatched[-1]))
        _compare(parity, decoder, label, nemo=references[-1], item=unbatched[-1])
        _count_words(parity, probe_name, nemo=references[-1].text, exported=_text(unbatched[-1]))
    for batch in mixed_batches(parity.probes, ensemble.config.max_batch_size):
        items = _run(ensemble, f"probes {batch} in a batch", [probes.signals[index] for index in batch])
        for index, item in zip(batch, items, strict=True):
            label = f"probe {index} in a batch of {len(batch)}"
            _compare(parity, decoder, label, nemo=references[index], item=item)
            _compare_batched(parity, decoder, label, unbatched=unbatched[index], batched=item)
    _compare_texts(parity, checkpoint, decoder)
    if parity.reduced and not parity.word_change <= precision.max_word_change:
        parity.mismatches.insert(0, _too_many_words(parity, checkpoint))
    if parity.mismatches:
        more = len(parity.mismatches) - MISMATCHES_SHOWN
        problems = "; ".join(parity.mismatches[:MISMATCHES_SHOWN]) + (f"; and {more} more" if more > 0 else "")
        raise ParityError(f"{name}: {problems}; nothing was published, see docs/export.md")
    return parity


def _reference(parity: Parity, checkpoint: Checkpoint, decoder: Decoder, samples: Samples, item: Item) -> Reference:
    """NeMo's results for a probe: in float32, or in float64 if the features of `item` are closer to these."""
    nemo = nemo_reference(checkpoint, decoder, samples)
    features = item[FEATURES.name][0, : int(item[FEATURES.length.name].item())]
    scores = _scores(decoder, item)
    if (features.shape, scores.shape) != (nemo.features.shape, nemo.scores.shape):
        return nemo
    # In a reduced precision scores differ for other reasons.
    if _largest(features, nemo.features) <= FEATURES_TOLERANCE and (
        parity.reduced or _largest(scores, nemo.scores) <= SCORES_TOLERANCE
    ):
        return nemo
    exact = nemo_reference(checkpoint, decoder, samples, exact=True)
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


def _empty_report(checkpoint: Checkpoint, name: str, probes: Probes, precision: Precision) -> Parity:
    packages = ("nemo_toolkit", "torch", "onnx", "onnxruntime")
    return Parity(
        model=name,
        checkpoint_sha256=checkpoint.sha256,
        nemo_class=checkpoint.model_class,
        checkpoint_nemo_version=checkpoint.nemo_version,
        front_end=checkpoint.front_end.name,
        scores=checkpoint.recognizers[name].encoder_output.name,
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
    change = _largest(scores, nemo.scores)
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
        change = _largest(scores, expected)
        parity.scores_difference_in_batches = larger(parity.scores_difference_in_batches, change)


def _scores(decoder: Decoder, item: Item) -> np.ndarray:
    length = int(item[decoder.encoder_length.name].item())
    scores: np.ndarray = item[decoder.encoder_output.name][0, :length]
    return scores


def _text(item: Item) -> str:
    return str(item[TEXT.name].item())


def _compare_texts(parity: Parity, checkpoint: Checkpoint, decoder: Decoder) -> None:
    """Compare the text of random token sequences with NeMo's."""
    rng = np.random.default_rng(0)
    session = ort.InferenceSession(text_graph(checkpoint.pieces).SerializeToString())
    for _ in range(RANDOM_SEQUENCES):
        tokens = rng.choice(rng.integers(0, len(checkpoint.pieces), 12), size=rng.integers(1, 40))
        text = session.run(None, {TOKENS.name: tokens[None]})[0].item()
        nemo = decoder.decoding(checkpoint.model).decode_tokens_to_str_with_strip_punctuation(tokens.tolist())
        parity.token_sequences += 1
        if text != nemo:
            parity.mismatches.append(f"tokens {tokens.tolist()}: text {text!r}, NeMo has {nemo!r}")
