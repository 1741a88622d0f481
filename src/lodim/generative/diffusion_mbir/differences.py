r"""Differences along an axis of a volume, :math:`D`, with their exact adjoints, and the threshold that goes with them.

At the end of the axis there is no next entry. ``boundary="none"`` lets the last difference be 0; ``"circular"`` takes
the first entry for the next one, as the authors of arXiv 2211.10655 do, which couples the first and the last slice.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lodim.validation import check_choice

__all__ = ["BOUNDARIES", "difference", "difference_adjoint", "divergence", "gradient", "soft_threshold"]

BOUNDARIES = ("none", "circular")


def difference(x: Tensor, axis: int = 0, boundary: str = "none") -> Tensor:
    """Return ``x[i + 1] - x[i]`` along an axis, shaped as x."""
    return gradient(x, (axis,), boundary)[0]


def difference_adjoint(d: Tensor, axis: int = 0, boundary: str = "none") -> Tensor:
    """Return the adjoint of :func:`difference`, ``d[i - 1] - d[i]`` but for the ends."""
    return divergence(d[None], (axis,), boundary)


def gradient(x: Tensor, axes: Sequence[int], boundary: str = "none") -> Tensor:
    """Return the differences along several axes, stacked along a new first one."""
    check_choice(boundary, BOUNDARIES, "boundary")
    d = torch.zeros((len(axes), *x.shape), dtype=x.dtype, device=x.device)
    for i, axis in enumerate(axes):
        part = d[i]  # of parts that d is iterated into, autograd lets none be written to
        n = max(x.shape[axis] - 1, 0)
        part.narrow(axis, 0, n).copy_(x.narrow(axis, min(1, n), n)).sub_(x.narrow(axis, 0, n))
        if boundary == "circular" and n:
            part.select(axis, n).copy_(x.select(axis, 0)).sub_(x.select(axis, n))
    return d


def divergence(d: Tensor, axes: Sequence[int], boundary: str = "none") -> Tensor:
    """Return the adjoint of :func:`gradient` (minus what physics calls the divergence)."""
    check_choice(boundary, BOUNDARIES, "boundary")
    x = torch.zeros_like(d[0])
    for part, axis in zip(d, axes, strict=True):
        n = max(part.shape[axis] - 1, 0)
        x.narrow(axis, min(1, n), n).add_(part.narrow(axis, 0, n))
        x.narrow(axis, 0, n).sub_(part.narrow(axis, 0, n))
        if boundary == "circular" and n:
            x.select(axis, 0).add_(part.select(axis, n))
            x.select(axis, n).sub_(part.select(axis, n))
    return x


def soft_threshold(d: Tensor, threshold: float, *, joint: bool = False) -> Tensor:
    r"""Return the z that minimises :math:`t |z|_1 + |z - d|^2 / 2`; ``joint``: t times the first axis's norm."""
    size = torch.linalg.vector_norm(d, dim=0, keepdim=True) if joint else d.abs()
    # where the size is 0 so is the answer
    return d * (1 - threshold / size.clamp_min(torch.finfo(size.dtype).tiny)).clamp_min(0)
