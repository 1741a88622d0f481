r"""What a quantiser is to do: :class:`QuantSpec` for one tensor, :class:`QuantRecipe` for a model.

A grid of b bits holds integer codes :math:`q \in [q_{\min}, q_{\max}]` which stand for :math:`r \approx S (q - Z)`:

=====================  =====================================================  ======================
grid                   codes                                                  option
=====================  =====================================================  ======================
symmetric, restricted  :math:`-(2^{b-1}-1), \dots, 2^{b-1}-1`, :math:`Z = 0`  ``range="restricted"``
symmetric, full        :math:`-2^{b-1}, \dots, 2^{b-1}-1`, :math:`Z = 0`      ``range="full"``
asymmetric             :math:`0, \dots, 2^b-1`                                ``symmetric=False``
=====================  =====================================================  ======================

Source: A. Gholami et al., "A survey of quantization methods for efficient neural network inference" (arXiv
2103.13630), Sections 3.1-3.5. The survey writes :math:`\mathrm{Int}(r/S) - Z`; its Z is ours with the other sign.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lodim.validation import check_choice, check_in_range, checked

__all__ = ["GRANULARITIES", "OBSERVERS", "PRESETS", "QuantRecipe", "QuantSpec", "as_recipe"]

GRANULARITIES = ("tensor", "channel", "group", "token")
OBSERVERS = ("minmax", "moving_average", "percentile", "mse", "entropy", "norm")


@checked
@dataclass(frozen=True)
class QuantSpec:
    """How one tensor is put on a grid.

    Attributes
    ----------
    bits : int
        1 to 16.
    symmetric : bool
        Whether zero is the middle of the grid.
    granularity : {"tensor", "channel", "group", "token"}
        What shares a scale: everything, an index of ``axis``, ``group_size`` consecutive inputs of such an index (the
        last group may be shorter), or a row along the last axis (of activations, whose scale is then dynamic).
    group_size : int, optional
        With ``granularity="group"``.
    axis : int
        The axis of the channels: 0, the outputs, of a layer's weight (an embedding's rows).
    observer : {"minmax", "moving_average", "percentile", "mse", "entropy", "norm"}
        How the range is chosen, see :mod:`~lodim.landscape.quantization.grid.observers`.
    rounding : {"nearest", "stochastic"}
        To nearest, ties to even; or up with a chance equal to the fraction.
    range : {"restricted", "full"}
        Of a symmetric grid: without or with the code :math:`-2^{b-1}`.
    percentile : float
        Of ``observer="percentile"``, in percent.
    momentum : float
        Weight of the newest batch, of ``observer="moving_average"``.
    p : float
        The power of ``observer="norm"``.
    """

    bits: int = 8
    symmetric: bool = True
    granularity: str = "channel"
    group_size: int | None = None
    axis: int = 0
    observer: str = "minmax"
    rounding: str = "nearest"
    range: str = "restricted"
    percentile: float | int = 99.9
    momentum: float | int = 0.01
    p: float | int = 2.4

    def __post_init__(self) -> None:
        check_in_range(self.bits, "bits", low=1, high=16, integer=True)
        check_choice(self.granularity, GRANULARITIES, "granularity")
        check_choice(self.observer, OBSERVERS, "observer")
        check_choice(self.rounding, ("nearest", "stochastic"), "rounding")
        check_choice(self.range, ("restricted", "full"), "range")
        check_in_range(self.percentile, "percentile", low=50, high=100)
        check_in_range(self.momentum, "momentum", low=0, high=1)
        if not check_in_range(self.p, "p", low=0) > 0:
            raise ValueError("p must be positive")
        if (self.granularity == "group") != (self.group_size is not None):
            raise ValueError(
                "group_size goes with granularity='group', and only with it; got "
                f"granularity={self.granularity!r}, group_size={self.group_size}"
            )
        if self.group_size is not None:
            check_in_range(self.group_size, "group_size", low=1, integer=True)

    @property
    def qmin(self) -> int:
        """Smallest code."""
        if not self.symmetric:
            return 0
        return -(2 ** (int(self.bits) - 1)) + (self.range == "restricted")

    @property
    def qmax(self) -> int:
        """Largest code."""
        return 2 ** (int(self.bits) - self.symmetric) - 1

    def check_grid(self) -> None:
        """Raise ``ValueError`` if the grid has one point only (1 bit, symmetric and restricted)."""
        if self.qmax == self.qmin:
            raise ValueError(
                "one bit on a symmetric restricted grid leaves only zero; use range='full' or symmetric=False, or "
                "binary weights (a sign times a scale)"
            )


@checked
@dataclass(frozen=True)
class QuantRecipe:
    """How a model is quantised.

    Attributes
    ----------
    weights, activations : QuantSpec or None
        Of each layer's weight and input; None leaves them in floating point.
    dynamic : bool
        Scales of activations from each batch (or token) as it comes, instead of from calibration data.
    skip : sequence of str
        Layers left alone: names, last parts of names, or regular expressions for whole names.
    overrides : dict of str to QuantRecipe or None
        Other recipes for layers named in the same way; the first match counts, None leaves the layer alone. Of an
        override only weights, activations, dynamic and codebook count.
    fold_bn : bool
        Fold batch normalisation into the layer before it.
    equalise : bool
        Even out the ranges of consecutive layers.
    bias_correction : bool
        Move the mean shift of each layer's outputs into its bias; needs calibration data.
    adaround : optional
        Learnt rounding: True, or a mapping of options of :func:`~lodim.landscape.quantization.rounding.adaround`.
    codebook : optional
        Weights on another set of values than an affine grid, instead of ``weights``: a ``CodebookSpec``,
        ``BinarySpec``, ``TernarySpec`` or ``ProductSpec``, or anything whose ``quantizer(weight, gram)`` makes a weight
        quantiser.
    """

    weights: QuantSpec | None = field(default_factory=QuantSpec)
    activations: QuantSpec | None = None
    dynamic: bool = False
    skip: Sequence[str] = ()
    overrides: Mapping[str, QuantRecipe | None] = field(default_factory=dict)
    fold_bn: bool = True
    equalise: bool = False
    bias_correction: bool = False
    adaround: Any = None
    codebook: Any = None

    def __post_init__(self) -> None:
        if isinstance(self.skip, str):
            raise TypeError(f"skip must be a sequence of names, got the string {self.skip!r}")
        for pattern in (*self.skip, *self.overrides):
            _check_pattern(pattern)
        if not isinstance(self.adaround, bool | Mapping | None):
            raise TypeError(f"adaround must be True or a mapping of its options, got {self.adaround!r}")
        if self.weights is not None and self.weights.granularity == "token":
            raise ValueError(
                "granularity='token' is for activations; weights take 'tensor', 'channel' or 'group'"
            )
        if self.codebook is not None and not callable(getattr(self.codebook, "quantizer", None)):
            raise TypeError(
                f"codebook must be a CodebookSpec, ProductSpec or the like, with quantizer(weight, gram); "
                f"got {self.codebook!r}"
            )
        if self.activations is not None:
            _check_activations(self.activations, self.dynamic)
        elif self.dynamic:
            raise ValueError("dynamic=True needs activations=QuantSpec(...)")

    def for_layer(self, name: str) -> QuantRecipe | None:
        """Return the recipe of the layer of a dotted name, None if it is left in floating point."""
        if any(matches(name, pattern) for pattern in self.skip):
            return None
        for pattern, recipe in self.overrides.items():
            if matches(name, pattern):
                return recipe
        return self

    def with_bits(self, bits: int) -> QuantRecipe:
        """Return the recipe with another number of bits for the weights."""
        return replace(self, weights=replace(self.weights or QuantSpec(), bits=bits))

    @property
    def is_static(self) -> bool:
        """Whether some layer's inputs need calibration data."""
        others = [recipe for recipe in self.overrides.values() if recipe is not None]
        return (self.activations is not None and not self.dynamic) or any(r.is_static for r in others)


