"""Weights produced tensor by tensor are those of the flat vector, with all their derivatives."""

import pytest
import torch

from lodim.landscape import SubspaceModule
from lodim.landscape.objective_landscapes.structure import produce
from lodim.nets import mlp
from lodim.randomness import build_seeded


def made(sizes=(6, 10, 4), d=12, **options):
    net = build_seeded(lambda: mlp(sizes, "tanh").double(), 0)
    subspace = SubspaceModule(net, d, seed=2, **options)
    with torch.no_grad():
        subspace.theta_d.copy_(torch.linspace(-2, 2, d))
    return subspace


WAYS = [
    {"projection": kind, "said": said, "scale": scale}
    for kind in ("cyclic", "countsketch", "dense")
    for said in (None, "layer")
    for scale in ("column", "row")
]


@pytest.mark.parametrize("options", WAYS)
def test_weights_and_gradients_are_those_of_the_flat_vector(options):
    subspace, x = made(**options), torch.randn(5, 6, dtype=torch.float64)
    weights = produce(subspace.projection, subspace.theta_d, subspace.theta0, subspace.spec)
    for name, flat in subspace.spec.unflatten(subspace.theta()).items():
        torch.testing.assert_close(weights[name], flat)
    subspace(x).square().sum().backward()
    found, subspace.theta_d.grad = subspace.theta_d.grad, None
    subspace.spec.call(subspace.module, subspace.theta(), (x,)).square().sum().backward()
    torch.testing.assert_close(found, subspace.theta_d.grad)


@pytest.mark.parametrize("options", WAYS)
def test_second_derivatives(options):
    subspace, x = made((3, 4, 2), 5, **options), torch.randn(4, 3, dtype=torch.float64)

    def loss(theta_d):
        weights = produce(subspace.projection, theta_d, subspace.theta0, subspace.spec)
        return torch.func.functional_call(subspace.module, weights, (x,)).square().sum()

    assert torch.autograd.gradcheck(loss, (subspace.theta_d,))
    assert torch.autograd.gradgradcheck(loss, (subspace.theta_d,))
    flat = torch.autograd.functional.hessian(
        lambda v: (
            subspace.spec.call(subspace.module, subspace.theta0 + subspace.projection(v), (x,)).square().sum()
        ),
        subspace.theta_d.detach(),
    )
    torch.testing.assert_close(torch.autograd.functional.hessian(loss, subspace.theta_d.detach()), flat)
    torch.testing.assert_close(torch.func.jacrev(torch.func.grad(loss))(subspace.theta_d.detach()), flat)


@pytest.mark.parametrize("said", [None, "layer"])
def test_the_transforms_of_torch_func_go_through(said):
    subspace, x = made(said=said), torch.randn(5, 6, dtype=torch.float64)

    def outputs(theta_d):
        return torch.func.functional_call(subspace, {"theta_d": theta_d}, (x,))

    rows = torch.stack([subspace.theta_d.detach() * factor for factor in (0.5, 1.0, 2.0)])
    together = torch.func.vmap(outputs)(rows)
    torch.testing.assert_close(together, torch.stack([outputs(row) for row in rows]))


def test_a_tensor_that_is_not_used_has_no_gradient_and_does_no_harm():
    subspace = made()
    weights = produce(subspace.projection, subspace.theta_d, subspace.theta0, subspace.spec)
    first = next(iter(weights.values()))
    first.square().sum().backward()
    found, subspace.theta_d.grad = subspace.theta_d.grad, None
    subspace.theta()[:60].square().sum().backward()
    torch.testing.assert_close(found, subspace.theta_d.grad)


def test_a_map_redrawn_before_the_backward_pass_is_an_error():
    subspace = made()
    loss = subspace(torch.randn(2, 6, dtype=torch.float64)).sum()
    subspace.projection.reseed(1)
    with pytest.raises(RuntimeError, match="reseeded between forward and backward"):
        loss.backward()
