r"""Dense random matrices: Gaussian or sign entries with unit columns, and an orthonormal basis.

.. math:: P_{ij} = X_{ij} / \|X_{\cdot j}\|, \quad X_{ij} \sim N(0, 1); \qquad \text{or} \quad P = Q, \; X = QR .

The reference everything structured is compared with, at the price of storing and reading :math:`D d` numbers twice a
training step.

=====================  ==========================================
Symbol                 Here
=====================  ==========================================
:math:`P`              ``entries``, shape ``(D, d)``
:math:`X`              ``"gaussian"`` or ``"rademacher"`` numbers
=====================  ==========================================

References
----------
C. Li et al., Measuring the intrinsic dimension of objective landscapes, arXiv 1804.08838, section 2 and appendix S7.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lodim.sketch.base import Integer, RandomProjection, random_signs
from lodim.validation import check_choice, checked

__all__ = ["Dense", "DenseOrthonormal"]

LAWS = ("gaussian", "rademacher")


@checked
class Dense(RandomProjection):
    """Independent entries, each column divided by its norm over all D rows; stores D d numbers.

    The entries' ``law`` is ``"gaussian"`` or ``"rademacher"``. More than ``max_bytes`` are refused with a MemoryError.
    See :class:`RandomProjection` for the other parameters.
    """

    kind = "dense"
    entries: Tensor

    def __init__(
        self, D: Integer, d: Integer, *, law: str = "gaussian", max_bytes: int = 2 * 1024**3, **options: Any
    ) -> None:
        self.law = check_choice(law, LAWS, "law")
        self.max_bytes = max_bytes
        super().__init__(D, d, **options)

    def _draw(self, generator: torch.Generator) -> dict[str, Tensor]:
        n_bytes = self.D * self.d * self.dtype.itemsize
        if n_bytes > self.max_bytes:
            raise MemoryError(
                f"{self.kind!r} with D={self.D} and d={self.d} would store {n_bytes / 1024**3:.3g} GiB, more than "
                f"max_bytes={self.max_bytes / 1024**3:.3g} GiB; use 'fastfood' or 'countsketch', which store about D "
                "numbers, or 'dense_lazy', which stores none"
            )
        if self.law == "gaussian":
            entries = torch.randn(
                self.D, self.d, generator=generator
            )  # single precision: one stream for every dtype
        else:
            entries = random_signs((self.D, self.d), generator)
        return {"entries": self._normalise(entries.to(self.dtype))}

    def _normalise(self, entries: Tensor) -> Tensor:
        return entries.div_(torch.linalg.vector_norm(entries, dim=0, dtype=torch.float64))

    def _forward(self, v: Tensor) -> Tensor:
        return v @ self.entries.T

    def _adjoint(self, g: Tensor) -> Tensor:
        return g @ self.entries


class DenseOrthonormal(Dense):
    """Orthonormal basis of the column space of :class:`Dense`, whose parameters it takes: an exact isometry."""

    kind = "dense_orthonormal"

    def _normalise(self, entries: Tensor) -> Tensor:
        return torch.linalg.qr(entries).Q.contiguous()
