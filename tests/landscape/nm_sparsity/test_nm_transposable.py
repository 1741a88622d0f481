"""Masks of one pattern along rows and columns: feasible, and the best there are."""

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import LinearConstraint, linear_sum_assignment, milp

from lodim.landscape.nm_sparsity import nm_mask, transposable_mask, transposable_patterns


def blocks_of(x, m):
    return x.unflatten(1, (-1, m)).unflatten(0, (-1, m)).transpose(1, 2).reshape(-1, m, m)


@pytest.mark.parametrize(
    ("n", "m", "count"), [(1, 2, 2), (1, 3, 6), (2, 3, 6), (1, 4, 24), (2, 4, 90), (3, 4, 24)]
)
def test_all_patterns_are_listed_once(n, m, count):
    found = transposable_patterns(n, m)
    assert found.shape == (count, m, m)
    assert len(found.unique(dim=0)) == count
    assert set(found.unique().tolist()) == {0.0, 1.0}
    assert bool((found.sum(1) == n).all() and (found.sum(2) == n).all())


@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 3), (1, 4), (2, 4), (3, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_every_block_has_the_pattern_both_ways_and_transposing_commutes(n, m, dtype):
    W = torch.randn(3 * m, 5 * m, generator=torch.Generator().manual_seed(0)).to(dtype)
    mask = transposable_mask(W, n, m)
    assert (mask.shape, mask.dtype) == (W.shape, dtype)
    found = blocks_of(mask.float(), m)
    assert bool((found.sum(1) == n).all() and (found.sum(2) == n).all())
    kept = [(W.abs().double() * x.double()).sum() for x in (mask, transposable_mask(W.T, n, m).T)]
    assert kept[0] == pytest.approx(float(kept[1]), rel=1e-12)


def test_one_of_four_is_the_assignment_problem():
    W = torch.randn(8, 12, generator=torch.Generator().manual_seed(1))
    mask = blocks_of(transposable_mask(W, 1, 4), 4)
    for block, found in zip(blocks_of(W, 4), mask, strict=True):
        rows, columns = linear_sum_assignment(block.abs().numpy(), maximize=True)
        assert found[rows, columns].tolist() == [1.0] * 4


def test_two_of_four_is_the_integer_programme():
    W = torch.randn(8, 8, generator=torch.Generator().manual_seed(2)).double()
    sums = np.zeros((8, 16))
    for i, j in itertools.product(range(4), range(4)):
        sums[i, 4 * i + j] = sums[4 + j, 4 * i + j] = 1
    for block, found in zip(blocks_of(W, 4), blocks_of(transposable_mask(W), 4), strict=True):
        best = milp(
            -block.abs().flatten().numpy(),
            constraints=LinearConstraint(sums, 2, 2),
            integrality=np.ones(16),
            bounds=(0, 1),
        )
        assert float((block.abs() * found).sum()) == pytest.approx(-best.fun, rel=1e-9)


def test_it_keeps_at_most_what_a_pattern_of_rows_keeps_and_all_that_a_feasible_one_does():
    W = torch.randn(16, 16, generator=torch.Generator().manual_seed(3))
    free, both = nm_mask(W, 2, 4), transposable_mask(W)
    assert 0.85 * (W.abs() * free).sum() < (W.abs() * both).sum() < (W.abs() * free).sum()
    feasible = W * both
    assert torch.equal(transposable_mask(feasible), both)


@pytest.mark.parametrize(
    ("shape", "n", "m", "message"),
    [((8, 8), 2, 8, "at most 4"), ((8, 6), 2, 4, "do not divide"), ((8, 8), 4, 4, "n must be below m")],
)
def test_bad_input(shape, n, m, message):
    with pytest.raises(ValueError, match=message):
        transposable_mask(torch.ones(shape), n, m)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(value):
    with pytest.raises(ValueError, match="NaN or infinity"):
        transposable_mask(torch.full((4, 4), value))


def test_masks_stay_exact_under_autocast_and_whatever_is_done_to_the_patterns():
    W = torch.randn(32, 32, generator=torch.Generator().manual_seed(0))
    mask = transposable_mask(W)
    transposable_patterns(2, 4).zero_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(transposable_mask(W), mask)
