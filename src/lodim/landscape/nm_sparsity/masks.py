r"""The pattern: in every group of M consecutive weights, the N of largest magnitude.

Groups run along a weight's input channels (``dim="in"``, the rows of a linear layer; a convolution has groups of its
own at every place of its kernel) or along its output channels (``dim="out"``). Of equal magnitudes the first is kept,
so the mask is a function of the weights on every device.

No group is sorted. The N-th largest magnitude :math:`\tau` of every group is found at once by a tournament: lists of
one entry are merged in pairs to sorted lists of two, four, ... never longer than N (a bitonic merge, K. Batcher 1968:
of two descending lists a and b, the n largest are :math:`\max(a_i, b_{n-1-i})`), every comparison being one
vectorised maximum and minimum over all groups. Then :math:`\Pi = [\,|w| \ge \tau\,]`; groups with ties are thinned.

=========================== =======================
symbol in the paper         name here
=========================== =======================
:math:`N`, :math:`M`        ``n``, ``m``
:math:`\Pi(W)`              :func:`nm_mask`
:math:`W \odot \Pi(W)`      :func:`apply_nm_mask`
=========================== =======================

Source: A. Bambhaniya and others, "Progressive gradient flow for robust N:M sparsity training in transformers",
arXiv 2402.04744, Section 2. Departure: the tournament in place of a sort.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from jaxtyping import Float, Real, Shaped
from torch import Tensor, nn

from lodim.nets import find_layers
from lodim.nets.kinds import plain_kinds, weight_axes
from lodim.nets.layers import LayerFilter
from lodim.results import Result
from lodim.validation import check_choice, check_counts, check_kind, check_tensor, checked

__all__ = ["FEED_FORWARD", "NMCheck", "apply_nm_mask", "architecture_divergence", "check_nm", "nm_mask"]

FEED_FORWARD = (
    r"(.*\.)?(fc1|fc2|lin1|lin2|linear1|linear2|wi|wi_0|wi_1|wo|gate_proj|up_proj|down_proj|mlp\.c_fc|mlp\.c_proj"
    r"|intermediate\.dense|(?<!attention\.)output\.dense)"
)
"""The two or three feed-forward layers of a transformer's block, as the usual libraries call them."""


def sparse_layers(
    model: nn.Module, targets: LayerFilter = FEED_FORWARD, exclude: LayerFilter = ()
) -> dict[str, nn.Module]:
    """Return the linear and convolutional layers that ``targets`` chooses (:func:`lodim.nets.find_layers`)."""
    if targets == FEED_FORWARD:
        every = find_layers(model, "all", kinds=plain_kinds(), exclude=exclude)
        if not any(re.fullmatch(FEED_FORWARD, name) for name in every):
            raise ValueError(
                "no layer is called as the feed-forward layers of a transformer usually are, which are the default; "
                f"give targets, 'all' or some of {', '.join(map(repr, list(every)[:20]))}"
            )
    return find_layers(model, targets, kinds=plain_kinds(), exclude=exclude)


def weight_axis(weight: Tensor, dim: str | int) -> int:
    """Return the axis of a weight (out, in, ...) along which groups run: 1 for "in", 0 for "out", or a number."""
    if isinstance(dim, str):
        check_choice(dim, ("in", "out"), "dim")
        dim = int(dim == "in")
    check_tensor(weight, "W", numbers=False)
    check_kind(dim, int, "dim")
    if not -weight.ndim <= dim < weight.ndim:
        raise ValueError(
            f"a weight of shape {tuple(weight.shape)} has no axis {dim} (dim) for groups to run along"
        )
    return dim % weight.ndim


def axis_of(layer: nn.Module, dim: str) -> int:
    """Return the axis of a layer's weight that ``dim``, "in" or "out", means."""
    weight: Any = layer.weight
    axis = weight_axis(weight, dim)
    return axis if weight_axes(layer) == (0, 1) else 1 - axis


