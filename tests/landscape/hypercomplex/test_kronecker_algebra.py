"""Sums of Kronecker products: the algebras' tables, the nearest sum to a weight, spans."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lodim.landscape.hypercomplex import (
    algebra_matrices,
    kronecker_sum,
    nearest_kronecker_sum,
    span_residual,
)
from lodim.landscape.hypercomplex.algebra import block_rows, from_block_rows

TAPS = st.lists(st.integers(1, 3), max_size=3)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 5), u=st.integers(1, 4), v=st.integers(1, 4), kernel=TAPS)
def test_the_sum_equals_torchs_kronecker_products_tap_by_tap(n, u, v, kernel):
    A, F = torch.randn(n, n, n).double(), torch.randn(n, u, v, *kernel).double()
    H = kronecker_sum(A, F)
    assert H.shape == (n * u, n * v, *kernel)
    H, F = H.reshape(n * u, n * v, -1), F.reshape(n, u, v, -1)
    for tap in range(math.prod(kernel)):
        expected = sum(torch.kron(A[i], F[i, ..., tap].contiguous()) for i in range(n))
        torch.testing.assert_close(H[..., tap], expected)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 4), u=st.integers(1, 3), v=st.integers(1, 3), kernel=TAPS)
def test_blocks_as_rows_and_back(n, u, v, kernel):
    weight = torch.randn(n * u, n * v, *kernel)
    rows = block_rows(weight, n)
    assert torch.equal(from_block_rows(rows, n, (u, v, *kernel)), weight)
    assert torch.equal(rows[n - 1].reshape(u, v, *kernel), weight[:u, (n - 1) * v :])


def test_hamiltons_multiplication_table():
    one, i, j, k = algebra_matrices("quaternion")
    assert torch.equal(one, torch.eye(4).double())
    for square in (i @ i, j @ j, k @ k, i @ j @ k):
        assert torch.equal(square, -one)
    assert torch.equal(i @ j, k)
    assert torch.equal(j @ i, -k)


def test_the_quaternion_matrix_is_the_left_product_in_blocks():
    r, i, j, k = 2.0, 3.0, 5.0, 7.0
    H = kronecker_sum(algebra_matrices("quaternion"), torch.tensor([r, i, j, k]).double().reshape(4, 1, 1))
    assert H.tolist() == [[r, -i, -j, -k], [i, r, -k, j], [j, k, r, -i], [k, -j, i, r]]


def test_unknown_algebras_are_refused():
    with pytest.raises(ValueError, match="algebra must be one of 'complex', 'quaternion'"):
        algebra_matrices("quaternions")


@pytest.mark.parametrize("kernel", [(), (3, 3)])
def test_a_sum_of_n_products_is_its_own_nearest(kernel):
    H = kronecker_sum(torch.randn(3, 3, 3).double(), torch.randn(3, 4, 5, *kernel).double())
    near = nearest_kronecker_sum(H, 3)
    assert near.relative_error < 1e-12
    torch.testing.assert_close(kronecker_sum(near.A, near.F), H)
    torch.testing.assert_close(near.A.flatten(1).norm(dim=1), torch.full((3,), math.sqrt(3)).double())


def test_nothing_near_the_nearest_is_nearer():
    W = torch.randn(8, 12).double()
    near = nearest_kronecker_sum(W, 2)
    missed = float((W - kronecker_sum(near.A, near.F)).norm() / W.norm())
    assert missed == pytest.approx(near.relative_error, rel=1e-12)
    A, F = near.A.requires_grad_(), near.F.requires_grad_()
    grads = torch.autograd.grad((W - kronecker_sum(A, F)).square().sum(), (A, F))
    assert max(g.abs().max() for g in grads) < 1e-12  # stationary, and no direction goes down:
    for _ in range(50):
        A2, F2 = A + 0.1 * torch.randn_like(A), F + 0.1 * torch.randn_like(F)
        assert (W - kronecker_sum(A2, F2)).norm() > missed * W.norm()


def test_a_weight_without_structure_is_missed_by_the_known_share():
    for n in (2, 4):
        W = torch.randn(40 * n, 40 * n, generator=torch.Generator().manual_seed(n))
        assert nearest_kronecker_sum(W, n).relative_error == pytest.approx(math.sqrt(1 - 1 / n), abs=0.05)


def test_fixed_matrices_keep_their_algebra_and_get_the_least_squares_factors():
    Q, F = algebra_matrices("quaternion"), torch.randn(4, 3, 2).double()
    near = nearest_kronecker_sum(kronecker_sum(Q, F), 4, Q)
    assert torch.equal(near.A, Q)
    torch.testing.assert_close(near.F, F)
    W = torch.randn(12, 8).double()
    inner = (
        torch.einsum("iac,aucv->iuv", Q, W.reshape(4, 3, 4, 2)) / 4
    )  # the Q_i are orthogonal, of squared norm 4
    torch.testing.assert_close(nearest_kronecker_sum(W, 4, Q).F, inner)


def test_blocks_with_fewer_entries_than_n_and_a_weight_of_zeros():
    W = torch.randn(4, 4).double()
    near = nearest_kronecker_sum(W, 4)  # blocks of one entry: R is 16 x 1
    torch.testing.assert_close(kronecker_sum(near.A, near.F), W)
    assert torch.equal(near.F[1:], torch.zeros_like(near.F[1:]))
    assert nearest_kronecker_sum(torch.zeros(4, 4), 2).relative_error == 0


def test_n_must_divide_the_weight():
    with pytest.raises(ValueError, match="must divide both first axes of the weight, 6 and 4; got n=4"):
        nearest_kronecker_sum(torch.zeros(6, 4), 4)


def test_the_residual_depends_on_the_span_only():
    Q = algebra_matrices("quaternion")
    mixed = torch.einsum("ij,jac->iac", torch.randn(4, 4).double(), Q)
    assert span_residual(mixed, Q) < 1e-12
    without_k = Q[:3]
    assert span_residual(without_k, Q) == pytest.approx(1.0)


def test_the_nearest_sum_to_whole_numbers_is_not_cut_to_whole_numbers():
    weight = torch.arange(16).reshape(4, 4)
    near = nearest_kronecker_sum(weight, 2)
    torch.testing.assert_close(kronecker_sum(near.A, near.F), weight.float(), atol=1e-5, rtol=0)
