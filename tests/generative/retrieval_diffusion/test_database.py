"""What must hold of the database beside a generator: who is a neighbour, how often, and who is a copy."""

import copy
import pickle

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from sklearn.metrics import pairwise_distances
from torch import nn

from lodim.generative import Retrieval
from lodim.generative.retrieval_diffusion import database as system
from lodim.neighbors import NeighborIndex


def points(n=80, d=5, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def prepared(n=80, d=5, k=3, labels=None, **options):
    X = points(n, d)
    retrieval = Retrieval(NeighborIndex().fit(X, labels=labels), k=k, **options)
    return retrieval, X, retrieval.prepare(X, ids=np.arange(n))


def test_the_module_names_its_source():
    assert "2204.11824" in system.__doc__


# ------------------------------------------------------------------------------------------------------ training


@pytest.mark.parametrize("ids", [np.arange(80), None])
def test_no_sample_is_its_own_neighbour_by_id_or_by_copy(ids):
    X = points()
    table = Retrieval(X, k=3).prepare(X, ids=ids)
    assert not bool((table == torch.arange(80)[:, None]).any())


def test_copies_under_other_ids_and_multiples_are_left_out():
    X = points(30)
    both = np.concatenate([X, X * (1 + 1e-9), 3 * X])
    table = Retrieval(both, k=3).prepare(X, ids=np.arange(30))
    assert not bool((table % 30 == torch.arange(30)[:, None]).any())
    keep = Retrieval(both, k=3, same_within=0).prepare(X + 1e-4)  # near, but not the same
    assert bool((keep[:, :3] % 30 == torch.arange(30)[:, None]).all())


def test_a_database_full_of_copies_has_neighbours_as_long_as_k_are_left():
    X = np.concatenate([np.ones((45, 2)), points(5, 2) + 5])
    table = Retrieval(NeighborIndex("l2").fit(X), k=3).prepare(X, ids=np.arange(50))
    assert table.shape == (50, 3)
    assert int(table[:45].min()) >= 45
    with pytest.raises(ValueError, match="only 5 neighbours"):
        Retrieval(NeighborIndex("l2").fit(X), k=6).prepare(X, ids=np.arange(50))


def test_neighbours_are_those_of_a_search_by_hand():
    X, Y = points(40), points(10, seed=1)
    table = Retrieval(X, k=4).prepare(Y)
    cos = (Y / np.linalg.norm(Y, axis=1)[:, None]) @ (X / np.linalg.norm(X, axis=1)[:, None]).T
    assert table.shape == (10, 20)
    assert np.array_equal(table.numpy(), np.argsort(-cos, axis=1)[:, :20])


def test_faiss_and_blocks_and_scikit_learn_agree_with_ties_by_id():
    pytest.importorskip("faiss")
    X = (
        np.random.default_rng(0).integers(0, 3, (200, 4)).astype(float)
    )  # many equal distances, many equal rows
    Y = np.random.default_rng(1).integers(0, 3, (50, 4)) + 0.5
    tables = [
        Retrieval(NeighborIndex("l2", backend).fit(X), k=5).prepare(Y).numpy()
        for backend in ("faiss", "blocked")
    ]
    assert np.array_equal(*tables)
    dist = pairwise_distances(Y, X)
    assert np.array_equal(tables[0], np.lexsort((np.arange(200) + 0 * dist, dist.round(9)))[:, :20])


@pytest.mark.parametrize("k", [1, 3, 7])
def test_counts_sum_to_k_a_sample(k):
    retrieval, X, table = prepared(k=k)
    assert retrieval.counts.sum() == k * len(X)
    for item in (0, 17, 79):
        assert retrieval.counts[item] == int((table[:, :k] == item).sum())


def test_neighbours_found_elsewhere_take_the_searchs_place():
    retrieval, X, table = prepared()
    other = table.flip(0)
    assert torch.equal(retrieval.prepare(X, neighbours=other.numpy()), other)
    with pytest.raises(ValueError, match="3 or more"):
        retrieval.prepare(X, neighbours=other[:, :2])
    with pytest.raises(ValueError, match="ids of shape"):
        retrieval.prepare(X, neighbours=other.double())
    with pytest.raises(ValueError, match="id 999 is not in the database"):
        retrieval.prepare(X, neighbours=np.full((80, 3), 999))


# ------------------------------------------------------------------------------------------------------ sampling


def test_weights_over_all_items_reproduce_the_counts():
    retrieval, _, _ = prepared(n=30)
    drawn = retrieval.queries(20_000, top_m=1.0, use_weights=True, generator=0).numpy()
    seen, expected = np.bincount(drawn, minlength=30), retrieval.counts / retrieval.counts.sum() * 20_000
    assert not seen[expected == 0].any()
    assert chisquare(seen[expected > 0], expected[expected > 0]).pvalue > 1e-3


def test_without_weights_the_items_that_are_kept_are_drawn_alike():
    retrieval, _, _ = prepared(n=30)
    drawn = np.bincount(retrieval.queries(20_000, top_m=6, generator=0), minlength=30)
    most = np.lexsort((np.arange(30), -retrieval.counts))[:6]
    assert set(np.flatnonzero(drawn)) == set(most)
    assert chisquare(drawn[most]).pvalue > 1e-3
    share = np.unique(retrieval.queries(5000, top_m=0.2, generator=1))
    assert set(share) == set(most)
    assert len(np.unique(retrieval.queries(100, top_m=np.float32(1e-9)))) == 1  # one item at least


def test_one_item_or_all_of_them():
    retrieval, _, _ = prepared(n=30)
    assert len(np.unique(retrieval.queries(50, top_m=1))) == 1
    assert len(np.unique(retrieval.queries(2000, top_m=1.0, generator=0))) == 30


def test_a_label_for_all_or_one_a_sample():
    names = np.array(["cat", "dog", "eel"])[np.arange(80) % 3]
    retrieval, _, _ = prepared(labels=names)
    assert set(names[retrieval.queries(200, labels="dog", top_m=1.0)]) == {"dog"}
    wanted = np.array(["cat", "dog", "eel", "dog"] * 10)
    for weights in (False, True):
        assert (names[retrieval.queries(40, labels=wanted, use_weights=weights, top_m=0.5)] == wanted).all()
    with pytest.raises(ValueError, match="has the label cow"):
        retrieval.queries(3, labels="cow")
    with pytest.raises(ValueError, match="one a sample"):
        retrieval.queries(3, labels=["cat", "dog"])
    with pytest.raises(ValueError, match="has no labels"):
        prepared()[0].queries(3, labels=1)


@pytest.mark.parametrize("top_m", [0, 0.0, -0.5, 1.5, -3, float("nan")])
def test_a_share_or_number_out_of_range_is_refused(top_m):
    with pytest.raises(ValueError, match="top_m"):
        prepared()[0].queries(3, top_m=top_m)


def test_a_seed_gives_the_same_queries():
    retrieval, _, _ = prepared()
    first = retrieval.queries(50, top_m=1.0, generator=3)
    assert torch.equal(first, retrieval.queries(50, top_m=1.0, generator=torch.Generator().manual_seed(3)))
    assert not torch.equal(first, retrieval.queries(50, top_m=1.0, generator=4))


def test_context_of_items_begins_with_themselves():
    retrieval, X, _ = prepared()
    context, found = retrieval.context(torch.tensor([5, 9]))
    assert context.dtype == torch.float32
    assert found[:, 0].tolist() == [5, 9]
    assert torch.equal(context, torch.from_numpy(X[found.numpy()]).float())
    given, same = retrieval.context(np.array([[1, 2], [3, 3]]))
    assert torch.equal(given, torch.from_numpy(X[[[1, 2], [3, 3]]]).float())
    assert same.tolist() == [[1, 2], [3, 3]]


def test_context_of_a_vector_in_three_ways():
    retrieval, X, _ = prepared()
    asked = torch.from_numpy(points(2, seed=5)).float()
    omit, ids = retrieval.context(asked, mode="omit")
    prepend, _ = retrieval.context(asked)
    only, none = retrieval.context(asked, mode="only")
    assert torch.equal(prepend, torch.cat([asked[:, None], omit[:, :2]], 1))
    assert torch.equal(only, asked[:, None].expand(-1, 3, -1))
    assert torch.equal(omit, torch.from_numpy(X[ids.numpy()]).float())
    assert none.shape == (2, 0)
    assert retrieval.context(asked, k=1)[0].shape == (2, 1, 5)


def test_unit_vectors_are_shown_where_asked_for():
    retrieval, _, _ = prepared(normalize_context=True)
    context, _ = retrieval.context(torch.from_numpy(points(2, seed=5)))
    assert torch.allclose(context.norm(dim=2), torch.ones(2, 3))


# ------------------------------------------------------------------------------------------------------ swapping


def test_an_identical_database_changes_nothing():
    retrieval, X, _ = prepared()
    before, counts = retrieval.queries(20, top_m=0.2, generator=0), retrieval.counts
    seen = retrieval.context(before)[0]
    retrieval.swap(NeighborIndex().fit(X[::-1].copy(), ids=np.arange(80)[::-1]))
    assert np.array_equal(retrieval.counts, counts)
    assert torch.equal(retrieval.queries(20, top_m=0.2, generator=0), before)
    assert torch.equal(retrieval.context(before)[0], seen)


def test_counts_outlive_the_removal_of_items_but_not_new_ones():
    retrieval, X, _ = prepared()
    counts = retrieval.counts
    retrieval.swap(NeighborIndex().fit(X[10:50], ids=np.arange(10, 50)))
    assert np.array_equal(retrieval.counts, counts[10:50])
    retrieval.index.remove([10, 11])
    assert np.array_equal(retrieval.counts, counts[12:50])
    retrieval.index.add(points(1, seed=9), ids=[500])
    assert retrieval.counts is None


@pytest.mark.parametrize("change", [{"n": 90}, {"n": 80, "seed": 1}])
def test_another_database_has_no_counts_and_says_so(change):
    retrieval, _, _ = prepared()
    retrieval.swap(points(**change))
    assert retrieval.counts is None
    with pytest.warns(UserWarning, match="not known"):
        drawn = retrieval.queries(5000, top_m=0.01, generator=0)
    assert len(np.unique(drawn)) == change["n"]
    retrieval.queries(5, top_m=1.0)  # all of it is wanted: no warning
    retrieval.prepare(points(), ids=None)
    assert retrieval.counts.sum() == 3 * 80


def test_a_swap_that_does_not_fit_leaves_everything_as_it_was():
    retrieval, _, _ = prepared()
    index, counts = retrieval.index, retrieval.counts
    with pytest.raises(ValueError, match="vectors of 4 numbers"):
        retrieval.swap(points(d=4))
    with pytest.raises(ValueError, match="embed"):
        retrieval.swap(points(), embed=lambda X: X[:, 0])
    with pytest.raises(ValueError, match="more than the 2 items"):
        retrieval.swap(points(2))
    with pytest.raises(ValueError, match="empty"):
        retrieval.swap(NeighborIndex())
    assert retrieval.index is index
    assert np.array_equal(retrieval.counts, counts)
    assert len(retrieval.embed(points(3))[0]) == 5


# ------------------------------------------------------------------------------------------------------ embedding


def test_functions_of_arrays_and_of_tensors_embed_alike():
    W = points(5, 2, seed=3)
    layer = nn.Linear(5, 2, bias=False).double()
    layer.weight.data = torch.from_numpy(W.T.copy())
    by_array, by_module = Retrieval(points(), lambda X: X @ W), Retrieval(points(), layer)
    X = points(7, seed=2)
    for given in (X, torch.from_numpy(X)):
        assert np.allclose(by_array.embed(given), X @ W)
        assert np.allclose(by_module.embed(given), X @ W)
    assert np.allclose(by_array.index.vectors, by_module.index.vectors)
    assert not list(by_module.parameters())  # they are not the generator's


def test_what_embeds_is_left_in_its_mode():
    layer = nn.Sequential(nn.Dropout(0.5)).train()
    retrieval = Retrieval(points(), layer)
    assert np.allclose(retrieval.index.vectors, points().astype(np.float32))
    assert layer.training


def test_embeddings_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="a vector a sample"):
        Retrieval(points(), lambda X: X[:-1])
    with pytest.raises(ValueError, match="columns"):
        Retrieval(NeighborIndex().fit(points(d=3))).prepare(points())


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.uint8])
def test_databases_of_any_number_type_and_layout(dtype):
    X = np.asfortranarray(1 + 50 * np.abs(points())).astype(dtype)
    X.setflags(write=False)
    assert Retrieval(X).prepare(X, ids=np.arange(80)).shape == (80, 20)


