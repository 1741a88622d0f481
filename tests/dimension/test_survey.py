"""intrinsic_dimensions: one graph for all, consensus and interval, classes, scales, warnings, JSON and pictures."""

import json
import time

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_wine

from lodim.dimension import survey
from lodim.dimension.methods import METHODS
from lodim.geometry import DimensionSummary, IntrinsicDimension, intrinsic_dimensions
from lodim.neighbors import NeighborGraph


def cube(d, n=800, width=25, seed=0):
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(width, d)))
    return rng.uniform(size=(n, d)) @ q.T


@pytest.fixture(scope="module")
def summary():
    y = np.array(["a", "b"] * 400)
    X = cube(4)
    X[y == "b"] = cube(2)[y == "b"]
    return intrinsic_dimensions(X, y=y, random_state=0)


def test_the_consensus_is_that_of_the_estimator(summary):
    """Whatever the other methods: the same calibrated dimension, interval and flags."""
    for options in ({}, {"ci": 0.8}, {"n_queries": 300}):
        model = IntrinsicDimension("consensus", random_state=0, **options).fit(cube(4))
        for methods in (("twonn",), ("mle", "mom")):
            found = intrinsic_dimensions(cube(4), methods, scales=False, random_state=0, **options)
            assert found.dimension == model.dimension_
            assert {name: getattr(found, name) for name in vars(model.calibrated_)} == vars(model.calibrated_)
    assert summary.level == 0.95
    low, high = summary.interval
    assert low <= summary.dimension <= high


def test_estimates_are_those_of_the_estimator():
    X = cube(4)
    found = intrinsic_dimensions(X, random_state=0).estimates
    for method, estimate in found.items():
        model = IntrinsicDimension(method, ci=0.95 if method in ("twonn", "mle", "tle") else None).fit(X)
        assert estimate.dimension == pytest.approx(model.dimension_, rel=1e-9), method
        if method in ("twonn", "mle"):  # the likelihood or the bootstrap, of the raw value
            assert estimate.se == pytest.approx((model.ci_[1] - model.ci_[0]) / 3.92, rel=0.3)
            assert estimate.interval[0] < 4 <= estimate.interval[1]
            assert estimate.calibrated == pytest.approx(4, rel=0.2)
        elif method == "tle":
            assert estimate.calibrated is None
            assert estimate.interval == pytest.approx(model.ci_, rel=0.05)


@pytest.mark.parametrize("d", [1, 3, 8])
def test_interval_holds_the_dimension_of_a_cube(d):
    found = intrinsic_dimensions(cube(d), random_state=0)
    assert found.interval[0] * 0.95 <= d <= found.interval[1] * 1.05
    assert found.dimension == pytest.approx(d, rel=0.06)


def test_classes_points_and_spectrum(summary):
    assert summary.per_class["a"].dimension == pytest.approx(4, rel=0.1)
    assert summary.per_class["b"].dimension == pytest.approx(2, rel=0.1)
    flat, solid = summary.pointwise[1::2], summary.pointwise[::2]
    assert np.median(flat) < np.median(solid) - 1
    assert summary.pointwise.shape == summary.query_idx.shape == (800,)
    assert summary.spectrum.shape == (25,)
    assert summary.n_components[99] <= 6
    assert [s.kind for s in summary.scales] == ["gride"] * 6 + ["decimation"] * 4


def test_all_methods_on_one_search():
    found = intrinsic_dimensions(cube(3, 400), "all", ci=None, scales=False, random_state=0)
    assert set(found.estimates) == set(METHODS) - {"consensus"}
    for method, estimate in found.estimates.items():
        assert estimate.dimension == pytest.approx(3, rel=0.25), method
    some = intrinsic_dimensions(cube(3, 400), "all", ci=None, scales=False, n_queries=100, random_state=0)
    assert set(METHODS) - set(some.estimates) == {"consensus", "abide"}


def test_small_classes_are_said():
    y = np.array([0] * 790 + [1] * 10)
    found = intrinsic_dimensions(cube(2), y=y, ci=None, scales=False, random_state=0).per_class
    assert np.isnan(found["1"].dimension)
    assert "only 10" in found["1"].note


