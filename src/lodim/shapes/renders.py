r"""Exact pictures of solids, for training and as ground truth.

A ray meets a convex piece along an interval, between the last half-space that it enters and the first that it leaves. A
union of pieces less those that are cut out begins at the first place where a piece begins or a cut ends that is in a
piece and in no cut. There the colour is that of the piece, times Lambert's

.. math:: a + (1 - a) \max(0, n \cdot l), \qquad a = 0.3,

for the normal n and the direction l towards the light, which stands still as cameras move; no shadows are cast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lodim.datasets.solids import Solid
from lodim.plots import COLORS
from lodim.shapes.rendering import background_colour, cube_interval, pinhole_rays
from lodim.validation import check_counts, check_matrix, check_numbers, check_tensor, checked

__all__ = ["render_solids"]

AMBIENT = 0.3
# a little more than the cube, on whose faces a solid may end
_HALF = 0.5 + 1e-6
_PALETTE = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in COLORS])


@checked
def render_solids(
    solids: Sequence[Any],
    poses: Float[Tensor, "cameras rows columns"],
    fov: float | int,
    resolution: int,
    *,
    colours: Any = None,
    light: Any = (0.4, 0.8, 0.6),
    background: Any = "white",
) -> tuple[Float[Tensor, "n 3 r r"], Float[Tensor, "n r r"]]:
    """Return pictures of solids of :func:`~lodim.datasets.solids.procedural_solids`, one a pose.

    Parameters
    ----------
    solids : sequence of Solid, length n
        In the cube [-0.5, 0.5]^3.
    poses : Tensor, shape (n, 4, 4)
        Camera to world, outside the cube (:func:`~lodim.shapes.rendering.camera_to_world`).
    fov : float
        Field of view, in radians.
    resolution : int
        Pixels along each side; each shows what the ray through its centre meets.
    colours : array-like, shape (k, 3), optional
        In [0, 1]: of a solid's first named part, the second, and so on, over again when used up. By default those of
        lodim's plots.
    light : array-like, shape (3,), or None
        Direction towards it; None shows the colours unshaded.
    background : {"white", "black"} or colour in [0, 1]

    Returns
    -------
    images : Tensor, shape (n, 3, r, r)
        float32, in [0, 1].
    depths : Tensor, shape (n, r, r)
        Distances from the camera; infinite where nothing is met.
    """
    check_counts(resolution=resolution)
    if poses.shape[1:] != (4, 4):
        raise ValueError(f"poses must be camera to world, shape (n, 4, 4), got {tuple(poses.shape)}")
    if len(solids) != len(poses):
        raise ValueError(f"there must be one pose a solid, got {len(poses)} for {len(solids)} solids")
    for solid in solids:
        if not isinstance(solid, Solid):
            raise TypeError(f"solids must hold lodim.datasets.Solid, got {type(solid).__name__}")
    inside = (check_tensor(poses, "poses", finite=True)[:, :3, 3].abs() < 0.5).all(1)
    if bool(inside.any()):
        raise ValueError(f"poses[{int(inside.nonzero()[0])}] is a camera inside the cube [-0.5, 0.5]^3")
    palette = _PALETTE if colours is None else check_matrix(colours, name="colours")
    if palette.shape[1] != 3 or palette.min() < 0 or palette.max() > 1:
        raise ValueError(f"colours must be in [0, 1], shape (k, 3), got shape {palette.shape}")
    if light is not None:
        light = check_numbers(light, "light")
        if light.shape != (3,) or not 0 < np.linalg.norm(light) < np.inf:
            raise ValueError("light must be a direction, three finite numbers that are not all 0")
        light = light / np.linalg.norm(light)
    n, n_pixels = len(solids), resolution**2
    behind = background_colour(background, torch.empty(3)).numpy()
    images, depths = np.tile(behind, (n, n_pixels, 1)), np.full((n, n_pixels), np.inf, np.float32)
    for k, solid in enumerate(solids):
        pose = poses[k : k + 1].detach().cpu().double()
        origins, directions = (rays[0] for rays in pinhole_rays(pose, fov, resolution, resolution))
        near, far = cube_interval(origins, directions, _HALF)
        meets = (far > near).nonzero()[:, 0].numpy()
        depth, normals, parts = _first_hit(solid, origins[0].numpy(), directions.numpy()[meets])
        hit = np.isfinite(depth)
        shade = (
            np.ones(len(depth)) if light is None else np.maximum(normals @ light, 0) * (1 - AMBIENT) + AMBIENT
        )
        names = list(dict.fromkeys(piece.name for piece in solid.parts if not piece.cut))
        named = np.array([names.index(p.name) if not p.cut else 0 for p in solid.parts]) % len(palette)
        images[k, meets[hit]] = (palette[named[parts]] * shade[:, None])[hit]
        depths[k, meets] = depth
    shape = (n, resolution, resolution)
    drawn = torch.from_numpy(images).reshape(*shape, 3).permute(0, 3, 1, 2).contiguous()
    return drawn.to(poses.device), torch.from_numpy(depths).reshape(shape).to(poses.device)


def _first_hit(
    solid: Solid, origin: np.ndarray, directions: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return depth (infinite: none), outward normal and piece of what rays (n, 3) from one place meet first."""
    n, pieces = len(directions), solid.parts
    cut = np.array([piece.cut for piece in pieces])
    begins, ends, faces = (
        np.empty((len(pieces), n)),
        np.empty((len(pieces), n)),
        np.empty((len(pieces), n), int),
    )
    for i, piece in enumerate(pieces):
        planes = piece.halfspaces
        speeds = planes[:, :3] @ directions.T
        # along a plane a ray is inside for ever or never: a tiny speed makes it so
        speeds[speeds == 0] = 1e-300
        with np.errstate(over="ignore"):
            times = -(planes[:, :3] @ origin + planes[:, 3])[:, None] / speeds
        enters, leaves = np.where(speeds < 0, times, -np.inf), np.where(speeds > 0, times, np.inf)
        begins[i], ends[i] = enters.max(0), leaves.min(0)
        faces[i] = leaves.argmin(0) if piece.cut else enters.argmax(0)
    candidates = np.where(cut[:, None], ends, begins)
    candidates[(candidates < 0) | (begins >= ends)] = np.inf
    for i in range(len(pieces)):
        t = candidates[i]
        within = (begins <= t) & (t < ends)
        candidates[i, ~(within[~cut].any(0) & ~within[cut].any(0))] = np.inf
    chosen = candidates.argmin(0)
    rays = np.arange(n)
    depth, normals = candidates[chosen, rays], np.zeros((n, 3))
    for i, piece in enumerate(pieces):
        at = chosen == i
        normals[at] = piece.halfspaces[faces[i, at], :3] * (-1 if piece.cut else 1)
    owner = ((begins <= depth) & (depth < ends) & ~cut[:, None]).argmax(0)
    return depth, normals, owner
