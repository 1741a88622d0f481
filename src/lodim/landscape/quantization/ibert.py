r"""GELU, softmax and layer normalisation in integers: second-order polynomials and Newton's square root.

The problem: a transformer's layers are not linear, and exponentials and roots are not integer operations. Each function
becomes a polynomial of degree two on a short interval, whose coefficients are integers at the input's scale S:

.. math:: a (x + b)^2 + c = a S^2 \left[(q + \lfloor b/S \rceil)^2 + \lfloor c / (a S^2) \rceil\right], \qquad x = S q .

===========================  ==========================================================================  ==============
function                     approximation                                                               largest error
===========================  ==========================================================================  ==============
:math:`\mathrm{erf}(x)`      :math:`\pm[1 - 0.2888\,(\min(|x|, 1.769) - 1.769)^2]`                       0.05, at 0
GELU                         :math:`x\,(1 + \mathrm{erf}(x/\sqrt 2))/2`                                  0.02
:math:`e^x,\; x \le 0`       :math:`2^{-z}\,[0.3585\,(p + 1.353)^2 + 0.344]`, :math:`x = p - z \ln 2`    0.002
:math:`\sqrt n`              :math:`r \leftarrow \lfloor (r + \lfloor n / r \rfloor)/2 \rfloor`          below 1
===========================  ==========================================================================  ==============

Softmax subtracts the largest entry, takes exponentials and divides integers; layer normalisation divides the deviations
by the root of their mean square.

Source: S. Kim et al., "I-BERT: integer-only BERT quantization", arXiv 2101.01321, Section 3 (surveyed in arXiv
2103.13630, Section IV.A). Departures: inputs are brought to 16 bits first, so that squares fit 32; coefficients are
rounded to nearest, not down; nothing is added to the variance.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lodim.landscape.quantization.fixed_point import FixedPoint, dyadic, rescale

__all__ = ["integer_exp", "integer_gelu", "integer_layer_norm", "integer_softmax", "integer_sqrt"]

_NARROW = 2**15  # inputs of the polynomials
_ERF = (-0.2888, -1.769)  # the polynomial's a and b; c = 1
_EXP = (0.3585, 1.353, 0.344)
_SHARE_BITS = 15  # of softmax's and the normalisation's outputs
_MOST_HALVINGS = 62
_GUARD_BITS = 8  # of the deviations that the normalisation squares
_MOST_FEATURES = 2**13


def integer_gelu(x: FixedPoint) -> FixedPoint:
    """GELU, x times the normal distribution function."""
    x = _usable(_narrowed(x))
    a, b = _ERF
    scale = x.scale / math.sqrt(2)
    end = (-b / scale).round().long()
    step = (-a) * scale.square()  # of the polynomial, whose sign is turned
    one = (1 / step).round().long()
    erf = x.codes.sign() * (one - (torch.minimum(x.codes.abs(), end) - end).square())
    codes = x.codes * (one + erf)
    bound = x.bound * int(2 * one.max())
    return _fit(codes, x.scale * step / 2, bound)


def integer_exp(x: FixedPoint) -> FixedPoint:
    """Exponential of numbers that are not positive.

    Parameters
    ----------
    x : FixedPoint
        Codes at most 0.

    Raises
    ------
    ValueError
        A positive code.
    """
    if x.codes.numel() and int(x.codes.max()) > 0:
        raise ValueError(
            "the integer exponential is for numbers that are not positive; subtract the largest first"
        )
    x = _usable(x)
    a, b, c = _EXP
    log2 = (math.log(2) / x.scale).round().long().clamp_min(1)
    halvings = torch.div(-x.codes, log2, rounding_mode="floor")
    rest = x.codes + halvings * log2
    step = a * x.scale.square()
    value = (rest + (b / x.scale).round().long()).square() + (c / step).round().long()
    codes = value >> halvings.clamp(max=_MOST_HALVINGS)
    top = int((((b / x.scale).round() + 1).square() + (c / step).round() + 1).max())
    return _fit(codes, step, top)


def integer_softmax(x: FixedPoint, dim: int = -1) -> FixedPoint:
    """Softmax over an axis other than the batch.

    Returns
    -------
    FixedPoint
        Of scale 2**-15.
    """
    axis = dim % x.codes.ndim
    if axis == 0:
        raise NotImplementedError("softmax over the batch has no integer form")
    x = _one_scale(_narrowed(x))
    powers = integer_exp(FixedPoint(x.codes - x.codes.amax(axis, keepdim=True), x.scale, 2 * x.bound))
    total = powers.codes.sum(axis, keepdim=True)
    shares = torch.div((powers.codes << _SHARE_BITS) + total // 2, total, rounding_mode="floor")
    unit = torch.tensor(2.0**-_SHARE_BITS, dtype=torch.float64, device=x.codes.device)
    return FixedPoint(shares, unit, 2**_SHARE_BITS)


def integer_sqrt(n: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Integer part of the square root, by Newton's method from above.

    Parameters
    ----------
    n : Tensor
        int64, at least 0 and below 2**62.
    """
    root = torch.full_like(n, 2**31)
    while True:
        lower = torch.where(root > 0, (root + torch.div(n, root.clamp_min(1), rounding_mode="floor")) >> 1, 0)
        if not bool((lower < root).any()):
            return root
        root = torch.minimum(root, lower)


