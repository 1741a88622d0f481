"""Denoisers: the factors around a network, what follows from the mean, and two exact ones."""

import copy
import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from lodim.generative import VP, Denoiser, DiscreteVP, EmpiricalDenoiser, GaussianDenoiser, MixtureDenoiser
from lodim.generative.denoiser import PRECONDITIONINGS
from lodim.generative.jacobian import jacobian
from lodim.nets import SmallUNet, TimeMLP
from lodim.randomness import build_seeded, torch_generator


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch_generator(seed), dtype=dtype)


class Fixed(nn.Module):
    """Returns what it was given, and keeps what it saw."""

    def __init__(self, out):
        super().__init__()
        self.out = out

    def forward(self, x, c_noise=None, cond=None):
        self.seen = x, c_noise, cond
        return self.out


def awake(net):
    """A network whose last layer is not zero."""
    for i, p in enumerate(net.last.parameters()):
        nn.init.normal_(p, std=0.1, generator=torch_generator(i))
    return net


def targets(z0, n, s, sd):
    """What a network of each kind has to predict, from their definitions."""
    r2 = s**2 + sd**2
    return {
        "edm": (z0 - sd**2 / r2 * (z0 + s * n)) * r2.sqrt() / (s * sd),
        "eps": n,
        "x0": z0,
        "v": (n - s * z0) / (1 + s**2).sqrt(),
        "ve": -n,
        "flow": n - z0,
        "blind": s * n,
    }


