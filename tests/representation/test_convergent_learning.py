"""What must hold of convergent learning whatever the data: identities, invariances, limits.

The measures of similarity have a file of their own.
"""

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from sklearn.linear_model import Lasso
from torch import nn

from lodim.linalg import CrossMoments
from lodim.randomness import build_seeded
from lodim.representation import (
    CoClusterer,
    SparsePredictor,
    UnitMatcher,
    apply_matching,
    collect,
    compare_mappings,
    consensus_units,
    match_units,
    mutual_information,
    principal_angles,
    stitching_test,
    subspace_dimension,
    top_activating,
)
from lodim.representation.convergent_learning import cca
from lodim.validation import ConvergenceWarning


def units(n=300, p=6, seed=0):
    return np.random.default_rng(seed).normal(size=(n, p))


def rectified(n=400, p=6, seed=0):
    rng = np.random.default_rng(seed)
    return np.maximum(rng.normal(size=(n, p)) @ rng.normal(size=(p, p)), 0)


ORDER = np.array([3, 0, 5, 1, 4, 2])


# ---- matching


@pytest.mark.parametrize("shape", [(7, 7), (4, 7), (7, 4)])
def test_no_permutation_has_a_larger_sum(shape):
    scores = np.random.default_rng(0).normal(size=shape)
    small, large = sorted(shape)
    table = scores if shape[0] == small else scores.T
    best = max(table[range(small), list(p)].sum() for p in itertools.permutations(range(large), small))
    found = match_units(scores)
    matched = found.match >= 0
    assert matched.sum() == small == len(set(found.match[matched]))
    assert found.scores.sum() == pytest.approx(best)
    np.testing.assert_array_equal(found.scores[matched], scores[matched, found.match[matched]])
    assert found.mean == pytest.approx(best / shape[0])  # what is left over counts, as 0


@pytest.mark.parametrize("score", ["correlation", "abs_correlation", "mutual_information"])
@pytest.mark.parametrize("method", ["one_to_one", "semi"])
def test_a_permutation_is_found_whatever_the_units_are_scaled_by(score, method):
    X = units()
    Y = X[:, ORDER] * np.array([1e-4, 2, 3, 10, 0.5, 1e4]) + np.arange(6)
    found = UnitMatcher(score, method).fit(X, Y)
    np.testing.assert_array_equal(ORDER[found.match_], np.arange(6))
    if score != "mutual_information":
        np.testing.assert_allclose(found.match_score_, 1)
    aligned, mask = found.align(Y)
    assert mask.all()
    np.testing.assert_allclose(np.corrcoef(aligned.T, X.T)[range(6), range(6, 12)], 1)


def test_signs_count_unless_told_otherwise():
    X = units()
    assert UnitMatcher("abs_correlation").fit(X, -X).mean_score_ == pytest.approx(1)
    np.testing.assert_array_equal(UnitMatcher("abs_correlation").fit(X, -X).match_, np.arange(6))
    assert UnitMatcher().fit(X, -X).mean_score_ < 0.3


def test_semi_matching_is_never_worse_and_shares_units():
    X, Y = rectified(), rectified(seed=1) + rectified()
    found = UnitMatcher().fit(X, Y)
    assert (found.semi_score_ >= found.match_score_).all()
    both = np.hstack([X, X + 0.1 * units(400, seed=2)])  # twice each
    shared = UnitMatcher(method="semi").fit(both, X)
    np.testing.assert_array_equal(shared.match_, np.tile(np.arange(6), 2))
    one = UnitMatcher().fit(both, X)
    assert (one.match_ >= 0).sum() == 6
    assert one.mean_score_ == pytest.approx(one.match_score_.sum() / 12)


def test_scores_are_correlations_and_random_pairs_have_their_mean():
    X, Y = rectified(), rectified(seed=1)
    found = UnitMatcher().fit(X, Y)
    np.testing.assert_allclose(found.score_matrix_, np.corrcoef(X.T, Y.T)[:6, 6:], atol=1e-12)
    means = [found.score_matrix_[range(6), list(p)].mean() for p in itertools.permutations(range(6))]
    assert found.random_score_ == pytest.approx(np.mean(means))


