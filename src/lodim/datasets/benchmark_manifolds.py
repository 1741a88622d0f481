"""The 24 manifolds that estimators of intrinsic dimension are compared on.

The list grew over two papers: Hein and Audibert 2005 (M1 to M13, "Intrinsic dimensionality estimation of submanifolds
in R^d") and Campadelli et al. 2015 (Mbeta, Mn, Mp, "Intrinsic dimension estimation: relevant techniques and a benchmark
framework", Math. Probl. Eng.); Rozza et al. 2012 added the cubes of higher dimension. The formulas are theirs; u
is uniform on [0, 1]^d below, everything is drawn anew from ``random_state``.

=============== == === ===============================================================================================
name            d  D   points
=============== == === ===============================================================================================
M1_Sphere       10 11  uniform on the unit sphere
M2_Affine_3to5  3  5   A (4u) + b, a fixed affine map
M3_Nonlinear    4  6   u_1^2 cos 2 pi u_0, u_2^2 sin 2 pi u_0, and quadratic polynomials: nearly three-dimensional
M4, M6, M8      4, 6,  u_{i+1} (cos 2 pi u_i, sin 2 pi u_i), repeated: D = 8, 36, 72
                12
M5a_Helix1d     1  3   a curve winding eight times around a torus
M5b_Helix2d     2  3   helicoid: r cos p, r sin p, p / 2
M7_Roll         2  3   Swiss roll
M9_Affine       20 20  the cube [-2.5, 2.5]^20
M10a..d_Cubic   10 to  the faces of a cube of dimension d + 1, equally many points on each
                70
M11_Moebius     2  3   a band with ten half turns
M12_Norm        20 20  standard normal
M13a_Scurve     2  3   S-shaped sheet
M13b_Spiral     1  13  flat helix, 100 wide and 10 pi high
Mbeta           10 40  Beta(10, 1/2) coordinates, x sin cos 2 pi x and x cos sin 2 pi x, twice
Mn1, Mn2        18, 24 tan(u_i cos u_{d-1-i}) and arctan(u_{d-1-i} sin u_i), twice: D = 72, 96
Mp1, Mp2, Mp3   3, 6,  1/(1 + e_i/e_0), a Burr law, its sum of squares; with their sines and squares: D = 3 (d + 1)
                9
=============== == === ===============================================================================================
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..randomness import RandomState, as_generator
from ..validation import check_choice, check_in_range
from .dataset import Dataset

Draw = Callable[[np.random.Generator, int, int, int], np.ndarray]
TWO_PI = 2 * np.pi


def _sphere(rng: np.random.Generator, n: int, d: int, D: int) -> np.ndarray:
    points = rng.standard_normal((n, d + 1))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def _affine_3to5(rng: np.random.Generator, n: int, d: int, D: int) -> np.ndarray:
    A = np.array([[1.2, -0.5, 0], [0.5, 0.9, 0], [-0.5, -0.2, 1], [0.4, -0.9, -0.1], [1.1, -0.3, 0]])
    return 4 * rng.random((n, d)) @ A.T + np.array([3, -1, 0, 0, 8])


def _nonlinear_4to6(rng: np.random.Generator, n: int, d: int, D: int) -> np.ndarray:
    a, b, c, e = rng.random((d, n))
    return np.column_stack(
        [
            b**2 * np.cos(TWO_PI * a),
            c**2 * np.sin(TWO_PI * a),
            b + c + (b - e) ** 2,
            b - 2 * c + (a - e) ** 2,
            -b - 2 * c + (c - e) ** 2,
            a**2 - b**2 + c**2 - e**2,
        ]
    )


def _nonlinear(rng: np.random.Generator, n: int, d: int, D: int) -> np.ndarray:
    u = rng.random((n, d))
    following = np.roll(u, -1, axis=1)
    pairs = np.stack([following * np.cos(TWO_PI * u), following * np.sin(TWO_PI * u)], 2)
    return np.tile(pairs.reshape(n, 2 * d), D // (2 * d))


def _helix_1d(rng: np.random.Generator, n: int, d: int, D: int) -> np.ndarray:
    t = TWO_PI * rng.random(n)
    radius = 2 + np.cos(8 * t)
    return np.column_stack([radius * np.cos(t), radius * np.sin(t), np.sin(8 * t)])


def _helix_2d(rng: np.random.Generator, n: int, d: int, D: int) -> np.ndarray:
    r, p = 10 * np.pi * rng.random((2, n))
    return np.column_stack([r * np.cos(p), r * np.sin(p), p / 2])


def _roll(rng: np.random.Generator, n: int, d: int, D: int) -> np.ndarray:
    t = 1.5 * np.pi * (1 + 2 * rng.random(n))
    return np.column_stack([t * np.cos(t), 21 * rng.random(n), t * np.sin(t)])


def _cube(rng: np.random.Generator, n: int, d: int, D: int) -> np.ndarray:
    return 5 * rng.random((n, d)) - 2.5


def _faces(rng: np.random.Generator, n: int, d: int, D: int) -> np.ndarray:
    points = rng.random((n, d + 1))
    face = np.arange(n) * (2 * d + 2) // n
    points[np.arange(n), face // 2] = face % 2
    return points


def _moebius(rng: np.random.Generator, n: int, d: int, D: int) -> np.ndarray:
    angle, width = TWO_PI * rng.random(n), rng.random(n) - 0.5
    radius = 1 + width * np.cos(5 * angle)
    return np.column_stack([radius * np.cos(angle), radius * np.sin(angle), width * np.sin(5 * angle)])


def _normal(rng: np.random.Generator, n: int, d: int, D: int) -> np.ndarray:
    return rng.standard_normal((n, d))


def _scurve(rng: np.random.Generator, n: int, d: int, D: int) -> np.ndarray:
    t = 3 * np.pi * (rng.random(n) - 0.5)
    return np.column_stack([np.sin(t), 2 * rng.random(n), np.sign(t) * (np.cos(t) - 1)])


def _spiral(rng: np.random.Generator, n: int, d: int, D: int) -> np.ndarray:
    t = 10 * np.pi * rng.random(n)
    return np.column_stack([100 * np.cos(t), 100 * np.sin(t), t, np.zeros((n, D - 3))])


def _beta(rng: np.random.Generator, n: int, d: int, D: int) -> np.ndarray:
    x = rng.beta(10, 0.5, size=(n, d))
    twisted = np.hstack([x * np.sin(np.cos(TWO_PI * x)), x * np.cos(np.sin(TWO_PI * x))])
    return np.hstack([twisted, twisted])


def _tangents(rng: np.random.Generator, n: int, d: int, D: int) -> np.ndarray:
    u = rng.random((n, d))
    mirrored = u[:, ::-1]
    twisted = np.hstack([np.tan(u * np.cos(mirrored)), np.arctan(mirrored * np.sin(u))])
    return np.hstack([twisted, twisted])


def _paraboloid(rng: np.random.Generator, n: int, d: int, D: int) -> np.ndarray:
    e = rng.exponential(size=(n, d + 1))
    x = 1 / (1 + e[:, 1:] / e[:, :1])
    x = np.hstack([x, (x**2).sum(1, keepdims=True)])
    return np.hstack([x, np.sin(x), x**2])


_MANIFOLDS: dict[str, tuple[int, int, Draw]] = {
    "M1_Sphere": (10, 11, _sphere),
    "M2_Affine_3to5": (3, 5, _affine_3to5),
    "M3_Nonlinear_4to6": (4, 6, _nonlinear_4to6),
    "M4_Nonlinear": (4, 8, _nonlinear),
    "M5a_Helix1d": (1, 3, _helix_1d),
    "M5b_Helix2d": (2, 3, _helix_2d),
    "M6_Nonlinear": (6, 36, _nonlinear),
    "M7_Roll": (2, 3, _roll),
    "M8_Nonlinear": (12, 72, _nonlinear),
    "M9_Affine": (20, 20, _cube),
    "M10a_Cubic": (10, 11, _faces),
    "M10b_Cubic": (17, 18, _faces),
    "M10c_Cubic": (24, 25, _faces),
    "M10d_Cubic": (70, 71, _faces),
    "M11_Moebius": (2, 3, _moebius),
    "M12_Norm": (20, 20, _normal),
    "M13a_Scurve": (2, 3, _scurve),
    "M13b_Spiral": (1, 13, _spiral),
    "Mbeta": (10, 40, _beta),
    "Mn1_Nonlinear": (18, 72, _tangents),
    "Mn2_Nonlinear": (24, 96, _tangents),
    "Mp1_Paraboloid": (3, 12, _paraboloid),
    "Mp2_Paraboloid": (6, 21, _paraboloid),
    "Mp3_Paraboloid": (9, 30, _paraboloid),
}
BENCHMARK_MANIFOLDS = tuple(_MANIFOLDS)


def benchmark_manifold(
    name: str,
    n: int | np.integer = 2500,
    *,
    noise: int | float | np.floating = 0.0,
    random_state: RandomState = None,
) -> Dataset:
    """Draw points on one of the 24 benchmark manifolds, :data:`BENCHMARK_MANIFOLDS`.

    ``noise`` is the width of uniform noise added to every column. The data set's ``dimension`` is the manifold's.

    Raises
    ------
    ValueError
        Unknown name, or not one point.

    Examples
    --------
    >>> from lodim.datasets import benchmark_manifold
    >>> data = benchmark_manifold("M7_Roll", 500, random_state=0)
    >>> data.X.shape, data.dimension
    ((500, 3), 2)
    """
    check_choice(name, BENCHMARK_MANIFOLDS, "name")
    check_in_range(n, "n", low=1, integer=True)
    check_in_range(noise, "noise", low=0)
    d, D, draw = _MANIFOLDS[name]
    rng = as_generator(random_state)
    X = draw(rng, int(n), d, D)
    if noise:
        X = X + noise * (rng.random(X.shape) - 0.5)
    return Dataset(X=X, name=name, notes=(f"{name} of dimension {d} in {D} columns",), dimension=d)
