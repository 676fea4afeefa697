"""Run one stage of a recognizer in this process, on a GPU or on the CPU."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import onnx
import onnxruntime as ort

from benchmark.studies.gpu.cuts import Cut, apply_cut
from export_scripts.operators.weights import write_graph
from export_scripts.stages.text import split_text
from nemo_triton import contract
from nemo_triton.errors import ClientError

Device = Literal["cpu", "cuda"]
Tensors = dict[str, Any]
"""OrtValues by the names of a stage's outputs."""

CUDA_OPTIONS = {
    "cudnn_conv_algo_search": "DEFAULT",
    "arena_extend_strategy": "kSameAsRequested",
    "cudnn_conv_use_max_workspace": "1",
    "cudnn_conv1d_pad_to_nc1d": "1",
}
"""The options that export_scripts.repository.gpu sets for the server."""

BETWEEN_STAGES = (contract.FEATURES, contract.LABELS, contract.ENCODED, contract.PIECES)


class StageError(ClientError):
    """A stage that can't be opened."""


@dataclass(frozen=True)
class Setup:
    """Settings for opening a stage.

    Attributes:
        device: Device of the stage.
        tf32: Whether float32 products may use TF32.
        cut: Length bucketing of an encoder; None for what was exported.
        threads: Threads of onnxruntime on the CPU; 0 for all cores.
        cuda_options: Options of onnxruntime's CUDA provider; None for CUDA_OPTIONS.
        profile: Prefix of the path of onnxruntime's profile; empty for no profile.
    """

    device: Device = "cpu"
    tf32: bool = False
    cut: Cut | None = None
    threads: int = 0
    cuda_options: Mapping[str, str] | None = None
    profile: str = ""


class Stage:
    """A stage's graph, opened by onnxruntime."""

    def __init__(self, folder: Path, setup: Setup) -> None:
        """Open the graph in the stage's folder.

        Raises:
            StageError: The graph is missing, or the GPU can't be used.
        """
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
            if setup.cut is not None or setup.device == "cuda":
                model = onnx.load(file)
                if setup.cut is not None:
                    apply_cut(model, setup.cut)
                if setup.device == "cuda" and any(output.name == contract.TEXT.name for output in model.graph.output):
                    # onnxruntime places the loop over strings on the GPU, but strings can't be copied there.
                    model, _ = split_text(model)
                file = Path(changed) / "model.onnx"
                write_graph(model, file)
                # Free the memory before onnxruntime loads the model again.
                del model
            self.session = ort.InferenceSession(str(file), options, providers=providers)
        if setup.device == "cuda" and "CUDAExecutionProvider" not in self.session.get_providers():
            raise StageError("onnxruntime can't use its CUDA provider; check the driver and cuDNN")
        self.inputs = {value.name for value in self.session.get_inputs()}
        self.outputs = [value.name for value in self.session.get_outputs() if value.name != contract.LOG_PROBS.name]

    def run(self, feeds: Mapping[str, Any]) -> Tensors:
        """Run the stage.

        Args:
            feeds: Arrays, OrtValues or Flats by input name. Names that the graph lacks are ignored.

        Returns:
            The outputs, which stay on the device, except texts.
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
            binding.bind_output(name, "cpu" if name == contract.TEXT.name else self.device)
        self.session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return dict(zip(self.outputs, binding.get_outputs(), strict=True))


@dataclass(frozen=True)
class Flat:
    """An OrtValue that is passed as a one-dimensional tensor, without a copy."""

    tensor: Any

    def bind(self, binding: Any, name: str) -> None:
        """Bind the tensor to the input `name`."""
        count = int(np.prod(self.tensor.shape()))
        kind = {"tensor(float)": np.float32, "tensor(int32)": np.int32}[self.tensor.data_type()]
        binding.bind_input(name, self.tensor.device_name(), 0, kind, [count], self.tensor.data_ptr())


def best_device() -> Device:
    """The device that onnxruntime lists as available. Opening a Stage fails if it can't be used."""
    return "cuda" if "CUDAExecutionProvider" in ort.get_available_providers() else "cpu"


def chosen_device(option: str | None) -> Device:
    """The value of an option --device; the best device by default."""
    return best_device() if option is None else cast(Device, option)


def ragged(tensor: contract.Tensor, values: Any, length: Any) -> dict[str, Any]:
    """Convert a padded batch to the inputs of the next stage, as Triton passes them: end to end, shapes, lengths.

    Args:
        tensor: The tensor between the stages.
        values: Array or OrtValue [B, steps, ...].
        length: Array or OrtValue int32 [B, 1], steps of each item.

    Returns:
        NAME [B * steps * ...], NAME_SHAPE int32 [B, dims of an item], NAME_LENGTH int32 [B, 1].
    """
    is_tensor = isinstance(values, ort.OrtValue)
    shape = values.shape() if is_tensor else values.shape
    return {
        tensor.name: Flat(values) if is_tensor else values.reshape(-1),
        tensor.shape.name: np.array([list(shape[1:])] * shape[0], np.int32),
        tensor.length.name: length,
    }


def next_feeds(results: Tensors, device: Device) -> dict[str, Any]:
    """Convert the outputs of one stage to the inputs of the next one, which runs on `device`."""
    tensor = next(tensor for tensor in BETWEEN_STAGES if tensor.name in results)
    values, length = results[tensor.name], results[tensor.length.name]
    return ragged(tensor, values.numpy(), length.numpy()) if device == "cpu" else ragged(tensor, values, length)
