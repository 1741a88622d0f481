r"""Calibration: which range :math:`[\alpha, \beta]` a grid should span.

A wide range rounds coarsely, a narrow one cuts off. :func:`clip_range` chooses for blocks of numbers that are at hand
(weights: :func:`weight_qparams`), :class:`RangeObserver` for numbers that come in batches (activations).

==================  ================================================================================================
observer            range
==================  ================================================================================================
``minmax``          smallest and largest number
``moving_average``  exponential average of the batches' smallest and largest numbers
``percentile``      a percentile of :math:`|r|` (symmetric), or of r and its mirror image (asymmetric)
``mse``             the min-max range times the factor in [0.2, 1] of least :math:`\sum (r - Q(r))^2`
``norm``            the same of least :math:`\sum |r - Q(r)|^p`
``entropy``         :math:`|r| \le t` with the least Kullback-Leibler divergence from the histogram clipped at t to its
                    quantised form
==================  ================================================================================================

Batches are kept as a :class:`~lodim.landscape.quantization.StreamingHistogram`. Its bins are :math:`[k w, (k+1) w)`
with a power of two for w; when a number falls outside, w doubles and pairs of bins merge, which is exact. Nothing is
ever dropped, and how the numbers were split into batches leaves no trace.

Sources: A. Gholami et al., arXiv 2103.13630, Section 3.2 (calibration); S. Migacz, 8-bit inference with TensorRT, 2017
(``entropy``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lodim.landscape.quantization.grid.affine import (
    block_mask,
    check_channels,
    choose_qparams,
    fake_quantize_blocks,
    to_blocks,
)
from lodim.landscape.quantization.spec import QuantSpec
from lodim.validation import checked

__all__ = ["BINS", "RangeObserver", "StreamingHistogram", "block_extremes", "clip_range", "weight_qparams"]

BINS = 8192


@checked
class StreamingHistogram:
    """Counts of numbers that come in batches, one histogram for each block; no count is ever dropped.

    Parameters
    ----------
    n_bins : int
        A power of two; they cover [-R, R) with a power of two for R, so at least a quarter of them hold [0, max abs].

    Attributes
    ----------
    counts : Tensor of int64, shape (n_blocks, n_bins)
    exponent : Tensor of int64, shape (n_blocks,)
        R is two to this power.
    """

    def __init__(self, n_blocks: int, n_bins: int = BINS) -> None:
        if n_bins < 4 or n_bins & (n_bins - 1):
            raise ValueError(f"n_bins must be a power of two and at least 4, got {n_bins}")
        self.n_bins = n_bins
        self.counts = torch.zeros(n_blocks, n_bins, dtype=torch.int64)
        self.exponent = torch.full((n_blocks,), -100, dtype=torch.int64)
        self._reach = 2.0**-100  # every block's R is at least this: numbers below need no wider bins

    @property
    def width(self) -> Float[Tensor, " n_blocks"]:
        """Width of a bin of each block."""
        power = ((self.exponent + 1023) << 52).view(torch.float64)  # 2**exponent, exact
        return power * (2 / self.n_bins)

    @property
    def centres(self) -> Float[Tensor, "n_blocks bins"]:
        """Middles of the bins."""
        return (self._indices() - self.n_bins // 2 + 0.5) * self.width[:, None]

    def update(
        self,
        blocks: Float[Tensor, "n_blocks block"],
        mask: Bool[Tensor, "n_blocks block"] | None = None,
        largest: Float[Tensor, " n_blocks"] | None = None,
    ) -> None:
        """Count a batch.

        Parameters
        ----------
        blocks : Tensor, shape (n_blocks, block)
            Finite.
        mask : Tensor of bool, optional
            Entries that count.
        largest : Tensor, shape (n_blocks,), optional
            Largest size in each block, if it is known.
        """
        if not blocks.numel():
            return
        blocks = blocks.detach()
        self.counts, self.exponent = self.counts.to(blocks.device), self.exponent.to(blocks.device)
        largest = blocks.abs().amax(1) if largest is None else largest
        if float(largest.max()) >= self._reach:
            needed = torch.frexp(largest)[1].long()  # |x| < 2**needed
            self._widen(torch.where(largest > 0, torch.maximum(self.exponent, needed), self.exponent))
            self._reach = 2.0 ** int(self.exponent.min())
        per_unit = self.width.reciprocal().to(blocks.dtype)  # a power of two: as exact as dividing
        inside = (blocks * per_unit[:, None]).floor_().int().add_(self.n_bins // 2)
        if len(blocks) > 1:
            inside = inside + self.n_bins * torch.arange(len(blocks), device=blocks.device)[:, None]
        flat = inside.flatten() if mask is None else inside[mask]
        self.counts += torch.bincount(flat, minlength=self.counts.numel()).reshape(self.counts.shape)

    def _indices(self) -> Int[Tensor, " bins"]:
        return torch.arange(self.n_bins, device=self.counts.device)

    def _widen(self, exponent: Tensor) -> None:
        doublings = (exponent - self.exponent).clamp(max=62)
        if bool((doublings == 0).all()):
            return
        middle = self.n_bins // 2
        target = ((self._indices() - middle) >> doublings[:, None]) + middle
        self.counts = torch.zeros_like(self.counts).scatter_add_(1, target, self.counts)
        self.exponent = exponent

    def quantile(self, share: float, *, magnitude: bool = False) -> Float[Tensor, " n_blocks"]:
        """Return the quantile of a share in [0, 1] of each block, or of its absolute values, linear inside a bin."""
        counts = self.magnitudes() if magnitude else self.counts
        below = counts.cumsum(1).double()
        wanted = (share * below[:, -1:]).clamp(min=1e-9)  # past the empty bins below the smallest number
        at = torch.searchsorted(below, wanted).clamp(max=counts.shape[1] - 1)
        inside = counts.gather(1, at).double()
        missing = (wanted - (below.gather(1, at) - inside)) / inside.clamp(min=1)
        start = at - (0 if magnitude else self.n_bins // 2)
        return (start + missing)[:, 0] * self.width

    def magnitudes(self) -> Int[Tensor, "n_blocks half"]:
        """Return the counts of absolute values, half as many bins: [k w, (k+1) w) joined with its mirror image."""
        middle = self.n_bins // 2
        return self.counts[:, middle:] + self.counts[:, :middle].flip(1)


_SHRINKS, _LEAST_SHRINK, _GOLDEN_STEPS = 80, 0.2, 12
_THRESHOLDS = 200
_SMOOTHING = 1e-4
_MOST_BITS_BINNED = 10
_BLOCKS_AT_ONCE = 256


@checked
@torch.no_grad()
def weight_qparams(
    weight: Float[Tensor, "*shape"], spec: QuantSpec
) -> tuple[Float[Tensor, " n_blocks"], Int[Tensor, " n_blocks"]]:
    """Return scales and zero points of a finite weight, its ranges chosen by ``spec.observer``."""
    mask = block_mask(weight.shape, spec)
    mask = None if mask is None else mask.to(weight.device)
    return choose_qparams(*clip_range(to_blocks(weight, spec), spec, mask=mask), spec)


def clip_range(
    blocks: Float[Tensor, "n_blocks block"],
    spec: QuantSpec,
    *,
    mask: Bool[Tensor, "n_blocks block"] | None = None,
) -> tuple[Float[Tensor, " n_blocks"], Float[Tensor, " n_blocks"]]:
    """Return the range of each block, as ``spec.observer`` chooses it.

    Parameters
    ----------
    mask : Tensor of bool, optional
        Entries that count; the others must be zero.

    Raises
    ------
    ValueError
        NaN or infinity in the blocks.
    """
    points = blocks.to(torch.promote_types(blocks.dtype, torch.float32))
    low, high = block_extremes(points)
    _raise_if_not_finite(low, high)
    if spec.observer in ("minmax", "moving_average"):
        return low, high
    if spec.observer == "percentile":
        return _percentile_range(points, mask, spec)
    if spec.observer == "entropy":
        return _block_entropy_range(points, mask, low, high, spec)
    weights = torch.ones_like(points) if mask is None else mask.to(points)
    return _least_error_range(points, weights, low, high, spec)


def block_extremes(
    blocks: Float[Tensor, "n_blocks block"],
) -> tuple[Float[Tensor, " n_blocks"], Float[Tensor, " n_blocks"]]:
    """Return the smallest and the largest number of each block; zeros for blocks of nothing."""
    if not blocks.shape[1]:
        return blocks.new_zeros(len(blocks)), blocks.new_zeros(len(blocks))
    if len(blocks) == 1:
        low, high = torch.aminmax(blocks)
        return low[None], high[None]
    return blocks.amin(1), blocks.amax(1)


def _raise_if_not_finite(low: Tensor, high: Tensor) -> None:
    if len(low) == 1:  # of whole tensors, every batch's: two numbers are looked at faster than two tensors
        finite = math.isfinite(low.item()) and math.isfinite(high.item())
    else:
        finite = bool((low.isfinite() & high.isfinite()).all())
    if not finite:
        raise ValueError("NaN or infinity among the numbers to be quantised")


def _least_error_range(
    points: Tensor, weights: Tensor, low: Tensor, high: Tensor, spec: QuantSpec
) -> tuple[Tensor, Tensor]:
    """``mse`` and ``norm``: from weighted points, in units in which no power of an error leaves single precision."""
    power = 2.0 if spec.observer == "mse" else float(spec.p)
    spec = replace(spec, rounding="nearest")
    # powers of two that have an inverse
    exponent = torch.frexp(torch.maximum(-low, high))[1].clamp(-126, 126)
    points, low, high = (
        torch.ldexp(points, -exponent[:, None]),
        torch.ldexp(low, -exponent),
        torch.ldexp(high, -exponent),
    )

    def error(shrink: Tensor) -> Tensor:
        scale, zero_point = choose_qparams(low * shrink, high * shrink, spec)
        rounded = fake_quantize_blocks(points, scale[:, None], zero_point[:, None], spec)
        return ((points - rounded).abs().pow(power) * weights).sum(1)

    shrink = _least(error, torch.ones_like(low))
    return torch.ldexp(low * shrink, exponent), torch.ldexp(high * shrink, exponent)


def _least(error: Callable[[Tensor], Tensor], ones: Tensor) -> Tensor:
    """Minimise over factors in [0.2, 1], one a block: a scan, then golden sections around its best."""
    best, least = ones, error(ones)
    factors = torch.linspace(1.0, _LEAST_SHRINK, _SHRINKS).tolist()

    def consider(at: Tensor) -> Tensor:
        nonlocal best, least
        value = error(at)
        best, least = torch.where(value < least, at, best), torch.minimum(value, least)
        return value

    for factor in factors[1:]:
        consider(ones * factor)
    step, golden = factors[0] - factors[1], (math.sqrt(5) - 1) / 2
    left, right = best - step, (best + step).clamp(max=1.0)
    for _ in range(_GOLDEN_STEPS):
        first, second = right - golden * (right - left), left + golden * (right - left)
        lower = consider(first) < consider(second)
        left, right = torch.where(lower, left, first), torch.where(lower, second, right)
    return best


def _percentile_range(points: Tensor, mask: Tensor | None, spec: QuantSpec) -> tuple[Tensor, Tensor]:
    share = spec.percentile / 100
    if spec.symmetric:
        limit = _row_quantile(points.abs(), mask, share)
        return -limit, limit
    return -_row_quantile(-points, mask, share), _row_quantile(points, mask, share)


def _row_quantile(points: Tensor, mask: Tensor | None, share: float) -> Tensor:
    """Quantile of each row's own entries, linear between neighbours (``torch.quantile`` has a size limit)."""
    if mask is not None:
        points = points.masked_fill(~mask, math.inf)
    ordered = points.sort(dim=1).values
    own = torch.full((len(points),), points.shape[1], device=points.device) if mask is None else mask.sum(1)
    position = (own - 1).double() * share
    below = position.floor().long()
    above = (below + 1).minimum(own - 1)
    first, second = (ordered.gather(1, at[:, None])[:, 0] for at in (below, above))
    return torch.lerp(first, second, (position - below).to(first))


