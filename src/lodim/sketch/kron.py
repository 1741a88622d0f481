r"""Rounded double Kronecker product: two small orthonormal factors stand for one large map.

.. math:: P = \sqrt{\tfrac{M}{D}}\; \big[\Pi\,(Q_1 \otimes Q_2)\big]_{1..D,\;1..d}, \qquad
          Q_k \in \mathbb{R}^{m_k \times r_k},\; Q_k^\top Q_k = I,\; M = m_1 m_2 \ge D,\; r_1 r_2 \ge d ,

with :math:`m_1 = \lceil\sqrt{D}\rceil`, :math:`r_1 = \lceil\sqrt{d}\rceil`, and :math:`m_2, r_2` the least that fit.
Since :math:`(Q_1 \otimes Q_2)\,\mathrm{vec}(V) = \mathrm{vec}(Q_1 V Q_2^\top)` a product costs two small
matrix products and a gather. Columns are orthonormal up to the rows cut off (exactly if :math:`M = D`), of unit length
in expectation.

=====================  ==================================================
Symbol                 Here
=====================  ==================================================
:math:`Q_1, Q_2`       ``left``, ``right`` (``left`` carries the scale)
:math:`\Pi`            ``rows``, its inverse ``places`` (D: cut off)
=====================  ==================================================

References
----------
S. Lotfi et al., PAC-Bayes compression bounds so tight that they can explain generalization, arXiv 2211.13609,
section 4. Departure: the second factor is cut to the least height and width that fit.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lodim.sketch.base import RandomProjection, index_dtype, zero_pad

__all__ = ["Kronecker"]


class Kronecker(RandomProjection):
    """Permuted rows of a Kronecker product of two orthonormal bases; stores about 2D + 2 sqrt(D d) numbers.

    See :class:`RandomProjection` for the parameters.
    """

    kind = "kron"
    left: Tensor
    right: Tensor
    rows: Tensor
    places: Tensor

    def _draw(self, generator: torch.Generator) -> dict[str, Tensor]:
        m1, r1 = _ceil_sqrt(self.D), _ceil_sqrt(self.d)
        m2, r2 = -(-self.D // m1), -(-self.d // r1)
        M = m1 * m2
        left = torch.linalg.qr(torch.randn(m1, r1, generator=generator, dtype=torch.float64)).Q
        right = torch.linalg.qr(torch.randn(m2, r2, generator=generator, dtype=torch.float64)).Q
        rows = torch.randperm(M, generator=generator)[: self.D]
        places = torch.full((M,), self.D).index_copy_(0, rows, torch.arange(self.D))
        dtype = index_dtype(M + 1)
        return {
            "left": (left * math.sqrt(M / self.D)).to(self.dtype),
            "right": right.to(self.dtype),
            "rows": rows.to(dtype),
            "places": places.to(dtype),
        }

    def _forward(self, v: Tensor) -> Tensor:
        core = zero_pad(v, self.left.shape[1] * self.right.shape[1])
        V = core.unflatten(-1, (self.left.shape[1], self.right.shape[1]))
        return (self.left @ V @ self.right.T).flatten(-2).index_select(-1, self.rows)

    def _adjoint(self, g: Tensor) -> Tensor:
        unpermuted = zero_pad(g, self.D + 1).index_select(-1, self.places)
        G = unpermuted.unflatten(-1, (self.left.shape[0], self.right.shape[0]))
        return (self.left.T @ G @ self.right).flatten(-2)[..., : self.d]


def _ceil_sqrt(n: int) -> int:
    return math.isqrt(n - 1) + 1
