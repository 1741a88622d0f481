"""The dimension by a denoiser against closed forms: Gaussians, finite sets, spheres, and what all must share."""

import numpy as np
import pytest
import torch
from torch import nn

from lodim.dimension import DimensionSummary, intrinsic_dimensions
from lodim.generative import Denoiser, Diffusion, EmpiricalDenoiser, GaussianDenoiser, estimate_dimension
from lodim.generative.denoiser_dimension import METHODS
from lodim.nets import TimeMLP
from lodim.randomness import build_seeded


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


BASIS = np.linalg.qr(normal(6, 6))[0]
SPECTRUM = np.array([4.0, 1.0, 0.25, 0, 0, 0])
FLAT = normal(60, 6, seed=1) * np.sqrt(SPECTRUM) @ BASIS.T + 7


def gaussian(spectrum=SPECTRUM, mean=7.0, basis=BASIS):
    return GaussianDenoiser(
        torch.full((len(spectrum),), mean).double(), torch.from_numpy(basis * spectrum @ basis.T)
    )


def read(denoiser, X, sigma=None, method="jacobian", **options):
    return estimate_dimension(denoiser, X, sigma, method=method, n_queries=None, **options)


def sphere_denoiser(d):
    """The best denoiser of the unit sphere in R^(d + 1): x times a ratio of Bessel functions, by quadrature."""
    t = torch.pi / 4000 * (torch.arange(4000, dtype=torch.float64) + 0.5)

    def f(x, sigma):
        r = x.norm(dim=1, keepdim=True)
        logs = r * t.cos() / sigma**2 + (d - 1) * t.sin().log()
        return x / r * (logs.softmax(1) * t.cos()).sum(1, keepdim=True)

    return f


