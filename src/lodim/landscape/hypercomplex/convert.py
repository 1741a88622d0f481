r"""An existing model with hypercomplex layers in place of its own: :func:`to_hypercomplex`.

The new weights are fresh, to be trained from the start as the paper does, or the *nearest* to the present ones
(:func:`~lodim.landscape.hypercomplex.nearest_kronecker_sum`), to be fine-tuned. How near is said per layer. A weight
without structure is missed by a share of :math:`\sqrt{1 - 1/n}` of its norm, 0.87 at n = 4, so do not expect a trained
model to work before fine-tuning.

Source: arXiv 2110.04176, Section 5 (ResNets and VGGs with every layer but the first and the last replaced). The
projection of trained weights is not in the paper.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lodim.landscape.hypercomplex.algebra import nearest_kronecker_sum
from lodim.landscape.hypercomplex.conv import PHConv1d, PHConv2d, PHConv3d, PHConvTranspose2d
from lodim.landscape.hypercomplex.formed import HypercomplexLayer, check_sizes, nearest_sizes
from lodim.landscape.hypercomplex.linear import PHEmbedding, PHMLinear
from lodim.nets import Replacement, find_layers, replace_layers
from lodim.nets.kinds import PLAIN
from lodim.nets.layers import LayerFilter, peculiarity
from lodim.results import Result
from lodim.validation import check_choice, checked

__all__ = ["Conversion", "ConversionReport", "ConvertedLayer", "to_hypercomplex"]

_CONVOLUTIONS: dict[type[nn.Module], type[HypercomplexLayer]] = {
    nn.Conv1d: PHConv1d,
    nn.Conv2d: PHConv2d,
    nn.Conv3d: PHConv3d,
}
_KINDS = (*PLAIN, nn.ConvTranspose2d)
_ALL_KINDS: tuple[type[nn.Module], ...] = (*_KINDS, nn.Embedding)


@dataclass(frozen=True)
class ConvertedLayer(Result):
    """One layer's conversion: what stood there, parameters before and after, and what the nearest weight misses.

    The error is in the Frobenius norm; NaN for fresh weights.
    """

    name: str
    kind: str
    before: int
    after: int
    relative_error: float


@dataclass(frozen=True)
class ConversionReport(Result):
    """What became of each layer.

    Attributes
    ----------
    weights : {"fresh", "nearest"}
    before, after : int
        Parameters of the whole model; shared ones count once.
    left_alone : dict of str to str
        The other layers among those chosen, with the reason.
    """

    n: int
    algebra: str
    weights: str
    before: int
    after: int
    layers: tuple[ConvertedLayer, ...]
    left_alone: dict[str, str]

    def to_frame(self) -> Any:
        """Return the converted layers as a data frame, one a row."""
        import pandas as pd

        columns = ["name", "kind", "before", "after", "relative_error"]
        return pd.DataFrame([layer.to_dict() for layer in self.layers], columns=columns)

    def plot(self, ax: Any = None) -> Any:
        """Draw every layer's parameters before and after, and return the axes."""
        from lodim.plots import COLORS, new_axes

        ax, frame = new_axes(ax), self.to_frame()
        for shift, column, color in ((-0.2, "before", COLORS[6]), (0.2, "after", COLORS[0])):
            places = [row + shift for row in range(len(frame))]
            ax.barh(places, frame[column], height=0.4, color=color, label=column)
        ax.set_yticks(range(len(frame)), frame["name"])
        ax.invert_yaxis()
        ax.set(xlabel="parameters")
        ax.legend()
        return ax

    def __str__(self) -> str:
        width = max([len("layer"), *(len(layer.name) for layer in self.layers)])
        lines = [
            f"n = {self.n} ({self.algebra}), {self.weights} weights: {self.before:,} -> {self.after:,} parameters "
            f"({self.after / self.before:.3f})",
            f"{'layer':{width}}  {'kind':15}  {'before':>12}  {'after':>12}  {'rel. error':>10}",
        ]
        for row in self.layers:
            error = f"{row.relative_error:10.3f}" if row.relative_error == row.relative_error else " " * 10
            lines.append(f"{row.name:{width}}  {row.kind:15}  {row.before:12,}  {row.after:12,}  {error}")
        lines += [f"left alone: {name} ({reason})" for name, reason in self.left_alone.items()]
        return "\n".join(line.rstrip() for line in lines)


@dataclass(frozen=True, eq=False)
class Conversion(Replacement):
    """What :func:`to_hypercomplex` did: the layers by name before and after, ``undo()``, and a report."""

    report: ConversionReport

    def __str__(self) -> str:
        return str(self.report)


