"""Several tests at once: which of them still count when all are to be believed together."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from lodim.validation import check_numbers, checked

__all__ = ["holm"]


@checked
def holm(p_values: Any) -> Float[np.ndarray, " m"]:
    """Adjust p-values of m tests for being read together: those below a level are all true but with that chance.

    In ascending order the i-th is multiplied by m - i + 1, and none is less than one before it. Whatever the
    dependence of the tests, the chance of a false alarm among those below a level is at most that level.

    Parameters
    ----------
    p_values : array-like, shape (m,)

    Raises
    ------
    ValueError
        Another shape, or values outside [0, 1].

    References
    ----------
    S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6 (1979).

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    p = check_numbers(p_values, "p_values")
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p_values must be numbers in [0, 1], shape (m,), got shape {p.shape}")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted
