r"""Triangle meshes and inside functions: read, brought into the cube, asked, sampled, meshed, written.

A *shape* is a ``trimesh.Trimesh``, a scene, a path, a pair (vertices, faces), an object with ``mesh()`` (such as a
:class:`~lodim.datasets.solids.Solid`), or a function of points (n, 3) that returns which are inside (bool) or a signed
distance (float). Shapes live in the cube [-0.5, 0.5]^3; signed distances are at most 0 inside.

Whether a point x is inside a mesh is told by its winding number,

.. math:: w(x) = \frac{1}{4\pi} \sum_f \Omega_f(x), \qquad
   \tan\frac{\Omega_f}{2} = \frac{\det(a, b, c)}{abc + (a \cdot b) c + (b \cdot c) a + (c \cdot a) b},

for the corners a, b, c of face f seen from x (lengths in italics): 1 inside a closed mesh that is turned outwards, 0
outside, and in between near what is missing of one that is open. Of a closed mesh it is the number of faces by which a
ray leaves, less those by which it enters, which takes a small part of the time.

Sources: A. van Oosterom, J. Strackee, IEEE Trans. Biomed. Eng. 30 (1983), 125 (solid angles); A. Jacobson and others,
ACM Trans. Graph. 32 (2013), 33 (winding numbers of open meshes). Surfaces between grid points are those of
scikit-image (T. Lewiner and others, 2003).
"""

from __future__ import annotations

import io
import os
import re
import sys
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial import KDTree

from lodim.extras import require
from lodim.files import write_whole
from lodim.plots import COLORS
from lodim.randomness import RandomState, as_generator
from lodim.validation import (
    check_choice,
    check_counts,
    check_fraction,
    check_in_range,
    check_matrix,
    check_numbers,
    checked,
    plain_array,
    to_numpy,
    warn,
)

__all__ = [
    "UnitCube",
    "as_mesh",
    "cell_centres",
    "contains",
    "decimate",
    "isosurface",
    "packaged_mesh",
    "sample_occupancy",
    "sample_surface",
    "save_mesh",
    "signed_distance",
    "simplify",
    "to_unit_cube",
    "voxelize",
    "winding_number",
]

MESH_FILES = (".obj", ".ply", ".stl", ".off", ".glb", ".gltf")
PACKAGED = {
    "airplane": "airplane.ply",
    "ant": "ant.ply",
    "nut": "nut.ply",
    "sphere": "sphere.ply",
    "globe": "globe.vtk",
}
BLOCK = 1 << 15
LARGEST = 1e150
PAIRS = 1 << 18
SEARCH_RESOLUTION = 48


def existing_file(source: Any, endings: tuple[str, ...]) -> Path:
    """Return the path of a file that is there and has one of the endings."""
    path = Path(source)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give a file that ends in {', '.join(endings)}")
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if path.suffix.lower() not in endings:
        raise ValueError(f"{path.name} must end in {', '.join(endings)}, got {path.suffix or 'no ending'}")
    return path


def load_by_trimesh(path: Path) -> Any:
    """Return what trimesh makes of a file; ValueError if it cannot."""
    if path.suffix.lower() == ".obj":
        faces = re.search(rb"^\s*f\s[^\n]*\s-\d", data := path.read_bytes(), re.MULTILINE)
        if faces and re.search(rb"^\s*v\s", data[faces.end() :], re.MULTILINE):
            raise ValueError(
                f"the faces of {path.name} count vertices back from where they stand (negative numbers), which "
                "trimesh misreads where vertices come after faces; write them with numbers from 1"
            )
    try:
        return require("trimesh", "shapes").load(str(path), process=False)
    except Exception as error:  # its readers raise a dozen kinds
        raise ValueError(f"{path.name} cannot be read as {path.suffix[1:].upper()} ({error})") from error