@pytest.mark.parametrize("sigma", [0.03, 0.3, 1.9])  # at 2 a share is 1/2 to the bit, or just above
def test_a_gaussians_readings_are_those_of_its_spectrum(sigma):
    share = SPECTRUM / (SPECTRUM + sigma**2)
    z = (FLAT - 7) @ BASIS
    flipd = share.sum() + (sigma**2 * z**2 / (SPECTRUM + sigma**2) ** 2).sum(1)
    np.testing.assert_allclose(read(gaussian(), FLAT, sigma, "flipd").pointwise, flipd, rtol=1e-9)
    np.testing.assert_allclose(read(gaussian(), FLAT, sigma).pointwise, share.sum(), rtol=1e-9)
    assert (read(gaussian(), FLAT, sigma, "rank").pointwise == np.count_nonzero(share > 0.5)).all()
    kept = np.r_[1, 1 - np.sort(share), 0]  # the singular values of I - J, descending
    found = read(gaussian(), FLAT, sigma, "normal_bundle")
    assert found.dimension == 6 - np.argmax(-np.diff(kept))
    np.testing.assert_allclose(found.gap, [-np.diff(kept).min()], rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_all_readings_of_a_gaussian_go_to_its_rank(method):
    for spectrum in (SPECTRUM, np.ones(6), np.array([1.0, 0, 0, 0, 0, 0])):
        X = normal(20, 6, seed=2) * np.sqrt(spectrum) @ BASIS.T + 7
        found = read(gaussian(spectrum), X, 1e-3, method)
        np.testing.assert_allclose(found.pointwise, (spectrum > 0).sum(), atol=1e-4)
        assert read(gaussian(spectrum), X, method=method).dimension == pytest.approx(
            (spectrum > 0).sum(), abs=0.05
        )


def on_sphere(n, d):
    X = normal(n, d + 1, seed=3)
    return X / np.linalg.norm(X, axis=1, keepdims=True)


@pytest.mark.parametrize("d", [1, 5])
def test_flipd_of_a_sphere_is_how_fast_its_density_thins_out(d):
    t = np.pi / 4000 * (np.arange(4000) + 0.5)

    def log_density(log_sigma):
        logs = (np.cos(t) - 1) / np.exp(2 * log_sigma) + (d - 1) * np.log(np.sin(t))
        return -(d + 1) * log_sigma + np.log(np.exp(logs).sum())

    for sigma in (0.1, 0.5):
        at = np.log(sigma)
        slope = (log_density(at + 1e-4) - log_density(at - 1e-4)) / 2e-4
        found = read(sphere_denoiser(d), on_sphere(10, d), sigma, "flipd")
        np.testing.assert_allclose(found.pointwise, d + 1 + slope, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("d", [2, 5])
def test_a_sphere_has_its_dimension(method, d):
    found = read(sphere_denoiser(d), on_sphere(40, d), method=method)
    assert found.dimension == pytest.approx(d, abs=0.2)
    assert found.plateau[0] <= found.sigma <= found.plateau[1] < 1


def test_flipd_of_the_sphere_in_space_is_two_at_every_level():
    """There p is (1 - exp(-2 / s^2)) / s on the sphere, times a constant."""
    np.testing.assert_allclose(
        read(sphere_denoiser(2), on_sphere(20, 2), 0.3, "flipd").pointwise, 2, atol=1e-5
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_product_has_the_sum_of_dimensions(method):
    sphere, line = sphere_denoiser(2), gaussian(np.array([1.0, 0]), 0.0, np.eye(2))
    X = np.hstack([on_sphere(30, 2), normal(30, 2, seed=4) * [1, 0]])

    def product(x, sigma):
        return torch.cat([sphere(x[:, :3], sigma), line(x[:, 3:], sigma)], 1)

    assert read(product, X, 0.03, method).dimension == pytest.approx(3, abs=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_turned_moved_and_scaled_data_have_the_same_dimension(method):
    Y = torch.from_numpy(normal(30, 3, seed=5) * [1, 1, 0.1])
    turn = torch.linalg.qr(torch.from_numpy(normal(3, 3, seed=6))).Q
    own, moved = EmpiricalDenoiser(Y), EmpiricalDenoiser(50 * Y @ turn.T - 9)
    x = Y[:5] + 0.1
    sigma = 0.3
    if method == "flipd":  # which draws no noise, that would have to turn with the data
        np.testing.assert_allclose(
            read(moved, 50 * x @ turn.T - 9, 50 * sigma, method).pointwise,
            read(own, x, sigma, method).pointwise,
            rtol=1e-6,
        )
    scaled = read(EmpiricalDenoiser(50 * Y - 9), 50 * x - 9, 50 * sigma, method)
    np.testing.assert_allclose(scaled.pointwise, read(own, x, sigma, method).pointwise, rtol=1e-6, atol=1e-9)


def test_over_noisy_points_flipd_is_the_ambient_dimension():
    """The integral of the Laplacian of a density is 0."""
    Y = torch.from_numpy(normal(3, 2, seed=7))
    noisy = Y.repeat(4000, 1) + 0.7 * torch.from_numpy(normal(12000, 2, seed=8))
    values = read(EmpiricalDenoiser(Y), noisy, 0.7, "flipd").pointwise
    assert abs(values.mean() - 2) < 4 * values.std() / np.sqrt(len(values))


@pytest.mark.parametrize("method", METHODS)
def test_points_known_by_heart_have_dimension_zero_and_it_is_said(method):
    Y = torch.from_numpy(normal(60, 3, seed=9))
    found = read(EmpiricalDenoiser(Y), Y, method=method)
    assert found.dimension < 0.05
    assert "stand alone" in str(found)
    others = read(EmpiricalDenoiser(Y), normal(60, 3, seed=10), method=method)
    assert not others.learnt[:4].any()
    assert "worse than none" in str(others)


def test_error_and_trace_are_one_for_the_best_denoiser_and_the_error_bounds_others():
    X = normal(4000, 2, seed=11) * [1, 0.5]
    best = gaussian(np.array([1.0, 0.25]), 0.0, np.eye(2))
    found = read(best, X, [0.1, 0.5, 1.0])
    share = sum(v / (v + found.sigmas**2) for v in (1, 0.25))
    np.testing.assert_allclose(found.error, share, rtol=0.05)
    np.testing.assert_allclose(found.trace, share, rtol=0.05)
    assert found.learnt.all()
    for factor in (0.7, 1.2):  # of the same trace's order, and worse
        other = read(lambda x, s, factor=factor: factor * best(x, s), X, [0.1, 0.5, 1.0])
        assert (other.error > found.error).all()
        assert not other.learnt[0]


def test_the_trace_by_probes_is_within_its_error():
    found = read(gaussian(), FLAT, 0.5, "flipd", n_probes=200)
    exact = read(gaussian(), FLAT, 0.5, "flipd")
    assert found.se[0] > 0 == exact.se[0]
    assert abs(found.pointwise - exact.pointwise).max() < 5 * found.se[0]
    assert (found.n_calls, exact.n_calls) == (203, 9)


@pytest.mark.parametrize("method", METHODS)
def test_few_points_at_once_read_the_same(method):
    f = EmpiricalDenoiser(torch.from_numpy(FLAT))
    some, all_ = (read(f, FLAT[:20] + 0.1, 0.5, method, chunk=chunk) for chunk in (3, None))
    np.testing.assert_allclose(some.pointwise, all_.pointwise, rtol=1e-9)
    np.testing.assert_allclose(some.error, all_.error, rtol=1e-9)


def test_two_scales_make_two_plateaus_and_the_smaller_noise_counts():
    spectrum = np.array([100.0, 100, 0.01, 0, 0, 0])
    X = normal(60, 6, seed=12) * np.sqrt(spectrum) @ BASIS.T
    found = read(gaussian(spectrum, 0.0), X, np.geomspace(1e-3, 3, 30))
    assert found.dimension == pytest.approx(3, abs=0.1)
    assert [round(p[2]) for p in found.plateaus] == [3, 2]
    assert "another dimension at another scale: 2" in str(found)


def test_no_plateau_and_no_gap_are_said():
    spectrum = np.geomspace(1e-6, 1, 30)
    X = normal(60, 30, seed=13) * np.sqrt(spectrum)
    denoiser = gaussian(spectrum, 0.0, np.eye(30))
    found = read(denoiser, X)
    assert found.plateau is None
    assert "cannot tell: no plateau" in str(found)
    assert "cannot tell: the largest gap" in str(read(denoiser, X, 0.03, "normal_bundle"))


def test_a_negative_dimension_is_no_posterior_means():
    found = read(lambda x, sigma: -x, 1e-3 * FLAT, [1.0, 2.0, 4.0], "flipd")
    assert found.dimension < -5
    assert "negative" in str(found)


def test_a_reading_unlike_the_trace_is_told_so():
    line = np.array([1.0, 0, 0, 0, 0, 0])
    best = gaussian(line, 0.0, np.eye(6))

    def bent(x, sigma):  # right at noisy points, and the identity at the data
        near = (x[:, 1:].norm(dim=1, keepdim=True) < 0.1 * sigma).to(x)
        return near * x + (1 - near) * best(x, sigma)

    found = read(bent, normal(200, 6, seed=17) * line, 0.1, "flipd")
    assert found.dimension == 6
    assert "trace at noisy points" in found.estimate().note
    assert (
        "trace at noisy points"
        not in read(best, normal(200, 6, seed=17) * line, 0.1, "flipd").estimate().note
    )


def test_conditions_go_with_their_points():
    """A class each: one of dimension 1, one of dimension 3."""
    parts = [gaussian(np.array(s), 0.0, np.eye(3)) for s in ([1.0, 0, 0], [1.0, 1, 1])]

    def conditional(x, sigma, cond):
        label = cond["label"] if isinstance(cond, dict) else cond
        return torch.where(label[:, None] == 0, parts[0](x, sigma), parts[1](x, sigma))

    label = torch.tensor([0, 1] * 10)
    X = normal(20, 3, seed=14) * np.where(label[:, None] == 0, [1.0, 0, 0], 1.0)
    for cond in (label, {"label": label}):
        for method in METHODS:
            found = read(conditional, X, 1e-3, method, cond=cond, chunk=3)
            np.testing.assert_allclose(found.pointwise, 1 + 2 * label.numpy(), atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_models_images_and_modes(method):
    X = normal(30, 1, 2, 3, seed=15)
    net = build_seeded(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 6), nn.Dropout(), nn.Unflatten(1, (1, 2, 3))), 0
    )
    blind = Denoiser(net, "blind").train()
    found = read(blind, X, 0.5, method)
    assert found == read(blind, torch.from_numpy(X), 0.5, method)  # no dropout
    assert net.training
    model = Diffusion(TimeMLP(4, 8, 1), 4, random_state=0)
    flat = normal(30, 4, seed=16)
    assert read(model, flat, 0.5, method) == read(model.denoiser, flat, 0.5, method)


def test_it_stands_beside_estimates_from_neighbours():
    found = estimate_dimension(gaussian(), FLAT, n_queries=20, random_state=1)
    assert found.pointwise.shape == found.query_idx.shape == (20,)
    assert found.sigma == found.sigmas[found._chosen]
    summary = intrinsic_dimensions(FLAT, ("twonn",), scales=False, ci=None, random_state=0)
    both = DimensionSummary(
        **{**vars(summary), "estimates": {**summary.estimates, "jacobian": found.estimate()}}
    )
    assert both.to_frame().loc["jacobian", "dimension"] == found.dimension
    again = estimate_dimension(gaussian(), FLAT, n_queries=20, random_state=1)
    assert again == found
    assert len(found.to_frame()) == len(found.sigmas)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"X": np.ones((5, 3))}, "all rows"),
        ({"X": np.ones(5)}, "must hold points"),
        ({"X": np.array([[0.0, np.nan], [1, 2]])}, "NaN"),
        ({"sigma": -1.0}, "sigma must be positive"),
        ({"sigma": [0.1, np.inf]}, "sigma must be positive"),
        ({"method": "trace"}, "method"),
        ({"n_queries": 1}, "n_queries"),
        ({"n_probes": 1}, "n_probes"),
        ({"denoiser": lambda x, s: x[:, :1]}, "return the shape"),
    ],
)
def test_what_cannot_be_read_is_refused(changes, text):
    given = {"denoiser": gaussian(), "X": FLAT} | changes
    with pytest.raises(ValueError, match=text):
        estimate_dimension(**given)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sigma": np.array([[0.1, 0.2]])}, "a row"),
        ({"cond": 3}, "row for each"),
        ({"cond": {"label": [1]}}, "row for each"),
    ],
)
def test_what_is_no_row_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        estimate_dimension(lambda x, sigma, cond=None: x, np.eye(4), **options)


