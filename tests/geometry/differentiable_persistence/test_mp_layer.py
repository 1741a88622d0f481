"""Gradients of the layers against central differences, and the symmetries they must have."""

import numpy as np
import pytest
import torch

from lodim.geometry.differentiable_persistence import RipsDiagram, SignedMeasureLayer, linear
from lodim.geometry.multiparameter_persistence import (
    FunctionRips,
    SignedMeasureImage,
    cubical_complex,
    graph_complex,
)

STEP = 1e-6


def cloud(n=12, seed=0, d=2):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, d)))


def central(function, x):
    gradient = torch.zeros_like(x)
    for i in range(x.numel()):
        up, down = x.clone(), x.clone()
        up.view(-1)[i] += STEP
        down.view(-1)[i] -= STEP
        gradient.view(-1)[i] = (function(up) - function(down)) / (2 * STEP)
    return gradient


def autograd(function, x):
    x = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(function(x), x)
    return gradient


wave = linear(lambda p: torch.sin(1.3 * p[:, 0]) * torch.cos(0.7 * p[:, 1] + 0.2))


@pytest.mark.parametrize("function", ["kde", "dtm", lambda x: x[:, 0] ** 2 + x[:, 1]])
@pytest.mark.parametrize(("invariant", "degree"), [("hilbert", 0), ("hilbert", 1), ("euler", 0)])
def test_gradient_is_that_of_central_differences(function, invariant, degree):
    if degree:
        pytest.importorskip("gudhi")
    layer, agree = SignedMeasureLayer(invariant, degree), []
    for seed in range(4):
        rips = FunctionRips(function=function, bandwidth=0.5 if seed % 2 else None)

        def value(x, rips=rips):
            return wave(layer(rips(x)))

        x = cloud(8, seed)
        exact, numeric = autograd(value, x), central(value, x)
        agree.append(float((exact - numeric).norm() / exact.norm().clamp(min=1e-12)))
    assert max(agree) < 1e-6, agree


def test_gradient_reaches_graphs_images_and_learned_functions():
    values = cloud(5, 3)
    layer = SignedMeasureLayer("hilbert", 0)

    def graph(v):
        return wave(layer(graph_complex([[0, 1], [1, 2], [3, 4], [2, 3]], v)))

    torch.testing.assert_close(autograd(graph, values), central(graph, values), rtol=1e-6, atol=1e-8)

    def picture(v):
        return wave(layer(cubical_complex(v.view(2, 3, 4))))

    pixels = cloud(24, 4, d=1)
    torch.testing.assert_close(autograd(picture, pixels), central(picture, pixels), rtol=1e-6, atol=1e-8)
    net = torch.nn.Linear(2, 1, dtype=torch.float64)
    wave(layer(FunctionRips(function=lambda x: net(x)[:, 0])(cloud()))).backward()
    assert float(net.weight.grad.norm()) > 0


