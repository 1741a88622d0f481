"""IntrinsicDimension: known manifolds, invariances, duplicates, bad input, and the scikit-learn contract."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

from lodim.dimension.methods import GRAPH_METHODS, METHODS
from lodim.geometry import IntrinsicDimension
from lodim.neighbors import NeighborGraph

NEIGHBOUR_METHODS = (*GRAPH_METHODS, "tle", "consensus")


def shape_of(name, d, n=1000):
    rng = np.random.default_rng(d)
    if name == "cube":
        return rng.uniform(size=(n, d))
    X = rng.normal(size=(n, d + (name == "sphere")))
    if name == "gauss":
        return X
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return X if name == "sphere" else X * rng.uniform(size=(n, 1)) ** (1 / d)


def turned(X, width=30, seed=0):
    """The same points on an isometric copy inside a wider space."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(width, X.shape[1])))
    return X @ q.T


@pytest.mark.parametrize("shape", ["ball", "cube", "gauss", "sphere"])
@pytest.mark.parametrize("d", [1, 3, 8, 20])
def test_consensus_on_known_manifolds(shape, d):
    X = turned(shape_of(shape, d))
    found = IntrinsicDimension("consensus").fit(X).dimension_
    assert found == pytest.approx(d, rel=0.06 if shape in ("ball", "cube") else 0.12)


@pytest.mark.parametrize("method", NEIGHBOUR_METHODS)
@pytest.mark.parametrize("d", [1, 4])
def test_every_estimator_finds_a_small_cube(method, d):
    found = IntrinsicDimension(method).fit(shape_of("cube", d, 2000)).dimension_
    # the inverse mean of (k-2)/sum is low by 18/19; wide neighbourhoods (mom) and their pairs (tle) see the boundary
    assert found == pytest.approx(d, rel=0.15 if method in ("mom", "tle", "mle_unbiased") else 0.1)


@pytest.mark.parametrize("method", ["geomle", "knn", "ph"])
def test_the_order_of_rows_draws_other_points_of_the_same_set(method):
    X = shape_of("gauss", 5, 600)
    plain, other = (
        IntrinsicDimension(method, random_state=0).fit(Z).dimension_
        for Z in (X, X[np.random.default_rng(1).permutation(600)])
    )
    assert other == pytest.approx(plain, rel=0.1)


@pytest.mark.parametrize("method", NEIGHBOUR_METHODS)
def test_appended_duplicates_change_nothing(method):
    X = shape_of("cube", 3, 500)
    doubled = np.vstack([X, X[100:400]])
    plain, again = IntrinsicDimension(method).fit(X), IntrinsicDimension(method).fit(doubled)
    assert again.n_duplicates_ == 300
    assert again.dimension_ == pytest.approx(plain.dimension_, rel=1e-9)
    np.testing.assert_allclose(again.dimension_pw_[500:], again.dimension_pw_[100:400])


@pytest.mark.parametrize("method", ["twonn", "mle", "tle", "corrint"])
def test_the_backend_does_not_matter(method):
    X = shape_of("gauss", 6, 500)
    found = [IntrinsicDimension(method, backend=b).fit(X).dimension_ for b in ("kdtree", "blocked")]
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_local_dimension_of_a_line_a_disc_and_a_ball():
    rng = np.random.default_rng(0)
    n = 1500
    line = np.hstack([rng.uniform(3, 9, size=(n, 1)), np.zeros((n, 2))])
    disc = np.hstack([shape_of("ball", 2, n) * 2 + [-4, 0], np.zeros((n, 1))])
    ball = shape_of("ball", 3, n) * 1.5 + [0, 5, 0]
    model = IntrinsicDimension("mle").fit(np.vstack([line, disc, ball]))
    parts = np.split(model.dimension_pw_smooth_, 3)
    for d, part in enumerate(parts, 1):
        assert np.median(part) == pytest.approx(d, rel=0.1)
    assert np.ptp(parts[0]) < np.ptp(np.split(model.dimension_pw_, 3)[0])


