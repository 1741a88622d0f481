"""What a dimension must not depend on: unit, place, order, repeats, columns that hold nothing, type, memory layout."""

import warnings

import numpy as np
import pytest

from lodim.dimension import IntrinsicDimension, intrinsic_dimensions
from lodim.dimension.methods import METHODS
from lodim.dimension.pairs import correlation_curve, fisher_separability
from lodim.dimension.spectrum import LPCA_RULES
from lodim.neighbors import NeighborGraph

RNG = np.random.default_rng(0)
# entries are multiples of 2^-20 below 2^4, so that the changes below round nothing
X = RNG.uniform(size=(130, 2)) @ RNG.normal(size=(2, 6)) + 0.05 * RNG.normal(size=(130, 6))
X = np.round(X * 2**20) / 2**20
TURN = np.linalg.qr(RNG.normal(size=(6, 6)))[0]
# what is exact together with another change is tried together with it
CHANGES = {
    "unit -2^1015": lambda Z: Z * -(2.0**1015),
    "unit 2^-900, order of columns": lambda Z: Z[:, [3, 1, 5, 0, 2, 4]] * 2.0**-900,
    "unit 2^100 in single": lambda Z: (Z * 2.0**100).astype(np.float32),
    "unit 2^-100 in single": lambda Z: (Z * 2.0**-100).astype(np.float32),
    "place, constant columns": lambda Z: np.hstack([Z + 1024.0, np.full((len(Z), 9), 7.0)]),
    "rotation, unit 1e-3": lambda Z: Z @ (1e-3 * TURN),
    "unit 2^300, each row three times": lambda Z: np.repeat(Z * 2.0**300, 3, 0),
    "unit 2^-90, some rows again": lambda Z: np.vstack([Z, Z[::-1], Z[:7]]) * 2.0**-90,
    "columns first, negative strides": lambda Z: np.asfortranarray(Z[::-1])[::-1],
    "order of rows": lambda Z: Z[np.random.default_rng(1).permutation(len(Z))],
}
# subsamples and bootstrap samples are drawn by position
DRAWN = ("geomle", "knn", "ph")
ASKED = [
    *((m, {}) for m in METHODS if m != "lpca"),
    *(("lpca", {"rule": rule}) for rule in LPCA_RULES),
    ("lpca", {"k": 20}),
]


