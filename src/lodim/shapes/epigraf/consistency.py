r"""Whether two views show one object: each is carried over to the other by its depths, and their colours compared.

A pixel of view a that shows the surface lies at the point :math:`x = o_a + t_a d_a`, which view b shows at its
projection. Where the depths there, of all four pixels around it, say that b sees the same surface, the two colours
should be equal; their mean absolute difference is the photometric error. A field without view-dependent colour has none
but for the resolution of images and depths; a generator that paints each view anew has.

Source: that of EpiGRAF's evaluation of geometry in spirit; the measure is that of self-supervised depth estimation
(C. Godard, O. Mac Aodha, G. Brostow, 2017, arXiv 1609.03677), with depth as the test of visibility.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lodim.nets.activations import evaluation_mode
from lodim.results import Result
from lodim.shapes.epigraf.generator import TriplaneGenerator
from lodim.shapes.rendering import pinhole_rays
from lodim.validation import check_counts, check_in_range, checked

__all__ = ["ViewConsistency", "compare_views", "view_consistency"]

# of places, in pixels
ROUNDING = 1e-3


@dataclass(frozen=True)
class ViewConsistency(Result):
    """Photometric error between pairs of views.

    Attributes
    ----------
    error : float
        Mean absolute difference of colours in [0, 1], over all that both views of a pair see; NaN if that is nothing.
    errors : ndarray, shape (n,)
        The same of each pair.
    compared : float
        Share of the pixels showing a surface that were compared; the others are hidden from the other view.
    n_pairs : int
    """

    error: float
    errors: Float[np.ndarray, " n"]
    compared: float
    n_pairs: int

    def plot(self, ax: Any = None) -> Any:
        """Draw how the pairs' errors are spread."""
        from lodim.plots import COLORS, new_axes

        ax = new_axes(ax)
        ax.hist(self.errors[np.isfinite(self.errors)], bins=20, color=COLORS[0])
        ax.set(xlabel="photometric error", ylabel="pairs of views", title=str(self))
        return ax

    def __str__(self) -> str:
        if math.isnan(self.error):
            return f"no surface that both views see, in {self.n_pairs} pairs of views"
        where = f"{self.compared:.0%} of the surface, {self.n_pairs} pairs of views"
        return f"photometric error {self.error:.4f} over {where}"


@checked
def compare_views(
    images_a: Float[Tensor, "n_a c_a h_a w_a"],
    depths_a: Float[Tensor, "depths_a rows_a columns_a"],
    poses_a: Float[Tensor, "poses_a down_a along_a"],
    images_b: Float[Tensor, "n_b c_b h_b w_b"],
    depths_b: Float[Tensor, "depths_b rows_b columns_b"],
    poses_b: Float[Tensor, "poses_b down_b along_b"],
    fov: float | int,
    *,
    tolerance: float | int = 0.05,
) -> ViewConsistency:
    """Carry the views of each pair over to each other and compare their colours.

    Parameters
    ----------
    images_a, images_b : Tensor, shape (n, 3, r, r)
        Colours in [0, 1].
    depths_a, depths_b : Tensor, shape (n, r, r)
        Distances from the camera; infinite where nothing is seen.
    fov : float
        Field of view, in radians.
    tolerance : float
        Depths that differ by no more are those of one surface.
    """
    n = len(images_a)
    for name, pair, shape in (
        ("images", (images_a, images_b), images_a.shape),
        ("depths", (depths_a, depths_b), (n, *images_a.shape[2:])),
        ("poses", (poses_a, poses_b), (n, 4, 4)),
    ):
        if any(part.shape != shape for part in pair):
            raise ValueError(
                f"{name} of both views must have shape {tuple(shape)}, got {[*map(tuple, (p.shape for p in pair))]}"
            )
    if images_a.shape[1] != 3 or images_a.shape[2] != images_a.shape[3] or images_a.shape[2] < 2:
        raise ValueError(
            f"images must be square, shape (n, 3, r, r) with r of 2 or more, got {tuple(images_a.shape)}"
        )
    check_in_range(tolerance, "tolerance", low=0.0)
    images_b, depths_a, depths_b = (part.to(images_a) for part in (images_b, depths_a, depths_b))
    views = (images_a, depths_a, poses_a.to(depths_a)), (images_b, depths_b, poses_b.to(depths_a))
    sums, counts, seen = (
        sum(parts)
        for parts in zip(*(_carried(*views[i], *views[1 - i], fov, tolerance) for i in (0, 1)), strict=True)
    )
    errors = (sums / counts).cpu().double().numpy()
    n_compared, n_seen = int(counts.sum()), int(seen.sum())
    return ViewConsistency(
        float(sums.sum()) / n_compared if n_compared else math.nan,
        errors,
        n_compared / n_seen if n_seen else math.nan,
        n,
    )


