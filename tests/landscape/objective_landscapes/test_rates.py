"""The learning rate that is kept: the present one, unless another's gain exceeds the noise."""

import math

import numpy as np
import pytest

from lodim.landscape.objective_landscapes.size_search import choose_multiplier, mean_score, next_beyond

GRID = (1.0, 3.0, 10.0)


def table(means, noise=0.0, sizes=(50, 60), n_seeds=3, seed=0):
    """Scores of each multiplier on the same cells: a mean, a level of the cell that all share, and noise."""
    rng = np.random.default_rng(seed)
    cells = [(d, k) for d in sizes for k in range(n_seeds)]
    level = {cell: rng.normal(scale=0.1) for cell in cells}
    return {g: {c: m + level[c] + noise * rng.normal() for c in cells} for g, m in means.items()}


@pytest.mark.parametrize("best", GRID)
def test_a_clear_gain_is_taken(best):
    means = {g: 0.9 if g == best else 0.8 for g in GRID}
    assert choose_multiplier(table(means, noise=0.01), 10.0) == best


def test_equal_rates_keep_the_first_in_most_draws_instead_of_a_third_of_them():
    means = dict.fromkeys(GRID, 0.9)
    kept = [choose_multiplier(table(means, 0.02, seed=s), 10.0) == 10.0 for s in range(400)]
    first_is_best = [
        max(GRID, key=lambda g: mean_score(scores[g])) == 10.0
        for scores in (table(means, 0.02, seed=s) for s in range(400))
    ]
    assert np.mean(first_is_best) == pytest.approx(1 / 3, abs=0.08)
    assert np.mean(kept) > 0.65


def test_one_seed_a_rate_pools_what_sizes_and_rates_leave():
    scores = {10.0: {(50, 0): 0.80, (60, 0): 0.90}, 3.0: {(50, 0): 0.84, (60, 0): 0.88}}
    assert (
        choose_multiplier(scores, 10.0) == 10.0
    )  # +0.04 and -0.02: a gain of 0.01 with a standard error of 0.03
    scores[3.0] = {(50, 0): 0.84, (60, 0): 0.935}
    assert choose_multiplier(scores, 10.0) == 3.0  # +0.04 and +0.035


def test_the_nearest_of_equals_is_chosen_not_the_furthest():
    scores = table({10.0: 0.5, 3.0: 0.9, 1.0: 0.9001}, noise=0.01, seed=4)
    assert choose_multiplier(scores, 10.0) == 3.0


def test_a_rate_that_fails_wildly_does_not_hide_a_gain_with_its_noise():
    scores = table({10.0: 0.90, 3.0: 0.93}, noise=0.002)
    rng = np.random.default_rng(0)
    scores[30.0] = {cell: 0.5 + 0.3 * rng.normal() for cell in scores[10.0]}
    assert choose_multiplier(scores, 10.0) == 3.0


def test_a_single_cell_says_nothing_of_noise_and_the_best_is_taken():
    assert choose_multiplier({10.0: {(None, 0): 0.9}, 3.0: {(None, 0): 0.901}}, 10.0) == 3.0
    assert choose_multiplier({10.0: {(None, 0): 0.9}, 3.0: {(None, 0): 0.9}}, 10.0) == 10.0


def test_runs_without_a_score_lose_and_all_failing_keeps_the_first():
    scores = table(dict.fromkeys(GRID, 0.9))
    scores[10.0][50, 0] = math.nan
    assert choose_multiplier(scores, 10.0) == 3.0
    assert choose_multiplier({g: {(None, 0): math.nan} for g in GRID}, 10.0) == 10.0


def test_means_weigh_sizes_equally():
    assert mean_score({(50, 0): 0.0, (50, 1): 0.0, (60, 0): 1.0}) == 0.5
    assert mean_score({}) == -math.inf


def test_only_cells_of_both_are_compared():
    scores = {10.0: {(50, 0): 0.9, (60, 0): 0.9}, 3.0: {(50, 0): 0.91, (60, 0): 0.91, (60, 1): 0.99}}
    assert choose_multiplier(scores, 10.0) == 3.0
    scores[3.0] = {(50, 0): 0.95, (60, 0): 0.86, (60, 1): 0.99}
    assert choose_multiplier(scores, 10.0) == 10.0


@pytest.mark.parametrize("end", [1.0, 9.0])
def test_a_grid_goes_on_geometrically_beyond_its_ends_only(end):
    new = next_beyond((3.0, 9.0, 1.0), end)
    assert new == {1.0: 1 / 3, 9.0: 27.0}[end]
    assert next_beyond((1.0, 3.0, 9.0), 3.0) is None
    assert next_beyond((end,), end) is None
