"""What must hold of harmonic-denoisers whatever the data: identities, invariances, limits."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from lodim.datasets import disc_tangents, discs
from lodim.generative import (
    Measurement,
    compare_pair,
    jacobian_basis,
    memorization_curve,
    oracle_shrinkage,
    psnr_curve,
    sample_blind,
    solve_inverse,
    subspace_overlap,
    sure,
    train_denoiser,
)
from lodim.metrics import psnr
from lodim.nets import BFCNN, BiasFreeUNet
from lodim.randomness import build_seeded, torch_generator
from lodim.validation import ConvergenceWarning


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch_generator(seed), dtype=torch.float64)


def uniform(*shape, seed=0):
    return torch.rand(*shape, generator=torch_generator(seed))


def shrink(y):
    """The denoiser of N(0, 1) in half of the coordinates and 0 in the rest, whose level is the rest's size."""
    flat = y.flatten(1)
    half = flat.shape[1] // 2
    sigma = flat[:, half:].square().mean(1, keepdim=True)
    return torch.cat([flat[:, :half] / (1 + sigma), 0 * flat[:, half:]], 1).view(y.shape)


def test_samples_of_the_gaussians_denoiser_have_its_covariance():
    """To first order in h, directions of the data and empty ones lose the same variance: their difference stays."""
    drawn = sample_blind(shrink, 300, (1, 8, 8), sigma_0=10.0, sigma_L=0.03, beta=0.5, h=0.03)
    rows = drawn.images.reshape(300, 64)
    covariance = np.cov(rows[:, :32].T)
    assert np.diag(covariance).mean() == pytest.approx(1.0, rel=0.05)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 0.3  # as of 300 independent normals
    assert not rows[:, 32:].any()
    hasty = sample_blind(shrink, 300, (1, 8, 8), sigma_0=10.0, sigma_L=0.03, beta=0.5, h=0.03, growing=True)
    assert hasty.n_iter.max() < drawn.n_iter.min() / 3
    assert hasty.images.reshape(300, 64)[:, :32].var() < 0.95  # what large steps cost


