"""Jacobians against closed forms: linear maps, the exact denoiser of a mixture, and bias-free nets."""

import numpy as np
import pytest
import torch
from torch import nn

from lodim.generative import EmpiricalDenoiser, jacobian_basis, jacobian_trace, sure
from lodim.generative.jacobian import jacobian
from lodim.nets import BiasFreeNorm2d, BiasFreeUNet
from lodim.randomness import build_seeded, torch_generator


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch_generator(seed), dtype=torch.float64)


def linear(A):
    return lambda y: (y.flatten(1) @ A.T).view(y.shape)


def net(**options):
    """A bias-free net whose running deviations are not one."""
    model = build_seeded(lambda: BiasFreeUNet(**({"channels": 1, "width": 4, "depth": 1} | options)), 0)
    for layer in model.double().modules():
        if isinstance(layer, BiasFreeNorm2d):
            layer.momentum = 1.0
    model(3 * normal(4, model.last.out_channels, 6, 4))
    return model


@pytest.mark.parametrize("chunk", [None, 1, 5, 1000])
def test_a_linear_map_is_its_own_jacobian(chunk):
    A, y = normal(6, 6), normal(4, 2, 3, seed=1)
    torch.testing.assert_close(jacobian(linear(A), y, chunk=chunk), A.expand(4, 6, 6))
    found = jacobian_trace(linear(A), y, chunk=chunk)
    np.testing.assert_allclose(found.trace, [float(A.trace())] * 4)
    assert found.se == (0.0,) * 4


def test_each_point_has_its_own_jacobian():
    y = normal(3, 2, 2)
    torch.testing.assert_close(jacobian(lambda z: z**3, y), torch.diag_embed(3 * y.flatten(1) ** 2))
    np.testing.assert_allclose(jacobian_trace(torch.sin, y, chunk=2).trace, y.cos().sum((1, 2)))
    found = jacobian_trace(torch.sin, y, 2, chunk=2)  # a diagonal is known after one probe
    np.testing.assert_allclose(found.trace, y.cos().sum((1, 2)))


def test_probes_are_within_their_error_of_the_trace():
    A, y = normal(30, 30) + 5 * torch.eye(30), normal(5, 30)
    found = jacobian_trace(linear(A), y, 200, chunk=2, random_state=3)
    wrong = (np.array(found.trace) - float(A.trace())) / np.array(found.se)
    assert np.abs(wrong).max() < 5
    assert len(set(found.trace)) == 5  # each block of points draws its own
    assert found == jacobian_trace(linear(A), y, 200, chunk=2, random_state=3)


def test_the_mixtures_jacobian_is_the_posterior_covariance_over_the_noise():
    """Two normals N(+-m, C): J = Cov[x | y] / s^2, whose closed form has a within and a between part."""
    m, C, s = normal(3), torch.diag(torch.tensor([1.0, 0.5, 0.1]).double()), 0.7
    inverse = torch.linalg.inv(C + s**2 * torch.eye(3))

    def f(y):
        w = torch.sigmoid(2 * y @ inverse @ m)[:, None]
        sign = 2 * w - 1
        return sign * m + (y - sign * m) @ inverse @ C

    y = normal(1, 3, seed=5)
    w = torch.sigmoid(2 * y[0] @ inverse @ m)
    gap = 2 * (m - C @ inverse @ m)  # between the posterior means of both
    covariance = C - C @ inverse @ C + w * (1 - w) * torch.outer(gap, gap)
    torch.testing.assert_close(jacobian(f, y)[0], covariance / s**2)
    basis = jacobian_basis(f, y[0])
    assert basis.asymmetry < 1e-12
    np.testing.assert_allclose(basis.trace, float(covariance.trace()) / s**2)
    assert basis.inhomogeneity > 1e-3  # a function may be so; a net is warned of


@pytest.mark.parametrize("symmetric", [True, False])
def test_leading_directions_are_those_of_the_dense_jacobian(symmetric):
    model, y = net(), normal(1, 6, 4, seed=2)
    whole = jacobian_basis(model, y, symmetric=symmetric)
    some = jacobian_basis(model, y, 4, symmetric=symmetric)
    np.testing.assert_allclose(some.values, whole.values[:4])
    overlap = np.abs(np.einsum("kchw,kchw->k", some.vectors, whole.vectors[:4]))
    np.testing.assert_allclose(overlap, 1)
    assert np.isnan(some.trace)
    assert whole.trace == pytest.approx(jacobian_trace(model, y[None]).trace[0])
    assert some.asymmetry == pytest.approx(whole.asymmetry, rel=0.3)  # by probes
    assert str(len(whole.values)) in str(whole)
    assert list(some.to_frame().columns) == ["rank", "value"]


