"""Similarities: what each is blind to, identities, oracles, and that chance looks like chance."""

import itertools
import re
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.linalg import orthogonal_procrustes
from scipy.spatial import procrustes
from scipy.spatial.distance import pdist
from sklearn.cross_decomposition import CCA

from lodim.representation.convergent_learning import similarity as sim

RNG = np.random.default_rng(0)
HIDDEN = RNG.normal(size=(40, 4))
X = HIDDEN @ RNG.normal(size=(4, 6)) + 0.7 * RNG.normal(size=(40, 6)) + 2
Y = HIDDEN @ RNG.normal(size=(4, 5)) + 0.7 * RNG.normal(size=(40, 5)) - 1
Z = RNG.normal(size=(40, 6))

BLIND = {  # whose row of the module's table: in which forms
    "cka": [sim.cka, sim.linear_cka],
    "rbf_cka": [sim.rbf_cka, partial(sim.rbf_cka, debiased=True)],
    "procrustes_distance": [sim.procrustes_distance, partial(sim.procrustes_distance, kind="euclidean")],
    'rsa ("euclidean")': [
        partial(sim.rsa, dissimilarity="euclidean", compare=how) for how in ("pearson", "spearman", "kendall")
    ],
    'rsa ("correlation")': [sim.rsa],
    "mutual_knn": [partial(sim.mutual_knn, n_neighbors=5)],
    "cca": [sim.cca, sim.mean_cca],
    "svcca": [partial(sim.svcca, variance=0.8)],
    "pwcca": [sim.pwcca],
    "linear_regression_r2": [sim.linear_regression_r2],
    "permutation_distance": [sim.permutation_distance],
    "soft_matching": [sim.soft_matching],
}
MAPS = {
    "permutation": lambda m, rng: m[:, np.roll(np.arange(m.shape[1]), 1)],
    "orthogonal": lambda m, rng: m @ stats.ortho_group.rvs(m.shape[1], random_state=rng),
    "scale": lambda m, rng: 7.3 * m,
    "each unit": lambda m, rng: m * np.exp(2 * rng.normal(size=m.shape[1])),
    "invertible maps": lambda m, rng: m @ rng.normal(size=(m.shape[1], m.shape[1])),
}


def table():
    """The rows of the module's table: measure -> {map: "yes", "no", "of X only" or "of Y only"}."""
    rule, head, _, *rows = re.search(r"(=[= ]+=\n.*)\n=[= ]+=\n", sim.__doc__, re.DOTALL).group(1).split("\n")
    cells = [slice(m.start(), m.end()) for m in re.finditer(r"=+", rule)]
    names = [re.split(r"  +", head[cell].strip())[0] for cell in cells]
    assert names[1:] == list(MAPS)
    found = {}
    for row in rows[1:]:
        first, *said = (row[cell].strip() for cell in cells)
        found[first.split(",")[0].replace("``", "")] = dict(zip(names[1:], said))
    return found


TABLE = table()


def test_the_table_has_every_measure_once():
    assert set(TABLE) == set(BLIND)
    assert {said for row in TABLE.values() for said in row.values()} == {
        "yes",
        "no",
        "of X only",
        "of Y only",
    }


@pytest.mark.parametrize("what", MAPS)
@pytest.mark.parametrize("measure", BLIND)
def test_what_each_measure_is_blind_to(measure, what):
    rng, said = np.random.default_rng(1), TABLE[measure][what]
    for metric in BLIND[measure]:
        plain = metric(X, Y)
        for side, changed in (
            ("X", metric(MAPS[what](X, rng), Y)),
            ("Y", metric(X, MAPS[what](Y, rng))),
        ):
            away = np.abs(np.subtract(changed, plain)).max()
            if said in ("yes", f"of {side} only"):
                assert away < 1e-8, (metric, side)
            else:
                assert away > 1e-3, (metric, side)


@pytest.mark.parametrize("measure", BLIND)
def test_constants_added_to_units_count_in_correlations_of_rows_only(measure):
    shift = np.random.default_rng(2).normal(size=6)
    for metric in BLIND[measure]:
        away = np.abs(np.subtract(metric(X + shift, Y), metric(X, Y))).max()
        assert away > 1e-3 if measure == 'rsa ("correlation")' else away < 1e-8


