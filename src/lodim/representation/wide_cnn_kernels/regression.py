r"""Kernel ridge regression and classification, exact by Cholesky or through landmarks.

With the mean :math:`\bar y` taken out, since networks without biases have no constant, and
:math:`\mu = \text{ridge} \cdot \operatorname{mean} \operatorname{diag} K`,

.. math:: f(x) = \bar y + k(x, X)\, (K + \mu I)^{-1} (y - \bar y).

Through m landmarks Z (Nystrom), :math:`K \approx \Phi \Phi^\top` with :math:`\Phi = k(X, Z) L^{-\top}` and
:math:`L L^\top = k(Z, Z)`, and the same estimate is
:math:`\bar y + k(x, Z) L^{-\top} (\Phi^\top \Phi + \mu I)^{-1} \Phi^\top (y - \bar y)`: memory of m^2 numbers and
time of n m^2, and equal to the exact one where the landmarks are all rows.

References
----------
C. Williams and M. Seeger, Using the Nystrom method to speed up kernel machines, NIPS 2000.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_solve, solve_triangular
from scipy.linalg.lapack import dpocon
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import DataConversionWarning
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from lodim.linalg import safe_cholesky
from lodim.randomness import as_generator
from lodim.representation.wide_cnn_kernels.kernels import HierarchicalKernel
from lodim.validation import check_in_range, check_labels, check_matrix, check_numbers, warn

__all__ = ["HierarchicalKernelClassifier", "HierarchicalKernelRegressor", "factorise"]

_ROWS = 4096  # of a kernel matrix that are held at a time


def factorise(
    K: Float[np.ndarray, "n n"], ridge: float, cure: str = "raise ridge"
) -> tuple[Float[np.ndarray, "n n"], float, float]:
    """The Cholesky factor of K + ridge, what was added for rounding, and the condition number; said where singular.

    Parameters
    ----------
    ridge : float
        Added to the diagonal.
    cure : str
        What helps, for messages.

    Raises
    ------
    ValueError
        Eigenvalues too far below zero, which single precision makes.
    """
    A = np.array(K, dtype=np.float64)
    A.flat[:: len(A) + 1] += ridge
    try:
        found = safe_cholesky(A)
    except ValueError as error:
        raise ValueError(
            "rounding has made eigenvalues of the kernel matrix negative, beyond a share of 1e-4 of its diagonal: "
            f"{cure}, or take a kernel of dtype='float64'"
        ) from error
    jitter = float(found.jitter)
    norm = float(np.abs(A).sum(0).max()) + jitter
    share, _ = dpocon(np.asarray(found.factor).T, norm)  # C's lower triangle is Fortran's upper one
    condition = 1 / share if share > 0 else math.inf
    if jitter or condition > 1 / (len(A) * np.finfo(np.float64).eps):
        added = f"; {jitter:.2g} was added to its diagonal" if jitter else ""
        warn(
            f"the kernel matrix is near-singular, of condition {condition:.2g}{added}: equal or nearly equal rows, or "
            f"more rows than the kernel has directions. Answers may follow rounding; {cure}",
            stacklevel=4,
        )
    return np.asarray(found.factor), jitter, condition


class _KernelMachine(BaseEstimator):  # type: ignore[misc]
    """What regression and classification share."""

    def __init__(
        self,
        kernel: Any = None,
        *,
        ridge: Any = 1e-4,
        n_landmarks: Any = None,
        random_state: Any = None,
    ) -> None:
        self.kernel = kernel
        self.ridge = ridge
        self.n_landmarks = n_landmarks
        self.random_state = random_state

    def _read(self, X: Any, *, reset: bool = True) -> Float[np.ndarray, "n d"]:
        data = check_matrix(X)
        validate_data(self, X if hasattr(X, "columns") else data, reset=reset, skip_check_array=True)
        return data

    def _options(self) -> HierarchicalKernel:
        kernel = HierarchicalKernel(normalize=False) if self.kernel is None else self.kernel
        if not isinstance(kernel, HierarchicalKernel):
            raise TypeError(f"kernel must be a HierarchicalKernel or None, got a {type(kernel).__name__}")
        if math.isinf(check_in_range(self.ridge, "ridge", low=0)):
            raise ValueError("ridge must be finite, got inf")
        if self.n_landmarks is not None:
            check_in_range(self.n_landmarks, "n_landmarks", low=1, integer=True)
        as_generator(self.random_state)
        if not self.ridge and np.dtype(kernel.dtype) == np.float32:
            warn(
                "ridge=0 with a kernel of single precision: its smallest eigenvalues are rounding, and the solution "
                "follows them where the condition number is beyond 1e6; take dtype='float64', or a ridge of 1e-6",
                stacklevel=4,
            )
        return kernel

    def _solve(self, data: Float[np.ndarray, "n d"], targets: Float[np.ndarray, "n q"]) -> None:
        """Learn ``dual_coef_`` and ``intercept_``; targets in a matrix."""
        kernel, n = self._options(), len(data)
        kernel.fans(data.shape[1])  # says what does not divide before anything is computed
        m = n if self.n_landmarks is None else int(self.n_landmarks)
        if m > n:
            raise ValueError(
                f"n_landmarks={m} are drawn from the rows of X, which are n_samples = {n}: take fewer"
            )
        self.kernel_, self.intercept_ = kernel, targets.mean(0)
        rest = targets - self.intercept_
        diagonal = kernel.diag(data).astype(np.float64)
        if not diagonal.any():
            raise ValueError("all rows of X are zero: the kernel says nothing of them")
        ridge = float(self.ridge) * float(diagonal.mean())
        if self.n_landmarks is None:
            self.X_fit_ = data
            L, self.jitter_, self.condition_ = factorise(kernel(data), ridge)
            self.dual_coef_ = cho_solve((L, True), rest)
            return
        self.X_fit_ = data[np.sort(as_generator(self.random_state).choice(n, m, replace=False))]
        L, self.jitter_, _ = factorise(kernel(self.X_fit_), 0.0, "take fewer landmarks")
        gram, right = np.zeros((m, m)), np.zeros((m, rest.shape[1]))
        for start in range(0, n, _ROWS):
            part = slice(start, start + _ROWS)
            phi = solve_triangular(L, kernel(self.X_fit_, data[part]).astype(np.float64), lower=True)
            gram += phi @ phi.T
            right += phi @ rest[part]
        inner, _, self.condition_ = factorise(gram, ridge)
        self.dual_coef_ = solve_triangular(L, cho_solve((inner, True), right), lower=True, trans="T")

    def _values(self, X: Any) -> Float[np.ndarray, "n q"]:
        check_is_fitted(self)
        data, kernel = self._read(X, reset=False), self.kernel_
        coef = self.dual_coef_.reshape(len(self.X_fit_), -1)
        parts = [
            kernel(data[start : start + _ROWS], self.X_fit_) @ coef for start in range(0, len(data), _ROWS)
        ]
        return np.concatenate(parts) + self.intercept_


class HierarchicalKernelRegressor(RegressorMixin, _KernelMachine):  # type: ignore[misc]
    """Regression by an infinitely wide network: kernel ridge regression with its kernel.

    Parameters
    ----------
    kernel : HierarchicalKernel, optional
        Default: a fully connected network of three hidden layers, rows not normalised.
    ridge : float
        Added to the diagonal of the kernel matrix, as a share of its mean. 0 interpolates.
    n_landmarks : int, optional
        Rows, drawn at random, through which the others are seen: for n beyond some 20,000, where n^2 numbers do not
        fit. Default: all rows, exactly.
    random_state : int, Generator or None
        Draws the landmarks; nothing else is random.

    Attributes
    ----------
    dual_coef_ : ndarray, shape (n_fit,) or (n_fit, n_outputs)
    X_fit_ : ndarray, shape (n_fit, n_features)
        Rows of the fit, or the landmarks.
    intercept_ : float or ndarray, shape (n_outputs,)
        Mean of y.
    kernel_ : HierarchicalKernel
        That of the fit, whatever is set later.
    jitter_ : float
        Added to the diagonal for rounding; 0 where nothing had to be.
    condition_ : float
        Estimated condition number, in the 1-norm, of the matrix that was solved with.
    n_features_in_ : int

    References
    ----------
    Cagnetta, Favero and Wyart 2022, arXiv 2208.01003.

    Examples
    --------
    >>> from lodim.representation import HierarchicalKernel, HierarchicalKernelRegressor, sample_sphere_product
    >>> X = sample_sphere_product(300, 8, 2, random_state=0)
    >>> y = X[:, 0] * X[:, 1] + X[:, 4] * X[:, 5]  # local: of pairs next to each other
    >>> kernels = HierarchicalKernel((2,)), HierarchicalKernel()
    >>> models = [HierarchicalKernelRegressor(kernel).fit(X[:200], y[:200]) for kernel in kernels]
    >>> local, full = (model.score(X[200:], y[200:]) for model in models)
    >>> bool(local > 0.9 > full)
    True
    """

    def fit(self, X: Any, y: Any) -> HierarchicalKernelRegressor:
        """Solve for the coefficients.

        Parameters
        ----------
        X : array-like, shape (n_samples, n_features)
        y : array-like, shape (n_samples,) or (n_samples, n_outputs)

        Raises
        ------
        ValueError
            Bad input or options; rows that are all zero.

        Warns
        -----
        UserWarning
            The matrix is near-singular, or single precision without a ridge.
        """
        data = self._read(X)
        if y is None:
            raise ValueError(
                "this requires y to be passed, but the target y is None: give a number for each row"
            )
        targets = check_numbers(y, "y")
        if flat := targets.ndim == 1:
            targets = check_labels(targets, len(data))[:, None]
        else:
            targets = check_matrix(targets, name="y")
            if len(targets) != len(data):
                raise ValueError(f"y has {len(targets)} rows, X has {len(data)}: they must agree")
        self._solve(data, targets)
        if flat:
            self.dual_coef_, self.intercept_ = self.dual_coef_[:, 0], float(self.intercept_[0])
        return self

    def predict(self, X: Any) -> Float[np.ndarray, "n ..."]:
        """Return values in the form that y had.

        Parameters
        ----------
        X : array-like, shape (n_samples, n_features)
        """
        values = self._values(X)
        return values[:, 0] if self.dual_coef_.ndim == 1 else values

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = True
        return tags


class HierarchicalKernelClassifier(ClassifierMixin, _KernelMachine):  # type: ignore[misc]
    """Classification by an infinitely wide network: kernel ridge regression on one-hot classes, the largest wins.

    Parameters
    ----------
    kernel, ridge, n_landmarks, random_state
        As in :class:`HierarchicalKernelRegressor`.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
    dual_coef_ : ndarray, shape (n_fit, n_classes)
    intercept_ : ndarray, shape (n_classes,)
        Share of each class.
    X_fit_, kernel_, jitter_, condition_, n_features_in_
        As in :class:`HierarchicalKernelRegressor`.

    References
    ----------
    Cagnetta, Favero and Wyart 2022, arXiv 2208.01003.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from lodim.representation import HierarchicalKernel, HierarchicalKernelClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> kernel = HierarchicalKernel((2, 2), image_shape=(8, 8), normalize=False)
    >>> bool(HierarchicalKernelClassifier(kernel).fit(X[:300], y[:300]).score(X[300:], y[300:]) > 0.85)
    True
    """

    def fit(self, X: Any, y: Any) -> HierarchicalKernelClassifier:
        """Solve for the coefficients of all classes.

        Parameters
        ----------
        X : array-like, shape (n_samples, n_features)
        y : array-like, shape (n_samples,)

        Raises
        ------
        ValueError
            Bad input or options; one class; rows that are all zero.

        Warns
        -----
        UserWarning
            The matrix is near-singular, or single precision without a ridge.
        """
        data = self._read(X)
        if y is None:
            raise ValueError(
                "this requires y to be passed, but the target y is None: give a class for each row"
            )
        labels = check_labels(y, len(data))
        if labels.dtype == object and (plain := np.asarray(labels.tolist())).dtype.kind in "biuf":
            labels = plain  # numbers held as objects
        if getattr(y, "ndim", 1) == 2:
            message = "A column-vector y was passed when a 1d array was expected; use y.ravel()"
            warn(message, DataConversionWarning)
        check_classification_targets(labels)
        classes, codes = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"y must have at least two classes, got one class: {classes.tolist()[0]!r}")
        self._solve(data, np.eye(len(classes))[codes])
        self.classes_ = classes
        return self

    def decision_function(self, X: Any) -> Float[np.ndarray, "n ..."]:
        """Return values whose largest is the class; for two classes the second's beyond the first's. No probabilities.

        Parameters
        ----------
        X : array-like, shape (n_samples, n_features)
        """
        values = self._values(X)
        return values[:, 1] - values[:, 0] if len(self.classes_) == 2 else values

    def predict(self, X: Any) -> np.ndarray:
        """Return the class of the largest value.

        Parameters
        ----------
        X : array-like, shape (n_samples, n_features)
        """
        values = self.decision_function(X)
        return self.classes_[values.argmax(1) if values.ndim == 2 else (values > 0).astype(int)]