def test_calibration_removes_the_bias_and_moves_the_interval():
    X = shape_of("ball", 15)
    raw = IntrinsicDimension("mle", ci=0.95, random_state=0).fit(X)
    corrected = IntrinsicDimension("mle", calibrate="ball", ci=0.95, random_state=0).fit(X)
    assert raw.dimension_ < 13
    assert corrected.dimension_ == pytest.approx(15, rel=0.03)
    for model in (raw, corrected):
        low, high = model.ci_
        assert low < model.dimension_ < high
    assert corrected.ci_[0] > raw.ci_[1]


def test_interval_covers_the_spread_of_samples():
    """The width of the interval of one sample is that of the estimates of many samples."""
    found = [
        IntrinsicDimension("twonn").fit(np.random.default_rng(s).uniform(size=(400, 2))).dimension_
        for s in range(60)
    ]
    low, high = (
        IntrinsicDimension("twonn", ci=0.95, random_state=0)
        .fit(np.random.default_rng(0).uniform(size=(400, 2)))
        .ci_
    )
    assert high - low == pytest.approx(3.92 * np.std(found), rel=0.4)


def test_a_range_of_k_averages_over_it():
    X = shape_of("cube", 4)
    each = [IntrinsicDimension("mle", k=k).fit(X).dimension_ for k in (10, 11, 12)]
    model = IntrinsicDimension("mle", k=(10, 12)).fit(X)
    assert model.dimension_ == pytest.approx(np.mean(each), rel=1e-12)
    assert model.k_ == (10, 12)
    calibrated = IntrinsicDimension("mle", k=(10, 12), calibrate="ball").fit(X).dimension_
    assert calibrated == pytest.approx(4, rel=0.06)


def test_a_graph_is_enough():
    X = shape_of("cube", 4)
    graph = NeighborGraph.from_data(X, 100)
    for method in (*GRAPH_METHODS, "consensus"):
        assert (
            IntrinsicDimension(method).fit(graph).dimension_ == IntrinsicDimension(method).fit(X).dimension_
        )
    with pytest.raises(ValueError, match="needs the data"):
        IntrinsicDimension("tle").fit(graph)
    with pytest.raises(ValueError, match="the graph has 100"):
        IntrinsicDimension("mle", k=101).fit(graph)


def test_queries_tensors_and_seeds():
    X = shape_of("cube", 3)
    some = IntrinsicDimension("mle", n_queries=200, random_state=3).fit(X)
    assert some.dimension_pw_.shape == (200,)
    assert some.graph_.n_ref == 1000
    assert some.dimension_ == pytest.approx(IntrinsicDimension("mle").fit(X).dimension_, rel=0.1)
    assert clone(some).fit(X).dimension_ == some.dimension_
    tensor = IntrinsicDimension("mle").fit(torch.from_numpy(X))
    assert tensor.dimension_ == IntrinsicDimension("mle").fit(X).dimension_


def test_scale_profile_of_a_noisy_curve():
    """Close up the noise fills its space, from afar there is a curve."""
    rng = np.random.default_rng(0)
    t = rng.uniform(0, 2 * np.pi, size=4000)
    X = np.stack([np.cos(t), np.sin(t)], 1) * 5 + rng.normal(scale=0.02, size=(4000, 2))
    frame = IntrinsicDimension(random_state=0).fit(X).scale_profile()
    assert list(frame.columns) == ["kind", "n1", "n_used", "dimension", "se", "radius"]
    gride = frame[frame.kind == "gride"]
    assert gride.n1.tolist() == [1, 2, 4, 8, 16, 32]
    assert gride.dimension.iloc[0] > 1.4
    assert gride.dimension.iloc[-1] < 1.1
    assert (np.diff(gride.radius) > 0).all()
    thin = frame[frame.kind == "decimation"]
    assert thin.n_used.tolist() == [2000, 1000, 500, 250, 125, 62]
    assert thin.dimension.iloc[-1] < 1.3


