r"""Phase one: models of x with a latent z, and what they infer of it.

**Factors**, :math:`x = \mu + B z + \epsilon` with :math:`z \sim N(0, I_r)`, :math:`\epsilon \sim N(0, \Psi)`. With one
variance for all columns the likeliest model has a closed form in the eigenvalues :math:`\ell_i` and eigenvectors
:math:`v_i` of the covariance (Tipping and Bishop 1999),

.. math:: \sigma^2 = \frac{1}{d - r} \sum_{i > r} \ell_i, \qquad B = V_r (L_r - \sigma^2 I)^{1/2},

with a variance of its own for each column scikit-learn's ``FactorAnalysis`` finds it by EM. In both

.. math:: E[z | x] = (I + B^\top \Psi^{-1} B)^{-1} B^\top \Psi^{-1} (x - \mu).

**How many.** "bic" minimises :math:`-2 \log L + k \log m` with k free numbers; "parallel" counts the leading
eigenvalues above those of 20 tables with shuffled columns (Horn 1965). Both may find none.

**Mixture** of Gaussians: scikit-learn's. **Contrast**: an encoder f with the logistic loss of pairs,
:math:`-\log \operatorname{sigmoid}(\pm f(x)^\top f(x'))`; of alike pairs +.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import eigh
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import FactorAnalysis
from sklearn.mixture import GaussianMixture
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from lodim.nets import mlp
from lodim.randomness import as_generator, build_seeded, derive_seed, root_seed
from lodim.training import DescentRecipe, descend
from lodim.validation import (
    ConvergenceWarning,
    check_choice,
    check_counts,
    check_in_range,
    check_kind,
    check_labels,
    check_matrix,
    warn,
)

__all__ = ["ContrastivePretrainer", "FactorPretrainer", "MixturePretrainer", "is_table", "posterior_of"]

Rows = Float[np.ndarray, "n d"]
NOISES, COVARIANCES = ("isotropic", "diagonal"), ("full", "diag")
_LARGEST = 1e100
_ROWS = 2048  # whose products are computed at once
_FIRST = 100  # in which columns that vary mostly do
_N_SHUFFLED = 20  # where columns have nothing in common, the first eigenvalue is above all in one of 21 cases
_PATIENCE = 3  # numbers of groups in a row that do not lower the BIC, after which no more are tried
_PROBABILITIES = 1e-6  # how far the sum of a row of them may be from one


# ---- what every pretrainer does


class _Pretrainer(BaseEstimator):
    """Reads tables."""

    def _read(self, X: Any, *, fitting: bool = False, y: Any = None) -> Rows:
        rows = check_matrix(X, min_rows=2 if fitting else 1)
        if y is not None:
            check_labels(y, len(rows))
        check_size(rows, "X")
        validate_data(self, X if hasattr(X, "columns") else rows, reset=fitting, skip_check_array=True)
        return rows


def check_size(rows: Rows, name: str) -> None:
    """Refuse rows whose squares overflow, or all vanish."""
    largest = max(float(rows.max()), -float(rows.min()))
    if largest and not 1 / _LARGEST < largest < _LARGEST:
        raise ValueError(
            f"{name} has entries up to {largest:.2g}, and their squares are no numbers: scale it"
        )


def check_columns(X: Any, other: Any, names: tuple[str, str]) -> None:
    """Refuse two data frames whose columns have other names, or another order."""
    one, two = (list(getattr(table, "columns", ())) for table in (X, other))
    if one and two and one != two:
        raise ValueError(
            f"{names[1]} must have the columns of {names[0]} in their order, got {two[:5]} and {one[:5]}"
        )


class _Transformer(TransformerMixin):
    """Also a step of scikit-learn's pipelines."""

    def transform(self, X: Any) -> np.ndarray:
        """The same as ``posterior``, by the name that scikit-learn's pipelines know."""
        return self.posterior(X)

    def posterior(self, X: Any) -> np.ndarray:
        raise NotImplementedError


class _Density(_Pretrainer):
    """Has a likelihood."""

    def score(self, X: Any, y: Any = None) -> float:
        """Mean log-likelihood of rows."""
        return float(self.score_samples(X).mean())

    def score_samples(self, X: Any) -> np.ndarray:
        raise NotImplementedError


