"""A quantised model for inference, its report and its file: :class:`QuantizedModel`."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lodim._renamed import MOVED
from lodim.landscape.quantization.codebooks.levels import CodebookSpec, LevelQuantizer
from lodim.landscape.quantization.codebooks.product import ProductQuantizer, ProductSpec
from lodim.landscape.quantization.codebooks.signs import BinarySpec, ScaledSignQuantizer, TernarySpec
from lodim.landscape.quantization.grid.fake import QUANTIZABLE, ActivationQuantizer, AffineWeight, QuantLayer
from lodim.landscape.quantization.grid.learnt_steps import LearntStep
from lodim.landscape.quantization.model.conversion import convert
from lodim.landscape.quantization.model.packing import PackedWeight
from lodim.landscape.quantization.model.preparation import plain_copy, quant_layers, weight_names
from lodim.landscape.quantization.model.report import QuantReport, layer_reports, model_output, sqnr_db
from lodim.landscape.quantization.model.sizes import SizeReport, size_report
from lodim.landscape.quantization.rounding.equalise import FoldedNorm, fold_batch_norm
from lodim.landscape.quantization.spec import QuantRecipe, QuantSpec
from lodim.training import Task

__all__ = ["QuantizedModel"]

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
            raise RuntimeError("a report compares with the float model, which a saved file does not hold")
        data = sample if data is None else data
        size = size_report(self.module, example)
        exact = None if data is None else model_output(original, data)
        layers = layer_reports(self.module, reference, size, data, exact)
        overall = math.nan if exact is None else sqnr_db(exact, model_output(self.module, data))
        scores = (math.nan, math.nan) if score is None else [_scored(m, score) for m in (original, self)]
        return QuantReport(layers, size, overall, *scores)

    def to_packed(self) -> QuantizedModel:
        """Return the model with its weights as packed codes; its outputs are the same bit for bit."""
        return QuantizedModel(convert(self.module, "packed"), self.recipe, "packed", *self._beside)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write codes, scales and what is not quantised to a file."""
        self._refuse_integer()
        module = convert(self.module, "packed")
        layers = quant_layers(module)
        state = module.state_dict()
        places = [n for n, m in module.named_modules(remove_duplicate=False) if isinstance(m, QuantLayer)]
        inside = tuple(f"{name}.{part}_quantizer." for name in places for part in ("weight", "activation"))
        torch.save(
            {
                "format": _FORMAT,
                "recipe": self.recipe,
                "weights": {name: layer.weight_quantizer for name, layer in layers.items()},
                "inputs": {name: layer.activation_quantizer for name, layer in layers.items()},
                "folded": [name for name, part in module.named_modules() if isinstance(part, FoldedNorm)],
                "rest": {key: value for key, value in state.items() if not key.startswith(inside)},
            },
            path,
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str], model: nn.Module) -> QuantizedModel:
        """Read a file that :meth:`save` wrote.

        Parameters
        ----------
        model : nn.Module
            Of the original architecture; its weights do not matter and are not changed.

        Raises
        ------
        ValueError
            Not such a file, or another architecture.
        """
        with torch.serialization.safe_globals(_readable_classes()):
            content = torch.load(path, weights_only=True)
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
