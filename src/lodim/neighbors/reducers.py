"""What :func:`lodim.neighbors.stream_pairs` can keep of the distance blocks that pass by.

A reducer is told the sizes once (``start``), sees blocks of squared distances (``update``; ``mirror`` for the same
block read the other way round, when a set meets itself) and gives its ``result``. It must neither keep nor change
the block. Squared distances arrive in units of ``unit ** 2``; results are in the data's own unit.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from lodim.neighbors.distances import distances_of_pairs, product_error, squares_of_pairs
from lodim.validation import check_choice, check_in_range, check_numbers, checked

__all__ = ["CountBelow", "LogSumExp", "MinByLabelPair", "Reducer", "TopK"]

# Squarings after an exponential (each doubles its relative error), squarings after which terms are cut off below again,
# and where: exp(-43) is far below a rounding error of the largest term, 1, and no square between two cuts gets so small
# that it is not a normal number, which are slow to compute with.
_SQUARINGS = {torch.float32: (1, 1, 43.0), torch.float64: (7, 3, 87.0)}
_SCRATCH = (1 << 24, 1 << 16)  # numbers at a time: on an accelerator, and on a processor (its cache)


def squared_unit(unit: float) -> float:
    """Return the square of a unit of length; a ValueError where squared distances in it are no normal numbers."""
    if not 1e-140 < unit < 1e140:
        raise ValueError(
            f"squared distances between rows of X, which are about {unit:.0e} apart, are beyond the range of numbers: "
            "divide X by a constant"
        )
    return unit**2


@runtime_checkable
class Reducer(Protocol):
    """What a reducer must offer."""

    def start(self, n_q: int, n_r: int, device: torch.device, dtype: torch.dtype, unit: float) -> None:
        """Prepare for ``n_q`` queries against ``n_r`` references."""

    def update(self, rows: slice, cols: slice, block: Tensor) -> None:
        """Take in the squared distances of queries ``rows`` to references ``cols``."""

    def mirror(self, rows: slice, cols: slice, block: Tensor) -> None:
        """Take in the same block as distances of queries ``cols`` to references ``rows``."""

    def result(self) -> Any:
        """Return what was kept."""


@checked
class TopK:
    """The k nearest references of each query: ``(squared distances, indices)``, both (n_q, k), ascending.

    Squared distances carry the rounding of the block's matrix product.
    """

    def __init__(self, k: int):
        self.k = check_in_range(k, "k", low=1, integer=True)

    def start(self, n_q: int, n_r: int, device: torch.device, dtype: torch.dtype, unit: float) -> None:
        """Prepare the lists."""
        if self.k > n_r:
            raise ValueError(f"k={self.k} neighbours were asked for, but there are only {n_r} points")
        self._unit = unit
        self._d = torch.full((n_q, self.k), torch.inf, dtype=dtype, device=device)
        self._i = torch.zeros((n_q, self.k), dtype=torch.int64, device=device)

    def update(self, rows: slice, cols: slice, block: Tensor) -> None:
        """Merge the block's nearest into the lists."""
        if block.device.type == "cpu":
            self._update_cpu(rows, cols, block.contiguous().numpy())
            return
        near, place = torch.topk(block, min(self.k, block.shape[1]), largest=False, sorted=False)
        d = torch.cat([self._d[rows], near], 1)
        i = torch.cat([self._i[rows], place + cols.start], 1)
        self._d[rows], pick = torch.topk(d, self.k, largest=False, sorted=False)
        self._i[rows] = i.gather(1, pick)

    def _update_cpu(self, rows: slice, cols: slice, block: np.ndarray) -> None:
        """Compare with each query's k-th best so far; NumPy's vectorised partition beats ``torch.topk`` here."""
        kept_d, kept_i = self._d.numpy()[rows], self._i.numpy()[rows]
        limit = kept_d.max(axis=1)
        if block.shape[1] > self.k and not np.isfinite(limit).all():
            limit = np.minimum(limit, np.partition(block, self.k - 1, axis=1)[:, self.k - 1])
        found = np.flatnonzero(block <= limit[:, None])
        row, col = np.divmod(found, block.shape[1])
        counts = np.bincount(row, minlength=len(block))
        if not len(found):
            return
        place = np.arange(len(found)) - np.repeat(np.cumsum(counts) - counts, counts)
        new_d = np.full((len(block), counts.max()), np.inf, dtype=block.dtype)
        new_i = np.zeros(new_d.shape, dtype=np.int64)
        new_d[row, place] = block.ravel()[found]
        new_i[row, place] = col + cols.start
        d, i = np.concatenate([kept_d, new_d], 1), np.concatenate([kept_i, new_i], 1)
        pick = np.argpartition(d, self.k - 1, axis=1)[:, : self.k]
        kept_d[:], kept_i[:] = np.take_along_axis(d, pick, 1), np.take_along_axis(i, pick, 1)

    def mirror(self, rows: slice, cols: slice, block: Tensor) -> None:
        """Merge the transposed block."""
        self.update(cols, rows, block.T)

    def result(self) -> tuple[Float[Tensor, "n_q k"], Int[Tensor, "n_q k"]]:
        """Return squared distances (double precision, never below zero) and indices."""
        d, order = torch.sort(self._d, dim=1, stable=True)
        return d.double().clamp_min(0) * squared_unit(self._unit), self._i.gather(1, order)


