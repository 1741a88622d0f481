r"""The distance between classes: delta of arXiv 2305.01034, by extreme-value theory, exactly, or by sampling.

The least distance between two points of different classes is an extreme of some :math:`n^2 (1 - 1/C)` pairs, too many
to look at. From a sample of pairs, the largest inverse distances :math:`v_1 \ge v_2 \ge \dots` have a tail whose index
is estimated by moments (Dekkers, Einmahl and de Haan 1989),

.. math::

    M_j = \frac1k \sum_{i \le k} (\ln v_i - \ln v_{k+1})^j, \qquad
    \gamma = M_1 + 1 - \frac{1/2}{1 - M_1^2 / M_2},

and which is followed to as many pairs as the data have,

.. math::

    \hat\delta = \Big[ v_{k+1} + v_{k+1} M_1 \frac{a^\gamma - 1}{\gamma} \Big]^{-1}, \qquad
    a = \frac{k}{\text{pairs sampled}} \cdot \text{pairs of the data},

with ln a in place of the fraction as gamma goes to 0. It is never above the least distance in the sample.

Departures. The scale is the paper's; the estimator of Dekkers, Einmahl and de Haan multiplies it by one minus the
negative part of gamma, which matters only for clearly bounded tails. The number of pairs is counted from the classes'
sizes, :math:`n^2 - \sum_c n_c^2`, which is the paper's for equal ones.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from lodim.geometry.dataset_properties.label_sharpness import LabelSharpness
from lodim.neighbors.queries import safe_scale
from lodim.randomness import RandomState, as_generator
from lodim.results import Result
from lodim.validation import check_choice, check_in_range, check_labels, check_matrix, checked

METHODS = ("evt", "exact", "sample")
_CHUNK = 8192  # pairs
_SHADOW = 32  # directions in which pairs are compared first
_FOR_DIRECTIONS = 200  # rows that those are had from: they need not be the best
_ROUNDING = 1e-5  # of differences in single precision, with much to spare
_RESERVE = 3  # times k order statistics are kept, for resampling
_SPARE = 50  # or so many more than k, where k is small
_ALIKE = 8 * sys.float_info.epsilon  # spread of logarithms that is rounding
_LARGEST = math.log(sys.float_info.max)


@dataclass(frozen=True)
class ClassMargin(Result):
    """Distance between points of different classes.

    Attributes
    ----------
    delta : float
        The estimate.
    sample_minimum : float
        Least distance seen.
    tail_index : float or None
        gamma, with ``method="evt"``; None where the nearest pairs are all equally far apart.
    n_pairs : int
        Pairs looked at.
    replicates : tuple of float
        The estimate on resampled pairs; empty unless asked for.
    """

    delta: float
    sample_minimum: float
    tail_index: float | None
    n_pairs: int
    method: str
    replicates: tuple[float, ...] = ()


@checked
def class_margin(
    X: Any,
    y: Any,
    method: str = "evt",
    *,
    n_pairs: int = 4_000_000,
    k: int = 2000,
    n_bootstrap: int = 0,
    random_state: RandomState = 0,
) -> ClassMargin:
    """Estimate the distance between classes.

    Parameters
    ----------
    X : array-like or Tensor, shape (n_samples, n_features)
    y : array-like, shape (n_samples,)
        Class labels.
    method : {"evt", "exact", "sample"}
        Extreme-value theory; the least over all pairs, by blocks (slow for many rows); or the least over the sample.
    n_pairs : int
        Pairs drawn, with replacement; not used when exact.
    k : int
        Order statistics that the tail is fitted to; at most a tenth of ``n_pairs``.
    n_bootstrap : int
        Replicates of the estimate with resampled pairs (``"evt"`` and ``"sample"``).

    Raises
    ------
    ValueError
        One class, or equal points with different labels, which make the distance zero.
    """
    check_choice(method, METHODS, "method")
    check_in_range(n_pairs, "n_pairs", low=20, integer=True)
    check_in_range(k, "k", low=2, high=max(2, n_pairs // 10), integer=True)
    check_in_range(n_bootstrap, "n_bootstrap", low=0, integer=True)
    data = check_matrix(X)
    classes, codes = np.unique(check_labels(y, len(data)), return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            f"a margin lies between classes: y must hold at least two, got 1 class ({classes[:1].tolist()[0]!r})"
        )
    if method == "exact":
        return _exact(data, codes)
    rng, unit = as_generator(random_state), safe_scale(data)
    data = data if unit == 1 else data / unit  # squares of distances over- or underflow
    nearest = _nearest_sampled(data, codes, n_pairs, max(_RESERVE * k, k + _SPARE), rng)
    if nearest[0] == 0:
        raise _conflict()
    sizes = np.bincount(codes).astype(float)
    all_pairs = len(data) ** 2 - float((sizes**2).sum())
    growth = max(1.0, all_pairs / n_pairs)

    def estimate(distances: np.ndarray) -> tuple[float, float | None]:
        return _extrapolated(distances, k, growth) if method == "evt" else (float(distances[0]), None)

    delta, index = estimate(nearest)
    replicates = []
    for _ in range(n_bootstrap):
        replicates.append(estimate(_resampled(nearest, k, rng))[0] * unit)
    return ClassMargin(delta * unit, float(nearest[0]) * unit, index, n_pairs, method, tuple(replicates))


def _conflict() -> ValueError:
    return ValueError(
        "two equal points have different labels, so the classes touch (delta = 0) and no number of bits suffices: "
        "remove or relabel duplicates across classes (LabelSharpness counts them)"
    )


def _exact(X: np.ndarray, codes: np.ndarray) -> ClassMargin:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # conflicts are an error here, below
        sharp = LabelSharpness(exact=True).fit(X, codes)
    if sharp.n_conflicts_:
        raise _conflict()
    sizes = np.bincount(codes)
    pairs = int((len(X) ** 2 - (sizes.astype(np.int64) ** 2).sum()) // 2)
    return ClassMargin(1 / sharp.k_f_, 1 / sharp.k_f_, None, pairs, "exact")


def _nearest_sampled(
    X: np.ndarray, codes: np.ndarray, n_pairs: int, keep: int, rng: np.random.Generator
) -> Float[np.ndarray, " keep"]:
    """The least distances, ascending, of pairs of different label drawn with replacement.

    Distances along a few principal directions are never larger than the whole ones; pairs that those put beyond the
    ``keep`` least so far are left out at a fraction of the cost, and nothing else is.
    """
    shadow = _principal_scores(X, rng)
    first, second = _draw_pairs(codes, n_pairs, rng)
    found, limit = np.empty(0), np.inf
    for start in range(0, n_pairs, _CHUNK):
        i, j = first[start : start + _CHUNK], second[start : start + _CHUNK]
        if shadow is not None and limit < np.inf:
            near = _squares(shadow, i, j) <= limit
            i, j = i[near], j[near]
        found = np.concatenate([found, _squares(X, i, j)])
        if len(found) >= keep + _CHUNK:
            found = np.partition(found, keep - 1)[:keep]
            limit = found[keep - 1] * (1 + _ROUNDING)
    return np.sqrt(np.sort(found)[:keep])


def _squares(X: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    difference = X[i]
    difference -= X[j]
    return np.einsum("ij,ij->i", difference, difference, dtype=np.float64)


def _principal_scores(X: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """Coordinates along the main directions of a few rows; None where that saves nothing."""
    if X.shape[1] <= 2 * _SHADOW:
        return None
    drawn = rng.choice(len(X), size=min(len(X), 1000), replace=False)
    rows = X[drawn[:_FOR_DIRECTIONS]].astype(np.float64)
    centre = rows.mean(0)
    directions = np.linalg.svd(rows - centre, full_matrices=False)[2][:_SHADOW].T
    return np.concatenate([(X[s : s + 4096] - centre) @ directions for s in range(0, len(X), 4096)])


def _resampled(nearest: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """The nearest pairs, each as often as it comes in a sample of all pairs drawn again; at least k + 1 of them."""
    while True:
        times = rng.poisson(1.0, len(nearest))
        if times.sum() > k:
            return np.repeat(nearest, times)


def _draw_pairs(
    codes: np.ndarray, n_pairs: int, rng: np.random.Generator
) -> tuple[Int[np.ndarray, " n_pairs"], Int[np.ndarray, " n_pairs"]]:
    """Pairs of different label, all equally likely: the first by what its class leaves, the second from the rest."""
    order = np.argsort(codes, kind="stable")
    sizes = np.bincount(codes)
    starts = np.cumsum(sizes) - sizes
    others = len(codes) - sizes
    weight = sizes * others / (sizes * others).sum()
    label = rng.choice(len(sizes), size=n_pairs, p=weight)
    first = starts[label] + rng.integers(0, sizes[label])
    second = rng.integers(0, others[label])
    second = np.where(second >= starts[label], second + sizes[label], second)
    return order[first], order[second]


def _extrapolated(distances: np.ndarray, k: int, growth: float) -> tuple[float, float | None]:
    """Delta and the tail index from ascending distances; ``growth`` is how many times more pairs there are.

    No index where the k least are alike to rounding: gamma is then without bound below, and the tail ends at the least.
    """
    k = min(k, len(distances) - 1)
    logs = np.log(distances[: k + 1])
    excess = logs[k] - logs[:k]
    m1, m2 = float(excess.mean()), float((excess**2).mean())
    variance = float(((excess - m1) ** 2).mean())  # M2 - M1^2, without its cancellation
    if math.sqrt(variance) <= _ALIKE * (1 + float(np.abs(logs).max())):
        return float(distances[0]), None
    gamma = m1 + 1 - 0.5 * m2 / variance
    log_delta = logs[k] - math.log1p(m1 * _reach(gamma, math.log(k * growth)))
    return min(math.exp(log_delta), float(distances[0])), gamma


def _reach(gamma: float, steps: float) -> float:
    """``(exp(gamma steps) - 1) / gamma``, infinite beyond the largest float."""
    if abs(gamma) < 1e-8:
        return steps
    return math.expm1(gamma * steps) / gamma if gamma * steps < _LARGEST else math.inf
