r"""What a model's layers see on some data: their inputs, mean outputs, and second moments of their inputs.

With inputs X (for a convolution, its windows) and :math:`H = X^\top X / n`, an error e in a row of a layer's weights
changes that output by :math:`e^\top H e` in the mean square. H is also the Hessian of the layer's squared error, up to
a factor.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from lodim.landscape.quantization.grid.fake import ActivationQuantizer
from lodim.nets.activations import batches_of, evaluation_mode, model_inputs
from lodim.validation import check_counts, checked

__all__ = ["held", "input_gram", "layer_inputs", "layer_means", "output_error", "run_batch"]

_CHUNK = 2**24  # unfolded input numbers held at a time


def held(data: Any, n_batches: int | None = None) -> Any:
    """Return data that can be read several times: a tensor or an array as it is, else a list of (at most n) batches.

    A mapping is one batch.
    """
    if n_batches is not None:
        check_counts(n_batches=n_batches)
    if data is None or isinstance(data, Tensor | np.ndarray):
        return data
    if isinstance(data, Mapping):
        return [data]
    if not isinstance(data, Iterable):
        raise TypeError(f"the data must be a tensor, an array or batches of them, got {data!r}")
    return list(itertools.islice(data, n_batches))


def run_batch(model: nn.Module, batch: Any) -> Any:
    """Run a model on a batch: a tensor or an array, a mapping of arguments, or a tuple or list that starts with one."""
    positional, named = model_inputs(model, batch)
    return model(*positional, **named)


class _Reached(Exception):
    """The layer in question has been run; what comes after it need not be."""


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


def layer_inputs(model: nn.Module, layer: nn.Module, data: Any) -> Tensor:
    """Return the inputs that a layer of the model gets, one batch after the other along axis 0."""
    seen: list[Tensor] = []

    def hook(module: Any, inputs: Any) -> None:
        seen.append(inputs[0].detach())
        raise _Reached

    _run(model, data, [layer.register_forward_pre_hook(hook)])
    if not seen:
        raise ValueError(f"the model does not run its layer {layer}, or the data hold no batch")
    return torch.cat(seen)


def layer_means(
    model: nn.Module, layers: dict[str, nn.Module], data: Any, *, stop: bool = False
) -> dict[str, Float[Tensor, " channels"]]:
    """Return the mean output of layers for each channel, in the order in which the layers ran.

    Linear layers have channels last, convolutions on axis 1; one that wraps another as ``.layer`` has that one's.
    Batches count by their size; with ``stop`` each is left after the first of these layers.
    """
    totals: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(module: Any, inputs: Any, output: Tensor) -> None:
            channels = output.ndim - 1 if isinstance(getattr(module, "layer", module), nn.Linear) else 1
            size = len(output)
            mean = output.mean([i for i in range(output.ndim) if i != channels]).double() * size
            totals[name] = totals[name] + mean if name in totals else mean
            counts[name] = counts.get(name, 0) + size
            if stop:
                raise _Reached

        return hook

    _run(model, data, [layer.register_forward_hook(note(name)) for name, layer in layers.items()])
    return {name: total / counts[name] for name, total in totals.items()}


def has_gram(layer: nn.Module) -> bool:
    """Whether :func:`input_gram` knows what a layer's weights multiply."""
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        return layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return isinstance(layer, nn.Linear)


@checked
@torch.no_grad()
def input_gram(inputs: Float[Tensor, "n ..."], layer: nn.Module) -> Float[Tensor, "i i"]:
    """Second moments H of what a layer's weights multiply: its inputs, or a convolution's windows.

    Returns
    -------
    Tensor, shape (i, i)
        Double precision; the mean over samples and positions.

    Raises
    ------
    ValueError
        Neither linear nor a convolution in one or two dimensions; groups, or padding with other than zeros.
    """
    if not has_gram(layer):
        raise ValueError(
            "second moments of inputs are for linear layers and convolutions in one or two dimensions, without groups, "
            f"padded with zeros by a number; got {layer}. Give this layer another recipe, or one that needs no inputs"
        )
    if isinstance(layer, nn.Linear):
        rows = inputs.reshape(-1, inputs.shape[-1]).double()
        return rows.T @ rows / len(rows)
    geometry: Any = [getattr(layer, name) for name in ("kernel_size", "dilation", "padding", "stride")]
    if isinstance(layer, nn.Conv1d):
        inputs, geometry = inputs[:, :, None], [(one, *g) for g, one in zip(geometry, (1, 1, 0, 1))]
    total, count = torch.zeros((), dtype=torch.float64, device=inputs.device), 0
    size = max(_CHUNK // (inputs[0].numel() * math.prod(geometry[0])), 1)
    for batch in inputs.split(size):
        windows = F.unfold(batch, *geometry).mT.flatten(0, 1).double()
        total, count = total + windows.T @ windows, count + len(windows)
    return total / count


@checked
def output_error(error: Float[Tensor, "o i"], gram: Float[Tensor, "i i"]) -> float:
    r"""Mean squared change of a layer's output, summed over outputs: :math:`\sum_o e_o^\top H e_o`."""
    e = error.detach().double()
    return float(((e @ gram.double()) * e).sum())
