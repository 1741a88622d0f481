"""What must hold of black-box-surrogates whatever the data: identities, invariances, limits."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from lodim.metrics import wilson_interval
from lodim.nets import mlp
from lodim.randomness import build_seeded
from lodim.trust import (
    ConvEmbeddingClassifier,
    Explanation,
    SelfAttentionClassifier,
    SelfAttentionNetwork,
    SurrogateExplainer,
    compare_rankings,
    comprehensiveness,
    feature_importance,
    mean_reciprocal_rank,
    sufficiency,
)
from lodim.trust.black_box_surrogates import importance, networks
from lodim.trust.black_box_surrogates.importance import Rows, chance_jaccard, read_columns
from lodim.trust.black_box_surrogates.rules import Condition, Judged, prune, said
from lodim.trust.black_boxes import read_black_box

W = np.array([0.5, -2.0, 0.0, 1.0, 3.0])
SD = np.array([1.0, 3.0, 1.0, 1.0, 0.1])  # |w| sd: 0.5, 6, 0, 1, 0.3


def normal(n=400, d=5, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def linear(X):
    return 1 / (1 + np.exp(-np.asarray(X, float) @ W / 3))


def constant(X):
    return np.full((len(X), 2), 0.5)


def logits():
    """The same model as a module: one logit, of the second class."""
    net = nn.Linear(5, 1).double()
    with torch.no_grad():
        net.weight.copy_(torch.from_numpy(W / 3)[None])
        net.bias.zero_()
    return net


def grid(n=600, d=4, seed=0):
    return np.random.default_rng(seed).integers(0, 10, (n, d)).astype(float)


def planted(X):
    """A tree: x0 at most 4: class 0; else x2 above 6: class 2, at most 6: class 1."""
    X = np.asarray(X, float)
    return np.eye(3)[np.where(X[:, 0] <= 4, 0, np.where(X[:, 2] > 6, 2, 1))]


# ---- importances


@pytest.mark.parametrize("method", ["permutation", "mean", "noise", "gradient", "integrated"])
def test_a_linear_model_is_ranked_by_weight_times_deviation(method):
    found = feature_importance(logits(), SD * normal(), method=method, random_state=0)
    assert found.ranking.tolist() == [1, 3, 0, 4, 2]
    assert found.scores[2] == found.low[2] == found.high[2] == 0
    assert found.drives[[1, 3]].all()
    assert not found.drives[2]


def test_a_function_and_a_module_of_the_same_answers_score_alike():
    X = SD * normal()
    one, other = (feature_importance(model, X, random_state=0) for model in (linear, logits()))
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-9)


def test_skill_of_own_answers_is_that_of_sobol():
    """p = 1/2 + a . x with independent columns: half the mean squared change is 2 a^2 var(x), two classes together."""
    a = np.array([0.3, 0.1, 0.0])
    X = np.random.default_rng(0).uniform(-1, 1, (4000, 3))
    rows = Rows.of(X)
    box = read_black_box(lambda X: 0.5 + X @ a, X)
    p = box.predict_proba(X)
    parts = [np.array([j]) for j in range(3)]
    _, (skill,) = importance._replaced(
        rows, box, p, [None], parts, "permutation", 5, np.random.default_rng(1)
    )
    error = skill.std(0) / math.sqrt(4000)
    assert (np.abs(skill.mean(0) - 2 * a**2 / 3) <= 4 * error + 1e-15).all()


@pytest.mark.parametrize("y", [None, np.arange(400) % 2])
def test_a_model_that_uses_nothing_gets_no_ranking(y):
    found = feature_importance(constant, normal(d=40), y, k=5, random_state=0)
    assert not found.drives.any()
    assert not found.scores.any()
    assert abs(found.stability - found.chance_stability) < 0.1  # ties are broken at random
    assert "cannot tell any of these 40" in str(found)


def test_random_labels_are_told_from_noise_one_time_in_twenty():
    """The model does use its columns, but other rows' labels do not depend on them."""
    rng = np.random.default_rng(1)
    wrong = 0
    for seed in range(60):
        X, y = rng.normal(size=(80, 6)), rng.random(80) < 0.3
        weights = rng.normal(size=6)
        found = feature_importance(
            lambda X, w=weights: 1 / (1 + np.exp(-X @ w)), X, y, n_repeats=1, random_state=seed
        )
        wrong += found.drives.any()
    assert wrong <= 8  # one in twenty: more than 8 of 60 has a chance of 0.3 %