def test_the_same_noise_gives_the_same_sample_and_images_stop_by_themselves():
    drawn, again = (sample_blind(shrink, 6, (1, 8, 8), h=0.1, beta=0.5, keep_every=10) for _ in range(2))
    assert drawn == again
    assert len(set(drawn.n_iter.tolist())) > 1
    assert drawn.sigmas.shape[1] == 6
    assert np.isfinite(drawn.sigmas).sum(0).tolist() == (drawn.n_iter + 1).tolist()
    assert len(drawn.iterates) == -(-len(drawn.sigmas) // 10)
    assert float(np.nanmin(drawn.sigmas[:-1])) < 0.05
    assert not np.array_equal(
        drawn.images, sample_blind(shrink, 6, (1, 8, 8), h=0.1, beta=0.5, random_state=1).images
    )


def test_without_added_noise_each_step_shrinks_the_residual_by_its_size():
    """beta = 1 and f(y) = 0: y_t = (1 - h)^t y_0, so that the number of steps is known."""
    drawn = sample_blind(torch.zeros_like, 3, (1, 4, 4), beta=1.0, h=0.1, growing=False)
    ratio = drawn.sigmas[1:] / drawn.sigmas[:-1]
    np.testing.assert_allclose(ratio[np.isfinite(ratio)], 0.9, rtol=1e-5)
    expected = np.ceil(np.log(0.05 / drawn.sigmas[0]) / np.log(0.9))
    np.testing.assert_array_equal(drawn.n_iter, expected)
    assert not drawn.images.any()


def test_the_noise_falls_by_one_minus_beta_h():
    """Over many coordinates |y + gamma z|^2 concentrates: exactly the schedule of the paper."""
    drawn = sample_blind(torch.zeros_like, 2, (1, 200, 200), beta=0.5, h=0.1, growing=False)
    ratio = drawn.sigmas[1:] / drawn.sigmas[:-1]
    np.testing.assert_allclose(ratio[np.isfinite(ratio)], 0.95, rtol=0.01)


MEASUREMENTS = {
    "inpainting": lambda: Measurement.inpainting(uniform(8, 6) < 0.5),
    "super_resolution": lambda: Measurement.super_resolution(2),
    "spectral": lambda: Measurement.spectral(3, 8, 6),
    "compressed_sensing": lambda: Measurement.compressed_sensing(20, (2, 8, 6)),
}


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_measurements_are_orthonormal_and_samples_agree_with_them(name):
    M, x, z = MEASUREMENTS[name](), normal(3, 2, 8, 6), normal(3, 2, 8, 6, seed=1)
    values = M.measure(x)
    torch.testing.assert_close(M.measure(M.back(values)), values)
    left, right = ((a * b).flatten(1).sum(1) for a, b in ((M.measure(z), values), (z, M.back(values))))
    torch.testing.assert_close(left, right)  # back is the transpose of measure

    kept = {}

    def f(y):
        kept["y"] = y
        return 0 * y

    solve_inverse(f, M, values, h=0.3, beta=1.0)
    assert float((M.measure(kept["y"]) - values).norm() / values.norm()) < 0.06
    open_part = kept["y"] - M.back(M.measure(kept["y"]))
    assert float(open_part.norm()) < 0.1 * float(x.norm())


def test_inpainting_finds_the_one_image_of_the_set_that_agrees():
    """Three dimensions, eight known pixels: the projection on the set is its best denoiser at little noise."""
    basis = torch.linalg.qr(normal(16, 3))[0]
    x = (basis @ normal(3, 1, seed=2)).view(1, 1, 4, 4)
    known = Measurement.inpainting(torch.arange(16).view(4, 4) < 8)
    found = solve_inverse(
        lambda y: (y.flatten(1) @ basis @ basis.T).view(y.shape),
        known,
        known.measure(x),
        beta=0.9,
        sigma_L=1e-6,
        h=0.2,
    )
    np.testing.assert_allclose(found.images, x, atol=1e-4)


def test_steins_estimate_is_the_error_of_a_linear_denoiser():
    A = 0.5 * torch.eye(36).double() + 0.05 * normal(36, 36)

    def f(y):
        return (y.flatten(1) @ A.T).view(y.shape)

    x, sigma = normal(1, 1, 6, 6), 0.3
    y = x + sigma * normal(1000, 1, 6, 6, seed=1)
    estimate, error = sure(f, y, sigma), (f(y) - x).flatten(1).square().sum(1)
    difference = estimate - error
    assert abs(float(difference.mean())) < 4 * float(difference.std()) / 1000**0.5
    bias = (A - torch.eye(36)) @ x.flatten()
    exact = float(bias @ bias + sigma**2 * (A**2).sum())
    assert float(estimate.mean()) == pytest.approx(exact, rel=0.06)


def test_the_psnr_of_a_projection_follows_from_its_dimension():
    """Keeping d of D directions, all of the image's: the error is d s^2 / D, the slope 1."""
    x = torch.zeros(200, 1, 8, 8)
    x[:, :, :2] = uniform(200, 1, 2, 8)
    mask = (torch.arange(8) < 2).float()[:, None]
    found = psnr_curve(lambda y: y * mask, x, (0.05, 0.1, 0.2))
    np.testing.assert_allclose(found.noisy, -20 * np.log10(found.sigmas), atol=0.1)
    np.testing.assert_allclose(found.denoised - found.noisy, 10 * math.log10(4), atol=0.15)
    assert found.slope() == pytest.approx(1, abs=0.02)
    with pytest.raises(ValueError, match="two noise levels"):
        found.slope(0.07)


def test_oracle_shrinkage_is_what_monte_carlo_finds_and_falls_as_theory_says():
    x, sigma = normal(1, 1, 8, 8).numpy(), 0.7
    basis = torch.linalg.qr(normal(64, 64, seed=1))[0].numpy().reshape(64, 1, 8, 8)
    c = basis.reshape(64, 64) @ x.ravel()
    share = c**2 / (c**2 + sigma**2)
    noise = sigma * np.random.default_rng(0).normal(size=(20_000, 64))
    errors = ((share * (c + noise) - c) ** 2).mean()
    assert oracle_shrinkage(x, (sigma,), basis).mse[0] == pytest.approx(errors, rel=0.01)
    by_function = oracle_shrinkage(x, (sigma,), lambda z: z.reshape(1, 64) @ basis.reshape(64, 64).T)
    assert by_function.mse[0] == pytest.approx(errors, rel=0.01)
    kept = oracle_shrinkage(x, (sigma,), basis[:10]).mse[0]  # the rest is lost
    assert kept == pytest.approx(((share * sigma**2)[:10].sum() + (c[10:] ** 2).sum()) / 64)
    k = np.arange(1, 65537.0)
    for alpha in (1, 3):
        signal = (k ** (-(alpha + 1) / 2)).reshape(1, 256, 256)
        slope = oracle_shrinkage(signal, np.geomspace(0.003, 0.1, 8), "pixel").curve().slope()
        assert slope == pytest.approx(alpha / (alpha + 1), abs=0.03)


def test_named_bases_are_orthonormal_and_find_what_is_theirs():
    x = normal(2, 1, 8, 16).numpy()
    low = [oracle_shrinkage(x, (1e-6,), basis).mse[0] for basis in ("dct", "haar", "pixel")]
    np.testing.assert_allclose(low, 1e-12, rtol=1e-3)  # all directions count at little noise
    block = np.zeros((1, 1, 8, 16))
    block[..., :4, 8:] = 1.0
    wave = np.cos(np.pi * (np.arange(16) + 0.5) * 3 / 16) * np.ones((1, 1, 8, 1))
    for image, best in ((block, "haar"), (wave, "dct")):
        errors = {name: oracle_shrinkage(image, (0.1,), name).mse[0] for name in ("dct", "haar", "pixel")}
        assert min(errors, key=errors.get) == best
    with pytest.raises(ValueError, match="powers of two"):
        oracle_shrinkage(x[..., :6], (0.1,), "haar")


def test_overlap_is_the_mean_squared_cosine():
    A = np.eye(6)[:2]
    assert subspace_overlap(A, A @ np.diag([2.0, -3, 1, 1, 1, 1])) == pytest.approx(1)
    turned = np.array([[math.cos(0.3), 0, math.sin(0.3), 0, 0, 0], [0, 0, 0, 1, 0, 0]])
    assert subspace_overlap(A, turned) == pytest.approx(math.cos(0.3) ** 2 / 2)
    parameters = discs(1, 16, random_state=0).parameters
    tangents = disc_tangents(parameters, 16)[0]

    def project(y):  # the best denoiser at little noise
        Q = torch.linalg.qr(torch.from_numpy(tangents.reshape(5, -1).T))[0]
        return (y.flatten(1) @ Q @ Q.T).view(y.shape)

    basis = jacobian_basis(project, normal(1, 16, 16))
    assert subspace_overlap(basis.vectors[:5], tangents) == pytest.approx(1)
    assert basis.trace == pytest.approx(5)


def small():
    return BiasFreeUNet(1, 4, 1)


@pytest.mark.trains
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_training_lowers_the_error_below_that_of_doing_nothing(dtype):
    """On images of one grey level each: averaging must be learnt, not square ones too, from a single batch up."""
    grey = (uniform(40, 1, 1, 1) * torch.ones(40, 1, 8, 6)).numpy()
    net = build_seeded(lambda: BFCNN(1, 8, 4), 0).to(dtype)
    result = train_denoiser(net, grey, steps=60, batch_size=16, lr=1e-2, random_state=0)
    assert not net.training
    assert result.steps == 60
    found = psnr_curve(net, grey, (0.3, 0.6))
    assert (found.denoised > found.noisy + 2).all()
    y = torch.from_numpy(grey).to(dtype) + 0.3
    torch.testing.assert_close(net.denoise(y)[3:4], net.denoise(y[3:4]))  # whatever the batch


@pytest.mark.trains
def test_the_same_seed_trains_the_same_net_and_a_batch_of_one_will_do():
    x = uniform(1, 1, 4, 6)
    states = []
    for seed in (0, 0, 1):
        net = build_seeded(small, 0)
        train_denoiser(net, x, steps=3, batch_size=1, random_state=seed)
        states.append(net.last.weight.detach())
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


@pytest.mark.trains
def test_a_curve_compares_disjoint_pairs():
    x = uniform(40, 1, 8, 6, seed=3)
    seen = []
    with pytest.warns(ConvergenceWarning):
        found = memorization_curve(
            small, x, uniform(10, 1, 8, 6, seed=4), (2, 20), steps=10, batch_size=8, n_samples=3, h=0.5,
            max_iter=3, sigma_L=1e-9, on_pair=lambda n, a, b: seen.append((n, a, b)),
        )  # fmt: skip
    assert [n for n, _, _ in seen] == [2, 20]
    assert found.presentations == 80
    assert found.to_frame().n.tolist() == [2, 20]
    for pair in found.pairs:
        assert pair.samples.shape == (3, 3, 1, 8, 6)
        assert pair.psnr_train.shape == pair.variance.shape == (3,)
        assert (np.abs(pair.nearest_cosine) <= 1 + 1e-9).all()


def test_a_pair_of_one_function_has_no_variance_and_the_same_samples():
    net, x = Shrink(), uniform(6, 1, 4, 4)
    pair = compare_pair(net, net, (x[:2], x[2:4]), x[4:], n_samples=4, h=0.1, beta=0.5)
    assert not pair.variance.any()
    np.testing.assert_allclose(pair.pair_cosine, 1)
    a, b = (torch.from_numpy(z).flatten(1) for z in (pair.samples[0], pair.samples[2]))
    cosines = torch.nn.functional.cosine_similarity(a[:, None], x[:2].flatten(1)[None], dim=2)
    np.testing.assert_allclose(pair.nearest_cosine, cosines.max(1).values, atol=1e-6)
    torch.testing.assert_close(b, x[:2].flatten(1)[cosines.argmax(1)])
    expected = float(psnr(x[4:].flatten(0, 1), x[4:].flatten(0, 1) * 0))
    assert pair.psnr_test.shape == (3,)
    assert expected < 20


class Shrink(nn.Module):
    """The denoiser above, as a module."""

    def denoise(self, y):
        return shrink(y)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.full((2, 1, 4, 4), 255, np.uint8), "got 255 to 255; divide bytes by 255"),
        (np.full((2, 1, 4, 4), -0.1), r"within \[0, 1\], got -0.1"),
        (np.where(np.arange(32).reshape(2, 1, 4, 4) == 20, np.nan, 0.5), "1 of 2 hold NaN or infinity, the first is 1"),
        (np.ones((2, 4, 4)), r"\(n, channels, height, width\), got \(2, 4, 4\)"),
        (np.ones((2, 1, 4, 5)), "multiples of 2, got"),
    ],
)  # fmt: skip
def test_images_that_a_net_cannot_learn_from_are_refused(images, said):
    with pytest.raises(ValueError, match=said):
        train_denoiser(small(), images, steps=1)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda: memorization_curve(small, np.ones((9, 1, 4, 4)), np.ones((1, 1, 4, 4)), [5]),
            "twice as many",
        ),
        (lambda: train_denoiser(small(), np.ones((9, 1, 4, 4)), sigma_range=(1.0, 0.5)), "low <= high"),
        (lambda: sample_blind(shrink, 1, (1, 4, 4), h=0.0), "h must be positive"),
        (lambda: sample_blind(shrink, 1, (1, 4, 4), beta=1.5), "beta must be at least 0 and at most 1"),
        (lambda: sample_blind(lambda y: 300 * y, 1, (1, 4, 4)), "residual exploded"),
        (lambda: psnr_curve(shrink, np.ones((1, 1, 4, 4)), (0.0, 1.0)), "positive and finite"),
        (lambda: oracle_shrinkage(np.ones((1, 4, 4)), (0.1,), "fourier"), "basis must be one of"),
        (lambda: oracle_shrinkage(np.array(1.0), (0.1,)), r"images must have shape"),
        (lambda: oracle_shrinkage(np.ones((4, 4)), (0.1,)), r"images must have shape"),
        (lambda: subspace_overlap(np.ones((2, 3)), np.ones((2, 4))), "one shape"),
    ],
)
def test_bad_input_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_integer_images_within_range_are_numbers():
    binary = (uniform(4, 1, 4, 4) < 0.5).to(torch.uint8)
    found = [psnr_curve(shrink, x, (0.1, 0.2)).denoised for x in (binary, binary.double())]
    np.testing.assert_array_equal(*found)


