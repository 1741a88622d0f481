r"""A quantised model run in integers only, bit for bit the same on every machine: :func:`to_integer`.

The problem: a fake-quantised model computes in floating point on rounded numbers; a chip without floating point must
get the same answer from integers. With inputs :math:`S_x (x_q - Z_x)` and weights :math:`S_w (W_q - Z_w)` a layer is

.. math:: a = \sum (W_q - Z_w)(x_q - Z_x) + b_q, \qquad b_q = \lfloor b / (S_w S_x) \rceil, \qquad
          y_q = \mathrm{clamp}(Z_y + \lfloor M a \rceil), \quad M = \frac{S_w S_x}{S_y},

with 32-bit sums a and the factor M as a dyadic number :math:`c / 2^n`: a product and a rounding shift, halves away from
zero. What may stand between layers works on a itself (:class:`~lodim.landscape.quantization.FixedPoint`).

==================================== ==========================================================
symbol                               name here
==================================== ==========================================================
:math:`a`, its scale                 ``FixedPoint.codes``, ``FixedPoint.scale``
:math:`W_q - Z_w`, :math:`b_q`       ``IntegerLayer.weight``, ``IntegerLayer.bias``
:math:`M = c / 2^n`                  :class:`~lodim.landscape.quantization.Dyadic`
==================================== ==========================================================

A 32-bit sum never overflows: :math:`\max_o \sum |W_q - Z_w| \max|x_q - Z_x| + |b_q| < 2^{31}` is checked for each layer
when it is made, and such bounds are carried along through sums and averages.

Sources: A. Gholami et al., arXiv 2103.13630, Section IV.A; B. Jacob et al., arXiv 1712.05877, Section 2 (bias at scale
:math:`S_w S_x`, fixed-point multiplier); Z. Yao et al., arXiv 2011.10680 (dyadic sums of residuals).
Departures: values are brought to 8 bits where the next layer reads them rather than where they are made, so that
each is rounded once; the sums are computed in double precision, which is exact below :math:`2^{53}`, and everything
else in 64-bit integers.

**Arithmetic without floating point** (:class:`FixedPoint`, :class:`Dyadic`). A real factor M becomes *dyadic*, :math:`M
\approx c / 2^n` with :math:`2^{30} \le c < 2^{31}`, off by less than :math:`2^{-30} M`: multiplying is an integer
product and a rounding shift, halves away from zero. ReLU, maxima and reshaping act on the integers themselves, an
average is a sum with a smaller scale, and a sum of two values brings both to one scale by dyadic factors first. Each
value carries a bound on its integers, so that none passes 32 bits.

=================================== ==================================================
symbol                              name here
=================================== ==================================================
:math:`c, n`                        ``Dyadic.multiplier``, ``Dyadic.shift``
integers, their scale               ``FixedPoint.codes``, ``FixedPoint.scale``
=================================== ==================================================

Sources: A. Gholami et al., arXiv 2103.13630, Section IV.A; Z. Yao et al., arXiv 2011.10680. Departure: pooling is
computed in double precision, which is exact below :math:`2^{53}`; everything else in 64-bit integers.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from lodim.landscape.quantization.grid.affine import from_blocks, quantize_affine, to_blocks
from lodim.landscape.quantization.grid.fake import QUANTIZABLE, ActivationQuantizer, QuantLayer, apply_layer
from lodim.landscape.quantization.spec import QuantSpec
from lodim.validation import checked

__all__ = ["Dyadic", "FixedPoint", "IntegerLayer", "IntegerModel", "dyadic", "rescale", "to_integer"]

INT32 = 2**31
_SUM_ROOM = 2**30


@dataclass(frozen=True, eq=False)
class Dyadic:
    """Factors c / 2**n, with ``multiplier`` c in [2**30, 2**31) and ``shift`` n, both int64."""

    multiplier: Int[Tensor, "*shape"]
    shift: Int[Tensor, "*shape"]

    @property
    def value(self) -> Float[Tensor, "*shape"]:
        """The factors, in double precision."""
        return torch.ldexp(self.multiplier.double(), -self.shift)


def dyadic(factor: Float[Tensor, "*shape"]) -> Dyadic:
    """Return the nearest dyadic numbers, off by less than 2**-30, of positive factors below 2**31."""
    factor = factor.double()
    if not bool(((factor > 0) & (factor < INT32 - 1)).all()):
        raise ValueError(f"dyadic factors are positive and below 2**31, got {factor.min()} to {factor.max()}")
    mantissa, exponent = torch.frexp(factor)
    c = torch.ldexp(mantissa, torch.tensor(31, device=factor.device)).round().long()
    carried = c == INT32  # a mantissa that rounds up to 1
    c = torch.where(carried, c // 2, c)
    return Dyadic(c, 31 - exponent.long() - carried.long())


def rounding_shift(value: Int[Tensor, "*shape"], shift: Int[Tensor, "*other"]) -> Int[Tensor, "*out"]:
    """Return value / 2**shift to the nearest integer, halves away from zero, for sizes below 2**62."""
    bounded = shift.clamp(max=62)
    half = torch.where(bounded > 0, torch.ones_like(shift) << (bounded - 1).clamp_min(0), 0)
    size = (value.abs() + half) >> bounded
    return torch.where(shift > 62, 0, value.sign() * size)


def rescale(codes: Int[Tensor, "*shape"], factor: Dyadic) -> Int[Tensor, "*out"]:
    """Return codes of 32 bits times dyadic factors, broadcast against them, in integers; OverflowError beyond."""
    if codes.numel() and int(codes.abs().max()) >= INT32:
        raise OverflowError(f"a sum of {int(codes.abs().max())} does not fit 32 bits")
    return rounding_shift(codes * factor.multiplier, factor.shift)


@dataclass(frozen=True, eq=False)
class FixedPoint:
    """Integers that stand for ``codes * scale``; what flows between the layers of an :class:`IntegerModel`.

    ReLU, maximum and average pooling, reshaping, means over axes, dropout in
    evaluation and sums of two of them work on it as on a tensor.

    Attributes
    ----------
    codes : Tensor, shape (batch, ...)
        int64.
    scale : Tensor
        Double precision, of as many axes as the codes or none; 1 along the batch.
    bound : int
        No code is larger, whatever the model's input.
    """

    codes: Int[Tensor, "batch ..."]
    scale: Float[Tensor, " ..."]
    bound: int

    @property
    def shape(self) -> torch.Size:
        """Of the codes."""
        return self.codes.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.codes.ndim

    def dim(self) -> int:
        """Number of axes."""
        return self.codes.ndim

    def size(self, dim: int | None = None) -> Any:
        """Return the shape or one of its entries."""
        return self.codes.shape if dim is None else self.codes.shape[dim]

    def to_float(self) -> Float[Tensor, "batch ..."]:
        """Return the numbers, in double precision."""
        return self.codes * self.scale

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> FixedPoint:
        """Return it with axes merged."""
        return self._reshaped(lambda t: t.flatten(start_dim, end_dim))

    def reshape(self, *shape: Any) -> FixedPoint:
        """Return it in another shape."""
        return self._reshaped(lambda t: t.reshape(*shape))

    view = reshape

    def relu(self) -> FixedPoint:
        """Return it with negative codes set to zero."""
        return FixedPoint(self.codes.clamp_min(0), self.scale, self.bound)

    def mean(self, dim: Any, keepdim: bool = False) -> FixedPoint:
        """Return the mean over axes that share a scale: the sum, with a smaller scale."""
        dims = [d % self.codes.ndim for d in ((dim,) if isinstance(dim, int) else dim)]
        count, scale = math.prod(self.codes.shape[d] for d in dims), self.scale
        if 0 in dims or any(scale.ndim and scale.shape[d] > 1 for d in dims):
            raise NotImplementedError(
                "a mean over the batch, or over channels of different scales, has no integer form"
            )
        if scale.ndim and not keepdim:
            scale = scale.squeeze(dims)
        total = self.codes.sum(dims, keepdim=keepdim)
        return _within_int32(total, scale / count, self.bound * count, "an average")

    def __add__(self, other: Any) -> FixedPoint:
        if not isinstance(other, FixedPoint):
            raise NotImplementedError(
                f"an integer value plus a {type(other).__name__}: both must come from quantised layers"
            )
        return _add(self, other)

    __radd__ = __add__

    def _reshaped(self, change: Callable[[Tensor], Tensor]) -> FixedPoint:
        codes, scale = change(self.codes), self.scale
        if codes.shape[0] != self.codes.shape[0]:
            raise NotImplementedError(
                f"reshaping {tuple(self.codes.shape)} to {tuple(codes.shape)} changes the batch"
            )
        if scale.numel() > 1:
            scale = change(scale.expand(self.codes.shape))[:1]
            scale = scale.mean().reshape(()) if bool((scale == scale.flatten()[0]).all()) else scale
        return FixedPoint(codes, scale.reshape(()) if scale.numel() == 1 else scale, self.bound)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        handler = _OPERATIONS.get(func)
        if handler is None:
            name = getattr(func, "__name__", str(func))
            advice = " (fold batch normalisation: fold_bn=True)" if "batch_norm" in name else ""
            raise NotImplementedError(
                f"{name!r} has no integer form here{advice}; there are quantised linear and convolutional layers, "
                "relu, maximum and average pooling, mean, reshaping, dropout in evaluation, and sums"
            )
        return handler(*args, **(kwargs or {}))


def _within_int32(codes: Tensor, scale: Tensor, bound: int, what: str) -> FixedPoint:
    if bound >= INT32:
        raise OverflowError(f"{what} can reach {bound}, which does not fit 32 bits; use fewer bits")
    return FixedPoint(codes, scale, bound)


def _add(a: FixedPoint, b: FixedPoint) -> FixedPoint:
    """Both on one scale: the finest of theirs that leaves the sum within 2**30."""
    reach = a.bound * float(a.scale.max()) + b.bound * float(b.scale.max())
    finest = min(float(a.scale.min()), float(b.scale.min()))
    scale = torch.tensor(max(finest, reach / _SUM_ROOM), dtype=torch.float64, device=a.codes.device)
    codes = sum(rescale(side.codes, dyadic(side.scale / scale)) for side in (a, b))
    return _within_int32(cast(Tensor, codes), scale, math.ceil(reach / float(scale)) + 2, "a sum")


def _exactly(x: FixedPoint, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Pooling of the codes in double precision, exact for 32-bit sums."""
    if x.scale.ndim and any(n > 1 for n in x.scale.shape[2:]):
        raise NotImplementedError("pooling over positions of different scales has no integer form")
    return change(x.codes.double()).round().long()