def test_within_one_net_no_unit_is_its_own_partner():
    X = units()
    X[:, 1] = X[:, 0] + 0.01 * units(seed=3)[:, 0]
    found = UnitMatcher().fit(X)
    assert (found.match_ != np.arange(6)).all()
    assert set(found.match_) == set(range(6))
    np.testing.assert_allclose(np.diag(found.score_matrix_), 1)
    assert UnitMatcher(method="semi").fit(X).match_[:2].tolist() == [1, 0]
    off = found.score_matrix_[~np.eye(6, dtype=bool)]
    assert found.random_score_ == pytest.approx(off.mean())


def test_dead_units_have_no_partner_and_count_only_when_asked():
    X = units()
    Y = X.copy()
    X[:, 2], Y[:, [4, 5]] = 0.1, [7.0, 0.0]
    Y[0, 5] = 1e-12  # varies, by nothing
    found = UnitMatcher().fit(X, Y)
    assert found.dead_a_.nonzero()[0].tolist() == [2]
    assert found.dead_b_.nonzero()[0].tolist() == [4, 5]
    assert found.match_[[0, 1, 3]].tolist() == [0, 1, 3]
    assert found.match_[2] == -1
    assert not np.isin(found.match_, [4, 5]).any()
    # four live units of Y, of which unit 2 is left for 4 or 5 of X
    assert found.mean_score_ == pytest.approx((3 + found.match_score_[[4, 5]].sum()) / 5)
    with_dead = UnitMatcher(include_dead=True).fit(X, Y)
    assert with_dead.mean_score_ == pytest.approx(with_dead.match_score_.sum() / 6)
    assert not with_dead.score_matrix_[2].any()
    with pytest.raises(ValueError, match="dead"):
        UnitMatcher().fit(X, np.ones((300, 2)))


def test_align_leaves_columns_without_a_partner_empty():
    X = units()
    found = UnitMatcher().fit(X, X[:, :4])
    for Y in (X[:, :4], torch.from_numpy(X[:, :4])):
        aligned, mask = found.align(Y)
        assert type(aligned) is type(Y)
        assert mask.sum() == 4
        np.testing.assert_allclose(aligned[:, mask], X[:, mask])
        assert not aligned[:, ~mask].any()
    with pytest.raises(ValueError, match="4 units"):
        found.align(X)


def test_moments_of_any_batches_give_the_same_match():
    X, Y = rectified(60), rectified(60, seed=1)
    whole = UnitMatcher().fit(X, Y)
    for size in (1, 7):
        moments = CrossMoments()
        for start in range(0, len(X), size):
            moments.update(X[start : start + size], Y[start : start + size])
        found = UnitMatcher().fit_moments(moments)
        np.testing.assert_allclose(found.score_matrix_, whole.score_matrix_, atol=1e-12)
        np.testing.assert_array_equal(found.match_, whole.match_)
    with pytest.raises(ValueError, match="fit the rows"):
        UnitMatcher("mutual_information").fit_moments(moments)
    with pytest.raises(ValueError, match="two rows"):
        UnitMatcher().fit_moments(CrossMoments())


def test_other_scores_are_used_as_they_are():
    X = units()
    distance = UnitMatcher(lambda X, Y: -np.square(X[:, :, None] - Y[:, None]).sum(0)).fit(X, X[:, ORDER])
    np.testing.assert_array_equal(ORDER[distance.match_], np.arange(6))
    with pytest.raises(ValueError, match=r"\(6, 6\)"):
        UnitMatcher(lambda X, Y: np.ones((6, 5))).fit(X, X)


def test_errors_name_what_came():
    X = units()
    with pytest.raises(ValueError, match=r"\(300, 6\) and \(6, 300\).*transpose"):
        UnitMatcher().fit(X, X.T)
    with pytest.raises(ValueError, match="collect"):
        UnitMatcher().fit(X.reshape(300, 3, 2, 1), X)
    with pytest.raises(ValueError, match="similarity must be one of"):
        UnitMatcher("correlations").fit(X, X)
    with pytest.raises(ValueError, match="dead_b must be 3 truth values"):
        match_units(np.ones((2, 3)), dead_b=[True, False])
    with pytest.raises(ValueError, match="square"):
        match_units(np.ones((2, 3)), within=True)


# ---- mutual information


def plain_information(x, y, n_bins):
    """Of two units, by the definition, bins cut at quantiles."""
    cuts = [np.unique(np.quantile(v, np.arange(1, n_bins) / n_bins)) for v in (x, y)]
    codes = [np.searchsorted(cut, v, side="right") for cut, v in zip(cuts, (x, y))]
    joint = np.zeros((n_bins, n_bins))
    np.add.at(joint, tuple(codes), 1 / len(x))
    return entropy(joint.sum(0)) + entropy(joint.sum(1)) - entropy(joint.ravel())


