"""The rows that were held out, and what they say: of a constant, a linear model and the network side by side."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lodim.datasets import Split
from lodim.neighbors import first_occurrences
from lodim.profiling import verdicts
from lodim.randomness import derive_seed

__all__ = ["HeldOut", "Judged", "fit_linear", "outputs_of"]

# from this share of the commonest class on, accuracy says little: 90 % of 0.74 is a constant's
UNEQUAL = 2 / 3
_MANY_NUMBERS = 1e8


@dataclass(frozen=True)
class Judged:
    """What the held-out rows say of the best of several runs."""

    n_runs: int
    guess_p: float
    auc: float | None = None  # where the score is the accuracy
    auc_p: float | None = None
    linear_gain: float | None = None
    linear_p: float | None = None


class HeldOut:
    """Held-out rows with a constant's and a linear model's answers.

    ``parts`` have classes 0, 1, ..., each with rows to train on; ``score_by`` is "accuracy", "auc" or "r2". Scores are
    of all rows. Verdicts rest on one row of each set of equal ones (``told``): copies are no new evidence.
    """

    def __init__(self, parts: Split, kind: str | None, seed: int, *, linear: bool = True):
        self.parts, self.kind, self.seed = parts, kind, seed
        self.told = first_occurrences(parts.X_val) == np.arange(len(parts.X_val))
        self.score_by = "r2" if kind == "regression" else "accuracy"
        if kind != "regression" and np.bincount(parts.y).max() >= UNEQUAL * len(parts.y):
            self.score_by = "auc"
        self.linear: np.ndarray | None = None  # its outputs
        self.linear_parameters: int | None = None
        if linear:
            self.linear, self.linear_parameters = fit_linear(parts, kind)

    @property
    def commonest(self) -> int:
        """The class that a constant answers."""
        return 0 if self.kind == "regression" else int(np.bincount(self.parts.y).argmax())

    @property
    def chance(self) -> float:
        """The constant's score."""
        return verdicts.constant_score(self.parts.y_val, self.score_by, self.commonest)

    @property
    def majority(self) -> float | None:
        """The constant's accuracy."""
        if self.kind == "regression":
            return None
        return verdicts.constant_score(self.parts.y_val, "accuracy", self.commonest)

    @property
    def linear_score(self) -> float | None:
        """The linear model's score."""
        return None if self.linear is None else verdicts.score(self.linear, self.parts.y_val, self.score_by)

    def judge(self, outputs: np.ndarray, n_runs: int) -> Judged:
        """Set the outputs of the best of ``n_runs`` runs against guessing and against the linear model."""
        y, own = self.parts.y_val[self.told], outputs[self.told]
        seed = derive_seed(self.seed, "verdict")
        guess_p = verdicts.chance_of_guessing(own, y, self.score_by, n_runs, seed)
        auc = auc_p = gain = linear_p = None
        if self.score_by == "accuracy" and len(np.unique(y)) > 1:
            auc = verdicts.score(own, y, "auc")
            auc_p = verdicts.chance_of_guessing(own, y, "auc", n_runs, seed)
        if self.linear is not None and len(y) > 0:
            other = self.linear[self.told]
            gain = verdicts.score(other, y, self.score_by) - verdicts.score(own, y, self.score_by)
            linear_p = verdicts.chance_of_no_difference(other, own, y, self.score_by, seed)
        return Judged(n_runs, guess_p, auc, auc_p, gain, linear_p)

    def floor(self, baseline: float) -> float:
        """Return the score from which 90 per cent are counted.

        Nothing where 90 per cent of the score itself is more than a constant's luck reaches on these rows, else what a
        constant scores.
        """
        y = self.parts.y_val[self.told]
        if self.score_by != "accuracy" or len(y) == 0:
            return self.chance
        lucky = verdicts.guessers_best(y, self.score_by, float(np.bincount(y).max() / len(y)))
        return self.chance if 0.9 * baseline <= lucky else 0.0


def outputs_of(module: torch.nn.Module, X: np.ndarray, image_shape: tuple[int, ...] | None) -> np.ndarray:
    """Return a model's outputs for rows (n, D), as double precision: (n, n_outputs), or (n,) for one output."""
    module.eval()
    first = next(module.parameters())
    rows = torch.from_numpy(X).reshape(len(X), *(image_shape or X.shape[1:])).to(first.device)
    with torch.no_grad():
        outputs = torch.cat([module(part) for part in rows.split(2048)])
    found = outputs.double().cpu().numpy()
    return found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found


def fit_linear(parts: Split, kind: str | None) -> tuple[np.ndarray, int]:
    """Return a linear model's outputs on the held-out rows, and the number of its weights.

    Logistic regression for classes (ridge classification where that would be slow), ridge regression for numbers.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier

    if kind == "regression":
        model: Any = Ridge(alpha=1.0)
    elif parts.X.size * len(np.unique(parts.y)) < _MANY_NUMBERS:
        model = LogisticRegression(max_iter=100)
    else:
        model = RidgeClassifier(alpha=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ConvergenceWarning
        )  # a hundred steps are near enough for a comparison
        model.fit(parts.X, parts.y)
    n_weights = int(np.size(model.coef_) + np.size(model.intercept_))
    if kind == "regression":
        return np.asarray(model.predict(parts.X_val), dtype=np.float64), n_weights
    said = np.asarray(model.decision_function(parts.X_val), dtype=np.float64)
    if said.ndim == 1:
        said = np.stack([np.zeros_like(said), said], axis=1)  # log-odds of two classes
    return said, n_weights
