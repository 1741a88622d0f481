"""What goes through a model's layers on some data: :func:`layer_means`, :func:`layer_inputs`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lodim.landscape.quantization.conversion import run_batch
from lodim.landscape.quantization.fake import ActivationQuantizer
from lodim.nets.activations import batches_of, evaluation_mode

__all__ = ["channel_mean", "layer_inputs", "layer_means"]


class _Reached(Exception):
    """The layer in question has been run; what comes after it need not be."""


def channel_mean(output: Float[Tensor, ...], layer: nn.Module) -> Float[Tensor, " channels"]:
    """Return the mean of a layer's output over everything but its channels.

    Parameters
    ----------
    layer : nn.Module
        Linear (channels last) or convolutional (channels on axis 1).
    """
    axis = output.ndim - 1 if isinstance(layer, nn.Linear) else 1
    return output.mean([i for i in range(output.ndim) if i != axis])


@torch.no_grad()
def _run(model: nn.Module, data: Any, hooks: Sequence[Any]) -> None:
    """Run the model in evaluation mode over the data, with no observer watching; hooks may end a batch early.

    The hooks are removed afterwards.
    """
    observing = [m for m in model.modules() if isinstance(m, ActivationQuantizer) and m.mode == "observing"]
    try:
        for quantizer in observing:
            quantizer.mode = "off"
        with evaluation_mode(model):
            for batch in batches_of(data):
                try:
                    run_batch(model, batch)
                except _Reached:
                    continue
    finally:
        for handle in hooks:
            handle.remove()
        for quantizer in observing:
            quantizer.mode = "observing"


def layer_means(
    model: nn.Module, layers: dict[str, nn.Module], data: Any, *, stop: bool = False
) -> dict[str, Float[Tensor, " channels"]]:
    """Return the mean output of layers for each channel, in the order in which the layers ran.

    Parameters
    ----------
    layers : dict of str to nn.Module
        Of the model. A layer that wraps another as ``.layer`` has that one's channels.
    data : Tensor or iterable
        Inputs, or batches of them, as for :func:`~lodim.landscape.quantization.calibrate`; batches count by their size.
    stop : bool
        Leave each batch after the first of these layers.
    """
    totals: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(module: Any, inputs: Any, output: Tensor) -> None:
            size = len(output)
            mean = channel_mean(output, getattr(module, "layer", module)).double() * size
            totals[name] = totals[name] + mean if name in totals else mean
            counts[name] = counts.get(name, 0) + size
            if stop:
                raise _Reached

        return hook

    _run(model, data, [layer.register_forward_hook(note(name)) for name, layer in layers.items()])
    return {name: total / counts[name] for name, total in totals.items()}


def layer_inputs(model: nn.Module, layer: nn.Module, data: Any) -> Tensor:
    """Return the inputs that a layer gets, one batch after the other along axis 0.

    Parameters
    ----------
    layer : nn.Module
        Of the model.
    data : Tensor or iterable
        Inputs, or batches of them.

    Raises
    ------
    ValueError
        The model's forward does not run the layer.
    """
    seen: list[Tensor] = []

    def hook(module: Any, inputs: Any) -> None:
        seen.append(inputs[0].detach())
        raise _Reached

    _run(model, data, [layer.register_forward_pre_hook(hook)])
    if not seen:
        raise ValueError(f"the model does not run its layer {layer}, or the data hold no batch")
    return torch.cat(seen)
