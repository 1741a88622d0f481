r"""How good predicted probabilities of an event are, when only outcomes (and sometimes probabilities) are known.

Bins hold equal numbers of samples: edges are quantiles of the predictions, so equal predictions share a bin. With
:math:`\bar p_k, \bar y_k, n_k` the means and count of bin k, and :math:`\bar y` the base rate:

.. math::
    \mathrm{ECE} = \sum_k \frac{n_k}{n} |\bar p_k - \bar y_k|, \quad \mathrm{MCE} = \max_k |\bar p_k - \bar y_k|, \quad
    \mathrm{KS} = \max_j \frac1n \Bigl| \sum_{i \le j} (p_i - y_i) \Bigr|

    \frac1n \sum_i (p_i - y_i)^2 = \underbrace{\sum_k \frac{n_k}{n} (\bar p_k - \bar y_k)^2}_{\text{reliability}}
    - \underbrace{\sum_k \frac{n_k}{n} (\bar y_k - \bar y)^2}_{\text{resolution}}
    + \underbrace{\bar y (1 - \bar y)}_{\text{uncertainty}}
    + \underbrace{\frac1n \sum_{k,i} (p_i - \bar p_k)^2}_{\text{within-bin variance}}
    - \underbrace{\frac2n \sum_{k,i} (p_i - \bar p_k)(y_i - \bar y_k)}_{\text{within-bin covariance}}

with i in order of p in the KS statistic, taken where p changes: what comes first among ties means nothing. The
identity is exact; without its last two terms it holds only for predictions that are constant within bins.

References
----------
S. Liu et al., Deep probability estimation, arXiv 2111.10734 (which figures, and equal counts). K. Gupta et al.,
Calibration of neural networks using splines, arXiv 2006.12800 (KS). D. B. Stephenson, C. A. S. Coelho and I. T.
Jolliffe, Two extra components in the Brier score decomposition, Weather and Forecasting 23 (2008).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.special import rel_entr, xlog1py, xlogy
from sklearn.metrics import roc_auc_score

from lodim.linalg.precision import computable
from lodim.results import Result
from lodim.validation import check_in_range, check_labels, checked

__all__ = ["ProbabilityMetrics", "ReliabilityCurve", "probability_metrics", "reliability_curve"]


@dataclass(frozen=True)
class ReliabilityCurve(Result):
    """Predictions against outcomes, bin by bin; on the diagonal where probabilities are calibrated.

    Attributes
    ----------
    predicted, observed : ndarray, shape (n_bins,)
        Mean prediction and share of events of each bin, in order of the predictions.
    counts : ndarray of int, shape (n_bins,)
        Fewer and larger bins than were asked for where predictions are tied.
    """

    predicted: np.ndarray
    observed: np.ndarray
    counts: np.ndarray

    def __str__(self) -> str:
        gap = np.abs(self.predicted - self.observed).max()
        return f"reliability in {len(self.counts)} bins, largest gap {gap:.3g}"


@dataclass(frozen=True)
class ProbabilityMetrics(Result):
    """Figures of predicted probabilities.

    Attributes
    ----------
    brier : float
        ``reliability - resolution + uncertainty + within_bin_variance - within_bin_covariance``.
    log_loss : float
        In nats; infinite where an event of probability 0 happened.
    ece, mce, ks : float
        Calibration errors: mean and maximum over bins, and of the cumulated difference.
    auc : float
        NaN if all outcomes are equal.
    mse_p, kl_p : float or None
        Mean squared error and mean divergence KL(p, p_hat), in nats, from the true probabilities, if these are known.
    n, n_bins : int
        Samples, and bins that hold any.
    """

    brier: float
    reliability: float
    resolution: float
    uncertainty: float
    within_bin_variance: float
    within_bin_covariance: float
    log_loss: float
    ece: float
    mce: float
    ks: float
    auc: float
    mse_p: float | None
    kl_p: float | None
    n: int
    n_bins: int

    def __str__(self) -> str:
        known = "" if self.mse_p is None else f", MSE_p {self.mse_p:.4g}, KL_p {self.kl_p:.4g}"
        return (
            f"Brier {self.brier:.4g} (reliability {self.reliability:.3g}, resolution {self.resolution:.3g}), "
            f"ECE {self.ece:.4g}, KS {self.ks:.4g}, AUC {self.auc:.4g}{known}"
        )


@checked
def probability_metrics(p_hat: Any, y: Any, p_true: Any = None, *, n_bins: int = 15) -> ProbabilityMetrics:
    """Calibration, sharpness and error of predicted probabilities of a binary event.

    Of the figures that do not need true probabilities, the Brier score follows ``mse_p`` best: it differs from it by
    noise and by the outcomes' own variance only.

    Parameters
    ----------
    p_hat : array-like, shape (n,)
        Predicted probabilities of ``y == 1``.
    y : array-like, shape (n,)
        Outcomes, 0 or 1.
    p_true : array-like, shape (n,), optional
        True probabilities, as of simulated outcomes.

    Raises
    ------
    ValueError
        Probabilities outside [0, 1], outcomes other than 0 and 1, different lengths, fewer samples than bins.
    """
    p, outcome = _checked(p_hat, y, n_bins)
    bin_of, counts = _bins(p, n_bins)
    p_bar, y_bar = (np.bincount(bin_of, values) / counts for values in (p, outcome))
    share, base = counts / len(p), outcome.mean()
    gap = p_bar - y_bar
    p_rest, y_rest = p - p_bar[bin_of], outcome - y_bar[bin_of]
    truth = None if p_true is None else _probabilities(p_true, "p_true", len(p))
    return ProbabilityMetrics(
        brier=float(((p - outcome) ** 2).mean()),
        reliability=float(share @ gap**2),
        resolution=float(share @ (y_bar - base) ** 2),
        uncertainty=float(base * (1 - base)),
        within_bin_variance=float((p_rest**2).mean()),
        within_bin_covariance=float(2 * (p_rest * y_rest).mean()),
        log_loss=float(-(xlogy(outcome, p) + xlog1py(1 - outcome, -p)).mean()),
        ece=float(share @ np.abs(gap)),
        mce=float(np.abs(gap).max()),
        ks=_kolmogorov_smirnov(p, outcome),
        auc=float(roc_auc_score(outcome, p)) if 0 < base < 1 else math.nan,
        mse_p=None if truth is None else float(((p - truth) ** 2).mean()),
        kl_p=None if truth is None else float((rel_entr(truth, p) + rel_entr(1 - truth, 1 - p)).mean()),
        n=len(p),
        n_bins=len(counts),
    )


@checked
def reliability_curve(p_hat: Any, y: Any, *, n_bins: int = 15) -> ReliabilityCurve:
    """Mean prediction and share of events in bins of equal counts.

    Parameters
    ----------
    p_hat, y : array-like, shape (n,)
        As in :func:`probability_metrics`, which has the errors raised too.
    """
    p, outcome = _checked(p_hat, y, n_bins)
    bin_of, counts = _bins(p, n_bins)
    return ReliabilityCurve(np.bincount(bin_of, p) / counts, np.bincount(bin_of, outcome) / counts, counts)


def _checked(p_hat: Any, y: Any, n_bins: int) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    check_in_range(n_bins, "n_bins", low=1, integer=True)
    p = _probabilities(p_hat, "p_hat")
    outcome = check_labels(y, len(p))
    if not np.isin(outcome, (0, 1)).all():
        raise ValueError(f"y must be outcomes, 0 or 1, got {np.unique(outcome)[:5].tolist()}")
    if len(p) < n_bins:
        raise ValueError(f"{n_bins} bins need at least as many samples, got {len(p)}; lower n_bins")
    return p, outcome.astype(np.float64)


def _probabilities(values: Any, name: str, n: int | None = None) -> Float[np.ndarray, " n"]:
    p = computable(values, name).detach().double().cpu().numpy()
    if p.ndim != 1 or (n is not None and len(p) != n):
        expected = "(n,)" if n is None else f"({n},)"
        raise ValueError(f"{name} must have shape {expected}, one probability a sample, got {p.shape}")
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"{name} must lie in [0, 1]; softmax or sigmoid logits first, and drop NaN")
    return p


def _bins(p: Float[np.ndarray, " n"], n_bins: int) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " b"]]:
    """The bin of each sample, and the counts of the bins that hold any (scikit-learn's quantile rule)."""
    edges = np.quantile(p, np.linspace(0, 1, n_bins + 1)[1:-1])
    _, bin_of, counts = np.unique(np.searchsorted(edges, p), return_inverse=True, return_counts=True)
    return bin_of, counts


def _kolmogorov_smirnov(p: Float[np.ndarray, " n"], outcome: Float[np.ndarray, " n"]) -> float:
    _, tie_of = np.unique(p, return_inverse=True)
    return float(np.abs(np.bincount(tie_of, p - outcome).cumsum()).max() / len(p))
