"""The bounds against hand-computed values, their limits and their monotonicity."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lodim.landscape.objective_landscapes.bounds import BOUND_KINDS, compression_bound

KINDS = (*BOUND_KINDS, "best")


@pytest.mark.parametrize(
    ("bits", "error", "expected"),
    [
        (1000, 0.1, {"occam": 0.1762, "catoni": 0.1527, "convex": 0.1615, "mcallester": 0.1768}),
        (5000, 0.02, {"occam": 0.1900, "catoni": 0.1077, "convex": 0.1532, "mcallester": 0.1903}),
        (1, 0.0, {"occam": 0.0055, "catoni": 0.0005, "convex": 0.0003, "mcallester": 0.0111}),
        (100, 0.5, {"occam": 0.5245, "catoni": 0.5281, "convex": 0.5375, "mcallester": 0.5263}),
    ],
)
@pytest.mark.parametrize("kind", BOUND_KINDS)
def test_known_values(bits, error, expected, kind):
    assert compression_bound(error, bits, 60_000, kind=kind) == pytest.approx(expected[kind], abs=5e-5)


def test_catoni_is_the_minimum_over_gamma():
    error, bits, n, alpha = 0.1, 1000.0, 60_000, 1e-4
    g = np.linspace(0, math.log(40 * n), 2_000_000)
    gamma = np.exp(g)
    q = error + (1 + alpha) / gamma * (
        bits * math.log(2) + math.log(20) + 2 * np.log(2 + g / math.log(1 + alpha))
    )
    brute = ((1 - np.exp(-gamma / n * q)) / (1 - np.exp(-gamma / n))).min()
    assert compression_bound(error, bits, n, kind="catoni") == pytest.approx(brute, abs=1e-9)


def test_convex_lambda_is_the_minimiser():
    error, bits, n = 0.05, 3000.0, 10_000
    cost = bits * math.log(2) + math.log(20) + math.log(2 * math.sqrt(n))
    lam = np.linspace(1e-4, 1.9, 1_000_000)
    brute = (error / (1 - lam / 2) + cost / (n * lam * (1 - lam / 2))).min()
    assert compression_bound(error, bits, n, kind="convex") == pytest.approx(brute, rel=1e-6)


def test_best_pays_for_taking_the_least():
    for error, bits in ((0.1, 1000), (0.0, 1), (0.5, 100)):
        best = compression_bound(error, bits, 60_000, kind="best")
        quarter = [compression_bound(error, bits, 60_000, kind=k, delta=0.05 / 4) for k in BOUND_KINDS]
        assert best == min(quarter)
        assert best > min(compression_bound(error, bits, 60_000, kind=k) for k in BOUND_KINDS)


@given(
    kind=st.sampled_from(KINDS),
    error=st.floats(0, 0.9),
    bits=st.floats(1, 1e5),
    n=st.integers(10, 10**6),
    more=st.floats(1.01, 3),
)
def test_monotone(kind, error, bits, n, more):
    bound = compression_bound(error, bits, n, kind=kind)
    assert error < bound <= 1
    slack = 1e-9
    assert compression_bound(error, bits * more, n, kind=kind) >= bound - slack
    assert compression_bound(min(error * more, 1.0), bits, n, kind=kind) >= bound - slack
    assert compression_bound(error, bits, int(n * more) + 1, kind=kind) <= bound + slack
    assert compression_bound(error, bits, n, kind=kind, delta=0.01) >= bound - slack


@pytest.mark.parametrize("kind", KINDS)
def test_limit_of_many_samples(kind):
    assert compression_bound(0.1, 1000, 10**12, kind=kind) == pytest.approx(0.1, abs=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_selection_is_paid_in_bits(kind):
    paid = compression_bound(0.1, 1000, 10_000, kind=kind, selection_bits=24.5)
    assert paid == compression_bound(0.1, 1024.5, 10_000, kind=kind)


@pytest.mark.parametrize("kind", KINDS)
def test_hopeless_bounds_are_one(kind):
    assert compression_bound(0.5, 1e6, 100, kind=kind) == pytest.approx(1.0, abs=1e-12)


def test_bounds_hold_for_a_finite_class():
    # 2^8 random classifiers with true error 1/2: the one with the least training error costs 8 bits.
    rng = np.random.default_rng(0)
    best = (rng.binomial(400, 0.5, size=(2000, 256)) / 400).min(1)
    errors, times = np.unique(best, return_counts=True)
    for kind in KINDS:
        wrong = np.array([compression_bound(error, 8, 400, kind=kind) < 0.5 for error in errors])
        assert times[wrong].sum() / times.sum() <= 0.05


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((1.5, 10, 100), {}, "train_error"),
        ((-0.1, 10, 100), {}, "train_error"),
        ((float("nan"), 10, 100), {}, "train_error"),
        ((0.1, -1, 100), {}, "bits"),
        ((0.1, 10, 0), {}, "n must"),
        ((0.1, 10, 100), {"delta": 0.0}, "delta"),
        ((0.1, 10, 100), {"delta": 1.0}, "delta"),
        ((0.1, 10, 100), {"kind": "catony"}, "catoni"),
        ((0.1, 10, 100), {"selection_bits": -1.0}, "selection_bits"),
    ],
)
def test_bad_input(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        compression_bound(*arguments, **options)
