"""The crossing search against known curves and scikit-learn's isotonic regression."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import isotonic_regression

from lodim.landscape.crossing import Crossing, Curve, find_crossing, isotonic_fit
from lodim.landscape.objective_landscapes.size_search import bracket_of


def logistic_runs(rng, sizes, steepness, n_seeds, *, middle=200.0, sd=0.02):
    """Scores 0.1 .. 0.95, rising as a logistic curve in log d, with noise."""
    d = np.repeat(sizes, n_seeds)
    clean = 0.1 + 0.85 / (1 + (d / middle) ** -steepness)
    return d, clean + sd * rng.standard_normal(len(d))


@given(
    values=st.lists(st.floats(-5, 5), min_size=1, max_size=12),
    seed=st.integers(0, 1000),
)
def test_isotonic_fit_is_scikit_learns(values, seed):
    weights = np.random.default_rng(seed).integers(1, 6, len(values)).astype(float)
    ours = isotonic_fit(np.array(values), weights)
    np.testing.assert_allclose(ours, isotonic_regression(values, sample_weight=weights), atol=1e-9)


def test_isotonic_fit_of_many_rows_in_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    y, w = rng.normal(size=(2, 50, 7)), rng.integers(1, 4, 7).astype(float)
    whole = isotonic_fit(y, w)
    monkeypatch.setattr("lodim.landscape.crossing._MAX_BLOCK", 7 * 7 * 3)
    np.testing.assert_array_equal(isotonic_fit(y, w), whole)
    assert (np.diff(whole, axis=-1) >= 0).all()
    np.testing.assert_allclose((whole * w).sum(-1), (y * w).sum(-1))  # the fit keeps the weighted mean


@pytest.mark.parametrize(("ratio", "steepness"), [(2.0, 1.5), (1.5, 3.0), (1.25, 1.5)])
def test_isotonic_crossing_is_close_and_its_interval_covers(ratio, steepness):
    rng = np.random.default_rng(3)
    sizes = np.round(10 * ratio ** np.arange(1 + int(math.log(300) / math.log(ratio))))
    threshold = 0.1 + 0.85 * 0.85
    truth = 200 * (0.85 / 0.15) ** (1 / steepness)
    errors, covered = [], 0
    for trial in range(100):
        runs = logistic_runs(rng, sizes, steepness, 3)
        crossing = find_crossing(*runs, threshold, n_bootstrap=300, random_state=trial)
        errors.append(abs(crossing.value / truth - 1))
        covered += crossing.interval[0] <= truth <= crossing.interval[1]
    assert np.median(errors) < 0.08
    assert covered >= 88


def test_interval_narrows_with_seeds_and_widens_with_an_uncertain_threshold():
    rng = np.random.default_rng(0)
    sizes = np.geomspace(20, 2000, 12).round()
    width = {}
    for n_seeds in (3, 27):
        d, s = logistic_runs(rng, sizes, 1.5, n_seeds)
        low, high = find_crossing(d, s, 0.8).interval
        width[n_seeds] = math.log(high / low)
    assert 2.0 < width[3] / width[27] < 4.5  # sqrt(27 / 3) = 3
    low, high = find_crossing(d, s, 0.8, threshold_se=0.03).interval
    assert math.log(high / low) > 2 * width[27]


def test_one_run_a_size_says_so_and_still_covers():
    rng = np.random.default_rng(1)
    sizes = np.geomspace(20, 1500, 18).round()
    covered = 0
    for trial in range(60):
        runs = logistic_runs(rng, sizes, 2.0, 1)
        crossing = find_crossing(*runs, 0.8, n_bootstrap=300, random_state=trial)
        truth = 200 * (0.7 / 0.15) ** 0.5
        covered += crossing.interval[0] <= truth <= crossing.interval[1]
    assert "one run a size" in crossing.ci_method
    assert covered >= 53


def test_two_runs_alone_give_no_interval():
    crossing = find_crossing([10, 20], [0.0, 1.0], 0.5)
    assert crossing.interval == (0.0, math.inf)
    assert "unknown" in crossing.ci_method
    assert crossing.value == pytest.approx(math.sqrt(200))


def test_not_reached_and_below_min_are_bounds_not_numbers():
    never = find_crossing([10, 20, 40], [0.1, 0.2, 0.3], 0.9)
    assert (never.status, never.value, never.bound) == ("not_reached", math.inf, 40.0)
    assert never.interval[1] == math.inf
    assert str(never).startswith("> 40")
    always = find_crossing([10, 20, 40], [0.91, 0.95, 0.99], 0.9)
    assert (always.status, always.bound) == ("below_min", 10.0)
    assert math.isnan(always.value)
    assert str(always).startswith("<= 10")


def test_lower_is_better_mirrors_higher_is_better():
    d, s = logistic_runs(np.random.default_rng(0), np.geomspace(10, 1000, 9).round(), 2.0, 2)
    up = find_crossing(d, s, 0.7)
    down = find_crossing(d, -s, -0.7, greater_is_better=False)
    assert down.value == pytest.approx(up.value)
    assert down.interval == pytest.approx(up.interval)


def test_first_crossing_is_the_papers():
    sizes = [10, 10, 20, 20, 40, 40]
    scores = [0.1, 0.3, 0.95, 0.7, 0.95, 0.99]
    crossing = find_crossing(sizes, scores, 0.9, estimator="first_crossing", n_bootstrap=4000)
    assert crossing.value == 40.0  # the mean at 20 is 0.825
    # Half of the bootstrap curves take 0.95 at 20, the others cross at 40: mean 30, standard deviation 10.
    assert crossing.interval == pytest.approx((20.0, 40.0), abs=0.7)


def test_first_crossing_is_biased_low_on_a_fine_noisy_grid_and_isotonic_is_not():
    rng = np.random.default_rng(5)
    sizes = np.unique(np.geomspace(20, 2000, 60).round())
    truth = 200 * (0.7 / 0.15) ** (1 / 1.5)
    logs = {name: [] for name in ("first_crossing", "isotonic")}
    for trial in range(40):
        d, s = logistic_runs(rng, sizes, 1.5, 1, sd=0.08)
        for name, values in logs.items():
            crossing = find_crossing(d, s, 0.8, estimator=name, n_bootstrap=50, random_state=trial)
            values.append(math.log(crossing.value / truth))
    assert np.mean(logs["first_crossing"]) < -0.15
    assert abs(np.mean(logs["isotonic"])) < 0.06


def test_a_run_that_diverged_counts_as_a_failure():
    sizes, scores = [10, 20, 40, 40, 80], [0.1, 0.3, 0.9, np.nan, 0.95]
    with pytest.warns(UserWarning, match="1 of 5 runs have no finite score"):
        crossing = find_crossing(sizes, scores, 0.6)
    assert 40 < crossing.value < 80
    assert find_crossing([10, 20, 40, 80], [0.1, 0.3, 0.9, 0.95], 0.6).value < 40
    with pytest.warns(
        UserWarning, match="count as failures"
    ):  # a failure fails though every other run passes
        assert find_crossing([10, 20, 40], [np.nan, 0.9, 0.95], 0.6).status == "found"
    with pytest.raises(ValueError, match="no run has a finite score"):
        find_crossing([1, 2], [np.nan, np.inf], 0.5)


def test_a_score_that_falls_warns_about_the_learning_rate():
    sizes = np.repeat([10, 20, 40, 80, 160], 3)
    scores = np.repeat([0.2, 0.5, 0.9, 0.6, 0.3], 3) + np.tile([0.0, 0.01, -0.01], 5)
    with pytest.warns(UserWarning, match="falls from 0.9 at size 40 to 0.3 at 160.*learning rate"):
        crossing = find_crossing(sizes, scores, 0.8)
    assert crossing.notes


def test_json_round_trip_has_no_infinity():
    never = find_crossing([10, 20, 40], [0.1, 0.2, 0.3], 0.9)
    assert json.loads(never.to_json())["value"] is None
    back = Crossing.from_json(never.to_json())
    assert (back.status, back.bound) == ("not_reached", 40.0)


def test_noise_pools_the_seeds():
    rng = np.random.default_rng(0)
    sizes = np.repeat(np.arange(1, 41), 3)
    sd, dof, _ = Curve.from_runs(sizes, 0.3 * rng.standard_normal(len(sizes))).noise()
    assert dof == 80
    assert np.sqrt((sd**2).mean()) == pytest.approx(0.3, rel=0.15)
    uneven = Curve.from_runs([1, 1, 2, 2, 2, 2], [0.0, 2.0, 0.0, 0.0, 0.0, 0.0])
    assert uneven.noise()[0][0] > uneven.noise()[0][1] > 0  # shrunk towards each other, never to zero


@pytest.mark.parametrize(
    ("sizes", "scores", "match"),
    [([], [], "pair up"), ([1, 2], [0.1], "pair up"), ([0, 2], [0.1, 0.2], "positive")],
)
def test_bad_runs_are_refused(sizes, scores, match):
    with pytest.raises(ValueError, match=match):
        find_crossing(sizes, scores, 0.5)
    with pytest.raises(ValueError, match="n_bootstrap must be at least 1"):
        find_crossing([1, 2], [0.1, 0.9], 0.5, n_bootstrap=0)


def test_unknown_estimator_lists_the_choices():
    with pytest.raises(ValueError, match=r"isotonic.*Did you mean"):
        find_crossing([1, 2], [0, 1], 0.5, estimator="isotonik")


@given(score=st.floats(0.01, 1.0), n=st.integers(2, 9), below=st.integers(0, 3), repeats=st.integers(1, 3))
def test_equal_scores_at_the_threshold_reach_it_whatever_rounding_does(score, n, below, repeats):
    sizes = np.repeat(2.0 ** np.arange(below + n), repeats)
    scores = np.repeat([*np.linspace(0, score / 2, below), *[score] * n], repeats)
    found = find_crossing(sizes, scores, score)
    if below:
        assert (found.status, found.value) == ("found", pytest.approx(2.0**below))
    else:
        assert (found.status, found.bound) == ("below_min", 1.0)
    by_size = {int(d): [s for at, s in zip(sizes, scores) if at == d] for d in sizes}
    assert bracket_of(by_size, score) == (2 ** (below - 1) if below else None, 2**below)


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="threshold_se"):
        find_crossing([1, 2], [0.1, 0.9], 0.5, threshold_se=-0.1)
    with pytest.raises(ValueError, match="ci must be above 0"):
        find_crossing([1, 2], [0.1, 0.9], 0.5, ci=0.0)
