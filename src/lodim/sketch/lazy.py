r"""Dense maps that store nothing of size D d: blocks of rows are regenerated in every product.

``dense_lazy`` has independent Gaussian (or sign) entries and columns of unit length in expectation,
:math:`P_{ij} = X_{ij}/\sqrt{D}`. ``ams`` has signs :math:`P_{ij} = \sigma_j(i)/\sqrt{D}`, four-wise
independent over the rows of a column, which is all that the second moments of a tug-of-war sketch need; its columns
have exactly unit length, and ``scale="isotropic"`` gives the usual :math:`\pm 1/\sqrt{d}`.

Entries are functions of seed, row and column (:mod:`lodim.sketch.hashing`), so a block never depends on the size of the
blocks or on the device. Memory is that of one block; time is D d hashes a product, the price of storing nothing.

=====================  ==========================================
Symbol                 Here
=====================  ==========================================
:math:`X, \sigma`      rows ``[start, stop)`` from ``_block``
:math:`\sigma_j`       bits ``keys[:, j]``
=====================  ==========================================

References
----------
N. Alon, Y. Matias, M. Szegedy, The space complexity of approximating the frequency moments (1996).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lodim.sketch.base import Integer, RandomProjection
from lodim.sketch.dense import LAWS
from lodim.sketch.hashing import FIELD_BITS, bch_keys, hashed_normals, hashed_signs
from lodim.validation import check_choice, check_in_range, checked

__all__ = ["AMS", "DenseLazy"]


class _Lazy(RandomProjection):
    """Both products over blocks of rows of at most ``block_numbers`` entries."""

    def __init__(self, D: Integer, d: Integer, *, block_numbers: int = 2**21, **options: Any) -> None:
        self.block_numbers = check_in_range(block_numbers, "block_numbers", low=1, integer=True)
        super().__init__(D, d, **options)
        check_in_range(self.D, "D", high=2**FIELD_BITS - 1)

    def _block(self, rows: Tensor) -> Tensor:
        """Entries +-1 or standard normal of these rows, shape ``(len(rows), d)``."""
        raise NotImplementedError

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        step = max(1, self.block_numbers // self.d)
        for start in range(0, self.D, step):
            part = slice(start, min(start + step, self.D))
            yield part, self._block(torch.arange(part.start, part.stop, device=self.device)).to(self.dtype)

    def _forward(self, v: Tensor) -> Tensor:
        v = v / self.D**0.5
        return torch.cat([v @ block.T for _, block in self._blocks()], -1)

    def _adjoint(self, g: Tensor) -> Tensor:
        result = g.new_zeros(*g.shape[:-1], self.d)
        for part, block in self._blocks():
            result += g[..., part] @ block
        return result / self.D**0.5


@checked
class DenseLazy(_Lazy):
    """A dense random matrix regenerated block by block from its seed; stores 4 numbers.

    The entries' ``law`` is ``"gaussian"`` or ``"rademacher"``; ``block_numbers`` are generated at a time, which changes
    memory and speed, not the map. See :class:`RandomProjection` for the other parameters.
    """

    kind = "dense_lazy"
    seeds: Tensor

    def __init__(self, D: Integer, d: Integer, *, law: str = "gaussian", **options: Any) -> None:
        self.law = check_choice(law, LAWS, "law")
        super().__init__(D, d, **options)

    def _draw(self, generator: torch.Generator) -> dict[str, Tensor]:
        return {"seeds": torch.randint(0, 2**31, (2, 2), generator=generator)}

    def _block(self, rows: Tensor) -> Tensor:
        hashed = hashed_normals if self.law == "gaussian" else hashed_signs
        return hashed(rows, self.d, self.seeds)


class AMS(_Lazy):
    """Tug-of-war signs, four-wise independent in every column and independent between columns; stores about 60 d bits.

    See :class:`DenseLazy` for ``block_numbers``, :class:`RandomProjection` for the other parameters.
    """

    kind = "ams"
    keys: Tensor
    flips: Tensor

    def _row_bits(self) -> int:
        return max(1, (self.D - 1).bit_length())

    def _draw(self, generator: torch.Generator) -> dict[str, Tensor]:
        shape = (1 + self._row_bits() + FIELD_BITS, self.d)
        bits = torch.randint(0, 2, shape, generator=generator, dtype=torch.int8)
        return {"flips": bits[0], "keys": bits[1:].contiguous()}

    def _block(self, rows: Tensor) -> Tensor:
        counts = bch_keys(rows, self._row_bits()) @ self.keys.float() + self.flips
        return 1 - 2 * counts.remainder_(2)
