r"""A module's parameters as one vector :math:`\theta \in \mathbb{R}^D`, and back.

:func:`flat_spec` writes down where each parameter lies in the vector; :meth:`FlatSpec.flatten` and
:meth:`FlatSpec.unflatten` go both ways, and :meth:`FlatSpec.call` runs the module at any vector without touching its
own parameters. The split is one operation, whose derivative is one concatenation; views by slices would instead fill
D zeros for every parameter.

Tied parameters (one tensor under several names) lie in the vector once, under their first name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from lodim.validation import checked

__all__ = ["FlatSpec", "ParameterFilter", "flat_spec", "only_eager"]

ParameterFilter = Callable[[str, Tensor], bool]


@dataclass(frozen=True)
class FlatSpec:
    """Where each of a module's parameters lies in the flat vector.

    Attributes
    ----------
    names : tuple of str
        In the vector's order.
    offsets : tuple of int
        Index of each parameter's first number.
    numel : int
        D, the length of the vector.
    dtypes : tuple of torch.dtype
        The vector has their common type; :meth:`unflatten` returns each parameter's own where they differ.
    tied : bool
        Whether some parameter of the module has more than one name.
    aliases : tuple of pairs of str
        Further places of tied parameters, each with the first name: ``("head.weight", "embedding.weight")``. A layer
        that stands in several places is one place.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    offsets: tuple[int, ...]
    numel: int
    dtypes: tuple[torch.dtype, ...]
    tied: bool = False
    aliases: tuple[tuple[str, str], ...] = ()

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many numbers each parameter has."""
        ends = (*self.offsets[1:], self.numel)
        return tuple(end - start for start, end in zip(self.offsets, ends, strict=True))

    @property
    def layout_hash(self) -> str:
        """A hash of names and shapes: vectors may be exchanged between modules whose hashes agree."""
        text = repr(list(zip(self.names, self.shapes, strict=True)))
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def flatten(self, module: nn.Module) -> Float[Tensor, " D"]:
        """Return a copy of the parameters of a module of this layout as one vector."""
        parameters = dict(module.named_parameters())
        return torch.cat([parameters[name].detach().reshape(-1) for name in self.names])

    def unflatten(self, flat: Float[Tensor, "*batch D"]) -> dict[str, Tensor]:
        """Return views of the vector, one a parameter, differentiable; another length than D is a ValueError.

        Leading axes stay in front of each parameter's shape.
        """
        if flat.shape[-1] != self.numel:
            raise ValueError(f"the parameters are {self.numel} numbers, got a vector of {flat.shape[-1]}")
        parts = flat.split(self.sizes, dim=-1)
        views = [part.reshape(*flat.shape[:-1], *shape) for part, shape in zip(parts, self.shapes)]
        if len(set(self.dtypes)) > 1:
            views = [view.to(dtype) for view, dtype in zip(views, self.dtypes)]
        return dict(zip(self.names, views))

    def assign(self, module: nn.Module, flat: Float[Tensor, " D"]) -> None:
        """Write the vector's numbers into the parameters of a module of this layout."""
        parameters = dict(module.named_parameters())
        with torch.no_grad():
            for name, view in self.unflatten(flat).items():
                parameters[name].copy_(view)

    def everywhere(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights under every name that :func:`torch.func.functional_call` must exchange.

        Its own ``tie_weights`` exchanges the weights of a shared layer once a name, and so puts back what it took in
        second: the module would keep the given tensors.
        """
        return {**weights, **{alias: weights[name] for alias, name in self.aliases}}

    def call(
        self,
        module: nn.Module,
        flat: Float[Tensor, " D"],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run a module of this layout with these numbers as its parameters; buffers stay its own, and live."""
        weights = self.everywhere(self.unflatten(flat))
        return functional_call(module, weights, tuple(args), dict(kwargs or {}), tie_weights=False)


@checked
def flat_spec(module: nn.Module, params: ParameterFilter | None = None) -> FlatSpec:
    """Lay out a module's parameters in one vector.

    ``params(name, tensor) -> bool`` chooses; by default every parameter that requires a gradient.

    Raises
    ------
    ValueError
        No parameter is left, or one is lazy (its shape not known yet).
    TypeError
        A parameter is complex or not a floating-point tensor.
    """
    choose = params or (lambda name, tensor: tensor.requires_grad)
    chosen = {}
    for name, tensor in module.named_parameters():
        if isinstance(tensor, nn.parameter.UninitializedParameter):
            raise ValueError(f"parameter {name!r} is lazy, its shape not known yet; run one forward first")
        if choose(name, tensor):
            chosen[name] = tensor
    for name, tensor in chosen.items():
        if not tensor.is_floating_point():
            raise TypeError(
                f"parameter {name!r} is {tensor.dtype}; only real floating-point ones are supported"
            )
    if not chosen:
        raise ValueError(
            "the module has no trainable parameter to lay out (all frozen, or none passes the filter)"
        )
    offsets, total = [], 0
    for tensor in chosen.values():
        offsets.append(total)
        total += tensor.numel()
    first_name = {id(tensor): name for name, tensor in chosen.items()}
    aliases = [
        (name, first_name[id(tensor)])
        for path, layer in module.named_modules()  # a shared layer comes once
        for name, tensor in layer.named_parameters(path, recurse=False, remove_duplicate=False)
        if first_name.get(id(tensor), name) != name
    ]
    every_name = sum(1 for _ in module.named_parameters(remove_duplicate=False))
    return FlatSpec(
        names=tuple(chosen),
        shapes=tuple(tuple(tensor.shape) for tensor in chosen.values()),
        offsets=tuple(offsets),
        numel=total,
        dtypes=tuple(tensor.dtype for tensor in chosen.values()),
        tied=every_name != len(list(module.parameters())),
        aliases=tuple(aliases),
    )


def only_eager() -> bool:
    """Return whether neither a compiler nor a transform of ``torch.func`` is at work."""
    return not (torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active())
