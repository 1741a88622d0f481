"""The law of draws with coarse numbers against what it must be, and against drawing."""

import math

import numpy as np
import pytest
import torch

from lodim.discrete import effective_temperature, truncated_gumbel_probs
from lodim.nets import sample_categorical


def entropy(p):
    return -float((p[p > 0] * np.log(p[p > 0])).sum())


def laws():
    rng = np.random.default_rng(0)
    return [rng.dirichlet([0.2] * k) for k in (2, 5, 40) for _ in range(5)]


@pytest.mark.parametrize("bits", [1, 4, 11, 24])
def test_it_is_a_law_in_which_the_likelier_gain_more(bits):
    for p in laws():
        q, order = truncated_gumbel_probs(p, bits), p.argsort()
        gain = q[order] / p[order]
        assert q.sum() == pytest.approx(1, abs=1e-12)
        assert (np.diff(gain) >= -1e-12).all()
        assert gain[-1] >= 1 - 1e-12
        assert entropy(q) <= entropy(p) + 1e-12


@pytest.mark.parametrize("bits", [3, 8])
def test_it_is_the_law_of_the_largest_of_cut_noise(bits):
    """Of numbers even up to the largest of so many bits; each frequency within 4.5 standard errors."""
    p, n = np.array([0.002, 0.02, 0.08, 0.2, 0.698]), 400_000
    u = np.random.default_rng(bits).random((n, 5)) * (1 - 2.0**-bits)
    found = np.bincount((np.log(p) - np.log(-np.log(u))).argmax(1), minlength=5) / n
    q = truncated_gumbel_probs(p, bits)
    assert (np.abs(found - q) < 4.5 * np.sqrt(q * (1 - q) / n) + 1e-12).all()
    assert np.abs(q - p).max() > 2e-3  # more than four of them


def test_numbers_on_a_grid_lose_less_than_the_law_says_and_more_than_at_one_bit_more():
    """Every pair of numbers k / 2^11, zero as half a step: a mass m keeps h / (e^h - 1) of itself, h = 2^-11 / m."""
    grid = np.arange(2**11) / 2**11
    noise = -np.log(-np.log(np.where(grid == 0, 2.0**-12, grid)))
    for mass in (1e-4, 4e-4, 2e-3):
        p, h = np.array([mass, 1 - mass]), 2.0**-11 / mass
        on_grid = np.searchsorted(noise, np.log(mass / (1 - mass)) + noise).mean() / 2**11
        assert on_grid / mass == pytest.approx(h / math.expm1(h), rel=0.05, abs=1e-3)
        assert truncated_gumbel_probs(p, 11)[0] < on_grid < truncated_gumbel_probs(p, 12)[0] * (1 + 1e-3)
        # and this is what is drawn, within four standard errors
        n, draws = 200_000, torch.Generator().manual_seed(0)
        drawn = sample_categorical(
            torch.from_numpy(p).log().expand(n, -1), generator=draws, dtype=torch.float16
        )
        assert float((drawn == 0).sum()) / n == pytest.approx(on_grid, abs=4 * math.sqrt(on_grid / n))


def test_many_bits_give_the_law_back_and_equal_masses_stay_equal():
    for p in laws():
        assert np.abs(truncated_gumbel_probs(p, 53) - p).max() < 1e-13 * len(p)
        even = np.full_like(p, 1 / len(p))
        for bits in (1, 8, 24):
            assert truncated_gumbel_probs(even, bits) == pytest.approx(even, rel=1e-9)
    # one draw's noise cannot lift a mass this far below the others
    assert truncated_gumbel_probs(np.array([1e-12, 1 - 1e-12]), 24)[0] == 0
    assert truncated_gumbel_probs(np.array([0.0, 1.0]), 4).tolist() == [0, 1]


def test_it_goes_row_by_row_and_returns_what_it_was_given():
    p = np.stack([law for law in laws() if len(law) == 5]).reshape(5, 1, 5)
    q = truncated_gumbel_probs(p, 8)
    assert q == pytest.approx(np.stack([[truncated_gumbel_probs(row[0], 8)] for row in p]), rel=1e-12)
    t = truncated_gumbel_probs(torch.from_numpy(p).float(), 8)
    assert (t.dtype, t.shape) == (torch.float64, (5, 1, 5))
    assert torch.allclose(t, torch.from_numpy(q), atol=1e-6)


@pytest.mark.parametrize(("n_steps", "left", "temperature"), [(16, 6.33, 0.989), (1024, 4.94, 0.882)])
def test_single_precision_cools_small_steps_over_a_large_vocabulary(n_steps, left, temperature):
    """Tokens as frequent as 1 / rank^1.1, uncovered with probability 2 / N: figures worked out beforehand."""
    p = 1 / np.arange(1, 50_258) ** 1.1
    p /= p.sum()
    assert entropy(p) == pytest.approx(6.465, abs=1e-3)
    q = truncated_gumbel_probs(np.append(p * 2 / n_steps, 1 - 2 / n_steps), 24)[:-1]
    q /= q.sum()
    assert entropy(q) == pytest.approx(left, abs=6e-3)
    assert effective_temperature(p, q) == pytest.approx(temperature, abs=6e-4)


@pytest.mark.parametrize("temperature", [0.2, 0.8, 1.0, 1.7, 20.0])
def test_a_tempered_law_tells_its_temperature(temperature):
    for p in laws():
        q = p ** (1 / temperature)
        q /= q.sum()
        if 1e-6 < entropy(q) < math.log(len(p)) - 1e-6:
            assert effective_temperature(p, q) == pytest.approx(temperature, rel=1e-6)


def test_bad_input_is_named():
    p = np.array([0.5, 0.3, 0.2])
    for wrong in (2 * p, np.array([1.5, -0.5]), np.array([np.nan, 1.0])):
        with pytest.raises(ValueError, match="p must"):
            truncated_gumbel_probs(wrong)
    with pytest.raises(ValueError, match="at least one category"):
        truncated_gumbel_probs(np.zeros((3, 0)))
    for bits in (0, 65):
        with pytest.raises(ValueError, match="bits"):
            truncated_gumbel_probs(p, bits)
    with pytest.raises(ValueError, match="no temperature of p"):
        effective_temperature(p, np.array([0.0, 1.0]))
    with pytest.raises(ValueError, match="no temperature of p"):
        effective_temperature(p, np.full(9, 1 / 9))
