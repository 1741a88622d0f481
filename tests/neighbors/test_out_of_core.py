"""Neighbours from a stream of blocks: the same as in memory, whatever the source and the blocks; memory; refusals."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from lodim.neighbors import NeighborGraph, row_blocks, stream_neighbors
from lodim.neighbors import search as search_module
from lodim.neighbors.search import search_block


@pytest.fixture(scope="module")
def X():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(700, 20))
    points[50:60] = points[300:310]  # repeated rows
    points[3] = -0.0
    points[4] = 0.0
    return points


@pytest.fixture(scope="module")
def graph(X):
    return NeighborGraph.from_data(X, 12, query=90, random_state=5)


def assert_same(found, graph):
    np.testing.assert_array_equal(found.query_idx, graph.query_idx)
    np.testing.assert_array_equal(found.idx, graph.idx)
    np.testing.assert_allclose(found.dist, graph.dist, rtol=1e-12)
    np.testing.assert_array_equal(found.twin, graph.twin)
    assert (found.n_ref, found.n_dropped_duplicates) == (graph.n_ref, graph.n_dropped_duplicates)


@pytest.mark.parametrize("block_rows", [5, 64, 251, 10_000])
def test_blocks_do_not_matter(X, graph, block_rows):
    assert_same(stream_neighbors(X, 12, n_queries=90, block_rows=block_rows, random_state=5), graph)


def test_every_kind_of_source(X, graph, tmp_path):
    np.save(tmp_path / "x.npy", X)
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    names = [f"c{j}" for j in range(20)]
    pandas.DataFrame(X, columns=names).assign(text="a").to_parquet(tmp_path / "x.parquet")
    tensor = torch.from_numpy(X)
    sources = {
        "path": (tmp_path / "x.npy", {}),
        "memory map": (np.load(tmp_path / "x.npy", mmap_mode="r"), {}),
        "parquet": (str(tmp_path / "x.parquet"), {"columns": names}),
        "loader": (DataLoader(TensorDataset(tensor, torch.zeros(700)), batch_size=33), {}),
        "images": ([tensor[:400].reshape(400, 4, 5), tensor[400:].reshape(300, 4, 5)], {}),
        "function": (lambda: iter(np.array_split(X, 7)), {}),
    }
    for source, options in sources.values():
        found = stream_neighbors(source, 12, n_queries=90, block_rows=128, random_state=5, **options)
        assert_same(found, graph)


def test_all_points_single_precision_and_a_count_of_neighbours(X):
    single = X.astype(np.float32)
    found = stream_neighbors(single, lambda n: n // 100, n_queries=None, block_rows=200)
    assert found.k == 6
    assert_same(found, NeighborGraph.from_data(single, 6))


def test_the_fast_pass_is_checked(X, monkeypatch):
    """In single precision far from the origin of the queries the candidates are wrong; the bound sends them again."""
    rng = np.random.default_rng(1)
    references = 1e4 + rng.normal(size=(400, 3)) * 1e-3
    queries = np.vstack([references[:5] + 1e-5, np.zeros((5, 3))])
    monkeypatch.setattr(search_module, "choose_dtype", lambda *_: torch.float32)
    dist, _ = search_block(queries, references, 4, np.full(10, -1), np.full(10, np.inf))
    exact = np.sort(np.linalg.norm(queries[:, None] - references, axis=2), 1)[:, :4]
    np.testing.assert_allclose(dist, exact, rtol=1e-9)


def test_tiny_and_huge_units(X):
    graph = NeighborGraph.from_data(X * 1e-150, 5, query=20, random_state=0)
    found = stream_neighbors(X * 1e-150, 5, n_queries=20, block_rows=100, random_state=0)
    np.testing.assert_allclose(found.dist, graph.dist, rtol=1e-12)
    assert found.dist.min() > 0


def test_memory_stays_bounded(tmp_path):
    """Twelve megabytes in blocks of half a megabyte."""
    path = tmp_path / "x.npy"
    data = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(12_000, 256))
    rng = np.random.default_rng(0)
    for start in range(0, 12_000, 4000):
        data[start : start + 4000] = rng.normal(size=(4000, 256))
    data.flush()
    del data
    tracemalloc.start()
    stream_neighbors(path, 3, n_queries=16, block_rows=500, random_state=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8e6


def test_what_cannot_be_streamed_is_refused(X, tmp_path):
    with pytest.raises(TypeError, match="read several times"):
        stream_neighbors(iter([X]), 3)
    loader = DataLoader(TensorDataset(torch.from_numpy(X)), batch_size=50, shuffle=True)
    with pytest.raises(ValueError, match="must not shuffle"):
        stream_neighbors(loader, 3, n_queries=10)
    with pytest.raises(ValueError, match="no rows"):
        stream_neighbors([], 3)
    with pytest.raises(TypeError, match="source must be a function that takes no argument"):
        stream_neighbors(len, 3)
    with pytest.raises(ValueError, match="n_queries must be at least 1"):
        stream_neighbors(X, 3, n_queries=0)
    with pytest.raises(ValueError, match="k=700"):
        stream_neighbors(X, 700)
    bad = X.copy()
    bad[601, 2] = np.nan
    with pytest.raises(ValueError, match="row 601 of the source"):
        list(row_blocks(bad, 100))
    with pytest.raises(ValueError, match="from row 700 on 3"):
        list(row_blocks([X, X[:, :3]], 100))
    with pytest.raises(ValueError, match=r"neither an \.npy"):
        list(row_blocks(tmp_path / "x.csv"))
    with pytest.raises(ValueError, match="must hold numbers"):
        list(row_blocks([np.array([["a", "b"]])]))
    lengths = iter([[X], [X], [X[:500]]])
    with pytest.raises(ValueError, match="700 rows at first and 500"):
        stream_neighbors(lambda: iter(next(lengths)), 3, n_queries=10)


def test_columns_must_be_the_files(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    path = tmp_path / "z.parquet"
    pandas.DataFrame({"a": np.arange(9.0), "height": np.ones(9)}).to_parquet(path)
    assert next(row_blocks(path, columns=["a"])).shape == (9, 1)
    with pytest.raises(ValueError, match=r"no column 'heigth'. Did you mean 'height'"):
        list(row_blocks(path, columns=["a", "heigth"]))
    with pytest.raises(ValueError, match=r"no column 'zz'. It has 'a', 'height'"):
        list(row_blocks(path, columns=["a", "zz"]))
    with pytest.raises(ValueError, match="columns is empty"):
        list(row_blocks(path, columns=[]))
    with pytest.raises(ValueError, match="for Parquet files"):
        list(row_blocks(np.ones((4, 2)), columns=["a"]))


def test_equal_rows_have_no_neighbours():
    with pytest.raises(ValueError, match="all 40 rows of the source are equal"):
        stream_neighbors(np.ones((40, 3)), lambda n: n // 10, block_rows=15)


def test_graphs_know_their_columns(X, graph):
    assert graph.n_features == 20
    assert stream_neighbors(X, 3, n_queries=10).n_features == 20
    assert NeighborGraph.from_shards([X[:300], X[300:]], 3, query=10).n_features == 20


def test_tensors_and_frames_are_read_whole(X, graph):
    """They were taken for an iterable of their rows, or of the names of their columns."""
    for source in (torch.from_numpy(X), pd.DataFrame(X)):
        assert_same(stream_neighbors(source, 12, n_queries=90, block_rows=64, random_state=5), graph)
    short = torch.from_numpy(X).bfloat16()
    found = stream_neighbors(short, 12, n_queries=90, random_state=5)
    assert_same(found, NeighborGraph.from_data(short.float(), 12, query=90, random_state=5))


def test_masked_entries_are_refused_and_not_read(X):
    masked = np.ma.array(X, mask=X > 1)
    for source in (masked, [masked], lambda: iter([masked])):
        with pytest.raises(ValueError, match="masked entries"):
            stream_neighbors(source, 5)
    with pytest.raises(ValueError, match="a shard has"):
        NeighborGraph.from_shards([masked], 5)
