"""Tables whose values stand in steps: categories, ratings, counts, rounded numbers.

Estimators read a dimension from how distances to near neighbours grow, which supposes a density. Values in steps as
wide as those distances make distances tie, and what estimators then answer hangs on the steps. Rounding to a step h
moves a coordinate's difference by a variance h^2/6; over the columns that is a noise of norm sqrt(sum h^2 / 6). Up to
:data:`WIDE` times the distance to the second neighbour it moved estimates by less than a tenth on normal and uniform
points in 2, 4 and 8 columns and on curved sets of 2 and 5 dimensions in 8 and 20 (300 and 1,500 rows, steps of .02 to
1 standard deviations); beyond, by up to a factor of two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lodim.neighbors import first_occurrences

WIDE = 0.4
FEWEST_ROWS = 15  # different ones; fewer show no dimension
CATEGORIES = ("category", "boolean")
ALONE = 10  # rows of the same categories, below which all neighbours have others
CROSSING = 65  # below which the farther ones do
_VALUES = 20_000_000  # that steps are looked for in
_REPEATS = 5  # rows a value, from which on uneven values are levels rather than numbers


@dataclass(frozen=True)
class TableColumns:
    """What the columns of X are: of which column of the user's table, and whether that holds categories."""

    origins: np.ndarray  # (n_features,) of text
    category: np.ndarray  # (n_features,) of bool

    @property
    def n_varying(self) -> int:
        """Columns of the user's table."""
        return len(np.unique(self.origins))

    @property
    def n_categories(self) -> int:
        """Those that hold categories."""
        return len(np.unique(self.origins[self.category]))


def table_columns(
    X: np.ndarray,
    varying: np.ndarray,
    origins: Sequence[str] | None = None,
    kinds: Mapping[str, str] | None = None,
) -> TableColumns:
    """Say what the columns of X are that vary; two values make a category."""
    names = np.array([str(j) for j in range(X.shape[1])] if origins is None else list(origins))[varying]
    low, high = X.min(0), X.max(0)
    category = np.array([bool(np.isin(X[:, j], (low[j], high[j])).all()) for j in np.flatnonzero(varying)])
    if kinds is not None:
        category |= np.array([kinds[name] in CATEGORIES for name in names], dtype=bool)
    return TableColumns(names, category)


def step_of(values: np.ndarray) -> float:
    """Step in which a column's values stand: their common one, or the mean gap of few values; 0 where there is none."""
    levels = np.unique(values)
    if len(levels) < 2 or len(levels) == len(values):
        return 0.0
    gap = float(np.diff(levels).min())
    units = (levels - levels[0]) / gap
    if np.abs(units - np.round(units)).max() < 0.01:
        return gap
    few = len(levels) * _REPEATS <= len(values)
    return float(levels[-1] - levels[0]) / (len(levels) - 1) if few else 0.0


def rounding_noise(X: np.ndarray, columns: np.ndarray) -> float:
    """Norm of the noise that the steps of these columns put on a difference of two rows."""
    if not len(columns):
        return 0.0
    part = X[: max(100, min(len(X), _VALUES // len(columns)))]
    return math.sqrt(sum(step_of(part[:, j].astype(np.float64)) ** 2 for j in columns) / 6)


def of_numbers(columns: TableColumns, varying: np.ndarray) -> np.ndarray:
    """Return the positions of the columns that vary and hold no categories."""
    return np.flatnonzero(varying)[~columns.category]


def alike_rows(X: np.ndarray, columns: TableColumns, varying: np.ndarray) -> float:
    """How many rows share a row's categories, in the median over rows; infinite without categories."""
    if not columns.category.any():
        return math.inf
    twins = first_occurrences(np.ascontiguousarray(X[:, np.flatnonzero(varying)[columns.category]]))
    return float(np.median(np.bincount(twins, minlength=len(X))[twins]))


def correspondence_inertia(X: np.ndarray, columns: TableColumns, varying: np.ndarray) -> np.ndarray:
    """Principal inertias of a multiple correspondence analysis of 0/1 columns, descending.

    They sum to J / Q - 1 for Q columns of the table with J levels. Of two levels one is written out; the other has the
    same deviations with the other sign.
    """
    Z = X[:, varying].astype(np.float64, copy=False)  # a copy, as it was chosen by a mask
    low, high = Z.min(0), Z.max(0)
    Z -= low
    Z /= high - low
    _, position, counts = np.unique(columns.origins, return_inverse=True, return_counts=True)
    frequency = Z.mean(0)
    weight = np.where(counts[position] == 1, frequency * (1 - frequency), frequency)
    Z -= frequency
    Z /= np.sqrt(weight * len(Z) * columns.n_varying)
    return np.linalg.eigvalsh(Z.T @ Z if Z.shape[1] <= len(Z) else Z @ Z.T)[::-1].clip(min=0)
