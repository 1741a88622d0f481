"""Two rules for a covariance spectrum that ask which eigenvalues noise alone would not have made.

Both take data as a signal of low rank plus noise of the same variance in every direction, so they need the number of
samples besides the eigenvalues.

Minka (2000, NeurIPS 13): the Laplace approximation of the evidence of probabilistic PCA with q components,

    log p(D | q) ~ log p(U) - N/2 sum_{i<=q} log l_i - N (d - q)/2 log v + (m + q)/2 log 2 pi - log|A| / 2 - q/2 log N
    log|A| = sum_{i<=q} sum_{j>i} log((1/l^_j - 1/l^_i) (l_i - l_j) N),   m = d q - q (q + 1)/2

v being the mean of the eigenvalues left over and ``l^_j = l_j`` up to q, v beyond. scikit-learn has it for a data
matrix only; here it takes a spectrum, so one decomposition serves every rule.

Marchenko-Pastur: noise of variance s^2 has no eigenvalue above ``s^2 (1 + sqrt(d/N))^2``; s^2 is the median eigenvalue
over the median of the law (Gavish and Donoho 2014, arXiv 1305.5870).
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import gammaln


def _positive(spectrum: np.ndarray) -> np.ndarray:
    """Eigenvalues above the rounding noise of the largest."""
    floor = spectrum[0] * len(spectrum) * np.finfo(np.float64).eps
    return spectrum[spectrum > floor]


def minka_rank(spectrum: Float[np.ndarray, " m"], n_samples: int) -> int:
    """Rank of a descending spectrum with the largest evidence; all eigenvalues if they hold no noise.

    There must be more samples than eigenvalues.
    """
    l = _positive(spectrum)
    if len(l) < len(spectrum) or len(l) < 2:
        return len(l)  # some directions have no variance at all, so there is no noise to tell apart
    d, n = len(l), n_samples
    q = np.arange(1, d)
    tail = np.cumsum(l[::-1])[::-1][1:]
    v = tail / (d - q)
    i = np.arange(1, d + 1)
    log_u = np.cumsum(gammaln((d - i + 1) / 2) - math.log(math.pi) * (d - i + 1) / 2)[:-1] - q * math.log(2)
    m = d * q - q * (q + 1) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        gaps = np.log(l[:, None] - l[None, :])  # finite above the diagonal unless eigenvalues repeat
        inverse = np.log(1 / l[None, :] - 1 / l[:, None])
    above = np.triu(np.ones((d, d), dtype=bool), 1)
    inner = np.cumsum(np.where(above, inverse, 0.0).sum(0))[:-1]  # pairs i < j <= q
    outer = np.array([(d - r) * np.log(1 / v[r - 1] - 1 / l[:r]).sum() for r in q])  # pairs i <= q < j
    all_gaps = np.cumsum(np.where(above, gaps, 0.0).sum(1))[:-1]
    pairs = np.cumsum(d - i)[:-1]
    log_a = inner + outer + all_gaps + pairs * math.log(n)
    evidence = (
        log_u
        - n / 2 * np.cumsum(np.log(l))[:-1]
        - n / 2 * (d - q) * np.log(v)
        + (m + q) / 2 * math.log(2 * math.pi)
        - log_a / 2
        - q / 2 * math.log(n)
    )
    return int(q[np.nanargmax(evidence)])


def marchenko_pastur_median(ratio: int | float) -> float:
    """Median of the Marchenko-Pastur law of variance one and ratio d/N in (0, 1]."""
    low, width = (1 - math.sqrt(ratio)) ** 2, 4 * math.sqrt(ratio)

    def density(angle: float) -> float:  # x = low + width sin^2(angle) takes the square roots away
        sine = math.sin(angle) ** 2
        return (width * math.cos(angle)) ** 2 * sine / (math.pi * ratio * (low + width * sine))

    middle = brentq(lambda angle: quad(density, 0, angle)[0] - 0.5, 1e-3, math.pi / 2)
    return low + width * math.sin(middle) ** 2


def noise_edge(spectrum: Float[np.ndarray, " m"], n_samples: int, n_features: int) -> float:
    """Largest eigenvalue that noise of the median of all min(n_samples, n_features) eigenvalues would make."""
    n, p = n_samples - 1, n_features  # centring takes one degree of freedom
    values = spectrum[: min(n, p)]
    # with more features than samples the eigenvalues that are not zero are those of the transposed problem
    middle = marchenko_pastur_median(p / n) if p <= n else p / n * marchenko_pastur_median(n / p)
    return float(np.median(values)) / middle * (1 + math.sqrt(p / n)) ** 2


def signal_rank(spectrum: Float[np.ndarray, " m"], n_samples: int, n_features: int) -> int:
    """Number of descending eigenvalues above :func:`noise_edge`; without noise, of those above rounding."""
    return int((_positive(spectrum) > noise_edge(spectrum, n_samples, n_features)).sum())
