"""Which layers are made sparse, and along which axis of their weights."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from lodim.nets import find_layers
from lodim.nets.kinds import plain_kinds, weight_axes
from lodim.nets.layers import LayerFilter
from lodim.validation import check_choice

__all__ = ["FEED_FORWARD", "axis_of", "sparse_layers", "weight_axis"]

FEED_FORWARD = (
    r"(.*\.)?(fc1|fc2|lin1|lin2|linear1|linear2|wi|wi_0|wi_1|wo|gate_proj|up_proj|down_proj|mlp\.c_fc|mlp\.c_proj"
    r"|intermediate\.dense|(?<!attention\.)output\.dense)"
)
"""The two or three feed-forward layers of a transformer's block, as the usual libraries call them."""


def sparse_layers(
    model: nn.Module, targets: LayerFilter = FEED_FORWARD, exclude: LayerFilter = ()
) -> dict[str, nn.Module]:
    """Return the linear and convolutional layers that ``targets`` chooses (:func:`lodim.nets.find_layers`)."""
    return find_layers(model, targets, kinds=plain_kinds(), exclude=exclude)


def weight_axis(weight: Tensor, dim: str | int) -> int:
    """Return the axis of a weight (out, in, ...) along which groups run: 1 for "in", 0 for "out", or a number."""
    if isinstance(dim, str):
        check_choice(dim, ("in", "out"), "dim")
        dim = int(dim == "in")
    if not -weight.ndim <= dim < weight.ndim:
        raise ValueError(f"a weight of shape {tuple(weight.shape)} has no axis {dim} for groups to run along")
    return dim % weight.ndim


def axis_of(layer: nn.Module, dim: str) -> int:
    """Return the axis of a layer's weight that ``dim``, "in" or "out", means."""
    weight: Any = layer.weight
    axis = weight_axis(weight, dim)
    return axis if weight_axes(layer) == (0, 1) else 1 - axis
