r"""Grids that are not uniform: powers of two, sums of powers of two, codebooks, and combinations of signs.

The problem: trained weights crowd round zero, so equally spaced levels spend most of their codes where few weights
are. Every grid here is a small table of levels for each row r of weights, and the table is linear in a few numbers:

.. math:: \hat w = \ell_{r,q}, \qquad \ell_r = m_r B, \qquad q = \arg\min_k |w - \ell_{r,k}|,

with B fixed and the coefficients :math:`m_r` stored, and trained if one likes.

================================= ================================================ ==================================
Grid                              coefficients m, table B                          name here
================================= ================================================ ==================================
logarithmic                       one scale; 0 and :math:`\pm 2^{-e}`              :class:`PowerOfTwoSpec`
additive powers of two            one scale; 0 and sums of n such terms            :class:`PowerOfTwoSpec`, ``terms``
codebook (Lloyd-Max, k-means)     the levels themselves; the identity              :class:`CodebookSpec`
:math:`w \approx \sum_i m_i b_i`  m; all :math:`2^b` sign patterns                 :class:`BinaryCodeSpec`
================================= ================================================ ==================================

A codebook minimises :math:`\sum_i h_i (w_i - \hat w_i)^2` with :math:`h_i = 1` or the second derivative of the layer's
squared error, the mean square of the input that :math:`w_i` multiplies. It is the global optimum (dynamic programme).
Sign combinations start greedily (:math:`b_i` the sign of what is left, :math:`m_i` its mean size) and alternate
between the best m for given signs and the best signs for given m; no step raises the error.

Sources: A. Gholami et al., arXiv 2103.13630, Section III.F; additive powers of two Y. Li et al., arXiv 1909.13144,
equations 5 to 8; alternating sign codes C. Xu et al., arXiv 1802.00150. Departures: the scales are fitted by least
squares rather than learnt from the start, and a last term that has fewer bits than the others is cut short.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lodim.landscape.code_lengths import quantize_codebook
from lodim.landscape.quantization.levels import LevelQuantizer, as_rows, nearest_level
from lodim.validation import check_choice, check_in_range

__all__ = [
    "BinaryCodeSpec",
    "CodebookSpec",
    "PowerOfTwoSpec",
    "binary_code",
    "codebook_levels",
    "fit_scale",
    "power_of_two_levels",
    "sign_patterns",
]

_MOST_BITS = 8  # tables of 2**bits levels are searched
_SHRINKS = 33  # scales tried between the largest weight's and a fifth of it
_REFITS = 8
_FLOOR = 1e-4  # least weight of an entry whose input never fires, as a share of the mean


def power_of_two_levels(bits: int, terms: int = 1) -> Float[Tensor, " levels"]:
    r"""Zero and plus or minus sums of ``terms`` powers of two, the largest scaled to 1.

    One bit is the sign; the others are dealt out to the terms. A term of k bits is 0 or one of
    :math:`2^{-i}, 2^{-i-n}, \dots, 2^{-i-(2^k-2)n}` for the i-th of n terms. Multiplying by a level is n shifts.

    Parameters
    ----------
    bits : int
        2 to 8.
    terms : int
        n; 1 is the logarithmic grid, ``(bits - 1) / 2`` the additive one the paper recommends.

    Returns
    -------
    Tensor, shape (2**bits - 1,)
        Double precision, increasing, symmetric about 0.

    Raises
    ------
    ValueError
        Bits outside 2 to 8; more terms than bits to share.

    Notes
    -----
    Source: Y. Li et al., arXiv 1909.13144, equations 5 and 8.
    """
    check_in_range(bits, "bits", low=2, high=_MOST_BITS, integer=True)
    check_in_range(terms, "terms", low=1, high=bits - 1, integer=True)
    share = -(-(bits - 1) // terms)
    sums, left = torch.zeros(1, dtype=torch.float64), bits - 1
    for i in range(terms):
        term_bits = min(share, left - (terms - 1 - i))
        left -= term_bits
        exponents = i + terms * torch.arange(2**term_bits - 1, dtype=torch.float64)
        choices = torch.cat([torch.zeros(1, dtype=torch.float64), 2.0**-exponents])
        sums = (sums[:, None] + choices[None]).reshape(-1)
    positive = sums.unique()[1:]
    positive = positive / positive[-1]
    return torch.cat([-positive.flip(0), torch.zeros(1, dtype=torch.float64), positive])


def fit_scale(rows: Float[Tensor, "rows n"], base: Float[Tensor, " levels"]) -> Float[Tensor, "rows 1"]:
    """Each row's scale S that brings S times the base levels near it in least squares.

    The scales from the row's largest weight down to a fifth of it are tried, then the best alternates between nearest
    levels and the best scale for them, which never raises the error.

    Parameters
    ----------
    base : Tensor, shape (levels,)
        Largest size 1.

    Returns
    -------
    Tensor, shape (rows, 1)
        1 for a row of zeros.
    """
    largest = rows.abs().amax(dim=1, keepdim=True)
    largest = torch.where(largest > 0, largest, torch.ones_like(largest))
    best, least = largest, torch.full_like(largest, float("inf"))
    for shrink in torch.linspace(1.0, 0.2, _SHRINKS).tolist():
        scale = largest * shrink
        error = (rows - _snap(rows, scale, base)).square().sum(dim=1, keepdim=True)
        best, least = torch.where(error < least, scale, best), torch.minimum(error, least)
    for _ in range(_REFITS):
        levels = _snap(rows, best, base) / best
        power = levels.square().sum(dim=1, keepdim=True)
        fitted = (rows * levels).sum(dim=1, keepdim=True) / power.clamp_min(1e-30)
        best = torch.where((power > 0) & (fitted > 0), fitted, best)
    return best


def _snap(rows: Tensor, scale: Tensor, base: Tensor) -> Tensor:
    levels = scale * base
    return levels.gather(1, nearest_level(rows, levels))


def codebook_levels(
    rows: Float[Tensor, "rows n"], n_levels: int, weights: Float[Tensor, "rows n"] | None = None
) -> Float[Tensor, "rows n_levels"]:
    """Each row's least-squares codebook, in half precision.

    Parameters
    ----------
    weights : Tensor, shape (rows, n), optional
        Positive.

    Returns
    -------
    Tensor, shape (rows, n_levels)
        Increasing; a row with fewer distinct weights repeats its last level.

    Notes
    -----
    See :func:`lodim.landscape.quantize_codebook`.
    """
    array = rows.detach().cpu().double().numpy()
    mass = None if weights is None else weights.detach().cpu().double().numpy()
    books = []
    for i, row in enumerate(array):
        book = quantize_codebook(row, n_levels, weights=None if mass is None else mass[i]).codebook
        books.append(np.pad(book.astype(np.float32), (0, n_levels - len(book)), mode="edge"))
    return torch.as_tensor(np.stack(books)).to(rows)


def sign_patterns(bits: int) -> Float[Tensor, "bits levels"]:
    """All combinations of ``bits`` signs, one a column."""
    counts = torch.arange(2**bits)
    return torch.stack([1.0 - 2.0 * ((counts >> i) & 1) for i in range(bits)])


def binary_code(
    rows: Float[Tensor, "rows n"], bits: int, n_iterations: int = 20
) -> Float[Tensor, "rows bits"]:
    r"""Coefficients :math:`m_i` of the sign code :math:`w \approx \sum_i m_i b_i` of each row.

    Parameters
    ----------
    bits : int
        1 to 8.
    n_iterations : int
        Alternations after the greedy start; 0 leaves it.

    Returns
    -------
    Tensor, shape (rows, bits)
        The signs are those of the nearest of the :math:`2^b` sums (:func:`sign_patterns`).

    Raises
    ------
    ValueError
        Bits outside 1 to 8.

    Notes
    -----
    Source: arXiv 1802.00150, Algorithms 1 and 2.
    """
    check_in_range(bits, "bits", low=1, high=_MOST_BITS, integer=True)
    w = rows.detach().double()
    left, sizes = w, []
    for _ in range(bits):
        sizes.append(left.abs().mean(dim=1, keepdim=True))
        left = left - torch.where(left < 0, -sizes[-1], sizes[-1])
    m, patterns = torch.cat(sizes, dim=1), sign_patterns(bits).to(w)
    for _ in range(n_iterations):
        signs = patterns.T[nearest_level(w, m @ patterns)]  # (rows, n, bits)
        gram = signs.mT @ signs
        m = (torch.linalg.pinv(gram, hermitian=True) @ (signs.mT @ w[..., None]))[..., 0]
    return m.to(rows)


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

    @property
    def needs_inputs(self) -> bool:
        """Whether the quantiser is fitted to the layer's inputs."""
        return self.weighting == "inputs"

    def quantizer(
        self, weight: Float[Tensor, "*shape"], gram: Float[Tensor, "i i"] | None = None
    ) -> LevelQuantizer:
        """Fit the codebooks of a weight.

        Parameters
        ----------
        gram : Tensor, shape (i, i), optional
            Second moments of the layer's inputs, for ``weighting="inputs"``.

        Raises
        ------
        ValueError
            The weighting needs second moments that are not given.
        """
        rows, mass = as_rows(weight.detach(), self.granularity, self.group_size), None
        if self.weighting == "inputs":
            if gram is None:
                raise ValueError("weighting='inputs' needs the layer's inputs; pass calibration data")
            power = gram.diagonal() + _FLOOR * gram.diagonal().mean()
            mass = power.to(weight).expand(len(weight), -1).reshape(rows.shape)
        levels = codebook_levels(rows, 2**self.bits, mass)
        return LevelQuantizer(levels, torch.eye(2**self.bits), coefficient_bits=16)


