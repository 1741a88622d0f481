"""Signed measures: descriptors of a multifiltration as finitely many points with whole-number weights.

Replace the grades by their ranks in each parameter. The Hilbert function H(i, j) = dim H_k(K_{i, j}) of the ranked
filtration is the cumulative sum of its Moebius inversion

    w(i, j) = H(i, j) - H(i-1, j) - H(i, j-1) + H(i-1, j-1),

and ``mu = sum w(i, j) delta_{(x_i, y_j)}`` says the same as H. It is computed without forming H: on the slice of all
cells with second rank at most j, one-parameter persistence in the first parameter gives bars, and the slice's measure
is ``mu_j = sum over bars (delta_birth - delta_death)``, hence

    mu = sum_j (mu_j - mu_{j-1}) x delta_{y_j}.

In degree 0 a slice's measure is its vertices minus the edges of its minimum spanning forest, so that union-find does
it all; in degree k the bars come from gudhi. The Euler measure is ``sum_s (-1)^{dim s} delta_{f(s)}``.

======================= =========================== ==========================================================
in the papers           here                        meaning
======================= =========================== ==========================================================
mu_{H_k}                hilbert_signed_measure      Moebius inversion of the Hilbert function
mu_chi                  euler_signed_measure        alternating sum of the cells
Hil(M)                  hilbert_function            dimensions on a grid, exact
======================= =========================== ==========================================================

Sources: Scoccola et al. 2024, arXiv 2406.07224, section 4; Loiseaux et al. 2023, arXiv 2306.11170, section 2.
Departures: the slices run along the parameter with fewer values; one or two parameters (Euler: any number).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from lodim.geometry.multiparameter_persistence.complexes import FilteredComplex, as_values, at_least_single
from lodim.geometry.multiparameter_persistence.multipers_bridge import multipers_hilbert
from lodim.geometry.multiparameter_persistence.ranks import RankedFiltration, check_degree, rank_filtration
from lodim.geometry.multiparameter_persistence.slices import forest_edges, slice_bars
from lodim.validation import check_choice, check_numbers, check_unmasked, checked


@dataclass(frozen=True, eq=False)
class SignedMeasure:
    """Points with whole-number weights.

    Attributes
    ----------
    points : Tensor, shape (m, p)
        Carries the gradient to the filtration it was read from. Whole numbers are kept as double precision, half
        precision as single.
    weights : Tensor, shape (m,)
        Whole numbers, in the dtype of ``points``; never carry a gradient.
    """

    points: Tensor
    weights: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", at_least_single(self.points))
        object.__setattr__(self, "weights", self.weights.to(self.points))

    @property
    def mass(self) -> float:
        """Sum of the weights."""
        return float(self.weights.sum())

    def integrate(self, *grid: Any) -> np.ndarray:
        """Return ``mu {points <= g}`` at every point g of a grid; see :func:`integrate`.

        Parameters
        ----------
        *grid : array-like, shape (n_k,)
            Ascending coordinates, one array a parameter.
        """
        return integrate(self, grid)

    def __str__(self) -> str:
        return f"signed measure of {len(self.weights)} points in {self.points.shape[1]} parameters, mass {self.mass:g}"


def corners(box: Any) -> tuple[Tensor, Tensor]:
    """Return the lower and the upper corner of a box.

    Raises
    ------
    ValueError
        Not two corners of one number a parameter, or a lower one above the upper.
    """
    wanted = f"box must be (lower corner, upper corner), each of one number a parameter, got {box}"
    check_unmasked(box, "box")
    try:
        low, high = (as_values(corner, "box").double() for corner in box)
    except (TypeError, ValueError):
        raise ValueError(wanted) from None
    if low.ndim != 1 or low.shape != high.shape or not bool((low <= high).all()):
        raise ValueError(wanted)
    return low, high


def _collect(ranks: np.ndarray, weights: np.ndarray, sizes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Add the weights of equal ranks and leave out zeros."""
    if not len(ranks):
        return np.empty((0, len(sizes)), dtype=np.int64), np.empty(0)
    code, place = np.unique(np.ravel_multi_index(tuple(ranks.T), sizes), return_inverse=True)
    total = np.bincount(place, weights=weights)
    return np.stack(np.unravel_index(code[total != 0], sizes), 1), total[total != 0]


def euler_ranks(fc: FilteredComplex, ranked: RankedFiltration) -> tuple[np.ndarray, np.ndarray]:
    """Return the ranks and weights of the Euler measure of an expanded complex."""
    signs = np.where(fc.dimensions % 2, -1.0, 1.0)
    return _collect(ranked.ranks[ranked.kept], signs[ranked.kept], ranked.sizes)