def _check_activations(spec: QuantSpec, dynamic: bool) -> None:
    if spec.granularity == "group":
        raise ValueError(
            "granularity='group' is for weights; activations take 'tensor', 'channel' or 'token'"
        )
    if spec.granularity == "token" and not dynamic:
        raise ValueError("granularity='token' has a scale for each row as it comes: it needs dynamic=True")
    if spec.granularity == "channel" and spec.axis == 0:
        raise ValueError(
            "axis 0 of activations is the batch; give axis=1 for a convolution's channels or axis=-1 for features"
        )


def _check_pattern(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"{pattern!r} is no regular expression ({error}); layers are named whole, by the last parts of their "
            "names, or by one, in which '.*' stands for anything"
        ) from None


def matches(name: str, pattern: str) -> bool:
    """Whether a dotted name is the pattern, ends in ``.pattern``, or matches it as a regular expression."""
    return name == pattern or name.endswith("." + pattern) or re.fullmatch(pattern, name) is not None


def _presets() -> dict[str, QuantRecipe]:
    def weights(bits: int, group_size: int | None = None) -> QuantSpec:
        granularity = "channel" if group_size is None else "group"
        return QuantSpec(
            bits, granularity=granularity, group_size=group_size, observer="mse" if bits < 8 else "minmax"
        )

    inputs = QuantSpec(symmetric=False, granularity="tensor")
    tokens = QuantSpec(granularity="token")
    return {
        **{f"w{bits}": QuantRecipe(weights(bits)) for bits in (8, 4, 3, 2)},
        **{f"w{bits}-group64": QuantRecipe(weights(bits, 64)) for bits in (4, 3, 2)},
        "w8a8": QuantRecipe(weights(8), inputs),
        "w4a8": QuantRecipe(weights(4), inputs),
        "w8a8-dynamic": QuantRecipe(weights(8), tokens, dynamic=True),
        "w4a8-dynamic": QuantRecipe(weights(4, 64), tokens, dynamic=True),
    }


PRESETS: Mapping[str, QuantRecipe] = _presets()


@checked
def as_recipe(recipe: Any) -> QuantRecipe:
    """Return a recipe from a recipe, from a spec of the weights, or from a name of :data:`PRESETS`.

    ``"w4-group64"`` is 4-bit weights in groups of 64, ``"w8a8"`` 8-bit weights and calibrated inputs,
    ``"w8a8-dynamic"`` inputs scaled token by token.
    """
    if isinstance(recipe, str):
        return PRESETS[check_choice(recipe, PRESETS, "recipe")]
    if isinstance(recipe, QuantSpec):
        return QuantRecipe(recipe)
    if not isinstance(recipe, QuantRecipe):
        raise TypeError(
            f"a recipe is a preset's name ({', '.join(map(repr, PRESETS))}), a QuantSpec or a QuantRecipe; got "
            f"{recipe!r}. Weights of 8 bits are 'w8' or QuantSpec(8)"
        )
    return recipe
