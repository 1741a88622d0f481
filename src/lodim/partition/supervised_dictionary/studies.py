"""Drawing data from the model, and trying it over xi."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.model_selection import StratifiedKFold
from sklearn.utils.multiclass import check_classification_targets

from lodim.partition.supervised_dictionary.estimator import MODELS, SupervisedDictionary, plain_labels
from lodim.plots import COLORS, new_axes
from lodim.randomness import RandomState, as_generator
from lodim.results import Result
from lodim.validation import check_choice, check_counts, check_in_range, check_matrix, checked

_STEPS = (0.01, 0.1, 1.0, 10.0, 100.0)


@dataclass(frozen=True)
class SimulatedDictionary(Result):
    """Samples of a supervised dictionary.

    Attributes
    ----------
    X : ndarray, shape (n_samples, n_features)
    y : ndarray, shape (n_samples,)
        Whole numbers from 0.
    aux : ndarray, shape (n_samples, n_aux)
    codes : ndarray, shape (n_samples, n_components)
    """

    X: np.ndarray
    y: np.ndarray
    aux: np.ndarray
    codes: np.ndarray

    def __str__(self) -> str:
        counts = ", ".join(map(str, np.bincount(self.y)))
        return f"{len(self.X)} samples, {self.codes.shape[1]} atoms of {self.X.shape[1]} entries; classes of {counts}"


@checked
def simulate_dictionary(
    n_samples: int | np.integer,
    dictionary: Any,
    coef: Any,
    *,
    aux_coef: Any = None,
    intercept: float | int | np.floating = 0.0,
    noise: float | int | np.floating = 0.1,
    model: str = "filter",
    random_state: RandomState = None,
) -> SimulatedDictionary:
    """Draw samples of the generative model, of which ``xi = 1 / (2 noise^2)`` and ``alpha = 0`` give the likelihood.

    Codes and auxiliary covariates are standard normal, ``X = codes @ dictionary + noise * normal``, and labels have the
    logits ``X @ dictionary.T @ coef.T`` (filter) or ``codes @ coef.T`` (feature), plus ``aux @ aux_coef.T``.

    Parameters
    ----------
    n_samples : int
    dictionary : array-like, shape (n_components, n_features)
        Atoms; the longer one is, the more of the data it makes up.
    coef : array-like, shape (n_classes - 1, n_components)
    aux_coef : array-like, shape (n_classes - 1, n_aux), optional
    intercept : float
        Of every class against the first.
    noise : float
        Standard deviation.
    model : {"filter", "feature"}
    random_state : int, Generator or None
    """
    check_counts(n_samples=n_samples)
    check_choice(model, MODELS, "model")
    check_in_range(noise, "noise", low=0.0, high=1e100)
    check_in_range(intercept, "intercept", low=-1e100, high=1e100)
    W = check_matrix(dictionary, name="dictionary")
    beta = check_matrix(coef, name="coef")
    r = len(W)
    Gamma = np.empty((len(beta), 0)) if aux_coef is None else check_matrix(aux_coef, name="aux_coef")
    if beta.shape[1] != r or len(Gamma) != len(beta):
        raise ValueError(
            f"coef must have a column for each of the {r} atoms and aux_coef as many rows as coef, got shapes "
            f"{beta.shape} and {Gamma.shape}"
        )
    rng = as_generator(random_state)
    n = int(n_samples)
    codes = rng.standard_normal((n, r))
    aux = rng.standard_normal((n, Gamma.shape[1]))
    with np.errstate(over="ignore", invalid="ignore"):
        X = codes @ W + noise * rng.standard_normal((n, W.shape[1]))
        logits = (X @ W.T if model == "filter" else codes) @ beta.T + aux @ Gamma.T + intercept
    if not (np.isfinite(X).all() and np.isfinite(logits).all()):
        raise ValueError(
            "dictionary, coef and aux_coef must leave X and the logits finite: make them smaller"
        )
    # the largest of Gumbel-perturbed logits is a draw of the softmax
    scores = np.c_[np.zeros(n), logits] + rng.gumbel(size=(n, len(beta) + 1))
    return SimulatedDictionary(X, scores.argmax(1), aux, codes)


@dataclass(frozen=True)
class TradeOffCurve(Result):
    """What held-out rows lose in reconstruction and gain in accuracy as xi falls.

    Attributes
    ----------
    xi : tuple of float
        Ascending.
    accuracy, accuracy_se : tuple of float
        Mean over the folds, and its standard error.
    reconstruction_error : tuple of float
        ``||X - X'||^2 / ||X||^2`` of held-out rows, mean over the folds.
    """

    xi: tuple[float, ...]
    accuracy: tuple[float, ...]
    accuracy_se: tuple[float, ...]
    reconstruction_error: tuple[float, ...]
    n_folds: int

    def __post_init__(self) -> None:
        # JSON has no infinity: it reads back as NaN, which no xi is
        object.__setattr__(self, "xi", tuple(math.inf if math.isnan(xi) else xi for xi in self.xi))

    def to_frame(self) -> pd.DataFrame:
        """One row for each xi."""
        names = ("xi", "accuracy", "accuracy_se", "reconstruction_error")
        return pd.DataFrame({name: getattr(self, name) for name in names})

    def __str__(self) -> str:
        title = f"accuracy and reconstruction error of held-out rows, {self.n_folds} folds"
        return f"{title}\n{self.to_frame().to_string(index=False, float_format='{:.4g}'.format)}"

    def plot(self, ax: Any = None) -> Any:
        """Accuracy over reconstruction error, a point for each xi.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
        """
        ax = new_axes(ax)
        ax.errorbar(
            self.reconstruction_error, self.accuracy, self.accuracy_se, marker="o", color=COLORS[0], capsize=2
        )
        for i, (xi, error, accuracy) in enumerate(
            zip(self.xi, self.reconstruction_error, self.accuracy, strict=True)
        ):
            beside = (4, 4) if i % 2 else (4, -11)  # neighbours lie close, their labels on either side
            ax.annotate(f"{xi:.2g}", (error, accuracy), textcoords="offset points", xytext=beside, fontsize=8)
        ax.set_xlabel("reconstruction error (share of squared norm), held-out rows")
        ax.set_ylabel("accuracy")
        ax.set_title("Labels against reconstruction, by xi")
        return ax


@checked
def trade_off_curve(
    estimator: SupervisedDictionary,
    X: Any,
    y: Any,
    aux: Any = None,
    *,
    xi: Sequence[float] | None = None,
    n_folds: int | np.integer = 5,
) -> TradeOffCurve:
    """Cross-validate an estimator over xi.

    Parameters
    ----------
    estimator : SupervisedDictionary
        Not fitted itself; its own ``xi`` is not read.
    X : array-like, shape (n_samples, n_features)
    y : array-like, shape (n_samples,)
    aux : array-like, shape (n_samples, n_aux), optional
    xi : sequence of float, optional
        By default a hundredth to a hundred times ``n_samples log(n_classes) / ||X||^2``, at which the labels and the
        reconstruction weigh alike to begin with.
    n_folds : int
        Stratified, without shuffling.
    """
    data = check_matrix(X)
    labels = plain_labels(y, len(data))
    check_classification_targets(labels)
    side = None if aux is None else check_matrix(aux, name="aux")
    if side is not None and len(side) != len(data):
        raise ValueError(f"aux must have as many rows as X, got {len(side)} and {len(data)}")
    rarest = int(np.unique(labels, return_counts=True)[1].min())
    check_in_range(n_folds, "n_folds", low=2, integer=True)
    if n_folds > rarest:
        raise ValueError(f"n_folds must be at most the rows of the rarest class, {rarest}, got {n_folds}")
    norm = float(np.linalg.norm(data))
    if xi is None:
        if not norm:
            raise ValueError("X must not be zero throughout, or xi must be given")
        level = len(data) * np.log(max(2, len(np.unique(labels)))) / norm**2
        xi = [level * step for step in _STEPS]
    grid = sorted(float(check_in_range(value, "xi", low=0.0)) for value in xi)
    if not grid:
        raise ValueError("xi must hold at least one number, got none")
    accuracy, error = np.empty((2, len(grid), int(n_folds)))
    folds = list(StratifiedKFold(int(n_folds)).split(data, labels))
    for i, value in enumerate(grid):
        for j, (train, held) in enumerate(folds):
            at = [None if side is None else side[rows] for rows in (train, held)]
            fitted = clone(estimator).set_params(xi=value).fit(data[train], labels[train], at[0])
            accuracy[i, j] = fitted.score(data[held], labels[held], aux=at[1])
            rest = data[held] - fitted.reconstruct(data[held])
            error[i, j] = np.vdot(rest, rest) / (np.vdot(data[held], data[held]) or 1.0)
    se = accuracy.std(1, ddof=1) / np.sqrt(len(folds))
    return TradeOffCurve(
        tuple(grid),
        tuple(accuracy.mean(1).tolist()),
        tuple(se.tolist()),
        tuple(error.mean(1).tolist()),
        len(folds),
    )