@pytest.mark.parametrize("method", METHODS)
def test_constant_data_has_dimension_zero(method):
    with pytest.warns(UserWarning, match="all rows of X are equal"):
        model = IntrinsicDimension(method).fit(np.ones((60, 4)))
    assert model.dimension_ == 0.0
    assert model.n_duplicates_ == 59
    assert model.scale_profile().empty


def test_narrow_and_wide_data():
    rng = np.random.default_rng(0)
    assert IntrinsicDimension("mle").fit(rng.uniform(size=(300, 1))).dimension_ == pytest.approx(1, rel=0.1)
    wide = IntrinsicDimension("consensus").fit(turned(rng.uniform(size=(80, 2)), 400))
    assert wide.dimension_ == pytest.approx(2, rel=0.25)


@pytest.mark.parametrize(
    ("parameters", "X", "text"),
    [
        ({"method": "two_nn"}, np.eye(20), "Did you mean 'twonn'"),
        ({"method": "mle", "k": 30}, np.eye(30), "at least 32 rows, got n_samples = 30"),
        ({"method": "mle", "k": 1}, np.eye(30), "k must be at least 2"),
        ({"method": "gride", "k": 5}, np.eye(30), "must be even"),
        ({"method": "mle", "k": (9, 4)}, np.eye(30), "ascending"),
        ({"method": "mada", "k": (4, 9)}, np.eye(30), "takes one number"),
        ({"method": "consensus", "k": 5}, np.eye(30), "leave k=None"),
        ({"method": "tle", "calibrate": "ball"}, np.eye(30), "no calibration"),
        ({"calibrate": "cube"}, np.eye(30), "calibrate must be"),
        ({"method": "twonn", "aggregate": "mean"}, np.eye(30), "aggregate=None"),
        ({"method": "mle", "aggregate": "mode"}, np.eye(30), "aggregate must be one of"),
        ({"method": "corrint", "ci": 0.9}, np.random.default_rng(0).normal(size=(50, 2)), "leave ci=None"),
        ({"ci": 1.5}, np.eye(30), "ci must be"),
        ({}, np.arange(5.0), "2-D"),
        ({}, np.array([[0.0, 1], [1, np.inf], [2, 2], [3, 4]]), "row 1"),
        ({"method": "mle", "k": 5}, np.repeat(np.eye(5), 9, 0), "40 of 45 are repeated"),
    ],
)
def test_bad_input(parameters, X, text):
    with pytest.raises(ValueError, match=text):
        IntrinsicDimension(**parameters).fit(X)


def test_local_linear_dimension():
    X = turned(shape_of("cube", 3, 400))
    assert IntrinsicDimension("lpca").fit(X).dimension_ == 3
    model = IntrinsicDimension("lpca", k=15).fit(X)
    assert model.dimension_ == pytest.approx(3, abs=0.2)
    assert set(model.dimension_pw_) <= {1.0, 2.0, 3.0}


def test_too_few_points_for_the_dimension_are_said():
    few = IntrinsicDimension().fit(shape_of("gauss", 12, 300))
    assert not few.sufficient_
    assert IntrinsicDimension().fit(shape_of("cube", 2, 300)).sufficient_
    with pytest.warns(UserWarning, match=r"cannot show more than 5\.0"):
        assert not IntrinsicDimension("corrint").fit(shape_of("gauss", 12, 300)).sufficient_


def test_a_pointwise_answer_of_the_dearer_estimators():
    X = np.vstack([shape_of("cube", 3, 300), shape_of("cube", 3, 300)[:20]])
    for method in ("ess", "geomle"):
        model = IntrinsicDimension(method, aggregate="median", ci=0.9, random_state=0).fit(X)
        assert model.dimension_pw_.shape == (320,)
        np.testing.assert_array_equal(model.dimension_pw_[300:], model.dimension_pw_[:20])
        assert model.ci_[0] <= model.dimension_ <= model.ci_[1]


def test_saturation_is_said():
    model = IntrinsicDimension("fishers").fit(np.random.default_rng(0).normal(size=(100, 400)))
    assert model.saturated_
    assert not IntrinsicDimension("fishers").fit(shape_of("gauss", 4)).saturated_
