"""A recognizer's stages one by one in this process, on a GPU or on the CPU.

    python -m benchmark.gpu.stages NAME... --repository model_repository --out FOLDER

Batches hold utterances of LibriSpeech's lengths in random order, as a server gets them. Features and encoder run on the
device, tensors stay on it between them; the decoder runs on the CPU and on the device. The encoder's length bucketing
is varied: its numbers (graphs/tuning.py) are inputs of the graph here. Each model's figures are a JSON file in FOLDER,
written anew after each batch size.

Needs numpy, onnx, onnxruntime, click and the demo's recordings; no server, no NeMo.
"""

from __future__ import annotations

import gc
import gzip
import json
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from benchmark.gpu.mixed_speech import draw_lengths, join
from benchmark.gpu.unpack import write
from client.audio import SAMPLE_RATE, load_audio
from client.manifest import read_manifest
from export_scripts.graphs.groups import PASS_STEPS, STEPS_AT_ONCE
from export_scripts.graphs.text import split_text
from export_scripts.graphs.tuning import GPU, TUNINGS

ROOT = Path(__file__).parent.parent.parent
DEMO = ROOT / "demo" / "commands" / "manifest.jsonl"
SCORES_AT_ONCE = "scores_at_once"
FRAME_RATE = 100
EVERYTHING = 10**6
"""Seconds that no batch has."""

CUDA_OPTIONS = {
    "cudnn_conv_algo_search": "DEFAULT",
    "arena_extend_strategy": "kSameAsRequested",
    "cudnn_conv_use_max_workspace": "1",
    "cudnn_conv1d_pad_to_nc1d": "1",
}
"""What export_scripts.accelerators asks of the server."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Cut:
    """One way to cut a batch into groups; see graphs/tuning.py."""

    name: str
    pass_seconds: float
    seconds_at_once: float = GPU.seconds_at_once
    scores_at_once: int = GPU.scores_at_once

    def feeds(self) -> dict[str, Array]:
        return {
            PASS_STEPS: np.array([round(self.pass_seconds * FRAME_RATE)], np.int64),
            STEPS_AT_ONCE: np.array([round(self.seconds_at_once * FRAME_RATE)], np.int64),
            SCORES_AT_ONCE: np.array(self.scores_at_once, np.int64),
        }


CUTS = (
    Cut("one group", EVERYTHING, EVERYTHING),
    Cut("pass 300 s", 300),
    Cut("pass 100 s", 100),
    Cut("pass 30 s", 30),
    Cut("pass 10 s", 10),
    Cut("pass 1 s", 1),
    Cut("one group, small attention blocks", EVERYTHING, EVERYTHING, 1 << 23),
)
PLAIN = CUTS[0]


@dataclass(frozen=True)
class Batch:
    """Utterances of one batch: int16 samples end to end, and the length of each."""

    samples: Array
    lengths: Array

    @property
    def seconds(self) -> float:
        return float(self.lengths.sum()) / SAMPLE_RATE


@dataclass
class Timing:
    """Seconds of each batch's runs."""

    first: list[float] = field(default_factory=list)
    later: list[list[float]] = field(default_factory=list)

    def row(self, batches: Sequence[Batch]) -> dict[str, Any]:
        audio = sum(batch.seconds for batch in batches)
        medians = [statistics.median(runs) for runs in self.later]
        return {
            "ms_per_batch": 1000 * statistics.mean(medians),
            "ms_by_batch": [round(1000 * seconds, 3) for seconds in medians],
            "first_ms_by_batch": [round(1000 * seconds, 3) for seconds in self.first],
            "fastest_ms_by_batch": [round(1000 * min(runs), 3) for runs in self.later],
            "slowest_ms_by_batch": [round(1000 * max(runs), 3) for runs in self.later],
            "rtfx": audio / sum(medians),
        }


