r"""Weights rounded to a table of levels a row, the table linear in a few numbers: :class:`LevelQuantizer`.

.. math:: \hat w = \ell_{r,q}, \qquad \ell_r = m_r B, \qquad q = \arg\min_k |w - \ell_{r,k}|,

for a weight w in row r. B is fixed; the coefficients m are stored, and trained if one likes: the gradient of a level is
the sum of its members'. Which m and B: :mod:`~lodim.landscape.quantization.nonuniform`.

Source: A. Gholami et al., arXiv 2103.13630, Section III.F.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lodim.validation import check_choice

__all__ = ["LevelQuantizer", "as_rows", "nearest_level"]


class LevelQuantizer(nn.Module):
    """Weights rounded to the nearest of their row's levels; gradients pass straight through and reach the levels.

    Parameters
    ----------
    coefficients : Tensor, shape (rows, k)
        m: trainable.
    basis : Tensor, shape (k, levels)
        B.
    coefficient_bits : int
        What one stored coefficient takes.
    """

    def __init__(
        self, coefficients: Float[Tensor, "rows k"], basis: Float[Tensor, "k levels"], coefficient_bits: int
    ) -> None:
        super().__init__()
        self.coefficients = nn.Parameter(coefficients.clone())
        self.register_buffer("basis", basis.to(coefficients))
        self.basis: Tensor
        self.coefficient_bits = coefficient_bits

    @property
    def code_range(self) -> tuple[int, int]:
        """Smallest and largest code."""
        return 0, self.basis.shape[1] - 1

    def levels(self) -> Float[Tensor, "rows levels"]:
        """Each row's levels, in the codes' order."""
        return self.coefficients @ self.basis

    @torch.no_grad()
    def codes(self, weight: Float[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        """Return the index of each weight's level."""
        rows = weight.reshape(len(self.coefficients), -1)
        return nearest_level(rows, self.levels()).reshape(weight.shape).int()

    @torch.no_grad()
    def decode(self, codes: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the weights that codes stand for."""
        rows = codes.reshape(len(self.coefficients), -1).long()
        return self.levels().gather(1, rows).reshape(codes.shape)

    def forward(self, weight: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Round the weights; the gradient reaches those within the levels' range, and the coefficients."""
        rows = weight.reshape(len(self.coefficients), -1)
        levels = self.levels()
        values = levels.gather(1, nearest_level(rows.detach(), levels.detach()))
        low, high = levels.detach().aminmax(dim=1, keepdim=True)
        through = torch.minimum(torch.maximum(rows, low), high)
        return (values + (through - through.detach())).reshape(weight.shape)

    def overhead_bits(self) -> dict[str, int]:
        """Return the bits of the coefficients."""
        return {"codebooks": self.coefficient_bits * self.coefficients.numel()}


def as_rows(
    weight: Float[Tensor, "*shape"], granularity: str, group_size: int | None = None
) -> Float[Tensor, "rows n"]:
    """View a weight as the rows that share one table.

    Parameters
    ----------
    weight : Tensor
        Output channels (or an embedding's entries) along the first axis.
    granularity : {"tensor", "channel", "group"}
    group_size : int, optional
        Neighbouring weights of one channel that form a group; must divide the channel's length.

    Raises
    ------
    ValueError
        Unknown granularity, or a group size that does not divide.
    """
    check_choice(granularity, ("tensor", "channel", "group"), "granularity")
    if granularity == "tensor":
        return weight.reshape(1, -1)
    if granularity == "channel":
        return weight.reshape(len(weight), -1)
    n = weight.numel() // max(len(weight), 1)
    if group_size is None or group_size < 1 or n % group_size:
        raise ValueError(f"group_size must divide a channel's {n} weights, got {group_size}")
    return weight.reshape(-1, group_size)


def nearest_level(
    rows: Float[Tensor, "rows n"], levels: Float[Tensor, "rows levels"]
) -> Int[Tensor, "rows n"]:
    """Index of the level nearest to each entry, ties downwards.

    Parameters
    ----------
    levels : Tensor, shape (rows, levels)
        In any order.
    """
    ordered, order = levels.sort(dim=1)
    middles = (ordered[:, 1:] + ordered[:, :-1]) / 2
    return order.gather(1, torch.searchsorted(middles.contiguous(), rows.contiguous()))
