"""Margins and difficulties of data sets."""

import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError

from lodim.datasets import load
from lodim.geometry import GeneralizationDifficulty, IntrinsicDimension, class_margin
from lodim.geometry.difficulty.margin import _draw_pairs, _extrapolated, _nearest_sampled

FAST = {"n_pairs": 100_000, "k": 200, "n_queries": 500, "random_state": 0}


def two_lines(n=4000, gap=0.5, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    return np.stack([rng.uniform(0, 1, n), gap * y], 1), y


def test_two_parallel_lines_lie_their_gap_apart():
    X, y = two_lines()
    found = class_margin(X, y, n_pairs=400_000, k=400, random_state=0)
    assert 0.9 * 0.5 < found.delta <= found.sample_minimum
    assert found.delta == pytest.approx(0.5, rel=0.1)
    exact = class_margin(X, y, "exact")
    a, b = np.sort(X[y == 0, 0]), np.sort(X[y == 1, 0])
    at = np.searchsorted(a, b).clip(1, len(a) - 1)
    along = np.minimum(abs(a[at] - b), abs(a[at - 1] - b)).min()
    assert exact.delta == pytest.approx(math.hypot(0.5, along), rel=1e-9)
    assert class_margin(X, y, "sample", n_pairs=1000, k=10, random_state=0).delta >= exact.delta


def test_the_exact_margin_is_the_inverse_of_label_sharpness():
    X, y = load_digits(return_X_y=True)
    from lodim.geometry import LabelSharpness

    assert class_margin(X, y, "exact").delta == pytest.approx(1 / LabelSharpness(exact=True).fit(X, y).k_f_)


def test_pairs_are_of_different_classes_and_equally_likely():
    codes = np.array([0, 1, 1, 2, 0, 2, 2, 1])
    i, j = _draw_pairs(codes, 60_000, np.random.default_rng(0))
    assert np.all(codes[i] != codes[j])
    counts = np.zeros((8, 8))
    np.add.at(counts, (i, j), 1)
    wanted = codes[:, None] != codes[None, :]
    share = counts[wanted] / 60_000 * wanted.sum()
    assert share == pytest.approx(1, abs=0.12)


@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_leaving_out_far_pairs_loses_none(offset):
    rng = np.random.default_rng(0)
    X = offset + rng.normal(size=(500, 100)) * np.geomspace(1, 0.1, 100)
    y = np.arange(500) % 3
    found = _nearest_sampled(X, y, 50_000, 100, np.random.default_rng(7))
    again = np.random.default_rng(7)
    again.choice(500, size=500, replace=False)  # what choosing directions draws
    i, j = _draw_pairs(y, 50_000, again)
    brute = np.sort(np.linalg.norm(X[i] - X[j], axis=1))[:100]
    assert found == pytest.approx(brute, rel=1e-9)


@pytest.mark.parametrize("gamma", [0.2, 0.5])
def test_a_pareto_tail_is_followed(gamma):
    # 1/dist with P(V > v) = v^(-1/gamma): the largest of N is about N^gamma
    u = (np.arange(1, 200_001) - 0.5) / 200_000
    distances = u**gamma  # ascending: 1/dist is the quantile function of that law
    delta, index = _extrapolated(distances[:6000], 2000, 100.0)
    assert index == pytest.approx(gamma, abs=0.02)
    assert 1 / delta == pytest.approx((200_000 * 100.0) ** gamma, rel=0.15)


def test_the_estimate_is_never_above_what_was_seen():
    rng = np.random.default_rng(1)
    for _ in range(20):
        distances = np.sort(rng.uniform(0.1, 1, 600))
        assert _extrapolated(distances, 200, 50.0)[0] <= distances[0]
    assert _extrapolated(np.full(600, 0.3), 200, 50.0) == (0.3, None)


@pytest.mark.parametrize("unit", [1.0, 7.3e-9, 3.1e11])
@pytest.mark.parametrize("step", [1.3, 1.7, math.pi])
def test_alike_nearest_distances_leave_the_tail_without_an_index(unit, step):
    distances = unit * np.r_[np.full(20, 1.0), np.full(5, step)]
    assert _extrapolated(distances, 20, 10.0) == (unit, None)
    # nearly alike: a tail that ends where the sample does
    spread = distances * np.r_[1 + 1e-6 * np.arange(20), np.ones(5)]
    delta, index = _extrapolated(spread, 20, 10.0)
    assert index < -1e6
    assert delta == distances[0]


def test_the_tail_is_followed_with_its_scale():
    # exponential log excesses: M1 = 1, M2 = 2, so gamma = M1 by the formula, and the factor is exact
    k, growth = 2000, 100.0
    excess = -np.log((np.arange(1, k + 1) - 0.5) / k)
    m1, m2 = excess.mean(), (excess**2).mean()
    gamma = m1 + 1 - 0.5 / (1 - m1**2 / m2)
    distances = 3.0 * np.r_[np.exp(-excess), 1.0]
    delta, index = _extrapolated(distances, k, growth)
    assert index == pytest.approx(gamma, rel=1e-12)
    assert delta == pytest.approx(3.0 / (1 + m1 * ((k * growth) ** gamma - 1) / gamma), rel=1e-10)


def test_a_far_extrapolation_does_not_overflow():
    delta, index = _extrapolated(np.r_[1e-250, 1e-200, 1.0], 2, 1e12)
    assert index > 100
    assert delta == 0.0 or delta < 1e-250


@pytest.mark.parametrize("seed", range(12))
def test_few_order_statistics_can_be_resampled(seed):
    X, y = two_lines(60, seed=seed)
    found = class_margin(X, y, n_pairs=20, k=2, n_bootstrap=40, random_state=seed)
    assert len(found.replicates) == 40
    assert all(0 < value <= 2 for value in found.replicates)
    model = GeneralizationDifficulty(n_pairs=200, k=2, n_bootstrap=20, random_state=seed).fit(X, y)
    assert model.interval_[0] <= model.log10_bits_ <= model.interval_[1]


def test_replicates_scatter_round_the_estimate():
    X, y = load_digits(return_X_y=True)
    found = class_margin(X, y, n_pairs=100_000, k=200, n_bootstrap=50, random_state=0)
    assert len(found.replicates) == 50
    low, high = np.quantile(found.replicates, [0.02, 0.98])
    assert low < found.delta < high
    assert found == class_margin(X, y, n_pairs=100_000, k=200, n_bootstrap=50, random_state=0)


def test_digits_with_an_interval():
    X, y = load_digits(return_X_y=True)
    found = GeneralizationDifficulty(0.01, **FAST).fit(X, y)
    assert found.interval_[0] <= found.log10_bits_ <= found.interval_[1]
    assert found.m_ == round(found.m_raw_)
    assert found.radius_ == pytest.approx(np.linalg.norm(X, axis=1).max())
    assert found.bits_ == pytest.approx(10**found.log10_bits_)
    assert found.provided_bias(0.001).log10_bits > found.log10_bits_
    # the unit of the data does not matter
    scaled = GeneralizationDifficulty(0.01, **FAST).fit(37.5 * X, y)
    assert scaled.log10_bits_ == pytest.approx(found.log10_bits_, rel=1e-6)
    assert clone(found).fit(X, y).log10_bits_ == found.log10_bits_


def test_the_dimension_is_the_papers():
    X, y = load_digits(return_X_y=True)
    found = GeneralizationDifficulty(n_pairs=1000, k=10, random_state=0, n_bootstrap=0).fit(X, y)
    dist = cdist(X, X)
    np.fill_diagonal(dist, np.inf)
    near = np.sort(dist, 1)[:, :5]
    assert found.m_raw_ == pytest.approx(1 / np.log(near[:, 4:] / near[:, :4]).mean(), rel=1e-9)
    assert all(math.isnan(v) for v in found.interval_)


def test_given_dimension_and_margin_are_used():
    X, y = load_digits(return_X_y=True)
    given = GeneralizationDifficulty(0.01, intrinsic_dim=9, delta=12.0, random_state=0).fit(X, y)
    assert (given.m_, given.delta_, given.margin_) == (9, 12.0, None)
    assert given.interval_ == (given.log10_bits_, given.log10_bits_)
    other = IntrinsicDimension("twonn", ci=0.95)
    found = GeneralizationDifficulty(0.01, intrinsic_dim=other, delta=12.0, random_state=0).fit(X, y)
    assert found.interval_[1] > found.interval_[0]


def test_what_cannot_be_measured_is_said():
    X, y = two_lines(100)
    with pytest.raises(ValueError, match="at least two"):
        GeneralizationDifficulty().fit(X, np.zeros(100))
    with pytest.raises(ValueError, match="delta = 0"):
        class_margin(np.repeat(X, 2, 0), np.arange(200) % 2, n_pairs=4000, k=10, random_state=0)
    with pytest.raises(ValueError, match="delta = 0"):
        class_margin(np.repeat(X, 2, 0), np.arange(200) % 2, "exact")
    with pytest.raises(ValueError, match="margin lies between classes"):
        class_margin(X, np.zeros(100))
    with pytest.raises(ValueError, match="delta must be one of"):
        GeneralizationDifficulty(delta="evtt").fit(X, y)
    with pytest.raises(ValueError, match="y is None"):
        GeneralizationDifficulty().fit(X, None)
    with pytest.raises(ValueError, match="n_bootstrap must be at least 0"):
        class_margin(X, y, n_pairs=4000, k=10, n_bootstrap=-1)
    with pytest.raises(TypeError, match="or an IntrinsicDimension, got PCA"):
        GeneralizationDifficulty(intrinsic_dim=PCA()).fit(X, y)
    with pytest.raises(NotFittedError):
        GeneralizationDifficulty().provided_bias(0.1)


@pytest.mark.slow
def test_images_reach_the_published_dimension():
    try:
        digits = load("mnist", split="train")
    except OSError:
        pytest.skip("MNIST is not here: set LODIM_DATA")
    found = GeneralizationDifficulty(0.001, n_queries=4000, n_pairs=1_000_000, k=500, random_state=0)
    found.fit(digits.X, digits.y)
    assert found.m_ == pytest.approx(14, abs=1)
    assert found.radius_ == pytest.approx(17.179, abs=1e-3)


def test_a_dimensions_interval_is_carried_through_whole():
    """The bits at both ends and between: at a small margin they grow with the dimension, at a large one they fall."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 5))
    y = np.arange(120) % 2
    for delta in (0.05, 8.0):
        options = {"delta": delta, "round_dim": False, "random_state": 0}
        found = GeneralizationDifficulty(
            0.01, intrinsic_dim=4.0, dimension_interval=(3.0, 6.0), **options
        ).fit(X, y)
        over = [
            GeneralizationDifficulty(0.01, intrinsic_dim=m, **options).fit(X, y).log10_bits_
            for m in np.linspace(3, 6, 9)
        ]
        assert found.interval_ == pytest.approx((min(over), max(over)))
    outside = GeneralizationDifficulty(0.01, intrinsic_dim=4.0, dimension_interval=(5.0, 6.0), **options)
    outside.fit(X, y)
    assert outside.interval_[0] <= outside.log10_bits_ <= outside.interval_[1]
    with pytest.raises(ValueError, match="dimension_interval"):
        GeneralizationDifficulty(intrinsic_dim=4.0, dimension_interval=(0.5, 6.0), **options).fit(X, y)
    with pytest.raises(ValueError, match="must be ascending"):
        GeneralizationDifficulty(intrinsic_dim=4.0, dimension_interval=(6.0, 3.0), **options).fit(X, y)
    with pytest.raises(ValueError, match="has its own"):
        GeneralizationDifficulty(dimension_interval=(3.0, 6.0), **options).fit(X, y)