_LONGEST_LIST = 16  # beyond, torch.topk is the faster


@torch.no_grad()
def nm_mask(
    W: Real[Tensor, "*shape"], n: int, m: int, dim: str | int = "in", *, out: Tensor | None = None
) -> Real[Tensor, "*shape"]:
    """Return ones where a weight is kept and zeros elsewhere, in the weight's dtype.

    Parameters
    ----------
    W : Tensor, shape (out, in, ...)
        A linear layer's or a convolution's weight, or any other tensor of real numbers.
    n, m : int
        Exactly n of every m consecutive weights are kept: those of largest magnitude, the first of equals.
    dim : {"in", "out"} or int
        What consecutive means; a number is an axis of W.
    out : Tensor, optional
        Contiguous, of W's shape, dtype and device; written and returned.

    Raises
    ------
    ValueError
        ``n`` not in [1, m], m not dividing the axis, or weights that are NaN.

    Examples
    --------
    >>> import torch
    >>> nm_mask(torch.tensor([[1.0, -3.0, 2.0, 0.5]]), 2, 4)
    tensor([[0., 1., 1., 0.]])
    """
    check_pattern(n, m, below=False)
    axis = weight_axis(W, dim)
    if W.dtype is torch.bool:
        raise TypeError("W must hold numbers, whose magnitudes are compared, got torch.bool")
    if W.shape[axis] % m:
        raise ValueError(f"groups of {m} do not divide the {W.shape[axis]} weights along axis {axis}")
    if not W.is_floating_point():  # whole numbers have no room for signs, or for the size of their least
        mask = nm_mask(W.double(), n, m, axis).to(W.dtype)
        return mask if out is None else out.copy_(mask)
    out = torch.empty(W.shape, dtype=W.dtype, device=W.device) if out is None else out
    if n == m:
        return out.fill_(1)
    groups = torch.abs(W, out=out).unflatten(axis, (-1, m))
    threshold = _nth_largest(groups, int(n), axis + 1)
    groups.ge_(threshold)  # in place: at the size of a weight, fresh memory costs more than the comparison
    if out.device.type != "cpu" or _count(out) != n * (
        out.numel() // m
    ):  # elsewhere, asking would synchronise
        out.copy_(
            _without_ties(W.abs().unflatten(axis, (-1, m)), threshold, int(n), axis + 1).flatten(
                axis, axis + 1
            )
        )
    return out


def apply_nm_mask(
    W: Float[Tensor, "*shape"], n: int, m: int, dim: str | int = "in"
) -> Float[Tensor, "*shape"]:
    """Return the weight with all but the n largest of every m set to zero, as :func:`nm_mask` chooses them.

    The gradient reaches the kept weights.
    """
    return W * nm_mask(W.detach(), n, m, dim)


def check_pattern(n: Any, m: Any, *, below: bool = True) -> None:
    """Raise TypeError or ValueError unless n of m is a pattern (``below``: n less than m)."""
    check_counts(n=n, m=m)
    if n > m or (below and n == m):
        raise ValueError(
            f"a pattern keeps fewer than m of every m weights: n must be below m, got {n}:{m}"
            if below
            else f"n must be at most m, got {n}:{m}"
        )


def _nth_largest(x: Tensor, n: int, axis: int) -> Tensor:
    """The n-th largest entry along an axis, which is kept with length 1."""
    m = x.shape[axis]
    if n == 1:
        return _largest(x, axis)
    if 2 * n > m + 1:
        return _nth_largest(x.neg(), m - n + 1, axis).neg()
    if m & (m - 1) or n > _LONGEST_LIST:
        return x.topk(n, axis).values.narrow(axis, n - 1, 1)
    if axis != x.ndim - 1:
        return _tournament(x, n, axis)
    return (
        _tournament(torch.stack(x.unbind(axis)), n, 0).squeeze(0).unsqueeze(axis)
    )  # so that operands are contiguous


