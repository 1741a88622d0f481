"""Samplers on normal data, where each one is a linear map of its noise, so that its variances are known exactly."""

import math
from itertools import pairwise

import pytest
import torch

from lodim.generative import (
    EDM,
    VP,
    Denoiser,
    EmpiricalDenoiser,
    GaussianDenoiser,
    ancestral,
    ddim,
    dpmpp_2m,
    euler,
    euler_maruyama,
    exponential_integrator,
    heun,
    pc,
    samplers,
)  # fmt: skip
from lodim.generative.samplers import SAMPLERS
from lodim.nets import TimeMLP
from lodim.randomness import torch_generator

VARIANCES = torch.tensor([4.0, 1.0, 0.25, 0.01, 0.0]).double()
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)


def gaussian(variances=VARIANCES):
    return GaussianDenoiser(torch.zeros(len(variances)), torch.diag(variances))


def geometric(high, low, n):
    return torch.logspace(math.log10(high), math.log10(low), n + 1).double()


@pytest.fixture
def variance_of(monkeypatch):
    """A sampler's output variance on N(0, C), exactly: one row of the batch for each noise it draws."""

    def measure(sampler, sigmas, start=None, variances=VARIANCES, **options):
        d, n = len(variances), len(sigmas)
        drawn = 0

        def unit(like, generator):
            nonlocal drawn
            drawn += 1
            return torch.eye(n + 1)[drawn][:, None].expand(n + 1, d).to(like)

        monkeypatch.setattr(samplers, "normal", unit)
        x = torch.zeros(n + 1, d).double()
        x[0] = (variances + sigmas[0] ** 2 if start is None else start).sqrt()
        return sampler(gaussian(variances), x, sigmas, **options).square().sum(0)

    return measure


# ------------------------------------------------------------------------------------------------ deterministic ones


def errors(sampler, counts):
    """Error of the final value, against the exact flow sqrt((C + s^2) / (C + S^2)) x."""
    exact = ((VARIANCES + 0.04) / (VARIANCES + 100)).sqrt()
    x = torch.ones(1, len(VARIANCES)).double()
    return [float((sampler(gaussian(), x, geometric(10, 0.2, n))[0] - exact).abs().max()) for n in counts]


@pytest.mark.parametrize(("sampler", "order"), [(euler, 1), (heun, 2), (dpmpp_2m, 2)])
def test_orders_by_doubling_the_steps(sampler, order):
    coarse, fine = errors(sampler, (160, 320))
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.1)


def test_few_steps_return_the_covariance(variance_of):
    """Of second order, errors are a fifth of euler's at 36 steps, and fall."""
    sigmas, known = EDM().sigmas(36), VARIANCES > 0
    wrong = {s.__name__: variance_of(s, sigmas) - VARIANCES for s in (euler, heun, dpmpp_2m)}
    for second in ("heun", "dpmpp_2m"):
        assert bool((wrong["euler"].abs() > 5 * wrong[second].abs())[:3].all())
        assert float((wrong[second][known] / VARIANCES[known]).abs().max()) < 0.05
    gain = 1.0  # by hand, one coordinate of variance 1 / 4
    for a, b in zip(sigmas[:-1].tolist(), sigmas[1:].tolist()):
        gain *= 1 + (b - a) * a / (0.25 + a * a)
    assert float(wrong["euler"][2]) == pytest.approx(gain**2 * (0.25 + 6400) - 0.25, rel=1e-9)


def test_covariances_between_coordinates_are_kept(variance_of):
    """Turned data give turned samples."""
    U = torch.linalg.qr(torch.randn(5, 5, generator=torch_generator(0), dtype=torch.float64)).Q
    C, sigmas = U * VARIANCES @ U.mT, EDM().sigmas(18)
    start = torch.linalg.cholesky(
        C + sigmas[0] ** 2 * torch.eye(5)
    ).mT  # rows whose products are the noisy covariance
    for sampler in (euler, heun, dpmpp_2m):
        out = sampler(GaussianDenoiser(torch.zeros(5), C), start, sigmas)
        torch.testing.assert_close(out.mT @ out, U * variance_of(sampler, sigmas) @ U.mT)


def test_schedules_agree_on_one_denoiser():
    n = torch.randn(5, 5, generator=torch_generator(0), dtype=torch.float64)
    one, other = (heun(gaussian(), s.sigma_max * n, s.sigmas(500)) for s in (EDM(), VP()))
    torch.testing.assert_close(one, other, rtol=2e-3, atol=1e-3)