def test_masked_arrays_are_refused():
    masked = np.ma.masked_greater(points(), 2)
    for embed in (None, lambda X: X):
        with pytest.raises(ValueError, match="mask"):
            Retrieval(masked, embed)
    with pytest.raises(ValueError, match="mask"):
        prepared()[0].context(masked)


# ------------------------------------------------------------------------------------------------------ copies


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_a_returned_item_is_flagged_and_new_data_are_not(metric):
    X = points(500)
    retrieval = Retrieval(NeighborIndex(metric).fit(X[:400]), k=3)
    retrieval.prepare(X[:400], ids=np.arange(400))
    none = torch.zeros(100, 3, dtype=torch.int64)
    assert retrieval.report(X[:100], none).copies.all()
    assert retrieval.report(X[400:], none).copies.mean() < 0.1
    assert np.array_equal(retrieval.report(X[:100], none).nearest, np.arange(100))


def test_the_threshold_is_a_quantile_of_real_distances():
    X = points(400)
    retrieval = Retrieval(X[:200], k=1)
    threshold = retrieval.calibrate(X[200:], quantile=0.25)
    report = retrieval.report(X[200:], torch.zeros(200, 0, dtype=torch.int64))
    assert report.threshold == threshold
    assert report.copies.mean() == pytest.approx(0.25, abs=0.01)
    assert retrieval.calibrate(X[:200], 0) > 0  # items among the real data do not blind the check
    own = retrieval.swap(X[:200]).calibrate(quantile=0.5)
    assert own == pytest.approx(retrieval.calibrate(X[:200], 0.5))