def as_mesh(source: Any) -> Any:
    """Return a shape that has a surface as a ``trimesh.Trimesh``; a mesh comes back as it is.

    Parameters
    ----------
    source : Trimesh, Scene, path, (vertices, faces), or an object with ``mesh()``
        Of a file (OBJ, PLY, STL, OFF, GLB) equal vertices become one, as STL needs, and all objects of a scene one
        mesh, each at its place.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
    TypeError
        Something else, such as a function: mesh its values with :func:`isosurface`.
    ValueError
        A file of another kind or damaged, an empty scene, no faces (a point cloud), faces of vertices that are not
        there, or coordinates that are not finite.
    """
    trimesh = require("trimesh", "shapes")
    name, found, of_file = "the mesh", source, isinstance(source, str | os.PathLike)
    if of_file:
        path = existing_file(source, MESH_FILES)
        name, found = path.name, load_by_trimesh(path)
    elif isinstance(source, tuple) and len(source) == 2:
        found = _from_arrays(*source)
    elif not isinstance(source, trimesh.Trimesh | trimesh.Scene | trimesh.PointCloud):
        if not callable(getattr(source, "mesh", None)):
            hint = "; mesh the values of a function with isosurface" if callable(source) else ""
            raise TypeError(
                "a mesh must be a trimesh.Trimesh, a path, (vertices, faces) or an object with mesh(), got "
                f"{type(source).__name__}{hint}"
            )
        found = source.mesh()
    if isinstance(found, trimesh.Scene):
        if not found.geometry:
            raise ValueError(f"{name} holds nothing: the scene has no objects")
        solid = [g for g in found.dump() if isinstance(g, trimesh.Trimesh) and len(g.faces)]
        found = (
            trimesh.util.concatenate([_from_arrays(g.vertices, g.faces) for g in solid]) if solid else None
        )
    if isinstance(found, trimesh.Trimesh) and not len(found.vertices):
        raise ValueError(f"{name} is empty: it has no vertices and no faces")
    if not isinstance(found, trimesh.Trimesh) or not len(found.faces):
        raise ValueError(
            f"{name} has no faces: it is a point cloud or lines; read points with read_points, and give "
            "orient_normals and point_signed_distance what it returns"
        )
    if not np.isfinite(found.vertices).all():
        bad = ~np.isfinite(found.vertices).all(1)
        raise ValueError(
            f"{name} has {int(bad.sum())} vertices that are NaN or infinite, the first is {int(bad.argmax())}"
        )
    return _merge(found.vertices, found.faces) if of_file else found


def _merge(vertices: np.ndarray, faces: np.ndarray) -> Any:
    """Make one of vertices that agree to a billionth of the mesh's extent; faces that shrink to edges go."""
    rounded = np.round((vertices - vertices.min(0)) / max(np.ptp(vertices, axis=0).max(), 1e-300), 9)
    _, first, number = np.unique(rounded, axis=0, return_index=True, return_inverse=True)
    if len(first) == len(vertices):
        return _from_arrays(vertices, faces)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    faces = place[number.ravel()][faces]
    return _from_arrays(vertices[first[order]], faces[(faces != np.roll(faces, 1, axis=1)).all(1)])


def _from_arrays(vertices: Any, faces: Any) -> Any:
    trimesh = require("trimesh", "shapes")
    vertices, faces = check_matrix(vertices, name="vertices"), np.asarray(to_numpy(faces, "faces"))
    if vertices.shape[1] != 3:
        raise ValueError(f"vertices must have shape (v, 3), got {vertices.shape}")
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu":
        raise ValueError(
            f"faces must be integers of shape (f, 3), triangles; got {faces.dtype}, shape {faces.shape}"
        )
    if len(faces) and (faces.min() < 0 or faces.max() >= len(vertices)):
        raise ValueError(
            f"faces name vertices {faces.min()} to {faces.max()}, but there are {len(vertices)}, "
            "counted from 0"
        )
    return trimesh.Trimesh(vertices.copy(), faces.astype(np.int64), process=False)


def check_points(points: Any, name: str = "points", *, rows: int = 0) -> np.ndarray:
    """Return points as a finite array (n, 3) of doubles, of at least so many rows."""
    found = check_matrix(points, name=name, min_rows=rows)
    if found.shape[1] != 3:
        raise ValueError(f"{name} must have shape (n, 3), got {found.shape}")
    largest = float(np.abs(found).max(initial=0.0))
    if largest > LARGEST:
        raise ValueError(
            f"{name} has coordinates up to {largest:.3g}, whose squares leave double precision; scale it"
        )
    return found


class UnitCube(NamedTuple):
    """How a mesh was moved into the cube: (x - centre) * scale.

    Attributes
    ----------
    centre : ndarray, shape (3,)
        In the mesh's own coordinates.
    scale : float
    """

    centre: Float[np.ndarray, " 3"]
    scale: float

    def apply(self, points: Any) -> Float[np.ndarray, "n d"]:
        """Return points (n, 3) of the mesh's own coordinates in those of the cube."""
        return (check_points(points) - self.centre) * self.scale

    def undo(self, points: Any) -> Float[np.ndarray, "n d"]:
        """Return points (n, 3) of the cube in the mesh's own coordinates."""
        return check_points(points) / self.scale + self.centre


