"""Neighbours that users of other libraries reported as wrong, each tried on every search here."""

import numpy as np
import pytest

from lodim.neighbors import NeighborGraph, NeighborIndex, search_shards


def by_shards(X, Q, k):
    return search_shards([X], Q, k)


SEARCHES = {
    "blocked": lambda X, Q, k: NeighborIndex("l2", "blocked").fit(X).kneighbors(Q, k),
    "faiss": lambda X, Q, k: NeighborIndex("l2", "faiss").fit(X).kneighbors(Q, k),
    "shards": by_shards,
}


@pytest.fixture(params=SEARCHES)
def search(request):
    if request.param == "faiss":
        pytest.importorskip("faiss", reason="needs the extra 'faiss'")
    return SEARCHES[request.param]


def brute(X, Q, k):
    dist = np.sqrt(((Q[:, None].astype(np.longdouble) - X) ** 2).sum(2)).astype(np.float64)
    order = np.argsort(dist, 1, kind="stable")[:, :k]
    return np.take_along_axis(dist, order, 1), order


def test_places_on_earth_in_metres(search):
    """facebookresearch/faiss 3245: a neighbour 951 m away was returned, not the one at 7.6 m."""
    rng = np.random.default_rng(0)
    query = np.array([[4208848.0, 2334863.5, 4171170.2]], dtype=np.float32)
    X = (query + rng.normal(scale=500, size=(500, 3))).astype(np.float32)
    X[123] = [4208843.5, 2334869.5, 4171171.5]
    dist, idx = search(X, query, 3)
    expected, order = brute(X, query, 3)
    assert order[0, 0] == 123
    np.testing.assert_array_equal(idx, order)
    np.testing.assert_allclose(dist, expected, rtol=1e-11)
    assert dist[0, 0] == pytest.approx(7.603453, rel=1e-5)


def test_one_column_much_wider_than_the_others(search):
    """facebookresearch/faiss 297 and 2158: columns of 1e-8 beside one of 3e7 gave negative squares, wrong rows."""
    rng = np.random.default_rng(100)
    X = (rng.normal(size=(300, 40)) * np.geomspace(1e-8, 1, 40)).astype(np.float32)
    X[:, 20] = rng.integers(0, 5, size=300) * 3.2218898e7
    dist, idx = search(X, X[:30], 4)
    expected, order = brute(X, X[:30], 4)
    np.testing.assert_allclose(dist, expected, rtol=1e-11)
    np.testing.assert_array_equal(idx, order)


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [
        ([1e8 + 1, 1e8], [1e8, 1e8 + 1], 2**0.5),  # cleanlab 1113
        ([0.7125930], [0.7123166], 0.0002764),  # spotify/annoy 314, there in single precision 0
    ],
)
def test_near_points_far_from_the_origin(a, b, distance, search):
    X = np.array([a, b])
    dist, idx = search(X, X[:1], 2)
    assert idx.tolist() == [[0, 1]]
    assert dist[0, 0] == 0
    assert dist[0, 1] == pytest.approx(distance, rel=1e-9)


def test_a_row_is_at_no_distance_from_itself(search):
    """scikit-learn 27531: an exact match had a distance of 1e-9; spotify/annoy 515 likewise."""
    X = np.array([[-0.05634, 0.08516, 0.07541], [0.07924, -0.01755, 0.12372]])
    dist, idx = search(X, X, 1)
    np.testing.assert_array_equal(dist, np.zeros((2, 1)))
    np.testing.assert_array_equal(idx, [[0], [1]])


def test_neighbours_do_not_move_with_the_data(search):
    """scikit-learn 20278: rows near 1e4 found other neighbours than the same rows near 0."""
    X = np.round(np.random.default_rng(0).random((300, 10)) * 2**20) / 2**20
    dist, idx = search(X, X, 10)
    moved_dist, moved_idx = search(X + 2.0**14, X + 2.0**14, 10)
    np.testing.assert_array_equal(moved_idx, idx)
    np.testing.assert_allclose(moved_dist, dist, rtol=1e-11)


@pytest.mark.parametrize("backend", ["kdtree", "blocked"])
def test_no_point_is_its_own_neighbour_however_many_copies_it_has(backend):
    """scikit-learn 16512 and 29873: of equal rows the first was taken for the query itself."""
    X = np.array([[0, 1], [0, 1], [-1, 2], [5, 7], [-3, 2], [9, 9.0]])
    graph = NeighborGraph.from_data(X, 2, backend)
    np.testing.assert_array_equal(graph.query_idx, [0, 2, 3, 4, 5])
    assert not (graph.idx == graph.query_idx[:, None]).any()
    expected = [[2, 10], [2, 4], [20, 61], [4, 10], [20, 145]]
    np.testing.assert_allclose(graph.dist**2, expected, rtol=1e-12)
