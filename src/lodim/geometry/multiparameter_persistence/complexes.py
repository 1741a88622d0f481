"""Cells with grades: the complexes on which multiparameter persistence is computed.

A cell s (vertex, edge, triangle, pixel ...) enters at its grade f(s) in R^p; f is *monotone*: a face never enters after
its cell. :func:`simplicial_complex` takes any such list; :func:`graph_complex` and :func:`cubical_complex` are
lower-star,

    f(s) = max_{v in s} (g_1(v), ..., g_p(v)),

and :mod:`~lodim.geometry.multiparameter_persistence.bifiltrations` makes complexes from points.

============================ ==================== ==============================================================
in the papers                here                 meaning
============================ ==================== ==============================================================
K, f: K -> R^p               FilteredComplex      cells by dimension, and their grades, a differentiable tensor
============================ ==================== ==============================================================

Sources: Loiseaux, Carriere and Blumberg 2023, arXiv 2306.11170, section 2; Scoccola et al. 2024, arXiv 2406.07224,
section 3. Departure: flag complexes are kept as graphs until somebody needs their triangles
(:meth:`FilteredComplex.expand`), since the homology of a graph's cliques can be computed without listing them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lodim.linalg.precision import as_tensor
from lodim.validation import check_numbers, checked

MAX_CELLS = 2_000_000
_BLOCK = 1 << 22


def at_least_single(x: Tensor) -> Tensor:
    """Return half precision as single, and whole numbers and booleans, which know no sign or fraction, as double."""
    if not x.is_floating_point():
        return x.double()
    return x.float() if x.itemsize < torch.float32.itemsize else x


def as_values(values: Any, name: str) -> Tensor:
    """Return numbers as a tensor of single or double precision; a tensor keeps its device and gradient."""
    return at_least_single(as_tensor(values, name))


def too_many_cells(count: int) -> ValueError:
    """Return the error that says a complex is too large, and what to do."""
    return ValueError(
        f"the complex would have {count:,} cells, and at most {MAX_CELLS:,} are handled: set a threshold on distances, "
        "lower max_dim, or take a subsample of the points"
    )


@dataclass(frozen=True, eq=False)
class FilteredComplex:
    """Cells by dimension and the grade at which each enters.

    Attributes
    ----------
    cells : tuple of int ndarray, shapes (n_0, 1), (n_1, 2), (n_2, 3 or 4), ...
        Vertices of the cells of each dimension, ascending; k + 1 in a simplex, 2^k in a cube.
    filtration : Tensor, shape (n_cells, p)
        Grades, in the order of ``cells``; carries gradients. Whole numbers are kept as double precision, half precision
        as single.
    max_dim : int
        Largest degree of homology that is meant.
    flag : bool
        Whether cells above the edges are the cliques of the graph, each entering with its last edge. They need not be
        listed: :meth:`expand` does.
    shape : tuple of int or None
        Of the image, for a cubical complex.
    """

    cells: tuple[Any, ...]
    filtration: Tensor
    max_dim: int = 1
    flag: bool = False
    shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "filtration", at_least_single(self.filtration))

    @property
    def n_vertices(self) -> int:
        """Number of vertices."""
        return len(self.cells[0])

    @property
    def n_cells(self) -> int:
        """Number of listed cells of all dimensions."""
        return sum(len(block) for block in self.cells)

    @property
    def n_parameters(self) -> int:
        """p, the numbers in a grade."""
        return int(self.filtration.shape[1])

    @property
    def dimensions(self) -> np.ndarray:
        """Dimension of each listed cell, int, shape (n_cells,)."""
        return np.repeat(np.arange(len(self.cells)), [len(block) for block in self.cells])

    @property
    def is_expanded(self) -> bool:
        """Whether the cells that homology of ``max_dim`` needs are listed."""
        return not self.flag or len(self.cells) >= self.max_dim + 2

    def expand(self) -> FilteredComplex:
        """Return the complex with its cliques of up to ``max_dim + 2`` vertices listed (itself, if they are).

        Raises
        ------
        ValueError
            More than two million cells; says what to do.
        """
        if self.is_expanded:
            return self
        n, edges = self.n_vertices, self.cells[1]
        later = np.zeros((n, n), dtype=bool)
        later[edges[:, 0], edges[:, 1]] = True
        edge_row = np.zeros((n, n), dtype=np.int64)
        edge_row[edges[:, 0], edges[:, 1]] = np.arange(len(edges))
        on_edges = self.filtration[n : n + len(edges)]
        values = on_edges.detach().cpu().numpy()
        cells, grades, total = list(self.cells[:2]), [self.filtration[: n + len(edges)]], n + len(edges)
        while len(cells) < self.max_dim + 2:
            cliques = _grow(cells[-1], later, MAX_CELLS - total)
            pairs = list(combinations(range(cliques.shape[1]), 2))
            rows = np.stack([edge_row[cliques[:, a], cliques[:, b]] for a, b in pairs], 1)
            last = np.take_along_axis(rows[:, :, None], values[rows].argmax(1)[:, None], 1)[:, 0]
            grades.append(on_edges.gather(0, torch.from_numpy(last).to(on_edges.device)))
            cells.append(cliques)
            total += len(cliques)
        return FilteredComplex(tuple(cells), torch.cat(grades), self.max_dim, True)

    def __str__(self) -> str:
        sizes = ", ".join(f"{len(block)} of dimension {k}" for k, block in enumerate(self.cells))
        rest = "" if self.is_expanded else "; cliques not listed"
        return f"complex filtered by {self.n_parameters} parameter(s): {sizes}{rest}"


def _grow(cells: np.ndarray, later: np.ndarray, room: int) -> np.ndarray:
    """Cliques with one vertex more, the new one being the last in order."""
    step, found, total = max(1, _BLOCK // max(1, len(later))), [], 0
    for start in range(0, len(cells), step):
        part = cells[start : start + step]
        row, new = np.nonzero(np.logical_and.reduce([later[part[:, i]] for i in range(part.shape[1])]))
        total += len(row)
        if total > room:
            raise too_many_cells(MAX_CELLS - room + total)
        found.append(np.column_stack([part[row], new]))
    return np.concatenate(found) if found else np.empty((0, cells.shape[1] + 1), dtype=np.int64)


def _check_grades(filtration: Tensor) -> None:
    if bool(filtration.isnan().any()):
        row = int(filtration.isnan().any(1).nonzero()[0])
        raise ValueError(f"the grade of cell {row} is NaN; every cell needs a number for every parameter")


def _vertices(block: Any, width: int, name: str) -> np.ndarray:
    """Rows of vertex numbers, each row ascending and of different vertices."""
    given = check_numbers(block, name)
    if given.size % width or not np.isfinite(given).all():
        raise ValueError(f"{name} must have {width} whole numbers a row, got shape {given.shape}")
    given = given.reshape(-1, width)
    cells = np.sort(given.astype(np.int64), axis=1)
    if (given != np.trunc(given)).any():
        raise ValueError(
            f"{name} must name vertices by whole numbers, got {given[given != np.trunc(given)][0]}"
        )
    twice = (np.diff(cells, axis=1) == 0).any(1)
    if twice.any():
        raise ValueError(
            f"{name} must join different vertices, got {cells[twice][0].tolist()}; drop self-loops"
        )
    return cells


def _first_rows(cells: np.ndarray, grades: Tensor, name: str) -> np.ndarray:
    """Row numbers of the cells without those listed before, in either direction say, with the same grade."""
    order = np.lexsort(cells.T[::-1])
    is_new = np.ones(len(cells), dtype=bool)
    is_new[1:] = (np.diff(cells[order], axis=0) != 0).any(1)
    first = order[is_new]
    if len(first) == len(cells):
        return np.arange(len(cells))
    values = grades.detach().cpu().numpy()
    before = np.empty(len(cells), dtype=np.int64)
    before[order] = first[np.cumsum(is_new) - 1]
    differs = (values != values[before]).any(1)
    if differs.any():
        row = int(differs.argmax())
        raise ValueError(
            f"{name} hold {cells[row].tolist()} more than once, with the grades {values[before[row]].tolist()} "
            f"and {values[row].tolist()}; keep one of them"
        )
    return np.sort(first)


@checked
def simplicial_complex(
    simplices: Sequence[Any], filtration: Any, *, max_dim: int | None = None
) -> FilteredComplex:
    """Return a complex from listed simplices and their grades.

    Parameters
    ----------
    simplices : sequence of array-like, shapes (n_k, k + 1)
        Vertices of the simplices of each dimension, in any order; the vertices 0 ... n_0 - 1 come first, in this order.
        A simplex listed again with the same grade counts once.
    filtration : Tensor or array-like, shape (n_simplices, p)
    max_dim : int, optional
        Default: the dimension of the complex.

    Raises
    ------
    ValueError
        Grades that are NaN, or lower than those of a face; a face that is not listed; a simplex with two grades;
        wrong shapes.
    """
    if not len(simplices):
        raise ValueError("simplices must hold one array a dimension, the vertices first, got none")
    cells = tuple(_vertices(block, k + 1, f"simplices[{k}]") for k, block in enumerate(simplices))
    grades = as_values(filtration, "filtration")
    total = sum(len(block) for block in cells)
    if grades.ndim != 2 or len(grades) != total or not grades.shape[1]:
        raise ValueError(
            f"filtration must have shape ({total}, p), a row a simplex, p at least 1; got {tuple(grades.shape)}"
        )
    _check_grades(grades)
    if not np.array_equal(cells[0][:, 0], np.arange(len(cells[0]))):
        raise ValueError("vertices must be 0, 1, ..., n - 1 in this order")
    parts = grades.split([len(block) for block in cells])
    kept = [_first_rows(block, part, "simplices") for block, part in zip(cells, parts, strict=True)]
    cells = tuple(block[rows] for block, rows in zip(cells, kept, strict=True))
    grades = torch.cat([part[torch.from_numpy(rows)] for part, rows in zip(parts, kept, strict=True)])
    _check_monotone(cells, grades.detach().cpu().numpy())
    return FilteredComplex(cells, grades, len(cells) - 1 if max_dim is None else max_dim)


def _check_monotone(cells: tuple[np.ndarray, ...], values: np.ndarray) -> None:
    grade_of: dict[tuple[int, ...], np.ndarray] = {}
    row = 0
    for block in cells:
        for cell in block.tolist():
            for face in combinations(cell, len(cell) - 1) if len(cell) > 1 else ():
                if face not in grade_of:
                    raise ValueError(f"simplex {cell} is listed but its face {list(face)} is not")
                if (grade_of[face] > values[row]).any():
                    raise ValueError(
                        f"simplex {cell} enters at {values[row]} before its face {list(face)} at {grade_of[face]}"
                    )
            grade_of[tuple(cell)] = values[row]
            row += 1


@checked
def graph_complex(
    edges: Any, vertex_values: Any, *, edge_values: Any = None, max_dim: int = 1, cliques: bool = False
) -> FilteredComplex:
    """Return a graph filtered by functions on its vertices (lower-star).

    Parameters
    ----------
    edges : array-like, int, shape (n_edges, 2)
        In either direction; an edge listed again (both ways, say) with the same grade counts once.
    vertex_values : Tensor or array-like, shape (n_vertices, p)
        One column a parameter; a tensor keeps its gradient.
    edge_values : Tensor or array-like, shape (n_edges, p), optional
        An edge enters at the maximum of its ends and of this.
    cliques : bool
        Whether cliques are filled (a flag complex). Otherwise loops of the graph live for ever.

    Raises
    ------
    ValueError
        Edges that name no vertex, loops at a vertex, an edge with two grades, NaN.
    """
    values = as_values(vertex_values, "vertex_values")
    if values.ndim != 2 or not values.shape[1]:
        raise ValueError(
            f"vertex_values must have shape (n_vertices, p), p at least 1, got {tuple(values.shape)}"
        )
    pairs = _vertices(edges, 2, "edges")
    if len(pairs) and (pairs.min() < 0 or pairs.max() >= len(values)):
        raise ValueError(
            f"edges must name vertices 0 ... {len(values) - 1}; got {pairs.min()} to {pairs.max()}"
        )
    ends = torch.from_numpy(pairs)
    on_edges = torch.maximum(values[ends[:, 0]], values[ends[:, 1]])
    if edge_values is not None:
        own = as_values(edge_values, "edge_values").to(values.device)
        if own.shape != on_edges.shape:
            raise ValueError(
                f"edge_values must have shape {tuple(on_edges.shape)}, a row an edge, got {tuple(own.shape)}"
            )
        dtype = torch.promote_types(values.dtype, own.dtype)
        values, on_edges = values.to(dtype), torch.maximum(on_edges.to(dtype), own.to(dtype))
    _check_grades(torch.cat([values, on_edges]))
    kept = _first_rows(pairs, on_edges, "edges")
    pairs, on_edges = pairs[kept], on_edges[torch.from_numpy(kept)]
    grades = torch.cat([values, on_edges])
    return FilteredComplex((np.arange(len(values))[:, None], pairs), grades, max_dim, cliques)


@checked
def cubical_complex(image: Any) -> FilteredComplex:
    """Return a grey-scale image of several channels as cubes: pixels are vertices, lower-star in every channel.

    Parameters
    ----------
    image : Tensor or array-like, shape (p, height, width)
        Each channel is one parameter.

    Raises
    ------
    ValueError
        Not three axes, or NaN.
    """
    values = as_values(image, "image")
    if values.ndim != 3:
        raise ValueError(f"image must have shape (channels, height, width), got {tuple(values.shape)}")
    if not values.numel():
        raise ValueError(f"image must have pixels in one channel or more, got shape {tuple(values.shape)}")
    shape = tuple(int(s) for s in values.shape[1:])
    index = np.arange(shape[0] * shape[1]).reshape(shape)
    across = np.stack([index[:, :-1].ravel(), index[:, 1:].ravel()], 1)
    down = np.stack([index[:-1].ravel(), index[1:].ravel()], 1)
    squares = np.stack([index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]], -1).reshape(-1, 4)
    cells = (index.reshape(-1, 1), np.concatenate([across, down]), squares)
    pixels = values.flatten(1).T
    grades = torch.cat([pixels[torch.from_numpy(block)].amax(1) for block in cells])
    _check_grades(grades)
    return FilteredComplex(cells, grades, 1, False, shape)
