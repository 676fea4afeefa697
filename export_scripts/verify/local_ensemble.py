"""Run a recognizer of a model repository in this process, with batches like Triton's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from tritonclient.grpc import model_config_pb2 as triton

from export_scripts.repository.config import THREADS_PARAMETER, read_config
from nemo_triton.contract import AUDIO, FLOAT_AUDIO, INT16_AUDIO, Part

Item = dict[str, np.ndarray]


class StageError(Exception):
    """A stage failed. The message names it and quotes onnxruntime."""


class LocalEnsemble:
    """An ensemble of a repository, and its counterpart for float samples if there is one, opened on the CPU.

    Attributes:
        config: Configuration of the ensemble for 16-bit samples.
    """

    def __init__(self, repository: Path, name: str) -> None:
        ort.set_default_logger_severity(3)
        self.config = read_config(repository / name)
        self.steps = {INT16_AUDIO: list(self.config.ensemble_scheduling.step)}
        counterpart = repository / _float_name(name)
        if counterpart.is_dir():
            self.steps[FLOAT_AUDIO] = list(read_config(counterpart).ensemble_scheduling.step)
        models = dict.fromkeys(step.model_name for steps in self.steps.values() for step in steps)
        self.configs = {model: read_config(repository / model) for model in models}
        self.sessions = {model: _open(repository / model / "1" / "model.onnx", self.configs[model]) for model in models}

    def run(self, audio: Sequence[np.ndarray]) -> list[Item]:
        """Recognize one batch.

        Args:
            audio: int16 or float32 [samples] each, 16 kHz, of any lengths.

        Returns:
            All tensors of the ensemble for each utterance, with batch dimension [1, ...], padded to the longest
            utterance of the batch.

        Raises:
            StageError: A stage fails, and with it the whole batch; or no ensemble takes float samples.
        """
        items: list[Item] = [{AUDIO.name: samples[None]} for samples in audio]
        paths = [self._steps_for(samples) for samples in audio]
        for number in range(len(self.steps[INT16_AUDIO])):
            # Only the first stages differ; all items share the batches of the others.
            groups: dict[str, tuple[triton.ModelEnsembling.Step, list[Item]]] = {}
            for item, steps in zip(items, paths, strict=True):
                groups.setdefault(steps[number].model_name, (steps[number], []))[1].append(item)
            for step, group in groups.values():
                self._run(step, group)
        return items

    def _steps_for(self, samples: np.ndarray) -> list[triton.ModelEnsembling.Step]:
        audio_format = INT16_AUDIO if samples.dtype == np.int16 else FLOAT_AUDIO
        if audio_format not in self.steps:
            raise StageError(f"{self.config.name}: the repository has no {_float_name(self.config.name)}")
        return self.steps[audio_format]

    def _run(self, step: triton.ModelEnsembling.Step, items: Sequence[Item]) -> None:
        """Run one step for these items, and add its outputs to them."""
        feeds = [{name: item[source] for name, source in step.input_map.items()} for item in items]
        results = self._execute(self.configs[step.model_name], feeds, list(step.output_map))
        for item, outputs in zip(items, results, strict=True):
            item.update({target: outputs[name] for name, target in step.output_map.items()})

    def _execute(self, config: triton.ModelConfig, items: Sequence[Item], names: list[str]) -> list[Item]:
        ragged = any(tensor.allow_ragged_batch for tensor in config.input)
        layouts = {tuple(item[tensor.name].shape for tensor in config.input) for item in items}
        if not ragged and len(layouts) > 1:
            return [self._execute(config, [item], names)[0] for item in items]
        feeds = {}
        for tensor in config.input:
            arrays = [item[tensor.name] for item in items]
            flat = tensor.allow_ragged_batch
            feeds[tensor.name] = np.concatenate([array.ravel() if flat else array for array in arrays])
        for entry in config.batch_input:
            shapes = [item[entry.source_input[0]].shape[1:] for item in items]
            feeds[entry.target_name[0]] = np.array(shapes, dtype=np.int32)
        try:
            outputs = self.sessions[config.name].run(names, feeds)
        except Exception as error:
            # onnxruntime's errors have no common base class.
            raise StageError(f"{config.name}: {' '.join(str(error).split())}") from error
        return [
            {name: rows[row : row + 1] for name, rows in zip(names, outputs, strict=True)} for row in range(len(items))
        ]


def _float_name(name: str) -> str:
    """The ensemble for float samples of an ensemble for 16-bit samples."""
    with_log_probs = name.endswith(Part.LOG_PROBS.value)
    return (Part.FLOAT_LOG_PROBS if with_log_probs else Part.FLOAT).of(name.removesuffix(Part.LOG_PROBS.value))


def _open(graph: Path, config: triton.ModelConfig) -> ort.InferenceSession:
    options = ort.SessionOptions()
    if THREADS_PARAMETER in config.parameters:
        # One model runs at a time here, so it gets the threads of all its instances.
        instances = sum(group.count for group in config.instance_group)
        options.intra_op_num_threads = int(config.parameters[THREADS_PARAMETER].string_value) * instances
    return ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
