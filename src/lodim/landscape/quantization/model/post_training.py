r"""A model quantised after training, in one call: :func:`quantize`.

>>> small = quantize(model, "w4-group64")                    # doctest: +SKIP
>>> small = quantize(model, "w8a8", calibration=images)      # doctest: +SKIP
>>> print(small.report())                                    # doctest: +SKIP

Source: A. Gholami et al., "A survey of quantization methods for efficient neural network inference" (arXiv
2103.13630), Sections 3 and 4; the pieces are in the other modules of :mod:`lodim.landscape.quantization`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from lodim.landscape.quantization.layer_data import held
from lodim.landscape.quantization.model.calibration import calibrate, freeze_inputs, raise_if_not_calibrated
from lodim.landscape.quantization.model.conversion import convert
from lodim.landscape.quantization.model.preparation import plain_copy, quant_layers, ready, wrap
from lodim.landscape.quantization.model.quantized_model import QuantizedModel
from lodim.landscape.quantization.rounding.adaround import adaround
from lodim.landscape.quantization.rounding.bias_correction import correct_bias
from lodim.landscape.quantization.spec import as_recipe

__all__ = ["quantize"]

_SAMPLE = 512  # inputs kept for reports


def quantize(
    model: Any,
    recipe: Any = "w8",
    calibration: Any = None,
    *,
    n_batches: int | None = None,
    mode: str = "fake",
    seed: int = 0,
) -> QuantizedModel:
    """Quantise a model after training.

    Parameters
    ----------
    model : nn.Module
        Not changed.
    recipe : QuantRecipe, QuantSpec or str
        A preset's name (``"w8"``, ``"w4-group64"``, ``"w8a8"``, ``"w8a8-dynamic"``, ...), a spec of the weights, or all
        of it.
    calibration : Tensor, array or iterable, optional
        Inputs, or batches of them, see :func:`calibrate`; needed for static ranges of inputs, learnt rounding and
        codebooks fitted to outputs. Some hundreds of inputs will do.
    n_batches : int, optional
        How many batches of an iterable at most.
    mode : {"fake", "packed", "integer"}
        See :func:`convert`.
    seed : int
        Of stochastic and learnt rounding.

    Returns
    -------
    QuantizedModel

    Raises
    ------
    RuntimeError
        Calibration data are needed and not given, naming the layers.
    ValueError
        Nothing to quantise, a pattern that matches no layer, NaN in a weight or an input; or weights that adapters or a
        subspace produce: merge or materialise them first.
    TypeError
        No module, or no recipe.

    Warns
    -----
    UserWarning
        Once, listing the layers that hold weights and stay in floating point, and why.
    """
    recipe, calibration = as_recipe(recipe), held(calibration, n_batches)
    original = plain_copy(model).eval()
    reference = ready(original, recipe, calibration).eval()
    prepared = wrap(reference, recipe, calibration=calibration, seed=seed)
    if recipe.is_static and calibration is not None:
        calibrate(prepared, calibration)
    raise_if_not_calibrated(quant_layers(prepared))
    freeze_inputs(prepared)
    if recipe.adaround:
        if calibration is None:
            raise RuntimeError(
                "learnt rounding needs calibration data: quantize(model, recipe, calibration=inputs)"
            )
        options = recipe.adaround if isinstance(recipe.adaround, Mapping) else {}
        adaround(prepared, reference, calibration, **{"random_state": seed, **options})
    if recipe.bias_correction:
        correct_bias(prepared, reference, calibration)
    sample = calibration
    if calibration is not None:
        sample = calibration[: _SAMPLE if isinstance(calibration, Tensor | np.ndarray) else 1]
    beside = (reference.requires_grad_(False), sample, original.requires_grad_(False))
    return QuantizedModel(convert(prepared, mode), recipe, mode, *beside)
