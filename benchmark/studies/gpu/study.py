"""The GPU benchmark: every model in every serving variant, compared with PyTorch and the roofline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
import onnxruntime
from google.protobuf.message import DecodeError

from benchmark.core.loads import fastest
from benchmark.core.models import Model
from benchmark.data.dataset import Dataset
from benchmark.studies.exports import precision_suffix
from benchmark.studies.gpu.gather import pytorch_rows, served_row
from benchmark.studies.gpu.gpus import find_gpus
from benchmark.studies.gpu.pytorch_runs import PyTorchRunner, measure_pytorch, measure_rates
from benchmark.studies.gpu.roofline import Json, peak_rates
from benchmark.studies.gpu.served import Loads, measure_served
from benchmark.studies.gpu.variants import Variant
from benchmark.studies.variants import write_variant
from export_scripts.errors import ExportError
from export_scripts.precision.choice import PRECISIONS
from export_scripts.repository.gpu import Lengths, TensorRt
from nemo_triton.errors import ClientError, one_line
from nemo_triton.loadtest.provenance import machine, versions
from nemo_triton.terminal import exit_codes


@dataclass(frozen=True)
class Setting:
    """Settings that all models share.

    Attributes:
        repository: The model repository.
        out: Folder for results.
        dataset: Utterances to send.
        durations: Seconds of each utterance.
        gpus: Names of the GPUs that are used; empty on a CPU.
        variants: Serving variants to measure.
        loads: Loads on each server.
        export_python: Python of the export environment.
        batch: Batch size in PyTorch.
        rounds: Rounds of each variant and of PyTorch.
    """

    repository: Path
    out: Path
    dataset: Dataset
    durations: list[float]
    gpus: list[str]
    variants: Sequence[Variant]
    loads: Loads
    export_python: Path
    batch: int
    rounds: int


class Study:
    """A study that measures models one after the other.

    Attributes:
        setting: Settings that all models share.
        checkpoints: Checkpoints by the name of their fp32 model.
        failed: Whether a measurement failed.
        pytorch: Runner of PyTorch.
    """

    def __init__(self, setting: Setting, checkpoints: Mapping[str, Path]) -> None:
        self.setting = setting
        self.checkpoints = checkpoints
        self.failed = False
        self.pytorch = PyTorchRunner(setting.export_python, setting.gpus)

    def measure(self, models: Sequence[Model]) -> Json:
        """Measure all models. Returns the values of the report."""
        setting = self.setting
        measured_rates = None
        try:
            measured_rates = measure_rates(self.pytorch, setting.out / "rates.json")
        except ClientError as error:
            self.fail(f"the machine's rates: {error}")
        rates = peak_rates(setting.gpus, measured_rates)
        rows = [
            self._measure_model(model, rates, f"{number} of {len(models)}")
            for number, model in enumerate(models, start=1)
        ]
        providers = ", ".join(onnxruntime.get_available_providers())
        return {
            "gpus": setting.gpus,
            "no_gpu": None if setting.gpus else _why_no_gpu(),
            "machine": machine(),
            "versions": versions(),
            "onnxruntime": f"onnxruntime {onnxruntime.__version__} ({providers})",
            "dataset": asdict(setting.dataset.description),
            "durations": setting.durations,
            "loads": asdict(setting.loads),
            "ways": {variant.name: variant.description for variant in setting.variants},
            "rates": rates,
            "measured_rates": measured_rates,
            "models": rows,
        }

    def fail(self, message: str) -> None:
        """Print an error and remember that a measurement failed."""
        exit_codes.print_error(message)
        self.failed = True

    def _measure_model(self, model: Model, rates: Json | None, position: str) -> Json:
        suffixes = [precision_suffix(precision) for precision in PRECISIONS]
        base = next((name for name in self.checkpoints if model.name in {name + end for end in suffixes}), None)
        row: Json = {
            "name": model.name,
            "precision": model.precision,
            "random_weights": model.random_weights,
            "nemo_class": model.nemo_class,
            "parameters": model.parameters,
            "needs": None,
            "served": [],
            "pytorch": [],
            "no_pytorch": "no checkpoint was given" if base is None else None,
        }
        pytorch = None
        if base is not None:
            click.echo(f"{model.name} ({position}): PyTorch")
            try:
                pytorch = self._measure_pytorch(base)
                row["needs"] = pytorch["needs"]
            except (ClientError, OSError) as error:
                self.fail(f"{model.name}, PyTorch: {error}")
                row["no_pytorch"] = one_line(error)
        nemo_texts = pytorch["measured"]["fp32"]["texts"] if pytorch else None
        context = {"durations": self.setting.durations, "rates": rates, "nemo_texts": nemo_texts}
        if pytorch is not None and base == model.name:
            row["pytorch"] = pytorch_rows(pytorch, context)
        row["served"] = ServedVariants(self, model, position).measure(row, context)
        return row

    def _measure_pytorch(self, base: str) -> Json:
        setting = self.setting
        file = setting.out / "results" / base / "pytorch.json"
        checkpoint = self.checkpoints[base]
        return measure_pytorch(
            self.pytorch, checkpoint, setting.dataset, file, batch=setting.batch, rounds=setting.rounds
        )


class ServedVariants:
    """One model served in every variant.

    Attributes:
        study: The benchmark.
        setting: Settings of the benchmark.
        model: The model.
        position: Printed with the progress, such as "1 of 3".
        not_run: Reasons why variants are not measured, by variant.
        tensorrt: Settings of TensorRT.
    """

    def __init__(self, study: Study, model: Model, position: str) -> None:
        self.study = study
        self.setting = study.setting
        self.model = model
        self.position = position
        self.not_run: dict[str, str] = {}
        lengths = Lengths(shortest=min(self.setting.durations), longest=max(self.setting.durations))
        self.tensorrt = TensorRt(lengths, str((self.setting.out / "engines").resolve()))

    def measure(self, row: Json, context: Json) -> list[Json]:
        """Measure a sweep of each variant, then rounds of all variants in turn, each at its best concurrency.

        Args:
            row: Row of the model.
            context: Values of the study, see gather.served_row.

        Returns:
            A row per variant.
        """
        variants = self.setting.variants
        sweeps: dict[str, Json] = {}
        rounds: dict[str, list[Json]] = {variant.name: [] for variant in variants}
        for variant in variants:
            if (measured := self._measure(variant, "sweep", self.setting.loads.concurrencies)) is not None:
                sweeps[variant.name] = measured
        for number in range(1, self.setting.rounds + 1):
            for variant in variants:
                if variant.name in sweeps:
                    best = fastest(sweeps[variant.name]["loads"])["load"]["concurrency"]
                    if (measured := self._measure(variant, f"round {number}", str(best))) is not None:
                        rounds[variant.name].append(measured)
        return [
            {"name": name, "not_run": self.not_run[name]}
            if name in self.not_run
            else served_row(name, sweeps[name], rounds[name], row, context)
            for name in rounds
        ]

    def _measure(self, variant: Variant, kind: str, concurrencies: str) -> Json | None:
        """Measure one variant; None if this or an earlier measurement of it failed."""
        if variant.name in self.not_run:
            return None
        setting, model = self.setting, self.model
        click.echo(f"{model.name} ({self.position}): {variant.name}, {kind}")
        served = setting.out / "variants" / model.name / variant.name
        file = setting.out / "results" / model.name / f"{variant.name}.{kind.replace(' ', '_')}.json"
        conditions = {"parity_id": model.parity_id, "variant": variant.name, "kind": kind, "gpus": setting.gpus}
        loads = replace(setting.loads, concurrencies=concurrencies)
        try:
            write_variant(setting.repository, model.name, served, variant.change_for(self.tensorrt))
            return measure_served(served, model.name, setting.dataset, loads, file, conditions=conditions)
        except (ClientError, ExportError, DecodeError, OSError) as error:
            self.study.fail(f"{model.name}, {variant.name}: {error}")
            self.not_run[variant.name] = one_line(error)
            return None


def _why_no_gpu() -> str:
    gpus = find_gpus()
    if gpus:
        return (
            f"the server can't use {', '.join(gpus)}: onnxruntime is the CPU build (`make install SERVER=server-gpu`)"
        )
    return "nvidia-smi lists none on this machine"
