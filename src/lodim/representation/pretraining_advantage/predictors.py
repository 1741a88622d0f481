r"""Phase two: small predictors on what a pretrainer infers, and what they are to be compared with.

**Table.** With K components and C classes the prediction is :math:`p(c | x) = \sum_k p(k | x)\, \psi(c | k)`, and the
table is the likeliest, with Laplace smoothing, by EM. From soft counts, :math:`r_{jk} = p(k | x_j)`, the rounds are

.. math:: \psi(c | k) = \frac{\alpha + \sum_{j : y_j = c} r_{jk}}{C \alpha + \sum_j r_{jk}}, \qquad
          r_{jk} \propto p(k | x_j)\, \psi(y_j | k), \qquad \alpha = 0.05 / C .

Soft counts alone, without rounds, would shrink the table towards the classes' shares where components overlap, however
many the labels. Where each row is of one component both are the same.

**Joint EM.** Labels may also help to find the components. In :math:`p(x, y) = \sum_k \pi_k N(x; \mu_k, \Sigma_k)
\psi(y | k)` a labelled row belongs to k with probability :math:`\propto p(k | x)\, \psi(y | k)`, an unlabelled one with
:math:`p(k | x)`; means, covariances and table follow from those, in turn. This is the comparison for the two phases.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.special import logsumexp
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.exceptions import DataConversionWarning
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeCV
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from lodim.representation.pretraining_advantage.pretrainers import (
    FactorPretrainer,
    MixturePretrainer,
    check_columns,
    is_table,
    posterior_of,
)
from lodim.validation import (
    ConvergenceWarning,
    check_in_range,
    check_labels,
    check_matrix,
    check_numbers,
    plain_array,
    warn,
)

__all__ = [
    "JointMixtureClassifier",
    "LeastNormHead",
    "PretrainedClassifier",
    "PretrainedRegressor",
    "TableHead",
    "TunedLogistic",
    "default_head",
    "supervised_baselines",
]

Features = Float[np.ndarray, "n r"]
_SMOOTHING = 0.05  # in all classes together
_ROUNDS, _STILL = 200, 1e-4  # of the table's EM


# ---- heads


class LeastNormHead(RegressorMixin, BaseEstimator):
    """Least squares with an intercept, of the least norm where several are best; without columns the mean."""

    def fit(self, X: Any, y: Any) -> LeastNormHead:
        """Learn from features and numbers."""
        features, target = np.asarray(X, dtype=float), np.asarray(y, dtype=float)
        centre, mean = features.mean(0), target.mean()
        self.coef_ = np.linalg.lstsq(features - centre, target - mean, rcond=None)[0]
        self.intercept_ = float(mean - centre @ self.coef_)
        return self

    def predict(self, X: Any) -> Float[np.ndarray, " n"]:
        """Numbers."""
        check_is_fitted(self)
        return np.asarray(X, dtype=float) @ self.coef_ + self.intercept_


class TableHead(ClassifierMixin, BaseEstimator):
    """How often each component has each class, from probabilities of components.

    Attributes
    ----------
    table_ : ndarray, shape (n_components, n_classes)
        Rows sum to one; that of a component without labelled rows is even.
    """

    def fit(self, X: Any, y: Any) -> TableHead:
        """Learn from probabilities (n_samples, n_components) and classes."""
        shares = np.asarray(X, dtype=float)
        if not is_table(shares):
            raise ValueError(
                "TableHead needs probabilities of components: no negative one, each row's sum one"
            )
        self.classes_, codes = np.unique(y, return_inverse=True)
        self.table_ = soft_table(shares, codes, len(self.classes_))
        for _ in range(_ROUNDS):
            before, joint = self.table_, shares * self.table_[:, codes].T
            self.table_ = soft_table(joint / joint.sum(1, keepdims=True), codes, len(self.classes_))
            if np.abs(self.table_ - before).max() < _STILL:
                break
        return self

    def predict_proba(self, X: Any) -> Float[np.ndarray, "n c"]:
        """Probabilities of classes."""
        check_is_fitted(self)
        return np.asarray(X, dtype=float) @ self.table_

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class."""
        places = self.predict_proba(X).argmax(1)
        return self.classes_[places]


