"""Moments and bounds of the distributions of cameras."""

import math

import pytest
import torch

from lodim.shapes.epigraf.cameras import CameraDistribution

N = 20_000


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", ["uniform", "gaussian", "truncated", "spherical"])
def test_cameras_look_at_the_origin(kind):
    state = torch.random.get_rng_state()
    cameras = CameraDistribution(kind, mean=(0.3, 0.2), spread=(1.0, 0.6), radius=1.7)
    poses = cameras.sample(50, draws())
    axes = poses[:, :3, :3]
    assert torch.allclose(axes.mT @ axes, torch.eye(3).expand(50, 3, 3), atol=1e-6)
    assert torch.allclose(torch.linalg.det(axes), torch.ones(50))
    # the way from the camera along its -z axis passes through the origin
    assert torch.allclose(poses[:, :3, 3] - 1.7 * axes[:, :, 2], torch.zeros(50, 3), atol=1e-6)
    assert torch.equal(poses, cameras.sample(50, draws()))
    assert not torch.equal(poses, cameras.sample(50, draws(1)))
    assert torch.equal(state, torch.random.get_rng_state())


# variance of what is left of a normal distribution between -2 and 2 deviations
_CUT = 1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2))


@pytest.mark.parametrize(
    ("kind", "variance", "reach"), [("uniform", 1 / 3, 1.0), ("gaussian", 1.0, 9.0), ("truncated", _CUT, 2.0)]
)
def test_moments_of_angles(kind, variance, reach):
    mean, spread = torch.tensor([0.5, 0.2]), torch.tensor([0.3, 0.1])
    angles = CameraDistribution(kind, mean=(0.5, 0.2), spread=(0.3, 0.1)).angles(N, draws())
    unit = (angles - mean) / spread
    assert (unit.abs() <= reach + 1e-5).all()
    assert torch.allclose(unit.mean(0), torch.zeros(2), atol=4 * math.sqrt(variance / N))
    # the relative standard error of a variance is at most sqrt(2 / n), that of a normal one
    assert torch.allclose(unit.var(0), torch.full((2,), variance), rtol=4 * math.sqrt(2 / N))


def test_spherical_covers_equal_areas():
    cameras = CameraDistribution("spherical", mean=(0.0, 0.0), spread=(math.pi, math.pi / 2))
    places = cameras.sample(N, draws())[:, :3, 3] / cameras.radius
    # uniform on the sphere: mean 0, covariance 1/3
    assert places.mean(0).abs().max() < 4 / math.sqrt(3 * N)
    assert torch.allclose(places.T @ places / N, torch.eye(3) / 3, atol=0.01)


def test_gaussian_cameras_go_over_the_poles():
    cameras = CameraDistribution("gaussian", mean=(0.0, 1.5), spread=(0.0, 0.3), radius=1.0)
    angles = cameras.angles(2000, draws())
    over = angles[:, 0] != 0
    assert 0.3 < over.float().mean() < 0.5
    assert torch.allclose(angles[over, 0], torch.tensor(math.pi))
    # all are on one great circle, at an elevation that is normal beyond the pole as well
    places = cameras.sample(2000, draws())[:, :3, 3]
    turned = torch.atan2(places[:, 1], places[:, 2])
    assert places[:, 0].abs().max() < 1e-6
    assert float(turned.mean()) == pytest.approx(1.5, abs=0.03)
    assert float(turned.std()) == pytest.approx(0.3, abs=0.02)


def test_given_poses_come_back_as_often():
    poses = torch.eye(4).repeat(4, 1, 1)
    poses[:, 2, 3] = torch.arange(4) + 2.0
    cameras = CameraDistribution("poses", poses=poses.numpy())
    counts = cameras.sample(4000, draws())[:, 2, 3].long().bincount()[2:]
    assert counts.sum() == 4000
    assert (counts - 1000).abs().max() < 120
    with pytest.raises(ValueError, match="no angles"):
        cameras.angles(2)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"spread": (1.0, 1.4)}, "beyond the pole"),
        ({"kind": "truncated", "mean": (0.0, 0.6), "spread": (1.0, 0.5)}, "beyond the pole"),
        ({"kind": "poses"}, "go together"),
        ({"poses": torch.eye(4)[None]}, "go together"),
        ({"kind": "poses", "poses": torch.eye(4)}, "shape"),
        ({"radius": 0.0}, "radius"),
        ({"fov": 12.0}, "in radians"),
        ({"kind": "normal"}, "gaussian"),
    ],
)
def test_what_is_no_distribution(options, told):
    with pytest.raises(ValueError, match=told):
        CameraDistribution(**options)
