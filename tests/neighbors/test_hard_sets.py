"""Sets whose neighbours a product of rows cannot tell: every search against differences in extended precision."""

import numpy as np
import pytest
import torch

from lodim.neighbors import NeighborGraph, NeighborIndex, search_shards, split_rows, stream_neighbors
from lodim.neighbors import search as search_module
from lodim.neighbors.pair_blocks import nearest_rows

K = 6


def clusters(d, jitter, offset=0.0, n=25):
    rng = np.random.default_rng(0)
    return np.repeat(rng.normal(size=(4, d)), n, 0) + jitter * rng.normal(size=(4 * n, d)) + offset


def with_one_far(size=1e12):
    X = np.random.default_rng(0).normal(size=(90, 40))
    X[0] *= size
    return X


def tiny_beside_one():
    X = 1e-170 * np.random.default_rng(0).normal(size=(90, 12))
    X[0, 0] = 1.0
    return X


PLAIN = np.random.default_rng(0).normal(size=(90, 20))
SETS = {
    "clusters": clusters(100, 1e-7),
    "clusters off centre": clusters(100, 1e-7, 1e3),
    "clusters in single": clusters(100, 1e-5).astype(np.float32),
    "one far point": with_one_far(),
    "one far point in single": with_one_far(1e7).astype(np.float32),
    "tiny beside one": tiny_beside_one(),
    **{f"unit {unit:g}": PLAIN * unit for unit in (1e-300, 1e-25, 1e300)},
    **{f"unit {unit:g} in single": (PLAIN * unit).astype(np.float32) for unit in (1e-25, 1e20)},
}


def of_graph(graph):
    return graph.dist, graph.idx


def by_shards(X, **options):
    """Rows of their own queries: each finds itself first."""
    dist, idx = search_shards(split_rows(X, 3), X, K + 1, **options)
    assert (idx[:, 0] == np.arange(len(X))).all()
    return dist[:, 1:], idx[:, 1:]


def by_index(X, backend):
    index = NeighborIndex("l2", backend).fit(X)
    return index.kneighbors(X, K, exclude_ids=np.arange(len(X)))


SEARCHES = {
    "kdtree": lambda X: of_graph(NeighborGraph.from_data(X, K, "kdtree")),
    "blocked": lambda X: of_graph(NeighborGraph.from_data(X, K, "blocked")),
    "blocked in single": lambda X: of_graph(NeighborGraph.from_data(X, K, "blocked", dtype=torch.float32)),
    "faiss": lambda X: of_graph(NeighborGraph.from_data(X, K, "faiss")),
    "graph of shards": lambda X: of_graph(NeighborGraph.from_shards(split_rows(X, 3), K, duplicates="keep")),
    "shards": by_shards,
    "shards by faiss": lambda X: by_shards(X, backend="faiss"),
    "stream": lambda X: of_graph(stream_neighbors(X, K, n_queries=None, block_rows=35)),
    "index": lambda X: by_index(X, "blocked"),
    "index by faiss": lambda X: by_index(X, "faiss"),
}


@pytest.fixture(scope="module")
def truth():
    known = {}

    def all_distances(name):
        if name not in known:
            X = SETS[name].astype(np.longdouble)
            unit = np.abs(X).max()
            known[name] = np.sqrt((((X[:, None] - X) / unit) ** 2).sum(2)) * unit
            np.fill_diagonal(known[name], np.inf)
        return known[name]

    return all_distances


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("name", SETS)
def test_the_neighbours_are_the_nearest(name, search, truth):
    if "faiss" in search:
        pytest.importorskip("faiss", reason="needs the extra 'faiss'")
    dist, idx = SEARCHES[search](SETS[name])
    expected = np.sort(truth(name), 1)[:, :K]
    np.testing.assert_array_less(np.abs(dist / expected - 1), 1e-11)
    chosen = np.take_along_axis(truth(name), idx, 1)
    np.testing.assert_array_less(np.abs(chosen / expected - 1), 1e-11)


def one_hot():
    levels = np.random.default_rng(0).integers(0, 4, size=(400, 8))
    return np.unique(np.eye(4)[levels].reshape(400, 32), axis=0)


@pytest.mark.parametrize("backend", ["blocked", "faiss"])
@pytest.mark.parametrize(
    "X",
    [
        np.random.default_rng(0).normal(size=(400, 100)),
        np.random.default_rng(0).standard_t(3, size=(400, 30)) + 50,
        np.random.default_rng(0).integers(0, 256, size=(400, 784)).astype(float),
        one_hot(),
    ],
    ids=["noise", "heavy tails off centre", "images", "ties of categories"],
)
def test_ordinary_data_are_settled_by_products(X, backend, monkeypatch):
    """All pairs by differences are for hard sets only: categories, of which many distances tie, are none."""
    if backend == "faiss":
        pytest.importorskip("faiss", reason="needs the extra 'faiss'")

    def never(*args):
        raise AssertionError("ordinary data were measured by differences")

    monkeypatch.setattr(search_module, "_complete", never)
    NeighborGraph.from_data(X, 10, backend)


def test_the_bound_holds_and_knows_the_products_precision():
    X = clusters(50, 1e-3)
    exact = ((X[:, None] - X) ** 2).sum(2)
    for dtype in (torch.float32, torch.float64):
        squares, idx, error = nearest_rows(X, None, 30, dtype=dtype)
        wrong = np.abs(squares - np.take_along_axis(exact, idx, 1)).max(1)
        assert (wrong <= error).all()
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        rough = nearest_rows(X, None, 30, dtype=torch.float32)[2]
    finally:
        torch.set_float32_matmul_precision(before)
    assert (rough > 1000 * nearest_rows(X, None, 30, dtype=torch.float32)[2]).all()
    assert (nearest_rows(X, None, 99, dtype=torch.float32)[2] == -np.inf).all()  # none is left out


def test_distances_beyond_the_range_of_numbers_are_refused():
    X = np.array([[-1.7e308, 0.0], [1.7e308, 0.0], [0.0, 1.7e308], [1e307, 2e307]])
    with pytest.raises(ValueError, match="beyond the range"):
        NeighborGraph.from_data(X, 3)


@pytest.mark.parametrize(
    ("backend", "option"), [("kdtree", "block_q"), ("faiss", "n_probe"), ("blocked", "n_lists")]
)
def test_an_option_of_another_backend_is_refused(backend, option):
    with pytest.raises(ValueError, match=f"backend='{backend}' has no option '{option}'"):
        NeighborGraph.from_data(PLAIN, 3, backend, **{option: 4})
