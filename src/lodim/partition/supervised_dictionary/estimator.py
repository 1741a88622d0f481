"""The scikit-learn estimator: what a user gives and gets. The solvers are in ``solvers``, the model in the package."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.base import BaseEstimator, ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import DataConversionWarning
from sklearn.metrics import accuracy_score
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from lodim.linalg import randomised_svd
from lodim.partition.supervised_dictionary.solvers import (
    Problem,
    Solution,
    bcd,
    code_step,
    lpgd,
    sparse_codes,
    unit_atoms,
    with_labels,
)
from lodim.randomness import root_seed
from lodim.validation import (
    ConvergenceWarning,
    check_choice,
    check_in_range,
    check_labels,
    check_matrix,
    warn,
)

MODELS, SOLVERS, DECISIONS = ("filter", "feature"), ("lpgd", "bcd"), ("naive", "exhaustive")
_LARGEST = 1e100  # numbers beyond it, or below its inverse, have no squares
_CODE_STEPS = 2000


class SupervisedDictionary(ClassNamePrefixFeaturesOutMixin, ClassifierMixin, TransformerMixin, BaseEstimator):
    """A few atoms that rebuild the rows of X and predict their labels, with covariates that serve the labels only.

    Parameters
    ----------
    n_components : int
        Atoms, at most the rows and the columns of X.
    model : {"filter", "feature"}
        Whether labels are read off the filtered row (its products with the atoms) or off its code. The filter model is
        the one to predict with: codes of new rows are found without their label, those of the fit with it.
    solver : {"lpgd", "bcd"}
        Low-rank projected gradient, or block coordinate descent, which ``nonneg`` and ``l1`` need.
    xi : float or "auto"
        Weight of the squared reconstruction error against the labels' loss. 0 (filter model only): logistic regression
        with coefficients of rank ``n_components``. ``inf``: singular vectors, then logistic regression. ``"auto"``:
        1 / (2 sigma^2), sigma^2 the likeliest variance of noise about ``n_components`` singular vectors.
    alpha : float
        Weight of the squared coefficients, ``1 / (2 C)`` in scikit-learn's terms: those of X (filter model) and those
        of ``aux``; intercepts are free. In the feature model it weighs each row's logits themselves, as far as codes
        make them: a hundredth is plenty there.
    l1 : float
        Weight of the sum of the codes' sizes.
    nonneg : pair of bool
        Whether atoms, and whether codes, are to have no negative entry.
    max_iter : int
        Most steps, or cycles over the blocks.
    tol : float
        Stop when the objective falls by less than this share of itself.
    class_weight : dict, "balanced" or None
        Weights of the classes' losses, as in scikit-learn.
    decision : {"naive", "exhaustive"}
        How the feature model judges a new row: by the code of the least reconstruction error, or by what the objective
        would be, at the best code for it, with each label in turn.
    random_state : int, Generator or None
        Starts the singular vectors of large matrices.

    Attributes
    ----------
    dictionary_ : ndarray, shape (n_components, n_features)
        Atoms of length one (an atom that was not used may be zero).
    coef_ : ndarray, shape (n_classes - 1, n_components)
        Of the filtered rows, or of the codes, in the logit of each class against the first. ``coef_ @ dictionary_``
        are those of the columns of X in the filter model.
    aux_coef_ : ndarray, shape (n_classes - 1, n_aux)
    intercept_ : ndarray, shape (n_classes - 1,)
    classes_ : ndarray
        Sorted; the first is the reference.
    xi_ : float
    objective_ : ndarray
        After each step, the last after the labels' coefficients were solved for. Of ``xi=inf`` the squared
        reconstruction errors.
    reconstruction_error_ : float
        ``||X - reconstruct(X)||^2 / ||X||^2`` of the rows of the fit; 0 for X = 0.
    n_iter_ : int

    References
    ----------
    Lee, Lyu and Yao 2022, arXiv 2206.06774.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.preprocessing import scale
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> model = SupervisedDictionary(2, xi=0.02, random_state=0).fit(scale(X[:, 10:]), y, aux=scale(X[:, :10]))
    >>> bool(model.score(scale(X[:, 10:]), y, aux=scale(X[:, :10])) > 0.97)
    True
    >>> model.transform(scale(X[:, 10:])).shape
    (569, 2)
    """

    def __init__(
        self,
        n_components: Any = 2,
        *,
        model: Any = "filter",
        solver: Any = "lpgd",
        xi: Any = 0.1,
        alpha: Any = 1.0,
        l1: Any = 0.0,
        nonneg: Any = (False, False),
        max_iter: Any = 500,
        tol: Any = 1e-5,
        class_weight: Any = None,
        decision: Any = "naive",
        random_state: Any = None,
    ):
        self.n_components = n_components
        self.model = model
        self.solver = solver
        self.xi = xi
        self.alpha = alpha
        self.l1 = l1
        self.nonneg = nonneg
        self.max_iter = max_iter
        self.tol = tol
        self.class_weight = class_weight
        self.decision = decision
        self.random_state = random_state

    # -------------------------------------------------------------------------------------------- learning

    def fit(self, X: Any, y: Any, aux: Any = None) -> SupervisedDictionary:
        """Learn atoms and coefficients.

        Parameters
        ----------
        X : array-like, shape (n_samples, n_features)
            What is reconstructed; not centred.
        y : array-like, shape (n_samples,)
            Class labels.
        aux : array-like, shape (n_samples, n_aux), optional
            Covariates for the labels only. They are penalised like X: standardise them.

        Raises
        ------
        ValueError
            Bad input, one class, options that exclude each other, numbers without squares in double precision, or (in
            the feature model) more atoms than X has directions that weigh anything beside the labels.

        Warns
        -----
        ConvergenceWarning
            ``max_iter`` steps were not enough.
        """
        self._check_options()
        data = check_matrix(X)
        validate_data(self, X if hasattr(X, "columns") else data, skip_check_array=True)
        self.classes_, codes, weights = self._read_labels(y, len(data))
        n, p = data.shape
        if self.n_components > min(n, p):
            raise ValueError(
                f"n_components must be at most the rows and the columns of X, got {self.n_components} with "
                f"n_samples = {n}, n_features = {p}"
            )
        self.n_aux_ = 0
        self._aux_names = _names(aux)
        side = np.empty((n, 0)) if aux is None else check_matrix(aux, name="aux")
        self.n_aux_ = side.shape[1]
        for name, values in (("X", data), ("aux", side)):
            _check_size(values, name, 1 / _LARGEST)
        Z = self._with_constant(side if aux is not None else None, n)
        self.xi_ = self._choose_xi(data)
        one_hot = (codes[:, None] == np.arange(1, len(self.classes_))).astype(float)
        problem = Problem(
            data,
            one_hot,
            Z,
            weights[codes],
            self.xi_,
            float(self.alpha),
            float(self.l1),
            self.model == "filter",
        )
        if not (math.isinf(self.xi_) or math.isfinite(self.xi_ * problem.squared_norm)):
            raise ValueError(f"xi must leave the reconstruction error finite, got {self.xi_:g}; use inf")
        seed, r = root_seed(self.random_state), int(self.n_components)
        if not problem.is_filter:
            s = [float(value) for value in randomised_svd(data, r).s]
            if s[-1] <= np.finfo(float).eps * max(n, p) * s[0] or problem.is_unseen(s[-1]):
                raise ValueError(
                    f"n_components must be at most the rank of X in the feature model, got {r}, and singular value "
                    f"{r} of X is {s[-1]:.2g} (the first {s[0]:.2g}) with xi = {self.xi_:g}: codes of an atom that "
                    "need not rebuild X see nothing but the labels of the fit"
                )
        if self.solver == "lpgd":
            found = lpgd(problem, r, self.max_iter, self.tol, seed)
        else:
            found = bcd(problem, r, self._signs(), self.max_iter, self.tol, seed)
        if not found.settled:
            warn(
                f"the objective still fell by more than tol = {self.tol:g} of itself in step {len(found.trace)}: raise "
                "max_iter or tol",
                ConvergenceWarning,
            )
        self.n_iter_ = max(1, len(found.trace))
        found = unit_atoms(with_labels(problem, found), problem.is_filter)
        self.objective_ = np.append(found.trace, problem.objective(found))
        self._keep(found)
        rebuilt = self._codes(data) @ self.dictionary_
        rest = float(np.vdot(data - rebuilt, data - rebuilt))
        self.reconstruction_error_ = rest / (problem.squared_norm or 1.0)
        return self

    def _keep(self, found: Solution) -> None:
        """Store a solution, with the signs of atoms such that the entry of largest size is positive."""
        W, beta = found.W, found.beta
        if not self._signs()[1]:
            sign = np.sign(np.take_along_axis(W, np.abs(W).argmax(1)[:, None], 1))
            sign[sign == 0] = 1.0
            W, beta = W * sign, beta * sign
        self.dictionary_ = W
        self.coef_ = beta.T.copy()
        self.aux_coef_ = found.Gamma[:-1].T.copy()
        self.intercept_ = found.Gamma[-1].copy()

    def _check_options(self) -> None:
        check_in_range(self.n_components, "n_components", low=1, integer=True)
        check_choice(self.model, MODELS, "model")
        check_choice(self.solver, SOLVERS, "solver")
        check_choice(self.decision, DECISIONS, "decision")
        check_in_range(self.alpha, "alpha", low=0.0, high=_LARGEST)
        check_in_range(self.l1, "l1", low=0.0, high=_LARGEST)
        check_in_range(self.max_iter, "max_iter", low=1, integer=True)
        check_in_range(self.tol, "tol", low=0.0)
        if not isinstance(self.xi, str):
            check_in_range(self.xi, "xi", low=0.0)
        elif self.xi != "auto":
            raise ValueError(f"xi must be a number or 'auto', got {self.xi!r}")
        constrained = any(self._signs()) or self.l1 > 0
        if constrained and self.solver == "lpgd":
            raise ValueError(
                "solver 'lpgd' knows no constraint but the rank: use solver='bcd' with nonneg or l1"
            )
        if self.xi == 0 and self.model == "feature":
            raise ValueError(
                "xi must be above 0 in the feature model: codes that need not rebuild X see only labels"
            )
        if self.l1 > 0 and self.xi in (0, math.inf):
            raise ValueError(
                f"l1 is weighed against xi, which must be positive and finite with it, got {self.xi}"
            )
        if self.decision == "exhaustive" and (self.model == "filter" or self.xi == math.inf):
            raise ValueError("decision 'exhaustive' is of the feature model with a finite xi")

    def _signs(self) -> tuple[bool, bool]:
        pair = self.nonneg if isinstance(self.nonneg, list | tuple) else ()
        if len(pair) != 2 or not all(isinstance(one, bool | np.bool_) for one in pair):
            raise ValueError(
                f"nonneg must be a pair of True or False (of atoms, of codes), got {self.nonneg!r}"[:200]
            )
        return bool(self.nonneg[0]), bool(self.nonneg[1])

    def _read_labels(self, y: Any, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The classes, each row's place among them, and their weights."""
        if y is None:
            raise ValueError(
                "SupervisedDictionary requires y to be passed, but the target y is None: give class labels"
            )
        labels = plain_labels(y, n)
        if getattr(y, "ndim", 1) == 2:
            message = "A column-vector y was passed when a 1d array was expected; use y.ravel()"
            warn(message, DataConversionWarning, stacklevel=4)
        check_classification_targets(labels)
        classes, codes = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"y must hold at least two classes, got 1 class ({labels[0]})")
        if not isinstance(self.class_weight, dict | None):
            check_choice(self.class_weight, ("balanced",), "class_weight, unless a dict or None,")
        if isinstance(self.class_weight, dict) and not {*self.class_weight} & {*classes.tolist()}:
            raise ValueError(
                f"class_weight must name classes of y ({classes.tolist()[:5]}...), got {self.class_weight!r}"
            )
        weights = np.asarray(compute_class_weight(self.class_weight, classes=classes, y=labels), dtype=float)
        if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
            raise ValueError(
                f"class_weight must hold finite numbers from 0 up, not all 0, got {weights.tolist()}"
            )
        return classes, codes, weights

    def _choose_xi(self, X: np.ndarray) -> float:
        if self.xi != "auto":
            return float(self.xi)
        n, p = X.shape
        r = int(self.n_components)
        rest = float(np.vdot(X, X) - (randomised_svd(X, r).s.astype(float) ** 2).sum())
        freedom = n * (p - r)
        if rest <= 1e-12 * float(np.vdot(X, X)) or not freedom:
            raise ValueError(
                "xi 'auto' needs noise to measure: n_components singular vectors rebuild X, give a number"
            )
        return freedom / (2 * rest)

    # -------------------------------------------------------------------------------------------- using

    def _read(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        data = check_matrix(X)
        validate_data(self, X if hasattr(X, "columns") else data, reset=False, skip_check_array=True)
        _check_size(data, "X")
        return data

    def _with_constant(self, aux: Any, n: int) -> np.ndarray:
        """Auxiliary covariates as in the fit, and a constant."""
        if (aux is None) != (self.n_aux_ == 0):
            given = (
                f"was fitted with aux of {self.n_aux_} columns" if self.n_aux_ else "was fitted without aux"
            )
            raise ValueError(
                f"SupervisedDictionary {given}: aux must be {'given' if self.n_aux_ else 'left out'} here"
            )
        if aux is None:
            return np.ones((n, 1))
        side = check_matrix(aux, name="aux")
        _check_size(side, "aux")
        if side.shape != (n, self.n_aux_):
            raise ValueError(f"aux must have shape ({n}, {self.n_aux_}), as many rows as X, got {side.shape}")
        names = _names(aux)
        if names is not None and self._aux_names is not None and names != self._aux_names:
            raise ValueError(
                f"aux must have the columns of the fit in their order, {self._aux_names}, got {names}"
            )
        return np.hstack([side, np.ones((n, 1))])

    def _codes(self, X: np.ndarray) -> np.ndarray:
        l1 = self.l1 / self.xi_ if self.l1 else 0.0
        if l1 or self._signs()[1]:
            return sparse_codes(X, self.dictionary_, nonneg=self._signs()[1], l1=l1)
        return X @ np.linalg.pinv(self.dictionary_)

    def transform(self, X: Any) -> Float[np.ndarray, "n_samples n_components"]:
        """Codes: what each atom contributes to each row, by least squares (with ``l1`` and ``nonneg`` of the fit).

        Parameters
        ----------
        X : array-like, shape (n_samples, n_features)
        """
        return self._codes(self._read(X))

    def reconstruct(self, X: Any) -> Float[np.ndarray, "n_samples n_features"]:
        """Rows rebuilt from the atoms: ``transform(X) @ dictionary_``.

        Parameters
        ----------
        X : array-like, shape (n_samples, n_features)
        """
        return self.transform(X) @ self.dictionary_

    def predict_proba(self, X: Any, aux: Any = None) -> Float[np.ndarray, "n_samples n_classes"]:
        """Probabilities of the classes.

        With ``decision="exhaustive"`` that of a label is proportional to exp(-objective of the row with that label),
        without the weights of the classes, which would count against the class that they are to favour.

        Parameters
        ----------
        X : array-like, shape (n_samples, n_features)
        aux : array-like, shape (n_samples, n_aux)
            If and only if the fit had it.
        """
        data = self._read(X)
        Z = self._with_constant(aux, len(data))
        if self.decision == "exhaustive":
            scores = self._scores_of_labels(data, Z)
        else:
            read = data @ self.dictionary_.T if self.model == "filter" else self._codes(data)
            logits = read @ self.coef_.T + Z @ np.c_[self.aux_coef_, self.intercept_].T
            scores = np.c_[np.zeros(len(data)), logits]
        terms = np.exp(scores - scores.max(1, keepdims=True))
        return terms / terms.sum(1, keepdims=True)

    def _scores_of_labels(self, X: np.ndarray, Z: np.ndarray) -> np.ndarray:
        """Minus the least objective that each row has with each label, over its code."""
        Gamma = np.c_[self.aux_coef_, self.intercept_].T
        start = Solution(self._codes(X), self.dictionary_, self.coef_.T, Gamma)
        n_classes, n = len(self.classes_), len(X)
        scores = np.empty((n, n_classes))
        for label in range(n_classes):
            Y = np.tile(np.arange(1, n_classes) == label, (n, 1)).astype(float)
            problem = Problem(X, Y, Z, np.ones(n), self.xi_, float(self.alpha), float(self.l1), False)
            at, last, momentum = start, start.H, np.zeros((n, 1))
            for _ in range(_CODE_STEPS):
                ahead = at.H + momentum / (momentum + 3) * (at.H - last)
                H = code_step(problem, replace(at, H=ahead), self._signs()[1])
                moved = H - at.H
                done = bool((np.abs(moved).max(1) <= 1e-8 * np.abs(H).max(1)).all())
                # each row starts anew where it went too far: where it turns back
                turns = ((ahead - H) * moved).sum(1, keepdims=True) > 0
                at, last, momentum = replace(at, H=H), at.H, np.where(turns, 0.0, momentum + 1)
                if done:
                    break
            else:
                warn(
                    f"codes with label {self.classes_[label]!r} still moved after {_CODE_STEPS} steps: raise alpha",
                    ConvergenceWarning,
                )
            logits = at.H @ at.beta
            total = np.logaddexp.reduce(np.c_[np.zeros(n), logits + Z @ Gamma], axis=1)
            loss = total - ((logits + Z @ Gamma) * Y).sum(1)
            rebuilt = ((X - at.H @ at.W) ** 2).sum(1)
            penalty = self.alpha * (logits**2).sum(1) + self.l1 * np.abs(at.H).sum(1)
            scores[:, label] = -(loss + self.xi_ * rebuilt + penalty)
        return scores

    def predict(self, X: Any, aux: Any = None) -> np.ndarray:
        """The likeliest class of each row.

        Parameters
        ----------
        X : array-like, shape (n_samples, n_features)
        aux : array-like, shape (n_samples, n_aux)
            If and only if the fit had it.
        """
        likeliest = self.predict_proba(X, aux).argmax(1)  # first, for it refuses what is not fitted
        return self.classes_[likeliest]

    def score(self, X: Any, y: Any, sample_weight: Any = None, aux: Any = None) -> float:
        """Accuracy of the predictions.

        Parameters
        ----------
        X : array-like, shape (n_samples, n_features)
        y : array-like, shape (n_samples,)
        sample_weight : array-like, shape (n_samples,), optional
        aux : array-like, shape (n_samples, n_aux)
            If and only if the fit had it.
        """
        predicted = self.predict(X, aux)
        if sample_weight is not None:
            weights = check_labels(sample_weight, len(predicted), name="sample_weight")
            sample_weight = check_matrix(weights[:, None], name="sample_weight")[:, 0]
        labels = plain_labels(y, len(predicted))
        if labels.dtype.kind == "f" and not np.isfinite(labels).all():
            raise ValueError("y has infinite values; drop those rows")
        return float(accuracy_score(labels, predicted, sample_weight=sample_weight))

    @property
    def _n_features_out(self) -> int:
        return len(self.dictionary_)


def plain_labels(y: Any, n: int) -> np.ndarray:
    """Labels, numbers held as objects being numbers."""
    labels = check_labels(y, n)
    if labels.dtype == object and (plain := np.asarray(labels.tolist())).dtype.kind in "biuf":
        return plain
    return labels


def _check_size(values: np.ndarray, name: str, least: float = 0.0) -> None:
    """Refuse numbers whose squares overflow, or all vanish."""
    largest = float(np.abs(values).max(initial=0.0))
    if largest and not least < largest < _LARGEST:
        raise ValueError(f"{name} must have entries of a usual size, got up to {largest:.2g}: rescale it")


def _names(frame: Any) -> list[str] | None:
    """Column names of a data frame."""
    columns = getattr(frame, "columns", None)
    return None if columns is None else [str(name) for name in columns]
