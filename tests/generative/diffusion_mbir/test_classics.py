"""What must hold of reconstruction without a prior: dense solutions, duality, limits of the weight, bad input."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.optimize import lsq_linear

from lodim.generative.diffusion_mbir import (
    ADMMTV,
    FBP,
    CartesianMRI,
    CGLeastSquares,
    Inpaint,
    MatrixOperator,
    ParallelBeam,
)
from lodim.validation import ConvergenceWarning

SHAPE = (3, 1, 6, 6)


def phantom(size=24):
    """A volume of two boxes."""
    x = np.zeros((5, 1, size, size))
    x[1:4, 0, size // 4 : size // 2, size // 3 : 2 * size // 3] = 1
    x[2:, 0, size // 2 : 3 * size // 4, size // 4 : size // 2] += 0.5
    return x


def small_problem(seed=0):
    """A matrix of norm 1 for 6 x 6 slices, data of three of them, and both as one dense problem of 108 unknowns."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(80, 36))
    A /= np.linalg.norm(A, 2)
    x = np.zeros(SHAPE)
    x[1:, :, 2:5, 1:4] = 1
    y = x.reshape(3, 36) @ A.T + 0.05 * rng.normal(size=(3, 80))
    return MatrixOperator(A, (6, 6)), y, np.kron(np.eye(3), A)


def dense_gradient():
    """The differences along slices, rows and columns as a matrix, written down one by one."""
    index, rows = np.arange(108).reshape(3, 6, 6), []
    for axis in range(3):
        for place in np.ndindex(3, 6, 6):
            row, following = np.zeros(108), list(place)
            following[axis] += 1
            if following[axis] < index.shape[axis]:
                row[index[tuple(following)]], row[index[place]] = 1, -1
            rows.append(row)
    return np.array(rows)


def dual_value(A, b, D, p):
    """A lower bound on the minimum, of any p in the dual norm's ball."""
    rest = A.T @ b - D.T @ p
    return (b @ b - rest @ np.linalg.solve(A.T @ A, rest)) / 2


def test_conjugate_gradients_reach_the_dense_solution():
    operator, y, _ = small_problem()
    expected = np.linalg.lstsq(operator.matrix, y.T, rcond=None)[0].T.reshape(SHAPE)
    np.testing.assert_allclose(CGLeastSquares(operator, 60).reconstruct(y), expected, atol=1e-6)
    wide = MatrixOperator(operator.matrix[:20], (6, 6))  # more unknowns than data: the solution of least norm
    least = np.linalg.lstsq(wide.matrix, y[:, :20].T, rcond=None)[0].T.reshape(SHAPE)
    np.testing.assert_allclose(CGLeastSquares(wide, 60).reconstruct(y[:, :20]), least, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_data_that_no_image_explains_give_none(dtype):
    """What is left of them is rounding, and the matrix is singular."""
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(20, 4)) @ rng.normal(size=(4, 16))
    y, basis = rng.normal(size=(2, 20)), np.linalg.svd(matrix)[0][:, :4]
    y[1] -= y[1] @ basis @ basis.T
    x = CGLeastSquares(MatrixOperator(matrix, (4, 4)), 100).reconstruct(y.astype(dtype)).reshape(2, -1)
    np.testing.assert_allclose(x, (np.linalg.pinv(matrix, rcond=1e-9) @ y.T).T, atol=1e-5)


def test_more_steps_fit_better_and_each_slice_is_a_system_of_its_own():
    operator, y, _ = small_problem()
    misfits = []
    for n in (1, 3, 10, 30):
        x = CGLeastSquares(operator, n).reconstruct(y)
        misfits.append(np.linalg.norm(operator.forward(x) - y))
        np.testing.assert_allclose(CGLeastSquares(operator, n).reconstruct(y[1:2]), x[1:2], atol=1e-10)
    assert misfits == sorted(misfits, reverse=True)


