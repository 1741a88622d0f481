"""Success probability: known half-way points, separated runs, textbook intervals."""

from __future__ import annotations

import numpy as np
import pytest

from lodim.landscape.crossing import find_crossing
from lodim.landscape.success import logistic_crossing


@pytest.mark.parametrize("steepness", [1.5, 20.0])
def test_success_probability_finds_the_half_way_point(steepness):
    rng = np.random.default_rng(2)
    sizes = np.array([1, 2, 3, 4, 6, 8, 12, 16])
    d = np.repeat(sizes, 8)
    covered, values = 0, []
    for _ in range(40):
        success = rng.random(len(d)) < 1 / (1 + (d / 3.5) ** -steepness)
        crossing = find_crossing(d, success.astype(float), 0.5, estimator="success_probability")
        covered += crossing.interval[0] <= 3.5 <= crossing.interval[1]
        values.append(crossing.value)
    assert np.median(values) == pytest.approx(3.5, rel=0.08)
    assert covered >= 34


def test_success_probability_separated_runs_cross_in_the_gap():
    sizes = np.repeat([4, 8, 16, 32], 8)
    crossing = find_crossing(sizes, (sizes >= 16).astype(float), 0.5, estimator="success_probability")
    assert 8 < crossing.value < 16
    assert 6 < crossing.interval[0] < 11
    assert 12 < crossing.interval[1] < 22
    for flat, status in ((0.0, "not_reached"), (1.0, "below_min")):
        same = find_crossing(sizes, np.full(len(sizes), flat), 0.5, estimator="success_probability")
        assert same.status == status


def test_a_crossing_outside_the_sizes_is_a_bound():
    sizes, trials = np.array([10.0, 20.0, 40.0]), np.full(3, 20.0)
    value, interval = logistic_crossing(sizes, np.array([1, 2, 4]), trials)
    assert (value, interval[1]) == (np.inf, np.inf)
    value, interval = logistic_crossing(sizes, np.array([16, 18, 19]), trials)
    assert (value, interval[0]) == (0.0, 0.0)
