"""What must hold of transductive-few-shot whatever the data: identities, invariances, limits."""

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.special import softmax
from sklearn.datasets import make_blobs, make_moons
from sklearn.metrics import adjusted_rand_score

from lodim.neighbors import knn_affinity
from lodim.partition import (
    SLK,
    centre_and_normalise,
    few_shot_episodes,
    sample_episodes,
    search_lambda,
)
from lodim.partition.transductive_few_shot import episodes as episodes_module
from lodim.partition.transductive_few_shot import slk

LAMBDAS = (0.1, 0.5, 1.0, 3.0, 30.0)


def problem(seed=0, n=40, d=3, k=4, n_labelled=1, n_classes=3):
    """Random rows of which some have labels, and their graph."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    codes = np.full(n, -1)
    codes[: n_classes * n_labelled] = np.repeat(np.arange(n_classes), n_labelled)
    return X, codes, knn_affinity(X, k)


def prepared(X, codes, W, n_classes=3):
    return slk._prepare(X[None], W, codes[None], n_classes)


def relaxed_energy(S, cost, W, codes, lam):
    """F of the module's text, term by term."""
    free = codes < 0
    entropy = np.sum(S[:, free] * np.log(np.maximum(S[:, free], 1e-300)))
    return entropy + (S * cost).sum() - lam / 2 * np.trace(S @ W @ S.T)


# ---- the energy and its descent


@pytest.mark.parametrize("lam", LAMBDAS)
@pytest.mark.parametrize("prototype", ["mean", "mode"])
def test_the_relaxed_energy_never_rises(lam, prototype):
    for seed in range(2):
        X, codes, W = problem(seed)
        points = prepared(X, codes, W)
        cost = points.cost(X[None, :3], prototype)
        trace = []
        for steps in range(1, 17):
            S, _ = slk.relax(points, cost, SLK(lam=lam, max_inner_iter=steps))
            trace.append(relaxed_energy(S[0], cost[0], W.toarray(), codes, lam))
        assert (np.diff(trace) <= 1e-10).all()
        assert trace[-1] < trace[0]


def test_plain_steps_may_alternate_for_ever_where_damped_ones_settle():
    """Two rows that differ, joined by a heavy edge, swap their labels in every plain step."""
    W, cost, lam = np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[0.0, 1.0], [1.0, 0.0]]), 10
    S = softmax(-cost, axis=0)
    for _ in range(50):
        before, S = S, softmax(lam * S @ W - cost, axis=0)
    np.testing.assert_allclose(S, before[::-1], atol=1e-3)
    assert abs(S - before).max() > 0.9
    points = prepared(np.zeros((2, 1)), np.array([-1, -1]), csr_array(W), 2)
    S, settled = slk.relax(points, cost[None], SLK(lam=lam))
    assert settled.all()
    np.testing.assert_allclose(S[0], softmax(lam * S[0] @ W - cost, axis=0), atol=1e-2)


@pytest.mark.parametrize("lam", LAMBDAS)
def test_memberships_settle_where_plain_steps_would(lam, monkeypatch):
    monkeypatch.setattr(slk, "_INNER_TOL", 1e-12)
    X, codes, W = problem()
    points = prepared(X, codes, W)
    cost = points.cost(X[None, :3], "mean")
    S, settled = slk.relax(points, cost, SLK(lam=lam, max_inner_iter=5000))
    assert settled.all()
    np.testing.assert_allclose(S.sum(1), 1)
    again = softmax(lam * S[0] @ W.toarray() - cost[0], axis=0)
    free = codes < 0
    np.testing.assert_allclose(again[:, free], S[0][:, free], atol=1e-2)
    np.testing.assert_array_equal(S[0][:, ~free], np.eye(3)[codes[~free]].T)


@pytest.mark.parametrize("prototype", slk.PROTOTYPES)
def test_the_energy_is_distortion_plus_lambda_for_every_edge_cut(prototype):
    X, codes, W = problem()
    model = SLK(prototype=prototype, lam=0.4, sigma=1.3).fit(X, codes)
    W = knn_affinity(X, 2).toarray()
    squares = np.square(X - model.prototypes_[model.labels_]).sum(1) / 1.3**2
    f = squares if prototype == "mean" else -np.exp(-squares / 2)
    cut = np.triu(W)[model.labels_[:, None] != model.labels_].sum()
    assert model.energy_[-1] == pytest.approx(f.sum() + 0.4 * cut)