def posterior_of(pretrainer: Any, X: Any) -> tuple[np.ndarray, bool]:
    """What anything fitted says of rows: its ``posterior``, else ``predict_proba``, else ``transform``.

    So a scikit-learn pipeline of a PCA and a ``GaussianMixture`` is a pretrainer, as is ``FactorAnalysis`` or a topic
    model.

    Returns
    -------
    features : ndarray, shape (n_samples, r)
    is_table : bool
        Whether rows are probabilities of components, by their numbers: none negative, each row's sum one.

    Raises
    ------
    TypeError
        It has none of the three.
    """
    for name in ("posterior", "predict_proba", "transform"):
        if hasattr(pretrainer, name):
            said = getattr(pretrainer, name)(X)
            features = np.asarray(said.toarray() if hasattr(said, "toarray") else said, dtype=float)
            if features.ndim != 2 or len(features) != len(X):
                raise ValueError(
                    f"{name} of {type(pretrainer).__name__} must have shape (n_samples, r), got {features.shape} "
                    f"for {len(X)} rows"
                )
            return features, is_table(features)
    raise TypeError(
        f"a pretrainer must have posterior, predict_proba or transform, and {type(pretrainer).__name__} has none"
    )


def is_table(features: Float[np.ndarray, "n r"]) -> bool:
    """Whether rows are probabilities."""
    return bool(features.size and features.min() >= 0 and np.abs(features.sum(1) - 1).max() <= _PROBABILITIES)


# ---- factors


