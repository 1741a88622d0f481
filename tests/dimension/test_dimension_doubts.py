"""Data that are no sample of a manifold: tied distances, a handful of points, constant streams, extreme units."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from lodim.dimension import danco as danco_module
from lodim.dimension.danco import danco
from lodim.dimension.doubts import doubts_about
from lodim.dimension.methods import METHODS, fewest_points
from lodim.dimension.units import safe_unit
from lodim.geometry import IntrinsicDimension, StreamingDimension, intrinsic_dimensions, stream_dimension
from lodim.neighbors import NeighborGraph

LATTICE = np.random.default_rng(0).integers(0, 4, (2000, 3)).astype(float)
BINARY = np.random.default_rng(0).integers(0, 2, (800, 12)).astype(float)


def fitted(X, method, **options):
    """The estimator and the texts of its warnings; NumPy's own are errors."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("error", RuntimeWarning)
        model = IntrinsicDimension(method, random_state=0, **options).fit(X)
    return model, [str(w.message) for w in caught if w.category is not ConvergenceWarning]


@pytest.mark.parametrize("X", [LATTICE, BINARY], ids=["lattice", "binary"])
@pytest.mark.parametrize("method", METHODS)
def test_a_value_that_cannot_be_is_said_in_words(method, X):
    model, said = fitted(X, method)
    assert not np.isnan(model.dimension_)
    assert list(model.warnings_) == said
    if np.isinf(model.dimension_):
        assert any("no finite dimension: distances tie" in text for text in said)
    elif method in ("knn", "ph"):
        assert not any("exceeds" in text for text in said)
    elif model.dimension_ > X.shape[1] * max(1.1, 1 + 3 / np.sqrt(model.graph_.n_queries)):
        assert any(f"exceeds the {X.shape[1]} columns" in text for text in said)
    else:
        assert not any("exceeds" in text or "no finite" in text for text in said)


@pytest.mark.parametrize("method", ["twonn", "mom", "geomle", "mada", "tle"])
def test_no_interval_where_resamples_have_no_dimension(method):
    X = np.random.default_rng(0).integers(0, 2, (2000, 12)).astype(float) if method == "mada" else LATTICE
    model, said = fitted(X, method, ci=0.9)
    assert np.isinf(model.dimension_)
    assert model.ci_ is None
    assert len(said) == 1


def test_tied_distances_leave_the_consensus_its_bound():
    """64 distinct points in 3 columns: at most three dimensions, whatever the ties do to the estimators."""
    model, said = fitted(LATTICE, "consensus", ci=0.9)
    assert 0 <= model.ci_[0] <= model.dimension_ <= model.ci_[1] <= 3
    assert np.isfinite(model.dimension_pw_smooth_).all()
    assert any("distances tie" in text and "says nothing" in text for text in said)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        found = intrinsic_dimensions(LATTICE, ci=0.9, random_state=0)
    assert found.tied
    assert found.dimension == model.dimension_
    assert found.interval == model.ci_
    assert found.estimates["twonn"].interval is None
    assert "distances tie" in found.estimates["twonn"].note
    assert any("says nothing" in text for text in found.warnings)


@pytest.mark.parametrize("method", METHODS)
def test_too_few_distinct_points_for_the_own_k_are_counted(method, rough_balls):
    least = fewest_points(method)
    points = np.random.default_rng(1).normal(size=(least, 3))
    model, _ = fitted(points, method)  # enough
    assert model.dimension_ > 0
    if least > 2:
        few = np.repeat(points[:-1], 3, axis=0)
        with pytest.raises(
            ValueError, match=rf"needs at least {least} distinct rows, got n_samples = {least - 1}"
        ):
            IntrinsicDimension(method).fit(few)
        if method in ("twonn", "mle", "consensus"):
            with pytest.raises(ValueError, match=f"needs at least {least} distinct rows"):
                stream_dimension(few, method)


