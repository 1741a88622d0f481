r"""Rounding a layer's weights one column at a time, each error made up for by the columns still to come: :func:`gptq`.

The problem: nearest rounding minimises the weights' error, not the output's. With inputs' second moments H the output
error of a row is :math:`e H e^\top`. Columns are rounded in turn, and after column j the best change of the columns not
yet rounded, given that column's error, is

.. math:: \delta_{j+1:} = -\frac{w_j - \hat w_j}{U_{jj}}\, U_{j,\, j+1:}, \qquad U^\top U = (H + \lambda I)^{-1},

with U upper triangular, from one Cholesky factorisation for all rows. Columns with the largest inputs go first if
asked.

=============================== =========================================
symbol                          name here
=============================== =========================================
H                               ``gram``, from :func:`~lodim.landscape.quantization.input_gram`
:math:`\lambda`                 ``damping`` times the mean of H's diagonal
=============================== =========================================

Source: E. Frantar et al., arXiv 2210.17323, Section 3 (surveyed family: arXiv 2103.13630, Section III.G). Departures:
scales are chosen once from the weight as it was, so that groups may be of any kind; no blocked updates, which change
speed only.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lodim.landscape.quantization.grid.affine import from_blocks, to_blocks
from lodim.landscape.quantization.grid.fake import AffineWeight, QuantLayer
from lodim.landscape.quantization.layer_data import has_gram, input_gram, layer_inputs, output_error
from lodim.landscape.quantization.spec import QuantSpec
from lodim.validation import check_in_range, checked

__all__ = ["gptq", "gptq_round"]


@checked
@torch.no_grad()
def gptq_round(
    weight: Float[Tensor, "o ..."],
    gram: Float[Tensor, "i i"],
    grid: AffineWeight,
    *,
    damping: float = 0.01,
    order: bool = True,
) -> Float[Tensor, "o ..."]:
    """Return a weight rounded to a grid with little output error.

    Parameters
    ----------
    weight : Tensor
        Outputs along the first axis.
    grid : AffineWeight
        The scales and zero points, which stay: ``grid(result)`` is the result.
    damping : float
        Share of H's mean diagonal added to the diagonal.
    order : bool
        Round the columns of the largest mean square inputs first.

    Raises
    ------
    ValueError
        Negative damping, inputs that are all zero or not finite, or H singular for want of damping.
    """
    check_in_range(damping, "damping", low=0.0)
    spec = grid.spec
    w = weight.flatten(1).double()
    scale, zero = (_spread(t, weight, spec).double() for t in (grid.scale, grid.zero_point))
    h = gram.double().to(w.device)
    power = h.diagonal()
    if not bool(h.isfinite().all()):
        raise ValueError("the layer's inputs hold NaN or infinity")
    if not bool(power.sum() > 0):
        raise ValueError("the layer's inputs are all zero; nothing says which weights matter")
    h = h + torch.eye(len(h), device=h.device, dtype=h.dtype) * damping * power.mean()
    turn = power.argsort(descending=True, stable=True) if order else torch.arange(len(h), device=h.device)
    try:
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(h[turn][:, turn]))
        upper = torch.linalg.cholesky(inverse, upper=True)
    except torch.linalg.LinAlgError:
        raise ValueError(
            "the second moments of the layer's inputs are singular: some input follows from the others; "
            f"raise damping, {damping:g} here"
        ) from None
    left, rounded = w[:, turn].clone(), torch.empty_like(w)
    for j, column in enumerate(turn.tolist()):
        steps = (left[:, j] / scale[:, column]).round() + zero[:, column]
        rounded[:, column] = (steps.clamp(spec.qmin, spec.qmax) - zero[:, column]) * scale[:, column]
        error = (left[:, j] - rounded[:, column]) / upper[j, j]
        left[:, j + 1 :] -= error[:, None] * upper[j, j + 1 :]
    return rounded.reshape(weight.shape).to(weight.dtype)


def _spread(per_block: Tensor, weight: Tensor, spec: QuantSpec) -> Tensor:
    """A number for each block as one for each weight, in rows by output."""
    blocks = to_blocks(weight, spec)
    return from_blocks(per_block[:, None].expand_as(blocks), weight.shape, spec).flatten(1)


@checked
def gptq(
    model: nn.Module, calibration: Any, *, damping: float = 0.01, order: bool = True
) -> dict[str, tuple[float, float]]:
    """Round the weights of a prepared model by :func:`gptq_round`, layer after layer, in place.

    Each layer sees the inputs that the layers rounded before it give.

    Parameters
    ----------
    model : nn.Module
        From :func:`~lodim.landscape.quantization.prepare`, with weights on affine grids; convolutions with groups and
        embeddings keep nearest rounding.
    damping, order
        As in :func:`gptq_round`.

    Returns
    -------
    dict of str to (float, float)
        Output error of nearest rounding and of this, for each layer rounded: mean squares summed over outputs.

    Raises
    ------
    ValueError
        No layer to round: a model that is not prepared, converted already, or without such layers; or as
        :func:`gptq_round`.
    """
    errors = {}
    for name, layer in model.named_modules():
        grid = getattr(layer, "weight_quantizer", None)
        if not isinstance(layer, QuantLayer) or not isinstance(grid, AffineWeight):
            continue
        if not has_gram(layer.layer):
            continue
        gram = input_gram(layer_inputs(model, layer, calibration), layer.layer)
        weight: Any = layer.layer.weight
        before = weight.detach().clone()
        nearest = grid.decode(grid.codes(before)).to(before.dtype)
        rounded = gptq_round(before, gram, grid, damping=damping, order=order)
        weight.data.copy_(rounded)
        after = [output_error((w - before).flatten(1), gram) for w in (nearest, rounded)]
        errors[name] = (after[0], after[1])
    if not errors:
        raise ValueError(
            "no linear or convolutional layer has weights on an affine grid that are still to be rounded: take what "
            "prepare(model, recipe) returns"
        )
    return errors