class FactorPretrainer(_Transformer, _Density):
    """Factors behind the columns, by maximum likelihood.

    Parameters
    ----------
    n_components : "bic", "parallel" or int
        Factors, at most the rows and the columns. "bic" looks at no more than half the rows: beyond them the
        likelihood of few rows in many columns grows without structure.
    noise : {"isotropic", "diagonal"}
        One variance of noise for all columns, by one eigendecomposition of the smaller of the covariance and the Gram
        matrix; or one for each column, by EM, which also makes the unit of a column irrelevant. Constant columns do not
        count in the first: no noise would have made them. In the second they are refused.
    random_state : int, Generator or None
        Shuffles columns for "parallel".

    Attributes
    ----------
    n_components_ : int
        May be 0.
    mean_ : ndarray, shape (n_features,)
    loadings_ : ndarray, shape (n_features, n_components)
        Up to a rotation of the factors.
    noise_variance_ : ndarray, shape (n_features,)
        Zero where rows lie exactly in so many directions.
    """

    mean_: np.ndarray
    loadings_: np.ndarray
    noise_variance_: np.ndarray

    def __init__(self, n_components: Any = "bic", noise: Any = "isotropic", random_state: Any = None) -> None:
        self.n_components = n_components
        self.noise = noise
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> FactorPretrainer:
        """Learn from rows alone; y is not used.

        Raises
        ------
        ValueError
            Bad input, fewer than two rows, or more factors than rows or columns.
        """
        check_choice(self.noise, NOISES, "noise")
        as_generator(self.random_state)
        rows = self._read(X, fitting=True, y=y)
        wanted = _read_count(self.n_components, ("bic", "parallel"), rows.shape)
        if self.noise == "isotropic":
            self._fit_isotropic(rows, wanted)
        else:
            self._fit_diagonal(rows, wanted)
        self.n_components_ = self.loadings_.shape[1]
        noise, B = self.noise_variance_, self.loadings_
        if noise.min() > 0:
            scaled = B / noise[:, None]
            self._precision = np.eye(B.shape[1]) + B.T @ scaled  # of z given x
            self._weights = np.linalg.solve(self._precision, scaled.T)
        else:  # the limit of vanishing noise
            self._precision, self._weights = None, np.linalg.pinv(B) if B.size else B.T
        return self

    def _fit_isotropic(self, rows: Rows, wanted: str | int) -> None:
        varies = (rows[:_FIRST] != rows[0]).any(0)
        if not varies.all():
            varies = np.ptp(rows, axis=0) > 0
        if varies.any() and not varies.all():
            self._fit_isotropic(
                rows[:, varies], wanted if isinstance(wanted, str) else min(wanted, varies.sum())
            )
            mean, loadings = rows[0].copy(), np.zeros((len(varies), self.loadings_.shape[1]))
            mean[varies], loadings[varies] = self.mean_, self.loadings_
            self.mean_, self.loadings_ = mean, loadings
            self.noise_variance_ = np.full(len(varies), self.noise_variance_[0])
            return
        n, d = rows.shape
        mean, total, values, vectors = _principal(rows, wanted if isinstance(wanted, int) else None)
        left = np.maximum(total - np.r_[0.0, np.cumsum(values)], 0)
        left[left <= total * max(n, d) * np.finfo(float).eps] = 0
        r = wanted
        if wanted == "parallel":
            r = _above_chance(rows, values, self.random_state)
        elif wanted == "bic":
            tried = np.arange(min(d - 1, n // 2, len(values)) + 1)
            with np.errstate(divide="ignore"):  # rows in so many directions exactly: infinitely likely
                logs = np.r_[0.0, np.cumsum(np.log(np.maximum(values, 0)))][tried]
                deviance = n * (logs + (d - tried) * np.log(left[tried] / (d - tried)))
            free = d * tried - tried * (tried - 1) / 2
            r = int(np.argmin(deviance + free * math.log(n))) if total else 0
        assert isinstance(r, int)
        variance = left[r] / (d - r) if r < d else 0.0
        self.mean_, self.noise_variance_ = mean, np.full(d, variance)
        self.loadings_ = vectors[:r].T * np.sqrt(np.maximum(values[:r] - variance, 0))

    def _fit_diagonal(self, rows: Rows, wanted: str | int) -> None:
        n, d = rows.shape
        spread = rows.std(0)
        if not spread.min() > 1e-12 * np.abs(rows).max():
            column = int(spread.argmin())
            raise ValueError(
                f"column {column} of X is constant, and noise='diagonal' gives every column a variance of its own: "
                "drop it, or take noise='isotropic'"
            )
        if wanted == "parallel":
            scaled = rows / spread
            wanted = _above_chance(scaled, _principal(scaled)[2], self.random_state)
        if wanted == "bic":
            most = min(
                n // 2, int((2 * d + 1 - math.sqrt(8 * d + 1)) / 2)
            )  # Ledermann: more cannot be told apart
            wanted, best, worse, r = 0, math.inf, 0, 0
            while r <= most and worse < 2:
                free = d * r - r * (r - 1) / 2
                found = -2 * n * self._likeliest(rows, r) + free * math.log(n)
                wanted, best, worse = (r, found, 0) if found < best else (wanted, best, worse + 1)
                r += 1
        assert isinstance(wanted, int)
        self._likeliest(rows, wanted)

    def _likeliest(self, rows: Rows, r: int) -> float:
        """Learn r factors with diagonal noise; the mean log-likelihood."""
        n, d = rows.shape
        self.mean_ = rows.mean(0)
        if not r:
            self.loadings_, self.noise_variance_ = np.empty((d, 0)), rows.var(0)
            return -0.5 * float(np.log(2 * math.pi * self.noise_variance_).sum() + d)
        exact = "lapack" if min(n, d) <= 200 else "randomized"
        scale = rows.std(0)  # EM starts and stops by absolute numbers
        model = FactorAnalysis(r, svd_method=exact).fit((rows - self.mean_) / scale)
        self.loadings_, self.noise_variance_ = (
            model.components_.T * scale[:, None],
            model.noise_variance_ * scale**2,
        )
        return float(model.loglike_[-1]) / n - float(np.log(scale).sum())

    def posterior(self, X: Any) -> Float[np.ndarray, "n r"]:
        """Posterior means of the factors, shape (n_samples, n_components)."""
        check_is_fitted(self)
        return (self._read(X) - self.mean_) @ self._weights.T

    def score_samples(self, X: Any) -> Float[np.ndarray, " n"]:
        """Log-likelihood of each row.

        Raises
        ------
        ValueError
            There is no noise, so that no row has a density.
        """
        check_is_fitted(self)
        away = self._read(X) - self.mean_
        if self._precision is None:
            raise ValueError(
                f"the rows of the fit lie exactly in {self.n_components_} directions and have no density: take fewer "
                "n_components"
            )
        noise = self.noise_variance_
        factor = np.linalg.cholesky(self._precision)
        along = np.linalg.solve(factor, (away / noise @ self.loadings_).T)
        squares = (away**2 / noise).sum(1) - (along**2).sum(0)
        volume = float(np.log(2 * math.pi * noise).sum()) + 2 * float(np.log(np.diag(factor)).sum())
        return -0.5 * (volume + squares)


def _read_count(n_components: Any, words: tuple[str, ...], shape: tuple[int, int]) -> str | int:
    if isinstance(n_components, str):
        return str(check_choice(n_components, words, "n_components"))
    r = int(check_in_range(n_components, "n_components", low=1, integer=True))
    if r > min(shape):
        raise ValueError(
            f"n_components={r} is more than the data have: n_samples={shape[0]}, n_features={shape[1]}"
        )
    return r


def _principal(rows: Rows, r: int | None = None) -> tuple[np.ndarray, float, np.ndarray, np.ndarray]:
    """Mean, total variance, the leading eigenvalues of the covariance (falling) and its eigenvectors, in rows."""
    (n, d), mean = rows.shape, rows.mean(0)
    if n >= d:
        square = np.zeros((d, d))
        for start in range(0, n, _ROWS):
            away = rows[start : start + _ROWS] - mean
            square += away.T @ away
    else:
        away = rows - mean
        square = away @ away.T
    square /= n
    total, size = float(np.trace(square)), len(square)
    kept = None if r is None else [size - r, size - 1]
    values, vectors = eigh(square, subset_by_index=kept, overwrite_a=True, check_finite=False)
    values, directions = np.maximum(values[::-1], 0), vectors[:, ::-1].T
    values[values <= total * max(n, d) * np.finfo(float).eps] = 0
    if n < d:
        length = np.sqrt(n * values)
        directions = directions @ away / np.where(length > 0, length, np.inf)[:, None]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(1)[:, None], axis=1)
    return mean, total, values, directions * np.where(largest < 0, -1, 1)


def _above_chance(rows: Rows, values: np.ndarray, random_state: Any) -> int:
    """How many leading eigenvalues are above those of shuffled columns."""
    rng = as_generator(derive_seed(root_seed(random_state), "shuffled"))
    chance = []
    for _ in range(_N_SHUFFLED):
        shuffled = rng.permuted(rows, axis=0)
        shuffled -= rows.mean(0)
        square = shuffled @ shuffled.T if rows.shape[0] < rows.shape[1] else shuffled.T @ shuffled
        chance.append(eigh(square / len(rows), eigvals_only=True, check_finite=False)[::-1])
    above = values > np.max(chance, axis=0) * (1 + 1e-9)
    return min(int(np.argmin(np.r_[above, False])), rows.shape[1] - 1)


# ---- mixture


class MixturePretrainer(_Density):
    """Groups of rows, each a Gaussian: scikit-learn's ``GaussianMixture``, the number of groups if need be by BIC.

    Parameters
    ----------
    n_components : "bic" or int
        "bic" tries rising numbers up to ``max_components``, as far as each group has rows for its covariance on
        average, and stops where three in a row have not lowered the BIC.
    covariance_type : {"full", "diag"}
    max_components : int
    reg_covar : float
        Added to variances: in squared units of X, so small beside those of its columns; a warning tells where it is
        larger.
    n_init : int
        Starts, of which the likeliest counts.
    max_iter : int
    random_state : int, Generator or None

    Attributes
    ----------
    n_components_ : int
    mixture_ : GaussianMixture
    bic_ : dict of int to float
        Of each number that was tried.
    """

    def __init__(
        self,
        n_components: Any = "bic",
        covariance_type: Any = "full",
        max_components: Any = 10,
        reg_covar: Any = 1e-6,
        n_init: Any = 1,
        max_iter: Any = 200,
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.max_components = max_components
        self.reg_covar = reg_covar
        self.n_init = n_init
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> MixturePretrainer:
        """Learn from rows alone; y is not used.

        Raises
        ------
        ValueError
            Bad input, fewer than two rows, or more groups than rows.
        """
        check_choice(self.covariance_type, COVARIANCES, "covariance_type")
        check_counts(max_components=self.max_components, n_init=self.n_init, max_iter=self.max_iter)
        if math.isinf(check_in_range(self.reg_covar, "reg_covar", low=0.0)):
            raise ValueError("reg_covar must be finite, got infinity")
        rows = self._read(X, fitting=True, y=y)
        n, d = rows.shape
        spread = rows.var(0)
        small = (spread > (1e-12 * np.abs(rows).max(0)) ** 2) & (spread < self.reg_covar)  # not constant
        if small.any():
            column = int(small.argmax())
            warn(
                f"reg_covar={self.reg_covar} is larger than the variance of column {column} of X, "
                f"{spread[column]:.2g}, and blurs its groups: scale X, or lower reg_covar"
            )
        wanted = _read_count(self.n_components, ("bic",), (n, n))
        if isinstance(wanted, int):
            tried: Sequence[int] = [wanted]
        else:  # a group of no more rows than columns has a likelihood without bound
            each = d + 1 if self.covariance_type == "full" else 3
            tried = range(1, max(1, min(self.max_components, n // each)) + 1)
        seed = derive_seed(root_seed(self.random_state), "mixture")
        self.bic_: dict[int, float] = {}
        best = 0
        for k in tried:
            if best and k - best > _PATIENCE:
                break
            model = GaussianMixture(
                k,
                covariance_type=self.covariance_type,
                reg_covar=self.reg_covar,
                n_init=self.n_init,
                max_iter=self.max_iter,
                random_state=seed,
            ).fit(rows)
            self.bic_[k] = float(model.bic(rows))
            if not best or self.bic_[k] < self.bic_[best]:
                self.mixture_, best = model, k
        self.n_components_ = int(self.mixture_.n_components)
        return self

    def posterior(self, X: Any) -> Float[np.ndarray, "n r"]:
        """Probabilities of the groups, shape (n_samples, n_components)."""
        check_is_fitted(self)
        return np.asarray(self.mixture_.predict_proba(self._read(X)))

    def predict_proba(self, X: Any) -> Float[np.ndarray, "n r"]:
        """The same as :meth:`posterior`, by the name that scikit-learn's pipelines know."""
        return self.posterior(X)

    def score_samples(self, X: Any) -> Float[np.ndarray, " n"]:
        """Log-likelihood of each row."""
        check_is_fitted(self)
        return np.asarray(self.mixture_.score_samples(self._read(X)))


# ---- contrast


class ContrastivePretrainer(_Transformer, _Pretrainer):
    """An encoder f that tells alike pairs from others by sigmoid(f(x)'f(x')).

    Parameters
    ----------
    n_components : int
        Values of f.
    hidden : sequence of int
        Widths of hidden layers; none makes f linear.
    encoder : callable, optional
        ``encoder(n_features, n_components)``, a module in place of these; it gets standardised columns.
    view : float or callable
        Where no pairs are given: two views of a row are alike, views of two rows are not. A number is the size of the
        noise that makes a view, in standard deviations of a column; a callable takes a tensor of standardised rows
        and draws from torch's generator, which is seeded.
    steps, batch_size, lr
        Of the descent, by Adam with a rate that falls to zero.
    random_state : int, Generator or None

    Attributes
    ----------
    encoder_ : Module
    loss_ : float
        The last mean loss; log 2 is chance.
    """

    def __init__(
        self,
        n_components: Any = 8,
        hidden: Any = (64,),
        encoder: Any = None,
        view: Any = 0.5,
        steps: Any = 500,
        batch_size: Any = 128,
        lr: Any = 0.01,
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.hidden = hidden
        self.encoder = encoder
        self.view = view
        self.steps = steps
        self.batch_size = batch_size
        self.lr = lr
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, partners: Any = None, similar: Any = None) -> ContrastivePretrainer:
        """Learn from views of rows, or from pairs; y is not used.

        Parameters
        ----------
        X : array-like, shape (n_samples, n_features)
        partners : array-like, shape (n_samples, n_features)
            The other row of each pair, if pairs are given.
        similar : array-like, shape (n_samples,)
            Whether each pair is alike, 1 or 0; needed with ``partners``.

        Raises
        ------
        ValueError
            Bad input, fewer than two rows, pairs that do not fit together, or a view of another shape.

        Warns
        -----
        ConvergenceWarning
            The last losses were not finite.
        """
        check_counts(n_components=self.n_components, steps=self.steps, batch_size=self.batch_size)
        rows = self._read(X, fitting=True, y=y)
        if not callable(self.view):
            check_in_range(self.view, "view", low=0.0, high=1e6)
        check_kind(self.hidden, Sequence[int], "hidden")
        check_kind(self.encoder, Callable[..., Any] | None, "encoder")
        hidden = {f"hidden[{i}]": width for i, width in enumerate(self.hidden)}
        check_counts(**hidden)
        check_columns(X, partners, ("X", "partners"))
        pairs = _read_pairs(rows, partners, similar)
        self._centre, spread = rows.mean(0), rows.std(0)
        self._spread = np.where(spread > 1e-12 * np.abs(rows).max(0), spread, 1.0)
        seed = root_seed(self.random_state)
        n_features, n_components = rows.shape[1], int(self.n_components)
        widths = [n_features, *map(int, self.hidden), n_components]
        make = self.encoder if self.encoder is not None else lambda n_in, n_out: mlp(widths)
        net = build_seeded(lambda: make(n_features, n_components), derive_seed(seed, "weights"))
        check_kind(net, nn.Module, "what encoder returns")
        net = net.double()

        def of_views(x: torch.Tensor) -> torch.Tensor:
            first, second = net(self._look(x)), net(self._look(x))
            loss = nn.functional.softplus(-(first * second).sum(1)).mean()
            if len(x) > 1:  # neighbours in a shuffled batch are two rows
                loss = loss + nn.functional.softplus((first * second.roll(1, 0)).sum(1)).mean()
            return loss / 2

        def of_pairs(x: torch.Tensor, other: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
            return nn.functional.binary_cross_entropy_with_logits((net(x) * net(other)).sum(1), s)

        inputs = self._standard(rows)
        data = (inputs,) if pairs is None else (inputs, self._standard(pairs[0]), torch.from_numpy(pairs[1]))
        recipe = DescentRecipe(
            steps=self.steps, lr=self.lr, batch_size=self.batch_size, schedule="cosine", skip_nonfinite=True
        )
        told = descend(
            of_views if pairs is None else of_pairs,
            net,
            recipe,
            data,
            random_state=derive_seed(seed, "descent"),
            interruptible=False,
        )
        self.encoder_, self.loss_ = net.eval(), float(told.history[-1].loss)
        if not math.isfinite(self.loss_):
            warn(
                "no step of the last pass had a finite loss: scale X, or look at encoder and view",
                ConvergenceWarning,
            )
        return self

    def _standard(self, rows: Rows) -> torch.Tensor:
        return torch.from_numpy((rows - self._centre) / self._spread)

    def _look(self, x: torch.Tensor) -> torch.Tensor:
        if not callable(self.view):
            return x + float(self.view) * torch.randn_like(x)
        seen = self.view(x)
        if not isinstance(seen, torch.Tensor) or seen.shape != x.shape:
            raise ValueError(
                f"view must return a tensor of the shape it gets, {tuple(x.shape)}, got {tuple(np.shape(seen))}"
            )
        return seen

    @torch.no_grad()
    def posterior(self, X: Any) -> Float[np.ndarray, "n r"]:
        """What f says of rows, shape (n_samples, n_components)."""
        check_is_fitted(self)
        return self.encoder_(self._standard(self._read(X))).numpy()


def _read_pairs(rows: Rows, partners: Any, similar: Any) -> tuple[np.ndarray, np.ndarray] | None:
    if partners is None and similar is None:
        return None
    if partners is None or similar is None:
        raise ValueError(
            "give partners and similar together: the other row of each pair, and whether it is alike"
        )
    others = check_matrix(partners, name="partners")
    if others.shape != rows.shape:
        raise ValueError(f"X and partners must have the same shape, got {rows.shape} and {others.shape}")
    alike = check_labels(similar, len(rows), name="similar")
    if not np.isin(alike, (0, 1)).all():
        raise ValueError("similar must hold 1 for alike pairs and 0 for others")
    return others, alike.astype(float)