def test_a_given_k_needs_distinct_points_too():
    points = np.repeat(np.random.default_rng(1).normal(size=(6, 3)), 3, axis=0)
    with pytest.raises(ValueError, match=r"k=5 needs at least 7 distinct rows, got 6: 12 of 18 are repeated"):
        IntrinsicDimension("mle", k=5).fit(points)
    with pytest.raises(ValueError, match="k must be at least 4"):
        IntrinsicDimension("danco", k=3).fit(np.eye(30))


def test_danco_where_all_angles_are_alike():
    """No spread of the angles is infinitely far from every ball's; the nearest ball still has the nearest angles."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert danco((1.0, 0.0, 1.0), 1000, 10) == (1.0, False)
        for nu in (0.4, 1.2, np.pi / 2):
            nearly, _ = danco((5.0, nu, 1 - 1e-6), 1000, 10)
            assert danco((5.0, nu, 1.0), 1000, 10)[0] == pytest.approx(nearly, rel=1e-4)
    with pytest.raises(ValueError, match="k must be at least 3"):
        danco((1.0, 0.0, 1.0), 1000, 2)


@pytest.fixture
def rough_balls(monkeypatch):
    """The balls of DANCo, of which none are shipped for so few points, by a hundredth of the draws."""
    monkeypatch.setattr(danco_module, "_DRAWS", 32)
    for name in ("_balls", "ball_statistics"):  # nothing rough is kept
        monkeypatch.setattr(danco_module, name, getattr(danco_module, name).__wrapped__)


@pytest.mark.parametrize("n", [7, 13, 22])
def test_all_methods_that_fit(n, rough_balls):
    found = intrinsic_dimensions(np.random.default_rng(0).normal(size=(n, 3)), "all", ci=None, random_state=0)
    assert set(found.estimates) == {m for m in METHODS[:-1] if fewest_points(m) <= n}
    assert any("too few for" in text for text in found.warnings) == (n < 22)
    with pytest.raises(ValueError, match="need at least 22"):
        intrinsic_dimensions(np.eye(8), ["mle", "geomle"])
    with pytest.raises(ValueError, match="need at least 7"):
        intrinsic_dimensions(np.eye(6))


@pytest.mark.parametrize("k", [None, 5])
def test_a_constant_stream_has_dimension_zero(k):
    with pytest.warns(UserWarning, match="all rows of X are equal"):
        model = stream_dimension(
            np.ones((100, 3)), "twonn" if k is None else "mle", k=k, block_rows=30, ci=0.9
        )
    assert model.dimension_ == 0.0
    assert model.ci_ == (0.0, 0.0)
    assert model.n_duplicates_ == 99


def test_the_metric_keeps_double_precision():
    X = np.random.default_rng(0).uniform(size=(600, 3))
    plain = IntrinsicDimension("mle").fit(X).dimension_
    for batches in (X + 1e7, torch.from_numpy(X + 1e7)):
        metric = StreamingDimension("mle", random_state=0)
        for start in range(0, 600, 100):
            metric.update(batches[start : start + 100])
        assert metric.compute() == pytest.approx(plain, rel=1e-6)
    metric = StreamingDimension("mle", random_state=0)
    metric.update(torch.ones(3, 2, dtype=torch.bfloat16))
    assert metric.sample.dtype == np.float32
    metric.update(np.array([[0.1, 0.2]]))
    assert metric.sample[-1].tolist() == [0.1, 0.2]


def test_empty_batches_change_nothing():
    X = np.random.default_rng(0).uniform(size=(50, 3))
    metric, plain = StreamingDimension(random_state=0), StreamingDimension(random_state=0)
    for batch in (X[:0], torch.zeros(0, 3), X, X[:0], []):
        metric.update(batch)
    plain.update(X)
    assert metric.n_seen == 50
    assert metric.compute() == plain.compute()
    with pytest.raises(ValueError, match="single number"):
        metric.update(np.float64(3))


@pytest.mark.parametrize("method", ["twonn", "mle", "mom"])
def test_the_unit_is_that_of_the_distances(method):
    """Powers of two, 1e-169 to 1e301: no digit of the data changes, so none of the answer may beyond rounding."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2)) @ rng.normal(size=(2, 4))
    plain, _ = fitted(X, method)
    for exponent in (-560, -90, 300, 1000):
        model, _ = fitted(np.ldexp(X, exponent), method)
        assert model.dimension_ == pytest.approx(plain.dimension_, rel=1e-9), exponent
        np.testing.assert_allclose(np.ldexp(model.graph_.dist, -exponent), plain.graph_.dist, rtol=1e-12)