@pytest.mark.parametrize("prototype", ["mean", "mode"])
def test_energy_never_rises_over_rounds_nor_when_prototypes_move(prototype):
    for seed in range(4):
        X, codes, W = problem(seed, n=60, d=2)
        model = SLK(prototype=prototype, lam=0.3, tol=0, random_state=seed)
        for trace in (model.fit(X, codes).energy_, model.set_params(n_clusters=4).fit(X).energy_):
            assert (np.diff(trace) <= 1e-10).all()
        points, labels = prepared(X, codes, W), np.random.default_rng(seed).integers(3, size=(1, 60))
        M = X[None, :3]
        moved = slk.move(points, M, labels, np.zeros((1, 3, 60)), prototype)
        before, after = (points.energy(labels, points.cost(m, prototype), 0.3)[0] for m in (M, moved))
        assert after < before


def test_flips_lower_the_energy_until_no_single_one_does():
    X, codes, W = problem(n=60)
    points, labels = prepared(X, codes, W), np.random.default_rng(0).integers(3, size=(1, 60))
    labels[0, :3] = [0, 1, 2]
    cost = points.cost(X[None, :3], "mean")
    trace = [
        points.energy(slk.flip(points, cost, labels, SLK(max_inner_iter=i)), cost, 0.5)[0]
        for i in range(1, 9)
    ]
    assert trace[0] < points.energy(labels, cost, 0.5)[0]
    assert (np.diff(trace) <= 1e-12).all()
    found = slk.flip(points, cost, labels, SLK())
    np.testing.assert_array_equal(found[0, :3], [0, 1, 2])
    dense = prepared(X, codes, W.toarray()[None])
    np.testing.assert_array_equal(slk.flip(dense, cost, labels, SLK()), found)
    least = points.energy(found, cost, 0.5)[0]
    for row in range(3, 60):
        for label in range(3):
            other = found.copy()
            other[0, row] = label
            assert points.energy(other, cost, 0.5)[0] >= least - 1e-12


def test_two_neighbours_that_both_gain_do_not_swap():
    points = prepared(np.zeros((2, 1)), np.array([-1, -1]), np.array([[[0.0, 1.0], [1.0, 0.0]]]), 2)
    for max_inner_iter in (50, 51):
        found = slk.flip(
            points, np.zeros((1, 2, 2)), np.array([[0, 1]]), SLK(lam=1, max_inner_iter=max_inner_iter)
        )
        assert found[0, 0] == found[0, 1]


def test_votes_are_the_product_with_the_graph():
    X, codes, W = problem()
    S = np.random.default_rng(0).random((1, 3, 40))
    expected = np.einsum("pq,kq->kp", W.toarray(), S[0])
    for graph in (W, W.toarray()[None]):
        np.testing.assert_allclose(prepared(X, codes, graph).votes(S)[0], expected)


# ---- prototypes


def test_modes_are_at_rest_under_mean_shift():
    X, codes, W = problem(n=60)
    labels = np.random.default_rng(1).integers(3, size=(1, 60))
    M = slk.move(prepared(X, codes, W), X[None, :3], labels, np.zeros((1, 3, 60)), "mode")[0]
    for k in range(3):
        own = X[labels[0] == k]
        weights = np.exp(-np.square(own - M[k]).sum(1) / 2)
        np.testing.assert_allclose(weights @ own / weights.sum(), M[k], atol=1e-4)