def test_no_noise_is_euler():
    x, sigmas = 80 * torch.randn(4, 5, generator=torch_generator(0)), EDM().sigmas(12)
    torch.testing.assert_close(
        ddim(gaussian(), x, sigmas), euler(gaussian(), x, sigmas), rtol=1e-6, atol=1e-6
    )


def test_two_stages_by_hand():
    d, x = gaussian(), torch.ones(1, 5).double()
    slope = d.eps(x, 3.0)
    end = x - 2 * slope
    expected = x - (slope + d.eps(end, 1.0))
    torch.testing.assert_close(heun(d, x, [3.0, 1.0]), expected)


# ------------------------------------------------------------------------------------------------ noisy ones

NOISY = {
    "ddim": (ddim, {"eta": 0.5}),
    "small": (ancestral, {}),
    "large": (ancestral, {"variance": "large"}),
    "euler_maruyama": (euler_maruyama, {}),
    "exponential_integrator": (exponential_integrator, {}),
    "churn": (heun, {"churn": 4.0, "churn_noise": 1.0}),
}


@pytest.mark.parametrize(("sampler", "options"), NOISY.values(), ids=NOISY)
def test_variances_converge(variance_of, sampler, options):
    wrong = [
        (variance_of(sampler, geometric(20, 0.1, n), **options) - VARIANCES - 0.01).abs().max()
        for n in (200, 400)
    ]
    assert wrong[1] < 0.1
    if sampler is heun:
        return  # of second order, and of too few digits left to show it
    assert math.log2(wrong[0] / wrong[1]) == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("n", [2, 7])
def test_variances_that_are_right_after_any_number_of_steps(variance_of, n):
    """The small one for a single datum, the large one for normal data of the unit that is preserved."""
    sigmas, datum = geometric(20, 0.5, n), torch.zeros(1).double()
    for sampler, options in ((ancestral, {}), (ddim, {"eta": 0.3}), (ddim, {"eta": 1.0})):
        found = variance_of(sampler, sigmas, variances=datum, **options)
        torch.testing.assert_close(found, sigmas[-1:] ** 2)
    found = variance_of(ancestral, sigmas, variances=datum + 2.25, variance="large", unit=1.5)
    torch.testing.assert_close(found, 2.25 + sigmas[-1:] ** 2)


@pytest.mark.parametrize("variance", ["small", "large"])
def test_one_step_is_the_variance_preserving_posterior(variance_of, variance):
    """In the coordinates of DDPM: mean of equation 7, and beta-tilde or beta for the variance."""
    a1, a0 = 0.3, 0.6  # alpha_bar before and after
    s1, s0 = (math.sqrt(1 / a - 1) for a in (a1, a0))
    beta = 1 - a1 / a0
    wanted = beta if variance == "large" else beta * (1 - a0) / (1 - a1)
    found = variance_of(ancestral, torch.tensor([s1, s0]).double(), 0 * VARIANCES, variance=variance)
    torch.testing.assert_close(found * a0, torch.full((5,), wanted).double())
    x = torch.ones(1, 5).double()
    x0, xt = gaussian()(x, s1), x * math.sqrt(a1)
    mean = (math.sqrt(a0) * beta * x0 + math.sqrt(a1 / a0) * (1 - a0) * xt) / (1 - a1)
    got = variance_of(ancestral, torch.tensor([s1, s0]).double(), x[0] ** 2, variance=variance) - found
    torch.testing.assert_close(got * a0, mean[0] ** 2)


def test_ancestral_is_ddim_with_all_of_the_noise():
    x, sigmas = 80 * torch.randn(4, 5, generator=torch_generator(0)), EDM().sigmas(12)
    one = ancestral(gaussian(), x, sigmas, generator=torch_generator(1))
    other = ddim(gaussian(), x, sigmas, eta=1.0, generator=torch_generator(1))
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def test_the_exponential_integrator_is_the_surveys():
    """2404.07771 in its own coordinates: dX = -X / 2 dt + dW, reversed with the score held between steps."""
    ou, unit = VP(1, 1, t_max=4.0), 2.0
    t = torch.linspace(4, 0.1, 9).double()
    sigmas = unit * ou.sigma_tilde(t)
    x = torch.randn(3, 5, generator=torch_generator(0), dtype=torch.float64) * sigmas[0]
    got = exponential_integrator(gaussian(), x, sigmas, unit=unit, generator=torch_generator(1))
    own, generator = x / unit * ou.alpha(t[0]), torch_generator(1)
    for before, after in pairwise(t):
        h, alpha = before - after, ou.alpha(before)
        score = gaussian(VARIANCES / unit**2).score(own / alpha, float(ou.sigma_tilde(before))) / alpha
        n = torch.randn(3, 5, generator=generator, dtype=torch.float64)
        own = (h / 2).exp() * own + 2 * ((h / 2).exp() - 1) * score + (h.exp() - 1).sqrt() * n
    torch.testing.assert_close(got, unit * own / ou.alpha(t[-1]), rtol=1e-10, atol=1e-10)


