r"""Layers that compute with quantised weights and inputs, in floating point: :class:`QuantLayer`.

A :class:`QuantLayer` stands where a linear, convolutional or embedding layer stood. What it does to the weight is a
module of its own, ``weight_quantizer``, so that learnt steps, learnt rounding and codebooks are other such modules;
what it does to the input is an :class:`ActivationQuantizer`. A weight quantiser has

===========================  ====================================================================================
``forward(weight)``          the weight as the quantised layer sees it (differentiable where that means something)
``codes(weight)``            its codes, int32, of the weight's shape or of a shape of the quantiser's own
``decode(codes)``            the weight that codes stand for, equal to ``forward(weight)`` bit for bit
``code_range``               smallest and largest code
``overhead_bits()``          bits besides the codes by kind, e.g. ``{"scales": 320, "zero points": 80}``
===========================  ====================================================================================

Source: A. Gholami et al., arXiv 2103.13630, Sections 3.4, 3.5 and 4.1 (simulated quantisation).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from lodim.landscape.quantization.grid.affine import (
    check_channels,
    choose_qparams,
    dequantize_affine,
    fake_quantize,
    quantize_affine,
    to_blocks,
)
from lodim.landscape.quantization.grid.observers import RangeObserver, block_extremes, weight_qparams
from lodim.landscape.quantization.spec import QuantSpec
from lodim.nets.kinds import PLAIN, WeightOwner
from lodim.randomness import torch_generator
from lodim.validation import checked

__all__ = ["ActivationQuantizer", "AffineWeight", "QuantLayer", "keeping_precision"]

QUANTIZABLE = (*PLAIN, nn.Embedding)
SCALE_BITS = 32


def keeping_precision(move: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return what moves a tensor as ``move`` (of ``nn.Module.to``, ``half`` and the like) does, its precision kept."""

    def moved(tensor: Tensor) -> Tensor:
        new = move(tensor)
        return new if new.dtype == tensor.dtype else tensor.to(new.device)

    return moved


