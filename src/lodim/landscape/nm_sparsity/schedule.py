r"""When how much flows: the phases of a sparse training and what each recipe does in them (:class:`Schedule`).

Training has a dense phase, a middle phase in which the recipe works, and a last one with the pattern fixed at N:M.
With t the steps since the dense phase ended and T the length of the middle phase:

==================  ==========================================================================================
``recipe``          Middle phase
==================  ==========================================================================================
``dense``           all weights, in every phase
``one-shot``        all weights; the pattern is cut once, when the last phase begins
``ste``             N:M
``sr-ste``          N:M, pruned weights decay (arXiv 2102.04010)
``mdgf-linear``     pruned weights count :math:`\beta_t = \max(0, 1 - c\,t)` (mask decay)
``mdgf-exp``        pruned weights count :math:`\beta_t = e^{-c\,t}`
``sdgf-stepwise``   equal stages M-1:M, M/2:M, M/4:M, ..., N:M (structure decay)
``sdgf-geometric``  equal stages 8N:8M, 4N:4M, 2N:2M, N:M: one density, ever less freedom
``sdgf-custom``     equal stages as given
==================  ==========================================================================================

===================== =============================
symbol in the paper   name here
===================== =============================
:math:`\beta_t`       ``Phase.beta``
:math:`c`             ``Schedule.rate``
stages                ``Schedule.stages``
===================== =============================

Source: A. Bambhaniya and others, arXiv 2402.04744, Section 3. Departures: without a given rate, the decay is fitted to
the middle phase (:math:`\beta_T = 10^{-3}` for the exponential, 0 for the linear); the released code has c = 0.0001.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lodim.landscape.nm_sparsity.masks import check_pattern
from lodim.validation import check_choice, check_fraction, check_in_range

__all__ = ["FACTORS", "RECIPES", "Phase", "Schedule", "geometric_stages", "stepwise_stages"]

RECIPES = (
    "dense",
    "one-shot",
    "ste",
    "sr-ste",
    "mdgf-linear",
    "mdgf-exp",
    "sdgf-stepwise",
    "sdgf-geometric",
    "sdgf-custom",
)
_LAST_BETA = 1e-3
FACTORS = (8, 4, 2, 1)


@dataclass(frozen=True)
class Phase:
    """What holds at one step.

    Attributes
    ----------
    name : {"dense", "sparse", "final"}
    n, m : int
        The pattern; ``1:1`` while all weights count.
    beta : float
        What a pruned weight counts; 1 in the dense phase.
    """

    name: str
    n: int
    m: int
    beta: float


def stepwise_stages(n: int, m: int) -> tuple[tuple[int, int], ...]:
    """Return the patterns M-1:M, M/2:M, M/4:M, ... above N:M, and N:M.

    Examples
    --------
    >>> stepwise_stages(1, 8)
    ((7, 8), (4, 8), (2, 8), (1, 8))
    """
    check_pattern(n, m)
    kept, stages = m // 2, [m - 1]
    while kept > n:
        stages.append(kept)
        kept //= 2
    return tuple((k, m) for k in dict.fromkeys([*(k for k in stages if k > n), n]))


def geometric_stages(n: int, m: int) -> tuple[tuple[int, int], ...]:
    """Return the patterns 8N:8M, 4N:4M, 2N:2M and N:M.

    Examples
    --------
    >>> geometric_stages(1, 8)
    ((8, 64), (4, 32), (2, 16), (1, 8))
    """
    check_pattern(n, m)
    return tuple((k * n, k * m) for k in FACTORS)


@dataclass(frozen=True)
class Schedule:
    """Phases of a training of ``total_steps`` steps.

    Attributes
    ----------
    recipe : str
        One of :data:`RECIPES`.
    dense_steps : int
        Length of the dense phase.
    final_steps : int
        Length of the last phase.
    rate : float
        The decay's c, a step; 0 where nothing decays.
    stages : tuple of pair of int
        Patterns of the middle phase, in order.
    """

    recipe: str
    n: int
    m: int
    total_steps: int
    dense_steps: int
    final_steps: int
    rate: float
    stages: tuple[tuple[int, int], ...]

    @classmethod
    def make(
        cls,
        recipe: str,
        n: int,
        m: int,
        total_steps: int,
        *,
        dense_frac: float | int = 0.05,
        finetune_frac: float | int = 0.1,
        decay: float | int | None = None,
        stages: Sequence[Sequence[int]] | None = None,
    ) -> Schedule:
        """Check the numbers, which are those of :class:`~.sparsifier.NMSparsifier`, and derive the phases.

        ValueError for an unknown recipe, n not below m, no step left for the middle phase, or arguments that the
        recipe has no use for.
        """
        check_choice(recipe, RECIPES, "recipe")
        check_pattern(n, m)
        total = int(check_in_range(total_steps, "total_steps", low=1, integer=True))
        dense = round(check_fraction(float(dense_frac), "dense_frac") * total)
        final = round(check_fraction(float(finetune_frac), "finetune_frac") * total)
        if dense + final >= total:
            raise ValueError(
                f"dense_frac={dense_frac} and finetune_frac={finetune_frac} leave none of the {total} steps for the "
                "phase between them; make them smaller or total_steps larger"
            )
        rate = _rate(recipe, total - dense - final, decay)
        return cls(recipe, int(n), int(m), total, dense, final, rate, _stages(recipe, n, m, stages))

    def at(self, step: int) -> Phase:
        """Return what holds after ``step`` steps of the optimiser; past the end the last phase goes on."""
        t, length = step - self.dense_steps, self.total_steps - self.dense_steps - self.final_steps
        if self.recipe == "dense":
            return Phase("dense", 1, 1, 1.0)
        if t >= length:
            return Phase("final", self.n, self.m, 0.0)
        if t < 0 or self.recipe == "one-shot":
            return Phase("dense", 1, 1, 1.0)
        if self.recipe == "mdgf-linear":
            return Phase("sparse", self.n, self.m, max(0.0, 1.0 - self.rate * t))
        if self.recipe == "mdgf-exp":
            return Phase("sparse", self.n, self.m, math.exp(-self.rate * t))
        n, m = self.stages[t * len(self.stages) // length]
        return Phase("sparse", n, m, 0.0)

    def to_frame(self) -> Any:
        """Return a data frame with a row a step: step, phase, n, m, beta."""
        import pandas as pd

        rows = [(step, *vars(self.at(step)).values()) for step in range(self.total_steps + 1)]
        return pd.DataFrame(rows, columns=["step", "phase", "n", "m", "beta"])


def _rate(recipe: str, length: int, decay: float | int | None) -> float:
    if not recipe.startswith("mdgf"):
        if decay is not None:
            raise ValueError(f"decay is the mask decay's rate; the recipe {recipe!r} has none")
        return 0.0
    if decay is not None:
        if check_in_range(decay, "decay", low=0.0) == 0:
            raise ValueError(
                "decay must be positive: at 0 pruned weights would count fully until the last phase"
            )
        return float(decay)
    return -math.log(_LAST_BETA) / length if recipe == "mdgf-exp" else 1.0 / length


def _stages(
    recipe: str, n: int, m: int, stages: Sequence[Sequence[int]] | None
) -> tuple[tuple[int, int], ...]:
    if (recipe == "sdgf-custom") != (stages is not None):
        raise ValueError(f"stages belong to the recipe 'sdgf-custom', and it needs them; got {recipe!r}")
    if stages is not None:
        for a, b in stages:
            check_pattern(a, b, below=False)
        given = tuple((int(a), int(b)) for a, b in stages)
        if not given or given[-1] != (n, m):
            raise ValueError(f"the last of the stages must be the pattern itself, {n}:{m}; got {given}")
        return given
    if recipe == "sdgf-stepwise":
        return stepwise_stages(n, m)
    if recipe == "sdgf-geometric":
        return geometric_stages(n, m)
    return ((n, m),)
