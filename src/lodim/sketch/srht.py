r"""The subsampled randomised Hadamard transform.

.. math:: P = \frac{1}{\sqrt{D}}\, \mathrm{diag}(\sigma)\, \big(H_L\big)_{1..D,\; c_1..c_d}, \qquad
          L = 2^{\lceil\log_2 D\rceil} ,

with random signs :math:`\sigma` on the D rows and d distinct random columns. Every entry is :math:`\pm 1/\sqrt{D}`, so
columns are exactly of unit length; they are orthogonal when D is a power of two and nearly so otherwise.

=====================  ==========================================
Symbol                 Here
=====================  ==========================================
:math:`\sigma`         ``signs`` (int8)
:math:`c`              ``columns``
:math:`L`              ``power_of_two(D)``
=====================  ==========================================

References
----------
N. Ailon, B. Chazelle, The fast Johnson-Lindenstrauss transform and approximate nearest neighbors (2009).
J. A. Tropp, Improved analysis of the subsampled randomized Hadamard transform, arXiv 1011.1595.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lodim.linalg.hadamard import hadamard_product
from lodim.sketch.base import RandomProjection, random_signs, zero_pad
from lodim.sketch.fastfood import power_of_two

__all__ = ["SRHT"]


class SRHT(RandomProjection):
    """Random columns of a Hadamard matrix under random row signs; exactly unit columns; stores D + d numbers.

    See :class:`RandomProjection` for the parameters.
    """

    kind = "srht"
    signs: Tensor
    columns: Tensor

    def _draw(self, generator: torch.Generator) -> dict[str, Tensor]:
        columns = torch.randperm(power_of_two(self.D), generator=generator)[: self.d]
        return {"signs": random_signs((self.D,), generator), "columns": columns.clone()}

    def _forward(self, v: Tensor) -> Tensor:
        spread = v.new_zeros(*v.shape[:-1], power_of_two(self.D))
        spread.index_copy_(-1, self.columns, v / self.D**0.5)
        return hadamard_product(spread)[..., : self.D] * self.signs

    def _adjoint(self, g: Tensor) -> Tensor:
        transformed = hadamard_product(zero_pad(g * self.signs, power_of_two(self.D)))
        return transformed.index_select(-1, self.columns) / self.D**0.5
