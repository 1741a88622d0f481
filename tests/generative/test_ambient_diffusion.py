"""Ambient diffusion: the identity, what its loss teaches at which level, prices and mixtures with known answers."""

import copy
import math
import pickle
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture

from lodim.generative import (
    AmbientDiffusion,
    Diffusion,
    GaussianDenoiser,
    HeteroscedasticGMM,
    MixtureComparison,
    ScalingStudy,
    attach_noise,
    estimate_noise,
    fit_mixture,
    fit_power_law,
    price_bracket,
    scaling_study,
)
from lodim.generative.ambient_diffusion.model import POLICIES
from lodim.nets import TimeMLP
from lodim.randomness import torch_generator
from lodim.validation import ConvergenceWarning

SCHEDULES = ("edm", "vp", "ve", "ddpm", "flow")
COVARIANCE = torch.tensor([[1.0, 0.6], [0.6, 0.5]], dtype=torch.float64)


def lively(model, scale=1.7):
    """Give a model weights that are not 0, and a unit that is not 1."""
    for i, p in enumerate(model.denoiser.parameters()):
        torch.nn.init.normal_(p, std=0.2, generator=torch_generator(i))
    model.denoiser.scale.fill_(scale)
    return model


def small(**options):
    return lively(AmbientDiffusion(TimeMLP(3, 16, 1), 3, **options))


def samples(n=64, seed=9):
    return torch.randn(n, 3, generator=torch_generator(seed))


def correlated(n, seed=0):
    return np.random.default_rng(seed).multivariate_normal([1.0, -2.0], COVARIANCE.numpy(), size=n)


# -------------------------------------------------------------------------------------------------------- the loss


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_without_noise_it_is_the_ordinary_loss_bit_for_bit(schedule, policy):
    model = small(schedule=schedule, policy=policy)
    plain = lively(Diffusion(TimeMLP(3, 16, 1), 3, schedule=schedule))
    for reduction in ("none", "mean"):
        ours = model.loss(samples(), None, 0.0, generator=torch_generator(1), reduction=reduction)
        theirs = plain.loss(samples(), generator=torch_generator(1), reduction=reduction)
        assert torch.equal(ours, theirs)


def test_the_noisy_mean_is_a_mean_of_noisier_and_clean():
    """E[x_s | x_sigma] = a x_sigma + (1 - a) E[x_0 | x_sigma], and its variance-preserving form, on normal data."""
    s, sigma = 0.4, 1.3
    x = torch.randn(7, 2, generator=torch_generator(0), dtype=torch.float64)
    eye = torch.eye(2, dtype=torch.float64)
    zero = torch.zeros(2, dtype=torch.float64)
    clean = GaussianDenoiser(zero, COVARIANCE)(x, sigma).double()
    noisy = GaussianDenoiser(zero, COVARIANCE + s**2 * eye)(x, math.sqrt(sigma**2 - s**2)).double()
    a = s**2 / sigma**2
    torch.testing.assert_close(a * x + (1 - a) * clean, noisy)
    # t and s of the paper's section on variance-preserving processes, whose levels are t / sqrt(1 - t^2)
    t, own = sigma / math.hypot(1, sigma), s / math.hypot(1, s)
    x_t = math.sqrt(1 - t**2) * x
    r2 = (1 - t**2) / (1 - own**2)
    q2 = t**2 - r2 * own**2
    theirs = ((q2 / t**2) * (math.sqrt(1 - t**2) * clean - x_t) + x_t) / math.sqrt(r2)
    torch.testing.assert_close(theirs / math.sqrt(1 - own**2), noisy)


class Exact(torch.nn.Module):
    """A network that makes the denoiser the exact one of normal data, moved by a parameter."""

    def __init__(self, covariance):
        super().__init__()
        self.exact, self.off = (
            GaussianDenoiser(torch.zeros(2).double(), covariance),
            torch.nn.Parameter(torch.zeros(2)),
        )

    def forward(self, x, c_noise, cond=None):
        sigma = (4 * c_noise).exp()
        return self.exact(x * (1 + sigma.square()).sqrt()[:, None], sigma) + self.off


def test_the_exact_denoiser_has_no_gradient():
    model = AmbientDiffusion(Exact(COVARIANCE), 2, precond="x0", sigma_data=1.0)
    n = 40_000
    Y, s = attach_noise(correlated(n) - [1.0, -2.0], 0.7, 0.8)
    each = model.loss(torch.from_numpy(Y).float(), None, s, generator=torch_generator(0), reduction="none")
    gradient = torch.autograd.grad(each.clamp(max=1e4).mean(), model.denoiser.net.off)[0]
    naive = model.loss(torch.from_numpy(Y).float(), None, 0.0, generator=torch_generator(0))
    assert each.mean() < naive
    torch.testing.assert_close(gradient, torch.zeros(2), atol=0.25, rtol=0)
    moved = copy.deepcopy(model)
    with torch.no_grad():
        moved.denoiser.net.off += 0.3
    assert moved.loss(torch.from_numpy(Y).float(), None, s, generator=torch_generator(0)) > each.mean()


