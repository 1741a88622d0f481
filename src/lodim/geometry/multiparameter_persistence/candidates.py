"""Stable images of candidate decompositions (T-CDR, and its family S-CDR with a stability theorem).

A decomposition is a finite set of intervals M_i. Its representation is

    V_{op, w, phi}(M) = op {w(M_i) phi(M_i)}_i,
    S-CDR:  V_{p, delta}(M) = sum_i (w_i^p / sum_j w_j^p) phi_delta(M_i),

with V_{inf, delta} = sup_i phi_delta(M_i). With the box R = [x - delta, x + delta],

    "local_weight"   phi(M_i)(x) = w(supp M_i & R) / (2 delta)
    "volume"                       vol(supp M_i & R) / (2 delta)^2
    "rectangle"                    the largest volume of a box inside supp M_i & R / (2 delta)^2

all between 0 and 1; ``"landscape"`` is the largest e with [x - e, x + e] inside the support; ``"gaussian"``,
``"exponential"`` and ``"linear"`` are functions of the distance from x to the support, divided by delta.

In the sup norm S-CDR changes by at most a constant times ``min(d_B, delta) / delta``, d_B the bottleneck distance of
the two decompositions: constant 1 for p = inf, 2 for p = 0 with as many intervals, 4 + 2 / C for p = 1 with C the
smaller mean weight.

================== ============================= ===================================================
in the paper       here                          meaning
================== ============================= ===================================================
op                 ``op``                        sum, mean, weighted mean, maximum, k-th maximum
w(M_i)^p           ``weight_power``              p; infinity with "wmean" is the supremum
phi_delta          ``phi``, ``delta``            see above
lambda_k           phi="landscape", op="kmax"    multiparameter landscape
================== ============================= ===================================================

Source: Loiseaux, Carriere and Blumberg 2023, arXiv 2306.11170, sections 3 and 4. Departures: the paper's w is half of
ours, so that its ``w / delta`` is our ``w / (2 delta)``; images of two parameters only; ``op="lq"`` is an addition,
``(sum w^p phi^q / sum w^p)^{1/q}``.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from lodim.geometry.multiparameter_persistence.intervals import Boxes, Intervals
from lodim.geometry.multiparameter_persistence.ranks import check_degrees
from lodim.validation import check_choice, check_in_range, checked

PHI = ("local_weight", "volume", "rectangle", "landscape", "gaussian", "exponential", "linear")
OPS = ("sum", "mean", "wmean", "max", "kmax", "lq")
_BLOCK = 1 << 22


def _along(boxes: Boxes, axes: tuple[Tensor, Tensor], phi: str, delta: float) -> list[Tensor]:
    """What each box contributes at each coordinate of an axis: an overlap with R, or a depth."""
    values = []
    for k, x in enumerate(axes):
        low, high = boxes.low[:, k, None], boxes.high[:, k, None]
        if phi in ("local_weight", "rectangle", "volume"):
            overlap = torch.minimum(high, x + delta) - torch.maximum(low, x - delta)
            values.append(overlap.clamp(min=0) / (2 * delta))
        else:
            values.append(torch.minimum(x - low, high - x))
    return values


def _strips(intervals: Intervals) -> Boxes:
    """Disjoint boxes with the same union as each interval's support (two parameters)."""
    single = (intervals.n_births == 1) & (intervals.n_deaths == 1)
    boxes = intervals.select(single).boxes()
    low, high, owner = [boxes.low], [boxes.high], [torch.from_numpy(np.flatnonzero(single))[boxes.owner]]
    rest = intervals.select(~single)
    births, deaths = (
        part.split(n.tolist()) for part, n in ((rest.births, rest.n_births), (rest.deaths, rest.n_deaths))
    )
    for i, b, d in zip(np.flatnonzero(~single).tolist(), births, deaths, strict=False):
        b, d = b[b[:, 0].argsort()], d[d[:, 0].argsort()]
        floor, roof = b[:, 1].cummin(0).values, d[:, 1].flip(0).cummax(0).values.flip(0)
        start = torch.maximum(b[:, None, 0], torch.cat([d.new_full((1,), -torch.inf), d[:-1, 0]]))
        stop = torch.minimum(torch.cat([b[1:, 0], b.new_full((1,), torch.inf)])[:, None], d[None, :, 0])
        full = (start <= stop) & (floor[:, None] <= roof)
        low.append(torch.stack([start, floor[:, None].expand_as(start)], -1)[full])
        high.append(torch.stack([stop, roof.expand_as(stop)], -1)[full])
        owner.append(torch.full((len(low[-1]),), i))
    owners, order = torch.cat(owner).sort(stable=True)
    return Boxes(torch.cat(low)[order], torch.cat(high)[order], owners, len(intervals))


