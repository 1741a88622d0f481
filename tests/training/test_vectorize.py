"""Which modules can be trained as a batch."""

import pytest
import torch
from torch import nn

from lodim.nets import lenet, mlp
from lodim.training import can_vectorize


@pytest.mark.parametrize(
    "model",
    [
        mlp([3, 4, 2]),
        lenet((1, 16, 16)),
        nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.Dropout(0.0)),
        nn.BatchNorm1d(3, track_running_stats=False),
    ],
)
def test_modules_without_state_or_noise_can(model):
    assert can_vectorize(model)
    assert can_vectorize(model).reason == ""


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.BatchNorm1d(3), "running statistics"),
        (nn.InstanceNorm1d(3, track_running_stats=True), "running statistics"),
        (nn.Dropout(0.1), "random numbers"),
        (nn.AlphaDropout(0.1), "random numbers"),
        (nn.MultiheadAttention(4, 2, dropout=0.1), "random numbers"),
        (nn.LSTM(3, 3), "batching rule"),
        (nn.LazyLinear(2), "run one forward first"),
    ],
)
def test_others_cannot_and_the_layer_is_named(layer, reason):
    answer = can_vectorize(nn.Sequential(nn.Identity(), layer))
    assert not answer
    assert reason in answer.reason
    assert f"1 ({type(layer).__name__})" in answer.reason


def test_a_lazy_layer_that_has_run_can():
    model = nn.Sequential(nn.LazyLinear(2))
    model(torch.zeros(1, 3))
    assert can_vectorize(model)