def test_copies_are_drawn_again_or_refused():
    X = points(300)
    retrieval = Retrieval(X[:200], k=2)
    asked = []

    def make(rows):
        asked.append(rows.tolist())
        out = X[200 + rows.numpy()].copy()
        if len(asked) < 3:
            out[rows.numpy() == 4] = X[4]  # a copy, twice
        return out, torch.zeros(len(rows), 2, dtype=torch.int64)

    retrieval.calibrate(quantile=0)
    samples, report = retrieval.draw(10, make, copies="redraw")
    assert asked == [list(range(10)), [4], [4]]
    assert report.n_redrawn == 2
    assert not report.copies.any()
    assert np.array_equal(samples, X[200:210])
    assert np.array_equal(report.distances, retrieval.report(samples, report.neighbours).distances)

    def always(rows):
        return X[rows.numpy()], torch.zeros(len(rows), 2, dtype=torch.int64)

    for copies, match in (("raise", "10 of 10"), ("redraw", "after 10 draws")):
        with pytest.raises(ValueError, match=match):
            retrieval.draw(10, always, copies=copies)
    assert retrieval.draw(10, always)[1].copies.all()


def test_a_database_of_one_item_judges_only_what_it_was_told():
    retrieval = Retrieval(points(1), k=1)
    report = retrieval.report(points(3), torch.zeros(3, 1, dtype=torch.int64))
    assert np.isnan(report.threshold)
    assert "not judged" in str(report)
    with pytest.raises(ValueError, match="calibrate"):
        retrieval.calibrate()
    with pytest.raises(ValueError, match="calibrate"):
        retrieval.draw(2, lambda rows: (points(len(rows)), torch.zeros(len(rows), 1).long()), copies="redraw")


