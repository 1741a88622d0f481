"""A prepared and calibrated model made ready for inference: :func:`convert`, the last of three steps.

======================  ==============================================================================================
mode                    weights
======================  ==============================================================================================
``"fake"``              rounded floating-point numbers
``"packed"``            packed codes, decoded when used: the same outputs bit for bit
``"integer"``           integers, see :func:`~lodim.landscape.quantization.to_integer`
======================  ==============================================================================================

Source: A. Gholami et al., arXiv 2103.13630, Sections 3 and 4.1.
"""

from __future__ import annotations

import copy
from collections.abc import MutableMapping
from typing import Any

import torch
from torch import nn

from lodim.landscape.quantization.grid.fake import QuantLayer
from lodim.landscape.quantization.integer.execution import to_integer
from lodim.landscape.quantization.model.calibration import freeze_inputs, raise_if_not_calibrated
from lodim.landscape.quantization.model.packing import PackedWeight
from lodim.landscape.quantization.model.preparation import quant_layers
from lodim.validation import check_choice

__all__ = ["convert"]


def convert(model: nn.Module, mode: str = "fake") -> nn.Module:
    """Return a prepared (and calibrated) model made ready for inference.

    Parameters
    ----------
    model : nn.Module
        From :func:`~lodim.landscape.quantization.prepare`, perhaps trained since. Not changed.
    mode : {"fake", "packed", "integer"}
        Layers that share a weight and its quantiser share the result.

    Raises
    ------
    RuntimeError
        Layers whose inputs have static scales have seen no data.
    """
    check_choice(mode, ("fake", "packed", "integer"), "mode")
    layers = quant_layers(model)
    if not layers:
        raise ValueError("the model has no quantised layer; run prepare(model, recipe) first")
    raise_if_not_calibrated(layers)
    model = freeze_inputs(copy.deepcopy(model)).eval()
    if mode == "integer":
        return to_integer(model)
    packed, fixed = dict[Any, PackedWeight](), dict[PackedWeight, nn.Parameter]()
    for layer in quant_layers(model).values():
        _pack(layer, packed)
        if mode == "fake":
            _fix(layer, fixed)
        elif layer.weight_quantizer is not None:
            layer.layer.register_parameter("weight", None)
            layer.fixed = False
    return model.requires_grad_(False)


@torch.no_grad()
def _pack(layer: QuantLayer, made: MutableMapping[Any, PackedWeight]) -> None:
    """Keep the weight's codes in its quantiser's place, once for all layers that share both."""
    quantizer, weight = layer.weight_quantizer, layer.layer.weight
    if quantizer is None or isinstance(quantizer, PackedWeight):
        return
    key = (id(quantizer), id(weight))
    if key not in made:
        made[key] = PackedWeight(weight, quantizer)
    layer.weight_quantizer = made[key]


@torch.no_grad()
def _fix(layer: QuantLayer, made: MutableMapping[PackedWeight, nn.Parameter]) -> None:
    """Put the rounded weight in the float one's place."""
    packed = layer.weight_quantizer
    if layer.fixed or not isinstance(packed, PackedWeight):
        return
    if packed not in made:
        made[packed] = nn.Parameter(packed(), requires_grad=False)
    layer.layer.weight = made[packed]
    layer.fixed = True