@pytest.mark.parametrize(
    ("X", "cond", "said"),
    [
        (torch.eye(4, device="meta"), None, "X is on the meta device"),
        (torch.eye(4).to_sparse(), None, "X is sparse"),
        (np.eye(4), torch.eye(4).to_sparse(), "cond is sparse"),
        (np.eye(4), {"label": torch.eye(4).to_sparse()}, r"cond\['label'\] is sparse"),
        (np.eye(4), {"label": [[1], [1, 2]]}, r"cond\['label'\] must be an array"),
    ],
)
def test_what_holds_no_numbers_is_named(X, cond, said):
    with pytest.raises((TypeError, ValueError), match=said):
        estimate_dimension(lambda x, sigma, cond=None: x, X, cond=cond)


def test_a_denoiser_that_hides_its_derivative_is_refused():
    X = np.random.default_rng(0).normal(size=(20, 3))
    for method in ("jacobian", "flipd", "rank"):
        with pytest.raises(ValueError, match="no_grad"):
            estimate_dimension(torch.no_grad()(lambda x, sigma: x / 2), X, 0.5, method=method)
    assert estimate_dimension(lambda x, sigma: x.detach() / 4, X, 0.5, method="normal_bundle").dimension == 0
    with pytest.raises(TypeError, match="tensor"):
        estimate_dimension(lambda x, sigma: x.detach().numpy(), X, 0.5)


@pytest.mark.parametrize("chunk", [0, -1])
def test_a_chunk_holds_a_point(chunk):
    with pytest.raises(ValueError, match="chunk must be at least 1"):
        estimate_dimension(gaussian(), FLAT, chunk=chunk)
