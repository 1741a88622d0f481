"""The neighbour graph: exact whatever finds it, duplicates out, indices into the rows as given."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from lodim.neighbors import NeighborGraph, bootstrap, local_blocks, pair_distances

try:
    import faiss  # noqa: F401
except ImportError:
    BACKENDS = ["blocked", "kdtree"]
else:
    BACKENDS = ["blocked", "kdtree", "faiss"]


def exact(X):
    dist = cdist(X, X)
    np.fill_diagonal(dist, np.inf)
    order = np.argsort(dist, axis=1, kind="stable")
    return np.take_along_axis(dist, order, 1), order


@pytest.fixture(scope="module")
def cloud():
    return np.random.default_rng(0).normal(size=(400, 12)) + 7


@pytest.mark.parametrize("backend", BACKENDS)
def test_backends_agree_with_all_pairs(cloud, backend):
    dist, idx = exact(cloud)
    graph = NeighborGraph.from_data(cloud, 15, backend)
    np.testing.assert_allclose(graph.dist, dist[:, :15], rtol=1e-12)
    np.testing.assert_array_equal(graph.idx, idx[:, :15])
    assert (graph.n_ref, graph.k, graph.n_queries, graph.exact, graph.recall) == (400, 15, 400, True, 1.0)


def test_single_precision_search_is_still_exact(cloud):
    """Points so far out that one in single precision cannot tell neighbours apart: they are searched again."""
    X = np.vstack([cloud, np.full((1, 12), 1e6)])
    dist, idx = exact(X)
    graph = NeighborGraph.from_data(X, 5, "blocked", dtype=torch.float32)
    np.testing.assert_array_equal(graph.idx, idx[:, :5])
    np.testing.assert_allclose(graph.dist, dist[:, :5], rtol=1e-9)


def test_duplicates_are_dropped_and_reported(cloud):
    X = np.vstack([cloud[:5], cloud[:50], cloud[50:], cloud[10:12]])
    graph = NeighborGraph.from_data(X, 4)
    assert graph.n_dropped_duplicates == 7
    assert graph.n_ref == 400
    assert (graph.dist > 0).all()
    measured = pair_distances(X, graph.query_idx, graph.idx)
    np.testing.assert_allclose(measured, graph.dist)
    np.testing.assert_allclose(graph.dist[:5], exact(cloud)[0][:5, :4])
    spread = graph.spread(np.arange(400.0))
    np.testing.assert_array_equal(spread[5:10], spread[:5])
    assert np.isfinite(spread).all()


@pytest.mark.parametrize("backend", ["blocked", "kdtree"])
def test_query_subsets(cloud, backend):
    dist, idx = exact(cloud)
    rows = np.array([7, 3, 399])
    graph = NeighborGraph.from_data(cloud, 6, backend, query=rows)
    np.testing.assert_array_equal(graph.query_idx, [3, 7, 399])
    np.testing.assert_array_equal(graph.idx, idx[[3, 7, 399], :6])
    random = NeighborGraph.from_data(cloud, 6, backend, query=50, random_state=1)
    assert random.n_queries == 50
    assert len(np.unique(random.query_idx)) == 50
    np.testing.assert_allclose(random.dist, dist[random.query_idx, :6])


@pytest.mark.parametrize("scale", [1e-170, 1e-30, 1e150])
def test_the_unit_does_not_matter(cloud, scale):
    graph, scaled = NeighborGraph.from_data(cloud, 5), NeighborGraph.from_data(cloud * scale, 5)
    np.testing.assert_array_equal(graph.idx, scaled.idx)
    np.testing.assert_allclose(scaled.dist, graph.dist * scale, rtol=1e-9)


@pytest.mark.parametrize("scale", [1e-30, 1e25])
def test_faiss_serves_units_beyond_its_precision(cloud, scale):
    pytest.importorskip("faiss")
    graph, scaled = (NeighborGraph.from_data(X, 5, backend="faiss") for X in (cloud, cloud * scale))
    np.testing.assert_array_equal(graph.idx, scaled.idx)


def test_tiny_gaps_beside_a_large_extent_keep_their_distance():
    X = np.array([[0.0], [1e-200], [3e-200], [1.0]])
    graph = NeighborGraph.from_data(X, 1)
    np.testing.assert_allclose(graph.dist[:3, 0], [1e-200, 1e-200, 2e-200])


def test_tensors_and_single_precision_input(cloud):
    small = cloud.astype(np.float32)
    expected = NeighborGraph.from_data(small, 3)
    graph = NeighborGraph.from_data(torch.from_numpy(small), 3)
    np.testing.assert_array_equal(graph.dist, expected.dist)
    assert graph.dist.dtype == np.float64


def test_neighbourhoods_come_in_order(cloud):
    graph = NeighborGraph.from_data(cloud, 6)
    parts = list(local_blocks(cloud, graph, 4, max_entries=500))
    assert len(parts) > 1
    near = np.concatenate([block for _, block in parts])
    np.testing.assert_array_equal(near, cloud[graph.idx[:, :4]])
    with pytest.raises(ValueError, match="6 neighbours"):
        next(local_blocks(cloud, graph, 7))
    with pytest.raises(ValueError, match="made from"):
        next(local_blocks(cloud[:10], graph, 3))


def test_bootstrap_of_the_mean_has_the_standard_error():
    values = np.random.default_rng(0).normal(size=400)
    draws = bootstrap(lambda rows: values[rows].mean(), 400, 2000, 0)
    assert draws.std() == pytest.approx(values.std() / 20, rel=0.1)
    np.testing.assert_array_equal(draws[:5], bootstrap(lambda rows: values[rows].mean(), 400, 5, 0))


def test_approximate_graph_says_so(cloud):
    pytest.importorskip("faiss", reason="needs the extra 'faiss'")
    graph = NeighborGraph.from_data(cloud, 5, "faiss-ivf", n_lists=10, n_probe=3, random_state=0)
    assert not graph.exact
    assert 0.5 < graph.recall <= 1


@pytest.mark.parametrize(
    ("X", "k", "text"),
    [
        (np.zeros(5), 1, "2-D"),
        (np.array([[1.0], [np.nan]]), 1, "row 1"),
        (np.eye(4), 4, "at least 5 distinct rows, got 4"),
        (np.ones((9, 2)), 2, "8 of 9 are repeated"),
    ],
)
def test_bad_input(X, k, text):
    with pytest.raises(ValueError, match=text):
        NeighborGraph.from_data(X, k)


def test_bad_options(cloud):
    with pytest.raises(ValueError, match="backend must be one of"):
        NeighborGraph.from_data(cloud, 2, "tree")
    with pytest.raises(ValueError, match="outside"):
        NeighborGraph.from_data(cloud, 2, query=np.array([400]))