def test_information_is_that_of_the_bins(monkeypatch):
    X = units(500, 3)
    Y = X @ units(3, 4, seed=1) + 0.5 * units(500, 4, seed=2)
    expected = [[plain_information(x, y, 8) for y in Y.T] for x in X.T]
    found = mutual_information(X, Y, n_bins=8, bias_correction=None)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(found - mutual_information(X, Y, n_bins=8), 49 / 1000)
    monkeypatch.setattr("lodim.representation.convergent_learning.matching._CELLS", 2500)  # in many blocks
    np.testing.assert_allclose(mutual_information(X, Y, n_bins=8, bias_correction=None), found)


def test_information_of_a_unit_with_itself_is_the_entropy_of_its_bins():
    rng = np.random.default_rng(0)
    X = np.maximum(rng.normal(size=(1800, 2)), 0)
    X[:, 1] = np.where(np.arange(1800) < 1710, 0, rng.random(1800) + 1)  # seldom says anything
    found = mutual_information(X, X, bias_correction=None)
    for unit, at_rest in enumerate((X == 0).mean(0)):
        rest = 1 - at_rest
        expected = entropy([at_rest, *[rest / 9] * 9])  # nine parts of equal count
        assert found[unit, unit] == pytest.approx(expected, abs=1e-4)
    constant = mutual_information(np.ones((50, 1)), units(50, 2))
    np.testing.assert_allclose(constant, 0, atol=1e-12)


def test_information_of_unrelated_units_is_0_after_correction():
    rng = np.random.default_rng(0)
    found = mutual_information(rng.random((2000, 20)), rng.random((2000, 20)))
    # 2n times the information is chi-squared with 81 degrees of freedom
    error = np.sqrt(2 * 81) / (2 * 2000)
    assert abs(found.mean()) < 3 * error / np.sqrt(400)
    assert found.std() == pytest.approx(error, rel=0.2)


def test_information_does_not_see_what_rises():
    X = np.abs(rectified(p=3))
    Y = rectified(p=2, seed=1)
    np.testing.assert_allclose(mutual_information(X**3 * 1e-9, Y), mutual_information(X, Y), atol=0.02)
    np.testing.assert_allclose(mutual_information(X * 1e-9, Y), mutual_information(X, Y), atol=1e-12)


# ---- models


def convolutional(norm=True):
    return nn.Sequential(
        nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5) if norm else nn.Identity(), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(5, 4, 3), nn.PReLU(4), nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 3),
    )  # fmt: skip


def a_pair():
    """Two nets whose norm and PReLU have other parameters for each unit, and no unit at rest."""
    nets = [build_seeded(convolutional, seed).eval() for seed in (0, 1)]
    for seed, net in enumerate(nets):
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for tensor in (net[1].weight, net[1].bias, net[1].running_mean, net[5].weight, net[7].bias):
                tensor.add_(torch.rand(tensor.shape, generator=draw))
    return nets


def pictures(n=40):
    return torch.from_numpy(np.random.default_rng(0).random((n, 1, 10, 10))).float()


@pytest.mark.parametrize(
    ("layer", "watched", "after", "between"),
    [("0", "2", "4", ["1"]), ("4", "5", "7", ["5"]), ("7", "8", "9", [])],
)
def test_units_in_anothers_order_compute_the_same(layer, watched, after, between):
    a, b = a_pair()
    x = pictures()
    found = UnitMatcher().fit_models(a, b, watched, watched, x)
    match = found.match_
    assert match.tolist() != sorted(match)
    moved = apply_matching(b, match, layer, after, between=between)
    torch.testing.assert_close(moved(x), b(x), atol=1e-5, rtol=1e-5)
    again = UnitMatcher().fit_models(a, moved, watched, watched, x)
    live = match >= 0
    assert live.sum() > 2
    np.testing.assert_array_equal(again.match_[live], np.flatnonzero(live))
    assert again.mean_score_ == pytest.approx(found.mean_score_, abs=1e-5)
    assert not torch.equal(moved.get_submodule(layer).weight, b.get_submodule(layer).weight)


def test_places_without_a_partner_get_the_units_that_are_left():
    _, b = a_pair()
    x = pictures()
    moved = apply_matching(b, [3, -1, 0, -1, 5, -1], "7", "9")
    torch.testing.assert_close(moved[7].weight, b[7].weight[[3, 1, 0, 2, 5, 4]])
    torch.testing.assert_close(moved(x), b(x))


