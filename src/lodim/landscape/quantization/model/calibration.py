"""Ranges of inputs chosen from data: :func:`calibrate`, the second of three steps (after ``prepare``).

Source: A. Gholami et al., arXiv 2103.13630, Section 3.2.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from lodim.landscape.quantization.grid.fake import ActivationQuantizer, QuantLayer
from lodim.landscape.quantization.layer_data import run_batch
from lodim.landscape.quantization.model.preparation import quant_layers
from lodim.nets.activations import batches_of, evaluation_mode

__all__ = ["calibrate", "freeze_inputs", "raise_if_not_calibrated"]


def calibrate(model: nn.Module, data: Any, n_batches: int | None = None) -> nn.Module:
    """Show a prepared model data, for the ranges of its layers' inputs; its weights are in floating point meanwhile.

    Parameters
    ----------
    model : nn.Module
        From :func:`~lodim.landscape.quantization.prepare`; its observers are updated in place.
    data : Tensor, array or iterable
        Inputs, or batches of them. A batch is a tensor or an array, a mapping of arguments by name, or a tuple or list
        whose first entry is the input.
    n_batches : int, optional
        How many batches at most.

    Returns
    -------
    nn.Module
        The model.

    Raises
    ------
    ValueError
        No batch, or NaN or infinity in a layer's input, naming the layer.
    """
    layers = quant_layers(model)
    seen = 0
    with evaluation_mode(model), torch.no_grad(), _float_weights(layers), _naming_layers(layers):
        for batch in itertools.islice(batches_of(data), n_batches):
            run_batch(model, batch)
            seen += 1
    if not seen:
        raise ValueError("the calibration data hold no batch")
    return model


@contextmanager
def _float_weights(layers: Mapping[str, QuantLayer]) -> Iterator[None]:
    fixed = {name: layer.fixed for name, layer in layers.items()}
    try:
        for layer in layers.values():
            layer.fixed = True
        yield
    finally:
        for name, layer in layers.items():
            layer.fixed = fixed[name]


@contextmanager
def _naming_layers(layers: Mapping[str, QuantLayer]) -> Iterator[None]:
    """Say which layer's input it is that holds NaN."""
    running: list[str] = []
    hooks = [
        layer.register_forward_pre_hook(lambda *_, name=name: running.append(name))
        for name, layer in layers.items()
    ]
    try:
        yield
    except ValueError as error:
        if "NaN" not in str(error) or not running:
            raise
        raise ValueError(f"the input of layer {running[-1]!r}: {error}") from error
    finally:
        for hook in hooks:
            hook.remove()


def freeze_inputs(model: nn.Module) -> nn.Module:
    """Fix the scales of every calibrated input, in place, and return the model."""
    for layer in quant_layers(model).values():
        if isinstance(layer.activation_quantizer, ActivationQuantizer):
            layer.activation_quantizer.freeze()
    return model


def raise_if_not_calibrated(layers: Mapping[str, QuantLayer]) -> None:
    """Raise ``RuntimeError`` naming the layers whose inputs have static scales and were not shown data."""
    waiting = [
        name
        for name, layer in layers.items()
        if isinstance(layer.activation_quantizer, ActivationQuantizer)
        and not layer.activation_quantizer.is_calibrated
    ]
    if waiting:
        raise RuntimeError(
            f"the inputs of {', '.join(map(repr, waiting))} need calibration: run calibrate(model, data) before "
            "convert (or quantize with calibration=data), or take a recipe with dynamic=True"
        )
