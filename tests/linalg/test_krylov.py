"""Solvers against direct solutions and theory: finite termination, SOR's closed form, batches, gradients."""

import math

import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.sparse.linalg import aslinearoperator, cg

from lodim.linalg import SolveResult, conjugate_gradient, gmres, minres, sor, ssor_preconditioner
from lodim.validation import ConvergenceWarning


def laplacian(n):
    return scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n)).tocsr()


def grid(n):
    eye = scipy.sparse.eye_array(n)
    return (scipy.sparse.kron(laplacian(n), eye) + scipy.sparse.kron(eye, laplacian(n))).tocsr()


def draw(n, seed=0):
    return np.random.default_rng(seed).normal(size=n)


@pytest.mark.parametrize("solve", [conjugate_gradient, minres, gmres, sor])
@pytest.mark.parametrize("started", [False, True])
def test_every_solver_solves_and_says_how(solve, started):
    A, b = grid(6), draw(36)
    x0 = draw(36, 1) if started else None
    found = solve(A, b, x0, tol=1e-9)
    assert found.converged
    np.testing.assert_allclose(found.x, np.linalg.solve(A.toarray(), b), atol=1e-7)
    start = b if x0 is None else b - A @ x0
    assert found.residual == pytest.approx(np.linalg.norm(b - A @ found.x) / np.linalg.norm(start), rel=1e-9)
    assert len(found.residual_norms) == found.n_iter + 1
    assert found.residual_norms[0] == pytest.approx(1)
    assert found.residual_norms[-1] == found.residual <= 1e-9 < found.residual_norms[-2]
    assert found.n_matvec > found.n_iter
    assert SolveResult.from_json(found.to_json()) == found
    assert "converged: relative residual" in str(found)
    again = solve(A, b, found.x, tol=1.0)  # a start that will do
    assert again.n_iter <= 1


@pytest.mark.parametrize("solve", [conjugate_gradient, minres, gmres, sor])
def test_what_does_not_converge_says_so(solve):
    with pytest.warns(ConvergenceWarning, match=r"left a relative residual of .* after 3 iterations"):
        found = solve(grid(8), draw(64), tol=1e-10, max_iter=3, **({"restart": 3} if solve is gmres else {}))
    assert not found.converged
    assert "did not converge" in str(found)
    zero = solve(grid(3), np.zeros(9))
    assert (zero.n_iter, zero.converged) == (0, True)
    np.testing.assert_array_equal(zero.x, 0)


def test_conjugate_gradients_are_scipys_and_tensors_the_same():
    A, b = grid(8), draw(64)
    D = scipy.sparse.diags_array(1 / A.diagonal())
    for steps in (1, 7, 15):
        expected, _ = cg(A, b, rtol=0, atol=0, maxiter=steps)
        found = conjugate_gradient(A, b, tol=0, max_iter=steps)
        np.testing.assert_allclose(found.x, expected, rtol=1e-12)
        tensors = conjugate_gradient(
            torch.from_numpy(A.toarray()), torch.from_numpy(b), tol=0, max_iter=steps
        )
        np.testing.assert_allclose(tensors.x, expected, rtol=1e-8)
        np.testing.assert_allclose(tensors.residual_norms, found.residual_norms, rtol=1e-6)
        assert found.n_iter == tensors.n_iter == steps
    assert (
        conjugate_gradient(A, b, preconditioner=D).n_iter == conjugate_gradient(A, b).n_iter
    )  # D is constant


def test_as_many_steps_as_eigenvalues():
    Q = np.linalg.qr(draw((30, 30)))[0]
    A = (Q * np.repeat([1.0, 5, 40], 10)) @ Q.T
    assert conjugate_gradient(A, draw(30), tol=1e-10).n_iter == 3
    assert conjugate_gradient(A, draw(30), preconditioner=np.linalg.inv(A), tol=1e-10).n_iter == 1
    A = (Q * np.repeat([-2.0, 1, 40], 10)) @ Q.T
    assert minres(A, draw(30), tol=1e-8).n_iter == 3
    assert gmres(A + np.triu(draw((30, 30), 1)), draw(30), restart=30, tol=1e-8).n_iter <= 30
    exact = np.linalg.inv(A)
    assert gmres(A, draw(30), preconditioner=lambda v: exact @ v).n_iter == 1


