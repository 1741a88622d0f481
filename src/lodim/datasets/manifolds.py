"""Synthetic data whose intrinsic dimension is known: what estimators are tried on.

Each shape is drawn in its own coordinates, turned into R^D by a random isometry (an orthonormal D x m matrix, so no
distance changes) and, if asked for, blurred by Gaussian noise in all D directions. The shapes are the usual ones of
the field; their list follows M. Hein, J.-Y. Audibert, "Intrinsic dimensionality estimation of submanifolds in R^d"
(ICML 2005) and P. Campadelli et al., "Intrinsic dimension estimation" (Math. Probl. Eng. 2015), section 5.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..randomness import RandomState, as_generator
from ..validation import check_choice, check_counts, check_in_range
from .dataset import Dataset

Shape = Callable[[np.random.Generator, int, int], np.ndarray]


def _sphere(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    points = rng.standard_normal((n, d + 1))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def _ball(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    return _sphere(rng, n, d - 1) * rng.random((n, 1)) ** (1 / d)


def _cube(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    return rng.random((n, d))


def _gaussian(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    return rng.standard_normal((n, d))


def _torus(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    angles = 2 * np.pi * rng.random((n, d))
    return np.hstack([np.cos(angles), np.sin(angles)])


def _paraboloid(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    points = rng.uniform(-1, 1, (n, d))
    return np.hstack([points, (points**2).sum(axis=1, keepdims=True)])


def _swiss_roll(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    angle = 1.5 * np.pi * (1 + 2 * rng.random(n))
    return np.column_stack([angle * np.cos(angle), angle * np.sin(angle), 21 * rng.random((n, d - 1))])


def _helix(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    t = 4 * np.pi * rng.random(n)
    return np.column_stack([np.cos(t), np.sin(t), t / (2 * np.pi)])


def _moebius(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    angle, width = 2 * np.pi * rng.random(n), rng.uniform(-0.5, 0.5, n)
    radius = 1 + width * np.cos(angle / 2)
    return np.column_stack([radius * np.cos(angle), radius * np.sin(angle), width * np.sin(angle / 2)])


_SHAPES: dict[str, tuple[Shape, int, int | None]] = {  # drawer, default d, the only d it has
    "swiss_roll": (_swiss_roll, 2, None),
    "sphere": (_sphere, 5, None),
    "ball": (_ball, 5, None),
    "cube": (_cube, 5, None),
    "gaussian": (_gaussian, 5, None),
    "torus": (_torus, 2, None),
    "paraboloid": (_paraboloid, 3, None),
    "helix": (_helix, 1, 1),
    "moebius": (_moebius, 2, 2),
}
MANIFOLDS = tuple(_SHAPES)


def manifold(
    name: str,
    n: int | np.integer = 2000,
    d: int | np.integer | None = None,
    D: int | np.integer | None = None,
    *,
    noise: int | float | np.floating = 0.0,
    random_state: RandomState = None,
) -> Dataset:
    """Draw n points on a shape of known dimension, the data set's ``dimension``.

    Parameters
    ----------
    name : str
        One of :data:`MANIFOLDS`: ``swiss_roll`` (d - 1 straight directions), ``sphere`` (the surface, in d + 1
        coordinates), ``ball``, ``cube``, ``gaussian``, ``torus`` (flat, in 2d coordinates), ``paraboloid``, ``helix``
        (d = 1), ``moebius`` (d = 2).
    d : int, optional
        Intrinsic dimension; a shape's usual one by default.
    D : int, optional
        Columns, by default four times the coordinates the shape itself needs.
    noise : float
        Standard deviation of the noise in each of the D directions.

    Raises
    ------
    ValueError
        Unknown shape, a dimension it does not have, or too few columns for it.
    """
    check_choice(name, MANIFOLDS, "name")
    draw, usual, only = _SHAPES[name]
    d = usual if d is None else d
    check_counts(n=n, d=d)
    check_in_range(noise, "noise", low=0)
    if only is not None and d != only:
        raise ValueError(f"{name} has dimension {only}, got d={d}")
    rng = as_generator(random_state)
    points = draw(rng, int(n), int(d))
    m = points.shape[1]
    D = 4 * m if D is None else D
    check_in_range(D, "D", low=m, integer=True)
    isometry, _ = np.linalg.qr(rng.standard_normal((int(D), m)))
    X = points @ isometry.T
    if noise:
        X = X + noise * rng.standard_normal(X.shape)
    said = f"{name} of dimension {d} in {D} columns" + (f", noise {noise:g}" if noise else "")
    return Dataset(X=X, name=name, notes=(said,), dimension=int(d))