def test_intervals_cover():
    """Of the columns that are used: each permuted value changes other rows' answers, which rows alone do not show."""
    X = normal(8_000)
    truth = feature_importance(linear, X, n_repeats=2, random_state=0).scores
    inside = []
    for seed in range(40):
        found = feature_importance(linear, X[seed * 100 : (seed + 1) * 100], random_state=seed)
        inside.append(((found.low <= truth) & (truth <= found.high))[[0, 1, 3, 4]])
    assert 0.9 <= np.mean(inside) <= 1


def test_wilson_covers():
    n = 40
    ends = np.array([wilson_interval(hits, n) for hits in range(n + 1)])
    for p in (0.02, 0.3, 0.5, 0.9):
        drawn = np.random.default_rng(0).binomial(n, p, 4000)
        assert 0.9 <= np.mean((ends[drawn, 0] <= p) & (p <= ends[drawn, 1])) <= 1
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_the_jaccard_index_of_chance():
    rng = np.random.default_rng(0)
    one, other = (rng.permuted(np.tile(np.arange(12) < 5, (4000, 1)), axis=1) for _ in range(2))
    seen = ((one & other).sum(1) / (one | other).sum(1)).mean()
    assert chance_jaccard(12, 5) == pytest.approx(seen, abs=0.01)
    assert chance_jaccard(7, 7) == pytest.approx(1)


def test_duplicates_share_the_importance_of_their_group():
    x = normal(d=2)
    X = np.c_[x[:, 0], x[:, 0], x[:, 1]]

    def model(X):
        return 1 / (1 + np.exp(-(X[:, 0] + X[:, 1])))

    found = feature_importance(model, X, groups={"pair": [0, 1]}, random_state=0)
    assert found.names == ("pair", "x2")
    assert found.drives.tolist() == [True, False]
    alone = feature_importance(model, X, random_state=0).scores
    single = feature_importance(lambda X: 1 / (1 + np.exp(-2 * X[:, 0])), x, random_state=0).scores[0]
    assert found.scores[0] == pytest.approx(single, rel=0.1)  # as of the one column that it is
    assert max(alone[:2]) < 0.7 * found.scores[0]
    with pytest.raises(ValueError, match="no column twice"):
        feature_importance(model, X, groups={"a": [0], "b": [0]})


def test_how_many_copies_are_asked_about_at_once_changes_nothing(monkeypatch):
    X, y = normal(), normal()[:, 0] > 0
    expected = feature_importance(linear, X, y, random_state=0)
    monkeypatch.setattr(importance, "_CELLS", 1)
    assert feature_importance(linear, X, y, random_state=0) == expected


def test_a_data_frame_is_ranked_as_its_numbers():
    X = SD * normal()
    frame = pd.DataFrame(X, columns=list("abcde"))
    one, other = (feature_importance(linear, Z, random_state=0) for Z in (X, frame))
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-12)
    assert other.to_frame()["name"].tolist() == list("bdaec")


def test_what_cannot_be_ranked_is_said():
    X = normal()
    with pytest.raises(ValueError, match="k must be at least 1 and at most 5"):
        feature_importance(linear, X, k=6)
    with pytest.raises(ValueError, match="sum to one"):
        feature_importance(lambda X: np.full((len(X), 2), 0.4), X)
    with pytest.raises(TypeError, match="gradients are had from torch modules"):
        feature_importance(linear, X, method="gradient")
    with pytest.raises(ValueError, match="no class of"):
        feature_importance(linear, X, np.full(400, 7))
    with pytest.raises(ValueError, match="'f'"):
        read_columns(["f"], "abcde")


