"""Patches: their distributions against SciPy's, and their pixels against crops."""

import numpy as np
import pytest
import torch
from scipy.stats import beta as beta_distribution
from scipy.stats import kstest

from lodim.randomness import torch_generator
from lodim.shapes.epigraf.patches import Patch, PatchSampler, extract_patches


@pytest.mark.parametrize("share", [0.05, 0.2, 1.0])
def test_scales_have_the_moments_and_the_distribution_of_beta(share):
    sampler = PatchSampler(0.25)
    b = 1e-3 + (0.8 - 1e-3) * min(share / 0.4, 1)
    assert sampler.beta(share) == pytest.approx(b)
    scales = sampler(20_000, share, torch_generator(0), group=1).scales.numpy()
    x, truth = (scales - 0.25) / 0.75, beta_distribution(1, b)
    se = truth.std() / np.sqrt(len(x))
    assert abs(x.mean() - truth.mean()) < 4 * se
    assert x.std() == pytest.approx(truth.std(), rel=0.05)
    # floats near 1 are coarse where nearly all of the mass is
    assert kstest(np.minimum(x, 1 - 1e-7), truth.cdf).pvalue > 1e-3 or b < 0.2


def test_training_begins_with_whole_images():
    patch = PatchSampler(0.5)(1000, 0.0, torch_generator(0), group=1)
    # one in a thousand is drawn from the rest, since beta is 0.001
    assert float((patch.scales > 0.999).float().mean()) > 0.99
    uniform = PatchSampler(0.5, "uniform")(1000, 0.0, torch_generator(0))
    assert bool((uniform.scales == 1).all())
    assert bool((uniform.offsets == 0).all())


@pytest.mark.parametrize("distribution", ["beta", "uniform", "discrete"])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("low", [0.1, 0.5, 1.0])
def test_patches_lie_in_the_image(distribution, share, low):
    scales, offsets = PatchSampler(low, distribution)(5000, share, torch_generator(1), group=1)
    assert low - 1e-7 <= float(scales.min()) <= float(scales.max()) <= 1
    assert float(offsets.min()) >= 0
    assert float((scales[:, None] + offsets).max()) <= 1 + 1e-7


def test_the_other_distributions():
    scales = PatchSampler(0.25, "uniform")(20_000, 1.0, torch_generator(0), group=1).scales
    assert kstest(scales.numpy(), "uniform", (0.25, 0.75)).pvalue > 1e-3
    scales = PatchSampler(0.25, "discrete")(3000, 1.0, torch_generator(0), group=1).scales
    values, counts = scales.unique(return_counts=True)
    assert values.tolist() == [0.25, 0.5, 1.0]
    assert int(counts.min()) > 900


def test_groups_share_a_patch_and_the_generator_decides():
    sampler = PatchSampler(0.5)
    one, two = (sampler(10, 0.5, torch_generator(3)) for _ in range(2))
    assert torch.equal(one.scales, two.scales)
    assert torch.equal(one.offsets, two.offsets)
    for part in (one.scales.split(4), one.offsets.split(4)):
        assert all(bool((group == group[0]).all()) for group in part)
    assert len(one.scales.unique()) == 3


def test_a_whole_image_is_itself_and_patches_at_whole_pixels_are_crops():
    images = torch.rand(6, 3, 16, 16, dtype=torch.float64, generator=torch_generator(0))
    torch.testing.assert_close(extract_patches(images, Patch.whole(6), 16), images, rtol=0, atol=1e-12)
    right, down = torch.arange(6), torch.tensor([8, 0, 3, 1, 7, 2])
    patch = Patch(torch.full((6,), 0.5), torch.stack([right, down], 1) / 16)
    crops = torch.stack([im[:, d : d + 8, r : r + 8] for im, r, d in zip(images, right, down, strict=True)])
    torch.testing.assert_close(extract_patches(images, patch, 8), crops, rtol=0, atol=1e-12)


def test_a_linear_image_is_sampled_at_the_positions_of_the_definition():
    side = (2 * torch.arange(32, dtype=torch.float64) + 1) / 32 - 1
    image = torch.stack([side.expand(32, 32), side[:, None].expand(32, 32)])[None]
    patch = Patch(torch.tensor([0.4]), torch.tensor([[0.3, 0.15]]))
    x = (2 * torch.arange(8, dtype=torch.float64) + 1) / 8 - 1
    right, down = extract_patches(image, patch, 8)[0]
    torch.testing.assert_close(right[3], (x + 1) * 0.4 - 1 + 2 * 0.3, rtol=0, atol=1e-6)
    torch.testing.assert_close(down[:, 5], (x + 1) * 0.4 - 1 + 2 * 0.15, rtol=0, atol=1e-6)


def test_mistakes_are_named():
    images = torch.rand(2, 3, 16, 16)
    with pytest.raises(ValueError, match="square, got 16 x 12"):
        extract_patches(images[..., :12], Patch.whole(2), 8)
    with pytest.raises(ValueError, match="32 > 16"):
        extract_patches(images, Patch.whole(2), 32)
    with pytest.raises(ValueError, match="a patch an image"):
        extract_patches(images, Patch.whole(3), 8)
    for scale in (0.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="min_scale"):
            PatchSampler(scale)
    with pytest.raises(ValueError, match="beta_start must be positive"):
        PatchSampler(0.5, beta_start=0.0)
    with pytest.raises(ValueError, match="distribution"):
        PatchSampler(0.5, "gamma")
    with pytest.raises(ValueError, match="share"):
        PatchSampler(0.5)(4, 1.2)