def _block_entropy_range(
    points: Tensor, mask: Tensor | None, low: Tensor, high: Tensor, spec: QuantSpec
) -> tuple[Tensor, Tensor]:
    """As many bins as numbers in a block, but no fewer than 16 a level nor more than a stream's histogram has."""
    bins = min(BINS, 1 << (max(points.shape[1], 16 * 2**spec.bits) - 1).bit_length())
    parts = []
    for rows in torch.arange(len(points), device=points.device).split(_BLOCKS_AT_ONCE):
        histogram = StreamingHistogram(len(rows), bins)
        histogram.update(points[rows], None if mask is None else mask[rows])
        parts.append(_entropy_range(histogram, low[rows], high[rows], spec))
    return torch.cat([a for a, _ in parts]), torch.cat([b for _, b in parts])


def _entropy_range(
    histogram: StreamingHistogram, low: Tensor, high: Tensor, spec: QuantSpec
) -> tuple[Tensor, Tensor]:
    one_sided = not spec.symmetric and bool(((low >= 0) | (high <= 0)).all())
    levels = 2**spec.bits if one_sided else 2 ** (spec.bits - 1)
    counts = histogram.magnitudes().double()
    # a spike at zero, which every grid holds exactly, must not ask for fine steps
    counts[:, 0] = counts[:, 1]
    limit = (_entropy_threshold(counts, levels) * histogram.width).to(low)
    return torch.maximum(-limit, low), torch.minimum(limit, high)


