r"""Subspaces and adapters at equal numbers of trained numbers.

**Problem.** Adapters also train few numbers: LoRA adds :math:`B A` of rank r to each matrix, VeRA scales the rows of
fixed random ones. Are random subspaces better or worse for the same budget? An adapter's size is what its configuration
makes it; the subspaces are given exactly that many dimensions.

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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from lodim.landscape.finetuning.comparison import head_name
from lodim.landscape.objective_landscapes.module import SubspaceModule
from lodim.landscape.objective_landscapes.structure import Grouping
from lodim.nets import find_layers
from lodim.randomness import RandomState, build_seeded, derive_seed, root_seed
from lodim.results import Result
from lodim.training import Recipe, Task, fit
from lodim.validation import check_in_range, require

__all__ = ["AdapterComparison", "AdapterRun", "compare_adapters"]


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
        ``make_model() -> nn.Module``, with the pre-trained weights.
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
    head = head or head_name(make_model(), task.n_outputs)
    if adapters is None:
        names = [name for name in find_layers(make_model(), kinds=nn.Linear) if name != head]
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
            scores.append(float(fit(model, task, recipe, lr=float(lr) * factor, seed=seed).score))
        mean = float(np.mean(scores))
        runs.append(AdapterRun(budget, method, _trained(model), mean, tuple(scores), float(lr)))
    return max(runs, key=lambda run: run.score)
