r"""How much is gained, over m and n: measured on data, and computed where the model is known.

**The factor model.** Let :math:`x = B z + \epsilon`, noise of variance :math:`\sigma^2`, and :math:`y = \beta^\top z +
\nu`; turn z so that :math:`B = V \Lambda^{1/2}`, and write :math:`\ell_i = \lambda_i + \sigma^2`. The Bayes risk is
:math:`\sigma_*^2 = \nu^2 + \sum_i \beta_i^2 \sigma^2 / \ell_i`. With B known, least squares on posterior means has the
excess :math:`\sigma_*^2 [(1 + \frac1n) \frac{n - 2}{n - r - 2} - 1]`, exactly; without an intercept
:math:`\sigma_*^2 \frac{r}{n - r - 1}`.

**What the unlabelled rows cost.** Of N rows the i-th principal direction is :math:`\hat v_i \approx c_i v_i + s_i w`, w
a random direction across. Classical asymptotics (d fixed) give :math:`s_i^2 \approx (d - r) \sigma^2 \ell_i / (N
\lambda_i^2)`. What y loses is :math:`\operatorname{Var}(E[y | x] \mid \hat V^\top x)`, and to first order

.. math:: \frac{A\, d\, r}{N}: \qquad \frac{d - r}{N} \sum_{i \le r} \frac{\beta_i^2 \sigma^4}{\lambda_i \ell_i} .

For few rows that is not enough: where d / N is no small number, :math:`\gamma = (d - r) / (N - 1)`, eigenvectors obey
(Paul 2007; Benaych-Georges and Nadakuditi 2012)

.. math:: c_i^2 = \frac{1 - \gamma \sigma^4 / \lambda_i^2}{1 + \gamma \sigma^2 / \lambda_i}, \qquad
          q_i^2 = \frac{1 - \gamma \sigma^4 / \lambda_i^2}{1 + \sigma^2 / \lambda_i}, \qquad
          \hat\ell_i = \ell_i \Big(1 + \frac{\gamma \sigma^2}{\lambda_i}\Big),

q being the correlation of scores *within the fit* with z, :math:`\hat\ell` their variance there; where
:math:`\lambda_i^2 \le \gamma \sigma^4` nothing is found, c = q = 0, :math:`\hat\ell_i = \sigma^2 (1 + \sqrt\gamma)^2`.
Scores of new rows have the variance :math:`v_i = c_i^2 \lambda_i + \sigma^2`, and the best coefficient on them is
:math:`b_i = \beta_i c_i \sqrt{\lambda_i} / v_i`. Labelled rows that took part in phase one teach another one,
:math:`a_i = \beta_i q_i / \hat\ell_i^{1/2}`, since their scores are inflated. So with :math:`\tau = \nu^2 + \sum_i
\beta_i^2 (1 - q_i^2)`

.. math:: \text{excess} = \sum_i \beta_i^2 \Big(\frac{\lambda_i}{\ell_i} - \frac{c_i^2 \lambda_i}{v_i}\Big)
          + \sum_i (b_i - a_i)^2 v_i
          + \tau \Big[\frac1n + \Big(1 + \frac1n\Big) \frac{N - r - 2}{(N - 1)(n - r - 2)} \sum_i \frac{v_i}{\hat\ell_i}
          \Big],

the factor before the last sum being the mean inverse of the n labelled rows' share in N orthogonal scores. If phase one
has not seen the labelled rows, :math:`a_i = b_i`, :math:`\hat\ell_i = v_i`, :math:`q_i^2 = c_i^2 \lambda_i / v_i`, and
N is infinite in that factor.

**Where it holds**: Gaussian factors and noise of one variance, r known, :math:`n > r + 2`; d and N large in any
proportion, factors that are equal or well apart. Terms of order r / N are left out: where N is but ten times r and
below d, the formula comes out low, in the claim by some quarter. The first term falls as 1/N, the second as 1/N^2.

**Supervised** least squares: :math:`\sigma_*^2 [(1 + \frac1n) \frac{n - 2}{n - d - 2} - 1]` for n > d + 2; none has a
mean next to n = d; below it, that of the least norm, by the deterministic equivalent (Hastie and others 2022) with
eigenvalues :math:`\lambda_j'` of the covariance, :math:`\sum_j \lambda_j' / (\lambda_j' + k) = n - 1`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import t as student
from sklearn.base import clone, is_classifier

from lodim.plots import COLORS, new_axes
from lodim.randomness import RandomState, as_generator, derive_seed, root_seed
from lodim.representation.pretraining_advantage.predictors import read_labelled
from lodim.representation.pretraining_advantage.pretrainers import check_columns, check_size, posterior_of
from lodim.results import Result
from lodim.validation import check_counts, check_in_range, check_labels, check_matrix, check_numbers, checked

__all__ = [
    "ExcessRisk",
    "FactorModel",
    "LearningSurface",
    "MixtureModel",
    "PairModel",
    "informativeness",
    "learning_surface",
    "predict_excess_risk",
]

Count = int | np.integer
Number = float | int | np.number


# ---- the three models


@dataclass(frozen=True)
class FactorModel(Result):
    """x = B z + noise, y = coef'z + noise, all Gaussian.

    Attributes
    ----------
    loadings : ndarray, shape (n_features, n_components)
        B.
    coef : ndarray, shape (n_components,)
    noise, target_noise : float
        Standard deviations, of each column and of y.
    """

    loadings: np.ndarray
    coef: np.ndarray
    noise: float = 1.0
    target_noise: float = 0.3

    @classmethod
    def random(
        cls,
        n_features: Count = 100,
        n_components: Count = 5,
        scale: Number = 0.25,
        target_noise: Number = 0.3,
        random_state: RandomState = None,
    ) -> FactorModel:
        """Draw loadings of standard deviation ``scale`` and coefficients of length one; the noise is 1."""
        check_counts(n_features=n_features, n_components=n_components)
        check_in_range(n_components, "n_components", high=int(n_features))
        check_in_range(scale, "scale", low=0.0, high=1e6)
        check_in_range(target_noise, "target_noise", low=0.0, high=1e6)
        rng = as_generator(random_state)
        coef = rng.standard_normal(n_components)
        loadings = scale * rng.standard_normal((n_features, n_components))
        return cls(loadings, coef / np.linalg.norm(coef), 1.0, float(target_noise))

    def sample(self, n: Count, random_state: RandomState = None) -> tuple[np.ndarray, np.ndarray]:
        """Draw n rows X and their y."""
        check_counts(n=n)
        rng, (d, r) = as_generator(random_state), self.loadings.shape
        z = rng.standard_normal((n, r))
        X = z @ self.loadings.T + self.noise * rng.standard_normal((n, d))
        return X, z @ self.coef + self.target_noise * rng.standard_normal(n)

    def predict(self, X: Any) -> Float[np.ndarray, " n"]:
        """The Bayes prediction E[y | x]: a prediction's excess risk is its mean squared distance from it."""
        gram = self.loadings.T @ self.loadings + self.noise**2 * np.eye(len(self.coef))
        return np.asarray(X) @ self.loadings @ np.linalg.solve(gram, self.coef)

    def principal(self) -> tuple[np.ndarray, np.ndarray]:
        """The lambda_i, falling, and beta_i in those coordinates."""
        values, Q = np.linalg.eigh(self.loadings.T @ self.loadings)
        return np.maximum(values[::-1], 0), (Q.T @ self.coef)[::-1]

    @property
    def bayes_risk(self) -> float:
        """Mean squared error of E[y | x]."""
        values, beta = self.principal()
        return float(self.target_noise**2 + np.sum(beta**2 * self.noise**2 / (values + self.noise**2)))

    def __str__(self) -> str:
        d, r = self.loadings.shape
        return f"{r} factors in {d} columns, Bayes risk {self.bayes_risk:.3g}"


