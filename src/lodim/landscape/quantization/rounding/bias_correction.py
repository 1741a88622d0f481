r"""Bias correction: what quantisation shifts a layer's output by on average, taken out of its bias.

Rounding errors of a channel's weights rarely cancel, so its output's mean moves:

.. math:: b \leftarrow b + \mathbb{E}[W x] - \mathbb{E}[\widetilde W \tilde x] .

*From data* both means are measured, layer after layer from the input on, so that each correction sees the inputs that
the corrected layers before it produce. *From batch normalisation statistics* (no data) the inputs of a layer that
follows a folded normalisation are taken as Gaussian before the ReLU, with the normalisation's own mean
:math:`\beta` and deviation :math:`|\gamma|`,

.. math:: \mathbb{E}[\mathrm{ReLU}(z)] = \gamma\, \varphi(\beta/\gamma) + \beta\, \Phi(\beta/\gamma), \qquad
          b \leftarrow b + (W - \widetilde W)\, \mathbb{E}[x] .

==============================================  ==========================================
Symbol                                          Here
==============================================  ==========================================
:math:`W, x`                                    the float model's weight and inputs
:math:`\widetilde W, \tilde x`                  the quantised model's
:math:`\beta, |\gamma|`                         ``layer.folded_mean``, ``layer.folded_std``
:math:`\varphi, \Phi`                           the normal density and distribution
==============================================  ==========================================

Departure: the analytic form ignores that padding shows a convolution fewer inputs at the border.

Sources: A. Gholami and others, arXiv 2103.13630, Section IV; M. Nagel and others, Data-free quantization, arXiv
1906.04721, Section 4.2 and Appendix D.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lodim.landscape.quantization.grid.fake import QuantLayer
from lodim.landscape.quantization.layer_data import held, layer_means
from lodim.landscape.quantization.rounding.equalise import FoldedNorm, Link, find_links, input_view
from lodim.validation import checked

__all__ = ["correct_bias", "rectified_mean"]

_MEAN_KEEPING = frozenset({"identity", "average", "flatten"})


@checked
def correct_bias(model_q: nn.Module, model: nn.Module, data: Any = None) -> nn.Module:
    """Correct the biases of a quantised model, in place, and return it.

    ``model`` is the float model it was made from, its normalisations folded
    (:func:`~lodim.landscape.quantization.fold_batch_norm`) and equalised as ``model_q``'s are. Without data, the
    layers that follow a folded normalisation are corrected from its statistics, the others stay. ValueError
    without a quantised layer, with normalisations folded in one of the models only, or with nothing to correct
    from.
    """
    layers = {name: m for name, m in model_q.named_modules() if isinstance(m, QuantLayer)}
    layers = {name: m for name, m in layers.items() if not isinstance(m.layer, nn.Embedding)}
    if not layers:
        raise ValueError("the model has no quantised linear or convolutional layer, so no bias to correct")
    folded = [{n for n, m in part.named_modules() if isinstance(m, FoldedNorm)} for part in (model_q, model)]
    if folded[0] != folded[1]:
        raise ValueError(
            f"batch normalisations {sorted(folded[0] ^ folded[1])} are folded in one of the two models only; prepare "
            "the folded model, or give prepare the calibration data, which show what a normalisation acts on"
        )
    if data is None:
        _correct_from_statistics(layers, model)
    else:
        _correct_from_data(model_q, layers, model, data)
    return model_q


def _correct_from_data(
    model_q: nn.Module, layers: dict[str, QuantLayer], model: nn.Module, data: Any
) -> None:
    data = held(data)
    wanted = layer_means(model, {name: model.get_submodule(name) for name in layers}, data)
    for name, mean in wanted.items():  # in the order in which they run
        got = layer_means(model_q, {name: layers[name]}, data, stop=True)[name]
        _shift(layers[name].layer, mean - got)


@torch.no_grad()
def _shift(layer: Any, difference: Tensor) -> None:
    difference = difference.to(layer.weight)
    if layer.bias is None:
        layer.bias = nn.Parameter(difference, requires_grad=layer.weight.requires_grad)
    else:
        layer.bias.add_(difference)


@torch.no_grad()
def _correct_from_statistics(layers: dict[str, QuantLayer], model: nn.Module) -> None:
    done = 0
    for link in find_links(model):
        first = model.get_submodule(link.first)
        mean = _input_mean(first, link) if link.second in layers else None
        if mean is None:
            continue
        quantised = layers[link.second]
        layer: Any = model.get_submodule(link.second)
        error = layer.weight.detach() - quantised.quantized_weight().detach()
        grouped = input_view(layer, error, len(mean))
        shift = grouped.sum(3) * mean.view(grouped.shape[0], 1, -1).to(error)
        _shift(quantised.layer, shift.sum(2).flatten())
        done += 1
    if not done:
        raise ValueError(
            "no quantised layer follows a folded batch normalisation, so there are no statistics to correct from; give "
            "data"
        )


def _input_mean(first: nn.Module, link: Link) -> Float[Tensor, " channels"] | None:
    """Expected output of the first layer after the operations between; None where it is not known."""
    mean, std = getattr(first, "folded_mean", None), getattr(first, "folded_std", None)
    if mean is None or std is None or not set(link.between) <= _MEAN_KEEPING | {"relu"}:
        return None
    if "relu" not in link.between:
        return mean
    first_relu = link.between.index("relu")
    if "average" in link.between[:first_relu]:
        return None  # a mean over positions is narrower than its terms
    return rectified_mean(mean, std)


def rectified_mean(mean: Float[Tensor, "*shape"], std: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return the mean of a Gaussian variable (of deviation zero, too) after a ReLU."""
    ratio = mean / std.clamp(min=torch.finfo(std.dtype).tiny)
    density = torch.exp(-0.5 * ratio.square()) / (2 * torch.pi) ** 0.5
    return torch.where(std > 0, std * density + mean * torch.special.ndtr(ratio), mean.relu())