@click.command(help=__doc__)
@click.argument("names", nargs=-1, required=True)
@click.option("--repository", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--batch", "sizes", multiple=True, type=int, default=(1, 8, 32, 128), show_default=True)
@click.option("--batches", "count", default=4, show_default=True, help="Batches of each size.")
@click.option("--seconds", default=1.0, show_default=True, help="Of each measurement, about.")
@click.option("--cut", "cut_names", multiple=True, type=click.Choice([cut.name for cut in CUTS]), help="[default: all]")
@click.option("--profile/--no-profile", default=True, help="Write onnxruntime's profile of one batch, gzipped.")
@click.option("--budget", default=600.0, show_default=True, help="Seconds after which nothing new is begun.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="Of onnxruntime's CUDA provider.")
@click.option(
    "--device", type=click.Choice(["cuda", "cpu"]), help="[default: cuda where onnxruntime has its provider, else cpu]"
)
@click.option("--label", default="", help="Put behind the names of the files.")
@click.option("--cpu-decoder-threads", "threads", default=1, show_default=True)
def main(
    names: tuple[str, ...],
    repository: Path,
    out: Path,
    sizes: tuple[int, ...],
    count: int,
    seconds: float,
    cut_names: tuple[str, ...],
    profile: bool,
    budget: float,
    options: tuple[str, ...],
    device: str | None,
    label: str,
    threads: int,
) -> None:
    CUDA_OPTIONS.update(dict(option.split("=", 1) for option in options))
    ort.set_default_logger_severity(3)
    out.mkdir(parents=True, exist_ok=True)
    stop_at = time.monotonic() + budget
    pool = [load_audio(utterance.audio) for utterance in read_manifest(DEMO).utterances]
    batches = {size: list(make_batches(pool, size, count)) for size in sizes}
    cuts = [cut for cut in CUTS if not cut_names or cut.name in cut_names]
    for name in names:
        if time.monotonic() > stop_at:
            click.echo(f"{name}: no time left")
            continue
        try:
            _measure_model(name, device or best_device(), repository, out, label, batches, cuts, seconds, profile, stop_at, threads)
        except Exception as error:  # one model must not cost the others their figures
            click.echo(f"{name}: {type(error).__name__}: {str(error).splitlines()[0][:300]}")
        gc.collect()


def best_device() -> str:
    """What onnxruntime says it could use; where it can't, opening a Stage says so."""
    return "cuda" if "CUDAExecutionProvider" in ort.get_available_providers() else "cpu"


def make_batches(pool: Sequence[Array], size: int, count: int) -> Iterator[Batch]:
    """So many batches of utterances of LibriSpeech's lengths, joined from the pool's recordings."""
    generator = random.Random(size)
    for number in range(count):
        lengths = draw_lengths(size, seed=1000 * size + number)
        signals = [join(pool, length, generator) for length in lengths]
        yield Batch(np.concatenate(signals), np.array([[len(signal)] for signal in signals], np.int32))


def _measure_model(
    name: str,
    device: str,
    repository: Path,
    out: Path,
    label: str,
    batches: Mapping[int, Sequence[Batch]],
    cuts: Sequence[Cut],
    seconds: float,
    profile: bool,
    stop_at: float,
    threads: int,
) -> None:
    steps = steps_of(repository / name)
    started = time.perf_counter()
    features = Stage(repository / steps["features"], device, tf32=False)
    encoder = Stage(repository / steps["encoder"], device, tf32=True, tunable=True)
    decoders = {}
    for folder in sorted(repository.glob(f"{steps['decoder']}*")):
        size = folder.name.removeprefix(steps["decoder"])
        for place in dict.fromkeys(["cpu", device]):
            decoders[place + size] = Stage(folder, place, threads=threads if place == "cpu" else 0)
    report: dict[str, Any] = {
        "name": name,
        "device": device,
        "onnxruntime": ort.__version__,
        "options": dict(CUDA_OPTIONS),
        "providers": encoder.session.get_providers(),
        "opened_seconds": time.perf_counter() - started,
        "batches": [],
    }
    file = out / f"{name}{label}.json"
    for size, some in batches.items():
        if time.monotonic() > stop_at:
            report["cut_short"] = True
            break
        row = _measure_size(features, encoder, decoders, some, cuts, seconds, stop_at)
        report["batches"].append({"size": size, "audio_seconds": [round(b.seconds, 2) for b in some], **row})
        file.write_text(json.dumps(report, indent=1) + "\n")
        best = max(row["encoder"], key=lambda cut: row["encoder"][cut]["rtfx"])
        click.echo(
            f"{name} batch {size}: features {row['features']['ms_per_batch']:.1f} ms, encoder "
            + ", ".join(f"{cut} {found['ms_per_batch']:.1f}" for cut, found in row["encoder"].items())
            + f" ms (best {best}: RTFx {row['encoder'][best]['rtfx']:.0f}), decoder "
            + ", ".join(f"{kind} {found['ms_per_batch']:.1f}" for kind, found in row["decoder"].items())
            + " ms"
        )
    if profile and time.monotonic() < stop_at:
        size = 32 if 32 in batches else next(iter(batches))
        report["kernels"] = _kernels(features, encoder, batches[size][0]) if device == "cuda" else None
        report["profiles"] = _profiles(repository, steps, device, batches[size][0], out, name + label)
        file.write_text(json.dumps(report, indent=1) + "\n")


def _measure_size(
    features: Stage,
    encoder: Stage,
    decoders: Mapping[str, Stage],
    batches: Sequence[Batch],
    cuts: Sequence[Cut],
    seconds: float,
    stop_at: float,
) -> dict[str, Any]:
    audio = [
        {"SAMPLES": batch.samples, "SAMPLES_SHAPE": batch.lengths, "SAMPLES_LENGTH": batch.lengths} for batch in batches
    ]
    timing, made = time_runs(features, audio, seconds)
    result: dict[str, Any] = {"features": timing.row(batches), "encoder": {}, "decoder": {}}
    encoded: list[Tensors] = []
    for cut in cuts:
        if encoded and time.monotonic() > stop_at:
            break
        asked = [{**ragged("FEATURES", one["FEATURES"], one["FEATURES_LENGTH"]), **cut.feeds()} for one in made]
        timing, encoded = time_runs(encoder, asked, seconds)
        result["encoder"][cut.name] = timing.row(batches)
        asked = []
    source = "LABELS" if "LABELS" in encoded[0] else "ENCODED"
    for kind, decoder in decoders.items():
        place: Callable[[Any], Any] = (lambda value: value.numpy()) if decoder.device == "cpu" else (lambda value: value)
        asked = [ragged(source, place(one[source]), place(one[f"{source}_LENGTH"])) for one in encoded]
        timing, texts = time_runs(decoder, asked, seconds)
        tokens = sum(int(one["TOKENS_LENGTH"].numpy().sum()) for one in texts)
        result["decoder"][kind] = {**timing.row(batches), "tokens": tokens}
    return result


Tensors = dict[str, ort.OrtValue]


class Stage:
    """A stage's graph, opened on a device.

    tunable: whether the numbers of its Tuning are made inputs
    """

    def __init__(
        self, folder: Path, device: str, *, tf32: bool = False, tunable: bool = False, threads: int = 0, **settings: Any
    ) -> None:
        self.device = device
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        for key, value in settings.items():
            setattr(options, key, value)
        providers: list[Any] = ["CPUExecutionProvider"]
        if device == "cuda":
            providers.insert(0, ("CUDAExecutionProvider", {**CUDA_OPTIONS, "use_tf32": "1" if tf32 else "0"}))
        file = folder / "1" / "model.onnx"
        with tempfile.TemporaryDirectory() as changed:
            if tunable or device == "cuda":
                model = onnx.load(file)
                if tunable:
                    tune_by_inputs(model)
                if device == "cuda" and any(output.name == "TEXT" for output in model.graph.output):
                    # onnxruntime puts the loop over strings on the GPU, where strings can't be copied to.
                    model, _ = split_text(model)
                file = Path(changed) / "model.onnx"
                write(model, file)
                del model
            self.session = ort.InferenceSession(str(file), options, providers=providers)
        if device == "cuda" and "CUDAExecutionProvider" not in self.session.get_providers():
            raise RuntimeError("onnxruntime has the CUDA provider but can't use it")
        self.inputs = {value.name for value in self.session.get_inputs()}
        self.outputs = [value.name for value in self.session.get_outputs() if value.name != "LOG_PROBS"]

    def run(self, feeds: Mapping[str, Any]) -> Tensors:
        """Run on arrays or tensors of the device; results stay on the device, but for texts."""
        binding = self.session.io_binding()
        for name, value in feeds.items():
            if name not in self.inputs:
                continue
            if isinstance(value, Flat):
                value.bind(binding, name)
            elif isinstance(value, ort.OrtValue):
                binding.bind_ortvalue_input(name, value)
            else:
                binding.bind_cpu_input(name, np.require(value, requirements="C"))
        for name in self.outputs:
            binding.bind_output(name, "cpu" if name == "TEXT" else self.device)
        self.session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return dict(zip(self.outputs, binding.get_outputs(), strict=True))


@dataclass(frozen=True)
class Flat:
    """A tensor taken as a flat one, without a copy."""

    tensor: ort.OrtValue

    def bind(self, binding: ort.IOBinding, name: str) -> None:
        count = int(np.prod(self.tensor.shape()))
        kind = {"tensor(float)": np.float32, "tensor(int32)": np.int32}[self.tensor.data_type()]
        binding.bind_input(name, self.tensor.device_name(), 0, kind, [count], self.tensor.data_ptr())


def ragged(name: str, values: Any, length: Any) -> dict[str, Any]:
    """A padded tensor [B, steps, ...] as the next stage takes it from Triton: end to end, with shapes and lengths."""
    shape = values.shape() if isinstance(values, ort.OrtValue) else values.shape
    return {
        name: Flat(values) if isinstance(values, ort.OrtValue) else values.reshape(-1),
        f"{name}_SHAPE": np.array([list(shape[1:])] * shape[0], np.int32),
        f"{name}_LENGTH": length,
    }


def time_runs(stage: Stage, feeds: Sequence[Mapping[str, Any]], seconds: float) -> tuple[Timing, list[Tensors]]:
    """Run each batch once, and then all in turn until the seconds are over, at least three times."""
    timing, results = Timing(), []
    for one in feeds:
        started = time.perf_counter()
        results.append(stage.run(one))
        timing.first.append(time.perf_counter() - started)
    timing.later = [[] for _ in feeds]
    stop_at = time.perf_counter() + seconds
    while len(timing.later[0]) < 3 or time.perf_counter() < stop_at:
        for place, one in enumerate(feeds):
            started = time.perf_counter()
            stage.run(one)
            timing.later[place].append(time.perf_counter() - started)
    return timing, results


def steps_of(ensemble: Path) -> dict[str, str]:
    """The folders of an ensemble's features, encoder and decoder, from its config.pbtxt."""
    # Not by Triton's protobuf, which a bare machine lacks.
    steps = [line.split('"')[1] for line in (ensemble / "config.pbtxt").read_text().splitlines() if "model_name:" in line]
    return {
        "features": next(step for step in steps if step.startswith("mel_")),
        "encoder": next(step for step in steps if step.endswith("_encoder")),
        "decoder": next(step for step in steps if step.endswith("_decoder")),
    }


def tune_by_inputs(model: onnx.ModelProto) -> None:
    """Make the numbers of the graph's Tuning inputs of it, seen from within its loops; the model is changed."""
    wanted = {f".{PASS_STEPS}.": PASS_STEPS, f".{STEPS_AT_ONCE}.": STEPS_AT_ONCE}
    scores = {tuning.scores_at_once for tuning in TUNINGS.values()}
    _expose(model.graph, wanted, scores)
    for name, dims in ((PASS_STEPS, [1]), (STEPS_AT_ONCE, [1]), (SCORES_AT_ONCE, [])):
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.INT64, dims))


