"""Candidate decompositions of two-parameter modules by multipers: :class:`MMADecomposition`.

A two-parameter module rarely is a sum of intervals, but near one there is: the *candidate decomposition* (MMA, multi-
parameter module approximation) takes barcodes along many diagonal lines, matches the bars of neighbouring lines, and
reads an interval off every matched family. Its corners are within ``max_error`` of the module's where it is a sum of
intervals.

Source: Loiseaux, Carriere and Blumberg 2023, arXiv 2306.11170, section 2 and appendix. Departure: every parameter of a
complex is brought to [0, 1] before, and corners are brought back after, so that ``max_error`` has no unit and the
number of lines is bounded whatever the data's scale.

Edges are collapsed here first (:mod:`~lodim.geometry.multiparameter_persistence.collapse`), without which sixty points
take minutes; multipers' own collapse needs further libraries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from lodim.geometry.multiparameter_persistence.collapse import collapse_edges
from lodim.geometry.multiparameter_persistence.complexes import FilteredComplex
from lodim.geometry.multiparameter_persistence.intervals import Intervals
from lodim.geometry.multiparameter_persistence.multipers_bridge import require_multipers, simplex_tree
from lodim.geometry.multiparameter_persistence.ranks import check_bifiltration, check_degrees
from lodim.validation import check_in_range

_SMALLEST_ERROR = 1e-3  # below, the number of lines grows past what multipers' recursion survives


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


class Decomposition(TransformerMixin, BaseEstimator):
    """A way from complexes to candidate intervals, one complex at a time."""

    def __sklearn_is_fitted__(self) -> bool:
        return True  # nothing is learned

    def fit(self, X: Any, y: Any = None) -> Any:
        """Check the parameters; nothing is learned.

        Parameters
        ----------
        X : list of FilteredComplex
        y : ignored
        """
        self._check()
        return self

    def transform(self, X: Any) -> list[Intervals]:
        """Collect the candidates of every complex.

        Parameters
        ----------
        X : list of FilteredComplex
            Of two parameters.
        """
        self._check()
        return [self._decompose(fc) for fc in X]

    def _check(self) -> None:
        raise NotImplementedError

    def _decompose(self, fc: FilteredComplex) -> Intervals:
        raise NotImplementedError


@dataclass(eq=False, repr=False)
class MMADecomposition(Decomposition):
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

    max_error: Any = 0.01
    degrees: Any = (0, 1)

    def _check(self) -> None:
        check_in_range(self.max_error, "max_error", low=_SMALLEST_ERROR, high=1)
        check_degrees(self.degrees)
        require_multipers()

    def _decompose(self, fc: FilteredComplex) -> Intervals:
        check_bifiltration(fc, self.degrees)
        full = collapse_edges(fc).expand()
        values, low, side = to_unit_box(full.filtration.detach().cpu().double().numpy())
        tree = simplex_tree(full, values, max(self.degrees))
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
