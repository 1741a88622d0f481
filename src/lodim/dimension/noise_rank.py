"""Two rules for a covariance spectrum that ask which eigenvalues noise alone would not have made.

Both take data as a signal of low rank plus noise of the same variance in every direction, so they need the number of
samples besides the eigenvalues.

Minka (2000, NeurIPS 13): the evidence of probabilistic PCA with q components,

    log p(D | q) ~ - N/2 sum_{i<=q} log l_i - N (d - q)/2 log v + q/2 log(2 pi / N) + sum_{i<=q} log E_i
    E_i = 1/2 mean of exp(-1/2 sum_{j>i} a_ij u_j^2) over unit vectors u of d - i + 1 coordinates
    a_ij = N (1/l^_j - 1/l^_i) (l_i - l_j)

v being the mean of the eigenvalues left over and ``l^_j = l_j`` up to q, v beyond; E_i is the share of the directions a
component may take that the data leave it. Minka takes the integral for that of a Gaussian, ``prod_j (2 pi /
a_ij)^(1/2)`` over the area of half the sphere; for eigenvalues that (nearly) tie, as those of noise do, that exceeds
the sphere itself, and is infinite for equal ones. Here the t flattest directions are taken as a whole sphere, the
others as a Gaussian,

    E_i = min over t of |S^t| prod_{j>i+t} (2 pi / a_ij)^(1/2) / (2 |S^(d-i)|),

which for every t > 0 is an upper bound of the integral, is Minka's for t = 0, and right in the limit of equal
eigenvalues. scikit-learn has his formula, for a data matrix only, and from q = 1 on; here it takes a spectrum, so one
decomposition serves every rule, and even noise has rank 0.

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

    With no more samples than eigenvalues, all of which but the last are positive, there is a ValueError.
    """
    l = _positive(spectrum)
    if len(l) >= n_samples - 1 and len(spectrum) >= n_samples:
        raise ValueError(
            f"rule='minka' needs more samples than features to tell noise, got {n_samples} samples that span "
            f"{len(l)} dimensions; take more samples, or rule='MP'"
        )
    if len(l) < len(spectrum) or len(l) < 2:
        return len(l)  # some directions have no variance at all, so there is no noise to tell apart
    return int(np.argmax(minka_evidence(l, n_samples)))


def minka_evidence(l: Float[np.ndarray, " d"], n_samples: int) -> Float[np.ndarray, " d"]:
    """Logarithm of the evidence of ranks 0 ... d - 1 for a positive descending spectrum, up to a constant."""
    d, n = len(l), n_samples
    l = l / l[0]
    i = np.arange(d)
    one = math.log(2 * math.pi / n) / 2
    half_spheres = (i + 1) / 2 * math.log(math.pi) - gammaln(
        (i + 1) / 2
    )  # log(|S^t| / 2) for t = 0 ... d - 1
    above = i > i[:, None]
    gaps = np.where(above, _half_log(l[:, None] - l), 0.0)
    inner = np.where(above, one - gaps - _half_log(1 / l - 1 / l[:, None]), 0.0)  # of pairs i < j <= q
    before = np.concatenate([np.zeros((d, 1)), np.cumsum(inner, 1)], 1)
    after = np.concatenate([np.cumsum(gaps[:, ::-1], 1)[:, ::-1], np.zeros((d, 1))], 1)
    t = (
        np.arange(d + 1) - i[:, None] - 1
    )  # a sphere of the directions before a column, Gaussian from there on
    sphere = np.where(t >= 0, half_spheres[np.maximum(t, 0)], np.inf)
    best = np.minimum.accumulate(sphere - before, axis=1)
    evidence = np.empty(d)
    for q in range(d):
        v = float(l[q:].mean())
        outer = one - _half_log(1 / v - 1 / l[:q])  # with the gap, of pairs i <= q < j
        areas = best[:q, q] + before[:q, q] + (d - q) * outer - after[:q, q]
        # a flat direction of a sphere S^t has a < t, and the first beyond q is the flattest of those
        wide = np.flatnonzero(outer - gaps[:q, q] > math.log(2 * math.pi / d) / 2)
        if len(wide):
            beyond = (
                sphere[wide, q + 1 :] + outer[wide, None] * (d - q - 1 - i[: d - q]) - after[wide, q + 1 :]
            )
            areas[wide] = np.minimum(areas[wide], beyond.min(1))
        evidence[q] = (areas - half_spheres[d - 1 - i[:q]] - math.log(2) + one).sum() - n / 2 * (
            np.log(l[:q]).sum() + (d - q) * math.log(v)
        )
    return evidence


def _half_log(x: np.ndarray) -> np.ndarray:
    """Half the logarithm, finite for differences that rounding makes zero or less."""
    return np.log(np.maximum(x, 1e-300)) / 2


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
