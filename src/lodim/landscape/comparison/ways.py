"""The ways of spending few numbers: what fits a budget, and the model trained and stored within it.

A :class:`Way` has two parts. ``plan(origin, budget)`` returns the largest setting whose stored size is within the
budget (or raises :class:`DoesNotFitError`), without training; ``spend(bench, setting)`` trains at that setting and
returns the model as it was stored. Both count the running statistics that training moves (``origin.moving``), which
are kept beside the numbers unless quantisation has folded them into weights.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lodim.landscape.code_lengths import message_length_bits, quantize_codebook
from lodim.landscape.comparison.adapters import insert_flora, insert_lora, largest_rank
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
from lodim.landscape.hypercomplex import to_hypercomplex
from lodim.landscape.nm_sparsity import NMSparsifier
from lodim.landscape.objective_landscapes.compression import QuantizedSubspace
from lodim.landscape.objective_landscapes.module import SubspaceModule
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
from lodim.nets.kinds import PLAIN
from lodim.randomness import derive_seed, forked_torch_rng
from lodim.validation import checked

__all__ = ["WAYS", "Way"]

LEVELS = 16
TUNING_SHARE, TUNING_RATE = 1 / 3, 0.3  # of codes that were fitted to trained weights
PRODUCTS = tuple((g, k) for g in (2, 4, 8, 16) for k in (16, 64, 256))
PATTERNS = ((2, 4), (1, 4), (1, 8), (1, 16), (1, 32), (1, 64))
HYPERCOMPLEX_N = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64)


@checked
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


def _numbers_for(origin: Origin, budget: int, least: int) -> int:
    """How many half-precision numbers a budget holds beside the seed and the running statistics, at least ``least``."""
    beside = SEED_BYTES + origin.buffer_bytes
    numbers = (budget - beside) // HALF_BYTES
    if numbers < least:
        raise DoesNotFitError(beside + HALF_BYTES * least)
    return numbers


def _largest(sizes: Mapping[Any, int], budget: int) -> Any:
    """The largest setting, of those with their bytes, that is within the budget."""
    if not sizes:
        raise ValueError("no layer of the model has sizes that this way can divide")
    within = [setting for setting in sizes if sizes[setting] <= budget]
    if not within:
        raise DoesNotFitError(min(sizes.values()))
    return max(within, key=sizes.__getitem__)


def _sizes(settings: Iterable[Any], size: Callable[[Any], int]) -> dict[Any, int]:
    """Bytes by setting, without the settings that divide no layer of the model."""
    found = {}
    for setting in settings:
        try:
            found[setting] = size(setting)
        except ValueError:
            continue
    return found


# Numbers in half precision, trained from the origin on


class _Numbers:
    """What trains the numbers of ``insert(origin, setting, seed)``; methods of objects travel to other processes."""

    key, text = "", ""

    def plan(self, origin: Origin, budget: int) -> Any:
        """Return the largest setting that fits."""
        raise NotImplementedError

    def insert(self, origin: Origin, setting: Any, seed: int) -> nn.Module:
        """Return the module to be trained."""
        raise NotImplementedError

    def count(self, origin: Origin, setting: Any) -> int:
        """Return how many numbers it trains."""
        return sum(p.numel() for p in self.insert(origin, setting, 0).parameters() if p.requires_grad)

    def spend(self, bench: Workbench, setting: Any) -> Stored:
        """Train and round."""
        module = self.insert(bench.origin, setting, derive_seed(bench.seed, self.key))
        factor = module.lr_factor if isinstance(module, SubspaceModule) else 1.0
        bench.train(module, lr_factor=factor)
        return store_halves(module, self.text.format(setting), bench.origin)

    def way(self, source: str, needs: tuple[str, ...] = ()) -> Way:
        """Return its two parts."""
        return Way(self.plan, self.spend, source, needs)


@dataclass(frozen=True)
class _Subspace(_Numbers):
    """theta0 + P v; with ``said`` theta0 + lambda (P v), a trained lambda for each tensor."""

    said: str | None = None
    key, text = "directions", "d = {:,}"

    def plan(self, origin: Origin, budget: int) -> int:
        spec = flat_spec(origin.make())
        return min(_numbers_for(origin, budget, 1 + (len(spec.names) if self.said else 0)), spec.numel)

    def insert(self, origin: Origin, d: int, seed: int) -> nn.Module:
        return SubspaceModule(origin.make(), d, said=self.said, seed=seed)


@dataclass(frozen=True)
class _Adapter(_Numbers):
    """Low-rank updates of every layer, of the same rank where the layer's sizes allow it."""

    into: Callable[[nn.Module, int, int], nn.Module]
    key, text = "adapter", "rank {}"

    def plan(self, origin: Origin, budget: int) -> int:
        numbers = _numbers_for(origin, budget, self.count(origin, 1))
        layers: Any = find_layers(origin.make(), kinds=PLAIN).values()
        most = 2 * max(min(layer.weight.shape[:2]) for layer in layers) - 1
        return largest_rank(lambda rank: self.count(origin, rank), most, numbers)

    def insert(self, origin: Origin, rank: int, seed: int) -> nn.Module:
        return self.into(origin.make(), rank, seed)