def test_medoids_have_the_largest_kernel_degree_and_bo_the_largest_membership():
    X, codes, W = problem(n=60)
    rng = np.random.default_rng(1)
    labels, S = rng.integers(3, size=(1, 60)), rng.random((1, 3, 60))
    kernel = np.exp(-np.square(X[:, None] - X).sum(2) / 2)
    points = prepared(X, codes, W)
    for k in range(3):
        own = np.flatnonzero(labels[0] == k)
        free = own[codes[own] < 0]
        medoid = own[kernel[np.ix_(own, own)].sum(1).argmax()]
        np.testing.assert_array_equal(slk.move(points, X[None, :3], labels, S, "medoid")[0, k], X[medoid])
        bo = free[S[0, k, free].argmax()]
        np.testing.assert_array_equal(slk.move(points, X[None, :3], labels, S, "bo")[0, k], X[bo])


def test_bo_never_takes_a_row_of_another_cluster():
    X, codes, W = problem()
    labels, S = np.where(codes == 1, 1, 0)[None], np.random.default_rng(0).random((1, 3, 40))
    moved = slk.move(prepared(X, codes, W), X[None, :3], labels, S, "bo")
    np.testing.assert_array_equal(moved[0, 1], X[1])


def test_an_empty_cluster_keeps_its_prototype():
    X, codes, W = problem()
    for prototype in slk.PROTOTYPES:
        moved = slk.move(
            prepared(X, codes, W), X[None, :3], np.zeros((1, 40), int), np.ones((1, 3, 40)), prototype
        )
        np.testing.assert_array_equal(moved[0, 1:], X[1:3])


# ---- the estimator


def test_lambda_zero_is_k_means_that_keeps_labelled_rows():
    X, codes, _ = problem(3, n=80, n_labelled=2)
    M = np.array([X[codes == c].mean(0) for c in range(3)])
    for _ in range(100):
        labels = np.square(X[:, None] - M).sum(2).argmin(1)
        labels[codes >= 0] = codes[codes >= 0]
        M = np.array([X[labels == c].mean(0) for c in range(3)])
    model = SLK(lam=0, tol=0).fit(X, codes)
    np.testing.assert_array_equal(model.labels_, labels)
    np.testing.assert_allclose(model.prototypes_, M)


@pytest.mark.parametrize("prototype", slk.PROTOTYPES)
def test_labelled_rows_keep_their_label_and_y_is_asked_nothing_else(prototype):
    X, codes, _ = problem(4)
    y = np.array(["a", "b", "c"], dtype=object)[codes]
    y[codes < 0] = None
    model = SLK(prototype=prototype, lam=3).fit(X, y)
    np.testing.assert_array_equal(model.labels_[:3], ["a", "b", "c"])
    np.testing.assert_array_equal(model.memberships_[:3], np.eye(3))
    np.testing.assert_array_equal(model.transduction_, model.labels_)
    first = SLK(prototype=prototype, lam=3, max_iter=0).fit(X, y)
    np.testing.assert_array_equal(first.labels_, np.array(["a", "b", "c"])[first.memberships_.argmax(1)])


@pytest.mark.parametrize("prototype", slk.PROTOTYPES)
def test_the_order_of_rows_and_where_and_how_large_they_are_do_not_matter(prototype):
    X, codes, _ = problem(5, n=50, n_labelled=2)
    model = SLK(prototype=prototype).fit(X, codes)
    order = np.random.default_rng(0).permutation(50)
    np.testing.assert_array_equal(
        SLK(prototype=prototype).fit(X[order], codes[order]).labels_, model.labels_[order]
    )
    np.testing.assert_array_equal(SLK(prototype=prototype).fit(X + 1e3, codes).labels_, model.labels_)
    for unit in (1e-200, 1e200):
        other = SLK(prototype=prototype).fit(X * unit, codes)
        np.testing.assert_array_equal(other.labels_, model.labels_)
        np.testing.assert_allclose(other.prototypes_, model.prototypes_ * unit, rtol=1e-9)
        assert other.sigma_ == pytest.approx(model.sigma_ * unit)
        np.testing.assert_array_equal(other.predict(X * unit), model.predict(X))
        given = SLK(prototype=prototype, sigma=model.sigma_ * unit).fit(X * unit, codes)
        np.testing.assert_array_equal(given.labels_, model.labels_)


