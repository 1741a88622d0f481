r"""Producing weights tensor by tensor: :math:`\theta_i = \theta_{0,i} + (\Lambda P v)_i` for all i, and gradients back.

What a step in a subspace costs beyond the network's own is memory traffic over D numbers. As one flat vector the
weights are written twice (the move, then its sum with the origin), and their gradients once more when they are joined.
Here the sum is taken in place, and each tensor's gradient goes to its own :math:`P_i^\top g_i`, so that neither is.

Used where the map offers products by parts (``adjoint_parts``: the cyclic map and CountSketch) and nothing but plain
differentiation is asked for; everything else goes through the flat vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lodim.landscape.objective_landscapes.structure import StructureAware, only_eager
from lodim.nets import FlatSpec

__all__ = ["produce", "without_autocast"]


def produce(P: Any, x: Float[Tensor, " d"], theta0: Float[Tensor, " D"], spec: FlatSpec) -> dict[str, Tensor]:
    """Return the weights by name, differentiable in the trained numbers.

    Parameters
    ----------
    P : RandomProjection or StructureAware
    x : Tensor, shape (d,)
        The trained numbers.
    theta0 : Tensor, shape (D,)
        The origin.
    """
    inner = P.projection if isinstance(P, StructureAware) else P
    if not (only_eager() and hasattr(inner, "adjoint_parts")) or len(set(spec.dtypes)) > 1:
        return spec.unflatten((theta0 + P(x)).to(theta0.dtype))
    parts = _Produced.apply(x, theta0, P, spec.sizes)
    return {name: part.view(shape) for name, part, shape in zip(spec.names, parts, spec.shapes)}


class _Produced(torch.autograd.Function):
    """All tensors' weights from the trained numbers."""

    @staticmethod
    def forward(x: Tensor, theta0: Tensor, P: Any, sizes: Sequence[int]) -> tuple[Tensor, ...]:
        weights = P.add_to(theta0, x) if hasattr(P, "add_to") else theta0 + P(x)
        return tuple(weights.to(theta0.dtype).split(tuple(sizes)))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, _, ctx.P, _ = inputs
        ctx.round = ctx.P.round
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        P = ctx.P
        if P.round != ctx.round:
            raise RuntimeError(
                "the projection was reseeded between forward and backward; call backward first"
            )
        parts = [grad.to(x.dtype) for grad in grads]
        if torch.is_grad_enabled():  # a derivative of this derivative is wanted
            return _differentiable(P, x, torch.cat(parts)), None, None, None
        found = P.pull_back(x, parts) if isinstance(P, StructureAware) else P.adjoint_parts(parts).sum(0)
        return found, None, None, None


def _differentiable(P: Any, x: Tensor, grad: Tensor) -> Tensor:
    if not isinstance(P, StructureAware):
        return P.adjoint(grad)
    (found,) = torch.autograd.grad(P.by_tensors(x), x, grad, create_graph=True)
    return found


def without_autocast(device_type: str) -> AbstractContextManager[Any]:
    """Switch autocast off where it is on: produced weights are rounded by the layers that use them, not before."""
    if torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()
