"""What estimators answer on uniform balls, computed once and shipped, so that a first call costs nothing.

Two files lie beside this module, both made by ``python -m lodim.geometry.dimension.tables`` (some minutes on one core):

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

__all__ = ["DANCO_K", "ball_answers", "ball_dimensions", "danco_table", "make_ball_table", "make_danco_table"]

_FOLDER = Path(__file__).resolve().parent
DANCO_K = 10
_BALL_SIZES = tuple(round(10**e) for e in (*np.arange(1.5, 5.01, 0.125), *np.arange(5.25, 7.01, 0.25)))
_DANCO_SIZES = tuple(round(10**e) for e in np.arange(1.5, 6.01, 0.25))


@lru_cache(maxsize=1)
def ball_dimensions() -> tuple[int, ...]:
    """Dimensions of the table of calibration: every whole number to 10, then steps of 12 %, then 500."""
    return tuple(sorted({round(1.12**j) for j in range(56)} | set(range(1, 11)) | {500}))


@lru_cache(maxsize=1)
def _ball_splines() -> dict[str, tuple[int, float, float, CubicSpline]]:
    path = _FOLDER / "ball_table.npz"
    found = {}
    with np.load(path) as table:
        for method in table["methods"]:
            sizes, k = table[f"{method}_sizes"], int(table[f"{method}_k"])
            spline = CubicSpline(np.log(sizes), np.log(table[f"{method}_answers"].astype(np.float64)))
            found[str(method)] = (k, float(sizes[0]), float(sizes[-1]), spline)
    return found


@lru_cache(maxsize=1024)
def ball_answers(method: str, n: int, k: int) -> Float[np.ndarray, " dimensions"] | None:
    """What a method answers on balls of :func:`ball_dimensions`, or None if the shipped table does not say.

    Parameters
    ----------
    method : str
    n, k : int
        Points, neighbours.
    """
    if method not in _ball_splines():
        return None
    own_k, low, high, spline = _ball_splines()[method]
    if k != own_k or not low <= n <= high:
        return None
    return np.exp(spline(np.log(n)))


@lru_cache(maxsize=1)
def _danco_spline() -> tuple[float, float, CubicSpline]:
    with np.load(_FOLDER / "danco_table.npz") as table:
        sizes = table["sizes"]
        spline = CubicSpline(np.log(sizes), np.log(table["statistics"].astype(np.float64)))
    return float(sizes[0]), float(sizes[-1]), spline


def danco_table(n: int, k: int) -> Float[np.ndarray, "dimensions 3"] | None:
    """d-hat, nu and eta of balls of dimension 1, 2, ... 100, or None if the shipped table does not say.

    Parameters
    ----------
    n, k : int
        Points, neighbours whose angles are taken.
    """
    low, high, spline = _danco_spline()
    if k != DANCO_K or not low <= n <= high:
        return None
    return np.exp(spline(np.log(n)))


def make_ball_table(path: Path) -> None:
    """Compute and write the table of :func:`ball_answers`.

    Parameters
    ----------
    path : Path
        The file to write.
    """
    from lodim.geometry.dimension.calibration import ball_distances, draws_for
    from lodim.geometry.dimension.methods import GRAPH_METHODS

    columns: dict[str, np.ndarray] = {}
    for k in sorted({chosen.k for chosen in GRAPH_METHODS.values()}):
        methods = [m for m, chosen in GRAPH_METHODS.items() if chosen.k == k]
        sizes = [n for n in _BALL_SIZES if n > k + 1]
        answers = {m: np.empty((len(sizes), len(ball_dimensions()))) for m in methods}
        for i, n in enumerate(sizes):
            for j, d in enumerate(ball_dimensions()):
                dist = ball_distances(d, n, k, draws_for(k))
                for m in methods:
                    chosen = GRAPH_METHODS[m]
                    answers[m][i, j] = chosen.combine(chosen.contributions(dist, k), k, None)
        for m in methods:
            columns |= {f"{m}_k": np.array(k), f"{m}_sizes": np.array(sizes)}
            columns[f"{m}_answers"] = answers[m].astype(np.float32)
    np.savez_compressed(path, methods=np.array(list(GRAPH_METHODS)), **columns)  # type: ignore[arg-type]


def make_danco_table(path: Path) -> None:
    """Compute and write the table of :func:`danco_table`.

    Parameters
    ----------
    path : Path
        The file to write.
    """
    from lodim.geometry.dimension.danco import LARGEST, ball_statistics

    statistics = [[ball_statistics(d, n, DANCO_K) for d in range(1, LARGEST + 1)] for n in _DANCO_SIZES]
    np.savez_compressed(path, sizes=np.array(_DANCO_SIZES), statistics=np.array(statistics, dtype=np.float32))


if __name__ == "__main__":
    make_ball_table(_FOLDER / "ball_table.npz")
    make_danco_table(_FOLDER / "danco_table.npz")