def test_a_large_lambda_gives_each_component_one_label():
    X, _ = make_blobs([6, 6], 2, centers=[[0, 0], [50, 0]], shuffle=False, random_state=0)
    points = prepared(X, np.full(12, -1), knn_affinity(X, 5), 2)
    cost = np.random.default_rng(0).random((1, 2, 12))
    cost[0, 0, 6:] += 0.3
    labels = slk.relax(points, cost, SLK(lam=1e6))[0].argmax(1)[0]
    assert len(set(labels[:6])) == len(set(labels[6:])) == 1


def test_two_moons_with_one_label_each():
    X, y = make_moons(300, noise=0.06, random_state=0)
    given = np.full(300, -1)
    given[[np.flatnonzero(y == c)[0] for c in (0, 1)]] = [0, 1]
    np.testing.assert_array_equal(SLK(prototype="mode", n_neighbors=5).fit(X, given).labels_, y)


@pytest.mark.parametrize("prototype", slk.PROTOTYPES)
@pytest.mark.parametrize("lam", [0, 0.3])
def test_rows_beyond_the_reach_of_kernels_go_to_the_nearest_prototype(prototype, lam):
    """Kernels of all classes round to the same zero there; which class has which code must not decide."""
    X, y = make_blobs(600, 2, centers=5, cluster_std=0.5, center_box=(-8, 8), random_state=3)
    codes = np.full(600, -1)
    codes[[np.flatnonzero(y == c)[0] for c in range(5)]] = range(5)
    model = SLK(prototype=prototype, lam=lam, sigma=0.05).fit(X, codes)
    renamed = SLK(prototype=prototype, lam=lam, sigma=0.05).fit(X, np.where(codes < 0, -1, 4 - codes))
    np.testing.assert_array_equal(4 - renamed.labels_, model.labels_)
    if lam == 0:
        free = codes < 0
        np.testing.assert_array_equal(model.labels_[free], model.predict(X)[free])


def test_a_fit_that_fails_leaves_the_model_as_it_was():
    X, codes, _ = problem(6)
    model = SLK().fit(X, codes)
    before = model.predict(X)
    with pytest.raises(ValueError, match="at least 3"):
        model.fit(X[:2] * 1e200, [0, 1])
    np.testing.assert_array_equal(model.predict(X), before)


def test_predict_takes_the_nearest_prototype():
    X, codes, _ = problem(6)
    model = SLK().fit(X, codes)
    fresh = np.random.default_rng(1).normal(size=(30, 3))
    expected = np.square(fresh[:, None] - model.prototypes_).sum(2).argmin(1)
    np.testing.assert_array_equal(model.predict(fresh), expected)
    np.testing.assert_array_equal(model.predict(fresh[:1] * 1e250), model.predict(fresh[:1] * 1e5))
    # no row has a say in another's answer
    np.testing.assert_array_equal(model.predict(np.vstack([fresh, fresh[:1] * 1e300]))[:-1], expected)


def test_ties_without_a_graph_are_no_obstacle():
    X = np.array([[-1.0], [-1.0], [0.0], [0.0], [1.0], [1.0]])
    y = [0, -1, -1, -1, -1, 1]
    assert SLK(lam=0).fit(X[:2], [0, -1]).labels_.tolist() == [0, 0]
    assert SLK(lam=0, tol=0).fit(X, y).energy_[-1] <= SLK(lam=0, max_iter=0).fit(X, y).energy_[0]


def test_without_labels_it_is_a_clusterer():
    X, y = make_blobs(200, 4, centers=5, cluster_std=0.5, random_state=1)
    model = SLK(n_clusters=5, random_state=0)
    assert adjusted_rand_score(y, model.fit_predict(X)) == 1
    np.testing.assert_array_equal(model.fit(X, np.full(200, -1)).labels_, model.fit_predict(X))
    with pytest.warns(UserWarning, match="no rows"):
        SLK(n_clusters=5, random_state=0).fit(np.repeat(X[:3], 5, axis=0))


def test_rows_that_are_all_labelled_or_all_equal_are_answered():
    X, codes, _ = problem(7)
    np.testing.assert_array_equal(SLK().fit(X, np.arange(40) % 3).labels_, np.arange(40) % 3)
    model = SLK().fit(np.ones((40, 3)), codes)
    assert model.labels_[:3].tolist() == [0, 1, 2]
    assert np.isfinite(model.prototypes_).all()