def test_ranks_are_combined_by_the_mean_of_reciprocals():
    found = mean_reciprocal_rank([[3.0, 2.0, 1.0], [1.0, 3.0, 3.0]])
    np.testing.assert_allclose(found, [(1 + 1 / 3) / 2, (1 / 2 + 2 / 3) / 2, (1 / 3 + 2 / 3) / 2])


# ---- falls


def test_falls_of_all_and_of_none():
    X = SD * normal()
    p = read_black_box(linear, X).predict_proba(X)
    top = p.argmax(1)
    at_mean = read_black_box(linear, X).predict_proba(np.tile(X.mean(0), (400, 1)))
    rows = np.arange(400)
    assert comprehensiveness(linear, X, range(5)) == pytest.approx((p[rows, top] - at_mean[rows, top]).mean())
    assert sufficiency(linear, X, range(5)) == 0 == comprehensiveness(linear, X, [])
    assert comprehensiveness(linear, X, [1, 4]) == pytest.approx(sufficiency(linear, X, [0, 2, 3]))
    mask = np.array([False, True, False, False, True])
    assert comprehensiveness(linear, X, mask) == comprehensiveness(linear, X, [1, 4])


def test_a_random_ranking_stands_beside():
    found = compare_rankings(linear, SD * normal(), k=1, relevant=[1], random_state=0)
    assert found.precision == (1.0, 1.0, 0.2)
    assert found.comprehensiveness[0] > 2 * found.comprehensiveness[2]
    every = compare_rankings(linear, SD * normal(), k=5, methods=["mean"], random_state=0)
    assert every.comprehensiveness[0] == pytest.approx(
        every.comprehensiveness[1]
    )  # of all columns there is one set
    assert every.stability == pytest.approx((1, 1))


# ---- networks


def test_integrated_gradients_sum_to_the_change_of_the_answer():
    net = build_seeded(lambda: mlp([5, 16, 3], "tanh"), 0)
    X = normal(50)
    box, rows = read_black_box(net, X), Rows.of(X)
    p = box.predict_proba(X)
    found = importance._read_inside(net, box, rows, p, "integrated", 0)
    base = box.predict_proba(X.mean(0, keepdims=True))[0]
    np.testing.assert_allclose(found.sum(1), p.max(1) - base[p.argmax(1)], atol=2e-3)


def test_attention_sums_to_one_and_uniform_attention_is_none():
    net = build_seeded(lambda: SelfAttentionNetwork(7, 3, dropout=0.0), 0)
    x = torch.from_numpy(normal(9, 7)).float()
    np.testing.assert_allclose(net.attention(x).sum(1).detach(), 1, rtol=1e-5)
    for head in net.heads:
        nn.init.zeros_(head.weight), nn.init.zeros_(head.bias)
    plain = net.output(nn.functional.selu(net.dense(x)))  # thanks to the factor d
    np.testing.assert_allclose(net(x).detach(), plain.detach(), rtol=1e-4, atol=1e-6)


def test_attention_over_codes_is_mapped_back_by_the_encoders_slope():
    """A linear code: |d code / d x| is its matrix; columns that no code reads get nothing."""
    encoder = nn.Linear(5, 3)
    with torch.no_grad():
        encoder.weight[:, 4] = 0
    net = build_seeded(lambda: SelfAttentionNetwork(3, 2, encoder=encoder), 0)
    x = torch.from_numpy(normal(80)).float()
    found = net.attention(x)
    expected = (net.weights(encoder(x)) @ encoder.weight.abs()).detach()
    np.testing.assert_allclose(found, expected / expected.sum(1, keepdim=True), rtol=1e-4)
    assert not found[:, 4].any()


