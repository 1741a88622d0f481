r"""What is done afterwards: maps from a fitted classifier's logits to probabilities, learnt on held-out rows.

With z the log-odds of an event and p = sigmoid(z), they answer

====================  ========================================  =============================================
name                  probability                               source
====================  ========================================  =============================================
temperature           sigmoid(z / T), T > 0                     Guo, Pleiss, Sun, Weinberger 2017
platt                 sigmoid(a z + b)                          Platt 1999, with his targets
isotonic              the rising function nearest to y          Zadrozny, Elkan 2002
histogram             mean outcome of the bin of z              Zadrozny, Elkan 2001; bins of equal counts
beta                  logit = a log p - b log(1 - p) + c        Kull, Silva Filho, Flach 2017; a, b >= 0
dirichlet             softmax(W log p + b)                      Kull and others 2019, penalised off the diagonal
====================  ========================================  =============================================

Of more than two classes "temperature" and "dirichlet" take all logits at once; the others take each class against the
rest, and divide by the sum.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted, validate_data

from lodim.trust.black_boxes import check_rows, plain_labels, read_black_box
from lodim.validation import (
    ConvergenceWarning,
    check_choice,
    check_counts,
    check_in_range,
    check_numbers,
    warn,
)

__all__ = [
    "BetaCalibration",
    "Calibrated",
    "DirichletCalibration",
    "HistogramBinning",
    "IsotonicScaling",
    "PlattScaling",
    "TemperatureScaling",
]

_LOG_T = 7.0  # temperatures from e^-7 to e^7, in units of the logits' spread


class _Scaling(ClassifierMixin, BaseEstimator):
    """A map from logits to probabilities: of one number a row, or of one a class."""

    _all_at_once: ClassVar[bool] = False

    def fit(self, logits: Any, y: Any) -> _Scaling:
        """Learn the map from rows that the model was not trained on.

        Parameters
        ----------
        logits : array-like, shape (n,) or (n, n_classes)
            Log-odds of the second of two labels, or logits up to a constant a row, columns in order of the labels.
        y : array-like, shape (n,)
            Labels of any kind; each class must occur.

        Raises
        ------
        ValueError
            Logits that are not finite, one class, classes of another number than the logits'.
        """
        rows = self._rows(logits)
        self.classes_, codes = np.unique(plain_labels(y, len(rows)), return_inverse=True)
        n_classes = max(2, rows.shape[1])
        if len(self.classes_) != n_classes:
            raise ValueError(
                f"logits are of {n_classes} classes, but y has {len(self.classes_)}: "
                f"{self.classes_[:8].tolist()}; fit on rows of every class"
            )
        self._width = rows.shape[1]
        if self._all_at_once:
            self.maps_ = [self._fit_map(rows, codes)]
        elif n_classes == 2:
            self.maps_ = [self._fit_map(_one(rows), codes)]
        else:
            odds = _against_the_rest(rows)
            self.maps_ = [self._fit_map(odds[:, k], (codes == k).astype(int)) for k in range(n_classes)]
        return self

    def predict_proba(self, logits: Any) -> Float[np.ndarray, "n k"]:
        """Probabilities of the labels.

        Parameters
        ----------
        logits : array-like, shape (n,) or (n, n_classes)
            As in ``fit``.
        """
        check_is_fitted(self)
        rows = self._rows(logits)
        if rows.shape[1] != self._width:
            raise ValueError(f"logits must have {self._width} numbers a row as in fit, got {rows.shape[1]}")
        if self._all_at_once:
            return self._apply(self.maps_[0], rows)
        if len(self.maps_) == 1:
            p = self._apply(self.maps_[0], _one(rows))
            return np.column_stack([1 - p, p])
        odds = _against_the_rest(rows)
        p = np.column_stack([self._apply(m, odds[:, k]) for k, m in enumerate(self.maps_)])
        total = p.sum(1, keepdims=True)  # zero where steps say that it is none of them: then nothing is known
        return np.where(total > 0, p / np.where(total > 0, total, 1), 1 / p.shape[1])

    def predict(self, logits: Any) -> np.ndarray:
        """Label of the largest probability.

        Parameters
        ----------
        logits : array-like, shape (n,) or (n, n_classes)
        """
        p = self.predict_proba(logits)
        return self.classes_[p.argmax(1)]

    def _rows(self, logits: Any) -> Float[np.ndarray, "n k"]:
        rows = check_numbers(logits, "logits")
        rows = rows[:, None] if rows.ndim == 1 else rows
        if rows.ndim != 2 or not rows.size:
            raise ValueError(f"logits must have shape (n,) or (n, n_classes), got {rows.shape}")
        if not (np.abs(rows) < 1e100).all():
            raise ValueError("logits must be finite; of probabilities 0 and 1 they are not: use Calibrated")
        if rows.shape[1] > 1 and (rows >= 0).all() and np.abs(rows.sum(1) - 1).max() < 1e-6:
            raise ValueError("logits has rows of probabilities; give their logarithms, or use Calibrated")
        return rows

    def _fit_map(self, z: Any, t: Int[np.ndarray, " n"]) -> Any:
        raise NotImplementedError

    def _apply(self, fitted: Any, z: Any) -> np.ndarray:
        raise NotImplementedError


def _one(rows: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
    return rows[:, 0] if rows.shape[1] == 1 else rows[:, 1] - rows[:, 0]


def _all(rows: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n c"]:
    return np.column_stack([np.zeros(len(rows)), rows[:, 0]]) if rows.shape[1] == 1 else rows


def _against_the_rest(rows: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    """Log-odds of each class, without a difference of nearly equal numbers."""
    rest = np.empty_like(rows)
    for k in range(rows.shape[1]):
        others = np.delete(rows, k, axis=1)
        top = others.max(1)
        rest[:, k] = top + np.log(np.exp(others - top[:, None]).sum(1))
    return rows - rest


class TemperatureScaling(_Scaling):
    """Logits divided by one number: no order changes, so neither do AUC and accuracy.

    Attributes
    ----------
    temperature_ : float
    classes_ : ndarray

    References
    ----------
    Guo et al. 2017, arXiv 1706.04599.
    """

    _all_at_once = True

    def _fit_map(self, z: Any, t: Int[np.ndarray, " n"]) -> float:
        logits = _all(z)
        # in units of a usual row's spread, so that any scale of logits will do; a constant needs none
        spread = np.abs(logits - logits.mean(1, keepdims=True)).max(1)
        unit = float(np.median(spread[spread > 0])) if spread.any() else 1.0
        scaled, high = logits / unit, _LOG_T + math.log(max(float(spread.max()) / unit, 1.0))

        def loss(log_t: float) -> float:
            return -float(log_softmax(scaled * math.exp(-log_t), axis=1)[np.arange(len(t)), t].mean())

        found = minimize_scalar(loss, bounds=(-_LOG_T, high), method="bounded", options={"xatol": 1e-9})
        for end, reason in (
            (high, "say nothing of the classes, or the reverse"),
            (-_LOG_T, "order the classes perfectly"),
        ):
            # a loss that is flat there stops it before
            if abs(found.x - end) < 1e-3 or loss(end) <= found.fun:
                warn(f"the temperature has no best value: the logits {reason}", ConvergenceWarning)
                break
        self.temperature_ = math.exp(found.x) * unit
        return self.temperature_

    def _apply(self, fitted: float, z: Any) -> np.ndarray:
        return softmax(_all(z) / fitted, axis=1)


def _logistic(features: Float[np.ndarray, "n d"], t: Int[np.ndarray, " n"]) -> Any:
    """Logistic regression towards Platt's targets, finite where classes are separated too."""
    n_events = t.sum()
    high, low = (n_events + 1) / (n_events + 2), 1 / (len(t) - n_events + 2)
    target = np.where(t == 1, high, low)
    both, labels = np.concatenate([features, features]), np.repeat([1, 0], len(t))
    scale = np.abs(features).max(0)
    scale[scale == 0] = 1.0
    # the penalty is nothing but what decides among equals: constant columns, or two that are one
    model = LogisticRegression(C=1e9, max_iter=1000, tol=1e-8, solver="newton-cholesky")
    model.fit(both / scale, labels, sample_weight=np.concatenate([target, 1 - target]))
    return model.coef_[0] / scale, float(model.intercept_[0])