@checked
def to_hypercomplex(
    model: nn.Module,
    n: int,
    kinds: type[nn.Module] | tuple[type[nn.Module], ...] = _KINDS,
    targets: LayerFilter = "all",
    exclude: LayerFilter = (),
    *,
    skip_first: bool = True,
    skip_last: bool = True,
    weights: str = "fresh",
    algebra: str = "learned",
    init: str = "he",
    strict: bool = False,
) -> Conversion:
    """Put hypercomplex layers in the place of a model's linear and convolutional layers, in place.

    Each new layer has its predecessor's device, dtype, mode and trainability. Fresh weights are drawn from torch's
    global generator, as those of any new layer.

    Parameters
    ----------
    n : int
        Parameters of the converted layers shrink by this factor.
    kinds : type or tuple of type
        Among ``nn.Linear``, ``nn.Conv1d``, ``nn.Conv2d``, ``nn.Conv3d``, ``nn.ConvTranspose2d`` (the default) and
        ``nn.Embedding``.
    targets, exclude
        As in :func:`lodim.nets.find_layers`.
    skip_first, skip_last : bool
        Leave the model's first and last layer of these kinds, in the order of definition: their sizes are those of
        the data, and seldom multiples of n.
    weights : {"fresh", "nearest"}
        "nearest" takes the nearest sum of n Kronecker products to the present weight, and keeps the bias.
    algebra : {"learned", "complex", "quaternion"}
    init : {"he", "paper"}
        Of fresh weights.
    strict : bool
        Refuse, instead of leaving alone, layers that cannot be converted (apart from the first and last).

    Returns
    -------
    Conversion
        With ``report`` (printable, a table of parameters before and after) and ``undo()``.

    Raises
    ------
    ValueError
        Nothing can be converted, or a parameter is lazy; or, if strict, some layer cannot be converted: all such are
        listed, with the nearest sizes.

    Examples
    --------
    >>> from lodim.nets import mlp
    >>> print(to_hypercomplex(mlp([784, 256, 256, 10]), n=4).report)  # doctest: +NORMALIZE_WHITESPACE
    n = 4 (learned), fresh weights: 269,322 -> 220,234 parameters (0.818)
    layer  kind                   before         after  rel. error
    2      Linear                 65,792        16,704
    left alone: 0 (the first layer)
    left alone: 4 (the last layer)
    """
    n = check_sizes(n, algebra)
    check_choice(weights, ("fresh", "nearest"), "weights")
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    unknown = [kind.__name__ for kind in kinds if kind not in _ALL_KINDS]
    if unknown:
        known = ", ".join(kind.__name__ for kind in _ALL_KINDS)
        raise ValueError(f"kinds must be among {known}; got {', '.join(unknown)}")
    for name, parameter in model.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise ValueError(f"parameter {name!r} is lazy, its shape not known yet; run one forward first")
    chosen = find_layers(model, targets, kinds=kinds, exclude=exclude)
    left = _ends(model, kinds, skip_first, skip_last)
    left = {name: reason for name, reason in left.items() if name in chosen}
    owners = Counter(id(p) for p in _every_parameter(model))
    obstacles = {name: _obstacle(layer, n, owners) for name, layer in chosen.items() if name not in left}
    found = {name: reason for name, reason in obstacles.items() if reason is not None}
    if strict and found:
        listed = "; ".join(f"{name!r}: {reason}" for name, reason in found.items())
        raise ValueError(f"these layers cannot be converted with n={n}: {listed}")
    left |= found
    if len(left) == len(chosen):
        listed = "; ".join(f"{name!r}: {reason}" for name, reason in left.items())
        raise ValueError(f"no layer is left to convert: {listed}")
    rows: list[ConvertedLayer] = []

    def factory(name: str, layer: nn.Module) -> nn.Module | None:
        if name in left:
            return None
        new = _counterpart(layer, n, algebra, init)
        error = _project(layer, new) if weights == "nearest" else float("nan")
        _follow(layer, new)
        rows.append(ConvertedLayer(name, _kind(layer).__name__, _size(layer), _size(new), error))
        return new

    before = _size(model)
    done = replace_layers(model, factory, lambda name, _: name in chosen, kinds=kinds)
    report = ConversionReport(n, algebra, weights, before, _size(model), tuple(rows), left)
    return Conversion(done.module, done.before, done.after, report)