@pytest.mark.trains
def test_attention_finds_the_column_with_the_labels():
    X = normal(300, 12)
    y = np.where(X[:, 7] > 0, "up", "down")
    far = X + 1e8 * (np.arange(12) == 7)  # single precision knows multiples of eight there
    model = SelfAttentionClassifier(random_state=0, epochs=6, lr=1e-2).fit(far, y)
    assert model.score(far, y) > 0.9
    model = SelfAttentionClassifier(random_state=0, epochs=6, lr=1e-2).fit(X, y)
    found = feature_importance(model, X, y, method="attention", k=1, random_state=0)
    assert found.ranking[0] == 7
    assert found.drives[7]
    np.testing.assert_allclose(model.attention(X).sum(1), 1, atol=1e-6)
    probed = feature_importance(
        lambda X: 1 / (1 + np.exp(-5 * X[:, 3])), X[:150], method="attention", random_state=0
    )
    assert probed.ranking[0] == 3  # of a network trained on the answers


@pytest.mark.trains
@pytest.mark.parametrize("encoder", ["conv", "mlp"])
def test_embeddings_classify_and_carry_attention(encoder):
    X = normal(200, 10)
    y = X[:, 0] + X[:, 1] > 0
    model = ConvEmbeddingClassifier(encoder, "correlation", 1, 15, 64, lr=5e-3, random_state=0).fit(X, y)
    assert model.score(X, y) > 0.85
    on_codes = SelfAttentionClassifier(embedding=model, epochs=1, random_state=0).fit(X, y)
    weights = on_codes.attention(X[:9])
    assert weights.shape == (9, 10)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    found = feature_importance(model, X, method="gradient", k=2, n_repeats=1, random_state=0)
    assert set(found.ranking[:2].tolist()) == {0, 1}


@parametrize_with_checks(
    [
        SelfAttentionClassifier(epochs=10, lr=0.02, random_state=0),
        ConvEmbeddingClassifier("mlp", "given", 1, 20, lr=0.01, random_state=0),
        ConvEmbeddingClassifier("conv", "correlation", 1, 20, lr=0.01, random_state=0),
    ]
)
@pytest.mark.trains
@pytest.mark.slow
def test_scikit_learns_checks(estimator, check):
    """Trained only where the check asks for what was learnt; one epoch's small logits round within its 1e-7."""
    learnt = check.func.__name__ in ("check_classifiers_train", "check_classifiers_classes")
    check(estimator if learnt else clone(estimator).set_params(epochs=1))


@pytest.mark.parametrize("method", ["gradient", "integrated"])
@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_gradients_are_had_where_the_caller_has_switched_them_off(method, off):
    net, X = logits(), normal(50)
    expected = feature_importance(net, X, method=method, random_state=0).scores
    with off():
        assert (feature_importance(net, X, method=method, random_state=0).scores == expected).all()


def test_a_value_of_no_category_is_refused_with_the_categories():
    frame = pd.DataFrame({"size": normal(60, 1)[:, 0], "kind": pd.Categorical(["a", "b", "c"] * 20)})
    model = SurrogateExplainer(lambda X: (X["kind"] == "a").astype(float), random_state=0).fit(frame)
    assert model.what_if(frame.iloc[0], {"kind": "b"}).changes == {"kind": ["a", "b"]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=r"\['a', 'b', 'c'\]"):
            model.what_if(frame.iloc[0], {"kind": "z"})


def test_clones_sit_on_the_same_fitted_embedding():
    X = normal(40, 3)
    labels = X[:, 0] > 0
    embedding = ConvEmbeddingClassifier("mlp", autoencoder_epochs=1, epochs=1, random_state=0).fit(X, labels)
    model = clone(SelfAttentionClassifier(embedding=embedding, epochs=1, random_state=0))
    assert model.embedding is embedding
    assert model.fit(X, labels).attention(X).shape == X.shape
    with pytest.raises(TypeError, match="not fitted"):
        SelfAttentionClassifier(embedding=ConvEmbeddingClassifier()).fit(X, labels)


def test_columns_are_laid_out_once_each_and_beside_their_like():
    x = normal(200, 4)
    X = x[:, [0, 1, 2, 3, 0, 1]] + 0.01 * normal(200, 6, 1)
    order = networks.correlation_order(X)
    assert sorted(order) == list(range(6))
    place = np.argsort(order)
    assert abs(place[0] - place[4]) == abs(place[1] - place[5]) == 1
    image = networks.ColumnsAsImage(order)(torch.arange(1.0, 7.0)[None])
    assert image.shape == (1, 1, 8, 8)
    assert sorted(image.flatten().tolist())[-6:] == [1, 2, 3, 4, 5, 6]
    assert image.sum() == 21


