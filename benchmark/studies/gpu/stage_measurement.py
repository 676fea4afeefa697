"""Measure the stages of one recognizer in this process."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import onnxruntime as ort

from benchmark.core.results_folder import write_json
from benchmark.studies.gpu.batches import Batch
from benchmark.studies.gpu.cuts import Cut
from benchmark.studies.gpu.ensemble import read_ensemble
from benchmark.studies.gpu.profiles import profile_stages, record_kernels
from benchmark.studies.gpu.stage import Setup, Stage, Tensors, next_feeds
from benchmark.studies.gpu.timing import NO_TIME, Limits, Timing, time_runs
from nemo_triton import contract


@dataclass(frozen=True)
class Plan:
    """Measurements of each model.

    Attributes:
        repository: The model repository.
        out: Folder for results.
        label: Suffix of the result files.
        warm_up: A short utterance that runs first, so that no measured run loads libraries.
        batches: Batches by size, smallest first.
        cuts: Ways to cut a batch into buckets in the encoder.
        setup: Device and options of features and encoder.
        decoder_threads: Threads of the decoder on the CPU.
        profile: Whether to profile one batch.
        limits: Time limits of one measurement and of all together.
    """

    repository: Path
    out: Path
    label: str
    warm_up: Batch
    batches: Mapping[int, Sequence[Batch]]
    cuts: Sequence[Cut]
    setup: Setup
    decoder_threads: int
    profile: bool
    limits: Limits


@dataclass
class Measurement:
    """The measurement of one model.

    Attributes:
        name: The model.
        plan: Measurements to make.
        report: Results so far.
        slow_sizes: Batch sizes that were too slow, and all larger ones.
    """

    name: str
    plan: Plan
    report: dict[str, Any] = field(default_factory=dict)
    slow_sizes: list[int] = field(default_factory=list)

    def run(self) -> None:
        """Measure size by size, and write the report after each step.

        Raises:
            EnsembleError: The recognizer can't be read.
            StageError: A stage can't be opened.
        """
        plan = self.plan
        self.ensemble = read_ensemble(plan.repository, self.name)
        self._open()
        for size, batches in plan.batches.items():
            if plan.limits.no_time_left():
                self._skip(f"batch {size}: {NO_TIME}")
            elif not self._measure_size(size, batches):
                self.slow_sizes = [other for other in plan.batches if other >= size]
                for other in self.slow_sizes[1:]:
                    self._skip(f"batch {other}: batch {size} was too slow")
                break
        if plan.profile and plan.limits.no_time_left():
            self._skip(f"profile: {NO_TIME}")
        elif plan.profile:
            self._profile()

    def _open(self) -> None:
        plan, setup = self.plan, self.plan.setup
        started = time.perf_counter()
        self.features = Stage(plan.repository / self.ensemble.features, setup)
        self.encoders = {
            cut.name: Stage(plan.repository / self.ensemble.encoder, replace(setup, tf32=True, cut=cut))
            for cut in plan.cuts
        }
        self.decoders: dict[str, Stage] = {}
        decoder = self.ensemble.decoder
        # benchmark.studies.gpu.pack may have added decoders with other frames per step, such as NAME_decoder.8.
        for folder in sorted((plan.repository / decoder, *plan.repository.glob(f"{decoder}.*"))):
            kind = folder.name.removeprefix(decoder)
            self.decoders[f"cpu{kind}"] = Stage(folder, Setup("cpu", threads=plan.decoder_threads))
            if setup.device != "cpu":
                self.decoders[f"{setup.device}{kind}"] = Stage(folder, setup)
        opened = time.perf_counter()
        features = self.features.run(plan.warm_up.feeds())
        for encoder in self.encoders.values():
            encoded = encoder.run(next_feeds(features, setup.device))
        for stage in self.decoders.values():
            stage.run(next_feeds(encoded, stage.device))
        self.report |= {
            "name": self.name,
            "device": setup.device,
            "onnxruntime": ort.__version__,
            "options": dict(setup.cuda_options or {}),
            "providers": encoder.session.get_providers(),
            "trained": self.ensemble.trained,
            "opened_seconds": opened - started,
            "warm_up_seconds": time.perf_counter() - opened,
            "batches": [],
            "skipped": [],
        }
        self._write()

    def _measure_size(self, size: int, batches: Sequence[Batch]) -> bool:
        """Measure all stages on batches of one size. Returns whether to measure larger ones."""
        audio = [batch.seconds for batch in batches]
        row: dict[str, Any] = {"size": size, "audio_seconds": [round(seconds, 2) for seconds in audio]}
        self.report["batches"].append(row)
        timing, features = time_runs(self.features.run, [batch.feeds() for batch in batches], audio, self.plan.limits)
        row["features"] = self._note(size, "features", timing)
        row["encoder"], encoded, fast = self._measure_encoder(size, features, audio)
        row["decoder"] = {}
        for kind, decoder in self.decoders.items():
            feeds = [next_feeds(results, decoder.device) for results in encoded]
            decoding, texts = time_runs(decoder.run, feeds, audio, self.plan.limits)
            tokens = sum(int(results[contract.TOKENS.length.name].numpy().sum()) for results in texts)
            row["decoder"][kind] = {**self._note(size, f"decoder on {kind}", decoding), "tokens": tokens}
            fast = fast and not decoding.too_slow
            self._write()
        return fast and not timing.too_slow

    def _measure_encoder(
        self, size: int, features: Sequence[Tensors], audio: Sequence[float]
    ) -> tuple[dict[str, Any], list[Tensors], bool]:
        """Measure the encoder with each cut.

        Returns:
            A row per cut, the encoder's output for each batch, and whether to measure larger batches.
        """
        rows: dict[str, Any] = {}
        encoded: list[Tensors] = []
        for index, cut in enumerate(self.plan.cuts):
            encoder = self.encoders[cut.name]
            feeds = [next_feeds(results, encoder.device) for results in features]
            # Free the results of the cut before, which are the same.
            encoded = []
            timing, encoded = time_runs(encoder.run, feeds, audio, self.plan.limits)
            rows[cut.name] = self._note(size, f"encoder, {cut.name}", timing)
            self._write()
            if timing.stopped:
                for other in self.plan.cuts[index + 1 :]:
                    self._skip(f"batch {size}: encoder, {other.name}: {cut.name} ended early, {timing.stopped}")
                return rows, encoded, not timing.too_slow
        return rows, encoded, True

    def _note(self, size: int, stage: str, timing: Timing) -> dict[str, Any]:
        click.echo(f"{self.name} batch {size} {stage}: {timing.line()}")
        return timing.row()

    def _skip(self, message: str) -> None:
        click.echo(f"{self.name} skipped {message}")
        self.report["skipped"].append(message)
        self._write()

    def _profile(self) -> None:
        plan = self.plan
        fast = [size for size in plan.batches if size not in self.slow_sizes]
        size = max(fast, default=min(plan.batches))
        batch = plan.batches[size][0]
        if plan.setup.device == "cuda":
            self.report["kernels"] = record_kernels(self.features, self.encoders[plan.cuts[0].name], batch)
        prefix = str(plan.out / f"{self.name}{plan.label}")
        self.report["profiled_batch"] = size
        self.report["profiles"] = profile_stages(
            plan.repository, self.ensemble, batch, plan.setup, prefix=prefix, cut=plan.cuts[0]
        )
        self._write()

    def _write(self) -> None:
        write_json(self.plan.out / f"{self.name}{self.plan.label}.json", self.report)
