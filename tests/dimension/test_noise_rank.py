"""Minka's rank against scikit-learn's, the Marchenko-Pastur edge against noise."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import ive
from sklearn.decomposition import PCA
from sklearn.decomposition._pca import _assess_dimension

from lodim.dimension.noise_rank import (
    marchenko_pastur_median,
    minka_evidence,
    minka_rank,
    noise_edge,
    signal_rank,
)
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


@pytest.mark.parametrize("n", [300, 100_000])
def test_distinct_eigenvalues_have_minkas_evidence(n):
    l = np.array([100.0, 50.0, 20.0, 10.0, 5.0, 2.0])
    peer = np.array([_assess_dimension(l, q, n) for q in range(1, 6)])
    found = minka_evidence(l, n)[1:]
    np.testing.assert_allclose(found - found[0], peer - peer[0], rtol=1e-10)


def test_the_evidence_of_one_component_of_two_is_its_integral():
    """The mean of exp(-a sin^2 / 2) over a circle is exp(-a/4) I_0(a/4): one for small a, Gaussian for large."""
    n, x = 1000, np.linspace(0.01, 10, 1000)
    worst = np.log(np.sqrt(2 * np.pi * x) * ive(0, x)).max()  # what the Gaussian lacks where it is taken
    for x in 1 - np.geomspace(1e-7, 0.999, 60):
        evidence = minka_evidence(np.array([1.0, x]), n)
        likelihood = -n / 2 * np.log(x) + n * np.log((1 + x) / 2)
        found = evidence[1] - evidence[0] - likelihood - np.log(2 * np.pi / n) / 2
        a = n * (1 / x - 1) * (1 - x)
        assert abs(found - np.log(ive(0, a / 4) / 2)) <= min(worst, a / 4, 1 / a) + 1e-6


@pytest.mark.parametrize(
    ("spectrum", "rank"),
    [
        ([10.0, 5.0, 1.0, 1.0, 1.0, 1.0], 2),
        ([10.0, 5.0, 5.0, 1.0, 1.0, 1.0], 3),
        ([4.0] * 5, 0),
        ([9.0] + [1.0] * 200, 1),
        ([7.0, 7.0, 7.0, 0.5], 3),
    ],
)
@pytest.mark.parametrize("shift", [0.0, 1e-13, 1e-7])
def test_equal_eigenvalues_are_one_noise(spectrum, rank, shift):
    l = np.array(spectrum) * (1 - shift * np.arange(len(spectrum)))
    assert minka_rank(l, 1000) == rank
    assert minka_rank(1e-200 * l, 1000) == rank


def test_even_noise_has_rank_zero_and_too_few_samples_are_refused():
    rng = np.random.default_rng(0)
    assert IntrinsicDimension("lpca", rule="minka").fit(rng.normal(size=(300, 12))).dimension_ == 0
    assert minka_rank(np.array([3.0]), 50) == 1
    wide = rng.normal(size=(20, 30))
    with pytest.raises(ValueError, match="more samples than features"):
        IntrinsicDimension("lpca", rule="minka").fit(wide)
    assert IntrinsicDimension("lpca", rule="minka").fit(wide[:, :2] @ wide[:2]).dimension_ == 2


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