def dimension(method, data, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        warnings.simplefilter("ignore", UserWarning)
        return IntrinsicDimension(method, random_state=0, **options).fit(data).dimension_


@pytest.mark.parametrize(("method", "options"), ASKED, ids=lambda value: str(value))
def test_the_dimension_is_that_of_the_set(method, options):
    single = X.astype(np.float32)
    expected = dimension(method, X, **options), dimension(method, single, **options)
    # danco minimises to 1e-6 of the logarithm
    rtol = 1e-5 if method == "danco" else 1e-9
    for name, change in CHANGES.items():
        if name == "order of rows" and method in DRAWN:
            continue
        found = dimension(method, change(X), **options)
        assert found == pytest.approx(expected["single" in name], rel=rtol), name


@pytest.mark.parametrize("method", METHODS)
def test_numbers_of_any_type_are_the_same_points(method):
    whole = np.random.default_rng(0).integers(0, 256, size=(120, 5))
    expected = dimension(method, whole.astype(float))
    for kind in (np.uint8, np.int64, np.float16):
        assert dimension(method, whole.astype(kind)) == pytest.approx(expected, rel=1e-9), kind
    yes_or_no = np.random.default_rng(1).random((120, 40)) < 0.5
    assert dimension(method, yes_or_no) == dimension(method, yes_or_no.astype(float))


@pytest.mark.parametrize("n_queries", [None, 50])
@pytest.mark.parametrize(
    "methods",
    [("twonn", "corrint", "fishers", "lpca"), pytest.param("all", marks=pytest.mark.slow)],
    ids=["some", "all"],
)
def test_a_repeated_row_counts_once_in_the_whole_survey(methods, n_queries):
    alone, often = (
        intrinsic_dimensions(Z, methods, n_queries=n_queries, random_state=0) for Z in (X, np.repeat(X, 3, 0))
    )
    assert often.n_duplicates == 2 * len(X)
    for name in ("dimension", "interval", "estimates", "scales", "participation_ratio", "n_components"):
        assert getattr(often, name) == getattr(alone, name), name
    for name in ("spectrum", "pointwise"):
        np.testing.assert_array_equal(getattr(often, name), getattr(alone, name))
    np.testing.assert_array_equal(often.query_idx, 3 * alone.query_idx)


def test_queries_are_honoured_or_refused_by_every_method():
    """Of all but the methods that look at the whole set the answer changes with the points it is measured at."""
    for method in METHODS:
        if method in ("lpca", "knn", "ph", "abide"):
            with pytest.raises(ValueError, match="n_queries=None"):
                IntrinsicDimension(method, n_queries=40).fit(X)
        elif method != "mind_integer":  # which answers in whole numbers
            assert dimension(method, X, n_queries=40) != dimension(method, X)
    assert dimension("lpca", X, k=20, n_queries=40) != dimension("lpca", X, k=20)
    asked = ("twonn", "fishers", "corrint", "lpca", "knn", "ph")
    found = intrinsic_dimensions(X, asked, n_queries=40, ci=None, scales=False)
    whole = [method for method, estimate in found.estimates.items() if "on all points" in estimate.note]
    assert whole == ["lpca", "knn", "ph"]


def test_fishers_counts_the_pairs_of_its_queries():
    """Over all queries, some at a time, the shares have the mean of the whole."""
    halves = [
        fisher_separability(X, query_idx=rows).inseparable for rows in (np.arange(65), np.arange(65, 130))
    ]
    np.testing.assert_allclose(np.mean(halves, 0), fisher_separability(X).inseparable, rtol=1e-12)


TIED = {
    "grid": np.stack(np.meshgrid(np.arange(12.0), np.arange(12.0)), -1).reshape(-1, 2),
    "line": np.arange(90.0)[:, None],
    "simplex": np.eye(90),
    "few levels": np.unique(np.random.default_rng(0).integers(0, 3, size=(150, 6)), axis=0).astype(float),
}
# the others look at where the neighbours lie, and which of equally far ones are taken is left to rounding
BY_DISTANCES = [m for m in METHODS if m not in ("tle", "danco", "ess", "abide", "lpca")]


@pytest.mark.parametrize("method", BY_DISTANCES)
@pytest.mark.parametrize("name", TIED)
def test_ties_are_ties_in_any_unit(name, method):
    """A tenth of a whole number is rounded, and with it which of two equal distances is the larger."""
    found = [dimension(method, TIED[name] * unit) for unit in (1.0, 0.1)]
    assert found[1] == pytest.approx(found[0], rel=1e-9)
    assert np.isinf(found[0]) or found[0] < 1000


@pytest.mark.parametrize("kind", ["clusters", "lattice"])
def test_the_correlation_integral_counts_distances(kind):
    """Where products cannot tell (clusters far apart) and where distances are the radius itself (a lattice)."""
    rng = np.random.default_rng(0)
    if kind == "clusters":
        Z = np.repeat(rng.normal(size=(3, 400)), 30, 0) + 1e-7 * rng.normal(size=(90, 400))
    else:
        Z = 0.1 * np.unique(rng.integers(0, 3, size=(90, 20)), axis=0)
    radii = np.median(NeighborGraph.from_data(Z, 20).dist[:, [9, 19]], axis=0)
    exact = np.sqrt(((Z[:, None].astype(np.longdouble) - Z) ** 2).sum(2))
    nearer = (exact[:, :, None] < radii * (1 - 1e-11)).sum((0, 1)) - len(Z)
    np.testing.assert_allclose(correlation_curve(Z, radii) * len(Z) * (len(Z) - 1), nearer, rtol=1e-12)
