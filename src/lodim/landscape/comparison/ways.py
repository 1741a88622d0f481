"""The ways of spending few numbers: what fits a budget, and the model trained and stored within it.

A :class:`Way` has two parts. ``plan(origin, budget)`` returns the largest setting whose stored size is within the
budget (or raises :class:`DoesNotFitError`), without training; ``spend(bench, setting)`` trains at that setting and
returns the model as it was stored. Both count the running statistics that training moves (``origin.moving``), which
are kept beside the numbers unless quantisation has folded them into weights.
"""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lodim.landscape.code_lengths import message_length_bits, quantize_codebook
from lodim.landscape.comparison.bench import (
    HALF_BYTES,
    SEED_BYTES,
    DoesNotFitError,
    Origin,
    Stored,
    Workbench,
    buffer_bytes,
    round_to_halves,
    store,
    store_halves,
)
from lodim.landscape.flora import inject_flora
from lodim.landscape.hypercomplex import to_hypercomplex
from lodim.landscape.nm_sparsity import NMSparsifier
from lodim.landscape.objective_landscapes.module import SubspaceModule
from lodim.landscape.objective_landscapes.quantized import QuantizedSubspace
from lodim.landscape.quantization import (
    BinarySpec,
    ProductSpec,
    QuantRecipe,
    QuantSpec,
    TernarySpec,
    finetune_quantized,
    prepare,
    product_bits,
    quant_layers,
    size_report,
)
from lodim.landscape.quantization.model.preparation import ready
from lodim.nets import find_layers, flat_spec
from lodim.randomness import derive_seed, forked_torch_rng
from lodim.validation import require

__all__ = ["WAYS", "Way"]

LEVELS = 16
TUNING_SHARE, TUNING_RATE = 1 / 3, 0.3  # of codes that were fitted to trained weights
PRODUCTS = tuple((g, k) for g in (2, 4, 8, 16) for k in (16, 64, 256))
PATTERNS = ((2, 4), (1, 4), (1, 8), (1, 16), (1, 32), (1, 64))
ADAPTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
HYPERCOMPLEX_N = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64)


@dataclass(frozen=True, eq=False)
class Way:
    """One way of spending few numbers.

    Attributes
    ----------
    plan : callable
        ``plan(origin, budget) -> setting``.
    spend : callable
        ``spend(bench, setting) -> Stored``.
    source : str
        arXiv id.
    needs : tuple of str
        Modules beyond lodim's own dependencies.
    """

    plan: Callable[[Origin, int], Any]
    spend: Callable[[Workbench, Any], Stored]
    source: str
    needs: tuple[str, ...] = ()

    def available(self) -> bool:
        """Whether the libraries it needs are installed."""
        return all(importlib.util.find_spec(module) is not None for module in self.needs)


def numbers_for(origin: Origin, budget: int, least: int) -> int:
    """Return how many half-precision numbers a budget holds beside the seed and the running statistics.

    Parameters
    ----------
    budget : int
        Bytes.
    least : int
        Numbers that the way cannot do without.

    Raises
    ------
    DoesNotFitError
        Fewer than ``least``.
    """
    beside = SEED_BYTES + origin.buffer_bytes
    numbers = (budget - beside) // HALF_BYTES
    if numbers < least:
        raise DoesNotFitError(beside + HALF_BYTES * least)
    return numbers


def largest_that_fits(settings: Iterable[Any], size: Callable[[Any], int], budget: int) -> Any:
    """Return the first setting, of a decreasing sequence, whose size in bytes is within the budget.

    Parameters
    ----------
    settings : iterable
    size : callable
        ``size(setting) -> bytes``.

    Raises
    ------
    DoesNotFitError
        None is.
    ValueError
        There are none.
    """
    sizes = []
    for setting in settings:
        sizes.append(size(setting))
        if sizes[-1] <= budget:
            return setting
    if not sizes:
        raise ValueError("no layer of the model has sizes that this way can divide")
    raise DoesNotFitError(min(sizes))


def _plan_subspace(origin: Origin, budget: int) -> int:
    return min(numbers_for(origin, budget, 1), flat_spec(origin.make()).numel)