@pytest.mark.parametrize("precond", PRECONDITIONINGS)
@pytest.mark.parametrize(("center", "scale"), [(0.0, 1.0), (3.0, 2.5)])
def test_a_net_that_predicts_its_target_denoises_perfectly(precond, center, scale):
    z0, n, s = normal(6, 2, 3), normal(6, 2, 3, seed=1), torch.logspace(-2, 2, 6).double().reshape(6, 1, 1)
    net = Fixed(targets(z0, n, s, 0.7)[precond])
    denoiser = Denoiser(net, precond, 0.7, center=torch.full((2, 3), center), scale=scale).double()
    x0 = center + scale * z0
    x, sigma = x0 + scale * s * n, scale * s
    torch.testing.assert_close(denoiser(x, sigma), x0, rtol=1e-6, atol=1e-6)  # sigma_data is kept in float32
    torch.testing.assert_close(denoiser.eps(x, sigma), n, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(denoiser.score(x, sigma), -n / sigma, rtol=1e-4, atol=1e-2)
    heard = net.seen[1]
    if precond != "blind":  # levels in the network's own unit
        torch.testing.assert_close(heard.double(), s.flatten().log() / 4, rtol=1e-5, atol=1e-6)


def test_inputs_and_targets_have_unit_size():
    """EDM's factors: Var(c_in x) = 1, Var(target) = 1, and no other c_skip needs a smaller c_out."""
    s, sd = torch.logspace(-3, 3, 20).double(), 0.7
    c_skip, c_out, c_in = Denoiser(nn.Identity(), sigma_data=sd).double()._factors(s)
    torch.testing.assert_close(c_in**2 * (s**2 + sd**2), torch.ones_like(s))
    for shift in (-1e-3, 0.0, 1e-3):
        wanted = (1 - c_skip - shift) ** 2 * sd**2 + (c_skip + shift) ** 2 * s**2
        assert bool((wanted >= c_out**2 * (1 - 1e-7)).all())
    torch.testing.assert_close((1 - c_skip) ** 2 * sd**2 + c_skip**2 * s**2, c_out**2)


def test_scores_noise_and_velocity_are_words_for_one_thing():
    C = torch.diag(torch.tensor([2.0, 0.3, 0.0]).double())
    denoiser, x, s = (
        GaussianDenoiser(torch.ones(3), C),
        normal(5, 3),
        torch.tensor([0.3, 0.5, 1.0, 2.0, 9.0]).double(),
    )
    at, level = x.clone().requires_grad_(), s[:, None]
    log_density = torch.distributions.Normal(1.0, (C.diagonal() + level**2).sqrt()).log_prob(at).sum()
    torch.testing.assert_close(denoiser.score(x, s), torch.autograd.grad(log_density, at)[0])
    x0, n = denoiser(x, s), denoiser.eps(x, s)
    torch.testing.assert_close(x0 + level * n, x)
    alpha = (1 + level**2) ** -0.5  # v = alpha n - sigma x0 and x = alpha x0 + sigma n, variance preserving
    torch.testing.assert_close(denoiser.v(x, s), alpha * n - alpha * level * x0)
    torch.testing.assert_close(alpha * (alpha * x) - alpha * level * denoiser.v(x, s), x0)


@pytest.mark.parametrize("precond", PRECONDITIONINGS)
def test_powers_of_two_and_shifts_change_no_bit(precond):
    if precond == "blind":
        net = nn.Linear(3, 3)
    else:
        net = awake(build_seeded(lambda: TimeMLP(3, 16, 1), 0))
    x = (normal(4, 3, dtype=torch.float32) * 256).round() / 256
    plain = Denoiser(net, precond)
    out = plain(x, 0.75)
    assert torch.equal(Denoiser(net, precond, scale=4.0)(4 * x, 3.0), 4 * out)
    shift = torch.tensor([1.0, -2.0, 8.0])  # so small that x + shift is exact
    moved = Denoiser(net, precond, center=shift)(x + shift, 0.75)
    assert torch.equal(moved, out + shift)


@pytest.mark.parametrize("precond", ["eps", "v", "edm"])
def test_levels_whose_squares_overflow(precond):
    """The grid of Gaussians' schedule begins at 1e24; the noise found there must still be the network's."""
    n = normal(4, 2, dtype=torch.float32)
    net = Fixed(n)
    denoiser = Denoiser(net, precond, schedule=DiscreteVP(1000, beta_start=0.001, beta_end=0.2))
    x = 1e23 * n
    out = denoiser(x, 1e23)
    assert bool(out.isfinite().all())
    torch.testing.assert_close(net.seen[0], n)  # unit size
    assert bool(denoiser.score(x, 1e23).isfinite().all())
    assert bool(denoiser.v(x, 1e23).isfinite().all())
    if precond == "eps":
        torch.testing.assert_close(denoiser.eps(2 * x, 1e23), n)


def test_one_level_for_all_or_one_a_sample():
    denoiser, x = Denoiser(awake(TimeMLP(3, 16, 1))), normal(3, 3, dtype=torch.float32)
    whole = denoiser(x, 0.5)
    for sigma in (
        torch.tensor(0.5),
        torch.full((3,), 0.5),
        torch.full((3, 1), 0.5),
        torch.tensor([0.5]).double(),
    ):
        assert torch.equal(denoiser(x, sigma), whole)
    mixed = denoiser(x, torch.tensor([0.5, 1.0, 2.0]))
    assert torch.allclose(mixed[:1], whole[:1], atol=1e-6)
    assert not torch.allclose(mixed[1:], whole[1:])
    assert denoiser(x[:0], 0.5).shape == (0, 3)


@pytest.mark.parametrize("schedule", [None, VP(), DiscreteVP()], ids=["edm", "vp", "discrete"])
def test_precisions(schedule):
    net, x = awake(SmallUNet(1, 8, (1,))), normal(2, 1, 4, 4, dtype=torch.float32)
    denoiser = Denoiser(net, "edm", schedule=schedule)
    out = denoiser(x, 0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = denoiser(x, 0.5)
    half = Denoiser(copy.deepcopy(net).bfloat16(), "edm", schedule=schedule)(x, 0.5)
    for rough in (mixed, half, denoiser(x.bfloat16(), 0.5)):
        assert rough.dtype == torch.float32
        torch.testing.assert_close(rough, out, rtol=0.05, atol=0.05)
    wide = denoiser(x.double(), 0.5)  # the state may be finer than the network
    assert wide.dtype == torch.float64
    torch.testing.assert_close(wide.float(), out, rtol=1e-4, atol=1e-5)
    exact = copy.deepcopy(denoiser).double()(x.double(), 0.5)
    torch.testing.assert_close(exact, wide, rtol=1e-4, atol=1e-5)


COMPILED = """
import torch
from lodim.generative import Denoiser, DiscreteVP, VP
from lodim.nets import TimeMLP

torch.manual_seed(0)
net = TimeMLP(3, 16, 1, n_classes=2)
torch.nn.init.normal_(net.last.weight)
inputs = torch.randn(3, 3), torch.tensor([0.5, 1.0, 2.0]), {"label": torch.tensor([0, 1, -1])}
for schedule in (None, VP(), DiscreteVP()):
    denoiser = Denoiser(net, "edm", schedule=schedule)
    compiled = torch.compile(denoiser, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(*inputs), denoiser(*inputs))
    print(schedule)
"""


@pytest.mark.slow
def test_it_compiles_as_one_graph():
    """In a process of its own, because run-time type checks do not trace."""
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3


def test_its_state_travels():
    denoiser = Denoiser(awake(TimeMLP(2, 8, 1)), sigma_data=0.3, center=torch.ones(2), scale=4.0)
    fresh = Denoiser(TimeMLP(2, 8, 1), center=torch.zeros(2))
    fresh.load_state_dict(denoiser.state_dict())
    x = normal(3, 2, dtype=torch.float32)
    assert torch.equal(fresh(x, 1.0), denoiser(x, 1.0))


@pytest.mark.parametrize(
    ("sigma", "said"),
    [
        (0.0, "positive"),
        (-1, "positive"),
        (math.nan, "sigma"),
        (torch.tensor([1.0, 0.0, 1.0]), "positive"),
        (torch.tensor(math.nan), "positive"),
        (torch.ones(2), r"one a sample \(3\)"),
    ],
)
def test_levels_that_are_none_are_refused(sigma, said):
    with pytest.raises(ValueError, match=said):
        Denoiser(nn.Identity(), "blind")(torch.zeros(3, 2), sigma)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"precond": "emd"}, "Did you mean 'edm'"),
        ({"sigma_data": 0.0}, "sigma_data must be positive"),
        ({"scale": math.inf}, "scale must be positive"),
    ],
)
def test_numbers_out_of_range_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        Denoiser(nn.Identity(), **options)