def test_a_corrector_brings_the_wrong_distribution_to_the_right_one():
    """Too narrow at the start; the predictor keeps that, Langevin steps forget it."""
    sigmas, n = geometric(2, 1.0, 20), 4000
    x = torch.randn(n, 5, generator=torch_generator(0), dtype=torch.float64)
    right = VARIANCES + 1
    without, some = (
        pc(gaussian(), x, sigmas, snr=0.2, corrector_steps=m, generator=torch_generator(1)).var(0) / right
        for m in (0, 10)
    )
    assert bool((without < 0.9).any())
    noise = 5 * math.sqrt(2 / n)
    assert bool(((some - 1).abs() < 0.06 + noise).all())  # a step of Langevin is biased by about snr^2
    alone = euler_maruyama(gaussian(), x, sigmas, generator=torch_generator(1))
    assert torch.equal(pc(gaussian(), x, sigmas, corrector_steps=0, generator=torch_generator(1)), alone)


def test_predictor_and_corrector_give_the_covariance():
    sigmas, n = geometric(20, 0.1, 200), 1000
    x = (VARIANCES + 400).sqrt() * torch.randn(n, 5, generator=torch_generator(0), dtype=torch.float64)
    found = pc(gaussian(), x, sigmas, snr=0.1, generator=torch_generator(1)).var(0)
    assert bool(((found / (VARIANCES + 0.01) - 1).abs() < 0.1 + 5 * math.sqrt(2 / n)).all())


# ------------------------------------------------------------------------------------------------ what all share


@every_sampler
def test_calls_are_as_documented(sampler):
    calls = 0

    def counted(x, sigma, cond):
        nonlocal calls
        calls += 1
        return gaussian()(x, sigma)

    sampler(counted, torch.ones(2, 5), EDM().sigmas(6))
    assert calls == {"heun": 11, "pc": 11}.get(sampler.__name__, 6)


@every_sampler
def test_units_do_not_matter(sampler):
    x, sigmas = 80 * torch.randn(4, 5, generator=torch_generator(0), dtype=torch.float64), EDM().sigmas(12)
    options = {"unit": 4.0} if sampler in (ancestral, exponential_integrator) else {}
    plain = sampler(gaussian(), x, sigmas, generator=torch_generator(1))
    large = sampler(gaussian(16 * VARIANCES), 4 * x, 4 * sigmas, generator=torch_generator(1), **options)
    torch.testing.assert_close(large, 4 * plain, rtol=1e-12, atol=1e-12)


@every_sampler
def test_the_exact_denoiser_of_a_set_gives_it_back(sampler):
    Y = torch.tensor([[0.0, 1.0], [2.0, 0.0], [-1.0, -1.0]]).double()
    x = 80 * torch.randn(20, 2, generator=torch_generator(0), dtype=torch.float64)
    out = sampler(EmpiricalDenoiser(Y), x, EDM().sigmas(30), generator=torch_generator(1))
    gaps = torch.cdist(out, Y)
    assert float(gaps.min(1).values.max()) < 0.02
    assert len(gaps.argmin(1).unique()) == 3


@every_sampler
def test_precision_seeds_and_empty_batches(sampler):
    seen = set()

    def noted(x, sigma, cond):
        seen.add(x.dtype)
        return gaussian()(x, sigma)

    sigmas = EDM().sigmas(5)
    for dtype in (torch.float16, torch.float32, torch.float64):
        x = (80 * torch.ones(2, 5)).to(dtype)
        one, again = (sampler(noted, x, sigmas, generator=torch_generator(1)) for _ in range(2))
        assert one.dtype == dtype
        assert torch.equal(one, again)
        assert not one.requires_grad
    assert seen == {torch.float32, torch.float64}
    assert sampler(gaussian(), torch.zeros(0, 5), sigmas, generator=torch_generator(1)).shape == (0, 5)
    shared = torch.get_rng_state()
    sampler(gaussian(), torch.ones(2, 5), sigmas, generator=torch_generator(1))
    assert torch.equal(torch.get_rng_state(), shared)


