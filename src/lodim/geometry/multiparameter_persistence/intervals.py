"""Intervals in R^p: what candidate decompositions consist of, and how long, deep and far they are.

An interval is given by finitely many birth and death corners; its support is the union over pairs ``b <= d`` of the
boxes ``{x: b <= x <= d}``, that is, everything above some birth and below some death. Three numbers follow from the
boxes alone:

    weight             w(I)    = max_{b <= d} min_k (d_k - b_k)
    depth              e(I, x) = max_{b <= d} min_k min(x_k - b_k, d_k - x_k)
    distance to I      the negative part of the depth, in the maximum norm

The weight is the longest diagonal between a birth and a death corner. The interleaving distance of I to zero is half
of it (the convention without the half is multipers' ``get_interleavings`` too).

====================== ======================== =====================================
in the paper           here                     meaning
====================== ======================== =====================================
supp(M_i)              Intervals.boxes          boxes and whose they are
w(M_i)                 Intervals.weights        longest diagonal
====================== ======================== =====================================

Source: Loiseaux, Carriere and Blumberg 2023, arXiv 2306.11170, sections 2 and 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lodim.geometry.multiparameter_persistence.complexes import as_values, at_least_single
from lodim.validation import plain_array


@dataclass(frozen=True, eq=False)
class Boxes:
    """Boxes of the supports of several intervals, those of an interval together.

    Attributes
    ----------
    owner : int Tensor, shape (n_boxes,)
        Interval that a box belongs to, ascending.
    """

    low: Float[Tensor, "n_boxes p"]
    high: Float[Tensor, "n_boxes p"]
    owner: Tensor
    n_intervals: int

    def reduce(self, values: Float[Tensor, "n_boxes ..."], *, largest: bool = True) -> Tensor:
        """Return the largest value (or the sum) over the boxes of each interval; -inf (0) where there is none."""
        lengths = torch.bincount(self.owner, minlength=self.n_intervals)
        if bool((lengths == 1).all()):
            return values
        if not largest:
            out = values.new_zeros(self.n_intervals, *values.shape[1:])
            return out.index_add(0, self.owner, values)
        flat = values.flatten(1) if values.ndim > 1 else values[:, None]
        parts = torch.segment_reduce(flat, "max", lengths=lengths, axis=0, initial=-torch.inf)
        return parts.reshape(self.n_intervals, *values.shape[1:])


@dataclass(frozen=True, eq=False)
class Intervals:
    """Several intervals: corners and whose they are.

    Attributes
    ----------
    births : Tensor, shape (n_births, p)
        Corners of all intervals, one interval after the other; may be -inf. Differentiable if they were given so.
    deaths : Tensor, shape (n_deaths, p)
        May be +inf.
    n_births, n_deaths : int ndarray, shape (m,)
        Corners of each interval.
    degrees : int ndarray, shape (m,)
        Degree of homology of each.
    """

    births: Tensor
    deaths: Tensor
    n_births: Any
    n_deaths: Any
    degrees: Any

    def __post_init__(self) -> None:
        births, deaths = at_least_single(self.births), at_least_single(self.deaths)
        dtype = torch.promote_types(births.dtype, deaths.dtype)
        object.__setattr__(self, "births", births.to(dtype))
        object.__setattr__(self, "deaths", deaths.to(dtype))

    @classmethod
    def from_lists(cls, births: Sequence[Any], deaths: Sequence[Any], degrees: Any = 0) -> Intervals:
        """Collect intervals given by one array of birth and one of death corners each.

        Parameters
        ----------
        births, deaths : sequence of array-like or Tensor, shapes (k_i, p) and (l_i, p)
        degrees : int or sequence of int

        Raises
        ------
        ValueError
            Different lengths or numbers of columns, no corner, or NaN.
        """
        if len(births) != len(deaths):
            raise ValueError(f"{len(births)} lists of births but {len(deaths)} of deaths; they must match")
        if not len(births):
            return cls.empty(2)
        ends = []
        for lists, name in ((births, "births"), (deaths, "deaths")):
            tensors = [as_values(t, name) for t in lists]
            if any(t.ndim != 2 or not len(t) for t in tensors):
                raise ValueError(f"every interval needs {name} of shape (k, p) with at least one corner")
            if any(bool(t.isnan().any()) for t in tensors):
                raise ValueError(f"{name} hold NaN")
            ends.append(tensors)
        if len(widths := {t.shape[1] for tensors in ends for t in tensors}) > 1:
            raise ValueError(f"births and deaths must all have p columns, got {sorted(widths)}")
        degree = np.broadcast_to(np.asarray(degrees, dtype=np.int64), len(births)).copy()
        n_births, n_deaths = (np.array([len(t) for t in tensors]) for tensors in ends)
        return cls(torch.cat(ends[0]), torch.cat(ends[1]), n_births, n_deaths, degree)

    @classmethod
    def empty(cls, p: int = 2) -> Intervals:
        """Return no intervals in R^p."""
        none, count = torch.zeros(0, p, dtype=torch.float64), np.empty(0, dtype=np.int64)
        return cls(none, none, count, count, count)

    def __len__(self) -> int:
        return len(self.degrees)

    def __str__(self) -> str:
        found = ", ".join(f"{(self.degrees == k).sum()} of degree {k}" for k in np.unique(self.degrees))
        return f"{len(self)} intervals{': ' + found if found else ''}"

    def select(self, mask: Any) -> Intervals:
        """Return the chosen intervals.

        Parameters
        ----------
        mask : bool array-like, shape (m,)
        """
        mask = plain_array(mask, "mask")
        if mask.shape != self.degrees.shape or mask.dtype.kind not in "biu":
            raise ValueError(
                f"mask must hold one boolean an interval ({len(self)}), got {mask.dtype}, shape {mask.shape}"
            )
        mask = mask.astype(bool)
        births = torch.from_numpy(np.repeat(mask, self.n_births))
        deaths = torch.from_numpy(np.repeat(mask, self.n_deaths))
        return Intervals(
            self.births[births],
            self.deaths[deaths],
            self.n_births[mask],
            self.n_deaths[mask],
            self.degrees[mask],
        )

    def rescale(self, low: Any, high: Any, *, to_unit: bool = True) -> Intervals:
        """Return the corners clipped to the box [low, high], which becomes [0, 1]^p if ``to_unit``.

        Parameters
        ----------
        low, high : array-like, shape (p,)
        """
        a, b = (as_values(end, name).to(self.births) for end, name in ((low, "low"), (high, "high")))
        if a.shape != self.births.shape[1:] or b.shape != a.shape:
            raise ValueError(
                f"low and high must have shape {tuple(self.births.shape[1:])}, got {tuple(a.shape)}, {tuple(b.shape)}"
            )
        side = torch.where(b > a, b - a, torch.ones_like(a)) if to_unit else torch.ones_like(a)
        shift = a if to_unit else torch.zeros_like(a)
        births, deaths = (
            (torch.minimum(torch.maximum(c, a), b) - shift) / side for c in (self.births, self.deaths)
        )
        return Intervals(births, deaths, self.n_births, self.n_deaths, self.degrees)

    def boxes(self) -> Boxes:
        """Return the boxes of all pairs ``birth <= death``."""
        first_b, first_d = (np.cumsum(n) - n for n in (self.n_births, self.n_deaths))
        pairs = self.n_births * self.n_deaths
        owner = np.repeat(np.arange(len(self)), pairs)
        place = np.arange(pairs.sum()) - np.repeat(np.cumsum(pairs) - pairs, pairs)
        b, d = np.divmod(place, self.n_deaths[owner]) if len(owner) else (place, place)
        low = self.births[torch.from_numpy(first_b[owner] + b)]
        high = self.deaths[torch.from_numpy(first_d[owner] + d)]
        valid = (low <= high).all(1)
        return Boxes(low[valid], high[valid], torch.from_numpy(owner)[valid], len(self))

    def weights(self) -> Float[Tensor, " m"]:
        """Return the weight w of every interval; infinite for corners at infinity (:meth:`rescale` first)."""
        boxes = self.boxes()
        return boxes.reduce((boxes.high - boxes.low).amin(1)).clamp(min=0)

    def depth(self, x: Float[Tensor, "n p"]) -> Float[Tensor, "m n"]:
        """Return the depth of points in every interval: how far inside, or minus the distance to it."""
        boxes = self.boxes()
        inside = torch.minimum(x[None] - boxes.low[:, None], boxes.high[:, None] - x[None]).amin(2)
        return boxes.reduce(inside)
