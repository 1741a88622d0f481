r"""Three planes of features in place of a volume: features of points gathered there, and read at points.

A point (x, y, z) is seen on the planes xz, xy and yz. What it reads of each is the bilinear interpolation f of the four
nodes around its foot, and of all three the mean or sum of these, or all of them one behind the other:

.. math:: F(x, y, z) = \textstyle\sum_k f_k(\pi_k(x, y, z)), \qquad
   \pi = \big((x, z), (x, y), (y, z)\big).

Nodes lie on the corners of the square too: the first at -bound, the last at bound (``align_corners=True``). Beyond it a
point reads what is on the border. R^2 nodes a plane cost 3 R^2 numbers a channel where a volume costs R^3.

Source: S. Peng and others, 2020, arXiv 2003.04618, section 3 (planes of features); E. Chan and others, 2022, arXiv
2112.07945.
"""

from __future__ import annotations

import sys

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample

from lodim.validation import check_choice, check_in_range, checked

__all__ = ["sample_triplane"]

PLANES = ((0, 2), (0, 1), (1, 2))


@checked
def sample_triplane(
    planes: Float[Tensor, "batch three channels height width"],
    points: Float[Tensor, "shapes n xyz"],
    bound: float | int = 0.5,
    reduce: str = "mean",
) -> Float[Tensor, "shapes n features"]:
    """Return the features of points.

    Parameters
    ----------
    planes : Tensor, shape (batch, 3, channels, height, width)
        The planes xz, xy and yz; the first letter runs along the width.
    points : Tensor, shape (batch, n, 3)
    bound : float
        Planes reach from -bound to bound.
    reduce : {"mean", "sum", "cat"}
        What is made of the features of the three planes.

    Returns
    -------
    Tensor, shape (batch, n, channels), with "cat" (batch, n, 3 channels)

    Raises
    ------
    ValueError
        Shapes that do not agree, planes without nodes, points that are NaN, a bound that is not positive, or another
        ``reduce``.
    """
    if planes.shape[1] != len(PLANES) or not all(planes.shape[3:]):
        raise ValueError(
            "planes must have shape (batch, 3, channels, height, width), with a node at least, got "
            f"{tuple(planes.shape)}"
        )
    if points.shape[2] != 3 or len(points) != len(planes):
        raise ValueError(f"points must have shape ({len(planes)}, n, 3), got {tuple(points.shape)}")
    if not check_in_range(bound, "bound", low=-sys.float_info.max, high=sys.float_info.max) > 0:
        raise ValueError(f"bound must be positive, got {bound}")
    if bool(points.isnan().any()):
        raise ValueError(f"points has {int(points.isnan().sum())} NaN, which lie nowhere; drop them")
    check_choice(reduce, ("mean", "sum", "cat"), "reduce")
    at = torch.stack([points[..., axes] for axes in PLANES], 1) / bound
    found = grid_sample(
        planes.flatten(0, 1), at.to(planes.dtype).flatten(0, 1)[:, None],
        padding_mode="border", align_corners=True,
    )  # fmt: skip
    found = found[:, :, 0].unflatten(0, (-1, len(PLANES)))
    if reduce == "cat":
        return found.flatten(1, 2).mT
    return (found.sum(1) if reduce == "sum" else found.mean(1)).mT
