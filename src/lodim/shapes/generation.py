r"""How good a set of generated shapes is: coverage, nearest distances, and whether one can tell them from real ones.

For samples S, references R and a distance D between shapes

.. math::
   \mathrm{MMD} = \frac{1}{|R|} \sum_{r} \min_{s} D(s, r), \qquad
   \mathrm{COV} = \frac{|\{\arg\min_r D(s, r) : s \in S\}|}{|R|},

and 1-NNA is the share of all shapes of both sets whose nearest other one is of their own set: 1/2 where nobody could
tell the sets apart, 1 where everybody could, and towards 0 where samples are copies of references. D is the chamfer
distance of points on the surfaces, or that of the points near sharp edges.

Completions of one part P are judged by how much they differ (total mutual difference) and whether they keep the part
(unidirectional Hausdorff distance),

.. math::
   \mathrm{TMD} = \sum_i \frac{1}{k - 1} \sum_{j \ne i} D(s_i, s_j), \qquad
   \mathrm{UHD} = \frac{1}{k} \sum_i \max_{p \in P} \min_{q \in s_i} \|p - q\|.

Sources: G. Yang and others, 2019, arXiv 1906.12320 (1-NNA, and what is wrong with the other two); P. Achlioptas and
others, 2018, arXiv 1707.02392 (MMD, COV); R. Wu and others, 2020, arXiv 2003.08483 (TMD, UHD).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial import KDTree

from lodim.randomness import RandomState, as_generator, derive_seed, root_seed
from lodim.results import Result
from lodim.shapes.meshes import check_points, is_mesh, sample_surface
from lodim.shapes.metrics import chamfer_distances, edge_points
from lodim.validation import check_choice, check_counts, check_in_range, checked, to_numpy

__all__ = ["GenerationQuality", "generation_metrics", "total_mutual_difference", "unidirectional_hausdorff"]

# points on a surface among which sharp edges are looked for
EDGE_SAMPLE = 16_384
N_PERMUTATIONS = 999


@dataclass(frozen=True)
class GenerationQuality(Result):
    """How a set of samples compares with a set of references.

    Attributes
    ----------
    mmd : float
        Mean over references of the distance of the nearest sample.
    mmd_se : float
        Standard error of that mean, the samples being as they are; NaN of one reference, or an infinite distance.
    coverage : float
        Share of the references that are nearest to some sample, and not infinitely far. Samples as good as references
        reach about 0.5 to 0.7 with sets of one size, not 1.
    one_nn : float
        1-NNA: share of shapes whose nearest other is of the same set; 0.5 is best. Of nearest ones that are equally
        near each has its part.
    chance_low, chance_high : float
        Between these it lies, in a share ``ci`` of cases, if which shape is a sample is decided by lot.
    n_samples, n_reference : int
    distance : {"chamfer", "edge"}
    ci : float
    """

    mmd: float
    mmd_se: float
    coverage: float
    one_nn: float
    chance_low: float
    chance_high: float
    n_samples: int
    n_reference: int
    distance: str
    ci: float

    def __str__(self) -> str:
        return (
            f"{self.n_samples} samples, {self.n_reference} references: MMD {self.mmd:.3g} (se {self.mmd_se:.1g}), "
            f"coverage {self.coverage:.2f}, 1-NNA {self.one_nn:.3f} (by chance {self.chance_low:.2f} to "
            f"{self.chance_high:.2f})"
        )


@checked
def generation_metrics(
    samples: Sequence[Any],
    reference: Sequence[Any],
    *,
    distance: str = "chamfer",
    n_points: int = 1024,
    ci: float | int = 0.95,
    random_state: RandomState = 0,
    progress: Callable[[float, str], Any] | None = None,
) -> GenerationQuality:
    """Compare generated shapes with real ones that the generator has not seen.

    Parameters
    ----------
    samples, reference : sequence of shapes
        Points (n, 3), a pair of points and normals (n, 3), or what has a surface
        (:func:`~lodim.shapes.as_mesh`). Sets of one size make the coverage comparable.
    distance : {"chamfer", "edge"}
        Squared, both ways added; "edge" is that of the :func:`~lodim.shapes.edge_points`, looked for among 16,384
        points of a mesh, and needs normals. Shapes of which one alone has edges are infinitely far apart.
    n_points : int
        Of each shape at most, drawn where there are more. Papers take 2,048.
    progress : callable, optional
        ``progress(share, text)``.

    Raises
    ------
    ValueError
        A set without shapes, one shape in all, a shape without faces, or points without normals where these are needed.

    Notes
    -----
    The distances of all pairs, of which there are (n + m)^2 / 2, by KD-trees: in milliseconds a pair about the number
    of points over 700.
    """
    check_choice(distance, ("chamfer", "edge"), "distance")
    check_counts(n_points=n_points)
    check_in_range(ci, "ci", low=1e-6, high=1 - 1e-6)
    if not len(samples) or not len(reference) or len(samples) + len(reference) < 3:
        raise ValueError(
            f"there must be a sample and a reference at least, and three in all; got {len(samples)} and "
            f"{len(reference)}"
        )
    seed, n = root_seed(random_state), len(samples)
    given = (
        (("samples", i, shape) for i, shape in enumerate(samples)),
        (("reference", i, shape) for i, shape in enumerate(reference)),
    )
    clouds = [
        _cloud(shape, f"{name}[{i}]", distance, int(n_points), derive_seed(seed, name, i))
        for group in given
        for name, i, shape in group
    ]
    apart = chamfer_distances(clouds, progress=progress)
    across = apart[:n, n:]
    nearest = across.min(0)
    known = len(nearest) > 1 and bool(np.isfinite(nearest).all())
    np.fill_diagonal(apart, np.inf)
    # rows of the nearest others, equally near ones sharing
    near = apart == apart.min(1, keepdims=True)
    np.fill_diagonal(near, False)
    share = near / near.sum(1, keepdims=True)
    ours = np.arange(len(apart)) < n
    rng = as_generator(derive_seed(seed, "chance"))
    lots = [_same(share, rng.permutation(ours)) for _ in range(N_PERMUTATIONS)]
    low, high = np.quantile(lots, [(1 - ci) / 2, (1 + ci) / 2])
    return GenerationQuality(
        mmd=float(nearest.mean()),
        mmd_se=float(nearest.std(ddof=1) / np.sqrt(len(nearest))) if known else np.nan,
        coverage=len(np.unique(across.argmin(1)[np.isfinite(across.min(1))])) / len(reference),
        one_nn=_same(share, ours),
        chance_low=float(low),
        chance_high=float(high),
        n_samples=n,
        n_reference=len(reference),
        distance=distance,
        ci=float(ci),
    )


def _same(share: np.ndarray, ours: np.ndarray) -> float:
    """Mean share of the nearest that is of a shape's own set."""
    from_ours = share @ ours.astype(float)
    return float(np.where(ours, from_ours, 1 - from_ours).mean())


