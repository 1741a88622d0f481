"""What a density value rests on: how many points really contribute, and in which of three regimes the estimate is.

The shares ``p_i`` of the points in the sum at x say it for each query: ``n_eff = 1 / sum p_i^2`` points contribute, or
``exp(entropy)`` of them, ``entropy = -sum p_i log p_i``. The tail index mu of the terms themselves is estimated at each
query by Hill's estimator on its largest terms, and for the whole estimate as ``(h / h_G)^q`` (q = 2 for a Gaussian
kernel, 1 for an exponential one) with the threshold h_G from the points' shares. Theory: :mod:`.theory`; source:
Biroli and Mezard 2024, arXiv 2408.05807.

Both are biased at finite size, in known directions: the threshold from data comes out a tenth to a fifth too high at
tens of dimensions, and Hill's index too low, since its terms reach further into the bulk than the very nearest points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from lodim.geometry.high_dimensional_kde.theory import REGIMES, regime_of
from lodim.results import Result

MEANING = {
    "clt": "an average over many points: the value means what it says, up to ordinary sampling error",
    "stable": "an average with heavy tails: right in its order of magnitude, but single points move it",
    "condensed": "decided by the few nearest points: a monotone function of their distances, not an average",
    "undetermined": "of unknown kind: the points are too few, or too evenly spaced at this bandwidth, to tell",
}


def measured_regime(tail_index: float, is_bound: bool) -> str:
    """Name the regime of a measured tail index, ``"undetermined"`` where it is NaN or leaves that open.

    Of a lower bound nothing but ``"clt"`` can be told.
    """
    if tail_index != tail_index or (is_bound and tail_index <= 2):
        return "undetermined"
    return regime_of(tail_index)


def hill_index(log_terms: Float[np.ndarray, "n_q k"]) -> Float[np.ndarray, " n_q"]:
    """Hill's tail index from the logarithms of the k >= 3 largest terms, descending; the last is the threshold."""
    gaps = log_terms[:, :-1].mean(1) - log_terms[:, -1]
    # (k - 2) / (k - 1) makes the inverse of a mean of k - 1 exponential gaps unbiased
    ratio = (log_terms.shape[1] - 2) / (log_terms.shape[1] - 1)
    return np.divide(ratio, gaps, out=np.full(len(gaps), np.inf), where=gaps > 0)


@dataclass(frozen=True)
class KDERegime(Result):
    """Diagnosis of a kernel density estimate, query by query and as a whole. alpha is log(n) / d for
    n distinct points in d dimensions.

    Attributes
    ----------
    h_g, h_clt : float
        Thresholds measured on the points; NaN where they cannot be.
    h_g_is_bound : bool
        Whether they are upper bounds, and ``tail_index`` a lower one: several points decide at every bandwidth.
    h_g_theory, h_clt_theory, h_opt_theory : float
        The same and the best bandwidth for Gaussian data of the same covariance, d to infinity.
    tail_index : float
        ``(bandwidth / h_g)^q``.
    regime : str
        ``"condensed"``, ``"stable"``, ``"clt"``, or ``"undetermined"``.
    n_eff : ndarray, shape (n_queries,)
        ``1 / sum p_i^2``.
    entropy : ndarray, shape (n_queries,)
        ``-sum p_i log p_i``, in nats.
    hill : ndarray, shape (n_queries,)
        Tail index from the largest terms at each query.
    """

    bandwidth: float
    n: int
    d: int
    alpha: float
    h_g: float
    h_clt: float
    h_g_theory: float
    h_clt_theory: float
    h_opt_theory: float
    tail_index: float
    regime: str
    log_density: Float[np.ndarray, " n_queries"]
    n_eff: Float[np.ndarray, " n_queries"]
    entropy: Float[np.ndarray, " n_queries"]
    hill: Float[np.ndarray, " n_queries"]
    h_g_is_bound: bool = False

    @property
    def share_squared(self) -> float:
        """Mean over the queries of ``sum p_i^2``; 1 - mu is expected in the condensed regime."""
        return float(np.mean(1 / self.n_eff))

    @property
    def regimes(self) -> tuple[str, ...]:
        """Regime of every query by its own Hill index."""
        return tuple(regime_of(float(mu)) for mu in self.hill)

    def to_frame(self) -> Any:
        """Return one row for each query: log_density, n_eff, entropy, hill, regime."""
        import pandas as pd

        columns = {name: getattr(self, name) for name in ("log_density", "n_eff", "entropy", "hill")}
        return pd.DataFrame({**columns, "regime": self.regimes})

    def plot(self, ax: Any = None) -> Any:
        """Draw the log density against the number of points it rests on, and return the matplotlib axes."""
        from matplotlib.ticker import LogLocator, NullFormatter

        from lodim.plots import COLORS, new_axes

        ax = new_axes(ax)
        named = np.array(self.regimes)
        for regime, color in zip(REGIMES, (COLORS[1], COLORS[4], COLORS[2]), strict=True):
            mine = named == regime
            if mine.any():
                label = f"{regime} ({mine.mean():.0%} of the queries)"
                ax.plot(self.n_eff[mine], self.log_density[mine], ".", color=color, alpha=0.6, label=label)
        ax.set(xscale="log", xlabel="points that contribute, n_eff", ylabel="log density")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_title(
            f"h = {self.bandwidth:.3g}: {self.regime} (h_G = {self.h_g:.3g}, h_CLT = {self.h_clt:.3g})"
        )
        ax.legend()
        return ax

    def __str__(self) -> str:
        high = " (a tenth to a fifth too high at tens of dimensions)" * (
            self.d >= 10 and self.h_g == self.h_g
        )
        most, least = ("at most ", "at least ") if self.h_g_is_bound else ("", "")
        index = f"{least}{self.tail_index:.3g} from h_G" if self.h_g == self.h_g else "unknown from h_G"
        thresholds = f"h_G {most}{self.h_g:.4g}, h_CLT {most}{self.h_clt:.4g}{high}"
        return "\n".join(
            (
                f"kernel density of {self.n:,} points in {self.d} dimension{'s' * (self.d != 1)} "
                f"(alpha = {self.alpha:.3g}), bandwidth {self.bandwidth:.4g}: {self.regime}",
                f"  a value is {MEANING[self.regime]}",
                f"  contributing points: median n_eff {np.median(self.n_eff):.3g}, "
                f"exp(entropy) {math.exp(float(np.median(self.entropy))):.3g} of {self.n:,}",
                f"  tail index {index}, {np.median(self.hill):.3g} from the largest terms (median)",
                f"  thresholds from the points: {thresholds if self.h_g == self.h_g else 'none'}",
                f"  Gaussian data of this covariance: h_G {self.h_g_theory:.4g}, h_CLT {self.h_clt_theory:.4g}, "
                f"best h {self.h_opt_theory:.4g}",
            )
        )