class _Hypercomplex(_Numbers):
    """Every layer a sum of n Kronecker products: fresh, or the nearest to a pre-trained one."""

    key, text = "hypercomplex", "n = {}"

    def plan(self, origin: Origin, budget: int) -> int:
        fresh = Origin(origin.make)  # sizes do not need the nearest sums

        def size(n: int) -> int:
            return SEED_BYTES + HALF_BYTES * self.count(fresh, n) + origin.buffer_bytes

        return _largest(_sizes(HYPERCOMPLEX_N, size), budget)

    def insert(self, origin: Origin, n: int, seed: int) -> nn.Module:
        module, weights = origin.make(), "nearest" if origin.pretrained else "fresh"
        with forked_torch_rng(seed):
            to_hypercomplex(module, n, skip_first=False, skip_last=False, weights=weights)
        return module


# Coordinates in codes


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
    """theta0 + P v with v rounded to a codebook that is trained through the rounding, then entropy coded."""
    module = SubspaceModule(bench.origin.make(), d, seed=derive_seed(bench.seed, "directions"))
    bench.train(module, lr_factor=module.lr_factor)
    tuned = QuantizedSubspace(module, quantize_codebook(module.theta_d, LEVELS, "kmeans").codebook)
    bench.train(tuned, lr_factor=module.lr_factor / 2, share=TUNING_SHARE)
    codes = tuned.rounded()
    with torch.no_grad():
        tuned.subspace.theta_d.copy_(torch.as_tensor(codes.values).to(tuned.subspace.theta_d))
    n_bytes = SEED_BYTES + math.ceil(message_length_bits(codes.codes, len(codes.codebook)) / 8)
    return store(tuned.subspace, n_bytes, d, f"d = {d:,}, {len(codes.codebook)} levels", bench.origin)


# Weights in codes: directly trained, rounded, and trained on through the rounding


def _code_recipes(observer: str = "mse") -> dict[str, QuantRecipe]:
    """Settings of the codes of few bits, the largest first."""
    grids = {f"{bits} bits": QuantRecipe(QuantSpec(bits, observer=observer)) for bits in (8, 6, 5, 4, 3, 2)}
    extreme = {"ternary": QuantRecipe(codebook=TernarySpec()), "binary": QuantRecipe(codebook=BinarySpec())}
    return grids | extreme


def _codes_bytes(module: nn.Module) -> int:
    """Codes with what belongs to them, every other parameter in half precision."""
    coded: Any = quant_layers(module).values()
    inside = {id(p) for x in coded for p in (x.layer.weight, *x.weight_quantizer.parameters())}
    rest = sum(p.numel() for p in module.parameters() if id(p) not in inside)
    return sum(layer.bytes for layer in size_report(module).layers) + HALF_BYTES * rest


def _plan_codes(origin: Origin, budget: int) -> str:
    sizes = {}
    for name, recipe in _code_recipes("minmax").items():  # the quickest; sizes do not depend on it
        module = prepare(origin.make(), recipe)
        sizes[name] = _codes_bytes(module) + buffer_bytes(origin.kept_buffers(module))
        if sizes[name] <= budget:
            break
    return _largest(sizes, budget)