# ------------------------------------------------------------------------------------------------------ bad input, kept


def test_databases_and_numbers_that_do_not_fit():
    with pytest.raises(ValueError, match="k=9 neighbours are more than the 5 items"):
        Retrieval(points(5), k=9)
    with pytest.raises(ValueError, match="empty"):
        Retrieval(NeighborIndex())
    with pytest.raises(ValueError, match="empty"):
        Retrieval(points(0))
    for index in ("digits", 5):
        with pytest.raises(TypeError, match="index must be"):
            Retrieval(index)
    for index, said in (
        (np.array(1.0), "index must have rows"),
        (torch.ones(()), "index must have rows"),
        ({1.0, 2.0}, "index must have rows"),
        (torch.ones(9, 5, device="meta"), "index is on the meta device"),
        (torch.ones(9, 5).to_sparse(), "index is sparse"),
        (np.full((9, 5), np.datetime64("2020-01-01")), "index must hold numbers"),
        (np.eye(9, 5), r'row 5 of index is zero .* give NeighborIndex\("l2"\)'),
    ):
        for use in (Retrieval, prepared()[0].swap):
            with pytest.raises((TypeError, ValueError), match=said):
                use(index)
    retrieval, _, _ = prepared()
    for use, name in ((Retrieval, "index"), (retrieval.prepare, "X"), (retrieval.calibrate, "X")):
        with pytest.raises(ValueError, match=f"{name} has NaN or infinity in 1 of 5 rows"):
            use(np.where(np.arange(5)[:, None] == 2, np.nan, points(5)))
    with pytest.raises(ValueError, match="what embed returned has NaN or infinity in 5 of 5 rows"):
        Retrieval(points(5), lambda X: X * np.nan)
    listed = retrieval.report(points(3).tolist(), [[0, 1, 2]] * 3)
    assert np.array_equal(listed.distances, retrieval.report(points(3), torch.zeros(3, 3).long()).distances)
    for query in (["cat"], np.array([True]), torch.tensor([True])):
        with pytest.raises(ValueError, match="query"):
            retrieval.context(query)
    with pytest.raises(ValueError, match="5 numbers"):
        retrieval.context(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="k=81"):
        retrieval.context(torch.zeros(2, 5), k=81)
    with pytest.raises(ValueError, match="query_mode"):
        retrieval.context(torch.ones(2, 5), mode="both")
    with pytest.raises(ValueError, match="not in the"):
        retrieval.context(torch.tensor([80]))


