"""The short answer for a data set: would a density value mean anything?

The regime of :mod:`lodim.geometry.kde.regime` at the bandwidth of the largest leave-one-out likelihood, in words.
Theory: Biroli and Mezard 2024, arXiv 2408.05807.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lodim.geometry.kde.estimator import HighDimKDE
from lodim.geometry.kde.regime import MEANING
from lodim.geometry.kde.theory import regime_of
from lodim.randomness import RandomState
from lodim.results import Result

__all__ = ["DensityRegime", "density_regime"]


@dataclass(frozen=True)
class DensityRegime(Result):
    """Whether a density value would mean anything for this many points in this many dimensions.

    Attributes
    ----------
    n, d : int
        Distinct points, and dimensions.
    alpha : float
        log(n) / d.
    bandwidth : float
        The best one (leave-one-out).
    regime : str
        At that bandwidth: ``"condensed"``, ``"stable"``, ``"clt"``, or ``"undetermined"``.
    meaning : str
        The same in words.
    n_eff : float
        Points that contribute to a value, median over the queries.
    h_g, h_clt : float
        Thresholds from the points; a tenth to a fifth too high at tens of dimensions.
    h_g_gaussian, h_clt_gaussian : float
        Thresholds for Gaussian data of the same covariance, d to infinity.
    n_queries : int
    """

    n: int
    d: int
    alpha: float
    bandwidth: float
    regime: str
    meaning: str
    n_eff: float
    h_g: float
    h_clt: float
    h_g_gaussian: float
    h_clt_gaussian: float
    n_queries: int

    @property
    def meaningful(self) -> bool:
        """Whether the values average over points at all: every regime but the condensed one."""
        return self.regime in ("stable", "clt")

    def __str__(self) -> str:
        resting = f"{self.n_eff:,.0f}" if self.n_eff >= 10 else f"{self.n_eff:.1f}"
        return (
            f"density of {self.n:,} points in {self.d} dimensions: at the best bandwidth ({self.bandwidth:.3g}) "
            f"a value rests on {resting} points ({self.regime}); it is {self.meaning}. An average over points would "
            f"need a bandwidth above {self.h_g:.3g}, the central limit theorem one above {self.h_clt:.3g} "
            "(measured; a tenth to a fifth too high at tens of dimensions)."
        )


def density_regime(X: Any, *, n_queries: int = 500, random_state: RandomState = 0) -> DensityRegime:
    """Say whether a density value means anything for these points: the regime at the best bandwidth.

    Parameters
    ----------
    X : array-like or Tensor, shape (n_samples, n_features)
    n_queries : int
        Points to try bandwidths on; a value's cost grows with it.
    random_state : int, Generator or None

    Returns
    -------
    DensityRegime

    Raises
    ------
    ValueError
        Fewer than two distinct rows.

    References
    ----------
    Biroli and Mezard 2024, arXiv 2408.05807.

    Examples
    --------
    >>> import numpy as np
    >>> from lodim.geometry import density_regime
    >>> rng = np.random.default_rng(0)
    >>> density_regime(rng.normal(size=(3000, 1))).regime, density_regime(rng.normal(size=(3000, 40))).regime
    ('clt', 'condensed')
    """
    kde = HighDimKDE("loo", n_queries=n_queries, random_state=random_state).fit(X)
    curves, theory = kde.curves_, kde.theory()
    assert curves is not None
    known = np.isfinite(curves.y2)
    y2 = float(np.interp(np.log(kde.bandwidth_), np.log(curves.h[known]), curves.y2[known]))
    mu = (kde.bandwidth_ / kde.h_g_) ** 2
    regime = regime_of(mu) if mu == mu else "undetermined"
    return DensityRegime(
        n=kde.n_points_, d=kde._points.d, alpha=kde.alpha_, bandwidth=kde.bandwidth_, regime=regime,
        meaning=MEANING[regime], n_eff=1 / y2, h_g=kde.h_g_, h_clt=kde.h_clt_, h_g_gaussian=theory.h_g,
        h_clt_gaussian=theory.h_clt, n_queries=len(kde._points.queries),
    )  # fmt: skip
