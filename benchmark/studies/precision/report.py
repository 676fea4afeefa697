"""The page of precisions: size, speed and changed words of each."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmark.baselines.system import Measured
from benchmark.core.models import Model
from benchmark.core.tables import MB, NONE, Table, markdown, spread
from benchmark.studies.exports import FULL
from nemo_triton.loadtest.wer import score

_HEADINGS = (
    "precision",
    "ONNX MB",
    "RTFx",
    "speedup over fp32",
    "words changed",
    "words changed at export",
    "WER",
    "same batched",
)
_MEANINGS = {
    "precision": "fp16 is emulated on a CPU, and is faster only on GPUs. 'int8, dynamic' is onnxruntime's "
    "quantize_dynamic. Export does not offer it: its scales depend on the whole batch, and so do the transcripts.",
    "ONNX MB": "size of all stages of the model.",
    "RTFx": "seconds of audio per second: median of the rounds (lowest to highest).",
    "speedup over fp32": "taken within each round: median (lowest to highest).",
    "words changed": "word edits between the transcripts in fp32 and in this precision, one request at a time.",
    "words changed at export": "the same between NeMo's transcripts and the export's, on the recordings that export "
    "checks.",
    "WER": "word error rate against the reference transcripts.",
    "same batched": "recordings whose transcript, in every round, is the one of a single request.",
}


@dataclass(frozen=True)
class Exported:
    """A checkpoint's export in one precision.

    Attributes:
        onnx_bytes: Size of all stages.
        compared: Words of NeMo's transcripts of the export's test recordings; None if nothing was compared.
        changed: Word edits between NeMo's transcripts and the export's.
    """

    onnx_bytes: int
    compared: int | None = None
    changed: int | None = None

    @classmethod
    def of(cls, model: Model) -> Exported:
        """Read the values of an exported model."""
        return cls(model.onnx_bytes, model.words_compared, model.words_changed)


@dataclass(frozen=True)
class Measurement:
    """One checkpoint in several precisions, on one set of recordings.

    Attributes:
        model: Name of the model.
        random_weights: Whether the checkpoint was never trained.
        speech: Name of the recordings.
        audio_seconds: Total duration of the recordings.
        concurrency: Concurrent requests in `rounds`.
        references: Known reference transcripts, by audio file.
        exported: Exports by precision, in the order of the table.
        unbatched: A pass with one request at a time, by precision.
        rounds: Passes with concurrent requests, each by precision.
        not_run: Reasons of precisions that were not measured.
    """

    model: str
    random_weights: bool
    speech: str
    audio_seconds: float
    concurrency: int
    references: Mapping[str, str]
    exported: Mapping[str, Exported]
    unbatched: Mapping[str, Measured]
    rounds: Sequence[Mapping[str, Measured]]
    not_run: Mapping[str, str]

    def rtfx(self, precision: str) -> list[float]:
        """RTFx of each round."""
        return [self.audio_seconds / measured[precision].seconds for measured in self.rounds]

    def ratios(self, precision: str) -> list[float]:
        """Speedup over fp32 in each round."""
        return [measured[FULL].seconds / measured[precision].seconds for measured in self.rounds]

    def changed_words(self, precision: str) -> tuple[int, int]:
        """Word edits between the unbatched transcripts of fp32 and of this precision, and fp32's number of words."""
        files = sorted(self.unbatched[FULL].texts)
        full = [self.unbatched[FULL].texts[file] for file in files]
        words = score(full, [self.unbatched[precision].texts[file] for file in files]).words
        return words.errors, words.total

    def word_error_rate(self, precision: str) -> float | None:
        """WER of the unbatched transcripts; None without references, or with random weights."""
        files = sorted(self.references)
        if self.random_weights or not files:
            return None
        texts = [self.unbatched[precision].texts[file] for file in files]
        return score([self.references[file] for file in files], texts, "basic").wer.value

    def same_when_batched(self, precision: str) -> int:
        """Number of recordings whose transcript is the same batched, in every round, and unbatched."""
        unbatched = self.unbatched[precision].texts
        return sum(
            all(measured[precision].texts[file] == text for measured in self.rounds) for file, text in unbatched.items()
        )


def page(measurements: Sequence[Measurement], machine: str) -> str:
    """The Markdown page."""
    rounds, concurrency = len(measurements[0].rounds), measurements[0].concurrency
    lines = [
        "# Precisions: fp32, fp16 or int8?",
        "",
        "```sh",
        "make benchmark-precision",
        "```",
        "",
        f"One server holds all exported precisions of a checkpoint. Each of {rounds} rounds runs every precision once, "
        f"with {concurrency} concurrent requests. Machine: {machine}, {len(os.sched_getaffinity(0))} CPU cores.",
        "",
        *(f"- **{heading}**: {meaning}" for heading, meaning in _MEANINGS.items()),
        "",
        *(markdown(table(measurement)) for measurement in measurements),
    ]
    return "\n".join(lines)


def table(measurement: Measurement) -> Table:
    """The table of one checkpoint."""
    weights = (
        " (random weights: its word changes do not apply to a trained model)" if measurement.random_weights else ""
    )
    rows = [_row(measurement, precision) for precision in measurement.unbatched]
    rows += [[precision, f"not run: {reason}", *[NONE] * 6] for precision, reason in measurement.not_run.items()]
    return Table(
        f"{measurement.model}{weights}, {measurement.speech}",
        _HEADINGS,
        rows,
        f"{len(measurement.unbatched[FULL].texts)} recordings, {measurement.audio_seconds / 60:.1f} minutes.",
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
        f"{measurement.same_when_batched(precision)}/{len(measurement.unbatched[precision].texts)}",
    ]


def _edits(changed: int, words: int) -> str:
    return f"{changed} of {words}" + (f", {changed / words:.2%}" if words else "")
