"""Weights in the order of another net's units: :func:`apply_matching`."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, fx, nn

from lodim.nets.activations import the_layer
from lodim.nets.layers import peculiarity
from lodim.validation import checked, plain_array

__all__ = ["apply_matching"]


@checked
def apply_matching(
    model_b: nn.Module,
    match: Any,
    layer: str,
    next_layer: str | Sequence[str],
    *,
    between: Sequence[str] = (),
) -> nn.Module:
    """Return a copy of a model whose units stand in the order of another's; it computes the same function.

    Parameters
    ----------
    model_b : nn.Module
    match : array-like of int, shape (p,)
        ``UnitMatcher.match_``: which unit of b goes to place i. Places without a partner (-1) get the units that are
        left, in their order.
    layer : str
        The linear or convolutional layer whose units are meant.
    next_layer : str or sequence of str
        All layers that read them, linear or convolutional; behind a flattened map a linear one reads each unit at
        several places.
    between : sequence of str
        Layers in between with parameters for each unit (batch norm, layer norm, PReLU). What else is in between must
        treat all units alike.

    Raises
    ------
    TypeError
        Layers of other kinds.
    ValueError
        No such layer, or one named twice; as many units as b does not have, a unit twice; weights that are shared.
        Something else that reads the units, where ``torch.fx`` can trace the model: where it cannot, what you name is
        taken to be all there is. Slices of units and reshapes that part them pass unseen: compare both outputs once.
    """
    copied = copy.deepcopy(model_b)
    name, first = the_layer(copied, layer)
    readers = [next_layer] if isinstance(next_layer, str) else list(next_layer)
    after = [the_layer(copied, reader) for reader in readers]
    for full, part in ((name, first), *after):
        _check_layer(full, part)
    p = len(first.weight)  # type: ignore[arg-type]
    order = _complete(match, p)
    norms = [the_layer(copied, one) for one in between]
    full_names = [name, *(full for full, _ in (*after, *norms))]
    if len(set(full_names)) < len(full_names):
        raise ValueError(f"layer, next_layer and between must name each layer once, got {full_names}")
    places: list[tuple[str, Tensor, int]] = [(name, first.weight, 0)]  # type: ignore[list-item]
    if first.bias is not None:
        places.append((name, first.bias, 0))  # type: ignore[arg-type]
    is_linear = isinstance(first, nn.Linear)
    axes: int = first.weight.ndim  # type: ignore[assignment]
    for full, norm in norms:
        places += [(full, tensor, 0) for tensor in _of_norm(full, norm, p, is_linear, axes)]
    for full, reader in after:
        weight: Any = reader.weight
        # only a flattened map has a unit at several places, one after the other
        if weight.shape[1] % p or (weight.shape[1] != p and (is_linear or not isinstance(reader, nn.Linear))):
            raise ValueError(
                f"next_layer {full!r} reads {weight.shape[1]} inputs, which are not {p} units of {name!r}"
            )
        places.append((full, weight, 1))
    owners = Counter(id(t) for _, t in copied.named_parameters(remove_duplicate=False))
    owners.update(id(t) for _, t in copied.named_buffers(remove_duplicate=False))
    for full, tensor, _ in places:
        if owners[id(tensor)] > 1:
            raise ValueError(
                f"layer {full!r} shares a weight with another one, which a permutation would change too"
            )
    _check_path(copy.deepcopy(model_b), name, [full for full, _ in after], [full for full, _ in norms])
    with torch.no_grad():
        for _, tensor, axis in places:
            by_unit = tensor.reshape(*tensor.shape[:axis], p, -1)
            tensor.copy_(by_unit.index_select(axis, order.to(tensor.device)).reshape(tensor.shape))
    return copied


def _of_norm(name: str, norm: nn.Module, p: int, is_linear: bool, axes: int) -> list[Tensor]:
    """What a norm holds for each unit, or for each unit's places in a row."""
    if not (
        isinstance(norm, nn.modules.batchnorm._NormBase | nn.LayerNorm | nn.PReLU)
        or (isinstance(norm, nn.GroupNorm) and norm.num_groups in (1, p))
    ):
        raise TypeError(
            f"between names {name!r}, a {type(norm).__name__}: batch norm, instance norm, layer norm and PReLU are "
            "known, and group norm of one group or of one unit a group"
        )
    held = [t for t in (*norm.parameters(), *norm.buffers()) if t.numel() > 1]
    for tensor in held:
        fits = tensor.shape == (p,)
        if not is_linear and isinstance(norm, nn.LayerNorm):
            fits |= tensor.ndim == axes - 1 and tensor.shape[0] == p
        elif not is_linear:
            fits |= tensor.ndim == 1 and len(tensor) % p == 0
        if not fits:
            raise ValueError(
                f"between names {name!r} with parameters of shape {tuple(tensor.shape)}, not one for each of {p} units"
            )
    return held