@pytest.mark.parametrize("measure", BLIND)
def test_rows_in_another_order_sizes_and_kinds_of_input_change_nothing(measure):
    rows = np.random.default_rng(3).permutation(40)
    for metric in BLIND[measure]:
        plain = metric(X, Y)
        np.testing.assert_allclose(metric(X[rows], Y[rows]), plain, atol=1e-9)
        np.testing.assert_allclose(metric(X * 1e-150, Y * 1e150), plain, atol=1e-9)
        np.testing.assert_array_equal(metric(torch.from_numpy(X).requires_grad_(), Y), plain)


SYMMETRIC = [f for name, fs in BLIND.items() if name not in ("pwcca", "linear_regression_r2") for f in fs]
DISTANCES = ("procrustes_distance", "permutation_distance", "soft_matching")


@pytest.mark.parametrize("measure", BLIND)
def test_nothing_is_more_like_a_representation_than_itself(measure):
    dead = np.c_[X, np.full(40, 3.3)]  # and a unit that says nothing
    for metric in BLIND[measure]:
        for same in (X, dead):
            np.testing.assert_allclose(metric(same, same), measure not in DISTANCES, atol=1e-7)
        if measure in DISTANCES:
            assert 0.1 < metric(X, Y) < np.pi / 2
        else:
            assert np.max(metric(X, Y)) < 1 - 1e-3
        if metric in SYMMETRIC:
            np.testing.assert_allclose(metric(X, Y), metric(Y, X), atol=1e-9)


# ---- by definition, and by others


def double_centred(M):
    H = np.eye(len(M)) - 1 / len(M)
    return H @ M @ H


def test_cka_by_its_definition_on_kernels():
    K, L = (double_centred(m @ m.T) for m in (X, Y))
    due = np.vdot(K, L) / np.linalg.norm(K) / np.linalg.norm(L)
    assert sim.linear_cka(X, Y) == pytest.approx(due, abs=1e-12)
    assert sim.cka(X, Y, debiased=False) == sim.linear_cka(X, Y)
    wide = [np.random.default_rng(i).normal(size=(12, 90)) for i in range(2)]  # units beyond rows
    K, L = (double_centred(m @ m.T) for m in wide)
    due = np.vdot(K, L) / np.linalg.norm(K) / np.linalg.norm(L)
    assert sim.linear_cka(*wide) == pytest.approx(due, abs=1e-12)


def hsic_over_quadruples(K, L):
    """Unbiased HSIC as the mean over ordered quadruples of different rows, of K_ij (L_ij + L_kl - 2 L_ik)."""
    n = len(K)
    return np.mean(
        [K[i, j] * (L[i, j] + L[k, m] - 2 * L[i, k]) for i, j, k, m in itertools.permutations(range(n), 4)]
    )


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_debiased_cka_by_the_mean_over_all_quadruples(kernel):
    x, y = X[:7], Y[:7]
    if kernel == "linear":
        kernels, found = (x @ x.T, y @ y.T), sim.cka(x, y)
    else:
        squares = [np.square(m[:, None] - m).sum(2) for m in (x, y)]
        kernels = [np.exp(-s / (2 * 0.25 * np.median(s[np.triu_indices(7, 1)]))) for s in squares]
        found = sim.rbf_cka(x, y, debiased=True)
        K, L = map(double_centred, kernels)
        due = np.vdot(K, L) / np.linalg.norm(K) / np.linalg.norm(L)
        assert sim.rbf_cka(x, y) == pytest.approx(due, abs=1e-12)
    K, L = kernels
    parts = [hsic_over_quadruples(*pair) for pair in ((K, L), (K, K), (L, L))]
    assert found == pytest.approx(parts[0] / np.sqrt(parts[1] * parts[2]), abs=1e-10)


def test_wide_gaussian_kernels_are_linear():
    assert sim.rbf_cka(X, Y, bandwidth=300) == pytest.approx(sim.linear_cka(X, Y), abs=1e-4)
    assert sim.rbf_cka(X, Y, bandwidth=300, debiased=True) == pytest.approx(sim.cka(X, Y), abs=1e-4)


def batches(*sizes, first=X, second=Y):
    cuts = np.cumsum(sizes)[:-1]
    return list(zip(np.split(first, cuts), np.split(second, cuts)))


