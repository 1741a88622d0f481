"""Candidates without multipers: barcodes along a fixed family of diagonal lines.

On the line ``{(t, t + c)}`` a two-parameter filtration becomes the one-parameter filtration

    f_c(s) = max(f_1(s), f_2(s) - c),

and its bar [s, t] is the box from ``(s, s + c)`` to ``(t, t + c)``. Intervals are convex, so every such box lies inside
the support of the summand that the bar belongs to: the boxes of all lines are candidates from within. They are not
matched from line to line, so a summand is counted once for every line it meets; use a mean (``op="wmean"``).

Source: Loiseaux, Carriere and Blumberg 2023, arXiv 2306.11170, section 2 (fibered barcodes, T-CDR of line-wise
candidates). Departure: every parameter is brought to [0, 1] before the lines are drawn, and back after.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lodim.geometry.multiparameter_persistence.collapse import collapse_edges
from lodim.geometry.multiparameter_persistence.complexes import FilteredComplex
from lodim.geometry.multiparameter_persistence.intervals import Intervals
from lodim.geometry.multiparameter_persistence.mma import Decomposition, to_unit_box
from lodim.geometry.multiparameter_persistence.ranks import check_bifiltration, check_degrees
from lodim.validation import check_in_range, require


def barcode(fc: FilteredComplex, values: np.ndarray, degrees: tuple[int, ...]) -> list[np.ndarray]:
    """Return the bars of one-parameter persistence in each degree, shapes (n_bars, 2).

    Parameters
    ----------
    fc : FilteredComplex
        Cells; a flag complex need not be expanded.
    values : ndarray, shape (n_cells,)
        When each listed cell enters; infinity for never.

    Raises
    ------
    ImportError
        Without gudhi.
    """
    gudhi = require("gudhi", "topology")
    if fc.shape is not None:
        tree = gudhi.CubicalComplex(vertices=values[: fc.n_vertices].reshape(fc.shape))
        tree.compute_persistence()
    else:
        tree, start = gudhi.SimplexTree(), 0
        for block in fc.cells[: 2 if fc.flag else None]:
            part = values[start : start + len(block)]
            inside = np.isfinite(part)
            tree.insert_batch(np.ascontiguousarray(block[inside].T), np.ascontiguousarray(part[inside]))
            start += len(block)
        if fc.flag:
            tree.expansion(max(degrees) + 1)
        tree.compute_persistence(persistence_dim_max=True)
    found = (tree.persistence_intervals_in_dimension(k).reshape(-1, 2) for k in degrees)
    return [bars[bars[:, 1] > bars[:, 0]] for bars in found]


@dataclass(eq=False, repr=False)
class FiberedDecomposition(Decomposition):
    """Candidate boxes from barcodes along diagonal lines; needs gudhi, not multipers.

    Parameters
    ----------
    n_lines : int
        Lines across the unit square.
    degrees : tuple of int
        Of homology.
    """

    n_lines: Any = 20
    degrees: Any = (0, 1)

    def _check(self) -> None:
        check_in_range(self.n_lines, "n_lines", low=1, integer=True)
        check_degrees(self.degrees)

    def _decompose(self, fc: FilteredComplex) -> Intervals:
        check_bifiltration(fc, self.degrees)
        if not fc.n_vertices:
            return Intervals.empty(2)
        fc = collapse_edges(fc)
        values, low, side = to_unit_box(fc.filtration.detach().cpu().double().numpy())
        births, deaths, degrees = [], [], []
        for c in (2 * np.arange(self.n_lines) + 1) / self.n_lines - 1:
            pushed = np.maximum(values[:, 0], values[:, 1] - c)
            for degree, bars in zip(self.degrees, barcode(fc, pushed, tuple(self.degrees)), strict=True):
                ends = (bars[:, :, None] + [0.0, c]) * side + low
                births.extend(ends[:, None, 0])
                deaths.extend(ends[:, None, 1])
                degrees.extend([int(degree)] * len(bars))
        return Intervals.from_lists(births, deaths, degrees)
