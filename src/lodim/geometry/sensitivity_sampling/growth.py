"""How the total sensitivity grows with the number of columns: for most matrices far slower than its bound d^{p/2}.

Structured families for which it does (n rows, d columns, p > 2):

- ``"polynomial"``: powers up to d - 1 of n points in [-1, 1]. At even p, ``|f|^p = (f^{p/2})^2`` with a polynomial of
  degree ``(d-1) p / 2``, whose largest share of its own square sum is its leverage score among all of that degree:
  ``S <= (d-1) p / 2 + 1``, linear in d.
- ``"sparse"``: few Gaussian columns (low rank), and d columns with one non-zero a row beside them.
- ``"gaussian"``, the reference: with n large ``||A x||_p^p`` is ``n E|g|^p ||x||^p``, and
  ``S -> E||g_d||^p / E|g|^p``, which is d^{p/2} over a constant: a third of d^2 at p = 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from lodim.geometry.sensitivity_sampling.lewis import check_p
from lodim.geometry.sensitivity_sampling.sensitivities import total_sensitivity
from lodim.plots import new_axes
from lodim.randomness import as_generator, derive_seed, root_seed
from lodim.results import Result
from lodim.validation import check_choice, check_in_range, checked

FAMILIES = ("gaussian", "polynomial", "sparse")


@checked
def structured_matrix(
    family: str, n: int, d: int, *, rank: int = 2, random_state: Any = None
) -> Float[np.ndarray, "n d"]:
    """A matrix of a family whose total sensitivity is known to grow in a certain way.

    Parameters
    ----------
    family : {"gaussian", "polynomial", "sparse"}
        See the module's docstring. Polynomials come as Chebyshev's, which span the same columns.
    n, d : int
        Rows and columns.
    rank : int
        Gaussian columns of ``"sparse"``.
    random_state : int, Generator or None
    """
    check_choice(family, FAMILIES, "family")
    check_in_range(d, "d", low=1, integer=True)
    check_in_range(n, "n", low=d, integer=True)
    check_in_range(rank, "rank", low=0, high=d, integer=True)
    rng = as_generator(random_state)
    if family == "gaussian":
        return rng.standard_normal((n, d))
    if family == "polynomial":
        return np.polynomial.chebyshev.chebvander(rng.uniform(-1, 1, n), d - 1)
    A = np.zeros((n, d))
    A[:, :rank] = rng.standard_normal((n, rank))
    if rank < d:
        A[np.arange(n), rng.permutation(n) % (d - rank) + rank] = rng.standard_normal(n)
    return A


@dataclass(frozen=True)
class SensitivityGrowth(Result):
    """Total sensitivities of matrices with more and more columns.

    Attributes
    ----------
    d : tuple of int
        Columns of each matrix.
    S, se : tuple of tuple of float
        One tuple a name, one number a value of d: the estimate and its standard error.
    """

    p: float
    names: tuple[str, ...]
    d: tuple[int, ...]
    S: tuple[tuple[float, ...], ...]
    se: tuple[tuple[float, ...], ...]

    @property
    def largest(self) -> tuple[float, ...]:
        """The bound that no matrix passes: ``d^{max(1, p/2)}``."""
        return tuple(float(d) ** max(1.0, self.p / 2) for d in self.d)

    def to_frame(self) -> pd.DataFrame:
        """One row for each name and d: columns name, d, S, se, largest."""
        rows = [
            (name, d, s, e, bound)
            for name, S, se in zip(self.names, self.S, self.se)
            for d, s, e, bound in zip(self.d, S, se, self.largest)
        ]
        return pd.DataFrame(rows, columns=["name", "d", "S", "se", "largest"])

    def plot(self, ax: Any = None) -> Any:
        """Draw S against ``d^{p/2}``, both logarithmic, with the bound as the diagonal.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
        """
        ax = new_axes(ax)
        for name, S, se in zip(self.names, self.S, self.se):
            ax.errorbar(self.largest, S, yerr=1.96 * np.asarray(se), marker="o", label=name)
        ax.plot(self.largest, self.largest, "--", color="black", linewidth=1, label="largest possible")
        power = f"$d^{{{max(1.0, self.p / 2):g}}}$"
        ax.set(
            xscale="log", yscale="log", xlabel=power, ylabel="total sensitivity S", title=f"p = {self.p:g}"
        )
        ax.set_xticks(self.largest, [f"{value:.4g}" for value in self.largest])
        ax.set_xticks([], minor=True)
        ax.legend()
        return ax

    def __str__(self) -> str:
        return f"total l_{self.p:g} sensitivity\n{self.to_frame().to_string(index=False)}"


@checked
def sensitivity_growth(
    families: Sequence[str] = FAMILIES,
    dims: Sequence[int] = (4, 8, 16),
    p: float | int = 4,
    *,
    n: int = 4000,
    n_rows: int = 100,
    random_state: Any = 0,
) -> SensitivityGrowth:
    """Total sensitivities of structured matrices against their largest possible value.

    Parameters
    ----------
    families : sequence of str
        Of :func:`structured_matrix`.
    dims : sequence of int
        Columns, at least 2.
    p : float
        At least 1.
    n : int
        Rows of every matrix.
    n_rows : int
        Rows measured of each, see :func:`total_sensitivity`.
    random_state : int, Generator or None
    """
    p = check_p(p, low=1.0)
    seed, dims = root_seed(random_state), [int(check_in_range(d, "dims", low=2, integer=True)) for d in dims]
    for family in families:
        check_choice(family, FAMILIES, "families")
    found = [
        [
            total_sensitivity(
                structured_matrix(family, n, d, random_state=derive_seed(seed, family, d)),
                p,
                n_rows=n_rows,
                random_state=derive_seed(seed, "rows", family, d),
            )
            for d in dims
        ]
        for family in families
    ]
    S, se = (tuple(tuple(getattr(t, name) for t in row) for row in found) for name in ("S", "se"))
    return SensitivityGrowth(p, tuple(families), tuple(dims), S, se)