def test_minibatches():
    assert sim.minibatch_cka([(X, Y)]) == pytest.approx(sim.cka(X, Y), abs=1e-12)
    for sizes in ((40,), (20, 20), (4, 9, 27), (4,) * 10):
        assert sim.minibatch_cka(batches(*sizes, second=X)) == pytest.approx(1, abs=1e-12)
    some = batches(10, 4, 26)
    assert sim.minibatch_cka(iter(some)) == pytest.approx(sim.minibatch_cka(some[::-1]), abs=1e-12)
    assert sim.minibatch_cka(batches(10, 10, 10, 10)) == pytest.approx(sim.cka(X, Y), abs=0.15)
    with pytest.raises(ValueError, match="at least 4 rows, got 3"):
        sim.minibatch_cka(batches(37, 3))
    with pytest.raises(ValueError, match="hold no batch"):
        sim.minibatch_cka([])
    with pytest.raises(ValueError, match=r"6 and 6 units, the first had \(6, 5\)"):
        sim.minibatch_cka([(X, Y), (X, Z)])


def test_cca_is_that_of_scikit_learn_and_of_its_definition():
    found = sim.cca(X, Y)
    assert found.shape == (5,)
    assert (np.diff(found) <= 0).all()
    assert sim.mean_cca(X, Y) == pytest.approx(found.mean())
    a, b = CCA(1, max_iter=5000, tol=1e-12).fit_transform(X, Y)
    assert found[0] == pytest.approx(np.corrcoef(a[:, 0], b[:, 0])[0, 1], abs=1e-6)
    C = np.cov(X.T, Y.T)
    A, B, cross = C[:6, :6], C[6:, 6:], C[:6, 6:]
    squares = np.linalg.eigvals(np.linalg.solve(A, cross) @ np.linalg.solve(B, cross.T)).real
    np.testing.assert_allclose(found**2, np.sort(squares)[::-1][:5], atol=1e-10)
    assert sim.cca(X[:, :1], Y[:, :1])[0] == pytest.approx(abs(np.corrcoef(X[:, 0], Y[:, 0])[0, 1]))


def test_dependent_units_do_no_harm():
    double = np.c_[X, X[:, :3], X[:, 0] - X[:, 1]]
    np.testing.assert_allclose(sim.cca(double, Y), sim.cca(X, Y), atol=1e-10)
    for metric in itertools.chain(*BLIND.values()):
        assert np.isfinite(metric(double, Y)).all()
        assert np.isfinite(metric(X, np.c_[Y, Y])).all()


def test_svcca_of_all_variance_is_mean_cca_and_of_little_the_first_components():
    assert sim.svcca(X, Y, variance=1) == pytest.approx(sim.mean_cca(X, Y), abs=1e-12)
    first = [np.linalg.svd(m - m.mean(0), full_matrices=False)[0][:, :1] for m in (X, Y)]
    assert sim.svcca(X, Y, variance=1e-9) == pytest.approx(sim.mean_cca(*first), abs=1e-10)
    spread = np.linalg.svd(np.c_[[3.0, -3, 0, 0], [0, 0, 4, -4]], compute_uv=False)
    leading = spread[: sim.leading(spread, 0.64)]  # never more than is asked for
    np.testing.assert_allclose(leading, [np.sqrt(32)])


def test_pwcca_is_the_one_correlation_where_there_is_one_and_weighted_towards_the_large_ones():
    one = Y[:, :1]
    assert sim.pwcca(X[:, :1], one) == pytest.approx(sim.mean_cca(X[:, :1], one), abs=1e-12)
    shared = np.c_[100 * HIDDEN[:, :1], Z[:, :1]]  # nearly all of it is in Y, one small unit is not
    assert sim.mean_cca(shared, HIDDEN[:, :1] @ np.ones((1, 1))) == pytest.approx(1, abs=1e-9)
    y = np.c_[HIDDEN[:, 0], Z[:, 1]]
    assert sim.pwcca(shared, y) > sim.mean_cca(shared, y) + 0.2


def test_regression_explains_what_scikit_learn_explains():
    from sklearn.linear_model import LinearRegression

    left = Y - LinearRegression().fit(X, Y).predict(X)
    due = 1 - np.square(left).sum() / np.square(Y - Y.mean(0)).sum()
    assert sim.linear_regression_r2(X, Y) == pytest.approx(due, abs=1e-12)
    assert sim.linear_regression_r2(X[:5], Y[:5]) == pytest.approx(1, abs=1e-12)  # as many units as rows


