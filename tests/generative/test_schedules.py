"""Schedules against closed forms: the two factors, drift and diffusion, the inverse, the law of training levels."""

import math

import pytest
import torch

from lodim.generative import EDM, VE, VP, DiscreteVP, Flow
from lodim.generative.schedules import Schedule, schedule_named

SCHEDULES = {
    "vp": VP(),
    "ou": VP(1, 1, t_max=5.0),
    "ve": VE(),
    "edm": EDM(),
    "linear": DiscreteVP(),
    "cosine": DiscreteVP(100, "cosine"),
    "quad": DiscreteVP(50, "quad"),
    "flow": Flow(),
}
everyone = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


def inside(schedule, n=7):
    """Times between the ends, none of which is whole (where tables of steps have corners)."""
    return (
        schedule.t_min + (schedule.t_max - schedule.t_min) * (torch.arange(n, dtype=torch.float64) + 0.37) / n
    )


def test_factors_in_closed_form():
    t = inside(VP())
    integral = 0.1 * t + 19.9 * t.square() / 2  # of beta
    torch.testing.assert_close(VP().alpha(t), (-integral / 2).exp())
    torch.testing.assert_close(VP().sigma(t), (1 - (-integral).exp()).sqrt())
    torch.testing.assert_close(VE().sigma(t), 0.01 * (t * math.log(5000)).exp())
    torch.testing.assert_close(EDM().sigma(t), t)
    ou = VP(1, 1, t_max=5.0)  # dX = -X / 2 dt + dW
    torch.testing.assert_close(ou.alpha(t), (-t / 2).exp())
    torch.testing.assert_close(ou.sigma(t), (1 - (-t).exp()).sqrt())


@everyone
def test_factors_levels_and_times_belong_together(schedule):
    t = inside(schedule, 40).reshape(4, 10)
    level = schedule.sigma_tilde(t)
    torch.testing.assert_close(schedule.sigma(t) / schedule.alpha(t), level)
    torch.testing.assert_close(schedule.t_of_sigma_tilde(level), t, rtol=1e-9, atol=1e-9)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    if isinstance(schedule, Flow):
        torch.testing.assert_close(alpha + sigma, torch.ones_like(t))  # a straight line
    else:
        preserves = isinstance(schedule, VP | DiscreteVP)
        size = alpha.square() + sigma.square()
        torch.testing.assert_close(size, torch.ones_like(t) if preserves else 1 + level.square())
    assert level.dtype == torch.float64
    assert bool((level.flatten().diff() > 0).all())


@everyone
def test_steps_fall_from_the_prior_to_nothing(schedule):
    sigmas = schedule.sigmas(9)
    assert sigmas.shape == (10,)
    assert bool((sigmas.diff() < 0).all())
    assert float(sigmas[-1]) == 0
    assert float(sigmas[0]) == pytest.approx(schedule.sigma_max, rel=1e-12)
    smallest = schedule.sigma_tilde(torch.tensor(schedule.t_min, dtype=torch.float64))
    assert float(sigmas[-2]) == pytest.approx(float(smallest), rel=1e-9)
    with pytest.raises(ValueError, match="number of steps"):
        schedule.sigmas(1)


def test_steps_of_edm_are_even_in_a_root():
    torch.testing.assert_close((EDM(rho=3).sigmas(9)[:-1] ** (1 / 3)).diff().diff(), torch.zeros(7).double())


@pytest.mark.parametrize("kind", ["linear", "cosine", "quad"])
def test_whole_steps_are_products_of_betas(kind):
    schedule = DiscreteVP(100, kind)
    t = torch.arange(100).double()
    torch.testing.assert_close(
        schedule.alpha(t).square(), (1 - schedule.betas).cumprod(0), rtol=1e-10, atol=0
    )
    again = DiscreteVP(betas=schedule.betas.float())
    torch.testing.assert_close(again.sigma_tilde(t), schedule.sigma_tilde(t), rtol=1e-5, atol=0)


def test_the_cosine_is_one():
    t = torch.arange(90).double()
    angle = lambda t: ((t / 100 + 0.008) / 1.008 * math.pi / 2).cos()  # noqa: E731
    torch.testing.assert_close(DiscreteVP(100, "cosine").alpha(t), angle(t + 1) / angle(torch.zeros(1)))