@every_sampler
def test_callbacks_see_every_step_and_may_replace_the_samples(sampler):
    states = []
    sigmas = EDM().sigmas(5)
    x = 80 * torch.ones(2, 5)
    out = sampler(gaussian(), x, sigmas, on_step=[states.append, lambda state: 0 * state.x + 7])
    assert bool((out == 7).all())
    assert [state.i for state in states] == [0, 1, 2, 3, 4]
    assert [state.sigma for state in states] == sigmas[:-1].tolist()
    assert [state.sigma_next for state in states] == sigmas[1:].tolist()
    assert {state.steps for state in states} == {5}
    assert all(state.x.shape == state.x0_hat.shape == (2, 5) for state in states)
    torch.testing.assert_close(states[0].x0_hat, gaussian()(x.double(), 80.0))
    with pytest.raises(ValueError, match="on_step returned shape"):
        sampler(gaussian(), x, sigmas, on_step=lambda state: state.x[:1])


@every_sampler
def test_a_network_of_single_precision(sampler):
    model = Denoiser(TimeMLP(5, 16, 1, n_classes=3))
    out = sampler(model, 80 * torch.ones(2, 5), EDM().sigmas(4), cond={"label": torch.tensor([0, 2])})
    assert out.dtype == torch.float32
    assert bool(out.isfinite().all())


@pytest.mark.parametrize(
    "sigmas", [[1.0], [1.0, 2.0], [1.0, 1.0], [1.0, -1.0], [math.inf, 1.0], [1.0, math.nan], []]
)
def test_levels_that_do_not_fall_are_refused(sigmas):
    with pytest.raises(ValueError, match="finite levels that fall"):
        euler(gaussian(), torch.ones(1, 5), sigmas)


@pytest.mark.parametrize("sigmas", [[1e39, 1.0, 0.0], [1.0, 1e-50, 0.0], [1.0, 1e-50]])
def test_levels_beyond_the_samples_precision_are_refused(sigmas):
    with pytest.raises(ValueError, match=r"sigmas from .* are beyond torch.float32"):
        euler(gaussian(), torch.ones(1, 5), sigmas)
    assert bool(euler(gaussian(), torch.ones(1, 5, dtype=torch.float64), sigmas).isfinite().all())


@pytest.mark.parametrize(
    ("sampler", "options", "said"),
    [
        (heun, {"churn": -1.0}, "churn"),
        (ddim, {"eta": 1.5}, "eta"),
        (ancestral, {"variance": "learned"}, "variance"),
        (ancestral, {"unit": 0.0}, "unit must be positive"),
        (pc, {"snr": -0.1}, "snr"),
        (pc, {"corrector_steps": 1.5}, "corrector_steps"),
    ],
)
def test_options_out_of_range_are_refused(sampler, options, said):
    with pytest.raises((ValueError, TypeError), match=said):
        sampler(gaussian(), torch.ones(1, 5), [2.0, 1.0], **options)


def test_an_option_that_a_sampler_does_not_have_is_refused():
    for sampler in SAMPLERS.values():
        with pytest.raises(TypeError, match="no option chrun"):
            sampler(
                GaussianDenoiser(torch.zeros(2), torch.eye(2)), torch.ones(3, 2), [1.0, 0.5, 0.0], chrun=3
            )


def test_whole_numbers_begin_and_arrays_come_back_from_callbacks():
    oracle = GaussianDenoiser(torch.zeros(2), torch.eye(2))
    x = euler(
        oracle, torch.ones(3, 2, dtype=torch.int64), [1.0, 0.0], on_step=lambda state: state.x.numpy() / 4
    )
    assert x.dtype == torch.float32
    assert torch.equal(x, torch.full((3, 2), 0.125))


@pytest.mark.parametrize(
    "made",
    [lambda x: x[:1], lambda x: None, lambda x: x.numpy()],
    ids=["another shape", "nothing", "an array"],
)
def test_a_denoiser_or_guide_that_answers_with_something_else_is_refused(made):
    x, sigmas = torch.ones(3, 2), [1.0, 0.5, 0.0]
    for denoiser, guidance in (
        (lambda x, s, c: made(x), None),
        (gaussian(torch.ones(2)), lambda d, x, s, c: made(x)),
    ):
        with pytest.raises((TypeError, ValueError), match="denoiser and guidance must return"):
            heun(denoiser, x, sigmas, guidance=guidance)