def _expose(graph: onnx.GraphProto, wanted: Mapping[str, str], scores: set[int]) -> None:
    renamed: dict[str, str] = {}
    for tensor in list(graph.initializer):
        target = next((new for part, new in wanted.items() if part in tensor.name), None)
        if target is None and _is_scores(tensor, scores):
            target = SCORES_AT_ONCE
        if target is not None:
            renamed[tensor.name] = target
            graph.initializer.remove(tensor)
    for node in list(graph.node):
        if node.op_type == "Constant" and _is_scores(node.attribute[0].t, scores):
            renamed[node.output[0]] = SCORES_AT_ONCE
            graph.node.remove(node)
    if renamed:
        _rename(graph, renamed)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _expose(attribute.g, wanted, scores)


def _is_scores(tensor: onnx.TensorProto, scores: set[int]) -> bool:
    if tensor.data_type != TensorProto.INT64 or list(tensor.dims) not in ([], [1]):
        return False
    return int(numpy_helper.to_array(tensor).reshape(-1)[0]) in scores


def _rename(graph: onnx.GraphProto, renamed: Mapping[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, renamed)


def _profiles(
    repository: Path, steps: Mapping[str, str], device: str, batch: Batch, out: Path, name: str
) -> dict[str, Any]:
    """Nodes by provider and operator of one run of each stage, and the copies between devices."""
    feeds: dict[str, Any] = {
        "SAMPLES": batch.samples,
        "SAMPLES_SHAPE": batch.lengths,
        "SAMPLES_LENGTH": batch.lengths,
    }
    found = {}
    for part in ("features", "encoder", "decoder"):
        prefix = str(out / f"{name}.{part}")
        stage = Stage(
            repository / steps[part],
            device,
            tf32=part == "encoder",
            tunable=part == "encoder",
            enable_profiling=True,
            profile_file_prefix=prefix,
        )
        if part == "encoder":
            feeds |= PLAIN.feeds()
        for _ in range(2):
            results = stage.run(feeds)
        file = Path(stage.session.end_profiling())
        found[part] = summarise(json.loads(file.read_text()))
        if part == "encoder":
            (out / f"{name}.{part}.profile.json.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
        for source in ("FEATURES", "LABELS", "ENCODED"):
            if source in results:
                feeds = ragged(source, results[source], results[f"{source}_LENGTH"])
    return found


def _kernels(features: Stage, encoder: Stage, batch: Batch) -> dict[str, Any] | None:
    """What runs on the GPU during one batch of the encoder, by PyTorch's profiler, which sees the whole process."""
    try:
        from torch.profiler import ProfilerActivity
        from torch.profiler import profile as record
    except ImportError:
        return None
    lengths = batch.lengths
    made = features.run({"SAMPLES": batch.samples, "SAMPLES_SHAPE": lengths, "SAMPLES_LENGTH": lengths})
    feeds = {**ragged("FEATURES", made["FEATURES"], made["FEATURES_LENGTH"]), **PLAIN.feeds()}
    encoder.run(feeds)
    with record(activities=[ProfilerActivity.CUDA]) as recorded:
        started = time.perf_counter()
        encoder.run(feeds)
        wall = time.perf_counter() - started
    rows = [(row.key, row.count, row.self_device_time_total) for row in recorded.key_averages()]
    rows.sort(key=lambda row: -row[2])
    return {
        "wall_ms": 1000 * wall,
        "busy_ms": sum(row[2] for row in rows) / 1000,
        "kernels": sum(row[1] for row in rows),
        "top": [{"name": key[:120], "runs": count, "ms": spent / 1000} for key, count, spent in rows[:40]],
    }


def summarise(events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of onnxruntime's profile of two runs: runs of nodes by provider and operator, those of one run."""
    nodes: Counter[tuple[str, str]] = Counter()
    spent: Counter[tuple[str, str]] = Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            key = (event["args"].get("provider", ""), event["args"].get("op_name", ""))
            nodes[key] += 1
            spent[key] += event["dur"]
    return {
        provider: {
            operator: {"runs": nodes[provider, operator] / 2, "host_ms": spent[provider, operator] / 2000}
            for kind, operator in sorted(nodes, key=lambda key: -spent[key])
            if kind == provider
        }
        for provider in sorted({kind for kind, _ in nodes})
    }


if __name__ == "__main__":
    main()