def _cloud(shape: Any, name: str, distance: str, n_points: int, seed: int) -> np.ndarray:
    """Return at most so many points of a shape, or of its edges: perhaps none there."""
    rng = as_generator(seed)
    # faces, which are whole numbers, may be as many as their vertices
    paired = isinstance(shape, tuple) and len(shape) == 2
    if paired:
        shape = tuple(to_numpy(part, name) for part in shape)
        paired = np.asarray(shape[1]).dtype.kind == "f"
    bare = not paired and not is_mesh(shape) and not callable(getattr(shape, "mesh", None))
    if distance == "edge" and bare:
        raise ValueError(f"{name} needs normals for the distance of edges; give (points, normals) or a mesh")
    if not paired and not bare:
        try:
            shape = sample_surface(shape, EDGE_SAMPLE if distance == "edge" else n_points, rng)
        except ValueError as error:
            raise ValueError(f"{name} cannot be compared: {error}") from error
        paired = True
    if distance == "edge":
        points = edge_points(*shape)
    else:
        points = check_points(shape[0] if paired else shape, name, rows=1)
    if len(points) > n_points:
        points = points[rng.choice(len(points), n_points, replace=False)]
    return points


@checked
def total_mutual_difference(
    completions: Sequence[Any], *, n_points: int = 1024, random_state: RandomState = 0
) -> float:
    """Return TMD, how much completions of one shape differ: the sum of each one's mean distance from the others.

    Parameters
    ----------
    completions : sequence of shapes
        Two or more, as in :func:`generation_metrics`.
    """
    check_counts(n_points=n_points)
    k, seed = len(completions), root_seed(random_state)
    if k < 2:
        raise ValueError(f"there must be two completions at least to differ, got {k}")
    clouds = [
        _cloud(shape, f"completions[{i}]", "chamfer", int(n_points), derive_seed(seed, i))
        for i, shape in enumerate(completions)
    ]
    return float(chamfer_distances(clouds).sum() / (k - 1))


@checked
def unidirectional_hausdorff(
    part: Any, completions: Sequence[Any], *, n_points: int = 4096, random_state: RandomState = 0
) -> float:
    """Return UHD, how far completions stray from what was given: the mean distance of its point farthest from each.

    Parameters
    ----------
    part : ndarray, shape (m, 3)
    completions : sequence of shapes
        As in :func:`generation_metrics`; of meshes ``n_points`` are drawn, whose spacing adds to the distance.
    """
    check_counts(n_points=n_points)
    known, seed = check_points(part, "part", rows=1), root_seed(random_state)
    if not len(completions):
        raise ValueError("completions must hold a shape at least, got none")
    clouds = [
        _cloud(shape, f"completions[{i}]", "chamfer", int(n_points), derive_seed(seed, i))
        for i, shape in enumerate(completions)
    ]
    farthest = [np.max(KDTree(cloud).query(known)[0]) for cloud in clouds]
    return float(np.mean(farthest))