def test_what_cannot_be_permuted_is_refused():
    _, b = a_pair()
    with pytest.raises(ValueError, match="none twice"):
        apply_matching(b, [0, 0, 1, 2, 3, 4], "7", "9")
    with pytest.raises(ValueError, match="6 integers"):
        apply_matching(b, [0, 1], "7", "9")
    with pytest.raises(TypeError, match="linear or convolutional"):
        apply_matching(b, [0, 1], "2", "9")
    with pytest.raises(TypeError, match="groups"):
        apply_matching(
            nn.Sequential(nn.Conv2d(4, 4, 1, groups=2), nn.Conv2d(4, 1, 1)), [1, 0, 3, 2], "0", "1"
        )
    net = nn.Sequential(nn.Conv2d(1, 4, 1), nn.GroupNorm(2, 4), nn.Conv2d(4, 1, 1))
    with pytest.raises(TypeError, match="GroupNorm"):
        apply_matching(net, [1, 0, 3, 2], "0", "2", between=["1"])
    with pytest.raises(ValueError, match="5 units"):
        apply_matching(b, [1, 0, 2, 3, 4], "0", "7")


class Wired(nn.Module):
    """Layers a, b of as many units as inputs, and a head h; ``wiring(self, x)`` is the forward."""

    def __init__(self, wiring):
        super().__init__()
        self.a, self.b, self.h = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)
        self.norm = nn.LayerNorm(6)
        self.wiring = wiring

    def forward(self, x):
        return self.wiring(self, x)


@pytest.mark.parametrize(
    ("wiring", "layer", "after", "message"),
    [
        (lambda n, x: n.h(n.a(x) + n.b(n.a(x))), "a", ["b", "h"], "runs 2 times"),
        (lambda n, x: n.h(x + n.b(x)), "b", "h", "'add' puts the units"),
        (lambda n, x: n.h(n.a(x) * n.b(x).sigmoid()), "a", "h", "'mul' puts the units"),
        (lambda n, x: n.h(n.norm(n.a(x))), "a", "h", "'norm', a LayerNorm"),
        (lambda n, x: (lambda y: n.h(y.relu()) + n.b(y).sum())(n.a(x)), "a", "h", "'b', a Linear"),
        (lambda n, x: n.h(torch.cat(n.a(x).chunk(2, 1)[::-1], 1)), "a", "h", "'chunk' puts the units"),
        (lambda n, x: n.a(x), "a", "h", "returns the units"),
        (lambda n, x: n.h(n.b(n.a(x))), "a", "h", "'b', a Linear"),
        (lambda n, x: n.b(n.a(x)) + n.h(x).sum(), "a", ["b", "h"], "'h' does not read"),
    ],
)
def test_what_else_reads_the_units_is_refused(wiring, layer, after, message):
    with pytest.raises(ValueError, match=message):
        apply_matching(Wired(wiring), ORDER, layer, after)


def test_shapes_of_the_input_are_no_units_and_what_cannot_be_traced_is_believed():
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    for wiring in (
        lambda n, x: n.h(n.norm(n.a(x).relu().view(x.size(0), x.shape[1]))),
        lambda n, x: n.h(n.norm(n.a(x))) if x.sum() < 1e9 else x,
    ):
        net = Wired(wiring)
        nn.init.normal_(net.norm.weight, generator=torch.Generator().manual_seed(1))
        moved = apply_matching(net, ORDER, "a", "h", between=["norm"])
        torch.testing.assert_close(moved(x), net(x), atol=1e-5, rtol=1e-5)
        assert not torch.equal(moved.a.weight, net.a.weight)


def test_a_layer_is_permuted_once_and_none_that_shares_its_weight():
    net = Wired(lambda n, x: n.h(n.norm(n.a(x))))
    with pytest.raises(ValueError, match="once"):
        apply_matching(net, ORDER, "a", ["h", "h"], between=["norm"])
    with pytest.raises(ValueError, match="once"):
        apply_matching(net, ORDER, "a", "h", between=["norm", "norm"])
    net = Wired(lambda n, x: n.h(n.b(n.a(x))))
    net.b.weight = net.a.weight
    with pytest.raises(ValueError, match="'b' shares a weight"):
        apply_matching(net, ORDER, "b", "h")