def test_a_net_that_returns_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"the net must return .*\(3, 2\), got shape \(3, 4\)"):
        Denoiser(nn.Linear(2, 4), "blind")(torch.zeros(3, 2), 1.0)


def test_two_points_have_a_hyperbolic_tangent():
    a, x, s = torch.tensor([1.0, -0.5]).double(), normal(6, 2), 0.8
    denoiser = EmpiricalDenoiser(torch.stack([a, -a]))
    torch.testing.assert_close(denoiser(x, s), torch.tanh(x @ a / s**2)[:, None] * a)


def test_an_empirical_denoiser_is_a_weighted_mean():
    Y, x = normal(7, 2, 3), normal(5, 2, 3, seed=1)
    s = torch.tensor([0.5, 1.0, 2.0, 3.0, 4.0]).double()
    d2 = (x[:, None] - Y).square().sum((2, 3))
    weights = (-d2 / (2 * s[:, None] ** 2)).softmax(1)
    torch.testing.assert_close(EmpiricalDenoiser(Y)(x, s), torch.einsum("bn,nij->bij", weights, Y))
    torch.testing.assert_close(EmpiricalDenoiser(Y, chunk=9)(x, s), EmpiricalDenoiser(Y)(x, s))
    torch.testing.assert_close(EmpiricalDenoiser(Y)(x, 1e-3), Y[d2.argmin(1)])  # the nearest
    torch.testing.assert_close(EmpiricalDenoiser(Y)(x, 1e6), Y.mean(0).expand(5, 2, 3), rtol=1e-6, atol=1e-6)
    far = EmpiricalDenoiser(Y)(1e6 + x.float(), 1e-3)
    assert far.dtype == torch.float32
    assert bool(far.isfinite().all())
    assert EmpiricalDenoiser(Y)(x[:0], 1.0).shape == (0, 2, 3)


