"""Topological layers: signed measures whose points carry gradients, and the one-parameter diagram.

The pull-back algorithm, for a filtration f with values in R^p held as a tensor:

1. sort the different values of every parameter and replace values by their ranks;
2. compute the signed measure of the ranks, combinatorially and without gradient;
3. look its points up: coordinate k of a point of rank r is the r-th sorted value of parameter k.

On each cell of filtrations with the same order, step 2 is constant and step 3 linear: the measure is *semilinearly
determined* by f. Its composition with a loss is therefore differentiable almost everywhere by the chain rule, and
stochastic subgradient descent with steps ``sum a_k = inf, sum a_k^2 < inf`` converges to critical points. Weights are
whole numbers and are never relaxed.

========================== ======================= ==============================================================
in the paper               here                    meaning
========================== ======================= ==============================================================
semilinearly determined    SignedMeasureLayer      Hilbert, Euler and rank measures as functions of f
one-parameter baseline     RipsDiagram             barcode of the Rips filtration through its generating edges
========================== ======================= ==============================================================

Source: Scoccola, Setlur, Loiseaux, Carriere and Oudot 2024, arXiv 2406.07224, sections 3 to 5. Departure: the
combinatorics of the last call are kept and used again when all ranks are the same, which changes nothing but time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lodim.geometry.multiparameter_persistence.bifiltrations import checked_points
from lodim.geometry.multiparameter_persistence.complexes import FilteredComplex
from lodim.geometry.multiparameter_persistence.measures import (
    SignedMeasure,
    corners,
    euler_ranks,
    hilbert_ranks,
)
from lodim.geometry.multiparameter_persistence.multipers_bridge import multipers_rank
from lodim.geometry.multiparameter_persistence.ranks import RankedFiltration, check_degree, rank_filtration
from lodim.validation import check_choice, check_in_range, checked, require


@checked
class SignedMeasureLayer(torch.nn.Module):
    """Signed measure of a filtered complex, differentiable in its filtration.

    Parameters
    ----------
    invariant : {"hilbert", "euler", "rank"}
        Dimensions of homology; Euler characteristic (no homology, torch only); ranks of all maps, whose measure lives
        on pairs ``(birth, death)`` in R^p x R^p (needs multipers and a ``grid``).
    degree : int
        Of homology; not used by ``"euler"``.
    grid : int or tuple of int, optional
        At most so many values of each parameter; others are rounded up to the next kept value of the data.
    backend : {"auto", "torch", "gudhi"}
        ``"torch"`` refuses what needs gudhi (degrees above 0); ``"gudhi"`` is the same as ``"auto"``.
    box : pair of array-like, optional
        Lower and upper corner; points are clamped into it, infinite coordinates too. Without a box, points with an
        infinite coordinate (only the rank measure has any) are left out.
    """

    def __init__(
        self,
        invariant: Any = "hilbert",
        degree: Any = 1,
        grid: Any = None,
        backend: Any = "auto",
        *,
        box: Any = None,
    ):
        super().__init__()
        self.invariant = check_choice(invariant, ("hilbert", "euler", "rank"), "invariant")
        self.degree = check_in_range(degree, "degree", low=0, integer=True)
        self.grid, self.box = grid, box
        self._corners = None if box is None else corners(box)
        self.backend = check_choice(backend, ("auto", "torch", "gudhi"), "backend")
        if backend == "torch" and (invariant == "rank" or (invariant == "hilbert" and degree > 0)):
            raise ValueError(
                "backend 'torch' computes the Euler measure and degree 0 only; use backend 'auto'"
            )
        if invariant == "rank" and grid is None:
            raise ValueError(
                "the rank measure needs a grid, e.g. grid=12: its cost grows with the grid squared"
            )
        self._last: tuple[Any, ...] | None = None

    def forward(self, fc: FilteredComplex | Sequence[FilteredComplex]) -> Any:
        """Return the measure, or a list of measures for a sequence of complexes.

        Raises
        ------
        ImportError
            Without gudhi, in degrees above 0; without multipers, for the rank measure.
        ValueError
            A degree that the complex was not built for.
        """
        if not isinstance(fc, FilteredComplex):
            if not isinstance(fc, list | tuple):
                raise TypeError(
                    "the layer takes a FilteredComplex, such as FunctionRips()(points), or a list of them, got "
                    f"a {type(fc).__name__}"
                )
            return [self(one) for one in fc]
        if self.invariant != "euler":
            check_degree(fc, self.degree)
        full = fc if self.invariant == "hilbert" else fc.expand()
        ranked = rank_filtration(full, self.grid)
        ranks, weights = self._combinatorics(full, ranked)
        if self.invariant == "rank":
            points = self._look_up_pairs(full, ranked, ranks)
        else:
            points = ranked.look_up(full.filtration, ranks)
        return self._finish(points, torch.as_tensor(weights).to(points))

    def _combinatorics(self, fc: FilteredComplex, ranked: RankedFiltration) -> tuple[np.ndarray, np.ndarray]:
        if self._last is not None:
            cells, flag, ranks, found = self._last
            same = (
                flag == fc.flag and len(cells) == len(fc.cells) and all(map(np.array_equal, cells, fc.cells))
            )
            if same and np.array_equal(ranks, ranked.ranks):
                return found
        if self.invariant == "euler":
            found = euler_ranks(fc, ranked)
        elif self.invariant == "hilbert":
            found = hilbert_ranks(fc, ranked, self.degree)
        else:
            found = multipers_rank(fc, ranked, self.degree)
        self._last = (fc.cells, fc.flag, ranked.ranks, found)
        return found

    def _look_up_pairs(self, fc: FilteredComplex, ranked: RankedFiltration, ranks: np.ndarray) -> Tensor:
        """Births and deaths; -1 stands for a death at infinity."""
        p = fc.n_parameters
        births = ranked.look_up(fc.filtration, ranks[:, :p])
        never = torch.from_numpy(ranks[:, p:] < 0).to(births.device)
        deaths = ranked.look_up(fc.filtration, ranks[:, p:].clip(min=0)).masked_fill(never, torch.inf)
        return torch.cat([births, deaths], 1)

    def _finish(self, points: Tensor, weights: Tensor) -> SignedMeasure:
        if self._corners is not None:
            low, high = (corner.to(points) for corner in self._corners)
            copies, rest = divmod(points.shape[1], len(low))
            if rest or copies != (2 if self.invariant == "rank" else 1):
                raise ValueError(f"box has corners of {len(low)} numbers, but points have {points.shape[1]}")
            points = points.clamp(low.repeat(copies), high.repeat(copies))
        finite = points.detach().isfinite().all(1)
        return SignedMeasure(points[finite], weights[finite])


class RipsDiagram(torch.nn.Module):
    """One-parameter persistence diagram of points, differentiable: births and deaths are lengths of their edges.

    Parameters
    ----------
    degree : int
    threshold : float, optional
        Longest edge. By default the enclosing radius, beyond which nothing happens.
    """

    def __init__(self, degree: Any = 1, threshold: Any = None):
        super().__init__()
        self.degree = check_in_range(degree, "degree", low=0, integer=True)
        if threshold is not None and not check_in_range(threshold, "threshold", low=0) > 0:
            raise ValueError(f"threshold must be positive, got {threshold}")
        self.threshold = threshold

    def forward(self, x: Float[Tensor, "n_points n_features"]) -> Float[Tensor, "bars 2"]:
        """Return the finite bars.

        Raises
        ------
        ImportError
            Without gudhi.
        """
        gudhi = require("gudhi", "topology")
        x = checked_points(x)
        if len(x) < 2:
            return x.new_zeros(0, 2)
        distance = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
        matrix = distance.detach().cpu().double().numpy()
        longest = matrix.max(1).min() if self.threshold is None else self.threshold
        tree = gudhi.RipsComplex(distance_matrix=matrix, max_edge_length=longest).create_simplex_tree(
            max_dimension=self.degree + 1
        )
        tree.compute_persistence()
        vertices, higher, _, _ = tree.flag_persistence_generators()
        if self.degree == 0:
            deaths = distance[vertices[:, 1], vertices[:, 2]]
            return torch.stack([torch.zeros_like(deaths), deaths], 1)
        if len(higher) < self.degree:
            return x.new_zeros(0, 2)
        edges = higher[self.degree - 1]
        return torch.stack([distance[edges[:, 0], edges[:, 1]], distance[edges[:, 2], edges[:, 3]]], 1)