@pytest.mark.parametrize(
    "norm", [nn.LayerNorm([6, 3, 3]), nn.Sequential(nn.Flatten(), nn.BatchNorm1d(54)), nn.GroupNorm(1, 6)]
)
def test_norms_of_places_move_with_their_unit(norm):
    net = nn.Sequential(nn.Conv2d(1, 6, 2, bias=False), norm, nn.Flatten(), nn.Linear(54, 2)).eval()
    draw = torch.Generator().manual_seed(0)
    for tensor in norm.parameters():
        nn.init.normal_(tensor, generator=draw)
    x = torch.randn(5, 1, 4, 4, generator=draw)
    named = "1.1" if isinstance(norm, nn.Sequential) else "1"
    moved = apply_matching(net, ORDER, "0", "3", between=[named])
    torch.testing.assert_close(moved(x), net(x), atol=1e-5, rtol=1e-5)


def test_norms_and_readers_of_something_else_are_refused():
    tokens = nn.Sequential(nn.Linear(3, 6), nn.Flatten(), nn.Linear(24, 2))  # of one token after the other
    with pytest.raises(ValueError, match="24 inputs"):
        apply_matching(tokens, ORDER, "0", "2")
    with pytest.raises(ValueError, match=r"shape \(3, 3\)"):
        apply_matching(
            nn.Sequential(nn.Conv2d(1, 6, 2), nn.LayerNorm([3, 3]), nn.Conv2d(6, 1, 1)),
            ORDER,
            "0",
            "2",
            between=["1"],
        )


def test_models_are_matched_as_their_collected_rows_are():
    a, b = a_pair()
    x = pictures()
    rows = [collect(net, ["2"], x)["2"] for net in (a, b)]
    for score in ("correlation", "mutual_information"):
        expected = UnitMatcher(score).fit(*rows)
        for data in (x, [(part, None) for part in x.split(7)]):
            found = UnitMatcher(score).fit_models(a, b, "2", "2", data)
            np.testing.assert_allclose(found.score_matrix_, expected.score_matrix_, atol=1e-5)
    same = UnitMatcher().fit_models(a, a, "2", "2", x, max_positions=3, random_state=0)
    assert same.mean_score_ == pytest.approx(1, abs=1e-5)  # the same places in both
    with pytest.raises(ValueError, match="no batch"):
        UnitMatcher().fit_models(a, b, "2", "2", [])
    with pytest.raises(ValueError, match="same rows"):
        UnitMatcher().fit_models(a, b, "2", "4", x)


def test_a_net_stitched_to_itself_is_itself():
    a, b = a_pair()
    x = pictures()
    with torch.no_grad():
        b[9].bias.sub_(b(x).mean(0))  # or all are of one class
    own = b(x).argmax(1)
    for layer, how in itertools.product(("2", "5", "8"), (None, "one_to_one")):
        found = stitching_test(b, b, layer, layer, x, [(x, own)], mapping=how)
        assert found.accuracy == found.accuracy_b == found.accuracy_a == 1
    moved = apply_matching(b, ORDER, "7", "9")
    found = stitching_test(moved, b, "8", "8", x, [(x, own)], mapping="one_to_one")
    assert found.accuracy == 1
    assert found.accuracy_constant in np.bincount(own, minlength=3) / len(own)  # one answer to all
    assert found.accuracy_constant < 1
    with pytest.raises(ValueError, match="labels"):
        stitching_test(a, b, "8", "8", x, [x])
    with pytest.raises(ValueError, match="'one_to_one' or None"):
        stitching_test(a, b, "8", "8", x, [(x, own)], mapping="semi")


def test_layers_that_work_in_place_can_be_stitched_in_double_precision():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2)).double()
    x = torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = stitching_test(net, net, "0", "0", x, [(x, net(x).argmax(1))])
    assert found.accuracy == found.accuracy_b == 1


def test_the_samples_of_a_pair_are_those_of_its_largest_rows():
    X = np.array([[0.0, 5.0], [9.0, 1.0], [3.0, 2.0], [8.0, 7.0]])
    found = top_activating(X, X[:, ::-1], [1, 0], n_top=2)
    np.testing.assert_array_equal(found.top_a, [[1, 3], [3, 0]])
    np.testing.assert_array_equal(found.top_b, found.top_a)
    np.testing.assert_array_equal(found.overlap, [1, 1])
    by_sample = top_activating(X, X, [-1, 0], n_top=1, samples=[4, 4, 6, 6])
    np.testing.assert_array_equal(by_sample.top_a, [[6]])
    np.testing.assert_array_equal(by_sample.top_b, [[4]])
    assert by_sample.overlap == 0
    with pytest.raises(ValueError, match="0 to 1"):
        top_activating(X, X, [2, 0], n_top=1)
    with pytest.raises(ValueError, match="different samples, 1, got 2"):
        top_activating(X, X, [1, 0], n_top=2, samples=[3, 3, 3, 3])