def cube_of(low: np.ndarray, high: np.ndarray, padding: float = 0.05) -> UnitCube:
    """Return how a box of two corners comes into the cube; ValueError if it has no extent."""
    extent = float((high - low).max())
    if not 0 < extent < np.inf:
        raise ValueError(f"the mesh has no extent to scale: its box has the edges {high - low}")
    return UnitCube((low + high) / 2, (1 - 2 * padding) / extent)


@checked
def to_unit_cube(mesh: Any, padding: float = 0.05) -> tuple[Any, UnitCube]:
    """Return the mesh in the cube [-0.5, 0.5]^3, and how it came there.

    Parameters
    ----------
    padding : float
        What is left free on either side of the longest edge of its box, in [0, 0.5).

    Raises
    ------
    ValueError
        A mesh without extent.
    """
    check_in_range(padding, "padding", low=0.0, high=0.499)
    mesh = as_mesh(mesh)
    used = np.asarray(mesh.vertices)[np.unique(mesh.faces)]
    cube = cube_of(used.min(0), used.max(0), padding)
    moved = mesh.copy()
    moved.vertices = (mesh.vertices - cube.centre) * cube.scale
    return moved, cube


@checked
def winding_number(mesh: Any, points: Any) -> Float[np.ndarray, " n"]:
    """Return how often the mesh winds around each point: 1 inside and 0 outside a closed mesh turned outwards.

    Parameters
    ----------
    points : ndarray, shape (n, 3)
    """
    import torch

    mesh, x = as_mesh(mesh), check_points(points)
    used, faces = np.unique(mesh.faces, return_inverse=True)
    # what a face has in common for all points: the determinant is affine in x, products of corners are lengths
    origin = mesh.vertices[used].mean(0)
    v, x = np.asarray(mesh.vertices)[used] - origin, x - origin
    corners = torch.from_numpy(faces.reshape(-1, 3).T.copy())
    a, b, c = v[corners.numpy()]
    normals = np.cross(b - a, c - a)
    height = torch.from_numpy((a * normals).sum(1))
    edges = [torch.from_numpy(((p - q) ** 2).sum(1)) for p, q in ((b, c), (c, a), (a, b))]
    turned, places = torch.from_numpy(np.ascontiguousarray(normals.T)), torch.from_numpy(v)
    found = np.empty(len(x))
    size = max(BLOCK // max(len(mesh.faces), 1), 1)
    for start in range(0, len(x), size):
        part = torch.from_numpy(x[start : start + size])
        apart = torch.cdist(part, places, compute_mode="donot_use_mm_for_euclid_dist")
        la, lb, lc = (apart.index_select(1, corner) for corner in corners)
        a2, b2, c2 = la * la, lb * lb, lc * lc
        below = la * lb * lc
        for sum_of_squares, edge, other in (
            (b2 + c2, edges[0], la), (c2 + a2, edges[1], lb), (a2 + b2, edges[2], lc)
        ):  # fmt: skip
            below += 0.5 * (sum_of_squares - edge) * other
        angles = torch.atan2(height - part @ turned, below)
        found[start : start + size] = angles.sum(1).numpy() / (2 * np.pi)
    return found


def _count_open_edges(mesh: Any) -> int:
    """Count the edges that do not join exactly two faces, one in either direction."""
    edges = np.sort(mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    return int((np.unique(edges, axis=0, return_counts=True)[1] != 2).sum())


def _inside_mesh(mesh: Any, points: np.ndarray) -> np.ndarray:
    closed = mesh.is_watertight and _is_turned_outwards(mesh)
    if not mesh.is_watertight:
        _tell_user(
            f"the mesh is not watertight ({_count_open_edges(mesh)} of its edges do not join two faces); where it is "
            "open, inside is where its winding number is above 0.5"
        )
    elif not closed:
        _tell_user(
            "the mesh is closed, but not all of its faces are turned outwards, and where they are not its inside "
            "counts as outside; mesh.fix_normals() turns them"
        )
    if closed:
        return _count_crossings(mesh, points) > 0
    return winding_number(mesh, points) > 0.5


def _is_turned_outwards(mesh: Any) -> bool:
    a, b, c = (np.asarray(mesh.vertices) - mesh.vertices[mesh.faces[0, 0]])[mesh.faces.T]
    return bool(mesh.is_winding_consistent and (a * np.cross(b, c)).sum() > 0)


def _count_crossings(mesh: Any, points: np.ndarray) -> np.ndarray:
    """Count how often a closed mesh is left, less how often it is entered, on the way from points upwards along z.

    It is the winding number. A ray that meets an edge or a corner is no exception: both faces of an edge judge it by
    the same rounded numbers, and of its ends the one lower in y belongs to it.
    """
    order = np.argsort(points[:, 1], kind="stable")
    x, y, z = np.ascontiguousarray(points[order].T)
    corners = np.asarray(mesh.vertices)[mesh.faces]
    low, high = corners.min(1), corners.max(1)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    first = np.searchsorted(y, low[:, 1])
    n_beside = np.searchsorted(y, high[:, 1]) - first
    count = np.zeros(len(x), np.int64)
    for faces in np.split(
        np.arange(len(corners)), np.searchsorted(n_beside.cumsum(), np.arange(PAIRS, n_beside.sum(), PAIRS))
    ):
        f, n = np.repeat(faces, n_beside[faces]), n_beside[faces]
        at = np.arange(len(f)) + np.repeat(first[faces] - n.cumsum() + n, n)
        over = (low[f, 0] <= x[at]) & (x[at] < high[f, 0])
        f, at = f[over], at[over]
        px, py, around = x[at], y[at], np.zeros(len(at), np.int64)
        for start, end in ((0, 1), (1, 2), (2, 0)):
            upwards = corners[f, start, 1] < corners[f, end, 1]
            ax, ay = corners[f, np.where(upwards, start, end), :2].T
            bx, by = corners[f, np.where(upwards, end, start), :2].T
            left = (bx - ax) * (py - ay) > (px - ax) * (by - ay)
            left = (px < np.minimum(ax, bx)) | (left & (px < np.maximum(ax, bx)))
            around += np.where(upwards, 1, -1) * (left & (ay <= py) & (py < by))
        # a face that stands upright is met within rounding of its plane: any height of it will do
        tilt = np.where(normals[f, 2] != 0, normals[f, 2], np.inf)
        with np.errstate(over="ignore"):
            rise = ((px - corners[f, 0, 0]) * normals[f, 0] + (py - corners[f, 0, 1]) * normals[f, 1]) / tilt
        above = np.clip(corners[f, 0, 2] - rise, low[f, 2], high[f, 2]) > z[at]
        np.add.at(count, at, around * above)
    found = np.empty_like(count)
    found[order] = count
    return found


def _tell_user(message: str) -> None:
    """Warn from the first line that is neither of this library nor of the one that checks its shapes."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in ("lodim", "jaxtyping"):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


def is_mesh(shape: Any) -> bool:
    known = isinstance(shape, str | os.PathLike | tuple)
    known |= any(kind.__module__.partition(".")[0] == "trimesh" for kind in type(shape).__mro__)
    return known or (hasattr(shape, "mesh") and not hasattr(shape, "contains"))


def _contains(shape: Any, points: np.ndarray) -> np.ndarray:
    if is_mesh(shape) or not (callable(shape) or hasattr(shape, "contains")):
        return _inside_mesh(as_mesh(shape), points)
    values = _values(shape, points)
    return values if values.dtype == bool else values <= 0


def _values(shape: Any, points: np.ndarray) -> np.ndarray:
    """Ask a function, or an object with ``contains``, and look at the answer."""
    answer = np.asarray(to_numpy((shape if callable(shape) else shape.contains)(points), "what it returns"))
    if answer.shape != (len(points),) or answer.dtype.kind not in "bf":
        raise ValueError(
            "a shape given as a function must return one bool (inside) or one float (signed distance) a point: "
            f"shape ({len(points)},); got {answer.dtype}, shape {answer.shape}"
        )
    if np.isnan(answer).any():
        raise ValueError(f"the shape's function returned {int(np.isnan(answer).sum())} NaN")
    return answer


@checked
def contains(shape: Any, points: Any) -> Bool[np.ndarray, " n"]:
    """Return which points (n, 3) are inside: exact for solids and functions, by the winding number for meshes.

    Warns, with the number of open edges, of a mesh that is not watertight, and of a closed one turned inwards.

    Raises
    ------
    ValueError
        Points of another shape, or a function that does not return one bool or float a point.
    """
    return _contains(shape, check_points(points))


@checked
def signed_distance(mesh: Any, points: Any) -> Float[np.ndarray, " n"]:
    """Return the distance of points (n, 3) to the nearest triangle, negative inside (see :func:`contains`)."""
    mesh, x = as_mesh(mesh), check_points(points)
    inside = _inside_mesh(mesh, x)
    apart = _distance(np.asarray(mesh.vertices)[mesh.faces], x)
    return np.where(inside, -apart, apart)


def _distance(triangles: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the distance of points (n, 3) to the nearest of triangles (f, 3, 3), up to rounding.

    The nearest few bound it from above, and only those whose ball reaches below the bound are looked at then.
    """
    pieces = _halve_long(triangles)
    centres = pieces.mean(1)
    radii = np.linalg.norm(pieces - centres[:, None], axis=2).max(1)
    # in its own coordinates a triangle has the corners (0, 0), (b, 0) and (c, d), flat or not
    turn, sides = np.linalg.qr((pieces[:, 1:] - pieces[:, :1]).swapaxes(1, 2), mode="complete")

    def to_triangle(points: np.ndarray, which: np.ndarray) -> np.ndarray:
        s, t, height = np.einsum("mi,mij->jm", points - pieces[which, 0], turn[which])
        b, c, d = sides[which, 0, 0], sides[which, 0, 1], sides[which, 1, 1]
        squared, over = np.full(len(s), np.inf), np.ones(len(s), bool)
        for from_s, from_t, along_s, along_t in ((0, 0, b, 0), (b, 0, c - b, d), (c, d, -c, -d)):
            ds, dt, length = s - from_s, t - from_t, along_s**2 + along_t**2
            share = (ds * along_s + dt * along_t) / np.maximum(length, np.finfo(float).tiny)
            share = np.clip(share, 0, 1)
            squared = np.minimum(squared, (ds - share * along_s) ** 2 + (dt - share * along_t) ** 2)
            over &= (along_s * dt - along_t * ds) * (b * d) > 0
        return np.sqrt(np.where(over, 0, squared) + height**2)

    tree, few, found = KDTree(centres), min(4, len(pieces)), np.empty(len(x))
    size = int(np.clip((1 << 20) // len(pieces), 64, 4096))
    for start in range(0, len(x), size):
        part = x[start : start + size]
        near = tree.query(part, np.arange(1, few + 1))[1].ravel()
        best = to_triangle(np.repeat(part, few, axis=0), near).reshape(-1, few).min(1)
        balls = tree.query_ball_point(part, best + radii.max(), return_sorted=False)
        row, which = np.repeat(np.arange(len(part)), [len(ball) for ball in balls]), np.concatenate(balls)
        which = which.astype(np.int64)
        kept = np.linalg.norm(part[row] - centres[which], axis=1) < best[row] + radii[which]
        np.minimum.at(best, row[kept], to_triangle(part[row[kept]], which[kept]))
        found[start : start + size] = best
    return found


def _halve_long(triangles: np.ndarray) -> np.ndarray:
    """Halve the triangles with the longest edges while there are not many more of them."""
    limit = len(triangles) + 500
    while True:
        lengths = np.linalg.norm(triangles - np.roll(triangles, -1, axis=1), axis=2)
        long = lengths.max(1) > 0.6 * lengths.max()
        if len(triangles) + long.sum() > limit or not long.any():
            return triangles
        turned = (lengths[long].argmax(1)[:, None] + np.arange(3)) % 3
        a, b, c = np.take_along_axis(triangles[long], turned[:, :, None], axis=1).swapaxes(0, 1)
        halves = np.stack([[a, (a + b) / 2, c], [(a + b) / 2, b, c]]).swapaxes(1, 2)
        triangles = np.concatenate([triangles[~long], *halves])


@checked
def sample_surface(
    mesh: Any, n: int, random_state: RandomState = None
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n d"]]:
    """Draw points uniformly by area, with the unit normals of their faces: two arrays (n, 3)."""
    check_counts(n=n)
    mesh, rng = as_mesh(mesh), as_generator(random_state)
    a, b, c = np.asarray(mesh.vertices)[mesh.faces.T]
    normals = np.cross(b - a, c - a)
    doubled = np.linalg.norm(normals, axis=1)
    if not doubled.sum() > 0:
        raise ValueError("the mesh has no area to draw points from: all its faces are flat")
    face = rng.choice(len(doubled), int(n), p=doubled / doubled.sum())
    u, v = rng.random((2, int(n), 1))
    u = np.sqrt(u)
    points = (1 - u) * a[face] + u * (1 - v) * b[face] + u * v * c[face]
    return points, normals[face] / doubled[face, None]


def mesh_in_cube(shape: Any) -> Any:
    """Return the mesh of a shape; ValueError if it reaches beyond the cube."""
    mesh = as_mesh(shape)
    reach = float(np.abs(mesh.vertices[mesh.faces]).max())
    if reach > 0.5 + 1e-6:
        raise ValueError(
            f"the mesh reaches {reach:g}, beyond the cube [-0.5, 0.5]^3; move it there with to_unit_cube, "
            "and whatever belongs to it by the UnitCube which that returns as well"
        )
    return mesh


@checked
def sample_occupancy(
    shape: Any,
    n: int,
    *,
    near_surface: float = 0.5,
    spread: float = 0.02,
    random_state: RandomState = None,
) -> tuple[Float[np.ndarray, "n d"], Bool[np.ndarray, " n"]]:
    """Draw points (n, 3) in the cube and say which are inside.

    Parameters
    ----------
    near_surface : float
        Share of the points that lie near the surface; the others are uniform in the cube. The surface of a function
        is looked for on a grid of 48^3 cells, so parts thinner than a cell can be missed there.
    spread : float
        Standard deviation, in each coordinate, of the way from the surface to the points near it.

    Raises
    ------
    ValueError
        A mesh beyond the cube, or a function with no surface in it.
    """
    check_counts(n=n)
    check_fraction(near_surface, "near_surface")
    check_in_range(spread, "spread", low=0.0, high=1.0)
    rng = as_generator(random_state)
    n_near = round(near_surface * n)
    surface = None
    if is_mesh(shape) or hasattr(shape, "mesh"):
        surface = mesh_in_cube(shape)
        shape = surface if is_mesh(shape) else shape
    elif n_near:
        grid = _values(shape, cell_centres(SEARCH_RESOLUTION)).reshape((SEARCH_RESOLUTION,) * 3)
        inside = grid if grid.dtype == bool else grid <= 0
        if not inside.any():
            raise ValueError(
                f"the function is inside nowhere on {SEARCH_RESOLUTION}^3 cells of the cube, so it has no "
                "surface to draw points near; near_surface=0 draws from the cube alone"
            )
        surface = isosurface(grid)
    near = np.empty((0, 3))
    while len(near) < n_near:
        # rounding puts a surface on the border beyond it
        drawn = np.clip(sample_surface(surface, n_near, rng)[0], -0.5, 0.5)
        drawn += spread * rng.standard_normal(drawn.shape)
        near = np.concatenate([near, drawn[(np.abs(drawn) <= 0.5).all(1)]])[:n_near]
    points = np.concatenate([near, rng.uniform(-0.5, 0.5, (int(n) - n_near, 3))])[rng.permutation(int(n))]
    return points, _contains(shape, points)


@checked
def cell_centres(resolution: int = 64) -> Float[np.ndarray, "n d"]:
    """Return the centres (r^3, 3) of the cells of [-0.5, 0.5]^3, the last coordinate running fastest."""
    check_counts(resolution=resolution)
    return np.stack(np.meshgrid(*[cell_axis(resolution)] * 3, indexing="ij"), -1).reshape(-1, 3)


def cell_axis(resolution: int) -> np.ndarray:
    """Return one coordinate of the :func:`cell_centres`, shape (r,)."""
    return (np.arange(resolution) + 0.5) / resolution - 0.5


@checked
def voxelize(shape: Any, resolution: int = 64) -> Bool[np.ndarray, "r r r"]:
    """Return whether the shape is inside at the :func:`cell_centres`, as an array (r, r, r).

    Raises
    ------
    ValueError
        A mesh beyond the cube.
    """
    shape = mesh_in_cube(shape) if is_mesh(shape) else shape
    return _contains(shape, cell_centres(resolution)).reshape((int(resolution),) * 3)


@checked
def isosurface(values: Any, isovalue: float = 0.0, bounds: float = 0.5) -> Any:
    """Return the closed surface around where values are at most ``isovalue``, by marching cubes.

    Parameters
    ----------
    values : ndarray, shape (r, r, r)
        At the centres of the cells of [-bounds, bounds]^3, growing outwards; or bool, True inside. A shape that
        reaches the border is closed on it.

    Returns
    -------
    trimesh.Trimesh
        Without faces, and with a warning, where nothing is inside.
    """
    check_in_range(bounds, "bounds", low=np.finfo(float).tiny)
    check_in_range(isovalue, "isovalue", low=np.finfo(float).min, high=np.finfo(float).max)
    grid = plain_array(values, "values")
    grid = (
        np.where(grid, isovalue - 1.0, isovalue + 1.0)
        if grid.dtype == bool
        else check_numbers(values, "values")
    )
    if grid.ndim != 3 or len(set(grid.shape)) > 1 or not grid.size:
        raise ValueError(f"values must have shape (r, r, r), got {grid.shape}")
    if not np.isfinite(grid).all():
        raise ValueError(f"values has {int((~np.isfinite(grid)).sum())} entries that are NaN or infinite")
    above = grid - isovalue
    # scikit-image computes in single precision and takes 2e-16 for nothing: so the difference, with values of about 1
    # at the surface, however large they are elsewhere
    sizes = np.abs(above[_beside_surface(above <= 0)])
    with np.errstate(over="ignore"):
        above = np.clip(above / (np.median(sizes[sizes > 0]) if sizes.any() else 1.0), -1e30, 1e30)
    above[(above <= 0) & (above > -1e-6)] = -1e-6
    if not (above < 0).any():
        warn("nothing is inside: the mesh has no faces")
        return require("trimesh", "shapes").Trimesh(process=False)
    # mirrored where it is inside, a cell beyond the border puts the surface on it
    outer = np.pad(above, 1, mode="edge")
    core = np.zeros(outer.shape, bool)
    core[1:-1, 1:-1, 1:-1] = True
    outer = np.where(core, outer, np.abs(outer))
    found = require("skimage.measure", "shapes").marching_cubes(outer, 0.0, gradient_direction="descent")
    vertices = (found[0].astype(np.float64) - 0.5) * (2 * bounds / len(grid)) - bounds
    return _from_arrays(vertices, _without_pairs(found[1]))


def _beside_surface(inside: np.ndarray) -> np.ndarray:
    """Mark the cells that have a neighbour on the other side."""
    found = np.zeros(inside.shape, bool)
    for axis in range(3):
        here, marked = np.moveaxis(inside, axis, 0), np.moveaxis(found, axis, 0)
        differs = here[1:] != here[:-1]
        marked[1:] |= differs
        marked[:-1] |= differs
    return found


def _without_pairs(faces: np.ndarray) -> np.ndarray:
    """Leave out pairs of one triangle and the same turned over, which scikit-image makes where cells touch."""
    order = np.argsort(faces, axis=1)
    side = np.where((order[:, 1] - order[:, 0]) % 3 == 1, 1, -1)
    kinds, number = np.unique(np.sort(faces, axis=1), axis=0, return_inverse=True)
    if len(kinds) == len(faces):
        return faces
    net = np.bincount(number.ravel(), side).astype(int)
    kept = np.repeat(np.arange(len(kinds)), np.abs(net))
    return np.where(net[kept, None] > 0, kinds[kept], kinds[kept][:, ::-1])


@checked
def decimate(mesh: Any, n_faces: int) -> Any:
    """Return the mesh with at most about ``n_faces`` faces, by quadric error (M. Garland, P. Heckbert, 1997).

    A mesh that has no more comes back as it is; a warning says when the shape does not allow as few.
    """
    check_in_range(n_faces, "n_faces", low=4, integer=True)
    mesh = as_mesh(mesh)
    if len(mesh.faces) <= n_faces:
        return mesh
    simplify = require("fast_simplification", "shapes").simplify
    vertices, faces = simplify(
        # copies: it takes no read-only arrays
        np.array(mesh.vertices, dtype=np.float64, order="C"),
        np.array(mesh.faces, dtype=np.int32, order="C"),
        target_count=int(n_faces),
    )
    if len(faces) > n_faces:
        warn(f"the mesh keeps {len(faces)} faces: it cannot be brought to {n_faces} without breaking it")
    return _from_arrays(vertices, faces)


def _colours(parts: np.ndarray) -> np.ndarray:
    table = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] + [255] for c in COLORS], dtype=np.uint8)
    return table[parts % len(table)]


@checked
def simplify(mesh: Any, tolerance: float) -> Any:
    """Return a closed mesh without the vertices that its surface does not need to within a distance: closed as well.

    Faces nearly of one plane become few, which unions of many pieces are full of. Unlike :func:`decimate` it stops by
    itself, and never opens the mesh.

    Raises
    ------
    ValueError
        A mesh that is not closed.
    """
    check_in_range(tolerance, "tolerance", low=0.0)
    mesh, manifold = as_mesh(mesh), require("manifold3d", "shapes")
    solid = manifold.Manifold(
        manifold.Mesh64(np.array(mesh.vertices, np.float64), np.array(mesh.faces, np.uint64))
    )
    if solid.is_empty():
        raise ValueError(f"the mesh must be closed, its faces sharing vertices; got {solid.status().name}")
    found = solid.simplify(tolerance).to_mesh64()
    return _from_arrays(np.asarray(found.vert_properties)[:, :3], np.asarray(found.tri_verts, np.int64))


@checked
def save_mesh(mesh: Any, path: str | os.PathLike[str], parts: Any = None) -> None:
    """Write a mesh to an OBJ, PLY, STL or GLB file, whole or not at all.

    Parameters
    ----------
    parts : int array-like, shape (n_faces,), optional
        Which part a face belongs to, counted from 0. In OBJ each has a material, in a file MTL of the same name; in
        PLY and GLB its faces have a colour.

    Notes
    -----
    OBJ keeps coordinates in full; PLY, STL and GLB in single precision.

    Raises
    ------
    ValueError
        Another ending, a number of parts that is not that of the faces, or parts in STL, which has no colours.
    """
    mesh, place = as_mesh(mesh), Path(path)
    kind = check_choice(place.suffix.lower(), (".obj", ".ply", ".stl", ".glb"), "the ending of path")
    if parts is not None:
        parts = plain_array(parts, "parts")
        if parts.shape != (len(mesh.faces),) or parts.dtype.kind not in "iu" or parts.min() < 0:
            raise ValueError(
                f"parts must be integers from 0, one a face: shape ({len(mesh.faces)},); got {parts.dtype}, "
                f"shape {parts.shape}"
            )
        if kind == ".stl":
            raise ValueError("STL has no colours or materials; write the parts to OBJ, PLY or GLB")
    if kind == ".obj":
        _save_obj(mesh, place, parts)
        return
    trimesh = require("trimesh", "shapes")
    bare: Any = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    if parts is not None:
        if kind == ".glb":
            pieces = [bare.submesh([np.flatnonzero(parts == k)], append=True) for k in np.unique(parts)]
            for piece, k in zip(pieces, np.unique(parts), strict=True):
                piece.visual.face_colors = _colours(np.full(len(piece.faces), k))
            bare = trimesh.Scene({f"part_{k}": p for k, p in zip(np.unique(parts), pieces, strict=True)})
        else:
            bare.visual.face_colors = _colours(parts)
    write_whole(place, bare.export(file_type=kind[1:]))


def _save_obj(mesh: Any, place: Path, parts: np.ndarray | None) -> None:
    text = io.StringIO()
    known = np.unique(parts) if parts is not None else np.zeros(1, int)
    if parts is not None:
        # some readers end the name at a blank
        materials = place.with_name(re.sub(r"\s", "_", place.stem) + ".mtl")
        shades = _colours(known)[:, :3] / 255
        rows = (
            f"newmtl part_{k}\nKd {r:.4f} {g:.4f} {b:.4f}\n"
            for k, (r, g, b) in zip(known, shades, strict=True)
        )
        write_whole(materials, "\n".join(rows))
        text.write(f"mtllib {materials.name}\n")
    text.writelines(f"v {x!r} {y!r} {z!r}\n" for x, y, z in mesh.vertices.tolist())
    for k in known:
        if parts is not None:
            text.write(f"g part_{k}\nusemtl part_{k}\n")
        faces = mesh.faces if parts is None else mesh.faces[parts == k]
        text.writelines(f"f {a} {b} {c}\n" for a, b, c in (faces + 1).tolist())
    write_whole(place, text.getvalue())


@checked
def packaged_mesh(name: str) -> Any:
    """Return a mesh out of the installed wheel ``pyvista``, which is not imported: in its own coordinates.

    Parameters
    ----------
    name : {"airplane", "ant", "nut", "sphere", "globe"}
        The airplane is not watertight.

    Raises
    ------
    ModuleNotFoundError
        The wheel is not there.
    """
    check_choice(name, tuple(PACKAGED), "name")
    told = "the packaged meshes are in the wheel pyvista: pip install --no-deps pyvista"
    try:
        found = metadata.distribution("pyvista").locate_file(f"pyvista/examples/{PACKAGED[name]}")
    except metadata.PackageNotFoundError as error:
        raise ModuleNotFoundError(told) from error
    path = Path(str(found))
    if not path.exists():
        raise ModuleNotFoundError(f"{path.name} is not in the pyvista that is installed; {told}")
    return _read_vtk(path) if path.suffix == ".vtk" else as_mesh(path)


def _read_vtk(path: Path) -> Any:
    """Read triangles of a legacy VTK file: POLYDATA, binary (big-endian), points in double precision."""
    data = path.read_bytes()
    points, polygons = (
        re.search(pattern, data) for pattern in (rb"\nPOINTS (\d+) double\n", rb"\nPOLYGONS (\d+) (\d+)\n")
    )
    if points is None or polygons is None or int(polygons[2]) != 4 * int(polygons[1]):
        raise ValueError(f"{path.name} is no binary VTK file of triangles with points in double precision")
    vertices = np.frombuffer(data, ">f8", 3 * int(points[1]), points.end()).reshape(-1, 3)
    faces = np.frombuffer(data, ">i4", int(polygons[2]), polygons.end()).reshape(-1, 4)[:, 1:]
    return _merge(vertices.astype(np.float64), faces.astype(np.int64))
