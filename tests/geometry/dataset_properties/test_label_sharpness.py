"""Label sharpness against a loop over all pairs, and its scaling laws."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from lodim.geometry import LabelSharpness


def data(n=300, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 5)), rng.integers(0, classes, size=n)


def brute(X, y):
    slopes = np.where(y[:, None] != y[None], 1 / np.where(cdist(X, X) > 0, cdist(X, X), np.inf), 0)
    top = np.sort(slopes[np.triu_indices(len(X))])[::-1][:10]
    classes = np.unique(y)
    pairs = [[slopes[np.ix_(y == a, y == b)].max() if a != b else 0 for b in classes] for a in classes]
    return slopes, top, np.array(pairs)


@pytest.mark.parametrize("classes", [2, 4])
def test_exact_is_the_maximum_over_all_pairs(classes):
    X, y = data(classes=classes)
    slopes, top, pairs = brute(X, y)
    model = LabelSharpness(exact=True).fit(X, y)
    assert model.k_f_ == pytest.approx(slopes.max(), rel=1e-12)
    assert model.k_f_top_ == pytest.approx(top.mean(), rel=1e-12)
    np.testing.assert_allclose(model.k_f_pairs_, pairs, rtol=1e-12)
    assert slopes[model.pair_] == pytest.approx(model.k_f_)
    assert model.n_conflicts_ == 0


def test_a_draw_of_everything_is_exact():
    X, y = data()
    exact = LabelSharpness(exact=True).fit(X, y)
    drawn = LabelSharpness(m=1200, random_state=0).fit(X, y)
    assert drawn.k_f_ == exact.k_f_
    assert drawn.pair_ in (exact.pair_, exact.pair_[::-1])


def test_exact_is_at_least_sampled_and_draws_are_balanced():
    X, y = data(2000)
    exact = LabelSharpness(exact=True).fit(X, y)
    model = LabelSharpness(m=200, n_repeats=5, random_state=0).fit(X, y)
    assert model.k_f_ <= exact.k_f_
    assert (model.k_f_pairs_ <= exact.k_f_pairs_ + 1e-12).all()
    assert model.k_f_sd_ > 0
    assert y[model.pair_[0]] != y[model.pair_[1]]
    again = LabelSharpness(m=200, n_repeats=5, random_state=0).fit(X, y)
    assert again.k_f_ == model.k_f_


def test_two_points():
    model = LabelSharpness().fit([[0.0, 0.0], [3.0, 4.0]], ["x", "y"])
    assert model.k_f_ == pytest.approx(1 / 5)
    assert model.k_f_pairs_.tolist() == [[0, 0.2], [0.2, 0]]
    assert model.classes_.tolist() == ["x", "y"]


@pytest.mark.parametrize("c", [1e-3, 7.0])
def test_scaling_the_data_divides_it(c):
    X, y = data()
    plain, scaled = (LabelSharpness(exact=True).fit(Z, y).k_f_ for Z in (X, X * c))
    assert scaled == pytest.approx(plain / c, rel=1e-10)
    plain, scaled = (LabelSharpness(exact=True, normalize="rms").fit(Z, y).k_f_ for Z in (X, X * c))
    assert scaled == pytest.approx(plain, rel=1e-10)


def test_rms_is_the_root_mean_square_pair_distance():
    X, y = data(60)
    squares = cdist(X, X, "sqeuclidean")
    rms = np.sqrt(squares.sum() / (60 * 59))
    assert LabelSharpness(exact=True, normalize="rms").fit(X, y).scale_ == pytest.approx(rms, rel=1e-12)


def test_conflicts_are_counted_and_left_out():
    X = np.array([[0.0], [0.0], [0.0], [4.0], [4.0]])
    y = np.array([0, 0, 1, 1, 1])
    with pytest.warns(UserWarning, match="2 pairs of equal points"):
        model = LabelSharpness(exact=True).fit(X, y)
    assert model.n_conflicts_ == 2
    assert model.k_f_ == 0.25


def test_blocks_beyond_one():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5000, 3))
    y = np.repeat([0, 1], 2500)
    expected = 1 / cdist(X[:2500], X[2500:]).min()
    assert LabelSharpness(exact=True).fit(X, y).k_f_ == pytest.approx(expected, rel=1e-9)


def hard(name):
    rng = np.random.default_rng(0)
    if name == "tiny beside one":
        X = 1e-170 * rng.normal(size=(120, 8))
        X[0, 0] = 1.0
        return X
    offset, jitter = {"clusters": (0, 1e-9), "far clusters": (1e3, 1e-9)}[name]
    return np.repeat(rng.normal(size=(3, 60)), 40, 0) + offset + jitter * rng.normal(size=(120, 60))


@pytest.mark.parametrize("name", ["clusters", "far clusters", "tiny beside one"])
def test_pairs_that_a_product_cannot_tell_are_told_by_differences(name):
    X, y = hard(name), np.arange(120) % 3
    wide = X.astype(np.longdouble)
    dist = np.sqrt(((wide[:, None] - wide) ** 2).sum(2))
    dist[y[:, None] == y] = np.inf
    model = LabelSharpness(exact=True).fit(X, y)
    assert float(1 / dist.min()) == pytest.approx(model.k_f_, rel=1e-11)
    assert tuple(sorted(model.pair_)) == np.unravel_index(dist.argmin(), dist.shape)
    ten = 1 / np.sort(dist[np.triu_indices(120)])[:10]
    assert model.k_f_top_ == pytest.approx(float(ten.mean()), rel=1e-11)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        least = dist[np.ix_(y == a, y == b)].min()
        assert model.k_f_pairs_[a, b] == pytest.approx(float(1 / least), rel=1e-11)


@pytest.mark.parametrize(
    ("parameters", "X", "y", "text"),
    [
        ({}, np.eye(4), [1, 1, 1, 1], "1 class"),
        ({"m": 2}, np.eye(4), [0, 1, 2, 3], "raise m"),
        ({"m": 0}, np.eye(4), [0, 1, 2, 3], "m must be at least 2"),
        ({"normalize": "std"}, np.eye(4), [0, 1, 0, 1], "normalize must be one of"),
        ({}, np.eye(4), [0.1, 0.2, 0.3, 0.4], "continuous"),
        ({}, np.zeros((4, 2)), [0, 1, 0, 1], "not defined"),
        ({}, np.eye(4), [0, 1], "y has 2 entries"),
    ],
)
def test_bad_input(parameters, X, y, text):
    with pytest.raises(ValueError, match=text):
        LabelSharpness(**parameters).fit(X, y)
