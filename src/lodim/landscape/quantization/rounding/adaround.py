r"""AdaRound: learn for each weight whether to round down or up.

To nearest is the best rounding of a weight by itself, not of a layer: errors of different weights may cancel in the
layer's output. The grid stays; for each weight a number V decides between the two grid points around it,

.. math:: \widetilde W = S\, \mathrm{clamp}(\lfloor W / S \rfloor + h(V),\; q_{\min}, q_{\max}), \qquad
          h(V) = \mathrm{clamp}(1.2\, \sigma(V) - 0.1,\; 0, 1),

.. math:: \min_V \; \mathbb{E} \|W x - \widetilde W \tilde x\|^2
          + \lambda \sum \left(1 - |2 h(V) - 1|^\beta\right),

layer after layer, x being the inputs in the float model and :math:`\tilde x` those in the model quantised so far. V
starts where :math:`\widetilde W = W`. After a warm start without the penalty :math:`\beta` falls from 20 to 2, which
drives every h to 0 or 1.

=============================  ==============================================
Symbol                         Here
=============================  ==============================================
V                              ``SoftRounding.logits``
:math:`h(V)`                   ``SoftRounding.shares()``
:math:`\lambda`                ``penalty``
:math:`\beta`                  ``beta`` = (20, 2), annealed by half a cosine
=============================  ==============================================

The squared error is summed over output channels and averaged over samples and positions. Departures: rounding to
nearest is kept for a layer whose learnt rounding has the larger error on the data; the activation between layers is
not part of the error.

Sources: A. Gholami and others, arXiv 2103.13630, Section IV; M. Nagel and others, Up or down? Adaptive rounding for
post-training quantization, arXiv 2004.10568, equations 21 to 25.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lodim.landscape.quantization.grid.affine import block_mask, from_blocks, to_blocks
from lodim.landscape.quantization.grid.fake import AffineWeight, QuantLayer, apply_layer
from lodim.landscape.quantization.layer_data import held, layer_inputs
from lodim.randomness import RandomState, derive_seed, root_seed, torch_generator
from lodim.results import Result
from lodim.training import DescentRecipe, descend
from lodim.validation import check_fraction, check_in_range, checked

__all__ = ["AdaRoundReport", "SoftRounding", "adaround"]

STRETCH, OFFSET = 1.2, 0.1  # of the sigmoid, so that 0 and 1 are reached


@checked
class SoftRounding(nn.Module):
    """A weight between the two grid points around it, and at one of them in evaluation mode.

    Attributes
    ----------
    logits : Parameter
        V, in the shape of the grid's blocks, whose scales and zero points stay.
    """

    floor: Tensor
    scale: Tensor
    zero_point: Tensor
    own: Tensor

    def __init__(self, weight: Float[Tensor, " ..."], grid: AffineWeight) -> None:
        super().__init__()
        self.spec, self.shape = grid.spec, weight.shape
        self.register_buffer("scale", grid.scale.clone())
        self.register_buffer("zero_point", grid.zero_point.clone())
        steps = to_blocks(weight.detach().to(grid.scale.dtype), self.spec) / grid.scale[:, None]
        self.register_buffer("floor", steps.floor() + grid.zero_point[:, None])
        share = (steps - steps.floor() + OFFSET) / STRETCH
        self.logits = nn.Parameter(torch.logit(share))
        mask = block_mask(weight.shape, self.spec)
        self.register_buffer("own", torch.ones_like(share) if mask is None else mask.to(share))

    def shares(self) -> Float[Tensor, "n_blocks block"]:
        """Return h(V): how far each weight is from the lower grid point to the upper."""
        return (STRETCH * torch.sigmoid(self.logits) - OFFSET).clamp(0, 1)

    def forward(self, weight: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return, in the weight's precision, what was given at construction between the grid points, or on them."""
        up = self.shares() if self.training else (self.logits >= 0).to(self.floor)
        codes = (self.floor + up).clamp(self.spec.qmin, self.spec.qmax)
        blocks = (codes - self.zero_point[:, None]) * self.scale[:, None]
        return from_blocks(blocks, self.shape, self.spec).to(weight.dtype)

    def penalty(self, beta: float) -> Float[Tensor, ""]:
        """Return the sum of ``1 - abs(2h - 1)**beta``, zero where every h is 0 or 1."""
        return (self.own * (1 - (2 * self.shares() - 1).abs().pow(beta))).sum()


@dataclass(frozen=True)
class AdaRoundReport(Result):
    """What learnt rounding did to each layer.

    Attributes
    ----------
    nearest_error, learnt_error : tuple of float
        Mean squared error of the layer's output, summed over channels, of rounding to nearest and of what was kept.
    flipped : tuple of float
        Share of the weights not rounded to nearest.
    """

    layers: tuple[str, ...]
    nearest_error: tuple[float, ...]
    learnt_error: tuple[float, ...]
    flipped: tuple[float, ...]

    def to_frame(self) -> Any:
        """Return a data frame, one row a layer."""
        import pandas as pd

        return pd.DataFrame(self.to_dict())

    def __str__(self) -> str:
        return self.to_frame().to_string(index=False, float_format="{:.4g}".format)


