"""The table of precisions: what each costs in words and gains in size and speed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmark.baselines.system import Measured
from benchmark.core.models import Model
from benchmark.core.tables import MB, NONE, Table, markdown, spread
from benchmark.studies.exports import FULL
from nemo_triton.loadtest.wer import score


@dataclass(frozen=True)
class Exported:
    """A checkpoint in one precision.

    onnx_bytes: of all its stages
    compared, changed: words of NeMo on the probes of the export, and edits that make of them what it gives; None where
        nothing was compared
    """

    onnx_bytes: int
    compared: int | None = None
    changed: int | None = None

    @classmethod
    def of(cls, model: Model) -> Exported:
        """What the repository says of the model."""
        return cls(model.onnx_bytes, model.words_compared, model.words_changed)


@dataclass(frozen=True)
class Measurement:
    """One checkpoint in several precisions on one set of recordings, in rounds.

    audio_seconds: of all recordings together
    references: what was said, by audio file; only of recordings for which it is known
    exported: by precision, in the order of the table
    alone: a pass with one request at a time, by precision
    rounds: passes with `at_once` requests at a time, by precision
    not_run: of each precision that is not measured, why
    """

    model: str
    random_weights: bool
    speech: str
    audio_seconds: float
    at_once: int
    references: Mapping[str, str]
    exported: Mapping[str, Exported]
    alone: Mapping[str, Measured]
    rounds: Sequence[Mapping[str, Measured]]
    not_run: Mapping[str, str]

    def rtfx(self, precision: str) -> list[float]:
        """Seconds of audio a second, round by round."""
        return [self.audio_seconds / measured[precision].seconds for measured in self.rounds]

    def ratios(self, precision: str) -> list[float]:
        """How many times as fast as in fp32, round by round."""
        return [measured[FULL].seconds / measured[precision].seconds for measured in self.rounds]

    def changed_words(self, precision: str) -> tuple[int, int]:
        """Edits that make this precision's texts out of those in fp32, and the words of the latter; each alone."""
        files = sorted(self.alone[FULL].texts)
        before = [self.alone[FULL].texts[file] for file in files]
        words = score(before, [self.alone[precision].texts[file] for file in files]).words
        return words.errors, words.total

    def word_error_rate(self, precision: str) -> float | None:
        """None where nothing is known to be said, and for random weights, whose texts mean nothing."""
        files = sorted(self.references)
        if self.random_weights or not files:
            return None
        texts = [self.alone[precision].texts[file] for file in files]
        return score([self.references[file] for file in files], texts, "basic").wer.value

    def same_when_batched(self, precision: str) -> int:
        """Recordings whose text is in every round the one that it is alone."""
        alone = self.alone[precision].texts
        return sum(
            all(measured[precision].texts[file] == text for measured in self.rounds) for file, text in alone.items()
        )


def page(measurements: Sequence[Measurement], machine: str) -> str:
    """The Markdown page."""
    rounds, at_once = len(measurements[0].rounds), measurements[0].at_once
    lines = [
        "# Precisions",
        "",
        f"`make benchmark-precision`: each checkpoint in each precision, served by one server and measured in turn, "
        f"{rounds} rounds with {at_once} requests at once; {machine}, {len(os.sched_getaffinity(0))} CPU cores. RTFx "
        "(seconds of audio a second) is the median of rounds with the lowest and the highest; 'times fp32' is taken "
        "round by round. Size: all stages of the model. Words: edits that make the texts of a precision out of those "
        "in fp32, one request at a time; 'on the probes', those that make the export's texts out of NeMo's, by which "
        "it was published. WER: against what was said. In company: recordings whose text in every round is the one "
        "that they have alone. fp16 is emulated on a CPU: its words are shown here, its speed is for GPUs. "
        "'int8, dynamic' is what onnxruntime's quantize_dynamic makes of the encoder; no export makes it, "
        "since its scales are taken over a whole batch, so that a text depends on its company.",
        "",
        *(markdown(table(measurement)) for measurement in measurements),
    ]
    return "\n".join(lines)


def table(measurement: Measurement) -> Table:
    """One checkpoint's."""
    weights = " (random weights: texts and words mean nothing of a trained model)" if measurement.random_weights else ""
    rows = [_row(measurement, precision) for precision in measurement.alone]
    rows += [[precision, f"not run: {reason}", *[NONE] * 6] for precision, reason in measurement.not_run.items()]
    return Table(
        f"{measurement.model}{weights}, {measurement.speech}",
        ["precision", "MB", "RTFx", "times fp32", "words changed", "on the probes", "WER", "in company"],
        rows,
        f"{len(measurement.alone[FULL].texts)} recordings, {measurement.audio_seconds / 60:.1f} minutes.",
    )


def _row(measurement: Measurement, precision: str) -> list[str]:
    exported, rtfx, ratios = measurement.exported[precision], measurement.rtfx(precision), measurement.ratios(precision)
    changed = measurement.changed_words(precision)
    rate = measurement.word_error_rate(precision)
    return [
        precision,
        f"{exported.onnx_bytes / MB:.1f}",
        spread(rtfx, 0),
        NONE if precision == FULL else spread(ratios, 2),
        NONE if precision == FULL else _edits(*changed),
        NONE if exported.compared is None else _edits(exported.changed or 0, exported.compared),
        NONE if rate is None else f"{rate:.2%}",
        f"{measurement.same_when_batched(precision)}/{len(measurement.alone[precision].texts)}",
    ]


def _edits(changed: int, words: int) -> str:
    return f"{changed} of {words}" + (f", {changed / words:.2%}" if words else "")
