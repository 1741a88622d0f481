r"""Preparing a float model for the grid without changing what it computes: folding and equalisation.

**Batch normalisation folding.** In evaluation a normalisation after a layer is an affine map of each channel, so it
belongs to the layer:

.. math:: W' = \frac{\gamma}{\sqrt{v + \epsilon}} W, \qquad
          b' = \beta + \frac{\gamma}{\sqrt{v + \epsilon}} (b - m) .

**Cross-layer equalisation.** One scale for a whole tensor serves a channel badly whose range is far below the
largest. Where :math:`f(s x) = s f(x)` lies between two layers, channel i may be divided by :math:`s_i` in the first
and multiplied in the second,

.. math:: s_i = \frac{\sqrt{r^1_i r^2_i}}{r^2_i} = \sqrt{r^1_i / r^2_i}, \qquad
          r^1_i = \max_j |W^1_{ij}|, \quad r^2_i = \max_j |W^2_{ji}| ,

after which both ranges are :math:`\sqrt{r^1_i r^2_i}`, the choice that makes the product of the channels' shares of
their tensors' ranges largest. Chains of layers are swept until nothing moves.

========================================  ===========================================
Symbol                                    Here
========================================  ===========================================
:math:`\gamma, \beta, m, v`               the normalisation's weight, bias, buffers
:math:`s_i; r^1_i, r^2_i`                 ``factors``; ``outgoing``, ``incoming``
mean, deviation of a folded channel       ``layer.folded_mean``, ``layer.folded_std``
========================================  ===========================================

Channels whose range is zero on either side stay as they are. Departure: large biases that equalisation may bring are
not absorbed into the next layer.

Sources: A. Gholami and others, A survey of quantization methods, arXiv 2103.13630, Sections III-F and IV; the
equalisation is that of M. Nagel and others, Data-free quantization, arXiv 1906.04721, Section 4.1.

**Which layers feed which.** A function with :math:`f(s x) = s f(x)` for every :math:`s > 0` (ReLU and its leaky
relatives, pooling, dropout in evaluation, flattening) lets a factor pass from one layer's output to the next one's
input. :func:`find_links` traces the module symbolically (``torch.fx``) and walks from each layer through such
operations, as long as each value has one reader only, to the next layer.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn
from torch.nn import functional as F

from lodim.nets.activations import evaluation_mode, model_inputs
from lodim.nets.kinds import CONVOLUTIONS, PLAIN
from lodim.nets.layers import peculiarity
from lodim.validation import check_in_range, checked, warn

__all__ = ["equalise", "find_links", "fold_batch_norm"]


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


@checked
def find_links(model: nn.Module, readers: tuple[type[nn.Module], ...] = PLAIN) -> list[Link]:
    """Return every linear or convolutional layer that one layer of the kinds ``readers`` alone reads, in their order.

    Layers that are called more than once, share their weight with another, compute it from other parameters, have a
    forward or hooks of their own, or whose numbers the model's forward reads itself are left out.

    Raises
    ------
    ValueError
        The module cannot be traced.
    """
    modules = dict(model.named_modules())
    graph = trace_graph(model)
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    read = {str(node.target).rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"}
    owners = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))

    def usable(name: Any) -> bool:
        layer = modules[name]
        kind = next((kind for kind in PLAIN if isinstance(layer, kind)), type(layer))
        plain = not layer._forward_hooks if kind not in PLAIN else peculiarity(layer, kind) is None
        return (
            plain and calls[name] == 1 and name not in read and owners[id(getattr(layer, "weight", None))] < 2
        )

    links = []
    for node in graph.nodes:
        if node.op == "call_module" and isinstance(modules[node.target], PLAIN) and usable(node.target):
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
        if kind is None or (kind in ("average", "maximum") and not isinstance(start, CONVOLUTIONS)):
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
    if isinstance(second, CONVOLUTIONS):
        return isinstance(first, CONVOLUTIONS) and second.in_channels == channels and "flatten" not in between
    if isinstance(second, nn.Linear):
        if isinstance(first, nn.Linear):
            return second.in_features == channels
        return "flatten" in between and second.in_features % channels == 0
    return getattr(second, "num_features", None) == channels


BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_NORMS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: nn.BatchNorm1d,
    nn.Conv1d: nn.BatchNorm1d,
    nn.Conv2d: nn.BatchNorm2d,
    nn.Conv3d: nn.BatchNorm3d,
}
_AXES: dict[type[nn.Module], int] = {nn.Linear: 2, nn.Conv1d: 3, nn.Conv2d: 4, nn.Conv3d: 5}
_STILL = 1e-4  # relative change of the factors at which a sweep is the last


class FoldedNorm(nn.Identity):
    """What is left of a folded normalisation: its input passes, if it has as many axes as was known when folding."""

    def __init__(self, axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Any) -> Any:
        """Return the input; ValueError if the normalisation would not have acted on so many axes."""
        if isinstance(x, Tensor) and x.ndim != self.axes:  # else traced, or run in integers
            raise ValueError(
                f"a batch normalisation was folded for inputs of {self.axes} axes and gets {x.ndim} (shape "
                f"{tuple(x.shape)}), where it acts on axis 1 and not on the layer's features; calibrate with such "
                "inputs or take QuantRecipe(fold_bn=False)"
            )
        return x


@checked
def fold_batch_norm(
    model: nn.Module, example: Any = None, *, certain: bool = False, only: Collection[str] | None = None
) -> nn.Module:
    """Return a copy with every batch normalisation that alone follows a linear or convolutional layer folded into it.

    In evaluation the copy computes what the model does. After a linear layer ``nn.BatchNorm1d`` acts on its features if
    the input has two axes, but on axis 1 if it has three, and then cannot be folded.

    The normalisation becomes a :class:`FoldedNorm`. The mean and standard deviation that its outputs had in training
    (beta and abs(gamma)) stay with the layer as non-persistent buffers ``folded_mean`` and ``folded_std``, for
    corrections without data.

    Parameters
    ----------
    example : Tensor, array, mapping or tuple, optional
        A batch of inputs, which shows how many axes there are.
    certain : bool
        Without an example, leave a normalisation after a linear layer, with a warning, unless something before it
        flattens; otherwise it is folded, and refuses inputs of other than two axes.
    only : collection of str, optional
        Names of the normalisations to fold, nothing else being asked.

    Raises
    ------
    ValueError
        The model has batch normalisation, and its forward cannot be traced.
    """
    folded = copy.deepcopy(model)
    if not any(isinstance(module, BATCH_NORMS) for module in folded.modules()):
        return folded
    links = _norm_links(folded)
    if only is None:
        links = _features_only(folded, links, example, certain)
    for link in links:
        if only is None or link.second in only:
            layer = folded.get_submodule(link.first)
            _fold(layer, folded.get_submodule(link.second))
            folded.set_submodule(link.second, FoldedNorm(_AXES[_kind_of(layer)]))
    return folded


def _kind_of(layer: nn.Module) -> type[nn.Module]:
    return next(kind for kind in PLAIN if isinstance(layer, kind))


def _norm_links(model: nn.Module) -> list[Link]:
    """Layers that normalisations with running statistics alone read, for inputs of the right number of axes."""
    found = []
    for link in find_links(model, readers=BATCH_NORMS):
        norm: Any = model.get_submodule(link.second)
        fits = isinstance(norm, _NORMS[_kind_of(model.get_submodule(link.first))])
        if fits and set(link.between) <= {"identity"} and norm.running_mean is not None:
            found.append(link)
    return found


def _features_only(model: nn.Module, links: list[Link], example: Any, certain: bool) -> list[Link]:
    """Those that act on the features of a linear layer (or the channels of a convolution)."""
    rows = [link for link in links if isinstance(model.get_submodule(link.first), nn.Linear)]
    if not rows or (example is None and not certain):
        return links
    if example is None:
        graph, modules = trace_graph(model), dict(model.named_modules())
        left = {link for link in rows if not reads_rows(graph, link.first, modules)}
        if left:
            names = ", ".join(sorted(repr(link.second) for link in left))
            warn(
                f"the normalisations {names} stay in floating point: nothing shows whether the linear layers before "
                "them put out two axes; give calibration data",
                stacklevel=5,
            )
    else:
        axes = _axes(model, [link.second for link in rows], example)
        left = {link for link in rows if axes.get(link.second) != 2}
    return [link for link in links if link not in left]


@torch.no_grad()
def _axes(model: nn.Module, names: Sequence[str], example: Any) -> dict[str, int]:
    """How many axes the inputs of some modules have."""
    seen: dict[str, int] = {}
    hooks = [
        model.get_submodule(name).register_forward_pre_hook(
            lambda module, inputs, name=name: seen.update({name: inputs[0].ndim})
        )
        for name in names
    ]
    try:
        with evaluation_mode(model):
            positional, named = model_inputs(model, example)
            model(*positional, **named)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


@torch.no_grad()
def _fold(layer: Any, norm: Any) -> None:
    gamma = norm.weight if norm.affine else torch.ones_like(norm.running_var)
    beta = norm.bias if norm.affine else torch.zeros_like(norm.running_mean)
    factor = gamma / (norm.running_var + norm.eps).sqrt()
    old = layer.bias if layer.bias is not None else torch.zeros_like(norm.running_mean)
    bias = beta + factor * (old - norm.running_mean)
    layer.weight.mul_(_along_outputs(factor, layer.weight))
    if layer.bias is None:
        layer.bias = nn.Parameter(bias.clone(), requires_grad=layer.weight.requires_grad)
    else:
        layer.bias.copy_(bias)
    layer.register_buffer("folded_mean", beta.detach().clone(), persistent=False)
    layer.register_buffer("folded_std", gamma.detach().abs().clone(), persistent=False)


@checked
def equalise(
    model: nn.Module, pairs: str | Sequence[tuple[str, str]] = "auto", *, max_iter: int = 20
) -> nn.Module:
    """Return a copy that computes the same, its channels' weight ranges balanced between consecutive layers.

    Parameters
    ----------
    model : nn.Module
        Fold batch normalisation first: a normalisation between two layers separates them.
    pairs : "auto" or sequence of (str, str)
        Names of consecutive layers; "auto" finds all pairs with only positively homogeneous operations between. Pairs
        that are named are taken at their word.
    max_iter : int
        Most passes over the pairs; chains of layers need several.

    Raises
    ------
    ValueError
        The model cannot be traced, or a named pair does not fit together.
    """
    check_in_range(max_iter, "max_iter", low=1, integer=True)
    if isinstance(pairs, str) and pairs != "auto":
        raise ValueError(f"pairs must be 'auto' or a list of (first, second) names, got {pairs!r}")
    balanced = copy.deepcopy(model)
    links = find_links(balanced) if isinstance(pairs, str) else [Link(*pair) for pair in pairs]
    layers = [(_layer(balanced, link.first), _layer(balanced, link.second)) for link in links]
    for _ in range(max_iter):
        moved = [_equalise_pair(first, second) for first, second in layers]
        if max(moved, default=0.0) < _STILL:
            break
    return balanced


def _layer(model: nn.Module, name: str) -> Any:
    try:
        layer = model.get_submodule(name)
    except AttributeError:
        known = ", ".join(repr(n) for n, m in model.named_modules() if isinstance(m, PLAIN))
        raise ValueError(f"there is no layer {name!r} to equalise; the layers are {known}") from None
    if not isinstance(layer, PLAIN):
        raise ValueError(
            f"{name!r} is a {type(layer).__name__}; only linear and convolutional layers pair up"
        )
    if (why := peculiarity(layer, _kind_of(layer))) is not None:
        raise ValueError(f"the layer {name!r} cannot be equalised: {why}")
    return layer


@torch.no_grad()
def _equalise_pair(first: Any, second: Any) -> float:
    """Move factors from one layer to the next; return the largest relative change."""
    grouped = input_view(second, second.weight, len(first.weight))
    outgoing, incoming = first.weight.abs().flatten(1).amax(1), grouped.abs().amax((1, 3)).flatten()
    alive = (outgoing > 0) & (incoming > 0)
    ratio = torch.where(alive, outgoing, 1.0) / torch.where(alive, incoming, 1.0)
    factors = ratio.sqrt()
    first.weight.div_(_along_outputs(factors, first.weight))
    if first.bias is not None:
        first.bias.div_(factors)
    for name in ("folded_mean", "folded_std"):
        if hasattr(first, name):
            getattr(first, name).div_(factors)
    scaled = grouped * factors.view(grouped.shape[0], 1, -1, 1)
    second.weight.copy_(scaled.reshape(second.weight.shape))
    return float((factors - 1).abs().max())


def _along_outputs(values: Float[Tensor, " channels"], weight: Tensor) -> Tensor:
    return values.view(-1, *[1] * (weight.ndim - 1))


def input_view(layer: Any, weight: Tensor, channels: int) -> Float[Tensor, "groups outputs inputs positions"]:
    """Return a weight shaped as a layer's with its input channels, as they are before any flattening, apart.

    A linear layer may read each channel at several positions.
    """
    groups = getattr(layer, "groups", 1)
    n_inputs = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
    fits = n_inputs % channels == 0 if isinstance(layer, nn.Linear) else n_inputs == channels
    if not fits:
        raise ValueError(f"the first layer has {channels} outputs, but the second reads {n_inputs} channels")
    return weight.reshape(groups, len(weight) // groups, channels // groups, -1)
