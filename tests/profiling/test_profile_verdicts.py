"""Verdicts: p-values against exact laws and peers, their level under the null, and the sentences made of them."""

import dataclasses
import itertools

import numpy as np
import pytest
from scipy.stats import binom, mannwhitneyu
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from lodim.profiling.advice import advise
from lodim.profiling.held_out import HeldOut
from lodim.profiling.inputs import as_dataset, split
from lodim.profiling.parts import LEVEL
from lodim.profiling.verdicts import chance_of_guessing, chance_of_no_difference, constant_score, score


def given(X, y, kind="auto"):
    fields = dict.fromkeys(("feature_names", "target_name", "classes", "image_shape"))
    return as_dataset(X, y, source="a", kind=kind, notes=(), **fields)


def odds(scores):
    """Outputs for two classes whose log-odds are ``scores``."""
    return np.stack([np.zeros_like(scores), scores], axis=1)


def right_and_wrong(n, right):
    y = np.arange(n) % 2
    return odds(np.where(np.arange(n) < right, 2.0 * y - 1, 1 - 2.0 * y)), y


def test_accuracy_is_held_against_the_binomial_of_the_commonest_class():
    outputs, y = right_and_wrong(80, 46)
    assert chance_of_guessing(outputs, y, "accuracy", 1, 0) == pytest.approx(binom.sf(45, 80, 0.5))
    assert chance_of_guessing(outputs, y, "accuracy", 3, 0) == pytest.approx(3 * binom.sf(45, 80, 0.5))
    y = (np.arange(100) < 10).astype(int)
    assert chance_of_guessing(odds(np.full(100, -1.0)), y, "accuracy", 1, 0) > 0.5  # a constant answer


def test_the_area_agrees_with_mann_and_whitney():
    rng = np.random.default_rng(0)
    y = (rng.random(150) < 0.3).astype(int)
    scores = rng.normal(size=150) + 0.35 * y
    p = chance_of_guessing(odds(scores), y, "auc", 1, 0)
    peer = mannwhitneyu(scores[y == 1], scores[y == 0], alternative="greater", method="asymptotic").pvalue
    assert score(odds(scores), y, "auc") == pytest.approx(roc_auc_score(y, scores))
    # at least 50 exceedances or 9,999 draws: the relative standard error of p is at most 1 / sqrt(50)
    assert p == pytest.approx(peer, rel=4 / 50**0.5)


def test_permutations_and_signs_agree_with_full_enumeration():
    rng = np.random.default_rng(1)
    y, f, g = rng.normal(size=(3, 7))
    sums = [float(f @ np.array(order)) for order in itertools.permutations(y)]
    exact = np.mean(np.array(sums) >= f @ y - 1e-9)
    assert chance_of_guessing(f, y, "r2", 1, 0) == pytest.approx(
        exact, abs=4 * (exact * (1 - exact) / 500) ** 0.5
    )
    gains = (g - y) ** 2 - (f - y) ** 2
    signs = np.array(list(itertools.product((-1, 1), repeat=7)))
    exact = np.mean(np.abs(signs @ gains) >= abs(gains.sum()) - 1e-9)
    found = chance_of_no_difference(f, g, y, "r2", 0)
    assert found == pytest.approx(exact, abs=4 * (exact * (1 - exact) / 500) ** 0.5)


def test_two_models_are_compared_by_mcnemar():
    y = np.arange(30) % 2
    first, second = (odds(np.where(np.arange(30) < k, 1, -1) * (2.0 * y - 1)) for k in (29, 27))
    assert chance_of_no_difference(first, second, y, "accuracy", 0) == pytest.approx(2 / 2**2)  # 2 to 0
    assert chance_of_no_difference(first, first, y, "accuracy", 0) == 1
    far = odds(np.where(np.arange(30) < 17, 1, -1) * (2.0 * y - 1))
    assert chance_of_no_difference(first, far, y, "accuracy", 0) == pytest.approx(2 / 2**12)


