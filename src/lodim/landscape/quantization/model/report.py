r"""What quantisation did to a model, layer by layer, and what is left to store and to compute.

**Loss** (:class:`QuantReport`). The signal-to-quantisation-noise ratio of a tensor r rounded to :math:`\hat r` is

.. math:: \mathrm{SQNR} = 10 \log_{10} \frac{\sum r^2}{\sum (r - \hat r)^2} \text{ dB},

about 6 dB a bit. A layer is taken for sensitive if the model's *output* suffers when that layer alone is quantised.

**Cost** (:func:`size_report`). A layer of n weights in codes of :math:`b_w` bits takes :math:`\lceil n b_w / 8 \rceil`
bytes, and besides its scales, zero points and codebooks; what is not quantised counts as it is stored. Multiplying and
adding k numbers of :math:`b_w` and :math:`b_a` bits is counted as

.. math:: \mathrm{BOPs} = \mathrm{MACs} \cdot b_w \cdot b_a ,

with 32 bits for floating point, which is what codewords of a codebook are; binary and ternary weights count as 1 and 2
bits, and rows fetched from an embedding multiply nothing.

Source: A. Gholami et al., arXiv 2103.13630, Sections 2, 3.2 and 4.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from lodim.landscape.quantization.grid.fake import QUANTIZABLE, QuantLayer
from lodim.landscape.quantization.layer_data import run_batch
from lodim.landscape.quantization.model.packing import PackedWeight, packed_bytes
from lodim.landscape.quantization.model.preparation import quant_layers
from lodim.nets.activations import batches_of, evaluation_mode
from lodim.results import Result
from lodim.validation import checked

__all__ = ["LayerReport", "LayerSize", "QuantReport", "SizeReport", "count_macs", "size_report", "sqnr_db"]

_FLOAT_BITS = 32


@dataclass(frozen=True)
class LayerSize(Result):
    """Bytes of one layer's weight.

    Attributes
    ----------
    kind : str
        The type of the float layer.
    bits : int
        Of a code.
    overhead_bits : dict of str to int
        Scales, zero points, codebooks; those of the input's scales too.
    float_bytes : int
        Of the weight as it was; 0 if another layer's entry, or what is not quantised, counts it already.
    macs, bops : int or None
        Of one sample, where an example was given.
    """

    name: str
    kind: str
    n_weights: int
    bits: int
    code_bytes: int
    overhead_bits: dict[str, int]
    float_bytes: int
    macs: int | None = None
    bops: int | None = None

    @property
    def bytes(self) -> int:
        """Codes and overhead."""
        return self.code_bytes + math.ceil(sum(self.overhead_bits.values()) / 8)


@dataclass(frozen=True)
class SizeReport(Result):
    """Bytes of a quantised model: its layers, everything else, and what it took before."""

    layers: tuple[LayerSize, ...]
    rest_bytes: int
    float_bytes: int

    @property
    def code_bytes(self) -> int:
        """All codes."""
        return sum(layer.code_bytes for layer in self.layers)

    @property
    def overhead_bytes(self) -> int:
        """All scales, zero points and codebooks."""
        return sum(layer.bytes - layer.code_bytes for layer in self.layers)

    @property
    def total_bytes(self) -> int:
        """Codes, overhead and the rest."""
        return self.code_bytes + self.overhead_bytes + self.rest_bytes

    @property
    def ratio(self) -> float:
        """How many times smaller than before."""
        return self.float_bytes / self.total_bytes

    @property
    def bits_per_weight(self) -> float:
        """Codes and overhead for each quantised weight."""
        n_weights = sum(layer.n_weights for layer in self.layers)
        return 8 * (self.code_bytes + self.overhead_bytes) / max(n_weights, 1)

    @property
    def bops(self) -> int | None:
        """Bit operations of one sample, None without an example."""
        counts = [layer.bops for layer in self.layers]
        return None if None in counts else sum(n for n in counts if n is not None)

    def to_frame(self) -> Any:
        """Return a data frame, one row a layer."""
        import pandas as pd

        columns = ["name", "kind", "n_weights", "bits", "code_bytes", "bytes", "float_bytes", "macs", "bops"]
        return pd.DataFrame([[getattr(layer, c) for c in columns] for layer in self.layers], columns=columns)

    def __str__(self) -> str:
        bops = "" if self.bops is None else f", {self.bops:,} bit operations a sample"
        return (
            f"{self.total_bytes:,} bytes instead of {self.float_bytes:,} ({self.ratio:.2f} times smaller): codes "
            f"{self.code_bytes:,}, scales and codebooks {self.overhead_bytes:,}, not quantised {self.rest_bytes:,}; "
            f"{self.bits_per_weight:.2f} bits a weight{bops}"
        )


@checked
def size_report(model: nn.Module, example: Any = None) -> SizeReport:
    """Count a prepared or converted model's bytes, and the bit operations of one sample.

    Parameters
    ----------
    model : nn.Module
        With :class:`~lodim.landscape.quantization.QuantLayer` in place of layers. A weight that several layers share is
        one entry, with the operations of all of them. Where their recipes differ each has codes of its own, which are
        counted as they are stored, but the float weight once.
    example : Tensor, mapping or tuple, optional
        A batch of one sample, for the operations.
    """
    macs = {} if example is None else count_macs(model, example)
    sizes: dict[int, LayerSize] = {}
    kept, counted = _kept(model), set[str]()
    for name, layer in quant_layers(model).items():
        own = _layer_size(name, layer, macs.get(name))
        weight: Any = layer.layer.weight
        stored = id(weight if layer.weight_quantizer is None else layer.weight_quantizer)
        names = _float_names(name, layer)
        if stored in sizes:
            own = _together(sizes[stored], own)
        elif names & kept.keys() or names & counted:
            own = replace(own, float_bytes=0)
        counted |= names
        sizes[stored] = own
    rest = sum(t.numel() * t.element_size() for t in {id(t): t for t in kept.values()}.values())
    return SizeReport(tuple(sizes.values()), rest, rest + sum(size.float_bytes for size in sizes.values()))


def _together(first: LayerSize, second: LayerSize) -> LayerSize:
    """Two layers that share codes: the operations and scales of inputs of both."""
    inputs = [size.overhead_bits["inputs"] for size in (first, second) if "inputs" in size.overhead_bits]
    overhead = first.overhead_bits | ({"inputs": sum(inputs)} if inputs else {})
    macs = None if first.macs is None or second.macs is None else first.macs + second.macs
    bops = None if first.bops is None or second.bops is None else first.bops + second.bops
    return replace(first, overhead_bits=overhead, macs=macs, bops=bops)


def _float_names(name: str, layer: QuantLayer) -> set[str]:
    """All names of a layer's weight in the float model, from this model's root."""
    own = [source.removesuffix(".weight") for source in layer.source]
    stem = next((stem for stem in own if name == stem or name.endswith("." + stem)), name)
    return {name.removesuffix(stem) + source for source in layer.source}


def _layer_size(name: str, layer: QuantLayer, macs: int | None) -> LayerSize:
    quantizer: Any = layer.weight_quantizer
    overhead = dict(quantizer.overhead_bits()) if quantizer is not None else {}
    weight: Any = layer.layer.weight
    if isinstance(quantizer, PackedWeight):
        count, bits, code_bytes = quantizer.shape.numel(), quantizer.bits, quantizer.packed.numel()
        float_bytes = count * quantizer.dtype.itemsize
    else:
        count, float_bytes = weight.numel(), weight.numel() * weight.element_size()
        bits, code_bytes = 8 * weight.element_size(), float_bytes
        if quantizer is not None:
            low, high = quantizer.code_range
            bits = max((high - low).bit_length(), 1)
            n_codes = count if layer.weight_spec is not None else quantizer.codes(weight).numel()
            code_bytes = packed_bytes(n_codes, bits)
    inputs: Any = layer.activation_quantizer
    if inputs is not None and hasattr(inputs, "scale"):
        overhead["inputs"] = _FLOAT_BITS * inputs.scale.numel() + 8 * inputs.zero_point.numel()
    weight_bits = bits if quantizer is not None and _multiplies_codes(layer) else _FLOAT_BITS
    input_bits = layer.activation_spec.bits if layer.activation_spec is not None else _FLOAT_BITS
    bops = None if macs is None else macs * weight_bits * input_bits
    kind = type(layer.layer).__name__
    return LayerSize(name, kind, count, bits, code_bytes, overhead, float_bytes, macs, bops)


def _multiplies_codes(layer: QuantLayer) -> bool:
    """Whether products are of small integers: on an affine grid, or with signs; other codebooks' are of floats."""
    quantizer: Any = layer.weight_quantizer
    low, high = quantizer.code_range
    return layer.weight_spec is not None or high - low <= 2