def _entropy_threshold(counts: Float[Tensor, "n_blocks half"], levels: int) -> Tensor:
    """Return after how many bins to clip: least KL(clipped histogram || its quantised form)."""
    used = int((counts.sum(0) > 0).nonzero().max()) + 1 if bool(counts.any()) else 1
    first = min(max(levels, 2), used)
    stops = torch.linspace(first, used, min(_THRESHOLDS, used - first + 1)).round().long().unique().tolist()
    best = torch.full((len(counts),), float(used), dtype=counts.dtype, device=counts.device)
    least = torch.full_like(best, math.inf)
    for stop in reversed(stops):
        divergence = _clipped_divergence(counts, stop, levels)
        best = torch.where(divergence < least, float(stop), best)
        least = torch.minimum(divergence, least)
    return best


def _clipped_divergence(counts: Tensor, stop: int, levels: int) -> Tensor:
    kept = counts[:, :stop]
    reference = kept.clone()
    reference[:, -1] += counts[:, stop:].sum(1)
    level = torch.arange(stop, device=counts.device) * levels // stop
    empty = counts.new_zeros(len(counts), levels)
    occupied = (reference > 0).to(counts)
    share = empty.index_add(1, level, kept) / empty.index_add(1, level, occupied).clamp(min=1)
    quantised = share[:, level] * occupied
    p = reference / reference.sum(1, keepdim=True).clamp(min=1)
    q = quantised / quantised.sum(1, keepdim=True).clamp(min=1e-300)
    q = (1 - _SMOOTHING) * q + _SMOOTHING / stop
    return torch.xlogy(p, p / q).sum(1)


