"""The generator against StyleGAN2's equations, and its pictures against fields that are known."""

import copy
import math

import numpy as np
import pytest
import torch

from lodim.shapes.epigraf.generator import ModulatedConv2d, TriplaneGenerator
from lodim.shapes.epigraf.patches import Patch
from lodim.shapes.rendering import camera_to_world, composite, cube_interval, pinhole_rays, stratified_depths


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape, seed=0):
    return torch.randn(shape, generator=draws(seed))


def cameras(n, radius=2.0):
    return camera_to_world((torch.rand(n, 2, generator=draws(n)) - 0.5) * torch.tensor([6.0, 2.0]), radius)


def small(**options):
    return TriplaneGenerator(
        8, 8, 12, 4, **{"base_channels": 8, "hidden": 16, "random_state": 0, **options}
    ).eval()


class Ball(TriplaneGenerator):
    """The planes do not count: a ball of radius 0.3 whose colour is its place."""

    density = 1e4

    def field(self, planes, points, *, density_noise=0.0, generator=None):
        inside = points.norm(dim=2) < 0.3
        return points + 0.5, self.density * inside.to(points)


def ball(**options):
    return Ball(8, 8, 4, 2, base_channels=4, random_state=0, **options)


def conv(**options):
    torch.manual_seed(0)
    return ModulatedConv2d(16, 24, 8, **options)


def test_a_modulated_convolution_has_the_weights_of_the_equation():
    layer, x, w = conv(), noise(3, 16, 7, 7), noise(3, 8, seed=1)
    style = layer.affine(w)
    for i in range(3):
        weight = layer.weight / math.sqrt(16 * 9) * style[i, :, None, None]
        weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        known = torch.nn.functional.conv2d(x[i : i + 1], weight, padding=1)
        assert torch.allclose(layer(x, w)[i : i + 1], known, atol=1e-5)


def test_demodulated_outputs_have_unit_variance_whatever_the_style():
    layer, x = conv(), noise(8, 16, 64, 64)
    plain = conv(demodulate=False)
    for size in (0.3, 1.0, 5.0):
        w = size * noise(8, 8, seed=2)
        # without the border, whose inputs are fewer
        assert float(layer(x, w)[..., 1:-1, 1:-1].detach().var()) == pytest.approx(1, abs=0.02)
    assert float(plain(x, w)[..., 1:-1, 1:-1].detach().var()) > 2
    # stored at unit scale, used at that of the inputs
    assert float(layer.weight.detach().std()) == pytest.approx(1, abs=0.05)
    assert float(conv(demodulate=False)(x, torch.zeros(8, 8))[..., 1:-1, 1:-1].var()) == pytest.approx(
        1, abs=0.1
    )


def test_the_scale_of_a_style_does_not_count():
    layer, x, w = conv(), noise(2, 16, 6, 6), noise(2, 8, seed=1)
    known = layer(x, w)
    with torch.no_grad():
        layer.affine.weight *= 7
        layer.affine.bias *= 7
    assert torch.allclose(layer(x, w), known, atol=1e-5)


@pytest.mark.parametrize("side", [5, 12, 32, 48, 64])
def test_planes_of_any_resolution(side):
    made = TriplaneGenerator(8, 8, side, 4, base_channels=8, random_state=0).eval()
    planes = made.planes(noise(2, 8))
    assert planes.shape == (2, 3, 4, side, side)
    assert planes.isfinite().all()
    # the length of z does not count, its direction does
    assert torch.allclose(made.planes(5 * noise(2, 8)), planes, atol=1e-4)
    assert not torch.allclose(made.planes(noise(2, 8, seed=1)), planes, atol=1e-2)
    assert made.planes(noise(0, 8)).shape == (0, 3, 4, side, side)


def test_noise_is_drawn_in_training_only():
    made, z = small(), noise(2, 8)
    quiet = made.planes(z)
    made.train()
    # its strength starts at zero
    assert torch.equal(made.planes(z), quiet)
    for layer in made.layers:
        torch.nn.init.constant_(layer.strength, 0.1)
    state = torch.random.get_rng_state()
    noisy = made.planes(z, draws())
    assert torch.equal(made.planes(z, draws()), noisy)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.allclose(noisy, quiet, atol=1e-3)
    assert torch.equal(made.eval().planes(z), quiet)