# ---- the surrogate


@pytest.fixture(scope="module")
def explainer():
    return SurrogateExplainer(planted, random_state=0).fit(grid())


def test_a_planted_tree_is_recovered(explainer):
    assert set(explainer.columns_) == {"x0", "x2"}
    said = {(frozenset(map(str, rule.conditions)), rule.label) for rule in explainer.rules_}
    assert said == {
        (frozenset({"x0 <= 4.5"}), 0),
        (frozenset({"x0 > 4.5", "x2 <= 6.5"}), 1),
        (frozenset({"x0 > 4.5", "x2 > 6.5"}), 2),
    }
    report = explainer.report(grid(seed=1), planted(grid(seed=1)).argmax(1))
    assert report.fidelity == report.accuracy_surrogate == report.r2 == 1
    assert set(report.told_from_noise) == {"x0", "x2"}
    assert report.n_rules == 3
    assert report.sufficiency == 0
    assert report.comprehensiveness > report.comprehensiveness_random


def test_every_row_fires_one_rule_which_says_what_the_tree_says():
    X = np.random.default_rng(0).normal(size=(500, 4))
    model = SurrogateExplainer(
        lambda X: 1 / (1 + np.exp(-4 * np.sin(2 * X[:, 0]) * X[:, 1])), k=2, random_state=0
    )
    model.fit(X)
    fires = np.array([rule.fires(X) for rule in model.rules_])
    assert (fires.sum(0) == 1).all()
    assert sum(rule.support for rule in model.rules_) == 350
    said = np.array([rule.label for rule in model.rules_])[fires.argmax(0)]
    np.testing.assert_array_equal(said, model.predict(X))
    for rule in model.rules_:
        assert len({c.number for c in rule.conditions}) == len(rule.conditions)  # thresholds are merged
    assert len(model.pruned_rules_) <= len(model.rules_)


def test_thresholds_between_neighbours_in_single_precision_are_those_of_the_tree():
    low = np.nextafter(np.float32(1000), np.float32(2000))
    high = np.nextafter(low, np.float32(2000))
    X = np.where(normal(100, 1) > 0, low, high).astype(float)
    model = SurrogateExplainer(lambda X: X[:, 0] >= high, k=1, importances="permutation", random_state=0).fit(
        X
    )
    assert len(model.rules_) == 2
    said = np.array([rule.label for rule in model.rules_])[
        np.argmax([rule.fires(X) for rule in model.rules_], axis=0)
    ]
    np.testing.assert_array_equal(said, model.predict(X))


def test_pruned_rules_are_judged_by_rows_that_did_not_choose_them():
    """A black box that is hard to imitate: what is said of the shorter rules is no better than what they do."""
    better = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        weights = rng.normal(size=(4, 4))
        model = SurrogateExplainer(
            lambda X, w=weights: np.sin(3 * X @ w).sum(1) > 0, 4, importances="mean", random_state=seed
        ).fit(rng.normal(size=(150, 4)))
        new = rng.normal(size=(1000, 4))
        truth = model.black_box(new)
        for rule in model.pruned_rules_:
            if rule.n_held and (fires := rule.fires(new)).any():
                better.append(rule.confidence - (truth[fires] == rule.label).mean())
    assert abs(np.mean(better)) < 3 * np.std(better) / math.sqrt(len(better))


def test_values_are_written_so_that_they_can_be_told_apart():
    assert said(20230252.5) == "20230252.5"
    assert said(1 / 3) == "0.333333"
    assert said(41250.37) == "41250.4"
    assert said("red") == "red"