def soft_table(shares: Features, codes: Int[np.ndarray, " n"], n_classes: int) -> Float[np.ndarray, "r c"]:
    """Smoothed shares of the classes in each component."""
    counts = shares.T @ np.eye(n_classes)[codes] + _SMOOTHING / n_classes
    return counts / counts.sum(1, keepdims=True)


class TunedLogistic(ClassifierMixin, BaseEstimator):
    """Logistic regression on standardised columns, its C by cross-validated log-loss, however few rows there are.

    A class of one row stays in every training part; where all are such, there is nothing to validate with and C is 1.
    One class alone, or no columns, are answered with the classes' shares.

    Parameters
    ----------
    Cs : sequence of float
        Inverse penalties; ``(inf,)`` is no penalty. One alone is taken without validation.
    n_folds : int

    Attributes
    ----------
    C_ : float
        NaN where nothing was to be fitted.
    classes_ : ndarray
    """

    def __init__(self, Cs: Any = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0), n_folds: Any = 3) -> None:
        self.Cs = Cs
        self.n_folds = n_folds

    def fit(self, X: Any, y: Any) -> TunedLogistic:
        """Learn from features and classes."""
        check_in_range(self.n_folds, "n_folds", low=2, integer=True)
        if not len(self.Cs):
            raise ValueError("Cs must hold at least one number")
        features = check_numbers(X, "X")
        self.classes_, codes, counts = np.unique(
            check_labels(y, len(features)), return_inverse=True, return_counts=True
        )
        self._shares, self._model, self.C_ = counts / counts.sum(), None, math.nan
        if features.shape[1] and len(counts) > 1:
            self.C_ = self._choose(features, codes, counts)
            self._model = _logistic(self.C_).fit(features, codes)
        return self

    def _choose(self, features: Features, codes: np.ndarray, counts: np.ndarray) -> float:
        if len(self.Cs) == 1:
            return float(self.Cs[0])
        n_folds = min(self.n_folds, int(counts.max()))
        if n_folds < 2:
            return 1.0
        place = np.empty(len(codes), dtype=int)  # of a row among those of its class
        for k in range(len(counts)):
            place[codes == k] = np.arange(counts[k])
        fold = np.where(counts[codes] > 1, place % n_folds, -1)
        losses = np.zeros(len(self.Cs))
        with warnings.catch_warnings(
            action="ignore", category=ConvergenceWarning
        ):  # that of the last fit is told
            for i, C in enumerate(self.Cs):
                for part in range(n_folds):
                    held = fold == part
                    model = _logistic(C).fit(features[~held], codes[~held])
                    # of logits, as logs of rounded probabilities are infinite
                    logits = model.decision_function(features[held])
                    logits = np.c_[np.zeros(len(logits)), logits] if logits.ndim == 1 else logits
                    losses[i] += (
                        logsumexp(logits, axis=1) - logits[np.arange(len(logits)), codes[held]]
                    ).sum()
        return float(self.Cs[int(losses.argmin())])

    def predict_proba(self, X: Any) -> Float[np.ndarray, "n c"]:
        """Probabilities of classes."""
        check_is_fitted(self)
        features = check_numbers(X, "X")
        if self._model is None:
            return np.tile(self._shares, (len(features), 1))
        return np.asarray(self._model.predict_proba(features))

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class."""
        places = self.predict_proba(X).argmax(1)
        return self.classes_[places]


def _logistic(C: float) -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=1000))


def default_head(is_table: bool, classification: bool) -> Any:
    """Return the head that fits features: least squares for numbers; for classes a table, or tuned logistic regression.

    On probabilities of components least squares is the Bayes prediction too: the mean of a number per component.
    """
    if not classification:
        return LeastNormHead()
    return TableHead() if is_table else TunedLogistic()


def supervised_baselines(classification: bool) -> dict[str, Any]:
    """Return supervised predictors to be compared with, by name.

    First the strong one, tuned by cross-validation that works with a handful of rows: ridge regression with its alpha
    by leave-one-out, or logistic regression with its C. Then the one of the class that pretrainer and head compose,
    all of x with no penalty.
    """
    if classification:
        return {"logistic": TunedLogistic(), "unpenalised logistic": TunedLogistic((math.inf,))}
    ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 6, 19)))
    return {"ridge": ridge, "least squares": LinearRegression()}


# ---- both phases


def read_labelled(
    X: Any, y: Any, classification: bool, name: str, names: tuple[str, str] = ("X", "y")
) -> tuple[np.ndarray, np.ndarray]:
    """Rows, at least two, and their targets; ``names`` are the arguments'."""
    rows = check_matrix(X, name=names[0], min_rows=2)
    if y is None:
        raise ValueError(
            f"{name} requires y to be passed, but the target y is None: give one for each row of X"
        )
    target = check_labels(y, len(rows), name=names[1])
    if plain_array(y, names[1]).ndim == 2:
        warn(
            "A column-vector y was passed when a 1d array was expected: its one column is taken",
            DataConversionWarning,
            stacklevel=4,
        )
    if target.dtype == object and (plain := np.asarray(target.tolist())).dtype.kind in "biuf":
        target = plain  # numbers held as objects
    if classification:
        check_classification_targets(target)
        return rows, target
    return rows, check_numbers(target, names[1])


