"""One or s random signs a row."""

import pytest
import torch

from lodim.sketch import CountSketch, SparseEmbedding


@pytest.mark.parametrize(("D", "d"), [(100, 7), (64, 64), (9, 8), (5, 1)])
def test_one_sign_a_row_and_groups_of_even_size(D, d):
    P = CountSketch(D, d, seed=1).matrix()
    assert torch.equal((P != 0).sum(1), torch.ones(D, dtype=torch.long))
    sizes = (P != 0).sum(0)
    assert sizes.min() == D // d
    assert sizes.max() == -(-D // d)


def test_groups_and_signs_are_random():
    D, d, n = 12, 3, 600
    samples = torch.stack([CountSketch(D, d, seed=s).matrix() for s in range(n)])
    same_group = ((samples[:, 0] != 0) & (samples[:, 1] != 0)).any(-1).double().mean()
    expected = (D / d - 1) / (D - 1)  # of the other rows, those that share the group
    assert abs(same_group - expected) < 5 * (expected * (1 - expected) / n) ** 0.5
    assert samples.sign().sum(-1).mean(0).abs().max() < 5 / n**0.5


@pytest.mark.parametrize(("D", "d", "s"), [(40, 12, 3), (40, 13, 4), (7, 5, 5), (30, 6, 1)])
def test_s_signs_a_row_in_s_blocks(D, d, s):
    projection = SparseEmbedding(D, d, s=s, seed=1)
    P = projection.matrix()
    assert torch.equal((P != 0).sum(1), torch.full((D,), s))
    start = 0
    for block in projection.blocks:
        part = P[:, start : start + block.d]
        assert torch.equal((part != 0).sum(1), torch.ones(D, dtype=torch.long))
        torch.testing.assert_close(part.T @ part, torch.eye(block.d))
        start += block.d
    assert start == d


def test_blocks_are_independent():
    a, b = SparseEmbedding(200, 20, s=2, seed=1).matrix().split(10, 1)
    assert not torch.equal(a != 0, b != 0)


def test_default_number_of_signs_fits_small_d():
    assert SparseEmbedding(10, 2).s == 2
    assert SparseEmbedding(10, 8).s == 4
    with pytest.raises(ValueError, match="s must be at least 1 and at most 3, got 4"):
        SparseEmbedding(10, 3, s=4)
