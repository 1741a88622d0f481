r"""A float model made ready for the grid, for data, and for inference: three steps.

======================  ==============================================================================================
step                    what it does
======================  ==============================================================================================
:func:`prepare`         copies the model, folds and equalises it if asked, and puts a
                        :class:`~lodim.landscape.quantization.QuantLayer` where a layer is to be quantised
:func:`calibrate`       runs data through the float layers while the quantisers of their inputs watch
:func:`convert`         fixes scales and weights, in one of the modes below
======================  ==============================================================================================

Folding batch normalisation and equalising ranges change weights but not what the model computes. Layers inside
``nn.MultiheadAttention`` are left alone, since it reads its weights without calling its layers, and the fused path of
``nn.TransformerEncoderLayer``, which would pass the quantisers by, is switched off.

======================  ==============================================================================================
mode                    weights
======================  ==============================================================================================
``"fake"``              rounded floating-point numbers
``"packed"``            packed codes, decoded when used: the same outputs bit for bit
``"integer"``           integers, see :func:`~lodim.landscape.quantization.to_integer`
======================  ==============================================================================================

Source: A. Gholami et al., arXiv 2103.13630, Sections 3.2-3.6 and 4.1.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lodim.landscape.quantization.grid.fake import QUANTIZABLE, ActivationQuantizer, AffineWeight, QuantLayer
from lodim.landscape.quantization.integer.execution import to_integer
from lodim.landscape.quantization.layer_data import held, input_gram, layer_inputs, run_batch
from lodim.landscape.quantization.model.packing import PackedWeight
from lodim.landscape.quantization.rounding.equalise import FoldedNorm, equalise, fold_batch_norm
from lodim.landscape.quantization.spec import QuantRecipe, as_recipe, matches
from lodim.nets.activations import batches_of, evaluation_mode
from lodim.nets.kinds import owner_of
from lodim.nets.layers import peculiarity, replace_layers
from lodim.randomness import RandomState, derive_seed, root_seed
from lodim.validation import check_choice, check_counts, checked, close_matches, warn

__all__ = ["calibrate", "convert", "prepare", "quant_layers", "ready"]


@checked
def quant_layers(model: nn.Module) -> dict[str, QuantLayer]:
    """Return the quantised layers of a model by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, QuantLayer)}


@checked
def prepare(
    model: Any,
    recipe: Any,
    *,
    qat: bool = False,
    calibration: Any = None,
    random_state: RandomState = 0,
) -> nn.Module:
    """Return a copy of a model with quantised layers in place of float ones, their weights' ranges chosen.

    Parameters
    ----------
    model : nn.Module
        Not changed.
    recipe : QuantRecipe, QuantSpec or str
        See :func:`~lodim.landscape.quantization.as_recipe`.
    qat : bool
        For training: the weights' ranges follow the weights.
    calibration : Tensor, array or iterable, optional
        Inputs for codebooks that are fitted to them, and to see what a batch normalisation acts on.
    random_state : int, Generator or None
        Of stochastic rounding.

    Raises
    ------
    ValueError
        Nothing to quantise, a pattern that matches no layer, NaN in a weight, naming the layer; or weights that
        adapters or a subspace produce.
    TypeError
        No module, or no recipe.

    Warns
    -----
    UserWarning
        Once, listing the layers that hold weights and stay in floating point.
    """
    recipe, calibration = as_recipe(recipe), held(calibration)
    reference = ready(plain_copy(model), recipe, calibration)
    return wrap(reference, recipe, qat=qat, calibration=calibration, seed=root_seed(random_state))


def plain_copy(model: Any) -> nn.Module:
    """Return a copy of a float model that calls all of its layers; TypeError where another method makes its weights."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"the model to quantise must be an nn.Module, got {type(model).__name__}")
    for name, module in model.named_modules():
        owner = owner_of(module)
        if owner is not None and not isinstance(module, QuantLayer):
            what = f"the layer {name!r}" if name else "the model"
            raise ValueError(f"{what} {owner.state}; {owner.release}")
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0  # the fused path would not call the layers
    return model


def ready(model: nn.Module, recipe: QuantRecipe, calibration: Any = None) -> nn.Module:
    """Return the model folded and equalised as the recipe says: the float reference; itself if there is nothing to do.

    The first batch of calibration data shows what batch normalisations act on. Without, one after a linear layer
    is folded only where something before it flattens, or where equalisation or bias correction needs it.
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