def test_a_homogeneous_net_is_the_sum_over_its_singular_vectors():
    model, y = net(channels=2), normal(2, 6, 4, seed=2)
    basis = jacobian_basis(model, y, symmetric=False)
    rebuilt = np.einsum("k,kchw->chw", basis.values * basis.coefficients(y), basis.left_vectors)
    np.testing.assert_allclose(rebuilt, model.eval().denoise(y[None])[0].detach(), atol=1e-10)
    assert basis.inhomogeneity == 0
    np.testing.assert_array_equal(jacobian_basis(model, y).vectors, jacobian_basis(model, y).left_vectors)
    with pytest.raises(ValueError, match="shape of a point"):
        basis.coefficients(y[:1])


def test_modes_are_restored_and_no_gradient_is_left():
    model = net().train()
    model.down[0].eval()
    before = model.up[0][1].running_sd.clone()
    y = normal(1, 6, 4).requires_grad_()
    for found in (jacobian(model, y[None]), jacobian(model.denoise, y[None])):
        assert not found.requires_grad
    jacobian_basis(model, y, 3)
    assert model.training
    assert not model.down[0].training
    assert torch.equal(model.up[0][1].running_sd, before)
    assert all(p.grad is None for p in [y, *model.parameters()])


def test_a_net_with_additive_constants_is_warned_of():
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 6), nn.Unflatten(1, (1, 2, 3)))
    with pytest.warns(UserWarning, match="not homogeneous"):
        jacobian_basis(model, torch.ones(1, 2, 3))


@pytest.mark.parametrize(
    ("f", "y", "said"),
    [
        (torch.sin, torch.tensor([[1.0], [torch.nan], [2.0]]), "1 of 3 points, the first at 1"),
        (torch.sin, torch.ones(0, 2), "must hold points"),
        (lambda y: y[:, :1], torch.ones(2, 2), "must return the shape"),
        (torch.log, -torch.ones(2, 2), "not finite"),
    ],
)
def test_what_cannot_be_differentiated_is_refused(f, y, said):
    with pytest.raises(ValueError, match=said):
        jacobian(f, y)


def test_more_directions_than_there_are_is_refused():
    with pytest.raises(ValueError, match="at most 4"):
        jacobian_basis(torch.sin, torch.ones(2, 2), 5)


def test_a_map_to_nothing_has_no_directions_and_one_that_is_not_finite_is_refused():
    basis = jacobian_basis(torch.zeros_like, torch.ones(2, 2))
    assert not basis.values.any()
    assert basis.asymmetry == basis.trace == 0
    with pytest.raises(ValueError, match="not finite at y"):
        jacobian_basis(torch.log, -torch.ones(2, 2), 1)


def test_what_f_does_in_place_stays_inside():
    y = normal(3, 4)
    before = y.clone()
    torch.testing.assert_close(jacobian(lambda z: z.mul_(2), y), 2 * torch.eye(4).double().expand(3, 4, 4))
    assert jacobian_basis(lambda z: z.relu_(), y[0]).trace == int((y[0] > 0).sum())
    assert torch.equal(y, before)


def test_points_may_be_numbers_and_jacobians_zero():
    assert jacobian(torch.sin, torch.zeros(3)).tolist() == [[[1.0]]] * 3
    assert jacobian_basis(torch.sin, torch.tensor(0.0)).values == [1.0]
    for symmetric in (True, False):
        found = jacobian_basis(torch.zeros_like, normal(6), 2, symmetric=symmetric)
        assert not found.values.any()
        np.testing.assert_array_equal(found.vectors @ found.left_vectors.T, np.eye(2))


@pytest.mark.parametrize("n", [3, 20])
def test_an_f_that_hides_its_derivative_is_refused_everywhere(n):
    """Its trace would be 0, and an estimated risk far too low."""
    y = torch.randn(2, n, generator=torch_generator(0))
    for f in (torch.no_grad()(lambda y: y / 2), lambda y: y.detach() - y.detach().mean()):
        for call in (
            lambda f: jacobian(f, y), lambda f: jacobian_trace(f, y), lambda f: jacobian_trace(f, y, 4),
            lambda f: jacobian_basis(f, y[0]), lambda f: jacobian_basis(f, y[0], 2), lambda f: sure(f, y, 0.1),
        ):  # fmt: skip
            with pytest.raises(ValueError, match="no_grad or detach"):
                call(f)
    for f in (torch.zeros_like, lambda y: 0 * y + 3.0):  # whose derivative is 0
        assert jacobian_trace(f, y).trace == (0.0, 0.0)
    exact = EmpiricalDenoiser(100 * torch.eye(n))  # so is that of what has one datum left
    assert jacobian_trace(lambda y: exact(y, 1e-3), 100 * torch.eye(n)[:2]).trace == (0.0, 0.0)


def test_a_compiled_net_is_differentiated_as_it_was():
    net, y = nn.Linear(3, 3), torch.ones(2, 3)
    compiled = torch.compile(net, backend="eager")
    assert jacobian_trace(compiled, y).trace == jacobian_trace(net, y).trace