def _kept(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers that are neither quantised weights nor their quantisers', under all of their names."""
    layers = [n for n, m in model.named_modules(remove_duplicate=False) if isinstance(m, QuantLayer)]
    inside = tuple(f"{n}.{part}_quantizer.".lstrip(".") for n in layers for part in ("weight", "activation"))
    weights = {f"{n}.layer.weight".lstrip(".") for n in layers}
    state = model.state_dict(keep_vars=True)
    return {n: tensor for n, tensor in state.items() if n not in weights and not n.startswith(inside)}


@checked
def count_macs(model: nn.Module, example: Any) -> dict[str, int]:
    """Return multiplications with additions of each linear or convolutional layer for an example, a batch of one."""
    counts: dict[str, int] = {}

    def hook(name: str, layer: Any) -> Any:
        def tally(module: nn.Module, inputs: Any, output: Tensor) -> None:
            counts[name] = counts.get(name, 0) + _macs(layer, output)

        return tally

    targets = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, (*QUANTIZABLE, QuantLayer)) and not name.endswith(".layer")
    }
    hooks: list[Any] = [
        m.register_forward_hook(hook(n, m.layer if isinstance(m, QuantLayer) else m))
        for n, m in targets.items()
    ]
    try:
        with evaluation_mode(model), torch.no_grad():
            run_batch(model, example)
    finally:
        for handle in hooks:
            handle.remove()
    return counts