def wrap(
    reference: nn.Module, recipe: QuantRecipe, *, qat: bool = False, calibration: Any = None, seed: int = 0
) -> nn.Module:
    """Return a copy of the reference with quantised layers; options as of :func:`prepare`, its seed drawn."""
    model = copy.deepcopy(reference)
    chosen, names = _chosen_layers(model, recipe), weight_names(model)
    made: dict[
        Any, Any
    ] = {}  # layers that share a weight share its quantiser, unless recipes or inputs differ

    def wrapped(name: str, layer: Any) -> QuantLayer:
        own, gram = chosen[name], None
        if not bool(layer.weight.isfinite().all()):
            raise ValueError(f"the weight of layer {name!r} holds NaN or infinity and cannot be quantised")
        if getattr(own.codebook, "needs_inputs", False) and calibration is not None:
            gram = input_gram(layer_inputs(model, layer, calibration), layer)
        key = (id(layer.weight), repr((own.weights, own.codebook)), None if gram is None else name)
        if key not in made:
            made[key] = _weight_quantizer(layer.weight, own, gram, qat, derive_seed(seed, name))
        inputs = None
        if own.activations is not None:
            inputs = ActivationQuantizer(own.activations, dynamic=own.dynamic)
        new = QuantLayer(layer, made[key], inputs)
        new.source = names[id(layer.weight)]
        return new.train(layer.training).to(layer.weight.device)

    replace_layers(model, wrapped, lambda name, layer: name in chosen, kinds=QUANTIZABLE)
    return model


def _weight_quantizer(weight: Tensor, recipe: QuantRecipe, gram: Tensor | None, qat: bool, seed: int) -> Any:
    if recipe.codebook is not None:
        return recipe.codebook.quantizer(weight, gram)
    if recipe.weights is not None:
        return AffineWeight(weight, recipe.weights, follow=qat, seed=seed)
    return None


def weight_names(model: nn.Module) -> dict[int, tuple[str, ...]]:
    """Return all names of each parameter, by identity: several for one that layers share."""
    names: dict[int, tuple[str, ...]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names[id(parameter)] = (*names.get(id(parameter), ()), name)
    return names


def _chosen_layers(model: nn.Module, recipe: QuantRecipe) -> dict[str, QuantRecipe]:
    """The recipe of each layer to be quantised, by name."""
    if quant_layers(model):
        raise ValueError("the model is quantised already; start from the float model")
    attentions = [module for module in model.modules() if isinstance(module, nn.MultiheadAttention)]
    inside_attention = {id(layer) for attention in attentions for layer in attention.modules()}
    found = {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, QUANTIZABLE) and id(layer) not in inside_attention
    }
    for pattern in (*recipe.skip, *recipe.overrides):
        if not any(matches(name, pattern) for name in found):
            hint = close_matches(pattern, found)
            raise ValueError(f"{pattern!r} matches no layer.{hint} There are: {', '.join(map(repr, found))}")
    chosen, peculiar = dict[str, QuantRecipe](), dict[str, str]()
    for name, layer in found.items():
        own = recipe.for_layer(name)
        if own is None or not (own.weights or own.activations or own.codebook):
            continue
        kind = next(kind for kind in QUANTIZABLE if isinstance(layer, kind))
        if (why := peculiarity(layer, kind)) is not None:
            peculiar[name] = why
        else:
            chosen[name] = own
    if not chosen:
        why = f"there is no {', '.join(kind.__name__ for kind in QUANTIZABLE)}"
        if found:
            why = _listed(peculiar) if peculiar else "the recipe leaves every one in floating point"
        raise ValueError(f"{type(model).__name__} has no layer to quantise: {why}")
    _warn_about_others(model, inside_attention, peculiar)
    return chosen


def _listed(peculiar: Mapping[str, str]) -> str:
    remedy = ""
    if any("computed" in why for why in peculiar.values()):
        remedy = (
            "; make such weights plain first, with torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight') "
            "or, of a sparsifier, finalize()"
        )
    return "; ".join(f"{name!r}: {why}" for name, why in peculiar.items()) + remedy


def _warn_about_others(model: nn.Module, inside_attention: set[int], peculiar: Mapping[str, str]) -> None:
    others: dict[str, list[str]] = {}
    for name, module in model.named_modules():
        own = [p for p in module.parameters(recurse=False) if p.ndim > 1]
        if name.startswith(tuple(f"{inner}." for inner in peculiar)):
            continue
        if own and (not isinstance(module, QUANTIZABLE) or id(module) in inside_attention):
            others.setdefault(type(module).__name__, []).append(name)
    listed = [
        f"{kind} ({', '.join(names[:3])}{', ...' if names[3:] else ''})" for kind, names in others.items()
    ]
    if peculiar:
        listed.append(_listed(peculiar))
    if listed:
        warn(
            f"these hold weights, cannot be quantised and stay in floating point: {'; '.join(listed)}",
            stacklevel=5,
        )