def integer_layer_norm(
    x: FixedPoint, weight: Float[Tensor, " i"] | None = None, bias: Float[Tensor, " i"] | None = None
) -> FixedPoint:
    """Layer normalisation over the last axis.

    Parameters
    ----------
    weight, bias : Tensor, shape (i,), optional
        Folded into the output's scale and added at it; a weight of 0 leaves the bias.

    Raises
    ------
    NotImplementedError
        More than 8192 features.
    """
    n = x.codes.shape[-1]
    if n > _MOST_FEATURES:
        raise NotImplementedError(
            f"squares of more than {_MOST_FEATURES} features could pass 62 bits; got {n}"
        )
    x = _one_scale(_narrowed(x))
    wide = (x.codes * n - x.codes.sum(-1, keepdim=True)) << _GUARD_BITS
    deviation = wide.sign() * torch.div(wide.abs() + n // 2, n, rounding_mode="floor")
    variance = torch.div(deviation.square().sum(-1, keepdim=True), n, rounding_mode="floor")
    spread = integer_sqrt(variance).clamp_min(1)
    size = torch.div((deviation.abs() << _SHARE_BITS) + spread // 2, spread, rounding_mode="floor")
    codes = deviation.sign() * size
    bound = math.ceil(2 * math.sqrt(n) * 2**_SHARE_BITS) + 1  # a root of v is at least half of v's
    scale = torch.full((n,), 2.0**-_SHARE_BITS, dtype=torch.float64, device=codes.device)
    if weight is not None:
        gain = weight.detach().double()
        codes = codes * gain.sign().long()
        scale = scale * torch.where(gain == 0, torch.ones_like(gain), gain.abs())
    if bias is not None:
        shift = (bias.detach().double() / scale).round().long()
        codes, bound = codes + shift, bound + int(shift.abs().max())
    shape = [1] * (codes.ndim - 1) + [n]
    return _fit(codes, scale.reshape(shape), bound)


def _moved(x: FixedPoint, scale: Tensor) -> FixedPoint:
    """The same numbers at a coarser scale."""
    bound = math.ceil(x.bound * float((x.scale / scale).max())) + 1
    return FixedPoint(rescale(x.codes, dyadic(x.scale / scale)), scale, bound)


def _usable(x: FixedPoint) -> FixedPoint:
    """The same numbers at a scale whose square the polynomials can be written in."""
    if float(x.scale.min()) >= 1 / _NARROW:
        return x
    return _moved(x, x.scale.clamp_min(1 / _NARROW))


def _one_scale(x: FixedPoint) -> FixedPoint:
    """The same numbers at one scale: the coarsest there is."""
    return x if not x.scale.ndim else _moved(x, x.scale.max())


def _narrowed(x: FixedPoint) -> FixedPoint:
    """The same numbers in 16 bits."""
    if x.bound < _NARROW:
        return x
    factor = torch.tensor((_NARROW - 2) / x.bound, dtype=torch.float64, device=x.codes.device)
    return FixedPoint(rescale(x.codes, dyadic(factor)), x.scale / factor, _NARROW - 1)


def _fit(codes: Tensor, scale: Tensor, bound: int) -> FixedPoint:
    """The same numbers in 32 bits, by a rounding shift."""
    shift = max(bound.bit_length() - 31, 0)
    if shift:
        half = 1 << (shift - 1)
        codes = codes.sign() * ((codes.abs() + half) >> shift)
        scale, bound = scale * 2.0**shift, (bound >> shift) + 1
    return FixedPoint(codes, scale, bound)