@dataclass(frozen=True)
class MixtureModel(Result):
    """A component by its weight, x Gaussian around its mean, a class by its row of the table.

    Attributes
    ----------
    means : ndarray, shape (n_components, n_features)
    table : ndarray, shape (n_components, n_classes)
        Probabilities of classes.
    weights : ndarray, shape (n_components,)
    noise : float
    """

    means: np.ndarray
    table: np.ndarray
    weights: np.ndarray
    noise: float = 1.0

    @classmethod
    def random(
        cls,
        n_features: Count = 10,
        n_components: Count = 6,
        n_classes: Count = 3,
        separation: Number = 3.0,
        purity: Number = 0.95,
        random_state: RandomState = None,
    ) -> MixtureModel:
        """Draw means of standard deviation ``separation``; each component has a class with probability ``purity``."""
        check_counts(n_features=n_features, n_components=n_components, n_classes=n_classes)
        check_in_range(n_classes, "n_classes", low=2)
        check_in_range(purity, "purity", low=0.0, high=1.0)
        check_in_range(separation, "separation", low=0.0, high=1e6)
        rng = as_generator(random_state)
        own = np.arange(n_components) % n_classes
        table = np.full((n_components, n_classes), (1 - purity) / (n_classes - 1))
        table[np.arange(n_components), own] = purity
        means = separation * rng.standard_normal((n_components, n_features))
        return cls(means, table, np.full(n_components, 1 / n_components))

    def sample(self, n: Count, random_state: RandomState = None) -> tuple[np.ndarray, np.ndarray]:
        """Draw n rows X and their classes, from 0."""
        check_counts(n=n)
        rng = as_generator(random_state)
        z = rng.choice(len(self.weights), n, p=self.weights)
        X = self.means[z] + self.noise * rng.standard_normal((n, self.means.shape[1]))
        return X, (rng.random((n, 1)) > self.table[z].cumsum(1)[:, :-1]).sum(1)

    def __str__(self) -> str:
        return f"{len(self.means)} components in {self.means.shape[1]} columns, {self.table.shape[1]} classes"


