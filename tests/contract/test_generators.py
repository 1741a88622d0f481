"""Generators: a scalar loss with gradients, and samples that a generator's state fixes."""

import copy

import pytest
import torch
from torch import nn

from .examples import GENERATORS, Generator
from .finder import parametrize


class Gaussian(nn.Module):
    """The smallest generator there is; it shows that the contract can be met."""

    def __init__(self):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(2))

    def loss(self, x):
        return (x - self.mean).square().mean()

    def sample(self, n, *, generator=None):
        return self.mean + torch.randn(n, 2, generator=generator)


class Careless(Gaussian):
    """Draws from the global generator whatever it is given."""

    def sample(self, n, *, generator=None):
        return self.mean + torch.randn(n, 2)


SMALLEST = Generator(Gaussian, lambda: torch.randn(6, 2))
generators = parametrize("example", {Gaussian: (SMALLEST,), **GENERATORS})


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def has_a_loss(example):
    model = example.build()
    loss = model.loss(example.data())
    assert loss.shape == ()
    assert torch.isfinite(loss)
    loss.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def draws_by_its_generator_alone(example):
    model, state = example.build(), torch.get_rng_state()
    one, again, other = (model.sample(3, generator=seeded(s)) for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(one) == 3
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert not one.requires_grad or example.differentiable


def travels(example):
    model, fresh = example.build(), example.build(seed=1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1)
    fresh.load_state_dict(model.state_dict())
    expected = model.sample(3, generator=seeded())
    for other in (fresh, copy.deepcopy(model)):
        assert torch.equal(other.sample(3, generator=seeded()), expected)


@generators
def test_its_loss_is_a_number_with_a_gradient(example):
    has_a_loss(example)


@generators
def test_its_samples_follow_the_generator(example):
    draws_by_its_generator_alone(example)


@generators
def test_its_state_travels(example):
    travels(example)


def test_a_generator_that_draws_globally_is_caught():
    with pytest.raises(AssertionError):
        draws_by_its_generator_alone(Generator(Careless, lambda: torch.randn(6, 2)))
