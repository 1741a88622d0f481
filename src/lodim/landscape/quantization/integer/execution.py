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
"""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lodim.landscape.quantization.grid.affine import from_blocks, quantize_affine, to_blocks
from lodim.landscape.quantization.grid.fake import QUANTIZABLE, ActivationQuantizer, QuantLayer, apply_layer
from lodim.landscape.quantization.integer.fixed_point import INT32, FixedPoint, dyadic, rescale
from lodim.landscape.quantization.spec import QuantSpec

__all__ = ["IntegerLayer", "IntegerModel", "to_integer"]


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

    def input_codes(self, x: Float[Tensor, ...] | FixedPoint) -> Int[Tensor, ...]:
        """Return the codes of the model's own input, or of what integer layers gave, zero point included."""
        spec = self.input_spec
        if isinstance(x, FixedPoint):
            moved = rescale(x.codes, dyadic(x.scale / self.input_scale))
            return (moved + self.input_zero).clamp(spec.qmin, spec.qmax)
        scale, zero = self.input_scale.float().reshape(1), self.input_zero.int().reshape(1)
        return quantize_affine(x, scale, zero, spec).long()

    def forward(self, x: Float[Tensor, ...] | FixedPoint) -> FixedPoint:
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