def test_procrustes_of_scipy_and_the_rotation_itself():
    wider = np.c_[Y, np.zeros(40)]
    rho = 1 - sim.procrustes_distance(X, Y, kind="euclidean") ** 2 / 2
    assert procrustes(X, wider)[2] == pytest.approx(1 - rho**2, abs=1e-10)  # which also scales
    assert sim.procrustes_distance(X, Y) == pytest.approx(np.arccos(rho), abs=1e-10)
    x, y = ((m - m.mean(0)) / np.linalg.norm(m - m.mean(0)) for m in (X, wider))
    rotation, _ = orthogonal_procrustes(y, x)
    due = np.linalg.norm(x - y @ rotation)
    assert sim.procrustes_distance(X, Y, kind="euclidean") == pytest.approx(due, abs=1e-10)
    wide = [np.random.default_rng(i).normal(size=(9, 30)) for i in range(2)]
    x, y = ((m - m.mean(0)) / np.linalg.norm(m - m.mean(0)) for m in wide)
    due = np.arccos(np.linalg.svd(x.T @ y, compute_uv=False).sum())
    assert sim.procrustes_distance(*wide) == pytest.approx(due, abs=1e-10)


@pytest.mark.parametrize("metric", [f for name in DISTANCES for f in BLIND[name]])
def test_distances_obey_the_triangle_inequality(metric):
    rng = np.random.default_rng(4)
    sizes = (3, 4, 6) if metric is not sim.permutation_distance else (4, 4, 4)
    for _ in range(20):
        hidden = rng.normal(size=(10, 3))
        a, b, c = (
            hidden @ rng.normal(size=(3, p)) + rng.uniform(0, 2) * rng.normal(size=(10, p))
            for p in rng.permutation(sizes)
        )
        assert metric(a, c) <= metric(a, b) + metric(b, c) + 1e-9


@pytest.mark.parametrize(
    ("compare", "oracle"),
    [("pearson", stats.pearsonr), ("spearman", stats.spearmanr), ("kendall", stats.kendalltau)],
)
def test_rsa_is_the_correlation_of_dissimilarities(compare, oracle):
    rows = 1 - np.corrcoef(X)[np.triu_indices(40, 1)], 1 - np.corrcoef(Y)[np.triu_indices(40, 1)]
    assert sim.rsa(X, Y, compare=compare) == pytest.approx(oracle(*rows).statistic, abs=1e-10)
    found = sim.rsa(X, Y, dissimilarity="euclidean", compare=compare)
    assert found == pytest.approx(oracle(pdist(X), pdist(Y)).statistic, abs=1e-10)


@pytest.mark.parametrize(
    ("ours", "theirs"), [("pearson", "corr"), ("spearman", "spearman"), ("kendall", "kendall")]
)
def test_rsa_of_rsatoolbox(ours, theirs):
    peer = pytest.importorskip("rsatoolbox")
    rdms = [peer.rdm.calc_rdm(peer.data.Dataset(m), method="correlation") for m in (X, Y)]
    due = float(np.squeeze(peer.rdm.compare(*rdms, method=theirs)))
    assert sim.rsa(X, Y, compare=ours) == pytest.approx(due, abs=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_angles_of_netrep(alpha):
    peer = pytest.importorskip("netrep.metrics")
    other = Y @ RNG.normal(size=(5, 6)) + Z
    if alpha:
        found = sim.procrustes_distance(X, other)
    else:
        found = np.arccos(sim.mean_cca(X, other))
    due = peer.LinearMetric(alpha=alpha, score_method="angular").fit_score(X, other)
    assert found == pytest.approx(due, abs=1e-6)
    assert np.arccos(sim.linear_cka(X, other)) == pytest.approx(peer.LinearCKA().score(X, other), abs=1e-6)


# ---- units


def test_permutation_distance_by_all_permutations():
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(30, 7)), rng.normal(size=(30, 7))
    C = np.corrcoef(x.T, y.T)[:7, 7:]
    best = max(C[range(7), order].mean() for order in itertools.permutations(range(7)))
    assert sim.permutation_distance(x, y) == pytest.approx(np.sqrt(2 - 2 * best), abs=1e-12)
    assert sim.soft_matching(x, y) == pytest.approx(sim.permutation_distance(x, y), abs=1e-12)


