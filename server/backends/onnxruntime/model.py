"""Triton's onnxruntime backend as a Python-based backend, for servers that lack the C++ one.

Triton runs this file for every model with `backend: "onnxruntime"` if it finds no libtriton_onnxruntime.so. It serves
the same repositories in the same way: ragged inputs, batch_input, instance groups, dynamic batching, parameters,
string tensors, auto-completion, CUDA and TensorRT.

Refused as not implemented: sequence batching, batch_output, optional inputs and OpenVINO. Tensors pass from stage to
stage through CPU memory, even between two stages on a GPU; the C++ backend keeps them on the GPU.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from audio_metric import AudioMetric
from batch import feeds, invalid_input, split
from checks import WILDCARD, ConfigError, TensorInfo, check
from joining import Array, Joiner
from session import model_file, open_session
from supervision import Supervision

AUTO_COMPLETED_MAX_BATCH_SIZE = 4
"""The default of Triton's --backend-config=default-max-batch-size."""


class TritonPythonModel:
    """One instance of one model; Triton runs each in its own process."""

    @staticmethod
    def auto_complete_config(auto_complete_model_config: Any) -> Any:
        """Fill in from the graph what a configuration leaves out."""
        completed = auto_complete_model_config
        config = completed.as_dict()
        if config.get("input") and config.get("output"):
            return completed
        session, _ = open_session(model_file(Path(pb_utils.get_model_dir()), config), config)
        inputs = [TensorInfo.of(argument) for argument in session.get_inputs()]
        outputs = [TensorInfo.of(argument) for argument in session.get_outputs()]
        batching = all(info.dims[:1] == (WILDCARD,) for info in (*inputs, *outputs))
        if config.get("max_batch_size", 0) and not batching:
            raise ConfigError(
                f"autofill failed for model '{config['name']}': model does not support batching "
                "while non-zero max_batch_size is specified"
            )
        if batching and not config.get("max_batch_size", 0):
            completed.set_max_batch_size(AUTO_COMPLETED_MAX_BATCH_SIZE)
            completed.set_dynamic_batching()
        for key, infos, add in (("input", inputs, completed.add_input), ("output", outputs, completed.add_output)):
            for info in infos if not config.get(key) else ():
                add({"name": info.name, "data_type": info.data_type, "dims": list(info.dims[batching:]) or [1]})
        return completed

    def initialize(self, args: dict[str, str]) -> None:
        """Open this version's graph on this instance's device, and check the configuration."""
        self.config = json.loads(args["model_config"])
        # Before the session starts its threads, which inherit the value.
        os.nice(int(self.config.get("parameters", {}).get("nice", {}).get("string_value", 0)))
        folder = Path(args["model_repository"]) / args["model_version"]
        self.session, self.run_options = open_session(
            model_file(folder, self.config),
            self.config,
            args["model_instance_kind"],
            int(args["model_instance_device_id"]),
        )
        inputs = [TensorInfo.of(argument) for argument in self.session.get_inputs()]
        outputs = [TensorInfo.of(argument) for argument in self.session.get_outputs()]
        check(self.config, inputs, outputs)
        self.batching = int(self.config.get("max_batch_size", 0)) > 0
        self.audio_metric = AudioMetric(self.config)
        self.joiner = Joiner()
        self.reshaped = {
            entry["name"]: [int(dim) for dim in entry["dims"]]
            for entry in self.config.get("output", ())
            if entry.get("reshape")
        }
        self.supervision = Supervision(args["model_instance_name"])

    def finalize(self) -> None:
        """End as planned: the model is unloaded."""
        self.supervision.end()

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Run all requests as one batch if the model batches, else one after the other."""
        inputs = [{tensor.name(): tensor.as_numpy() for tensor in request.inputs()} for request in requests]
        responses: dict[int, Any] = {}
        for index, request in enumerate(inputs):
            if (reason := invalid_input(self.config, request)) is not None:
                responses[index] = _failure(reason)
        valid = [index for index in range(len(requests)) if index not in responses]
        for batch in [valid] if self.batching else [[index] for index in valid]:
            if batch:
                responses.update(self._run_or_split(batch, requests, inputs))
        self.audio_metric.count([inputs[index] for index in valid])
        return [responses[index] for index in range(len(requests))]

    def _run_or_split(
        self, batch: Sequence[int], requests: Sequence[Any], inputs: Sequence[dict[str, Array]]
    ) -> dict[int, Any]:
        """Run a batch; if it fails, run each request unbatched, so that only those that fail by themselves do."""
        try:
            responses = self._run([requests[index] for index in batch], [inputs[index] for index in batch])
            return dict(zip(batch, responses, strict=True))
        except Exception as error:
            # onnxruntime's errors have no common base class.
            if len(batch) == 1:
                return {batch[0]: _failure(str(error))}
        split_responses = {}
        for index in batch:
            split_responses.update(self._run_or_split([index], requests, inputs))
        return split_responses

    def _run(self, requests: Sequence[Any], inputs: Sequence[dict[str, Array]]) -> list[Any]:
        requested = [list(request.requested_output_names()) for request in requests]
        names = sorted({name for request_names in requested for name in request_names})
        first_input = self.config["input"][0]["name"]
        items = [request[first_input].shape[0] if self.batching else 1 for request in inputs]
        joined = feeds(self.config, inputs, self.joiner)
        outputs = self.session.run(names, joined, self.run_options.of(joined))
        rows = {
            name: split(output, name, items) if self.batching else [output]
            for name, output in zip(names, outputs, strict=True)
        }
        return [
            pb_utils.InferenceResponse([self._tensor(name, rows[name][index]) for name in request_names])
            for index, request_names in enumerate(requested)
        ]

    def _tensor(self, name: str, rows: Array) -> Any:
        if name in self.reshaped:
            batch = rows.shape[:1] if self.batching else ()
            rows = rows.reshape(*batch, *self.reshaped[name])
        if rows.dtype == object:
            rows = np.array([text.encode() for text in rows.ravel()], dtype=object).reshape(rows.shape)
        return pb_utils.Tensor(name, np.ascontiguousarray(rows))


def _failure(message: str) -> Any:
    return pb_utils.InferenceResponse([], pb_utils.TritonError(message))