def test_a_product_too_small_for_single_precision():
    """A thousand steps of up to 0.2 leave 1e-47 of the signal's variance, and every number finite."""
    schedule = DiscreteVP(1000, beta_start=0.001, beta_end=0.2)
    exact = math.exp(-math.fsum(math.log1p(-b) for b in schedule.betas.tolist()) / 2)
    assert 1e23 < exact < 1e24
    assert schedule.sigma_max == pytest.approx(exact, rel=1e-9)
    sigmas = schedule.sigmas(1000)
    assert bool(sigmas.isfinite().all())
    assert bool((sigmas.diff() < 0).all())
    assert float(schedule.alpha(torch.tensor(999.0))) == pytest.approx(1 / exact, rel=1e-9)
    torch.testing.assert_close(schedule.c_noise(sigmas[:-1]), torch.arange(999.0, -1, -1).double())


def test_training_levels_follow_their_laws():
    u = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
    logs = EDM(P_mean=-1.0, P_std=0.7).levels(u).log()
    assert float(logs.mean()) == pytest.approx(-1.0, abs=1e-6)
    assert float(logs.std()) == pytest.approx(0.7, rel=1e-3)
    for schedule in (VP(), VE(), Flow()):  # uniform times
        share = (schedule.t_of_sigma_tilde(schedule.levels(u)) - schedule.t_min) / (
            schedule.t_max - schedule.t_min
        )
        torch.testing.assert_close(share, u)
    steps = DiscreteVP(50).t_of_sigma_tilde(DiscreteVP(50).levels(u)).round()
    assert steps.long().bincount().tolist() == [400] * 50


def test_what_networks_are_told():
    s = torch.tensor([0.1, 2.0])
    torch.testing.assert_close(EDM().c_noise(s), s.log() / 4)
    assert float(VP().c_noise(torch.tensor([VP().sigma_max]))) == pytest.approx(999)
    assert float(DiscreteVP().c_noise(DiscreteVP().sigma_tilde(torch.tensor([417.0])))) == pytest.approx(417)


def test_names():
    named = [type(schedule_named(name)) for name in ("edm", "vp", "ve", "ddpm")]
    assert named == [EDM, VP, VE, DiscreteVP]
    own = VE(1.0, 2.0)
    assert schedule_named(own) is own
    with pytest.raises(ValueError, match="Did you mean 'edm'"):
        schedule_named("emd")
    with pytest.raises(NotImplementedError):
        Schedule().t_of_sigma_tilde(torch.ones(1))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: VP(beta_min=-1), "beta_min"),
        (lambda: VP(2.0, 1.0), "beta_max"),
        (lambda: VP(0, 0), "beta_max must be positive"),
        (lambda: VP(t_min=2.0), "t_min"),
        (lambda: VE(0.0), "sigma_min must be positive"),
        (lambda: VE(2.0, 1.0), "sigma_max must be finite"),
        (lambda: EDM(sigma_max=math.inf), "sigma_max must be finite"),
        (lambda: EDM(rho=0.5), "rho"),
        (lambda: EDM(P_std=-1.0), "P_std"),
        (lambda: DiscreteVP(1), "T"),
        (lambda: DiscreteVP(kind="sigmoid"), "kind"),
        (lambda: DiscreteVP(beta_start=0.5, beta_end=0.1), "beta_end"),
        (lambda: DiscreteVP(beta_end=1.0), "between 0 and 1"),
        (lambda: DiscreteVP(betas=torch.tensor([0.1, torch.nan])), "between 0 and 1"),
    ],
)
def test_numbers_out_of_range_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_no_noise_is_at_time_zero():
    assert VP(0, 5).t_of_sigma_tilde(torch.zeros(2)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "schedule", [EDM(), EDM(P_mean=0.3, P_std=2), VP(), VE(), Flow()], ids=["edm", "wide", "vp", "ve", "flow"]
)
def test_the_share_below_a_level_inverts_the_law_of_levels(schedule):
    u = torch.linspace(0.001, 0.999, 50, dtype=torch.float64)
    torch.testing.assert_close(schedule.share_below(schedule.levels(u)), u)
    assert float(schedule.share_below(torch.tensor(0.0))) == 0
    assert float(schedule.share_below(torch.tensor(1e30))) == 1


def test_the_share_below_a_level_counts_whole_steps():
    schedule = DiscreteVP(10)
    levels = schedule.sigma_tilde(torch.arange(10))
    between = (levels[3] + levels[4]) / 2
    assert schedule.share_below(torch.stack([levels[0] / 2, between, 2 * levels[-1]])).tolist() == [0, 0.4, 1]
    assert EDM(P_mean=0, P_std=0).share_below(torch.tensor([0.5, 1.0, 2.0])).tolist() == [0, 0.5, 1]


@pytest.mark.parametrize(
    "make",
    [
        lambda: VP(0.1, math.inf),
        lambda: VP(t_max=math.inf),
        lambda: EDM(rho=math.inf),
        lambda: EDM(P_mean=math.inf),
    ],
)
def test_infinite_settings_are_refused(make):
    with pytest.raises(ValueError, match="finite"):
        make()