@pytest.mark.parametrize(
    ("settings", "y", "words"),
    [
        ({"lam": -1}, [0, 1, -1, -1], "lam must be at least 0"),
        ({"n_neighbors": 4}, [0, 1, -1, -1], "n_neighbors=4 .* at least 5"),
        ({"n_clusters": 3}, [0, 1, -1, -1], "every class needs one"),
        ({"n_clusters": 5}, None, "n_clusters=5"),
        ({}, [-1, -1, -1, -1], "no row of y has a label"),
        ({"sigma": 1e-300}, [0, 1, -1, -1], "sigma is too small"),
        ({"prototype": "median"}, [0, 1, -1, -1], "prototype must be one of"),
    ],
)
def test_errors_say_what_is_wrong(settings, y, words):
    with pytest.raises(ValueError, match=words):
        SLK(**settings).fit([[0.0], [1.0], [2.0], [4.0]], y)


def test_copies_of_all_rows_need_a_sigma_for_kernels():
    X = np.repeat([[0.0], [1.0], [5.0]], 4, axis=0)
    y = [0, -1, -1, -1, -1, -1, -1, -1, 1, -1, -1, -1]
    with pytest.raises(ValueError, match="give sigma"):
        SLK(prototype="mode").fit(X, y)
    assert SLK(prototype="mode", sigma=1).fit(X, y).labels_.tolist() == [0] * 8 + [1] * 4


def test_labels_that_still_change_are_warned_of():
    X, codes, _ = problem(8, n=200)
    with pytest.warns(slk.ConvergenceWarning, match="raise max_iter"):
        SLK(max_iter=1, tol=0, lam=0).fit(X, codes)
    with pytest.warns(slk.ConvergenceWarning, match="memberships after 1 steps"):
        SLK(max_inner_iter=1).fit(X, codes)


def test_rounds_end_where_the_energy_hardly_changes():
    X, codes, _ = problem(8, n=200)
    trace = np.array(SLK(lam=0, tol=0).fit(X, codes).energy_)
    change = -np.diff(trace) / np.abs(trace[:-1])
    for tol in (0.05, 0.01, 1e-3):
        assert SLK(lam=0, tol=tol).fit(X, codes).n_iter_ == 1 + np.flatnonzero(change <= tol)[0]


@pytest.mark.filterwarnings("ignore:. of 5 clusters have no rows")
@pytest.mark.parametrize("prototype", ["mean", "mode"])
def test_a_cluster_that_has_rows_is_never_emptied(prototype):
    for seed in (0, 1, 2, 5, 20):
        X = np.random.default_rng(seed).normal(size=(30, 2))
        model = SLK(5, prototype=prototype, lam=1, tol=0, random_state=seed)
        after = model.fit(X).labels_
        assert set(model.set_params(max_iter=0).fit(X).labels_) <= set(after)


# ---- episodes


