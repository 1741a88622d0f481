r"""Very sparse signs: the sparse random projection of the intrinsic-dimension experiments.

.. math:: X_{ij} = \pm 1 \text{ with probability } p = 1/\sqrt{D}, \text{ else } 0; \qquad
          P_{ij} = X_{ij} / \|X_{\cdot j}\| .

About :math:`d\sqrt{D}` numbers instead of :math:`D d`. The non-zeros are drawn as a Bernoulli process (geometric gaps)
over the columns laid end to end, so the cost is that of the non-zeros alone.

**Layout.** Rows have very few non-zeros (:math:`d/\sqrt{D}` on average), columns many. For :math:`Pv` the rows are
sorted by their number of non-zeros, and the k-th non-zeros of all rows form layer k, which covers a prefix of the
sorted rows ("jagged diagonals"): a few gathers and prefix sums. For :math:`P^\top g` each column lists its rows, padded
to the longest list. Both are plain gathers: deterministic, the same on every device, and faster than a compressed-row
product, which pays for each of the D nearly empty rows.

=======================  ==============================================================
Symbol                   Here
=======================  ==============================================================
layers of :math:`X`      ``columns`` (plus d where the sign is negative), ``layer_sizes``
sorted rows              row i is at ``places[i]``
:math:`X^\top`           ``rows``, ``signs`` of shape ``(d, longest)``; padding has sign 0
:math:`\|X_{\cdot j}\|`  ``norms``
:math:`p`                ``density``
=======================  ==============================================================

References
----------
P. Li, T. Hastie, K. Church, Very sparse random projections (2006).
C. Li et al., Measuring the intrinsic dimension of objective landscapes, arXiv 1804.08838, appendix S7.
Departures: one density for the whole model (the authors' code takes one for each layer; ``density`` is a parameter); a
column that came out empty, which has no direction, is given one entry at a random row.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lodim.sketch.base import Integer, RandomProjection, index_dtype, random_signs, zero_pad
from lodim.validation import check_in_range, checked

__all__ = ["Sparse"]


@checked
class Sparse(RandomProjection):
    """Entries are signs with probability ``density``, columns have exactly unit length.

    ``density`` lies in (0, 1] and is ``1/sqrt(D)`` by default. See :class:`RandomProjection` for the other parameters.
    """

    kind = "sparse"
    columns: Tensor
    places: Tensor
    rows: Tensor
    signs: Tensor
    norms: Tensor

    def __init__(self, D: Integer, d: Integer, *, density: float | None = None, **options: Any) -> None:
        if density is not None and check_in_range(density, "density", high=1.0) <= 0:
            raise ValueError(f"density must be above 0 and at most 1, got {density}")
        self.density = density
        super().__init__(D, d, **options)

    def _draw(self, generator: torch.Generator) -> dict[str, Tensor]:
        where = self._fill_empty_columns(self._positions(generator), generator)
        column, row = where // self.D, where % self.D
        sign = random_signs(tuple(where.shape), generator)
        return self._layers(column, row, sign) | self._lists(column, row, sign)

    def _layers(self, column: Tensor, row: Tensor, sign: Tensor) -> dict[str, Tensor]:
        """The k-th non-zeros of the rows that have so many, for products with P."""
        by_row = torch.argsort(row.to(index_dtype(self.D)), stable=True)
        entries = (column + self.d * (sign < 0)).to(index_dtype(2 * self.d))[by_row]
        counts = torch.bincount(row, minlength=self.D)
        sorted_rows = torch.argsort(counts.to(index_dtype(self.D)), descending=True, stable=True)
        starts = (counts.cumsum(0) - counts)[sorted_rows]
        sizes = counts.numel() - torch.bincount(counts).cumsum(0)[:-1]  # rows with more than k non-zeros
        layers = [entries[starts[:size] + k] for k, size in enumerate(sizes.tolist())]
        self.layer_sizes = sizes.tolist()
        places = torch.empty_like(sorted_rows).index_copy_(0, sorted_rows, torch.arange(self.D))
        return {"columns": torch.cat(layers), "places": places.to(index_dtype(self.D))}

    def _lists(self, column: Tensor, row: Tensor, sign: Tensor) -> dict[str, Tensor]:
        """The rows of each column, for products with the transpose."""
        counts = torch.bincount(column, minlength=self.d)
        shape = (self.d, int(counts.max()))
        slot = column * shape[1] + _ranks(counts)
        rows = torch.zeros(shape, dtype=index_dtype(self.D))
        rows.view(-1)[slot] = row.to(rows.dtype)
        signs = torch.zeros(shape, dtype=torch.int8)
        signs.view(-1)[slot] = sign
        return {"rows": rows, "signs": signs, "norms": counts.to(self.dtype).sqrt()}

    def _positions(self, generator: torch.Generator) -> Tensor:
        """Ascending positions of the non-zeros in the columns laid end to end."""
        total = self.D * self.d
        p = self.D**-0.5 if self.density is None else self.density
        if p == 1:
            return torch.arange(total)
        expected = total * p
        enough = int(expected + 10 * math.sqrt(expected) + 10)
        uniform = 1 - torch.rand(enough, generator=generator, dtype=torch.float64)
        gaps = 1 + (uniform.log() / math.log1p(-p)).long()
        positions = gaps.cumsum(0) - 1
        if positions[-1] < total:  # pragma: no cover - ten standard deviations
            raise RuntimeError("the sparse projection drew too few gaps; choose another seed")
        return positions[positions < total]

    def _fill_empty_columns(self, positions: Tensor, generator: torch.Generator) -> Tensor:
        empty = (torch.bincount(positions // self.D, minlength=self.d) == 0).nonzero().flatten()
        if not len(empty):
            return positions
        rows = torch.randint(0, self.D, (len(empty),), generator=generator)
        return torch.cat((positions, empty * self.D + rows)).sort().values

    def _forward(self, v: Tensor) -> Tensor:
        unit = v / self.norms
        entries = torch.cat((unit, -unit), -1).index_select(-1, self.columns)
        first, *others = entries.split(self.layer_sizes, -1)
        total = zero_pad(first, self.D)
        for layer in others:
            total[..., : layer.shape[-1]] += layer
        return total.index_select(-1, self.places)

    def _adjoint(self, g: Tensor) -> Tensor:
        listed = g.index_select(-1, self.rows.flatten()).unflatten(-1, self.rows.shape)
        return (listed * self.signs.to(g.dtype)).sum(-1) / self.norms


def _ranks(counts: Tensor) -> Tensor:
    """0, 1, .. within each of consecutive groups of these sizes."""
    starts = counts.cumsum(0) - counts
    return torch.arange(int(counts.sum())) - torch.repeat_interleave(starts, counts)
