"""What multipers computes, called in the way that does not crash, and :class:`MMADecomposition`.

A two-parameter module rarely is a sum of intervals, but near one there is: the *candidate decomposition* (MMA, multi-
parameter module approximation) takes barcodes along many diagonal lines, matches the bars of neighbouring lines, and
reads an interval off every matched family. Its corners are within ``max_error`` of the module's where it is a sum of
intervals.

Source: Loiseaux, Carriere and Blumberg 2023, arXiv 2306.11170, section 2 and appendix. Departure: every parameter of a
complex is brought to [0, 1] before, and corners are brought back after, so that ``max_error`` has no unit and the
number of lines is bounded whatever the data's scale.

Cells are inserted by us, in blocks: converting gudhi's simplex tree ends the Python process with some pairs of
versions. Its edge collapses and densities are not used, since they need further libraries; edges are collapsed here
(:mod:`~lodim.geometry.persistence.collapse`), without which sixty points take minutes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from lodim.geometry.persistence.collapse import collapse_edges
from lodim.geometry.persistence.complexes import FilteredComplex
from lodim.geometry.persistence.intervals import Intervals
from lodim.geometry.persistence.measures import RankedFiltration, check_bifiltration, check_degree
from lodim.validation import check_in_range, require

__all__ = ["MMADecomposition", "multipers_hilbert", "multipers_rank", "require_multipers", "to_unit_box"]

_SMALLEST_ERROR = 1e-3  # below, the number of lines grows past what multipers' recursion survives


def require_multipers() -> Any:
    """Return multipers, or say which versions are known to work.

    Raises
    ------
    ImportError
        Not installed, or a version whose behaviour was not checked.
    """
    multipers = require("multipers", "topology")
    require("gudhi", "topology")
    version = tuple(int(part) for part in str(multipers.__version__).split(".")[:2])
    if version != (2, 3):
        raise ImportError(
            f"multipers {multipers.__version__} is installed, and only 2.3.* is known to work: "
            "pip install 'lodim[topology]'"
        )
    return multipers


def _tree(fc: FilteredComplex, values: np.ndarray, degree: int) -> Any:
    """Simplex tree of multipers with the cells that homology up to ``degree`` needs."""
    multipers = require_multipers()
    if fc.shape is not None:
        raise ValueError("images (cubical complexes) are not handed to multipers; use FiberedDecomposition")
    tree, start = multipers.SimplexTreeMulti(num_parameters=values.shape[1]), 0
    for block in fc.cells[: degree + 2]:
        grades = values[start : start + len(block)]
        start += len(block)
        inside = np.isfinite(grades).all(1)
        if inside.any():
            vertices = np.ascontiguousarray(block[inside].T)
            tree.insert_batch(vertices, np.ascontiguousarray(grades[inside], dtype=np.float64))
    return tree


def multipers_hilbert(fc: FilteredComplex, grid: Any, degree: int) -> np.ndarray:
    """Return the Hilbert function on a grid by multipers; grades are rounded up onto the grid here, not there.

    Parameters
    ----------
    fc : FilteredComplex
    grid : pair of array-like
    degree : int
    """
    check_degree(fc, degree)
    full = fc.expand()
    values = full.filtration.detach().cpu().numpy()
    places = np.stack([np.searchsorted(axis, values[:, k]) for k, axis in enumerate(grid)], 1).astype(float)
    shape = tuple(len(axis) for axis in grid)
    places[(places >= np.array(shape)).any(1)] = np.inf
    weights = np.zeros(shape, dtype=np.int64)
    points, counts = _signed_measure(_tree(full, places, degree), degree, "hilbert")
    np.add.at(weights, tuple(points.reshape(-1, 2).astype(int).T), counts)
    return weights.cumsum(0).cumsum(1)


def _signed_measure(tree: Any, degree: int, invariant: str) -> tuple[np.ndarray, np.ndarray]:
    multipers = require_multipers()
    if len(tree) == 0:
        return np.empty((0, 4 if invariant == "rank" else 2)), np.empty(0, dtype=np.int64)
    ((points, counts),) = multipers.signed_measure(tree, degree=degree, invariant=invariant, n_jobs=1)
    return np.asarray(points), np.asarray(counts, dtype=np.int64)


def multipers_rank(
    fc: FilteredComplex, ranked: RankedFiltration, degree: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rank measure's points as ranks (births, then deaths; -1 for a death at infinity) and its weights.

    Parameters
    ----------
    fc : FilteredComplex
    ranked : RankedFiltration
    degree : int
    """
    values = np.where(ranked.ranks >= 0, ranked.ranks, np.inf).astype(float)
    points, counts = _signed_measure(_tree(fc, values, degree), degree, "rank")
    points = points.reshape(-1, 2 * fc.n_parameters)
    return np.where(np.isfinite(points), points, -1).astype(np.int64), counts.astype(float)


def to_unit_box(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return values with every column brought to [0, 1], and the (lower corner, sides) that undo it.

    Parameters
    ----------
    values : ndarray, shape (n, p)
        Infinite entries stay.
    """
    finite = values[np.isfinite(values).all(1)]
    if not len(finite):
        return values, np.zeros(values.shape[1]), np.ones(values.shape[1])
    low, high = finite.min(0), finite.max(0)
    side = np.where(high > low, high - low, 1.0)
    return (values - low) / side, low, side


class MMADecomposition(TransformerMixin, BaseEstimator):
    """Candidate intervals of two-parameter modules, by multipers.

    Parameters
    ----------
    max_error : float
        Precision of the corners, as a share of each parameter's range; at least 0.001.
    degrees : tuple of int
        Of homology.

    Raises
    ------
    ImportError
        Without multipers 2.3 (extra ``topology``); :class:`FiberedDecomposition` does without.
    """

    def __init__(self, max_error: Any = 0.01, degrees: Any = (0, 1)):
        self.max_error = max_error
        self.degrees = degrees

    def __sklearn_is_fitted__(self) -> bool:
        return True  # nothing is learned

    def fit(self, X: Any, y: Any = None) -> MMADecomposition:
        """Check the parameters; nothing is learned.

        Parameters
        ----------
        X : list of FilteredComplex
        y : ignored
        """
        check_in_range(self.max_error, "max_error", low=_SMALLEST_ERROR, high=1)
        require_multipers()
        return self

    def transform(self, X: Any) -> list[Intervals]:
        """Decompose every complex.

        Parameters
        ----------
        X : list of FilteredComplex
            Of two parameters.
        """
        self.fit(X)
        return [self._decompose(fc) for fc in X]

    def _decompose(self, fc: FilteredComplex) -> Intervals:
        check_bifiltration(fc, self.degrees)
        full = collapse_edges(fc).expand()
        values, low, side = to_unit_box(full.filtration.detach().cpu().double().numpy())
        tree = _tree(full, values, max(self.degrees))
        if len(tree) == 0:
            return Intervals.empty(2)
        box = np.array([[0.0, 0.0], [1.0, 1.0]])
        module = require_multipers().module_approximation(
            tree, box=box, max_error=self.max_error, n_jobs=1, ignore_warnings=True
        )
        births, deaths, degrees = [], [], []
        for degree in self.degrees:
            part = module.get_module_of_degree(int(degree))
            for i in np.flatnonzero(np.asarray(part.get_interleavings(box)) > 0):
                births.append(np.stack(part[int(i)].get_birth_list()) * side + low)
                deaths.append(np.stack(part[int(i)].get_death_list()) * side + low)
                degrees.append(int(degree))
        return Intervals.from_lists(births, deaths, degrees)