class PlattScaling(_Scaling):
    """A logistic curve of the log-odds: slope and offset.

    Attributes
    ----------
    maps_ : list of (coefficients, intercept)
        One, or one a class of more than two.
    classes_ : ndarray

    References
    ----------
    Platt, Probabilistic outputs for support vector machines, 1999.
    """

    def _fit_map(self, z: Any, t: Int[np.ndarray, " n"]) -> Any:
        return _logistic(z[:, None], t)

    def _apply(self, fitted: Any, z: Any) -> np.ndarray:
        (slope,), offset = fitted
        return expit(slope * z + offset)


class BetaCalibration(_Scaling):
    """Platt scaling with a slope of its own for each end: for scores that are no log-odds.

    Attributes
    ----------
    maps_ : list of (coefficients, intercept)
        (a, b) and c: log-odds a log p - b log(1 - p) + c.
    classes_ : ndarray

    References
    ----------
    Kull, Silva Filho, Flach, Beta calibration, 2017.
    """

    def _fit_map(self, z: Any, t: Int[np.ndarray, " n"]) -> Any:
        features = self._features(z)
        coef, offset = _logistic(features, t)
        if (coef < 0).any():  # the best on the boundary, as in the paper
            keep = int(coef.argmax())
            one, offset = _logistic(features[:, [keep]], t)
            coef = np.zeros(2)
            coef[keep] = max(one[0], 0.0)
            if one[0] < 0:
                offset = _logistic(np.zeros((len(t), 1)), t)[1]
        return coef, offset

    def _features(self, z: Any) -> Float[np.ndarray, "n 2"]:
        return np.column_stack([log_expit(z), -log_expit(-z)])

    def _apply(self, fitted: Any, z: Any) -> np.ndarray:
        coef, offset = fitted
        return expit(self._features(z) @ coef + offset)


