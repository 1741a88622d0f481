"""Linear dimension: how many eigenvalues of a covariance count, globally and in each neighbourhood.

One decomposition serves every rule. With eigenvalues l_1 >= l_2 >= ... of the sample covariance:

=================== =========================================================================================
rule                counts
=================== =========================================================================================
``FO``              l_i > 0.05 l_1 (Fukunaga and Olsen 1971)
``Fan``             first i with 80 % of the variance or a gap l_i/l_{i+1} > 10, once the mean of the
                    eigenvalues past 95 % is taken as noise and subtracted (Fan 2010, arXiv 1002.2050)
``maxgap``          i with the largest l_i/l_{i+1} (Bruske and Sommer 1998)
``ratio``           fewest that explain 95 % of the variance
``participation``   (sum l)^2 / sum l^2, a real number
``Kaiser``          l_i above the mean (Kaiser 1960)
``broken_stick``    leading l_i / sum l above the expected i-th longest of D random pieces (Jackson 1993)
``minka``           most probable rank of a signal in even noise, which itself has 0
                    (:mod:`lodim.dimension.noise_rank`)
``MP``              above the edge of even noise's spectrum (the same)
=================== =========================================================================================

They see a curved manifold from outside, so they bound its dimension from above rather than measure it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from lodim.dimension.noise_rank import minka_rank, signal_rank
from lodim.neighbors import NeighborGraph, local_blocks
from lodim.validation import check_choice

NOISE_RULES = ("minka", "MP")
LPCA_RULES = ("FO", "Fan", "maxgap", "ratio", "participation", "Kaiser", "broken_stick", *NOISE_RULES)

_BLOCK_VALUES = 1 << 23


def covariance_spectrum(X: Float[np.ndarray, "n features"]) -> Float[np.ndarray, " m"]:
    """Eigenvalues of the sample covariance, descending; min(n, n_features) of them, none below zero."""
    (n, d), mean = X.shape, X.mean(0, dtype=np.float64)
    if d > n:
        centred = X - mean
        gram = centred @ centred.T
    else:  # some rows at a time, as a copy of all in double precision may not fit into memory
        gram, step = np.zeros((d, d)), max(d, _BLOCK_VALUES // d)
        for start in range(0, n, step):
            centred = X[start : start + step] - mean
            gram += centred.T @ centred
    return np.maximum(np.linalg.eigvalsh(gram)[::-1], 0) / (n - 1)


def local_spectra(
    X: Float[np.ndarray, "n features"], graph: NeighborGraph, k: int
) -> Float[np.ndarray, "n_queries m"]:
    """Eigenvalues of the covariance of each query's ``k`` neighbours and itself, descending."""
    width = min(k + 1, X.shape[1])
    out = np.empty((graph.n_queries, width))
    for part, near in local_blocks(X, graph, k):
        points = np.concatenate([X[graph.query_idx[part], None], near], 1).astype(np.float64)
        points -= points.mean(1, keepdims=True)
        turned = points.transpose(0, 2, 1)
        gram = turned @ points if X.shape[1] <= k + 1 else points @ turned
        out[part] = np.linalg.eigvalsh(gram)[:, ::-1] / k
    return np.maximum(out, 0)


def components_for(spectrum: Float[np.ndarray, " m"], share: int | float) -> int:
    """Fewest leading eigenvalues of a descending spectrum that hold a share of their sum, in (0, 1]."""
    held = np.cumsum(spectrum)
    return int(np.searchsorted(held, share * held[-1] * (1 - 1e-12))) + 1


def _gaps(l: np.ndarray) -> np.ndarray:
    """l_i / l_{i+1}, rounding noise counted as zero: past the numerical rank there is no gap to see."""
    floor = l[0] * len(l) * np.finfo(np.float64).eps
    clean = np.where(l > floor, l, 0.0)
    gaps = np.full(len(l) - 1, np.inf)
    np.divide(clean[:-1], clean[1:], out=gaps, where=clean[1:] > 0)
    return np.where(clean[:-1] > 0, gaps, 0.0)


def _fan(l: np.ndarray) -> float:
    signal = components_for(l, 0.95)
    noise = l[signal - 1 :].mean()
    cleaned = np.maximum(l - noise, 0)
    if cleaned[0] == 0:
        return float(len(l))  # all eigenvalues alike: every direction counts
    with np.errstate(divide="ignore", invalid="ignore"):
        gaps = np.flatnonzero(cleaned[:-1] > 10 * cleaned[1:])
    by_gap = int(gaps[0]) + 1 if len(gaps) else len(l)
    return float(min(by_gap, components_for(cleaned, 0.8)))


def _broken_stick(l: np.ndarray) -> float:
    m = len(l)
    expected = np.cumsum(1.0 / np.arange(m, 0, -1))[::-1] / m
    below = np.flatnonzero(l / l.sum() <= expected)
    return float(below[0]) if len(below) else float(m)


def linear_dimension(spectrum: Any, rule: str = "FO", shape: tuple[int, int] | None = None) -> float:
    """Number of descending eigenvalues that count by a rule of :data:`LPCA_RULES`; 0 if all are zero.

    ``shape``, the samples and features behind the spectrum, is needed by ``minka`` and ``MP``.
    """
    check_choice(rule, LPCA_RULES, "rule")
    l = np.asarray(spectrum, dtype=np.float64)
    if l[0] <= 0:
        return 0.0
    if rule in NOISE_RULES:
        if shape is None:
            raise ValueError(f"rule={rule!r} needs shape=(n_samples, n_features) of the data")
        return float(minka_rank(l, shape[0]) if rule == "minka" else signal_rank(l, *shape))
    if rule == "FO":
        return float((l > 0.05 * l[0]).sum())
    if rule == "Fan":
        return _fan(l)
    if rule == "maxgap":
        return float(np.argmax(_gaps(l)) + 1) if len(l) > 1 else 1.0
    if rule == "ratio":
        return float(components_for(l, 0.95))
    if rule == "participation":
        shares = l / l[0]
        return float(shares.sum() ** 2 / (shares**2).sum())
    if rule == "Kaiser":
        return float((l > l.mean()).sum()) or float(len(l))
    return _broken_stick(l)


def local_dimension(
    spectra: Float[np.ndarray, "n m"], rule: str = "FO", shape: tuple[int, int] | None = None
) -> Float[np.ndarray, " n"]:
    """:func:`linear_dimension` of each row; ``shape`` is the points of a neighbourhood and the features."""
    if rule == "FO":
        return (spectra > 0.05 * spectra[:, :1]).sum(1).astype(np.float64)
    return np.array([linear_dimension(row, rule, shape) for row in spectra])
