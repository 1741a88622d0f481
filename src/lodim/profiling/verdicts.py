r"""Does a score count? Held-out scores against guessing, and against another model on the same rows.

**Guessing.** Of :math:`n` held-out rows, no two of them equal, a model answers :math:`k` rightly where the best
constant answer has the share :math:`q`. A guesser's chance to do as well is the binomial tail
:math:`P(\mathrm{Bin}(n, q) \ge k)`. Areas under the curve and :math:`R^2` of fixed predictions are, up to constants,
sums :math:`\sum_i w(i, y_i)` over the rows, and their null is that of permuted targets. The model that is judged was
the best of several runs on these very rows, so its p-value is multiplied by their number (Bonferroni).

**Another model.** Both scores are sums over the same rows; if neither model were better, the sign of each row's
difference :math:`\delta_i` would be a coin's. For accuracy that is McNemar's exact test.

A p-value below :data:`~lodim.profiling.parts.LEVEL` counts. Random permutations and signs include the observed one,
so the test keeps its level at any number of draws; drawing ends early once the answer is plain (Besag and Clifford
1991, Biometrika 78).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.stats import binom, binomtest

from lodim.metrics import accuracy, auc, r2
from lodim.metrics.scores import rank_shares
from lodim.profiling.parts import LEVEL

__all__ = ["chance_of_guessing", "chance_of_no_difference", "constant_score", "guessers_best", "score"]

_DRAWS, _AT_ONCE, _PLAIN = 9_999, 500, 50

Outputs = Float[np.ndarray, "n ..."]  # log-odds of the classes, or numbers
Target = Int[np.ndarray, " n"] | Float[np.ndarray, " n"]


def score(outputs: Outputs, y: Target, score_by: str) -> float:
    """Return the score, ``"accuracy"``, ``"auc"`` or ``"r2"``, of outputs (n, n_classes) or (n,)."""
    measure: Callable[[Any, Any], Any] = {"accuracy": accuracy, "auc": auc, "r2": r2}[score_by]
    return float(measure(torch.as_tensor(outputs).double(), torch.as_tensor(y)))


def constant_score(y: Target, score_by: str, answer: int) -> float:
    """Return what always answering the class ``answer`` (or the mean) scores."""
    if score_by == "accuracy":
        return float((y == answer).mean())
    return 0.5 if score_by == "auc" else 0.0


def guessers_best(y: Target, score_by: str, chance: float) -> float:
    """Return the accuracy that a constant's luck reaches with probability ``LEVEL``; of other scores ``chance``."""
    return chance if score_by != "accuracy" else float(binom.isf(LEVEL, len(y), chance) / len(y))


def chance_of_guessing(outputs: Outputs, y: Target, score_by: str, n_runs: int, seed: int) -> float:
    """Return the chance that the best of ``n_runs`` guessers scores as well on these rows, no two of them equal."""
    if len(y) < 2 or (score_by != "accuracy" and len(np.unique(y)) < 2):
        return 1.0
    if score_by == "accuracy":
        right = int((np.argmax(outputs, axis=1) == y).sum())
        p = float(binom.sf(right - 1, len(y), np.bincount(y).max() / len(y)))
    else:
        weights, rng = _weights(outputs, y, score_by), np.random.default_rng(seed)
        rows = np.arange(len(y))
        # of classes the codes are permuted, of numbers their places
        places = y if score_by == "auc" else rows
        observed = float(weights[rows, places].sum()) if score_by == "auc" else float(weights @ y)

        def draw(count: int) -> np.ndarray:
            order = rng.permuted(np.tile(places, (count, 1)), axis=1)
            return weights[rows, order].sum(1) if score_by == "auc" else y[order] @ weights

        p = _monte_carlo(observed, draw)
    return min(1.0, n_runs * p)


def chance_of_no_difference(first: Outputs, second: Outputs, y: Target, score_by: str, seed: int) -> float:
    """Return the chance that two equally good models differ as much on these rows, in either direction."""
    if len(y) == 0 or (score_by != "accuracy" and len(np.unique(y)) < 2):
        return 1.0
    if score_by == "accuracy":
        better = (np.argmax(first, axis=1) == y).astype(int) - (np.argmax(second, axis=1) == y)
        n_differ = int((better != 0).sum())
        return 1.0 if n_differ == 0 else float(binomtest(int((better > 0).sum()), n_differ).pvalue)
    if score_by == "auc":
        rows = np.arange(len(y))
        gains = (_weights(first, y, score_by) - _weights(second, y, score_by))[rows, y]
    else:
        gains = (np.ravel(second) - y) ** 2 - (np.ravel(first) - y) ** 2
    if not np.any(gains):
        return 1.0
    rng = np.random.default_rng(seed)

    def draw(count: int) -> np.ndarray:
        return np.abs((2.0 * rng.integers(0, 2, (count, len(gains)), dtype=np.int8) - 1.0) @ gains)

    return _monte_carlo(abs(float(gains.sum())), draw)


def _weights(outputs: Outputs, y: Target, score_by: str) -> np.ndarray:
    """What a row adds to the score, a column a class; of R^2, the centred predictions."""
    if score_by == "r2":
        return np.ravel(outputs) - np.mean(outputs)
    counts = np.bincount(y, minlength=outputs.shape[1])
    scale = np.where(counts > 0, 1.0 / np.maximum(counts * (len(y) - counts), 1), 0.0)
    return rank_shares(torch.as_tensor(outputs)).numpy() * scale


def _monte_carlo(observed: float, draw: Callable[[int], np.ndarray]) -> float:
    """Share of draws at least as large as what was observed, itself counted."""
    least = observed - 1e-9 * max(1.0, abs(observed)) if math.isfinite(observed) else -math.inf
    as_large = drawn = 0
    while drawn < _DRAWS and as_large < _PLAIN:
        count = min(_AT_ONCE, _DRAWS - drawn)
        as_large += int((draw(count) >= least).sum())
        drawn += count
    return (as_large + 1) / (drawn + 1)
