"""Search over shards: how data are cut and who computes changes no bit; what it costs."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lodim.geometry import IntrinsicDimension
from lodim.neighbors import NeighborGraph, SearchEstimate, Shard, estimate_search, search_shards, split_rows
from lodim.neighbors.cost import measure_rate

DOCS = Path(__file__).resolve().parents[2] / "docs" / "parallel.md"


def cloud(n=600, d=12, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(dtype)


def assert_same(a, b):
    for name in ("dist", "idx", "query_idx", "twin"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert (a.n_ref, a.n_dropped_duplicates, a.exact) == (b.n_ref, b.n_dropped_duplicates, b.exact)


@settings(max_examples=12, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 299), max_size=5),
    d=st.sampled_from([1, 5, 20, 63]),
    block_rows=st.sampled_from([7, 50, 1000]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_however_cut_the_graph_is_that_of_the_whole(cuts, d, block_rows, dtype):
    X = cloud(300, d, dtype=dtype)
    X[[17, 250]] = X[3]
    shards = np.split(X, sorted(set(cuts)))
    graph = NeighborGraph.from_shards(shards, 6, 40, block_rows=block_rows, random_state=1)
    assert_same(graph, NeighborGraph.from_data(X, 6, query=40, random_state=1))
    assert graph.n_dropped_duplicates == 2


def test_wide_rows_are_measured_by_their_difference_alone():
    """In memory wide rows are measured by products, right to 5e-12; shards agree among themselves to the bit."""
    X = cloud(400, 100)
    whole = NeighborGraph.from_shards([X], 5, random_state=0)
    assert_same(NeighborGraph.from_shards(np.array_split(X, 7), 5, block_rows=20, random_state=0), whole)
    in_memory = NeighborGraph.from_data(X, 5, random_state=0)
    np.testing.assert_array_equal(whole.idx, in_memory.idx)
    np.testing.assert_allclose(whole.dist, in_memory.dist, rtol=5e-12)


def test_single_precision_candidates_lead_to_the_same_neighbours():
    """A problem large enough for the fast pass, with an offset that costs it digits."""
    X = cloud(9000, 30) + np.float32(50)
    shards = np.array_split(X, 2)
    graph = NeighborGraph.from_shards(shards, 4, np.arange(0, 9000, 3))
    assert len(graph.query_idx) * 4500 * 30 > 4e8
    assert_same(graph, NeighborGraph.from_data(X, 4, query=np.arange(0, 9000, 3)))


@pytest.fixture
def files(tmp_path):
    X = cloud(500, 8)
    paths = []
    for number, part in enumerate(np.array_split(X, 3)):
        paths.append(tmp_path / f"{number}.npy")
        np.save(paths[-1], part)
    return X, paths


def test_two_processes_give_the_same_bits(files):
    X, paths = files
    alone = NeighborGraph.from_data(X, 5, query=50, random_state=2)
    assert_same(NeighborGraph.from_shards(paths, 5, 50, random_state=2), alone)
    assert_same(NeighborGraph.from_shards(paths, 5, 50, random_state=2, n_jobs=2), alone)


@pytest.mark.slow  # a cluster starts
@pytest.mark.ray
def test_two_ray_workers_give_the_same_bits(files):
    ray = pytest.importorskip("ray", reason="needs the extra `ray`")
    X, paths = files
    started = not ray.is_initialized()
    if started:
        ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
    try:
        graph = NeighborGraph.from_shards(paths, 5, 50, random_state=2, ray="local")
    finally:
        if started:
            ray.shutdown()
    assert_same(graph, NeighborGraph.from_data(X, 5, query=50, random_state=2))


@pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="needs the extra `faiss`")
@pytest.mark.parametrize("d", [8, 100])
def test_faiss_candidates_change_no_bit(d):
    X = cloud(700, d)
    shards = np.array_split(X, 3)
    assert_same(NeighborGraph.from_shards(shards, 5, backend="faiss"), NeighborGraph.from_shards(shards, 5))


def test_the_dimension_is_that_of_the_whole(files):
    X, paths = files
    graph = NeighborGraph.from_shards(paths, 20)
    for method in ("twonn", "mle"):
        assert (
            IntrinsicDimension(method).fit(graph).dimension_ == IntrinsicDimension(method).fit(X).dimension_
        )


def test_queries_of_their_own(files):
    X, paths = files
    queries = cloud(9, 8, seed=5)
    dist, idx = search_shards(paths, queries, 4, n_jobs=2)
    exact = np.linalg.norm(queries[:, None].astype(np.float64) - X, axis=2)
    np.testing.assert_array_equal(idx, np.argsort(exact, 1)[:, :4])
    np.testing.assert_allclose(dist, np.sort(exact, 1)[:, :4], rtol=1e-12)
    found, itself = search_shards(paths, X[[3, 400]], 1)
    assert found.tolist() == [[0], [0]]
    assert itself.tolist() == [[3], [400]]
    everything, _ = search_shards(paths, queries, 500)
    assert np.isfinite(everything).all()


def test_memory_maps_travel_as_places_in_their_file(tmp_path):
    X = cloud(90, 4)
    raw = np.memmap(tmp_path / "raw.bin", np.float32, "w+", offset=64, shape=X.shape)
    raw[:] = X
    raw.flush()
    np.save(tmp_path / "x.npy", X)
    for mapped in (raw, np.load(tmp_path / "x.npy", mmap_mode="r")):
        part = Shard.of(mapped[20:50])
        assert isinstance(part.source, str)
        np.testing.assert_array_equal(part.rows(), X[20:50])
        halves = split_rows(mapped[10:], 3)
        np.testing.assert_array_equal(np.concatenate([one.rows() for one in halves]), X[10:])
        shards = [mapped[:33], mapped[33:]]
        assert_same(NeighborGraph.from_shards(shards, 3, n_jobs=2), NeighborGraph.from_data(X, 3))
    assert isinstance(Shard.of(raw[:, :2]).source, np.ndarray)  # not one stretch of the file
    assert [len(one) for one in split_rows(tmp_path / "x.npy", 4)] == [22, 23, 23, 22]


def test_images_and_whole_numbers_are_rows_too():
    X = np.random.default_rng(0).integers(0, 255, (80, 3, 4), dtype=np.uint8)
    assert_same(NeighborGraph.from_shards([X[:30], X[30:]], 3), NeighborGraph.from_data(X.reshape(80, 12), 3))


def test_tiny_units():
    X = cloud(100, 5, dtype=np.float64) * 1e-150
    assert_same(NeighborGraph.from_shards([X[:60], X[60:]], 3), NeighborGraph.from_data(X, 3))


def test_without_looking_for_repeated_rows():
    X = cloud(200, 5)
    assert_same(
        NeighborGraph.from_shards([X[:60], X[60:]], 3, duplicates="keep"), NeighborGraph.from_data(X, 3)
    )
    X[150] = X[7]
    with pytest.raises(ValueError, match="row 7 is repeated"):
        NeighborGraph.from_shards([X[:60], X[60:]], 3, duplicates="keep")


def test_what_does_not_fit_is_refused(tmp_path):
    X = cloud(50, 4)
    with pytest.raises(ValueError, match="no shards"):
        NeighborGraph.from_shards([], 3)
    with pytest.raises(ValueError, match="features: 3 and 4"):
        NeighborGraph.from_shards([X, X[:, :3]], 3)
    with pytest.raises(ValueError, match="precision: float32 and float64"):
        NeighborGraph.from_shards([X, X.astype(np.float64)], 3)
    with pytest.raises(ValueError, match="k=50 neighbours need at least 51"):
        NeighborGraph.from_shards([X], 50)
    with pytest.raises(ValueError, match=r"no \.npy file"):
        NeighborGraph.from_shards([tmp_path / "x.csv"], 3)
    with pytest.raises(TypeError, match="a shard is"):
        NeighborGraph.from_shards(["x.npy", 3][1:], 3)
    with pytest.raises(ValueError, match="Did you mean 'blocked'"):
        NeighborGraph.from_shards([X], 3, backend="bloked")
    with pytest.raises(ValueError, match="queries have 3 features"):
        search_shards([X], X[:, :3], 3)
    bad = X.copy()
    bad[7, 2] = np.nan
    with pytest.raises(ValueError, match="row 7 of the source has NaN"):
        NeighborGraph.from_shards([X, bad], 3)
    np.save(tmp_path / "gone.npy", X)
    shard = Shard.of(tmp_path / "gone.npy")
    (tmp_path / "gone.npy").unlink()
    with pytest.raises(RuntimeError, match="failed on job 1 of 2: FileNotFoundError"):
        NeighborGraph.from_shards([X, shard], 3)


def test_the_estimate_counts_what_is_done():
    one = estimate_search(10**6, 128, 20, 4096, 1, rate=1e10)
    ten = estimate_search(10**6, 128, 20, 4096, 10, rate=1e10)
    assert one.multiply_adds == ten.multiply_adds == 10**6 * 128 * 4096
    assert one.bytes_read == ten.bytes_read == 2 * 10**6 * 128 * 4
    assert ten.seconds == pytest.approx(one.seconds / 10)
    assert one.seconds == pytest.approx(one.multiply_adds / 1e10 + one.bytes_read / 1e9)
    assert ten.bytes_moved > one.bytes_moved
    kept = estimate_search(10**6, 128, 20, 4096, 10, rate=1e10, duplicates="keep")
    assert kept.bytes_read == one.bytes_read / 2
    assert kept.memory_here < ten.memory_here
    idle = estimate_search(10**6, 128, 20, 4096, 10, shards=5, rate=1e10)
    assert idle.seconds == pytest.approx(one.seconds / 5)
    uneven = estimate_search(10**6, 128, 20, 4096, 10, shards=15, rate=1e10)
    assert uneven.seconds == pytest.approx(one.seconds * 2 / 15)
    assert SearchEstimate.from_json(one.to_json()) == one
    with pytest.raises(ValueError, match="n must be at least 1"):
        estimate_search(0, 3, 3, 3, 3)
    with pytest.raises(ValueError, match="itemsize"):
        estimate_search(10, 3, 3, 3, 3, itemsize=2, rate=1e9)


def test_the_rate_is_measured_where_it_is_not_given():
    assert measure_rate(64) > 1e7
    assert estimate_search(10**6, 64, 5, 10, 2).rate > 1e7


@pytest.mark.skipif(not DOCS.exists(), reason="the documentation is not here")
def test_the_recipes_estimate_is_what_the_function_prints():
    code, shown = re.search(
        r"```python\n([^`]*?estimate_search\([^`]*?)```\s+```text\n(.*?)```", DOCS.read_text(), re.DOTALL
    ).groups()
    printed = []
    exec(code, {"print": printed.append})
    assert "\n".join(map(str, printed)) == shown.rstrip()