def test_pruning_drops_what_held_out_rows_do_not_ask_for():
    """Beside a condition that decides, one that does not; a rule that held-out rows never fire is left alone."""
    grown = grid()
    judged = Judged(grown, grown, (grown[:, 0] > 4.5).astype(int), np.array(["no", "yes"]))
    decides, idle = Condition("x0", 0, low=4.5), Condition("x1", 1, high=6.5)
    rule = judged.rule([decides, idle], 1)
    assert rule.confidence == 1
    (pruned,) = prune([rule, judged.rule([decides], 1)], [1, 1], judged, judged)
    assert pruned.conditions == (decides,)
    assert pruned.support == int((grown[:, 0] > 4.5).sum()) > rule.support
    never = judged.rule([decides, Condition("x1", 1, low=99.0)], 1)
    assert math.isnan(never.confidence)
    (left,) = prune([never], [1], judged, judged)
    assert left.conditions == never.conditions
    assert str(Condition("x1", 1, 2.5, 6.5)) == "2.5 < x1 <= 6.5"


def test_contributions_lead_from_root_to_leaf_and_counterfactuals_turn_both(explainer):
    for x in grid(6, seed=2):
        found = explainer.explain(x)
        assert found.agrees
        assert found.base + sum(found.contributions.values()) == pytest.approx(found.probability)
        other = found.counterfactual
        assert other.flips_black_box
        moved = x.copy()
        for name, (before, after) in other.changes.items():
            assert moved[int(name[1])] == before
            moved[int(name[1])] = after
        assert explainer.predict(moved[None])[0] == other.label != found.label
        assert planted(moved[None]).argmax() == other.black_box_label
        assert Explanation.from_json(found.to_json()) == found
        then = explainer.what_if(x, {name: after for name, (_, after) in other.changes.items()})
        assert then.classes[then.black_box[1].argmax()] == other.black_box_label
        np.testing.assert_array_equal(then.surrogate[1], explainer.predict_proba(moved[None])[0])


def test_counterfactuals_turn_a_black_box_that_does_not_follow_its_tree():
    """Half of what decides is outside the tree: columns of a real row of another answer do it, as few as turn it."""
    X = normal(200, 6)

    def model(X):
        return (X.sum(1) > 0).astype(float)

    for k, surrogate in ((1, "tree"), (6, "logistic")):
        explainer = SurrogateExplainer(model, k, surrogate, 1, "permutation", random_state=0).fit(X)
        for x in normal(6, 6, 1):
            found = explainer.explain(x).counterfactual
            moved = x.copy()
            for name, (_, after) in found.changes.items():
                moved[int(name[1])] = after
                assert after in X[:, int(name[1])]
            assert found.flips_black_box
            assert model(moved[None])[0] == found.black_box_label != model(x[None])[0]
            assert explainer.tree_.predict(moved[explainer.ranking_[:k]][None])[0] == found.label
            for name in found.changes if len(found.changes) > k else ():
                less = moved.copy()
                less[int(name[1])] = x[int(name[1])]
                assert model(less[None])[0] == model(x[None])[0]  # no change can be left out


def test_a_counterfactual_that_the_black_box_does_not_follow_says_so(explainer):
    x = np.array([2.0, 0, 0, 0])
    kept = SurrogateExplainer(planted, random_state=0).fit(grid())
    kept.black_box = lambda X: np.tile([1.0, 0.0, 0.0], (len(X), 1))
    found = kept.explain(x).counterfactual
    assert not found.flips_black_box
    assert "still answers 0" in str(found)


def test_a_black_box_of_one_answer_explains_nothing():
    X = normal(200)
    for surrogate in ("tree", "logistic"):
        model = SurrogateExplainer(constant, surrogate=surrogate, random_state=0).fit(X)
        assert model.k_ == 1
        found = model.explain(X[0])
        assert found.counterfactual is None
        assert found.contributions == {}
        report = model.report(X, np.arange(200) % 2)
        said = str(report)
        assert report.told_from_noise == ()
        assert math.isnan(report.r2)
        assert "cannot tell these columns from noise" in said
        assert "its rules explain nothing" in said
        assert "no knowledge" in said


