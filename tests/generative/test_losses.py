"""Losses against their formulas, and what minimises them."""

import math

import pytest
import torch
from torch import nn

from lodim.generative import (
    EDM,
    VE,
    VP,
    Denoiser,
    DiscreteVP,
    ddpm_loss,
    edm_loss,
    flow_matching_loss,
    ve_loss,
    vp_loss,
)
from lodim.generative.losses import uniform
from lodim.nets import TimeMLP
from lodim.randomness import torch_generator

LOSSES = (edm_loss, vp_loss, ve_loss, ddpm_loss, flow_matching_loss)
every_loss = pytest.mark.parametrize("loss", LOSSES)


def data(n=8, seed=0):
    return torch.randn(n, 3, generator=torch_generator(seed))


def denoiser(scale=1.0, sigma_data=0.5, **options):
    net = TimeMLP(3, 16, 1)
    for i, p in enumerate(net.parameters()):
        nn.init.normal_(p, std=0.2, generator=torch_generator(i))
    return Denoiser(net, "edm", sigma_data, scale=scale, **options)


def draws(n, seed, schedule=None):
    """The levels and the noise of a loss, drawn again."""
    generator = torch_generator(seed)
    u = torch.rand(n, generator=generator, dtype=torch.float64)
    levels = u / (1 - u) if schedule is None else schedule.levels(u)
    return levels[:, None], torch.randn(n, 3, generator=generator)


def test_edm_is_its_formula():
    model, x, (s, n) = denoiser(), data(), draws(8, 5, EDM())
    weight = (s**2 + 0.25) / (s * 0.5) ** 2
    expected = (weight * (model(x + s.float() * n, s) - x) ** 2).mean(1)
    each = edm_loss(model, x, generator=torch_generator(5), reduction="none")
    torch.testing.assert_close(each, expected.float())
    torch.testing.assert_close(edm_loss(model, x, generator=torch_generator(5)), expected.mean().float())
    c_skip, c_out, _ = model._factors(s)  # the network's own error, without a weight
    target = (x - c_skip * (x + s * n)) / c_out
    out = (model(x + s.float() * n, s) - c_skip * (x + s * n)) / c_out
    torch.testing.assert_close(each.double(), (out - target).square().mean(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("loss", "schedule"),
    [(vp_loss, VP()), (ve_loss, VE()), (ddpm_loss, DiscreteVP()), (vp_loss, DiscreteVP(10, "cosine"))],
)
def test_the_others_are_errors_of_the_noise(loss, schedule):
    model, x, (s, n) = denoiser(), data(), draws(8, 5, schedule)
    expected = (model.eps(x + s.float() * n, s) - n).square().mean()
    found = loss(model, x, schedule=schedule, generator=torch_generator(5))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_whole_steps_are_the_denoisers_own():
    own = DiscreteVP(20)
    model = denoiser(schedule=own)
    expected = ddpm_loss(model, data(), schedule=own, generator=torch_generator(0))
    assert torch.equal(ddpm_loss(model, data(), generator=torch_generator(0)), expected)


def test_flow_matching_is_the_error_of_the_velocity():
    model, x, (s, n) = denoiser(), data(), draws(8, 5)
    tau = 0.001 + 0.998 * s / (1 + s)  # uniform in what Flow() keeps to
    s = tau / (1 - tau)
    on_the_line = (1 - tau) * x + tau * n
    x0 = model(on_the_line / (1 - tau), s)
    velocity = (on_the_line - x0) / tau
    expected = (velocity - (n - x)).square().mean()
    found = flow_matching_loss(model, x, generator=torch_generator(5))
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-3)


@every_loss
def test_units_do_not_matter(loss):
    x = data()
    found = loss(denoiser(scale=4.0), 4 * x, generator=torch_generator(1), reduction="none")
    torch.testing.assert_close(found, loss(denoiser(), x, generator=torch_generator(1), reduction="none"))


class Shrinking(nn.Module):
    """a times the best denoiser of N(0, v), in one dimension; a network of the kind that predicts data."""

    def __init__(self, v):
        super().__init__()
        self.v, self.a = v, 1.0

    def forward(self, x, c_noise, cond=None):
        s2 = (8 * c_noise.double()).exp()[:, None]
        return self.a * self.v / (self.v + s2) * (1 + s2).sqrt() * x


@every_loss
def test_the_posterior_mean_is_the_minimiser(loss):
    """The loss is a parabola in a, whose lowest point is 1 up to the sample's error."""
    net = Shrinking(v=2.0)
    model = Denoiser(net, "x0", sigma_data=math.sqrt(2)).double()
    x = math.sqrt(2) * torch.randn(40_000, 1, generator=torch_generator(3), dtype=torch.float64)
    values = []
    for net.a in (0.9, 1.0, 1.1):
        each = loss(model, x, generator=torch_generator(4), reduction="none")
        values.append(each)
    slope, bend = (values[2] - values[0]) / 0.2, (values[2] - 2 * values[1] + values[0]) / 0.01
    error = float(slope.std() / math.sqrt(len(x)) / bend.mean())
    assert abs(float(slope.mean() / bend.mean())) < 5 * error
    assert error < 0.05


def test_levels_beyond_single_precision_squares():
    """Of a schedule that begins at 1e24, the error of the noise is still a number, and the right one."""
    schedule = DiscreteVP(1000, beta_start=0.001, beta_end=0.2)
    net = TimeMLP(3, 16, 1)
    found = ddpm_loss(
        Denoiser(net, "eps", schedule=schedule), data(512), generator=torch_generator(0), reduction="none"
    )
    _, n = draws(1, 0)
    generator = torch_generator(0)
    torch.rand(512, generator=generator, dtype=torch.float64)
    n = torch.randn(512, 3, generator=generator)
    torch.testing.assert_close(found, n.square().mean(1), rtol=1e-3, atol=1e-3)  # an untrained net finds none
    found.mean().backward()
    assert all(bool(p.grad.isfinite().all()) for p in net.parameters() if p.grad is not None)


@every_loss
def test_noise_of_another_kind(loss):
    seen = []

    def perturb(like, levels, generator):
        seen.append((like.shape, levels.shape, generator))
        return 0 * like

    generator = torch_generator(0)
    found = loss(denoiser(), data(), perturb=perturb, generator=generator)
    assert bool(found.isfinite())
    assert seen == [((8, 3), (8, 1), generator)]


@every_loss
def test_gradients_flow_and_seeds_fix_them(loss):
    model, x = denoiser(), data()
    one, again = (loss(model, x, generator=torch_generator(2)) for _ in range(2))
    assert torch.equal(one, again)
    assert not torch.equal(one, loss(model, x, generator=torch_generator(3)))
    one.backward()
    assert all(p.grad is not None for p in model.parameters())
    with pytest.raises(ValueError, match="reduction"):
        loss(model, x, reduction="sum")


def test_uniform_numbers_are_never_the_ends():
    assert 0 < float(uniform(data(5), None).min()) <= float(uniform(data(5), None).max()) < 1
