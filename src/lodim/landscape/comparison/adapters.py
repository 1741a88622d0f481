r"""Adapters of linear layers and convolutions: their ranks, their size, the arguments that make them.

One rank is asked of all layers at a time, and capped where a layer is too small. With O the outputs of a layer, I its
inputs and k its kernel, the trained numbers are

==========  =====================================================
LoRA        :math:`\sum_l r (O_l + I_l k_l^2)`, as PEFT counts
FLoRA       :math:`\sum_l \prod_n J_n + \sum_n I_n J_n`
==========  =====================================================

Sources: E. Hu and others, arXiv 2106.09685 (LoRA); C. Si and others, arXiv 2405.14739 (FLoRA).

**Subspaces beside adapters** (:func:`compare_adapters`). Adapters also train few numbers: LoRA adds :math:`B A` of rank
r to each matrix, VeRA scales the rows of fixed random ones. Are random subspaces better or worse for the same budget?
An adapter's size is what its configuration makes it; the subspaces are given exactly that many dimensions.

======================  ===========================================================
Symbol                  Here
======================  ===========================================================
LoRA, VeRA              configurations of the PEFT library (extra ``lm``)
DID, SAID               ``SubspaceModule(model, d)``, ``SubspaceModule(model, d, said=...)``
d                       the adapter's trained numbers, its head included
======================  ===========================================================

Sources: E. Hu and others, arXiv 2106.09685 (LoRA); D. Kopiczko and others, arXiv 2310.11454 (VeRA); A. Aghajanyan and
others, arXiv 2012.13255.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from lodim.landscape.comparison.bench import SEED_BYTES
from lodim.landscape.finetuning.comparison import head_name
from lodim.landscape.flora.inject import inject_flora
from lodim.landscape.flora.layer_kinds import KINDS
from lodim.landscape.flora.state import exactly
from lodim.landscape.flora.tucker import capped_ranks, tucker_numbers
from lodim.landscape.objective_landscapes.bases import refuse_shared
from lodim.landscape.objective_landscapes.module import SubspaceModule
from lodim.landscape.objective_landscapes.structure import Grouping
from lodim.nets import find_layers, flat_spec
from lodim.nets.kinds import PLAIN
from lodim.randomness import RandomState, build_seeded, derive_seed, forked_torch_rng, root_seed
from lodim.results import Result
from lodim.training import Recipe, Task, fit
from lodim.validation import check_in_range, checked, require

__all__ = ["AdapterComparison", "AdapterOption", "AdapterRun", "compare_adapters"]

_FLATTENED = (*PLAIN, nn.Embedding)  # by LoRA, whose matrices have no kernel
_OVERSHOOT = 2.0  # rank 1 may exceed the budget by this factor before the method counts as too coarse

Shape = tuple[int, ...]


def largest_rank(numbers: Callable[[int], int], most: int, n: int) -> int:
    """Return the largest rank up to ``most`` with at most n numbers, or 1."""
    return max(1, bisect_right(range(1, most + 1), n, key=numbers))


# Inserted as they are: the same rank in every layer


def insert_lora(model: nn.Module, rank: int, seed: int = 0) -> nn.Module:
    """Give every linear layer and convolution a low-rank update through PEFT, scaled by one."""
    peft: Any = require("peft", "lm")
    groups = {name: getattr(layer, "groups", 1) for name, layer in find_layers(model, kinds=PLAIN).items()}
    ranks = {
        name: math.ceil(rank / g) * g for name, g in groups.items()
    }  # PEFT takes multiples of the groups
    with forked_torch_rng(seed):
        return peft.inject_adapter_in_model(peft.LoraConfig(**lora_arguments(ranks, rank, 1)), model)


def insert_flora(model: nn.Module, rank: int, seed: int = 0) -> nn.Module:
    """Give every linear layer and convolution a Tucker update."""
    layers: dict[str, Any] = find_layers(model, kinds=PLAIN)  # type: ignore[assignment]
    ranks = {name: capped_ranks(layer.weight.shape, rank) for name, layer in layers.items()}
    kinds = ("linear", "conv1d", "conv2d", "conv3d")
    return inject_flora(model, ranks, target_modules="all", kinds=kinds, random_state=seed)


def lora_arguments(ranks: Mapping[str, int], r: int, scaling: int) -> dict[str, Any]:
    """Return the arguments of PEFT's ``LoraConfig`` for these layers and no others; ``alpha = scaling * rank``."""
    own = {f"^{re.escape(name)}": rank for name, rank in ranks.items() if rank != r}
    config: dict[str, Any] = {"r": r, "lora_alpha": scaling * r, "target_modules": exactly(ranks)}
    if own:
        config |= {"rank_pattern": own, "alpha_pattern": {name: scaling * k for name, k in own.items()}}
    return config


