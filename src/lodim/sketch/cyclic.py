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

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lodim.sketch.base import RandomProjection, random_signs

__all__ = ["Cyclic"]

_BLOCK = 2**16  # numbers


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
        if v.ndim == 1 and _in_blocks(v):
            return self._by_blocks(v / self.norms, None)
        dealt = _signed(self.signs, (v / self.norms).unsqueeze(-2))
        return dealt.flatten(-2)[..., : self.D]

    def _adjoint(self, g: Tensor) -> Tensor:
        return sums_of_groups(self.signs, g) / self.norms

    def _by_blocks(self, unit: Tensor, origin: Tensor | None) -> Tensor:
        """The product with a vector divided by the columns' norms, added to an origin while it is in the cache."""
        dealt, start = unit.new_empty(self.signs.shape), 0
        flat = dealt.flatten()[: self.D]
        for signs, rows in zip(_blocks(self.signs), _blocks(dealt)):
            rows.copy_(signs)
            stop = start + rows.numel()
            if origin is None:
                rows.mul_(unit)
            elif stop <= self.D:  # a product with a sign is exact, so the sum is rounded once either way
                torch.addcmul(origin[start:stop].view_as(rows), rows, unit, out=rows)
            else:
                rows.mul_(unit)
                flat[start:].add_(origin[start:])
            start = stop
        return flat

    @torch.no_grad()
    def add_to(self, origin: Float[Tensor, " D"], v: Float[Tensor, " d"]) -> Float[Tensor, " D"]:
        """Return ``origin + P v`` (of one dtype) without a derivative, in one pass over memory on a CPU."""
        if origin.dtype == v.dtype == self.dtype and _in_blocks(v):
            return self._by_blocks(v * self.factor / self.norms, origin)
        return origin + self(v)

    def adjoint_parts(self, parts: Sequence[Tensor]) -> Float[Tensor, "parts d"]:
        """Return ``P_i^T g_i`` for consecutive parts i of the D rows; their sum is ``adjoint(g)``, at the same cost."""
        found, start = parts[0].new_zeros(len(parts), self.d, dtype=self.dtype), 0
        flat = self.signs.flatten()
        for sums, given in zip(found, parts):
            part = given.to(self.dtype)
            head = min(-start % self.d, len(part))  # up to the next row of the dealt signs
            stop = start + len(part)
            if head:
                sums[start % self.d : start % self.d + head] = flat[start : start + head] * part[:head]
            if head < len(part):
                first = (start + head) // self.d
                sums += sums_of_groups(self.signs[first : -(-stop // self.d)], part[head:])
            start = stop
        return (found * (self.factor / self.norms)).to(parts[0].dtype)


def dealt_signs(D: int, d: int, dtype: torch.dtype, generator: torch.Generator) -> dict[str, Tensor]:
    """Draw a sign for each of D rows dealt to d columns in turn, on the CPU.

    Beside ``signs``, int8 of shape (ceil(D/d), d), are the columns' ``norms`` of this dtype, shape (d,): the square
    roots of the groups' sizes.
    """
    full, extra = divmod(D, d)  # the first `extra` groups have one row more
    sizes = full + (torch.arange(d) < extra)
    return {"signs": random_signs((full + (extra > 0), d), generator), "norms": sizes.to(dtype).sqrt()}


def sums_of_groups(signs: Tensor, g: Tensor) -> Tensor:
    """Sum the entries of g, shape (..., D), in each group, with signs: entry k belongs to group ``k mod d``."""
    d = signs.shape[1]
    full = g.shape[-1] // d
    whole, rest = g.split((full * d, g.shape[-1] - full * d), -1)
    dealt = whole.unflatten(-1, (full, d))
    if g.ndim == 1 and full and _in_blocks(g):
        sums = g.new_zeros(d)
        for block, rows in zip(_blocks(signs[:full]), _blocks(dealt)):
            sums += _signed(block, rows).sum(-2)
    else:
        sums = _signed(signs[:full], dealt).sum(-2)
    if rest.shape[-1]:
        sums[..., : rest.shape[-1]] += signs[full, : rest.shape[-1]] * rest
    return sums


def _in_blocks(x: Tensor) -> bool:
    """Whether to compute block by block, which spares a processor's memory; a compiler fuses by itself."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def _blocks(x: Tensor) -> tuple[Tensor, ...]:
    """Rows in blocks that stay in a processor's cache."""
    return x.split(max(_BLOCK // x.shape[1], 1))


def _signed(signs: Tensor, x: Tensor) -> Tensor:
    """``signs * x``; casting the int8 signs first and multiplying in place is twice as fast as the mixed product."""
    cast = signs.to(x.dtype)
    return cast.mul_(x) if x.ndim == 2 else cast * x