LABELS = np.repeat(["cat", "dog", "eel", "fox", "gnu", "hen"], 40)
FEATURES = np.eye(6)[np.arange(240) // 40] + 0.35 * np.random.default_rng(0).normal(size=(240, 6))


def test_episodes_are_many_problems_solved_like_one():
    drawn = sample_episodes(LABELS, n_shot=2, n_episodes=5, random_state=0)
    X = FEATURES[drawn.rows]
    for model in (SLK(), SLK(lam=0), *(SLK(prototype=p, lam=0.2) for p in slk.PROTOTYPES)):
        together, _ = episodes_module.label_by_slk(model, X, drawn.given, 5)
        single = [model.fit(x, y).labels_ for x, y in zip(X, drawn.given)]
        np.testing.assert_array_equal(together, single)


def test_the_dense_graph_is_that_of_the_sparse_search():
    X = np.random.default_rng(0).normal(size=(3, 30, 4)) + 7
    W, edge = episodes_module._graphs(X, 3)
    for one, graph, length in zip(X, W, edge):
        sparse = knn_affinity(one, 3)
        np.testing.assert_array_equal(graph, sparse.toarray())
        assert length == pytest.approx(slk._mean_squared_edge(one, sparse)[0])


def test_an_episode_has_its_classes_rows_and_no_row_twice():
    drawn = sample_episodes(LABELS, n_way=4, n_shot=3, n_query=5, n_episodes=50, random_state=0)
    assert drawn.rows.shape == (50, 32)
    np.testing.assert_array_equal(LABELS[drawn.rows], np.take_along_axis(drawn.classes, drawn.codes, 1))
    for rows, codes, classes in zip(drawn.rows, drawn.codes, drawn.classes):
        assert len(set(rows)) == 32
        assert len(set(classes)) == 4
        assert np.bincount(codes[:12]).tolist() == [3] * 4
        assert np.bincount(codes[12:]).tolist() == [5] * 4
    assert (drawn.given[:, 12:] == -1).all()
    fewer = sample_episodes(LABELS, n_way=4, n_shot=3, n_query=5, n_episodes=20, random_state=0)
    np.testing.assert_array_equal(fewer.rows, drawn.rows[:20])


def test_dirichlet_shares_vary_as_they_should():
    labels = np.repeat(np.arange(6), 200)
    drawn = sample_episodes(labels, n_episodes=2000, dirichlet=2, random_state=0)
    counts = (drawn.codes[:, 5:, None] == np.arange(5)).sum(1)
    assert (counts.sum(1) == 75).all()
    np.testing.assert_allclose(counts.mean(0), 15, rtol=0.05)
    # variance of a Dirichlet-multinomial count: n p (1 - p) (n + A) / (1 + A) with A = 10, p = 1/5
    np.testing.assert_allclose(counts.var(0), 75 * 0.2 * 0.8 * 85 / 11, rtol=0.1)
    with pytest.raises(ValueError, match="76 are needed"):
        sample_episodes(LABELS, dirichlet=2)
    with pytest.raises(ValueError, match="class cat has 40 rows"):
        sample_episodes(LABELS, n_query=40)
    with pytest.raises(ValueError, match="labels has 6"):
        sample_episodes(LABELS, n_way=7)


def test_accuracies_differences_and_intervals():
    def nearest(X, y):
        means = np.array([X[y == c].mean(0) for c in range(5)])
        return np.square(X[:, None] - means).sum(2).argmin(1)

    methods = {"SimpleShot": "simpleshot", "nearest": nearest, "SLK": SLK()}
    found = few_shot_episodes(FEATURES, LABELS, methods, n_episodes=40, shift=False, random_state=0)
    simple, same, ours = found.per_episode
    np.testing.assert_array_equal(simple, same)
    half = 1.96 * ours.std(ddof=1) / np.sqrt(40)
    np.testing.assert_allclose((found.mean[2], found.ci95[2]), (ours.mean(), half))
    gain = found.difference("SLK", "SimpleShot")
    difference = ours - simple
    np.testing.assert_allclose(
        (gain.mean, gain.ci95), (difference.mean(), 1.96 * difference.std(ddof=1) / np.sqrt(40))
    )
    assert gain.is_clear
    assert found.best == "SLK"
    with pytest.raises(ValueError, match="name must be one of"):
        found.difference("SLK", "PT-MAP")
    with pytest.raises(TypeError, match="method"):
        few_shot_episodes(FEATURES, LABELS, {"k": 3})
    with pytest.raises(TypeError, match="method 'k' must be an SLK"):
        few_shot_episodes(FEATURES, LABELS, {"k": SLK})  # the class, which could be called
    with pytest.raises(ValueError, match="method 'k' returns must be 1-D"):
        few_shot_episodes(FEATURES, LABELS, {"k": lambda X, y: None})
    with pytest.raises(ValueError, match="method 'k' returns has 3 entries"):
        few_shot_episodes(FEATURES, LABELS, {"k": lambda X, y: y[:3]})
    with pytest.raises(TypeError, match="3"):
        few_shot_episodes(FEATURES, LABELS, {3: SLK()})
    with pytest.raises(ValueError, match="numbers as y has, 0 to 4"):
        few_shot_episodes(FEATURES, LABELS, {"k": lambda X, y: np.repeat("cat", len(y))})
    with pytest.raises(ValueError, match="n_clusters=9"):
        few_shot_episodes(FEATURES, LABELS, {"k": SLK(n_clusters=9)})
    with pytest.warns(slk.ConvergenceWarning, match="short: .* did not converge"):
        few_shot_episodes(FEATURES, LABELS, {"short": SLK(max_iter=1, tol=0)}, n_episodes=9, random_state=0)


def test_methods_that_change_what_they_are_given_change_nothing_else():
    def greedy(X, y):
        X.fill(0)
        y.fill(0)
        return y

    options = {"n_episodes": 10, "shift": False, "random_state": 0}
    after = few_shot_episodes(FEATURES, LABELS, {"greedy": greedy, "SLK": SLK()}, **options)
    assert after.mean[1] == few_shot_episodes(FEATURES, LABELS, {"SLK": SLK()}, **options).mean[0]


def test_batches_do_not_show_in_the_answer(monkeypatch):
    found = [few_shot_episodes(FEATURES, LABELS, n_episodes=30, random_state=0)]
    monkeypatch.setattr(episodes_module, "_BATCH", 50_000)
    found.append(few_shot_episodes(FEATURES, LABELS, n_episodes=30, random_state=0))
    assert found[0] == found[1]


def test_a_shift_of_all_queries_is_undone():
    """Queries of another domain: the same offset in every episode's queries changes nothing."""
    drawn = sample_episodes(LABELS, n_episodes=10, random_state=0)
    X = FEATURES[drawn.rows]
    moved = X.copy()
    moved[:, 5:] += [3.0, -1.0, 0.0, 0.0, 2.0, 0.0]
    one, other = (episodes_module._label("SLK", SLK(), x, drawn.given, 5, True)[0] for x in (X, moved))
    np.testing.assert_array_equal(one, other)


def test_features_are_centred_and_of_length_one():
    X, mean = FEATURES + 5, np.full(6, 5.0)
    unit = centre_and_normalise(X, mean)
    np.testing.assert_allclose(unit * np.linalg.norm(FEATURES, axis=1, keepdims=True), FEATURES)
    np.testing.assert_allclose(centre_and_normalise(X), centre_and_normalise(X, X.mean(0)))
    np.testing.assert_allclose(centre_and_normalise(X * 1e300, mean * 1e300), unit)
    assert centre_and_normalise(X.astype(np.float32)).dtype == np.float32
    one = few_shot_episodes(X, LABELS, {"SLK": SLK()}, n_episodes=20, base_mean=mean, random_state=0)
    other = few_shot_episodes(unit, LABELS, {"SLK": SLK()}, n_episodes=20, random_state=0)
    np.testing.assert_array_equal(one.per_episode, other.per_episode)


def test_single_precision_gives_nearly_the_same_accuracy():
    found = [
        few_shot_episodes(FEATURES.astype(kind), LABELS, n_episodes=40, random_state=0).mean
        for kind in (np.float32, np.float64)
    ]
    np.testing.assert_allclose(*found, atol=0.005)


def test_lambda_is_searched_on_the_same_episodes():
    grid = (0.0, 0.3, 1.0)
    found = search_lambda(FEATURES, LABELS, SLK(prototype="mode"), grid, n_episodes=20, random_state=1)
    models = {str(lam): SLK(prototype="mode", lam=lam) for lam in grid}
    one = few_shot_episodes(FEATURES, LABELS, models, n_episodes=20, random_state=1)
    np.testing.assert_array_equal(found.per_episode, one.per_episode)
    assert float(found.best) == grid[int(np.argmax(one.mean))]
    close = (0.12345671, 0.12345672)
    assert [float(name) for name in search_lambda(FEATURES, LABELS, grid=close, n_episodes=2).names] == [
        *close
    ]
    with pytest.raises(ValueError, match="grid"):
        search_lambda(FEATURES, LABELS, grid=(-1.0,))
