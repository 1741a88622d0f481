r"""Point clouds that sample a surface: read, given normals that point outwards, asked for signed distances.

Source: H. Hoppe and others, SIGGRAPH 1992.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree
from scipy.spatial import KDTree

from lodim.shapes.meshes import check_points, existing_file, load_by_trimesh
from lodim.validation import check_counts, check_in_range, check_matrix, checked

__all__ = ["orient_normals", "point_signed_distance", "read_points"]

POINT_FILES = (".ply", ".xyz", ".csv", ".txt", ".npy")


@checked
def read_points(source: Any) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n d"] | None]:
    """Return points (n, 3) and their unit normals (n, 3), or None without normals.

    Parameters
    ----------
    source : path or array-like, shape (n, 3) or (n, 6)
        PLY (normals ``nx``, ``ny``, ``nz``), NPY, or text (XYZ, CSV, TXT): three or six numbers a line, separated by
        commas, semicolons or blanks, under a line of names or none.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
    ValueError
        A file of another kind or damaged, another number of columns, or columns 4 to 6 that are no unit vectors.
    """
    name, table = "points", source
    if isinstance(source, str | os.PathLike):
        path = existing_file(source, POINT_FILES)
        name = path.name
        kind = path.suffix.lower()
        if kind == ".ply":
            table = _ply_points(path)
        else:
            try:
                table = np.load(path, allow_pickle=False) if kind == ".npy" else _text_points(path)
            except (ValueError, EOFError, UnicodeDecodeError) as error:
                raise ValueError(f"{name} cannot be read as numbers ({error})") from error
    table = check_matrix(table, name=name)
    if table.shape[1] not in (3, 6):
        raise ValueError(
            f"{name} must have 3 columns (x, y, z) or 6 (and a normal), got {table.shape[1]}; "
            "keep the first three with points[:, :3]"
        )
    if table.shape[1] == 3:
        return table, None
    lengths = np.linalg.norm(table[:, 3:], axis=1)
    if (np.abs(lengths - 1) > 0.01).any():
        raise ValueError(
            f"columns 4 to 6 of {name} must be unit normals, but their lengths are {lengths.min():.3g} to "
            f"{lengths.max():.3g}; if they are colours, keep the first three with points[:, :3]"
        )
    return table[:, :3], table[:, 3:] / lengths[:, None]


def _text_points(path: Path) -> np.ndarray:
    lines = [line.strip(" ,;\t") for line in path.read_text(encoding="utf-8-sig").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    separator = next((mark for mark in ";,\t" if lines and mark in lines[0]), None)
    if lines and not any(map(_is_number, lines[0].split(separator))):
        lines = lines[1:]
    if not lines:
        raise ValueError("there are no numbers in it")
    return np.loadtxt(lines, delimiter=separator, ndmin=2)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _ply_points(path: Path) -> np.ndarray:
    loaded = load_by_trimesh(path)
    if not len(getattr(loaded, "vertices", ())):
        raise ValueError(f"{path.name} holds no points")
    rows = loaded.metadata.get("_ply_raw", {}).get("vertex", {}).get("data")
    names = rows.dtype.names if isinstance(rows, np.ndarray) else rows if isinstance(rows, dict) else None
    if names is None or not {"nx", "ny", "nz"} <= set(names):
        return np.asarray(loaded.vertices)
    normals = np.stack([np.ravel(rows[key]) for key in ("nx", "ny", "nz")], 1)  # type: ignore[index]
    return np.hstack([loaded.vertices, normals])


def check_oriented(points: Any, normals: Any, name: str, *, rows: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return points and as many unit normals as finite arrays (n, 3) of doubles."""
    x, n = check_points(points, name, rows=rows), check_points(normals, f"normals of {name}")
    if len(x) != len(n):
        raise ValueError(f"normals of {name} has {len(n)} rows but {name} has {len(x)}; they must match")
    lengths = np.linalg.norm(n, axis=1)
    if (np.abs(lengths - 1) > 0.01).any():
        raise ValueError(
            f"normals of {name} must have length 1, theirs are {lengths.min():.3g} to {lengths.max():.3g}"
        )
    return x, n