# At a budget of numbers


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


def adapter_options(
    model: nn.Module, layers: Mapping[str, Any], budget: int, direct: Sequence[str], saved: set[int]
) -> tuple[AdapterOption, ...]:
    """Return every method's way of training about ``budget`` numbers.

    ``layers`` are to be adapted, the modules ``direct`` trained as a whole besides; ``saved`` are the ids of
    their parameters.
    """
    parameters = list(model.parameters())
    D, size = sum(p.numel() for p in parameters), parameters[0].element_size()
    shapes = {name: tuple(layer.weight.shape) for name, layer in layers.items()}
    flat = {
        name: shape
        for name, shape in shapes.items()  # LoRA flattens no weight of grouped or transposed convolutions
        if isinstance(layers[name], _FLATTENED) and getattr(layers[name], "groups", 1) == 1
    }
    lora, flora = _lora(flat, budget, size), _flora(shapes, layers, budget, size)
    if direct:
        whole = {"modules_to_save": list(direct)}
        lora, flora = (replace(o, config=o.config | whole) if o.config else o for o in (lora, flora))
    full = AdapterOption("full", D, D * size, note="every weight")
    return *_subspaces(model, budget, size, direct, saved), lora, flora, full


def _subspaces(
    model: nn.Module, budget: int, size: int, direct: Sequence[str], saved: set[int]
) -> tuple[AdapterOption, AdapterOption]:
    """A plain subspace and a structure-aware one of as many numbers as the budget has."""
    spec = flat_spec(model, lambda name, p: id(p) not in saved)
    d, m = min(budget, spec.numel), len(spec.names)
    config: dict[str, Any] = {"d": d} | ({"train_directly": list(direct)} if direct else {})
    capped = "" if d == budget else "as many as there are weights"
    note = capped or "a seed and d numbers"
    plain = AdapterOption("subspace", d, d * size + SEED_BYTES, config=config, note=note)
    if d <= m:
        why = f"takes more than {m} numbers, one scale a tensor"
        return plain, replace(plain, method="said", config={}, fits=False, note=why)
    note = capped or f"{m} of them scale the tensors; for pre-trained models"
    return plain, replace(plain, method="said", config={**config, "said": "tensor"}, note=note)


