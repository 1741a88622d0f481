"""Rays and their sums against geometry and closed forms."""

import math

import pytest
import torch

from lodim.shapes.rendering import (
    camera_to_world,
    composite,
    cube_interval,
    importance_depths,
    patch_rays,
    pinhole_rays,
    stratified_depths,
)


def cameras(n=6, radius=2.0):
    draws = torch.Generator().manual_seed(0)
    u = torch.rand(n, 2, generator=draws, dtype=torch.float64)
    return camera_to_world(torch.stack([2 * math.pi * u[:, 0], 2.4 * u[:, 1] - 1.2], 1), radius)


def test_cameras_stand_on_the_sphere_and_look_at_the_centre():
    poses = cameras()
    axes, places = poses[:, :3, :3], poses[:, :3, 3]
    assert torch.allclose(axes.transpose(1, 2) @ axes, torch.eye(3, dtype=torch.float64).expand(6, 3, 3))
    assert torch.allclose(torch.linalg.det(axes), torch.ones(6, dtype=torch.float64))
    assert torch.allclose(places.norm(dim=1), torch.full((6,), 2.0, dtype=torch.float64))
    assert torch.allclose(axes[:, :, 2], places / 2)
    # up is up, right is level
    assert (axes[:, 1, 1] > 0).all()
    assert (axes[:, 1, 0] == 0).all()


def test_rays_leave_through_the_pixels():
    poses, fov = cameras(3), 0.8
    _, directions = pinhole_rays(poses, fov, 5, 7)
    assert directions.shape == (3, 35, 3)
    assert torch.allclose(directions.norm(dim=2), torch.ones(3, 35, dtype=torch.float64))
    local = (poses[:, :3, :3].transpose(1, 2) @ directions.transpose(1, 2)).transpose(1, 2)
    local = (local / -local[..., 2:]).reshape(3, 5, 7, 3)
    # the middle one looks ahead; the border is half a pixel beyond the centre of the last column
    assert torch.allclose(local[:, 2, 3], torch.tensor([0.0, 0, -1], dtype=torch.float64).expand(3, 3))
    assert torch.allclose(local[:, :, 6, 0] * 7 / 6, torch.full((3, 5), math.tan(fov / 2)).double())
    assert (local[:, 0, :, 1] > 0).all()
    assert torch.allclose(local[:, 0, 0, 1], -2 * (local[:, 0, 0, 0] / 3))


def test_rays_of_patches_are_those_of_their_images():
    poses = cameras(3).float()
    whole = pinhole_rays(poses, 0.8, 16, 16)
    for found, known in zip(patch_rays(poses, 0.8, 16, torch.ones(3), torch.zeros(3, 2)), whole, strict=True):
        assert torch.equal(found, known)
    # 4 pixels to the right and 7 down
    offset = torch.tensor([4.0, 7.0]).expand(3, 2) / 16
    found = patch_rays(poses, 0.8, 8, torch.full((3,), 0.5), offset)[1]
    known = whole[1].reshape(3, 16, 16, 3)[:, 7:15, 4:12].flatten(1, 2)
    assert torch.allclose(found, known, rtol=0, atol=1e-7)


