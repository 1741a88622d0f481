"""Exponents: exact on power laws; intervals that cover on noise of several kinds, none of which they were made for."""

import math

import numpy as np
import pytest
import torch

from lodim.metrics import LearningCurve, learning_curve_exponent

SIZES = np.geomspace(100, 10_000, 8)


def test_a_power_law_is_found_exactly():
    found = learning_curve_exponent(SIZES, 3 * SIZES**-0.7)
    assert found.exponent == pytest.approx(0.7)
    assert found.intercept == pytest.approx(math.log(3))
    assert found.se < 1e-12
    assert LearningCurve.from_json(found.to_json()) == found
    assert str(found).startswith("error ~ n^(-0.7)")


def test_repeats_of_a_size_count_once():
    n, error = np.array([10, 100, 1000]), np.array([1.0, 0.4, 0.1])
    many = learning_curve_exponent(np.repeat(n, [1, 9, 1]), np.repeat(error, [1, 9, 1]))
    assert many == learning_curve_exponent(n, error)
    assert many.n_sizes == 3


def equal_noise(rng):
    return SIZES, SIZES**-0.4 * np.exp(0.1 * rng.standard_normal(8))


def growing_noise(rng):
    return SIZES, SIZES**-0.4 * np.exp(np.geomspace(0.02, 0.4, 8) * rng.standard_normal(8))


def shared_draws(rng):
    """Five seeds for each of six data sets: what the data's draw does to the error, all five share."""
    n = np.repeat(SIZES[:6], 5)
    return n, n**-0.4 * np.exp(np.repeat(0.1 * rng.standard_normal(6), 5) + 0.03 * rng.standard_normal(30))


def counted_errors(rng):
    return SIZES, rng.binomial(3000, 3 * SIZES**-0.4 / 6) / 3000


@pytest.mark.parametrize("family", [equal_noise, growing_noise, shared_draws, counted_errors])
def test_intervals_cover_as_often_as_they_say(family):
    rng = np.random.default_rng(5)
    found = [learning_curve_exponent(*family(rng)) for _ in range(300)]
    covered = np.mean([f.low <= 0.4 <= f.high for f in found])
    assert 0.95 - 3 * math.sqrt(0.95 * 0.05 / 300) <= covered < 0.995


def test_few_sizes_and_errors():
    two = learning_curve_exponent([10, 100], [1, 0.1])
    assert two.exponent == pytest.approx(1)
    assert math.isnan(two.se)
    tensors = torch.tensor([10.0, 100]).bfloat16(), torch.tensor([1, 0.1], requires_grad=True)
    assert learning_curve_exponent(*tensors).exponent == pytest.approx(1)
    with pytest.raises(ValueError, match="masked"):
        learning_curve_exponent(np.ma.masked_array([10, 100, 1000], [0, 0, 1]), [1, 0.1, 5])
    late = learning_curve_exponent([1, 10, 100, 1000], [9, 1, 0.1, 0.01], n_min=10)
    assert (late.n_sizes, late.exponent) == (3, pytest.approx(1))
    with pytest.raises(ValueError, match="error must be positive"):
        learning_curve_exponent([10, 100], [1, 0])
    with pytest.raises(ValueError, match=r"n must be positive and finite.* got inf"):
        learning_curve_exponent([10, np.inf], [1, 1])
    with pytest.raises(ValueError, match="two different sizes, got 1"):
        learning_curve_exponent([10, 10], [1, 2])
    with pytest.raises(ValueError, match="alike"):
        learning_curve_exponent([10, 100], [1])