@pytest.mark.parametrize("score_by", ["accuracy", "auc", "r2"])
def test_a_constant_is_never_more_than_guessing(score_by):
    y = np.random.default_rng(0).integers(0, 3, 60)
    outputs = np.ones(60) if score_by == "r2" else np.tile([0.2, 0.1, 0.0], (60, 1))
    target = y.astype(float) if score_by == "r2" else y
    assert chance_of_guessing(outputs, target, score_by, 1, 0) > 0.2
    assert constant_score(y, "accuracy", 0) == np.mean(y == 0)


def best_of_six(rng, score_by, n=400):
    """Random labels; six models on random features, the best on the held-out rows kept, as a search would."""
    X, n_train = rng.normal(size=(n, 8)), 4 * n // 5
    y = (
        rng.normal(size=n)
        if score_by == "r2"
        else (rng.random(n) < (0.15 if score_by == "auc" else 0.5)).astype(int)
    )
    found = []
    for _ in range(6):
        F = np.c_[np.tanh(X @ rng.normal(size=(8, 20))), np.ones(n)]
        a = np.linalg.lstsq(F[:n_train], y[:n_train] - (0.0 if score_by == "r2" else 0.5), rcond=None)[0]
        out = F[n_train:] @ a
        out = out if score_by == "r2" else odds(out)
        found.append((score(out, y[n_train:], score_by), out))
    return max(found, key=lambda f: f[0])[1], y[n_train:]


@pytest.mark.parametrize(
    ("score_by", "n_seeds"),
    [
        ("accuracy", 200),
        ("auc", 30),
        *(pytest.param(by, 400, marks=pytest.mark.slow) for by in ("auc", "r2")),
    ],
)
def test_random_labels_count_as_often_as_the_level_says(score_by, n_seeds):
    """The false share is at most the level: more than the binomial's 0.9999 quantile cannot be luck."""
    false = 0
    for seed in range(n_seeds):
        outputs, y = best_of_six(np.random.default_rng(seed), score_by)
        false += chance_of_guessing(outputs, y, score_by, 6, seed) < LEVEL
    assert false <= binom.isf(1e-4, n_seeds, LEVEL)


def test_doubled_rows_teach_nothing_about_themselves():
    """A model that only remembers rows scores 1 on copies of them; held apart, it guesses."""
    told = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        X, y = rng.normal(size=(200, 4)), rng.integers(0, 2, 200)
        parts = split(given(np.r_[X, X], np.r_[y, y]), seed)
        held = HeldOut(parts, "classification", seed)
        assert not set(map(bytes, parts.X)) & set(map(bytes, parts.X_val))
        assert held.told.sum() * 2 == len(parts.y_val)
        memory = KNeighborsClassifier(1).fit(parts.X, parts.y)
        told += held.judge(odds(memory.predict(parts.X_val) - 0.5), 1).guess_p < LEVEL
    assert told <= binom.isf(1e-4, 20, LEVEL)


