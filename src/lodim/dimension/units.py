"""A unit of length in which no estimator's arithmetic leaves the range of numbers.

A dimension does not depend on the unit, but its arithmetic does: areas of triangles are fourth powers of distances,
which vanish below 1e-81 and overflow above 1e77. Data of such an extent are divided by a power of two, which changes no
digit of them; ordinary data stay as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from lodim.linalg.precision import power_of_two
from lodim.validation import check_matrix

_ORDINARY = {"float32": (1e-12, 1e12), "float64": (1e-30, 1e30)}


def read_points(X: Any) -> np.ndarray:
    """The rows as a matrix, in single precision where they come so, else in double."""
    single = str(getattr(X, "dtype", "")).removeprefix("torch.") == "float32"
    return check_matrix(X, min_rows=2, dtype=np.float32 if single else np.float64)


def in_safe_unit(X: Any, data: np.ndarray) -> tuple[Any, np.ndarray, float]:
    """What to search neighbours in (a tensor stays one), the data, both in a safe unit, and the unit."""
    source, unit = X if hasattr(X, "device") else data, safe_unit(data)
    return (source, data, unit) if unit == 1.0 else (source / unit, data / unit, unit)


def safe_unit(X: Float[np.ndarray, "n features"]) -> float:
    """A power of two near the largest extent of a column of finite floats; 1 for data of ordinary extent."""
    half = float((X.max(0).astype(np.float64) / 2 - X.min(0).astype(np.float64) / 2).max())
    low, high = _ORDINARY[str(X.dtype)]
    return power_of_two(half, low, high)