class IsotonicScaling(_Scaling):
    """The rising function of the logits nearest to the outcomes: steps, joined by lines; needs a thousand rows or so.

    Attributes
    ----------
    maps_ : list of IsotonicRegression
    classes_ : ndarray

    References
    ----------
    Zadrozny, Elkan, Transforming classifier scores into accurate multiclass probability estimates, 2002.
    """

    def _fit_map(self, z: Any, t: Int[np.ndarray, " n"]) -> Any:
        return IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(z, t)

    def _apply(self, fitted: Any, z: Any) -> np.ndarray:
        return fitted.predict(z)


class HistogramBinning(_Scaling):
    """Mean outcomes of bins of equal counts; answers 0 or 1 where a bin has outcomes of one kind.

    Parameters
    ----------
    n_bins : int
        At most the rows of the fit; fewer where logits are tied.

    Attributes
    ----------
    maps_ : list of (inner edges, mean outcomes)
    classes_ : ndarray

    References
    ----------
    Zadrozny, Elkan, Obtaining calibrated probability estimates from decision trees and naive Bayesian
    classifiers, 2001.
    """

    def __init__(self, n_bins: Any = 15):
        self.n_bins = n_bins

    def _fit_map(self, z: Any, t: Int[np.ndarray, " n"]) -> Any:
        check_counts(n_bins=self.n_bins)
        if len(z) < self.n_bins:
            raise ValueError(f"n_bins={self.n_bins} needs as many rows, got {len(z)}; lower n_bins")
        edges = np.unique(np.quantile(z, np.linspace(0, 1, int(self.n_bins) + 1)[1:-1]))
        at = np.searchsorted(edges, z)
        counts = np.bincount(at, minlength=len(edges) + 1)
        edges = edges[counts[:-1] > 0] if counts[-1] else edges[counts[:-1] > 0][:-1]  # each bin holds some
        at = np.searchsorted(edges, z)
        return edges, np.bincount(at, t) / np.bincount(at)

    def _apply(self, fitted: Any, z: Any) -> np.ndarray:
        edges, share = fitted
        return share[np.searchsorted(edges, z)]


class DirichletCalibration(_Scaling):
    """A linear map of log-probabilities, near the identity's diagonal form where rows are few.

    Parameters
    ----------
    penalty : float
        Of the squares of the map's entries off the diagonal and of its offsets, their mean.

    Attributes
    ----------
    maps_ : list of (W, b)
    classes_ : ndarray

    References
    ----------
    Kull et al. 2019, arXiv 1910.12656.
    """

    _all_at_once = True

    def __init__(self, penalty: Any = 1e-3):
        self.penalty = penalty

    def _fit_map(self, z: Any, t: Int[np.ndarray, " n"]) -> Any:
        check_in_range(self.penalty, "penalty", low=0, high=1e6)
        logs = log_softmax(_all(z), axis=1)
        n, k = logs.shape
        scale = max(float(np.abs(logs).max()), 1.0)
        features, hot = np.column_stack([logs / scale, np.ones(n)]), np.eye(k)[t]
        weight = np.full((k, k + 1), self.penalty / (k * (k - 1)))
        np.fill_diagonal(weight, 0)
        weight[:, :k] /= scale**2
        weight[:, k] = self.penalty / k

        def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
            A = flat.reshape(k, k + 1)
            log_p = log_softmax(features @ A.T, axis=1)
            slope = (np.exp(log_p) - hot).T @ features / n
            return float(-(log_p * hot).sum() / n + (weight * A**2).sum()), (slope + 2 * weight * A).ravel()

        start = np.column_stack([np.eye(k) * scale, np.zeros(k)]).ravel()
        found = minimize(
            loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 5000, "gtol": 1e-7, "ftol": 1e-14}
        )
        if not found.success:
            warn(f"the map was not found to the full precision: {found.message}", ConvergenceWarning)
        A = found.x.reshape(k, k + 1)
        return A[:, :k] / scale, A[:, k]

    def _apply(self, fitted: Any, z: Any) -> np.ndarray:
        W, b = fitted
        return softmax(log_softmax(_all(z), axis=1) @ W.T + b, axis=1)


