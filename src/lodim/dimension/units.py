"""A unit of length in which no estimator's arithmetic leaves the range of numbers.

A dimension does not depend on the unit, but its arithmetic does: areas of triangles are fourth powers of distances,
which vanish below 1e-81 and overflow above 1e77. Data of such an extent are divided by a power of two, which changes no
digit of them; ordinary data stay as they are.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

_ORDINARY = {"float32": (1e-12, 1e12), "float64": (1e-30, 1e30)}


def safe_unit(X: Float[np.ndarray, "n features"]) -> float:
    """A power of two near the largest extent of a column; 1 for data of ordinary extent.

    Parameters
    ----------
    X : ndarray, shape (n, n_features)
        float32 or float64, finite.
    """
    half = float((X.max(0).astype(np.float64) / 2 - X.min(0).astype(np.float64) / 2).max())
    low, high = _ORDINARY[str(X.dtype)]
    return 1.0 if half == 0 or low < half < high else float(np.ldexp(1.0, int(np.frexp(half)[1]) - 1))
