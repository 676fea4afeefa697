"""Operations and bytes: known layers counted by hand, and how NeMo's encoders grow with length."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fixture_types import OpenCheckpoint

from benchmark.studies.gpu.flops import PROBED_SECONDS, FlopCounter, count_cost
from benchmark.studies.gpu.machine_rates import machine_rates
from benchmark.studies.gpu.pytorch import encoder_cost
from benchmark.studies.gpu.roofline import NetworkCost


@torch.no_grad()
def test_a_linear_layer() -> None:
    with FlopCounter() as counter:
        torch.nn.Linear(6, 5)(torch.randn(7, 6))
    assert counter.operations == 2 * 7 * 6 * 5
    assert counter.elements == 7 * 6 + 6 * 5 + 5 + 7 * 5


@torch.no_grad()
@pytest.mark.parametrize(("channels", "groups"), [(8, 1), (8, 8)])
def test_a_convolution_over_time(channels: int, groups: int) -> None:
    layer = torch.nn.Conv1d(channels, channels, kernel_size=3, stride=2, padding=1, groups=groups, bias=False)
    with FlopCounter() as counter:
        output = layer(torch.randn(2, channels, 20))
    assert output.shape == (2, channels, 10)
    assert counter.operations == 2 * 2 * 10 * channels * (channels // groups) * 3
    assert counter.elements == 2 * channels * 20 + channels * (channels // groups) * 3 + 2 * channels * 10


@torch.no_grad()
def test_only_products_count() -> None:
    with FlopCounter() as counter:
        torch.nn.functional.layer_norm(torch.randn(4, 8).relu() + 1, (8,)).softmax(dim=1)
    assert (counter.operations, counter.elements) == (0, 0)


def test_attention_grows_with_the_square_of_the_length() -> None:
    weights = torch.randn(4, 3)

    def run(seconds: int) -> None:
        queries = torch.randn(10 * seconds, 4)
        _ = (queries @ weights, queries @ queries.T)

    cost = count_cost(run, weights.numel())
    assert cost.operations == pytest.approx((2 * 100 * 4, 2 * 10 * 4 * 3, 0), abs=1e-3)
    # Operands and results per second: 10 x 4 and 10 x 3, then 10 x 4 twice; and 100 per square of seconds.
    assert cost.elements == pytest.approx((100, 40 + 30 + 80, 0), abs=1e-3)
    assert cost.weights == 12
    assert cost.operations_of([2, 3]) == pytest.approx(800 * (4 + 9) + 240 * 5)


def test_cost_of_encoders(architecture: str, checkpoint: OpenCheckpoint) -> None:
    model = checkpoint(architecture).model
    cost = encoder_cost(model)
    square, linear, constant = cost.operations
    assert linear > 0 and abs(constant) < 0.02 * linear * PROBED_SECONDS[0], "operations grow with the audio"
    assert (square > 1e-3 * linear) == ("conformer" in architecture), "only attention looks at all pairs of frames"
    assert 0 < cost.weights <= sum(weights.numel() for weights in model.parameters())
    predicted = cost.elements_of([10.0])
    assert predicted > cost.weights / 100 and np.isfinite(predicted)


def test_every_multiplication_is_at_least_a_weight_used_once() -> None:
    """The operations of utterances are the sum of the polynomial over them."""
    cost = NetworkCost((1.0, 2.0, 3.0), (0.0, 4.0, 0.0), 5)
    assert cost.operations_of([1.0, 2.0]) == (1 + 2 + 3) + (4 + 4 + 3)
    assert cost.elements_of([1.0, 2.0]) == 12


def test_rates_of_this_machine() -> None:
    rates = machine_rates(torch.device("cpu"))
    assert set(rates["operations"]) == {"fp32", "bf16"}
    assert 1e8 < rates["operations"]["fp32"] < 1e14 and 1e7 < rates["bytes"] < 1e13
