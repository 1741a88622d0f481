r"""Pictures of a field of colour and density: cameras, rays, samples along them, and their sum.

.. math:: C = \sum_i T_i \alpha_i c_i + T_{n+1} c_\mathrm{background}, \qquad
          \alpha_i = 1 - e^{-\sigma_i \delta_i}, \qquad T_i = \prod_{j < i} (1 - \alpha_j),

with :math:`\delta_i` the way from sample i to the next one, and from the last one to the end of the ray. Cameras look
along their -z axis, y is up, as in OpenGL and in the data sets of radiance fields; angles are in radians. Scenes lie in
the cube [-0.5, 0.5]^3.

Source: N. Max, 1995, Optical models for direct volume rendering; B. Mildenhall and others, 2020, arXiv 2003.08934,
equation 3.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lodim.validation import check_counts, check_in_range, check_tensor, checked

__all__ = [
    "background_colour",
    "camera_to_world",
    "composite",
    "cube_interval",
    "pinhole_rays",
    "stratified_depths",
]

BACKGROUNDS = {"white": 1.0, "black": 0.0}


@checked
def camera_to_world(
    angles: Float[Tensor, "n two"], radius: float | int = 2.0
) -> Float[Tensor, "n four four"]:
    """Return poses of cameras on a sphere that look at its centre.

    Parameters
    ----------
    angles : Tensor, shape (n, 2)
        Azimuth about the y axis, from +z towards +x, and elevation above the horizon, short of the poles.
    radius : float
        Distance from the centre.

    Returns
    -------
    Tensor, shape (n, 4, 4)
        Columns are the camera's right, up and backward axes, and its place.
    """
    if angles.shape[1] != 2:
        raise ValueError(f"angles must be azimuth and elevation, shape (n, 2), got {tuple(angles.shape)}")
    if bool((angles[:, 1].abs() >= math.pi / 2 - 1e-6).any()):
        raise ValueError("an elevation of a quarter turn leaves the camera's up undefined; stay below it")
    check_in_range(radius, "radius", low=0.0)
    (azimuth, elevation), zero = angles.unbind(1), torch.zeros_like(angles[:, 0])
    back = torch.stack([azimuth.sin() * elevation.cos(), elevation.sin(), azimuth.cos() * elevation.cos()], 1)
    right = torch.stack([azimuth.cos(), zero, -azimuth.sin()], 1)
    axes = torch.stack([right, torch.linalg.cross(back, right), back, radius * back], 2)
    last = torch.tensor([0.0, 0.0, 0.0, 1.0]).to(axes).expand(len(axes), 1, 4)
    return torch.cat([axes, last], 1)


@checked
def pinhole_rays(
    poses: Float[Tensor, "n rows columns"], fov: float | int, height: int, width: int
) -> tuple[Float[Tensor, "n rays three"], Float[Tensor, "n rays three"]]:
    """Return origins and unit directions of the rays through the centres of all pixels, row by row from the top.

    Parameters
    ----------
    poses : Tensor, shape (n, 4, 4)
        Camera to world; lengths of the axes do not count.
    fov : float
        Horizontal field of view, the angle between the middles of the left and right borders.
    height, width : int
        Pixels.
    """
    if poses.shape[1:] != (4, 4):
        raise ValueError(f"poses must be camera to world, shape (n, 4, 4), got {tuple(poses.shape)}")
    check_counts(height=height, width=width)
    if not 0 < check_in_range(fov, "fov") < math.pi:
        raise ValueError(f"fov must be between 0 and pi (in radians), got {fov}")
    step = 2 * math.tan(fov / 2) / width
    x = (torch.arange(width, dtype=poses.dtype, device=poses.device) + 0.5 - width / 2) * step
    y = -(torch.arange(height, dtype=poses.dtype, device=poses.device) + 0.5 - height / 2) * step
    up, right = torch.meshgrid(y, x, indexing="ij")
    local = torch.stack([right, up, -torch.ones_like(up)], -1).reshape(-1, 3)
    directions = torch.nn.functional.normalize(local @ poses[:, :3, :3].transpose(1, 2), dim=-1)
    return poses[:, None, :3, 3].expand_as(directions), directions


@checked
def cube_interval(
    origins: Float[Tensor, "n three"], directions: Float[Tensor, "n three"], half: float | int = 0.5
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Return how far along each ray the cube [-half, half]^3 begins and ends; equal where it is missed."""
    # a ray along a face: 0 / 0, which either plane of that pair may decide
    ways = 1 / torch.where(directions == 0, torch.full_like(directions, 1e-20), directions)
    ends = torch.stack([(-half - origins) * ways, (half - origins) * ways])
    near = ends.amin(0).amax(1).clamp(min=0)
    return near, torch.maximum(ends.amax(0).amin(1), near)


