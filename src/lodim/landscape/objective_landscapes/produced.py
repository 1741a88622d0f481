r"""Producing weights tensor by tensor: :math:`\theta_i = \theta_{0,i} + (\Lambda P v)_i` for all i, and gradients back.

What a step in a subspace costs beyond the network's own is memory traffic over D numbers. As one flat vector the
weights are written twice (the move, then its sum with the origin), and their gradients once more when they are joined.
Here the sum is taken in place, and each tensor's gradient goes to its own :math:`P_i^\top g_i`, so that neither is.

Used where the map offers products by parts (``adjoint_parts``: the cyclic map and CountSketch) and nothing but plain
differentiation is asked for; everything else goes through the flat vector.

**Gradient checkpointing.** Activations that are recomputed in the backward pass must be recomputed with the weights of
the forward pass. Those are handed to the module for the duration of its forward only, so the recomputation, which comes
later, would find the frozen origin instead. :class:`Recompute` remembers them and puts them in place again while a
block is recomputed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lodim.landscape.objective_landscapes.structure import StructureAware
from lodim.nets import FlatSpec
from lodim.nets.flat import only_eager

__all__ = ["Recompute", "produce", "without_autocast"]


def produce(P: Any, x: Float[Tensor, " d"], theta0: Float[Tensor, " D"], spec: FlatSpec) -> dict[str, Tensor]:
    """Return the weights by name, differentiable in the trained numbers x; P is a random or a structure-aware map."""
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


class Recompute:
    """The ``context_fn`` of :func:`torch.utils.checkpoint.checkpoint` for a module with produced weights.

    ``weights`` are those of the forward that is under way.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.weights: Mapping[str, Tensor] | None = None

    def __call__(self) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        """Return the contexts of the forward (nothing) and of the recomputation (the weights of now)."""
        if self.weights is None:
            return nullcontext(), nullcontext()
        return nullcontext(), _in_place(self.module, self.weights)

    def enable(self, options: Mapping[str, Any] | None) -> None:
        """Switch checkpointing on in a module of the transformers library, with options for ``checkpoint``.

        TypeError for a module without it; ValueError for the reentrant variant, which knows no gradient of produced
        weights.
        """
        switch: Any = getattr(self.module, "gradient_checkpointing_enable", None)
        if switch is None:
            raise TypeError(
                f"a {type(self.module).__name__} has no gradient_checkpointing_enable; in a module of your own call "
                "torch.utils.checkpoint.checkpoint(..., use_reentrant=False, context_fn=subspace.recompute)"
            )
        given = dict(options or {})
        if given.setdefault("use_reentrant", False):
            raise ValueError("checkpointing of produced weights needs use_reentrant=False")
        switch(gradient_checkpointing_kwargs={**given, "context_fn": self})


@contextmanager
def _in_place(module: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Let the module's parameters be these tensors; tied ones under all of their names."""
    own = dict(module.named_parameters())
    by_identity = {id(own[name]): tensor for name, tensor in weights.items()}
    changed = []
    for layer in module.modules():
        for name, parameter in layer._parameters.items():
            if parameter is not None and id(parameter) in by_identity:
                changed.append((layer, name, parameter))
    for layer, name, parameter in changed:
        layer._parameters[name] = by_identity[id(parameter)]  # type: ignore[assignment]
    try:
        yield
    finally:
        for layer, name, parameter in changed:
            layer._parameters[name] = parameter
