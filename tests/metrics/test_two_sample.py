"""Distances of two samples against closed forms, exact sums over pairs, POT, and the laws of their tests."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance
from sklearn.linear_model import LogisticRegression

from lodim.metrics import TwoSample, c2st, kid, mmd_rbf, sliced_wasserstein, two_sample, wasserstein


def linear_c2st(samples, reference, **options):
    return c2st(samples, reference, classifier=LogisticRegression(), **options)


DISTANCES = [sliced_wasserstein, mmd_rbf, kid, linear_c2st]


def draw(n, d=3, shift=0.0, seed=0):
    return np.random.default_rng(seed).normal(shift, 1, (n, d))


@pytest.mark.parametrize(("n", "m", "p"), [(40, 40, 2), (30, 47, 1), (6, 4, 3)])
def test_sliced_wasserstein_is_pots_on_the_same_lines(n, m, p):
    ot = pytest.importorskip("ot")
    x, y = draw(n), draw(m, shift=0.3, seed=1)
    found = sliced_wasserstein(x, y, p=p, n_projections=2000).value
    lines = np.random.default_rng(7).normal(size=(3, 2000))
    expected = ot.sliced_wasserstein_distance(x, y, projections=lines / np.linalg.norm(lines, axis=0), p=p)
    assert found == pytest.approx(float(expected), rel=0.04)  # other lines


def test_wasserstein_on_the_line_is_exact():
    ot = pytest.importorskip("ot")
    x, y = draw(7, 1), draw(5, 1, seed=3)
    assert sliced_wasserstein(x, y, n_projections=1).value == pytest.approx(
        np.sqrt(ot.emd2_1d(x, y, metric="sqeuclidean")), rel=1e-12
    )
    moved = sliced_wasserstein(x, x + 2.5, n_projections=1)
    assert moved.value == pytest.approx(2.5, rel=1e-12)


def test_a_shift_seen_from_all_sides():
    """``|theta . s|`` of a shift s: its mean square over the sphere is ``|s|^2 / d``."""
    x = draw(50)
    found = sliced_wasserstein(x + [3.0, 0, 0], x, n_projections=4000).value
    assert found == pytest.approx(3 / np.sqrt(3), rel=0.03)


@pytest.mark.parametrize(("d", "p"), [(3, 1), (40, 2)])
def test_wasserstein_is_pots(d, p):
    ot = pytest.importorskip("ot")
    x, y = draw(60, d), draw(60, d, shift=0.3, seed=1)
    found = wasserstein(x, y, p)
    assert found.value == pytest.approx(ot.emd2([], [], cdist(x, y) ** p) ** (1 / p), rel=1e-9)
    assert found.floor > 0


def test_wasserstein_against_scipy_on_the_line_and_what_it_must_keep():
    x, y = draw(50, 1), draw(50, 1, shift=1.0, seed=1)
    assert wasserstein(x, y).value == pytest.approx(wasserstein_distance(x[:, 0], y[:, 0]), rel=1e-12)
    z = draw(80, 30)
    assert wasserstein(z[::-1].copy(), z).value == 0
    assert wasserstein(z + 2.0, z).value == pytest.approx(
        2 * np.sqrt(30), rel=1e-12
    )  # the mean's shift at least
    assert wasserstein(z, 1.3 * z, 100).value >= wasserstein(z, 1.3 * z, 1).value
    tensor = torch.from_numpy(z).float()
    assert wasserstein(tensor * 1.3, tensor).value == pytest.approx(wasserstein(1.3 * z, z).value, rel=1e-5)
    with pytest.raises(ValueError, match="as many samples"):
        wasserstein(z[:40], z)


def gaussian(a, b, width):
    squares = cdist(a, b, "sqeuclidean")
    return np.mean([np.exp(-squares / (2 * (f * width) ** 2)) for f in (0.25, 0.5, 1, 2, 4)], axis=0)


def cubic(a, b):
    return (a @ b.T / a.shape[1] + 1) ** 3


@pytest.mark.parametrize("n", [2, 9])
def test_discrepancies_are_the_u_statistic(n):
    x, y = draw(n), draw(13, shift=0.5, seed=1)

    def unbiased(kernel):
        within = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (kernel(x, x), kernel(y, y))]
        return sum(within) - 2 * kernel(x, y).mean()

    found = mmd_rbf(x, y, bandwidth=1.7, n_permutations=0)
    assert found.value == pytest.approx(unbiased(lambda a, b: gaussian(a, b, 1.7)), abs=1e-14)
    assert found.p_value is None
    assert kid(x, y).value == pytest.approx(unbiased(cubic), rel=1e-12)


def test_sums_by_blocks_are_sums(monkeypatch):
    x, y = draw(30), draw(41, seed=1)
    whole = mmd_rbf(x, y, n_permutations=20), kid(x, y)
    monkeypatch.setattr("lodim.metrics.two_sample._BLOCK", 7)
    passed = two_sample.stream_pairs
    monkeypatch.setattr(two_sample, "stream_pairs", lambda *a, **k: passed(*a, block_q=8, **k))
    again = mmd_rbf(x, y, n_permutations=20), kid(x, y)
    for a, b in zip(whole, again):
        assert (a.value, a.floor) == pytest.approx((b.value, b.floor), abs=1e-12)
        assert a.p_value == b.p_value


def test_unbiased_means_zero_on_average_and_below_it_often():
    values = [mmd_rbf(draw(12, seed=s), draw(15, seed=500 + s), n_permutations=0).value for s in range(60)]
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values)) < 3.5 * error
    assert 0.3 < np.mean(np.array(values) < 0) < 0.8


def test_p_values_keep_their_level_under_the_null():
    p = [
        mmd_rbf(draw(10, 2, seed=s), draw(14, 2, seed=900 + s), n_permutations=19).p_value for s in range(80)
    ]
    for level in (0.1, 0.5):  # three standard deviations above
        assert np.mean(np.array(p) <= level) < level + 3 * np.sqrt(level * (1 - level) / len(p))
    assert np.mean(np.array(p) <= 0.5) > 0.3


@pytest.mark.parametrize("distance", DISTANCES)
def test_far_apart_is_far_above_the_floor(distance):
    x, y = draw(60, shift=2.0), draw(80, seed=1)
    found = distance(x, y)
    assert found.value > 3 * abs(found.floor) or found.value > 0.9
    assert (found.n, found.n_reference) == (60, 80)
    assert TwoSample.from_json(found.to_json()) == found
    assert found.name in str(found)


def test_classifier_success_and_its_test():
    linear = LogisticRegression()
    same = c2st(draw(60, seed=2), draw(60, seed=1), classifier=linear, n_permutations=9)
    assert 0.35 < same.value < 0.65
    assert same.p_value > 0.1
    apart = c2st(draw(60, shift=1.5), draw(60, seed=1), classifier=linear, n_permutations=9)
    assert apart.p_value == 0.1
    assert apart.value > 0.9
    assert not hasattr(linear, "coef_")  # the caller's classifier stays unfitted


def test_order_and_radius_tell_a_classifier_nothing_but_shape_does():
    ring = draw(150, 2)
    ring /= np.linalg.norm(ring, axis=1, keepdims=True)
    assert c2st(ring, draw(150, 2, seed=1)).value > 0.8  # no linear classifier sees it


@pytest.mark.parametrize("distance", DISTANCES)
def test_kinds_of_input(distance):
    x, y = draw(20).astype(np.float32), draw(24, seed=1).astype(np.float32)
    expected = distance(x, y, random_state=3)
    assert distance(x, y, random_state=3) == expected
    y.flags.writeable = False
    assert distance(x[::-1][::-1], y, random_state=3) == expected
    assert distance(torch.from_numpy(x), torch.from_numpy(y.copy()), random_state=3) == expected
    images = distance(x.reshape(20, 1, 3, 1), y.reshape(24, 1, 3, 1), random_state=3)
    assert images == expected
    half = distance(torch.from_numpy(x).bfloat16(), torch.from_numpy(y.copy()).bfloat16(), random_state=3)
    assert half.value == pytest.approx(expected.value, abs=0.1)


@pytest.mark.parametrize("distance", DISTANCES)
def test_points_that_are_all_one(distance):
    found = distance(np.ones((10, 2)), np.ones((12, 2)))
    assert found.value == pytest.approx(0.5 if distance is linear_c2st else 0.0, abs=1e-12)
    assert found.floor == pytest.approx(found.value, abs=1e-12)
    assert found.p_value in (None, 1.0)


@pytest.mark.parametrize("distance", DISTANCES)
def test_what_is_refused(distance):
    x = draw(20)
    with pytest.raises(ValueError, match="samples have 3 features but reference has 2"):
        distance(x, x[:, :2])
    with pytest.raises(ValueError, match=r"reference has 1 NaN.*row 4, column 1"):
        distance(x, np.where(np.arange(60).reshape(20, 3) == 13, np.nan, x))
    with pytest.raises(ValueError, match="reference has 1 sample"):
        distance(x, x[:1])
    with pytest.raises(ValueError, match="samples must be 2-D"):
        distance(x[:, 0], x)
    with pytest.raises(ValueError, match="samples has 0 sample"):
        distance(torch.zeros(0, 3), x)
    for bandwidth in (0.0, 1e-300, 1e300, np.inf):
        with pytest.raises(ValueError, match="bandwidth must be positive"):
            mmd_rbf(x, x, bandwidth=bandwidth)
    with pytest.raises(ValueError, match="overflow"):
        kid(1e120 * x, x)


def test_units_do_not_matter():
    x, y = draw(20), draw(30, seed=1)
    plain = mmd_rbf(x, y), sliced_wasserstein(x, y), linear_c2st(x, y)
    for unit in (2.0**-600, 2.0**600):
        assert mmd_rbf(unit * x, unit * y) == plain[0]
        assert sliced_wasserstein(unit * x, unit * y).value == unit * plain[1].value
        assert linear_c2st(unit * x, unit * y) == plain[2]


def test_shifts_far_from_zero_are_seen():
    x = draw(40) + 1e9
    assert mmd_rbf(x, x + 2).p_value == pytest.approx(1 / 201)
    with pytest.raises(ValueError, match="at most 100"):
        sliced_wasserstein(x, x, p=float("inf"))


def test_powers_of_small_shifts_do_not_underflow():
    x = draw(40, 1)
    found = sliced_wasserstein(x + 1e-7, x, n_projections=1, p=60)
    assert found.value == pytest.approx(1e-7, rel=1e-6)


@pytest.mark.parametrize("distance", DISTANCES)
def test_complex_tensors_are_refused_as_arrays_are(distance):
    x = draw(20) + 1j
    for given in (x, torch.from_numpy(x)):
        with pytest.raises(ValueError, match="real numbers"):
            distance(given, draw(20))


def test_pairs_are_the_cheapest_beside_a_point_far_away():
    x, y = np.random.default_rng(0).normal(size=(2, 100, 3))
    far = np.full((1, 3), 1e11)
    alone, beside = wasserstein(x, y).value, wasserstein(np.vstack([x, far]), np.vstack([y, far])).value
    assert beside == pytest.approx(alone * 100 / 101, rel=1e-6)