@checked
class AffineWeight(nn.Module):
    """Weights on an affine grid whose scales follow from the weight.

    Parameters
    ----------
    follow : bool
        Whether the ranges are chosen again at every forward in training mode, for weights being trained.
    seed : int
        Of stochastic rounding: codes are the same at every call in evaluation mode.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(
        self, weight: Float[Tensor, "*shape"], spec: QuantSpec, *, follow: bool = False, seed: int = 0
    ) -> None:
        super().__init__()
        self.spec, self.follow, self.seed = spec, follow, seed
        scale, zero_point = weight_qparams(weight.detach(), spec)
        self.register_buffer("scale", scale)
        self.register_buffer("zero_point", zero_point)

    @property
    def code_range(self) -> tuple[int, int]:
        """Smallest and largest code."""
        return self.spec.qmin, self.spec.qmax

    @torch.no_grad()
    def refresh(self, weight: Float[Tensor, "*shape"]) -> None:
        """Choose the ranges again."""
        scale, zero_point = weight_qparams(weight.detach(), self.spec)
        self.scale.copy_(scale)
        self.zero_point.copy_(zero_point)

    def forward(self, weight: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the rounded weight."""
        if self.follow and self.training:
            self.refresh(weight)
        generator = None if self.training else self._generator()
        return fake_quantize(weight, self.scale, self.zero_point, self.spec, generator=generator)

    def codes(self, weight: Float[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        """Return the weight's codes, those of evaluation mode."""
        return quantize_affine(weight, self.scale, self.zero_point, self.spec, generator=self._generator())

    def decode(self, codes: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the weight that codes stand for, in the precision of the scales."""
        return dequantize_affine(codes, self.scale, self.zero_point, self.spec)

    def overhead_bits(self) -> dict[str, int]:
        """Return the bits of scales (single precision) and zero points (as wide as a code)."""
        bits = {"scales": SCALE_BITS * self.scale.numel()}
        if not self.spec.symmetric:
            bits["zero points"] = self.spec.bits * self.zero_point.numel()
        return bits

    def _apply(self, fn: Any, recurse: bool = True) -> AffineWeight:
        """Move to another device; scales stay in the precision in which they were chosen."""
        return super()._apply(keeping_precision(fn), recurse)

    def _generator(self) -> torch.Generator | None:
        return torch_generator(self.seed) if self.spec.rounding == "stochastic" else None

    def extra_repr(self) -> str:
        """Return the spec."""
        return str(self.spec)


@checked
class ActivationQuantizer(nn.Module):
    """A layer's input on a grid; if dynamic, the range of each input is chosen from itself.

    Attributes
    ----------
    mode : {"observing", "frozen", "dynamic", "off"}
        While observing, inputs pass unchanged and their ranges are noted; :meth:`freeze` ends that.
    scale, zero_point : Tensor, shape (n_blocks,)
        Buffers, once frozen.
    observer : RangeObserver or None
        While observing.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, spec: QuantSpec, *, dynamic: bool = False) -> None:
        super().__init__()
        spec.check_grid()
        self.spec = spec
        self.mode = "dynamic" if dynamic else "observing"
        self.observer: RangeObserver | None = None if dynamic else RangeObserver(spec)
        self.register_buffer("scale", torch.empty(0))
        self.register_buffer("zero_point", torch.empty(0, dtype=torch.int32))

    @property
    def is_calibrated(self) -> bool:
        """Whether it could quantise now: dynamic, frozen, or with something observed."""
        return self.observer is None or self.observer.n_batches > 0

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the input rounded, or unchanged while observing."""
        if self.mode == "frozen":
            check_channels(x.shape, self.spec, self.scale.numel())
            return fake_quantize(x, self.scale, self.zero_point, self.spec)
        if self.mode == "dynamic":
            return fake_quantize(x, *self.qparams(x), self.spec)
        if self.mode == "observing" and self.observer is not None:
            self.observer.update(x)
        return x

    @torch.no_grad()
    def qparams(self, x: Float[Tensor, "*shape"]) -> tuple[Float[Tensor, " blocks"], Int[Tensor, " blocks"]]:
        """Return the scales and zero points for an input: its own if dynamic, else those frozen."""
        if self.mode != "dynamic":
            return self.scale, self.zero_point
        if self.spec.observer in ("minmax", "moving_average"):
            return choose_qparams(*block_extremes(to_blocks(x, self.spec)), self.spec)
        return weight_qparams(x, self.spec)

    def _apply(self, fn: Any, recurse: bool = True) -> ActivationQuantizer:
        """Move to another device; scales stay in the precision in which they were chosen."""
        return super()._apply(keeping_precision(fn), recurse)

    def freeze(self) -> None:
        """Fix the scales from what was observed; RuntimeError if that is nothing."""
        if self.mode != "observing":
            return
        if not self.is_calibrated:
            raise RuntimeError("no input has been observed; run calibrate(model, data) first")
        self.scale, self.zero_point = choose_qparams(*cast(RangeObserver, self.observer).range(), self.spec)
        self.mode, self.observer = "frozen", None

    def extra_repr(self) -> str:
        """Return spec and mode."""
        return f"{self.spec}, mode={self.mode!r}"


@checked
class QuantLayer(nn.Module):
    """A layer that computes with a quantised weight and input.

    Parameters
    ----------
    layer : nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d or nn.Embedding
        Kept; its weight stays in floating point and may be trained.
    weight_quantizer : nn.Module, QuantSpec or None
        See the module's text; a spec makes an :class:`AffineWeight`, None leaves the weight.
    activation_quantizer : nn.Module, QuantSpec or None
        Of the input; a spec makes an observing :class:`ActivationQuantizer`. An embedding's input are numbers of rows
        and is never quantised.

    Attributes
    ----------
    enabled : bool
        False computes in floating point, as ``layer`` does.
    fixed : bool
        The layer's weight has been rounded for good and is taken as it is.
    source : tuple of str
        All names that the float model has for the weight; several if layers share it.
    """

    weight_owner: ClassVar[WeightOwner] = WeightOwner(
        method="quantisation",
        state="is quantised and reads its weight by itself",
        release="change the weight before quantising, or leave it in floating point with QuantRecipe(skip=...)",
    )
    source: tuple[str, ...] = ()

    def __init__(
        self,
        layer: nn.Module,
        weight_quantizer: nn.Module | QuantSpec | None,
        activation_quantizer: nn.Module | QuantSpec | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(layer, QUANTIZABLE):
            known = ", ".join(kind.__name__ for kind in QUANTIZABLE)
            raise TypeError(f"a quantised layer wraps one of {known}; got {type(layer).__name__}")
        self.layer = layer
        if isinstance(weight_quantizer, QuantSpec):
            weight_quantizer = AffineWeight(layer.weight, weight_quantizer)
        if isinstance(activation_quantizer, QuantSpec):
            activation_quantizer = ActivationQuantizer(activation_quantizer)
        self.weight_quantizer = weight_quantizer
        self.activation_quantizer = None if isinstance(layer, nn.Embedding) else activation_quantizer
        self.enabled, self.fixed = True, False

    @property
    def weight_spec(self) -> QuantSpec | None:
        """The grid of the weight, if it is on one."""
        return getattr(self.weight_quantizer, "spec", None)

    @property
    def activation_spec(self) -> QuantSpec | None:
        """Of the input's quantiser, if there is one."""
        return getattr(self.activation_quantizer, "spec", None)

    @property
    def weight(self) -> Tensor:
        """The quantised weight, for code that reads a layer's weight instead of calling it."""
        return self.quantized_weight()

    @property
    def bias(self) -> Tensor | None:
        """The layer's bias, in floating point."""
        return getattr(self.layer, "bias", None)

    def quantized_weight(self) -> Tensor:
        """Return the weight the layer computes with; gradients reach ``layer.weight`` as its quantiser lets them."""
        weight = self.layer.weight
        if self.weight_quantizer is None or self.fixed or not self.enabled:
            return weight
        return self.weight_quantizer(weight)

    def forward(self, input: Tensor) -> Tensor:
        """Return the layer's output."""
        if self.activation_quantizer is not None and self.enabled:
            input = self.activation_quantizer(input)
        return apply_layer(self.layer, input, self.quantized_weight())


def apply_layer(layer: nn.Module, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return what a layer would compute with another weight, and another bias if one is given."""
    if isinstance(layer, nn.Embedding):
        limits = layer.max_norm, layer.norm_type, layer.scale_grad_by_freq, layer.sparse
        return F.embedding(x, weight, layer.padding_idx, *limits)
    bias = cast("Tensor | None", layer.bias) if bias is None else bias
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight, bias)
    return cast(Any, layer)._conv_forward(x, weight, bias)
