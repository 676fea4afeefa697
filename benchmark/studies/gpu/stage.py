"""One stage of a recognizer in this process, on a GPU or on the CPU."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import onnx
import onnxruntime as ort

from benchmark.studies.gpu.tuning_inputs import tune_by_inputs
from benchmark.studies.gpu.unpack import write
from export_scripts.stages.text import split_text
from nemo_triton.contract import ENCODED, FEATURES, LABELS, PIECES
from nemo_triton.errors import ClientError

Device = Literal["cpu", "cuda"]
Tensors = dict[str, Any]
"""onnxruntime's OrtValues by the names of a stage's outputs."""

CUDA_OPTIONS = {
    "cudnn_conv_algo_search": "DEFAULT",
    "arena_extend_strategy": "kSameAsRequested",
    "cudnn_conv_use_max_workspace": "1",
    "cudnn_conv1d_pad_to_nc1d": "1",
}
"""What export_scripts.repository.gpu sets for the server."""


class StageError(ClientError):
    """A stage that can't be opened."""


@dataclass(frozen=True)
class Setup:
    """How a stage is opened.

    device: where it runs
    tf32: whether products of float32 may be rounded for a GPU's tensor cores
    tunable: whether the numbers of its Tuning become inputs, see tuning_inputs
    threads: of onnxruntime on the CPU; 0 takes all cores
    cuda_options: of onnxruntime's CUDA provider
    profile: beginning of the path of onnxruntime's profile; empty writes none
    """

    device: Device = "cpu"
    tf32: bool = False
    tunable: bool = False
    threads: int = 0
    cuda_options: Mapping[str, str] | None = None
    profile: str = ""


class Stage:
    """A stage's graph, opened by onnxruntime."""

    def __init__(self, folder: Path, setup: Setup) -> None:
        """Open the graph in the stage's folder. Raises StageError where it is missing or the GPU can't be used."""
        self.device = setup.device
        file = folder / "1" / "model.onnx"
        if not file.exists():
            raise StageError(f"{file}: no such graph; unpack or export the model again")
        options = ort.SessionOptions()
        options.intra_op_num_threads = setup.threads
        if setup.profile:
            options.enable_profiling = True
            options.profile_file_prefix = setup.profile
        providers: list[Any] = ["CPUExecutionProvider"]
        if setup.device == "cuda":
            cuda = {**(CUDA_OPTIONS if setup.cuda_options is None else setup.cuda_options)}
            providers.insert(0, ("CUDAExecutionProvider", {**cuda, "use_tf32": str(int(setup.tf32))}))
        with tempfile.TemporaryDirectory() as changed:
            if setup.tunable or setup.device == "cuda":
                model = onnx.load(file)
                if setup.tunable:
                    tune_by_inputs(model)
                if setup.device == "cuda" and any(output.name == "TEXT" for output in model.graph.output):
                    # onnxruntime puts the loop over strings on the GPU, where strings can't be copied to.
                    model, _ = split_text(model)
                file = Path(changed) / "model.onnx"
                write(model, file)
                # Large models are not held twice.
                del model
            self.session = ort.InferenceSession(str(file), options, providers=providers)
        if setup.device == "cuda" and "CUDAExecutionProvider" not in self.session.get_providers():
            raise StageError("onnxruntime has the CUDA provider but can't use it; check the driver and cuDNN")
        self.inputs = {value.name for value in self.session.get_inputs()}
        self.outputs = [value.name for value in self.session.get_outputs() if value.name != "LOG_PROBS"]

    def run(self, feeds: Mapping[str, Any]) -> Tensors:
        """Run on arrays, OrtValues or Flats by input name; those that the graph does not have are left out.

        Results stay on the device, but for texts.
        """
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
    """An OrtValue taken as a tensor of one dimension, without a copy."""

    tensor: Any

    def bind(self, binding: Any, name: str) -> None:
        count = int(np.prod(self.tensor.shape()))
        kind = {"tensor(float)": np.float32, "tensor(int32)": np.int32}[self.tensor.data_type()]
        binding.bind_input(name, self.tensor.device_name(), 0, kind, [count], self.tensor.data_ptr())


def best_device() -> Device:
    """What onnxruntime says it could use; where it can't, opening a Stage says so."""
    return "cuda" if "CUDAExecutionProvider" in ort.get_available_providers() else "cpu"


def chosen_device(option: str | None) -> Device:
    """The value of an option --device, or the best device where it is not given."""
    return best_device() if option is None else cast(Device, option)


def ragged(name: str, values: Any, length: Any) -> dict[str, Any]:
    """A padded batch as the next stage takes it from Triton: end to end, with shapes and lengths.

    Args:
        name: of the tensor
        values: array or OrtValue [B, steps, ...]
        length: array or OrtValue int32 [B, 1], steps of each item

    Returns:
        NAME [B * steps * ...], NAME_SHAPE int32 [B, dims of an item], NAME_LENGTH
    """
    is_tensor = isinstance(values, ort.OrtValue)
    shape = values.shape() if is_tensor else values.shape
    return {
        name: Flat(values) if is_tensor else values.reshape(-1),
        f"{name}_SHAPE": np.array([list(shape[1:])] * shape[0], np.int32),
        f"{name}_LENGTH": length,
    }


def next_feeds(results: Tensors, device: Device) -> dict[str, Any]:
    """What one stage returned as inputs of the next one, which runs on `device`."""
    name = next(tensor.name for tensor in (FEATURES, LABELS, ENCODED, PIECES) if tensor.name in results)
    values, length = results[name], results[f"{name}_LENGTH"]
    return ragged(name, values.numpy(), length.numpy()) if device == "cpu" else ragged(name, values, length)