@checked
def orient_normals(points: Any, n_neighbors: int = 16) -> Float[np.ndarray, "n d"]:
    """Return unit normals (n, 3) of a point cloud that point outwards, after Hoppe et al., sections 3.2 and 3.3.

    The normal of a point is the direction in which its neighbours vary least. Signs spread along the spanning tree of
    neighbours whose normals differ least, and each connected piece is then turned so that its points, seen from their
    mean, lie in the direction of their normals (of a closed piece the sum is three times its volume). Unlike in the
    paper, a normal is compared with the other one's mirror image in the plane midway between both points: on a sphere
    they agree exactly, and across a sharp edge they do not turn ambiguous. Sheets closer to each other than the points
    are apart are still mixed up.

    Parameters
    ----------
    points : ndarray, shape (n, 3)
    n_neighbors : int
        Without the point itself.

    Raises
    ------
    ValueError
        Fewer than ``n_neighbors`` + 1 points, or some that lie with all their neighbours on a line or in one place.
    """
    check_in_range(n_neighbors, "n_neighbors", low=3, integer=True)
    x = check_points(points, rows=int(n_neighbors) + 1)
    near = KDTree(x).query(x, int(n_neighbors) + 1)[1]
    offsets = x[near] - x[near].mean(1, keepdims=True)
    spread, axes = np.linalg.eigh(np.einsum("nki,nkj->nij", offsets, offsets))
    lost = int((spread[:, 1] <= 1e-12 * spread[:, 2]).sum())
    if lost:
        raise ValueError(
            f"the {n_neighbors} nearest of {lost} points lie with them on a line or in one place, which has no normal; "
            "drop repeated points with numpy.unique(points, axis=0), or raise n_neighbors"
        )
    normals = axes[:, :, 0]
    pairs = np.stack([np.repeat(np.arange(len(x)), near.shape[1]), near.ravel()], 1)
    pairs = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1), axis=0)
    # an edge of weight 0 is none to SciPy
    graph = coo_array((1 - np.abs(_agreement(x, normals, *pairs.T)) + 1e-6, pairs.T), shape=(len(x), len(x)))
    tree = minimum_spanning_tree(graph.tocsr())
    n_pieces, piece = connected_components(tree, directed=False)
    for k in range(n_pieces):
        members = np.flatnonzero(piece == k)
        order, parents = breadth_first_order(tree, members[0], directed=False)
        turned = _agreement(x, normals, parents[order[1:]], order[1:]) < 0
        sign = np.ones(len(x))
        for child, parent, turn in zip(
            order[1:].tolist(), parents[order[1:]].tolist(), turned.tolist(), strict=True
        ):
            sign[child] = -sign[parent] if turn else sign[parent]
        normals[members] *= sign[members, None]
        if ((x[members] - x[members].mean(0)) * normals[members]).sum() < 0:
            normals[members] *= -1
    return normals


def _agreement(x: np.ndarray, normals: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return the cosine of the normal at one end of an edge and that at the other, mirrored in the plane between."""
    along = x[end] - x[start]
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), np.finfo(float).tiny)
    n, m = normals[start], normals[end]
    return (n * m).sum(1) - 2 * (n * along).sum(1) * (m * along).sum(1)


@checked
def point_signed_distance(
    points: Any,
    normals: Any,
    queries: Any,
    n_neighbors: int = 8,
) -> Float[np.ndarray, " k"]:
    """Return signed distances of queries (m, 3) from the surface that oriented points sample: negative inside.

    The mean of the distances from the tangent planes of the nearest points, weighted by a Gaussian of their distances
    whose width is the spacing of the points there. Right to first order near the surface; far from it only the sign is.

    Parameters
    ----------
    points, normals : ndarray, shape (n, 3)
        Normals point outwards; see :func:`orient_normals`.
    """
    check_counts(n_neighbors=n_neighbors)
    x, n = check_oriented(points, normals, "points", rows=2)
    to = check_points(queries, "queries")
    k = min(int(n_neighbors), len(x) - 1)
    tree = KDTree(x)
    spacing = np.asarray(tree.query(x, k + 1)[0])[:, 1:].mean(1)
    apart, near = (np.asarray(part).reshape(len(to), k) for part in tree.query(to, k))
    width2 = np.maximum(spacing[near[:, :1]] ** 2, np.finfo(float).tiny)
    # less that of the nearest, so that far away the weights do not all vanish
    weights = np.exp(-((apart**2 - apart[:, :1] ** 2) / width2))
    heights = ((to[:, None] - x[near]) * n[near]).sum(2)
    return (weights * heights).sum(1) / weights.sum(1)
