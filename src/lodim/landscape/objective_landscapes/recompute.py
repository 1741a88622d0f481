"""Gradient checkpointing under produced weights.

Activations that are recomputed in the backward pass must be recomputed with the weights of the forward pass. Those are
handed to the module for the duration of its forward only, so the recomputation, which comes later, would find the
frozen origin instead. :class:`Recompute` remembers them and puts them in place again while a block is recomputed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn

__all__ = ["Recompute"]


class Recompute:
    """The ``context_fn`` of :func:`torch.utils.checkpoint.checkpoint` for a module with produced weights.

    Attributes
    ----------
    weights : mapping of str to Tensor, or None
        Those of the forward that is under way.
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
        """Switch checkpointing on in a module of the transformers library.

        Parameters
        ----------
        options : mapping, optional
            For :func:`torch.utils.checkpoint.checkpoint`.

        Raises
        ------
        TypeError
            The module has no ``gradient_checkpointing_enable``.
        ValueError
            The reentrant variant, which knows no gradient of weights that are produced.
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