def _size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _ends(model: nn.Module, kinds: tuple[type[nn.Module], ...], first: bool, last: bool) -> dict[str, str]:
    """Names of the model's first and last layer, where they are to be left."""
    names = list(find_layers(model, kinds=kinds))
    ends = {}
    if first:
        ends[names[0]] = "the first layer"
    if last:
        ends[names[-1]] = "the last layer"
    return ends


def _every_parameter(model: nn.Module) -> list[nn.Parameter]:
    """A parameter that two layers share comes twice; a layer that stands in two places comes once."""
    return [p for layer in model.modules() for p in layer.parameters(recurse=False)]


def _kind(layer: nn.Module) -> type[nn.Module]:
    return next(kind for kind in _ALL_KINDS if isinstance(layer, kind))


def _widths(layer: Any) -> dict[str, int]:
    """The sizes that n must divide."""
    if isinstance(layer, nn.Linear):
        return {"in_features": layer.in_features, "out_features": layer.out_features}
    if isinstance(layer, nn.Embedding):
        return {"embedding_dim": layer.embedding_dim}
    return {"in_channels": layer.in_channels, "out_channels": layer.out_channels}


def _obstacle(layer: Any, n: int, owners: Counter[int]) -> str | None:
    """Why a layer cannot be converted, or None."""
    wrong = {name: size for name, size in _widths(layer).items() if size % n}
    if wrong:
        near = {name: " or ".join(map(str, nearest_sizes(size, n))) for name, size in wrong.items()}
        return ", ".join(
            f"n={n} does not divide {name}={size} (nearest: {near[name]})" for name, size in wrong.items()
        )
    if getattr(layer, "groups", 1) != 1:
        return f"groups={layer.groups}, only 1 is implemented"
    peculiar = peculiarity(layer, _kind(layer))
    if peculiar is not None:
        return peculiar
    if any(owners[id(p)] > 1 for p in layer.parameters(recurse=False)):
        return "it shares a parameter with another layer"
    if isinstance(layer, nn.Embedding) and (layer.max_norm is not None or layer.sparse):
        return "max_norm and sparse gradients are not implemented"
    return None


def _counterpart(layer: Any, n: int, algebra: str, init: str) -> HypercomplexLayer:
    """A hypercomplex layer of the same sizes and options."""
    same: dict[str, Any] = {"algebra": algebra, "device": layer.weight.device, "dtype": layer.weight.dtype}
    if isinstance(layer, nn.Embedding):
        return PHEmbedding(layer.num_embeddings, layer.embedding_dim, n, layer.padding_idx, **same)
    same |= {"init": init, "bias": layer.bias is not None}
    if isinstance(layer, nn.Linear):
        return PHMLinear(layer.in_features, layer.out_features, n, **same)
    same |= {name: getattr(layer, name) for name in ("stride", "padding", "dilation")}
    if isinstance(layer, nn.ConvTranspose2d):
        same["output_padding"] = layer.output_padding
        return PHConvTranspose2d(layer.in_channels, layer.out_channels, layer.kernel_size, n, **same)
    make: Callable[..., HypercomplexLayer] = _CONVOLUTIONS[_kind(layer)]
    channels = (layer.in_channels, layer.out_channels)
    return make(*channels, layer.kernel_size, n, padding_mode=layer.padding_mode, **same)


@torch.no_grad()
def _project(layer: Any, new: HypercomplexLayer) -> float:
    """Give the new layer the nearest weight and the same bias; return the relative error."""
    weight: Tensor = layer.weight
    if isinstance(layer, nn.ConvTranspose2d):
        weight = weight.transpose(0, 1)
    if isinstance(layer, nn.Embedding):  # entries that continue the table to a multiple of n
        missing = new.n * new.F.shape[1] - len(weight)
        weight = torch.cat([weight, weight.new_zeros(missing, weight.shape[1])])
    is_learned = isinstance(new.A, nn.Parameter)
    near = nearest_kronecker_sum(weight, new.n, None if is_learned else new.A)
    if is_learned:
        new.A.copy_(near.A)
    new.F.copy_(near.F)
    if new.bias is not None:
        new.bias.copy_(layer.bias)
    return near.relative_error


def _follow(layer: Any, new: HypercomplexLayer) -> None:
    """Give the new layer the old one's mode, and freeze what was frozen."""
    new.train(layer.training)
    for parameter in (new.A, new.F):
        if isinstance(parameter, nn.Parameter):
            parameter.requires_grad_(layer.weight.requires_grad)
    if new.bias is not None:
        new.bias.requires_grad_(layer.bias.requires_grad)