def test_what_a_denoiser_does_in_place_stays_inside():
    images, _ = discs(3, 8, random_state=0)
    found, wanted = (
        psnr_curve(f, images, (0.3,)) for f in (lambda y: y.clamp_(0, 1), lambda y: y.clamp(0, 1))
    )
    assert (found.noisy, found.denoised) == (wanted.noisy, wanted.denoised)
    found, wanted = (
        sample_blind(f, 2, (1, 2, 2), h=0.5, beta=0.5).images
        for f in (lambda y: y.mul_(0.5), lambda y: y * 0.5)
    )
    np.testing.assert_array_equal(found, wanted)


def test_a_method_is_evaluated_as_its_net():
    images, _ = discs(3, 8, random_state=0)
    net = BFCNN(1, 4, 3).double().train()
    before = net.layers[3].running_sd.clone()
    assert psnr_curve(net.denoise, images, (0.3,)).denoised == psnr_curve(net, images, (0.3,)).denoised
    assert net.training
    assert torch.equal(before, net.layers[3].running_sd)
    assert sample_blind(net.bfloat16(), 1, (1, 8, 8), h=0.5, beta=1.0).images.dtype == np.float32


def test_what_would_pass_in_silence_is_refused():
    images = np.random.default_rng(0).random((4, 3, 5, 5))
    one = nn.Conv2d(3, 1, 3, padding=1)
    for use in (
        lambda: train_denoiser(one, images, steps=1, batch_size=2),
        lambda: sample_blind(one, 1, (3, 5, 5)),
    ):
        with pytest.raises(ValueError, match="must return the shape"):
            use()
    with pytest.raises(ValueError, match="orthonormal"):
        oracle_shrinkage(images, (0.1,), 2 * np.eye(75).reshape(75, 3, 5, 5))
    with pytest.raises(ValueError, match="finite"):
        oracle_shrinkage(np.full((1, 2, 2), np.nan), (0.1,))
    with pytest.raises(ValueError, match="one shape"):
        memorization_curve(lambda: BFCNN(3, 2, 2), images, images[..., :4], [1], steps=1)
    with pytest.raises(ValueError, match="nothing is spanned"):
        subspace_overlap(np.zeros((2, 3)), np.eye(3))
    with pytest.raises(ValueError, match="multiples of 2"):
        Measurement.super_resolution(2).measure(torch.ones(1, 1, 5, 4))
    with pytest.raises(ValueError, match="True and False"):
        Measurement.inpainting(np.full((2, 2), 0.5))