def test_the_whole_image_is_a_patch_and_aligned_patches_are_crops():
    made, z, poses = small(), noise(3, 8), cameras(3)
    whole = made(z, poses, resolution=32)
    one = made(z, poses, Patch(torch.ones(3), torch.zeros(3, 2)), 32)
    for found, known in zip(one, whole, strict=True):
        assert torch.equal(found, known)
    corners = torch.tensor([[0, 0], [16, 16], [5, 11]])
    part = made(z, poses, Patch(torch.full((3,), 0.5), corners / 32), 16)
    for i, (right, down) in enumerate(corners.tolist()):
        at = slice(down, down + 16), slice(right, right + 16)
        assert torch.allclose(part.images[i], whole.images[i][:, *at], atol=1e-4)
        assert torch.allclose(part.opacity[i], whole.opacity[i][at], atol=1e-4)
        seen = whole.opacity[i][at] > 1e-3
        assert torch.allclose(part.depths[i][seen], whole.depths[i][at][seen], atol=1e-4)


def test_a_constant_field_absorbs_exponentially():
    made = small(background="black").double()
    with torch.no_grad():
        made.second.weight.zero_()
    sigma = 10 * math.log1p(math.exp(-1))
    poses = cameras(2).double()
    seen = made(noise(2, 8), poses, resolution=8)
    rays = (r.reshape(-1, 3) for r in pinhole_rays(poses, made.fov, 8, 8))
    near, far = cube_interval(*rays)
    # sums begin at the first sample, the middle of the first of 24 parts
    known = 1 - torch.exp(-sigma * (far - near) * (1 - 0.5 / made.n_coarse))
    assert torch.allclose(seen.opacity.reshape(-1), known, atol=1e-9)
    assert torch.allclose(seen.images[:, 0].reshape(-1), 0.5 * known, atol=1e-9)


def test_a_picture_is_the_sum_over_all_samples_in_order():
    # against one ray at a time, all of them sampled, values computed anew where they are used again
    made, z, poses = small(fov=1.2, n_coarse=6, n_fine=5), noise(2, 8), cameras(2, 1.2)
    planes = made.planes(z)
    seen = made.render(planes, poses, None, 6)
    origins, ways = pinhole_rays(poses, 1.2, 6, 6)
    from lodim.shapes.rendering import importance_depths

    missed = 0
    for i in range(2):
        for j in range(36):
            o, way = origins[i, j : j + 1], ways[i, j : j + 1]
            near, far = cube_interval(o, way)
            missed += int(far <= near)
            depths = stratified_depths(near, far, 6, jitter=False)
            at = (o + depths.T * way)[None]
            weights = composite(*made.field(planes[i : i + 1], at), depths, far)[1]
            more = importance_depths(depths, weights, 5, jitter=False)
            depths = torch.cat([depths, more], 1).sort(1).values
            rgb, sigma = made.field(planes[i : i + 1], (o + depths.T * way)[None])
            colour, weights = composite(rgb, sigma, depths, far)
            assert torch.allclose(seen.images[i].flatten(1)[:, j], colour[0], atol=1e-5)
            assert float(seen.opacity[i].flatten()[j]) == pytest.approx(float(weights.sum()), abs=1e-5)
    assert missed > 10


def test_rays_that_miss_show_the_background():
    made, z = small(fov=2.0, background=(0.1, 0.2, 0.3)), noise(3, 8)
    poses = camera_to_world(torch.zeros(3, 2), 1.0)
    # the second looks past the cube altogether, the third sees little of it
    poses[1, :3, 2] *= -1
    poses[1, :3, 0] *= -1
    poses[2, 2, 3] = 3.0
    seen = made(z, poses, resolution=16)
    missed = seen.opacity == 0
    assert missed[1].all()
    assert 0 < missed[0].sum() < missed[2].sum() < 256
    assert (seen.images.permute(0, 2, 3, 1)[missed] == torch.tensor([0.1, 0.2, 0.3])).all()
    assert torch.equal(seen.depths.isinf(), missed)
    # each image is what it is alone
    for i in range(3):
        alone = made(z[i : i + 1], poses[i : i + 1], resolution=16)
        assert torch.allclose(alone.images[0], seen.images[i], atol=1e-5)


def test_an_opaque_ball_has_the_depth_of_geometry():
    z, poses = torch.zeros(4, 8), cameras(4)
    origins, ways = pinhole_rays(poses, 0.7, 24, 24)
    # (o + t w)^2 = 0.3^2
    half = (origins * ways).sum(2)
    root = half**2 - origins.square().sum(2) + 0.09
    known = (-half - root.clamp(min=0).sqrt()).reshape(4, 24, 24)
    # clearly inside of the silhouette
    hit = (root > 0.02).reshape(4, 24, 24)
    errors = []
    for n_fine in (0, 24):
        seen = ball(n_coarse=24, n_fine=n_fine)(z, poses, resolution=24)
        assert (seen.opacity[hit] > 0.999).all()
        assert (seen.opacity[(root < -0.01).reshape(4, 24, 24)] == 0).all()
        error = (seen.depths - known)[hit].abs()
        # no way through the cube is longer than its diagonal
        assert error.max() <= math.sqrt(3) / 24
        errors.append(float(error.mean()))
        places = (origins + seen.depths.flatten(1)[..., None] * ways)[hit.flatten(1)] + 0.5
        assert torch.allclose(seen.images.flatten(2).mT[hit.flatten(1)], places, atol=1e-3)
    assert errors[1] < errors[0] / 3