@pytest.mark.parametrize("surrogate", ["forest", "boosting", "logistic"])
def test_other_surrogates_have_a_tree_beside(surrogate):
    X = normal(150)
    model = SurrogateExplainer(
        linear, k=4, surrogate=surrogate, importances="permutation", random_state=0
    ).fit(X)
    assert model.report(normal(60, seed=1)).fidelity > 0.8
    assert model.predict_proba(X).sum(1) == pytest.approx(1)
    assert model.rules_


def mixed(n=250, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({
        "age": rng.integers(20, 60, n),
        "colour": rng.choice(["red", "green", "blue"], n),
        "noise": rng.normal(size=n),
        "member": rng.random(n) < 0.5,
    })  # fmt: skip
    return frame, np.where((frame["colour"] == "red") & (frame["age"] > 40), "yes", "no")


def test_a_pipeline_on_a_mixed_table():
    frame, _ = mixed()

    def model(X):
        return ((X["colour"] == "red") & (X["age"] > 40)).to_numpy(float)

    found = feature_importance(model, frame, random_state=0)
    assert found.drives.tolist() == [True, True, False, False]
    explainer = SurrogateExplainer(model, random_state=0).fit(frame)
    assert set(explainer.columns_) == {"age", "colour"}
    assert "colour is red" in explainer.rules_text()
    row = frame[frame["colour"].eq("red") & frame["age"].gt(40)].iloc[0]
    found = explainer.explain(row)
    assert found.label == 1
    assert found.counterfactual.flips_black_box
    assert explainer.what_if(row, {"colour": "blue"}).black_box[1, 0] == 1
    assert explainer.report(mixed(seed=1)[0]).fidelity > 0.97


def test_text_columns_of_a_fitted_pipeline_are_permuted_and_labels_are_its_own():
    frame, y = mixed()
    steps = make_column_transformer((OneHotEncoder(), ["colour"]), remainder="passthrough")
    model = make_pipeline(steps, LogisticRegression(max_iter=2000)).fit(frame, y)
    found = feature_importance(model, frame, y, method="mean", random_state=0)
    assert set(np.array(found.names)[found.drives]) == {"age", "colour"}
    report = SurrogateExplainer(model, random_state=0).fit(frame).report(frame, y)
    assert report.accuracy_black_box == pytest.approx(np.mean(model.predict(frame) == y))


def test_a_black_box_is_given_columns_of_the_kinds_it_has_learnt():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({
        "job": pd.Categorical(rng.choice(["clerk", "cook", "judge"], 80)),
        "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 99, 80), "D"),
        "children": pd.array(rng.integers(0, 4, 80), dtype="Int64"),
        "owns": rng.random(80) < 0.5,
    })  # fmt: skip

    def model(X):
        assert X.dtypes[["job", "since", "owns"]].eq(frame.dtypes[["job", "since", "owns"]]).all()
        assert str(X["children"].dtype) in ("Int64", "Float64")
        return ((X["job"] == "cook") | X["owns"]).to_numpy(float)

    for method in ("permutation", "mean", "noise"):
        drives = feature_importance(model, frame, method=method, random_state=0).drives
        assert drives.tolist() == [True, False, False, True]
    explainer = SurrogateExplainer(model, random_state=0).fit(frame)
    row = pd.DataFrame({"job": ["clerk"], "since": ["2020-02-01"], "children": [1], "owns": [False]})
    assert set(explainer.explain(row).counterfactual.changes) <= {"job", "owns"}
    assert explainer.what_if(row, {"job": "cook", "since": "2020-03-01"}).black_box[1, 1] == 1
    with pytest.raises(ValueError, match="a column of category, got 'pilot'"):
        explainer.what_if(row, {"job": "pilot"})
    with pytest.raises(TypeError, match="owns"):
        explainer.what_if(row, {"owns": "no"})
    with pytest.raises(ValueError, match="should match"):
        explainer.explain(frame.iloc[0].drop("job"))


@pytest.mark.slow  # importing and compiling shap takes a while
def test_shapley_values_rank_a_linear_model():
    pytest.importorskip("shap")
    found = feature_importance(linear, SD * normal(120), method="shap", random_state=0)
    assert found.ranking.tolist() == [1, 3, 0, 4, 2]
    assert found.n_rows == 64