def _spend_subspace(bench: Workbench, d: int) -> Stored:
    """theta0 + P v, with v in half precision."""
    module = SubspaceModule(bench.origin.make(), d, seed=derive_seed(bench.seed, "directions"))
    bench.train(module, lr_factor=module.lr_factor)
    return store_halves(module, f"d = {d:,}", bench.origin)


def _plan_coded(origin: Origin, budget: int) -> int:
    """The largest d whose message fits even if all codes are equally frequent."""
    D = flat_spec(origin.make()).numel
    beside = LEVELS * (16 + math.ceil(math.log2(D)))  # codebook, and a count a level
    least = math.ceil((beside + LEVELS * math.log2(LEVELS)) / 8)
    room = budget - SEED_BYTES - origin.buffer_bytes
    if room < least:
        raise DoesNotFitError(budget - room + least)
    return min(D, int((8 * room - beside) / math.log2(LEVELS)))


def _spend_coded(bench: Workbench, d: int) -> Stored:
    """The same, v rounded to a codebook that is trained through the rounding, then entropy coded."""
    module = SubspaceModule(bench.origin.make(), d, seed=derive_seed(bench.seed, "directions"))
    bench.train(module, lr_factor=module.lr_factor)
    start = quantize_codebook(module.theta_d, LEVELS, "kmeans").codebook
    tuned = QuantizedSubspace(module, start)
    bench.train(tuned, lr_factor=module.lr_factor / 2, share=TUNING_SHARE)
    codes = tuned.rounded()
    with torch.no_grad():
        tuned.subspace.theta_d.copy_(torch.as_tensor(codes.values).to(tuned.subspace.theta_d))
    n_bytes = SEED_BYTES + math.ceil(message_length_bits(codes.codes, len(codes.codebook)) / 8)
    return store(tuned.subspace, n_bytes, d, f"d = {d:,}, {len(codes.codebook)} levels", bench.origin)


def _plan_said(origin: Origin, budget: int) -> int:
    model = origin.make()
    m = len(flat_spec(model).names)
    return min(numbers_for(origin, budget, m + 1), flat_spec(model).numel)


def _spend_said(bench: Workbench, d: int) -> Stored:
    """theta0 + lambda (P v), a trained lambda for each tensor."""
    module = SubspaceModule(bench.origin.make(), d, said="tensor", seed=derive_seed(bench.seed, "directions"))
    bench.train(module, lr_factor=module.lr_factor)
    return store_halves(module, f"d = {d:,}", bench.origin)


def _matrices(model: nn.Module) -> dict[str, Any]:
    """The layers that adapters and patterns act on: linear ones and convolutions."""
    return find_layers(model, kinds=ADAPTED)


def _with_flora(model: nn.Module, rank: int, seed: int = 0) -> nn.Module:
    ranks = {
        name: tuple(min(rank, size) for size in layer.weight.shape)
        for name, layer in _matrices(model).items()
    }
    kinds = ("linear", "conv1d", "conv2d", "conv3d")
    return inject_flora(model, ranks, target_modules="all", kinds=kinds, random_state=seed)


def _with_lora(model: nn.Module, rank: int, seed: int = 0) -> nn.Module:
    peft: Any = require("peft", "lm")
    layers = _matrices(model)
    groups = {name: getattr(layer, "groups", 1) for name, layer in layers.items()}
    grouped = {f"^{re.escape(name)}": math.ceil(rank / g) * g for name, g in groups.items() if g > 1}
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=rank,
        rank_pattern=grouped,  # grouped convolutions take multiples of their groups
        alpha_pattern=grouped,
        target_modules="|".join(map(re.escape, layers)),  # whole names; as a list they would match endings
    )
    with forked_torch_rng(seed):
        return peft.inject_adapter_in_model(config, model)