def test_nothing_asked_nothing_drawn():
    retrieval, _, _ = prepared()
    assert retrieval.context(retrieval.queries(0))[0].shape == (0, 3, 5)
    assert retrieval.context(torch.zeros(0, 5))[0].shape == (0, 3, 5)
    assert str(retrieval.report(points(0), torch.zeros(0, 3, dtype=torch.int64))) == "0 samples"


def test_copies_and_pickles_hold_the_database_and_a_state_dict_the_counts():
    retrieval, X, _ = prepared()
    retrieval.vectors(torch.tensor([0]))
    for other in (copy.deepcopy(retrieval), pickle.loads(pickle.dumps(retrieval))):
        assert np.array_equal(other.counts, retrieval.counts)
        assert torch.equal(other.context(torch.tensor([3]))[0], retrieval.context(torch.tensor([3]))[0])
        other.index.remove([0])
        assert len(retrieval.index) == 80
    fresh = Retrieval(X, k=3)
    assert fresh.counts is None
    fresh.load_state_dict(retrieval.state_dict())
    assert np.array_equal(fresh.counts, retrieval.counts)


# ------------------------------------------------------------------------------------------------------ misuse


def test_an_index_changed_in_place_is_another_database():
    retrieval, X, _ = prepared()
    threshold = retrieval.calibrate()
    retrieval.index.remove(np.arange(20, 80))
    assert len(retrieval.counts) == 20
    assert retrieval.report(X[:1] + 1, np.zeros((1, 3), dtype=int)).threshold != threshold
    retrieval.index.fit(X[::-1])  # the same ids for other vectors
    assert retrieval.counts is None