_MIXING = (nn.GroupNorm, nn.LocalResponseNorm, nn.ChannelShuffle, nn.PixelShuffle, nn.PixelUnshuffle, nn.GLU)
_MIXING_CALLS = frozenset(
    ("chunk", "split", "tensor_split", "roll", "flip", "cumsum", "glu", "group_norm", "local_response_norm")
    + (
        "channel_shuffle",
        "native_channel_shuffle",
        "pixel_shuffle",
        "pixel_unshuffle",
        "sort",
        "msort",
        "topk",
    )
)
_SIZES = frozenset(("size", "dim", "numel", "shape", "ndim", "dtype", "device"))


def _check_path(model: nn.Module, name: str, readers: Sequence[str], between: Sequence[str]) -> None:
    """Refuse what a permutation of a layer's units would change, as far as ``torch.fx`` can trace the model."""
    try:
        graph = fx.Tracer().trace(model)
    except Exception:  # fx passes on whatever the forward raised at a proxy
        return
    modules = dict(model.named_modules())
    calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    if name not in calls:  # within a part that is not opened
        return
    for one in (name, *readers, *between):
        if calls[one] > 1:
            raise ValueError(
                f"layer {one!r} runs {calls[one]} times in a forward: its units have no single reader"
            )
    units: set[fx.Node] = set()  # what holds the units of the layer
    sizes: set[fx.Node] = set()  # what is no tensor
    reached = set()
    for node in graph.nodes:
        target = str(node.target)
        inputs = set(node.all_input_nodes) - sizes
        if node.op == "call_module" and target == name:
            units.add(node)
            continue
        asked = node.args[1] if node.target is getattr else target
        if asked in _SIZES or (node.all_input_nodes and not inputs):
            sizes.add(node)
            continue
        if units.isdisjoint(inputs):
            continue
        if node.op == "output":
            raise ValueError(f"the model returns the units of {name!r}, whose order would be another")
        if node.op == "call_module":
            if any(f"{one}.".startswith(f"{target}.") for one in readers):
                reached.add(target)
                continue
            part = modules[target]
            held = any(tensor.numel() > 1 for tensor in (*part.parameters(), *part.buffers()))
            if target not in between and (
                held or (isinstance(part, _MIXING) and getattr(part, "num_groups", 0) != 1)
            ):
                raise ValueError(
                    f"{target!r}, a {type(part).__name__}, reads the units of {name!r} too and is named neither in "
                    "next_layer nor in between"
                )
            reached.add(target)
        called = getattr(node.target, "__name__", target)
        if called in _MIXING_CALLS or not inputs <= units:
            raise ValueError(
                f"{called!r} puts the units of {name!r} together with others (a skip connection, a gate, a "
                "concatenation): they cannot be permuted by themselves"
            )
        units.add(node)
    for one in (*readers, *between):
        if one in calls and one not in reached:
            raise ValueError(f"layer {one!r} does not read the units of {name!r}")


def _check_layer(name: str, layer: nn.Module) -> None:
    kinds: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    kind = next((kind for kind in kinds if isinstance(layer, kind)), None)
    if kind is None:
        raise TypeError(f"layer {name!r} must be linear or convolutional, got a {type(layer).__name__}")
    if getattr(layer, "groups", 1) != 1:
        raise TypeError(f"layer {name!r} has groups of units, which a permutation would mix")
    if (odd := peculiarity(layer, kind)) is not None:
        raise TypeError(f"layer {name!r}: {odd}; its weight cannot be permuted in place")


def _complete(match: Any, p: int) -> Int[Tensor, " p"]:
    order = plain_array(match, "match").copy()
    if order.shape != (p,) or order.dtype.kind not in "iu":
        raise ValueError(f"match must be {p} integers, one a unit, got {order.dtype} of shape {order.shape}")
    given = order[order >= 0]
    if len(np.unique(given)) != len(given) or (order < -1).any() or (order >= p).any():
        raise ValueError(f"match must name units 0 to {p - 1}, none twice (-1: none); match one to one")
    order[order < 0] = np.setdiff1d(np.arange(p), given)
    return torch.from_numpy(order.astype(np.int64))
