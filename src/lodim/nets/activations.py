"""What goes through a module's layers on some data: :func:`watch_layers`, :func:`outline`.

Forward hooks copy what the layers return, batch by batch; nothing is kept here. The module computes in evaluation mode
and without gradients; its modes are restored and the hooks removed whatever happens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lodim.nets.layers import find_layers
from lodim.validation import check_kind, checked, to_torch

__all__ = [
    "batches_of",
    "evaluation_mode",
    "first_tensor",
    "model_device",
    "model_inputs",
    "outline",
    "the_layer",
    "watch_layers",
]

_BATCH = 256
_SEQUENCES = (nn.Sequential, nn.ModuleList)
_NOTHING = (nn.Identity, nn.Flatten, nn.Dropout, nn.modules.dropout._DropoutNd)


def model_device(model: nn.Module) -> torch.device:
    """Where a module's parameters (else its buffers) are; the CPU if it has none."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode for a while, and every part of it back into its own mode afterwards."""
    modes = [(part, part.training) for part in model.modules()]
    if any(mode for _, mode in modes):
        model.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            if part.training != mode:
                part.training = mode


def batches_of(data: Any, batch_size: int | np.integer = _BATCH) -> Iterator[Any]:
    """Yield batches: slices of an array or tensor, one mapping of a model's arguments, or what a data loader or another
    iterable yields.
    """
    if isinstance(data, Tensor | np.ndarray):
        for start in range(0, len(data), int(batch_size)):
            yield data[start : start + int(batch_size)]
    elif isinstance(data, Mapping) and data:
        yield data
    elif isinstance(data, Iterable) or hasattr(data, "__getitem__"):
        yield from data
    else:
        raise TypeError(f"data must be an array, a tensor or an iterable of batches, got {data!r}")


def model_inputs(model: nn.Module, batch: Any) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
    """Return the arguments, by position and by name, with which a batch is given to a model.

    A mapping holds arguments by name; of a tuple or list the first entry is the input. An array gets the precision of
    the model's parameters.
    """
    device = model_device(model)
    if isinstance(batch, Mapping):
        return (), {key: v.to(device) if isinstance(v, Tensor) else v for key, v in batch.items()}
    if isinstance(batch, tuple | list):
        batch = batch[0]
    if isinstance(batch, np.ndarray):
        dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
        tensor = to_torch(batch)
        batch = tensor.to(dtype) if tensor.is_floating_point() else tensor
    if not isinstance(batch, Tensor):
        raise TypeError(
            "a batch must be a tensor or an array, a mapping of the model's arguments, or a tuple or list that starts "
            f"with a tensor; got {type(batch).__name__}"
        )
    return (batch.to(device),), {}


def first_tensor(output: Any) -> Tensor:
    """Return the tensor that stands for a layer's output: itself, or the first one of a tuple, a mapping, a record.

    So ``(hidden, state)`` of a recurrent layer and a ``ModelOutput`` will do; no floating-point tensor is a TypeError.
    """
    if isinstance(output, Tensor):
        return output
    parts = (
        output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else ()
    )
    for part in parts:
        if isinstance(part, Tensor) and part.is_floating_point():
            return part
    raise TypeError(
        f"no tensor of numbers in the layer's output, a {type(output).__name__}; say which with select="
    )


def the_layer(model: nn.Module, name: str) -> tuple[str, nn.Module]:
    """Return the one layer that a name, or the last parts of a name, stands for: its full name and itself.

    The full name of a layer wins over others that end in it; see :func:`lodim.nets.find_layers`.
    """
    if not isinstance(name, str):
        raise TypeError(f"a layer is given by its name, got {type(name).__name__}")
    found = find_layers(model, [name], kinds=nn.Module)
    if name in found:
        return name, found[name]
    if len(found) > 1:
        raise ValueError(
            f"{len(found)} layers are called {name!r}: {', '.join(map(repr, found))}; give one in full"
        )
    return next(iter(found.items()))


