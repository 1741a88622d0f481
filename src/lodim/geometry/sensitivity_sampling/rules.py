"""Which rows to keep: the scores of the sampling rules, and how many rows their theorems ask for.

Rows are kept independently, row i with probability ``q_i = min(1, beta score_i)``, and count ``1 / q_i`` in
``||.||_p^p``, so that ``E ||S A x||_p^p = ||A x||_p^p`` for every x whatever the scores, which decide the variance:

================== ==================== ============================== ==============================================
rule               score of row i       rows up to eps^-2 and logs     source
================== ==================== ============================== ==============================================
``uniform``        1                    n max_i s_i
``leverage``       tau_i                d at p = 2                     Drineas et al. 2006
``sensitivity``    s_i                  min(S^{2/p}, d^{1-p/2} S),     the paper, version 1; Chen and Derezinski 2021
                                        p < 2
``sensitivity``    s_i                  S^{2-2/p}, p > 2               the paper
``root_leverage``  tau_i^{p/2}          d, p < 2                       the paper; repeated on the sample
``combined``       s_i / S + tau_i / d  d^{2/p} S^{2-4/p}, p > 2       the paper's bound, our mixture; repeated
``lewis``          w_i                  d^{max(1, p/2)}                Cohen and Peng 2015
``augmented``      s_i + tau_i + 1/n    S + d, p <= 2                  Munteanu and Omlor 2024, arXiv 2406.00328
================== ==================== ============================== ==============================================

**Repeated rules.** One round by root leverage scores gets from n to about ``n^{1-p/2} d^{p/2}`` rows, and leverage
scores of the rescaled sample get it further. With m rows wanted in the end the rounds here aim at
``n_{k+1} = m^{p/2} n_k^{1-p/2}``, whose fixed point is m and whose logarithmic excess shrinks by ``1 - p/2`` a round:
O(log log n) rounds. For ``combined`` it is halved in each; ``root_leverage`` at p >= 2 is one round.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from lodim.geometry.sensitivity_sampling.lewis import check_p, fixed_point
from lodim.geometry.sensitivity_sampling.sensitivities import basis_sensitivities
from lodim.results import Result
from lodim.validation import check_choice, check_in_range, checked

RULES = ("uniform", "leverage", "sensitivity", "root_leverage", "combined", "lewis", "augmented")
REPEATED = ("root_leverage", "combined")
_CLOSE = 1.5


def rule_scores(
    Q: Float[Tensor, "n r"], p: float, rule: str, sensitivities: str, rng: np.random.Generator
) -> Tensor:
    """Scores of the rows of an orthonormal basis, see the module's table; zero for zero rows.

    Parameters
    ----------
    rule : str
        One of :data:`RULES`.
    sensitivities : {"bound", "exact", "sketch"}
        How ``s_i`` is had.
    """
    tau = Q.square().sum(1)
    live = (tau > 0).to(tau.dtype)
    if rule == "uniform":
        return live
    if rule == "leverage":
        return tau
    if rule == "root_leverage":
        return tau ** (p / 2)
    if rule == "lewis":
        return fixed_point(Q, p).weight
    if not bool(live.any()):
        return live
    s = basis_sensitivities(Q, p, sensitivities, rng=rng)
    if rule == "sensitivity":
        return s
    if rule == "augmented":
        return s + tau + live / len(Q)
    return s / s.sum() + tau / tau.sum()  # combined


def schedule(n: int, m: int, p: float, rule: str, n_rounds: str | int = "auto") -> list[int]:
    """Expected sizes of the sample after each round, ending with m.

    Parameters
    ----------
    n_rounds : "auto" or int
        A number overrides the rule's own: sizes are then geometric between n and m.
    """
    if n_rounds != "auto":
        return [round(n * (m / n) ** (k / int(n_rounds))) for k in range(1, int(n_rounds) + 1)]
    if rule not in REPEATED or m >= n:
        return [m]
    shrink = 0.5 if rule == "combined" else max(0.0, 1 - p / 2)
    sizes, excess = [], math.log(n / m)
    while (excess := excess * shrink) > math.log(_CLOSE):
        sizes.append(round(m * math.exp(excess)))
    return [*sizes, m]


@dataclass(frozen=True)
class SampleSize(Result):
    """How many rows a rule's theorem suggests.

    Attributes
    ----------
    complexity : float
        The bound without accuracy and logarithms, e.g. ``S^{2-2/p}``.
    note : str
        What to make of it.
    """

    rows: int
    complexity: float
    rule: str
    note: str = (
        "rule of thumb: constants are unknown and logarithms dropped; measure with embedding_distortion, or gap_ of "
        "LpRegression"
    )

    def __int__(self) -> int:
        return self.rows

    def __str__(self) -> str:
        return f"{self.rows:,} rows by {self.rule} (complexity {self.complexity:.4g}; {self.note})"


def _complexity(rule: str, p: float, S: float | None, d: int, n: int | None, s_max: float | None) -> float:
    if rule in ("sensitivity", "combined", "augmented") and S is None:
        raise ValueError(f"rule {rule!r} needs the total sensitivity S=, see total_sensitivity")
    if rule == "uniform":
        if n is None or s_max is None:
            raise ValueError(
                "rule 'uniform' needs n= and s_max=, the number of rows and the largest sensitivity"
            )
        return n * s_max
    total = d if S is None else S
    known = {
        "leverage": (p == 2, d),
        "sensitivity": (
            True,
            min(total ** (2 / p), d ** (1 - p / 2) * total) if p < 2 else total ** (2 - 2 / p),
        ),
        "root_leverage": (p <= 2, d),
        "combined": (p >= 2, d ** (2 / p) * total ** (2 - 4 / p)),
        "lewis": (True, d ** max(1.0, p / 2)),
        "augmented": (p <= 2, total + d),
    }
    holds, value = known[rule]
    if not holds:
        raise ValueError(
            f"no bound is known for rule {rule!r} at p={p:g}; 'lewis' and 'sensitivity' have one at any p"
        )
    return float(value)


@checked
def sample_size(
    eps: float,
    delta: float = 0.1,
    rule: str = "lewis",
    S: float | int | None = None,
    d: int = 1,
    *,
    p: float | int = 2,
    n: int | None = None,
    s_max: float | int | None = None,
    c: float | int = 1.0,
) -> SampleSize:
    """Rows that a rule's theorem suggests: ``c eps^-2 complexity (log d + log 1/delta)``.

    Parameters
    ----------
    eps : float
        Wanted relative error of every ``||A x||_p``.
    delta : float
        Probability of failure.
    rule : str
        One of ``"uniform"``, ``"leverage"``, ``"sensitivity"``, ``"root_leverage"``, ``"combined"``, ``"lewis"``,
        ``"augmented"``.
    S : float, optional
        Total sensitivity, for the rules that go by it.
    d : int
        Columns (rank).
    n, s_max : int and float, optional
        Rows and largest sensitivity, for ``"uniform"``.
    c : float
        The theorems' unknown constant.

    Raises
    ------
    ValueError
        A number out of range or missing, or a rule without a bound at this p.

    Examples
    --------
    >>> from lodim.geometry import sample_size
    >>> sample_size(0.5, 0.1, "sensitivity", S=20.0, d=10, p=3).rows
    1001
    """
    check_choice(rule, RULES, "rule")
    p = check_p(p)
    check_in_range(d, "d", low=1, integer=True)
    if n is not None:
        check_in_range(n, "n", low=1, integer=True)
    ranges = {"eps": (eps, 1.0), "delta": (delta, 1.0), "S": (S, None), "s_max": (s_max, 1.0), "c": (c, None)}
    for name, (value, high) in ranges.items():
        if value is None:
            continue
        check_in_range(value, name, low=0.0, high=high)
        if value == 0 or not math.isfinite(value):
            raise ValueError(f"{name} must be positive and finite, got {value}")
    try:
        complexity = _complexity(rule, p, None if S is None else float(S), int(d), n, s_max)
        rows = math.ceil(c * complexity * (math.log(d) + math.log(1 / delta)) / eps**2)
    except (OverflowError, ZeroDivisionError):
        raise ValueError(
            f"p={p:g} is too large, or eps={eps:g} too small: the number of rows is beyond the range of numbers"
        ) from None
    return SampleSize(max(1, rows), complexity, rule)
