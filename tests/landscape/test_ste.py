"""Straight-through primitives: exact forwards, the gradients they promise."""

import pytest
import torch

from lodim.landscape.ste import clamp_ste, mask_ste, round_ste, scale_gradient


def test_rounding_is_exact_and_its_gradient_is_the_identity():
    x = torch.tensor([0.5, 1.5, -2.4, 1e8 + 8, 3.0], requires_grad=True)
    y = round_ste(x)
    assert torch.equal(y, x.detach().round())
    weights = torch.tensor([1.0, -2.0, 3.0, 4.0, 5.0])
    (y * weights).sum().backward()
    assert torch.equal(x.grad, weights)


def test_rounding_a_batch_of_replicas():
    x = torch.randn(3, 5)
    grads = torch.func.vmap(torch.func.grad(lambda v: (round_ste(v) ** 2).sum()))(x)
    assert torch.equal(grads, 2 * x.round())


def test_clamping_sends_each_gradient_to_what_decided_the_value():
    x = torch.tensor([-3.0, -1.0, 0.2, 1.0, 5.0, 7.0], requires_grad=True)
    low, high = torch.tensor(-1.0, requires_grad=True), torch.tensor(1.0, requires_grad=True)
    y = clamp_ste(x, low, high)
    assert torch.equal(y, x.detach().clamp(-1, 1))
    y.sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 0, 0]
    assert (low.grad.item(), high.grad.item()) == (1, 2)


def test_masked_entries_keep_their_gradient():
    x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = mask_ste(x, torch.tensor([True, False, True]))
    assert y.tolist() == [1, 0, 3]
    y.sum().backward()
    assert x.grad.tolist() == [1, 1, 1]


def test_scaling_a_gradient_leaves_the_numbers():
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    y = scale_gradient(x, 0.25)
    assert torch.equal(y, x)
    (3 * y).sum().backward()
    assert x.grad.tolist() == [0.75, 0.75]


def test_ends_beyond_all_numbers_are_refused():
    x = torch.ones(3)
    for ends, name in (((1e300, 1.0), "low"), ((0.0, -1e300), "high")):
        with pytest.raises(ValueError, match=f"{name} must be"):
            clamp_ste(x, *ends)
    with pytest.raises(ValueError, match="high is on the meta device"):
        clamp_ste(x, 0.0, torch.ones((), device="meta"))
    assert torch.equal(clamp_ste(x, -1e300, 1e300), x)