@pytest.mark.parametrize("solver", ["if installed", "none"])
def test_soft_matching_is_a_transport(solver, monkeypatch):
    ot = pytest.importorskip("ot")
    if solver == "none":
        monkeypatch.setattr(sim.importlib.util, "find_spec", lambda name: None)
    assert sim.soft_matching(X, np.c_[X, X]) < 1e-3  # the same units, twice
    assert sim.soft_matching(X, Z) == pytest.approx(sim.permutation_distance(X, Z), abs=1e-6)
    C = np.corrcoef(X.T, Y.T)[:6, 6:]
    assert sim.soft_matching(X, Y) == pytest.approx(np.sqrt(ot.emd2([], [], 2 - 2 * C)), abs=1e-6)


def test_units_that_are_left_over_and_constant_ones_do_not_count():
    assert sim.permutation_distance(X[:, :3], X) < 1e-7
    assert sim.soft_matching(X[:, :3], X) > 0.1
    dead = np.c_[np.full(40, 0.1), Y]
    for metric in (sim.permutation_distance, sim.soft_matching):
        assert metric(X, dead) == pytest.approx(metric(X, Y), abs=1e-12)


# ---- neighbours and their ties


def test_neighbours_are_those_of_a_sorted_list():
    near = []
    for m in (X, Y):
        distance = np.linalg.norm(m[:, None] - m, axis=2)
        np.fill_diagonal(distance, np.inf)
        near.append([set(row) for row in np.argsort(distance, axis=1)[:, :7]])
    due = np.mean([len(a & b) / 7 for a, b in zip(*near)])
    assert sim.mutual_knn(X, Y, n_neighbors=7) == pytest.approx(due, abs=1e-12)
    assert sim.mutual_knn(X, Y, n_neighbors=39) == pytest.approx(1, abs=1e-12)  # all are neighbours of all


def test_blocks_of_rows_change_nothing(monkeypatch):
    plain = sim.mutual_knn(X, Y, n_neighbors=3)
    monkeypatch.setattr(sim, "_AT_ONCE", 40 * 7)
    assert sim.mutual_knn(X, Y, n_neighbors=3) == pytest.approx(plain, abs=1e-12)


def test_among_ties_the_order_of_rows_says_nothing():
    rng = np.random.default_rng(6)
    chance, few = 5 / 59, np.repeat(np.eye(3), 20, axis=0)
    unrelated = np.tile(np.repeat(np.eye(2), 5, axis=0), (6, 1))
    due = 9 * (5 / 19) * (5 / 29) / 5  # 9 others are of both one's classes
    assert sim.mutual_knn(few, unrelated, n_neighbors=5) == pytest.approx(due, abs=1e-12)
    rows = rng.permutation(60)
    assert sim.mutual_knn(few[rows], unrelated[rows], n_neighbors=5) == pytest.approx(
        sim.mutual_knn(few, unrelated, n_neighbors=5), abs=1e-12
    )
    found = [sim.mutual_knn(few, unrelated[rng.permutation(60)], n_neighbors=5) for _ in range(200)]
    assert np.mean(found) == pytest.approx(chance, abs=4 * np.std(found) / np.sqrt(200))
    # of 19 duplicates any five
    assert sim.mutual_knn(few, few, n_neighbors=5) == pytest.approx(5 / 19, abs=1e-12)


def test_ties_count_as_on_average_over_their_random_breaking():
    rng = np.random.default_rng(7)
    x, y = rng.integers(0, 3, (25, 2)).astype(float), rng.integers(0, 3, (25, 2)).astype(float)
    y += x
    found = [
        sim.mutual_knn(
            x + 1e-5 * rng.normal(size=x.shape), y + 1e-5 * rng.normal(size=y.shape), n_neighbors=4
        )
        for _ in range(400)
    ]
    assert sim.mutual_knn(x, y, n_neighbors=4) == pytest.approx(np.mean(found), abs=0.02)


# ---- chance