def test_neighbours_found_elsewhere_say_nothing_of_distances():
    retrieval, X, _ = prepared()
    before = retrieval.calibrate()
    retrieval.prepare(10 * X[:7], neighbours=np.ones((7, 3), dtype=int))
    fresh = Retrieval(X, k=3)
    report = retrieval.report(X[:2], np.zeros((2, 3), dtype=int))
    assert report.threshold == fresh.report(X[:2], np.zeros((2, 3), dtype=int)).threshold
    assert before == pytest.approx(report.threshold)  # here samples and items are the same


def test_samples_without_a_distance_do_not_cost_the_others():
    retrieval, X, _ = prepared()
    samples = np.concatenate([X[:2], np.zeros((1, 5)), np.full((1, 5), np.nan)])
    report = retrieval.report(samples, np.zeros((4, 3), dtype=int))
    assert report.nearest.tolist() == [0, 1, -1, -1]
    assert np.isnan(report.distances).tolist() == [False, False, True, True]
    assert "4 samples (2 without a distance)" in str(report)
    report.plot()
    assert (
        str(retrieval.report(samples[2:], np.zeros((2, 3), dtype=int))) == "2 samples (2 without a distance)"
    )


def test_a_database_of_copies_of_one_item_does_not_say_what_is_near():
    retrieval = Retrieval(NeighborIndex("l2").fit(np.ones((5, 3))), k=2)
    assert np.isnan(retrieval.report(points(3, 3), np.zeros((3, 2), dtype=int)).threshold)
    with pytest.raises(ValueError, match="do not say what is near"):
        retrieval.calibrate()


def test_what_embeds_may_write_into_what_it_gets():
    X = points()
    own, tensor = X.copy(), torch.tensor(X)

    def shift(rows):
        rows -= 1
        return rows

    retrieval = Retrieval(own, shift, k=2)
    retrieval.prepare(tensor)
    Retrieval(tensor, nn.Sequential(nn.ELU(inplace=True)), k=2)
    assert np.array_equal(own, X)
    assert np.array_equal(tensor.numpy(), X)


def test_samples_in_the_databases_place_keep_its_metric():
    index = NeighborIndex("l2", "blocked").fit(points())
    retrieval = Retrieval(index, k=2).swap(points(20))
    assert (retrieval.index.metric, retrieval.index.backend) == ("l2", "blocked")


@pytest.mark.parametrize(
    ("query", "options", "match"),
    [
        (np.array(["1", "2"]), {}, "numbers, or ids"),
        (np.array([1j, 2]), {}, "numbers, or ids"),
        (np.array([1, 2], dtype=object), {}, "numbers, or ids"),
        (np.full((2, 5), np.nan), {"mode": "only"}, "NaN"),  # which would say: no neighbours
        (np.full((2, 5), 1e300), {"mode": "only"}, "single precision"),
        (np.zeros((2, 0), dtype=int), {}, "0 items"),
        (np.ones((2, 3), dtype=int), {"k": 2}, "give no k"),
        (np.full((2, 3), 99), {}, "99 is not in"),
    ],
)
def test_queries_that_are_no_ids_or_vectors(query, options, match):
    with pytest.raises(ValueError, match=match):
        prepared()[0].context(query, **options)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_queries_of_any_precision(dtype):
    retrieval, X, _ = prepared()
    context, found = retrieval.context(torch.tensor(X[:4]).to(dtype))
    assert found[:, 0].tolist() == [0, 1, 2, 3]
    assert context.shape == (4, 3, 5)


def test_no_samples_and_masked_labels_are_refused():
    retrieval, X, _ = prepared(labels=np.arange(80) % 2)
    for call in (retrieval.prepare, retrieval.calibrate):
        with pytest.raises(ValueError, match="no samples"):
            call(X[:0])
        for wrong in (3, object(), len, np.array(1.0), torch.ones(())):
            with pytest.raises(ValueError, match="X must have rows"):
                call(wrong)
    with pytest.raises(ValueError, match="masked"):
        retrieval.queries(2, labels=np.ma.masked_equal([0, 1], 1))
