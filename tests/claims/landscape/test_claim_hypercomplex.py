"""The hypercomplex claim's networks, interval and full-scale recipe."""

import numpy as np
import pytest
import torch
from scipy import stats

from lodim.claims.landscape import hypercomplex
from lodim.training import Task


def size(model):
    return sum(p.numel() for p in model.parameters())


def test_the_networks_have_the_sizes_worked_out_by_hand():
    found = [size(hypercomplex.dense(n)) for n in hypercomplex.SIZES]
    assert found == [269_322, 136_218, 69_770, 37_386]
    for n in (2, 4, 8):
        assert abs(size(hypercomplex.narrow(n)) / size(hypercomplex.dense(n)) - 1) < 0.02


def test_the_interval_is_students():
    values = [0.1, 0.3, 0.2, 0.25]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    mean, low, high = hypercomplex.interval(values)
    np.testing.assert_allclose((mean, low, high), (np.mean(values), expected.low, expected.high))


@pytest.mark.parametrize("n", [1, 3])
def test_the_full_scales_recipe_takes_its_first_steps(n):
    draws = torch.Generator().manual_seed(0)
    X, y = torch.randn(40, 1, 8, 8, generator=draws), torch.arange(40) % 10
    task = Task.from_arrays(X[:20], y[:20], X[20:], y[20:])
    score = hypercomplex.train_residual(lambda: hypercomplex.residual(n, (6, 12)), task, 2, 0, "cpu")
    assert 0 <= score <= 1