def _carried(
    image: Tensor,
    depth: Tensor,
    pose: Tensor,
    other: Tensor,
    other_depth: Tensor,
    other_pose: Tensor,
    fov: float | int,
    tolerance: float | int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return sums of differences, and numbers of pixels compared and showing a surface, of each pair."""
    side = image.shape[3]
    origins, directions = pinhole_rays(pose, fov, side, side)
    depth, colours = depth.flatten(1), image.flatten(2)
    seen = depth.isfinite()
    points = origins + depth.where(seen, 0.0)[..., None] * directions
    away = points - other_pose[:, None, :3, 3]
    local = away @ other_pose[:, :3, :3]
    ahead = local[..., 2] < 0
    # in pixels, whole numbers at their centres
    scale = side / (2 * math.tan(fov / 2)) / -local[..., 2].where(ahead, -1.0)
    x, y = local[..., 0] * scale + (side - 1) / 2, (side - 1) / 2 - local[..., 1] * scale
    # what is seen at a border may be rounded to beyond it
    both = seen & ahead
    for v in (x, y):
        both = both & (v >= -ROUNDING) & (v <= side - 1 + ROUNDING)
    x, y = (v.where(both, 0.0).clamp(0, side - 1) for v in (x, y))
    left, top = (v.floor().clamp(max=side - 2).long() for v in (x, y))
    fx, fy = x - left, y - top
    distance, found = away.norm(dim=2), torch.zeros_like(colours)
    for i, j, weight in (
        (0, 0, (1 - fy) * (1 - fx)),
        (0, 1, (1 - fy) * fx),
        (1, 0, fy * (1 - fx)),
        (1, 1, fy * fx),
    ):
        at = (top + i) * side + left + j
        there = other_depth.flatten(1).gather(1, at)
        both = both & there.isfinite() & ((there - distance).abs() <= tolerance)
        found = found + weight[:, None] * other.flatten(2).gather(2, at[:, None].expand(-1, 3, -1))
    differences = (found - colours).abs().mean(1).where(both, 0.0)
    return differences.sum(1), both.sum(1), seen.sum(1)


@checked
@torch.no_grad()
def view_consistency(
    generator: TriplaneGenerator,
    z: Float[Tensor, "n z_dim"],
    poses_a: Float[Tensor, "poses_a down_a along_a"],
    poses_b: Float[Tensor, "poses_b down_b along_b"],
    *,
    resolution: int = 64,
    opacity: float | int = 0.5,
    tolerance: float | int = 0.05,
    batch_size: int = 16,
) -> ViewConsistency:
    """Draw each field from two cameras and compare the views.

    Parameters
    ----------
    generator : TriplaneGenerator
    z : Tensor, shape (n, z_dim)
    poses_a, poses_b : Tensor, shape (n, 4, 4)
        Camera to world.
    opacity : float
        A pixel shows a surface if no less of its light comes from the field.
    tolerance : float
        See :func:`compare_views`.
    batch_size : int
        Pairs drawn at a time.
    """
    check_counts(batch_size=batch_size)
    if poses_a.shape != (len(z), 4, 4) or poses_b.shape != (len(z), 4, 4):
        raise ValueError(
            f"poses must be one a z, shape ({len(z)}, 4, 4), got {tuple(poses_a.shape)} and {tuple(poses_b.shape)}"
        )
    check_in_range(opacity, "opacity", low=0.0, high=1.0)
    views: list[list[tuple[Tensor, Tensor]]] = [[], []]
    with evaluation_mode(generator):
        for part in torch.arange(len(z)).split(batch_size):
            planes = generator.planes(z[part])
            for held, poses in zip(views, (poses_a, poses_b), strict=True):
                images, depths, opaque = generator.render(planes, poses[part], None, resolution)
                held.append((images, depths.where(opaque >= opacity, math.inf)))
    (images_a, depths_a), (images_b, depths_b) = (
        [torch.cat(parts) for parts in zip(*held, strict=True)] for held in views
    )
    return compare_views(
        images_a, depths_a, poses_a, images_b, depths_b, poses_b, generator.fov, tolerance=tolerance
    )
