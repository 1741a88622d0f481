r"""Pictures of a field of colour and density: cameras, rays, samples along them, and their sum.

.. math:: C = \sum_i T_i \alpha_i c_i + T_{n+1} c_\mathrm{background}, \qquad
          \alpha_i = 1 - e^{-\sigma_i \delta_i}, \qquad T_i = \prod_{j < i} (1 - \alpha_j),

with :math:`\delta_i` the way from sample i to the next one, and from the last one to the end of the ray. Cameras look
along their -z axis, y is up, as in OpenGL and in the data sets of radiance fields; angles are in radians. Scenes lie in
the cube [-0.5, 0.5]^3.

Source: N. Max, 1995, Optical models for direct volume rendering; B. Mildenhall and others, 2020, arXiv 2003.08934,
equation 3 and section 5.2 (samples where the weights are; departure: no sample's weight is left out); patches: I.
Skorokhodov and others, 2022, arXiv 2206.10535, section 3.2.
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
    "check_patches",
    "composite",
    "cube_interval",
    "importance_depths",
    "patch_rays",
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
    check_counts(height=height, width=width)
    right, down = (
        (torch.arange(side, dtype=poses.dtype, device=poses.device) + 0.5 - side / 2)[None]
        for side in (width, height)
    )
    return _rays_through(poses, fov, right, down, width)


@checked
def patch_rays(
    poses: Float[Tensor, "n rows columns"],
    fov: float | int,
    resolution: int,
    scales: Float[Tensor, " patches"],
    offsets: Float[Tensor, "patches two"],
) -> tuple[Float[Tensor, "n rays three"], Float[Tensor, "n rays three"]]:
    """Return :func:`pinhole_rays` through patches of square images, one an image.

    Parameters
    ----------
    fov : float
        Of the whole image.
    resolution : int
        Pixels along each side of a patch.
    scales : Tensor, shape (n,)
        Its side as a share of the image's: at 1, with offsets 0, it is the whole image.
    offsets : Tensor, shape (n, 2)
        From the image's left and upper border to its own, as shares of the image's side.

    Raises
    ------
    ValueError
        A patch that reaches beyond its image.
    """
    check_counts(resolution=resolution)
    check_patches(scales, offsets, len(poses))
    scales, offsets = scales.to(poses), offsets.to(poses)
    pixels = torch.arange(resolution, dtype=poses.dtype, device=poses.device) + 0.5
    right, down = (
        pixels * scales[:, None] + (resolution * offsets[:, i, None] - resolution / 2) for i in (0, 1)
    )
    return _rays_through(poses, fov, right, down, resolution)


def check_patches(scales: Tensor, offsets: Tensor, n: int) -> None:
    """Refuse other than n patches of images, and those that reach beyond them."""
    if scales.shape != (n,) or offsets.shape != (n, 2):
        raise ValueError(
            f"there must be a patch an image, scales ({n},) and offsets ({n}, 2), got {tuple(scales.shape)} and "
            f"{tuple(offsets.shape)}"
        )
    # in single precision o may be rounded to a little over 1 - s
    if not bool(((scales > 0)[:, None] & (offsets >= 0) & (offsets + scales[:, None] <= 1 + 1e-6)).all()):
        raise ValueError("a patch must lie in its image: scales above 0, offsets from 0 to 1 - scale")


def _rays_through(
    poses: Tensor, fov: float | int, right: Tensor, down: Tensor, width: int
) -> tuple[Tensor, Tensor]:
    """Return rays through all pairs of places (1 or n, w) and (1 or n, h), ``width`` of which span the image."""
    if poses.shape[1:] != (4, 4):
        raise ValueError(f"poses must be camera to world, shape (n, 4, 4), got {tuple(poses.shape)}")
    if not 0 < check_in_range(fov, "fov") < math.pi:
        raise ValueError(f"fov must be between 0 and pi (in radians), got {fov}")
    step = 2 * math.tan(fov / 2) / width
    x, y = torch.broadcast_tensors(right[:, None] * step, -down[:, :, None] * step)
    local = torch.stack([x, y, -torch.ones_like(x)], -1).flatten(1, 2)
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
    # rounding may lead a little beyond the end
    return torch.minimum(near[:, None] + (far - near)[:, None] * parts, far[:, None])


@checked
def importance_depths(
    depths: Float[Tensor, "n samples"],
    weights: Float[Tensor, "n samples"],
    n_samples: int,
    *,
    jitter: bool = True,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "n n_samples"]:
    """Return depths drawn where the weights are large, in order.

    The weight of a sample, and 1e-5 more, is spread evenly as far as halfway to its neighbours (that of the first and
    the last one only inwards), and the distribution function of that density is inverted at ``n_samples`` places
    between 0 and 1: one in each of as many equal parts, or without jitter its middle.

    Parameters
    ----------
    depths : Tensor, shape (n, samples)
        Of at least two samples a ray, the nearest first.
    weights : Tensor, shape (n, samples)
        Of :func:`composite`; no gradient goes through them.
    """
    check_counts(n_samples=n_samples)
    if depths.shape != weights.shape or depths.shape[1] < 2:
        raise ValueError(
            "depths and weights must be of the same rays and at least two samples, got shapes "
            f"{tuple(depths.shape)} and {tuple(weights.shape)}"
        )
    depths, weights = depths.detach(), weights.detach() + 1e-5
    ends = torch.cat([depths[:, :1], (depths[:, 1:] + depths[:, :-1]) / 2, depths[:, -1:]], 1)
    reached = torch.cumsum(weights, 1)
    reached = torch.cat([torch.zeros_like(reached[:, :1]), reached / reached[:, -1:]], 1)
    zero = torch.zeros_like(depths[:, 0])
    u = stratified_depths(zero, zero + 1, n_samples, jitter=jitter, generator=generator)
    part = (torch.searchsorted(reached, u, right=True) - 1).clamp(0, depths.shape[1] - 1)
    low, high, start, end = (v.gather(1, part + i) for v in (reached, ends) for i in (0, 1))
    share = ((u - low) / (high - low).clamp(min=1e-20)).clamp(0, 1)
    return start + share * (end - start)


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
    if not bool(((colour >= 0) & (colour <= 1)).all()):
        raise ValueError(f"background must be in [0, 1] like the colours, got {background}")
    return colour.expand(channels)