def test_samples_are_where_the_weights_are():
    depths = torch.tensor([[1.0, 2.0, 4.0, 5.0, 9.0], [3.0, 3.5, 4.0, 4.5, 5.0]], dtype=torch.float64)
    weights = torch.tensor([[0.1, 0.0, 0.5, 0.2, 0.2], [0.0, 0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    n = 4000
    drawn = importance_depths(depths, weights, n, generator=torch.Generator().manual_seed(0))
    assert (drawn.diff(dim=1) >= 0).all()
    for found, ends, weight in zip(
        drawn, ([1, 1.5, 3, 4.5, 7, 9], [3, 3.25, 3.75, 4.25, 4.75, 5]), weights + 1e-5, strict=True
    ):
        # one is drawn in each of n equal parts of the distribution: counts are right to within one at either end
        reached = torch.cumsum(weight / weight.sum(), 0) * n
        for i in range(5):
            assert abs(int((found <= ends[i + 1]).sum()) - float(reached[i])) <= 1
            within = found[(found >= ends[i]) & (found <= ends[i + 1])]
            if len(within) > 100:
                middle = (within - ends[i]).mean() / (ends[i + 1] - ends[i])
                assert float(middle) == pytest.approx(0.5, abs=0.02)
    middles = importance_depths(depths[1:], weights[1:] + 1, 5, jitter=False)
    assert middles[0].tolist() == pytest.approx([3.125, 3.5, 4.0, 4.5, 4.875])
    one = torch.tensor([[0.0, 1.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    assert ((importance_depths(depths[:1], one, 9, jitter=False) - 2.25).abs() <= 0.75).all()


def test_no_sample_is_beyond_the_end_of_its_ray():
    """In single precision near + (far - near) may exceed far, and (n - 1 + u) / n be 1."""
    draws = torch.Generator().manual_seed(0)
    near = 0.3 + 0.6 * torch.rand(20_000, generator=draws)
    far = 1 + 2 * torch.rand(20_000, generator=draws)
    assert (near + (far - near) > far).any()
    # one part a ray, drawn as late as can be
    late = torch.nextafter(torch.tensor(1.0), torch.tensor(0.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "rand", lambda *shape, **options: late.expand(*shape))
        assert (stratified_depths(near, far, 24) <= far[:, None]).all()


def test_where_rays_cross_the_cube():
    origins, directions = (rays.reshape(-1, 3) for rays in pinhole_rays(cameras(), 1.2, 9, 9))
    near, far = cube_interval(origins, directions)
    hit = far > near
    assert 0 < hit.sum() < len(hit)
    for depth in (near, far):
        # the ends lie on the surface
        places = (origins + depth[:, None] * directions)[hit].abs()
        assert torch.allclose(places.amax(1), torch.full_like(places[:, 0], 0.5))
    # along an axis, within a face's plane and beside it; from inside it begins at once
    along = torch.tensor([[0.0, 0.0, -1.0]])
    for x, way in ((0.2, 1.0), (0.7, 0.0)):
        near, far = cube_interval(torch.tensor([[x, 0.0, 2.0]]), along)
        assert float(far - near) == pytest.approx(way)
    assert cube_interval(torch.zeros(1, 3), along)[0].item() == 0


def test_depths_fill_their_parts():
    near, far = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 6.0])
    drawn = stratified_depths(near, far, 16, generator=torch.Generator().manual_seed(0))
    part = ((drawn - near[:, None]) / (far - near)[:, None] * 16).floor()
    assert torch.equal(part, torch.arange(16.0).expand(2, 16))
    middles = stratified_depths(near, far, 4, jitter=False)
    assert middles[0].tolist() == [1.125, 1.375, 1.625, 1.875]


def test_a_constant_density_absorbs_exponentially_whatever_the_samples():
    far, sigma = torch.tensor([3.0], dtype=torch.float64), 0.7
    for n in (1, 2, 50):
        depths = torch.linspace(1, 3, n + 1, dtype=torch.float64)[None, :-1]
        rgb = torch.tensor([0.2, 0.4, 0.9], dtype=torch.float64).expand(1, n, 3)
        colour, weights = composite(rgb, torch.full_like(depths, sigma), depths, far, "white")
        alpha = 1 - math.exp(-sigma * 2)
        assert float(weights.sum()) == pytest.approx(alpha, abs=1e-12)
        assert torch.allclose(colour, rgb[:, 0] * alpha + (1 - alpha), atol=1e-12)


def test_backgrounds_and_opaque_ends():
    depths, rgb = torch.tensor([[1.0, 2.0]]), torch.full((1, 2, 3), 0.5)
    nothing = torch.zeros(1, 2, requires_grad=True)
    for background, seen in (
        ("white", 1.0),
        ("black", 0.0),
        (0.25, 0.25),
        ([0.1, 0.2, 0.3], [0.1, 0.2, 0.3]),
    ):
        colour, _ = composite(rgb, nothing, depths, torch.tensor([3.0]), background)
        assert torch.allclose(colour, torch.as_tensor(seen).expand(1, 3))
    endless = torch.tensor([math.inf])
    colour, weights = composite(rgb, nothing, depths, endless)
    weights.sum().backward()
    assert nothing.grad.isfinite().all()
    assert float(weights.sum().detach()) == 0
    _, weights = composite(rgb, torch.full((1, 2), 1e-3), depths, endless)
    assert float(weights.sum()) == pytest.approx(1)


def test_gradients_of_a_sum_along_rays():
    draws = torch.Generator().manual_seed(0)
    rgb, sigma = (
        torch.rand(s, generator=draws, dtype=torch.float64).requires_grad_() for s in ((3, 5, 3), (3, 5))
    )
    depths = torch.rand(3, 5, generator=draws, dtype=torch.float64).sort(1).values
    far = torch.full((3,), 1.5, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda c, s: composite(c, s, depths, far)[0], (rgb, sigma))


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: camera_to_world(torch.tensor([[0.0, math.pi / 2]])), "quarter turn"),
        (lambda: camera_to_world(torch.zeros(1, 3)), "azimuth and elevation"),
        (lambda: pinhole_rays(torch.zeros(1, 3, 4), 0.7, 2, 2), "camera to world"),
        (lambda: pinhole_rays(torch.eye(4)[None], 60, 2, 2), "in radians"),
        (
            lambda: patch_rays(torch.eye(4)[None], 0.7, 2, torch.tensor([0.5]), torch.tensor([[0.6, 0.0]])),
            "lie in its image",
        ),
        (
            lambda: patch_rays(torch.eye(4)[None], 0.7, 2, torch.ones(2), torch.zeros(2, 2)),
            "a patch an image",
        ),
        (lambda: importance_depths(torch.ones(1, 1), torch.ones(1, 1), 4), "at least two samples"),
        (
            lambda: composite(torch.zeros(1, 2, 3), torch.zeros(1, 2), torch.ones(1, 2), torch.zeros(1)),
            "not decrease",
        ),
        (
            lambda: composite(torch.zeros(1, 2, 3), -torch.ones(1, 2), torch.ones(1, 2), torch.ones(1)),
            "got -1",
        ),
        (
            lambda: composite(
                torch.zeros(1, 1, 3), torch.zeros(1, 1), torch.ones(1, 1), torch.ones(1), "grey"
            ),
            '"white", "black"',
        ),
    ],
)
def test_what_cannot_be_drawn(call, told):
    with pytest.raises(ValueError, match=told):
        call()
