"""The float model that a quantised one is made from, and compared with: :func:`plain_copy`, :func:`ready`.

Folding batch normalisation and equalising ranges change weights but not what the model computes.
"""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
from torch import Tensor, nn

from lodim.landscape.quantization.equalise import FoldedNorm, equalise, fold_batch_norm
from lodim.landscape.quantization.spec import QuantRecipe
from lodim.nets.activations import batches_of

__all__ = ["held", "plain_copy", "ready"]


def held(data: Any, n_batches: int | None = None) -> Any:
    """Return data that can be read several times: a tensor or an array as it is, else a list of batches.

    Parameters
    ----------
    data : Tensor, array, iterable or None
    n_batches : int, optional
        How many batches of an iterable at most.
    """
    if data is None or isinstance(data, Tensor | np.ndarray):
        return data
    return list(itertools.islice(data, n_batches))


def plain_copy(model: Any) -> nn.Module:
    """Return a copy of a float model that calls all of its layers.

    Parameters
    ----------
    model : nn.Module

    Raises
    ------
    TypeError
        No module.
    ValueError
        Adapters or a subspace produce its weights.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"the model to quantise must be an nn.Module, got {type(model).__name__}")
    from lodim.landscape.flora.adapted import FLoRALayer
    from lodim.landscape.objective_landscapes.module import SubspaceModule

    for name, module in model.named_modules():
        if isinstance(module, FLoRALayer):
            raise ValueError(
                f"the layer {name!r} has adapters, which read its weight; write them into the weights first: "
                "remove_flora(model, merge=True)"
            )
        if isinstance(module, SubspaceModule):
            raise ValueError(
                f"the weights of {name or 'the model'!r} are produced from coordinates in a subspace; quantise the "
                "plain module that its materialize() returns"
            )
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0  # the fused path would not call the layers
    return model


def ready(model: nn.Module, recipe: QuantRecipe, calibration: Any = None) -> nn.Module:
    """Return the model folded and equalised as the recipe says: the float reference.

    Parameters
    ----------
    model : nn.Module
        Not changed.
    calibration : Tensor, array or list, optional
        Its first batch shows what batch normalisations act on. Without, one after a linear layer is folded only where
        something before it flattens, or where equalisation or bias correction needs it.

    Returns
    -------
    nn.Module
        The model itself if nothing is to be folded or equalised.
    """
    reference = model
    if recipe.fold_bn:
        example = None if calibration is None else next(iter(batches_of(calibration)), None)
        try:
            declared = recipe.equalise or (recipe.bias_correction and example is None)
            folded = fold_batch_norm(model, example, certain=not declared)
        except ValueError as error:
            if "traced" not in str(error):
                raise
            raise ValueError(
                f"{error}: QuantRecipe(fold_bn=False) leaves batch normalisation in floating point"
            ) from error
        if any(isinstance(module, FoldedNorm) for module in folded.modules()):
            reference = folded
    return equalise(reference) if recipe.equalise else reference
