r"""Which unit of one network is which of another: pairs by correlation or mutual information.

From scores :math:`S_{ij}` of unit i of net a and unit j of net b:

.. math::
    \text{semi: } \pi(i) = \arg\max_j S_{ij}, \qquad
    \text{one to one: } \pi = \arg\max_{\pi \text{ injective}} \sum_i S_{i \pi(i)} .

Where the two differ, several units of a are like one unit of b. Within one net a unit may not be its own partner.

A unit that (almost) never varies is dead. Its correlation is 0 by definition, it has no partner and counts in no mean,
unless ``include_dead=True``: a third of a layer may be dead, and a mean over it says more of that than of the match.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment

from lodim.plots import COLORS, new_axes
from lodim.results import Result
from lodim.validation import check_choice, check_matrix, checked, plain_array

__all__ = ["METHODS", "Matching", "match_units"]

METHODS = ("one_to_one", "semi")


@dataclass(frozen=True)
class Matching(Result):
    """A partner in net b for each unit of net a.

    Attributes
    ----------
    match : ndarray of int, shape (p,)
        Unit of b; -1 for a unit of a that is dead or left over.
    scores : ndarray, shape (p,)
        Of the pair; 0 without a partner.
    mean : float
        Over the live units of a, those that were left over too.
    method : {"one_to_one", "semi"}
    live : ndarray of bool, shape (p,)
    """

    match: Int[np.ndarray, " p"]
    scores: Float[np.ndarray, " p"]
    mean: float
    method: str
    live: Bool[np.ndarray, " p"]

    def __str__(self) -> str:
        dead, left = int((~self.live).sum()), int((self.live & (self.match < 0)).sum())
        rest = "".join(f", {count} {what}" for count, what in ((dead, "dead"), (left, "left over")) if count)
        return f"{int((self.match >= 0).sum())} of {len(self.match)} units matched ({self.method}){rest}; mean score {self.mean:.3g}"

    def to_frame(self) -> Any:
        """Return one row a unit of a, the best matched first."""
        import pandas as pd

        table = pd.DataFrame({"unit_b": self.match, "score": self.scores, "live": self.live})
        return table.rename_axis("unit_a").sort_values("score", ascending=False, kind="stable")

    def plot(self, ax: Any = None) -> Any:
        """Draw the scores of live units in falling order."""
        ax = new_axes(ax)
        scores = np.sort(self.scores[self.live])[::-1]
        ax.plot(np.arange(1, len(scores) + 1), scores, ".-", color=COLORS[0], label=self.method)
        ax.set(xlabel="units of a, best first", ylabel="score of the pair")
        ax.legend()
        return ax


@checked
def match_units(
    scores: Any, *, method: str = "one_to_one", dead_a: Any = None, dead_b: Any = None, within: bool = False
) -> Matching:
    """Pair the units of two nets from the scores of all pairs.

    Parameters
    ----------
    scores : array-like, shape (p, q)
        Larger is closer.
    method : {"one_to_one", "semi"}
        The assignment of the largest sum, which leaves units over where p != q; or each unit's best (of equal ones the
        first).
    dead_a, dead_b : array-like of bool, shapes (p,) and (q,), optional
        Units without a partner, which count in no mean; None: all take part.
    within : bool
        Both are the same units: the diagonal is forbidden.

    Raises
    ------
    ValueError
        No live unit, one of another shape than the scores, scores that are not finite.
    """
    check_choice(method, METHODS, "method")
    table = check_matrix(scores, name="scores")
    if within and table.shape[0] != table.shape[1]:
        raise ValueError(f"scores within one net must be square, got shape {table.shape}")
    live = []
    for name, dead, count in zip(("dead_a", "dead_b"), (dead_a, dead_b), table.shape):
        mask = np.zeros(count, dtype=bool) if dead is None else plain_array(dead, name)
        if mask.shape != (count,) or mask.dtype.kind != "b":
            raise ValueError(
                f"{name} must be {count} truth values, one a unit, got {mask.dtype} of shape {mask.shape}"
            )
        if mask.all():
            raise ValueError(f"{name} says that all {count} units are dead: there is nothing to match")
        live.append(np.flatnonzero(~mask))
    a, b = live
    among = table[np.ix_(a, b)]
    if within:
        if len(a) < 2:
            raise ValueError("scores within one net need at least two live units")
        among = np.where(a[:, None] == b, -np.inf, among)
    if method == "semi":
        rows, columns = np.arange(len(a)), among.argmax(1)
    else:
        rows, columns = linear_sum_assignment(among, maximize=True)
    match, found = np.full(len(table), -1), np.zeros(len(table))
    match[a[rows]], found[a[rows]] = b[columns], among[rows, columns]
    alive = np.zeros(len(table), dtype=bool)
    alive[a] = True
    return Matching(match, found, float(found[a].mean()), method, alive)
