r"""Signs on rows dealt to columns in turn: the cheapest orthonormal map.

Row :math:`i` belongs to column :math:`i \bmod d` and holds one number, a random sign over the square root of the
column's size :math:`n_j`. Reshaped to ``(q, d)`` with :math:`q = \lceil D/d \rceil` this needs no index at all:

.. math:: P v = \mathrm{vec}(S \odot v)_{1..D}, \qquad P^\top g = \textstyle\sum_{k=1}^{q} S_{k\cdot} \odot G_{k\cdot}.

=====================  ==========================================
Symbol                 Here
=====================  ==========================================
:math:`S`              ``signs`` (int8) divided by ``norms``
:math:`q`              ``len(signs)``
:math:`G`              ``g`` reshaped to ``(q, d)``
=====================  ==========================================

Columns are exactly orthonormal. The groups are fixed, only signs are random: :math:`\mathbb{E}\,PP^\top = I` under
``scale="isotropic"`` holds exactly when d divides D (otherwise the diagonal is :math:`D / (d\,n_j)`), and
an adversarial vector can fill one group; for sketching use ``countsketch``.

References
----------
M. Charikar, K. Chen, M. Farach-Colton, Finding frequent items in data streams (2004), for CountSketch, of which this
is the variant with fixed groups.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lodim.sketch.base import RandomProjection, random_signs

__all__ = ["Cyclic"]


class Cyclic(RandomProjection):
    """Row ``i`` is a signed copy of entry ``i mod d``; exactly orthonormal columns, cost D, stores D signs.

    See :class:`RandomProjection` for the parameters.
    """

    kind = "cyclic"
    signs: Tensor
    norms: Tensor

    def _draw(self, generator: torch.Generator) -> dict[str, Tensor]:
        return dealt_signs(self.D, self.d, self.dtype, generator)

    def _forward(self, v: Tensor) -> Tensor:
        dealt = _signed(self.signs, (v / self.norms).unsqueeze(-2))
        return dealt.flatten(-2)[..., : self.D]

    def _adjoint(self, g: Tensor) -> Tensor:
        return sums_of_groups(self.signs, g) / self.norms


def dealt_signs(D: int, d: int, dtype: torch.dtype, generator: torch.Generator) -> dict[str, Tensor]:
    """Draw a sign for each of D rows dealt to d columns in turn; with them, the columns' norms.

    Parameters
    ----------
    D, d : int
    dtype : torch.dtype
        Of the norms.
    generator : torch.Generator
        On the CPU.

    Returns
    -------
    dict
        ``signs``, int8 of shape (ceil(D/d), d), and ``norms``, the square roots of the groups' sizes, shape (d,).
    """
    full, extra = divmod(D, d)  # the first `extra` groups have one row more
    sizes = full + (torch.arange(d) < extra)
    return {"signs": random_signs((full + (extra > 0), d), generator), "norms": sizes.to(dtype).sqrt()}


def sums_of_groups(signs: Tensor, g: Tensor) -> Tensor:
    """Sum the entries of each group, with signs: entry k belongs to group ``k mod d``.

    Parameters
    ----------
    signs : int8 Tensor, shape (ceil(D/d), d)
    g : Tensor, shape (..., D)

    Returns
    -------
    Tensor, shape (..., d)
    """
    d = signs.shape[1]
    full = g.shape[-1] // d
    whole, rest = g.split((full * d, g.shape[-1] - full * d), -1)
    sums = _signed(signs[:full], whole.unflatten(-1, (full, d))).sum(-2)
    if rest.shape[-1]:
        sums[..., : rest.shape[-1]] += signs[full, : rest.shape[-1]] * rest
    return sums


def _signed(signs: Tensor, x: Tensor) -> Tensor:
    """``signs * x``; casting the int8 signs first and multiplying in place is twice as fast as the mixed product."""
    cast = signs.to(x.dtype)
    return cast.mul_(x) if x.ndim == 2 else cast * x