def outline(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers a reader would name: the module's children, sequences of layers opened.

    What is no sequence (a residual block, an attention block) is one layer, unless it holds a list of layers itself or,
    as the encoder inside a classifier, somewhere within; that is not asked of what stands in a sequence.
    Left out is what does nothing when a module is evaluated (dropout, flattening), and a layer that stands in several
    places.
    """
    places = [id(layer) for _, layer in model.named_modules(remove_duplicate=False)]
    found: dict[str, nn.Module] = {}

    def walk(module: nn.Module, prefix: str, stacked: bool = False) -> None:
        for name, child in module.named_children():
            full, within = f"{prefix}{name}", child.children() if stacked else child.modules()
            if isinstance(child, _SEQUENCES) or any(isinstance(part, nn.ModuleList) for part in within):
                walk(child, full + ".", stacked or isinstance(child, _SEQUENCES))
            elif not isinstance(child, _NOTHING) and places.count(id(child)) == 1:
                found[full] = child

    walk(model, "")
    return found or {"": model}


@checked
@torch.no_grad()
def watch_layers(
    model: nn.Module,
    data: Any,
    layers: Mapping[str, nn.Module],
    visit: Callable[[Any, dict[str, Tensor]], Any],
    *,
    select: Callable[[Any], Tensor] = first_tensor,
    batch_size: int | np.integer = _BATCH,
    only_single: bool = False,
    inputs: bool = False,
) -> dict[str, int]:
    """Run a module over data and hand over what the layers return, or are given, batch by batch.

    Parameters
    ----------
    model : nn.Module
        Computes in evaluation mode where it is; its parts' modes are restored.
    data : array, Tensor or iterable
        Of an iterable's batches a tuple's first entry is the input; a mapping is given as keyword arguments.
    layers : mapping of str to nn.Module
        Parts of the model.
    visit : callable
        ``visit(batch, outputs)``; outputs by name, in the order in which the layers ran, are copies on the model's
        device, rows first.
    select : callable
        Takes a layer's output and returns the tensor to hand over.
    batch_size : int
        Of an array's or tensor's slices.
    only_single : bool
        Leave out layers that do not run exactly once in the first batch (one activation module used twice, a part that
        ``forward`` does not use), rather than raise.
    inputs : bool
        Hand over what the layers are given by position (``select`` sees the tuple) in place of what they return.

    Returns
    -------
    dict of str to int
        The layers left out, and how often each ran in the first batch.

    Raises
    ------
    ValueError
        There is no batch, or the model does not run one of the layers (of those not left out) exactly once a batch.
    """
    seen: dict[str, Tensor] = {}
    runs, left_out = dict.fromkeys(layers, 0), dict[str, int]()
    selecting: list[str] = []

    def hook_for(name: str) -> Callable[..., None]:
        def hook(module: Any, given: Any, output: Any) -> None:
            runs[name] += 1
            selecting.append(name)
            chosen = select(given if inputs else output)
            check_kind(chosen, Tensor, f"what select returns of layer {name!r}")
            seen[name] = chosen.detach().clone()  # a later layer may write into it
            selecting.pop()

        return hook

    handles = {name: layer.register_forward_hook(hook_for(name)) for name, layer in layers.items()}
    try:
        with evaluation_mode(model):
            for number, batch in enumerate(batches_of(data, batch_size)):
                positional, named = model_inputs(model, batch)
                try:
                    model(*positional, **named)
                except torch.OutOfMemoryError:
                    raise
                except RuntimeError as error:
                    if selecting:  # the caller's own error
                        raise
                    raise ValueError(f"the model does not take the batches of the data: {error}") from error
                if only_single and number == 0:
                    left_out = {name: count for name, count in runs.items() if count != 1}
                    for name in left_out:
                        handles[name].remove()
                kept = {name: count for name, count in runs.items() if name not in left_out}
                _check_runs(kept, number + 1)
                visit(batch, {name: output for name, output in seen.items() if name in kept})
                seen.clear()
    finally:
        for handle in handles.values():
            handle.remove()
    if not any(runs.values()) and not left_out:
        raise ValueError("the data hold no batch")
    return left_out


def _check_runs(runs: Mapping[str, int], batches: int) -> None:
    for name, count in runs.items():
        if count == 0:
            raise ValueError(f"the model's forward does not run its layer {name!r}")
        if count != batches:
            raise ValueError(
                f"the layer {name!r} runs {count / batches:g} times a batch, and its runs cannot be told apart; give a "
                "layer that runs once, such as the block around it"
            )
