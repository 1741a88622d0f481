r"""CountSketch and sparse embeddings: every row has one (or s) random signs.

**CountSketch.** Each row :math:`i` is hashed to a column :math:`c(i)` with a sign :math:`\sigma(i)`:

.. math:: (Pv)_i = \sigma(i)\, v_{c(i)} / \sqrt{n_{c(i)}}, \qquad
          (P^\top g)_j = \textstyle\sum_{i : c(i) = j} \sigma(i)\, g_i / \sqrt{n_j} .

The rows are permuted and dealt out evenly (group sizes differ by at most one), so no column is empty and the columns
are exactly orthonormal. That is the cyclic map behind a random permutation of the rows: the adjoint gathers through it,
which unlike a scatter-add is deterministic on every device.

**Sparse embedding.** The s blocks of columns are independent CountSketches side by side: s non-zeros a row, each in its
own block, columns of unit length and orthogonal inside a block.

=====================  ==================================================================
Symbol                 Here
=====================  ==================================================================
:math:`c, \sigma`      ``table``: ``c(i)``, plus d where the sign is negative
rows of group j        ``rows[j::d]``, their signs ``signs[:, j]``
:math:`s`              ``s`` of :class:`SparseEmbedding`
=====================  ==================================================================

References
----------
M. Charikar, K. Chen, M. Farach-Colton, Finding frequent items in data streams (2004).
D. M. Kane, J. Nelson, Sparser Johnson-Lindenstrauss transforms, arXiv 1012.1577 (the block construction).
Departure: balanced groups instead of independent hashing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from lodim.randomness import derive_seed
from lodim.sketch.base import Integer, RandomProjection, index_dtype
from lodim.sketch.cyclic import dealt_signs, sums_of_groups
from lodim.validation import check_in_range, checked

__all__ = ["CountSketch", "SparseEmbedding"]


class CountSketch(RandomProjection):
    """Each row holds one random sign in a random column, groups of even size; exactly orthonormal columns.

    See :class:`RandomProjection` for the parameters. Cost D; stores 3D small numbers.
    """

    kind = "countsketch"
    signs: Tensor
    norms: Tensor
    rows: Tensor
    table: Tensor

    def _draw(self, generator: torch.Generator) -> dict[str, Tensor]:
        rows = torch.randperm(self.D, generator=generator)
        dealt = dealt_signs(self.D, self.d, self.dtype, generator)
        column = torch.arange(self.D) % self.d
        entry = column + self.d * (dealt["signs"].flatten()[: self.D] < 0)
        dtype = index_dtype(2 * self.D)
        table = torch.empty_like(entry).index_copy_(0, rows, entry)
        return dealt | {"rows": rows.to(dtype), "table": table.to(dtype)}

    def _forward(self, v: Tensor) -> Tensor:
        unit = v / self.norms
        return torch.cat((unit, -unit), -1).index_select(-1, self.table)

    def _adjoint(self, g: Tensor) -> Tensor:
        if (
            g.ndim == 1 and g.device.type == "cpu"
        ):  # in order there, so as deterministic as gathering, and faster
            return self._sums(g, self.table) / self.norms
        return sums_of_groups(self.signs, g.index_select(-1, self.rows)) / self.norms

    @torch.no_grad()
    def add_to(self, origin: Float[Tensor, " D"], v: Float[Tensor, " d"]) -> Float[Tensor, " D"]:
        """Return ``origin + P v`` without a derivative, the sum taken in place."""
        return self(v).add_(origin) if origin.dtype == v.dtype else origin + self(v)

    def adjoint_parts(self, parts: Sequence[Tensor]) -> Float[Tensor, "parts d"]:
        """Return ``P_i^T g_i`` for consecutive parts i of the D rows; their sum is ``adjoint(g)``, at the same cost."""
        tables = self.table.split([len(part) for part in parts])
        sums = torch.stack([self._sums(part.to(self.dtype), table) for part, table in zip(parts, tables)])
        return (sums * (self.factor / self.norms)).to(parts[0].dtype)

    def _sums(self, g: Tensor, table: Tensor) -> Tensor:
        """Signed sums of some rows by column."""
        both = g.new_zeros(2 * self.d).index_add_(0, table, g)
        return both[: self.d] - both[self.d :]


@checked
class SparseEmbedding(RandomProjection):
    """Each row holds ``s`` random signs, one in each of ``s`` blocks of columns; ``s=1`` is a CountSketch.

    By default ``s`` is 4, or d if that is less. See :class:`RandomProjection` for the other parameters.
    """

    kind = "sparse_embedding"

    def __init__(self, D: Integer, d: Integer, *, s: Integer | None = None, **options: Any) -> None:
        self.s = (
            min(4, int(d)) if s is None else int(check_in_range(s, "s", low=1, high=int(d), integer=True))
        )
        super().__init__(D, d, **options)

    def _store(self, device: torch.device | str | None) -> None:
        sizes = [self.d // self.s + (k < self.d % self.s) for k in range(self.s)]
        self.blocks = torch.nn.ModuleList(
            CountSketch(
                self.D,
                size,
                seed=derive_seed(self.seed, self.kind, k, self.round),
                dtype=self.dtype,
                device=device,
            )
            for k, size in enumerate(sizes)
        )

    def _sketches(self) -> list[CountSketch]:
        return cast(list[CountSketch], list(self.blocks))

    def _forward(self, v: Tensor) -> Tensor:
        parts = v.split([block.d for block in self._sketches()], -1)
        total = self._sketches()[0]._forward(parts[0])
        for block, part in zip(self._sketches()[1:], parts[1:]):
            total += block._forward(part)
        return total

    def _adjoint(self, g: Tensor) -> Tensor:
        return torch.cat([block._adjoint(g) for block in self._sketches()], -1)
