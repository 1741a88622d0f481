r"""Handing a quantised model over to torchao, whose kernels compute with the integers: :func:`to_torchao`.

The codes and scales are ours, however they were found (searched ranges, learnt rounding, training); torchao's tensors
are made for the layer's recipe and filled with them.

=======================================  ====================================  =========================================
weights                                  activations                           torchao
=======================================  ====================================  =========================================
8 bits, symmetric, tensor or channel     floating point                        ``Int8WeightOnlyConfig``
the same                                 8 bits, symmetric, by token, dynamic  ``Int8DynamicActivationInt8WeightConfig``
1 to 8 bits, tensor, channel or group    floating point                        ``IntxWeightOnlyConfig``
=======================================  ====================================  =========================================

torchao scales tokens by the full range, :math:`2 \max|x| / 255`; to fake-quantise in the same way, say
``range="full"`` for the activations. Rounded activations are multiplied by ``torch._int_mm``, which is wrong on
processors without instructions for it (VNNI): pairs of products are added in 16 bits, and saturate.
"""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import nn

from lodim.landscape.quantization.grid.affine import to_blocks
from lodim.landscape.quantization.grid.fake import QuantLayer
from lodim.landscape.quantization.spec import QuantSpec
from lodim.validation import checked, require, warn

__all__ = ["to_torchao"]

_SUPPORTED = (
    "linear layers with (1) weights of 8 bits, symmetric, by tensor or channel; (2) the same with activations of 8 "
    "bits, symmetric, by token, dynamic; (3) weights of 1 to 8 bits by tensor, channel, or groups that divide the "
    "inputs, activations in floating point"
)


@checked
def to_torchao(model: nn.Module) -> nn.Module:
    """Return a copy of a quantised model whose linear layers hold torchao tensors of the same codes, unwrapped.

    Warns
    -----
    UserWarning
        Activations are rounded too, the model is on the CPU, and this machine's products of 8-bit integers saturate.

    Raises
    ------
    NotImplementedError
        A layer or recipe that torchao has no tensor for; names the layers and lists what there is.
    ImportError
        Without torchao (extra ``quant``).
    """
    torchao: Any = require("torchao.quantization", "quant")
    module = copy.deepcopy(getattr(model, "module", model)).eval()
    layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, QuantLayer)}
    problems = [
        f"{name!r} ({problem})" for name, layer in layers.items() if (problem := _problem(layer)) is not None
    ]
    if problems or not layers:
        raise NotImplementedError(
            f"torchao has no counterpart for {', '.join(problems) or 'a model without quantised layers'}; "
            f"it has {_SUPPORTED}"
        )
    on_cpu = any(
        x.activation_spec is not None and x.layer.weight.device.type == "cpu" for x in layers.values()
    )
    if on_cpu and not _products_are_exact():
        warn(
            "on this processor torch's products of 8-bit integers saturate, so outputs will be wrong here; run the "
            "model on a processor with VNNI instructions or on a GPU, or round the weights alone",
            stacklevel=3,
        )
    for name, layer in layers.items():
        module.set_submodule(name, _exported(layer, torchao))
    return module


def _products_are_exact() -> bool:
    """Whether torch multiplies the largest 8-bit integers without a loss, as both signed and unsigned ones."""
    largest = torch.full((32, 32), 127, dtype=torch.int8)
    found = (torch._int_mm(x, largest) for x in (largest, largest.to(torch.uint8) + 128))
    return all(bool((x == 32 * 127 * y).all()) for x, y in zip(found, (127, 255), strict=True))


def _problem(layer: QuantLayer) -> str | None:
    """Why torchao cannot take a layer, or None."""
    weights, inputs = layer.weight_spec, layer.activation_spec
    if not isinstance(layer.layer, nn.Linear):
        return f"a {type(layer.layer).__name__}"
    if weights is None:
        return "weights not on an affine grid"
    if weights.bits > 8:
        return f"weights of {weights.bits} bits"
    if weights.axis != 0:
        return f"channels on axis {weights.axis}"
    if weights.group_size is not None and layer.layer.in_features % weights.group_size:
        return f"groups of {weights.group_size} do not divide {layer.layer.in_features} inputs"
    if inputs is None:
        return None
    tokens = inputs.bits == 8 and inputs.symmetric and inputs.granularity == "token"
    if not (tokens and _is_plain(weights)):
        return "activations other than symmetric 8 bits by token, or with weights other than symmetric 8 bits"
    return None


def _is_plain(weights: QuantSpec) -> bool:
    return weights.bits == 8 and weights.symmetric and weights.granularity != "group"


@torch.no_grad()
def _exported(source: QuantLayer, torchao: Any) -> nn.Module:
    """A linear layer whose weight is a torchao tensor holding the layer's own codes, scales and zero points."""
    quantizer, spec = cast(Any, source.weight_quantizer), cast(QuantSpec, source.weight_spec)
    linear = cast(nn.Linear, source.layer)
    n_out, n_in = linear.out_features, linear.in_features
    codes = quantizer.codes(linear.weight).reshape(n_out, n_in)
    grid = getattr(quantizer, "quantizer", quantizer)  # inside a packed weight
    n_groups = len(to_blocks(codes, spec)) // n_out or 1
    scale, zero = (t.reshape(-1, n_groups).expand(n_out, n_groups) for t in (grid.scale, grid.zero_point))
    if not spec.symmetric:
        codes, zero = codes - 2 ** (spec.bits - 1), zero - 2 ** (spec.bits - 1)
    layer = nn.Linear(n_in, n_out, bias=source.bias is not None, device=codes.device, dtype=torch.float32)
    wide_scale, wide_zero = (t.repeat_interleave(n_in // n_groups, 1) for t in (scale, zero))
    layer.weight.copy_((codes - wide_zero) * wide_scale)
    if source.bias is not None:
        layer.bias = nn.Parameter(source.bias.detach().clone())
    holder = nn.Sequential(layer)
    torchao.quantize_(holder, _config(spec, source.activation_spec is not None, torchao))
    weight: Any = layer.weight
    weight.qdata.copy_(codes.to(torch.int8))
    weight.scale.copy_(scale)
    weight.zero_point.copy_(zero.to(torch.int8))
    return layer.requires_grad_(False)


def _config(spec: QuantSpec, has_inputs: bool, torchao: Any) -> Any:
    """The torchao configuration of a recipe."""
    if has_inputs:
        return torchao.Int8DynamicActivationInt8WeightConfig()
    if _is_plain(spec):
        return torchao.Int8WeightOnlyConfig()
    granularity = torchao.PerGroup(spec.group_size) if spec.group_size else torchao.PerAxis(0)
    kind = require("torchao.quantization.quant_primitives", "quant").MappingType
    return torchao.IntxWeightOnlyConfig(
        weight_dtype=getattr(torch, f"int{spec.bits}"),
        granularity=granularity,
        mapping_type=kind.SYMMETRIC if spec.symmetric else kind.ASYMMETRIC,
    )