@checked
class RangeObserver:
    """The range of numbers that come in batches.

    Parameters
    ----------
    spec : QuantSpec
        ``granularity="tensor"`` or ``"channel"``.

    Attributes
    ----------
    n_batches : int
    low, high : Tensor, shape (n_blocks,)
        Smallest and largest number so far, or their moving averages.
    histogram : StreamingHistogram or None
        Kept by the observers that need one.

    Raises
    ------
    ValueError
        A grid finer than the histogram: ``mse``, ``norm``, ``entropy`` with more than 10 bits.
    """

    def __init__(self, spec: QuantSpec) -> None:
        if spec.observer in ("mse", "norm", "entropy") and spec.bits > _MOST_BITS_BINNED:
            raise ValueError(
                f"observer={spec.observer!r} sees activations through a histogram, too coarse for {spec.bits} bits; "
                "take 'minmax' or 'percentile', which lose nothing at that width"
            )
        self.spec = spec
        self.n_batches = 0
        self.low, self.high = torch.empty(0), torch.empty(0)
        self.histogram: StreamingHistogram | None = None

    @torch.no_grad()
    def update(self, x: Float[Tensor, "*shape"]) -> None:
        """Note a batch; ValueError for NaN or infinity, or another number of channels than before."""
        if not x.numel():
            return
        if self.n_batches:
            check_channels(x.shape, self.spec, len(self.low))
        blocks = to_blocks(x, self.spec)
        blocks = blocks.to(torch.promote_types(blocks.dtype, torch.float32))
        low, high = block_extremes(blocks)
        _raise_if_not_finite(low, high)
        if self.n_batches == 0:
            self.low, self.high = low, high
        elif self.spec.observer == "moving_average":
            self.low, self.high = (
                torch.lerp(old, new, float(self.spec.momentum))
                for old, new in ((self.low, low), (self.high, high))
            )
        else:
            self.low, self.high = torch.minimum(self.low, low), torch.maximum(self.high, high)
        if self.spec.observer not in ("minmax", "moving_average"):
            if self.histogram is None:
                self.histogram = StreamingHistogram(len(blocks))
            self.histogram.update(blocks, largest=torch.maximum(-low, high))
        self.n_batches += 1

    @torch.no_grad()
    def range(self) -> tuple[Float[Tensor, " n_blocks"], Float[Tensor, " n_blocks"]]:
        """Return the range chosen from what was observed; RuntimeError if that is nothing."""
        if self.n_batches == 0:
            raise RuntimeError("no batch has been observed")
        low, high, histogram = self.low, self.high, self.histogram
        if histogram is None:
            return low, high
        if self.spec.observer == "percentile":
            return self._percentile(histogram)
        if self.spec.observer == "entropy":
            return _entropy_range(histogram, low, high, self.spec)
        points, weights = (t.to(low) for t in (histogram.centres, histogram.counts))
        return _least_error_range(points, weights, low, high, self.spec)

    def _percentile(self, histogram: StreamingHistogram) -> tuple[Tensor, Tensor]:
        share = self.spec.percentile / 100
        if self.spec.symmetric:
            limit = histogram.quantile(share, magnitude=True).to(self.low)
            return torch.maximum(-limit, self.low), torch.minimum(limit, self.high)
        low, high = (histogram.quantile(s).to(self.low) for s in (1 - share, share))
        return torch.maximum(low, self.low), torch.minimum(high, self.high)