@checked
def calibrate(model: nn.Module, data: Any, n_batches: int | None = None) -> nn.Module:
    """Show a prepared model data, for the ranges of its layers' inputs; its weights are in floating point meanwhile.

    Parameters
    ----------
    model : nn.Module
        From :func:`~lodim.landscape.quantization.prepare`; its observers are updated in place.
    data : Tensor, array or iterable
        Inputs, or batches of them. A batch is a tensor or an array, a mapping of arguments by name, or a tuple or list
        whose first entry is the input.
    n_batches : int, optional
        How many batches at most, all by default.

    Returns
    -------
    nn.Module
        The model.

    Raises
    ------
    ValueError
        No batch, or NaN or infinity in a layer's input, naming the layer.
    """
    layers = quant_layers(model)
    if n_batches is not None:
        check_counts(n_batches=n_batches)
    seen = 0
    with evaluation_mode(model), torch.no_grad(), _float_weights(layers), _naming_layers(layers):
        for batch in itertools.islice(batches_of(data), n_batches):
            run_batch(model, batch)
            seen += 1
    if not seen:
        raise ValueError("the calibration data hold no batch")
    return model


@contextmanager
def _float_weights(layers: Mapping[str, QuantLayer]) -> Iterator[None]:
    fixed = {name: layer.fixed for name, layer in layers.items()}
    try:
        for layer in layers.values():
            layer.fixed = True
        yield
    finally:
        for name, layer in layers.items():
            layer.fixed = fixed[name]


@contextmanager
def _naming_layers(layers: Mapping[str, QuantLayer]) -> Iterator[None]:
    """Say which layer's input it is that holds NaN."""
    running: list[str] = []
    hooks = [
        layer.register_forward_pre_hook(lambda *_, name=name: running.append(name))
        for name, layer in layers.items()
    ]
    try:
        yield
    except ValueError as error:
        if "NaN" not in str(error) or not running:
            raise
        raise ValueError(f"the input of layer {running[-1]!r}: {error}") from error
    finally:
        for hook in hooks:
            hook.remove()


def freeze_inputs(model: nn.Module) -> nn.Module:
    """Fix the scales of every calibrated input, in place, and return the model."""
    for layer in quant_layers(model).values():
        if isinstance(layer.activation_quantizer, ActivationQuantizer):
            layer.activation_quantizer.freeze()
    return model


def raise_if_not_calibrated(layers: Mapping[str, QuantLayer]) -> None:
    """Raise ``RuntimeError`` naming the layers whose inputs have static scales and were not shown data."""
    waiting = [
        name
        for name, layer in layers.items()
        if isinstance(layer.activation_quantizer, ActivationQuantizer)
        and not layer.activation_quantizer.is_calibrated
    ]
    if waiting:
        raise RuntimeError(
            f"the inputs of {', '.join(map(repr, waiting))} need calibration: run calibrate(model, data) before "
            "convert (or quantize with calibration=data), or take a recipe with dynamic=True"
        )


@checked
def convert(model: nn.Module, mode: str = "fake") -> nn.Module:
    """Return a prepared (and calibrated) model made ready for inference.

    Parameters
    ----------
    model : nn.Module
        From :func:`~lodim.landscape.quantization.prepare`, perhaps trained since. Not changed.
    mode : {"fake", "packed", "integer"}
        Layers that share a weight and its quantiser share the result.

    Raises
    ------
    RuntimeError
        Layers whose inputs have static scales have seen no data.
    """
    check_choice(mode, ("fake", "packed", "integer"), "mode")
    layers = quant_layers(model)
    if not layers:
        raise ValueError("the model has no quantised layer; run prepare(model, recipe) first")
    raise_if_not_calibrated(layers)
    model = freeze_inputs(copy.deepcopy(model)).eval()
    if mode == "integer":
        return to_integer(model)
    packed, fixed = dict[Any, PackedWeight](), dict[PackedWeight, nn.Parameter]()
    for layer in quant_layers(model).values():
        _pack(layer, packed)
        if mode == "fake":
            _fix(layer, fixed)
        elif layer.weight_quantizer is not None:
            layer.layer.register_parameter("weight", None)
            layer.fixed = False
    return model.requires_grad_(False)


@torch.no_grad()
def _pack(layer: QuantLayer, made: MutableMapping[Any, PackedWeight]) -> None:
    """Keep the weight's codes in its quantiser's place, once for all layers that share both."""
    quantizer, weight = layer.weight_quantizer, layer.layer.weight
    if quantizer is None or isinstance(quantizer, PackedWeight):
        return
    key = (id(quantizer), id(weight))
    if key not in made:
        made[key] = PackedWeight(weight, quantizer)
    layer.weight_quantizer = made[key]


@torch.no_grad()
def _fix(layer: QuantLayer, made: MutableMapping[PackedWeight, nn.Parameter]) -> None:
    """Put the rounded weight in the float one's place."""
    packed = layer.weight_quantizer
    if layer.fixed or not isinstance(packed, PackedWeight):
        return
    if packed not in made:
        made[packed] = nn.Parameter(packed(), requires_grad=False)
    layer.layer.weight = made[packed]
    layer.fixed = True