def test_one_graph_serves_all(monkeypatch):
    calls = []
    original = NeighborGraph.from_data.__func__

    def counted(cls, X, k, *args, **kwargs):
        calls.append((len(X), k))
        return original(cls, X, k, *args, **kwargs)

    monkeypatch.setattr(survey.NeighborGraph, "from_data", classmethod(counted))
    intrinsic_dimensions(cube(3), random_state=0, scales=False, ci=None)
    assert calls == [(800, 80)]


def test_tables_and_picture(summary):
    frame = summary.to_frame()
    assert frame.loc["twonn", "dimension"] == summary.estimates["twonn"].dimension
    assert set(summary.scale_frame().kind) == {"gride", "decimation"}
    ax = summary.plot()
    assert ax.get_xlabel() == "distance between neighbours"
    assert len(ax.containers) == 2
    assert "by class" in str(summary)


def test_same_seed_same_answer():
    a, b = (intrinsic_dimensions(cube(3, 400), n_queries=100, random_state=5).to_json() for _ in range(2))
    assert a == b
    assert (
        intrinsic_dimensions(cube(3, 400), n_queries=100, ci=None, random_state=6).dimension
        != json.loads(a)["dimension"]
    )


def test_many_points_are_measured_at_some(monkeypatch):
    monkeypatch.setattr(survey, "_ALL_QUERIES", 500)
    monkeypatch.setattr(survey, "_SOME_QUERIES", 300)
    monkeypatch.setattr(survey, "_PAIR_POINTS", 400)
    found = intrinsic_dimensions(cube(3), random_state=0)
    assert found.n_queries == 300
    assert found.n_samples == 800
    assert "400 random points" in found.estimates["fishers"].note
    assert found.dimension == pytest.approx(3, rel=0.1)


def test_deadline_leaves_out_what_is_optional():
    found = intrinsic_dimensions(
        cube(3), y=np.repeat([0, 1], 400), deadline=time.monotonic() - 1, random_state=0
    )
    assert found.dimension == pytest.approx(3, rel=0.06)
    assert set(found.estimates) == {"twonn", "gride", "mle", "mada", "mom"}
    assert found.per_class == {}
    assert any("no time left for decimation" in text for text in found.warnings)


def test_warnings_say_what_to_doubt():
    X = np.random.default_rng(0).normal(size=(150, 12))
    X[:, 3] = 7
    doubled = np.vstack([X, X[:30]])
    found = intrinsic_dimensions(doubled, ci=None, random_state=0)
    assert found.constant_columns == (3,)
    assert found.n_duplicates == 30
    text = " | ".join(found.warnings)
    assert "150 points are few for dimension" in text
    assert "17% of the rows repeat" in text
    grid = np.stack(np.meshgrid(*[np.arange(30.0)] * 2), -1).reshape(-1, 2)
    lattice = intrinsic_dimensions(grid, ci=None, random_state=0)
    assert any("tie" in t or "disagree" in t for t in lattice.warnings)
    assert DimensionSummary.from_json(lattice.to_json()).n_samples == 900


def test_constant_data():
    with pytest.warns(UserWarning, match="all rows are equal"):
        found = intrinsic_dimensions(np.full((20, 3), 2.0))
    assert found.dimension == 0.0
    assert found.constant_columns == (0, 1, 2)
    assert DimensionSummary.from_json(found.to_json()).dimension == 0.0
    assert "dimension 0.0" in str(found)


@pytest.mark.parametrize(
    ("X", "options", "text"),
    [
        (np.eye(30), {"methods": ("two",)}, "methods must be one of"),
        (np.eye(30), {"methods": ("lpca", "tle")}, "at least one of twonn"),
        (np.repeat(np.eye(4), 10, 0), {}, "4 distinct rows of 40"),
        (np.eye(30), {"y": np.zeros(3)}, "y has 3 entries"),
        (np.array([[1.0, np.nan]] * 30), {}, "row 0"),
    ],
)
def test_bad_input(X, options, text):
    with pytest.raises(ValueError, match=text):
        intrinsic_dimensions(X, **options)


def test_real_tables_get_sensible_answers():
    digits = intrinsic_dimensions(load_digits().data, ci=None, random_state=0)
    # few points bias neighbour estimators downwards, and a curved set lies in more linear dimensions than it has
    assert digits.estimates["mle"].dimension < digits.dimension < digits.estimates["lpca"].dimension
    wine = load_wine().data
    standard = intrinsic_dimensions((wine - wine.mean(0)) / wine.std(0), ci=None, random_state=0)
    assert standard.estimates["mle"].dimension < standard.dimension <= 13
