"""Compares the written models with NeMo before they are published."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import jiwer
import numpy as np
import onnxruntime as ort

from export_scripts.checkpoints.checkpoint import Checkpoint
from export_scripts.checkpoints.families import TIE, Decoder
from export_scripts.checkpoints.nemo_reference import Reference, nemo_reference
from export_scripts.errors import ParityError
from export_scripts.precision.choice import FP32, Precision
from export_scripts.recordings import Recordings, Trace
from export_scripts.repository.config import read_config, write_config
from export_scripts.repository.existing import REPORT
from export_scripts.stages.text import text_graph
from export_scripts.verify.local_ensemble import Item, LocalEnsemble
from export_scripts.verify.probes import Probes
from nemo_triton.contract import FEATURES, FRAMES, TEXT, TOKENS, Description, Part

FEATURES_TOLERANCE = 2e-3
SCORES_TOLERANCE = 5e-2
"""Convolutions with batch normalisation spread rounding to some 1e-3; a mask that is missing moves scores by more."""
RANDOM_SEQUENCES = 200
ID_LENGTH = 16
"""Hexadecimal digits of the report's SHA-256 by which results name the export that they were measured on."""


@dataclass(frozen=True)
class Calibration(Trace):
    """From which recordings int8 learnt.

    among_probes: how many of them are also recordings of the probes
    """

    among_probes: int


@dataclass(frozen=True)
class ChangedText:
    """A probe, by its name, whose text alone is not NeMo's."""

    probe: str
    nemo: str
    export: str


@dataclass(kw_only=True)
class Parity:
    """How an exported model compares with NeMo. Differences are the largest absolute ones.

    probes: how many signals
    probe_recordings: their recordings
    probes_made: signals derived from those
    calibrated_on_probes: whether words were counted on recordings that int8 learnt from
    characters: of NeMo's texts of all probes
    texts_compared: one for each probe alone and one for each probe in every mixed batch
    texts_tied: texts that differ only by what NeMo itself decides by less than TIE
    scores: what the encoder's output was compared by, log-probs or the joint's projection
    precision: in which the encoder computes. Where it is reduced, scores may differ, and texts by words_changed: edits
        that turn NeMo's texts of the probes into those of the export alone, of words_compared, NeMo's words, a part of
        at most max_word_change. In mixed batches texts are still to be those that they are alone.
    changed_texts: of the probes alone, from which words_changed are counted, and texts_tied in part
    mismatches: what makes the export wrong, one line each
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
        """Leave this report with the ensemble in `folder`, and its id in the configuration, where clients see it."""
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
        """Words changed as a part of NeMo's; infinite where NeMo has none."""
        if not self.words_compared:
            return math.inf if self.words_changed else 0.0
        return self.words_changed / self.words_compared

    def summary(self) -> str:
        learnt = ", on recordings that it learnt from" if self.calibrated_on_probes else ""
        words = (
            f"; {self.precision} changes {self.words_changed} of {self.words_compared} words, {self.word_change:.2%}, "
            f"counted on each probe once, alone{learnt}"
        )
        return (
            f"{self.model}: {self.texts_equal}/{self.texts_compared} texts equal NeMo's"
            + (f" ({self.texts_tied} more differ by ties below {TIE})" if self.texts_tied else "")
            + f" of {self.probes} probes ({self.probe_seconds:.0f} s), each alone and in two mixed batches"
            + (words if self.reduced else "")
            + f"; largest difference: features {self.features_difference:.1e}, "
            f"{self.scores} {self.scores_difference:.1e}, "
            f"between alone and batched {self.scores_difference_in_batches:.1e}"
        )


def verify(checkpoint: Checkpoint, repository: Path, probes: Probes, precision: Precision = FP32) -> Parity:
    """Compare the recognizer written in `repository` with the checkpoint's NeMo model.

    Raises:
        ParityError: where a feature, a text or a decoded sequence differs by more than rounding; in a reduced
            precision, where more words differ than it may cost, or a text depends on who shares the batch.
    """
    decoder = checkpoint.decoder
    name = Part.LOG_PROBS.of(checkpoint.name) if decoder.scores_are_served else checkpoint.name
    ensemble = LocalEnsemble(repository, name)
    parity = _nothing_compared(checkpoint, probes, precision)
    references, alone = [], []
    for index, (probe, probe_name) in enumerate(zip(probes.signals, probes.names, strict=True)):
        references.append(nemo_reference(checkpoint, probe))
        alone.append(ensemble.run([probe])[0])
        _compare(parity, decoder, f"probe {index} alone", nemo=references[-1], item=alone[-1])
        _count_words(parity, probe_name, nemo=references[-1].text, ours=_text(alone[-1]))
    for batch in mixed_batches(parity.probes, ensemble.config.max_batch_size):
        for index, item in zip(batch, ensemble.run([probes.signals[index] for index in batch]), strict=True):
            what = f"probe {index} in a batch of {len(batch)}"
            _compare(parity, decoder, what, nemo=references[index], item=item)
            _compare_batched(parity, decoder, what, alone=alone[index], batched=item)
    _compare_texts(parity, checkpoint)
    if parity.reduced and not parity.word_change <= precision.max_word_change:
        parity.mismatches.insert(0, _too_many_words(parity, checkpoint))
    if parity.mismatches:
        raise ParityError(f"{checkpoint.name}: " + "; ".join(parity.mismatches[:5]))
    return parity


