"""Which model a profile trains: a small default that suits the data, or the caller's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from lodim import nets
from lodim.datasets import resolve
from lodim.validation import check_choice

MODELS = ("none", "linear", "mlp", "lenet")
_SMALL_INPUT, _SMALL_WIDTH, _WIDTH = 256, 64, 200


@dataclass(frozen=True)
class ModelChoice:
    """A model and what it is called: ``make`` builds a freshly initialised one, here or in another process."""

    name: str
    make: Callable[[], torch.nn.Module]
    image_shape: tuple[int, ...] | None = None  # of a sample as the model wants it; None for flat rows


def choose_model(
    model: Any, n_features: int, n_outputs: int, image_shape: tuple[int, ...] | None = None
) -> ModelChoice:
    """Return the model that a profile trains.

    None and ``"mlp"``: two hidden layers, 64 wide up to 256 columns and 200 beyond; ``"linear"``; ``"lenet"`` (images
    only); ``"package.module:factory"``; or a factory, called without arguments or, if it asks for two, with the numbers
    of columns and outputs. ``image_shape`` is (channels, height, width).
    """
    named = model if isinstance(model, str) else "mlp" if model is None else ""
    if named == "mlp":
        width = _SMALL_WIDTH if n_features <= _SMALL_INPUT else _WIDTH
        return ModelChoice("mlp", partial(nets.fc, n_features, n_outputs, width=width, depth=2))
    if named == "linear":
        return ModelChoice("linear", partial(nets.fc, n_features, n_outputs, depth=0))
    if named == "lenet":
        return _lenet(n_outputs, image_shape)
    if isinstance(model, str):
        if ":" not in model:
            check_choice(model, MODELS, "model")
        factory = load_factory(model)
        name = model
    elif isinstance(model, torch.nn.Module):
        raise TypeError(
            "model must be a function that builds the module (each run starts from its own initial weights), "
            f"got a {type(model).__name__} that is already built; pass e.g. lambda: {type(model).__name__}(...)"
        )
    elif callable(model):
        factory, name = model, getattr(model, "__name__", type(model).__name__)
    else:
        raise TypeError(f"model must be a name, a function that builds a module, or None; got {model!r}")
    return _own(factory, name, n_features, n_outputs, image_shape)


def load_factory(path: str) -> Callable[..., Any]:
    """Import ``package.module:name``; the working directory counts as a place to import from."""
    try:
        factory = resolve(path)
    except ValueError as error:
        raise ValueError(f"model {path!r}: {error}") from error
    if not callable(factory):
        raise ValueError(f"model {path!r} is a {type(factory).__name__}, not a function that builds a module")
    return factory


def _lenet(n_outputs: int, image_shape: tuple[int, ...] | None) -> ModelChoice:
    if image_shape is None:
        raise ValueError(
            "model 'lenet' needs images: give image_shape=(channels, height, width), or use model 'mlp'"
        )
    channels, height, width = (1, *image_shape) if len(image_shape) == 2 else image_shape
    if min(height, width) < 16:
        raise ValueError(
            f"model 'lenet' needs images of at least 16 x 16 pixels, got {height} x {width}; use 'mlp'"
        )
    shape = (channels, height, width)
    return ModelChoice("lenet", partial(nets.lenet, shape, n_outputs), shape)


def _own(
    factory: Callable[..., Any],
    name: str,
    n_features: int,
    n_outputs: int,
    image_shape: tuple[int, ...] | None,
) -> ModelChoice:
    """A caller's factory, tried once on flat rows and (if that fails) on images."""
    required = [
        p
        for p in inspect.signature(factory).parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if len(required) not in (0, 2):
        raise ValueError(
            f"model {name!r} must take no arguments or two (columns, outputs); it asks for {len(required)}"
        )
    make = partial(factory, n_features, n_outputs) if required else factory
    module = make()
    if not isinstance(module, torch.nn.Module):
        raise ValueError(f"model {name!r} must return a torch.nn.Module, got {type(module).__name__}")
    if not any(p.requires_grad for p in module.parameters()):
        raise ValueError(
            f"model {name!r} has no parameter to train: all are frozen; build it with requires_grad_(True)"
        )
    problems = []
    for shape in [None, image_shape] if image_shape is not None else [None]:
        problem = _misfit(module, n_features, n_outputs, shape)
        if problem is None:
            return ModelChoice(name, make, shape)
        problems.append(problem)
    raise ValueError(f"model {name!r} does not fit the data: {'; '.join(problems)}")


def _misfit(
    module: torch.nn.Module, n_features: int, n_outputs: int, shape: tuple[int, ...] | None
) -> str | None:
    """What goes wrong when two samples pass through the module, or None."""
    sample = torch.zeros(2, n_features).reshape(2, *(shape or (n_features,)))
    try:
        with torch.no_grad():
            output = module.eval()(sample)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        return f"input of shape {tuple(sample.shape)} fails ({str(error).splitlines()[0]})"
    finally:
        module.train()
    good = {(2, n_outputs)} | ({(2,)} if n_outputs == 1 else set())
    if not isinstance(output, torch.Tensor) or tuple(output.shape) not in good:
        came = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        return f"input of shape {tuple(sample.shape)} gives {came}, expected {(2, n_outputs)}"
    return None


def layer_shapes(module: torch.nn.Module) -> tuple[tuple[int, int], ...]:
    """Return (outputs, inputs) of every weight matrix; a convolution counts as its unfolded matrix."""
    return tuple((int(p.shape[0]), int(p[0].numel())) for p in module.parameters() if p.ndim >= 2)