def test_fixed_numbers_of_steps_warn_of_nothing(recwarn):
    b = draw(5)
    found = conjugate_gradient(
        np.eye(5), b, tol=0, max_iter=20
    )  # done after one: no division of zero by zero
    np.testing.assert_array_equal(found.x, b)
    found = conjugate_gradient(2 * torch.eye(5), torch.from_numpy(b).float(), tol=0, max_iter=20)
    torch.testing.assert_close(found.x, torch.from_numpy(b).float() / 2)
    assert not recwarn.list


def test_an_indefinite_matrix_is_noticed():
    A = torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64))
    with pytest.warns(ConvergenceWarning, match="not of the solver's kind"):
        found = conjugate_gradient(A, torch.ones(2, dtype=torch.float64))
    assert not found.converged
    assert bool(found.x.isfinite().all())
    with pytest.warns(ConvergenceWarning):
        assert not conjugate_gradient(A.numpy(), np.ones(2)).converged


def test_a_batch_is_its_systems_and_each_stops_by_itself():
    roots = torch.from_numpy(draw((3, 2, 8, 12)))
    A, b = roots @ roots.mT, torch.from_numpy(draw((3, 2, 8), 1))
    b[1, 1] = 0
    found = conjugate_gradient(A, b, preconditioner=lambda r: r / A.diagonal(dim1=-2, dim2=-1), tol=1e-10)
    torch.testing.assert_close(found.x, torch.linalg.solve(A, b), rtol=1e-7, atol=1e-9)
    assert found.residual_norms.shape == (found.n_iter + 1, 3, 2)
    one = conjugate_gradient(A[2, 0], b[2, 0], preconditioner=torch.diag(1 / A[2, 0].diagonal()), tol=1e-10)
    torch.testing.assert_close(one.x, found.x[2, 0], rtol=1e-8, atol=1e-10)
    assert one.n_iter <= found.n_iter
    assert float(found.residual_norms[:, 1, 1].max()) == 0


def test_gradients_through_the_steps():
    root = torch.from_numpy(draw((4, 6)))
    b = torch.from_numpy(draw(4, 1)).requires_grad_()
    shift = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    A = root @ root.T

    def solve(b, shift):
        return conjugate_gradient(lambda v: v @ A + shift * v, b, tol=1e-12).x

    assert torch.autograd.gradcheck(solve, (b, shift))


def test_complex_and_low_precision():
    root = draw((6, 9)) + 1j * draw((6, 9), 1)
    A, b = root @ root.conj().T, draw(6) + 1j * draw(6, 1)
    expected = np.linalg.solve(A, b)
    np.testing.assert_allclose(conjugate_gradient(A, b, tol=1e-10).x, expected, rtol=1e-8)
    tensors = conjugate_gradient(torch.from_numpy(A), torch.from_numpy(b), tol=1e-10)
    np.testing.assert_allclose(tensors.x, expected, rtol=1e-8)
    single = conjugate_gradient(grid(5).astype(np.float32), draw(25).astype(np.float32), tol=1e-4)
    assert single.x.dtype == np.float32
    half = conjugate_gradient(torch.eye(4).bfloat16() * 2, torch.ones(4).bfloat16(), tol=1e-2)
    assert half.x.tolist() == [0.5] * 4


def test_sor_is_gauss_seidel_at_one_and_fastest_at_the_closed_form():
    A, b = laplacian(25), draw(25)
    with pytest.warns(ConvergenceWarning):
        one = sor(A, b, max_iter=1)
    np.testing.assert_allclose(one.x, np.linalg.solve(np.tril(A.toarray()), b))
    best = 2 / (1 + math.sin(math.pi / 26))
    counts = [sor(A, b, omega=omega, tol=1e-10, max_iter=4000).n_iter for omega in (1.0, best, 1.97)]
    assert counts[1] < counts[2] / 2 < counts[0] / 2