def test_the_rest_of_the_light_goes_to_the_last_sample():
    made, poses = small(background="black"), cameras(1)
    with torch.no_grad():
        # no density, red
        made.second.weight.zero_()
        made.second.bias.copy_(torch.tensor([30.0, -30.0, -30.0, -30.0]))
    made.last_back = True
    seen = made(noise(1, 8), poses, resolution=8)
    crossed = seen.opacity[0] > 0
    assert crossed.any()
    assert torch.allclose(seen.images[0][:, crossed].T, torch.tensor([1.0, 0.0, 0.0]), atol=1e-5)
    # beside an image with more rays through the cube, background stays background
    near = camera_to_world(torch.zeros(1, 2), 1.2)
    both = made(noise(2, 8), torch.cat([near, camera_to_world(torch.zeros(1, 2), 4.0)]), resolution=16)
    missed = both.opacity[1] == 0
    assert missed.sum() > 100
    assert (both.images[1][:, missed] == 0).all()
    made.last_back = False
    assert float(made(noise(1, 8), poses, resolution=8).images.max()) < 1e-5


def test_training_draws_from_its_generator_and_gradients_reach_every_weight():
    made, z, poses = small(), noise(2, 8), cameras(2)
    made.train()
    state = torch.random.get_rng_state()
    options = {"resolution": 8, "jitter": True, "density_noise": 0.5}
    first = made(z, poses, generator=draws(), **options)
    assert torch.equal(first.images, made(z, poses, generator=draws(), **options).images)
    assert not torch.equal(first.images, made(z, poses, generator=draws(1), **options).images)
    assert torch.equal(torch.random.get_rng_state(), state)
    (first.images.square().mean() + first.opacity.mean()).backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_gradients_of_a_picture():
    made = small(n_fine=0, n_coarse=4, base_channels=2).double()
    planes, poses = made.planes(noise(1, 8)).detach().requires_grad_(), cameras(1).double()
    assert torch.autograd.gradcheck(lambda p: made.render(p, poses, None, 3).images, planes, fast_mode=True)


def test_copies_and_states_draw_the_same():
    made, z, poses = small(), noise(1, 8), cameras(1)
    known = made(z, poses, resolution=8).images
    other = small(random_state=1)
    assert not torch.equal(other(z, poses, resolution=8).images, known)
    other.load_state_dict(made.state_dict())
    for same in (copy.deepcopy(made), other, small()):
        assert torch.equal(same(z, poses, resolution=8).images, known)
    assert made(z[:0], poses[:0], resolution=8).images.shape == (0, 3, 8, 8)


def test_a_field_that_has_diverged_is_told_with_its_state():
    made = small().train()
    with torch.no_grad():
        made.second.weight.fill_(math.nan)
    with pytest.raises(RuntimeError, match=r"100% of the rays.*density_noise=0.25.*from 0.5 to 0.5"):
        made(noise(1, 8), cameras(1), Patch(torch.tensor([0.5]), torch.zeros(1, 2)), 8, density_noise=0.25)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda m: m(noise(1, 8), torch.eye(4)[None]), "inside the cube"),
        (lambda m: m(noise(1, 8), cameras(2)), "poses must be one an image"),
        (lambda m: m(noise(1, 9), cameras(1)), "z must have shape"),
        (lambda m: m.extract_mesh(noise(2, 8)), "one object"),
        (lambda m: m(noise(1, 8), cameras(1) * math.nan), "poses must be finite"),
        (lambda m: small(background=(0.0, 2.0, 0.0)), "background"),
        (lambda m: small(fov=60), "in radians"),
        (lambda m: small(bound=0.0), "bound"),
        (lambda m: small(n_coarse=1), "n_coarse"),
    ],
)
def test_what_cannot_be_drawn(call, told):
    with pytest.raises(ValueError, match=told):
        call(small())


def test_the_surface_of_a_ball():
    pytest.importorskip("trimesh")
    pytest.importorskip("skimage")
    made = ball().train()
    made.density = 20.0
    mesh = made.extract_mesh(torch.zeros(8), 32)
    assert made.training
    assert mesh.is_watertight
    assert float(mesh.volume) == pytest.approx(4 / 3 * math.pi * 0.3**3, rel=0.05)
    assert np.linalg.norm(mesh.vertices, axis=1) == pytest.approx(np.full(len(mesh.vertices), 0.3), abs=0.03)
