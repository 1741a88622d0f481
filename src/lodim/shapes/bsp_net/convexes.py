r"""From half-spaces to polygons: convex polytopes, their soup, their union, and which of them nobody sees.

A convex is given by rows (n, d) of half-spaces :math:`\{x : n \cdot x + d \le 0\}`, n of any length, inside the box
:math:`[-b, b]^{dim}`, which closes what is open. From a point strictly inside, Qhull gives the vertices
(``HalfspaceIntersection``) and their hull; triangles of one plane are then one polygon. Rows that no corner of the box
violates are left out beforehand, which changes nothing.

A concatenation of closed meshes that overlap (the *soup*) is watertight by every count of edges, and its volume is
wrong all the same; the *union* is computed by manifold3d.

Source: Z. Chen, A. Tagliasacchi, H. Zhang, 2019, arXiv 1911.06971, section 3.2. Departure: the authors carve polygons
plane by plane in Python; here the point inside comes from the grid, or is the Chebyshev centre (a linear program).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy.optimize import linprog
from scipy.spatial import ConvexHull, HalfspaceIntersection, QhullError

from lodim.extras import require
from lodim.plots import COLORS, new_axes
from lodim.results import Result
from lodim.shapes.meshes import as_mesh
from lodim.validation import check_in_range, check_numbers, checked, plain_array

__all__ = [
    "Convexes",
    "Polytope",
    "halfspaces_to_mesh",
    "halfspaces_to_polytope",
    "hidden_convexes",
    "union_meshes",
]

DEGENERATE = 1e-8
COPLANAR = 1e-6


@dataclass(frozen=True)
class Polytope(Result):
    """A bounded convex polygon (2-D) or polyhedron (3-D).

    Attributes
    ----------
    vertices : ndarray, shape (v, dim)
        In 2-D counter-clockwise.
    triangles : int64 ndarray, shape (t, 3)
        Of the surface, seen from outside counter-clockwise; in 2-D a fan.
    polygon_of : int64 ndarray, shape (t,)
        Which flat face a triangle belongs to; in 2-D all 0.
    """

    vertices: Float[np.ndarray, "v dim"]
    triangles: Int64[np.ndarray, "t 3"]
    polygon_of: Int64[np.ndarray, " t"]

    @property
    def n_polygons(self) -> int:
        """Flat faces of the surface; edges in 2-D."""
        return len(self.vertices) if self.vertices.shape[1] == 2 else int(self.polygon_of.max()) + 1

    @property
    def volume(self) -> float:
        """Area in 2-D."""
        v = self.vertices - self.vertices.mean(0)
        if v.shape[1] == 2:
            x, y = v.T
            return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
        return float(np.linalg.det(v[self.triangles]).sum()) / 6

    def polygons(self) -> list[Float[np.ndarray, "k dim"]]:
        """Return the corners of each flat face in order, seen from outside counter-clockwise."""
        if self.vertices.shape[1] == 2:
            return [self.vertices]
        found = []
        for face in range(self.n_polygons):
            mine = self.triangles[self.polygon_of == face]
            corners = self.vertices[np.unique(mine)]
            a, b, c = self.vertices[mine[0]]
            u = (b - a) / np.linalg.norm(b - a)
            v = np.cross(np.cross(b - a, c - a), u)
            off = corners - corners.mean(0)
            found.append(corners[np.argsort(np.arctan2(off @ v / np.linalg.norm(v), off @ u))])
        return found


def solid_axes() -> Any:
    """Return 3-D axes on a figure of their own."""
    import matplotlib.pyplot as plt

    return plt.figure(figsize=(4.5, 4.5)).add_subplot(projection="3d")


def draw_polygons(ax: Any, polygons: Sequence[Any], colours: Any, edges: str = "0.2") -> Any:
    """Draw flat faces of solids, y up, as large as they go, and return the axes."""
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    # one collection, in which what is nearer is drawn over what is further away
    faces = Poly3DCollection(polygons, facecolors=colours, edgecolors=edges, linewidth=0.3, shade=True)
    ax.add_collection3d(faces)
    corners = np.concatenate(polygons)
    middle, reach = (corners.min(0) + corners.max(0)) / 2, np.ptp(corners, axis=0).max() / 2
    for name, at in zip("xyz", middle, strict=True):
        getattr(ax, f"set_{name}lim")(at - reach, at + reach)
    ax.view_init(elev=22, azim=35, vertical_axis="y")
    ax.set_box_aspect((1, 1, 1), zoom=1.25)
    return ax


@dataclass(frozen=True)
class Convexes(Result):
    """What was extracted from planes.

    Attributes
    ----------
    polytopes : tuple of Polytope
    ids : int64 ndarray, shape (n,)
        Index of each among the convexes of the network: the label of a part.
    n_empty, n_hidden : int
        Convexes that had no point of the grid or no inside wider than the tolerance; and those that others cover.
    """

    polytopes: tuple[Polytope, ...]
    ids: Int64[np.ndarray, " n"]
    n_empty: int = 0
    n_hidden: int = 0

    @property
    def n_polygons(self) -> int:
        """Flat faces of all of them, before any union."""
        return sum(p.n_polygons for p in self.polytopes)

    def soup(self) -> Any:
        """Return all surfaces as one ``trimesh.Trimesh`` with ``face_attributes["convex"]``; not for its volume."""
        vertices, faces, convex, at = [], [], [], 0
        for p, j in self._solid("soup"):
            vertices.append(p.vertices)
            faces.append(p.triangles + at)
            convex.append(np.full(len(p.triangles), j))
            at += len(p.vertices)
        return _mesh(
            np.concatenate([np.zeros((0, 3)), *vertices]),
            np.concatenate([np.zeros((0, 3), np.int64), *faces]),
            np.concatenate([np.zeros(0, np.int64), *convex]),
        )

    def union(self) -> Any:
        """Return the boolean union as one ``trimesh.Trimesh``; ``face_attributes["convex"]`` says whose a face is."""
        pairs = self._solid("union")
        return _unite([(p.vertices, p.triangles) for p, _ in pairs], [int(j) for _, j in pairs])

    def _solid(self, kind: str) -> list[tuple[Polytope, Any]]:
        if any(p.vertices.shape[1] == 2 for p in self.polytopes):
            raise ValueError(f"shapes in 2-D have no {kind}; polygons() of each polytope gives its outline")
        return list(zip(self.polytopes, self.ids, strict=True))

    def plot(self, ax: Any = None) -> Any:
        """Draw every convex in a colour of its own and return the axes, those of 3-D shapes being 3-D.

        An ``ax`` of the other kind is a ValueError.
        """
        flat = not self.polytopes or self.polytopes[0].vertices.shape[1] == 2
        if ax is None and not flat:
            ax = solid_axes()
        ax = new_axes(ax, figsize=(4.5, 4.5))
        if flat == hasattr(ax, "get_zlim"):
            raise ValueError("shapes in 3-D need axes made with projection='3d', those in 2-D plain ones")
        if flat:
            for p, j in zip(self.polytopes, self.ids, strict=True):
                ax.fill(*p.vertices.T, color=COLORS[j % len(COLORS)], alpha=0.6)
            ax.set(xlim=(-0.5, 0.5), ylim=(-0.5, 0.5), aspect="equal")
            return ax
        colours = [
            COLORS[j % len(COLORS)]
            for p, j in zip(self.polytopes, self.ids, strict=True)
            for _ in range(p.n_polygons)
        ]
        return draw_polygons(ax, [face for p in self.polytopes for face in p.polygons()], colours)

    def __str__(self) -> str:
        return (
            f"{len(self.polytopes)} convexes of {self.n_polygons:,} polygons "
            f"({self.n_empty} empty, {self.n_hidden} hidden)"
        )


@checked
def halfspaces_to_polytope(
    halfspaces: Any, bounds: float | int = 0.5, eps: float | int = 1e-4, inside: Any = None
) -> Polytope | None:
    """Return the convex of the rows of half-spaces within a box, or None if it is empty or flatter than ``eps``.

    Parameters
    ----------
    halfspaces : array-like, shape (m, dim + 1)
        Rows (n, d), dim 2 or 3. A row without direction (n shorter than 1e-8) says nothing if d <= 0, and makes the
        convex empty if d > 0.
    bounds : float
        Half the side of the box about the origin.
    eps : float
        Least radius of a ball within.
    inside : array-like, shape (dim,), optional
        A point that is thought to be inside; if it is, by ``eps``, no linear program is solved; if not, it says
        nothing.

    Raises
    ------
    ValueError
        NaN, or rows of another length.

    Examples
    --------
    >>> wedge = halfspaces_to_polytope([[1, 1, 0, 0]])
    >>> len(wedge.vertices), wedge.n_polygons, round(wedge.volume, 12)
    (6, 5, 0.5)
    """
    rows: Any = _rows(halfspaces)
    bounds = float(check_in_range(bounds, "bounds", low=0.0, high=1e100))
    eps = float(check_in_range(eps, "eps", low=0.0))
    dim = rows.shape[1] - 1
    # a sum of squares would overflow
    length = np.hypot.reduce(rows[:, :-1], axis=1)
    void = length < DEGENERATE
    if (rows[void, -1] > 0).any():
        return None
    rows = rows[~void] / length[~void, None]
    # how far out the corners of the box reach at most and at least
    reach = bounds * np.abs(rows[:, :-1]).sum(1)
    if (rows[:, -1] > reach).any():
        return None
    box = np.hstack([np.vstack([np.eye(dim), -np.eye(dim)]), np.full((2 * dim, 1), -bounds)])
    rows = np.vstack([rows[rows[:, -1] > -reach], box])
    point: Any = None if inside is None else check_numbers(inside, "inside")
    if point is not None and point.shape != (dim,):
        raise ValueError(f"inside must be one point, shape ({dim},), got {point.shape}")
    if point is None or not (rows[:, :-1] @ point + rows[:, -1]).max() < -max(eps, 1e-9):
        point, radius = _centre(rows)
        if point is None or radius < max(eps, 1e-9):
            return None
    try:
        vertices = HalfspaceIntersection(rows, point).intersections
        hull = ConvexHull(vertices)
    except QhullError:
        if inside is None:
            return None
        return halfspaces_to_polytope(halfspaces, bounds, eps)
    return _polygon(vertices[hull.vertices]) if dim == 2 else _polyhedron(vertices, hull)


def _rows(halfspaces: Any) -> Float[np.ndarray, "m k"]:
    rows = check_numbers(halfspaces, "halfspaces")
    if rows.ndim != 2 or rows.shape[1] not in (3, 4):
        raise ValueError(
            "halfspaces must be rows (n, d) of 3 numbers in 2-D or 4 in 3-D, n . x + d <= 0 inside; "
            f"got shape {rows.shape}"
        )
    if not np.isfinite(rows).all():
        raise ValueError(
            f"halfspaces must be finite, got {int((~np.isfinite(rows)).sum())} NaN or infinite numbers"
        )
    return rows


def _centre(rows: np.ndarray) -> tuple[Any, float]:
    """Centre and radius of a largest ball inside rows of unit normals; (None, 0) if there is no point at all."""
    dim = rows.shape[1] - 1
    A = np.hstack([rows[:, :-1], np.ones((len(rows), 1))])
    found: Any = linprog(
        np.r_[np.zeros(dim), -1.0], A_ub=A, b_ub=-rows[:, -1], bounds=[(None, None)] * dim + [(0, None)],
        method="highs",
    )  # fmt: skip
    return (found.x[:dim], float(found.x[dim])) if found.status == 0 else (None, 0.0)


def _polygon(vertices: np.ndarray) -> Polytope:
    """Corners that Qhull gives counter-clockwise."""
    k = np.arange(1, len(vertices) - 1)
    fan = np.stack([np.zeros_like(k), k, k + 1], 1)
    return Polytope(vertices, fan, np.zeros(len(fan), np.int64))


def _polyhedron(vertices: np.ndarray, hull: Any) -> Polytope:
    triangles = hull.simplices.astype(np.int64)
    a, b, c = vertices[triangles[:, 0]], vertices[triangles[:, 1]], vertices[triangles[:, 2]]
    normals = hull.equations[:, :-1]
    inward = np.linalg.det(np.stack([b - a, c - a, normals], 1)) < 0
    triangles[inward] = triangles[inward][:, [0, 2, 1]]
    # neighbours of one plane are one polygon: the lowest number spreads until nothing changes
    polygon = np.arange(len(triangles))
    beside = hull.neighbors
    flat = (np.abs(normals[:, None] - normals[beside]) < COPLANAR).all(-1)
    while True:
        lowest = np.minimum(polygon, np.where(flat, polygon[beside], len(triangles)).min(1))
        if (lowest == polygon).all():
            break
        polygon = lowest
    used, new = np.unique(triangles, return_inverse=True)
    _, polygon = np.unique(polygon, return_inverse=True)
    return Polytope(vertices[used], new.reshape(-1, 3), polygon)


def _mesh(vertices: np.ndarray, faces: np.ndarray, convex: np.ndarray | None = None) -> Any:
    trimesh = require("trimesh", "shapes")
    attributes = {} if convex is None else {"convex": convex}
    return trimesh.Trimesh(vertices, faces, process=False, face_attributes=attributes)


@checked
def halfspaces_to_mesh(halfspaces: Any, bounds: float | int = 0.5, eps: float | int = 1e-4) -> Any:
    """Return the convex of the rows of half-spaces (m, 4) as a ``trimesh.Trimesh``, see :func:`halfspaces_to_polytope`.

    Raises
    ------
    ValueError
        They have no inside wider than ``eps``, NaN, or rows of another length.
    """
    if (rows := _rows(halfspaces)).shape[1] != 4:
        raise ValueError("a mesh is of half-spaces in 3-D, rows of 4; in 2-D see halfspaces_to_polytope")
    found = halfspaces_to_polytope(rows, bounds, eps)
    if found is None:
        raise ValueError(
            f"the half-spaces have no common inside wider than {eps:g} within [-{bounds:g}, {bounds:g}]^3; inside is "
            "n . x + d <= 0, so normals point outwards"
        )
    return _mesh(found.vertices, found.triangles)


@checked
def union_meshes(meshes: Iterable[Any], ids: Any = None) -> Any:
    """Return the boolean union of closed meshes as one ``trimesh.Trimesh``, a true 2-manifold.

    Parameters
    ----------
    meshes : iterable of meshes
        As :func:`~lodim.shapes.as_mesh` takes them; each closed, with faces turned outwards. None at all give a mesh
        without faces.
    ids : array-like of int, optional
        A number for each, by default its place; the result's ``face_attributes["convex"]`` says whose a face is.

    Raises
    ------
    ValueError
        A mesh that is not closed, or turned inside out, which is named; or another number of ids.
    """
    pairs = [(mesh.vertices, mesh.faces) for mesh in map(as_mesh, meshes)]
    numbers = np.arange(len(pairs)) if ids is None else plain_array(ids, "ids")
    if numbers.shape != (len(pairs),) or numbers.dtype.kind not in "iu":
        raise ValueError(
            f"ids must be integers, one for each of {len(pairs)} meshes; got {numbers.dtype}, shape {numbers.shape}"
        )
    return _unite(pairs, numbers.tolist())


def _unite(pairs: Sequence[tuple[np.ndarray, np.ndarray]], ids: Sequence[int]) -> Any:
    manifold = require("manifold3d", "shapes")
    solids, number = [], {}
    for i, (vertices, faces) in enumerate(pairs):
        solid = manifold.Manifold(
            manifold.Mesh64(
                # copies, since it refuses arrays that are read-only
                np.array(vertices, dtype=np.float64, order="C"),
                np.array(faces, dtype=np.uint64, order="C"),
            )
        )
        if solid.is_empty():
            raise ValueError(
                f"mesh {i} cannot be united: {solid.status().name}; every mesh must be closed, its faces sharing "
                "vertices"
            )
        if solid.volume() <= 0:
            raise ValueError(f"mesh {i} is turned inside out (its volume is {solid.volume():.3g}); invert it")
        solid = solid.as_original()
        number[solid.original_id()] = ids[i]
        solids.append(solid)
    if not solids:
        return _mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int64), np.zeros(0, np.int64))
    found = manifold.Manifold.batch_boolean(solids, manifold.OpType.Add).to_mesh64()
    runs: Any = np.diff(np.asarray(found.run_index, dtype=np.int64)) // 3
    convex = np.repeat([number[k] for k in found.run_original_id], runs)
    return _mesh(
        np.asarray(found.vert_properties)[:, :3], np.asarray(found.tri_verts, dtype=np.int64), convex
    )


@checked
def hidden_convexes(inside: Sequence[np.ndarray]) -> Bool[np.ndarray, " c"]:
    """Return which convexes lie within others that stay, decided one after another, by the points of a grid.

    Parameters
    ----------
    inside : sequence of int64 ndarray
        The numbers of the points in each convex.
    """
    count = np.bincount(np.concatenate([np.zeros(0, np.int64), *inside]))
    hidden = np.zeros(len(inside), dtype=bool)
    for j, own in enumerate(inside):
        if (count[own] >= 2).all():
            hidden[j] = True
            count[own] -= 1
    return hidden


def grid_points_inside(rows: np.ndarray, grid: int, bounds: float) -> Int64[np.ndarray, " k"]:
    """Number, in C order, the cell centres of a grid over the box at which all rows are <= 0.

    Blocks of cells that one half-space leaves out altogether are not looked into.
    """
    dim, block = rows.shape[1] - 1, 4 if grid % 4 == 0 else 1
    coarse = cells_of(grid // block, dim)
    step = 2 * bounds / grid
    middle = cells_to_points(coarse, grid // block, bounds)
    slack = np.abs(rows[:, :-1]).sum(1) * (step * (block - 1) / 2)
    coarse = coarse[_greatest(rows, middle, -slack) <= 0]
    cells = (coarse[:, None] * block + cells_of(block, dim)).reshape(-1, dim)
    cells = cells[_greatest(rows, cells_to_points(cells, grid, bounds)) <= 0]
    return np.ravel_multi_index(tuple(cells.T), (grid,) * dim)


def _greatest(rows: np.ndarray, points: np.ndarray, more: Any = 0.0) -> np.ndarray:
    """The greatest value of all rows at each point; a row of numbers a plane, which is the faster layout."""
    values = rows[:, :-1] @ points.T
    values += (rows[:, -1] + more)[:, None]
    return values.max(0, initial=-np.inf)


@lru_cache(maxsize=8)
def cells_of(n: int, dim: int) -> np.ndarray:
    """Return the numbers of the cells of a grid along each axis, in C order."""
    return np.stack(np.meshgrid(*[np.arange(n)] * dim, indexing="ij"), -1).reshape(-1, dim)


def cells_to_points(cells: np.ndarray, grid: int, bounds: float = 0.5) -> np.ndarray:
    """Return the centres of cells."""
    return (cells + 0.5) * (2 * bounds / grid) - bounds


def extract(
    halfspaces: Sequence[np.ndarray], grid: int = 64, *, bounds: float = 0.5, eps: float = 1e-4,
    prune: bool = False,
) -> Convexes:  # fmt: skip
    """Extract the convexes that contain a cell centre of a grid; with ``prune``, not those that others hide."""
    inside = [grid_points_inside(rows, grid, bounds) for rows in halfspaces]
    alive = np.array([len(own) > 0 for own in inside], dtype=bool)
    empty, hidden = int((~alive).sum()), 0
    if prune:
        unseen = hidden_convexes(inside) & alive
        alive, hidden = alive & ~unseen, int(unseen.sum())
    found, ids = [], []
    for j in np.flatnonzero(alive).tolist():
        cells = np.stack(np.unravel_index(inside[j], (grid,) * (halfspaces[j].shape[1] - 1)), 1)
        polytope = halfspaces_to_polytope(
            halfspaces[j], bounds, eps, cells_to_points(cells, grid, bounds).mean(0)
        )
        if polytope is None:
            empty += 1
        else:
            found.append(polytope)
            ids.append(j)
    return Convexes(tuple(found), np.array(ids, dtype=np.int64), empty, hidden)