def test_least_squares_of_noisy_samples_is_the_clean_denoiser():
    """The population's minimiser among linear maps, from noisy samples only: C (C + sigma^2)^-1."""
    s, sigma, n = 0.5, 0.9, 100_000
    rng = np.random.default_rng(0)
    y = rng.multivariate_normal([0, 0], COVARIANCE.numpy(), size=n) + s * rng.normal(size=(n, 2))
    x = y + math.sqrt(sigma**2 - s**2) * rng.normal(size=(n, 2))
    a = s**2 / sigma**2
    found = np.linalg.lstsq((1 - a) * x, y - a * x, rcond=None)[0]
    C = COVARIANCE.numpy()
    np.testing.assert_allclose(found, np.linalg.inv(C + sigma**2 * np.eye(2)) @ C, rtol=0.02, atol=0.01)


def test_the_loss_is_its_formula():
    model, s = small(), 0.2
    u = torch.rand(64, generator=(g := torch_generator(3)), dtype=torch.float64)
    sigma = (1.7 * model.schedule.levels(u)).clamp_min(s)[:, None]
    noise = torch.randn(64, 3, generator=g)
    x = samples() + (sigma**2 - s**2).clamp_min(0).sqrt() * noise
    a = s**2 / sigma**2
    sd = 0.5 * 1.7
    error = a * x + (1 - a) * model.denoiser(x.float(), sigma) - samples()
    expected = ((sigma**2 + sd**2) / (sigma * sd) ** 2 * error**2).mean(1)
    each = model.loss(samples(), None, s, generator=torch_generator(3), reduction="none")
    torch.testing.assert_close(each.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_sample_teaches_nothing_below_its_noise(schedule):
    model = small(schedule=schedule)
    u = torch.rand(64, generator=torch_generator(3), dtype=torch.float64)
    s = 1.7 * model.schedule.levels(u) * 1.2  # above every level that will be drawn
    loss = model.loss(samples(), None, s, generator=torch_generator(3))
    assert loss == 0
    gradients = torch.autograd.grad(loss, list(model.denoiser.parameters()))
    assert all(not g.any() for g in gradients)
    half = torch.where(torch.arange(64) % 2 == 0, s, 0 * s)
    each = model.loss(samples(), None, half, generator=torch_generator(3), reduction="none")
    assert not each[::2].any()
    assert each[1::2].all()


def test_near_its_own_noise_nothing_cancels():
    """With sigma = s (1 + 1e-6) the error is that of the noise added, not of rounding."""
    model, s = small(), 3.0
    model.denoiser.center.fill_(1000)
    model._draw = lambda s, x, generator: s * (1 + 1e-6)
    each = model.loss(1000 + samples(), None, s, generator=torch_generator(0), reduction="none")
    noise = s * math.sqrt(2e-6) * torch.randn(64, 3, generator=torch_generator(0))
    weight = (s**2 + 0.85**2) / (s * 0.85) ** 2
    torch.testing.assert_close(each, weight * noise.square().mean(1), rtol=2e-2, atol=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_policies_draw_the_law_above_the_noise(schedule):
    s = torch.full((20_000,), 0.5, dtype=torch.float64)
    x = torch.zeros(len(s), 3)
    drawn = {p: small(schedule=schedule, policy=p)._draw(s, x, torch_generator(0)) for p in POLICIES}
    plain = 1.7 * small(schedule=schedule).schedule.levels(
        torch.rand(20_000, dtype=torch.float64, generator=torch_generator(5))
    )
    above = plain[plain > 0.5]
    for policy, levels in drawn.items():
        assert levels.min() >= 0.5
        held = float((levels == 0.5).double().mean())
        assert held == pytest.approx(
            float((plain <= 0.5).double().mean()) if policy == "clamp" else 0, abs=0.02
        )
        free = levels[levels > 0.5] if policy == "clamp" else levels
        for q in (0.1, 0.5, 0.9):
            assert float((free <= above.quantile(q)).double().mean()) == pytest.approx(q, abs=0.03)


# -------------------------------------------------------------------------------------------------- consistency


def test_consistency_is_off_by_default_and_leaves_the_other_loss_alone():
    model = small(consistency=2.0, consistency_batch=8, consistency_children=3, consistency_steps=2)
    plain = small().loss(samples(), None, 0.2, generator=torch_generator(1), reduction="none")
    each = model.loss(samples(), None, 0.2, generator=torch_generator(1), reduction="none")
    assert torch.equal(each[8:], plain[8:])
    assert (each[:8] > plain[:8]).all()
    assert model.loss(samples(), None, 0.2, generator=torch_generator(1)) == each.mean()


def test_the_squared_mean_of_children_is_biased_and_the_product_is_not():
    """The exact denoiser agrees with itself: what is left is the children's variance over their number."""
    x, sigma = 3 * torch.randn(4000, 2, generator=torch_generator(0)), torch.full((4000,), 1.0).double()
    found = {}
    for children, unbiased in ((2, False), (8, False), (2, True), (3, True)):
        model = AmbientDiffusion(
            Exact(COVARIANCE), 2, precond="x0", sigma_data=1.0, consistency=1.0, unbiased=unbiased,
            consistency_children=children, consistency_steps=40,
        )  # fmt: skip
        x0_hat = model.denoiser(x, sigma)
        with torch.no_grad():
            found[children, unbiased] = float(model._apart(x, x0_hat, sigma, None, torch_generator(1)).mean())
    assert found[2, False] == pytest.approx(4 * found[8, False], rel=0.15)
    assert abs(found[2, True]) < 0.1 * found[2, False]
    assert abs(found[3, True]) < 0.1 * found[2, False]


def test_consistency_teaches_through_the_paths():
    model = small(consistency=1.0, consistency_children=2, consistency_steps=2, unbiased=True, n_classes=0)
    model.loss(samples(4), None, 0.1, generator=torch_generator(0)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.denoiser.parameters())


# ------------------------------------------------------------------------------------------------ training and use


def test_centre_and_size_are_those_of_the_clean_data():
    X = correlated(20_000)
    Y, s = attach_noise(X, np.where(np.arange(len(X)) % 2, 0.5, 2.0), 0.9, random_state=0)
    model = AmbientDiffusion(TimeMLP(2, 8, 1), 2).fit(Y, s, steps=1)
    torch.testing.assert_close(model.denoiser.center, torch.tensor([1.0, -2.0]), atol=0.05, rtol=0)
    assert float(model.denoiser.scale) == pytest.approx(2 * math.sqrt(0.75), rel=0.05)
    plain, ours = (kind(TimeMLP(2, 8, 1), 2) for kind in (Diffusion, AmbientDiffusion))
    plain.fit(X, steps=1)
    ours.fit(X, 0, steps=1)
    assert torch.equal(plain.denoiser.scale, ours.denoiser.scale)


def test_noise_that_hides_the_data_is_refused():
    with pytest.raises(ValueError, match="hides how large"):
        AmbientDiffusion(TimeMLP(2, 8, 1), 2).fit(
            np.random.default_rng(0).normal(size=(500, 2)), 1.0, steps=1
        )
    with pytest.raises(ValueError, match="hides how large"):  # claimed noise is more than all there is
        AmbientDiffusion(TimeMLP(2, 8, 1), 2).fit(correlated(500), 3.0, steps=1)


@pytest.mark.trains
def test_noisy_samples_teach_the_clean_spread():
    X = np.random.default_rng(0).normal(size=(1500, 2)) * [1.0, 0.25]
    Y, s = attach_noise(X, 0.4, 0.9, random_state=0)
    told, naive = (AmbientDiffusion(TimeMLP(2, 32, 2), 2, random_state=0) for _ in range(2))
    told.fit(Y, s, steps=200)
    naive.fit(Y, 0, steps=200)
    spread = [m.sample(1000, steps=12, generator=0).std(0)[1] for m in (told, naive)]
    assert abs(spread[0] - 0.25) < 0.5 * abs(spread[1] - 0.25)


def test_sampling_stops_at_a_level_with_the_denoisers_answer():
    model = small()
    seen = []
    out = model.sample(5, stop_at=0.3, steps=6, sampler="euler", generator=0, on_step=seen.append)
    assert [state.sigma_next for state in seen][-2:] == [pytest.approx(0.3), 0]
    assert len(seen) == 6
    torch.testing.assert_close(out, seen[-1].x0_hat.float())
    levels = model._levels_down_to(float(model.sigmas(9)[-2]), 9)
    torch.testing.assert_close(
        levels, model.sigmas(9), rtol=1e-3, atol=0
    )  # the schedule's own, down to its end
    with pytest.raises(ValueError, match="stop_at must lie"):
        model.sample(2, stop_at=1e9)
    with pytest.raises((ValueError, TypeError)):  # two axes; these tests check annotations too
        model.sample(2, sigmas=np.array([[3.0, 2.0], [1.0, 0.0]]))
    with pytest.raises(ValueError, match="not both"):
        model.sample(2, stop_at=0.3, sigmas=[3.0, 1.0, 0.0])


def test_models_of_noisy_samples_only_say_where_to_stop():
    Y, s = attach_noise(correlated(100), 0.3)
    model = AmbientDiffusion(TimeMLP(2, 8, 1), 2).fit(Y, s, steps=1)
    again = AmbientDiffusion(TimeMLP(2, 8, 1), 2)
    again.load_state_dict(model.state_dict())
    for one in (model, again, pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        with pytest.warns(UserWarning, match=r"give stop_at=0.3"):
            one.sample(2, generator=0)
    odd = AmbientDiffusion(TimeMLP(2, 8, 1), 2).fit(*attach_noise(correlated(100), 0.12344), steps=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        odd.sample(2, stop_at=0.1234, generator=0)  # the four digits that the warning gives
        model.sample(2, stop_at=0.3, generator=0)
        model.sample(2, sigmas=[3.0, 1.0, 0.3], generator=0)
        model.fit(*attach_noise(correlated(100), 0.3, 0.9), steps=1)
        model.sample(2, generator=0)


def test_noise_may_leave_the_data_range_but_clean_samples_may_not():
    X = np.random.default_rng(0).random((50, 2))
    Y, s = attach_noise(X, 0.3, 0.5, random_state=0)
    model = AmbientDiffusion(TimeMLP(2, 8, 1), 2, data_range=(0, 1)).fit(Y, s, steps=1)
    out = model.sample(9, generator=0)
    assert out.min() >= 0
    assert out.max() <= 1
    with pytest.raises(ValueError, match="outside data_range"):
        model.fit(Y, 0.3 * (s == 0), steps=1)


def test_conditions_go_with_their_samples():
    Y, s = attach_noise(correlated(60), 0.2, 0.5)
    model = AmbientDiffusion(
        TimeMLP(2, 8, 1, n_classes=3), 2, n_classes=3, consistency=0.5, consistency_children=2,
        consistency_steps=2,
    )  # fmt: skip
    model.fit(Y, s, np.arange(60) % 3, steps=2, batch_size=20)
    assert model.sample(4, cond=1, guidance=2.0, generator=0).shape == (4, 2)


def test_a_checkpoint_of_another_loss_is_refused(tmp_path):
    Y, s = attach_noise(correlated(60), 0.2, 0.5)
    path = tmp_path / "run.pt"
    AmbientDiffusion(TimeMLP(2, 8, 1), 2).fit(Y, s, steps=2, checkpoint=path)
    for options, noise in (({"policy": "resample"}, s), ({}, 2 * s)):
        with pytest.raises(ValueError, match="checkpoint"):
            AmbientDiffusion(TimeMLP(2, 8, 1), 2, **options).fit(Y, noise, steps=2, checkpoint=path)


@pytest.mark.parametrize(
    ("noise", "said"),
    [
        (-0.1, "at least 0"), (math.nan, "finite"), (math.inf, "finite"), (np.full(7, 0.1), "one a sample"),
        (np.full((60, 1), 0.1), "one a sample"), (1e4, "hides|highest level"), (None, "numbers"),
    ],
)  # fmt: skip
def test_bad_noise_is_refused_in_words(noise, said):
    with pytest.raises((ValueError, TypeError), match=said):
        AmbientDiffusion(TimeMLP(2, 8, 1), 2).fit(correlated(60), noise, steps=1)


@pytest.mark.parametrize("noise", [np.full(2, 1e160), torch.full((2,), 1e39, dtype=torch.float64)])
def test_noise_beyond_the_samples_precision_is_named(noise):
    with pytest.raises(ValueError, match=r"noise_std must be .* below 3\.403e\+38"):
        AmbientDiffusion(TimeMLP(2, 8, 1), 2).loss(torch.ones(2, 2), None, noise)


def test_bad_options_are_refused_in_words():
    with pytest.raises(ValueError, match="highest level"):
        AmbientDiffusion(TimeMLP(2, 8, 1), 2, sigma_data=1.0).fit(correlated(60), 81.0, steps=1)
    with pytest.raises(ValueError, match="policy must be"):
        AmbientDiffusion(policy="clip")
    with pytest.raises(ValueError, match="consistency_children"):
        AmbientDiffusion(consistency_children=1, unbiased=True)
    with pytest.raises(ValueError, match="normal noise"):
        AmbientDiffusion(kernel=lambda like, levels, generator: like)
    with pytest.raises(ValueError, match="resample"):
        small(policy="reject").loss(samples(), None, 130.0)
    with pytest.raises(ValueError, match="shape"):
        small().loss(samples()[:0], None, 0.1)


def test_arrays_of_any_kind_are_taken():
    Y, s = attach_noise(correlated(60), 0.2, 0.5)
    fixed, order = Y.copy(), np.asfortranarray(Y)
    fixed.flags.writeable = False
    tensor = (
        AmbientDiffusion(TimeMLP(2, 8, 1), 2).double().fit(torch.from_numpy(Y), torch.from_numpy(s), steps=1)
    )
    assert tensor.sample(3, generator=0).dtype == torch.float64
    for rows, noise in ((fixed, s.tolist()), (order, s.astype("f2").astype("f8")), (Y.tolist(), s)):
        model = AmbientDiffusion(TimeMLP(2, 8, 1), 2).fit(rows, noise, steps=1)
        assert isinstance(model.sample(3, generator=0), np.ndarray)
        assert model.training
    with pytest.raises(ValueError, match="masked"):
        AmbientDiffusion(TimeMLP(2, 8, 1), 2).fit(Y, np.ma.masked_equal(s, 0), steps=1)


# --------------------------------------------------------------------------------------------------- noise itself


def test_noise_is_attached_once_by_row():
    X = np.random.default_rng(0).normal(size=(200, 3, 4)).astype("f4")
    Y, s = attach_noise(X, 0.5, 0.9, random_state=1)
    again, _ = attach_noise(X, 0.5, 0.9, random_state=1)
    np.testing.assert_array_equal(Y, again)
    assert Y.dtype == X.dtype
    assert (s > 0).sum() == 180
    np.testing.assert_array_equal(Y[s == 0], X[s == 0])
    assert (Y - X)[s > 0].std() == pytest.approx(0.5, rel=0.05)
    fewer, s_fewer = attach_noise(X, 0.5, 0.3, random_state=1)
    assert not s_fewer[s == 0].any()
    np.testing.assert_array_equal(fewer[s_fewer > 0], Y[s_fewer > 0])
    first, _ = attach_noise(X[:50], 0.5, random_state=1)
    whole, _ = attach_noise(X, 0.5, random_state=1)
    np.testing.assert_array_equal(first, whole[:50])
    assert torch.equal(attach_noise(torch.from_numpy(X), 0.5, 0.9, random_state=1)[0], torch.from_numpy(Y))


def smooth(n=6, size=64):
    u = np.linspace(0, 3, size)
    return np.stack([np.sin(u + i)[:, None] * np.cos(u * (1 + i / 5)) for i in range(n)])


def test_noise_of_smooth_images_is_measured():
    noise = np.geomspace(0.02, 0.5, 6)
    Y, _ = attach_noise(smooth(), noise)
    found = estimate_noise(Y)
    np.testing.assert_array_less(np.abs(found.noise_std - noise), 4 * found.se + 0.002)
    assert not any(found.doubts[1:])
    same = estimate_noise(attach_noise(smooth(), 0.1)[0][:, None])
    assert same.pooled == pytest.approx(0.1, rel=0.05)
    assert not same.pooled_doubt


def test_noise_that_cannot_be_told_is_doubted():
    rng = np.random.default_rng(0)
    fine = smooth() + np.tile([0.0, 1.0], 32)  # stripes of two pixels
    assert all(
        "upper bound" in doubt for doubt in estimate_noise(fine + 0.05 * rng.normal(size=fine.shape)).doubts
    )
    assert all("flat" in doubt for doubt in estimate_noise(np.zeros((2, 64, 64))).doubts)
    clipped = (smooth() + 0.3 * rng.normal(size=(6, 64, 64))).clip(0, 1)
    assert all("clipped" in doubt for doubt in estimate_noise(clipped).doubts)
    assert estimate_noise(rng.normal(size=(3, 8, 8))).doubts == ("too few pixels",) * 3
    assert "cannot be told" in str(estimate_noise(fine))
    strokes = np.kron(
        rng.random((4, 16, 16)) < 0.2, np.ones((3, 3))
    )  # a fifth of the image, sharp on all sides
    edges = estimate_noise(strokes + 0.02 * rng.normal(size=strokes.shape))
    assert edges.pooled > 0.021
    assert all("edges" in doubt for doubt in (*edges.doubts, edges.pooled_doubt))
    colours = np.stack([smooth()] * 3, -1)
    with pytest.raises(ValueError, match="channels last"):
        estimate_noise(colours)
    assert len(estimate_noise(np.moveaxis(colours, -1, 1)).noise_std) == 6
    with pytest.raises(ValueError, match="images"):
        estimate_noise(np.zeros((5, 8)))


# ---------------------------------------------------------------------------------------------- does mixing help


def compared(worse, low, high):
    arms = ("mixture", "clean only", "noisy as clean")
    return MixtureComparison(arms, *np.ones((3, 3, 2)), worse, low, high, 0.95, 0.5, 60, 1200)


@pytest.mark.parametrize(
    ("low", "high", "best", "said"),
    [
        ((0.1, 0.2), (1.0, 1.0), "mixture", "mixing helps"),
        ((0.1, -0.2), (1.0, 1.0), "mixture", "whether their noise must be known"),
        ((-0.1, 0.2), (1.0, 1.0), "mixture", "as if clean are worse"),
        ((-0.1, -0.2), (1.0, 1.0), "mixture", "cannot tell whether mixing helps"),
        ((-3.0, 0.2), (-1.0, 1.0), "clean only", "mixing hurts: clean only"),
        ((-3.0, -4.0), (-1.0, -2.0), "noisy as clean", "knowing the noise hurts: noisy as clean"),
    ],
)
def test_a_verdict_needs_significant_differences(low, high, best, said):
    comparison = compared(tuple((a + b) / 2 for a, b in zip(low, high)), low, high)
    assert comparison.best == best
    assert said in comparison.verdict
    assert said in str(comparison)


class Told(AmbientDiffusion):
    """Remembers what it was trained on, and draws numbers that say so."""

    def __init__(self, seed):
        super().__init__(TimeMLP(2, 8, 1), 2)
        self.seed = seed

    def fit(self, X, noise_std, **options):
        clean, noisy = (noise_std == 0).sum(), (noise_std > 0).sum()
        self.floor.fill_(noise_std.min())
        what = 0.0 if clean and noisy else 1.0 if noisy else 0.5 if clean < 50 else 0.2
        self.value = self.seed % 1000 / 1e5 + what
        return self

    def sample(self, n, stop_at, generator):
        assert (stop_at or 0) == self.floor
        return np.full((n, 2), self.value) + np.random.default_rng(generator).normal(size=(n, 2)) / 100


def test_a_comparison_trains_every_arm_with_the_same_seeds():
    Y, s = attach_noise(correlated(260), 0.3, 200 / 260, random_state=0)
    _, found = fit_mixture(
        Y,
        s,
        make=Told,
        metric=lambda x, test: x.mean(),
        n_repeats=4,
        n_samples=50,
        noisy_only=True,
        random_state=0,
    )
    assert found.arms == ("mixture", "clean only", "noisy as clean", "noisy only")
    np.testing.assert_allclose(found.worse, [0.5, 0.2, 1.0], atol=0.02)
    assert found.best == "mixture"
    assert "mixing helps" in found.verdict
    assert (found.n_clean, found.n_noisy) == (60, 200)
    assert (
        fit_mixture(Y, s, make=Told, metric=lambda x, test: -x.mean(), n_repeats=4, n_samples=50)[1].best
        == "clean only"
    )
    _, luck = fit_mixture(Y, s, make=Told, metric=lambda x, test: test[0, 0], n_repeats=3, n_samples=50)
    assert "cannot tell" in luck.verdict
    with pytest.raises(ValueError, match="clean and noisy"):
        fit_mixture(Y, 0.1 + s)
    with pytest.raises(ValueError, match="give held_out"):
        fit_mixture(*attach_noise(correlated(60), 0.3, 0.95))
    with pytest.raises(ValueError, match="held_out must hold"):
        fit_mixture(Y, s, np.zeros((2, 2)))
    with pytest.raises(ValueError, match="clean samples of X are all equal"):
        fit_mixture(np.where(s[:, None] > 0, Y, 1.0), s)
    with pytest.raises(ValueError, match="leave out checkpoint, cond"):
        fit_mixture(Y, s, make=Told, cond=np.zeros(260), checkpoint="run.pt")
    with pytest.raises(ValueError, match="must be a finite number, got nan"):
        fit_mixture(Y, s, make=Told, metric=lambda x, test: math.nan)


def test_metrics_and_models_of_another_kind_are_named():
    Y, s = attach_noise(correlated(100), 0.3, 0.5, random_state=0)
    for metric, said in (
        (lambda x, test: None, "the metric must hold numbers, got None"),
        (lambda x, test: "low", "the metric must hold numbers"),
        (lambda x, test: x, "must be a finite number"),
    ):
        with pytest.raises((TypeError, ValueError), match=said):
            fit_mixture(Y, s, make=Told, metric=metric, n_samples=9)
    told = fit_mixture(Y, s, make=Told, metric=lambda x, test: torch.tensor(1.0), n_repeats=2, n_samples=9)[1]
    assert told.worse == (0, 0)
    with pytest.raises(ValueError, match="new AmbientDiffusion, untrained, got NoneType"):
        fit_mixture(Y, s, make=lambda seed: None)
    one = AmbientDiffusion(TimeMLP(2, 8, 1), 2)  # which would go on with what it learnt from the arm before
    with pytest.raises(ValueError, match="got one that is trained"):
        fit_mixture(Y, s, make=lambda seed: one, n_samples=9, steps=1)


@pytest.mark.trains
def test_one_call_compares_and_trains():
    Y, s = attach_noise(correlated(200), 0.2, 0.8, random_state=0)
    model, found = fit_mixture(
        Y,
        s,
        correlated(50, 1),
        make=lambda seed: AmbientDiffusion(TimeMLP(2, 8, 1), 2),
        n_repeats=2,
        n_samples=20,
        steps=10,
    )
    assert model.sample(3, generator=0).shape == (3, 2)
    assert found.scores.shape == (3, 2)
    assert "memorisation gap" in str(found)
    rows = [label.get_text() for label in found.plot().get_yticklabels()]
    assert rows[0] == f"mixture\n{found.copies[0].mean():.0%} nearer to training"
    again, _ = fit_mixture(
        torch.from_numpy(Y), torch.from_numpy(s), correlated(50, 1), n_repeats=2, n_samples=20, steps=1,
        make=lambda seed: AmbientDiffusion(TimeMLP(2, 8, 1), 2),
    )  # fmt: skip
    assert isinstance(again.sample(3, generator=0), torch.Tensor)


# ----------------------------------------------------------------------------------------------------- at what price

DESIGN = [(a, b) for a in (50, 100, 200, 400, 800) for b in (0, 500, 2000)]


def table(price, seed=0, noise=0.02, design=DESIGN, runs=3, law=lambda n: 0.3 + 20 * n**-0.5):
    clean, noisy = np.repeat(np.array(design, float), runs, 0).T
    error = 1 + noise * np.random.default_rng(seed).normal(size=len(clean))
    return ScalingStudy(clean, noisy, 0.2, law(clean + noisy / price) * error)


@pytest.mark.parametrize("price", [1.6, 5, 40])
def test_a_price_is_recovered(price):
    law = fit_power_law(table(price), n_bootstrap=100)
    assert law.identified
    assert law.price == pytest.approx(price, rel=0.1)
    assert law.low < price < law.high
    assert law.high < 1.7 * law.low
    exact = fit_power_law(table(price, noise=0), n_bootstrap=40)
    assert exact.price == pytest.approx(price, rel=0.01)
    assert exact.predict(100, 500) == pytest.approx(0.3 + 20 * (100 + 500 / price) ** -0.5, rel=0.01)
    bracket = price_bracket(table(price))
    assert not bracket.low > price
    assert not bracket.high < price


@pytest.mark.parametrize(
    ("study", "said"),
    [
        (table(math.inf), "worth nothing"),
        (table(5, law=lambda n: 0.5 + 0 * n), "any price fits"),
        (table(5, design=[(a, 0) for a in (50, 100, 200, 400)]), "any price fits"),
        (table(5, design=[(a, 4 * a) for a in (50, 100, 200, 400)]), "any price fits"),
        (table(5, law=lambda n: 1 + np.exp(-n / 100), noise=0.003), "contradict the law"),
    ],
)
def test_a_price_that_is_not_identified_is_not_printed(study, said):
    law = fit_power_law(study, n_bootstrap=60)
    assert not law.identified
    assert math.isnan(law.price)
    assert said in str(law)
    assert "unidentified" in str(law)
    assert said in law.plot().get_title()
    with pytest.raises(ValueError, match="not identified"):
        law.predict(100, 100)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["t3", "lognormal", "log law"])
def test_intervals_of_other_families_cover_the_price(kind):
    rng, hits, n = np.random.default_rng(0), 0, 60
    for seed in range(n):
        study = table(
            6,
            law=(lambda m: 0.2 + 5 / np.log(m)) if kind == "log law" else lambda m: 0.3 + 20 * m**-0.5,
            noise=0,
        )
        error = {
            "t3": rng.standard_t(3, 45) / 50,
            "lognormal": np.exp(rng.normal(size=45) / 25) - 1,
            "log law": rng.normal(size=45) / 40,
        }
        law = fit_power_law(
            ScalingStudy(study.n_clean, study.n_noisy, 0.2, study.metric * (1 + error[kind])),
            random_state=seed,
            n_bootstrap=100,
        )
        hits += not law.low > 6 and not law.high < 6
    assert hits >= 0.87 * n  # 95 %, less three standard errors


def test_a_bracket_says_what_pairs_say():
    cells = {(200, 0): 1.0, (100, 150): 1.2, (100, 400): 0.8, (100, 200): 1.001}
    rows = [(*cell, value * (1 + e)) for cell, value in cells.items() for e in (-0.004, 0.0, 0.004)]
    clean, noisy, metric = np.array(rows).T
    found = price_bracket(ScalingStudy(clean, noisy, 0.1, metric))
    assert (found.low, found.high) == (1.5, 4.0)
    assert "between 1.5 and 4 noisy" in str(found)
    for known, low, high in ((found, 1.5, 4.0), (replace(found, high=math.nan), 1.5, 15.0),
                             (replace(found, low=math.nan), 0.4, 4.0)):  # fmt: skip
        line, *ends = known.plot().lines
        assert line.get_xdata() == pytest.approx([low, high])
        arrows = [end.get_marker() in "<>" for end in ends]
        assert arrows == [math.isnan(known.low), math.isnan(known.high)]
    assert not replace(found, low=math.nan, high=math.nan).plot().lines
    wild = price_bracket(ScalingStudy(clean, noisy, 0.1, np.random.default_rng(0).permutation(metric)))
    assert "unidentified" in str(wild)
    with pytest.raises(ValueError, match="two runs"):
        price_bracket(table(5, runs=1))
    with pytest.raises(ValueError, match="nothing to compare"):
        price_bracket(table(5, design=[(a, 0) for a in (50, 100, 200)]))


def test_tables_are_checked():
    with pytest.raises(ValueError, match="5 rows and 4 mixtures"):
        fit_power_law(table(5, design=DESIGN[:4], runs=1))
    with pytest.raises(ValueError, match="5 rows"):
        fit_power_law(table(5), min_clean=500)
    both = ScalingStudy([10, 20] * 5, [5, 0] * 5, [0.1, 0, 0.2, 0, 0.1, 0, 0.2, 0, 0.1, 0], np.ones(10))
    with pytest.raises(ValueError, match="give noise_std"):
        fit_power_law(both)
    with pytest.raises(ValueError, match=r"only of \[0.1, 0.2\]"):  # and not "any price fits"
        both.at(0.3, 1)
    small = ScalingStudy(both.n_clean, both.n_noisy, both.noise_std * 1e-9, both.metric)  # another unit
    assert len(small.at(1e-10, 1)) == len(both.at(0.1, 1)) < len(both.metric)
    for wrong in (
        {"metric": [0.0, 1.0]},
        {"n_clean": [1, -1]},
        {"n_noisy": [1, 2, 3]},
        {"n_clean": [0, 1], "n_noisy": [0, 1]},
        {name: [] for name in ("n_clean", "n_noisy", "noise_std", "metric")},
    ):
        with pytest.raises(ValueError, match=r"must be|needs rows"):
            ScalingStudy(
                **{"n_clean": [1, 2], "n_noisy": [1, 2], "noise_std": 0.1, "metric": [1.0, 2.0], **wrong}
            )


def test_a_study_trains_every_cell_of_its_design():
    Y, s = attach_noise(correlated(100), 0.3, 0.5, random_state=0)
    study = scaling_study(
        Y,
        s,
        correlated(20, 1),
        [(10, 0), (20, 40)],
        make=Told,
        metric=lambda x, test: 2 + x.mean(),
        n_repeats=2,
        n_samples=9,
    )
    assert study.n_clean.tolist() == [10, 20, 10, 20]
    assert study.n_noisy.tolist() == [0, 40, 0, 40]
    assert study.noise_std == pytest.approx([0.3] * 4)
    assert (study.metric[::2] > study.metric[1::2] + 0.4).all()


def test_a_study_refuses_before_it_trains():
    Y, s = attach_noise(correlated(100), 0.3, 0.5, random_state=0)
    trained = []

    def make(seed):
        trained.append(seed)
        return Told(seed)

    for design, held_out, said in (
        ([(60, 0)], correlated(20, 1), "there are 50"),
        ([(10, 0), (0, 0)], correlated(20, 1), "two samples or more"),
        ([], correlated(20, 1), "must have mixtures"),
        ([(10, 0)], None, "give held_out"),
        ([(10, 0)], np.full((20, 2), np.nan), "finite samples"),
    ):
        with pytest.raises(ValueError, match=said):
            scaling_study(Y, s, held_out, design, metric=lambda x, test: 1.0, make=make)
    assert not trained
    with pytest.raises(ValueError, match="positive metric"):
        scaling_study(Y, s, correlated(20, 1), [(10, 0), (20, 0)], metric=lambda x, test: -1.0, make=make)
    assert len(trained) == 1


# --------------------------------------------------------------------------------------------------- the theory's bench

CENTERS = np.random.default_rng(7).normal(size=(3, 6)) * 1.5


def clusters(n, noise, share, seed=0):
    rng = np.random.default_rng(seed)
    X = CENTERS[rng.integers(3, size=n)] + 0.3 * rng.normal(size=(n, 6))
    return attach_noise(X, noise, share, random_state=seed)


def off(means):
    return np.mean([np.linalg.norm(CENTERS - mean, axis=1).min() for mean in means])


@pytest.mark.parametrize("kind", ["spherical", "diag"])
def test_without_noise_it_is_scikit_learns_mixture(kind):
    X, _ = clusters(600, 0.0, 0.0)
    ours = HeteroscedasticGMM(3, covariance_type=kind, random_state=0).fit(X)
    theirs = GaussianMixture(3, covariance_type=kind, random_state=0, tol=1e-6).fit(X)
    assert ours.score(X) == pytest.approx(theirs.score(X), abs=1e-3)
    np.testing.assert_allclose(ours.score_samples(X), theirs.score_samples(X), atol=0.01)
    assert (np.bincount(ours.predict(X)).tolist().sort()) == (np.bincount(theirs.predict(X)).tolist().sort())


@pytest.mark.parametrize("two_stage", [False, True])
def test_known_noise_beats_noise_ignored(two_stage):
    X, s = clusters(1500, 3.0, 0.95)
    ours = HeteroscedasticGMM(3, two_stage=two_stage, n_init=2, random_state=0).fit(X, noise_std=s)
    theirs = GaussianMixture(3, covariance_type="spherical", n_init=2, random_state=0).fit(X)
    assert off(ours.means_) < 0.7 * off(theirs.means_)
    np.testing.assert_allclose(ours.variances_, 0.09, rtol=0.6)
    if two_stage:
        inside = ours.subspace_ @ ours.subspace_.T
        shifts = ours.means_ - ours.means_.mean(0)
        np.testing.assert_allclose(shifts @ inside, shifts, atol=1e-9)


def test_the_likelihood_never_falls():
    X, s = clusters(300, 1.0, 0.8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        steps = [
            HeteroscedasticGMM(3, covariance_type="diag", max_iter=k, tol=0, random_state=0)
            .fit(X, noise_std=s)
            .log_likelihood_
            for k in (1, 2, 3, 5, 10, 30)
        ]
    assert (np.diff(steps) > -1e-12).all()


def test_densities_of_noisy_samples_are_those_of_a_wider_mixture():
    X, s = clusters(400, 0.5, 0.5)
    model = HeteroscedasticGMM(2, random_state=0).fit(X, noise_std=s)
    wide = copy.deepcopy(model)
    wide.variances_ = model.variances_ + 0.7**2
    np.testing.assert_allclose(model.score_samples(X, 0.7), wide.score_samples(X))
    np.testing.assert_allclose(model.predict_proba(X, 0.7).sum(1), 1)
    assert model.score(X, noise_std=s) == pytest.approx(model.log_likelihood_)


def test_mixtures_are_checked():
    X, s = clusters(50, 0.5, 0.5)
    with pytest.raises(ValueError, match="n_samples = 2"):
        HeteroscedasticGMM(3).fit(X[:2])
    with pytest.raises(ValueError, match="spherical"):
        HeteroscedasticGMM(3, two_stage=True, covariance_type="diag").fit(X)
    with pytest.raises(TypeError, match="two_stage must be True or False"):
        HeteroscedasticGMM(3, two_stage="no").fit(X)
    with pytest.raises(ValueError, match="one a sample"):
        HeteroscedasticGMM(3).fit(X, noise_std=s[:-1])
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        HeteroscedasticGMM(3, max_iter=2, tol=0, random_state=0).fit(X, noise_std=s)
    with pytest.raises(ValueError, match="rescale"):
        HeteroscedasticGMM(2).fit(X * 1e100)


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
@pytest.mark.parametrize("options", [{}, {"covariance_type": "diag"}, {"two_stage": True}])
def test_components_without_samples_stay_among_the_data(options):
    for X in (np.repeat([[1e8, 1e8], [1e8 + 1, 1e8]], 9, 0), np.full((9, 2), 5.0)):
        model = HeteroscedasticGMM(3, random_state=0, **options).fit(X)
        assert math.isfinite(model.log_likelihood_)
        np.testing.assert_array_less(np.abs(model.means_ - X[0]), 1.001)
        assert (model.variances_ > 0).all()


def test_mixtures_are_in_the_datas_unit_and_place():
    X, s = clusters(300, 1.0, 0.8)
    model = HeteroscedasticGMM(3, random_state=0).fit(X, noise_std=s)
    for unit, place in ((2.0**20, 0), (2.0**-20, 0), (1, 2.0**20)):
        other = HeteroscedasticGMM(3, random_state=0).fit(unit * X + place, noise_std=unit * s)
        np.testing.assert_allclose((other.means_ - place) / unit, model.means_, rtol=1e-6)
        np.testing.assert_allclose(other.variances_ / unit**2, model.variances_, rtol=1e-6)
