"""The algebra: products against tensorly, their cheapest order, ranks and budgets."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lodim.landscape.flora import (
    contraction_order,
    ranks_for_budget,
    resolve_ranks,
    tucker_numbers,
    tucker_product,
)
from lodim.landscape.flora.tucker import product_cost

SHAPES = [(7, 5), (6, 5, 3), (6, 4, 3, 2), (5, 4, 3, 2, 3)]


def draw(shape, ranks, seed=0):
    g = torch.Generator().manual_seed(seed)
    core = torch.randn(ranks, dtype=torch.float64, generator=g)
    return core, [torch.randn(i, j, dtype=torch.float64, generator=g) for i, j in zip(shape, ranks)]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_product_is_tensorlys(shape):
    tensorly = pytest.importorskip("tensorly")
    core, factors = draw(shape, tuple(max(1, s - 2) for s in shape))
    with tensorly.backend_context("numpy"):
        expected = tensorly.tucker_to_tensor((core.numpy(), [U.numpy() for U in factors]))
    np.testing.assert_allclose(tucker_product(core, factors).numpy(), expected, atol=1e-12)


def test_of_a_matrix_it_is_the_explicit_product():
    core, (U, V) = draw((7, 5), (3, 2))
    torch.testing.assert_close(tucker_product(core, [U, V]), U @ core @ V.T)


@pytest.mark.parametrize("shape", SHAPES)
def test_its_gradient_agrees_with_finite_differences(shape):
    core, factors = draw(shape, tuple(min(2, s) for s in shape))
    inputs = [t.requires_grad_() for t in (core, *factors)]
    assert torch.autograd.gradcheck(lambda G, *U: tucker_product(G, U), inputs)


def test_factors_that_do_not_fit_are_refused():
    core, (U, V) = draw((7, 5), (3, 2))
    with pytest.raises(ValueError, match="do not fit a core"):
        tucker_product(core, [V, U])


def cost_of(order, shape, ranks):
    entries, total = math.prod(ranks), 0
    for n in order:
        total += entries * shape[n]
        entries = entries // ranks[n] * shape[n]
    return total


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=2, max_size=5))
@settings(max_examples=60, deadline=None)
def test_no_order_of_modes_is_cheaper(pairs):
    ranks, shape = [min(p) for p in pairs], [max(p) for p in pairs]
    best = min(cost_of(order, shape, ranks) for order in itertools.permutations(range(len(shape))))
    assert cost_of(contraction_order(shape, ranks), shape, ranks) == best == product_cost(shape, ranks)


@pytest.mark.parametrize(
    ("r", "ranks"),
    [(8, (8, 8, 3, 2)), ((16, 4), (16, 4, 3, 2)), ((16, 4, 2), (16, 4, 2, 2)), ((9, 8, 1, 7), (9, 8, 1, 2))],
)
def test_ranks_of_kernel_modes_are_capped(r, ranks):
    assert resolve_ranks((64, 32, 3, 2), r) == ranks


def test_numpy_integers_are_ranks():
    assert resolve_ranks((4, 4), np.int64(2)) == (2, 2)


@pytest.mark.parametrize(
    ("shape", "r", "message"),
    [
        ((64, 8, 3, 3), 16, "larger than mode 2 of 'conv'"),
        ((8, 64), 16, "larger than mode 1"),
        ((8, 8), 0, "at least 1"),
        ((8, 8), (2, 2, 2), "3 ranks"),
        ((8,), 2, "at least two"),
    ],
)
def test_ranks_that_do_not_fit_name_the_layer_and_the_mode(shape, r, message):
    with pytest.raises(ValueError, match=message):
        resolve_ranks(shape, r, name="'conv'")


@given(st.lists(st.integers(1, 40), min_size=2, max_size=5), st.integers(0, 4000))
@settings(max_examples=60, deadline=None)
def test_a_budget_is_kept_and_no_rank_could_be_raised(shape, above):
    budget = tucker_numbers(shape, [1] * len(shape)) + above
    ranks = ranks_for_budget(shape, budget)
    assert tucker_numbers(shape, ranks) <= budget
    for mode, size in enumerate(shape):
        more = [*ranks]
        more[mode] += 1
        assert ranks[mode] == size or tucker_numbers(shape, more) > budget


def test_a_budget_below_ranks_of_one_is_refused():
    assert ranks_for_budget((10, 6), 17) == (1, 1)
    with pytest.raises(ValueError, match="at least 17 numbers"):
        ranks_for_budget((10, 6), 16)
