"""Minka's rank against scikit-learn's, the Marchenko-Pastur edge against noise."""

import numpy as np
import pytest
from scipy.integrate import quad
from sklearn.decomposition import PCA

from lodim.dimension.noise_rank import marchenko_pastur_median, minka_rank, noise_edge, signal_rank
from lodim.dimension.spectrum import covariance_spectrum, linear_dimension
from lodim.geometry import IntrinsicDimension


def signal(n, p, rank, noise=0.3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, rank)) @ rng.normal(size=(rank, p)) + noise * rng.normal(size=(n, p))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("noise", [0.3, 3.0])
def test_minka_is_scikit_learns(seed, noise):
    X = signal(150, 20, 4, noise, seed)
    expected = PCA(n_components="mle", svd_solver="full").fit(X).n_components_
    assert minka_rank(covariance_spectrum(X), 150) == expected


def test_minka_without_noise_counts_all():
    assert minka_rank(np.array([3.0, 2.0, 0.0]), 50) == 2


@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.0])
def test_the_median_halves_the_law(ratio):
    low, high = (1 - ratio**0.5) ** 2, (1 + ratio**0.5) ** 2
    found = marchenko_pastur_median(ratio)
    half = quad(lambda x: np.sqrt(max((high - x) * (x - low), 0)) / (2 * np.pi * ratio * x), low, found)[0]
    assert half == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize(("n", "p"), [(1000, 100), (100, 1000), (300, 300)])
def test_noise_stays_below_its_edge_and_signal_is_counted(n, p):
    noise = 2.0 * np.random.default_rng(0).normal(size=(n, p))
    spectrum = covariance_spectrum(noise)
    edge = noise_edge(spectrum, n, p)
    assert spectrum[0] == pytest.approx(edge, rel=0.06)
    assert edge == pytest.approx(4 * (1 + (p / n) ** 0.5) ** 2, rel=0.05)
    assert signal_rank(covariance_spectrum(signal(n, p, 6)), n, p) == 6


def test_rules_reach_the_estimator():
    X = signal(400, 30, 5)
    for rule in ("minka", "MP"):
        assert IntrinsicDimension("lpca", rule=rule).fit(X).dimension_ == 5
    assert IntrinsicDimension("lpca", rule="participation").fit(X).dimension_ == pytest.approx(
        linear_dimension(covariance_spectrum(X), "participation")
    )
    flat = np.random.default_rng(0).uniform(size=(300, 3)) @ np.random.default_rng(1).normal(size=(3, 40))
    assert IntrinsicDimension("lpca", rule="MP").fit(flat).dimension_ == 3
    assert IntrinsicDimension("lpca", rule="minka", k=30).fit(flat).dimension_ == 3
    with pytest.raises(ValueError, match="rule is for"):
        IntrinsicDimension("mle", rule="MP").fit(X)
    with pytest.raises(ValueError, match="needs shape"):
        linear_dimension(np.ones(3), "MP")