def test_ssor_is_its_formula_and_saves_iterations():
    A, omega = grid(5), 1.3
    D, L = np.diag(A.diagonal()), np.tril(A.toarray(), -1)
    T = D + omega * L
    M = T @ np.linalg.inv(D) @ T.T / (omega * (2 - omega))
    preconditioner = ssor_preconditioner(A, omega)
    np.testing.assert_allclose(preconditioner @ np.eye(25), np.linalg.inv(M), atol=1e-14)
    big, b = grid(20), draw(400)
    plain = conjugate_gradient(big, b)
    quick = conjugate_gradient(big, b, preconditioner=ssor_preconditioner(big, 1.7))
    assert quick.n_iter < 0.6 * plain.n_iter


def test_kinds_of_matrix():
    A, b = grid(4), draw(16)
    b.flags.writeable = False
    expected = conjugate_gradient(A, b)
    for same in (A.toarray(), aslinearoperator(A), lambda v: A @ v):
        np.testing.assert_allclose(conjugate_gradient(same, b).x, expected.x, rtol=1e-12)
    rotation = np.array([[2, 1j], [-1j, 2]])
    np.testing.assert_allclose(
        conjugate_gradient(rotation, np.ones(2)).x, np.linalg.solve(rotation, np.ones(2))
    )
    assert conjugate_gradient(2.0 * torch.eye(2).double(), torch.tensor([2, 4])).x.tolist() == [1, 2]
    assert conjugate_gradient(np.eye(3), np.array([1, 2, 3])).x.tolist() == [1, 2, 3]


def test_errors():
    A, b = grid(2), np.ones(4)
    with pytest.raises(ValueError, match="A must be square and match b"):
        conjugate_gradient(A, np.ones(5))
    with pytest.raises(ValueError, match="preconditioner must be square"):
        gmres(A, b, preconditioner=np.eye(5))
    with pytest.raises(TypeError, match=r"A must be an array, .* got Tensor"):
        minres(torch.eye(2), torch.ones(2))
    with pytest.raises(ValueError, match="finite vector"):
        minres(A, np.full(4, np.nan))
    with pytest.raises(ValueError, match="two axes of 5"):
        conjugate_gradient(torch.eye(4), torch.ones(5))
    with pytest.raises(ValueError, match="finite"):
        conjugate_gradient(torch.eye(2), torch.tensor([1.0, torch.inf]))
    for solve in (conjugate_gradient, gmres, minres, sor):
        with pytest.raises(ValueError, match="A must be an array, its entries of one length"):
            solve([[1.0], [1.0, 2.0]], b)
    with pytest.raises(ValueError, match=r"A must return 4 entries, as b has, got shape \(\)"):
        conjugate_gradient(len, b)
    with pytest.raises(ValueError, match="A must be finite"):
        sor(np.full((4, 4), np.nan), b)
    np.testing.assert_array_equal(sor(A, b.astype(np.longdouble)).x, sor(A, b).x)
    with pytest.raises(ValueError, match="omega must lie between 0 and 2"):
        sor(A, b, omega=2.0)
    with pytest.raises(ValueError, match="row 1 has a zero on the diagonal"):
        ssor_preconditioner(np.array([[1.0, 1], [1, 0]]))


@pytest.mark.parametrize("solve", [conjugate_gradient, minres, gmres, sor])
@pytest.mark.parametrize("unit", [2.0**-600, 2.0**600])
def test_units_of_the_right_hand_side_do_not_matter(solve, unit):
    A, b = grid(4), draw(16)
    expected, found = solve(A, b), solve(A, unit * b)
    assert found.converged
    np.testing.assert_allclose(found.x / unit, expected.x, rtol=1e-12)
    if solve is conjugate_gradient:
        both = solve(torch.from_numpy(A.toarray()), torch.from_numpy(np.stack([b, unit * b])))
        torch.testing.assert_close(both.x[1] / unit, both.x[0], rtol=1e-12, atol=0)
        assert both.converged


