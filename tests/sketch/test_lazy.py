"""Maps that are regenerated in every product."""

import math

import pytest
import torch

from lodim.sketch import AMS, DenseLazy


@pytest.mark.parametrize("make", [DenseLazy, AMS])
def test_blocks_of_any_size_give_one_map(make):
    whole = make(100, 7, seed=1).matrix()
    for block_numbers in (1, 50, 699, 10_000):
        torch.testing.assert_close(
            make(100, 7, seed=1, block_numbers=block_numbers).matrix(), whole, rtol=0, atol=1e-7
        )


def test_lazy_entries_are_independent_normals():
    D, d = 4000, 101
    X = DenseLazy(D, d, seed=1, dtype=torch.float64).matrix() * math.sqrt(D)
    n = D * d
    assert abs(X.mean()) < 5 / math.sqrt(n)
    assert abs(X.var() - 1) < 5 * math.sqrt(2 / n)
    assert abs(X.pow(3).mean()) < 5 * math.sqrt(15 / n)
    assert abs(X.pow(4).mean() - 3) < 5 * math.sqrt(96 / n)
    share = (X.abs() > 3).double().mean()
    tail = math.erfc(3 / math.sqrt(2))
    assert abs(share - tail) < 5 * math.sqrt(tail / n)
    for products in (X[:-1] * X[1:], X[:, :-1] * X[:, 1:], X[:, :50] * X[:, 51:101], X.square() - 1):
        between = products.mean(
            0
        )  # neighbouring rows, columns, the two halves of a Box-Muller pair, column sums
        assert between.abs().max() < 6 * products.std() / math.sqrt(len(products))


def test_lazy_signs():
    X = DenseLazy(2500, 60, law="rademacher", seed=1).matrix()
    torch.testing.assert_close(X.abs(), torch.full_like(X, 0.02))
    assert X.sign().mean().abs() < 5 / math.sqrt(X.numel())


def test_tug_of_war_signs_are_plus_minus_one_over_root_d():
    P = AMS(50, 16, scale="isotropic", seed=1).matrix()
    torch.testing.assert_close(P.abs(), torch.full((50, 16), 0.25))


def test_tug_of_war_squares_have_the_moments_of_independent_signs():
    """E <g, s>^2 = ||g||^2 and its variance 2 (||g||^4 - ||g||_4^4), which need no more than four-wise independence."""
    D, n = 30, 400
    g = torch.randn(D, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    signs = torch.cat([AMS(D, D, seed=s, dtype=torch.float64).matrix().sign() for s in range(n)], 1)
    squares = (g @ signs).square()
    variance = 2 * ((g @ g) ** 2 - g.pow(4).sum())
    columns = len(squares)
    assert abs(squares.mean() - g @ g) < 5 * (variance / columns).sqrt()
    assert abs(squares.var() / variance - 1) < 0.15
