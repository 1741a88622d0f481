"""The likelihoods against closed forms, and what the model must keep: units, seeds, its set, held-out rows."""

import copy
import pickle
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.base import clone
from torch import nn

from lodim.datasets.toy import uneven_circle
from lodim.generative import NoisePath, NoisyDecoder, PerturbedLikelihoodModel, perturbation_level
from lodim.generative import perturbed_likelihood as system
from lodim.generative.autoencoding import (
    gaussian_vae_elbo,
    grid_log_likelihood,
    grid_log_weights,
    iwae_bound,
    stratified_latents,
)
from lodim.randomness import build_seeded

SIGMA = 0.4
LINE = partial(system.smooth_mlp, depth=0)


def linear(d, D=3, seed=0, bias=True):
    """A linear decoder in double precision, with the covariance of what it makes."""
    net = build_seeded(lambda: nn.Linear(d, D, bias=bias).double(), seed)
    A = net.weight.detach().numpy()
    return net, multivariate_normal(net.bias.detach().numpy(), A @ A.T + SIGMA**2 * np.eye(D))


def rows(n=30, D=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, D))


def exact_posterior(net, x):
    """Mean and log variances of z given x; one latent dimension."""
    w = net.weight.detach()[:, 0]
    precision = 1 + w @ w / SIGMA**2
    mean = (x - net.bias.detach()) @ w / (SIGMA**2 * precision)
    return mean[:, None], torch.full((len(x), 1), float(-precision.log()), dtype=x.dtype)


def model(perturb=0.2, objective="grid", **options):
    return PerturbedLikelihoodModel(
        1, perturb, objective, **{"steps": 3, "n_grid": 32, "random_state": 0, **options}
    )