def test_half_precision_is_summed_in_double():
    A, b = torch.from_numpy(grid(3).toarray()), torch.from_numpy(1000 * draw(9))  # squares overflow
    found = conjugate_gradient(A.half(), b.half(), tol=1e-2)
    assert found.converged
    torch.testing.assert_close(found.x.double(), torch.linalg.solve(A, b), rtol=0.05, atol=20)
    assert minres(grid(3), b.half().numpy(), tol=1e-8).converged  # its own iterates are no halves


def test_complex_right_hand_sides_and_hermitian_matrices():
    A, b = grid(4), draw(16) + 1j * draw(16, 1)
    turned = scipy.sparse.diags_array([0.5j, -0.5j], offsets=[1, -1], shape=(16, 16))
    hermitian = (4 * scipy.sparse.eye_array(16) + laplacian(16) + turned).tocsr()
    np.testing.assert_allclose(A @ sor(A, b, tol=1e-8).x, b, atol=1e-6)
    found = conjugate_gradient(A, b, preconditioner=ssor_preconditioner(A), tol=1e-8)
    np.testing.assert_allclose(A @ found.x, b, atol=1e-6)
    quick = conjugate_gradient(hermitian, b, preconditioner=ssor_preconditioner(hermitian))
    assert quick.n_iter < conjugate_gradient(hermitian, b).n_iter
    for system in ((A, b), (hermitian, b.real)):
        with pytest.raises(ValueError, match="real systems only"):
            minres(*system)


def test_tensors_of_mixed_kinds_meet_in_the_wider():
    A, b = torch.tensor([[2.0, 1], [1, 2]]), torch.tensor([2, 4])
    assert conjugate_gradient(A, b).x.tolist() == pytest.approx([0, 2])
    assert conjugate_gradient(A.double(), b.float()).x.dtype == torch.float64
    assert conjugate_gradient(A.to(torch.complex64), b.float()).x.dtype == torch.complex64
    assert conjugate_gradient(A, torch.zeros(0, 2)).converged
    for other in (A.numpy(), scipy.sparse.csr_array(A.numpy())):
        with pytest.raises(TypeError, match="tensor or a function where b is a tensor"):
            conjugate_gradient(other, b)


@pytest.mark.parametrize("x0", [np.ones((4, 1)), np.ones(3), np.full(4, np.nan)])
def test_starts_and_masks_are_checked(x0):
    for solve in (conjugate_gradient, minres, gmres, sor):
        with pytest.raises(ValueError, match="x0 must be a finite vector of 4"):
            solve(grid(2), np.ones(4), x0)
        with pytest.raises(ValueError, match="masked"):
            solve(grid(2), np.ma.masked_array(np.ones(4), [0, 1, 0, 0]))
    with pytest.raises(ValueError, match="x0 must be finite"):
        conjugate_gradient(torch.eye(4), torch.ones(4), torch.full((4,), torch.nan))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_fixed_number_of_steps_does_not_explode_on_a_singular_matrix(dtype):
    """Once the residual is rounding, directions may lie where A is 0: also when started at the solution."""
    rows = torch.from_numpy(draw((8, 20))).to(dtype)
    projection = torch.linalg.pinv(rows) @ rows
    for A in (projection, rows.T @ rows):
        b = A @ torch.from_numpy(draw(20, seed=1)).to(dtype)
        x = conjugate_gradient(A, b, tol=0, max_iter=100).x
        least = torch.linalg.pinv(A, rtol=1e-4, hermitian=True) @ b
        torch.testing.assert_close(x, least, rtol=0, atol=3e4 * torch.finfo(dtype).eps)
        again = conjugate_gradient(A, b, x, tol=0, max_iter=100).x
        torch.testing.assert_close(again, x, rtol=0, atol=3e4 * torch.finfo(dtype).eps)
