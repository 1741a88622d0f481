r"""Small synthetic sets whose law is known in closed form: what generators, denoisers and calibrators are tried on.

Modes are Gaussians of one deviation with equal counts (one more or less). The grid comes divided by the standard
deviation of a coordinate, :math:`\sqrt{\mathrm{std}^2 + \mathrm{spacing}^2 (\mathrm{side}^2 - 1) / 12}` (of 5 x 5 modes
with spacing 2 :math:`\sqrt{0.05^2 + 8}`), and so do its modes and their deviation.

Singular laws sit on a set of fewer dimensions than there are columns, whose nearest points are known.

Sources: S. K. Aithal and others, arXiv 2406.09358 (line, grid, shapes); M. Chen and others, arXiv 2404.07771
(subspace); S. Liu and others, arXiv 2111.10734 (outcomes).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int
from numpy.typing import ArrayLike
from scipy.ndimage import find_objects, label

from ..randomness import RandomState, as_generator
from ..validation import check_choice, check_counts, check_in_range, check_matrix, check_numbers

__all__ = [
    "SCENARIOS",
    "Modes",
    "Outcomes",
    "ShapeCounts",
    "Shapes",
    "SingularLaw",
    "Subspace",
    "count_shapes",
    "gaussian_grid",
    "gaussian_line",
    "gaussian_ring",
    "gaussian_subspace",
    "product_law",
    "simple_shapes",
    "simulate_outcomes",
    "sphere_patch",
    "uneven_circle",
]

_LARGEST = float(np.finfo(np.float64).max)
_SIZE, _COLUMN = 64, 21  # pixels of an image, and of the column of one kind of shape
_SQUARE_SIDE = 7  # drawn with both its borders: 64 pixels
_TRIANGLE_SIDE = int(np.sqrt(4 * 60 / np.sqrt(3)))
_PENTAGON_RADIUS = int(np.sqrt(240 / np.sqrt(5 * (5 + 2 * np.sqrt(5)))))


class Modes(NamedTuple):
    """Points around modes.

    Attributes
    ----------
    X : ndarray, shape (n, d)
    mode : int ndarray, shape (n,)
        The mode each point was drawn from.
    centers : ndarray, shape (m, d)
    std : float
        Of every mode in each coordinate.
    """

    X: Float[np.ndarray, "n d"]
    mode: Int[np.ndarray, " n"]
    centers: Float[np.ndarray, "m d"]
    std: float


def _around(centers: np.ndarray, n: Any, std: Any, random_state: RandomState) -> Modes:
    check_in_range(n, "n", low=1, integer=True)
    check_in_range(std, "std", low=0, high=_LARGEST)
    rng = as_generator(random_state)
    mode = rng.permutation(np.arange(int(n)) % len(centers))
    X = centers[mode] + std * rng.standard_normal((int(n), centers.shape[1]))
    return Modes(X, mode, centers, float(std))


def gaussian_ring(
    n: int | np.integer,
    modes: int | np.integer = 8,
    radius: float | int | np.floating = 1.0,
    std: float | int | np.floating = 0.05,
    *,
    random_state: RandomState = None,
) -> Modes:
    """Draw points around modes at equal angles on a circle, the first at (radius, 0)."""
    check_in_range(modes, "modes", low=1, integer=True)
    check_in_range(radius, "radius", low=-_LARGEST, high=_LARGEST)
    angles = 2 * np.pi * np.arange(int(modes)) / int(modes)
    return _around(radius * np.column_stack([np.cos(angles), np.sin(angles)]), n, std, random_state)


def gaussian_grid(
    n: int | np.integer,
    side: int | np.integer = 5,
    spacing: float | int | np.floating = 2.0,
    std: float | int | np.floating = 0.05,
    rotated: bool = False,
    *,
    random_state: RandomState = None,
) -> Modes:
    """Draw points around the modes of a square grid about the origin, of total standard deviation 1.

    Parameters
    ----------
    side : int
        Modes along each axis.
    spacing : float
        Between modes, as ``std`` before the division.
    rotated : bool
        Turn the grid by 45 degrees, so that no nearest modes lie along an axis.
    """
    check_in_range(side, "side", low=1, integer=True)
    check_in_range(spacing, "spacing", low=-_LARGEST, high=_LARGEST)
    check_in_range(std, "std", low=0, high=_LARGEST)
    ticks = spacing * (np.arange(int(side)) - (int(side) - 1) / 2)
    centers = np.stack(np.meshgrid(ticks, ticks, indexing="ij"), -1).reshape(-1, 2)
    if rotated:
        centers = centers @ np.array([[1.0, 1.0], [-1.0, 1.0]]) / np.sqrt(2)
    total = float(np.sqrt(std**2 + spacing**2 * (int(side) ** 2 - 1) / 12))
    if total == 0:
        raise ValueError("a grid in one place needs std above 0; there is nothing to divide by")
    return _around(centers / total, n, std / total, random_state)


def gaussian_line(
    n: int | np.integer,
    means: ArrayLike = (1, 2, 3),
    std: float | int | np.floating = 0.05,
    *,
    random_state: RandomState = None,
) -> Modes:
    """Draw points around modes on the line; shape (n, 1)."""
    centers = np.asarray(means, dtype=np.float64)
    if centers.ndim != 1 or not len(centers) or not np.isfinite(centers).all():
        raise ValueError(f"means must be a list of finite numbers, got {means!r}")
    return _around(centers[:, None], n, std, random_state)


class Subspace(NamedTuple):
    """Points of a linear subspace.

    Attributes
    ----------
    X : ndarray, shape (n, D)
    basis : ndarray, shape (D, d)
        Orthonormal columns; ``X @ basis`` are the points' own coordinates.
    """

    X: Float[np.ndarray, "n D"]
    basis: Float[np.ndarray, "D d"]


def gaussian_subspace(
    n: int | np.integer, D: int | np.integer, d: int | np.integer, *, random_state: RandomState = None
) -> Subspace:
    """Draw standard normal points of a random d-dimensional subspace of R^D: x = A z, with A uniform (Haar)."""
    check_counts(n=n, d=d)
    check_in_range(D, "D", low=int(d), integer=True)
    rng = as_generator(random_state)
    Q, R = np.linalg.qr(rng.standard_normal((int(D), int(d))))
    basis = Q * np.sign(np.diag(R))  # without the signs LAPACK prefers some directions
    return Subspace(rng.standard_normal((int(n), int(d))) @ basis.T, basis)


class SingularLaw(NamedTuple):
    """Points of a set of few dimensions.

    Attributes
    ----------
    X : ndarray, shape (n, D)
    latent : ndarray, shape (n, d)
        Where on the set each point is.
    project : callable
        From rows to the nearest points of the set.
    """

    X: Float[np.ndarray, "n D"]
    latent: Float[np.ndarray, "n d"]
    project: Callable[[Any], np.ndarray]

    def distance(self, rows: Any) -> Float[np.ndarray, " m"]:
        """Return how far rows, shape (m, D), are from the set."""
        found = check_matrix(rows, name="rows")
        if found.shape[1] != self.X.shape[1]:
            raise ValueError(f"rows must have the {self.X.shape[1]} columns of the law, got {found.shape[1]}")
        return np.linalg.norm(found - self.project(found), axis=1)


def _on_circle(rows: Any) -> np.ndarray:
    plane = np.asarray(rows, dtype=float)[:, :2]
    angle = np.arctan2(plane[:, 1], plane[:, 0])
    return np.column_stack([np.cos(angle), np.sin(angle), np.zeros((len(plane), np.shape(rows)[1] - 2))])


def uneven_circle(
    n: int | np.integer, D: int | np.integer = 2, *, random_state: RandomState = None
) -> SingularLaw:
    """Draw points of the unit circle in the first two of D columns, most of them in two bumps.

    The angle's density is .7 of a von Mises law at 0 and .3 of one at 2 pi / 3, both of concentration 4.
    """
    check_in_range(n, "n", low=1, integer=True)
    check_in_range(D, "D", low=2, integer=True)
    rng = as_generator(random_state)
    bump = rng.random(int(n)) < 0.3
    angle = rng.vonmises(np.where(bump, 2 * np.pi / 3, 0.0), 4.0)
    X = np.column_stack([np.cos(angle), np.sin(angle), np.zeros((int(n), int(D) - 2))])
    return SingularLaw(X, angle[:, None], _on_circle)


def _on_patch(rows: Any, cosine: float) -> np.ndarray:
    rows = np.asarray(rows, dtype=float)
    radius, azimuth = np.hypot(rows[:, 0], rows[:, 1]), np.arctan2(rows[:, 1], rows[:, 0])
    polar = np.minimum(np.arctan2(radius, rows[:, 2]), np.arccos(cosine))
    return np.column_stack([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)])


def sphere_patch(
    n: int | np.integer, angle: float | int | np.floating = np.pi / 3, *, random_state: RandomState = None
) -> SingularLaw:
    """Draw uniform points of the unit sphere in R^3 at most ``angle`` from the pole (0, 0, 1)."""
    check_in_range(n, "n", low=1, integer=True)
    check_in_range(angle, "angle", low=0.0, high=np.pi)
    rng = as_generator(random_state)
    polar = np.arccos(rng.uniform(np.cos(angle), 1.0, int(n)))
    azimuth = rng.uniform(-np.pi, np.pi, int(n))
    X = np.column_stack([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)])
    return SingularLaw(X, np.column_stack([polar, azimuth]), partial(_on_patch, cosine=float(np.cos(angle))))


def _in_box(rows: Any, active: int) -> np.ndarray:
    rows = np.asarray(rows, dtype=float)
    return np.column_stack([rows[:, :active].clip(0, 1), np.zeros((len(rows), rows.shape[1] - active))])


def product_law(
    n: int | np.integer,
    D: int | np.integer = 10,
    active: int | np.integer = 2,
    *,
    random_state: RandomState = None,
) -> SingularLaw:
    """Draw rows of D columns, the first ``active`` of them independent squares of uniform numbers, the others 0."""
    check_counts(n=n, active=active)
    check_in_range(D, "D", low=int(active), integer=True)
    latent = as_generator(random_state).random((int(n), int(active)))
    X = np.column_stack([latent**2, np.zeros((int(n), int(D) - int(active)))])
    return SingularLaw(X, latent, partial(_in_box, active=int(active)))


class Shapes(NamedTuple):
    """Images of shapes.

    Attributes
    ----------
    images : float32 ndarray, shape (n, 64, 64)
        0 (black) and 1.
    present : bool ndarray, shape (n, 3)
        Whether there is a triangle, a square, a pentagon.
    """

    images: Float32[np.ndarray, "n 64 64"]
    present: Bool[np.ndarray, "n 3"]


def simple_shapes(n: int | np.integer, *, random_state: RandomState = None) -> Shapes:
    """Draw a triangle, a square and a pentagon, each with probability 1/2, in a third of the image of its own.

    Places are uniform, empty images are drawn again. The shapes have 65, 64 and 70 pixels.
    """
    check_in_range(n, "n", low=1, integer=True)
    rng = as_generator(random_state)
    chosen = rng.integers(1, 8, size=int(n))  # given that one is there, all seven sets are equally likely
    present = (chosen[:, None] >> np.arange(3) & 1).astype(bool)
    images = np.zeros((int(n), _SIZE, _SIZE), dtype=np.float32)
    for kind, stamp in enumerate(_stamps()):
        height, width = stamp.shape
        rows = np.flatnonzero(present[:, kind])
        top = rng.integers(0, _SIZE - height + 1, size=len(rows))
        left = kind * _COLUMN + rng.integers(0, _COLUMN - width + 1, size=len(rows))
        places = np.argwhere(stamp)
        images[rows[:, None], top[:, None] + places[:, 0], left[:, None] + places[:, 1]] = 1.0
    return Shapes(images, present)


class ShapeCounts(NamedTuple):
    """What images hold, column by column.

    Attributes
    ----------
    counts : int ndarray, shape (n, 3, 4)
        Triangles, squares, pentagons and other things in each of the three columns.
    hallucinated : bool ndarray, shape (n,)
        Whether a column holds more than one thing, or one of the wrong kind: no image of :func:`simple_shapes` does.
        An image of nothing is none either, and is told by ``counts``.
    """

    counts: Int[np.ndarray, "n 3 4"]
    hallucinated: Bool[np.ndarray, " n"]


def count_shapes(
    images: Any, *, threshold: float | int = 0.5, least: int = 8, overlap: float | int = 0.7
) -> ShapeCounts:
    """Count the shapes in images like those of :func:`simple_shapes`, generated ones too.

    A thing is a connected set of pixels of one column. Its kind is the shape that, laid on it as well as can be, shares
    the most pixels with it.

    Parameters
    ----------
    images : array or Tensor, shape (n, 64, 64) or (n, 1, 64, 64)
    threshold : float
        Pixels above it are set.
    least : int
        Smaller things are specks, and not counted.
    overlap : float
        Pixels shared over pixels of either, below which a thing is none of the three shapes.
    """
    from scipy.signal import correlate2d  # half a second to import, for this alone

    check_in_range(threshold, "threshold")
    check_in_range(least, "least", low=1, integer=True)
    check_in_range(overlap, "overlap", low=0, high=1)
    pixels = check_numbers(images, "images")
    if pixels.ndim == 4 and pixels.shape[1] == 1:
        pixels = pixels[:, 0]
    if pixels.shape[1:] != (_SIZE, _SIZE):
        raise ValueError(f"images must have shape (n, 64, 64) or (n, 1, 64, 64), got {pixels.shape}")
    stamps = _stamps()
    counts = np.zeros((len(pixels), 3, 4), dtype=np.int64)
    for i, image in enumerate(pixels > threshold):
        for column in range(3):  # neighbours of two columns may touch
            part = image[:, column * _COLUMN : (column + 1) * _COLUMN if column < 2 else _SIZE]
            things = label(part)[0]
            for number, box in enumerate(find_objects(things), 1):
                thing = (things[box] == number).astype(float)
                if thing.sum() >= least:
                    shared = [correlate2d(thing, stamp.astype(float)).max() for stamp in stamps]
                    shares = [s / (thing.sum() + stamp.sum() - s) for s, stamp in zip(shared, stamps)]
                    kind = int(np.argmax(shares)) if max(shares) >= overlap else 3
                    counts[i, column, kind] += 1
    wrong = counts.sum(2) - counts[:, range(3), range(3)]
    return ShapeCounts(counts, (wrong > 0).any(1) | (counts.sum(2) > 1).any(1))


def _stamps() -> list[np.ndarray]:
    """The shapes in their bounding boxes."""
    side, height = _TRIANGLE_SIDE, round(_TRIANGLE_SIDE * np.sqrt(3) / 2)
    square = [(0, 0), (_SQUARE_SIDE, 0), (_SQUARE_SIDE, _SQUARE_SIDE), (0, _SQUARE_SIDE)]
    angles = 2 * np.pi * np.arange(5) / 5 - np.pi / 2
    pentagon = _PENTAGON_RADIUS * np.column_stack([np.cos(angles), np.sin(angles)])
    return [_filled(corners) for corners in ([(side // 2, 0), (side, height), (0, height)], square, pentagon)]


def _filled(corners: Any) -> np.ndarray:
    """The pixels in a convex polygon whose corners, clockwise as (x, y) with y down, are rounded to pixels."""
    corners = np.rint(np.asarray(corners)).astype(int)
    corners -= corners.min(0)
    y, x = np.mgrid[: corners[:, 1].max() + 1, : corners[:, 0].max() + 1]
    edges = zip(corners, np.roll(corners, -1, axis=0))
    return np.all([(b[0] - a[0]) * (y - a[1]) >= (b[1] - a[1]) * (x - a[0]) for a, b in edges], axis=0)


class Outcomes(NamedTuple):
    """Events and how probable they were.

    Attributes
    ----------
    p : ndarray, shape (n,)
    y : int64 ndarray, shape (n,)
        1 where the event took place.
    """

    p: Float[np.ndarray, " n"]
    y: Int[np.ndarray, " n"]


SCENARIOS = ("uniform", "sigmoid", "skewed", "centered", "discrete")


def simulate_outcomes(
    z: ArrayLike,
    scenario: str = "uniform",
    *,
    random_state: RandomState = None,
) -> Outcomes:
    r"""Draw events of a probability that depends on a latent number.

    Parameters
    ----------
    z : array-like, shape (n,)
        In [0, 1], e.g. an age over 100.
    scenario : {"uniform", "sigmoid", "skewed", "centered", "discrete"}
        p = z, 1 / (1 + exp(-25 (z - 0.29))), z / 2.5, z / 3 + 0.35, or 0.1 and 0.2 more above each of 0.2, 0.4, 0.6
        and 0.8.

    Raises
    ------
    ValueError
        Numbers outside [0, 1], or an unknown scenario.
    """
    check_choice(scenario, SCENARIOS, "scenario")
    z = np.asarray(z, dtype=np.float64)
    if z.ndim != 1 or not ((z >= 0) & (z <= 1)).all():
        raise ValueError("z must be a list of numbers between 0 and 1; scale it first")
    p = {
        "uniform": z.copy,  # a caller's array stays the caller's
        "sigmoid": lambda: 1 / (1 + np.exp(-25 * (z - 0.29))),
        "skewed": lambda: z / 2.5,
        "centered": lambda: z / 3 + 0.35,
        "discrete": lambda: 0.1 + 0.2 * (z[:, None] > [0.2, 0.4, 0.6, 0.8]).sum(1),
    }[scenario]()
    return Outcomes(p, (as_generator(random_state).random(len(z)) < p).astype(np.int64))
