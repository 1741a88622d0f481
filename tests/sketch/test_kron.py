"""Rounded double Kronecker product."""

import pytest
import torch

from lodim.sketch import Kronecker


@pytest.mark.parametrize(("D", "d"), [(100, 9), (90, 7), (37, 37), (6, 5), (2, 2), (1, 1)])
def test_equals_permuted_rows_of_the_kronecker_product(D, d):
    projection = Kronecker(D, d, seed=1, dtype=torch.float64)
    full = torch.kron(projection.left, projection.right)
    torch.testing.assert_close(projection.matrix(), full[projection.rows.long(), :d])


def test_orthonormal_when_nothing_is_cut_off():
    P = Kronecker(144, 20, seed=1, dtype=torch.float64).matrix()
    torch.testing.assert_close(P.T @ P, torch.eye(20, dtype=torch.float64), rtol=0, atol=1e-12)


def test_factors_fit_every_size():
    for D in range(1, 60):
        for d in range(1, D + 1):
            projection = Kronecker(D, d)
            (m1, r1), (m2, r2) = projection.left.shape, projection.right.shape
            assert m1 * m2 >= D
            assert r1 * r2 >= d
            assert r1 <= m1
            assert r2 <= m2