def test_units_of_all_nets_are_told_from_those_of_some():
    shared, rng = units(500, 3), np.random.default_rng(1)
    nets = {}
    for name in "abc":
        order = rng.permutation(5)
        nets[name] = np.hstack([shared, units(500, 2, seed=ord(name))])[:, order]
    found = consensus_units(nets)
    reference = nets[found.reference]
    has = [np.abs(np.corrcoef(reference[:, u], shared.T)[0, 1:]).max() > 0.99 for u in range(5)]
    np.testing.assert_array_equal(found.agreement > 0.9, has)
    assert sum(has) == 3
    np.testing.assert_allclose(found.similarity, found.similarity.T)
    for unit in np.flatnonzero(has):
        columns = np.array([nets[name][:, found.units[k, unit]] for k, name in enumerate(found.names)])
        np.testing.assert_allclose(np.corrcoef(columns), 1)
    smaller = consensus_units([shared, shared[:, :2], shared[:, ::-1]])
    assert (smaller.agreement > 0.99).sum() == 2
    with pytest.raises(ValueError, match="three nets"):
        consensus_units([shared, shared])
    with pytest.raises(TypeError, match="representations"):
        consensus_units("abc")


# ---- maps


def test_the_path_is_lassos_and_ends_in_least_squares():
    X, Y = rectified(), rectified(seed=0)[:, :3] @ units(3, 2, seed=1) + units(400, 2, seed=2)
    model = SparsePredictor([0.3, 0.05, 0.0], random_state=0).fit(X, Y)
    train, test = model._split(len(X), None)
    scaled = [(part - part[train].mean(0)) / part[train].std(0) for part in (X, Y)]
    A, B = (part[train] for part in scaled)
    for alpha, coefs in zip(model.alphas_[:2], model.coefs_):
        peer = Lasso(alpha=alpha, fit_intercept=False, tol=1e-10, max_iter=10_000).fit(A, B)
        np.testing.assert_allclose(coefs, peer.coef_, atol=2e-2)
        score = 1 - np.square(scaled[1][test] - scaled[0][test] @ coefs.T).sum(0) / (
            np.square(scaled[1][test] - scaled[1][test].mean(0)).sum(0)
        )
        np.testing.assert_allclose(model.r2_[list(model.alphas_).index(alpha)], score)
    np.testing.assert_allclose(model.coefs_[2], np.linalg.lstsq(A, B, rcond=None)[0].T)
    np.testing.assert_allclose(model.r2_[2], model.r2_full_)


def test_no_unit_is_taken_from_the_largest_slope_on():
    X, Y = units(), units(p=3, seed=1) + units(p=6)[:, :3]
    model = SparsePredictor(random_state=0).fit(X, Y)
    train, _ = model._split(len(X), None)
    slopes = np.corrcoef(X[train].T, Y[train].T)[:6, 6:]
    assert model.alphas_[0] == pytest.approx(np.abs(slopes).max())
    assert not model.coefs_[0].any()
    assert model.coefs_[1].any()
    np.testing.assert_array_equal(model.n_nonzero_, (model.coefs_ != 0).sum(2))
    np.testing.assert_array_equal(model.single_, np.abs(slopes).argmax(0))


def test_one_source_is_found_and_a_sum_needs_its_two():
    X = units(2000)
    Y = np.stack([5 * X[:, 4] + 1, X[:, 0] - X[:, 3]], 1)
    model = SparsePredictor([0.1], random_state=0).fit(X, Y)
    assert model.single_[0] == 4
    np.testing.assert_array_equal(model.n_nonzero_[0], [1, 2])
    assert model.r2_single_[0] == pytest.approx(1)
    assert model.r2_single_[1] == pytest.approx(0.5, abs=0.05)
    np.testing.assert_allclose(model.r2_full_, 1)
    # what the penalty shrinks: one source 0.9 of its weight, two of equal weight alike
    np.testing.assert_allclose(model.r2_[0], [0.99, 1 - 0.02], atol=0.01)
    exact = SparsePredictor([0.0], random_state=0).fit(X, Y)
    np.testing.assert_allclose(exact.predict(X), Y, atol=1e-10)
    np.testing.assert_allclose(exact.coef_[0], 5 * np.eye(6)[4], atol=1e-10)


