r"""What quantisation did to a model, layer by layer: :class:`QuantReport`.

The signal-to-quantisation-noise ratio of a tensor r rounded to :math:`\hat r` is

.. math:: \mathrm{SQNR} = 10 \log_{10} \frac{\sum r^2}{\sum (r - \hat r)^2} \text{ dB},

about 6 dB a bit. A layer is taken for sensitive if the model's *output* suffers when that layer alone is quantised.

Source: A. Gholami et al., arXiv 2103.13630, Sections 3.2 and 4.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lodim.landscape.quantization.layer_data import run_batch
from lodim.landscape.quantization.model.preparation import quant_layers
from lodim.landscape.quantization.model.sizes import SizeReport
from lodim.nets.activations import batches_of, evaluation_mode
from lodim.results import Result

__all__ = ["LayerReport", "QuantReport", "layer_reports", "model_output", "sqnr_db"]


def sqnr_db(exact: Tensor, rounded: Tensor) -> float:
    """Return the signal-to-quantisation-noise ratio in decibels; infinite if nothing was lost."""
    exact, rounded = exact.detach().double(), rounded.detach().double()
    signal, noise = float(exact.square().sum()), float((exact - rounded).square().sum())
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


@dataclass(frozen=True)
class LayerReport(Result):
    """One quantised layer.

    Attributes
    ----------
    bits : int
        Of a weight's code.
    weight_sqnr : float
        Of the weight, in dB.
    output_sqnr : float
        Of the model's output with this layer alone quantised, in dB; NaN without data.
    """

    name: str
    kind: str
    bits: int
    n_weights: int
    bytes: int
    weight_sqnr: float
    output_sqnr: float = math.nan


@dataclass(frozen=True)
class QuantReport(Result):
    """A quantised model beside the model it was made from.

    Attributes
    ----------
    output_sqnr : float
        Of the model's output, in dB; NaN without data.
    float_score, score : float
        Of the float and of the quantised model; NaN without a way to score them.
    """

    layers: tuple[LayerReport, ...]
    size: SizeReport
    output_sqnr: float = math.nan
    float_score: float = math.nan
    score: float = math.nan

    @property
    def most_sensitive(self) -> str:
        """The layer whose quantisation alone does most harm: to the output, or without data to its weight."""
        harm = [r.weight_sqnr if math.isnan(r.output_sqnr) else r.output_sqnr for r in self.layers]
        return self.layers[harm.index(min(harm))].name

    def to_frame(self) -> Any:
        """Return a data frame, one row a layer."""
        import pandas as pd

        return pd.DataFrame([vars(layer) for layer in self.layers])

    def plot(self, ax: Any = None) -> Any:
        """Draw each layer's ratios, the smallest being the most sensitive, and return the axes."""
        from lodim.plots import COLORS, new_axes

        ax, frame = new_axes(ax), self.to_frame()
        places = list(range(len(frame)))
        ax.plot(frame.weight_sqnr, places, "o", color=COLORS[0], label="weight")
        if frame.output_sqnr.notna().any():
            label = "model output, this layer alone quantised"
            ax.plot(frame.output_sqnr, places, "s", color=COLORS[1], label=label)
        labels = [f"{name} ({bits} bit)" for name, bits in zip(frame.name, frame.bits, strict=True)]
        ax.set(yticks=places, yticklabels=labels, xlabel="signal to quantisation noise in dB")
        ax.invert_yaxis()
        ax.legend()
        return ax

    def __str__(self) -> str:
        lines = [str(self.size)]
        if not math.isnan(self.score):
            lines.append(f"score {self.score:.4f} instead of {self.float_score:.4f}")
        if not math.isnan(self.output_sqnr):
            worst = self.most_sensitive
            lines.append(f"output at {self.output_sqnr:.1f} dB; most sensitive layer: {worst!r}")
        return "\n".join([*lines, self.to_frame().to_string(index=False, float_format="{:.1f}".format)])


def model_output(model: nn.Module, data: Any) -> Tensor:
    """Return a model's outputs (or their ``logits`` or ``last_hidden_state``) on data, flattened, batch by batch."""
    outputs = []
    with evaluation_mode(model), torch.no_grad():
        for batch in batches_of(data):
            outputs.append(_tensor_of(run_batch(model, batch)).flatten())
    return torch.cat(outputs)


def _tensor_of(output: Any) -> Tensor:
    for found in (output, getattr(output, "logits", None), getattr(output, "last_hidden_state", None)):
        if isinstance(found, Tensor):
            return found
    raise TypeError(f"the model's output must be a tensor, or hold logits; got {type(output).__name__}")


def layer_reports(
    model: nn.Module,
    reference: nn.Module,
    size: SizeReport,
    data: Any = None,
    exact: Tensor | None = None,
) -> tuple[LayerReport, ...]:
    """Compare every layer of a converted model with its float one, by its weight and by its effect on the output.

    The outputs' ratios take a pass over ``data`` for each layer, with that layer in the float model's place;
    ``exact`` are the original model's outputs, by default the reference's.
    """
    layers = quant_layers(model)
    exact = model_output(reference, data) if exact is None and data is not None else exact
    rows = []
    for entry in size.layers:
        original: Any = reference.get_submodule(entry.name)
        ratio, effect = sqnr_db(original.weight, layers[entry.name].quantized_weight()), math.nan
        if exact is not None:
            try:
                reference.set_submodule(entry.name, layers[entry.name])
                effect = sqnr_db(exact, model_output(reference, data))
            finally:
                reference.set_submodule(entry.name, original)
        rows.append(
            LayerReport(entry.name, entry.kind, entry.bits, entry.n_weights, entry.bytes, ratio, effect)
        )
    return tuple(rows)