def read_unlabelled(X_unlabelled: Any, rows: np.ndarray, X: Any = None) -> np.ndarray:
    """Rows without labels, maybe none; if X is a data frame, with its columns."""
    if X_unlabelled is None:
        return rows[:0]
    check_columns(X, X_unlabelled, ("X", "X_unlabelled"))
    extra = check_matrix(X_unlabelled, name="X_unlabelled", min_rows=0)
    if extra.shape[1] != rows.shape[1]:
        raise ValueError(
            f"X_unlabelled must have the columns of X, got shapes {extra.shape} and {rows.shape}; rows are samples: is "
            "one of them transposed?"
        )
    return extra


class _Pretrained(BaseEstimator):
    """What both predictors share."""

    _classification = False

    def __init__(self, pretrainer: Any = None, head: Any = None, use_labelled_inputs: Any = True) -> None:
        self.pretrainer = pretrainer
        self.head = head
        self.use_labelled_inputs = use_labelled_inputs

    def fit(self, X: Any, y: Any, X_unlabelled: Any = None) -> Any:
        """Learn the pretrainer from all inputs, then the head from the labelled rows.

        Parameters
        ----------
        X : array-like, shape (n_samples, n_features)
        y : array-like, shape (n_samples,)
        X_unlabelled : array-like, shape (m, n_features), optional
            More rows, whose labels nobody knows; may be none.

        Raises
        ------
        ValueError
            Bad input, fewer than two labelled rows, unlabelled rows of other columns, or none to learn from.
        """
        rows, target = read_labelled(X, y, self._classification, type(self).__name__)
        validate_data(self, X if hasattr(X, "columns") else rows, skip_check_array=True)
        extra = read_unlabelled(X_unlabelled, rows, X)
        if not self.use_labelled_inputs and not len(extra):
            raise ValueError("use_labelled_inputs=False leaves no row to pretrain on: give X_unlabelled")
        inputs = np.concatenate([rows, extra]) if self.use_labelled_inputs else extra
        start = self.pretrainer
        if start is None:
            start = MixturePretrainer(random_state=0) if self._classification else FactorPretrainer()
        for name, part in (("pretrainer", start), ("head", self.head)):
            if part is not None and not hasattr(part, "fit"):
                raise TypeError(f"{name} must be an estimator with fit, got a {type(part).__name__}")
        self.pretrainer_ = clone(start).fit(inputs)
        features, of_components = posterior_of(self.pretrainer_, rows)
        self.n_components_ = features.shape[1]
        if self.head is not None and not self.n_components_:
            raise ValueError(
                f"{type(start).__name__} finds no component, and a head cannot learn from nothing: leave head=None, "
                "which then ignores X"
            )
        head = default_head(of_components, self._classification) if self.head is None else clone(self.head)
        self.head_ = head.fit(features, target)
        if self._classification:
            self.classes_ = np.unique(target)
        return self

    def features(self, X: Any) -> Features:
        """What the pretrainer infers of rows, shape (n_samples, n_components)."""
        check_is_fitted(self)
        rows = check_matrix(X)
        validate_data(self, X if hasattr(X, "columns") else rows, reset=False, skip_check_array=True)
        return posterior_of(self.pretrainer_, rows)[0]

    def predict(self, X: Any) -> np.ndarray:
        """What the head says of the features."""
        features = self.features(X)
        return np.asarray(self.head_.predict(features))