@checked
class CountBelow:
    """Number of ordered pairs (query, reference) nearer than each radius: int64 array, shape (n_radii,).

    Given the queries and references themselves as ``points``, the count is that of their distances: pairs that a
    product cannot put on one side of a radius are measured by their difference.
    """

    def __init__(
        self,
        radii: Any,
        points: tuple[Float[np.ndarray, "n_q features"], Float[np.ndarray, "n_r features"]] | None = None,
    ):
        self.radii = np.atleast_1d(check_numbers(radii, "radii"))
        if np.isnan(self.radii).any():
            raise ValueError(f"radii must be numbers, got {self.radii.tolist()}")
        self.points = points

    def start(self, n_q: int, n_r: int, device: torch.device, dtype: torch.dtype, unit: float) -> None:
        """Prepare the counts."""
        limits = (self.radii / unit) ** 2
        self._order = np.argsort(limits, kind="stable")
        exactly = dtype if self.points is None else torch.float64
        self._limits = torch.tensor(limits[self._order], dtype=exactly, device=device)
        self._counts = np.zeros(len(self.radii), dtype=np.int64)
        self._unit = unit
        if self.points is not None:  # norms are at most one unit
            self._error = 4 * product_error(self.points[1].shape[1], dtype)

    def update(self, rows: slice, cols: slice, block: Tensor) -> None:
        """Count the block."""
        if self.points is None:
            near = block[block < self._limits[-1]]  # few, so that the rest of the work is on them only
        else:
            near = self._measured(rows, cols, block)
        place = torch.searchsorted(self._limits, near, right=True)
        passed = torch.bincount(place, minlength=len(self._limits)).cumsum(0).cpu().numpy()
        self._last = np.empty_like(self._counts)
        self._last[self._order] = passed[: len(self._limits)]
        self._counts += self._last

    def _measured(self, rows: slice, cols: slice, block: Tensor) -> Tensor:
        """Squares of the pairs that may be near, by differences where products are in doubt."""
        assert self.points is not None
        row, col = torch.nonzero(block < self._limits[-1] + self._error, as_tuple=True)
        near = block[row, col].double()
        doubt = ((near[:, None] - self._limits).abs() <= self._error).any(1)
        pairs = (
            (row[doubt] + rows.start).cpu().numpy(),
            (col[doubt] + cols.start).cpu().numpy(),
        )
        squares = squares_of_pairs(self.points[0], pairs[0], self.points[1], pairs[1], self._unit)
        near[doubt] = torch.from_numpy(squares).to(near.device)
        return near

    def mirror(self, rows: slice, cols: slice, block: Tensor) -> None:
        """Count it once more: the same pairs in the other order."""
        self._counts += self._last

    def result(self) -> Int[np.ndarray, " n_radii"]:
        """Return the counts."""
        return self._counts


