"""The closed forms: known values, counts of spherical harmonics, monotony, invariance."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lodim.geometry import (
    cartpole_difficulty,
    combined_task,
    difficulty_sweep,
    generalization_difficulty,
    meta_difficulty,
    provided_bias,
    rl_difficulty,
)
from lodim.geometry.difficulty import TaskGeometry
from lodim.geometry.difficulty.formula import _basis

DIGITS = TaskGeometry(n=60_000, m=14, radius=17.179, delta=2.3987, ln_outputs=math.log(9), n_combinations=10)


def test_published_constants_give_published_orders():
    assert DIGITS.at(0.001).bits == pytest.approx(1.485e16, rel=1e-3)
    images = generalization_difficulty(0.1, 1_280_901, 48, 943.5923, 65, n_outputs=999, n_combinations=1000)
    assert images.bits == pytest.approx(3.583e41, rel=1e-3)
    house_numbers = generalization_difficulty(0.01, 73_257, 19, 50, 1.5767, 9, 10)
    photographs = generalization_difficulty(0.01, 50_000, 27, 52, 2.7506, 9, 10)
    episodes = 30 * 20.0**20
    characters = meta_difficulty(0.01, episodes, 29, 49.406, 5.4772, m_task=22)
    assert characters.bits == pytest.approx(1.79e145, rel=5e-3)
    order = [DIGITS.at(0.001), house_numbers, photographs, images, characters]
    assert np.all(np.diff([d.log10_bits for d in order]) > 0)


@pytest.mark.parametrize(
    ("obs_dim", "act_dim", "bits"), [(6, 2, 2.91e25), (15, 4, 7.61e58), (17, 6, 1.72e66)]
)
def test_policies(obs_dim, act_dim, bits):
    assert rl_difficulty(obs_dim, act_dim).bits == pytest.approx(bits, rel=3e-3)


@pytest.mark.parametrize(
    ("n_observations", "bits"), [(1, 4.41e9), (2, 3.33e17), (3, 1.46e25), (4, 4.69e32), (5, 1.19e40)]
)
def test_a_pole_seen_a_few_times(n_observations, bits):
    assert cartpole_difficulty(n_observations).bits == pytest.approx(bits, rel=3e-3)


@pytest.mark.parametrize("degree", [1, 2, 5, 9])
def test_the_basis_counts_spherical_harmonics(degree):
    # on a circle 2 K + 1 functions up to degree K, on a sphere (K + 1)^2
    for m, count in ((1, 2 * degree + 1), (2, (degree + 1) ** 2)):
        found, ln_basis = _basis(m, math.sqrt(degree * (degree + m - 1)))
        assert found == pytest.approx(degree)
        assert math.exp(ln_basis) == pytest.approx(count)


@pytest.mark.parametrize("m", [3, 17, 59])
@pytest.mark.parametrize("degree", [1, 4, 20])
def test_logarithms_agree_with_whole_numbers(m, degree):
    exact = math.comb(m + degree, m) + math.comb(m + degree - 1, m)
    _, ln_basis = _basis(m, math.sqrt(degree * (degree + m - 1)))
    assert ln_basis == pytest.approx(math.log(exact), rel=1e-12)


def test_huge_tasks_stay_finite_in_logarithms():
    found = generalization_difficulty(0.01, 1e6, 1000, 500.0, 0.1, 9, 10)
    assert found.bits == math.inf
    assert 308 < found.log10_bits < 10_000
    assert found.to_dict()["bits"] != found.bits  # no infinity in JSON
    assert not found.data_sufficient


@settings(max_examples=30, deadline=None)
@given(
    m=st.floats(2, 60),
    ratio=st.floats(2, 200),
    n=st.floats(100, 1e6),
    scale=st.floats(1e-3, 1e3),
    classes=st.integers(2, 50),
)
def test_monotone_and_free_of_the_unit(m, ratio, n, scale, classes):
    task = TaskGeometry(n, m, ratio, 1.0, math.log(classes - 1), classes)
    at = task.at(0.01).log10_bits
    if at == -math.inf:
        return
    if 2 * math.pi * ratio > 4 * m:  # frequencies well above the dimension
        assert replace(task, m=m + 1).at(0.01).log10_bits > at
    assert replace(task, delta=0.9).at(0.01).log10_bits > at
    assert replace(task, n=2 * n).at(0.01).log10_bits < at
    assert task.at(0.001).log10_bits > at
    moved = replace(task, radius=scale * ratio, delta=scale).at(0.01)
    assert moved.log10_bits == pytest.approx(at, rel=1e-9)


def test_enough_data_need_no_bias():
    few = generalization_difficulty(0.1, 100, 2, 1.0, 1.0, 1, 2)
    many = generalization_difficulty(0.1, 1e6, 2, 1.0, 1.0, 1, 2)
    assert few.bits > 0
    assert not few.data_sufficient
    assert many.data_sufficient
    assert (many.bits, many.log10_bits) == (0, -math.inf)
    assert "suffice" in str(many)


def test_bits_fall_by_what_each_sample_fixes():
    # while the second factor hardly moves, a sample takes D times its bits
    base = DIGITS.at(0.001)
    sweep = difficulty_sweep(base, n=[60_000, 61_000])
    bits = 10.0 ** sweep["log10_bits"]
    assert bits[0] > bits[1]
    with pytest.raises(ValueError, match="vary one of"):
        difficulty_sweep(base, x=[1])
    with pytest.raises(ValueError, match="which error"):
        difficulty_sweep(DIGITS, m=[3])
    errors = difficulty_sweep(DIGITS, eps=[0.1, 0.01])
    assert errors["log10_bits"].is_monotonic_increasing


def test_growth_is_exponential_in_the_dimension_and_polynomial_in_the_resolution():
    far = replace(
        DIGITS, delta=1e-6
    )  # frequencies far above the dimension: E grows by a factor M / m a dimension
    dims = difficulty_sweep(far, at_eps=0.001, m=range(4, 40))["log10_bits"].to_numpy()
    assert np.all(np.diff(dims) > 5)
    deltas = np.array([1.0, 0.1, 0.01, 0.001])
    logs = difficulty_sweep(DIGITS, at_eps=0.001, delta=deltas)["log10_bits"].to_numpy()
    assert np.diff(logs)[-1] == pytest.approx(DIGITS.m, abs=0.1)  # E ~ delta^-m


def test_pairs_of_tasks():
    both = combined_task(DIGITS, DIGITS)
    assert (both.n, both.m, both.n_combinations) == (3.6e9, 28, 100)
    assert both.radius == pytest.approx(math.sqrt(2) * DIGITS.radius)
    assert math.exp(both.ln_outputs) == pytest.approx(99)
    assert both.at(0.001).log10_bits > DIGITS.at(0.001).log10_bits + 10
    with pytest.raises(ValueError, match="only classification"):
        combined_task(DIGITS, replace(DIGITS, n_combinations=3))


def test_a_better_model_has_supplied_more():
    good, poor = provided_bias(DIGITS, 0.003), provided_bias(DIGITS.at(0.001), 0.08)
    assert good.log10_bits > poor.log10_bits
    with pytest.raises(ValueError, match="carry no task"):
        provided_bias(rl_difficulty(6, 2), 0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"n": 0}, "n must be"), ({"delta": 0.0}, "delta must be"), ({"radius": math.nan}, "radius must be"),
     ({"m": 0.5}, "m must be"), ({"ln_outputs": -1.0}, "at least one output")],
)  # fmt: skip
def test_bad_tasks_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        replace(DIGITS, **change)


@pytest.mark.parametrize("change", [{"radius": 1e300}, {"delta": 1e-300}, {"radius": 1e300, "delta": 1e-300}])
def test_frequencies_beyond_double_precision_are_refused(change):
    with pytest.raises(ValueError, match="delta is too far below radius"):
        replace(DIGITS, **change).at(0.01)


def test_a_sweep_varies_one_thing():
    with pytest.raises(TypeError, match=r"values that it takes|Iterable"):  # or what checks annotations
        difficulty_sweep(DIGITS, at_eps=0.1, n=3)
    with pytest.raises(ValueError, match="leave it out"):
        difficulty_sweep(DIGITS, at_eps=0.1, eps=[0.1])


def test_an_error_of_zero_is_refused():
    with pytest.raises(ValueError, match="eps=0"):
        DIGITS.at(0.0)
    with pytest.raises(ValueError, match="delta must be"):
        rl_difficulty(6, 2, delta=-1.0)
    with pytest.raises(ValueError, match="n_ways"):
        meta_difficulty(0.1, 10, 3, 1.0, 1.0, m_task=2, n_ways=1)
