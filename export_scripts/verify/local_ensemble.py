"""Run a recognizer of a model repository in this process, with batches like Triton's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from tritonclient.grpc import model_config_pb2 as triton

from export_scripts.repository.config import THREADS_PARAMETER, read_config
from nemo_triton.contract import AUDIO, AUDIO_FORMATS, FLOAT_AUDIO, INT16_AUDIO, Part

Item = dict[str, np.ndarray]


class StageError(Exception):
    """A stage failed. The message names it and quotes onnxruntime."""


class LocalEnsemble:
    """An ensemble of a repository and its counterpart for float samples, with their graphs opened on the CPU.

    Attributes:
        config: Configuration of the ensemble for 16-bit samples.
    """

    def __init__(self, repository: Path, name: str) -> None:
        ort.set_default_logger_severity(3)
        self.config = read_config(repository / name)
        configs = {INT16_AUDIO: self.config, FLOAT_AUDIO: read_config(repository / _float_name(name))}
        self.steps = {audio_format: list(config.ensemble_scheduling.step) for audio_format, config in configs.items()}
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
            StageError: A stage fails, and with it the whole batch.
        """
        items: list[Item] = [{AUDIO.name: samples[None]} for samples in audio]
        formats = [INT16_AUDIO if samples.dtype == np.int16 else FLOAT_AUDIO for samples in audio]
        for steps in zip(*(self.steps[audio_format] for audio_format in AUDIO_FORMATS), strict=True):
            # Stages after the features are the same, and have all items in one batch.
            for step in {step.model_name: step for step in steps}.values():
                users = [audio_format for audio_format, each in zip(AUDIO_FORMATS, steps, strict=True) if each == step]
                self._run(step, [item for item, each in zip(items, formats, strict=True) if each in users])
        return items

    def _run(self, step: triton.ModelEnsembling.Step, items: Sequence[Item]) -> None:
        """Run one step for these items, and add its outputs to them."""
        if not items:
            return
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
        options.intra_op_num_threads = int(config.parameters[THREADS_PARAMETER].string_value)
    return ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
