"""Run a recognizer of a model repository in this process, with batches like Triton's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from tritonclient.grpc import model_config_pb2 as triton

from export_scripts.repository.config import THREADS_PARAMETER, read_config
from nemo_triton.contract import AUDIO

Item = dict[str, np.ndarray]


class StageError(Exception):
    """A stage failed. The message names it and quotes onnxruntime."""


class LocalEnsemble:
    """An ensemble of a repository, with its graphs opened on the CPU."""

    def __init__(self, repository: Path, name: str) -> None:
        ort.set_default_logger_severity(3)
        self.config = read_config(repository / name)
        models = [step.model_name for step in self.config.ensemble_scheduling.step]
        self.configs = {model: read_config(repository / model) for model in models}
        self.sessions = {model: _open(repository / model / "1" / "model.onnx", self.configs[model]) for model in models}

    def run(self, audio: Sequence[np.ndarray]) -> list[Item]:
        """Recognize one batch.

        Args:
            audio: int16 [samples] each, 16 kHz, of any lengths.

        Returns:
            All tensors of the ensemble for each utterance, with batch dimension [1, ...], padded to the longest
            utterance of the batch.

        Raises:
            StageError: A stage fails, and with it the whole batch.
        """
        items: list[Item] = [{AUDIO.name: samples[None]} for samples in audio]
        for step in self.config.ensemble_scheduling.step:
            config = self.configs[step.model_name]
            feeds = [{name: item[source] for name, source in step.input_map.items()} for item in items]
            results = self._execute(config, feeds, list(step.output_map))
            for item, outputs in zip(items, results, strict=True):
                item.update({target: outputs[name] for name, target in step.output_map.items()})
        return items

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


def _open(graph: Path, config: triton.ModelConfig) -> ort.InferenceSession:
    options = ort.SessionOptions()
    if THREADS_PARAMETER in config.parameters:
        options.intra_op_num_threads = int(config.parameters[THREADS_PARAMETER].string_value)
    return ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