def _max_pool(x: FixedPoint, *args: Any, **kwargs: Any) -> FixedPoint:
    if kwargs.pop("return_indices", False):
        raise NotImplementedError("max_pool2d with return_indices has no integer form")
    return FixedPoint(_exactly(x, lambda t: F.max_pool2d(t, *args, **kwargs)), x.scale, x.bound)


def _average_pool(
    x: FixedPoint,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> FixedPoint:
    if ceil_mode or not (count_include_pad or padding in (0, (0, 0))):
        raise NotImplementedError("average pooling over windows of different sizes has no integer form")
    area = kernel_size**2 if isinstance(kernel_size, int) else math.prod(kernel_size)
    total = _exactly(x, lambda t: F.avg_pool2d(t, kernel_size, stride, padding, divisor_override=1))
    return _within_int32(total, x.scale / (divisor_override or area), x.bound * area, "an average")


def _adaptive_average(x: FixedPoint, output_size: Any) -> FixedPoint:
    wanted = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
    sizes = [have if want is None else want for want, have in zip(wanted, x.shape[-2:])]
    if any(have % want for want, have in zip(sizes, x.shape[-2:])):
        raise NotImplementedError(
            f"adaptive pooling of {tuple(x.shape[-2:])} to {tuple(sizes)} has windows of different sizes"
        )
    return _average_pool(x, tuple(have // want for want, have in zip(sizes, x.shape[-2:])))


def _dropout(x: FixedPoint, p: float = 0.5, training: bool = True, inplace: bool = False) -> FixedPoint:
    if training:
        raise NotImplementedError("dropout in training mode has no integer form; call model.eval()")
    return x


_OPERATIONS: dict[Any, Callable[..., Any]] = {
    torch.relu: FixedPoint.relu,
    F.relu: lambda x, inplace=False: x.relu(),
    torch.flatten: FixedPoint.flatten,
    torch.reshape: lambda x, shape: x.reshape(shape),
    torch.mean: FixedPoint.mean,
    torch.add: lambda a, b: a + b,
    torch.max_pool2d: _max_pool,
    F.max_pool2d: _max_pool,
    F.avg_pool2d: _average_pool,
    F.adaptive_avg_pool2d: _adaptive_average,
    F.dropout: _dropout,
    F.dropout2d: _dropout,
}


@checked
class IntegerLayer(nn.Module):
    """A quantised layer in integers; its input has one fixed scale, its weight is on a grid by tensor or channel.

    Attributes
    ----------
    weight, bias : Tensor
        int64: codes less their zero points, and the bias at the scale of the sums.
    sum_scale : Tensor, shape (outputs,)
        Of the sums: weight's times input's.
    bound : int
        Largest sum any input can give.

    Raises
    ------
    ValueError
        A layer with other quantisers.
    OverflowError
        A sum could pass 32 bits.
    """

    weight: Tensor
    bias: Tensor
    input_scale: Tensor
    input_zero: Tensor
    sum_scale: Tensor

    def __init__(self, name: str, source: QuantLayer) -> None:
        super().__init__()
        inputs, spec = _check_layer(name, source)
        quantizer: Any = source.weight_quantizer
        codes = quantizer.codes(source.layer.weight).long()
        grid = getattr(quantizer, "quantizer", quantizer)  # inside a packed weight
        blocks = to_blocks(codes, spec)
        zero = getattr(grid, "zero_point", torch.zeros(len(blocks))).long()
        shifted = blocks - zero[:, None]
        weight = from_blocks(shifted, codes.shape, spec)
        n_out = len(weight)
        scale = grid.scale.double().expand(n_out)
        live = shifted.expand(n_out, -1).any(dim=1) if len(shifted) > 1 else shifted.any().expand(n_out)
        if bool(live.any()):
            # a channel of zeros can take any scale: one at which its bias is as fine as the others'
            scale = torch.where(live, scale, scale[live].min())
        self.input_spec = inputs.spec
        self.register_buffer("input_scale", inputs.scale.double().reshape(()))
        self.register_buffer("input_zero", inputs.zero_point.long().reshape(()))
        self.register_buffer("sum_scale", scale * self.input_scale)
        bias = cast("Tensor | None", source.layer.bias)
        exact = torch.zeros(n_out) if bias is None else bias.detach().double() / self.sum_scale
        self.register_buffer("weight", weight)
        self.register_buffer("bias", exact.round().long().to(weight.device))
        self.bound = self._largest_sum(name)
        geometry = copy.copy(source.layer)
        geometry._parameters = {"weight": None, "bias": None}  # only how the layer slides over its input
        self.geometry = geometry

    def _largest_sum(self, name: str) -> int:
        zero = int(self.input_zero)
        reach = max(abs(self.input_spec.qmin - zero), abs(self.input_spec.qmax - zero))
        bound = int((self.weight.abs().flatten(1).sum(dim=1) * reach + self.bias.abs()).max())
        if bound >= INT32:
            raise OverflowError(
                f"the sums of layer {name!r} can reach {bound}, which does not fit 32 bits; use fewer bits, or scales "
                "closer to each other (finer granularity, equalise=True)"
            )
        return bound

    def input_codes(self, x: Float[Tensor, " ..."] | FixedPoint) -> Int[Tensor, " ..."]:
        """Return the codes of the model's own input, or of what integer layers gave, zero point included."""
        spec = self.input_spec
        if isinstance(x, FixedPoint):
            moved = rescale(x.codes, dyadic(x.scale / self.input_scale))
            return (moved + self.input_zero).clamp(spec.qmin, spec.qmax)
        scale, zero = self.input_scale.float().reshape(1), self.input_zero.int().reshape(1)
        return quantize_affine(x, scale, zero, spec).long()

    def forward(self, x: Float[Tensor, " ..."] | FixedPoint) -> FixedPoint:
        """Return the layer's sums."""
        steps = (self.input_codes(x) - self.input_zero).double()
        sums = apply_layer(self.geometry, steps, self.weight.double(), self.bias.double())
        shape = [1] * sums.ndim
        shape[-1 if isinstance(self.geometry, nn.Linear) else 1] = -1
        return FixedPoint(sums.round().long(), self.sum_scale.reshape(shape), self.bound)


def _check_layer(name: str, source: QuantLayer) -> tuple[ActivationQuantizer, QuantSpec]:
    """The input's quantiser and the weight's spec, if integers can do what they say."""
    inputs, spec = source.activation_quantizer, source.weight_spec
    grid = getattr(source.weight_quantizer, "quantizer", source.weight_quantizer)
    problem = None
    if isinstance(source.layer, nn.Embedding):
        problem = "it is an embedding"
    elif spec is None or not hasattr(grid, "scale"):
        problem = "its weight is not on an affine grid"
    elif spec.granularity not in ("tensor", "channel") or (spec.granularity == "channel" and spec.axis != 0):
        problem = f"its weight has scales by {spec.granularity} (axis {spec.axis}), which one sum would mix"
    elif not isinstance(inputs, ActivationQuantizer):
        problem = "its input is not quantised"
    elif inputs.mode != "frozen" or inputs.spec.granularity != "tensor":
        problem = "its input must have one scale, fixed by calibration"
    elif getattr(source.layer, "padding_mode", "zeros") != "zeros":
        problem = "it is not padded with zeros"
    if problem:
        raise ValueError(
            f"layer {name!r} has no integer form: {problem}. Recipes that have: weights by 'tensor' or 'channel', "
            "activations by 'tensor', not dynamic, such as the preset 'w8a8'"
        )
    return cast(ActivationQuantizer, inputs), cast(QuantSpec, spec)


@checked
class IntegerModel(nn.Module):
    """A model between whose input and output are integers only."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    @torch.no_grad()
    def sums(self, x: Float[Tensor, "batch ..."]) -> FixedPoint:
        """Return the output in integers; the first layer rounds the input."""
        out = self.model(x)
        if not isinstance(out, FixedPoint):
            raise ValueError(f"the output is a {type(out).__name__}, not the sums of a quantised layer")
        return out

    def forward(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """Return the output as numbers."""
        return self.sums(x).to_float().to(x.dtype)


@checked
def to_integer(model: nn.Module) -> IntegerModel:
    """Return the integer-only simulation of a model that is calibrated, its scales fixed; converted already or not.

    Raises
    ------
    ValueError
        A layer that has no integer form, naming it and what to change.
    OverflowError
        A layer whose sums could pass 32 bits.
    """
    inside = {id(layer.layer) for layer in model.modules() if isinstance(layer, QuantLayer)}
    plain = [name for name, m in model.named_modules() if isinstance(m, QUANTIZABLE) and id(m) not in inside]
    if plain:
        raise ValueError(f"integer-only needs every layer quantised; {', '.join(map(repr, plain))} are not")
    model = copy.deepcopy(model).eval()
    made: dict[int, IntegerLayer] = {}
    for name, layer in list(model.named_modules(remove_duplicate=False)):
        if isinstance(layer, QuantLayer):
            if id(layer) not in made:
                made[id(layer)] = IntegerLayer(name, layer)
            model.set_submodule(name, made[id(layer)])
    return IntegerModel(model.requires_grad_(False))