@checked
def adaround(
    model_q: nn.Module,
    model: nn.Module,
    data: Any,
    *,
    steps: int = 1000,
    lr: float = 1e-2,
    batch_size: int = 128,
    penalty: float = 0.01,
    beta: tuple[float | int, float | int] = (20.0, 2.0),
    warm_start: float = 0.2,
    random_state: RandomState = 0,
) -> AdaRoundReport:
    """Learn the rounding of every quantised weight on an affine grid, in place, from the first layer to the last.

    The weights of ``model_q`` become the chosen grid points, on which its quantisers then act as the identity.

    Parameters
    ----------
    model_q : nn.Module
        With :class:`~lodim.landscape.quantization.QuantLayer` in place of layers.
    model : nn.Module
        The float model it was made from.
    data : Tensor or iterable
        Inputs, or batches of them; some hundreds will do. They are held in memory for one layer at a time.
    steps : int
        Of Adam, for each layer.
    penalty : float
        Weight of the term that drives the shares to 0 or 1.
    beta : (float, float)
        Its exponent at the end of the warm start and at the end.
    warm_start : float
        Share of the steps without it.

    Raises
    ------
    ValueError
        No layer has weights on an affine grid.
    """
    check_in_range(steps, "steps", low=1, integer=True)
    check_fraction(warm_start, "warm_start")
    check_in_range(penalty, "penalty", low=0.0)
    seed = root_seed(random_state)
    data = held(data)
    recipe = DescentRecipe(
        steps=int(steps), lr=lr, batch_size=int(batch_size), optimizer=torch.optim.Adam, skip_nonfinite=False
    )
    rows = []
    for name, layer in _rounded_layers(model_q).items():
        original = model.get_submodule(name)
        x = layer_inputs(model, original, data)
        with torch.no_grad():
            target = apply_layer(original, x, cast(Tensor, original.weight))
            inputs = _quantised_inputs(layer, layer_inputs(model_q, layer, data))
        soft = SoftRounding(layer.layer.weight, cast(AffineWeight, layer.weight_quantizer))
        own = derive_seed(seed, "adaround", name)
        _learn(soft, layer, (inputs, target), own, recipe, penalty, beta, warm_start)
        rows.append((name, *_keep_the_better(soft.eval(), layer, inputs, target)))
    names, nearest, learnt, flipped = zip(*rows, strict=True)
    return AdaRoundReport(names, nearest, learnt, flipped)


def _rounded_layers(model_q: nn.Module) -> dict[str, QuantLayer]:
    layers = {
        name: module
        for name, module in model_q.named_modules()
        if isinstance(module, QuantLayer)
        and isinstance(module.weight_quantizer, AffineWeight)
        and not isinstance(module.layer, nn.Embedding)  # a row at a time: to nearest is best
    }
    if not layers:
        raise ValueError("no linear or convolutional layer has weights on an affine grid: nothing to round")
    return layers


def _quantised_inputs(layer: QuantLayer, x: Tensor) -> Tensor:
    quantiser: Any = layer.activation_quantizer
    return x if quantiser is None or quantiser.mode == "observing" else quantiser(x)


def _learn(
    soft: SoftRounding,
    layer: QuantLayer,
    pairs: tuple[Tensor, Tensor],
    seed: int,
    recipe: DescentRecipe,
    penalty: float,
    beta: tuple[float | int, float | int],
    warm_start: float,
) -> None:
    weight, generator, numbers = layer.layer.weight.detach(), torch_generator(seed), itertools.count()
    (inputs, targets), steps = pairs, int(recipe.steps or 1)

    def loss() -> Tensor:
        rows = torch.randint(len(inputs), (recipe.batch_size,), generator=generator).to(inputs.device)
        error = _error(apply_layer(layer.layer, inputs[rows], soft(weight)), targets[rows], layer.layer)
        after = next(numbers) / steps - warm_start
        if after < 0 or warm_start == 1:
            return error
        fall = (1 + math.cos(math.pi * after / (1 - warm_start))) / 2
        return error + penalty * soft.penalty(beta[1] + (beta[0] - beta[1]) * fall)

    descend(loss, [soft.logits], recipe, interruptible=False)


def _error(output: Tensor, target: Tensor, layer: nn.Module) -> Float[Tensor, ""]:
    """Squared error, summed over channels, averaged over the rest."""
    axis = -1 if isinstance(layer, nn.Linear) else 1
    return (output - target).square().sum(axis).mean()


@torch.no_grad()
def _keep_the_better(
    soft: SoftRounding, layer: QuantLayer, inputs: Tensor, target: Tensor
) -> tuple[float, float, float]:
    """Write the learnt weight if its error is no larger than nearest's; return both errors and the share flipped."""
    weight = layer.layer.weight
    grid: Any = layer.weight_quantizer
    nearest, learnt = grid(weight), soft(weight)
    errors = [
        float(_error(apply_layer(layer.layer, inputs, w), target, layer.layer)) for w in (nearest, learnt)
    ]
    if errors[1] > errors[0]:
        learnt, errors[1] = nearest, errors[0]
    weight.copy_(learnt)
    return errors[0], errors[1], float((learnt != nearest).double().mean())