def test_the_unit_does_not_matter_to_a_survey():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2)) @ rng.normal(size=(2, 4))
    methods = ("twonn", "tle", "lpca", "fishers")
    plain = intrinsic_dimensions(X, methods, random_state=0)
    for exponent in (-560, 500):
        found = intrinsic_dimensions(np.ldexp(X, exponent), methods, random_state=0)
        assert found.dimension == pytest.approx(plain.dimension, rel=1e-9)
        assert found.n_components == plain.n_components
        assert found.participation_ratio == pytest.approx(plain.participation_ratio)
        radii = np.array([[p.radius for p in s.scales] for s in (found, plain)])
        np.testing.assert_allclose(np.ldexp(radii[0], -exponent), radii[1], rtol=1e-9)


def test_ordinary_data_keep_their_unit():
    X = np.random.default_rng(0).normal(size=(20, 3))
    assert [safe_unit(X * c) for c in (1e-20, 1.0, 1e20)] == [1.0] * 3
    assert safe_unit(np.ones((4, 2))) == 1.0
    assert safe_unit(np.array([[-1.7e308], [1.7e308]])) == 2.0**1023
    assert safe_unit(np.array([[0.0], [1e-40]], dtype=np.float32)) < 1e-39


def test_what_a_difficulty_takes_for_the_dimension_is_said_in_full():
    from lodim.geometry import GeneralizationDifficulty

    X = np.random.default_rng(0).normal(size=(60, 3))
    with pytest.raises(
        ValueError, match=r"must be 'mle5', a number, or an estimator such as IntrinsicDimension"
    ):
        GeneralizationDifficulty(intrinsic_dim="twonn").fit(X, np.arange(60) % 2)


@pytest.mark.parametrize("method", [m for m in METHODS if m != "danco"])
@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_gaussian_points_are_not_doubted(method, d):
    for n in (40, 100, 300):
        model, said = fitted(np.random.default_rng([0, n, d]).normal(size=(n, d)), method)
        assert not any("number of columns" in text or "lattice" in text for text in said), (
            n,
            model.dimension_,
        )


def test_many_gaussian_planes_are_not_doubted_by_nearest_neighbours():
    for seed in range(100):
        assert fitted(np.random.default_rng(seed).normal(size=(300, 2)), "twonn")[1] == []


def test_ties_are_named_only_where_there_are_some():
    tied = NeighborGraph.from_data(LATTICE, 2)
    spread = NeighborGraph.from_data(np.random.default_rng(0).normal(size=(400, 3)), 2)
    assert "a lattice, rounded" in doubts_about(9.0, tied)[0]
    assert doubts_about(9.0, spread) == ("the estimate 9 is above the number of columns, 3",)
    rounded = NeighborGraph.from_data(np.random.default_rng(0).normal(size=(400, 3)).round(1) + 0.3, 2)
    assert "a lattice, rounded" in doubts_about(9.0, rounded)[0]
    for method in ("knn", "ph"):  # their spread is far larger, and follows another law
        assert doubts_about(9.0, tied, method) == ()
        assert "no finite dimension" in doubts_about(np.inf, tied, method)[0]