def _tournament(x: Tensor, n: int, axis: int) -> Tensor:
    """The n-th largest along an axis whose length is a power of two, at least 2n."""
    longest = 1 << (n - 1).bit_length()
    lists = [x]  # lists[i]: every list's i-th largest
    while True:
        half = lists[0].shape[axis] // 2
        first = [part.narrow(axis, 0, half) for part in lists]
        second = [part.narrow(axis, half, half) for part in reversed(lists)]
        highest = [torch.maximum(a, b) for a, b in zip(first, second)]
        if half == 1 and len(highest) == n:
            return reduce(torch.minimum, highest)
        if len(lists) < longest:
            lowest = [torch.minimum(a, b) for a, b in zip(first, second)]
            lists = _sorted_bitonic(highest) + _sorted_bitonic(lowest)
        else:
            lists = _sorted_bitonic(highest)
        if half == 1:
            return lists[n - 1]


def _largest(x: Tensor, axis: int) -> Tensor:
    """``x.amax(axis, keepdim=True)``; along a short contiguous axis, pooling is a multiple faster."""
    if axis == x.ndim - 1 and x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64):
        return nn.functional.max_pool1d(x.reshape(1, 1, -1), x.shape[-1]).reshape(*x.shape[:-1], 1)
    return x.amax(axis, keepdim=True)


def _sorted_bitonic(parts: list[Tensor]) -> list[Tensor]:
    """Descending order of a bitonic sequence whose length is a power of two."""
    half = len(parts) // 2
    if not half:
        return parts
    pairs = list(zip(parts[:half], parts[half:]))
    high, low = [torch.maximum(a, b) for a, b in pairs], [torch.minimum(a, b) for a, b in pairs]
    return _sorted_bitonic(high) + _sorted_bitonic(low)


def _without_ties(groups: Tensor, threshold: Tensor, n: int, axis: int) -> Tensor:
    """Of the entries equal to a group's threshold, keep the first ones only, so that n remain."""
    above = groups > threshold
    equal = groups == threshold
    room = n - above.sum(axis, keepdim=True)
    mask = above | (equal & (equal.cumsum(axis) <= room))
    if mask.device.type == "cpu" and not bool((mask.sum(axis) == n).all()):
        raise ValueError(
            "the weights hold NaN, of which no magnitude is the largest; the training has diverged"
        )
    return mask


def _count(mask: Tensor) -> int:
    """Number of ones: rows are summed in the mask's own dtype (exact below 2^24), then as whole numbers."""
    if mask.dtype in (torch.float16, torch.bfloat16):
        mask = mask.float()
    return int(mask.reshape(-1, mask.shape[-1]).sum(1).sum(dtype=torch.float64)) if mask.numel() else 0


@dataclass(frozen=True)
class NMCheck(Result):
    """How well a model's weights follow a pattern.

    Attributes
    ----------
    most : tuple of int
        Largest number of non-zero weights in a group, for each layer.
    least : tuple of int
        Smallest such number; below n where kept weights happen to be zero.
    density : tuple of float
        Share of non-zero weights.
    """

    n: int
    m: int
    layers: tuple[str, ...]
    most: tuple[int, ...]
    least: tuple[int, ...]
    density: tuple[float, ...]

    @property
    def valid(self) -> bool:
        """Whether no group has more than n non-zero weights."""
        return max(self.most) <= self.n

    @property
    def exact(self) -> bool:
        """Whether every group has exactly n."""
        return self.valid and min(self.least) == self.n

    def to_frame(self) -> Any:
        """Return a data frame with a row a layer: layer, most, least, density."""
        import pandas as pd

        return pd.DataFrame(
            {"layer": self.layers, "most": self.most, "least": self.least, "density": self.density}
        )

    def plot(self, ax: Any = None) -> Any:
        """Draw the layers' density against the pattern's, and return the axes."""
        from lodim.plots import COLORS, new_axes

        ax = new_axes(ax)
        ax.barh(self.layers, self.density, color=COLORS[0])
        ax.axvline(self.n / self.m, color=COLORS[1], linestyle="--", label=f"{self.n}:{self.m}")
        ax.set(xlabel="share of non-zero weights", ylabel="layer")
        ax.invert_yaxis()
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1))
        return ax

    def __str__(self) -> str:
        said = "exactly" if self.exact else "at most" if self.valid else "not"
        worst = "" if self.valid else f"; {max(self.most)} in the fullest group of {self._fullest!r}"
        layers = "1 layer" if len(self.layers) == 1 else f"{len(self.layers)} layers"
        return f"{layers} {said} {self.n}:{self.m}{worst}"

    @property
    def _fullest(self) -> str:
        return self.layers[self.most.index(max(self.most))]


