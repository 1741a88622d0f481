"""Label sharpness: how close together points of different classes lie.

*The Effect of Intrinsic Dataset Properties on Generalization*, Konz and Mazurowski 2024, arXiv 2401.08865,
section 4. For labels y and points x

    K_F = max_{j, k} |y_j - y_k| / ||x_j - x_k||,

the numerator being ``1[y_j != y_k]`` for more than two classes (and for two classes named 0 and 1): the inverse of
the least distance between two points of different classes. A high K_F announces a larger loss and less adversarial
robustness. It is comparable between data sets only at equal resolution, channels and range of values, because
``K_F(c X) = K_F(X) / c``; ``normalize="rms"`` multiplies by the root-mean-square pair distance, which is free of scale.

============== ==================== =========================================================
in the paper   here                 meaning
============== ==================== =========================================================
M              ``m``                points drawn, as many of every class
K_F            ``k_f_``             the maximum over all pairs of them
F              ``y``                the function from points to labels
============== ==================== =========================================================

Departures. The authors' released code pairs batches element by element and compares for equality of labels; here the
definition is followed over all pairs. Equal points with different labels (conflicts) would make K_F infinite: they are
left out and counted. A maximum is an extreme statistic, so the mean of the ten largest slopes, the spread over
repeated draws, the maximum for every two classes and the exact value over the whole data set are given too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lodim.geometry.labelled import LabelledEstimator
from lodim.neighbors import MinByLabelPair, first_occurrences, stream_pairs
from lodim.neighbors.distances import distances_of_pairs
from lodim.randomness import derive_seed, root_seed
from lodim.validation import check_choice, check_in_range, warn

_TOP = 10


@dataclass(frozen=True)
class _Sharpness:
    """K_F of one set of points: slopes per class pair, the largest, their mean, the pair, conflicts."""

    pairs: np.ndarray
    largest: float
    top: float
    pair: tuple[int, int]
    n_conflicts: int


def count_conflicts(twin: np.ndarray, codes: np.ndarray) -> int:
    """Pairs of equal rows with different labels."""
    groups, group = np.unique(twin, return_inverse=True)
    sizes = np.bincount(group, minlength=len(groups)).astype(np.int64)
    _, same = np.unique(np.stack([group, codes], 1), axis=0, return_counts=True)
    return int(((sizes**2).sum() - (same.astype(np.int64) ** 2).sum()) // 2)


def _sharpness(X: np.ndarray, codes: np.ndarray, n_classes: int) -> _Sharpness:
    order = np.argsort(codes, kind="stable")
    rows, labels = X[order], codes[order]
    twin = first_occurrences(rows)
    conflicts = count_conflicts(twin, labels)
    reducer = MinByLabelPair(labels, _TOP, twin if conflicts else None, rows)
    ((_, near),) = stream_pairs(rows, reducers=[reducer], dtype=torch.float64)
    found = near[near[..., 0] >= 0]
    if not len(found):
        raise ValueError("every two points of different classes are equal: label sharpness is not defined")
    slopes = 1 / distances_of_pairs(rows, found[:, 0], rows, found[:, 1])
    pairs = np.zeros((n_classes, n_classes))
    np.maximum.at(pairs, (labels[found[:, 0]], labels[found[:, 1]]), slopes)
    best = order[found[slopes.argmax()]]
    top = np.sort(slopes)[::-1][:_TOP]
    return _Sharpness(
        np.maximum(pairs, pairs.T), float(top[0]), float(top.mean()), (int(best[0]), int(best[1])), conflicts
    )


def _balanced_draw(codes: np.ndarray, m: int, rng: np.random.Generator) -> np.ndarray:
    """Rows drawn without repetition, ``m / C`` of every class (all of a smaller one)."""
    counts = np.bincount(codes)
    share, rest = divmod(m, len(counts))
    parts = []
    for c, size in enumerate(counts):
        wanted = min(size, share + (c < rest))
        parts.append(rng.choice(np.flatnonzero(codes == c), size=wanted, replace=False))
    return np.concatenate(parts)


@dataclass(eq=False, repr=False)
class LabelSharpness(LabelledEstimator):
    """Largest change of the label between two points, per unit of distance.

    Parameters
    ----------
    m : int
        Points drawn, as many of every class (all of a class that has fewer).
    exact : bool
        Use every point instead: exact, blockwise, no n x n matrix.
    normalize : {"none", "rms"}
        ``"rms"`` multiplies slopes by the root-mean-square distance of all pairs of the data.
    n_repeats : int
        Draws to average over; their spread is ``k_f_sd_``. Not used when ``exact``.
    random_state : int, Generator or None

    Attributes
    ----------
    k_f_ : float
        Label sharpness (mean over the draws).
    k_f_sd_ : float
        Standard deviation over the draws; 0 for one.
    k_f_top_ : float
        Mean of the ten largest slopes (mean over the draws).
    k_f_pairs_ : ndarray, shape (n_classes, n_classes)
        The same maximum for every two classes, symmetric, zero on the diagonal.
    pair_ : tuple of int
        Rows of ``X`` with the largest slope.
    n_conflicts_ : int
        Pairs of equal points with different labels among the points used (largest over the draws).
    classes_ : ndarray, shape (n_classes,)
    scale_ : float
        What slopes were multiplied by.

    Examples
    --------
    >>> from lodim.geometry import LabelSharpness
    >>> LabelSharpness().fit([[0.0, 0.0], [3.0, 4.0]], ["cat", "dog"]).k_f_
    0.2
    """

    m: Any = 1000
    exact: Any = False
    normalize: Any = "none"
    n_repeats: Any = 1
    random_state: Any = None

    def fit(self, X: Any, y: Any) -> LabelSharpness:
        """Measure the label sharpness.

        Parameters
        ----------
        X : array-like or Tensor, shape (n_samples, n_features)
        y : array-like, shape (n_samples,)
            Class labels.

        Raises
        ------
        ValueError
            Bad input, fewer than two classes, targets that are no classes, or no two different points of different
            classes.
        """
        check_choice(self.normalize, ("none", "rms"), "normalize")
        check_in_range(self.m, "m", low=2, integer=True)
        check_in_range(self.n_repeats, "n_repeats", low=1, integer=True)
        data, labels, self.classes_ = self._read(X, y)
        codes, n_classes = np.searchsorted(self.classes_, labels), len(self.classes_)
        if not self.exact and self.m < n_classes:
            raise ValueError(f"m={self.m} points cannot hold one of each of {n_classes} classes; raise m")
        self._measure(data, codes, n_classes)
        return self

    def _measure(self, X: np.ndarray, codes: np.ndarray, n_classes: int) -> None:
        seed = root_seed(self.random_state)
        if self.exact:
            draws = [np.arange(len(X))]
        else:
            rngs = [np.random.default_rng(derive_seed(seed, "draw", i)) for i in range(self.n_repeats)]
            draws = [_balanced_draw(codes, self.m, rng) for rng in rngs]
        found = [_sharpness(X[rows], codes[rows], n_classes) for rows in draws]
        self.scale_ = 1.0
        if self.normalize == "rms":
            self.scale_ = float(np.sqrt(2 * X.var(0).sum() * len(X) / (len(X) - 1)))
        self.k_f_ = self.scale_ * float(np.mean([f.largest for f in found]))
        self.k_f_sd_ = self.scale_ * float(np.std([f.largest for f in found]))
        self.k_f_top_ = self.scale_ * float(np.mean([f.top for f in found]))
        self.k_f_pairs_ = self.scale_ * np.mean([f.pairs for f in found], axis=0)
        sharpest = int(np.argmax([f.largest for f in found]))
        i, j = found[sharpest].pair
        self.pair_ = (int(draws[sharpest][i]), int(draws[sharpest][j]))
        self.n_conflicts_ = max(f.n_conflicts for f in found)
        if self.n_conflicts_:
            warn(
                f"{self.n_conflicts_} pairs of equal points have different labels; they are left out of the maximum"
            )
