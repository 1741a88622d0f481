"""What must hold of slice-wise physics: exact adjoints and norms, areas that sum up, frequencies in their place."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from scipy import ndimage, sparse
from scipy.spatial.distance import pdist

import lodim.generative.diffusion_mbir as system
from lodim.generative.diffusion_mbir import (
    Blur,
    CartesianMRI,
    Inpaint,
    LimitedAngle,
    MatrixOperator,
    Operator,
    ParallelBeam,
    cartesian_mask,
)
from lodim.generative.diffusion_mbir.differences import (
    difference,
    difference_adjoint,
    divergence,
    gradient,
    soft_threshold,
)

RNG = np.random.default_rng(0)
MASK = RNG.random((7, 10)) < 0.4
WEIGHTS = RNG.normal(size=(12, 20))
OPERATORS = {
    "views": lambda: ParallelBeam(9, n_views=4),
    "odd angles": lambda: ParallelBeam(8, angles=[0, 45, 90, 13.3, 400, -20], n_det=5, circle=True),
    "limited": lambda: LimitedAngle(8, 5, 60),
    "real MRI": lambda: CartesianMRI(MASK),
    "complex MRI": lambda: CartesianMRI(MASK, real=False),
    "blur": lambda: Blur(RNG.normal(size=(3, 5)), (2, 6, 4)),
    "inpaint": lambda: Inpaint(RNG.random((3, 4, 5)) < 0.5),
    "dense": lambda: MatrixOperator(WEIGHTS, (4, 5), (3, 4)),
    "sparse": lambda: MatrixOperator(sparse.csr_array(WEIGHTS * (WEIGHTS > 0)), (1, 4, 5)),
}
every = pytest.mark.parametrize("name", OPERATORS)


def draw(shape, dtype=torch.float64, seed=0, complex_=False):
    kind = dtype.to_complex() if complex_ else dtype
    return torch.randn(shape, dtype=kind, generator=torch.Generator().manual_seed(seed))


def pair(operator, n=3, dtype=torch.float64):
    x = draw((n, *operator.image_shape), dtype, 0, operator.complex_image)
    return x, draw((n, *operator.data_shape), dtype, 1, operator.complex_data)


def inner(a, b):
    return float((a.conj() * b).real.double().sum())


def dense(operator):
    """The matrix of an operator as a map of real numbers."""
    n = math.prod(operator.image_shape)
    unit = torch.eye(n, dtype=torch.float64)
    columns = torch.cat([unit, 1j * unit]) if operator.complex_image else unit
    answers = operator.forward(columns.reshape(-1, *operator.image_shape)).flatten(1)
    return (torch.view_as_real(answers).flatten(1) if answers.is_complex() else answers).T.numpy()


# ---------------------------------------------------------------------------------------------------- every operator


@every
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_the_adjoint_is_exact(name, dtype, tolerance):
    operator = OPERATORS[name]()
    x, y = pair(operator, dtype=dtype)
    Ax, Aty = operator.forward(x), operator.adjoint(y)
    assert Ax.dtype == (dtype.to_complex() if operator.complex_data else dtype)
    assert Aty.dtype == (dtype.to_complex() if operator.complex_image else dtype)
    scale = float(Ax.norm() * y.norm())
    assert abs(inner(Ax, y) - inner(x, Aty)) <= tolerance * scale
    torch.testing.assert_close(operator.normal(x), operator.adjoint(Ax))


@every
def test_the_norm_is_the_largest_singular_value(name):
    operator = OPERATORS[name]()
    assert operator.norm() == pytest.approx(np.linalg.svd(dense(operator), compute_uv=False)[0], rel=1e-6)


@every
def test_slices_do_not_know_of_each_other(name):
    operator = OPERATORS[name]()
    x, y = pair(operator, 4)
    for function, given in ((operator.forward, x), (operator.adjoint, y), (operator.pinv_init, y)):
        one_by_one = torch.cat([function(each[None]) for each in given])
        torch.testing.assert_close(function(given), one_by_one, rtol=1e-12, atol=1e-12)
        assert function(given[:0]).shape == (0, *one_by_one.shape[1:])


@every
def test_arrays_give_arrays_and_dtypes_are_kept(name):
    operator = OPERATORS[name]()
    x, _ = pair(operator)
    expected = operator.forward(x)
    found = operator.forward(np.asfortranarray(x.numpy()))
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, expected.numpy())
    if not operator.complex_image:
        half = operator.forward(x.half())
        assert half.real.dtype == torch.float32
        torch.testing.assert_close(half, expected.to(half.dtype), rtol=0.02, atol=0.02)
        ones = np.ones((2, *operator.image_shape), dtype=np.uint8)
        np.testing.assert_allclose(
            operator.forward(ones), operator.forward(ones.astype(float)), rtol=1e-5, atol=1e-5
        )


@every
def test_gradients_are_the_adjoint(name):
    operator = OPERATORS[name]()
    x, y = pair(operator)
    with torch.inference_mode():
        operator.forward(x)  # what is kept of it must serve later
    x.requires_grad_()
    ((operator.forward(x) - y).abs().square().sum() / 2).backward()
    torch.testing.assert_close(x.grad, operator.adjoint(operator.forward(x.detach()) - y))


@every
def test_copies_and_pickles_answer_alike(name):
    operator = OPERATORS[name]()
    x, _ = pair(operator)
    expected = operator.forward(x)
    for other in (copy.deepcopy(operator), pickle.loads(pickle.dumps(operator))):
        assert torch.equal(other.forward(x), expected)
        assert other.norm() == operator.norm()


@every
def test_wrong_input_is_named(name):
    operator = OPERATORS[name]()
    x, y = pair(operator)
    with pytest.raises(ValueError, match=r"x must have shape \(Z, C, H, W\)"):
        operator.forward(x[0])
    with pytest.raises(ValueError, match="y must have shape"):
        operator.adjoint(y[..., :-1])
    with pytest.raises(ValueError, match="y must be finite"):
        operator.adjoint(torch.where(y == y.flatten()[3], torch.nan, y))
    with pytest.raises(ValueError, match="x has 1 masked"):
        operator.forward(np.ma.masked_array(x.numpy(), np.arange(x.numel()).reshape(x.shape) == 3))
    with pytest.raises(TypeError, match="x must be dense"):
        operator.forward(x.to("meta"))
    if not operator.complex_data:
        with pytest.raises(ValueError, match="y must be real for this operator"):
            operator.adjoint(y * 1j)
    if not operator.complex_image:
        with pytest.raises(ValueError, match="x must be real for this operator"):
            operator.normal(x.numpy() * 1j)


def test_huge_numbers_whose_sum_overflows_are_finite():
    x = np.full((1, 1, 4, 4), 3e38, dtype=np.float32)
    assert np.isfinite(Inpaint(np.eye(4, dtype=bool)).forward(x)).all()


def test_many_slices_go_in_parts(monkeypatch):
    parts = []
    operator = Inpaint(np.ones((256, 256), dtype=bool))
    forward = operator._forward
    monkeypatch.setattr(operator, "_forward", lambda x: parts.append(len(x)) or forward(x))
    x = draw((37, 1, 256, 256), torch.float32)
    assert torch.equal(operator.forward(x), x)
    assert parts == [16, 16, 5]


def test_an_operator_of_ones_own_needs_two_methods():
    class Twice(Operator):
        def _forward(self, x):
            return 2 * x

        _adjoint = _forward

    operator = Twice((3, 4), (1, 3, 4))
    x = draw((2, 1, 3, 4))
    assert operator.norm() == pytest.approx(2)
    torch.testing.assert_close(operator.pinv_init(operator.forward(x)), x)
    assert repr(operator) == "Twice((1, 3, 4) -> (1, 3, 4))"


def test_the_module_names_its_source():
    assert "2211.10655" in system.__doc__


# ---------------------------------------------------------------------------------------------------- tomography


def disc(size, radius, parts=8):
    """The share of each pixel that a disc covers."""
    grid = (np.arange(size * parts) + 0.5) / parts - size / 2
    fine = np.hypot(*np.meshgrid(grid, grid)) <= radius
    return fine.reshape(size, parts, size, parts).mean((1, 3))[None, None]


def smooth_phantom(size):
    grid = (np.arange(size) - (size - 1) / 2) / size
    x, y = np.meshgrid(grid, grid)
    blobs = (
        np.exp(-((x - 0.1) ** 2 + (y + 0.05) ** 2) / 0.02)
        + np.exp(-((x + 0.15) ** 2 + (y - 0.2) ** 2) / 0.01) / 2
    )
    return blobs[None, None]


def bins(operator):
    return np.arange(operator.data_shape[1]) - (operator.data_shape[1] - 1) / 2


def test_a_disc_casts_the_shadow_of_its_chords():
    errors = []
    for size in (32, 64, 128):
        operator, radius = ParallelBeam(size, n_views=12), 0.35 * size
        chords = 2 * np.sqrt(np.clip(radius**2 - bins(operator) ** 2, 0, None))
        shadow = operator.forward(disc(size, radius))[0]
        errors.append(np.sqrt(np.mean((shadow - chords) ** 2)) / (2 * radius))
    assert errors[0] < 0.03
    assert errors[2] < errors[1] / 1.5 < errors[0] / 2


def test_each_view_has_the_sum_of_the_image():
    x = RNG.random((2, 1, 17, 17))
    y = ParallelBeam(17, angles=np.linspace(-200, 300, 40)).forward(x)
    np.testing.assert_allclose(y.sum(2), np.broadcast_to(x.sum((1, 2, 3))[:, None], (2, 40)), rtol=1e-12)


def test_right_angles_sum_columns_and_rows():
    x = RNG.random((1, 1, 6, 6))
    down, across, back = ParallelBeam(6, angles=[0, 90, 180], n_det=6).forward(x)[0]
    np.testing.assert_allclose(down, x[0, 0].sum(0), rtol=1e-12)
    np.testing.assert_allclose(across, x[0, 0].sum(1)[::-1], rtol=1e-12)
    np.testing.assert_allclose(back, down[::-1], rtol=1e-12)


def test_a_turned_image_is_seen_from_a_turned_angle():
    x, angles = RNG.random((1, 1, 11, 11)), np.array([0, 10, 37.5])
    turned = ParallelBeam(11, angles=angles + 90).forward(x)
    straight = ParallelBeam(11, angles=angles).forward(np.rot90(x, -1, (2, 3)).copy())
    np.testing.assert_allclose(turned, straight, atol=1e-12)


def test_a_short_detector_sees_the_middle():
    x = RNG.random((1, 1, 10, 10))
    whole, some = (ParallelBeam(10, n_views=7, n_det=n).forward(x) for n in (15, 7))
    np.testing.assert_allclose(some, whole[..., 4:-4], atol=1e-12)


def test_the_circle_hides_the_corners():
    operator, x = ParallelBeam(8, n_views=6, circle=True), RNG.random((1, 1, 8, 8))
    corners = (disc(8, 4) == 0) | (np.indices((8, 8)).sum(0) == 0)
    assert operator.data_shape == (6, 8)
    np.testing.assert_array_equal(operator.forward(np.where(corners, x, 0)), 0)
    assert (operator.adjoint(np.ones((1, 6, 8)))[0, 0][~operator.inside.reshape(8, 8)] == 0).all()


def test_views_spread_evenly_and_a_limited_arc_leaves_the_rest():
    np.testing.assert_allclose(ParallelBeam(4, n_views=4).angles, [0, 45, 90, 135])
    np.testing.assert_allclose(LimitedAngle(4, 3, 90).angles, [0, 30, 60])
    assert LimitedAngle(4).data_shape == (90, 6)


@pytest.mark.parametrize("filter", ["ramp", "shepp-logan", "cosine", "hann"])
@pytest.mark.parametrize("size", [64, 65])
def test_back_projection_of_many_views_is_the_image(size, filter):
    x, operator = smooth_phantom(size), ParallelBeam(size, n_views=180)
    found = operator.fbp(operator.forward(x), filter)
    assert 10 * np.log10(x.max() ** 2 / np.mean((found - x) ** 2)) > 30
    assert abs(found.mean() / x.mean() - 1) < 0.01
    if filter == "ramp":
        np.testing.assert_array_equal(found, operator.pinv_init(operator.forward(x)))


def test_filters_let_less_noise_through_in_order():
    operator = ParallelBeam(32, n_views=30)
    noise = RNG.normal(size=(4, *operator.data_shape))
    sizes = [operator.fbp(noise, name).std() for name in ("ramp", "shepp-logan", "cosine", "hann")]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.6 * sizes[0]


def test_views_weigh_the_angle_they_stand_for():
    even = ParallelBeam(4, n_views=6)._view_weights()
    np.testing.assert_allclose(even, np.pi / 6)
    doubled = ParallelBeam(4, angles=[0, 0, 60, 120])._view_weights()
    np.testing.assert_allclose(doubled, np.array([1, 1, 2, 2]) * np.pi / 6)
    np.testing.assert_allclose(
        LimitedAngle(4, 9, 90)._view_weights(), np.pi / 18
    )  # nobody stands for the wedge
    assert ParallelBeam(4, angles=[30])._view_weights() == pytest.approx(np.pi)
    x = smooth_phantom(48)
    uneven = ParallelBeam(48, angles=np.concatenate([np.arange(0, 90, 1), np.arange(90, 180, 3)]))
    assert np.abs(uneven.fbp(uneven.forward(x)) - x).max() < 0.03


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({}, ValueError, "either angles"),
        ({"angles": [0], "n_views": 2}, ValueError, "either angles"),
        ({"angles": []}, ValueError, "at least one"),
        ({"angles": [[0, 1]]}, ValueError, "one axis"),
        ({"angles": [0, np.nan]}, ValueError, "finite"),
        ({"n_views": 0}, ValueError, "n_views must be at least 1"),
        ({"n_views": 2, "n_det": 0}, ValueError, "n_det must be at least 1"),
        ({"n_views": 2.5}, TypeError, "n_views must be an integer"),
    ],
)
def test_wrong_geometry_is_named(options, error, said):
    with pytest.raises(error, match=said):
        ParallelBeam(8, **options)


def test_wrong_arcs_and_filters_are_named():
    with pytest.raises(ValueError, match="max_angle"):
        LimitedAngle(8, 4, 0)
    with pytest.raises(ValueError, match="Did you mean 'hann'"):
        ParallelBeam(4, n_views=2).fbp(np.zeros((1, 2, 6)), "han")


def test_scikit_image_projects_and_inverts_alike():
    transform = pytest.importorskip("skimage.transform")
    x, operator = (
        smooth_phantom(65),
        ParallelBeam(65, n_views=40, circle=True),
    )  # odd: both have the same centre
    x = x * (disc(65, 31) == 1)
    y = operator.forward(x)
    theirs = transform.radon(x[0, 0], theta=operator.angles, circle=True).T
    assert np.linalg.norm(y[0] - theirs) < 0.005 * np.linalg.norm(theirs)
    for name in ("ramp", "shepp-logan", "cosine", "hann"):
        found = operator.fbp(y, name)[0, 0]
        theirs = transform.iradon(y[0].T, theta=operator.angles, filter_name=name, circle=True)
        inner_disc = disc(65, 30)[0, 0] == 1
        assert np.linalg.norm((found - theirs)[inner_disc]) < 0.01 * np.linalg.norm(theirs)


def test_astra_has_the_same_strips():
    astra = pytest.importorskip("astra")
    operator = ParallelBeam(24, angles=[0, 13, 45, 90, 121, 170])
    beams = astra.create_proj_geom("parallel", 1.0, operator.data_shape[1], np.deg2rad(operator.angles))
    projector = astra.create_projector("strip", beams, astra.create_vol_geom(24, 24))
    theirs = astra.matrix.get(astra.projector.matrix(projector))
    assert abs(theirs - operator.matrix).max() < 1e-4  # of single precision


# ---------------------------------------------------------------------------------------------------- MRI


@pytest.mark.parametrize("shape", [(8, 8), (7, 9), (6, 5)])
def test_all_frequencies_are_a_rotation(shape):
    operator = CartesianMRI(np.ones(shape, dtype=bool), real=False)
    x, y = pair(operator)
    torch.testing.assert_close(operator.adjoint(operator.forward(x)), x)
    torch.testing.assert_close(operator.forward(operator.adjoint(y)), y)
    real = CartesianMRI(np.ones(shape, dtype=bool))
    torch.testing.assert_close(real.pinv_init(real.forward(x.real)), x.real)
    assert float(operator.forward(x).norm()) == pytest.approx(float(x.norm()))


@pytest.mark.parametrize("shape", [(8, 8), (7, 9)])
def test_the_mean_is_in_the_middle(shape):
    mask = np.zeros(shape, dtype=bool)
    mask[shape[0] // 2, shape[1] // 2] = True
    operator, x = CartesianMRI(mask), draw((2, 1, *shape))
    mean = x.mean((2, 3), keepdim=True).expand_as(x)
    torch.testing.assert_close(operator.normal(x), mean)
    assert operator.acceleration == mask.size


def test_a_real_slice_has_opposite_frequencies_alike():
    """Half of them, without their opposites, then have the norm of a half; a pair has 1."""
    mask = np.zeros((8, 8), dtype=bool)
    mask[4, 6] = True
    assert CartesianMRI(mask).norm() == pytest.approx(math.sqrt(0.5))
    mask[4, 2] = True
    assert CartesianMRI(mask).norm() == 1
    mask[:] = False
    mask[0, 0] = True  # its own opposite
    assert CartesianMRI(mask).norm() == 1


@pytest.mark.parametrize("kind", ["uniform1d", "gaussian1d", "gaussian2d", "poisson"])
def test_masks_keep_what_they_promise(kind):
    mask = cartesian_mask((40, 60), kind, 4, 0.1, random_state=3)
    assert mask.dtype == bool
    assert CartesianMRI(mask).acceleration == 4
    rows = slice(None) if kind.endswith("1d") else slice(18, 22)
    assert mask[rows, 27:33].all()
    assert (mask == mask[:1]).all() == kind.endswith("1d")
    np.testing.assert_array_equal(mask, cartesian_mask((40, 60), kind, 4, 0.1, random_state=3))
    assert (mask != cartesian_mask((40, 60), kind, 4, 0.1, random_state=4)).any()
    assert cartesian_mask((8, 9), kind, 1, 0.2, random_state=0).all()


def test_normal_masks_are_denser_in_the_middle_and_poisson_ones_keep_a_distance():
    def distance(kind):
        masks = [cartesian_mask((32, 32), kind, 4, 0, random_state=seed) for seed in range(20)]
        return np.mean([np.abs(np.argwhere(mask)[:, 1] - 16).mean() for mask in masks])

    assert distance("gaussian1d") < 0.8 * distance("uniform1d")
    assert distance("gaussian2d") < 0.8 * distance("poisson")
    assert pdist(np.argwhere(cartesian_mask((64, 64), "poisson", 8, 0, random_state=0))).min() >= 2
    assert CartesianMRI(cartesian_mask((10, 10), "uniform1d", 3, 0, random_state=0)).acceleration == 10 / 3


def test_wrong_masks_are_named():
    with pytest.raises(TypeError, match="use mask > 0"):
        CartesianMRI(np.ones((4, 4)))
    with pytest.raises(ValueError, match="mask must have shape"):
        CartesianMRI(np.ones(4, dtype=bool))
    with pytest.raises(ValueError, match="False everywhere"):
        Inpaint(np.zeros((4, 4), dtype=bool))
    with pytest.raises(ValueError, match="lower center_fraction, or acceleration to at most 2"):
        cartesian_mask((8, 8), "uniform1d", 4, 0.5)
    with pytest.raises(ValueError, match="kind must be one of"):
        cartesian_mask((8, 8), "radial")
    with pytest.raises(ValueError, match="acceleration must be at least 1"):
        cartesian_mask((8, 8), acceleration=0.5)


# ---------------------------------------------------------------------------------------------------- the others


def test_a_blur_is_a_convolution():
    kernel, x = RNG.normal(size=(3, 5)), RNG.normal(size=(2, 3, 8, 9))
    expected = ndimage.convolve(x, kernel[None, None], mode="constant")
    np.testing.assert_allclose(Blur(kernel, (3, 8, 9)).forward(x), expected, atol=1e-12)
    with pytest.raises(ValueError, match="odd length"):
        Blur(np.ones((2, 3)), (8, 8))
    with pytest.raises(ValueError, match=r"\(C, H, W\) or \(H, W\)"):
        Blur(np.ones((3, 3)), (8,))


def test_missing_pixels_are_a_projection():
    operator = Inpaint(torch.tensor(MASK))
    x = draw((2, 1, 7, 10))
    seen = operator.forward(x)
    assert torch.equal(operator.forward(seen), seen)
    assert torch.equal(operator.pinv_init(seen), seen)
    assert torch.equal(seen[:, :, MASK], x[:, :, MASK])


def test_own_operators_are_told_what_they_lack():
    class Half(Operator):
        def _forward(self, x):
            return x[..., : self.kept]

    half = Half((8, 8), (1, 8, 4))
    half.kept = 4
    x = np.ones((2, 1, 8, 8))
    assert half.forward(x).shape == (2, 1, 8, 4)
    with pytest.raises(NotImplementedError, match="Half needs _adjoint"):
        half.adjoint(half.forward(x))
    half.kept = 1  # which numbers would be spread from
    with pytest.raises(ValueError, match=r"Half._forward must return shape \(2, 1, 8, 4\)"):
        half.forward(x)
    with pytest.raises(ValueError, match=r"got \(2, 8, 8\); x\[:, None\] has"):
        half.forward(x[:, 0])


def test_a_matrix_multiplies_pixels_in_order():
    x = RNG.normal(size=(3, 1, 4, 5))
    expected = x.reshape(3, 20) @ WEIGHTS.T
    for matrix in (WEIGHTS, torch.from_numpy(WEIGHTS), sparse.coo_array(WEIGHTS)):
        np.testing.assert_allclose(MatrixOperator(matrix, (4, 5)).forward(x), expected, atol=1e-12)
    whole = sparse.coo_array(
        (np.array([1, 2, 3]), ([0, 0, 0], [4, 1, 4])), shape=(1, 20)
    )  # not in order, one twice
    np.testing.assert_allclose(
        MatrixOperator(whole, (4, 5)).forward(x)[:, 0], 4 * x[:, 0, 0, 4] + 2 * x[:, 0, 0, 1]
    )
    with pytest.raises(ValueError, match=r"matrix must have shape \(12, 16\)"):
        MatrixOperator(WEIGHTS, (4, 4))
    with pytest.raises(ValueError, match="finite"):
        MatrixOperator(WEIGHTS * np.inf, (4, 5))
    with pytest.raises(ValueError, match="finite real"):
        MatrixOperator(sparse.eye_array(20) * 1j, (4, 5))
    with pytest.raises(ValueError, match="matrix must have rows"):
        MatrixOperator(WEIGHTS[:0], (4, 5))


# ---------------------------------------------------------------------------------------------------- differences


@pytest.mark.parametrize("boundary", ["none", "circular"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_differences_have_exact_adjoints(boundary, dtype, tolerance):
    x = draw((5, 2, 3, 4), dtype)
    for axis in range(4):
        d = draw(x.shape, dtype, 1)
        error = inner(difference(x, axis, boundary), d) - inner(x, difference_adjoint(d, axis, boundary))
        assert abs(error) <= tolerance * float(x.norm() * d.norm())
    d = draw((3, *x.shape), dtype, 2)
    error = inner(gradient(x, (0, 2, 3), boundary), d) - inner(x, divergence(d, (0, 2, 3), boundary))
    assert abs(error) <= tolerance * float(x.norm() * d.norm())


def test_the_boundary_decides_on_the_last_difference():
    x = torch.tensor([1.0, 4.0, 9.0])
    assert difference(x).tolist() == [3, 5, 0]
    assert difference(x, boundary="circular").tolist() == [3, 5, -8]
    assert difference(torch.ones(4, 2)).abs().sum() == difference(torch.ones(1, 2)).abs().sum() == 0
    assert difference(torch.ones(0, 2)).shape == (0, 2)
    with pytest.raises(ValueError, match="boundary must be one of"):
        difference(x, boundary="wrap")


@pytest.mark.parametrize("joint", [False, True])
def test_the_threshold_minimises(joint):
    d = draw((3, 50))
    z = soft_threshold(d, 0.7, joint=joint)

    def cost(v):
        size = v.norm(dim=0) if joint else v.abs().sum(0)
        return 0.7 * size + (v - d).square().sum(0) / 2

    for seed in range(20):
        assert (cost(z) <= cost(z + 0.01 * draw(d.shape, seed=seed)) + 1e-12).all()
    assert (z == 0).any()
    assert torch.equal(soft_threshold(torch.zeros(3, 2), 0.0, joint=joint), torch.zeros(3, 2))
