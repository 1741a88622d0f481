"""Bounds from the number of trained numbers, and the relative gap."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lodim.landscape import compression_bound, dimension_bound, prefix_free_bits, relative_gap


@settings(max_examples=40)
@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(100, 10**6), st.floats(0, 0.5))
def test_the_bound_grows_with_d_and_falls_with_the_samples(d, more, n, error):
    bound = dimension_bound(error, d, n)
    assert error <= bound <= dimension_bound(error, d + more, n) <= 1
    assert dimension_bound(error, d, 2 * n) <= bound


def test_it_is_the_compression_bound_of_that_many_bits():
    by_hand = compression_bound(
        0.1, prefix_free_bits(200 * 4), 10_000, delta=0.01, kind="occam", selection_bits=3
    )
    assert dimension_bound(
        0.1, 200, 10_000, bits_per_number=4, delta=0.01, kind="occam", selection_bits=3
    ) == pytest.approx(by_hand)


def test_its_excess_is_of_the_order_of_the_root_of_d_over_n():
    excess = [
        dimension_bound(0.1, d, n, kind="occam") - 0.1
        for d, n in ((1000, 10**6), (4000, 10**6), (1000, 4 * 10**6))
    ]
    assert excess[1] / excess[0] == pytest.approx(2, rel=0.02)
    assert excess[2] / excess[0] == pytest.approx(0.5, rel=0.02)


def test_many_samples_leave_the_training_error():
    assert dimension_bound(0.1, 200, 10**9) == pytest.approx(0.1, abs=2e-3)


def test_relative_gap():
    assert relative_gap(1.0, 0.8) == pytest.approx(1.0)
    assert relative_gap(0.9, 0.8) == pytest.approx(0.5)
    assert relative_gap(0.8, 0.8) == 0
    assert math.isnan(relative_gap(1.0, 1.0))
    for scores in ((1.1, 0.8), (0.9, 1.1), (0.9, -math.inf)):
        with pytest.raises(ValueError, match="score must be"):
            relative_gap(*scores)


def test_bad_input():
    with pytest.raises(ValueError, match="d must be at least 1"):
        dimension_bound(0.1, 0, 100)
    with pytest.raises(ValueError, match="bits_per_number"):
        dimension_bound(0.1, 5, 100, bits_per_number=-1)