def test_rows_that_hold_classes_together_stay_together():
    X = np.repeat(np.random.default_rng(0).normal(size=(12, 3)), 10, axis=0)
    parts = split(given(X, np.arange(120) % 2), 0)  # every set of equal rows has both classes
    assert not set(map(bytes, parts.X)) & set(map(bytes, parts.X_val))
    assert 0 < len(parts.y_val) < len(parts.y)
    pair = split(given(np.repeat([[0.0, 1], [1, 0]], 10, axis=0), np.arange(20) // 10), 0)
    assert len(pair.y_val) == 0  # a class of equal rows can only be learnt


def test_what_a_constant_could_reach_by_luck_is_counted_from():
    X = np.random.default_rng(0).normal(size=(500, 3))
    held = HeldOut(split(given(X, np.arange(500) % 2), 0), "classification", 0)
    # 100 rows, half of either class: 62 right are luck at the level 0.01 (binomial quantile)
    assert held.floor(0.98) == 0.0
    assert held.floor(0.65) == pytest.approx(0.5)
    rare = HeldOut(split(given(X, (np.arange(500) % 5 == 0).astype(int)), 0), "classification", 0)
    assert (rare.score_by, rare.floor(0.9), rare.majority) == ("auc", 0.5, pytest.approx(0.8))


IRIS = {
    "baseline_score": 0.9,
    "threshold_score": 0.81,
    "linear_score": 29 / 30,
    "linear_parameters": 15,
    "chance_score": 1 / 3,
    "n_val": 30,
    "n_told": 30,
    "n_direct": 12,
    "guess_p": 1e-9,
    "linear_gain": 2 / 30,
    "linear_p": 0.5,
}


def said(change, rule, **fields):
    p = change(**fields)
    found = {a.rule: a.text for a in advise(p)}
    return " ".join(p.verdict.split()), found.get(rule, "")


def test_iris_where_a_linear_model_scores_more_on_thirty_rows(change):
    verdict, advice = said(change, "linear_suffices", landscape=IRIS)
    assert (
        "accuracy 0.900 on 30 held-out rows; a linear model 0.967 (these rows do not tell it from" in verdict
    )
    assert "always the commonest class 0.333" in verdict
    assert "solves" not in verdict
    assert "do not tell it from the best run of the other: take the linear one" in advice
    better, advice = said(change, "linear_suffices", landscape=IRIS | {"linear_p": 1e-4})
    assert "(better than the best run)" in better
    assert "take it" in advice


def test_random_labels_are_guessing(change):
    fields = {"baseline_score": 0.579, "chance_score": 0.525, "guess_p": 1.0, "n_direct": 12}
    fields |= {"n_told": 80, "n_val": 80}
    verdict, advice = said(change, "unsolved", landscape=fields)
    assert (
        "cannot be told from guessing on 80 held-out rows (accuracy 0.579; always the commonest class 0.525"
        in verdict
    )
    assert "means nothing" in verdict
    assert "80 different held-out rows" in advice
    ordered, _ = said(change, "unsolved", landscape=fields | {"auc": 0.66, "auc_p": 0.002})
    assert "it does order them (AUC 0.660" in ordered
    p = change(landscape=fields)
    assert "numbers the model needs" not in p.to_html().split("How to read")[0]


def test_diabetes_does_not_call_the_rest_noise(change):
    fields = {
        "score_name": "R²",
        "baseline_score": 0.27,
        "linear_score": 0.42,
        "chance_score": 0.0,
        "guess_p": 0.001,
        "linear_gain": 0.15,
        "linear_p": 0.003,
    }
    verdict, advice = said(change, "weak_regression", landscape=fields, kind="regression")
    assert "explains 27 % of the variance" in verdict
    assert "a linear model 0.420 (better than the best run), always the mean 0.000" in verdict
    assert "noise" not in advice
    assert "a linear model 42 %" in advice


def test_churn_is_told_from_guessing_by_its_area():
    """85 to 15, one column shifted so that the area is 0.72: Phi(shift / sqrt 2) = 0.72."""
    rng = np.random.default_rng(0)
    y = (rng.random(2000) < 0.15).astype(int)
    X = rng.normal(size=(2000, 5))
    X[:, 0] += 0.8243 * y
    held = HeldOut(split(given(X, y), 0), "classification", 0)
    assert held.score_by == "auc"
    assert held.linear_score == pytest.approx(
        0.72, abs=3 * 0.034
    )  # Hanley and McNeil's error of 60 and 340 rows
    assert held.judge(held.linear, 12).guess_p < LEVEL


def test_the_recipe_is_named_with_the_number(change):
    other = dataclasses.replace
    p = change(landscape={"passes": 30, "scaling": "together", "guess_p": 1e-9})
    assert (
        "64 and 64 wide, 30 passes over 1,437 rows with Adam, all columns brought to one scale"
        in " ".join(str(p).split())
    )
    assert "Another width, length or scaling moves it" in p.to_html()
    from lodim.profiling.parts import OtherRecipe

    second = OtherRecipe(15, "found", 171.0, (150.0, 190.0), 0.96)
    p = other(p, landscape=other(p.landscape, other_recipe=second))
    assert "With 15 passes it is about 171 (150–190)" in " ".join(str(p).split())
    assert type(p).from_json(p.to_json()) == p