def _lora(shapes: Mapping[str, Shape], budget: int, size: int) -> AdapterOption:
    """LoRA of the least rank that holds the budget, capped where it would save nothing."""
    if not shapes:
        return AdapterOption("lora", 0, 0, fits=False, note="no layer that LoRA adapts")
    sides = {name: (shape[0], math.prod(shape[1:])) for name, shape in shapes.items()}

    def ranks(r: int) -> dict[str, int]:
        return {name: max(1, min(r, o * i // (o + i))) for name, (o, i) in sides.items()}

    def numbers(r: int) -> int:
        return sum(rank * sum(sides[name]) for name, rank in ranks(r).items())

    rank, total, fits, note = _spend(numbers, max(map(min, sides.values())), budget)
    own = ranks(rank)
    config = lora_arguments(own, rank, 2)
    return AdapterOption("lora", total, total * size, {n: (r,) for n, r in own.items()}, config, fits, note)


def _flora(shapes: Mapping[str, Shape], layers: Mapping[str, Any], budget: int, size: int) -> AdapterOption:
    """FLoRA of the least rank that holds the budget, capped where it would save nothing."""

    def capped(shape: Shape, r: int) -> Shape:
        count = lambda rank: tucker_numbers(shape, capped_ranks(shape, rank))  # noqa: E731
        return capped_ranks(shape, largest_rank(count, r, math.prod(shape)))

    def numbers(r: int) -> int:
        return sum(tucker_numbers(shape, capped(shape, r)) for shape in shapes.values())

    rank, total, fits, note = _spend(numbers, max(map(max, shapes.values())), budget)
    ranks = {name: capped(shape, rank) for name, shape in shapes.items()}
    kinds = [k for k, c in KINDS.items() if any(isinstance(x, c.base_type) for x in layers.values())]
    config = {"r": ranks, "target_modules": exactly(shapes), "kinds": kinds}
    return AdapterOption("flora", total, total * size, ranks, config, fits, note)


def _spend(numbers: Callable[[int], int], most: int, budget: int) -> tuple[int, int, bool, str]:
    """The least rank whose adapters hold the budget, or the largest there is; its numbers, and whether they suit."""
    rank = 1 + bisect_left(range(1, max(1, most)), budget, key=numbers)
    total = numbers(rank)
    if rank == 1 and total > _OVERSHOOT * budget:
        return rank, total, False, "even rank 1 holds more than was asked for"
    if total < budget:
        return rank, total, False, "the largest ranks that save anything hold less than was asked for"
    return rank, total, True, ""


@dataclass(frozen=True)
class AdapterRun(Result):
    """One way of fine-tuning at one budget.

    Attributes
    ----------
    budget : str
        The adapter whose size the budget is.
    method : str
        That adapter, ``"DID"`` or ``"SAID"``.
    n_trained : int
        Numbers trained.
    score : float
        Mean over seeds at the best learning rate.
    lr : float
        That rate, as for direct training.
    """

    budget: str
    method: str
    n_trained: int
    score: float
    scores: tuple[float, ...]
    lr: float


@dataclass(frozen=True)
class AdapterComparison(Result):
    """Adapters and subspaces of equal size."""

    runs: tuple[AdapterRun, ...]

    def to_frame(self) -> Any:
        """Return a data frame, one row a way of fine-tuning."""
        import pandas as pd

        columns = ["budget", "method", "n_trained", "score", "lr"]
        return pd.DataFrame([[getattr(run, c) for c in columns] for run in self.runs], columns=columns)

    def __str__(self) -> str:
        return self.to_frame().to_string(index=False, float_format="{:.4g}".format)


@checked
def compare_adapters(
    make_model: Callable[[], nn.Module],
    task: Task,
    adapters: Mapping[str, Any] | None = None,
    *,
    recipe: Recipe | None = None,
    lrs: Sequence[float] = (1e-3, 3e-3, 1e-2),
    said: Grouping = "layer",
    projection: str = "cyclic",
    head: str | None = None,
    n_seeds: int = 1,
    random_state: RandomState = 0,
) -> AdapterComparison:
    """Fine-tune with adapters, and with subspaces of as many numbers.

    Parameters
    ----------
    make_model : callable
        ``make_model() -> nn.Module``, a new one at each call, with the pre-trained weights.
    adapters : mapping of str to peft.PeftConfig, optional
        By default LoRA of rank 1 and VeRA on all linear layers but the head, which they train directly.
    lrs : sequence of float
        Learning rates of direct training; each way takes the one that is best for it.
    said : str or callable
        Groups of SAID.
    head : str, optional
        Name of the head; by default the last linear layer with one output a class.

    Raises
    ------
    ImportError
        PEFT is not installed.
    """
    peft: Any = require("peft", "lm")
    check_in_range(n_seeds, "n_seeds", low=1, integer=True)
    refuse_shared(make_model(), first := make_model())
    head = head or head_name(first, task.n_outputs)
    if adapters is None:
        names = [name for name in find_layers(first, kinds=nn.Linear) if name != head]
        common = {"target_modules": names, "modules_to_save": [head]}
        adapters = {
            "LoRA r=1": peft.LoraConfig(r=1, lora_alpha=2, **common),
            "VeRA": peft.VeraConfig(r=64, **common),
        }
    seeds = [derive_seed(root_seed(random_state), "adapter", i) for i in range(n_seeds)]

    def adapted(config: Any, seed: int) -> nn.Module:
        return build_seeded(lambda: peft.get_peft_model(make_model(), config), seed)

    def inside(d: int, groups: Grouping, seed: int) -> nn.Module:
        model = build_seeded(make_model, seed)
        return SubspaceModule(model, d, projection=projection, seed=seed, said=groups)

    runs = []
    for name, config in adapters.items():
        budget = _trained(adapted(config, 0))
        ways = {
            name: partial(adapted, config),
            "DID": partial(inside, budget, None),
            "SAID": partial(inside, budget, said),
        }
        runs += [_best(name, way, make, task, recipe or Recipe(), lrs, seeds) for way, make in ways.items()]
    return AdapterComparison(tuple(runs))


def _trained(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _best(
    budget: str,
    method: str,
    make: Callable[[int], nn.Module],
    task: Task,
    recipe: Recipe,
    lrs: Sequence[float],
    seeds: Sequence[int],
) -> AdapterRun:
    """Train at every rate and keep the best, the first of equals."""
    runs = []
    for lr in lrs:
        scores = []
        for seed in seeds:
            model = make(seed)
            factor = model.lr_factor if isinstance(model, SubspaceModule) else 1.0
            scores.append(float(fit(model, task, recipe, lr=float(lr) * factor, random_state=seed).score))
        mean = float(np.mean(scores))
        runs.append(AdapterRun(budget, method, _trained(model), mean, tuple(scores), float(lr)))
    return max(runs, key=lambda run: run.score)
