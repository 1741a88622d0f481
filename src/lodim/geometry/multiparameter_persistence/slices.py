"""One-parameter homology of the slices of a two-parameter filtration, on ranks.

The slice of level j holds the cells whose *level* rank is at most j, filtered by the other rank (*bar*). What comes
back are three arrays (level, rank, weight): for :func:`slice_bars` births (+1) and deaths (-1) of every slice, for
:func:`forest_edges` already the differences from slice to slice.

Source: the reduction to slices is that of the fibered barcode (arXiv 2306.11170, section 2); that a minimum spanning
forest of ``A + B`` lies in that of A plus B makes the degree-0 sweep incremental.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from lodim.geometry.multiparameter_persistence.complexes import FilteredComplex
from lodim.validation import require

Triple = tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"], Shaped[np.ndarray, " m"]]


def _forest(edges: list[tuple[int, int, int]], parent: list[int]) -> list[tuple[int, int, int]]:
    """Kruskal's forest of edges (rank, u, v) sorted by rank; ``parent`` is used up."""
    kept = []
    for edge in edges:
        _, u, v = edge
        while parent[u] != u:
            parent[u] = parent[parent[u]]
            u = parent[u]
        while parent[v] != v:
            parent[v] = parent[parent[v]]
            v = parent[v]
        if u != v:
            parent[u] = v
            kept.append(edge)
    return kept


def forest_edges(
    fc: FilteredComplex, bar: Int[np.ndarray, " n_cells"], level: Int[np.ndarray, " n_cells"], degree: int = 0
) -> Triple:
    """Return the degree-0 Hilbert measure: vertices, minus the changes of the minimum spanning forest.

    ``bar`` and ``level`` rank the two parameters, -1 for cells that never enter; ``degree`` is always 0.
    """
    n = fc.n_vertices
    pairs = fc.cells[1] if len(fc.cells) > 1 else np.empty((0, 2), dtype=np.int64)
    born = np.flatnonzero(level[:n] >= 0)
    edge_level, edge_bar = level[n : n + len(pairs)], bar[n : n + len(pairs)]
    order = np.lexsort((edge_bar, edge_level))
    order = order[edge_level[order] >= 0]
    starts = np.flatnonzero(np.r_[True, np.diff(edge_level[order]) > 0]) if len(order) else np.empty(0, int)
    at, when, weight = [level[born]], [bar[born]], [np.ones(len(born))]
    forest: list[tuple[int, int, int]] = []
    identity = list(range(n))
    for rows in np.split(order, starts[1:]) if len(order) else ():
        new = list(zip(edge_bar[rows].tolist(), *pairs[rows].T.tolist(), strict=True))
        grown = _forest(sorted(forest + new), identity.copy())
        changes = [edge[0] for edge in forest] + [edge[0] for edge in grown]
        when.append(np.array(changes, dtype=np.int64))
        weight.append(np.r_[np.ones(len(forest)), -np.ones(len(grown))])
        at.append(np.full(len(changes), edge_level[rows[0]]))
        forest = grown
    return np.concatenate(at), np.concatenate(when), np.concatenate(weight)


def slice_bars(
    fc: FilteredComplex, bar: Int[np.ndarray, " n_cells"], level: Int[np.ndarray, " n_cells"], degree: int
) -> Triple:
    """Return births (+1) and finite deaths (-1) in a positive degree, for every slice, by gudhi.

    ``bar`` and ``level`` are as in :func:`forest_edges`.
    """
    if fc.shape is not None:
        bars = _cubical_bars(fc, bar, level, degree)
    elif fc.flag:
        bars = _clique_bars(fc, bar, level, degree)
    else:
        bars = _simplicial_bars(fc, bar, level, degree)
    empty = np.empty(0, dtype=np.int64)
    at, when, weight = [empty], [empty], [np.empty(0)]
    for j, found in bars:
        born, dead = found[:, 0], found[np.isfinite(found[:, 1]), 1]
        when.append(np.concatenate([born, dead]).astype(np.int64))
        weight.append(np.r_[np.ones(len(born)), -np.ones(len(dead))])
        at.append(np.full(len(born) + len(dead), j))
    return np.concatenate(at), np.concatenate(when), np.concatenate(weight)


Bars = list[tuple[int, Any]]


def _clique_bars(fc: FilteredComplex, bar: np.ndarray, level: np.ndarray, degree: int) -> Bars:
    """Slices of a flag complex by Ripser: in degree 1 and up, when vertices enter does not matter."""
    ripser = require("gudhi.sklearn.rips_persistence", "topology").RipsPersistence
    n, pairs = fc.n_vertices, fc.cells[1]
    edge_bar, edge_level = bar[n : n + len(pairs)], level[n : n + len(pairs)]
    last = int(bar.max(initial=0))
    matrices, levels = [], []
    for j in np.unique(level[level >= 0]).tolist():
        rows = np.flatnonzero((edge_level >= 0) & (edge_level <= j))
        active = np.unique(pairs[rows])
        if len(active) < degree + 2:
            continue
        u, v = np.searchsorted(active, pairs[rows].T)
        distance = np.full((len(active), len(active)), np.inf)
        distance[u, v] = distance[v, u] = edge_bar[rows]
        np.fill_diagonal(distance, 0)
        matrices.append(distance)
        levels.append(j)
    model = ripser(
        homology_dimensions=degree, threshold=float(last), input_type="full distance matrix", num_collapses=0
    )
    return list(zip(levels, model.fit_transform(matrices), strict=True)) if matrices else []


def _simplicial_bars(fc: FilteredComplex, bar: np.ndarray, level: np.ndarray, degree: int) -> Bars:
    gudhi = require("gudhi", "topology")
    bars = []
    for j in np.unique(level[level >= 0]).tolist():
        tree, start = gudhi.SimplexTree(), 0
        for block in fc.cells[: degree + 2]:
            part = slice(start, start + len(block))
            rows = np.flatnonzero((level[part] >= 0) & (level[part] <= j))
            tree.insert_batch(np.ascontiguousarray(block[rows].T), bar[part][rows].astype(float))
            start += len(block)
        tree.compute_persistence(persistence_dim_max=True)
        bars.append((j, tree.persistence_intervals_in_dimension(degree).reshape(-1, 2)))
    return bars


def _cubical_bars(fc: FilteredComplex, bar: np.ndarray, level: np.ndarray, degree: int) -> Bars:
    gudhi = require("gudhi", "topology")
    n, bars = fc.n_vertices, []
    for j in np.unique(level[level >= 0]).tolist():
        inside = (level[:n] >= 0) & (level[:n] <= j)
        image = np.where(inside, bar[:n], np.inf).reshape(fc.shape)
        complex_ = gudhi.CubicalComplex(vertices=image)
        complex_.compute_persistence()
        found = complex_.persistence_intervals_in_dimension(degree).reshape(-1, 2)
        bars.append((j, found[np.isfinite(found[:, 0])]))
    return bars
