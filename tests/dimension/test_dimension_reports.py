"""Dimensions that users of other libraries reported as wrong, tried here."""

import numpy as np
import pytest

from lodim.dimension import IntrinsicDimension
from lodim.dimension.noise_rank import minka_rank
from lodim.dimension.spectrum import covariance_spectrum


def test_a_column_that_is_the_mean_of_the_others_is_no_dimension():
    """scikit-learn 16730: Minka's rank of ten columns, the last the mean of nine, was eight."""
    X = np.random.RandomState(0).randn(1000, 10)
    X[:, -1] = X[:, :-1].mean(1)
    assert minka_rank(covariance_spectrum(X), 1000) == 9
    assert IntrinsicDimension("lpca", rule="minka").fit(X).dimension_ == 9


def test_rows_that_differ_in_their_last_bits_only():
    """torchgeo-bench 71 and 79: distances of zero in single precision made the ratio of two neighbours NaN."""
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(200, 3)) @ rng.normal(size=(3, 256))).astype(np.float32)
    X = np.vstack([X, np.nextafter(X[:80], np.float32(np.inf))])
    for method in ("twonn", "mle", "gride", "mom", "mada", "tle", "corrint"):
        assert np.isfinite(IntrinsicDimension(method).fit(X).dimension_), method


def test_few_points_in_many_dimensions_give_a_lower_bound():
    """scikit-dimension 10: Fisher separability was NaN where all pairs are separable."""
    rng = np.random.default_rng(666)
    ball = rng.normal(size=(64, 100))
    ball *= (rng.uniform(size=(64, 1)) ** 0.01) / np.linalg.norm(ball, axis=1, keepdims=True)
    X = np.hstack([ball, np.zeros((64, 400))])
    model = IntrinsicDimension("fishers").fit(X)
    assert model.saturated_
    assert 0 < model.dimension_ < 100


def test_a_matrix_of_ones_is_one_point():
    """scikit-learn 16841: the evidence of ranks of equal rows was NaN."""
    with pytest.warns(UserWarning, match="all rows of X are equal"):
        model = IntrinsicDimension("lpca", rule="minka").fit(np.ones((9, 6)))
    assert model.dimension_ == 0


@pytest.mark.parametrize("method", ["fishers", "ph", "twonn", "twonn_fit"])
def test_a_k_that_would_do_nothing_is_refused(method):
    X = np.random.default_rng(0).normal(size=(50, 3))
    with pytest.raises(ValueError, match="leave k=None"):
        IntrinsicDimension(method, k=7).fit(X)
