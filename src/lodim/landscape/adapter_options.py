"""Every adapter method at a budget of trained numbers: its ranks, its arguments, its size."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from lodim.landscape.flora.layer_kinds import KINDS
from lodim.landscape.flora.state import exactly
from lodim.landscape.flora.tucker import capped_ranks, tucker_numbers
from lodim.nets.flat import flat_spec
from lodim.results import Result

__all__ = ["AdapterOption", "flora_option", "lora_option", "subspace_options"]

Shapes = Mapping[str, tuple[int, ...]]
_FLATTENED = (nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_OVERSHOOT = 2.0  # rank 1 may exceed the budget by this factor before the method counts as too coarse
_SEED_BYTES = 8


@dataclass(frozen=True)
class AdapterOption(Result):
    """One method at the budget.

    Attributes
    ----------
    n_trained : int
        Numbers in the adapter, without the modules trained as a whole.
    n_bytes : int
        Of a file that holds it, in the model's precision.
    ranks : dict of str to tuple of int
        By layer; empty where a method has none.
    config : dict
        The arguments: of ``SubspaceModule``, of PEFT's ``LoraConfig``, of ``inject_flora``.
    fits : bool
        Whether the method can train about as many numbers as asked for.
    note : str
        Why not, or what to know.
    """

    method: str
    n_trained: int
    n_bytes: int
    ranks: dict[str, tuple[int, ...]] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    fits: bool = True
    note: str = ""


def subspace_options(
    model: nn.Module, budget: int, size: int, direct: list[str], saved: set[int]
) -> tuple[AdapterOption, AdapterOption]:
    """Return a subspace and a structure-aware one of as many numbers as the budget has.

    Parameters
    ----------
    size : int
        Bytes of a number.
    direct : list of str
        Modules trained as a whole.
    saved : set of int
        Ids of their parameters.
    """
    spec = flat_spec(model, lambda name, p: id(p) not in saved)
    d, m = min(budget, spec.numel), len(spec.names)
    config: dict[str, Any] = {"d": d, **({"train_directly": direct} if direct else {})}
    capped = "" if d == budget else "as many as there are weights"
    plain = AdapterOption(
        "subspace", d, d * size + _SEED_BYTES, config=config, note=capped or "a seed and d numbers"
    )
    if d <= m:
        why = f"takes more than {m} numbers, one scale a tensor"
        return plain, AdapterOption("said", d, d * size + _SEED_BYTES, fits=False, note=why)
    note = capped or f"{m} of them scale the tensors; for pre-trained models"
    said = replace(plain, method="said", config={**config, "said": "tensor"}, note=note)
    return plain, said


def _spend(shapes: Shapes, count: Any, most: int, budget: int) -> int:
    """Return the least rank whose adapters hold the budget, or the largest there is."""
    low, high = 1, max(1, most)
    while low < high:
        middle = (low + high) // 2
        low, high = (
            (low, middle) if sum(count(s, middle) for s in shapes.values()) >= budget else (middle + 1, high)
        )
    return low


def _lora_rank(shape: tuple[int, ...], rank: int) -> int:
    """Cap a rank where the two thin matrices would hold as many numbers as the layer."""
    rows, columns = shape[0], math.prod(shape[1:])
    return max(1, min(rank, rows * columns // (rows + columns)))


def _lora_count(shape: tuple[int, ...], rank: int) -> int:
    return _lora_rank(shape, rank) * (shape[0] + math.prod(shape[1:]))


def lora_option(
    shapes: Shapes, layers: dict[str, Any], budget: int, size: int, direct: list[str]
) -> AdapterOption:
    """Return LoRA of the least rank that holds the budget, capped layer by layer where it would save nothing.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        Of the layers' weights.
    layers : dict of str to nn.Module
        Grouped and transposed convolutions are left out, as LoRA flattens no such weight.
    budget, size, direct
        As in :func:`subspace_options`.
    """
    shapes = {
        name: shape
        for name, shape in shapes.items()
        if isinstance(layers[name], _FLATTENED) and getattr(layers[name], "groups", 1) == 1
    }
    if not shapes:
        return AdapterOption("lora", 0, 0, fits=False, note="no layer that LoRA adapts")
    rank = _spend(shapes, _lora_count, max(min(s[0], math.prod(s[1:])) for s in shapes.values()), budget)
    own = {name: _lora_rank(shape, rank) for name, shape in shapes.items()}
    total = sum(_lora_count(shape, rank) for shape in shapes.values())
    config: dict[str, Any] = {"r": rank, "lora_alpha": 2 * rank, "target_modules": exactly(shapes)}
    smaller = {f"^{re.escape(name)}": r for name, r in own.items() if r != rank}
    if smaller:
        config |= {"rank_pattern": smaller, "alpha_pattern": {name: 2 * r for name, r in smaller.items()}}
    if direct:
        config["modules_to_save"] = direct
    fits, note = _verdict(total, budget, rank)
    return AdapterOption(
        "lora", total, total * size, {name: (r,) for name, r in own.items()}, config, fits, note
    )


def _flora_ranks(shape: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """Return the largest capped ranks up to ``rank`` that hold no more numbers than the layer, at least ones."""
    low, high = 1, rank
    while low < high:
        middle = (low + high + 1) // 2
        fits = tucker_numbers(shape, capped_ranks(shape, middle)) <= math.prod(shape)
        low, high = (middle, high) if fits else (low, middle - 1)
    return capped_ranks(shape, low)


def flora_option(
    shapes: Shapes, layers: dict[str, Any], budget: int, size: int, direct: list[str]
) -> AdapterOption:
    """Return FLoRA of the least rank that holds the budget, capped layer by layer where it would save nothing.

    Parameters
    ----------
    layers : dict of str to nn.Module
    budget, size, direct
        As in :func:`subspace_options`.
    """

    def count(shape: tuple[int, ...], rank: int) -> int:
        return tucker_numbers(shape, _flora_ranks(shape, rank))

    rank = _spend(shapes, count, max(max(shape) for shape in shapes.values()), budget)
    ranks = {name: _flora_ranks(shape, rank) for name, shape in shapes.items()}
    total = sum(tucker_numbers(shapes[name], r) for name, r in ranks.items())
    kinds = [
        kind
        for kind, cls in KINDS.items()
        if any(isinstance(layer, cls.base_type) for layer in layers.values())
    ]
    config: dict[str, Any] = {"r": ranks, "target_modules": exactly(shapes), "kinds": kinds}
    if direct:
        config["modules_to_save"] = direct
    fits, note = _verdict(total, budget, rank)
    return AdapterOption("flora", total, total * size, ranks, config, fits, note)


def _verdict(total: int, budget: int, rank: int) -> tuple[bool, str]:
    if rank == 1 and total > _OVERSHOOT * budget:
        return False, "even rank 1 holds more than was asked for"
    if total < budget:
        return False, "the largest ranks that save anything hold less than was asked for"
    return True, ""
