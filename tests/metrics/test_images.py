"""PSNR and SSIM by mathematics: closed forms for constants, noise and linear changes; symmetry; gradients."""

import math

import numpy as np
import pytest
import torch

from lodim.metrics import psnr, ssim


@pytest.fixture
def images():
    return np.random.default_rng(0).random((2, 3, 20, 24))


def test_equal_images(images):
    np.testing.assert_allclose(ssim(images, images), [1, 1], rtol=1e-12)
    assert np.isinf(psnr(images, images)).all()
    assert isinstance(ssim(images[0, 0], images[0, 0]), float)
    assert isinstance(psnr(images[0], images[0]), float)


@pytest.mark.parametrize(("a", "b", "data_range"), [(0.2, 0.7, 1.0), (30.0, 200.0, 255.0), (0.0, 1.0, 1.0)])
def test_constants(a, b, data_range):
    x, y = np.full((12, 13), a), np.full((12, 13), b)
    c1 = (0.01 * data_range) ** 2
    assert ssim(x, y, data_range=data_range) == pytest.approx((2 * a * b + c1) / (a**2 + b**2 + c1), rel=1e-9)
    assert psnr(x, y, data_range=data_range) == pytest.approx(20 * math.log10(data_range / abs(a - b)))


def test_one_window_by_hand(images):
    """An image as large as the window has one value, that of the weighted moments."""
    x, y = images[0, 0, :11, :11], images[1, 0, :11, :11]
    g = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    w = np.outer(g, g) / g.sum() ** 2
    mx, my = (w * x).sum(), (w * y).sum()
    vx, vy, c = (w * x * x).sum() - mx**2, (w * y * y).sum() - my**2, (w * x * y).sum() - mx * my
    expected = (2 * mx * my + 1e-4) * (2 * c + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
    assert ssim(x, y) == pytest.approx(expected, rel=1e-12)


def test_symmetry_units_and_flips(images):
    x, y = images[0], images[1]
    assert ssim(x, y) == pytest.approx(ssim(y, x), rel=1e-12)
    assert ssim(255 * x, 255 * y, data_range=255) == pytest.approx(ssim(x, y), rel=1e-10)
    assert ssim(x[:, ::-1], y[:, ::-1]) == pytest.approx(ssim(x, y), rel=1e-10)
    assert ssim(x, y) == pytest.approx(np.mean([ssim(a, b) for a, b in zip(x, y)]))
    assert abs(ssim(x, 1 - x)) <= 1


def test_noise_has_its_decibels():
    rng = np.random.default_rng(1)
    x = rng.random((200, 200))
    for sigma in (0.01, 0.1):
        assert psnr(x + sigma * rng.normal(size=x.shape), x) == pytest.approx(
            -20 * math.log10(sigma), abs=0.1
        )


def test_tensors(images):
    x, y = torch.from_numpy(images), torch.from_numpy(images[::-1].copy())
    np.testing.assert_allclose(ssim(x, y).numpy(), ssim(images, images[::-1]))
    noisy = y.clone().requires_grad_()
    for figure in (psnr, ssim):
        (slope,) = torch.autograd.grad(figure(x, noisy).sum(), noisy)
        step = 1e-4 * torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(0))
        change = (figure(x, y + step) - figure(x, y - step)).sum() / 2
        assert float((slope * step).sum()) == pytest.approx(float(change), rel=1e-4)
    half = ssim(x.bfloat16(), y.bfloat16())
    np.testing.assert_allclose(half, ssim(x, y), atol=0.01)


def test_errors(images):
    with pytest.raises(ValueError, match="one shape"):
        ssim(images, images[:1])
    with pytest.raises(ValueError, match="at least 11 x 11"):
        ssim(images[..., :9], images[..., :9])
    with pytest.raises(ValueError, match="NaN"):
        psnr(images, np.full_like(images, np.nan))
    with pytest.raises(ValueError, match="data_range must be positive"):
        psnr(images, images, data_range=0)
    with pytest.raises(ValueError, match="one shape"):
        psnr(np.zeros((0, 1, 12, 12)), np.zeros((0, 1, 12, 12)))


def test_bytes_and_units_of_any_size(images):
    x, y = (np.round(255 * images) / 255).astype(np.float64)
    as_bytes = [np.round(255 * z).astype(np.uint8) for z in (x, y)]
    for figure in (psnr, ssim):
        expected = pytest.approx(figure(x, y), rel=1e-10)
        assert figure(*as_bytes, data_range=np.uint8(255)) == expected  # 255 squared is 1 in bytes
        for unit in (1e-200, 1e200):
            assert figure(unit * x, unit * y, data_range=unit) == expected
        assert figure(x, torch.tensor(y, requires_grad=True)) == expected
        with pytest.raises(ValueError, match=r"whole numbers differ by more than data_range=1\.0"):
            figure(*as_bytes)
        for bad, message in (
            (x + 1j, "real"),
            (np.ma.masked_array(x, x > 0.5), "masked"),
            (x + np.inf, "finite"),
        ):
            with pytest.raises(ValueError, match=message):
                figure(bad, y)
    for unit in (1e-300, 1e300):
        np.testing.assert_allclose(psnr(x, y, data_range=unit), psnr(x, y) + 20 * np.log10(unit), rtol=1e-12)
    with pytest.raises(ValueError, match="data_range=1e-300 is so far"):
        ssim(x, y, data_range=1e-300)