class PretrainedRegressor(RegressorMixin, _Pretrained):
    """Numbers from few labelled and many unlabelled rows: a pretrainer, then a small head.

    Parameters
    ----------
    pretrainer : estimator, optional
        Has ``posterior``, ``predict_proba`` or ``transform``, as :func:`posterior_of` takes them; default:
        ``FactorPretrainer()``, which may find that there are no factors. A :class:`ContrastivePretrainer` is taken too.
    head : estimator, optional
        Default: least squares of the least norm. A penalised one is ``RidgeCV()``.
    use_labelled_inputs : bool
        Whether phase one learns from labelled rows too.

    Attributes
    ----------
    pretrainer_, head_ : estimators
    n_components_ : int
        Columns of the features; 0 where no structure was found, and then every answer is the mean.
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True  # of columns that have nothing in common, nothing is learnt
        return tags


class PretrainedClassifier(ClassifierMixin, _Pretrained):
    """Classes from few labelled and many unlabelled rows: a pretrainer, then a small head.

    Parameters
    ----------
    pretrainer : estimator, optional
        Default: ``MixturePretrainer(random_state=0)``; else as in :class:`PretrainedRegressor`.
    head : estimator, optional
        Default: a table for probabilities of components, else tuned logistic regression.
    use_labelled_inputs : bool
        Whether phase one learns from labelled rows too.

    Attributes
    ----------
    pretrainer_, head_ : estimators
    n_components_ : int
    classes_ : ndarray
    """

    _classification = True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.poor_score = True  # where groups of rows are not the classes, little is learnt
        return tags

    @available_if(lambda self: hasattr(getattr(self, "head_", self.head) or TableHead, "predict_proba"))
    def predict_proba(self, X: Any) -> Float[np.ndarray, "n c"]:
        """Probabilities of classes, in the order of ``classes_``."""
        features = self.features(X)
        return np.asarray(self.head_.predict_proba(features))


# ---- the comparison: all at once


class JointMixtureClassifier(ClassifierMixin, BaseEstimator):
    """Mixture and table of one likelihood of labelled and unlabelled rows together, by EM.

    Parameters
    ----------
    n_components : int
    covariance_type : {"full", "diag"}
    reg_covar : float
        Added to variances.
    tol : float
        EM stops when the mean log-likelihood of a row changes by less.
    max_iter : int
    random_state : int, Generator or None
        Starts the mixture, which is first fitted to all rows without labels.

    Attributes
    ----------
    mixture_ : GaussianMixture
    table_ : ndarray, shape (n_components, n_classes)
    classes_ : ndarray
    log_likelihood_ : list of float
        Mean over rows, with the smoothing's share, before each round: never falls, but for what ``reg_covar`` adds to
        variances after each.
    converged_ : bool
    n_iter_ : int
    """

    def __init__(
        self,
        n_components: Any = 2,
        covariance_type: Any = "full",
        reg_covar: Any = 1e-6,
        tol: Any = 1e-4,
        max_iter: Any = 200,
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.reg_covar = reg_covar
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X: Any, y: Any, X_unlabelled: Any = None) -> JointMixtureClassifier:
        """Learn from all rows.

        Parameters
        ----------
        X : array-like, shape (n_samples, n_features)
        y : array-like, shape (n_samples,)
        X_unlabelled : array-like, shape (m, n_features), optional

        Raises
        ------
        ValueError
            As :meth:`PretrainedClassifier.fit`.
        """
        check_in_range(self.tol, "tol", low=0.0)
        rows, target = read_labelled(X, y, True, type(self).__name__)
        validate_data(self, X if hasattr(X, "columns") else rows, skip_check_array=True)
        rows, n = np.concatenate([rows, read_unlabelled(X_unlabelled, rows, X)]), len(rows)
        start = MixturePretrainer(
            self.n_components,
            self.covariance_type,
            reg_covar=self.reg_covar,
            max_iter=self.max_iter,
            random_state=self.random_state,
        ).fit(rows)
        self.classes_, codes = np.unique(target, return_inverse=True)
        n_classes = len(self.classes_)
        model, table = start.mixture_, soft_table(start.posterior(rows[:n]), codes, n_classes)
        self.log_likelihood_: list[float] = []
        self.converged_ = False
        for _ in range(self.max_iter):
            shares, evidence = model.predict_proba(rows), model.score_samples(rows)
            shares[:n] *= table[:, codes].T
            of_labels = shares[:n].sum(1)
            shares[:n] /= of_labels[:, None]
            prior = _SMOOTHING / n_classes * float(np.log(table).sum())
            value = (float(evidence.sum() + np.log(of_labels).sum()) + prior) / len(rows)
            rise = value - self.log_likelihood_[-1] if self.log_likelihood_ else math.inf
            self.log_likelihood_.append(value)
            self.mixture_, self.table_ = model, table
            if abs(rise) < self.tol:
                self.converged_ = True
                break
            model = _likeliest_mixture(rows, shares, self.covariance_type, float(self.reg_covar))
            table = soft_table(shares[:n], codes, n_classes)
        self.n_iter_ = len(self.log_likelihood_)
        if not self.converged_:
            warn(
                f"the likelihood still rose after {self.max_iter} rounds: raise max_iter or tol",
                ConvergenceWarning,
            )
        return self

    def predict_proba(self, X: Any) -> Float[np.ndarray, "n c"]:
        """Probabilities of classes, in the order of ``classes_``."""
        check_is_fitted(self)
        rows = check_matrix(X)
        validate_data(self, X if hasattr(X, "columns") else rows, reset=False, skip_check_array=True)
        return np.asarray(self.mixture_.predict_proba(rows)) @ self.table_

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class."""
        shares = self.predict_proba(X)
        return self.classes_[shares.argmax(1)]


def _likeliest_mixture(rows: np.ndarray, shares: Features, covariance_type: str, reg: float) -> Any:
    """The mixture of the largest likelihood, given who belongs where."""
    counts = shares.sum(0) + 10 * np.finfo(float).eps
    means = shares.T @ rows / counts[:, None]
    if covariance_type == "diag":
        away = [rows - mean for mean in means]
        spread = np.array([share @ part**2 for share, part in zip(shares.T, away)]) / counts[:, None] + reg
        precisions = 1 / np.sqrt(spread)
    else:
        parts = [(rows - mean) * np.sqrt(share)[:, None] for mean, share in zip(means, shares.T)]
        spread = np.array([part.T @ part / count for part, count in zip(parts, counts)])
        spread += reg * np.eye(rows.shape[1])
        precisions = np.array([np.linalg.inv(np.linalg.cholesky(each)).T for each in spread])
    model = GaussianMixture(len(means), covariance_type=covariance_type)
    model.weights_, model.means_, model.covariances_ = counts / counts.sum(), means, spread
    model.precisions_cholesky_, model.n_features_in_ = precisions, rows.shape[1]
    return model