def test_total_variation_is_solved_to_the_dual_optimum():
    operator, y, A = small_problem()
    lam, b, D = 0.02, y.ravel(), dense_gradient()
    solver = ADMMTV(operator, lam, 0.2, max_iter=80, cg_steps=8)
    x = solver.reconstruct(y)
    found = solver.objective(x, y)
    # the dual is a least squares problem in a box
    root = np.linalg.inv(np.linalg.cholesky(A.T @ A))
    p = lsq_linear(root @ D.T, root @ A.T @ b, bounds=(-lam, lam), tol=1e-12).x
    assert found == pytest.approx(dual_value(A, b, D, p), rel=1e-4)
    x = x.ravel()
    assert found == pytest.approx(np.sum((A @ x - b) ** 2) / 2 + lam * np.abs(D @ x).sum(), rel=1e-9)


def test_isotropic_total_variation_too():
    operator, y, A = small_problem()
    lam, b, D = 0.02, y.ravel(), dense_gradient()
    solver = ADMMTV(operator, lam, 0.2, isotropic=True, max_iter=80, cg_steps=8)
    x = solver.reconstruct(y)
    found = solver.objective(x, y)
    # lengths rounded off at 0, by repeated weighting, give a feasible dual point
    v = np.zeros(108)
    for i in range(200):
        lengths = np.sqrt(np.square((D @ v).reshape(3, 108)).sum(0) + max(10.0 ** (-i // 10), 1e-11))
        v = np.linalg.solve(A.T @ A + lam * D.T @ (D / np.tile(lengths, 3)[:, None]), A.T @ b)
    lengths = np.sqrt(np.square((D @ v).reshape(3, 108)).sum(0) + 1e-11)
    assert found == pytest.approx(dual_value(A, b, D, lam * (D @ v) / np.tile(lengths, 3)), rel=1e-4)
    direct = np.sqrt(np.square((D @ x.ravel()).reshape(3, 108)).sum(0)).sum()
    assert found == pytest.approx(np.sum((A @ x.ravel() - b) ** 2) / 2 + lam * direct, rel=1e-9)


def test_limits_of_the_weight():
    operator, y, _ = small_problem()
    least = np.linalg.lstsq(operator.matrix, y.T, rcond=None)[0].T.reshape(SHAPE)
    x = ADMMTV(operator, 0, 1e-3, max_iter=10, cg_steps=30).reconstruct(y)
    np.testing.assert_allclose(x, least, atol=1e-3)
    flat = ADMMTV(operator, 10.0, 10.0, max_iter=40).reconstruct(y)
    column = operator.matrix.sum(1)
    np.testing.assert_allclose(flat, (y @ column).sum() / (3 * column @ column), atol=1e-3)


@pytest.mark.parametrize("isotropic", [False, True])
def test_the_answer_does_not_depend_on_the_operators_unit(isotropic):
    operator, y, _ = small_problem()
    scaled = MatrixOperator(1000 * operator.matrix, (6, 6))
    one, other = (ADMMTV(each, 0.02, 0.1, isotropic=isotropic, max_iter=5) for each in (operator, scaled))
    np.testing.assert_allclose(one.reconstruct(y), other.reconstruct(1000 * y), atol=1e-9)
    assert one.objective(phantom(6)[:3], y) == pytest.approx(other.objective(phantom(6)[:3], 1000 * y))


def test_few_views_of_boxes_are_best_seen_by_total_variation():
    x = phantom()
    operator = ParallelBeam(24, n_views=10)
    y = operator.forward(x)
    errors = [
        np.linalg.norm(each.reconstruct(y) - x)
        for each in (ADMMTV(operator, 1e-3, 0.05), CGLeastSquares(operator, 20), FBP(operator))
    ]
    assert errors[0] < 0.5 * errors[1]
    assert errors[1] < errors[2]


def test_slices_are_coupled_by_total_variation():
    """Noise that differs from slice to slice is averaged away along them."""
    clean = np.repeat(phantom(12)[2:3], 4, axis=0)
    noisy = clean + 0.2 * np.random.default_rng(0).normal(size=clean.shape)
    solver = ADMMTV(Inpaint(np.ones((12, 12), dtype=bool)), 0.1, 0.5, max_iter=20, cg_steps=4)
    together = solver.reconstruct(noisy)
    alone = np.concatenate([solver.reconstruct(each[None]) for each in noisy])
    errors = [np.linalg.norm(x - clean) for x in (together, alone, noisy)]
    assert errors[0] < 0.7 * errors[1] < 0.7 * errors[2]
    assert np.abs(np.diff(together, axis=0)).mean() < 0.2 * np.abs(np.diff(alone, axis=0)).mean()


def test_complex_slices_are_solved_as_such():
    mask = np.ones((8, 8), dtype=bool)
    mask[:, :2] = mask[0] = False
    operator = CartesianMRI(mask, real=False)
    x = torch.zeros(3, 1, 8, 8, dtype=torch.complex128)
    x[:, :, 2:6, 2:5] = 1 + 1j
    found = ADMMTV(operator, 1e-3, 0.02, max_iter=30, cg_steps=5).reconstruct(operator.forward(x))
    assert found.dtype == torch.complex128
    assert float((found - x).norm()) < 0.5 * float((operator.pinv_init(operator.forward(x)) - x).norm())
    filled = CGLeastSquares(operator, 5).reconstruct(operator.forward(x))
    torch.testing.assert_close(filled, operator.pinv_init(operator.forward(x)))


def test_iterations_that_did_not_converge_warn_where_asked():
    operator, y, _ = small_problem()
    solver = ADMMTV(operator, 0.02, 0.2, max_iter=100, tol=1e-3)
    solver.reconstruct(y)
    assert len(solver.residuals_) < 100
    assert max(solver.residuals_[-1]) <= 1e-3
    with pytest.warns(ConvergenceWarning, match="raise max_iter"):
        ADMMTV(operator, 0.02, 0.1, max_iter=3, tol=1e-3).reconstruct(y)


@pytest.mark.parametrize("solver", [FBP, CGLeastSquares, ADMMTV])
def test_kinds_and_dtypes_are_kept_and_wrong_data_named(solver):
    operator = ParallelBeam(8, n_views=5)
    make = partial(
        solver, operator, **{FBP: {}, CGLeastSquares: {"steps": 5}, ADMMTV: {"max_iter": 5}}[solver]
    )
    y = operator.forward(
        torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    )
    expected = make().reconstruct(y)
    assert expected.dtype == torch.float64
    assert expected.shape == (2, 1, 8, 8)
    single = make().reconstruct(y.float().numpy())
    assert isinstance(single, np.ndarray)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected.numpy(), atol=1e-4)
    assert make().reconstruct(y[:0]).shape == (0, 1, 8, 8)
    with pytest.raises(ValueError, match="y must have shape"):
        make().reconstruct(y[0])
    with pytest.raises(ValueError, match="y must be finite"):
        make().reconstruct(y * torch.nan)


@pytest.mark.parametrize("isotropic", [False, True])
def test_gradients_of_the_measurements_flow_through(isotropic):
    operator, draw = ParallelBeam(6, n_views=4), torch.Generator().manual_seed(0)
    x, weights = torch.rand(2, 3, 1, 6, 6, generator=draw, dtype=torch.float64)
    y = operator.forward(x).requires_grad_()
    way = torch.rand(y.shape, generator=draw, dtype=torch.float64)
    solver = ADMMTV(operator, 0.02, 0.2, isotropic=isotropic, max_iter=6, cg_steps=30)

    def value(data):
        return (weights * solver.reconstruct(data)).sum()

    (gradient,) = torch.autograd.grad(value(y), y)
    slope = (value(y.detach() + 1e-6 * way) - value(y.detach() - 1e-6 * way)) / 2e-6
    assert float((gradient * way).sum()) == pytest.approx(float(slope), rel=1e-6)


def test_wrong_settings_are_named():
    operator = ParallelBeam(8, n_views=5)
    with pytest.raises(ValueError, match="rho must be above 0"):
        ADMMTV(operator, 0.1, 0)
    with pytest.raises(ValueError, match="lam must be at least 0"):
        ADMMTV(operator, -1)
    with pytest.raises(ValueError, match="steps must be at least 1"):
        CGLeastSquares(operator, 0)
    with pytest.raises(ValueError, match="filter must be one of"):
        FBP(operator, "box")
    with pytest.raises(TypeError, match="operator must be a ParallelBeam"):
        FBP(Inpaint(np.ones((8, 8), dtype=bool)))
