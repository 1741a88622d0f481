r"""Structure-aware directions: every layer's share of a random move gets a factor of its own, trained and paid for.

**Problem.** A random direction moves all layers of a network by amounts that only their sizes decide. Which layer a
task needs to move is worth knowing, and cheap to say: with :math:`\theta_i` the weights of layer i,

.. math:: \theta_i = \theta_{0,i} + \lambda_i \, (P v)_i, \qquad i = 1..m, \qquad
          \theta^{(d)} = (v, \lambda), \quad v \in \mathbb{R}^{d-m}.

The m factors are taken from the d numbers, not added to them. Their gradients come from those of the weights,

.. math:: \frac{\partial L}{\partial \lambda_i} = \Big\langle \frac{\partial L}{\partial \theta_i}, (P v)_i
          \Big\rangle, \qquad
          \frac{\partial L}{\partial v} = P^\top \Big( \lambda_i \frac{\partial L}{\partial \theta_i} \Big)_{i=1..m} .

At the start v = 0 and :math:`\lambda = 1`: the gradient of :math:`\lambda` is zero, that of v is not: training moves.
From :math:`\lambda = 0` it never would.

==============================  ===============================================================
Symbol                          Here
==============================  ===============================================================
:math:`\theta^{(d)}`            ``SubspaceModule.theta_d``, the numbers that training changes
v                               its first d - m entries
:math:`\lambda`                 ``1 + rate * mu`` with :math:`\mu` its last m entries, zero at first
m                               ``StructureAware.m``
==============================  ===============================================================

Source: A. Aghajanyan, L. Zettlemoyer, S. Gupta, Intrinsic dimensionality explains the effectiveness of language model
fine-tuning, arXiv 2012.13255, Section 3.1 (SAID). Departures: one P over all weights instead of one a tensor
(``per_tensor=True`` gives that); :math:`\lambda` is trained through :math:`\mu`, whose unit ``rate`` sets its learning
rate against that of v in every optimiser whose step does not depend on the gradient's size.

**Tensor by tensor** (:func:`produce`). What a step in a subspace costs beyond the network's own is memory traffic over
D numbers. As one flat vector the weights are written twice (the move, then its sum with the origin), and their
gradients once more when they are joined. Here the sum is taken in place, and each tensor's gradient goes to its own
:math:`P_i^\top g_i`, so that neither is.

Used where the map offers products by parts (``adjoint_parts``: the cyclic map and CountSketch) and nothing but plain
differentiation is asked for; everything else goes through the flat vector.

**Gradient checkpointing.** Activations that are recomputed in the backward pass must be recomputed with the weights of
the forward pass. Those are handed to the module for the duration of its forward only, so the recomputation, which comes
later, would find the frozen origin instead. :class:`Recompute` remembers them and puts them in place again while a
block is recomputed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lodim.nets import FlatSpec
from lodim.nets.flat import only_eager
from lodim.validation import check_choice

__all__ = ["Grouping", "Recompute", "StructureAware", "group_tensors", "produce", "without_autocast"]

Grouping = bool | str | Callable[[str], str] | None


def group_tensors(said: Grouping, names: Sequence[str]) -> tuple[str, ...]:
    """Return the group of each tensor whose factor it shares.

    Parameters
    ----------
    said : {"tensor", "layer"}, True or callable
        ``"tensor"`` (or True): each parameter tensor by itself. ``"layer"``: all tensors of one block of a stack, i.e.
        the name up to its first number (``encoder.layer.3``), or the module's name outside of stacks. Or a function
        from a parameter's name to its group's.
    names : sequence of str
        Of the parameters.

    Examples
    --------
    >>> group_tensors("layer", ["embed.weight", "block.0.query.weight", "block.0.query.bias", "block.1.out.bias"])
    ('embed', 'block.0', 'block.0', 'block.1')
    """
    if callable(said):
        return tuple(str(said(name)) for name in names)
    kind = "tensor" if said is True else check_choice(said, ("tensor", "layer"), "said")
    return tuple(names) if kind == "tensor" else tuple(_layer(name) for name in names)


def _layer(name: str) -> str:
    found = re.match(r"(.*?\.)?\d+(?=\.)", name)
    return found.group(0) if found else name.rpartition(".")[0] or name


class StructureAware(nn.Module):
    """The map :math:`(v, \\mu) \\mapsto (\\lambda_i (P v)_i)`; linear in v and in :math:`\\lambda`, not in both.

    ``projection`` is P, from d - m to D numbers; ``d`` counts the factors, too; ``groups`` are their names.
    """

    def __init__(self, projection: Any, spec: FlatSpec, said: Grouping, rate: float) -> None:
        super().__init__()
        named = group_tensors(said, spec.names)
        self.projection: Any = projection
        self.groups = tuple(dict.fromkeys(named))
        self.sizes, self.owner = spec.sizes, tuple(self.groups.index(g) for g in named)
        self.D, self.m = spec.numel, len(self.groups)
        self.d = projection.d + self.m
        self.rate = float(rate)

    @property
    def kind(self) -> str:
        """Kind of P."""
        return self.projection.kind

    @property
    def scale(self) -> str:
        """Scale of P."""
        return self.projection.scale

    @property
    def round(self) -> int:
        """The counter of :meth:`reseed`."""
        return self.projection.round

    @property
    def seed(self) -> int:
        """Seed of P."""
        return self.projection.seed

    @seed.setter
    def seed(self, value: int) -> None:
        self.projection.seed = value

    def reseed(self, round: int) -> StructureAware:
        """Draw another P, see :meth:`lodim.sketch.RandomProjection.reseed`."""
        self.projection.reseed(round)
        return self

    @property
    def structure(self) -> str:
        """The grouping and the factors' unit, as a short text that differs where they do."""
        text = repr((self.groups, self.owner))
        return f"{self.m} factors, rate {self.rate:g}, {hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"

    def fingerprint(self) -> str:
        """A hash of the numbers drawn for P."""
        return self.projection.fingerprint()

    def split(self, x: Float[Tensor, "*batch d"]) -> tuple[Tensor, Tensor]:
        """Return v, shape (..., d - m), and the factors lambda, shape (..., m)."""
        v, mu = x.split((self.d - self.m, self.m), dim=-1)
        return v, 1 + self.rate * mu

    def scales(self, x: Float[Tensor, " d"]) -> dict[str, float]:
        """Return the factors by the names of their groups."""
        return dict(zip(self.groups, self.split(x.detach())[1].tolist()))

    def forward(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch D"]:
        """Return ``lambda_i (P v)_i`` for x = (v, mu)."""
        if x.ndim == 1 and only_eager():
            return _ScaledMoves.apply(x, self)
        return self.by_tensors(x)

    def by_tensors(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch D"]:
        """Return the same as :meth:`forward` by plain operations, for batches and higher derivatives."""
        v, scales = self.split(x)
        moves = self.projection(v).split(self.sizes, dim=-1)
        return torch.cat([move * scales[..., k, None] for move, k in zip(moves, self.owner)], dim=-1)

    @torch.no_grad()
    def add_to(self, origin: Float[Tensor, " D"], x: Float[Tensor, " d"]) -> Float[Tensor, " D"]:
        """Return the origin plus the move, without a derivative."""
        if origin.dtype != x.dtype:
            return origin + self(x)
        v, scales = self.split(x)
        moves, factors = self.projection(v), scales.tolist()
        for start, move, k in zip(origin.split(self.sizes), moves.split(self.sizes), self.owner):
            torch.add(start, move, alpha=factors[k], out=move)
        return moves

    @torch.no_grad()
    def pull_back(self, x: Float[Tensor, " d"], parts: Sequence[Tensor]) -> Float[Tensor, " d"]:
        """Return the gradient of the trained numbers at x from those of the tensors' weights, each flat."""
        v, scales = self.split(x)
        owner = torch.tensor(self.owner, device=x.device)
        by_parts = getattr(self.projection, "adjoint_parts", None)
        if by_parts is not None:  # rows P_i^T g_i: their products with v and with lambda are both gradients
            rows = by_parts(parts)
            products, of_v = rows @ v, scales[owner] @ rows
        else:
            moves = self.projection(v)
            pairs = list(zip(moves.split(self.sizes), parts, self.owner))
            products = torch.stack([torch.dot(move, part) for move, part, _ in pairs])
            for move, part, k in pairs:
                torch.mul(part, scales[k], out=move)
            of_v = self.projection.adjoint(moves)
        of_scales = torch.zeros_like(scales).index_add_(0, owner, products)
        return torch.cat([of_v, self.rate * of_scales])


class _ScaledMoves(torch.autograd.Function):
    """The same in one pass over D numbers each way; nothing of length D is kept."""

    @staticmethod
    def forward(x: Tensor, structure: StructureAware) -> Tensor:
        v, scales = structure.split(x)
        moves = structure.projection(v)
        for move, k in zip(moves.split(structure.sizes), structure.owner):
            move.mul_(scales[k])
        return moves

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, ctx.structure = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,), structure = ctx.saved_tensors, ctx.structure
        if torch.is_grad_enabled():  # a derivative of this derivative is wanted
            return torch.autograd.grad(structure.by_tensors(x), x, grads[0], create_graph=True)[0], None
        return structure.pull_back(x, grads[0].split(structure.sizes)), None


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
