"""Measure a recognizer's stages one by one in this process, on a GPU or on the CPU.

    python -m benchmark.studies.gpu.stages NAME... --repository model_repository --out FOLDER

Batches hold utterances of LibriSpeech's lengths in random order, as a server gets them. Features and encoder run on the
device, and tensors stay there between them; the decoder runs on the CPU and on the device. The encoder's length
bucketing is varied. FOLDER gets one JSON file per model, written again after each measurement.

Each measurement has three kinds of runs: of a new shape (first), of the same shape again (repeat), and of all batches
in turn (alternating).

Needs numpy, onnx, onnxruntime, click, soundfile, soxr and the demo's recordings; no server, no NeMo.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import onnxruntime as ort

from benchmark.core.results_folder import write_json
from benchmark.studies.gpu import bare_cli
from benchmark.studies.gpu.batches import Batch, draw_batches, make_batch
from benchmark.studies.gpu.ensemble import read_ensemble
from benchmark.studies.gpu.profiles import profile_stages, record_kernels
from benchmark.studies.gpu.stage import CUDA_OPTIONS, Setup, Stage, Tensors, chosen_device, next_feeds
from benchmark.studies.gpu.timing import NO_TIME, Limits, Timing, time_runs
from benchmark.studies.gpu.tuning_inputs import CUTS, ONE_GROUP, Cut
from nemo_triton.audio import SAMPLE_RATE, load_audio
from nemo_triton.demo_speech import MANIFEST as DEMO_MANIFEST
from nemo_triton.errors import ClientError
from nemo_triton.manifest import read_manifest

ROOT = Path(__file__).parents[3]
PROFILED_SIZE = 32
"""Utterances of the batch that is profiled, where that size is measured; else the smallest size."""


def _options(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    wrong = [value for value in values if "=" not in value]
    if wrong:
        raise click.BadParameter(f"{wrong[0]} is not NAME=VALUE")
    return dict(value.split("=", 1) for value in values)


@click.command(help=__doc__)
@click.argument("names", nargs=-1, required=True)
@click.option("--repository", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--batch",
    "sizes",
    multiple=True,
    type=click.IntRange(1),
    default=(1, 8, 32, 128),
    show_default=True,
    help="Utterances per batch; give it again for more sizes.",
)
@click.option("--batches", "count", type=click.IntRange(1), default=4, show_default=True, help="Batches of each size.")
@click.option("--seconds", default=1.0, show_default=True, help="Of each measurement, about.")
@click.option(
    "--slowest",
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="A longer run ends its measurement; the model's other cuts and larger batches are skipped.",
)
@click.option(
    "--cut",
    "cut_names",
    multiple=True,
    type=click.Choice([cut.name for cut in CUTS]),
    help="How the encoder groups a batch by length.  [default: all]",
)
@click.option("--profile/--no-profile", default=True, help="Write onnxruntime's profile of one batch, gzipped.")
@click.option("--budget", default=600.0, show_default=True, metavar="SECONDS", help="No run begins later.")
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_options,
    help="Of onnxruntime's CUDA provider, instead of what the server is given.",
)
@click.option(
    "--device", type=click.Choice(["cuda", "cpu"]), help="[default: cuda if onnxruntime has its provider, else cpu]"
)
@click.option("--label", default="", help="Added to the names of files, to keep those of another run.")
@click.option("--cpu-decoder-threads", "threads", type=click.IntRange(0), default=1, show_default=True)
def main(
    *,
    names: tuple[str, ...],
    repository: Path,
    out: Path,
    sizes: tuple[int, ...],
    count: int,
    seconds: float,
    slowest: float,
    cut_names: tuple[str, ...],
    profile: bool,
    budget: float,
    options: dict[str, str],
    device: str | None,
    label: str,
    threads: int,
) -> int:
    ort.set_default_logger_severity(3)
    limits = Limits(seconds, slowest, time.monotonic() + budget)
    pool = [load_audio(utterance.audio) for utterance in read_manifest(DEMO_MANIFEST).utterances]
    plan = Plan(
        repository=repository,
        out=out,
        label=label,
        warm_up=make_batch([pool[0][:SAMPLE_RATE]]),
        batches={size: list(draw_batches(pool, size, count)) for size in sorted(set(sizes))},
        cuts=[cut for cut in CUTS if not cut_names or cut.name in cut_names],
        setup=Setup(chosen_device(device), cuda_options={**CUDA_OPTIONS, **options}),
        decoder_threads=threads,
        profile=profile,
        limits=limits,
    )
    code = bare_cli.EXIT_OK
    for name in names:
        try:
            if limits.no_time_left():
                raise ClientError(NO_TIME)
            Measurement(name, plan).run()
        # onnxruntime's errors share no base but Exception, and one model must not cost the others their figures.
        except Exception as error:
            bare_cli.print_error(f"{name}: {bare_cli.describe(error).removeprefix(f'{name}: ')}")
            code = bare_cli.EXIT_PROBLEM
        gc.collect()
    return code


@dataclass(frozen=True)
class Plan:
    """What is measured of each model.

    repository: of the models
    out: folder of the results
    label: added to the names of files
    warm_up: one short utterance, run before all else, so that no first run loads libraries
    batches: by size, smallest first
    cuts: of the encoder
    setup: device and options of features and encoder
    decoder_threads: of onnxruntime on the CPU
    profile: whether one batch is profiled
    limits: of each measurement, and of all
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
    """One model's measurement, and its report as it grows."""

    name: str
    plan: Plan
    report: dict[str, Any] = field(default_factory=dict)
    slow_sizes: list[int] = field(default_factory=list)
    """Sizes above a limit, or above such a size."""

    def run(self) -> None:
        """Measure size by size, and write the report after each step. Raises EnsembleError or StageError."""
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
        tunable = Setup(setup.device, tf32=True, tunable=True, cuda_options=setup.cuda_options)
        self.encoder = Stage(plan.repository / self.ensemble.encoder, tunable)
        self.decoders: dict[str, Stage] = {}
        decoder = self.ensemble.decoder
        # Beside the decoder, benchmark.studies.gpu.pack may have written ones of other frames per step: NAME_decoder.8
        for folder in sorted((plan.repository / decoder, *plan.repository.glob(f"{decoder}.*"))):
            kind = folder.name.removeprefix(decoder)
            self.decoders[f"cpu{kind}"] = Stage(folder, Setup("cpu", threads=plan.decoder_threads))
            if setup.device != "cpu":
                self.decoders[f"{setup.device}{kind}"] = Stage(folder, setup)
        opened = time.perf_counter()
        features = self.features.run(plan.warm_up.feeds())
        encoded = self.encoder.run({**next_feeds(features, setup.device), **ONE_GROUP.feeds()})
        for stage in self.decoders.values():
            stage.run(next_feeds(encoded, stage.device))
        self.report |= {
            "name": self.name,
            "device": setup.device,
            "onnxruntime": ort.__version__,
            "options": dict(setup.cuda_options or {}),
            "providers": self.encoder.session.get_providers(),
            "trained": self.ensemble.trained,
            "opened_seconds": opened - started,
            "warm_up_seconds": time.perf_counter() - opened,
            "batches": [],
            "skipped": [],
        }
        self._write()

    def _measure_size(self, size: int, batches: Sequence[Batch]) -> bool:
        """Measure all stages on batches of one size; whether larger ones are worth it."""
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
            tokens = sum(int(results["TOKENS_LENGTH"].numpy().sum()) for results in texts)
            row["decoder"][kind] = {**self._note(size, f"decoder on {kind}", decoding), "tokens": tokens}
            fast = fast and not decoding.too_slow
            self._write()
        return fast and not timing.too_slow

    def _measure_encoder(
        self, size: int, features: Sequence[Tensors], audio: Sequence[float]
    ) -> tuple[dict[str, Any], list[Tensors], bool]:
        """A row for each cut, what the encoder returned for each batch, and whether larger ones are worth it."""
        rows: dict[str, Any] = {}
        encoded: list[Tensors] = []
        for place, cut in enumerate(self.plan.cuts):
            feeds = [{**next_feeds(results, self.encoder.device), **cut.feeds()} for results in features]
            # The results of the cut before are the same, and are not held twice.
            encoded = []
            timing, encoded = time_runs(self.encoder.run, feeds, audio, self.plan.limits)
            rows[cut.name] = self._note(size, f"encoder, {cut.name}", timing)
            self._write()
            if timing.stopped:
                for other in self.plan.cuts[place + 1 :]:
                    self._skip(f"batch {size}: encoder, {other.name}: {cut.name} was stopped, {timing.stopped}")
                return rows, encoded, not timing.too_slow
        return rows, encoded, True

    def _note(self, size: int, what: str, timing: Timing) -> dict[str, Any]:
        click.echo(f"{self.name} batch {size} {what}: {timing.line()}")
        return timing.row()

    def _skip(self, what: str) -> None:
        click.echo(f"{self.name} skipped {what}")
        self.report["skipped"].append(what)
        self._write()

    def _profile(self) -> None:
        plan = self.plan
        fast = [size for size in plan.batches if size not in self.slow_sizes]
        size = PROFILED_SIZE if PROFILED_SIZE in fast else next(iter(plan.batches))
        batch = plan.batches[size][0]
        if plan.setup.device == "cuda":
            self.report["kernels"] = record_kernels(self.features, self.encoder, batch)
        prefix = str(plan.out / f"{self.name}{plan.label}")
        self.report["profiled_batch"] = size
        self.report["profiles"] = profile_stages(plan.repository, self.ensemble, batch, plan.setup, prefix=prefix)
        self._write()

    def _write(self) -> None:
        write_json(self.plan.out / f"{self.name}{self.plan.label}.json", self.report)


if __name__ == "__main__":
    bare_cli.run(main)