@checked
def interval_images(
    intervals: Intervals, axes: tuple[Tensor, Tensor], phi: str = "local_weight", delta: float = 0.1
) -> Float[Tensor, "m rows columns"]:
    """Return phi of every interval at the points of a grid, differentiable in the corners.

    Parameters
    ----------
    intervals : Intervals
        In R^2, with finite corners.
    axes : pair of Tensor, shapes (rows,) and (columns,)
    phi : str
        One of :data:`PHI`.
    delta : float
        Half side of the box R, or bandwidth of the distance kernels.
    """
    check_choice(phi, PHI, "phi")
    if not check_in_range(delta, "delta", low=0) > 0:
        raise ValueError(f"delta must be positive, got {delta}")
    boxes = _strips(intervals) if phi == "volume" else intervals.boxes()
    counts = torch.bincount(boxes.owner, minlength=len(intervals))
    ends = counts.cumsum(0)
    step = max(1, _BLOCK // (len(axes[0]) * len(axes[1])))
    images, first = [], 0
    while first < len(intervals):
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(torch.searchsorted(ends, before + step, right=True)))
        rows = slice(before, int(ends[last - 1]))
        part = Boxes(boxes.low[rows], boxes.high[rows], boxes.owner[rows] - first, last - first)
        images.append(_image_block(part, axes, phi, delta))
        first = last
    shape = (0, len(axes[0]), len(axes[1]))
    return torch.cat(images) if images else intervals.births.new_zeros(shape)


def _image_block(boxes: Boxes, axes: tuple[Tensor, Tensor], phi: str, delta: float) -> Tensor:
    first, second = (
        v[:, :, None] if k == 0 else v[:, None, :] for k, v in enumerate(_along(boxes, axes, phi, delta))
    )
    if phi == "volume":
        return boxes.reduce(first * second, largest=False)
    if phi == "rectangle":
        return boxes.reduce(first * second).clamp(min=0)
    depth = boxes.reduce(torch.minimum(first, second))
    if phi in ("local_weight", "landscape"):
        return depth.clamp(min=0)
    distance = (-depth).clamp(min=0) / delta
    if phi == "gaussian":
        return torch.exp(-(distance**2) / 2)
    return torch.exp(-distance) if phi == "exponential" else (1 - distance).clamp(min=0)


@checked
def combine(
    images: Float[Tensor, "m rows columns"],
    weights: Float[Tensor, " m"],
    op: str = "wmean",
    power: float = 2.0,
    *,
    k: int = 1,
    q: float = 2.0,
) -> Float[Tensor, "rows columns"]:
    """Return op over the intervals of their weighted images; zeros for no interval.

    Parameters
    ----------
    op : str
        One of :data:`OPS`.
    power : float
        Of the weights; infinity is allowed for ``"wmean"`` and ``"lq"`` and means the supremum of the images.
    k : int
        For ``"kmax"``: 1 is the largest.
    q : float
        For ``"lq"``.
    """
    check_choice(op, OPS, "op")
    if not len(images):
        return images.new_zeros(images.shape[1:])
    if np.isinf(power):
        if op not in ("wmean", "lq"):
            raise ValueError(f"an infinite weight_power is the limit of op='wmean' and 'lq', not of {op!r}")
        return images.amax(0)
    w = (weights**power)[:, None, None]
    if op in ("wmean", "lq"):
        total = w.sum()
        if float(total.detach()) == 0:
            return images.new_zeros(images.shape[1:])
        if op == "wmean":
            return torch.einsum("mij,m->ij", images, w[:, 0, 0]) / total
        mean = (w * images**q).sum(0) / total
        return torch.where(mean > 0, mean.where(mean > 0, torch.ones_like(mean)) ** (1 / q), 0.0)
    if op in ("sum", "mean"):
        total = torch.einsum("mij,m->ij", images, w[:, 0, 0])
        return total if op == "sum" else total / len(images)
    rank = 1 if op == "max" else k
    if len(images) < rank:
        return images.new_zeros(images.shape[1:])
    return (w * images).topk(rank, dim=0).values[-1]