def test_units_in_other_units_have_the_same_path():
    X, Y = rectified(), rectified(seed=3) + rectified()
    one = SparsePredictor(random_state=0).fit(X, Y)
    other = SparsePredictor(random_state=0).fit(X * 7 + 3, Y / 100 - 1)
    np.testing.assert_allclose(other.coefs_, one.coefs_, atol=1e-3)
    np.testing.assert_allclose(other.predict(X * 7 + 3), one.predict(X) / 100 - 1, atol=1e-4)
    centred = SparsePredictor([0.0], standardize=False, random_state=0).fit(X, Y)
    np.testing.assert_allclose(centred.coefs_[0], centred.coef_)


def test_rows_of_a_group_stay_together_and_dead_units_are_not_judged():
    X, Y = units(), np.hstack([units(p=2, seed=1), np.full((300, 1), 0.1)])
    owner = np.repeat(np.arange(30), 10)
    model = SparsePredictor([0.1], random_state=0)
    for part in model._split(300, owner):
        assert len(part) == 10 * len(set(owner[part]))
    model.fit(X, Y, owner)
    assert np.isnan(model.r2_[:, 2]).all()
    assert np.isfinite(model.r2_[:, :2]).all()
    np.testing.assert_allclose(model.predict(X)[:, 2], 0.1)
    with pytest.raises(ValueError, match="two or more"):
        model.fit(X, Y, np.zeros(300))
    with pytest.raises(ValueError, match="no unit that varies"):
        model.fit(X, np.ones((300, 2)))


def test_small_units_are_judged_as_they_are():
    X = np.random.default_rng(0).normal(size=(80, 3))
    model = SparsePredictor([0.0], standardize=False, random_state=0).fit(X, X[:, :2] * 1e-13)
    np.testing.assert_allclose(model.r2_, 1)


def test_groups_of_any_byte_order_are_the_same():
    X = np.random.default_rng(0).normal(size=(40, 3))
    groups = np.arange(40) // 4
    same, swapped = (
        SparsePredictor(random_state=0).fit(X, X, given).r2_ for given in (groups, groups.astype(">i8"))
    )
    np.testing.assert_array_equal(same, swapped)


def test_a_path_cut_short_says_so():
    X = rectified(p=30)
    with pytest.warns(ConvergenceWarning):
        model = SparsePredictor([1e-4], max_iter=1, random_state=0).fit(X, X @ units(30, 1))
    assert not model.converged_.any()


def test_both_ways_are_judged():
    X = units(1000)
    found = compare_mappings(X, X[:, [0, 1]] + X[:, [2, 3]], random_state=0)
    assert found.direction == ("a to b", "b to a")
    np.testing.assert_allclose(found.r2_full, [1, 1 / 3], atol=0.07)  # of six units four are seen, by half
    np.testing.assert_allclose(found.r2_single, [0.5, 1 / 3], atol=0.07)
    assert found.n_units == (6, 2)


# ---- clusters and subspaces


def two_subspaces(n=800):
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(n, 4))
    bases = [np.kron(np.eye(2), rng.normal(size=(2, 5))) for _ in range(2)]
    return hidden @ bases[0], hidden @ bases[1]


@pytest.mark.parametrize("hierarchical", [False, True])
def test_units_of_two_subspaces_part_though_none_pair(hierarchical):
    X, Y = two_subspaces()
    for k in (2, None):
        found = CoClusterer(k, hierarchical=hierarchical, random_state=0).fit(X, Y)
        assert found.n_clusters_ == 2
        np.testing.assert_array_equal(found.labels_a_, [0] * 5 + [1] * 5)
        np.testing.assert_array_equal(found.labels_b_, found.labels_a_)
        np.testing.assert_array_equal(found.counts_, np.full((2, 2), 5))
        np.testing.assert_allclose(found.clusters_.balance, 1)
    np.testing.assert_allclose(found.eigenvalues_[0], 0, atol=1e-12)
    assert found.eigenvalues_[1] < 0.2 < found.eigenvalues_[2]
    block = np.abs(np.corrcoef(np.hstack([X, Y])[:, [*range(5), *range(10, 15)]].T))
    assert found.clusters_.within[0] == pytest.approx((block.sum() - 10) / 90)