def _nothing_compared(checkpoint: Checkpoint, probes: Probes, precision: Precision) -> Parity:
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


def _calibration(learnt: Recordings, probes: Recordings) -> Calibration | None:
    if not learnt.signals:
        return None
    return Calibration(**asdict(learnt.trace()), among_probes=learnt.count_in(probes))


def words_changed(before: str, after: str) -> int:
    """Substitutions, insertions and deletions of words that turn one text into the other."""
    if not before.split():
        return len(after.split())  # jiwer refuses a reference without words.
    edits = jiwer.process_words(before, after)
    return int(edits.substitutions + edits.insertions + edits.deletions)


def _too_many_words(parity: Parity, checkpoint: Checkpoint) -> str:
    line = (
        f"{parity.precision} changes {parity.words_changed} of NeMo's {parity.words_compared} words of the probes, "
        f"{parity.word_change:.2%}, more than {parity.max_word_change:.2%}; export in another precision, or allow more "
        "by --max-word-change"
    )
    if checkpoint.random_weights:
        line += " (this checkpoint has random weights, whose labels are closer to each other than a trained model's)"
    return line


def larger(largest: float, value: float) -> float:
    """The larger one; NaN where one is, which Python's max would lose."""
    return float(np.maximum(largest, value))


def mixed_batches(count: int, largest: int) -> Iterator[list[int]]:
    """Every probe twice, in random batches of different sizes."""
    rng = random.Random(0)
    for size in (largest, 3):
        order = rng.sample(range(count), count)
        yield from (order[start : start + size] for start in range(0, count, size))


def _count_words(parity: Parity, probe: str, *, nemo: str, ours: str) -> None:
    parity.characters += len(nemo)
    parity.words_compared += len(nemo.split())
    parity.words_changed += words_changed(nemo, ours)
    if ours != nemo:
        parity.changed_texts.append(ChangedText(probe, nemo, ours))


def _compare(parity: Parity, decoder: Decoder, what: str, *, nemo: Reference, item: Item) -> None:
    frames = int(item[FEATURES.length.name].item())
    scores, text = _scores(decoder, item), _text(item)
    parity.texts_compared += 1
    if frames != len(nemo.features) or len(scores) != len(nemo.scores):
        parity.mismatches.append(
            f"{what}: {frames} frames and {len(scores)} encoded, NeMo has {len(nemo.features)} and {len(nemo.scores)}"
        )
        return
    difference = float(np.abs(item[FEATURES.name][0, :frames] - nemo.features).max(initial=0))
    parity.features_difference = larger(parity.features_difference, difference)
    if not difference <= FEATURES_TOLERANCE:
        parity.mismatches.append(f"{what}: features differ by {difference:.1e}, more than {FEATURES_TOLERANCE}")
    change = float(np.abs(scores - nemo.scores).max(initial=0))
    parity.scores_difference = larger(parity.scores_difference, change)
    if parity.reduced:
        if not np.isfinite(scores).all():
            parity.mismatches.append(f"{what}: {parity.scores} are not finite in {parity.precision}")
    elif not change <= SCORES_TOLERANCE:
        parity.mismatches.append(f"{what}: {parity.scores} differ by {change:.1e}, more than {SCORES_TOLERANCE}")
    if text == nemo.text:
        parity.texts_equal += 1
        return
    count = int(item[TOKENS.length.name].item())
    tokens, token_frames = (item[tensor.name][0, :count] for tensor in (TOKENS, FRAMES))
    if decoder.differs_by_a_tie(scores, tokens, token_frames, nemo.scores):
        parity.texts_tied += 1
    elif not parity.reduced:
        parity.mismatches.append(f"{what}: text {text!r}, NeMo has {nemo.text!r}")


def _compare_batched(parity: Parity, decoder: Decoder, what: str, *, alone: Item, batched: Item) -> None:
    if parity.reduced and _text(batched) != _text(alone):
        parity.mismatches.append(f"{what}: text {_text(batched)!r}, alone {_text(alone)!r}")
    scores, before = _scores(decoder, batched), _scores(decoder, alone)
    if len(scores) == len(before):
        change = float(np.abs(scores - before).max(initial=0))
        parity.scores_difference_in_batches = larger(parity.scores_difference_in_batches, change)


def _scores(decoder: Decoder, item: Item) -> np.ndarray:
    length = int(item[decoder.encoder_length.name].item())
    scores: np.ndarray = item[decoder.encoder_output.name][0, :length]
    return scores


def _text(item: Item) -> str:
    return str(item[TEXT.name].item())


def _compare_texts(parity: Parity, checkpoint: Checkpoint) -> None:
    """Random sequences of tokens against NeMo's text of them."""
    rng = np.random.default_rng(0)
    session = ort.InferenceSession(text_graph(checkpoint.pieces).SerializeToString())
    for _ in range(RANDOM_SEQUENCES):
        tokens = rng.choice(rng.integers(0, len(checkpoint.pieces), 12), size=rng.integers(1, 40))
        text = session.run(None, {TOKENS.name: tokens[None]})[0].item()
        nemo = checkpoint.model.decoding.decode_tokens_to_str_with_strip_punctuation(tokens.tolist())
        parity.token_sequences += 1
        if text != nemo:
            parity.mismatches.append(f"tokens {tokens.tolist()}: text {text!r}, NeMo has {nemo!r}")
