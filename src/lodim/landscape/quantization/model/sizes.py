r"""What a quantised model costs: bytes of its parts, and bit operations (:func:`size_report`).

A layer of n weights in codes of :math:`b_w` bits takes :math:`\lceil n b_w / 8 \rceil` bytes, and besides its scales,
zero points and codebooks; what is not quantised counts as it is stored. Multiplying and adding k numbers of
:math:`b_w` and :math:`b_a` bits is counted as

.. math:: \mathrm{BOPs} = \mathrm{MACs} \cdot b_w \cdot b_a ,

with 32 bits for floating point, which is what codewords of a codebook are; binary and ternary weights count as 1 and 2
bits, and rows fetched from an embedding multiply nothing.

Source: A. Gholami et al., arXiv 2103.13630, Sections 2 and 4.2.
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
from lodim.nets.activations import evaluation_mode
from lodim.results import Result

__all__ = ["LayerSize", "SizeReport", "count_macs", "size_report"]

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
