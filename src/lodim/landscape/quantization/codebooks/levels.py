r"""Codebooks: weights rounded to freely chosen levels, shared by a tensor, a channel or a group.

The problem: trained weights crowd round zero, so equally spaced levels spend most of their codes where few weights are.
Here each row r of weights has a table of :math:`2^b` levels of its own,

.. math:: \hat w = \ell_{r,q}, \qquad q = \arg\min_k |w - \ell_{r,k}|,

which minimises :math:`\sum_i h_i (w_i - \hat w_i)^2` with :math:`h_i = 1` or the second derivative of the layer's
squared error, the mean square of the input that :math:`w_i` multiplies. It is the global optimum (dynamic programme),
not Lloyd's. Levels are trained if one likes: the gradient of a level is the sum of its members'.

Source: A. Gholami et al., arXiv 2103.13630, Section III.F.

**One and two bits a weight**: signs times a scale, and signs with zeros,

.. math:: W \approx a \operatorname{sign}(W), \quad a = \overline{|W|}; \qquad
          W \approx a\, t, \quad t_i = \operatorname{sign}(W_i)\, 1[|W_i| > \Delta], \quad
          \Delta = 0.7\, \overline{|W|}, \quad a = \overline{|W_i|}_{\,|W_i| > \Delta},

each for every output channel. Both a are the least-squares scales of their patterns. What is lost is won back by
training through the rounding: the gradient is passed straight through where :math:`|W| \le 1` and stopped beyond.

================================== ======================================================
symbol                             name here
================================== ======================================================
:math:`a, \operatorname{sign}(W)`  :func:`binary_weights`
:math:`a, t`                       :func:`ternary_weights`
================================== ======================================================

Sources: A. Gholami et al., arXiv 2103.13630, Section IV.C; M. Rastegari et al., arXiv 1603.05279 (binary); F. Li et
al., arXiv 1605.04711 (0.7). Departures: sign(0) = +1, so that a code is one bit; the scale is no part of the backward
pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lodim.landscape.code_lengths import quantize_codebook
from lodim.validation import check_choice, check_in_range, checked

__all__ = [
    "BinarySpec",
    "CodebookSpec",
    "LevelQuantizer",
    "ScaledSignQuantizer",
    "TernarySpec",
    "binary_weights",
    "ternary_weights",
]

LEVEL_BITS = 16  # of a stored level
_MOST_BITS = 8  # tables of 2**bits levels are searched
_FLOOR = 1e-4  # least weight of an entry whose input never fires, as a share of the mean


def as_rows(
    weight: Float[Tensor, "*shape"], granularity: str, group_size: int | None = None
) -> Float[Tensor, "rows n"]:
    """View a weight (outputs first) as the rows that share one table: "tensor", "channel", or "group".

    A group is ``group_size`` neighbouring weights of one channel, whose length it must divide.
    """
    _check_rows(granularity, group_size)
    if granularity == "tensor":
        return weight.reshape(1, -1)
    if granularity == "channel":
        return weight.reshape(len(weight), -1)
    n = weight.numel() // max(len(weight), 1)
    if group_size is None or n % group_size:
        raise ValueError(f"group_size must divide a channel's {n} weights, got {group_size}")
    return weight.reshape(-1, group_size)


def _check_rows(granularity: str, group_size: int | None) -> None:
    check_choice(granularity, ("tensor", "channel", "group"), "granularity")
    if (granularity == "group") != (group_size is not None):
        raise ValueError(
            f"group_size goes with granularity='group', and only with it; got {granularity!r} and {group_size}"
        )
    if group_size is not None:
        check_in_range(group_size, "group_size", low=1, integer=True)


def nearest_level(
    rows: Float[Tensor, "rows n"], levels: Float[Tensor, "rows levels"]
) -> Int[Tensor, "rows n"]:
    """Index of the level nearest to each entry, ties downwards; a row's levels stand in any order."""
    ordered, order = levels.sort(dim=1)
    middles = (ordered[:, 1:] + ordered[:, :-1]) / 2
    return order.gather(1, torch.searchsorted(middles.contiguous(), rows.contiguous()))


