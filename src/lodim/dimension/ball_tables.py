"""What estimators answer on uniform balls, computed once and shipped, so that a first call costs nothing.

Two files lie beside this module, both made by ``python -m lodim.dimension.make_ball_tables`` (some minutes on one
core):

- ``ball_table.npz``: ``expected_on_ball(method, d, n, k)`` for every estimator of neighbour distances at its own k;
- ``danco_table.npz``: ``ball_statistics(d, n, k)`` (d-hat, nu, eta) for k = 10.

Between the values of n of a table its logarithm is splined in log n, which is right to a tenth of a per cent. What a
table does not hold (another k, another way of putting points together, n outside) is computed on the spot by the same
functions.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.interpolate import CubicSpline

FOLDER = Path(__file__).resolve().parent
DANCO_K = 10


@lru_cache(maxsize=1)
def ball_dimensions() -> tuple[int, ...]:
    """Dimensions of the table of calibration: every whole number to 10, then steps of 12 %, then 500."""
    return tuple(sorted({round(1.12**j) for j in range(56)} | set(range(1, 11)) | {500}))


@lru_cache(maxsize=1)
def _ball_splines() -> dict[str, tuple[int, float, float, CubicSpline]]:
    path = FOLDER / "ball_table.npz"
    found = {}
    with np.load(path) as table:
        for method in table["methods"]:
            sizes, k = table[f"{method}_sizes"], int(table[f"{method}_k"])
            spline = CubicSpline(np.log(sizes), np.log(table[f"{method}_answers"].astype(np.float64)))
            found[str(method)] = (k, float(sizes[0]), float(sizes[-1]), spline)
    return found


@lru_cache(maxsize=1024)
def ball_answers(method: str, n: int, k: int) -> Float[np.ndarray, " dimensions"] | None:
    """What a method answers on balls of :func:`ball_dimensions`, or None if the shipped table does not say."""
    if method not in _ball_splines():
        return None
    own_k, low, high, spline = _ball_splines()[method]
    if k != own_k or not low <= n <= high:
        return None
    return np.exp(spline(np.log(n)))


@lru_cache(maxsize=1)
def _danco_spline() -> tuple[float, float, CubicSpline]:
    with np.load(FOLDER / "danco_table.npz") as table:
        sizes = table["sizes"]
        spline = CubicSpline(np.log(sizes), np.log(table["statistics"].astype(np.float64)))
    return float(sizes[0]), float(sizes[-1]), spline


def danco_table(n: int, k: int) -> Float[np.ndarray, "dimensions 3"] | None:
    """d-hat, nu and eta of balls of dimension 1, 2, ... 100, or None if the shipped table does not say."""
    low, high, spline = _danco_spline()
    if k != DANCO_K or not low <= n <= high:
        return None
    return np.exp(spline(np.log(n)))