def _spend_codes(bench: Workbench, setting: str) -> Stored:
    """A grid of few bits with learnt steps, or codes of one or two bits with fixed ones."""
    module = prepare(bench.dense, _code_recipes()[setting])
    scales = "learnt" if setting.endswith("bits") else "fixed"
    tuning, order = bench.shortened(TUNING_SHARE), derive_seed(bench.seed, "order")
    finetune_quantized(
        module, bench.task, tuning, lr=bench.rate(TUNING_RATE), scales=scales, random_state=order
    )
    return _store_codes(module, setting, bench.origin)


def _store_codes(module: nn.Module, setting: str, origin: Origin) -> Stored:
    weights = {id(layer.layer.weight) for layer in quant_layers(module).values()}
    round_to_halves(p for p in module.parameters() if id(p) not in weights)
    n_numbers = sum(p.numel() for p in module.parameters())
    return store(module, _codes_bytes(module), n_numbers, setting, origin)


def _plan_products(origin: Origin, budget: int) -> tuple[int, int]:
    model = ready(origin.make(), QuantRecipe(codebook=ProductSpec(*PRODUCTS[0])))
    layers: list[Any] = list(find_layers(model, kinds=(*PLAIN, nn.Embedding)).values())
    numbers = sum(p.numel() for p in model.parameters()) - sum(lay.weight.numel() for lay in layers)
    rest = HALF_BYTES * numbers + buffer_bytes(origin.kept_buffers(model))

    def size(setting: tuple[int, int]) -> int:
        g, k = setting
        padded = [len(lay.weight) * math.ceil(lay.weight[0].numel() / g) * g for lay in layers]
        return rest + sum(math.ceil(product_bits(n, g, k) / 8) for n in padded)

    return _largest(_sizes(PRODUCTS, size), budget)


def _spend_products(bench: Workbench, setting: tuple[int, int]) -> Stored:
    """Sub-vectors of the trained weights as codewords, which are trained on with their indices held."""
    g, k = setting
    codes = ProductSpec(g, k, seed=derive_seed(bench.seed, "codewords"))
    module = prepare(bench.dense, QuantRecipe(codebook=codes))
    for layer in quant_layers(module).values():
        layer.layer.weight.requires_grad_(False)
    bench.train(module, lr_factor=TUNING_RATE, share=TUNING_SHARE)
    return _store_codes(module, f"{k} codewords of {g}", bench.origin)


# Few weights of every group


def _sparse(model: nn.Module, pattern: tuple[int, int], total_steps: int) -> NMSparsifier:
    return NMSparsifier(
        model, *pattern, "sr-ste", total_steps=total_steps, targets=lambda _, layer: isinstance(layer, PLAIN),
        indivisible="skip", dense_frac=0.1,
    )  # fmt: skip


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
    def size(pattern: tuple[int, int]) -> int:
        model = origin.make()
        return _sparse_bytes(model, _sparse(model, pattern, 10)) + origin.buffer_bytes

    return _largest(_sizes(PATTERNS, size), budget)


def _spend_sparse(bench: Workbench, pattern: tuple[int, int]) -> Stored:
    """N of every M weights, held to it throughout the training (SR-STE)."""
    module = bench.origin.make()
    sparsifier = _sparse(module, pattern, bench.recipe.n_steps(bench.task.n_train))
    bench.train(module, on_step=sparsifier.step)
    sparsifier.finalize()
    round_to_halves(module.parameters())
    n_numbers = sum(p.numel() for p in module.parameters())
    text = "{}:{}".format(*pattern)
    return store(module, _sparse_bytes(module, sparsifier), n_numbers, text, bench.origin)


WAYS: dict[str, Way] = {
    "subspace": _Subspace().way("1804.08838"),
    "subspace, coded": Way(_plan_coded, _spend_coded, "1804.08838"),
    "SAID": _Subspace("tensor").way("2012.13255"),
    "LoRA": _Adapter(insert_lora).way("2106.09685", ("peft",)),
    "FLoRA": _Adapter(insert_flora).way("2405.14739"),
    "hypercomplex": _Hypercomplex().way("2110.04176"),
    "bits": Way(_plan_codes, _spend_codes, "2103.13630"),
    "product codes": Way(_plan_products, _spend_products, "2103.13630"),
    "N:M": Way(_plan_sparse, _spend_sparse, "2402.04744"),
}