@dataclass(frozen=True)
class PowerOfTwoSpec:
    """Weights rounded to a scale times sums of powers of two: multiplying is shifting.

    Attributes
    ----------
    bits : int
        2 to 8.
    terms : int
        Shifts a weight: 1 is the logarithmic grid.
    granularity : {"tensor", "channel", "group"}
    """

    bits: int = 4
    terms: int = 1
    granularity: str = "channel"
    group_size: int | None = None
    needs_inputs = False

    def __post_init__(self) -> None:
        power_of_two_levels(self.bits, self.terms)

    def quantizer(
        self, weight: Float[Tensor, "*shape"], gram: Float[Tensor, "i i"] | None = None
    ) -> LevelQuantizer:
        """Fit the scales of a weight.

        Parameters
        ----------
        gram : Tensor, optional
            Not used.
        """
        base = power_of_two_levels(self.bits, self.terms).to(weight)
        scale = fit_scale(as_rows(weight.detach(), self.granularity, self.group_size), base)
        return LevelQuantizer(scale, base[None], coefficient_bits=32)


@dataclass(frozen=True)
class BinaryCodeSpec:
    r"""Weights as sums of signs, :math:`w \approx \sum_{i=1}^b m_i b_i` with b numbers m for each row.

    Attributes
    ----------
    bits : int
        1 to 8; 1 is the binary network's weight.
    granularity : {"tensor", "channel", "group"}
    """

    bits: int = 3
    granularity: str = "channel"
    group_size: int | None = None
    needs_inputs = False

    def __post_init__(self) -> None:
        check_in_range(self.bits, "bits", low=1, high=_MOST_BITS, integer=True)

    def quantizer(
        self, weight: Float[Tensor, "*shape"], gram: Float[Tensor, "i i"] | None = None
    ) -> LevelQuantizer:
        """Fit the coefficients of a weight.

        Parameters
        ----------
        gram : Tensor, optional
            Not used.
        """
        rows = as_rows(weight.detach(), self.granularity, self.group_size)
        return LevelQuantizer(binary_code(rows, self.bits), sign_patterns(self.bits), coefficient_bits=32)
