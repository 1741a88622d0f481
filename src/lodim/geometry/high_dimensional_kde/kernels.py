"""Kernels, and the sums over all points that a density and its diagnosis are made of.

A kernel is ``K_h(v) = k(|v| / h) / (c_d h^d)``: k is ``exp(-r^2/2)`` (gaussian), ``exp(-r)`` (exponential),
``1 - r^2`` (epanechnikov) or 1 (tophat), the last two for r < 1 only. Rules for the bandwidth are made for the
Gaussian kernel and carried over so that the kernels have equal root-mean-square radius.

The shares of the points, ``p_i = exp(-E_i) / Z`` with ``E_i = |x - y_i|^2 / (2 h^2) - log w_i`` (a Gibbs law), come out
of one pass by :class:`GibbsMoments`: ``log Z``, ``sum p^2``, the entropy ``log Z + sum p E`` and means ``sum p v``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import gammaln
from torch import Tensor

from lodim.neighbors import LogSumExp, stream_pairs
from lodim.neighbors.pair_blocks import choose_dtype

KERNELS = ("gaussian", "exponential", "epanechnikov", "tophat")
COMPACT = ("epanechnikov", "tophat")
_AT_ONCE = 1 << 22  # numbers in one temporary array
_TOLERANCE = 1e-3  # largest error of an exponent that rounding of squared distances may make


def log_norm(kernel: str, d: int) -> float:
    """Logarithm of the integral of ``k(|v|)`` over R^d."""
    if kernel == "gaussian":
        return 0.5 * d * math.log(2 * math.pi)
    ball = 0.5 * d * math.log(math.pi) - float(gammaln(0.5 * d + 1))
    extra = {"tophat": 0.0, "epanechnikov": math.log(2 / (d + 2)), "exponential": float(gammaln(d + 1))}
    return ball + extra[kernel]


def rms_radius(kernel: str, d: int) -> float:
    """Root mean square of |v| under the kernel with h = 1."""
    squares = {"gaussian": d, "exponential": d * (d + 1), "epanechnikov": d / (d + 4), "tophat": d / (d + 2)}
    return math.sqrt(squares[kernel])


def tail_power(kernel: str) -> int | None:
    """The q in ``mu = (h / h_G)^q``: 2 for gaussian, 1 for exponential, None for kernels of bounded support."""
    return {"gaussian": 2, "exponential": 1}.get(kernel)


def draw_kernel(kernel: str, n: int, d: int, rng: np.random.Generator) -> Float[np.ndarray, "n d"]:
    """Draw n vectors from the kernel with h = 1."""
    steps = rng.normal(size=(n, d))
    if kernel == "gaussian":
        return steps
    steps /= np.linalg.norm(steps, axis=1, keepdims=True)
    if kernel == "exponential":
        radius = rng.gamma(d, size=(n, 1))
    elif kernel == "tophat":
        radius = rng.uniform(size=(n, 1)) ** (1 / d)
    else:
        radius = np.sqrt(rng.beta(d / 2, 2, size=(n, 1)))
    return steps * radius


class CompactSums:
    """``log sum_y w_y k(|x - y| / h)`` of each query and bandwidth for a kernel of bounded support: (n_q, n_h).

    Whether a point lies inside or on the border, where the kernel is zero, is not for rounding to say: distances that
    the product of the rows cannot tell from h are taken anew, from the differences of ``queries`` and ``points``.
    """

    def __init__(self, bandwidths: Any, kernel: str, weights: np.ndarray, queries: Tensor, points: Tensor):
        self.bandwidths = np.atleast_1d(np.asarray(bandwidths, dtype=np.float64))
        self.kernel, self.weights = kernel, weights
        self.queries, self.points = queries, points

    def start(self, n_q: int, n_r: int, device: torch.device, dtype: torch.dtype, unit: float) -> None:
        """Prepare the sums."""
        self._scales = [float(v) for v in (unit / self.bandwidths) ** 2]
        self._w = torch.as_tensor(self.weights, dtype=dtype, device=device)
        self._sums = torch.zeros((n_q, len(self._scales)), dtype=torch.float64, device=device)
        # of a square in the block: rows have norms of at most about one, and d + 2 products are added
        self._rounding = 8 * (self.points.shape[1] + 4) * torch.finfo(dtype).eps

    def update(self, rows: slice, cols: slice, block: Tensor) -> None:
        """Add the block's terms."""
        for column, scale in enumerate(self._scales):
            squares = block * scale
            unsure = (squares - 1).abs() <= self._rounding * scale
            if bool(unsure.any()):
                squares[unsure] = self._squares(rows, cols, unsure, self.bandwidths[column]).to(squares.dtype)
            terms = (
                (1 - squares).clamp_(0, 1) if self.kernel == "epanechnikov" else (squares < 1).to(block.dtype)
            )
            self._sums[rows, column] += (terms @ self._w[cols]).double()

    def _squares(self, rows: slice, cols: slice, where: Tensor, h: float) -> Tensor:
        """Squared distances over h^2 of the marked pairs, 1 or more where the distance rounds to h or more."""
        at, beside = where.nonzero().T
        size = max(1, _AT_ONCE // self.points.shape[1])
        found = []
        for i, j in zip(at.split(size), beside.split(size), strict=True):
            gap = self.queries[rows][i] - self.points[cols][j]
            squared = gap.square_().sum(1)
            # the last bit decides, and that of torch's root depends on the processor
            root = (
                torch.from_numpy(np.sqrt(squared.numpy())) if squared.device.type == "cpu" else squared.sqrt()
            )
            found.append((root / h).square_())
        return torch.cat(found)

    def mirror(self, rows: slice, cols: slice, block: Tensor) -> None:
        """Add the transposed block's terms."""
        self.update(cols, rows, block.T)

    def result(self) -> Float[Tensor, "n_q n_h"]:
        """Return the logarithms of the sums; minus infinity where no point is within h."""
        return self._sums.log()


class GibbsMoments:
    """Partition function and moments of the points' shares at one bandwidth.

    ``(log_z, y2, entropy, means)`` are float64 and have shapes (n_q,), and (n_q, m) for the means of ``values``
    (n_references, m). ``power`` is that of the distance in the exponent, 2 gaussian, 1 exponential; ``scales`` are
    factors of the bandwidth at every reference.
    """

    def __init__(
        self,
        bandwidth: float,
        power: int,
        log_weights: np.ndarray,
        scales: np.ndarray | None = None,
        values: Tensor | None = None,
    ):
        self.bandwidth, self.power, self.log_weights = bandwidth, power, log_weights
        self.scales = np.ones(len(log_weights)) if scales is None else scales
        self.values = values

    def start(self, n_q: int, n_r: int, device: torch.device, dtype: torch.dtype, unit: float) -> None:
        """Prepare the sums."""
        rates = (unit / (self.bandwidth * self.scales)) ** self.power / self.power
        self._rates = torch.as_tensor(rates, dtype=dtype, device=device)
        self._logs = torch.as_tensor(self.log_weights, dtype=dtype, device=device)
        width = 0 if self.values is None else self.values.shape[1]
        self._low = torch.full((n_q,), torch.inf, dtype=torch.float64, device=device)
        self._sums = torch.zeros((n_q, 3 + width), dtype=torch.float64, device=device)

    def update(self, rows: slice, cols: slice, block: Tensor) -> None:
        """Add the block's terms, relative to the largest so far."""
        energy = block.clamp_min(0)
        energy = (energy if self.power == 2 else energy.sqrt()) * self._rates[cols] - self._logs[cols]
        old = self._low[rows].clone()
        low = torch.minimum(old, energy.amin(1).double())
        self._low[rows] = low
        base = torch.where(torch.isfinite(low), low, 0.0)
        excess = energy - base.to(energy.dtype)[:, None]
        terms = torch.exp(-excess)
        fresh = [terms.sum(1), (terms * terms).sum(1), torch.where(terms > 0, terms * excess, 0.0).sum(1)]
        found = torch.stack(fresh, 1).double()
        if self.values is not None:
            found = torch.cat([found, (terms @ self.values[cols].to(terms.dtype)).double()], 1)
        fallen = torch.where(low < old, old - low, 0.0)
        kept, factor = self._sums[rows], torch.exp(-fallen)
        # the mean exponent is measured from the least one, which has fallen
        kept[:, 2] += torch.where(torch.isfinite(fallen), fallen, 0.0) * kept[:, 0]
        kept *= factor[:, None]
        kept[:, 1] *= factor
        kept += found

    def mirror(self, rows: slice, cols: slice, block: Tensor) -> None:
        """Add the transposed block's terms."""
        self.update(cols, rows, block.T)

    def result(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the moments."""
        z = self._sums[:, 0]
        entropy = z.log() + self._sums[:, 2] / z
        return z.log() - self._low, self._sums[:, 1] / z**2, entropy, self._sums[:, 3:] / z[:, None]


def least_bandwidth(X: Float[Tensor, "n n_features"], dtype: torch.dtype, share: float = 1.0) -> float:
    """Bandwidth below which exponents lose the third digit after the point.

    Squared distances in ``dtype`` have an error of about ``eps sqrt(d)`` times the squared diameter; nothing is asked
    of the digits beyond the ``share`` of points nearest to the centre.
    """
    squares = (X - X.mean(0)).square().sum(1)
    radius = float(squares.kthvalue(max(1, round(share * len(X)))).values) ** 0.5
    return 2 * radius * math.sqrt(torch.finfo(dtype).eps * math.sqrt(X.shape[1]) / (2 * _TOLERANCE))


def pass_dtype(X: Tensor, n_q: int, n_r: int, bandwidth: Any) -> torch.dtype:
    """Precision of a pass: single only where it is worth it and exponents keep three digits after the point.

    ``bandwidth`` is the smallest of the pass, and X are the references.
    """
    if choose_dtype(X, n_q, n_r) == torch.float64:
        return torch.float64
    return torch.float32 if bandwidth > least_bandwidth(X, torch.float32) else torch.float64


def log_sums(
    queries: Tensor | np.ndarray,
    points: Float[Tensor, "n d"],
    bandwidths: Any,
    *,
    kernel: str,
    weights: np.ndarray | None,
    scales: np.ndarray | None = None,
    block_size: int = 2048,
) -> Float[Tensor, "n_q n_h"]:
    """``log sum_i w_i k(|x - y_i| / h)`` for every query and bandwidth, in one pass; weights are 1 if None.

    Queries are points (n_q, d) to evaluate at, or numbers of rows each of which leaves itself out. With ``scales``,
    factors of the bandwidth at every point, each term is divided by ``scales**d``.
    """
    grid = np.atleast_1d(np.asarray(bandwidths, dtype=np.float64))
    w = np.ones(len(points)) if weights is None else weights
    reducers: list[Any]
    if kernel in COMPACT:
        itself = (
            points[torch.from_numpy(queries).to(points.device)]
            if isinstance(queries, np.ndarray)
            else queries
        )
        reducers = [CompactSums(grid, kernel, w, itself, points)]
    elif scales is None:
        reducers = [LogSumExp(grid, kernel=kernel, weights=weights)]
    else:
        logs, power = np.log(w) - points.shape[1] * np.log(scales), tail_power(kernel)
        assert power is not None
        reducers = [GibbsMoments(float(h), power, logs, scales) for h in grid]
    least = float(grid.min()) * (1.0 if scales is None else float(scales.min()))
    options: dict[str, Any] = {
        "reducers": reducers,
        "block_q": block_size,
        "block_r": block_size,
        "dtype": torch.float64 if kernel in COMPACT else pass_dtype(points, len(queries), len(points), least),
    }
    if isinstance(queries, np.ndarray):
        found = stream_pairs(points, query_idx=queries, **options)
    else:
        found = stream_pairs(queries, points, **options)
    return found[0] if scales is None else torch.stack([f[0] for f in found], 1)
