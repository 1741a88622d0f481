"""What must hold of a volume's figures: planes, limits, and that nothing is measured twice or wrongly."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from lodim.datasets import ellipse_volume
from lodim.generative import MatrixOperator, ParallelBeam, plot_planes, volume_quality
from lodim.metrics import psnr, ssim

TRUTH = ellipse_volume(12, 16, random_state=0)


def noisy(scale=0.1, seed=0):
    return TRUTH + scale * np.random.default_rng(seed).normal(size=TRUTH.shape)


def test_planes_are_those_of_the_volume_turned():
    x, found = noisy(), volume_quality(noisy(), TRUTH)
    turned = {"axial": (0, 1, 2, 3), "coronal": (2, 1, 0, 3), "sagittal": (3, 1, 0, 2)}
    for plane, axes in turned.items():
        here, there = x.transpose(axes), TRUTH.transpose(axes)
        shown = np.array([np.ptp(cut) > 0 for cut in there])
        span = float(np.ptp(TRUTH))
        assert found.psnr[plane] == pytest.approx(np.mean(psnr(here[shown], there[shown], data_range=span)))
        assert found.ssim[plane] == pytest.approx(
            np.mean(ssim(here[shown], there[shown], data_range=span)), rel=1e-5
        )
    cube = volume_quality(x.transpose(2, 1, 0, 3), TRUTH.transpose(2, 1, 0, 3))
    assert cube.psnr["axial"] == pytest.approx(found.psnr["coronal"])
    assert cube.psnr["volume"] == pytest.approx(found.psnr["volume"])


def test_noise_of_known_size_has_its_psnr():
    found = volume_quality(noisy(0.01), TRUTH, data_range=1.0)
    assert found.psnr["volume"] == pytest.approx(40, abs=0.3)
    tenfold = volume_quality(10 * noisy(0.01), 10 * TRUTH, data_range=10.0)
    assert tenfold.psnr["volume"] == pytest.approx(found.psnr["volume"], abs=1e-4)


def test_slices_without_anything_to_see_do_not_count():
    truth, x = TRUTH.copy(), noisy()
    truth[3:5], x[3:5] = 0.25, 0.25  # met exactly: their PSNR is infinite
    found = volume_quality(x, truth, data_range=1.0)
    assert math.isfinite(found.psnr["axial"])
    kept = np.delete(np.arange(12), (3, 4))
    assert found.psnr["axial"] == pytest.approx(np.mean(psnr(x[kept], truth[kept])))


def test_roughness_is_the_mean_difference_across_slices():
    steps = np.arange(5.0)[:, None, None, None] * np.ones((5, 1, 3, 3))
    assert volume_quality(steps).z_roughness == pytest.approx(1)
    assert volume_quality(3 * steps, steps).roughness_ratio == pytest.approx(3)
    alone = volume_quality(steps[:1], steps[:1], data_range=1)  # has no neighbour
    assert math.isnan(alone.z_roughness)
    assert math.isnan(alone.roughness_ratio)
    assert volume_quality(steps, 0 * steps, data_range=1).roughness_ratio == math.inf
    assert volume_quality(0 * steps, 0 * steps, data_range=1).roughness_ratio == 1
    assert volume_quality(0 * steps, 0 * steps, data_range=1).psnr["volume"] == math.inf


def test_the_residual_is_relative_and_that_of_the_operator():
    beam = ParallelBeam(16, n_views=3)
    y = beam.forward(TRUTH)
    assert volume_quality(TRUTH, y=y, operator=beam).residual < 1e-6
    assert volume_quality(0 * TRUTH, y=y, operator=beam).residual == pytest.approx(1)
    assert volume_quality(3 * TRUTH, y=y, operator=beam).residual == pytest.approx(2, rel=1e-5)
    assert volume_quality(TRUTH, y=0 * y, operator=beam).residual == math.inf
    assert volume_quality(0 * TRUTH, y=0 * y, operator=beam).residual == 0


def test_without_truth_or_room_figures_are_not_there():
    found = volume_quality(TRUTH)
    assert all(
        math.isnan(v)
        for v in (*found.psnr.values(), *found.ssim.values(), found.roughness_ratio, found.residual)
    )
    assert str(found) == f"z-roughness {found.z_roughness:.4g}"
    flat = volume_quality(noisy()[:5], TRUTH[:5])  # five slices: the other planes have no window of 11
    assert math.isnan(flat.ssim["coronal"])
    assert not math.isnan(flat.ssim["axial"])


def test_tensors_channels_and_volumes_without_them():
    one = volume_quality(noisy(), TRUTH)
    assert volume_quality(torch.from_numpy(noisy()), torch.from_numpy(TRUTH)).to_dict() == one.to_dict()
    assert volume_quality(noisy()[:, 0], TRUTH[:, 0]).to_dict() == one.to_dict()
    both = np.concatenate([noisy(), TRUTH], 1)
    twice = volume_quality(both, np.concatenate([TRUTH, TRUTH], 1))
    assert twice.psnr["volume"] == pytest.approx(one.psnr["volume"] + 10 * math.log10(2))
    whole = volume_quality((TRUTH * 255).astype(np.uint8), (TRUTH * 255).astype(np.uint8), data_range=255)
    assert whole.psnr["volume"] == math.inf


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="both"):
        volume_quality(TRUTH, y=TRUTH)
    with pytest.raises(ValueError, match="truth has shape"):
        volume_quality(TRUTH, TRUTH[:3])
    with pytest.raises(ValueError, match="of one grey"):
        volume_quality(TRUTH, 0 * TRUTH)
    with pytest.raises(ValueError, match="data_range"):
        volume_quality(TRUTH, TRUTH, data_range=0)
    for wrong, words in ((TRUTH[0, 0], "shape"), (TRUTH[:0], "shape"), (TRUTH * np.nan, "NaN")):
        with pytest.raises(ValueError, match=words):
            volume_quality(wrong)
    with pytest.raises(ValueError, match="real"):
        volume_quality(torch.zeros(2, 1, 3, 3, dtype=torch.complex64))
    operator = MatrixOperator(np.eye(4), (1, 2, 2))
    with pytest.raises(ValueError, match="shape"):
        volume_quality(TRUTH, y=np.zeros((12, 4)), operator=operator)
    with pytest.raises(ValueError, match="y must be an array"):
        volume_quality(TRUTH, y=[[1.0], [1.0, 2.0]], operator=operator)


@pytest.mark.parametrize("use", [volume_quality, plot_planes, lambda volume: volume_quality(TRUTH, volume)])
@pytest.mark.parametrize(
    ("made", "said"), [(lambda x: x.to("meta"), "is on the meta"), (torch.Tensor.to_sparse, "sparse")]
)
def test_what_holds_no_numbers_is_named(use, made, said):
    with pytest.raises((TypeError, ValueError), match=f"(volume|truth) .*{said}"):
        use(made(torch.from_numpy(TRUTH)))


@pytest.mark.parametrize("size", [1e-300, 1e-100, 1e100, 1e300])
def test_figures_do_not_depend_on_the_unit_however_far(size):
    plain, found = (volume_quality(s * noisy(), s * TRUTH.astype(float)) for s in (1.0, size))
    for name, value in plain.figures().items():
        if name not in ("z-roughness", "residual"):
            assert found.figures()[name] == pytest.approx(value, rel=1e-6)


def test_what_is_too_far_from_the_truth_is_said():
    with pytest.warns(UserWarning, match="PSNR and SSIM are NaN"):
        found = volume_quality(1e200 * noisy(), TRUTH)
    assert np.isnan([*found.psnr.values(), *found.ssim.values()]).all()


def test_residuals_of_numbers_whose_squares_overflow():
    y, operator = np.arange(1.0, 9).reshape(2, 4), MatrixOperator(np.eye(4), (1, 2, 2))
    plain, found = (
        volume_quality(s * y.reshape(2, 1, 2, 2) / 2, y=s * y, operator=operator) for s in (1.0, 1e200)
    )
    assert found.residual == pytest.approx(plain.residual)


def test_the_picture_shows_the_slices_that_were_asked_for():
    ax = plot_planes(TRUTH, at=(2, 5, 7))
    sheet = ax.images[0].get_array()
    assert sheet.shape == (16, 16 + 1 + 16 + 1 + 16)
    np.testing.assert_array_equal(sheet[:, :16].data, TRUTH[2, 0])
    np.testing.assert_array_equal(sheet[2:14, 17:33].data, TRUTH[:, 0, 5])
    np.testing.assert_array_equal(sheet[2:14, 34:].data, TRUTH[:, 0, :, 7])
    assert bool(sheet.mask[:2, 17:33].all())
    plt.close("all")
