"""Holm's correction: closed under the definition, and its family-wise error whatever the dependence."""

import numpy as np
import pytest

from lodim.metrics import holm


def test_each_step_is_the_definition():
    p = np.random.default_rng(0).uniform(size=9)
    adjusted, m = holm(p), len(p)
    for level in (0.01, 0.1, 0.3, 0.9):
        rejected = np.zeros(m, dtype=bool)
        for i, j in enumerate(np.argsort(p)):  # step down until the first that stays
            if p[j] * (m - i) > level:
                break
            rejected[j] = True
        assert ((adjusted <= level) == rejected).all()
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(1, m * p)).all()  # Bonferroni


def test_false_alarms_keep_the_level_even_where_tests_depend():
    rng = np.random.default_rng(1)
    for copies in (1, 5):  # five tests of which each stands five times
        p = np.repeat(rng.uniform(size=(2000, 10)), copies, axis=1)
        alarms = np.mean([holm(row).min() < 0.05 for row in p])
        assert alarms < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)


def test_one_test_is_left_as_it_is_and_none_is_nothing():
    assert holm([0.2]).tolist() == [0.2]
    assert holm([]).tolist() == []


def test_what_is_no_p_value_is_refused():
    for bad in ([1.2], [-0.1], [np.nan], [[0.1]]):
        with pytest.raises(ValueError, match="p_values"):
            holm(bad)
