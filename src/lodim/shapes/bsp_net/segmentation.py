r"""Parts without labels: the convexes of a :class:`BSPNet` are the parts, the same ones in every shape.

Convex j of one shape and convex j of another come from the same planes of one decoder, so that its number is a part's
label over a whole family of shapes. A few shapes with named parts give every convex its name, once, by the majority of
the points it contains; all other shapes are then segmented without any.

Source: Z. Chen, A. Tagliasacchi, H. Zhang, 2019, arXiv 1911.06971, section 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from lodim.results import Result
from lodim.shapes.bsp_net.model import BSPNet
from lodim.validation import check_matrix, checked, plain_array

__all__ = ["PartNames", "convex_of", "name_convexes", "part_iou"]


@checked
def convex_of(model: BSPNet, points: Any, planes: Tensor) -> Int64[np.ndarray, " n"]:
    """Return the number of the convex that each point (n, dim) is in, or nearest to by h2; of several, the first."""
    planes = model._one_shape(planes)
    x = torch.from_numpy(check_matrix(points, name="points", min_rows=0)).to(planes)
    with torch.no_grad():
        return torch.cat([model(part, planes)[1][0].argmin(-1) for part in x.split(32_768)]).cpu().numpy()


@dataclass(frozen=True)
class PartNames(Result):
    """Which part each convex is.

    Attributes
    ----------
    part : int64 ndarray, shape (n_convexes,)
        The part most of a convex's points were in; -1 for a convex without any.
    votes : int64 ndarray, shape (n_convexes, n_parts)
    """

    part: Int64[np.ndarray, " c"]
    votes: Int64[np.ndarray, "c parts"]

    def segment(self, model: BSPNet, points: Any, planes: Tensor) -> Int64[np.ndarray, " n"]:
        """Return the part of each point (n, dim) of a shape given by its planes."""
        return self.part[convex_of(model, points, planes)]

    def __str__(self) -> str:
        named = int((self.part >= 0).sum())
        share = self.votes.max(1).sum() / max(1, self.votes.sum())
        return f"{named} of {len(self.part)} convexes named, {share:.0%} of the points agreeing"


@checked
def name_convexes(
    model: BSPNet, planes: Sequence[Tensor], points: Sequence[Any], parts: Sequence[Any]
) -> PartNames:
    """Name convexes by the majority vote of labelled points of a few shapes.

    Parameters
    ----------
    planes : sequence of Tensor, shapes (dim + 1, p)
    points : sequence of arrays, shapes (n, dim)
    parts : sequence of int arrays, shapes (n,)
        Part of each point, numbered from 0 in the same way in all shapes; -1, outside, does not vote.

    Raises
    ------
    ValueError
        Not as many of each, or no point that votes.
    """
    if not len(planes) == len(points) == len(parts):
        raise ValueError(
            f"every shape needs planes, points and parts: got {len(planes)}, {len(points)} and {len(parts)}"
        )
    labels = [plain_array(part, "each of parts", rows=True) for part in parts]
    places = [check_matrix(x, name="each of points") for x in points]
    for x, part in zip(places, labels, strict=True):
        if part.shape != (len(x),) or part.dtype.kind not in "iu":
            raise ValueError(
                f"parts must be integers, one a point: shape ({len(x)},), got {part.dtype}, shape {part.shape}"
            )
    labels = [part.astype(np.int64) for part in labels]
    n_parts = max((int(part.max(initial=-1)) for part in labels), default=-1) + 1
    if n_parts == 0:
        raise ValueError("no point is in a part; parts are numbered from 0, and -1 is outside")
    votes = np.zeros((model.n_convexes, n_parts), dtype=np.int64)
    for P, x, part in zip(planes, places, labels, strict=True):
        own = part >= 0
        np.add.at(votes, (convex_of(model, x[own], P), part[own]), 1)
    return PartNames(np.where(votes.any(1), votes.argmax(1), -1), votes)


@checked
def part_iou(found: Any, truth: Any) -> dict[int, float]:
    """Return intersection over union of each part that occurs in the truth, -1 being none.

    Parameters
    ----------
    found, truth : int arrays, shape (n,)
    """
    found, truth = plain_array(found, "found"), plain_array(truth, "truth")
    for name, labels in (("found", found), ("truth", truth)):
        if labels.dtype.kind not in "iu":
            raise ValueError(f"{name} must be integers, the part of each point, got {labels.dtype}")
    if found.shape != truth.shape:
        raise ValueError(
            f"found and truth must be of the same points, got shapes {found.shape} and {truth.shape}"
        )
    return {
        int(k): float(((found == k) & (truth == k)).sum() / ((found == k) | (truth == k)).sum())
        for k in np.unique(truth[truth >= 0])
    }
