"""What every search for neighbours settles first: which rows it starts from, and a unit whose squares are safe."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from lodim.linalg.precision import power_of_two
from lodim.validation import check_in_range, plain_array

__all__ = ["choose_queries", "in_own_unit", "safe_scale"]


def safe_scale(X: Float[np.ndarray, "n features"]) -> float:
    """A power of two that keeps squared distances from under- and overflow; 1 for ordinary data.

    Instead of the data, rows between whose extremes they lie will do.
    """
    half = float((X.max(0).astype(np.float64) / 2 - X.min(0).astype(np.float64) / 2).max())
    ordinary = (1e-12, 1e12) if X.dtype == np.float32 else (1e-100, 1e100)
    if half == 0 or ordinary[0] < half < ordinary[1]:
        return 1.0
    return min(2 * power_of_two(half), 2.0**1023)


def in_own_unit(dist: Float[np.ndarray, "n_q k"], scale: int | float) -> Float[np.ndarray, "n_q k"]:
    """Distances of data that were divided by ``scale`` in the data's own unit; a ValueError if they overflow there."""
    with np.errstate(over="ignore"):
        own = dist * scale
    if np.isinf(own).any() and not np.isinf(dist).any():
        raise ValueError(
            "distances between rows are beyond the range of numbers; divide the data by a constant"
        )
    return own


def choose_queries(
    query: Any,
    kept: Int[np.ndarray, " m"],
    twin: Int[np.ndarray, " n"],
    rng: np.random.Generator,
    name: str = "query",
) -> Int[np.ndarray, " n_q"]:
    """Rows to search from: all (None), so many of the distinct rows ``kept`` at random, or these.

    ``twin`` holds the first row equal to each row.
    """
    if query is None:
        return kept
    if isinstance(query, int | np.integer):
        check_in_range(query, name, low=1, integer=True)
        if query >= len(kept):
            return kept
        return np.sort(rng.choice(kept, size=int(query), replace=False))
    rows = plain_array(query, name)
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or not len(rows):
        raise ValueError(f"{name} must be a count or a 1-D array of row numbers")
    if rows.min() < 0 or rows.max() >= len(twin):
        raise ValueError(f"{name} has rows outside 0 ... {len(twin) - 1}")
    return np.unique(twin[rows])