def _macs(layer: Any, output: Tensor) -> int:
    if isinstance(layer, nn.Embedding):
        return 0
    if isinstance(layer, nn.Linear):
        return output.numel() * layer.in_features
    return output.numel() * (layer.in_channels // layer.groups) * math.prod(layer.kernel_size)


def sqnr_db(exact: Tensor, rounded: Tensor) -> float:
    """Return the signal-to-quantisation-noise ratio in decibels; infinite if nothing was lost.

    ValueError for tensors of different shapes.
    """
    if exact.shape != rounded.shape:
        raise ValueError(
            f"tensors of shapes {tuple(exact.shape)} and {tuple(rounded.shape)} cannot be compared"
        )
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
        ax.set(yticks=places, yticklabels=labels, xlabel="signal to quantisation noise in dB", ylabel="layer")
        ax.invert_yaxis()
        ax.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1), fontsize="small")
        return ax

    def __str__(self) -> str:
        lines = [str(self.size)]
        if not math.isnan(self.score):
            lines.append(f"score {self.score:.4f} instead of {self.float_score:.4f}")
        if not math.isnan(self.output_sqnr):
            worst = self.most_sensitive
            lines.append(
                f"output at {self.output_sqnr:.1f} dB of signal to quantisation noise; most sensitive layer: {worst!r}"
            )
        table = self.to_frame().rename(columns=lambda name: name.replace("sqnr", "dB"))
        if math.isnan(self.output_sqnr):
            table = table.drop(columns="output_dB")
        return "\n".join([*lines, table.to_string(index=False, float_format="{:.1f}".format)])


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
    model: nn.Module, reference: nn.Module, size: SizeReport, data: Any = None, exact: Tensor | None = None
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
