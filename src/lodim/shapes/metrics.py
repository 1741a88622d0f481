r"""How far two shapes are apart: chamfer distances, normals, sharp edges, volumes.

For sets of points A and B on two surfaces

.. math::
   \mathrm{CD} = \frac{1}{|A|} \sum_{a} \min_{b} \|a - b\|^2 + \frac{1}{|B|} \sum_{b} \min_{a} \|a - b\|^2,

normal consistency is the mean of :math:`|n_a \cdot n_b|` over nearest pairs, both ways averaged, and the edge chamfer
distance (ECD) is CD between the points near sharp edges: those with a neighbour within squared distance
:math:`10^{-4}` whose normal has :math:`|n \cdot n'| < 0.1`. These are the measures of BSP-Net's section 4, with 4,096
points a surface.

Two samples of *one* surface are apart as well, by about the mean square spacing of the points. :func:`compare_meshes`
says by how much, since no difference below that can be told.

Sources: Z. Chen, A. Tagliasacchi, H. Zhang, 2019, arXiv 1911.06971; for the F-score M. Tatarchenko and others, 2019,
arXiv 1905.03678.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.spatial import KDTree

from lodim.randomness import RandomState, as_generator, derive_seed, root_seed
from lodim.results import Result
from lodim.shapes.meshes import check_points, contains, is_mesh, mesh_in_cube, sample_surface
from lodim.shapes.points import check_oriented
from lodim.validation import check_counts, check_in_range, checked, plain_array

__all__ = [
    "MeshQuality",
    "chamfer_distance",
    "chamfer_distances",
    "compare_meshes",
    "edge_chamfer_distance",
    "edge_points",
    "f_score",
    "normal_consistency",
    "volume_iou",
]

EDGE_RADIUS = 0.01
EDGE_COSINE = 0.1


def _nearest(a: np.ndarray, b: np.ndarray) -> tuple[Any, Any]:
    """Return the distances and the places of the nearest points, of a in b and of b in a."""
    return KDTree(b).query(a), KDTree(a).query(b)


@checked
def chamfer_distance(a: Any, b: Any, *, squared: bool = True) -> float:
    """Return the mean (squared) distance of a's points from b's nearest, plus that of b's from a's nearest.

    Parameters
    ----------
    a, b : ndarray, shape (n, 3), (m, 3)
    """
    power = 2 if squared else 1
    return float(
        sum(
            (apart**power).mean()
            for apart, _ in _nearest(check_points(a, "a", rows=1), check_points(b, "b", rows=1))
        )
    )


@checked
def chamfer_distances(
    clouds: Sequence[Any],
    others: Sequence[Any] | None = None,
    *,
    progress: Callable[[float, str], Any] | None = None,
) -> Float[np.ndarray, "n m"]:
    """Return the squared chamfer distances of all pairs of sets of points; each set's tree is built once.

    Parameters
    ----------
    clouds, others : sequence of ndarray, shape (k, 3)
        Without ``others`` the pairs are those of ``clouds``. A set may be empty: 0 from empty ones, and infinitely far
        from all others.
    """
    given = {"clouds": clouds} if others is None else {"clouds": clouds, "others": others}
    trees = [
        [
            KDTree(cloud) if len(cloud) else None
            for cloud in (check_points(c, f"{name}[{i}]") for i, c in enumerate(part))
        ]
        for name, part in given.items()
    ]
    rows, columns, power = trees[0], trees[-1], 2 if others is None else 1
    found = np.zeros((len(rows), len(columns)))
    for i, a in enumerate(rows):
        for j, b in enumerate(columns[:i] if others is None else columns):
            if a is None or b is None:
                found[i, j] = 0.0 if a is b else np.inf
            else:
                found[i, j] = sum(np.square(to.query(x.data)[0]).mean() for to, x in ((a, b), (b, a)))
        if progress is not None:
            progress(((i + 1) / len(rows)) ** power, f"{i + 1} of {len(rows)} shapes")
    return found if others is not None else found + found.T


@checked
def normal_consistency(
    a: Any,
    normals_a: Any,
    b: Any,
    normals_b: Any,
) -> float:
    """Return the mean absolute cosine between the unit normals of nearest points, both ways averaged: 1 at best."""
    (a, normals_a), (b, normals_b) = check_oriented(a, normals_a, "a"), check_oriented(b, normals_b, "b")
    (_, in_b), (_, in_a) = _nearest(a, b)
    there, back = (normals_a * normals_b[in_b]).sum(1), (normals_b * normals_a[in_a]).sum(1)
    return float((np.abs(there).mean() + np.abs(back).mean()) / 2)


@checked
def f_score(a: Any, b: Any, threshold: float = 0.01) -> float:
    """Return the harmonic mean of the shares of points that have one of the other set within ``threshold``."""
    check_in_range(threshold, "threshold", low=0.0)
    shares = [
        (apart <= threshold).mean()
        for apart, _ in _nearest(check_points(a, "a", rows=1), check_points(b, "b", rows=1))
    ]
    return float(2 * shares[0] * shares[1] / sum(shares)) if sum(shares) else 0.0


@checked
def edge_points(
    points: Any,
    normals: Any,
    radius: float = EDGE_RADIUS,
    cosine: float = EDGE_COSINE,
) -> Float[np.ndarray, "m d"]:
    """Return the points that have one within ``radius`` whose normal is, up to ``cosine``, at a right angle to theirs.

    How dense they must be follows from the radius: on average one point or more in a disc of it.
    """
    check_in_range(radius, "radius", low=0.0)
    check_in_range(cosine, "cosine", low=0.0, high=1.0)
    x, n = check_oriented(points, normals, "points")
    pairs = KDTree(x).query_pairs(radius, output_type="ndarray")
    sharp = pairs[np.abs((n[pairs[:, 0]] * n[pairs[:, 1]]).sum(1)) < cosine]
    return x[np.unique(sharp)]


@checked
def edge_chamfer_distance(
    a: Any,
    normals_a: Any,
    b: Any,
    normals_b: Any,
) -> float:
    """Return the squared chamfer distance of the :func:`edge_points`: 0 if neither has any, NaN if only one has."""
    near_a, near_b = edge_points(a, normals_a), edge_points(b, normals_b)
    if len(near_a) and len(near_b):
        return chamfer_distance(near_a, near_b)
    return np.nan if len(near_a) or len(near_b) else 0.0


@checked
def volume_iou(shape_a: Any, shape_b: Any, n_points: int = 100_000, random_state: RandomState = 0) -> float:
    """Return the volume that two shapes share over that of both together.

    Parameters
    ----------
    shape_a, shape_b : bool ndarray of one shape, or anything :func:`~lodim.shapes.meshes.contains` takes
        Two grids are counted; of others the share is estimated from points that are uniform in [-0.5, 0.5]^3, with
        standard error :math:`\\sqrt{q (1 - q) / m}` for an overlap q and m points in either.

    Raises
    ------
    ValueError
        Grids of different shape or that are not bool, one grid only, a mesh beyond the cube, or nothing inside either.
    """
    check_counts(n_points=n_points)
    grids = [hasattr(shape, "dtype") for shape in (shape_a, shape_b)]
    if any(grids):
        shape_a, shape_b = (
            plain_array(shape, name) if g else shape
            for shape, g, name in zip((shape_a, shape_b), grids, ("shape_a", "shape_b"), strict=True)
        )
        if not all(grids) or shape_a.dtype != bool or shape_b.dtype != bool or shape_a.shape != shape_b.shape:
            seen = (
                f"{s.dtype} {s.shape}" if g else type(s).__name__
                for s, g in zip((shape_a, shape_b), grids, strict=True)
            )
            raise ValueError(f"two grids must both be bool and of one shape, got {' and '.join(seen)}")
        a, b = shape_a, shape_b
    else:
        points = as_generator(random_state).uniform(-0.5, 0.5, (int(n_points), 3))
        a, b = (
            contains(mesh_in_cube(shape) if is_mesh(shape) else shape, points) for shape in (shape_a, shape_b)
        )
    either = int((a | b).sum())
    if not either:
        raise ValueError(
            "neither shape has anything inside the cube [-0.5, 0.5]^3, so there is no share to tell"
        )
    return float((a & b).sum() / either)


@dataclass(frozen=True)
class MeshQuality(Result):
    """How near a mesh is to a reference.

    Attributes
    ----------
    chamfer : float
        Squared chamfer distance.
    chamfer_floor : float
        That between two samples of the reference: what a perfect mesh would have.
    normal_consistency : float
    f_score : float
        At a distance of 0.01.
    edge_chamfer : float
        NaN where only one of both has sharp edges.
    iou : float
        NaN where one of both is not watertight.
    volume, reference_volume : float
    n_vertices, n_faces : int
    watertight : bool
    n_points : int
        On either surface.
    """

    chamfer: float
    chamfer_floor: float
    normal_consistency: float
    f_score: float
    edge_chamfer: float
    iou: float
    volume: float
    reference_volume: float
    n_vertices: int
    n_faces: int
    watertight: bool
    n_points: int

    def __str__(self) -> str:
        closed = "watertight" if self.watertight else "not watertight"
        return (
            f"{self.n_faces} faces, {closed}: chamfer {self.chamfer:.3g} (two samples of the reference "
            f"{self.chamfer_floor:.3g}), normals {self.normal_consistency:.3f}, F-score {self.f_score:.3f}, "
            f"edges {self.edge_chamfer:.3g}, IoU {self.iou:.3f}"
        )


@checked
def compare_meshes(
    mesh: Any, reference: Any, *, n_points: int = 4096, random_state: RandomState = 0
) -> MeshQuality:
    """Compare a mesh with a reference, both in the cube, by points drawn on their surfaces and in the cube.

    Parameters
    ----------
    n_points : int
        On each surface. Edges are seen where points lie within 0.01 of each other: of a surface of area 1 from some
        10,000 on.

    Raises
    ------
    ValueError
        A mesh beyond the cube.
    """
    check_counts(n_points=n_points)
    mesh, reference, seed = mesh_in_cube(mesh), mesh_in_cube(reference), root_seed(random_state)
    (a, normals_a), (b, normals_b), (again, _) = (
        sample_surface(m, n_points, random_state=derive_seed(seed, "surface", which))
        for m, which in ((mesh, "mesh"), (reference, "reference"), (reference, "again"))
    )
    closed = bool(mesh.is_watertight and reference.is_watertight)
    return MeshQuality(
        chamfer=chamfer_distance(a, b),
        chamfer_floor=chamfer_distance(again, b),
        normal_consistency=normal_consistency(a, normals_a, b, normals_b),
        f_score=f_score(a, b),
        edge_chamfer=edge_chamfer_distance(a, normals_a, b, normals_b),
        iou=volume_iou(mesh, reference, random_state=derive_seed(seed, "volume")) if closed else np.nan,
        volume=float(mesh.volume),
        reference_volume=float(reference.volume),
        n_vertices=len(mesh.vertices),
        n_faces=len(mesh.faces),
        watertight=bool(mesh.is_watertight),
        n_points=int(n_points),
    )
