"""The plans: what they run, in which order, and that they end at the crossing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lodim.landscape.crossing import find_crossing
from lodim.landscape.objective_landscapes.size_search import bracket_of, bracket_waves, grid_sizes, grid_waves


def carry_out(plan, measure):
    """Run a plan to its end; returns its scores and the waves it asked for."""
    waves = [next(plan)]
    while True:
        try:
            waves.append(plan.send([measure(d, r) for d, r in waves[-1]]))
        except StopIteration as end:
            return end.value, waves


def step(at):
    return lambda d, r: float(d >= at)


@pytest.mark.parametrize("at", [1, 2, 3, 9, 10, 11, 37, 160, 999, 1000])
@pytest.mark.parametrize("lookahead", [1, 4])
def test_a_step_is_bracketed_within_the_resolution(at, lookahead):
    runs, _ = carry_out(bracket_waves(0.5, d_max=1000, lookahead=lookahead), step(at))
    low, high = bracket_of(runs, 0.5)
    assert high == at if at <= 10 else high / 1.1 <= at <= high
    if at == 1:
        assert low is None
    else:
        assert high - low == 1 or high / low <= 1.1
        assert len(runs[low]) == len(runs[high]) == 3


def test_waves_double_then_bisect_then_repeat_with_other_seeds():
    runs, waves = carry_out(bracket_waves(0.5, d_max=1000, resolution=1.3), step(50))
    assert waves[:5] == [[(10, 0)], [(20, 0)], [(40, 0)], [(80, 0)], [(57, 0), (160, 0)]]
    assert waves[5] == [(48, 0)]
    assert waves[6] == [(48, 1), (48, 2), (57, 1), (57, 2)]
    assert len(waves) == 7
    assert len(runs) == 7


def test_two_sizes_in_a_row_must_pass():
    lucky = {20: 1.0}  # one run at 20 passes by luck; the truth is 100
    runs, _ = carry_out(
        bracket_waves(0.5, d_max=1000),
        lambda d, r: lucky.get(d, float(d >= 100)) if r == 0 else float(d >= 100),
    )
    _, high = bracket_of(runs, 0.5)
    assert 100 <= high <= 110


def test_lookahead_makes_fewer_waves():
    _, one = carry_out(bracket_waves(0.5, d_max=10_000), step(700))
    _, many = carry_out(bracket_waves(0.5, d_max=10_000, lookahead=6), step(700))
    assert len(many) == 5
    assert len(one) > 10
    assert many[0] == [(d, 0) for d in (10, 20, 40, 80, 160, 320)]


def test_never_reached_stops_at_the_largest_size_with_every_seed():
    runs, _ = carry_out(bracket_waves(0.5, d_max=300), lambda d, r: 0.1)
    assert max(runs) == 300
    assert len(runs[300]) == 3
    assert bracket_of(runs, 0.5) == (300, None)


def test_reached_at_the_least_size_stops_there():
    runs, _ = carry_out(bracket_waves(0.5, d_max=300, d_min=4), lambda d, r: 0.9)
    assert min(runs) == 4
    assert bracket_of(runs, 0.5) == (None, 4)


def test_failed_runs_fail_and_runs_not_made_are_asked_for_again():
    runs, _ = carry_out(bracket_waves(0.5, d_max=100), lambda d, r: math.nan if d < 30 else 1.0)
    assert bracket_of(runs, 0.5)[1] in (30, 31, 32)
    plan = bracket_waves(0.5, d_max=100)
    assert plan.send(None) == [(10, 0)]
    assert plan.send([None]) == [(10, 0)]


def test_lower_is_better():
    runs, _ = carry_out(bracket_waves(0.5, d_max=1000, greater_is_better=False), lambda d, r: float(d < 100))
    assert 100 <= bracket_of(runs, 0.5, greater_is_better=False)[1] <= 110


def test_smaller_sizes_are_tried_where_only_the_largest_is_known_to_fail():
    """Scores that fall with the size, as of a model that memorises: the largest fails, small ones pass."""
    runs, _ = carry_out(
        bracket_waves(0.5, d_max=1000, known={1000: [0.4]}), lambda d, r: 0.8 if d < 300 else 0.4
    )
    assert bracket_of(runs, 0.5)[1] is not None
    _, waves = carry_out(bracket_waves(0.5, d_max=40), lambda d, r: 0.1)
    assert sorted({d for wave in waves for d, _ in wave}) == [10, 20, 40]  # none twice, and it ends


def test_known_runs_are_not_repeated():
    _, waves = carry_out(bracket_waves(0.5, d_max=1000, known={80: [1.0], 40: [0.0], 160: [1.0]}), step(50))
    asked = {d for wave in waves for d, r in wave if r == 0}
    assert asked
    assert asked.isdisjoint({10, 40, 80, 160})
    assert 20 in asked  # a second one that fails, or the interval has no lower end


@pytest.mark.parametrize("lookahead", [1, 4])
def test_whole_search_on_a_noisy_curve_covers(lookahead):
    """Runs are placed by looking at the scores; the interval must cover all the same."""
    rng = np.random.default_rng(0)
    covered, errors = 0, []
    for trial in range(60):
        measure = lambda d, r: 0.1 + 0.87 / (1 + (d / 60) ** -1.8) + 0.015 * rng.standard_normal()  # noqa: E731
        runs, _ = carry_out(
            bracket_waves(0.85, d_max=9000, lookahead=lookahead, scan_seeds=min(lookahead, 3)), measure
        )
        d, s = zip(*[(d, s) for d, scores in runs.items() for s in scores])
        crossing = find_crossing(d, s, 0.85, n_bootstrap=300, random_state=trial)
        truth = 60 * (0.75 / 0.12) ** (1 / 1.8)
        covered += crossing.interval[0] <= truth <= crossing.interval[1]
        errors.append(abs(math.log(crossing.value / truth)))
    assert np.median(errors) < 0.06
    assert covered >= 53


def test_grid_runs_everything_at_once():
    plan = grid_waves([5, 10], 2)
    assert next(plan) == [(5, 0), (5, 1), (10, 0), (10, 1)]
    with pytest.raises(StopIteration) as end:
        plan.send([0.1, None, 0.3, 0.4])
    assert end.value.value == {5: [0.1], 10: [0.3, 0.4]}
    assert grid_sizes(1, 100) == [1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100]
    assert grid_sizes(8, 33) == [8, 10, 15, 20, 30, 33]


@pytest.mark.parametrize(
    "bad", [{"d_max": 5, "d_min": 6}, {"d_max": 5, "resolution": 1.0}, {"d_max": 5, "lookahead": 0}]
)
def test_bad_parameters_are_refused(bad):
    with pytest.raises(ValueError, match=r"d_max|resolution|lookahead"):
        next(bracket_waves(0.5, **bad))
