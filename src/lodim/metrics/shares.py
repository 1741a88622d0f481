"""What a share that was counted says of the share behind it."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import norm

from lodim.validation import check_in_range, check_numbers, checked

__all__ = ["wilson_interval"]


@checked
def wilson_interval(successes: Any, trials: Any, *, ci: float | int = 0.95) -> tuple[Any, Any]:
    """Return the low and the high end of Wilson's interval of a share, or of each of several; of no trials (0, 1).

    Parameters
    ----------
    successes, trials : int or array-like
        Counts, of shapes that broadcast.

    Raises
    ------
    ValueError
        Counts below 0, more successes than trials, or ``ci`` outside (0, 1).

    References
    ----------
    E. B. Wilson, Probable inference, the law of succession, and statistical inference, 1927.

    Examples
    --------
    >>> low, high = wilson_interval(9, 10)
    >>> round(low, 3), round(high, 3)
    (0.596, 0.982)
    """
    check_in_range(ci, "ci", low=1e-6, high=1 - 1e-6)
    k, n = check_numbers(successes, "successes"), check_numbers(trials, "trials")
    if not ((k >= 0) & (k <= n)).all():  # NaN neither
        raise ValueError("successes must lie between 0 and trials")
    z = float(norm.ppf((1 + ci) / 2))
    centre = (k + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * np.sqrt(k * (n - k) / np.maximum(n, 1) + z**2 / 4)
    # where all or none succeed an end is that of the range, but for rounding
    low, high = np.where(k == 0, 0.0, centre - half), np.where(k == n, 1.0, centre + half)
    return (low.item(), high.item()) if low.ndim == 0 else (low, high)
