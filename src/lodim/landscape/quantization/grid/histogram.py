r"""Counts of numbers that come in batches: :class:`StreamingHistogram`.

Its bins are :math:`[k w, (k+1) w)` with a power of two for w; when a number falls outside, w doubles and pairs of bins
merge, which is exact. Nothing is ever dropped, and how the numbers were split into batches leaves no trace.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["BINS", "StreamingHistogram"]

BINS = 8192


class StreamingHistogram:
    """Counts of numbers that come in batches, one histogram for each block; no count is ever dropped.

    Parameters
    ----------
    bins : int
        A power of two; they cover [-R, R) with a power of two for R, so at least a quarter of them hold [0, max abs].

    Attributes
    ----------
    counts : Tensor of int64, shape (n_blocks, bins)
    exponent : Tensor of int64, shape (n_blocks,)
        R is two to this power.
    """

    def __init__(self, n_blocks: int, bins: int = BINS) -> None:
        if bins < 4 or bins & (bins - 1):
            raise ValueError(f"bins must be a power of two and at least 4, got {bins}")
        self.bins = bins
        self.counts = torch.zeros(n_blocks, bins, dtype=torch.int64)
        self.exponent = torch.full((n_blocks,), -100, dtype=torch.int64)
        self._reach = 2.0**-100  # every block's R is at least this: numbers below need no wider bins

    @property
    def width(self) -> Float[Tensor, " n_blocks"]:
        """Width of a bin of each block."""
        power = ((self.exponent + 1023) << 52).view(torch.float64)  # 2**exponent, exact
        return power * (2 / self.bins)

    @property
    def centres(self) -> Float[Tensor, "n_blocks bins"]:
        """Middles of the bins."""
        return (self._indices() - self.bins // 2 + 0.5) * self.width[:, None]

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
        inside = (blocks * per_unit[:, None]).floor_().int().add_(self.bins // 2)
        if len(blocks) > 1:
            inside = inside + self.bins * torch.arange(len(blocks), device=blocks.device)[:, None]
        flat = inside.flatten() if mask is None else inside[mask]
        self.counts += torch.bincount(flat, minlength=self.counts.numel()).reshape(self.counts.shape)

    def _indices(self) -> Int[Tensor, " bins"]:
        return torch.arange(self.bins, device=self.counts.device)

    def _widen(self, exponent: Tensor) -> None:
        doublings = (exponent - self.exponent).clamp(max=62)
        if bool((doublings == 0).all()):
            return
        middle = self.bins // 2
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
        start = at - (0 if magnitude else self.bins // 2)
        return (start + missing)[:, 0] * self.width

    def magnitudes(self) -> Int[Tensor, "n_blocks half"]:
        """Return the counts of absolute values, half as many bins: [k w, (k+1) w) joined with its mirror image."""
        middle = self.bins // 2
        return self.counts[:, middle:] + self.counts[:, :middle].flip(1)