@checked
class LogSumExp:
    """``log sum_y w_y exp(-E)`` of each query for each bandwidth: float64 tensor (n_q, n_bandwidths[, m]).

    The exponent E is ``|x - y|^2 / (2 h^2)``, or ``|x - y| / h``; bandwidths h are in the data's unit. Weights, by
    default ones, are nonnegative and of shape (n_references,) or (n_references, m): each column gives sums of its own.

    Kept are the least distance of each query and sums relative to its term, so that nothing under- or overflows.
    Bandwidths whose rates are a power of two apart cost a squaring instead of an exponential, so a geometric grid is
    the cheapest one. Blocks whose terms are all zero beside the largest are passed over.
    """

    def __init__(self, bandwidths: Any, *, kernel: str = "gaussian", weights: Any = None):
        self.bandwidths = np.atleast_1d(check_numbers(bandwidths, "bandwidths"))
        if not (self.bandwidths > 0).all():
            raise ValueError(f"bandwidths must be positive, got {self.bandwidths.tolist()}")
        self.kernel = check_choice(kernel, ("gaussian", "exponential"), "kernel")
        self.weights = None if weights is None else check_numbers(weights, "weights")
        if self.weights is not None and not (self.weights >= 0).all():
            raise ValueError("weights must be numbers of at least 0")

    def start(self, n_q: int, n_r: int, device: torch.device, dtype: torch.dtype, unit: float) -> None:
        """Prepare the sums."""
        self._power = 2 if self.kernel == "gaussian" else 1
        rates = (unit / self.bandwidths) ** self._power / self._power
        self._rates = torch.tensor(rates, dtype=torch.float64, device=device)
        longest, self._again, self._cut = _SQUARINGS[dtype]
        self._chains = _doubling_chains(rates, longest)
        w = np.ones(n_r) if self.weights is None else self.weights
        if len(w) != n_r:
            raise ValueError(f"{len(w)} weights were given for {n_r} references")
        self._w = torch.as_tensor(w.reshape(n_r, -1), dtype=dtype, device=device)
        self._low = torch.full((n_q,), torch.inf, dtype=torch.float64, device=device)
        self._sums = torch.zeros((n_q, len(rates), self._w.shape[1]), dtype=torch.float64, device=device)
        self._scratch = torch.empty(_SCRATCH[device.type == "cpu"], dtype=dtype, device=device)

    def update(self, rows: slice, cols: slice, block: Tensor) -> None:
        """Add the block's terms."""
        near = block.amin(1).double().clamp_min(0)
        old = self._low[rows].clone()
        low = torch.minimum(old, near)
        self._low[rows] = low
        sums, weights = self._sums[rows], self._w[cols]
        fallen = torch.where(low < old, self._energy(old) - self._energy(low), 0.0)
        sums *= torch.exp(-fallen[:, None] * self._rates)[:, :, None]
        base = torch.where(torch.isfinite(low), low, 0.0)  # a query that has met nothing but itself
        gap = float(
            torch.where(torch.isfinite(near), self._energy(near) - self._energy(base), torch.inf).min()
        )
        base = base.to(block.dtype)[:, None]
        step = max(1, len(self._scratch) // block.shape[1])
        for first in range(0, len(block), step):
            part = slice(first, first + step)
            self._add(sums[part], block[part], base[part], weights, gap)

    def _energy(self, squares: Tensor) -> Tensor:
        return squares if self._power == 2 else squares.clamp_min(0).sqrt()

    def _add(self, sums: Tensor, block: Tensor, base: Tensor, weights: Tensor, gap: float) -> None:
        """Add some rows' terms; as few as stay in the processor's cache from one bandwidth to the next."""
        excess = self._energy(block).sub(self._energy(base))
        terms = (
            self._scratch[: excess.numel()].view_as(excess) if excess.numel() <= len(self._scratch) else None
        )
        found = weights.new_zeros((sums.shape[1], len(block), weights.shape[1]))
        for rate, columns in self._chains:
            if rate * gap > self._cut:
                break
            terms = torch.mul(excess, -rate, out=terms).clamp_(min=-self._cut).exp_()
            for position, column in enumerate(columns):
                if position:
                    if position % self._again == 1 and position > 1:
                        terms.clamp_(min=math.exp(-self._cut))
                    terms.mul_(terms)
                torch.mm(terms, weights, out=found[column])
        sums += found.transpose(0, 1).double()

    def mirror(self, rows: slice, cols: slice, block: Tensor) -> None:
        """Add the transposed block's terms."""
        self.update(cols, rows, block.T)

    def result(self) -> Float[Tensor, "n_q n_bandwidths *m"]:
        """Return the logarithms of the sums."""
        low = torch.where(torch.isfinite(self._low), self._energy(self._low), 0.0)
        found = self._sums.log() - (low[:, None] * self._rates)[:, :, None]
        several = self.weights is not None and np.ndim(self.weights) == 2
        return found if several else found[:, :, 0]


def _doubling_chains(rates: np.ndarray, longest: int) -> list[tuple[float, list[int]]]:
    """Group rates r, 2r, 4r, ...: ``(r, positions of the rates)``, each group at most ``longest`` doublings long."""
    left, chains, found = np.argsort(rates, kind="stable").tolist(), [], rates.tolist()
    while left:
        chain = [left.pop(0)]
        while len(chain) <= longest:
            match = [i for i in left if math.isclose(found[i], 2 * found[chain[-1]], rel_tol=1e-12)]
            if not match:
                break
            left.remove(match[0])
            chain.append(match[0])
        chains.append((found[chain[0]], chain))
    return sorted(chains)


@checked
class MinByLabelPair:
    """The ``m`` nearest pairs of every two different labels: ``(d2 (C, C, m), pairs (C, C, m, 2))``.

    For a set that meets itself. Only entries ``[a, b]`` with ``a < b`` are filled (infinity and -1 elsewhere).
    Labels are 0 ... C-1 and ascend, so that the pairs of two labels are a rectangle of a block. Rows with the same
    entry in ``twin`` are equal and do not count as a pair. Given the rows themselves as ``points``, pairs are those of
    least distance: all that a product cannot prove farther than the m-th are measured by their difference.
    """

    def __init__(
        self,
        labels: Int[np.ndarray, " n"],
        m: int = 1,
        twin: Int[np.ndarray, " n"] | None = None,
        points: Float[np.ndarray, "n features"] | None = None,
    ):
        if (np.diff(labels) < 0).any():
            raise ValueError("labels must be ascending: sort the rows by label first")
        self.labels, self.m, self.twin, self.points = labels, m, twin, points

    def start(self, n_q: int, n_r: int, device: torch.device, dtype: torch.dtype, unit: float) -> None:
        """Prepare the lists."""
        c = int(self.labels[-1]) + 1
        self._unit = unit
        self._d = np.full((c, c, self.m), np.inf)  # squares; of points distances, which do not underflow
        self._pairs = np.full((c, c, self.m, 2), -1, dtype=np.int64)
        self._error = 0.0
        if self.points is not None:  # norms are at most one unit, and limits are rounded to the block's type
            self._error = 5 * product_error(self.points.shape[1], dtype) + torch.finfo(dtype).tiny

    def _runs(self, part: slice) -> list[tuple[int, int, int]]:
        """Label, start and end (within the block) of every run of equal labels."""
        labels = self.labels[part]
        edges = np.r_[0, np.flatnonzero(np.diff(labels)) + 1, len(labels)]
        return [(int(labels[s]), int(s), int(e)) for s, e in pairwise(edges)]

    def update(self, rows: slice, cols: slice, block: Tensor) -> None:
        """Merge the block's nearest pairs of different labels."""
        if self.twin is not None:
            same = torch.from_numpy(self.twin[rows][:, None] == self.twin[cols][None, :])
            if bool(same.any()):
                block = block.masked_fill(same.to(block.device), torch.inf)
        for a, row, row_end in self._runs(rows):
            for b, col, col_end in self._runs(cols):
                if a < b:
                    self._merge(a, b, block[row:row_end, col:col_end], rows.start + row, cols.start + col)

    def _merge(self, a: int, b: int, part: Tensor, row0: int, col0: int) -> None:
        limit = self._d[a, b, -1] ** (1 if self.points is None else 2)
        if not float(part.min()) < limit + self._error:
            return
        near, place = torch.topk(part.reshape(-1), min(self.m, part.numel()), largest=False)
        if self.points is not None:
            farthest = min(limit, float(near[-1]) + self._error)
            maybe = (part <= farthest + self._error) & torch.isfinite(part)
            place = torch.nonzero(maybe.reshape(-1))[:, 0]
        pairs = np.stack(np.divmod(place.cpu().numpy(), part.shape[1]), 1) + np.array([row0, col0])
        new = near.cpu().numpy().astype(np.float64)
        if self.points is not None:
            new = distances_of_pairs(self.points, pairs[:, 0], self.points, pairs[:, 1]) / self._unit
        d = np.r_[self._d[a, b], new]
        order = np.argsort(d, kind="stable")[: self.m]
        self._d[a, b] = d[order]
        self._pairs[a, b] = np.concatenate([self._pairs[a, b], pairs])[order]

    def mirror(self, rows: slice, cols: slice, block: Tensor) -> None:
        """Do nothing: rows sorted by label put every pair a < b on or above the diagonal."""

    def result(self) -> tuple[Float[np.ndarray, "C C m"], Shaped[np.ndarray, "C C m 2"]]:
        """Return squared distances (infinity where there is no pair) and row pairs (-1 there)."""
        none = ~np.isfinite(self._d)
        self._pairs[none] = -1
        squares = np.maximum(self._d, 0) if self.points is None else self._d**2
        return squares * squared_unit(self._unit), self._pairs