@checked
@torch.no_grad()
def check_nm(
    model: nn.Module,
    n: int,
    m: int,
    targets: LayerFilter = FEED_FORWARD,
    *,
    exclude: LayerFilter = (),
    dim: str = "in",
) -> NMCheck:
    """Count the non-zero weights in every group of a model's layers.

    Parameters
    ----------
    targets, exclude : str, sequence of str or callable
        See :func:`lodim.nets.find_layers`; by default a transformer's feed-forward layers.
    dim : {"in", "out"}
        Along which groups run.

    Returns
    -------
    NMCheck
        ``valid``: at most n in every group of m; ``exact``: exactly n.

    Raises
    ------
    ValueError
        No such layers, or m does not divide one.
    """
    check_pattern(n, m)
    layers = sparse_layers(model, targets, exclude)
    return check_weights({name: (layer.weight, axis_of(layer, dim)) for name, layer in layers.items()}, n, m)


@torch.no_grad()
def check_weights(weights: Mapping[str, tuple[Any, int]], n: int, m: int) -> NMCheck:
    """Count the non-zero entries in every group of some tensors, each with its groups' axis, which m must divide."""
    counts = {}
    for name, (weight, axis) in weights.items():
        if not weight.numel():
            raise ValueError(f"{name!r} holds no weight (shape {tuple(weight.shape)})")
        if weight.shape[axis] % m:
            size = weight.shape[axis]
            raise ValueError(f"groups of {m} do not divide the {size} weights of {name!r} along axis {axis}")
        counts[name] = _group_counts(weight.detach(), m, axis)
    return NMCheck(
        int(n),
        int(m),
        tuple(counts),
        tuple(int(c.max()) for c in counts.values()),
        tuple(int(c.min()) for c in counts.values()),
        tuple(float(c.double().mean()) / m for c in counts.values()),
    )


def _group_counts(weight: Tensor, m: int, axis: int) -> Shaped[Tensor, " ..."]:
    return (weight != 0).unflatten(axis, (-1, m)).sum(axis + 1)


@checked
def architecture_divergence(masks: Mapping[str, Tensor], reference: Mapping[str, Tensor]) -> float:
    """Return the share of mask bits in which two sets of masks differ (SAD).

    Parameters
    ----------
    masks, reference : mapping of str to Tensor
        By layer; non-zero where a weight is kept.

    Raises
    ------
    ValueError
        The layers or their shapes differ.

    References
    ----------
    A. Zhou and others, arXiv 2102.04010, Section 3.2: sparse architecture divergence.
    """
    if masks.keys() != reference.keys():
        raise ValueError(
            f"masks of the layers {list(masks)} cannot be compared with those of {list(reference)}"
        )
    for name, mask in masks.items():
        if mask.shape != reference[name].shape:
            raise ValueError(
                f"masks of {name!r}: shapes {tuple(mask.shape)} and {tuple(reference[name].shape)}"
            )
    if not any(mask.numel() for mask in masks.values()):
        raise ValueError("there are no masks to compare")
    changed = sum(int((mask.bool() != reference[name].bool()).sum()) for name, mask in masks.items())
    return changed / sum(mask.numel() for mask in masks.values())