@checked
def stratified_depths(
    near: Float[Tensor, " n"],
    far: Float[Tensor, " n"],
    n_samples: int,
    *,
    jitter: bool = True,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "n n_samples"]:
    """Return depths in equal parts of each ray's interval: one drawn in each part, or without jitter its middle."""
    check_counts(n_samples=n_samples)
    shape = (len(near), n_samples)
    where = near.device if generator is None else generator.device
    u = (
        torch.rand(shape, generator=generator, dtype=near.dtype, device=where).to(near.device)
        if jitter
        else 0.5
    )
    parts = (torch.arange(n_samples, dtype=near.dtype, device=near.device) + u) / n_samples
    return near[:, None] + (far - near)[:, None] * parts


@checked
def composite(
    rgb: Float[Tensor, "n samples channels"],
    sigma: Float[Tensor, "n samples"],
    depths: Float[Tensor, "n samples"],
    far: Float[Tensor, " n"],
    background: Any = "white",
) -> tuple[Float[Tensor, "n channels"], Float[Tensor, "n samples"]]:
    """Add up colours along rays.

    Parameters
    ----------
    rgb, sigma, depths : Tensor
        Colour, density (not negative, per unit of length) and distance of the samples, the nearest first.
    far : Tensor, shape (n,)
        Where each ray ends: the last sample reaches there. Infinity makes it opaque if it has any density.
    background : {"white", "black"}, or array-like of channels
        What is seen where the ray gets through.

    Returns
    -------
    colour : Tensor, shape (n, channels)
    weights : Tensor, shape (n, samples)
        T alpha; what is missing to 1 is the background's.
    """
    if not rgb.shape[:2] == sigma.shape == depths.shape or far.shape != depths.shape[:1]:
        raise ValueError(
            f"rgb, sigma, depths and far must be of the same rays and samples, got shapes {tuple(rgb.shape)}, "
            f"{tuple(sigma.shape)}, {tuple(depths.shape)} and {tuple(far.shape)}"
        )
    deltas = torch.diff(torch.cat([depths, far[:, None]], 1), dim=1)
    if not bool((deltas >= 0).all()):
        raise ValueError("depths must not decrease along a ray, be NaN, nor exceed its end (far)")
    if bool((sigma < 0).any()):
        raise ValueError(
            f"sigma must not be negative, got {float(sigma.min()):g}; exp or softplus of the raw values is not"
        )
    # so long a way is opaque at any density, and zero times it is still zero
    optical = sigma * deltas.clamp(max=1e10)
    through = torch.cumsum(optical, 1)
    before = torch.cat([torch.zeros_like(through[:, :1]), through[:, :-1]], 1)
    weights = torch.exp(-before) * -torch.expm1(-optical)
    left = torch.exp(-through[:, -1:])
    colour = (weights[..., None] * rgb).sum(1) + left * background_colour(background, rgb)
    return colour, weights


def background_colour(background: Any, like: Tensor) -> Float[Tensor, " channels"]:
    """Return a background, ``"white"``, ``"black"`` or a colour, as a tensor of the channels of ``like``."""
    channels = like.shape[-1]
    if isinstance(background, str):
        if background not in BACKGROUNDS:
            raise ValueError(f'background must be "white", "black" or a colour, got {background!r}')
        return torch.full((channels,), BACKGROUNDS[background], dtype=like.dtype, device=like.device)
    colour = torch.as_tensor(background, dtype=like.dtype, device=like.device)
    check_tensor(colour, "background")
    if colour.shape not in ((), (channels,)):
        raise ValueError(f"background must have {channels} channels, got shape {tuple(colour.shape)}")
    return colour.expand(channels)