@pytest.mark.parametrize(("d", "m"), [(1, 4000), (2, 200**2)])
def test_the_grid_is_the_exact_density_of_a_linear_decoder(d, m):
    net, law = linear(d)
    x = law.rvs(200, random_state=0)

    def error(size):
        points = net(stratified_latents(size, d, jitter=False)).detach()
        return np.abs(grid_log_likelihood(torch.from_numpy(x), points, SIGMA).numpy() - law.logpdf(x)).mean()

    assert error(m) < 0.02
    assert error(m) < error(m // 16) / 2


def test_grid_latents_fill_cells_of_equal_probability():
    z = stratified_latents(100, 2, generator=torch.Generator().manual_seed(0))
    cells = (10 * torch.special.ndtr(z)).long()
    assert len(torch.unique(cells, dim=0)) == 100
    with pytest.raises(ValueError, match="latent_dim"):
        stratified_latents(100, 3)


def test_bounds_are_tight_at_the_true_posterior_and_ordered_elsewhere():
    net, law = linear(1)
    x = torch.from_numpy(rows())
    truth = torch.from_numpy(law.logpdf(x.numpy()))
    mean, log_var = exact_posterior(net, x)
    many = 300 * len(x)
    x, mean, log_var, truth = (part.repeat(300, *[1] * (part.ndim - 1)) for part in (x, mean, log_var, truth))
    noise = torch.randn(5, many, 1, generator=torch.Generator().manual_seed(0), dtype=x.dtype)

    def values(shift):
        z = mean + shift + (0.5 * log_var).exp() * noise
        elbo = gaussian_vae_elbo(x, net(z[0]), SIGMA, mean + shift, log_var)
        bounds = [iwae_bound(x, net(z[:k]), SIGMA, z[:k], mean + shift, log_var) for k in (1, 5)]
        return [v.detach() for v in (elbo, *bounds)]

    for weights in values(0.0)[1:]:  # every importance weight is p(x) itself
        torch.testing.assert_close(weights, truth, rtol=1e-9, atol=1e-9)
    elbo, one, five = (v.mean() for v in values(0.5))
    gap = 0.5 * 0.25 * float((-log_var).exp()[0])  # the divergence of two normal laws 0.5 apart
    assert float(elbo) == pytest.approx(float(truth.mean()) - gap, rel=0.02)
    assert float(one) == pytest.approx(float(elbo), rel=0.02)
    assert elbo < five < truth.mean()


def test_the_denoiser_obeys_tweedies_formula():
    """E[f(Z) | x] = x + sigma^2 grad log p(x)."""
    net = NoisyDecoder(linear(1)[0], 1, objective="grid", sigma=SIGMA, learn_sigma=False).double()
    x = torch.from_numpy(rows()).requires_grad_()
    points = net.decode(stratified_latents(4096, 1, jitter=False)).detach()
    grid_log_likelihood(x, points, SIGMA).sum().backward()
    torch.testing.assert_close(net.denoise(x.detach()), x.detach() + SIGMA**2 * x.grad)
    weights = grid_log_weights(x.detach(), points, SIGMA)
    by_pairs = -torch.cdist(x.detach(), points, compute_mode="donot_use_mm_for_euclid_dist").square()
    torch.testing.assert_close(weights - weights[:, :1], (by_pairs - by_pairs[:, :1]) / (2 * SIGMA**2))


def test_many_latents_are_scored_by_a_bound_that_is_near():
    net, law = linear(3, 4)
    encoder = nn.Linear(4, 6).double()
    A, S = net.weight.detach(), torch.eye(3, dtype=torch.float64)
    covariance = torch.linalg.inv(S + A.T @ A / SIGMA**2)
    with torch.no_grad():
        encoder.weight.zero_()
        encoder.weight[:3] = covariance @ A.T / SIGMA**2
        encoder.bias[:3] = -encoder.weight[:3] @ net.bias
        encoder.bias[3:] = covariance.diagonal().log()
    module = NoisyDecoder(net, 3, encoder, sigma=SIGMA, learn_sigma=False).double()
    x = rows(D=4)
    found = module.log_density(torch.from_numpy(x)).numpy()
    assert abs((found - law.logpdf(x)).mean()) < 0.1
    assert (found - law.logpdf(x)).max() < 0.3


@pytest.mark.trains
@pytest.mark.parametrize("t", [0.0, 0.5])
def test_a_linear_model_learns_the_sum_of_both_noises(t):
    X = np.random.default_rng(0).normal(size=(2000, 1)) @ [[1.0, 2.0, -1.0]]
    X += 0.3 * np.random.default_rng(1).normal(size=X.shape)
    found = model(t, decoder=LINE, steps=300, lr=2e-2, n_grid=64).fit(X)
    assert found.sigma_**2 == pytest.approx(0.3**2 + t**2, rel=0.1)
    assert not found.degenerate_


@pytest.mark.trains
@pytest.mark.filterwarnings("ignore:.*spacing")
def test_exact_data_let_the_likelihood_run_away_and_noise_holds_it():
    X = np.linspace(-1, 1, 100)[:, None] @ [[1.0, 1.0]]
    options = {
        "decoder": LINE,
        "prior": "uniform",
        "sigma_min": 0.2,
        "steps": 300,
        "lr": 2e-2,
        "n_grid": 64,
    }
    with pytest.warns(UserWarning, match="fell to its floor"):
        free = model(0.0, **options).fit(X)
    assert free.degenerate_
    kept = model(0.4, **options).fit(X)
    assert not kept.degenerate_
    assert kept.sigma_ == pytest.approx(0.4, rel=0.15)


@pytest.mark.parametrize("objective", ["grid", "vae", "iwae"])
def test_units_and_places_do_not_matter(objective):
    X = uneven_circle(60, 3, random_state=0).X
    base = model(objective=objective).fit(X)
    moved = model(0.2 * 1024, objective).fit(X * 1024)  # a power of two: the same bits
    np.testing.assert_array_equal(moved.sample(9), base.sample(9) * 1024)
    np.testing.assert_allclose(moved.score_samples(X * 1024) + 3 * np.log(1024), base.score_samples(X))
    assert moved.sigma_ == base.sigma_ * 1024
    shifted = model(objective=objective).fit(X + 8.0)
    np.testing.assert_allclose(shifted.sample(9), base.sample(9) + 8.0, atol=1e-4)
    np.testing.assert_allclose(shifted.denoise(X[:5] + 8.0), base.denoise(X[:5]) + 8.0, atol=1e-4)


def test_samples_are_the_decoders_range():
    """A decoder of a line makes points of a line; only sample_noisy leaves it, by sigma."""
    X = rows(200)
    found = model(1.0, decoder=LINE).fit(X)
    drawn, noisy = found.sample(500), found.sample_noisy(500)
    assert np.linalg.matrix_rank(drawn - drawn.mean(0), tol=1e-9) == 1
    assert (noisy - drawn).std() == pytest.approx(found.sigma_, rel=0.1)
    moved = found.denoise(X)
    assert np.linalg.matrix_rank(moved - moved.mean(0), tol=1e-9) == 1
    assert found.sample(0).shape == (0, 3)


@pytest.mark.trains
def test_seeds_copies_and_noise():
    X = rows(40)
    base = model().fit(X)
    for again in (model().fit(X), clone(base).fit(X), copy.deepcopy(base), pickle.loads(pickle.dumps(base))):
        np.testing.assert_array_equal(again.sample(5), base.sample(5))
    assert not np.array_equal(model(random_state=1).fit(X).sample(5), base.sample(5))
    assert not np.array_equal(base.sample(5, random_state=3), base.sample(5))
    kept = [model(resample=False).fit(X).sample(5) for _ in range(2)]
    np.testing.assert_array_equal(*kept)
    assert not np.array_equal(kept[0], base.sample(5))
    plain = [model(0.0, resample=resample, n_grid=512).fit(X).sample(5) for resample in (True, False)]
    np.testing.assert_array_equal(*plain)


def test_given_networks_stay_as_they_were():
    net = nn.Linear(1, 3)
    before = net.weight.detach().clone()
    model(decoder=net).fit(rows(30))
    assert torch.equal(net.weight, before)


def test_the_theorys_level():
    assert perturbation_level(1000, 1, 2, 3.0) == pytest.approx(3 * 1000 ** (-1 / 3))
    assert perturbation_level(1000, 4) == pytest.approx(1000 ** (-1 / 6))
    X = uneven_circle(300, random_state=0).X
    found = model("theory").fit(X)
    assert found.dimension_ == pytest.approx(1, abs=0.3)
    assert found.perturbation_ == pytest.approx(found.scale_ * perturbation_level(300, found.dimension_))


@pytest.fixture
def few_levels(monkeypatch):
    monkeypatch.setattr(system, "LEVELS", (0.0, 0.1, 0.5))


@pytest.mark.trains
@pytest.mark.filterwarnings("ignore:.*spacing")
def test_validation_judges_by_rows_it_did_not_train_on(few_levels, monkeypatch):
    X, seen, judged = rows(60), [], []
    train, w1 = system._train, system._w1

    def watched_train(settings, part, t, **options):
        seen.append(part)
        return train(settings, part, t, **options)

    monkeypatch.setattr(system, "_train", watched_train)
    monkeypatch.setattr(system, "_w1", lambda a, b: judged.append(b) or w1(a, b))
    told: list[float] = []
    found = model("validation").fit(X, progress=lambda done, text: told.append(done))
    assert told == sorted(told)
    assert [len(part) for part in seen] == [48, 48, 48, 60]
    held = {tuple(row) for part in judged for row in part}
    assert len(held) == 12
    assert not held & {tuple(row) for row in seen[0]}
    path = found.w1_path_
    assert path.t == pytest.approx([level * found.scale_ for level in (0, 0.1, 0.5)])
    assert found.perturbation_ == pytest.approx(path.chosen)
    assert len(path.to_frame()) == 3
    assert min(path.excess) == 0


def test_a_path_says_what_the_data_cannot_tell():
    noisy = NoisePath((0.0, 0.1), (1.0, 0.9), (0.1, 0.1), (0.1, 0.0), (0.08, 0.0), 0.5, 50)
    assert noisy.chosen == 0.0
    assert "cannot tell" in str(noisy)
    clear = NoisePath(
        (0.0, 0.1, 0.2), (2.0, 0.91, 0.9), (0.1,) * 3, (1.1, 0.01, 0.0), (0.1, 0.02, 0.0), 0.5, 50
    )
    assert clear.chosen == 0.1
    assert "t = 0.1" in str(clear)
    assert "lowest" in str(NoisePath((0.0, 0.1), (0.9, 1.0), (0.1, 0.1), (0.0, 0.1), (0.0, 0.1), 0.5, 50))


@pytest.mark.slow
@pytest.mark.trains
@pytest.mark.filterwarnings("ignore:.*spacing")
def test_levels_may_be_tried_in_other_processes(few_levels):
    X = rows(40)
    one, two = (model("validation", n_jobs=n).fit(X) for n in (1, 2))
    assert one.w1_path_ == two.w1_path_


def test_narrow_noise_on_a_coarse_grid_is_said():
    with pytest.warns(UserWarning, match="twice the spacing"):
        model(0.0, learn_sigma=False, n_grid=4).fit(rows(40))


@pytest.mark.parametrize(
    ("options", "X", "message"),
    [
        ({}, rows(19), "19 sample"),
        ({}, np.full((30, 2), 0.1), "constant"),
        ({"perturb": -0.1}, rows(), "perturb must be at least 0"),
        ({"perturb": "best"}, rows(), "perturb must be one of"),
        ({"latent_dim": 3}, rows(), "needs latent_dim of 1 or 2"),
        ({"objective": "gan"}, rows(), "objective must be one of"),
        ({"sigma": 0.0}, rows(), "sigma must be positive"),
        ({"sigma": 0.1, "sigma_min": 0.2}, rows(), "above sigma_min"),
        ({"prior": "cauchy"}, rows(), "prior must be one of"),
        ({"steps": -1}, rows(), "steps must be at least 0"),
    ],
)
def test_what_cannot_be_fitted_is_refused(options, X, message):
    with pytest.raises(ValueError, match=message):
        model().set_params(**options).fit(X)


@pytest.mark.parametrize("name", ["learn_sigma", "resample"])
def test_a_word_is_no_truth_value(name):
    with pytest.raises(TypeError, match=f"{name} must be True or False"):
        model().set_params(**{name: "no"}).fit(rows())


@pytest.mark.trains
@pytest.mark.parametrize("objective", ["grid", "vae"])
def test_any_table_will_do(objective):
    """Frames, single precision, duplicates, constant columns, one column, more latents than rows, tensors."""
    X = rows(20)
    make = partial(model, objective=objective)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frame = pd.DataFrame(X, columns=list("abc"))
        named = make().fit(frame)
        assert list(named.feature_names_in_) == list("abc")
        np.testing.assert_array_equal(named.score_samples(frame), make().fit(X).score_samples(X))
        single = make().fit(torch.from_numpy(X).float())
        assert isinstance(single.denoise(torch.from_numpy(X).float()), torch.Tensor)
        for Z in (np.repeat(X, 3, 0), np.c_[X, np.ones(20)], X[:, :1]):
            assert np.isfinite(make().fit(Z).score_samples(Z)).all()
    if objective == "vae":
        wide = make(perturb="theory").set_params(latent_dim=30).fit(X)
        assert np.isfinite(wide.score_samples(X)).all()


def test_networks_of_other_sizes_are_refused():
    x = torch.zeros(4, 2)
    for decoder, encoder, latent, message in (
        (
            nn.Linear(1, 1),
            nn.Linear(2, 2),
            1,
            "must return 2|'reconstruction'",
        ),  # would spread over both columns
        (nn.Linear(2, 2), nn.Linear(2, 2), 2, r"2 \* latent_dim = 4"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):  # typed shapes are checked in tests alone
            NoisyDecoder(decoder, latent, encoder).loss(x)
    with pytest.raises((ValueError, TypeError), match=r"must return 2|'points'"):
        NoisyDecoder(nn.Linear(1, 1), 1, objective="grid").loss(x)


def test_a_deviation_may_start_below_the_floor_of_its_level():
    X = uneven_circle(40, random_state=0).X
    fit = partial(PerturbedLikelihoodModel, 1, 0.5, "grid", steps=2, random_state=0)
    assert fit(sigma=0.1).fit(X).sigma_ > 0.25
    with pytest.raises(ValueError, match="sigma_min = 10, got 5"):  # in the caller's unit
        fit(sigma=5, sigma_min=10).fit(X)
    with pytest.raises(ValueError, match="order of the data's scale"):
        fit(sigma=1e-30).fit(X)
    assert perturbation_level(100, 2, np.inf) == pytest.approx(0.1)


def test_rows_far_away_have_a_density():
    encoder = nn.Linear(2, 6)  # whose log variances leave what exponentials hold
    found = NoisyDecoder(nn.Linear(3, 2), 3, encoder).double().log_density(1e6 * torch.eye(2).double())
    assert found.isfinite().all()
    assert (found < -1e9).all()