def test_an_empirical_denoisers_jacobian_is_the_posterior_covariance():
    Y, x, s = (
        normal(20, 3),
        normal(4, 3, seed=1),
        0.7,
    )  # several points at once: torch's cdist would be wrong there
    weights = (-torch.cdist(x, Y).square() / (2 * s**2)).softmax(1)
    around = Y - (weights @ Y)[:, None]
    covariance = torch.einsum("bn,bni,bnj->bij", weights, around, around)
    torch.testing.assert_close(jacobian(lambda y: EmpiricalDenoiser(Y)(y, s), x), covariance / s**2)


def test_a_gaussian_denoiser_is_the_best_linear_map():
    A, m, x = normal(6, 4), normal(2, 3, seed=1), normal(5, 2, 3, seed=2)
    C = A @ A.mT  # of rank 4
    gain = C @ torch.linalg.inv(C + 0.49 * torch.eye(6).double())
    expected = m + ((x - m).flatten(1) @ gain.mT).reshape(5, 2, 3)
    torch.testing.assert_close(GaussianDenoiser(m, C)(x, 0.7), expected)
    rows = normal(50, 2, 3, seed=3)
    fitted = GaussianDenoiser.fit(rows)
    covariance = torch.cov(rows.flatten(1).mT, correction=0)
    torch.testing.assert_close(fitted(x, 0.7), GaussianDenoiser(rows.mean(0), covariance)(x, 0.7))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: EmpiricalDenoiser(torch.zeros(0, 2)), "one sample or more"),
        (lambda: EmpiricalDenoiser(torch.tensor([[torch.nan]])), "all finite"),
        (lambda: EmpiricalDenoiser(torch.zeros(3, 2), chunk=0), "chunk"),
        (lambda: GaussianDenoiser(torch.zeros(3), torch.eye(2)), "3 numbers"),
        (lambda: GaussianDenoiser(torch.zeros(2), -torch.eye(2)), "no negative eigenvalue"),
        (lambda: GaussianDenoiser(torch.zeros(2), torch.tensor([[1.0, 0.5], [0.0, 1.0]])), "symmetric"),
    ],
)
def test_exact_denoisers_of_nothing_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_oracles_and_units_in_other_precisions(dtype):
    x = torch.randn(4, 2)
    for oracle in (GaussianDenoiser(torch.ones(2), torch.eye(2)), EmpiricalDenoiser(torch.eye(2))):
        torch.testing.assert_close(oracle.to(dtype)(x, 0.5), oracle.double()(x, 0.5))
    moved = Denoiser(nn.Identity(), center=1000.7, scale=1.003).to(dtype)
    assert float(moved.center) == pytest.approx(1000.7, rel=1e-6)
    assert float(moved.scale) == pytest.approx(1.003)
    with pytest.raises(ValueError, match="finite"):
        moved(x, math.inf)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_oracles_keep_their_data_in_half_precision(dtype):
    Y, x = torch.tensor([[1000.7, 2.0], [1000.7, 2.0]]), torch.tensor([[1000.7, 2.0]])
    for oracle in (EmpiricalDenoiser(Y), MixtureDenoiser(Y[:1], 0.1), GaussianDenoiser(Y[0], torch.eye(2))):
        torch.testing.assert_close(oracle.to(dtype)(x, 0.1), x, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: GaussianDenoiser(torch.zeros(2), torch.full((2, 2), math.nan)),
        lambda: GaussianDenoiser(torch.tensor([0.0, math.inf]), torch.eye(2)),
        lambda: GaussianDenoiser.fit(torch.full((3, 2), math.nan)),
    ],
)
def test_normal_laws_that_are_not_finite_are_refused(make):
    with pytest.raises(ValueError, match="must be finite"):
        make()


def test_the_normal_law_of_no_samples_is_refused():
    with pytest.raises(ValueError, match="one sample or more"):
        GaussianDenoiser.fit(torch.zeros(0, 2))