def test_one_noise_level_may_be_a_number():
    assert psnr_curve(torch.zeros_like, images_of_noise(), 0.1).sigmas.tolist() == [0.1]


@pytest.mark.parametrize(
    "basis",
    [
        lambda x: 5 * x,
        lambda x: x / 5,
        lambda x: np.concatenate([x, x], 1),
        lambda x: x[:1],
        lambda x: x * np.nan,
    ],
)
def test_a_function_that_is_no_orthonormal_basis_is_refused(basis):
    with pytest.raises(ValueError, match="basis"):
        oracle_shrinkage(images_of_noise(), (0.1,), basis)


def test_coefficients_that_a_function_leaves_out_count_as_lost():
    x = images_of_noise()
    found = oracle_shrinkage(x, (0.1,), lambda x: x[..., :4]).mse
    half = oracle_shrinkage(x[..., :4], (0.1,), "pixel").mse
    np.testing.assert_allclose(found, (half + (x[..., 4:] ** 2).mean()) / 2)


def test_nets_that_share_weights_are_not_compared_as_two():
    net = BiasFreeUNet(1, 4, 1)
    with pytest.raises(ValueError, match="fresh net"):
        memorization_curve(lambda: net, images_of_noise(), images_of_noise(), [2], steps=1)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: sample_blind(torch.zeros_like, 1, ()), "shape must be"),
        (lambda: sample_blind(torch.zeros_like, 1, (1, 0, 4)), "shape must be"),
        (lambda: sure(torch.zeros_like, torch.zeros(1, 2), math.inf), "finite"),
        (lambda: train_denoiser(BiasFreeUNet(1, 4, 1), images_of_noise(), sigma_range=(0, math.inf)), "finite"),
        (lambda: compare_pair(*[BiasFreeUNet(1, 4, 1)] * 2, (images_of_noise(),) * 2, images_of_noise(), n_images=-3),
         "n_images"),
        *((lambda values=values: solve_inverse(torch.zeros_like, Measurement.inpainting(np.eye(4)), values), "values")
          for values in (torch.zeros(0, 1, 4, 4), torch.full((1, 1, 4, 4), math.nan))),
    ],
)  # fmt: skip
def test_what_would_end_in_nan_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def images_of_noise():
    return np.random.default_rng(0).uniform(size=(6, 1, 8, 8))


def test_nets_that_hardly_denoise_are_not_said_to_agree():
    """Their samples are alike because both are the noise they began with."""
    x = images_of_noise()
    nets = [lambda y, a=a: a * y for a in (0.98, 0.99)]
    with pytest.warns(UserWarning, match="nothing but that noise"):
        idle = compare_pair(*map(Applied, nets), (x, x), x, n_samples=2, h=0.5, beta=1.0)
    assert idle.pair_cosine.min() > 0.99
    assert "hardly denoise" in str(idle)
    good = compare_pair(*[Applied(lambda y: 0.5 + 0 * y)] * 2, (x, x), x, n_samples=2, h=0.5, beta=1.0)
    assert "hardly denoise" not in str(good)


class Applied(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, y):
        return self.f(y)
