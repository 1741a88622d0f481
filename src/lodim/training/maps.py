r"""Rows of weights from the numbers that replicas train, and gradients back: :math:`\Theta_r = \theta_{0,r} + P_r v_r`.

Replicas whose maps are alike and whose d agree form one group, whose products are done at once. Three kinds:

- no map (direct training): :math:`\theta_0 + v`;
- :class:`~lodim.sketch.Cyclic`, the default projection: with signs S reshaped to (q, d) both products are a
  multiplication and, backwards, a sum over q;
- anything else: one product a replica, by the projection's own ``adjoint`` if it has one, by autograd otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lodim.sketch import Cyclic

__all__ = ["MapRows", "group_rows"]


class _DirectRows:
    """Rows theta0 + v.

    As in every kind, ``write`` puts the weights of (m, d) numbers into rows that are at least D wide, and ``adjoint``
    turns gradients of those rows, which it may overwrite, into gradients of the numbers last written.
    """

    def __init__(self, theta0: Float[Tensor, "m D"]) -> None:
        self.theta0 = theta0

    def write(self, v: Tensor, theta: Tensor) -> None:
        torch.add(self.theta0, v, out=theta[:, : self.theta0.shape[1]])

    def adjoint(self, grad: Tensor) -> Tensor:
        return grad[:, : self.theta0.shape[1]]


class _CyclicRows:
    """Rows of a cyclic projection, padded to a multiple of d with zeros that stay zero."""

    def __init__(self, theta0: Float[Tensor, "m D"], maps: Sequence[Cyclic]) -> None:
        first = maps[0]
        D, d, q = first.D, first.d, len(first.signs)
        shape = (len(maps), q, d)
        self.signs = theta0.new_zeros(shape)
        self.theta0 = theta0.new_zeros(shape)
        for row, projection in enumerate(maps):
            self.signs[row] = projection.signs
        self.signs.mul_((first.factor / first.norms.double()).to(theta0))
        self.signs.view(len(maps), -1)[:, D:] = 0
        self.theta0.view(len(maps), -1)[:, :D] = theta0

    def _dealt(self, rows: Tensor) -> Tensor:
        q, d = self.signs.shape[1:]
        return rows[:, : q * d].unflatten(1, (q, d))

    def write(self, v: Tensor, theta: Tensor) -> None:
        torch.addcmul(self.theta0, self.signs, v.unsqueeze(1), out=self._dealt(theta))

    def adjoint(self, grad: Tensor) -> Tensor:
        return self._dealt(grad).mul_(self.signs).sum(1)


class _AnyRows:
    """Rows of arbitrary maps, one after the other."""

    def __init__(self, theta0: Float[Tensor, "m D"], maps: Sequence[Callable[[Tensor], Tensor]]) -> None:
        self.theta0, self.maps = theta0, list(maps)
        self.graphs: list[tuple[Tensor, Tensor]] = []

    def write(self, v: Tensor, theta: Tensor) -> None:
        D = self.theta0.shape[1]
        self.graphs = []
        for row, function in enumerate(self.maps):
            if hasattr(function, "adjoint"):
                moved = function(v[row])
            else:
                with torch.enable_grad():
                    leaf = v[row].detach().clone().requires_grad_()
                    self.graphs.append((leaf, function(leaf)))
                moved = self.graphs[-1][1].detach()
            torch.add(self.theta0[row], moved, out=theta[row, :D])

    def adjoint(self, grad: Tensor) -> Tensor:
        D, graphs = self.theta0.shape[1], iter(self.graphs)
        rows = []
        for row, function in enumerate(self.maps):
            if hasattr(function, "adjoint"):
                rows.append(function.adjoint(grad[row, :D]))
            else:
                leaf, moved = next(graphs)
                rows.append(torch.autograd.grad(moved, leaf, grad[row, :D])[0])
        return torch.stack(rows)


MapRows = _DirectRows | _CyclicRows | _AnyRows


def group_rows(theta0: Sequence[Tensor], maps: Sequence[Any], sizes: Sequence[int]) -> list[MapRows]:
    """Group neighbouring replicas, each with its own d in ``sizes``, whose maps can be applied at once.

    The groups cover the replicas in their order; see :func:`group_lengths` for how many each.
    """
    groups: list[MapRows] = []
    start = 0
    for length in group_lengths(maps, sizes):
        rows = torch.stack(list(theta0[start : start + length]))
        chosen = list(maps[start : start + length])
        if chosen[0] is None:
            groups.append(_DirectRows(rows))
        elif isinstance(chosen[0], Cyclic):
            groups.append(_CyclicRows(rows, chosen))
        else:
            groups.append(_AnyRows(rows, chosen))
        start += length
    return groups


def group_lengths(maps: Sequence[Any], sizes: Sequence[int]) -> list[int]:
    """Return the numbers of neighbouring replicas that form one group each."""
    keys = [
        (m.scale if isinstance(m, Cyclic) else m is None, d, isinstance(m, Cyclic))
        for m, d in zip(maps, sizes, strict=True)
    ]
    lengths: list[int] = []
    for position, key in enumerate(keys):
        if position and key == keys[position - 1]:
            lengths[-1] += 1
        else:
            lengths.append(1)
    return lengths
