"""The calibrated dimension: what must not change it, what must, where it ends, and what it says of itself."""

import numpy as np
import pytest

from lodim.dimension.bounds import bound_of, in_blocks, rank_below, rank_of
from lodim.dimension.calibrated import (
    _MIDDLE,
    ARRAYS,
    LEVELS,
    at_level,
    calibrated_dimension,
    calibrated_estimate,
    run_layers,
    spread_out,
)
from lodim.dimension.features import ORDERS, features, order_for, scale_gap
from lodim.dimension.methods import GRAPH_METHODS
from lodim.dimension.simulation import simulate
from lodim.geometry import IntrinsicDimension, intrinsic_dimensions
from lodim.neighbors import NeighborGraph


def calibrated(X, level=0.95, **options):
    k = 64 if len(X) > 192 else 20 if len(X) > 60 else 5
    return calibrated_dimension(NeighborGraph.from_data(X, k, **options), in_blocks(X), level)


def drawn(kind, n, d, seed):
    rng = np.random.default_rng([seed, n, d])
    if kind == "cube":
        return rng.uniform(size=(n, d))
    X = rng.normal(size=(n, d))
    if kind == "ball":
        X *= rng.uniform(size=(n, 1)) ** (1 / d) / np.linalg.norm(X, axis=1, keepdims=True)
    return X


def wide(X, columns=30):
    """The same points in more columns: no bound is near."""
    q, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(columns, X.shape[1])))
    return X @ q.T


