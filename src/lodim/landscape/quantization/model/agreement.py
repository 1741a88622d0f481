"""How far the integer-only simulation and the fake-quantised model are apart: :func:`compare_integer`.

Both round the same numbers, one by a floating-point product, one by a dyadic factor, and each layer reads what the
layers before it rounded. A difference of one step is what a number on the edge between two codes costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lodim.landscape.quantization.grid.affine import quantize_affine
from lodim.landscape.quantization.grid.fake import ActivationQuantizer
from lodim.landscape.quantization.integer.execution import IntegerLayer, IntegerModel
from lodim.landscape.quantization.model.preparation import convert, quant_layers
from lodim.results import Result
from lodim.validation import checked

__all__ = ["IntegerAgreement", "compare_integer"]

OUTPUT = "output"
_OUTPUT_STEPS = 255


@dataclass(frozen=True)
class IntegerAgreement(Result):
    """What :func:`compare_integer` found, layer by layer; the model's output comes last, as ``"output"``.

    Attributes
    ----------
    equal, within_one : tuple of float
        Shares of the codes a layer reads that are the same, or differ by at most one step.
    largest : tuple of float
        Largest difference, in steps.
    """

    layers: tuple[str, ...]
    equal: tuple[float, ...]
    within_one: tuple[float, ...]
    largest: tuple[float, ...]

    @property
    def output(self) -> float:
        """Share of the model's outputs within one step."""
        return self.within_one[-1]

    def to_frame(self) -> pd.DataFrame:
        """One row a layer."""
        columns = {"equal": self.equal, "within one": self.within_one, "largest": self.largest}
        return pd.DataFrame(columns, index=pd.Index(self.layers, name="layer"))

    def __str__(self) -> str:
        return self.to_frame().to_string()


@checked
@torch.no_grad()
def compare_integer(model: nn.Module, x: Float[Tensor, "batch ..."]) -> IntegerAgreement:
    """Run a calibrated model fake-quantised and in integers, and compare the codes every layer reads.

    Parameters
    ----------
    model : nn.Module
        From :func:`~lodim.landscape.quantization.calibrate`, or converted since. Its outputs, which no layer rounds,
        count in steps of 1/255 of their range.
    """
    fake, integer = convert(model, "fake"), convert(model, "integer")
    assert isinstance(integer, IntegerModel)
    seen: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
    hooks = []
    for name, layer in quant_layers(fake).items():
        hooks.append(layer.register_forward_pre_hook(_note(seen[0], name, layer.activation_quantizer)))
        twin = integer.model.get_submodule(name)
        hooks.append(twin.register_forward_pre_hook(_note(seen[1], name, twin)))
    outputs = fake(x).double(), integer.sums(x).to_float()
    for hook in hooks:
        hook.remove()
    step = float(outputs[0].max() - outputs[0].min()) / _OUTPUT_STEPS or 1.0
    gaps = {name: (seen[0][name] - seen[1][name]).abs().double() for name in seen[0]}
    gaps[OUTPUT] = (outputs[0] - outputs[1]).abs() / step
    return IntegerAgreement(
        tuple(gaps),
        tuple(float((gap == 0).double().mean()) for gap in gaps.values()),
        tuple(float((gap <= 1).double().mean()) for gap in gaps.values()),
        tuple(float(gap.max()) for gap in gaps.values()),
    )


def _note(seen: dict[str, Tensor], name: str, reader: Any) -> Any:
    """A hook that keeps the codes of what a layer reads."""

    def hook(module: Any, inputs: Any) -> None:
        if isinstance(reader, ActivationQuantizer):
            seen[name] = quantize_affine(inputs[0], reader.scale, reader.zero_point, reader.spec)
        elif isinstance(reader, IntegerLayer):
            seen[name] = reader.input_codes(inputs[0])

    return hook
