"""What must hold of PFGM++ whatever the data: the kernel's law, its limits, and that field lines end at the charges."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from lodim.claims.generative.pfgmpp import modes, robustness
from lodim.claims.result import Progress, verdict_of
from lodim.datasets import Split
from lodim.datasets.toy import gaussian_ring
from lodim.generative import (
    EDM,
    PFGMPP,
    Diffusion,
    EmpiricalDenoiser,
    EmpiricalPoissonDenoiser,
    PoissonKernel,
    heun,
    noise_injection,
    phase_profile,
    step_sweep,
    weight_rounding,
)
from lodim.generative.pfgmpp.robustness import _rounded
from lodim.generative.samplers import ddim, euler_maruyama, pc
from lodim.metrics import mode_coverage
from lodim.nets import SmallUNet, TimeMLP
from lodim.randomness import build_seeded

pytestmark = pytest.mark.filterwarnings("ignore:D=:UserWarning")
INF = math.inf


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(D, n, N, sigma=1.0, seed=0, dtype=torch.float32, **options):
    levels = torch.full((n, 1), sigma, dtype=dtype)
    return PoissonKernel(D, **options)(torch.zeros(n, N, dtype=dtype), levels, seeded(seed))


def model(D, seed=0, **options):
    net = build_seeded(lambda: TimeMLP(2, 16, 1, cond_dim=int(D <= 2)), seed)
    with torch.no_grad():
        net.last.weight.normal_(generator=seeded(seed))
    return PFGMPP(net, 2, D, **options)


# ---------------------------------------------------------------------------------------------------- the kernel


@pytest.mark.parametrize(("N", "D"), [(2, 1), (2, 64), (64, 64), (3072, 2048)])
def test_radii_have_the_papers_law(N, D):
    sigma = 3.0
    x = noise(D, 2000, N, sigma)
    ratio = x.double().square().sum(1) / (sigma**2 * D)  # R^2 / r^2
    assert stats.kstest(ratio.numpy(), stats.betaprime(N / 2, D / 2).cdf).pvalue > 1e-3
    first = x[:, 0] / x.norm(dim=1)  # a coordinate of a uniform direction: its square is Beta(1/2, (N - 1)/2)
    assert stats.kstest(first.double().square().numpy(), stats.beta(0.5, (N - 1) / 2).cdf).pvalue > 1e-3


@pytest.mark.parametrize("D", [4.5, 64, 2048])
def test_a_coordinates_law_is_student_t_with_its_variance(D):
    x = noise(D, 20_000, 3, 2.0)[:, 1].double().numpy()
    assert stats.kstest(x, stats.t(D, scale=2.0).cdf).pvalue > 1e-3
    if D > 10:  # whose fourth moment is finite: the variance of the estimate is known
        expected = 4 * D / (D - 2)
        spread = expected * math.sqrt((2 + 6 / (D - 4)) / len(x))
        assert abs(x.var() - expected) < 4 * spread


@pytest.mark.parametrize("D", [0.5, 1, 7.3, 2048, 1e9, INF])
@pytest.mark.parametrize("N", [1, 2])
def test_the_density_integrates_to_one(N, D):
    kernel, sigma = PoissonKernel(D), 1.7

    def shell(log_r):  # in the logarithm, for the tails
        r = math.exp(log_r)
        x = torch.zeros(1, N, dtype=torch.float64)
        x[0, 0] = r
        return float(kernel.log_prob(x, sigma).exp()) * (2 if N == 1 else 2 * math.pi * r) * r

    total = integrate.quad(shell, -40, 80, points=(-3, 0, 1, 3, 10), limit=400)[0]
    assert total == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("D", [1, 7.3, 500.0])
def test_the_density_is_the_multivariate_t(D):
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 6)))
    expected = stats.multivariate_t(np.zeros(6), np.eye(6) * 0.3**2, D).logpdf(x.numpy())
    np.testing.assert_allclose(
        PoissonKernel(D).log_prob(x.reshape(5, 2, 3), 0.3).numpy(), expected, rtol=1e-10
    )


def test_large_d_is_the_normal_kernel():
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 6)))
    far, normal = PoissonKernel(1e9).log_prob(x, 2.0), PoissonKernel(INF).log_prob(x, 2.0)
    torch.testing.assert_close(far, normal, rtol=0, atol=1e-6)
    expected = stats.multivariate_normal(np.zeros(6), 4.0).logpdf(x.numpy())
    np.testing.assert_allclose(normal.numpy(), expected, rtol=1e-12)
    torch.testing.assert_close(
        noise(1e9, 50, 3), noise(INF, 50, 3), rtol=1e-3, atol=0
    )  # of the same normal draws
    Y = torch.randn(40, 2, generator=seeded(), dtype=torch.float64)
    q = 3 * torch.randn(30, 2, generator=seeded(1), dtype=torch.float64)
    for sigma in (0.05, 0.5, 20.0):
        exact = EmpiricalDenoiser(Y)(q, sigma)
        torch.testing.assert_close(EmpiricalPoissonDenoiser(Y, 1e8)(q, sigma), exact, rtol=0, atol=1e-4)
        assert torch.equal(EmpiricalPoissonDenoiser(Y, INF)(q, sigma), exact)


def test_the_oracle_weighs_by_the_kernels_density():
    Y, x = torch.randn(9, 3, generator=seeded(), dtype=torch.float64), torch.ones(1, 3, dtype=torch.float64)
    density = PoissonKernel(2.5).log_prob(x - Y, 0.4).softmax(0)
    torch.testing.assert_close(EmpiricalPoissonDenoiser(Y, 2.5)(x, 0.4)[0], density @ Y)


@pytest.mark.parametrize("D", [0.5, 1, 64, 1e9])
def test_images_of_any_size_get_finite_noise(D):
    x = PoissonKernel(D)(torch.zeros(4, 3, 256, 256), torch.full((4, 1, 1, 1), 80.0), seeded())
    assert x.dtype == torch.float32
    assert bool(x.isfinite().all())


def test_noise_scales_with_its_level_and_its_generator_alone_decides():
    torch.testing.assert_close(4 * noise(3, 20, 5), noise(3, 20, 5, 4.0))
    before = torch.get_rng_state()
    assert not torch.equal(noise(3, 20, 5), noise(3, 20, 5, seed=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_clipping_bounds_the_radii_and_changes_no_others():
    free, clipped = noise(64, 4000, 2), noise(64, 4000, 2, beta_clip=1e-3)
    r2 = clipped.double().square().sum(1)
    b = r2 / (r2 + 64)
    assert float(b.min()) > 0.999e-3
    kept = b > 1.001e-3
    assert 0.95 < float(kept.double().mean()) < 0.985  # B of Beta(1, 32) is below 0.001 in 3.15 % of draws
    torch.testing.assert_close(free[kept], clipped[kept], rtol=1e-5, atol=0)


# ---------------------------------------------------------------------------------------------------- the flow


@pytest.mark.parametrize("D", [1, 16, 64, 2048, INF])
def test_field_lines_end_at_the_charges_in_proportion(D):
    """Gauss's law: as much field leaves a charge as the charge is worth."""
    n = 800
    ring = gaussian_ring(n, random_state=0)
    field = EmpiricalPoissonDenoiser(torch.from_numpy(ring.X), D)
    out = heun(field, noise(D, n, 2, 80.0, seed=3, dtype=torch.float64), EDM().sigmas(18))
    found = mode_coverage(out, ring.centers, 0.2)
    assert found.inside >= 0.99
    share = np.bincount(ring.mode) / n
    assert np.all(
        np.abs(np.array(found.counts) - n * share) < 4 * np.sqrt(n * share * (1 - share)) + n * 0.01
    )