def test_debiased_cka_has_mean_zero_where_units_outnumber_rows():
    rng = np.random.default_rng(8)
    pairs = [(rng.normal(size=(12, 50)), rng.normal(size=(12, 60))) for _ in range(150)]
    found = [sim.cka(*pair) for pair in pairs]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(150)
    assert np.mean([sim.linear_cka(*pair) for pair in pairs]) > 0.7
    assert sim.mean_cca(*pairs[0]) == pytest.approx(1, abs=1e-9)
    of_batches = [sim.minibatch_cka(pairs[i : i + 3]) for i in range(0, 150, 3)]
    assert abs(np.mean(of_batches)) < 4 * np.std(of_batches) / np.sqrt(50)


def overlap(x, y):
    """A quick metric: the larger, the closer."""
    x, y = x - x.mean(0), y - y.mean(0)
    return np.square(x.T @ y).sum() / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y)


def p_values(metric, trials, n_permutations, samples=15, copies=1, each=1):
    """Of unrelated pairs, whose rows are copies of few; drawn so that they are uniform over (0, 1) under the null."""
    rng = np.random.default_rng(9)
    found = []
    for i in range(trials):
        x, y = (rng.normal(size=(samples, width)).repeat(copies, axis=0) for width in (3, 4))
        null = sim.null_calibrate(
            metric, x, y, n_permutations=n_permutations, rows_of_sample=each, random_state=i
        )
        found.append(null.p_value)
    return np.array(found) - rng.uniform(0, 1 / (n_permutations + 1), trials)


@pytest.mark.parametrize("metric", [overlap, lambda x, y: 1 - overlap(x, y)], ids=["similarity", "distance"])
def test_p_values_are_uniform_where_there_is_nothing(metric):
    assert stats.kstest(p_values(metric, 100, 19), "uniform").pvalue > 0.01


def test_rows_of_a_sample_stay_together():
    together = p_values(overlap, 60, 19, samples=8, copies=6, each=6)
    assert stats.kstest(together, "uniform").pvalue > 0.01
    apart = p_values(overlap, 60, 19, samples=8, copies=6)
    assert np.mean(apart <= 0.05) > 0.5  # copies that are shuffled apart look like evidence


def test_what_is_alike_is_seen_above_chance():
    found = sim.null_calibrate(sim.cka, X, Y, n_permutations=99, random_state=0)
    assert found.p_value == pytest.approx(0.01)
    assert found.score == pytest.approx(sim.cka(X, Y), abs=1e-12)
    assert abs(found.null_mean) < 3 * found.null_std
    assert "of 99 shuffles" in str(found)
    far = sim.null_calibrate(sim.procrustes_distance, X, Y, n_permutations=99, random_state=0)
    assert far.p_value == pytest.approx(0.01)  # for a distance, what is small is close
    assert far.score < far.null_mean
    always_one = sim.null_calibrate(
        sim.mean_cca, X[:6], np.random.default_rng(0).normal(size=(6, 6)), n_permutations=19
    )
    assert always_one.p_value == 1
    assert found == sim.null_calibrate(sim.cka, X, Y, n_permutations=99, random_state=0)


def test_a_table_of_all_pairs():
    asked = []

    def once(x, y):
        asked.append(1)
        return sim.pwcca(x, y)

    named = {"a": X, "b": Y, "c": Z}
    found = sim.pairwise(named, once)
    assert list(found.index) == list(found.columns) == ["a", "b", "c"]
    assert found.loc["a", "b"] == pytest.approx(sim.pwcca(X, Y))
    assert found.loc["b", "a"] == pytest.approx(sim.pwcca(Y, X))
    assert len(asked) == 9
    symmetric = sim.pairwise([X, Y, Z], sim.cka).to_numpy()
    np.testing.assert_array_equal(symmetric, symmetric.T)
    np.testing.assert_allclose(np.diag(symmetric), 1)
    assert symmetric[0, 2] == pytest.approx(sim.cka(X, Z))
    with pytest.raises(ValueError, match="representations are none"):
        sim.pairwise([], sim.cka)


# ---- what cannot be answered


