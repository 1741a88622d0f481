"""The database to retrieve from: exact answers, ties by id, exclusion, growing and shrinking, files, swapping."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from lodim.files import DamagedFileError
from lodim.neighbors import NeighborIndex
from lodim.neighbors import index as module


def points(n=300, d=8, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(dtype)


def brute(X, Q, k, metric="l2", ids=None):
    """Distances by definition, equal ones by id."""
    if metric == "cosine":
        X, Q = (Z / np.linalg.norm(Z, axis=1, keepdims=True) for Z in (X, Q))
    dist = np.linalg.norm(Q[:, None].astype(np.float64) - X, axis=2)
    dist = dist**2 / 2 if metric == "cosine" else dist
    ids = np.arange(len(X)) if ids is None else ids
    order = np.lexsort((np.broadcast_to(ids, dist.shape), dist), axis=1)[:, :k]
    return np.take_along_axis(dist, order, 1), ids[order]


@pytest.fixture(params=["blocked", "faiss"])
def backend(request):
    if request.param == "faiss":
        pytest.importorskip("faiss")
    return request.param


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_finds_what_scikit_learn_finds(metric, dtype, backend):
    X, Q = points(dtype=dtype), points(40, seed=1, dtype=dtype)
    dist, ids = NeighborIndex(metric, backend).fit(X).kneighbors(Q, 7)
    peer = NearestNeighbors(n_neighbors=7, algorithm="brute", metric=metric)
    expected, found = peer.fit(X.astype(np.float64)).kneighbors(Q.astype(np.float64))
    np.testing.assert_array_equal(ids, found)
    np.testing.assert_allclose(dist, expected, rtol=1e-6, atol=1e-7)


def test_ties_go_by_id_however_many(backend):
    rng = np.random.default_rng(0)
    X, ids = (
        rng.integers(0, 2, (400, 3)).astype(float),
        rng.permutation(1000)[:400],
    )  # eight points, 50 times each
    Q = rng.integers(0, 3, (30, 3)).astype(float)
    dist, found = NeighborIndex("l2", backend).fit(X, ids).kneighbors(Q, 60)
    expected, expected_ids = brute(X, Q, 60, ids=ids)
    np.testing.assert_array_equal(found, expected_ids)
    np.testing.assert_array_equal(dist, expected)


def test_the_order_of_adding_batches_and_queries_does_not_show(monkeypatch, backend):
    X, Q, order = points(), points(25, seed=1), np.random.default_rng(2).permutation(300)
    index = NeighborIndex(backend=backend).fit(X)
    other = NeighborIndex(backend=backend)
    for part in np.array_split(order, 4):
        other.add(X[part], part)
    whole = index.kneighbors(Q, 9)
    monkeypatch.setattr(module, "_ENTRIES", 64)
    for a, b in zip(whole, other.kneighbors(Q, 9)):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(whole, index.kneighbors(Q[3:4], 9)):
        np.testing.assert_array_equal(a[3:4], b)


def test_a_query_does_not_find_itself(backend):
    X, ids = points(), np.arange(300) * 3 + 5
    index = NeighborIndex("l2", backend).fit(X, ids)
    dist, found = index.kneighbors(X, 4, exclude_ids=ids)
    assert not (found == ids[:, None]).any()
    expected = brute(X, X, 5, ids=ids)
    np.testing.assert_array_equal(found, expected[1][:, 1:])
    np.testing.assert_allclose(dist, expected[0][:, 1:], rtol=1e-12)
    unknown = index.kneighbors(X, 4, exclude_ids=np.full(300, 6))  # excludes nothing
    np.testing.assert_array_equal(unknown[1][:, 0], ids)


def test_copies_under_other_ids_are_left_out_too(backend):
    X = points()
    copies = np.vstack([X, *(X * s for s in (2.0, 3.0, 1.0))])  # the same directions three times more
    index = NeighborIndex("cosine", backend).fit(copies)
    dist, found = index.kneighbors(X, 3, exclude_ids=np.arange(300), exclude_within=1e-6)
    assert dist.min() > 1e-6
    np.testing.assert_allclose(dist[:, 0], brute(X, X, 2, "cosine")[0][:, 1], rtol=1e-9)
    assert not (found % 300 == np.arange(300)[:, None]).any()
    with pytest.raises(ValueError, match="query 0 has only 296 neighbours"):
        NeighborIndex("cosine", backend).fit(copies[:300]).kneighbors(
            X[:1], 297, exclude_within=np.sort(brute(X, X[:1], 300, "cosine")[0][0])[3]
        )


def test_rows_come_and_go():
    X = points()
    index = NeighborIndex("l2").fit(X[:200])
    index.add(X[200:])
    assert len(index) == 300
    index.remove(np.arange(0, 300, 2))
    np.testing.assert_array_equal(index.ids, np.arange(1, 300, 2))
    np.testing.assert_array_equal(index.kneighbors(X[:40], 3)[1], brute(X[1::2], X[:40], 3)[1] * 2 + 1)
    np.testing.assert_array_equal(index.take([[5, 7], [9, 5]]), X[[[5, 7], [9, 5]]])
    index.add(X[[0]])
    assert index.ids[-1] == 300
    index.remove(index.ids)
    assert len(index) == 0
    assert len(index.add(X[:3])) == 3
    with pytest.raises(ValueError, match="id 8 is not in the index"):
        index.remove([1, 8])
    with pytest.raises(ValueError, match="id 9 is not"):
        index.take(9)


@pytest.mark.parametrize("labels", [None, np.array(["b", "a", "cc"] * 100), np.arange(300) % 7])
def test_a_file_gives_back_the_same_index(tmp_path, labels):
    X, Q = points(dtype=np.float32), points(5, seed=1, dtype=np.float32)
    index = NeighborIndex("cosine", n_probe=3).fit(X, np.arange(300)[::-1], labels)
    index.save(tmp_path / "database")
    again = NeighborIndex.load(str(tmp_path / "database"))
    assert (again.metric, again.kind, again.n_probe, again.vectors.dtype) == ("cosine", "flat", 3, np.float32)
    if labels is None:
        assert again.labels is None
    else:
        np.testing.assert_array_equal(again.labels, labels[::-1])
    for a, b in zip(index.kneighbors(Q, 4), again.kneighbors(Q, 4)):
        np.testing.assert_array_equal(a, b)
    np.savez(tmp_path / "else.npz", x=X)
    with pytest.raises(ValueError, match="holds no index: it has x"):
        NeighborIndex.load(tmp_path / "else.npz")


def test_the_database_is_swapped():
    X, Y, Q = points(), points(150, seed=3), points(6, seed=1)
    index = NeighborIndex("l2").fit(X)
    before = index.kneighbors(Q, 3)
    for a, b in zip(before, index.swap(NeighborIndex("l2").fit(X.copy())).kneighbors(Q, 3)):
        np.testing.assert_array_equal(a, b)
    index.swap(NeighborIndex("cosine").fit(Y))
    np.testing.assert_array_equal(index.kneighbors(Q, 3)[1], brute(Y, Q, 3)[1])
    with pytest.raises(ValueError, match="vectors of 5, not 8"):
        index.swap(NeighborIndex().fit(points(4, 5)))


def test_cells_find_most_and_say_how_many():
    pytest.importorskip("faiss")
    X, Q = points(3000), points(50, seed=1)
    index = NeighborIndex("l2", kind="ivf", n_lists=30, n_probe=5).fit(X, np.arange(3000) + 7)
    exact = NeighborIndex("l2").swap(index)
    share = index.recall(Q, 5)
    assert 0.5 < share < 1.0
    assert exact.recall(Q, 5) == 1.0
    hits = [np.isin(a, b).mean() for a, b in zip(exact.kneighbors(Q, 5)[1], index.kneighbors(Q, 5)[1])]
    assert share == pytest.approx(np.mean(hits))
    all_cells = NeighborIndex("l2", kind="ivf", n_lists=30, n_probe=30).swap(index)
    for a, b in zip(exact.kneighbors(Q, 5), all_cells.kneighbors(Q, 5)):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="raise n_probe"):
        NeighborIndex("l2", kind="ivf", n_lists=30, n_probe=1).swap(index).kneighbors(Q, 500)


def test_tensors_in_tensors_out():
    X, Q = (torch.from_numpy(points(n, seed=n)) for n in (100, 4))
    index = NeighborIndex().fit(X.requires_grad_(), torch.arange(100), torch.arange(100) % 3)
    dist, ids = index.kneighbors(Q, 2, exclude_ids=torch.tensor([1, 2, 3, 4]))
    assert (dist.dtype, ids.dtype) == (torch.float64, torch.int64)
    assert torch.equal(index.take(ids), X[ids])
    half = NeighborIndex().fit(X.detach().bfloat16()).kneighbors(Q.bfloat16(), 2)[1]
    assert half.shape == (4, 2)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e15])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_units_do_not_matter(metric, scale):
    X, Q = points(dtype=np.float32), points(9, seed=1, dtype=np.float32)
    dist, ids = NeighborIndex(metric).fit(X * np.float32(scale)).kneighbors(Q * np.float32(scale), 4)
    expected, found = brute(X, Q, 4, metric)
    np.testing.assert_array_equal(ids, found)
    np.testing.assert_allclose(dist, expected * (1.0 if metric == "cosine" else scale), rtol=1e-5)


@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_copies_answer_the_same(kind):
    if kind == "ivf":
        pytest.importorskip("faiss")
    X, Q = points(), points(5, seed=1)
    index = NeighborIndex("l2", kind=kind, n_lists=4, n_probe=2).fit(X)
    found = index.kneighbors(Q, 3)
    for other in (copy.deepcopy(index), pickle.loads(pickle.dumps(index))):
        for a, b in zip(found, other.kneighbors(Q, 3)):
            np.testing.assert_array_equal(a, b)
        with pytest.raises(ValueError, match="read-only"):
            other.vectors[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        index.vectors[0] = 0
    taken = index.take([0])
    taken[:] = 0  # a copy, as what was given is
    X[:] = 0
    np.testing.assert_array_equal(index.kneighbors(Q, 3)[1], found[1])


def test_arrays_of_any_layout_and_no_queries():
    X = points()
    X.setflags(write=False)
    index = NeighborIndex("l2").fit(np.asfortranarray(X))
    np.testing.assert_array_equal(index.kneighbors(X[::-2], 1)[1][:, 0], np.arange(300)[::-2])
    assert index.kneighbors(X[:0], 3)[0].shape == (0, 3)
    assert len(index.add(X[:0])) == 300
    assert NeighborIndex("l2").fit([[1.0, 2.0]]).kneighbors([[1.0, 2.5]], 1)[0] == [[0.5]]


def test_what_does_not_fit_is_said():
    X = points(20)
    index = NeighborIndex().fit(X, labels=np.arange(20))
    wrong = [
        (lambda: NeighborIndex().kneighbors(X, 1), "index is empty"),
        (lambda: index.kneighbors(X, 21), "k=21 neighbours are more than the index has rows, 20"),
        (lambda: index.kneighbors(X, 20, exclude_ids=np.arange(20)), "query 0 has only 19"),
        (lambda: index.kneighbors(X[:, :3], 1), "Q has 3 columns but the index 8"),
        (lambda: index.kneighbors(X, 1, exclude_ids=[1, 2]), "20 integers"),
        (lambda: index.kneighbors(np.zeros((1, 8)), 1), "row 0 of Q is zero"),
        (lambda: index.add(X[:1]), "all rows of an index or for none"),
        (lambda: index.add(X[:1], [3], [0]), "id 3 stands for two rows"),
        (lambda: index.add(X[:2], [30.5, 31.5], [0, 0]), "integers"),
        (lambda: index.add(X[:, :2], labels=np.arange(20)), "E has 2 columns"),
        (lambda: index.add(np.full((1, 8), np.nan), labels=[0]), "NaN"),
        (lambda: index.fit(X, labels=[None] * 20), "numbers or strings"),
        (lambda: NeighborIndex(metric="dot"), "metric"),
        (lambda: NeighborIndex(n_probe=0), "n_probe"),
    ]
    for call, message in wrong:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="sparse"):
        index.add(type("Sparse", (), {"tocsr": None})())


def test_a_file_with_another_dtype_is_read_and_one_with_wrong_rows_refused(tmp_path):
    X, Q = points(), points(5, seed=1)
    path = tmp_path / "index.npz"
    NeighborIndex("l2", n_lists=np.int64(3)).fit(X).save(path)
    held = dict(np.load(path))
    for kind in (np.float16, np.int64):  # integers: 8 columns of few values
        np.savez(path, **held | {"vectors": X.astype(kind)})
        dist, ids = NeighborIndex.load(path).kneighbors(Q, 3)
        expected, found = brute(X.astype(kind).astype(np.float64), Q, 3)
        np.testing.assert_array_equal(ids, found)
        np.testing.assert_allclose(dist, expected, rtol=1e-12)
    for name, wrong, message in (
        ("vectors", np.full_like(X, np.nan), "NaN"),
        ("ids", np.zeros(300, np.int64), "id 0 stands"),
        ("ids", np.arange(3), "300 integers"),
    ):
        np.savez(path, **held | {name: wrong})
        with pytest.raises(ValueError, match=message):
            NeighborIndex.load(path)
    np.save(tmp_path / "one.npy", X)
    with pytest.raises(ValueError, match=r"one\.npy is damaged, or no file of this kind"):
        NeighborIndex.load(tmp_path / "one.npy")
    NeighborIndex().save(path)
    assert len(NeighborIndex.load(path)) == 0


@pytest.mark.parametrize("sealed", [True, False])
def test_a_damaged_file_is_refused_or_holds_what_was_saved(tmp_path, sealed):
    X, path = points()[:6], tmp_path / "index.npz"
    NeighborIndex("l2").fit(X, labels=np.arange(6) * 7).save(path)
    if not sealed:  # as earlier versions did
        np.savez(path, **np.load(path))
    whole = path.read_bytes()
    refused, bits = 0, range(0, 8 * len(whole), 23)
    for bit in bits:
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            index = NeighborIndex.load(path)
        except DamagedFileError:
            refused += 1
        else:
            np.testing.assert_array_equal(index.vectors, X)
            np.testing.assert_array_equal(index.labels, np.arange(6) * 7)
            assert index.metric == "l2"
    assert refused > 0.5 * len(bits)
    for other in (whole[:-60], whole[: len(whole) // 2], b"", b"something else"):
        path.write_bytes(other)
        with pytest.raises(ValueError, match=r"index\.npz is damaged, or no file of this kind"):
            NeighborIndex.load(path)
    with pytest.raises(FileNotFoundError):
        NeighborIndex.load(tmp_path / "nowhere.npz")


def test_queries_keep_their_precision_and_may_lie_far_off(backend):
    X, Q = points(dtype=np.float32), points(5, seed=1)
    index = NeighborIndex("l2", backend).fit(X)
    for scale in (1.0, 1e25):
        dist, ids = index.kneighbors(Q * scale, 300)
        np.testing.assert_allclose(dist, brute(X, Q * scale, 300)[0], rtol=1e-12)
        np.testing.assert_array_equal(np.sort(ids), np.broadcast_to(np.arange(300), (5, 300)))
    near = index.kneighbors(X[:5].astype(np.float64) + 1e-9, 1)[0]
    np.testing.assert_allclose(near, 1e-9 * np.sqrt(8), rtol=1e-5)
    with pytest.raises(ValueError, match="check its unit"):
        index.kneighbors(Q * 1e200, 1)


def test_a_failed_fit_changes_nothing_and_labels_and_ids_stay_what_they_are():
    X = points(20)
    index = NeighborIndex("l2").fit(X, labels=torch.arange(20.0).requires_grad_())
    for wrong in (
        lambda: index.fit(np.full((2, 8), np.nan)),
        lambda: index.add(X[:1], labels=["a"]),
        lambda: index.add(X[:1], np.array([2**63], dtype=np.uint64), [0]),
        lambda: index.recall(X[:0], 1),
    ):
        with pytest.raises(ValueError, match=r"NaN|stay numbers or strings|below 2\*\*63|at least one"):
            wrong()
        np.testing.assert_array_equal(index.labels, np.arange(20))
        np.testing.assert_array_equal(index.vectors, X)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e25])
def test_cells_serve_any_unit_far_queries_and_few_rows(scale):
    """Where all cells are looked into, in double precision beyond what squares of single precision hold."""
    pytest.importorskip("faiss")
    X, Q = points() * scale, points(5, seed=1) * scale
    index = NeighborIndex("l2", kind="ivf", n_lists=5, n_probe=5).fit(X)
    exact = NeighborIndex("l2", "blocked").fit(X)
    for queries in (Q, 1e4 * Q):
        np.testing.assert_array_equal(index.kneighbors(queries, 3)[1], exact.kneighbors(queries, 3)[1])
    few = NeighborIndex("l2", kind="ivf", n_lists=30, n_probe=30).fit(X[:10])  # fewer rows than cells
    np.testing.assert_array_equal(few.kneighbors(X[:10], 1)[1][:, 0], np.arange(10))