@dataclass(eq=False, repr=False)
class CandidateRepresentation(TransformerMixin, BaseEstimator):
    """Images of candidate decompositions, as a scikit-learn transformer.

    Parameters
    ----------
    op : {"wmean", "sum", "mean", "max", "kmax", "lq"}
        How intervals are put together; ``"wmean"`` is S-CDR.
    weight_power : float
        p: 0, 1, 2 ...; infinity for the supremum.
    phi : {"local_weight", "volume", "rectangle", "landscape", "gaussian", "exponential", "linear"}
    delta : float
        In units of the box if ``normalize``, else of the filtrations.
    resolution : int
        Pixels along each parameter.
    normalize : bool
        Bring the box of the training set, for each degree and parameter, to [0, 1].
    degrees : tuple of int
    quantile : float
        The box runs from this quantile of the finite corners to its complement; 0 takes all of them in.
    k : int
        For ``"kmax"``.
    q : float
        For ``"lq"``.

    Attributes
    ----------
    boxes_ : ndarray, shape (n_degrees, 2, 2)
        Lower and upper corner for each degree. Corners outside are clipped.

    Examples
    --------
    >>> one = Intervals.from_lists([[[0.0, 0.0]]], [[[1.0, 1.0]]])
    >>> model = CandidateRepresentation(degrees=(0,), resolution=3, delta=0.25)
    >>> model.fit_transform([one])[0, 0].tolist()
    [[0.5, 0.5, 0.5], [0.5, 1.0, 0.5], [0.5, 0.5, 0.5]]
    """

    op: Any = "wmean"
    weight_power: Any = 2.0
    phi: Any = "local_weight"
    delta: Any = 0.1
    resolution: Any = 50
    normalize: Any = True
    _: KW_ONLY
    degrees: Any = (0, 1)
    quantile: Any = 0.0
    k: Any = 1
    q: Any = 2.0

    def fit(self, X: Any, y: Any = None) -> CandidateRepresentation:
        """Learn the box of each degree.

        Parameters
        ----------
        X : list of Intervals
        y : ignored

        Raises
        ------
        ValueError
            Parameters outside their ranges, or no decompositions.
        """
        check_choice(self.op, OPS, "op")
        check_choice(self.phi, PHI, "phi")
        check_in_range(self.weight_power, "weight_power", low=0)
        check_in_range(self.resolution, "resolution", low=1, integer=True)
        check_in_range(self.quantile, "quantile", low=0, high=0.49)
        check_in_range(self.k, "k", low=1, integer=True)
        for value, name in ((self.delta, "delta"), (self.q, "q")):
            if not check_in_range(value, name, low=0) > 0:
                raise ValueError(f"{name} must be positive, got {value}")
        if not len(X):
            raise ValueError(
                "fit needs at least one object's decomposition, got none: its ranges are learned"
            )
        boxes = []
        for degree in check_degrees(self.degrees):
            parts = [intervals.select(intervals.degrees == degree) for intervals in X]
            corners = torch.cat([end.detach().cpu() for part in parts for end in (part.births, part.deaths)])
            ends = corners.double().numpy()
            columns = [column[np.isfinite(column)] for column in ends.T]
            tails = [self.quantile, 1 - self.quantile]
            boxes.append([np.quantile(c, tails) if len(c) else np.array([0.0, 1.0]) for c in columns])
        self.boxes_ = np.array(boxes).transpose(0, 2, 1)
        return self

    def transform(self, X: Any) -> Float[np.ndarray, "n n_degrees rows columns"]:
        """Return the images of every decomposition.

        Parameters
        ----------
        X : list of Intervals
        """
        check_is_fitted(self)
        shape = (len(self.degrees), self.resolution, self.resolution)
        with torch.no_grad():
            images = [self.image(intervals).cpu().double().numpy() for intervals in X]
        return np.stack(images) if images else np.zeros((0, *shape))

    def image(self, intervals: Intervals) -> Float[Tensor, "n_degrees rows columns"]:
        """Return the images of one decomposition as a tensor, differentiable in its corners."""
        images = []
        for degree, (low, high) in zip(self.degrees, self.boxes_, strict=True):
            part = intervals.select(intervals.degrees == degree).rescale(low, high, to_unit=self.normalize)
            weights = part.weights()
            alive = (weights.detach() > 0).cpu().numpy()
            part, weights = part.select(alive), weights[torch.from_numpy(alive)]
            ends = (np.zeros(2), np.ones(2)) if self.normalize else (low, high)
            axes = tuple(
                torch.linspace(float(a), float(b), self.resolution).to(part.births) for a, b in zip(*ends)
            )
            found = interval_images(part, (axes[0], axes[1]), self.phi, self.delta)
            images.append(combine(found, weights, self.op, self.weight_power, k=self.k, q=self.q))
        return torch.stack(images)
