"""The short answer for a data set: would a density value mean anything?

The regime of :mod:`lodim.geometry.high_dimensional_kde.regime` at the bandwidth of the largest leave-one-out
likelihood, in words. Theory: Biroli and Mezard 2024, arXiv 2408.05807.

The regime is that of the tail index ``(bandwidth / h_G)^2``, whose borders are 1 and 2; a border inside the index's
interval leaves the regime undetermined. Bandwidth and threshold are had again from each quarter of the queries, and
the index's logarithm lies as far from it as Student's law with three degrees of freedom allows. From ten dimensions on
it may be higher besides, since there measured thresholds are too high: on normal data by 1.29 in 10 dimensions, 1.20 in
20, 1.15 in 40 and 1.10 in 80 (500 and 3,000 points), which is 1 + 0.92 / sqrt(d); d is here the participation ratio of
the covariance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from lodim.geometry.high_dimensional_kde import bandwidth as rules
from lodim.geometry.high_dimensional_kde.estimator import HighDimKDE
from lodim.geometry.high_dimensional_kde.regime import MEANING, measured_regime
from lodim.randomness import RandomState
from lodim.results import Result
from lodim.validation import check_matrix, checked

_PARTS, _STUDENT = 4, 3.182  # 97.5 % quantile with three degrees of freedom
_MANY_DIMENSIONS, _TOO_HIGH = 10, 0.92


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
        Thresholds from the points; a tenth to a fifth too high at tens of dimensions. NaN where there is none.
    h_g_is_bound : bool
        Whether they are upper bounds: many points are equally near, so that several decide at every bandwidth.
    tail_interval : tuple of float or None
        Nominal 95 % interval of the tail index ``(bandwidth / h_g)^2``; None where it has none.
    h_g_gaussian, h_clt_gaussian : float
        Thresholds for Gaussian data of the same covariance, d to infinity.
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
    h_g_is_bound: bool = False
    tail_interval: tuple[float, float] | None = None

    @property
    def meaningful(self) -> bool:
        """Whether the values average over points at all: every regime but the condensed one."""
        return self.regime in ("stable", "clt")

    def __str__(self) -> str:
        resting = f"{self.n_eff:,.0f}" if self.n_eff >= 10 else f"{self.n_eff:.1f}"
        return (
            f"density of {self.n:,} points in {self.d} dimension{'s' * (self.d != 1)}: at the best bandwidth "
            f"({self.bandwidth:.3g}) a value rests on {resting} point{'s' * (resting != '1.0')} ({self.regime}); it is "
            f"{self.meaning}.{self._thresholds()}"
        )

    def _thresholds(self) -> str:
        """Where the other regimes are, in words."""
        if self.h_g != self.h_g:
            return ""
        how = "measured; a tenth to a fifth too high at tens of dimensions" if self.d >= 10 else "measured"
        if self.h_g_is_bound:
            return f" Few points would decide at bandwidths of at most {self.h_g:.3g}, if at any."
        if self.regime == "condensed":
            return (
                f" An average over points would need a bandwidth above {self.h_g:.3g}, the central limit theorem one "
                f"above {self.h_clt:.3g} ({how})."
            )
        if self.regime == "stable":
            return (
                f" Few points would decide below {self.h_g:.3g}; the central limit theorem would need a bandwidth "
                f"above {self.h_clt:.3g} ({how})."
            )
        return f" Few points would decide below {self.h_g:.3g} ({how})."


@checked
def density_regime(X: Any, *, n_queries: int = 500, random_state: RandomState = 0) -> DensityRegime:
    """Say whether a density value means anything for these points: the regime at the best bandwidth.

    Parameters
    ----------
    X : array-like or Tensor, shape (n_samples, n_features)
    n_queries : int
        Points to try bandwidths on; a value's cost grows with it.

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
    data = check_matrix(X)
    if (data == data[0]).all():
        raise ValueError(f"a regime needs at least 2 distinct rows, got {len(data):,} equal to the first")
    kde = HighDimKDE("loo", n_queries=n_queries, random_state=random_state).fit(X)
    curves, theory = kde.curves_, kde.theory()
    assert curves is not None
    known = np.isfinite(curves.y2)
    y2 = float(np.interp(np.log(kde.bandwidth_), np.log(curves.h[known]), curves.y2[known]))
    mu = (kde.bandwidth_ / kde.h_g_) ** 2
    regime, ends = measured_regime(mu, kde.h_g_is_bound_), None
    if not kde.h_g_is_bound_ and (ends := _tail_interval(kde, mu)) is not None:
        reached = {measured_regime(end, False) for end in ends}
        regime = reached.pop() if len(reached) == 1 else "undetermined"
    return DensityRegime(
        n=kde.n_points_, d=kde._points.d, alpha=kde.alpha_, bandwidth=kde.bandwidth_, regime=regime,
        meaning=MEANING[regime], n_eff=1 / y2, h_g=kde.h_g_, h_clt=kde.h_clt_, h_g_gaussian=theory.h_g,
        h_clt_gaussian=theory.h_clt, n_queries=len(kde._points.queries), h_g_is_bound=kde.h_g_is_bound_,
        tail_interval=ends,
    )  # fmt: skip


def _tail_interval(kde: HighDimKDE, index: float) -> tuple[float, float] | None:
    """Where the tail index may lie, from quarters of the queries; None where one of them shows no threshold."""
    points = kde._points
    if math.isnan(index) or len(points.queries) < 10 * _PARTS:
        return None
    order = np.random.default_rng(0).permutation(points.queries)
    logs = []
    for i in range(_PARTS):
        part = replace(points, queries=np.sort(order[i::_PARTS]))
        curves = rules.survey(part)
        best = rules.maximise(partial(rules.leave_one_out, part), curves.h, curves.loo)
        logs.append(2 * math.log(best / curves.condensation(2)))
    error = _STUDENT * float(np.std(logs, ddof=1)) / math.sqrt(_PARTS)
    if math.isnan(error):
        return None
    higher = 1.0
    if points.d >= _MANY_DIMENSIONS:
        spectrum = rules.spectrum_of(points)
        directions = max(_MANY_DIMENSIONS, spectrum.sum() ** 2 / (spectrum**2).sum())
        higher = (1 + _TOO_HIGH / math.sqrt(directions)) ** 2
    return index * math.exp(-error), index * math.exp(error) * higher
