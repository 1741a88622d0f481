"""Fastfood against its definition: two full transforms around a permutation."""

import pytest
import scipy.linalg
import torch

from lodim.linalg import fwht
from lodim.sketch import Fastfood, FastfoodBlock

SIZES = [(1000, 37), (1024, 64), (257, 256), (9, 9), (300, 3), (2, 1), (1, 1)]


def permutation_of(projection):
    """The permutation before it was reduced modulo b."""
    return projection.target.long().argsort()


@pytest.mark.parametrize(("D", "d"), SIZES)
def test_tiled_first_transform_equals_the_two_transform_path(D, d):
    projection = Fastfood(D, d, seed=1, dtype=torch.float64)
    L, b = len(projection.gauss), len(projection.signs)
    v = torch.randn(3, d, dtype=torch.float64, requires_grad=True)
    padded = torch.nn.functional.pad(v, (0, L - d))
    signs = torch.nn.functional.pad(projection.signs, (0, L - b), value=1)
    naive = fwht(fwht(padded * signs)[:, permutation_of(projection)] * projection.gauss)[:, :D]
    fast = projection(v)
    torch.testing.assert_close(fast, naive, rtol=0, atol=1e-12)
    w = torch.randn_like(fast)
    gradients = [torch.autograd.grad((path * w).sum(), v, retain_graph=True)[0] for path in (fast, naive)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("D", "d"), SIZES)
def test_blocks_equal_their_definition(D, d):
    projection = FastfoodBlock(D, d, seed=1, dtype=torch.float64)
    blocks, b = projection.signs.shape
    assert blocks == -(-D // b)
    H = torch.tensor(scipy.linalg.hadamard(b), dtype=torch.float64)
    permutations = projection.source.long().view(blocks, b) - torch.arange(blocks)[:, None] * b
    stacked = torch.cat(
        [
            H
            @ torch.diag(gauss)
            @ torch.eye(b, dtype=torch.float64)[permutation]
            @ H
            @ torch.diag(signs.double())
            for gauss, permutation, signs in zip(projection.gauss, permutations, projection.signs)
        ]
    )
    torch.testing.assert_close(projection.matrix(), stacked[:D, :d], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("kind", "D", "d"), [(Fastfood, 256, 20), (FastfoodBlock, 192, 50)])
def test_columns_of_whole_blocks_have_exactly_unit_length(kind, D, d):
    norms = kind(D, d, seed=1, dtype=torch.float64).matrix().norm(dim=0)
    torch.testing.assert_close(norms, torch.ones_like(norms))


def test_every_block_is_permuted_and_inverted():
    projection = FastfoodBlock(100, 8, seed=1)
    inverse = projection.source.long()[projection.target.long()]
    assert torch.equal(inverse, torch.arange(len(inverse)))
    source = projection.source.view(-1, 8)
    assert torch.equal(source.sort(-1).values.flatten(), torch.arange(source.numel(), dtype=source.dtype))
    assert len({tuple((row % 8).tolist()) for row in source}) > 1


def test_entries_look_gaussian():
    """A sum of L random terms: kurtosis 3 where signs would have 1."""
    entries = Fastfood(2048, 64, seed=1, dtype=torch.float64).matrix().flatten()
    kurtosis = entries.pow(4).mean() / entries.square().mean().square()
    assert abs(kurtosis - 3) < 0.1
