"""The kinds of layers that hold a weight, once for every method that replaces layers or reads their weights.

A weight's axes are those of its kind: ``(out, in, ...)`` of a linear layer or a convolution, ``(in, out, ...)`` of a
transposed convolution and of the GPT-2 family's linear layer, which Hugging Face calls ``Conv1D``.

A layer whose weight belongs to a method says so by a :class:`WeightOwner` in its class's ``weight_owner``, so that no
method needs to know another's classes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from torch import nn

__all__ = [
    "CONVOLUTIONS",
    "PLAIN",
    "TRANSPOSED_CONVOLUTIONS",
    "WeightOwner",
    "linear_kinds",
    "owner_of",
    "plain_kinds",
    "weight_axes",
]

# no annotations: isinstance then tells mypy which kinds
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED_CONVOLUTIONS = (
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
PLAIN = (nn.Linear, *CONVOLUTIONS)
"""Kinds of torch's whose weight is ``(out, in, ...)``."""


def _transposed_linear() -> tuple[type[nn.Module], ...]:
    kind: Any = getattr(sys.modules.get("transformers.pytorch_utils"), "Conv1D", None)
    return () if kind is None else (kind,)  # a model that has such a layer has loaded its library


def linear_kinds() -> tuple[type[nn.Module], ...]:
    """Return the linear layers: torch's, and Hugging Face's transposed one once its library is loaded."""
    return (nn.Linear, *_transposed_linear())


def plain_kinds() -> tuple[type[nn.Module], ...]:
    """Return the linear layers and the convolutions."""
    return (*linear_kinds(), *CONVOLUTIONS)


def weight_axes(layer: nn.Module) -> tuple[int, int]:
    """Return which axis of a layer's weight counts outputs, and which inputs; TypeError for other kinds of layers."""
    if isinstance(layer, PLAIN):
        return 0, 1
    if isinstance(layer, (*TRANSPOSED_CONVOLUTIONS, *_transposed_linear())):
        return 1, 0
    raise TypeError(f"a {type(layer).__name__} is no linear layer and no convolution")


@dataclass(frozen=True)
class WeightOwner:
    """A method that a layer's weight belongs to.

    ``state`` is what holds of the weight, e.g. ``"has adapters, which read its weight"``; ``release`` what to do before
    another method takes it.
    """

    method: str
    state: str
    release: str


def owner_of(module: nn.Module) -> WeightOwner | None:
    """Return the method that a module's weight belongs to (its ``weight_owner``), or None."""
    owner = getattr(module, "weight_owner", None)
    return owner if isinstance(owner, WeightOwner) else None