METHODS: dict[str, type[_Scaling]] = {
    "temperature": TemperatureScaling,
    "platt": PlattScaling,
    "isotonic": IsotonicScaling,
    "histogram": HistogramBinning,
    "beta": BetaCalibration,
    "dirichlet": DirichletCalibration,
}


class Calibrated(ClassifierMixin, BaseEstimator):
    """A classifier that was fitted, with its probabilities mapped to calibrated ones.

    Parameters
    ----------
    model : classifier, nn.Module or callable
        Fitted; it stays as it is, and clones share it. See :func:`lodim.trust.black_boxes.read_black_box`.
    method : str or estimator
        "temperature", "platt", "isotonic", "histogram", "beta", "dirichlet", or one of their classes' objects.
    classes : sequence of labels, optional
        Labels in the order of the model's columns, where it does not name them itself.

    Attributes
    ----------
    classes_ : ndarray
        The model's.
    calibrator_ : estimator
        The map, from logarithms of the model's probabilities.
    floor_ : float
        Zero has no logarithm: probabilities below count as this, half the smallest positive one of the fit.

    Examples
    --------
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(600, 3))
    >>> y = rng.random(600) < 1 / (1 + np.exp(-X[:, 0]))
    >>> forest = RandomForestClassifier(50, random_state=0).fit(X[:300], y[:300])
    >>> model = Calibrated(forest, "platt").fit(X[300:], y[300:])
    >>> model.predict_proba(X[:2]).shape
    (2, 2)
    """

    def __init__(self, model: Any, method: Any = "platt", *, classes: Any = None):
        self.model = model
        self.method = method
        self.classes = classes

    def __sklearn_clone__(self) -> Calibrated:
        method = self.method if isinstance(self.method, str) else clone(self.method)
        return type(self)(self.model, method, classes=self.classes)

    def fit(self, X: Any, y: Any) -> Calibrated:
        """Learn the map.

        Parameters
        ----------
        X : array-like, data frame or Tensor, shape (n, ...)
            Rows that the model was not trained on, as it takes them.
        y : array-like, shape (n,)
            Their labels; each of the model's must occur.

        Raises
        ------
        ValueError
            Labels that the model does not know or that are missing, answers that are no probabilities.
        """
        if isinstance(self.method, str):
            calibrator = METHODS[check_choice(self.method, METHODS, "method")]()
        elif isinstance(self.method, _Scaling):
            calibrator = clone(self.method)
        else:
            raise TypeError(
                f"method must be one of {', '.join(METHODS)} or such an object, got {self.method!r}"
            )
        X = check_rows(X)
        self._box = read_black_box(self.model, X, classes=self.classes)
        validate_data(self, X, skip_check_array=True)
        p = self._box.predict_proba(X)
        codes = self._box.class_numbers(y, len(p))
        missing = np.setdiff1d(np.arange(p.shape[1]), codes)
        if len(missing):
            raise ValueError(
                f"y has no row of the class {str(self._box.classes[missing[0]])!r}; calibrate on rows of every class"
            )
        self.classes_ = self._box.classes
        inside = p[(p > 0) & (p < 1)]
        self.floor_ = float(inside.min() / 2) if len(inside) else 1e-3
        self.calibrator_ = calibrator.fit(self._logits(p), codes)
        return self

    def predict_proba(self, X: Any) -> Float[np.ndarray, "n k"]:
        """Calibrated probabilities, columns in the order of ``classes_``.

        Parameters
        ----------
        X : array-like, data frame or Tensor, shape (n, ...)
        """
        check_is_fitted(self)
        X = check_rows(X)
        validate_data(self, X, skip_check_array=True, reset=False)
        return self.calibrator_.predict_proba(self._logits(self._box.predict_proba(X)))

    def predict(self, X: Any) -> np.ndarray:
        """Label of the largest probability.

        Parameters
        ----------
        X : array-like, data frame or Tensor, shape (n, ...)
        """
        p = self.predict_proba(X)
        return self.classes_[p.argmax(1)]

    def _logits(self, p: Float[np.ndarray, "n k"]) -> np.ndarray:
        logs = np.log(np.maximum(p, self.floor_))  # of both columns, for 1 - p is exact in its own only
        return logs[:, 1] - logs[:, 0] if p.shape[1] == 2 else logs