def test_signs_matter_to_positive_affinity_only_and_dead_units_to_none():
    X, Y = two_subspaces()
    flipped = np.hstack([-X[:, :5], X[:, 5:], np.ones((800, 1))])
    found = CoClusterer(2, random_state=0).fit(flipped, Y)
    np.testing.assert_array_equal(found.labels_a_, [0] * 5 + [1] * 5 + [-1])
    three = units(800, 3)
    positive = CoClusterer(2, affinity="positive", random_state=0).fit(
        three[:, [0, 0, 1]] + 0.1 * units(800, 3, seed=1), -three[:, [0, 1]] + 0.1 * units(800, 2, seed=2)
    )
    assert positive.labels_a_[0] == positive.labels_a_[1]
    with pytest.raises(ValueError, match="live units"):
        CoClusterer(30).fit(X, Y)


@pytest.mark.parametrize("n_clusters", [2, 3, 4])
@pytest.mark.parametrize("hierarchical", [False, True])
def test_parts_without_a_link_are_not_parted_first(n_clusters, hierarchical):
    X = np.kron(np.eye(4), np.ones((6, 2)))  # four pairs of units, each at odds with the others
    found = CoClusterer(n_clusters, affinity="positive", hierarchical=hierarchical, random_state=0).fit(X, X)
    assert found.n_clusters_ == n_clusters
    np.testing.assert_array_equal(found.labels_a_[::2], found.labels_a_[1::2])
    np.testing.assert_array_equal(found.labels_a_, found.labels_b_)


def test_angles_are_those_of_canonical_correlations():
    X, Y = units(), units(seed=1)[:, :3] + units()[:, :3]
    angles = principal_angles(X, Y)
    np.testing.assert_allclose(np.cos(angles), cca(X, Y), atol=1e-10)
    np.testing.assert_allclose(principal_angles(X, X @ units(6, 6, seed=2) + 3), 0, atol=1e-7)
    Q = np.linalg.qr(X - X.mean(0))[0]
    turned = np.cos(1e-5) * Q[:, :1] + np.sin(1e-5) * Q[:, 1:2]
    np.testing.assert_allclose(
        principal_angles(Q[:, :1], turned), [1e-5], rtol=1e-6
    )  # which a cosine rounds away


def test_the_dimension_is_that_of_the_variance():
    Q = np.linalg.qr(units() - units().mean(0))[0]
    rows = Q * np.sqrt([60, 25, 10, 5, 0, 0]) + 4
    assert [subspace_dimension(rows, variance=v) for v in (0.5, 0.7, 0.86, 0.96, 1.0)] == [1, 2, 3, 4, 4]
    np.testing.assert_allclose(principal_angles(rows, Q[:, :1], variance=0.5), 0, atol=1e-7)
    with pytest.raises(ValueError, match="span nothing"):
        subspace_dimension(np.ones((5, 2)))


def test_stitching_takes_labels_that_are_places_and_linear_maps_only():
    from sklearn.neighbors import KNeighborsRegressor

    a, b = (
        build_seeded(lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), i) for i in (0, 1)
    )
    data = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    for labels, words in ((np.array(["cat"] * 12), "whole numbers"), (torch.full((12,), 3), "no output")):
        with pytest.raises(ValueError, match=words):
            stitching_test(a, b, "1", "1", data, [(data, labels)])
    with pytest.raises(TypeError, match="coef_"):
        stitching_test(a, b, "1", "1", data, [(data, torch.zeros(12).long())], mapping=KNeighborsRegressor(2))
    labels = torch.arange(12) % 3
    found = stitching_test(a, b, "1", "1", [data, data[:0]], [(data, labels), (data[:0], labels[:0])])
    assert found == stitching_test(a, b, "1", "1", data, [(data, labels)])


def test_descent_that_does_not_end_is_told_once():
    with pytest.warns(ConvergenceWarning, match="of 6 units") as told:
        model = SparsePredictor(max_iter=1, random_state=0).fit(units(), units(seed=1) + units())
    assert len(told) == 1
    assert not model.converged_.all()


def test_sorted_units_cannot_be_permuted():
    class Sorted(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, x):
            return self.last(torch.sort(self.first(x), 1).values)

    with pytest.raises(ValueError, match="sort"):
        apply_matching(Sorted(), ORDER, "first", "last")
