r"""Which layers feed which: pairs with nothing between that would forbid moving a positive factor across.

A function with :math:`f(s x) = s f(x)` for every :math:`s > 0` (ReLU and its leaky relatives, pooling, dropout in
evaluation, flattening) lets a factor pass from one layer's output to the next one's input. :func:`find_links` traces
the module symbolically (``torch.fx``) and walks from each layer through such operations, as long as each value has one
reader only, to the next layer.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from lodim.nets.layers import peculiarity

__all__ = ["LAYERS", "Link", "find_links", "reads_rows", "trace_graph"]

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)

_AXES_KEPT = (nn.Linear, nn.BatchNorm1d, nn.LayerNorm, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.ELU)

_MODULES: dict[str, tuple[type[nn.Module], ...]] = {
    "relu": (nn.ReLU,),
    "identity": (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
    "average": (
        *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
        *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    ),
    "leaky": (nn.LeakyReLU, nn.PReLU),
    "maximum": (
        *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
        *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    ),
}
_FUNCTIONS: dict[Any, str] = {
    torch.relu: "relu",
    F.relu: "relu",
    F.leaky_relu: "leaky",
    F.dropout: "identity",
    F.max_pool1d: "maximum",
    F.max_pool2d: "maximum",
    F.max_pool3d: "maximum",
    F.avg_pool1d: "average",
    F.avg_pool2d: "average",
    F.adaptive_avg_pool1d: "average",
    F.adaptive_avg_pool2d: "average",
}


@dataclass(frozen=True)
class Link:
    """Names of a layer and of the layer that alone reads its output, and the kinds of the operations between, in order.

    The kinds are "relu", "leaky", "identity", "average", "maximum" and "flatten".
    """

    first: str
    second: str
    between: tuple[str, ...] = ()


def trace_graph(model: nn.Module) -> fx.Graph:
    """Trace a module symbolically; ValueError where its forward branches on values."""
    try:
        return fx.Tracer().trace(model)
    except Exception as error:  # fx passes on whatever the forward raised at a proxy
        raise ValueError(
            f"the forward of {type(model).__name__} cannot be traced ({error}); name the pairs of layers yourself, or "
            "leave this step out"
        ) from error


def find_links(model: nn.Module, readers: tuple[type[nn.Module], ...] = LAYERS) -> list[Link]:
    """Return every linear or convolutional layer that one layer of the kinds ``readers`` alone reads, in their order.

    Layers that are called more than once, share their weight with another, compute it from other parameters, or have a
    forward or hooks of their own are left out.

    Raises
    ------
    ValueError
        The module cannot be traced.
    """
    modules = dict(model.named_modules())
    graph = trace_graph(model)
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    owners = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))

    def usable(name: Any) -> bool:
        layer = modules[name]
        kind = next((kind for kind in LAYERS if isinstance(layer, kind)), type(layer))
        plain = not layer._forward_hooks if kind not in LAYERS else peculiarity(layer, kind) is None
        return plain and calls[name] == 1 and owners[id(getattr(layer, "weight", None))] < 2

    links = []
    for node in graph.nodes:
        if node.op == "call_module" and isinstance(modules[node.target], LAYERS) and usable(node.target):
            found = _follow(node, modules, readers)
            if found is not None and usable(found.second):
                links.append(found)
    return links


def reads_rows(graph: fx.Graph, name: str, modules: dict[str, nn.Module]) -> bool:
    """Whether the graph shows that a layer's input has two axes: it was flattened, and what follows keeps its axes."""
    node = next(node for node in graph.nodes if node.op == "call_module" and node.target == name)
    while node.all_input_nodes:
        node = node.all_input_nodes[0]
        if _kind(node, modules) == "flatten":
            return True
        if node.op == "call_method" and node.target in ("view", "reshape"):
            return len(node.args) == 3
        own = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(own, _AXES_KEPT) and _kind(node, modules) not in ("relu", "leaky", "identity"):
            return False
    return False


def _follow(
    node: fx.Node, modules: dict[str, nn.Module], readers: tuple[type[nn.Module], ...]
) -> Link | None:
    """Walk from a layer's output to the layer that reads it; None if something else comes first."""
    first, start = str(node.target), modules[str(node.target)]
    between: list[str] = []
    while len(node.users) == 1:
        node = next(iter(node.users))
        if len(node.all_input_nodes) != 1:
            return None
        if node.op == "call_module" and isinstance(modules[str(node.target)], readers):
            link = Link(first, str(node.target), tuple(between))
            return link if _shapes_agree(start, modules[link.second], link.between) else None
        kind = _kind(node, modules)
        if kind is None or (kind in ("average", "maximum") and not isinstance(start, _CONVOLUTIONS)):
            return None  # pooling of a linear layer's output would mix its features
        between.append(kind)
    return None


def _kind(node: fx.Node, modules: dict[str, nn.Module]) -> str | None:
    """Kind of an operation that lets positive factors pass, or None."""
    if node.op == "call_module":
        module = modules[str(node.target)]
        if isinstance(module, nn.Flatten):
            return "flatten" if (module.start_dim, module.end_dim) == (1, -1) else None
        return next((kind for kind, types in _MODULES.items() if type(module) in types), None)
    if node.op == "call_method":
        if node.target == "flatten":
            return "flatten" if node.args[1:] == (1,) and not node.kwargs else None
        return "relu" if node.target == "relu" else None
    if node.target is torch.flatten:
        return "flatten" if (*node.args[1:], *node.kwargs.values()) == (1,) else None
    return _FUNCTIONS.get(node.target)


def _shapes_agree(first: Any, second: Any, between: tuple[str, ...]) -> bool:
    """Whether the second layer's inputs are the first one's channels, each repeated over its positions in a row."""
    channels = len(first.weight)
    if isinstance(second, _CONVOLUTIONS):
        return (
            isinstance(first, _CONVOLUTIONS) and second.in_channels == channels and "flatten" not in between
        )
    if isinstance(second, nn.Linear):
        if isinstance(first, nn.Linear):
            return second.in_features == channels
        return "flatten" in between and second.in_features % channels == 0
    return getattr(second, "num_features", None) == channels