def hilbert_ranks(
    fc: FilteredComplex, ranked: RankedFiltration, degree: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ranks and weights of the Hilbert measure.

    Raises
    ------
    ImportError
        Without gudhi, in degrees above 0.
    ValueError
        More than two parameters.
    """
    p = fc.n_parameters
    if p not in (1, 2):
        raise ValueError(f"the Hilbert measure is computed for one or two parameters, and there are {p}")
    sizes = ranked.sizes if p == 2 else (*ranked.sizes, 1)
    if min(sizes, default=0) == 0:
        return _collect(np.empty((0, p), dtype=np.int64), np.empty(0), ranked.sizes)
    ranks = ranked.ranks if p == 2 else np.column_stack([ranked.ranks, ranked.ranks.clip(max=0)])
    along = int(sizes[1] < sizes[0] or p == 1)  # slices run along the parameter with fewer values
    level, bar = ranks[:, along], ranks[:, 1 - along]
    find = forest_edges if degree == 0 else slice_bars
    at, when, weight = find(fc, bar, level, degree)
    later = at + 1 < sizes[along]
    if degree > 0:  # every slice was measured on its own: take differences
        at = np.concatenate([at, at[later] + 1])
        when, weight = np.concatenate([when, when[later]]), np.concatenate([weight, -weight[later]])
    both = np.stack([when, at] if along else [at, when], 1)
    return _collect(both[:, :p], weight, ranked.sizes)


def _read(
    fc: FilteredComplex, ranked: RankedFiltration, found: tuple[np.ndarray, np.ndarray]
) -> SignedMeasure:
    ranks, weights = found
    points = ranked.look_up(fc.filtration, ranks)
    return SignedMeasure(points, torch.as_tensor(weights).to(points))


@checked
def euler_signed_measure(fc: FilteredComplex, *, grid: Any = None) -> SignedMeasure:
    """Return ``sum_s (-1)^{dim s} delta_{f(s)}``, equal points added up. Needs torch only.

    Parameters
    ----------
    fc : FilteredComplex
        Any number of parameters.
    grid : int or tuple of int, optional
        See :func:`rank_filtration`.
    """
    full = fc.expand()
    ranked = rank_filtration(full, grid)
    return _read(full, ranked, euler_ranks(full, ranked))


@checked
def hilbert_signed_measure(fc: FilteredComplex, degree: int = 0, *, grid: Any = None) -> SignedMeasure:
    """Return the Moebius inversion of the Hilbert function.

    Parameters
    ----------
    fc : FilteredComplex
        One or two parameters.
    degree : int
        Degree of homology; 0 needs no optional library.
    grid : int or tuple of int, optional
        See :func:`rank_filtration`.

    Raises
    ------
    ImportError
        Without gudhi, in degrees above 0.
    ValueError
        More than two parameters, or a degree above the complex's ``max_dim``.
    """
    check_degree(fc, degree)
    ranked = rank_filtration(fc, grid)
    return _read(fc, ranked, hilbert_ranks(fc, ranked, degree))


def integrate(measure: SignedMeasure, grid: Any) -> Int[np.ndarray, "*grid"]:
    """Return ``mu {points <= g}`` at every point g of a grid: the function the measure is the inversion of.

    Parameters
    ----------
    grid : sequence of array-like, shapes (n_k,)
        Ascending coordinates, one array a parameter.
    """
    points = measure.points.detach().cpu().numpy()
    axes = [check_numbers(axis, f"grid[{k}]", dtype=points.dtype) for k, axis in enumerate(grid)]
    if len(axes) != points.shape[1] or any(axis.ndim != 1 or (np.diff(axis) < 0).any() for axis in axes):
        raise ValueError(f"grid must hold one ascending 1-D array for each of {points.shape[1]} parameters")
    shape = tuple(len(axis) for axis in axes)
    where = np.stack([np.searchsorted(axis, points[:, k]) for k, axis in enumerate(axes)], 1)
    inside = (where < np.array(shape)).all(1)
    cells = np.zeros(shape)
    np.add.at(cells, tuple(where[inside].T), measure.weights.cpu().numpy()[inside])
    for k in range(len(axes)):
        cells = cells.cumsum(k)
    return cells.round().astype(np.int64)


@checked
def hilbert_function(fc: FilteredComplex, grid: Any, degree: int = 0, backend: str = "auto") -> np.ndarray:
    """Return the dimensions of homology on a grid, int, shape (n_1, n_2).

    Parameters
    ----------
    grid : pair of array-like
        Ascending coordinates of each parameter.
    backend : {"auto", "gudhi", "multipers"}
        ``"auto"`` and ``"gudhi"`` give the same (union-find in degree 0, slices above); multipers is there to compare.

    Raises
    ------
    ImportError
        Without the library that is needed.
    """
    check_choice(backend, ("auto", "gudhi", "multipers"), "backend")
    if backend == "multipers":
        return multipers_hilbert(fc, grid, degree)
    return integrate(hilbert_signed_measure(fc, degree), grid)
