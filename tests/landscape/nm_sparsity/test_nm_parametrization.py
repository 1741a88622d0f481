"""What a masked weight shows the layer, and what gradient reaches the dense weight."""

import pytest
import torch
from torch import nn

from lodim.landscape import nm_mask
from lodim.landscape.nm_sparsity.parametrization import MaskedWeight, attach, dense_weight, detach, sr_ste


def gradients(masked, x, W):
    """Output and dense gradient of sum(sin(x W^T)) through a masked weight."""
    W = W.clone().requires_grad_()
    out = x @ masked(W).T
    out.sin().sum().backward()
    return out.detach(), W.grad


@pytest.fixture
def problem():
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    x, W = draw(5, 16), draw(3, 16)
    effective = W.clone().requires_grad_()
    return x, W, nm_mask(W, 1, 8), effective


def masked_weight(W, mask, beta, backward, lambda_w=0.0):
    masked = MaskedWeight(W, backward, lambda_w, decays=beta is not None)
    masked.mask = mask
    if beta is not None:
        masked.beta.fill_(beta)
    return masked


def product_gradient(x, effective):
    effective = effective.clone().requires_grad_()
    out = x @ effective.T
    out.sin().sum().backward()
    return out.detach(), effective.grad


@pytest.mark.parametrize("backward", ["ste", "masked"])
def test_at_beta_one_it_is_the_dense_layer_exactly(problem, backward):
    x, W, mask, _ = problem
    out, grad = gradients(masked_weight(W, mask, 1.0, backward), x, W)
    dense_out, dense_grad = product_gradient(x, W)
    assert torch.equal(out, dense_out)
    assert torch.equal(grad, dense_grad)


@pytest.mark.parametrize("beta", [None, 0.0, 0.3])
def test_straight_through_passes_the_products_gradient(problem, beta):
    x, W, mask, _ = problem
    share = mask + (beta or 0) * (1 - mask)
    out, grad = gradients(masked_weight(W, mask, beta, "ste"), x, W)
    expected_out, expected = product_gradient(x, W * share)
    assert torch.equal(out, expected_out)
    assert torch.equal(grad, expected)


@pytest.mark.parametrize("beta", [None, 0.0, 0.3])
def test_masked_passes_the_derivative_of_the_forward(problem, beta):
    x, W, mask, _ = problem
    share = mask + (beta or 0) * (1 - mask)
    _, grad = gradients(masked_weight(W, mask, beta, "masked"), x, W)
    _, product = product_gradient(x, W * share)
    torch.testing.assert_close(grad, product * share, rtol=0, atol=0)
    masked = masked_weight(W, mask, beta, "masked")
    assert torch.autograd.gradcheck(lambda w: (x @ masked(w).T).sin(), (W.clone().requires_grad_(),))


def test_sr_ste_adds_a_decay_to_pruned_weights_only(problem):
    x, W, mask, _ = problem
    out, grad = gradients(masked_weight(W, mask, None, "sr-ste", 0.02), x, W)
    expected_out, product = product_gradient(x, W * mask)
    assert torch.equal(out, expected_out)
    torch.testing.assert_close(grad, product + 0.02 * (1 - mask) * W, rtol=1e-14, atol=1e-15)
    assert torch.equal(grad[mask.bool()], product[mask.bool()])


def test_sr_ste_is_the_gradient_of_a_penalty_that_the_mask_selects(problem):
    """By finite differences: SR-STE's extra term is that of lambda/2 ||(1 - mask) W||^2."""
    _, W, mask, _ = problem
    rate, h = 0.3, 1e-6
    penalty = lambda w: rate / 2 * ((1 - mask) * w).square().sum()  # noqa: E731
    W1 = W.clone().requires_grad_()
    sr_ste(W1, mask, rate).sum().backward()
    for i, j in ((0, 0), (1, 5), (2, 15)):
        step = torch.zeros_like(W)
        step[i, j] = h
        slope = float((penalty(W + step) - penalty(W - step)) / (2 * h))
        assert float(W1.grad[i, j]) - 1 == pytest.approx(slope, abs=1e-8)


def test_a_batch_of_replicas(problem):
    _, W, mask, _ = problem
    batch, masks = torch.stack([W, -2 * W]), torch.stack([mask, 1 - mask])
    grads = torch.func.vmap(torch.func.grad(lambda w, k: sr_ste(w, k, 0.5).square().sum()))(batch, masks)
    expected = 2 * batch * masks + 0.5 * (1 - masks) * batch
    torch.testing.assert_close(grads, expected)


def test_attaching_keeps_the_trained_tensors_and_detaching_writes_the_masked_ones():
    net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2))
    before = dict(net.named_parameters())
    start = net[0].weight.detach().clone()
    masked = attach(net, {"0": net[0]}, "ste")
    assert dense_weight(net[0]) is before["0.weight"]
    assert {id(p) for p in net.parameters()} == {id(p) for p in before.values()}
    masked["0"].mask = nm_mask(start, 2, 4)
    assert torch.equal(net[0].weight, start * masked["0"].mask)
    detach({"0": net[0]})
    assert net[0].weight is before["0.weight"]
    assert torch.equal(net[0].weight, start * masked["0"].mask)
    assert list(net.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_a_weight_may_be_assigned():
    net = nn.Sequential(nn.Linear(8, 8))
    masked = attach(net, {"0": net[0]}, "ste")
    masked["0"].mask = torch.zeros(8, 8)
    net[0].weight = torch.ones(8, 8)
    assert torch.equal(dense_weight(net[0]), torch.ones(8, 8))
    assert torch.equal(net[0].weight, torch.zeros(8, 8))


def test_shared_lazy_and_parametrized_weights_are_refused():
    net = nn.ModuleDict({"embed": nn.Embedding(8, 4), "head": nn.Linear(4, 8, bias=False)})
    net["head"].weight = net["embed"].weight
    with pytest.raises(ValueError, match=r"'head' is also 'embed\.weight'"):
        attach(net, {"head": net["head"]}, "ste")
    lazy = nn.Sequential(nn.LazyLinear(4))
    with pytest.raises(ValueError, match="has no shape yet"):
        attach(lazy, {"0": lazy[0]}, "ste")
    twice = nn.Sequential(nn.Linear(4, 4))
    attach(twice, {"0": twice[0]}, "ste")
    with pytest.raises(ValueError, match="parametrized already"):
        attach(twice, {"0": twice[0]}, "ste")
