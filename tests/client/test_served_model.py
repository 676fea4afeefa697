"""Reading good and bad configurations of models, without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import TYPE_FP32, ModelConfig
from tritonclient.grpc.service_pb2 import ModelConfigResponse, ModelStatistics, ModelStatisticsResponse

from nemo_triton.calls import Calls
from nemo_triton.contract import LOG_PROBS, Part
from nemo_triton.errors import RecognizerError, ServerUnavailableError, UnknownModelError
from nemo_triton.served_model import ServedModel, find_recognizer, find_recognizers


@pytest.fixture(scope="module")
def config(repository: Path) -> Any:
    """The configuration of the demo's CTC model."""
    text = (repository / "coffee_ctc" / "config.pbtxt").read_text()
    return text_format.Parse(text, ModelConfig())


def copy_of(config: Any, name: str = "coffee_ctc", **parameters: str) -> Any:
    copy = ModelConfig()
    copy.CopyFrom(config)
    copy.name = name
    for key, text in parameters.items():
        copy.parameters[key].string_value = text
    return copy


def answer(calls: Calls[Any], *configs: Any, live: bool = True) -> Any:
    """Run the calls against a simulated server on which these models are ready."""
    ready = [ModelStatistics(name=config.name) for config in configs]
    by_name = {config.name: config for config in configs}
    reply = None
    while True:
        try:
            method, arguments = calls.send(reply)
        except StopIteration as done:
            return done.value
        if method == "is_server_live":
            reply = live
        elif method == "get_inference_statistics":
            reply = ModelStatisticsResponse(model_stats=ready)
        else:
            assert method == "get_model_config"
            reply = ModelConfigResponse(config=by_name[arguments["model_name"]])


def test_a_recognizer_is_described_by_its_configuration(config: Any) -> None:
    twin = copy_of(config, Part.LOG_PROBS.of("coffee_ctc"))
    twin.output.add(name=LOG_PROBS.name)
    model = answer(find_recognizer(None), copy_of(config), twin)
    assert isinstance(model, ServedModel)
    assert (model.name, model.log_probs_name) == ("coffee_ctc", "coffee_ctc_log_probs")
    assert model.frame_seconds == float(config.parameters["frame_seconds"].string_value) > 0
    assert model.parity_id == config.parameters["parity_id"].string_value
    assert model.steps == tuple(step.model_name for step in config.ensemble_scheduling.step)
    assert (model.precision, model.random_weights) == ("fp32", False)
    with pytest.raises(UnknownModelError, match="is not a recognizer; use coffee_ctc with log_probs"):
        answer(find_recognizer(twin.name), copy_of(config), twin)


def test_the_ensembles_for_float_samples_belong_to_the_recognizer(config: Any) -> None:
    twins = [copy_of(config, part.of("coffee_ctc")) for part in (Part.FLOAT, Part.FLOAT_LOG_PROBS, Part.LOG_PROBS)]
    for twin in twins[:2]:
        twin.input[0].data_type = TYPE_FP32
        for step in twin.ensemble_scheduling.step[:2]:
            step.model_name += "_float"
    for twin in twins[1:]:
        twin.output.add(name=LOG_PROBS.name)
    model = answer(find_recognizer(None), copy_of(config), *twins)
    assert (model.float_name, model.float_log_probs_name) == ("coffee_ctc_float", "coffee_ctc_float_log_probs")
    audio, features, encoder, decoder = (step.model_name for step in config.ensemble_scheduling.step)
    assert model.steps == (audio, f"{audio}_float", features, f"{features}_float", encoder, decoder)
    assert answer(find_recognizers(), copy_of(config), *twins) == ["coffee_ctc"]
    for twin, use in zip(twins, ("float samples", "float samples and log_probs", "log_probs"), strict=True):
        with pytest.raises(UnknownModelError, match=f"is not a recognizer; use coffee_ctc with {use}; recognizers"):
            answer(find_recognizer(twin.name), copy_of(config), *twins)


@pytest.mark.parametrize(("written", "read"), [({"max_audio_seconds": "600"}, 600), ({}, None)])
def test_the_longest_audio_is_read(config: Any, written: dict[str, str], read: int | None) -> None:
    old = copy_of(config)
    old.parameters.pop("max_audio_seconds", None)
    assert answer(find_recognizer("coffee_ctc"), copy_of(old, **written)).max_audio_seconds == read


def test_precision_and_random_weights_are_read(config: Any) -> None:
    random = copy_of(config, weights="random", precision="int8")
    model = answer(find_recognizer("coffee_ctc"), random)
    assert (model.precision, model.random_weights, model.log_probs_name) == ("int8", True, None)


@pytest.mark.parametrize("name", ["sample_rate", "frame_seconds"])
@pytest.mark.parametrize("text", ["", "fast"])
def test_the_error_names_a_parameter_that_is_not_a_number(config: Any, name: str, text: str) -> None:
    expected = f"^parameter {name} of model coffee_ctc is '{text}', not a number; export the model again$"
    with pytest.raises(RecognizerError, match=expected):
        answer(find_recognizer("coffee_ctc"), copy_of(config, **{name: text}))
    missing = copy_of(config)
    del missing.parameters[name]
    with pytest.raises(RecognizerError, match=f"parameter {name} of model coffee_ctc is '', not a number"):
        answer(find_recognizer("coffee_ctc"), missing)


def test_a_model_with_another_rate_is_refused_and_the_others_are_used(config: Any) -> None:
    slow, good = copy_of(config, "slow", sample_rate="8000"), copy_of(config, "good")
    with pytest.raises(RecognizerError, match="model slow does not take 16000 Hz audio; export it again"):
        answer(find_recognizer("slow"), slow, good)
    assert answer(find_recognizers(), slow, good) == ["good"]
    assert answer(find_recognizer(None), slow, good).name == "good"


def test_servers_that_are_not_live_and_models_that_are_not_ready(config: Any) -> None:
    with pytest.raises(ServerUnavailableError, match="is not live yet"):
        answer(find_recognizer("coffee_ctc"), config, live=False)
    with pytest.raises(UnknownModelError, match="coffee_ctc is not served; recognizers served: none; restart"):
        answer(find_recognizer("coffee_ctc"))
    with pytest.raises(UnknownModelError, match="the server has no recognizer that is ready"):
        answer(find_recognizer(None))