@dataclass(frozen=True)
class PairModel(Result):
    """x standard normal, f(x) = W x; a pair is alike with probability sigmoid(f(x)'f(x')); y = coef'f(x) + noise.

    Attributes
    ----------
    weights : ndarray, shape (n_components, n_features)
        W.
    coef : ndarray, shape (n_components,)
    target_noise : float
    """

    weights: np.ndarray
    coef: np.ndarray
    target_noise: float = 0.3

    @classmethod
    def random(
        cls, n_features: Count = 10, n_components: Count = 2, random_state: RandomState = None
    ) -> PairModel:
        """Draw orthogonal rows of W of length 1.5, and coefficients of length one."""
        check_counts(n_features=n_features, n_components=n_components)
        check_in_range(n_components, "n_components", high=int(n_features))
        rng = as_generator(random_state)
        frame = np.linalg.qr(rng.standard_normal((n_features, n_components)))[0].T
        coef = rng.standard_normal(n_components)
        return cls(1.5 * frame, coef / np.linalg.norm(coef))

    def pairs(self, n: Count, random_state: RandomState = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw n rows X, their partners, and 1 where they are alike, else 0."""
        check_counts(n=n)
        rng = as_generator(random_state)
        X, partners = rng.standard_normal((2, n, self.weights.shape[1]))
        logits = ((X @ self.weights.T) * (partners @ self.weights.T)).sum(1)
        return X, partners, (rng.random(n) < expit(logits)).astype(int)

    def sample(self, n: Count, random_state: RandomState = None) -> tuple[np.ndarray, np.ndarray]:
        """Draw n rows X and their y."""
        check_counts(n=n)
        rng = as_generator(random_state)
        X = rng.standard_normal((n, self.weights.shape[1]))
        return X, X @ self.weights.T @ self.coef + self.target_noise * rng.standard_normal(n)

    def __str__(self) -> str:
        return (
            f"pairs in {self.weights.shape[1]} columns, alike by {self.weights.shape[0]} of their directions"
        )


# ---- computed


@dataclass(frozen=True)
class ExcessRisk(Result):
    """Mean squared errors beyond the Bayes risk; infinite where they have no mean.

    Attributes
    ----------
    m, n : int
    pretrained : float
    oracle : float
        With B known.
    supervised : float
        Least squares on x.
    bayes_risk : float
    """

    m: int
    n: int
    pretrained: float
    oracle: float
    supervised: float
    bayes_risk: float

    @property
    def gain(self) -> float:
        """Risk of supervised learning over that with pretraining."""
        return (self.bayes_risk + self.supervised) / (self.bayes_risk + self.pretrained)

    def __str__(self) -> str:
        return (
            f"m = {self.m}, n = {self.n}: squared error over the Bayes risk of {self.bayes_risk:.3g}: "
            f"{self.pretrained:.3g} pretrained, {self.oracle:.3g} with the factors known, {self.supervised:.3g} "
            "supervised"
        )


@checked
def predict_excess_risk(
    model: FactorModel,
    m: Count,
    n: Count,
    *,
    use_labelled_inputs: bool = True,
    fit_intercept: bool = True,
) -> ExcessRisk:
    """Compute the mean excess risks of the factor model: the module's formulas.

    Parameters
    ----------
    model : FactorModel
    m, n : int
        Unlabelled and labelled rows; m may be 0 with ``use_labelled_inputs``.
    use_labelled_inputs : bool
        Whether phase one has seen the labelled rows.
    fit_intercept : bool
        Of all least-squares fits, as of the default head.

    Raises
    ------
    ValueError
        No row to pretrain on, fewer than two labelled ones, or a model without noise in x.
    """
    m, n = (
        int(check_in_range(m, "m", low=0, integer=True)),
        int(check_in_range(n, "n", low=2, integer=True)),
    )
    if not model.noise > 0:
        raise ValueError("the noise of the model must be positive: without it two rows tell the factors")
    total = m + n * use_labelled_inputs
    if total < 2:
        raise ValueError(f"m={m} and use_labelled_inputs=False leave no two rows to pretrain on")
    (d, r), s2, risk = model.loadings.shape, model.noise**2, model.bayes_risk
    lam, beta = model.principal()
    level = lam + s2
    free = n - fit_intercept
    mean = 1 / n if fit_intercept else 0.0  # what the mean of y costs

    def inflation(columns: float, count: int) -> float:
        """Of the risk by a fit to that many columns, where ``columns`` counts them by their share of variance."""
        return mean + (1 + mean) * columns / (free - count - 1) if free - count - 1 > 0 else math.inf

    gamma = (d - r) / (total - 1)  # the pretrainer takes the mean off, which costs one row
    seen = lam**2 > gamma * s2**2
    safe = np.where(seen, lam, 1.0)
    kept = np.where(seen, 1 - gamma * s2**2 / safe**2, 0.0)
    c2, q2 = kept / (1 + gamma * s2 / safe), kept / (1 + s2 / safe)
    level_hat = np.where(seen, level * (1 + gamma * s2 / safe), s2 * (1 + math.sqrt(gamma)) ** 2)
    spread = c2 * lam + s2
    best = beta * np.sqrt(c2 * lam) / spread
    lost = float(np.sum(beta**2 * (lam / level - c2 * lam / spread)))
    if use_labelled_inputs:
        learnt = beta * np.sqrt(q2 / level_hat)
        rows = total - fit_intercept
        columns = float(np.sum(spread / level_hat)) * max(rows - r - 1, 0) / rows
    else:
        learnt, q2, columns = best, c2 * lam / spread, float(r)
    tau = model.target_noise**2 + float(np.sum(beta**2 * (1 - q2)))
    pretrained = lost + float(np.sum((best - learnt) ** 2 * spread)) + tau * inflation(columns, r)
    supervised = risk * inflation(float(d), d) if free > d else _least_norm(model, n, free, mean)
    return ExcessRisk(m, n, pretrained, risk * inflation(float(r), r), supervised, risk)


def _least_norm(model: FactorModel, n: int, free: int, mean: float) -> float:
    """Excess risk of least squares of the least norm, with fewer rows than columns."""
    (d, r), s2, risk = model.loadings.shape, model.noise**2, model.bayes_risk
    if free == d:
        return math.inf
    lam, beta = model.principal()
    values = np.r_[lam + s2, np.full(d - r, s2)]
    signal = np.r_[beta**2 * lam / (lam + s2), np.zeros(d - r)]  # variance of E[y | x] along each direction
    top = float(values.sum()) / free
    k = float(brentq(lambda k: np.sum(values / (values + k)) - free, 0.0, top, xtol=1e-14 * top))
    freedom = float(np.sum((values / (values + k)) ** 2))
    bias = float(np.sum(signal * (k / (values + k)) ** 2))
    excess = (free * bias + risk * freedom) / (free - freedom)
    return excess + mean * (risk + excess)


# ---- measured


@dataclass(frozen=True)
class LearningSurface(Result):
    """Risks over numbers of unlabelled and labelled rows: mean squared error, or the share of wrong classes.

    Attributes
    ----------
    m, n : tuple of int
    pretrained : ndarray, shape (len(m), len(n), n_repeats)
    supervised : ndarray, shape (len(n), n_repeats)
        Of the baseline, which learns from the same labelled rows.
    kind : str
        "error" of classes, or "squared error".
    """

    m: tuple[int, ...]
    n: tuple[int, ...]
    pretrained: np.ndarray
    supervised: np.ndarray
    kind: str

    @property
    def gain(self) -> Float[np.ndarray, "M N"]:
        """Mean risk supervised over mean risk pretrained; above one pretraining pays."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.supervised.mean(1) / self.pretrained.mean(2)

    def break_even(self) -> pd.DataFrame:
        """For each m, up to which n pretraining is ahead.

        Columns: ``m``; ``n``, where the mean difference of risks changes its sign, between two of the grid by a line in
        log n; ``verdict``: "crosses", or "ahead" or "behind" at every n, or "the data cannot tell" where nowhere the
        difference is clear; in all but the first n is NaN. Clear is what repeats without a difference show, at any of
        the n, in one case of twenty (Student's t, Bonferroni). All repeats share the pool and the test rows.
        """
        rows = []
        freedom = self.supervised.shape[1] - 1  # 0 makes the errors NaN, and nothing clear
        critical = float(student.isf(0.05 / (2 * len(self.n)), max(freedom, 1)))
        for m, risk in zip(self.m, self.pretrained):
            difference = self.supervised - risk
            mean, error = difference.mean(1), _standard_error(difference)
            clear = np.abs(mean) > critical * error
            at, verdict = math.nan, "ahead" if mean[0] > 0 else "behind"
            turns = np.flatnonzero((mean[:-1] > 0) & (mean[1:] <= 0))
            if not clear.any():
                verdict = "the data cannot tell"
            elif len(turns):
                i = int(turns[0])
                low, high = np.log(self.n[i : i + 2])
                at = float(np.exp(low + (high - low) * mean[i] / (mean[i] - mean[i + 1])))
                verdict = "crosses"
            elif not ((mean > 0).all() or (mean <= 0).all()):
                verdict = (
                    "the data cannot tell"  # behind at first, then ahead: no n from which on labels suffice
                )
            rows.append((m, at, verdict))
        return pd.DataFrame(rows, columns=["m", "n", "verdict"])

    def to_frame(self) -> pd.DataFrame:
        """One row for each m and n: mean risks, their standard errors, the gain."""
        errors, of_baseline = _standard_error(self.pretrained), _standard_error(self.supervised)
        return pd.DataFrame(
            [
                {
                    "m": m,
                    "n": n,
                    "pretrained": self.pretrained[i, j].mean(),
                    "pretrained_se": errors[i, j],
                    "supervised": self.supervised[j].mean(),
                    "supervised_se": of_baseline[j],
                    "gain": self.gain[i, j],
                }
                for i, m in enumerate(self.m)
                for j, n in enumerate(self.n)
            ]
        )

    def plot(self, ax: Any = None) -> Any:
        """Risk over n, a line for each m and one for the baseline, bars of one standard error; returns the axes."""
        ax = new_axes(ax)
        lines = [
            (f"m = {m:,}", risk, COLORS[i % (len(COLORS) - 1)])
            for i, (m, risk) in enumerate(zip(self.m, self.pretrained))
        ]
        for label, risk, color in [*lines, ("supervised", self.supervised, COLORS[-1])]:
            style = "--" if label == "supervised" else "-"
            ax.errorbar(
                self.n,
                risk.mean(1),
                _standard_error(risk),
                label=label,
                color=color,
                linestyle=style,
                marker="o",
            )
        ax.set(xscale="log", xlabel="labelled rows", ylabel=self.kind)
        if self.supervised.min() > 0 and self.pretrained.min() > 0:
            ax.set_yscale("log")
        ax.legend()
        return ax

    def __str__(self) -> str:
        lines = [f"{self.kind}, {self.supervised.shape[1]} repeats (standard error)"]
        heads = ["", *(f"n = {n:,}" for n in self.n)]
        tables = [("supervised", self.supervised)]
        tables += [(f"m = {m:,}", risk) for m, risk in zip(self.m, self.pretrained)]
        lines.append("".join(f"{head:>18}" for head in heads))
        for name, risk in tables:
            cells = [f"{mean:.3g} ({se:.1g})" for mean, se in zip(risk.mean(1), _standard_error(risk))]
            lines.append("".join(f"{cell:>18}" for cell in [name, *cells]))
        for row in self.break_even().itertuples():
            where = f"pays up to about n = {row.n:.0f}" if row.verdict == "crosses" else str(row.verdict)
            lines.append(f"m = {row.m:,}: {where}")
        return "\n".join(lines)


def _standard_error(risks: np.ndarray) -> np.ndarray:
    """Of means over the last axis; NaN of one repeat."""
    count = risks.shape[-1]
    return risks.std(-1, ddof=1) / math.sqrt(count) if count > 1 else np.full(risks.shape[:-1], math.nan)


@checked
def learning_surface(
    predictor: Any,
    baseline: Any,
    X_pool: Any,
    y_pool: Any,
    X_test: Any,
    y_test: Any,
    m_grid: Sequence[Count],
    n_grid: Sequence[Count],
    *,
    n_repeats: Count = 5,
    random_state: RandomState = 0,
) -> LearningSurface:
    """Measure the risk of a pretrained predictor and of a supervised one over numbers of unlabelled and labelled rows.

    In each repeat the pool is shuffled: the first rows are the labelled ones, of later ones the label is not used. Both
    methods learn from the same labelled rows, and smaller draws are part of larger ones. Both phases are fitted anew
    for each m and n.

    Parameters
    ----------
    predictor : PretrainedRegressor or PretrainedClassifier
        Or anything with ``fit(X, y, X_unlabelled=...)``, such as :class:`JointMixtureClassifier`.
    baseline : estimator
        Such as one of :func:`supervised_baselines`.
    X_pool : array-like, shape (n_pool, n_features)
    y_pool : array-like, shape (n_pool,)
    X_test : array-like, shape (n_test, n_features)
    y_test : array-like, shape (n_test,)
    m_grid, n_grid : sequence of int
        Rising; m from 0, n from 2.
    n_repeats : int
    random_state : int, Generator or None

    Raises
    ------
    ValueError
        Bad input, a pool of fewer rows than the largest m and n together, or test labels that the pool does not have.
    """
    check_counts(n_repeats=n_repeats)
    m_grid, n_grid = _read_grid(m_grid, "m_grid", 0), _read_grid(n_grid, "n_grid", 2)
    classes = is_classifier(predictor)
    X, y = read_labelled(X_pool, y_pool, classes, "learning_surface", ("X_pool", "y_pool"))
    test = check_matrix(X_test, name="X_test")
    check_columns(X_pool, X_test, ("X_pool", "X_test"))
    check_size(X, "X_pool")
    check_size(test, "X_test")
    if test.shape[1] != X.shape[1]:
        raise ValueError(f"X_test must have the columns of X_pool, got shapes {test.shape} and {X.shape}")
    truth = check_labels(y_test, len(test), name="y_test")
    if not classes:
        truth = check_numbers(truth, "y_test")
    elif len(unseen := np.setdiff1d(truth, y)):
        raise ValueError(f"y_test has classes that y_pool has not: {', '.join(map(str, unseen[:5]))}")
    if m_grid[-1] + n_grid[-1] > len(X):
        raise ValueError(
            f"m_grid and n_grid ask for {m_grid[-1]} and {n_grid[-1]} rows, and X_pool has {len(X)} in all"
        )

    def risk(model: Any) -> float:
        said = model.predict(test)
        return float(np.mean(said != truth) if classes else np.mean((said - truth) ** 2))

    seed, repeats = root_seed(random_state), int(n_repeats)
    pretrained = np.empty((len(m_grid), len(n_grid), repeats))
    supervised = np.empty((len(n_grid), repeats))
    for repeat in range(repeats):
        order = as_generator(derive_seed(seed, "pool", repeat)).permutation(len(X))
        labelled, others = order[: n_grid[-1]], order[n_grid[-1] :]
        for j, n in enumerate(n_grid):
            rows, target = X[labelled[:n]], y[labelled[:n]]
            supervised[j, repeat] = risk(clone(baseline).fit(rows, target))
            for i, m in enumerate(m_grid):
                model = clone(predictor).fit(rows, target, X_unlabelled=X[others[:m]])
                pretrained[i, j, repeat] = risk(model)
    return LearningSurface(m_grid, n_grid, pretrained, supervised, "error" if classes else "squared error")


def _read_grid(grid: Any, name: str, low: int) -> tuple[int, ...]:
    values = tuple(int(check_in_range(value, name, low=low, integer=True)) for value in grid)
    if not values or any(a >= b for a, b in pairwise(values)):
        raise ValueError(f"{name} must hold rising numbers, at least one, got {list(values)[:10]}")
    return values


@checked
def informativeness(pretrainer: Any, X: Any, random_state: RandomState = None) -> float:
    r"""How far two fits to disjoint halves of the rows differ in what they infer, from 0 (alike) to 1.

    Of posteriors A, C of all rows, centred and of unit length, :math:`1 - \|A^\top C\|_*^2`: the distance that is left
    after the best rotation and scale (Procrustes), which a linear head absorbs, permutations of components among them.
    Near 0 the latent is identified up to those, as theory needs; 1 also where a fit finds no component. It says
    nothing about y.

    Parameters
    ----------
    pretrainer : estimator
        As for :func:`posterior_of`; clones of it are fitted.
    X : array-like, shape (n_samples, n_features)
        At least four rows.
    """
    rows = check_matrix(X, min_rows=4)
    order = as_generator(random_state).permutation(len(rows))
    halves = order[: len(rows) // 2], order[len(rows) // 2 :]
    found = [posterior_of(clone(pretrainer).fit(rows[half]), rows)[0] for half in halves]
    centred = [each - each.mean(0) for each in found]
    lengths = [float(np.linalg.norm(each)) for each in centred]
    if min(lengths) <= 1e-12:
        return 1.0
    A, C = (each / length for each, length in zip(centred, lengths))
    shared = float(np.linalg.svd(A.T @ C, compute_uv=False).sum())
    return max(0.0, 1 - shared**2)