@pytest.mark.parametrize("metric", itertools.chain(*BLIND.values()))
def test_bad_pairs_are_told(metric):
    with pytest.raises(
        ValueError, match=r"got shapes \(40, 6\) and \(5, 40\); rows are samples: is one of them"
    ):
        metric(X, Y.T)
    with pytest.raises(ValueError, match=r"got shape \(4, 10, 6\); lodim.representation.collect"):
        metric(X.reshape(4, 10, 6), Y)
    with pytest.raises(ValueError, match="all rows of Y are alike"):
        metric(X, np.full((40, 3), 0.1))
    with pytest.raises(ValueError, match=r"Y.*NaN"):
        metric(X, np.where(Y[3, 3] < Y, Y, np.nan))
    with pytest.raises(ValueError, match=r"at least \d rows, got 1"):
        metric(X[:1], Y[:1])
    with pytest.raises(ValueError, match="X is too large"):
        metric(np.where(X > 2, 1.7e308, 1e308), Y)


def test_equally_distant_rows_and_other_ends():
    apart = np.eye(12)
    for metric in (
        sim.cka,
        partial(sim.rbf_cka, debiased=True),
        sim.minibatch_cka,
        sim.rsa,
        BLIND['rsa ("euclidean")'][0],
    ):
        with pytest.raises(ValueError, match=r"(equally alike|equally far apart)"):
            metric([(apart, Y[:12])]) if metric is sim.minibatch_cka else metric(apart, Y[:12])
    with pytest.raises(ValueError, match="at least 4 rows"):
        sim.cka(X[:3], Y[:3])
    assert 0 < sim.linear_cka(X[:3], Y[:3]) <= 1
    flat = X.copy()
    flat[5] = 0.1
    with pytest.raises(ValueError, match="a row of X has the same value in all units"):
        sim.rsa(flat, Y)
    with pytest.raises(ValueError, match="more than half of the pairs of rows of X are duplicates"):
        sim.rbf_cka(np.r_[np.zeros((35, 2)), X[:5, :2]], Y)
    with pytest.raises(ValueError, match="bandwidth must be positive"):
        sim.rbf_cka(X, Y, bandwidth=0)
    with pytest.raises(ValueError, match="variance must be in"):
        sim.svcca(X, Y, variance=0)
    with pytest.raises(ValueError, match="n_neighbors must be smaller than the number of rows"):
        sim.mutual_knn(X, Y, n_neighbors=40)
    with pytest.raises(ValueError, match="40 rows are not samples of 7 rows"):
        sim.null_calibrate(sim.cka, X, Y, rows_of_sample=7)
    for metric in (lambda x, y: np.nan, sim.cca):
        with pytest.raises(ValueError, match="metric must return one finite number"):
            sim.null_calibrate(metric, X, Y)


@pytest.mark.parametrize("how", ["spearman", "kendall"])
def test_rounding_makes_no_order_among_equal_dissimilarities(how):
    """Rows that are one row scaled and shifted correlate with 1: their distances are equal, whatever the last bit."""
    rng = np.random.default_rng(0)
    base, others = rng.normal(size=9), rng.normal(size=(2, 9))
    shifted = np.vstack([[base * (i + 1) + i for i in range(10)], others])
    copies = np.vstack([[base] * 10, others])
    beside = rng.normal(size=(12, 9))
    due = sim.rsa(copies, beside, compare=how)
    for _ in range(3):
        assert sim.rsa(shifted[:, rng.permutation(9)], beside, compare=how) == pytest.approx(due, abs=1e-12)


def test_units_are_dead_where_the_matcher_calls_them_so():
    """A unit a ten millionth as large as the others still says something."""
    from lodim.representation import UnitMatcher

    small = np.c_[X, 1e-7 * Z[:, :1]]
    other = np.c_[X, 1e-7 * Z[:, 1:2]]
    matched = UnitMatcher().fit(small, other)
    assert not matched.dead_a_.any()
    assert sim.permutation_distance(small, other) == pytest.approx(np.sqrt(2 - 2 * matched.mean_score_))
    dead = np.c_[X, 1e8 + 1e-9 * Z[:, :1]]  # within the rounding of its mean
    assert sim.permutation_distance(dead, X) == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("value", [None, "near", 1 + 2j])
def test_a_metric_that_returns_no_number_is_named(value):
    with pytest.raises(ValueError, match="one finite number"):
        sim.null_calibrate(lambda X, Y: value, X, Y, n_permutations=2)
    with pytest.raises(ValueError, match="one finite number"):
        sim.pairwise([X, Y], lambda X, Y: value)