def _adapter(insert: Callable[..., nn.Module], source: str, needs: tuple[str, ...] = ()) -> Way:
    """Low-rank updates of every layer, of the same rank where the layer's sizes allow it."""

    def trained(origin: Origin, rank: int) -> int:
        return sum(p.numel() for p in insert(origin.make(), rank).parameters() if p.requires_grad)

    def plan(origin: Origin, budget: int) -> int:
        numbers = numbers_for(origin, budget, trained(origin, 1))
        low, high = 1, 2 * max(min(layer.weight.shape[:2]) for layer in _matrices(origin.make()).values())
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if trained(origin, middle) <= numbers else (low, middle)
        return low

    def spend(bench: Workbench, rank: int) -> Stored:
        module = insert(bench.origin.make(), rank, derive_seed(bench.seed, "adapter"))
        bench.train(module)
        return store_halves(module, f"rank {rank}", bench.origin)

    return Way(plan, spend, source, needs)


def _plan_hypercomplex(origin: Origin, budget: int) -> int:
    sizes = {}
    for n in HYPERCOMPLEX_N:
        model = origin.make()
        try:
            to_hypercomplex(model, n, skip_first=False, skip_last=False)
        except ValueError:  # n divides no layer
            continue
        numbers = sum(p.numel() for p in model.parameters() if p.requires_grad)
        sizes[n] = SEED_BYTES + HALF_BYTES * numbers + origin.buffer_bytes
    return largest_that_fits(sorted(sizes, key=lambda n: -sizes[n]), sizes.__getitem__, budget)


def _spend_hypercomplex(bench: Workbench, n: int) -> Stored:
    """Every layer a sum of n Kronecker products: fresh, or the nearest to a pre-trained one."""
    module = bench.origin.make()
    weights = "nearest" if bench.origin.pretrained else "fresh"
    with forked_torch_rng(derive_seed(bench.seed, "hypercomplex")):
        to_hypercomplex(module, n, skip_first=False, skip_last=False, weights=weights)
    bench.train(module)
    return store_halves(module, f"n = {n}", bench.origin)


def _code_recipes(observer: str = "mse") -> dict[str, QuantRecipe]:
    """Settings of the codes of few bits."""
    grids = {f"{bits} bits": QuantRecipe(QuantSpec(bits, observer=observer)) for bits in (8, 6, 5, 4, 3, 2)}
    return {
        **grids,
        "ternary": QuantRecipe(codebook=TernarySpec()),
        "binary": QuantRecipe(codebook=BinarySpec()),
    }


def _codes_bytes(module: nn.Module) -> int:
    """Codes with what belongs to them, every other parameter in half precision."""
    inside = {id(p) for layer in quant_layers(module).values() for p in _coded_parameters(layer)}
    rest = sum(p.numel() for p in module.parameters() if id(p) not in inside)
    return sum(layer.bytes for layer in size_report(module).layers) + HALF_BYTES * rest


def _coded_parameters(layer: Any) -> list[nn.Parameter]:
    """A layer's weight and what its quantiser trains: counted as codes and their overhead."""
    return [layer.layer.weight, *layer.weight_quantizer.parameters()]


def _plan_codes(origin: Origin, budget: int) -> str:
    recipes = _code_recipes("minmax")  # the quickest; sizes do not depend on it

    def size(name: str) -> int:
        module = prepare(origin.make(), recipes[name])
        return _codes_bytes(module) + buffer_bytes(origin.kept_buffers(module))

    return largest_that_fits(recipes, size, budget)


def _spend_codes(bench: Workbench, setting: str) -> Stored:
    """Codes of few bits: directly trained, rounded, and trained on through the rounding with learnt steps."""
    module = prepare(bench.dense, _code_recipes()[setting])
    steps = "learnt" if setting.endswith("bits") else "fixed"
    tuning, order = bench.shortened(TUNING_SHARE), derive_seed(bench.seed, "order")
    finetune_quantized(module, bench.task, tuning, lr=bench.rate(TUNING_RATE), steps=steps, seed=order)
    return _store_codes(module, setting, bench.origin)


def _store_codes(module: nn.Module, setting: str, origin: Origin) -> Stored:
    weights = {id(layer.layer.weight) for layer in quant_layers(module).values()}
    round_to_halves(p for p in module.parameters() if id(p) not in weights)
    n_numbers = sum(p.numel() for p in module.parameters())
    return store(module, _codes_bytes(module), n_numbers, setting, origin)