def test_translations_and_rotations():
    pytest.importorskip("gudhi")
    x = cloud(14)
    turn = torch.linalg.qr(cloud(2, 5))[0]
    rips, layer = FunctionRips(bandwidth=0.5), SignedMeasureLayer("hilbert", 1)

    def value(x):
        return wave(layer(rips(x)))

    base = autograd(value, x)
    assert float(base.norm()) > 0
    torch.testing.assert_close(base.sum(0), torch.zeros(2, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(autograd(value, x @ turn), base @ turn)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_points_have_finite_gradients_of_the_input_dtype(dtype):
    x = torch.cat([cloud(6), cloud(6)]).to(dtype)
    for function in ("kde", "dtm"):
        gradient = autograd(
            lambda x, f=function: wave(SignedMeasureLayer("hilbert", 0)(FunctionRips(function=f)(x))), x
        )
        assert gradient.dtype == dtype
        assert bool(gradient.isfinite().all())
    assert bool(
        autograd(lambda x: wave(SignedMeasureLayer("hilbert", 0)(FunctionRips()(x))), x * 0).isfinite().all()
    )


def test_a_threshold_makes_homology_jump_and_tapering_mends_it():
    """Four points of a square: the loop dies at its diagonal; just above the threshold it never dies."""
    pytest.importorskip("gudhi")
    from lodim.geometry.differentiable_persistence import tapered

    square = torch.tensor([[0.0, 0], [1, 0], [1.0, 1], [0, 1]], dtype=torch.float64)
    limit = 2**0.5
    layer = SignedMeasureLayer("hilbert", 1)
    rips = FunctionRips(function="none", threshold=limit)

    def jump(functional):
        inside, outside = (float(functional(layer(rips(square * s)))) for s in (1 - 1e-9, 1 + 1e-9))
        return abs(inside - outside)

    def phi(p):
        return torch.cos(p[:, 0])

    assert jump(linear(phi)) > 0.1
    assert jump(linear(tapered(phi, limit))) < 1e-6
    unlimited = FunctionRips(function="none")
    ends = [float(linear(phi)(layer(unlimited(square * s)))) for s in (1 - 1e-9, 1 + 1e-9)]
    assert ends[0] == pytest.approx(ends[1], abs=1e-6)


def test_lists_caching_and_boxes():
    layer = SignedMeasureLayer("euler", box=([0, 0], [1, 1]))
    fc = FunctionRips()(cloud())
    first, again = layer([fc, fc])
    assert torch.equal(first.points, again.points)
    assert float(first.points.max()) <= 1
    moved = SignedMeasureLayer("hilbert", 0)
    one, two = (
        moved(FunctionRips()(cloud())),
        moved(FunctionRips()(3 * cloud())),
    )  # the same order, other values
    torch.testing.assert_close(two.points[:, 0], 3 * one.points[:, 0])


def test_what_is_kept_of_a_graph_is_not_that_of_its_cliques():
    """Both have the same listed cells and grades, but a triangle without its inside is a loop."""
    pytest.importorskip("gudhi")
    edges, grades = [[0, 1], [1, 2], [0, 2]], [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]
    layer = SignedMeasureLayer("hilbert", 1)
    masses = [layer(graph_complex(edges, grades, cliques=filled)).mass for filled in (True, False, True)]
    assert masses == [0, 1, 0]


def test_points_are_taken_as_arrays_too():
    x = cloud()
    assert torch.equal(FunctionRips()(x.numpy()).filtration, FunctionRips()(x).filtration)


def test_refusals():
    fc = FunctionRips()(cloud())
    for box in (([0], [1]), ([0, 0, 0], [1, 1, 1])):
        with pytest.raises(ValueError, match="points have 2"):
            SignedMeasureLayer("hilbert", 0, box=box)(fc)
    with pytest.raises(ValueError, match="points have 1"):
        SignedMeasureLayer("hilbert", 0, box=([0, 0], [1, 1]))(FunctionRips(function="none")(cloud()))
    with pytest.raises(TypeError, match="FilteredComplex"):
        SignedMeasureLayer("hilbert", 0)(cloud())
    with pytest.raises(ValueError, match="threshold must be positive"):
        RipsDiagram(threshold=0)
    with pytest.raises(ValueError, match="Did you mean 'hilbert'"):
        SignedMeasureLayer("hilber")
    with pytest.raises(ValueError, match="backend 'torch'"):
        SignedMeasureLayer("hilbert", 1, backend="torch")
    with pytest.raises(ValueError, match="needs a grid"):
        SignedMeasureLayer("rank")


def test_image_is_the_sum_of_gaussians():
    x = cloud(10)
    measure = SignedMeasureLayer("hilbert", 0)(FunctionRips()(x))
    box = ([0.0, 0.5], [2.0, 4.0])
    image = SignedMeasureImage(5, 0.2, box)(measure)
    grid = np.stack(np.meshgrid(np.linspace(0, 2, 5), np.linspace(0.5, 4, 5), indexing="ij"), -1)
    offset = (grid[:, :, None] - measure.points.numpy()) / (np.array([2.0, 3.5]) * 0.2)
    expected = (np.exp(-(offset**2).sum(-1) / 2) * measure.weights.numpy()).sum(-1)
    np.testing.assert_allclose(image.numpy(), expected, atol=1e-12)

    def value(x):
        return (
            SignedMeasureImage(6, 0.3, box)(SignedMeasureLayer("hilbert", 0)(FunctionRips()(x)))
            .square()
            .sum()
        )

    torch.testing.assert_close(autograd(value, x), central(value, x), rtol=1e-6, atol=1e-7)
    empty = SignedMeasureLayer("hilbert", 0)(FunctionRips()(x[:0]))
    assert SignedMeasureImage(3)(empty).tolist() == [[0] * 3] * 3


@pytest.mark.parametrize("degree", [0, 1])
def test_one_parameter_diagram_is_gudhis_and_differentiable(degree):
    gudhi = pytest.importorskip("gudhi")
    x = cloud(15)
    bars = RipsDiagram(degree)(x)
    tree = gudhi.RipsComplex(points=x.numpy()).create_simplex_tree(max_dimension=2)
    tree.compute_persistence()
    theirs = tree.persistence_intervals_in_dimension(degree)
    theirs = theirs[np.isfinite(theirs[:, 1])]
    np.testing.assert_allclose(sorted(bars.tolist()), sorted(theirs.tolist()), atol=1e-12)

    def value(x):
        return RipsDiagram(degree)(x).diff(dim=1).square().sum()

    torch.testing.assert_close(autograd(value, x), central(value, x), rtol=1e-6, atol=1e-7)
    assert RipsDiagram(degree)(x[:1]).shape == (0, 2)


def test_diagonal_of_the_rank_measure_is_the_hilbert_function():
    """The rank measure is a signed sum of boxes [birth, death): those that hold a point add up to its dimension."""
    pytest.importorskip("gudhi")
    pytest.importorskip("multipers")
    fc = FunctionRips()(cloud(9))
    for degree in (0, 1):
        measure = SignedMeasureLayer("rank", degree, grid=7, box=([0, 0], [99, 99]))(fc)
        births, deaths = measure.points[:, :2], measure.points[:, 2:]
        hilbert = SignedMeasureLayer("hilbert", degree, grid=7)(fc)
        for a in fc.filtration[:, 0].unique()[::6]:
            for b in fc.filtration[:, 1].unique()[::2]:
                at = torch.stack([a, b])
                alive = (births <= at).all(1) & (at < deaths).all(1)
                below = (hilbert.points <= at).all(1)
                assert float(measure.weights[alive].sum()) == float(hilbert.weights[below].sum())
    moved = SignedMeasureLayer("rank", 0, grid=7)

    def value(x):
        return moved(FunctionRips(bandwidth=0.5)(x)).points.sin().sum()

    torch.testing.assert_close(autograd(value, cloud(9)), central(value, cloud(9)), rtol=1e-6, atol=1e-7)
