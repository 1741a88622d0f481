r"""A model quantised after training in one call, :func:`quantize`, with its report and its file.

>>> small = quantize(model, "w4-group64")                    # doctest: +SKIP
>>> small = quantize(model, "w8a8", calibration=images)      # doctest: +SKIP
>>> print(small.report())                                    # doctest: +SKIP

Source: A. Gholami et al., "A survey of quantization methods for efficient neural network inference" (arXiv
2103.13630), Sections 3 and 4; the pieces are in the other modules of :mod:`lodim.landscape.quantization`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pickle import UnpicklingError
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from lodim._renamed import MOVED
from lodim.files import check_archive, open_whole
from lodim.landscape.quantization.codebooks.levels import (
    BinarySpec,
    CodebookSpec,
    LevelQuantizer,
    ScaledSignQuantizer,
    TernarySpec,
)
from lodim.landscape.quantization.codebooks.product import ProductQuantizer, ProductSpec
from lodim.landscape.quantization.grid.fake import QUANTIZABLE, ActivationQuantizer, AffineWeight, QuantLayer
from lodim.landscape.quantization.grid.learnt_steps import LearntStep
from lodim.landscape.quantization.layer_data import held
from lodim.landscape.quantization.model.packing import PackedWeight
from lodim.landscape.quantization.model.preparation import (
    calibrate,
    convert,
    freeze_inputs,
    plain_copy,
    quant_layers,
    raise_if_not_calibrated,
    ready,
    weight_names,
    wrap,
)
from lodim.landscape.quantization.model.report import (
    QuantReport,
    SizeReport,
    layer_reports,
    model_output,
    size_report,
    sqnr_db,
)
from lodim.landscape.quantization.rounding.adaround import adaround
from lodim.landscape.quantization.rounding.bias_correction import correct_bias
from lodim.landscape.quantization.rounding.equalise import FoldedNorm, fold_batch_norm
from lodim.landscape.quantization.spec import QuantRecipe, QuantSpec, as_recipe
from lodim.randomness import RandomState, root_seed
from lodim.training import Task
from lodim.validation import checked

__all__ = ["QuantizedModel", "quantize"]

_FORMAT = "lodim quantised model 1"
_STORED = (
    QuantSpec,
    QuantRecipe,
    ActivationQuantizer,
    AffineWeight,
    LearntStep,
    PackedWeight,
    CodebookSpec,
    LevelQuantizer,
    BinarySpec,
    TernarySpec,
    ScaledSignQuantizer,
    ProductSpec,
    ProductQuantizer,
)

Score = Callable[[nn.Module], float | int] | Task


@checked
class QuantizedModel(nn.Module):
    """A quantised model for inference, beside the float model it was made from.

    Made by :func:`~lodim.landscape.quantize` or :meth:`load`. It is called as the original model is.

    Attributes
    ----------
    module : nn.Module
        With :class:`~lodim.landscape.quantization.QuantLayer` in place of layers.
    mode : {"fake", "packed", "integer"}
    """

    def __init__(
        self,
        module: nn.Module,
        recipe: QuantRecipe,
        mode: str,
        reference: nn.Module | None = None,
        sample: Any = None,
        original: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.module, self.recipe, self.mode = module, recipe, mode
        # No part of the model's own state. Without folding and equalisation the original is the reference.
        self._beside: tuple[nn.Module | None, Any, nn.Module | None] = (
            reference,
            sample,
            original or reference,
        )
        self.eval()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the model's output for what the original model takes."""
        return self.module(*args, **kwargs)

    def _apply(self, fn: Any, recurse: bool = True) -> QuantizedModel:
        """Move or cast, the float model and the sample for reports with it."""
        reference, sample, original = self._beside
        for module in {reference, original} - {None}:
            cast(nn.Module, module)._apply(fn)
        if isinstance(sample, Tensor):
            sample = fn(sample)
        self._beside = reference, sample, original
        return super()._apply(fn, recurse)

    @property
    def float_model(self) -> nn.Module | None:
        """The float model, normalisations folded and layers equalised as the recipe says; None after :meth:`load`."""
        return self._beside[0]

    @property
    def size(self) -> SizeReport:
        """Bytes of codes, scales, codebooks and the rest; of an integer-only model, ask the one it was made from."""
        self._refuse_integer()
        return size_report(self.module)

    def _refuse_integer(self) -> None:
        if self.mode == "integer":
            raise ValueError(
                "an integer-only model is a simulation; save, measure and report the model it was made from "
                "(mode='fake' or 'packed')"
            )

    def report(self, data: Any = None, *, score: Score | None = None, example: Any = None) -> QuantReport:
        """Say what quantisation did, layer by layer, in comparison with the original model.

        Parameters
        ----------
        data : Tensor or iterable, optional
            Inputs for the ratios of the model's outputs; a sample of the calibration data by default.
        score : callable or Task, optional
            ``score(model) -> float`` for both models; a task scores its validation data.
        example : Tensor, mapping or tuple, optional
            A batch of one sample, for bit operations.

        Raises
        ------
        RuntimeError
            The model was loaded, so there is no float model to compare with.
        """
        self._refuse_integer()
        reference, sample, original = self._beside
        if reference is None or original is None:
            raise RuntimeError(
                "a report compares with the float model, which a saved file does not hold; ask the model that quantize "
                "returned, or score both models yourself"
            )
        data = sample if data is None else data
        size = size_report(self.module, example)
        exact = None if data is None else model_output(original, data)
        layers = layer_reports(self.module, reference, size, data, exact)
        overall = math.nan if exact is None else sqnr_db(exact, model_output(self.module, data))
        scores = (math.nan, math.nan) if score is None else [_scored(m, score) for m in (original, self)]
        return QuantReport(layers, size, overall, *scores)

    def to_packed(self) -> QuantizedModel:
        """Return the model with its weights as packed codes; its outputs are the same bit for bit."""
        self._refuse_integer()
        return QuantizedModel(convert(self.module, "packed"), self.recipe, "packed", *self._beside)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write codes, scales and what is not quantised to a file."""
        self._refuse_integer()
        module = convert(self.module, "packed")
        layers = quant_layers(module)
        state = module.state_dict()
        places = [n for n, m in module.named_modules(remove_duplicate=False) if isinstance(m, QuantLayer)]
        inside = tuple(f"{name}.{part}_quantizer." for name in places for part in ("weight", "activation"))
        content = {
            "format": _FORMAT,
            "recipe": self.recipe,
            "weights": {name: layer.weight_quantizer for name, layer in layers.items()},
            "inputs": {name: layer.activation_quantizer for name, layer in layers.items()},
            "folded": [name for name, part in module.named_modules() if isinstance(part, FoldedNorm)],
            "rest": {key: value for key, value in state.items() if not key.startswith(inside)},
        }
        with open_whole(path, sealed=True) as file:
            torch.save(content, file)

    @classmethod
    def load(cls, path: str | os.PathLike[str], model: nn.Module) -> QuantizedModel:
        """Read a file that :meth:`save` wrote, into a copy of a model of that architecture, whatever its weights.

        ValueError for another or a damaged file, or another architecture.
        """
        check_archive(path)
        try:
            with torch.serialization.safe_globals(_readable_classes()):
                content = torch.load(path, weights_only=True)
        except (RuntimeError, UnpicklingError):
            content = None
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise ValueError(f"{os.fspath(path)} is not a quantised model saved by this library")
        recipe, rest = content["recipe"], content["rest"]
        module = plain_copy(model)
        if recipe.fold_bn:
            module = fold_batch_norm(module, only=content.get("folded"))
        names = weight_names(module)
        places = dict(module.named_modules(remove_duplicate=False))
        for name, quantizer in content["weights"].items():
            layer = places.get(name)
            source = names.get(id(getattr(layer, "weight", None)), ())
            new = _restored(layer, name, quantizer, content["inputs"][name], rest)
            new.source = source
            for place in [place for place, part in places.items() if part is layer]:
                module.set_submodule(place, new)
        try:
            module.load_state_dict(rest, strict=False)
            missing = [k for k in rest if k not in module.state_dict()]
        except RuntimeError as error:
            raise ValueError(f"the file is of another architecture: {error}") from error
        if missing:
            raise ValueError(f"the file is of another architecture: it has {missing[:5]}")
        return cls(module.requires_grad_(False), recipe, "packed")


def _restored(layer: Any, name: str, quantizer: Any, inputs: Any, rest: Mapping[str, Tensor]) -> QuantLayer:
    shape = layer.weight.shape if isinstance(layer, QUANTIZABLE) else None
    wanted = quantizer.shape if isinstance(quantizer, PackedWeight) else shape
    if shape is None or shape != wanted:
        found = "not there, or of another kind" if shape is None else f"of shape {tuple(shape)}"
        raise ValueError(
            f"the file is of another architecture: its layer {name!r} of shape {tuple(wanted or ())} is {found} here"
        )
    wrapped = QuantLayer(layer, quantizer, inputs)
    if isinstance(quantizer, PackedWeight):
        # the precision of the model that it is loaded into
        quantizer.like = layer.weight.detach().new_empty(0)
        layer.register_parameter("weight", None)
    bias = rest.get(f"{name}.layer.bias")
    if bias is not None and layer.bias is None:
        layer.bias = nn.Parameter(bias.clone())
    return wrapped


def _readable_classes() -> list[Any]:
    """What a saved file may hold besides tensors and plain data: this package's classes, under former names too."""
    former = [
        (kind, f"{old}.{kind.__name__}")
        for kind in _STORED
        for old, new in MOVED.items()
        if new == kind.__module__
    ]
    return [*_STORED, *former, torch.Size]


def _scored(model: nn.Module, score: Score) -> float:
    if not isinstance(score, Task):
        return float(score(model))
    with torch.no_grad():
        parts = [model.eval()(x) for x in score.X_val.split(2048)]
        return float(score.score(torch.cat(parts), score.y_val))


_SAMPLE = 512  # inputs kept for reports


@checked
def quantize(
    model: Any,
    recipe: Any = "w8",
    calibration: Any = None,
    *,
    n_batches: int | None = None,
    mode: str = "fake",
    random_state: RandomState = 0,
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
    random_state : int, Generator or None
        Of stochastic and learnt rounding.

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
    recipe, calibration, seed = as_recipe(recipe), held(calibration, n_batches), root_seed(random_state)
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