def test_an_infinite_d_is_diffusion_bit_for_bit():
    X = torch.from_numpy(gaussian_ring(64, random_state=0).X).float()
    net = build_seeded(lambda: TimeMLP(2, 16, 1), 0)
    pair = [
        PFGMPP(build_seeded(lambda: net, 0), 2, INF),
        Diffusion(build_seeded(lambda: TimeMLP(2, 16, 1), 0), 2),
    ]
    losses = [m.loss(X, generator=seeded(1)) for m in pair]
    assert torch.equal(*losses)
    fitted = [m.fit(X, steps=3, batch_size=16, random_state=5) for m in pair]
    assert torch.equal(*[m.sample(9, generator=2) for m in fitted])
    assert torch.equal(*[m.sample(9, generator=2, sampler="pc", steps=4) for m in fitted])


@pytest.mark.parametrize("D", [1, 16])
def test_samples_scale_with_the_data(D):
    big, small = model(D), model(D)
    big.denoiser.scale.fill_(8.0)
    assert isinstance(big.loss(torch.ones(4, 2), generator=seeded()), torch.Tensor)
    torch.testing.assert_close(
        big.sample(6, generator=0), 8 * small.sample(6, generator=0), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize(("D", "sampler"), [(0.5, "heun"), (64, "dpmpp_2m"), (1e9, "ddim")])
def test_losses_and_samples_are_numbers(D, sampler):
    one = model(D)
    assert bool(one.loss(torch.randn(256, 2, generator=seeded()), generator=seeded()).isfinite())
    assert bool(one.sample(64, generator=0, sampler=sampler).isfinite().all())
    vp = model(64, schedule="vp")
    assert bool(vp.sample(8, generator=0, sampler="ddim").isfinite().all())


def test_classes_and_images_are_taken():
    for D in (1, 64):
        one = PFGMPP(None, (1, 8, 8), D, n_classes=3, random_state=0)
        assert isinstance(one.denoiser.net, SmallUNet)
        x, y = torch.rand(6, 1, 8, 8, generator=seeded()), [0, 1, 2, 0, 1, -1]
        one.loss(x, np.array(y), generator=seeded()).backward()
        assert one.sample(2, steps=3, cond=[0, 2], guidance=2.0, generator=0).shape == (2, 1, 8, 8)


def test_the_norms_preconditioning_is_edms_where_the_level_is_the_norm():
    one, plain = model(1), model(16)  # of the same net but for what it is told
    one.denoiser.net.embed.vector.weight.data.zero_()
    one.denoiser.net.embed.vector.bias.data.zero_()
    plain.denoiser.net.load_state_dict(one.denoiser.net.state_dict(), strict=False)
    x = torch.randn(7, 2, generator=seeded())
    size = x.square().mean(1).sqrt()
    torch.testing.assert_close(one.denoiser(x, size / 3), plain.denoiser(x, size))
    torch.testing.assert_close(one.denoiser(x, 9.0), plain.denoiser(x, 9.0))
    far = one.denoiser(1e6 * x, 0.01).detach()
    assert float(far.abs().max()) < 100  # c_skip x is small, as c_out is bounded


def test_the_prior_of_heavy_tails_is_cut_where_it_says():
    one = model(1)
    limit = one.kernel.max_radius(2, 0.999)
    assert stats.betaprime(1, 0.5).cdf(limit**2) == pytest.approx(0.999, abs=1e-9)
    x = one.prior(20_000, 1.0, 0)
    assert float(x.norm(dim=1).max()) <= limit
    assert float(model(1, max_radius_quantile=1.0).prior(20_000, 1.0, 0).norm(dim=1).max()) > limit
    assert PoissonKernel(INF).max_radius(2, 0.5) == pytest.approx(math.sqrt(2 * math.log(2)))


def test_d_is_part_of_the_state():
    one, other = model(64), model(128, seed=1)
    other.load_state_dict(one.state_dict())
    assert other.D == 64
    assert torch.equal(one.sample(3, generator=0), other.sample(3, generator=0))
    assert one.half().D == 64


@pytest.mark.parametrize("D", [0, -1.0, math.nan])
def test_no_fewer_dimensions_than_none(D):
    for make in (PoissonKernel, lambda D: model(D), lambda D: EmpiricalPoissonDenoiser(torch.ones(2, 2), D)):
        with pytest.raises(ValueError, match="D must be"):
            make(D)


def test_bad_input_is_said():
    with pytest.warns(UserWarning, match="fewer than 4"):
        model(3)
    with pytest.raises(ValueError, match="beta_clip"):
        PoissonKernel(4, beta_clip=0.5)
    with pytest.raises(ValueError, match="max_radius_quantile"):
        model(4, max_radius_quantile=0.0)
    with pytest.raises(ValueError, match="cond_dim"):
        PFGMPP(None, 2, 16, precond="norm", cond_dim=2)
    for option in ({"sampler": "ancestral"}, {"churn": 3.0}, {"sampler": "ddim", "eta": 0.5}):
        with pytest.raises(ValueError, match="adds noise on its way"):
            model(16).sample(2, **option)


# ---------------------------------------------------------------------------------------------------- robustness


def mean_size(samples):
    return samples.square().mean()


def test_what_disturbs_nothing_changes_nothing():
    one = model(64)
    plain = step_sweep(one, (6,), mean_size, n=30, random_state=4)
    still = noise_injection(one, (0.0, 0.4), mean_size, n=30, steps=6, random_state=4)
    fine = weight_rounding(one, (16, 2), mean_size, n=30, steps=6, random_state=4)
    np.testing.assert_allclose(still.scores[0], plain.scores[0], rtol=1e-6)
    np.testing.assert_allclose(fine.scores[0], plain.scores[0], rtol=0.05)
    assert not np.allclose(still.scores[1], plain.scores[0], rtol=0.01)
    assert still.scores.shape == (2, 3)
    assert len({*plain.scores[0]}) == 3
    for bad in (lambda: noise_injection(one, (-1.0,), mean_size), lambda: step_sweep(one, (), mean_size)):
        with pytest.raises(ValueError, match="values"):
            bad()


def test_rounding_leaves_so_many_values_and_half_a_step_of_error():
    one = model(64)
    rounded = _rounded(one, 3)
    weights = one.denoiser.net.state_dict().values(), rounded.denoiser.net.state_dict().values()
    for before, after in zip(*weights, strict=True):
        if before.ndim == 1:
            assert torch.equal(before, after)
        else:
            assert len(after.unique()) <= 8
            assert float((before - after).abs().max()) <= float(before.max() - before.min()) / 7 * 0.501


def test_phases_begin_at_one_datum_and_end_at_all_of_them():
    Y = np.random.default_rng(0).normal(size=(200, 60))
    found = phase_profile(Y, (64, 2048, INF), n=100, random_state=0)
    np.testing.assert_allclose(found.tv[:, 0], 1 - 1 / 200, atol=1e-6)
    assert float(found.tv[:, -1].max()) < 0.05
    assert bool((np.diff(found.tv, axis=1) < 0.02).all())
    assert (
        float(np.abs(found.tv[1] - found.tv[2]).max()) < 0.05
    )  # aligned: 2048 dimensions are many for 60 numbers
    for bad in ([1.0, 0.5], [0.0, 1.0], [], [-2.0, -1.0], [1e-300, 1.0], [1.0, 1e200]):
        with pytest.raises(ValueError, match="sigmas"):
            phase_profile(Y, sigmas=bad)


# ---------------------------------------------------------------------------------------------------- the claims


def distances(*disturbed, plain=(1.5, 0.8, 0.8, 0.84)):
    return {
        D: {"noise 0.4": [far], "noise 0": [near]}
        for D, far, near in zip(("4", "64", "2048", "inf"), disturbed, plain, strict=True)
    }


def test_the_verdict_follows_the_distances():
    assert verdict_of(tuple(robustness._checks(distances(4.0, 9.0, 10.0, 11.0)))) == "holds"
    assert verdict_of(tuple(robustness._checks(distances(4.0, 10.0, 9.0, 11.0)))) == "fails"
    assert (
        verdict_of(tuple(robustness._checks(distances(4.0, 9.0, 10.0, 11.0, plain=(1.0, 1.1, 0.8, 0.8)))))
        == "fails"
    )


@pytest.mark.slow
@pytest.mark.trains
def test_both_claims_take_their_first_steps(monkeypatch):
    found = modes.run(0, Progress(), n=120, steps=3, batch_size=16, n_exact=100)
    assert {"near a mode, exact field, D = 1", "near a mode, learnt, D = inf"} < {
        c.what for c in found.checks
    }
    X, y = np.random.default_rng(0).random((140, 64)), np.arange(140) % 3

    def few(data, seed, shape):
        return Split(X.reshape(-1, *shape), y, X.reshape(-1, *shape), y)

    monkeypatch.setattr(robustness, "images", few)
    small = {"steps": 2, "trainings": 1, "n": 130, "n_repeats": 1, "device": "cpu", "batch_size": 8}
    assert len(list(robustness.run(0, Progress(), **small).checks)) == 3
    full = robustness.CLAIM.full.keywords | {"shape": (1, 8, 8), "D": (64, INF), **small}
    full |= {"net": lambda: SmallUNet(1, 8, (1, 2), (1,))}
    assert len(list(robustness.run(0, Progress(), **full).checks)) == 2


def test_starts_are_bounded_whatever_is_asked_for():
    for D, N in ((1e15, 2), (1e9, 3000)):
        assert PoissonKernel(D).max_radius(N, 0.999) == pytest.approx(
            PoissonKernel(INF).max_radius(N, 0.999), rel=1e-6
        )
    clipped = model(
        2048, beta_clip=0.4, max_radius_quantile=0.9
    )  # radii are all above nine tenths of the noise's
    least = math.sqrt(2048 * 0.4 / 0.6)
    torch.testing.assert_close(clipped.prior(20, 1.0, seeded()).norm(dim=1), torch.full((20,), least))
    assert model(0.01).prior(200, 80.0, seeded()).isfinite().all()
    with pytest.raises(ValueError, match=r"at least 0\.01"):
        PoissonKernel(1e-3)
    with pytest.raises(ValueError, match=r"from 0\.01 to 1"):
        model(64, max_radius_quantile=1e-6)


def test_disturbed_samplers_that_draw_noise_repeat_themselves():
    found = [
        noise_injection(model(INF), [0.1], lambda x: x.mean(), n=5, steps=3, sampler="ancestral").scores
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*found)


def test_a_profile_says_where_it_does_not_reach_one_half():
    Y = np.eye(5)
    assert "above 0.002" in str(phase_profile(Y, (64,), (1e-3, 2e-3), n=20))
    assert "below 100" in str(phase_profile(Y, (64,), (100.0, 200.0), n=20))
    with pytest.raises(ValueError, match="all samples of Y are equal"):
        phase_profile(np.ones((3, 2)))
    with pytest.raises(ValueError, match="NaN"):
        phase_profile([[0.0, np.nan], [1.0, 2.0]])


@pytest.mark.trains
def test_a_checkpoint_knows_its_noise(tmp_path):
    X = gaussian_ring(50, random_state=0).X
    model(64).fit(X, steps=10, checkpoint=tmp_path / "run")
    with pytest.raises(ValueError, match="kernel differs"):
        model(16).fit(X, steps=10, checkpoint=tmp_path / "run")


def test_samplers_that_draw_noise_are_refused_as_functions_and_partials_too():
    for sampler in (pc, euler_maruyama, partial(heun, churn=5), partial(partial(ddim, eta=0.5), eta=0.5)):
        with pytest.raises(ValueError, match="adds noise on its way"):
            model(64).sample(2, sampler=sampler)
        assert len(model(INF).sample(2, sampler=sampler, steps=3)) == 2
    assert len(model(64).sample(2, sampler=partial(heun, churn=0.0), steps=3)) == 2


def test_weights_that_are_computed_are_not_silently_left_as_they_were():
    one = model(INF)
    torch.nn.utils.parametrizations.weight_norm(one.denoiser.net.last)
    with pytest.raises(ValueError, match="remove_parametrizations"):
        weight_rounding(one, (2,), mean_size, n=3, steps=3)


@pytest.mark.parametrize("metric", [lambda x: None, lambda x: x], ids=["nothing", "many"])
def test_a_metric_that_is_no_number_is_refused(metric):
    with pytest.raises((TypeError, ValueError), match="metric"):
        step_sweep(model(INF), (3,), metric, n=4)