def codebook_levels(
    rows: Float[Tensor, "rows n"], n_levels: int, weights: Float[Tensor, "rows n"] | None = None
) -> Float[Tensor, "rows n_levels"]:
    """Each row's least-squares codebook (:func:`lodim.landscape.quantize_codebook`), increasing, in half precision.

    ``weights`` are h, positive. A row with fewer distinct weights repeats its last level.
    """
    array = rows.detach().cpu().double().numpy()
    mass = None if weights is None else weights.detach().cpu().double().numpy()
    books = []
    for i, row in enumerate(array):
        book = quantize_codebook(row, n_levels, weights=None if mass is None else mass[i]).codebook
        books.append(np.pad(book.astype(np.float32), (0, n_levels - len(book)), mode="edge"))
    return torch.as_tensor(np.stack(books)).to(rows)


@checked
class LevelQuantizer(nn.Module):
    """Weights rounded to the nearest of their row's ``levels``; gradients pass straight through, to the levels too."""

    def __init__(self, levels: Float[Tensor, "rows levels"]) -> None:
        super().__init__()
        self.levels = nn.Parameter(levels.clone())

    @property
    def code_range(self) -> tuple[int, int]:
        """Smallest and largest code."""
        return 0, self.levels.shape[1] - 1

    @torch.no_grad()
    def codes(self, weight: Float[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        """Return the index of each weight's level."""
        return nearest_level(weight.reshape(len(self.levels), -1), self.levels).reshape(weight.shape).int()

    @torch.no_grad()
    def decode(self, codes: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the weights that codes stand for."""
        return self.levels.gather(1, codes.reshape(len(self.levels), -1).long()).reshape(codes.shape)

    def forward(self, weight: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Round the weights; the gradient reaches those within the levels' range, and the levels."""
        rows, levels = weight.reshape(len(self.levels), -1), self.levels.detach()
        values = self.levels.gather(1, nearest_level(rows.detach(), levels))
        low, high = levels.aminmax(dim=1, keepdim=True)
        through = torch.minimum(torch.maximum(rows, low), high)
        return (values + (through - through.detach())).reshape(weight.shape)

    def overhead_bits(self) -> dict[str, int]:
        """Return the bits of the levels."""
        return {"codebooks": LEVEL_BITS * self.levels.numel()}

    def __setstate__(self, state: Any) -> None:
        """Take over what a file holds; the first release wrote levels as coefficients times a fixed table."""
        super().__setstate__(state)
        if "coefficients" in self._parameters:
            table: Any = self._parameters.pop("coefficients")
            self.levels = nn.Parameter((table @ self._buffers.pop("basis")).detach())


@dataclass(frozen=True)
class CodebookSpec:
    """Weights rounded to ``2**bits`` freely chosen levels.

    Attributes
    ----------
    bits : int
        1 to 8.
    granularity : {"tensor", "channel", "group"}
        What shares a codebook: fewer weights a codebook fit better and cost more (16 bits a level).
    weighting : {"none", "inputs"}
        ``"inputs"`` weighs each weight by the mean square of the input it multiplies, which calibration data give.
    """

    bits: int = 4
    granularity: str = "tensor"
    group_size: int | None = None
    weighting: str = "none"

    def __post_init__(self) -> None:
        check_in_range(self.bits, "bits", low=1, high=_MOST_BITS, integer=True)
        check_choice(self.weighting, ("none", "inputs"), "weighting")
        _check_rows(self.granularity, self.group_size)

    @property
    def needs_inputs(self) -> bool:
        """Whether the quantiser is fitted to the layer's inputs."""
        return self.weighting == "inputs"

    def quantizer(
        self, weight: Float[Tensor, "*shape"], gram: Float[Tensor, "i i"] | None = None
    ) -> LevelQuantizer:
        """Fit the codebooks of a weight; ``weighting="inputs"`` needs second moments of the layer's inputs."""
        rows, mass = as_rows(weight.detach(), self.granularity, self.group_size), None
        if self.weighting == "inputs":
            if gram is None:
                raise ValueError("weighting='inputs' needs the layer's inputs; pass calibration data")
            power = gram.diagonal() + _FLOOR * gram.diagonal().mean()
            mass = power.to(weight).expand(len(weight), -1).reshape(rows.shape)
        return LevelQuantizer(codebook_levels(rows, 2**self.bits, mass))


def binary_weights(rows: Float[Tensor, "rows n"]) -> tuple[Float[Tensor, "rows 1"], Float[Tensor, "rows n"]]:
    """Scale a and signs of each row (+1 for zero), a sign(W) being the nearest such pattern."""
    return rows.abs().mean(dim=1, keepdim=True), torch.where(rows < 0, -1.0, 1.0).to(rows)


def ternary_weights(
    rows: Float[Tensor, "rows n"], threshold: float = 0.7
) -> tuple[Float[Tensor, "rows 1"], Float[Tensor, "rows n"]]:
    """Scale a (0 for a row of zeros) and pattern t of each row; t is 0 up to this share of the row's mean size.

    Notes
    -----
    Source: arXiv 1605.04711, equations 5 and 6; the best share is 2/3 for uniform weights, near 0.75 for Gaussian ones.
    """
    size = rows.abs()
    kept = size > threshold * size.mean(dim=1, keepdim=True)
    a = (size * kept).sum(dim=1, keepdim=True) / kept.sum(dim=1, keepdim=True).clamp_min(1)
    return a, rows.sign() * kept


@checked
class ScaledSignQuantizer(nn.Module):
    """Binary or ternary weights whose scales follow the weights while those are trained.

    Parameters
    ----------
    threshold : float or None
        Of the ternary pattern; None is binary.
    granularity : {"tensor", "channel", "group"}

    Attributes
    ----------
    scale : Tensor, shape (rows, 1)
        Buffer: a of the weight last seen.
    """

    scale: Tensor

    def __init__(
        self,
        weight: Float[Tensor, "*shape"],
        threshold: float | None = None,
        granularity: str = "channel",
        group_size: int | None = None,
    ) -> None:
        super().__init__()
        self.threshold, self.granularity, self.group_size = threshold, granularity, group_size
        self.register_buffer("scale", self.pattern(weight)[0])

    @property
    def code_range(self) -> tuple[int, int]:
        """Smallest and largest code: minus and plus, or minus, zero and plus."""
        return (0, 1) if self.threshold is None else (0, 2)

    @torch.no_grad()
    def pattern(
        self, weight: Float[Tensor, "*shape"]
    ) -> tuple[Float[Tensor, "rows 1"], Float[Tensor, "rows n"]]:
        """Return scales and signs of a weight, by rows."""
        rows = as_rows(weight, self.granularity, self.group_size)
        return binary_weights(rows) if self.threshold is None else ternary_weights(rows, self.threshold)

    def codes(self, weight: Float[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        """Return 0 and 1 for minus and plus, or 0, 1, 2 for minus, zero, plus; the scales are kept."""
        scale, pattern = self.pattern(weight)
        self.scale.copy_(scale)
        steps = (pattern + 1) / 2 if self.threshold is None else pattern + 1
        return steps.reshape(weight.shape).int()

    def decode(self, codes: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the weights that codes stand for."""
        signs = 2 * codes - 1 if self.threshold is None else codes - 1
        return (self.scale * signs.reshape(len(self.scale), -1)).reshape(codes.shape)

    def forward(self, weight: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Round the weights; the gradient passes where their size is at most 1."""
        scale, pattern = self.pattern(weight)
        self.scale.copy_(scale)
        carrier = weight.clamp(-1, 1)
        return (scale * pattern).reshape(weight.shape) + (carrier - carrier.detach())

    def overhead_bits(self) -> dict[str, int]:
        """Return the bits of the scales."""
        return {"scales": 32 * self.scale.numel()}


@dataclass(frozen=True)
class BinarySpec:
    """Weights a sign(W), one a for each tensor, channel or group."""

    granularity: str = "channel"
    group_size: int | None = None
    bits = 1
    needs_inputs = False

    def __post_init__(self) -> None:
        _check_rows(self.granularity, self.group_size)

    def quantizer(
        self, weight: Float[Tensor, "*shape"], gram: Float[Tensor, "i i"] | None = None
    ) -> ScaledSignQuantizer:
        """Return the quantiser of a weight; inputs do not matter."""
        return ScaledSignQuantizer(weight, None, self.granularity, self.group_size)


@dataclass(frozen=True)
class TernarySpec:
    """Weights -a, 0 or a, one a for each tensor, channel or group; 0 up to ``threshold`` times their mean size."""

    threshold: float = 0.7
    granularity: str = "channel"
    group_size: int | None = None
    bits = 2
    needs_inputs = False

    def __post_init__(self) -> None:
        check_in_range(self.threshold, "threshold", low=0.0)
        _check_rows(self.granularity, self.group_size)

    def quantizer(
        self, weight: Float[Tensor, "*shape"], gram: Float[Tensor, "i i"] | None = None
    ) -> ScaledSignQuantizer:
        """Return the quantiser of a weight; inputs do not matter."""
        return ScaledSignQuantizer(weight, self.threshold, self.granularity, self.group_size)