@pytest.mark.parametrize("n", [30, 100, 400])
def test_what_does_not_change_a_dimension(n):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 6))
    expected = calibrated(X)
    q, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    for changed in (3e5 * X, X @ q + 4, X[rng.permutation(n)], np.vstack([X, X[: n // 3]])):
        found = calibrated(changed)
        assert found.dimension == pytest.approx(expected.dimension, rel=1e-6)
        assert found.interval == pytest.approx(expected.interval, rel=1e-6)
        assert (found.unfamiliar, found.bounded_by) == (expected.unfamiliar, expected.bounded_by)


@pytest.mark.parametrize("n", [300, 1000])
def test_a_circle_has_one_dimension(n):
    t = np.random.default_rng(n).uniform(0, 2 * np.pi, n)
    found = calibrated(np.column_stack([np.cos(t), np.sin(t)]))
    assert found.interval[0] < 1 < found.interval[1]
    assert found.dimension == pytest.approx(1, rel=4 * 1.35 / np.sqrt(n))  # four errors of TwoNN


def test_a_factor_adds_dimensions():
    X = np.random.default_rng(0).uniform(size=(500, 10))
    found = [calibrated(wide(X[:, :d])).dimension for d in range(1, 11)]
    assert (np.diff(found) > 0.5).all()


@pytest.mark.parametrize("kind", ["ball", "cube", "gaussian"])
def test_intervals_cover(kind):
    """At 95 % more than 5 misses of 12 have a chance of 1 in 10^5; a bootstrap of the graph missed most Gaussians."""
    missed = 0
    for d in (2, 5, 10):
        for seed in range(4):
            low, high = calibrated(wide(drawn(kind, 500, d, seed))).interval
            missed += not low <= d <= high
            assert high / low < 2
    assert missed <= 5


def test_levels_are_nested():
    X = wide(drawn("cube", 300, 4, 0))
    graph = NeighborGraph.from_data(X, 64)
    ends = [
        calibrated_dimension(graph, level=level).interval for level in (0.1, 0.5, 0.8, 0.95, 0.99, 0.9999)
    ]
    assert (np.diff([low for low, _ in ends]) < 0).all()
    assert (np.diff([high for _, high in ends]) > 0).all()
    quantiles = np.sort(np.random.default_rng(0).normal(size=len(LEVELS)))
    assert at_level(quantiles, 0.95) == pytest.approx((quantiles[1], quantiles[-2]))


# bounds


def test_no_more_dimensions_than_columns():
    """Eight Gaussian columns: the truth is the bound, which the interval reaches and does not pass."""
    for seed in range(6):
        found = intrinsic_dimensions(
            np.random.default_rng(seed).normal(size=(600, 8)), ["twonn"], scales=False, random_state=0
        )
        assert found.dimension <= 8
        assert found.interval[1] == 8
        assert found.interval[0] < found.dimension or found.bounded_by is None
        assert found.estimates["twonn"].calibrated <= 8
        if found.bounded_by:
            assert found.bounded_by == "columns"
            assert "8.0, the number of columns" in str(found)


def test_no_more_dimensions_than_the_rank():
    X = wide(np.random.default_rng(0).normal(size=(400, 3)))
    for data in (X, X.astype(np.float32)):
        found = calibrated(data)
        assert found.interval[1] == 3
        assert found.bounded_by in (None, "rank")
        assert found.dimension == pytest.approx(3, rel=0.1)
    assert bound_of(NeighborGraph.from_data(X, 5), in_blocks(X)).name == "rank"


@pytest.mark.parametrize("rows", [np.random.default_rng(0).normal(size=(7, 40)), np.eye(7)])
def test_seven_distinct_rows_have_at_most_six_dimensions(rows):
    found = intrinsic_dimensions(np.repeat(rows, 60, 0), random_state=0)
    assert found.dimension <= 6
    assert 0 <= found.interval[0] < found.interval[1] <= 6
    text = " ".join(found.warnings)
    assert "7 points are few" in text
    assert "rows repeat another row" in text
    assert found.tied == (rows[0, 0] == 1)
    assert all(e.calibrated is None or e.calibrated <= 6 for e in found.estimates.values())


def test_rank():
    rng = np.random.default_rng(0)
    for rank in (1, 3, 9):
        X = rng.normal(size=(200, rank)) @ rng.normal(size=(rank, 20)) + 5
        for data in (X, X.astype(np.float32), 1e-20 * X, [X[:3], X[3:]]):
            blocks = data if isinstance(data, list) else in_blocks(data)
            assert rank_below(blocks, 15) == rank
        assert rank_below(in_blocks(X), rank) is None
    late = np.zeros((900, 12))
    late[:, :2] = rng.normal(size=(900, 2))
    late[-1, 5] = 1
    assert rank_below(in_blocks(late), 12) == 3
    assert rank_below(in_blocks(rng.normal(size=(900, 12))), 12) is None


def test_rank_does_not_hang_on_units():
    """A narrow column beside a wide one of single precision is no rounding: rank(X D) = rank(X)."""
    rng = np.random.default_rng(0)
    X = np.c_[1e6 * rng.integers(0, 2, 400), rng.normal(size=(400, 2))].astype(np.float32)
    assert rank_of(X) == 3
    assert rank_of(X[:, [0, 0, 1]]) == 2
    found = intrinsic_dimensions(X, random_state=0, scales=False)
    assert found.bounded_by is None
    assert found.interval[0] <= 2 <= found.interval[1]  # planes side by side


# what it says of itself


@pytest.mark.parametrize("n", [7, 8, 12, 30, 59, 60, 100, 191, 192, 250])
def test_few_points_have_wide_intervals(n):
    """Half as wide at least as the error of TwoNN's likelihood, which knows the law that the points follow."""
    X = drawn("cube", n, 3, 0)
    found = calibrated(wide(X[:, :2]), level=0.95)
    low, high = found.interval
    assert 0 < low < found.dimension <= high <= min(30, n - 1)
    assert np.log(high / low) > 1 / np.sqrt(n)


def test_shapes_unlike_the_simulated_are_said():
    rng = np.random.default_rng(0)
    core = rng.normal(size=(800, 5)) * np.exp(4 * rng.normal(size=(800, 1)))
    odd = intrinsic_dimensions(core, scales=False, random_state=0)
    assert odd.unfamiliar
    assert any("unlike the shapes" in text for text in odd.warnings)
    assert not calibrated(wide(drawn("cube", 800, 5, 0))).unfamiliar


def test_noise_makes_the_dimension_depend_on_scale():
    rng = np.random.default_rng(0)
    sheet = np.zeros((2000, 12))
    sheet[:, :2] = rng.uniform(size=(2000, 2))  # first neighbours 0.011 away
    clean, noisy = calibrated(wide(sheet[:, :2])), calibrated(sheet + 0.008 * rng.normal(size=sheet.shape))
    assert not clean.scale_dependent
    assert noisy.scale_dependent
    assert noisy.dimension > clean.dimension + 1


def test_a_graph_says_what_the_points_say():
    X = drawn("gaussian", 500, 4, 0)
    model = IntrinsicDimension("consensus", ci=0.9).fit(X)
    graph = IntrinsicDimension("consensus", ci=0.9).fit(model.graph_)
    assert graph.dimension_ == model.dimension_
    assert model.ci_ == model.calibrated_.interval
    assert graph.ci_ == model.ci_
    some = IntrinsicDimension("consensus", n_queries=250, random_state=0).fit(X)
    assert some.dimension_ == pytest.approx(model.dimension_, rel=4 * 1.35 / np.sqrt(250))
    with pytest.raises(ValueError, match="5 neighbours of 7 points or more, the graph has 4 of 500"):
        IntrinsicDimension("consensus").fit(NeighborGraph.from_data(X, 4))
    with pytest.raises(ValueError, match="the graph has 5 of 3"):
        IntrinsicDimension("consensus").fit(NeighborGraph.from_data(X, 5, query=3))


def test_one_estimator_alone():
    """Its answer read by itself: near the truth where the shape is common, wider than the machine that sees all."""
    X = np.hstack([drawn("cube", 1000, 6, 0), np.zeros((1000, 4))])
    X += 1e-9 * np.random.default_rng(1).normal(size=X.shape)  # no bound is near
    found = intrinsic_dimensions(X, tuple(GRAPH_METHODS), scales=False, random_state=0)
    for method in GRAPH_METHODS:
        alone = found.estimates[method]
        assert alone.interval[0] < 6 <= alone.interval[1], method
        assert alone.calibrated == pytest.approx(6, rel=0.2), method
        assert np.divide(*alone.interval) < np.divide(*found.interval), method
        assert calibrated_estimate(method, np.inf, 1000, 1000) is None
    assert calibrated_estimate("tle", 3.0, 1000, 1000) is None


def test_a_printed_value_lies_in_its_printed_interval():
    for seed in range(2):
        for n, d in ((20, 2), (200, 7)):
            X = np.random.default_rng([seed, n]).normal(size=(n, d))
            found = intrinsic_dimensions(X, ["twonn"], ci=None, scales=False, random_state=0)
            head = str(found).splitlines()[0].replace(",", " ").replace("(", "").split()
            value, low, high = float(head[2]), float(head[3]), float(head[5].rstrip(";"))
            assert low <= value <= high <= d


# the pieces


def test_neighbours_looked_at():
    assert [order_for(n, 100) for n in (7, 59, 60, 191, 192, 10**6)] == [5, 5, 20, 20, 64, 64]
    assert [order_for(1000, k) for k in (4, 5, 20, 63, 64)] == [0, 5, 20, 20, 64]


@pytest.mark.parametrize("order", ORDERS)
def test_features_do_not_see_the_unit(order):
    dist = NeighborGraph.from_data(drawn("gaussian", 300, 4, 0), 64).dist
    a, b = features(dist, 300, order), features(1e9 * dist, 300, order)
    np.testing.assert_allclose(a.values, b.values, atol=1e-6)
    assert features(np.ones((300, 64)), 300, order) is None
    assert features(np.vstack([dist, 0 * dist[:1]]), 300, order) is None


@pytest.mark.parametrize("order", ORDERS)
def test_the_scale_gap_vanishes_where_volumes_are_powers(order):
    """With r_j^d proportional to the means of a Poisson process's, every step says the same dimension."""
    means = 1 / np.arange(1, 64)  # of d times the steps of log r_j
    drawn_steps = means * np.random.default_rng(0).exponential(size=(2000, 63))
    for steps, most in ((np.tile(means, (2000, 1)), 1e-9), (drawn_steps, 4 / np.sqrt(2000))):
        logs = np.hstack([np.zeros((2000, 1)), steps.cumsum(1)]) / 3
        seen = features(np.exp(logs), 2001, order)
        assert scale_gap(seen.values, order) == pytest.approx(0, abs=most)


def test_layers_are_a_network():
    rng = np.random.default_rng(0)
    layers = [(rng.normal(size=(3, 5)), rng.normal(size=5)), (rng.normal(size=(5, 2)), rng.normal(size=2))]
    x = rng.normal(size=(4, 3))
    hidden = x @ layers[0][0] + layers[0][1]
    expected = (hidden / (1 + np.exp(-hidden))) @ layers[1][0] + layers[1][1]
    np.testing.assert_allclose(run_layers(layers, x), expected)
    members = [(np.stack([w, 2 * w]), np.stack([b, 2 * b])) for w, b in layers[:1]]
    np.testing.assert_allclose(run_layers(members, np.stack([x[0]] * 2))[1], 2 * hidden[0])


def test_quantiles_spread_in_order():
    first = np.sort(np.random.default_rng(0).normal(size=len(LEVELS)))
    moved = spread_out(first, np.random.default_rng(1).normal(size=len(LEVELS) - 1), np.ones(len(LEVELS)))
    assert (np.diff(moved) >= 0).all()
    assert moved[_MIDDLE] == first[_MIDDLE]
    doubled = spread_out(first, np.zeros(len(LEVELS) - 1), np.full(len(LEVELS), 2.0))
    gap = first - first[_MIDDLE]
    np.testing.assert_allclose(doubled - first[_MIDDLE], 2 * (gap + 1e-3 * np.sign(gap)))


def test_the_arrays_are_those_of_the_simulation():
    """Features of a few simulated sets, drawn again, are those shipped; the file stays small and holds numbers only."""
    with np.load(ARRAYS, allow_pickle=False) as kept:
        assert all(kept[name].dtype.kind in "fiU" for name in kept.files)
        for i, shipped in zip(kept["check_sets"], kept["check_features"]):
            found = simulate(int(i))
            np.testing.assert_allclose(features(found.dist, found.n, 5).values, shipped, rtol=2e-3, atol=2e-3)
    assert ARRAYS.stat().st_size < 500_000