def _plan_products(origin: Origin, budget: int) -> tuple[int, int]:
    model = ready(origin.make(), QuantRecipe(codebook=ProductSpec(*PRODUCTS[0])))
    layers: list[Any] = list(find_layers(model, kinds=(*ADAPTED, nn.Embedding)).values())
    numbers = sum(p.numel() for p in model.parameters()) - sum(lay.weight.numel() for lay in layers)
    rest = HALF_BYTES * numbers + buffer_bytes(origin.kept_buffers(model))

    def size(setting: tuple[int, int]) -> int:
        g, k = setting
        padded = [len(lay.weight) * math.ceil(lay.weight[0].numel() / g) * g for lay in layers]
        return rest + sum(math.ceil(product_bits(n, g, k) / 8) for n in padded)

    return largest_that_fits(sorted(PRODUCTS, key=size, reverse=True), size, budget)


def _spend_products(bench: Workbench, setting: tuple[int, int]) -> Stored:
    """Sub-vectors of the trained weights as codewords, which are trained on with their indices held."""
    g, k = setting
    codes = ProductSpec(g, k, seed=derive_seed(bench.seed, "codewords"))
    module = prepare(bench.dense, QuantRecipe(codebook=codes))
    for layer in quant_layers(module).values():
        layer.layer.weight.requires_grad_(False)
    bench.train(module, lr_factor=TUNING_RATE, share=TUNING_SHARE)
    return _store_codes(module, f"{k} codewords of {g}", bench.origin)


def _sparse(model: nn.Module, n: int, m: int, total_steps: int) -> NMSparsifier:
    return NMSparsifier(
        model, n, m, "sr-ste", total_steps=total_steps, targets=_is_matrix, indivisible="skip", dense_frac=0.1
    )


def _is_matrix(name: str, layer: nn.Module) -> bool:
    return isinstance(layer, ADAPTED)


def _sparse_bytes(model: nn.Module, sparsifier: NMSparsifier) -> int:
    """Kept weights and everything else in half precision, and the kept weights' places."""
    total = HALF_BYTES * sum(p.numel() for p in model.parameters())
    n, m = sparsifier.schedule.n, sparsifier.schedule.m
    for layer in sparsifier.layers.values():
        weight: Any = layer.weight
        kept = weight.numel() // m * n
        total += HALF_BYTES * (kept - weight.numel()) + math.ceil(kept * (m - 1).bit_length() / 8)
    return total


def _plan_sparse(origin: Origin, budget: int) -> tuple[int, int]:
    sizes = {}
    for n, m in PATTERNS:
        model = origin.make()
        try:
            sizes[n, m] = _sparse_bytes(model, _sparse(model, n, m, 10)) + origin.buffer_bytes
        except ValueError:  # m divides no layer
            continue
    return largest_that_fits(sorted(sizes, key=lambda p: -sizes[p]), sizes.__getitem__, budget)


def _spend_sparse(bench: Workbench, pattern: tuple[int, int]) -> Stored:
    """N of every M weights, held to it throughout the training (SR-STE)."""
    module, (n, m) = bench.origin.make(), pattern
    sparsifier = _sparse(module, n, m, bench.recipe.n_steps(bench.task.n_train))
    bench.train(module, on_step=sparsifier.step)
    sparsifier.finalize()
    round_to_halves(module.parameters())
    n_numbers = sum(p.numel() for p in module.parameters())
    return store(module, _sparse_bytes(module, sparsifier), n_numbers, f"{n}:{m}", bench.origin)


WAYS: dict[str, Way] = {
    "subspace": Way(_plan_subspace, _spend_subspace, "1804.08838"),
    "subspace, coded": Way(_plan_coded, _spend_coded, "1804.08838"),
    "SAID": Way(_plan_said, _spend_said, "2012.13255"),
    "LoRA": _adapter(_with_lora, "2106.09685", ("peft",)),
    "FLoRA": _adapter(_with_flora, "2405.14739"),
    "hypercomplex": Way(_plan_hypercomplex, _spend_hypercomplex, "2110.04176"),
    "bits": Way(_plan_codes, _spend_codes, "2103.13630"),
    "product codes": Way(_plan_products, _spend_products, "2103.13630"),
    "N:M": Way(_plan_sparse, _spend_sparse, "2402.04744"),
}
