"""From a labelled data set to the bits of inductive bias that it asks for, with an interval.

The dimension, the margin between classes and the radius are estimated from the data and put into the formula of
arXiv 2305.01034 (:mod:`lodim.geometry.difficulty.formula`). As in the paper, the dimension is the maximum-likelihood
one of five neighbours, rounded.

The bits are exponential in the dimension, so an error of one in it moves them by orders of magnitude. ``interval_``
says how far: dimension and margin are resampled (the pointwise estimates of the queries with the graph fixed; the
sampled pairs), the replicates are not rounded, and the interval of their difficulties is stretched, where need be, to
hold the estimate with the rounded dimension. A dimension that comes with an interval of its own
(``dimension_interval``, or the ``ci_`` of an estimator other than the paper's) carries it through whole: the bits are
had for dimensions all over it, since they need not grow with the dimension throughout.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from lodim.dimension import IntrinsicDimension
from lodim.geometry.difficulty.formula import Difficulty, TaskGeometry, provided_bias
from lodim.geometry.difficulty.margin import METHODS, ClassMargin, class_margin
from lodim.geometry.labelled import LabelledEstimator
from lodim.randomness import derive_seed, root_seed
from lodim.validation import check_choice, check_in_range, check_kind

K_NEIGHBOURS = 5
_DIMENSIONS = 9  # that an interval is looked through at


@dataclass(eq=False, repr=False)
class GeneralizationDifficulty(LabelledEstimator):
    """Bits of assumptions that a classification task asks of a model beyond its training data.

    Parameters
    ----------
    target_error : float
        Wanted test error.
    intrinsic_dim : "mle5", float, or IntrinsicDimension
        ``"mle5"`` is the paper's: maximum likelihood with five neighbours. A number is taken as it is. An
        :class:`~lodim.geometry.IntrinsicDimension` is fitted.
    delta : {"evt", "exact", "sample"} or float
        Distance between classes, see :func:`class_margin`.
    n_pairs, k : int
        Pairs drawn and order statistics used, see :func:`class_margin`.
    n_queries : int
        Points at which the dimension is measured, against all data.
    round_dim : bool
        Round the dimension, as the paper does.
    n_bootstrap : int
        Replicates of the interval; 0 for none.
    ci : float
        Coverage of the interval.
    dimension_interval : pair of float, optional
        Interval, ascending, of a dimension given as a number, which it should hold, or is stretched to. An estimated
        dimension has its own.
    random_state : int, Generator or None

    Attributes
    ----------
    bits_ : float
        Bits (infinity beyond the largest double).
    log10_bits_ : float
        Their decimal logarithm, the number to read; -inf if the data suffice.
    interval_ : tuple of float
        Of ``log10_bits_``; NaN without replicates.
    difficulty_ : Difficulty
    task_ : TaskGeometry
    m_, radius_, delta_ : float
        Dimension used, largest norm of a row (no centring), distance between classes.
    m_raw_ : float
        The dimension before rounding.
    margin_ : ClassMargin or None
        None for a given ``delta``.
    data_sufficient_ : bool
    classes_ : ndarray

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> found = GeneralizationDifficulty(n_pairs=100_000, k=100, random_state=0).fit(X, y)
    >>> 6 < found.log10_bits_ < 14
    True
    """

    target_error: Any = 0.01
    intrinsic_dim: Any = "mle5"
    delta: Any = "evt"
    n_pairs: Any = 4_000_000
    k: Any = 2000
    n_queries: Any = 10_000
    round_dim: Any = True
    n_bootstrap: Any = 20
    ci: Any = 0.95
    random_state: Any = None
    dimension_interval: Any = None

    def fit(self, X: Any, y: Any) -> GeneralizationDifficulty:
        """Measure the task.

        Parameters
        ----------
        X : array-like or Tensor, shape (n_samples, n_features)
        y : array-like, shape (n_samples,)
            Class labels.

        Raises
        ------
        ValueError
            Bad input, one class, or equal points with different labels.
        """
        if check_in_range(self.target_error, "target_error", low=0.0, high=1.0) == 0:
            raise ValueError("target_error must be above 0: no finite number of bits gives an error of zero")
        check_in_range(self.n_bootstrap, "n_bootstrap", low=0, integer=True)
        check_in_range(self.ci, "ci", low=0.0, high=1.0)
        for name in ("n_queries", "n_pairs", "k"):
            check_in_range(getattr(self, name), name, low=1, integer=True)
        data, labels, self.classes_ = self._read(X, y)
        seed = root_seed(self.random_state)
        self._ends: tuple[float, float] | None = None
        dims = self._dimensions(data, derive_seed(seed, "dimension"))
        deltas = self._margins(data, labels, derive_seed(seed, "margin"))
        self._evaluate(data, dims, deltas)
        return self

    def _dimensions(self, X: np.ndarray, seed: int) -> np.ndarray:
        """The estimate, then its replicates."""
        interval = () if self.dimension_interval is None else self.dimension_interval
        check_kind(interval, Sequence[float], "dimension_interval")
        ends = [float(check_in_range(end, "dimension_interval", low=1)) for end in interval]
        if len(ends) not in (0, 2):
            raise ValueError(f"dimension_interval must be a pair of numbers, got {len(ends)} of them")
        if ends and ends[0] > ends[1]:
            raise ValueError(f"dimension_interval must be ascending, got {interval}")
        if ends and isinstance(self.intrinsic_dim, str | BaseEstimator):
            raise ValueError("dimension_interval is that of a number: an estimated intrinsic_dim has its own")
        if not isinstance(self.intrinsic_dim, str | BaseEstimator):
            given = float(check_in_range(self.intrinsic_dim, "intrinsic_dim", low=1))
            if ends:
                low, high = ends
                self._ends = min(low, given), max(high, given)
            return np.full(1 + self.n_bootstrap, given)
        if isinstance(self.intrinsic_dim, str):
            if self.intrinsic_dim != "mle5":
                raise ValueError(
                    "intrinsic_dim must be 'mle5', a number, or an estimator such as IntrinsicDimension('twonn'); "
                    f"got {self.intrinsic_dim!r}"
                )
            n_queries = min(self.n_queries, len(X)) if len(X) > self.n_queries else None
            model = IntrinsicDimension("mle", k=K_NEIGHBOURS, n_queries=n_queries, random_state=seed)
        else:
            model = clone(self.intrinsic_dim)
            if not isinstance(model, IntrinsicDimension):
                raise TypeError(
                    f"intrinsic_dim must be 'mle5', a number or an IntrinsicDimension, got {model!r}"
                )
        model.fit(X)
        rng, local = np.random.default_rng(derive_seed(seed, "replicates")), model.dimension_pw_
        if model.method != "mle" or local is None:
            self._ends = None if model.ci_ is None else (float(model.ci_[0]), float(model.ci_[1]))
            return np.full(1 + self.n_bootstrap, model.dimension_)
        inverse = 1 / local[local > 0]
        draws = rng.integers(0, len(inverse), (self.n_bootstrap, len(inverse)))
        return np.r_[model.dimension_, 1 / inverse[draws].mean(1)]

    def _margins(self, X: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
        self.margin_: ClassMargin | None = None
        if not isinstance(self.delta, str):
            given = float(check_in_range(self.delta, "delta", low=0.0))
            return np.full(1 + self.n_bootstrap, given)
        check_choice(self.delta, METHODS, "delta")
        k = min(self.k, max(2, self.n_pairs // 10))
        self.margin_ = class_margin(
            X, labels, self.delta, n_pairs=self.n_pairs, k=k, n_bootstrap=self.n_bootstrap, random_state=seed
        )
        replicates = self.margin_.replicates or (self.margin_.delta,) * self.n_bootstrap
        return np.r_[self.margin_.delta, replicates]

    def _evaluate(self, X: np.ndarray, dims: np.ndarray, deltas: np.ndarray) -> None:
        n_classes = len(self.classes_)
        largest = float(np.abs(X).max()) or 1.0  # squares of an odd unit over- or underflow
        X_unit = X / largest
        self.radius_ = largest * float(np.sqrt(np.einsum("ij,ij->i", X_unit, X_unit, dtype=np.float64).max()))
        self.m_raw_, self.delta_ = float(dims[0]), float(deltas[0])
        self.m_ = max(1.0, float(round(self.m_raw_)) if self.round_dim else self.m_raw_)

        def task(m: float, delta: float) -> TaskGeometry:
            return TaskGeometry(len(X), max(1.0, m), self.radius_, delta, math.log(n_classes - 1), n_classes)

        self.task_ = task(self.m_, self.delta_)
        self.difficulty_: Difficulty = self.task_.at(self.target_error)
        self.bits_, self.log10_bits_ = self.difficulty_.bits, self.difficulty_.log10_bits
        self.data_sufficient_ = self.difficulty_.data_sufficient
        self.interval_ = (math.nan, math.nan)
        if self.n_bootstrap:
            tail = (1 - self.ci) / 2

            def ends_over(tasks: Any) -> np.ndarray:
                found = [task(m, d).at(self.target_error).log10_bits for m, d in tasks]
                return np.quantile(found, [tail, 1 - tail], method="inverted_cdf")

            if self._ends is None:
                ends = [ends_over(zip(dims[1:], deltas[1:]))]
            else:
                ends = [ends_over((m, d) for d in deltas[1:]) for m in np.linspace(*self._ends, _DIMENSIONS)]
            low, high = np.min(ends, axis=0)[0], np.max(ends, axis=0)[1]
            self.interval_ = (min(float(low), self.log10_bits_), max(float(high), self.log10_bits_))

    def provided_bias(self, model_error: float) -> Difficulty:
        """Bits that a model with this test error has supplied.

        Parameters
        ----------
        model_error : float
            Positive.
        """
        check_is_fitted(self, "task_")
        return provided_bias(self.task_, model_error)
