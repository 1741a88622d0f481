"""Rows dealt to columns in turn."""

import torch

from lodim.sketch import Cyclic


def test_row_i_copies_entry_i_modulo_d_with_a_sign():
    D, d = 23, 5
    P = Cyclic(D, d, seed=1).matrix()
    rows, columns = P.nonzero(as_tuple=True)
    assert torch.equal(rows, torch.arange(D))
    assert torch.equal(columns, torch.arange(D) % d)
    sizes = torch.tensor([5.0, 5.0, 5.0, 4.0, 4.0])
    torch.testing.assert_close(P.abs().sum(1), sizes[torch.arange(D) % d] ** -0.5)


def test_signs_are_balanced():
    signs = Cyclic(100_000, 100, seed=1).signs.double()
    assert signs.mean().abs() < 5 / 100_000**0.5


def test_diagonal_of_the_isotropic_outer_product_when_d_does_not_divide_D():
    """The documented bias of fixed groups: D / (d n_j)."""
    D, d = 10, 7
    P = Cyclic(D, d, scale="isotropic").matrix()
    sizes = torch.tensor([2.0, 2, 2, 1, 1, 1, 1])[torch.arange(D) % d]
    torch.testing.assert_close((P @ P.T).diag(), D / (d * sizes))
