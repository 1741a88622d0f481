"""A filtration as ranks and sorted values: the two halves of the pull-back (arXiv 2406.07224, section 4).

Homology sees only the order of the grades, so that it is computed on ranks, without gradients; looking the ranks up
among the sorted values gives coordinates, with gradients.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lodim.geometry.multiparameter_persistence.complexes import FilteredComplex
from lodim.validation import check_in_range


@dataclass(frozen=True, eq=False)
class RankedFiltration:
    """A filtration's order, without its values, and where the values are to be found.

    ``ranks`` are those of a cell's grade among the different values of each parameter; ``cells_of`` names, for every
    parameter and rank, a cell with exactly this value, the lookup that carries the gradient; ``kept`` is False for
    cells with an infinite coordinate, which never enter.
    """

    ranks: Int[np.ndarray, "n_cells p"]
    cells_of: tuple[Any, ...]
    kept: Any

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of different values of each parameter."""
        return tuple(len(cells) for cells in self.cells_of)

    def look_up(self, filtration: Float[Tensor, "n_cells p"], ranks: Int[np.ndarray, "m p"]) -> Tensor:
        """Return the values at the given ranks, differentiable in ``filtration``."""
        rows = np.stack([cells[ranks[:, k]] for k, cells in enumerate(self.cells_of)], 1)
        return filtration.gather(0, torch.from_numpy(rows).to(filtration.device))


def rank_filtration(fc: FilteredComplex, grid: Any = None) -> RankedFiltration:
    """Return a filtration's ranks in each parameter.

    With ``grid``, at most so many values of each parameter are kept, evenly spaced by rank, and the others rounded *up*
    to the next kept one. What is kept are values of the data, so that gradients remain.
    """
    values = fc.filtration.detach().cpu().numpy()
    kept = np.isfinite(values).all(1)
    ranks = np.full(values.shape, -1, dtype=np.int64)
    cells_of = []
    rows = np.flatnonzero(kept)
    limits = list(grid) if isinstance(grid, tuple | list | np.ndarray) else [grid] * values.shape[1]
    if len(limits) != values.shape[1]:
        raise ValueError(
            f"grid must be a number or {values.shape[1]} of them, one a parameter, got {len(limits)}"
        )
    for k, limit in enumerate(limits):
        _, first, rank = np.unique(values[rows, k], return_index=True, return_inverse=True)
        cells = rows[first]
        if limit is not None and len(cells) > check_in_range(limit, "grid", low=1, integer=True):
            chosen = np.unique(np.linspace(0, len(cells) - 1, limit + 1).round().astype(np.int64)[1:])
            rank, cells = np.searchsorted(chosen, rank), cells[chosen]
        ranks[rows, k] = rank
        cells_of.append(cells)
    return RankedFiltration(ranks, tuple(cells_of), kept)


def check_degrees(degrees: Any) -> tuple[int, ...]:
    """Return the degrees of homology that an estimator is to find."""
    if isinstance(degrees, str) or not isinstance(degrees, Iterable) or not (found := tuple(degrees)):
        raise ValueError(
            f"degrees must be a tuple of at least one degree of homology, such as (0, 1), got {degrees!r}"
        )
    return tuple(int(check_in_range(k, "degrees", low=0, integer=True)) for k in found)


def check_degree(fc: FilteredComplex, degree: int) -> None:
    """Raise unless the complex was built for this degree of homology."""
    check_in_range(degree, "degree", low=0, integer=True)
    if degree > fc.max_dim:
        raise ValueError(
            f"degree {degree} was asked of a complex built for max_dim={fc.max_dim}; raise max_dim"
        )


def check_bifiltration(fc: FilteredComplex, degrees: Iterable[int]) -> None:
    """Raise unless the complex has two parameters and was built for these degrees of homology."""
    if fc.n_parameters != 2:
        raise ValueError(f"a complex of two parameters is needed, got {fc.n_parameters}")
    for degree in degrees:
        check_degree(fc, degree)
