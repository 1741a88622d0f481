r"""Does mixing help, and how many noisy samples replace a clean one?

:func:`fit_mixture` trains on the clean samples alone, on all as if they were clean, and on all with their noise known,
several times over, and says what follows from the differences, or that the data cannot tell. :func:`scaling_study`
trains on mixtures of several sizes; with :math:`\pi` the price of a clean sample in noisy ones of one strength,

.. math:: \mathrm{metric} = c + b\, n_{eff}^{-p}, \qquad n_{eff} = n_{clean} + n_{noisy} / \pi,

is fitted to such a table by :func:`fit_power_law`, and :func:`price_bracket` compares its cells without a law.

==============================  =======================================================================================
symbol in the paper             name here
==============================  =======================================================================================
:math:`\sigma_{t_n}`            ``noise_std``
price of clean over noisy data  ``price``
FID                             ``metric``: any figure that is lower for better samples
==============================  =======================================================================================

Source: G. Daras and others, arXiv 2411.02780, section 4 (the comparison of mixtures, the price). The law is the usual
one of data scaling with an effective number of samples; the paper brackets its price by comparing pairs.

How the interval of a price is made. For a given price and p, c and b are non-negative least squares of relative errors,
in closed form; the best p of a grid gives the profile S(price). A price is in the interval where
:math:`S(\mathrm{price}) / S_{min} - 1` is no larger than the bootstrap's quantile of the same figure there: new tables
are drawn about the law fitted with it, their relative errors resampled from the residuals, scaled for the parameters.
So an interval may have no end, as where the noisy samples may be worthless, the metric does not fall, or the design
moves both numbers together. Then no price is given. Nor is it where repeated runs contradict the law. Single runs of
each mixture cannot. In 150 tables each of heavy-tailed, skewed and absolute errors, of a logarithmic law, of six
mixtures and of single runs, families that nothing was tuned on, 95 % intervals held the price 95 to 99 times of 100.

Pairs and arms are compared by t tests, by Bonferroni's rule. Where repeats hold out other clean samples each time, they
share most of their training data, and the variance is raised after C. Nadeau, Y. Bengio, Inference for the
generalization error, Machine Learning 52 (2003).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy import stats

from lodim.generative.ambient_diffusion.model import AmbientDiffusion, _noise_levels
from lodim.metrics import memorisation_gap, mmd_rbf
from lodim.plots import COLORS, new_axes
from lodim.randomness import RandomState, as_generator, derive_seed, root_seed
from lodim.results import Result
from lodim.validation import check_in_range, check_numbers, checked

__all__ = [
    "MixtureComparison", "PowerLaw", "PriceBracket", "ScalingStudy", "fit_mixture", "fit_power_law", "price_bracket",
    "scaling_study",
]  # fmt: skip

Metric = Callable[[Any, Any], Any]
Make = Callable[[int], AmbientDiffusion]
MIXTURE, CLEAN, NAIVE, NOISY = "mixture", "clean only", "noisy as clean", "noisy only"
_HELD_OUT, _LEAST = 1 / 3, 4  # share of the clean samples, and how many at least


# ---------------------------------------------------------------------------------------------------- does it help


@dataclass(frozen=True)
class MixtureComparison(Result):
    """What training on the mixture gives over other uses of the same samples, judged by held-out clean ones.

    Attributes
    ----------
    arms : tuple of str
        "mixture" first.
    scores : ndarray, shape (arms, n_repeats)
        Of the metric: lower is better.
    gaps, copies : ndarray, shape (arms, n_repeats)
        The memorisation gap of samples to the clean ones of the mixture, and the share of samples nearer to these than
        to held-out ones: 1/2 for new ones, and so of "noisy only", which has not seen them.
    worse, low, high : tuple of float
        By how much each further arm's score is above the mixture's, with a confidence interval, all intervals jointly.
    ci : float
    noise : float
        Of the noisy samples, root mean square, over the standard deviation of the clean ones.
    n_clean, n_noisy : int
    """

    arms: tuple[str, ...]
    scores: Float[np.ndarray, "arms n_repeats"]
    gaps: Float[np.ndarray, "arms n_repeats"]
    copies: Float[np.ndarray, "arms n_repeats"]
    worse: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    ci: float
    noise: float
    n_clean: int
    n_noisy: int

    @property
    def best(self) -> str:
        """The arm to train with: the mixture unless another is significantly better."""
        beaten = {arm: worse for arm, worse, high in zip(self.arms[1:], self.worse, self.high) if high < 0}
        return min(beaten, key=lambda arm: beaten[arm]) if beaten else MIXTURE

    @property
    def verdict(self) -> str:
        """What follows from significant differences to the clean samples alone and to noisy ones as if clean."""
        low = dict(zip(self.arms[1:], self.low, strict=True))
        if self.best != MIXTURE:
            told = "knowing the noise" if self.best == NAIVE else "mixing"
            return f"{told} hurts: {self.best} is better than the mixture"
        if low[CLEAN] > 0 and low[NAIVE] > 0:
            return "mixing helps: better than the clean samples alone and than noisy ones as if clean"
        if low[CLEAN] > 0:
            return "the noisy samples help; whether their noise must be known the data cannot tell"
        if low[NAIVE] > 0:
            return "noisy samples as if clean are worse; whether mixing beats the clean ones alone the data cannot tell"
        return "the data cannot tell whether mixing helps"

    def to_frame(self) -> pd.DataFrame:
        """Return a row an arm."""
        nan = (math.nan,)
        return pd.DataFrame(
            {
                "arm": self.arms, "score": self.scores.mean(1), "worse": nan + self.worse, "low": nan + self.low,
                "high": nan + self.high, "memorisation_gap": self.gaps.mean(1), "copies": self.copies.mean(1),
            }
        )  # fmt: skip

    def plot(self, ax: Any = None) -> Any:
        """Draw every repeat's score, an arm a row; and return the axes."""
        ax = new_axes(ax)
        for i, row in enumerate(self.scores):
            ax.plot(row, np.full(len(row), -i), "o")
        shares = self.copies.mean(1)
        rows = [f"{arm}\n{near:.0%} nearer to training" for arm, near in zip(self.arms, shares, strict=True)]
        ax.set_yticks(-np.arange(len(self.arms)), rows)
        ax.set(xlabel="score (lower is better)", title=f"{self.n_clean} clean, {self.n_noisy} noisy samples")
        return ax

    def __str__(self) -> str:
        rows = [
            f"{arm}: score {score.mean():.4g}, memorisation gap {gap.mean():.3g} ({near.mean():.0%} nearer to training)"
            for arm, score, gap, near in zip(self.arms, self.scores, self.gaps, self.copies, strict=True)
        ]
        for i, (worse, low, high) in enumerate(zip(self.worse, self.low, self.high, strict=True), 1):
            rows[i] += f", worse by {worse:.3g} ({low:.3g} to {high:.3g})"
        head = (
            f"{self.verdict} ({self.n_clean} clean, {self.n_noisy} noisy samples, noise {self.noise:.2g} of the data's "
            f"deviation, {self.scores.shape[1]} repeats, {self.ci:.0%} intervals)"
        )
        return "\n  ".join([head, *rows])


@checked
def fit_mixture(
    X: Any,
    noise_std: Any,
    held_out: Any = None,
    *,
    make: Make | None = None,
    metric: Metric | None = None,
    noisy_only: bool = False,
    n_repeats: int = 5,
    n_samples: int = 1000,
    ci: float = 0.95,
    random_state: RandomState = 0,
    progress: Callable[[float, str], Any] | None = None,
    **options: Any,
) -> tuple[AmbientDiffusion, MixtureComparison]:
    """Say whether mixing helps with these samples, and train accordingly.

    Parameters
    ----------
    X : array or Tensor, shape (n, ...)
    noise_std : array or Tensor, shape (n,)
        0 for the clean ones, of which there must be some.
    held_out : array or Tensor, shape (m, ...), optional
        Clean samples to judge by. The intervals are then those of trainings on X: another X or held-out set would
        differ more. Default: in every repeat another third of the clean ones, which the intervals take into account.
    make : callable, optional
        ``make(seed)`` builds an untrained model; default: ``AmbientDiffusion`` of X's shape.
    metric : callable, optional
        ``metric(samples, held_out)``, a number or an object with ``value``, lower for better samples; default: the
        unbiased :func:`~lodim.metrics.mmd_rbf` of one bandwidth. For images one of features says more.
    noisy_only : bool
        Train on the noisy samples alone, too (and sample down to their noise only).
    n_repeats : int
        Trainings of each kind, at least 2; the same seeds for all kinds.
    n_samples : int
        Drawn from each model.
    ci : float
        Of all intervals jointly, below 1.
    **options
        Of :meth:`AmbientDiffusion.fit`, but ``cond`` and ``checkpoint``: models of several sets are compared, without
        conditions.

    Returns
    -------
    model : AmbientDiffusion
        Trained on all of X as ``comparison.best`` says.
    comparison : MixtureComparison

    Raises
    ------
    ValueError
        No clean or no noisy samples, too few clean ones to hold a third out, or a metric that is not finite.
    """
    data = _Data(X, noise_std, held_out, make, metric, n_samples, random_state, options)
    check_in_range(n_repeats, "n_repeats", low=2, integer=True)
    check_in_range(ci, "ci", low=0.5, high=0.999)
    clean, noisy = data.clean, data.noisy
    if not len(clean) or not len(noisy):
        raise ValueError(f"a comparison needs clean and noisy samples, got {len(clean)} and {len(noisy)}")
    size = data.rows[clean].std(0).mean()
    if not size > 0:
        raise ValueError("the clean samples of X are all equal, so that noise has no size beside them")
    n_out = 0 if data.held_out is not None else round(_HELD_OUT * len(clean))
    if data.held_out is None and n_out < _LEAST:
        raise ValueError(
            f"{len(clean)} clean samples are too few to hold a third of them out ({_LEAST} at least); give held_out"
        )
    arms = (MIXTURE, CLEAN, NAIVE, *((NOISY,) if noisy_only else ()))
    figures = np.empty((3, len(arms), n_repeats))
    for repeat in range(n_repeats):
        order = as_generator(derive_seed(data.seed, "held out", repeat)).permutation(clean)
        out, kept = order[:n_out], np.sort(order[n_out:])
        test = data.held_out if n_out == 0 else data.rows[out]
        for i, arm in enumerate(arms):
            if progress is not None:
                progress(
                    (repeat * len(arms) + i) / (1 + n_repeats * len(arms)), f"{arm}, repeat {repeat + 1}"
                )
            model = data.train(*_of_arm(arm, kept, noisy), repeat, arm == NAIVE)
            figures[:, i, repeat] = data.judge(model, data.rows[kept], test, repeat)
    scores = figures[0]
    above = scores[1:] - scores[0]
    # trainings that share data: see the module's docstring
    share = n_out / (len(clean) - n_out)
    width = stats.t.ppf(1 - (1 - ci) / 2 / len(above), n_repeats - 1) * above.std(1, ddof=1)
    half = width * math.sqrt(1 / n_repeats + share)
    mean = above.mean(1)
    noise = float(np.sqrt(np.square(data.noise[noisy]).mean()) / size)
    worse, low, high = (tuple(part.tolist()) for part in (mean, mean - half, mean + half))
    comparison = MixtureComparison(
        arms, scores, figures[1], figures[2], worse, low, high, float(ci), noise, len(clean), len(noisy)
    )
    best = comparison.best
    model = data.train(*_of_arm(best, clean, noisy), n_repeats, best == NAIVE)
    model._numpy = not isinstance(X, torch.Tensor)
    return model, comparison


def _of_arm(arm: str, clean: np.ndarray, noisy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (clean[:0] if arm == NOISY else clean), (noisy[:0] if arm == CLEAN else noisy)


class _Data:
    """Samples with their noise, and what is done with parts of them."""

    def __init__(
        self, X: Any, noise_std: Any, held_out: Any, make: Make | None, metric: Metric | None, n_samples: int,
        random_state: RandomState, options: dict[str, Any],
    ) -> None:  # fmt: skip
        if wrong := options.keys() & {"cond", "checkpoint", "each"}:
            raise ValueError(
                f"models of several sets of samples are compared: leave out {', '.join(sorted(wrong))}"
            )
        self.options = options
        self.rows = check_numbers(X, "X", dtype=np.float32)
        if self.rows.ndim < 2 or not np.isfinite(self.rows).all():
            raise ValueError("X must hold finite samples, shape (n, ...), one of two axes or more")
        self.noise = _noise_levels(noise_std, len(self.rows), "cpu").numpy()
        self.clean, self.noisy = np.flatnonzero(self.noise == 0), np.flatnonzero(self.noise)
        self.held_out = None if held_out is None else check_numbers(held_out, "held_out", dtype=np.float32)
        if self.held_out is not None and (
            self.held_out.shape[1:] != self.rows.shape[1:]
            or len(self.held_out) < _LEAST
            or not np.isfinite(self.held_out).all()
        ):
            raise ValueError(
                f"held_out must hold {_LEAST} finite samples or more of shape {self.rows.shape[1:]}, got shape "
                f"{self.held_out.shape}"
            )
        self.n_samples = int(check_in_range(n_samples, "n_samples", low=2, integer=True))
        self.seed, shape = root_seed(random_state), self.rows.shape[1:]
        self.make = make or (lambda seed: AmbientDiffusion(shape=shape, random_state=seed))
        self.metric = metric or self._discrepancy

    def _discrepancy(self, samples: Any, test: Any) -> float:
        flat = torch.from_numpy(test.reshape(len(test), -1)).double()
        width = float(torch.pdist(flat[:1000]).median())
        return mmd_rbf(samples, test, bandwidth=width or None, n_permutations=0).value

    def train(self, clean: np.ndarray, noisy: np.ndarray, repeat: int, naive: bool) -> AmbientDiffusion:
        """Train a new model on these rows; the seed depends on the repeat alone."""
        rows, seed = np.concatenate([clean, noisy]), derive_seed(self.seed, "training", repeat)
        noise = np.zeros(len(rows)) if naive else self.noise[rows]
        model = self.make(seed)
        if not isinstance(model, AmbientDiffusion) or model.training_ is not None:
            what = "one that is trained" if isinstance(model, AmbientDiffusion) else type(model).__name__
            raise ValueError(f"make(seed) must build a new AmbientDiffusion, untrained, got {what}")
        limits = model.data_range
        if naive:
            model.data_range = None  # noisy values lie outside of it
        model.fit(self.rows[rows], noise, **{"random_state": seed, **self.options})
        model.data_range = limits
        return model

    def judge(
        self, model: AmbientDiffusion, trained: Any, test: Any, repeat: int
    ) -> tuple[float, float, float]:
        """Return score, memorisation gap and share of copies of samples from a model."""
        floor, seed = float(model.floor), derive_seed(self.seed, "samples", repeat)
        samples = model.sample(self.n_samples, stop_at=floor or None, generator=seed)
        found = self.metric(samples, test)
        score = check_numbers(getattr(found, "value", found), "the metric")
        if score.size != 1 or not np.isfinite(score).all():
            raise ValueError(f"the metric of a model's samples must be a finite number, got {score}")
        gap = memorisation_gap(samples, trained, test, random_state=self.seed)
        return float(score.item()), gap.value, gap.share


# ---------------------------------------------------------------------------------------------------- at what price


@dataclass(frozen=True)
class ScalingStudy(Result):
    """A table: a row a training, with so many clean and noisy samples.

    Attributes
    ----------
    n_clean, n_noisy : array-like, shape (m,)
        Kept as ndarrays, like the others.
    noise_std : float or array-like, shape (m,)
        Of the noisy samples; one number is taken for all rows.
    metric : array-like, shape (m,)
        Positive, lower for better samples. Rows may repeat with other seeds, and should: runs of one size say how large
        the luck of a run is.
    """

    n_clean: Any
    n_noisy: Any
    noise_std: Any
    metric: Any

    def __post_init__(self) -> None:
        metric = check_numbers(self.metric, "metric")
        for name in ("n_clean", "n_noisy", "noise_std", "metric"):
            values = check_numbers(getattr(self, name), name)
            if name == "noise_std" and not values.ndim:
                values = np.full(metric.shape, float(values))
            if values.ndim != 1 or values.shape != metric.shape:
                raise ValueError(
                    f"n_clean, n_noisy, noise_std and metric must be 1-D and alike, got {name} of shape {values.shape} "
                    f"and metric of shape {metric.shape}"
                )
            bad = ~(np.isfinite(values) & (values > 0 if name == "metric" else values >= 0))
            if bad.any():
                least = "positive" if name == "metric" else "at least 0"
                raise ValueError(f"{name} must be finite and {least}, got {values[bad][0]}")
            object.__setattr__(self, name, values)
        if not len(self.metric) or not (self.n_clean + self.n_noisy > 0).all():
            raise ValueError("a study needs rows, and each of them clean or noisy samples")

    def at(self, noise_std: float | int | None, min_clean: float | int) -> pd.DataFrame:
        """Return the rows with this noise or none, and so many clean samples at least."""
        frame, levels = self.to_frame(), np.unique(self.noise_std[self.n_noisy > 0])
        if noise_std is None and len(levels) > 1:
            raise ValueError(
                f"the table has noise of {len(levels)} strengths, {levels[:9].tolist()}: give noise_std"
            )
        wanted = noise_std if noise_std is not None else levels[0] if len(levels) else 0.0
        if noise_std is not None and not np.isclose(levels, wanted, atol=0).any():
            raise ValueError(
                f"no row has noisy samples of noise_std={noise_std}, only of {levels[:9].tolist()}"
            )
        kept = frame[(frame.n_noisy == 0) | np.isclose(frame.noise_std, wanted, atol=0)]
        return kept[kept.n_clean >= check_in_range(min_clean, "min_clean", low=1)].reset_index(drop=True)

    def to_frame(self) -> pd.DataFrame:
        """Return the table."""
        names = ("n_clean", "n_noisy", "noise_std", "metric")
        return pd.DataFrame({name: getattr(self, name) for name in names})

    def plot(self, ax: Any = None) -> Any:
        """Draw the metric against the number of samples, a line for every number of clean ones; and return the axes."""
        ax = new_axes(ax)
        for n_clean, rows in self.to_frame().groupby("n_clean"):
            mean = rows.groupby("n_noisy").metric.mean()
            ax.loglog(mean.index.to_numpy() + n_clean, mean, "o-", label=f"{n_clean:g} clean")
        ax.set(xlabel="clean and noisy samples", ylabel="metric")
        ax.legend()
        return ax

    def __str__(self) -> str:
        cells = len(self.to_frame().groupby(["n_clean", "n_noisy", "noise_std"]))
        return (
            f"{len(self.metric)} trainings of {cells} mixtures, {self.n_clean.min():g} to {self.n_clean.max():g} clean "
            f"and up to {self.n_noisy.max():g} noisy samples: metric {self.metric.min():.4g} to {self.metric.max():.4g}"
        )


@checked
def scaling_study(
    X: Any,
    noise_std: Any,
    held_out: Any,
    design: Sequence[tuple[int, int]],
    *,
    metric: Metric,
    make: Make | None = None,
    n_repeats: int = 3,
    n_samples: int = 1000,
    random_state: RandomState = 0,
    progress: Callable[[float, str], Any] | None = None,
    **options: Any,
) -> ScalingStudy:
    """Train on mixtures of several sizes, and tabulate the metric.

    Parameters
    ----------
    design : sequence of (int, int)
        Numbers of clean and noisy samples. Vary both, and neither in step with the other. In each repeat other ones are
        chosen, the smaller numbers among the larger.
    metric : callable
        As of :func:`fit_mixture`, and positive (:class:`~lodim.metrics.FrechetDistance`): its default is not.
    X, noise_std, held_out, make, n_samples, options
        As of :func:`fit_mixture`; held-out samples must be given.

    Raises
    ------
    ValueError
        Bad input, a design that asks for more samples than there are or for none, or a metric that is not positive.
    """
    data = _Data(X, noise_std, held_out, make, metric, n_samples, random_state, options)
    if data.held_out is None:
        raise ValueError("a study judges all mixtures by the same clean samples: give held_out")
    check_in_range(n_repeats, "n_repeats", low=1, integer=True)
    if not len(design):
        raise ValueError("design must have mixtures, pairs of numbers of clean and noisy samples")
    for n_clean, n_noisy in design:
        if n_clean + n_noisy < 2:
            raise ValueError(f"a mixture needs two samples or more, got ({n_clean}, {n_noisy}) in design")
        if not 0 <= n_clean <= len(data.clean) or not 0 <= n_noisy <= len(data.noisy):
            raise ValueError(
                f"design asks for {n_clean} clean and {n_noisy} noisy samples; there are {len(data.clean)} and "
                f"{len(data.noisy)}"
            )
    strength = float(np.sqrt(np.square(data.noise[data.noisy]).mean())) if len(data.noisy) else 0.0
    found = []
    for repeat in range(n_repeats):
        rng = as_generator(derive_seed(data.seed, "design", repeat))
        clean, noisy = rng.permutation(data.clean), rng.permutation(data.noisy)
        for i, (n_clean, n_noisy) in enumerate(design):
            if progress is not None:
                progress((repeat + i / len(design)) / n_repeats, f"{n_clean} clean, {n_noisy} noisy")
            model = data.train(clean[:n_clean], noisy[:n_noisy], repeat, False)
            trained = data.rows[clean[:n_clean] if n_clean else noisy[:n_noisy]]
            score = data.judge(model, trained, data.held_out, repeat)[0]
            if score <= 0:
                raise ValueError(
                    f"a law of scaling needs a positive metric, got {score:.4g}; take another one"
                )
            found.append((n_clean, n_noisy, strength, score))
    return ScalingStudy(*np.array(found, dtype=float).T)


@dataclass(frozen=True)
class PowerLaw(Result):
    """``metric = c + b n_eff ** -p``, with ``n_eff = n_clean + n_noisy / price``.

    Attributes
    ----------
    price : float
        Noisy samples that one clean sample is worth; NaN where the table does not identify it.
    low, high : float
        Its confidence interval; NaN where it has no such end (the price may be as small, or as large, as you like).
    ci : float
    c, b, p : float
        Of the best law; n counted in samples.
    lack_of_fit : float
        p-value of the hypothesis that the law holds, from runs of one size; NaN without such.
    n_rows : int
    problem : str
        Why there is no price; empty where there is one.
    """

    price: float
    low: float
    high: float
    ci: float
    c: float
    b: float
    p: float
    lack_of_fit: float
    n_rows: int
    problem: str

    @property
    def identified(self) -> bool:
        """Whether the table says what a noisy sample is worth, within limits on both sides."""
        return not self.problem

    def predict(self, n_clean: Any, n_noisy: Any) -> Any:
        """Return the law's metric; with noisy samples it needs an identified price."""
        clean, noisy = check_numbers(n_clean, "n_clean"), check_numbers(n_noisy, "n_noisy")
        if noisy.any() and not self.identified:
            raise ValueError(f"the price of noisy samples is not identified: {self.problem}")
        price = self.price if self.identified else 1.0
        value = self.c + self.b * (clean + noisy / price) ** -self.p
        return float(value) if np.ndim(value) == 0 else value

    def plot(self, ax: Any = None) -> Any:
        """Draw the law over the effective number of samples, from 10 to 10,000; and return the axes."""
        ax = new_axes(ax)
        n = np.geomspace(10, 1e4, 60)
        ax.loglog(n, self.c + self.b * n**-self.p)
        title = f"price {self.price:.3g} ({self.low:.3g} to {self.high:.3g})"
        ax.set(
            xlabel="effective number of samples: clean ones + noisy ones / price", ylabel="metric",
            title=title if self.identified else f"no price: {self.problem}",
        )  # fmt: skip
        return ax

    def __str__(self) -> str:
        law = f"metric = {self.c:.3g} + {self.b:.3g} n^-{self.p:.2g}"
        if not self.identified:
            of = f"({self.n_rows} trainings)"
            return f"the price of a clean sample in noisy ones is unidentified: {self.problem} {of}"
        return (
            f"a clean sample is worth {self.price:.3g} noisy ones ({self.ci:.0%} interval {self.low:.3g} to "
            f"{self.high:.3g}; {law}, {self.n_rows} trainings)"
        )


_GRID, _ZOOMS = (45, 31), 3  # prices and exponents
_FURTHEST = 100.0  # beyond the table's own ratio


@checked
def fit_power_law(
    study: ScalingStudy,
    *,
    noise_std: float | int | None = None,
    min_clean: float | int = 1,
    ci: float = 0.95,
    n_bootstrap: int = 200,
    random_state: RandomState = 0,
) -> PowerLaw:
    """Fit a law to a table, and ask what one clean sample is worth.

    Parameters
    ----------
    study : ScalingStudy
    noise_std : float, optional
        Whose rows are used, with those that have no noisy samples; needed where the table has several strengths.
    min_clean : float
        Rows of fewer clean samples are left out: without any, no number of noisy ones does (the paper's finding), so no
        law with one price holds there.
    n_bootstrap : int
        Tables drawn at every price that is tried.

    Raises
    ------
    ValueError
        Fewer than 5 such rows, or than 4 different mixtures.
    """
    check_in_range(ci, "ci", low=0.5, high=0.999)
    check_in_range(n_bootstrap, "n_bootstrap", low=20, integer=True)
    rows = study.at(noise_std, min_clean)
    m, cells = len(rows), rows.groupby(["n_clean", "n_noisy"])
    if m < 5 or len(cells) < 4:
        raise ValueError(
            f"a law with a price has 4 parameters: 5 rows and 4 mixtures at least, got {m} rows of {len(cells)} "
            f"mixtures with {min_clean:g} clean samples or more"
        )
    clean, noisy, y = (rows[name].to_numpy(float) for name in ("n_clean", "n_noisy", "metric"))
    table = _Table(clean, noisy, y, 1 / cells.metric.transform("mean").to_numpy())
    widest = max(float(noisy.max()), 1.0) / float(clean.min())
    prices, exponents = (
        np.geomspace(1 / _FURTHEST, _FURTHEST * max(widest, 1.0), _GRID[0]),
        np.geomspace(0.05, 4, _GRID[1]),
    )
    for _ in range(_ZOOMS):  # to where the law is not absurd, so that the grid is fine there
        sizes = np.array([table.sizes(price, exponents, y[None])[0][:, 0] for price in prices])
        kept = sizes <= sizes.min() * (1 + 3 * stats.f.isf(1e-3, 1, max(m - 4, 1)) / max(m - 4, 1))
        prices, exponents = (
            _within(values, kept.any(1 - axis), n)
            for axis, (values, n) in enumerate(zip((prices, exponents), _GRID))
        )
    profile = np.array([table.sizes(price, exponents, y[None])[0].min() for price in prices])
    best = int(profile.argmin())
    draws = as_generator(root_seed(random_state)).integers(m, size=(n_bootstrap, m))

    def holds(i: int) -> bool:
        """Whether the data contradict this price no more than tables drawn with it do."""
        law = table.law(prices[i], exponents)[0]
        errors = (y / law - 1) * math.sqrt(m / max(m - 3, 1))
        tables = law * np.maximum(1 + (errors - errors.mean())[draws], 0.01)
        drawn = np.array([table.sizes(price, exponents, tables)[0].min(0) for price in prices])
        ratio = drawn[i] / np.maximum(drawn.min(0), 1e-300)
        return bool(profile[i] <= max(profile[best], 1e-300) * np.quantile(ratio, ci, method="higher"))

    refused = [_first_refused(holds, best, end) for end in (0, len(prices) - 1)]
    low, high = (math.nan if at is None else float(prices[at]) for at in refused)
    _, c, b, p = table.law(prices[best], exponents)
    fitted = table.law(prices[best], exponents)[0]
    lack = _lack_of_fit(y / fitted, rows.groupby(["n_clean", "n_noisy"]).ngroup().to_numpy())
    problem = _problem(low, high, lack, ci)
    price = math.nan if problem else float(prices[best])
    return PowerLaw(price, low, high, float(ci), c, b, p, lack, m, problem)


def _problem(low: float, high: float, lack_of_fit: float, ci: float) -> str:
    """Say why a table gives no price, or nothing."""
    if lack_of_fit < 0.01:
        return f"runs of one size contradict the law (p = {lack_of_fit:.1g})"
    if math.isnan(low) and math.isnan(high):
        return "any price fits"
    if math.isnan(high):
        return "the noisy samples may be worth nothing"
    if math.isnan(low):
        return "the noisy samples may be worth any number of clean ones"
    return ""


def _within(values: Float[np.ndarray, " k"], kept: Any, n: int) -> Float[np.ndarray, " n"]:
    """Return n values between the neighbours of those that were kept."""
    at = np.flatnonzero(kept)
    return np.geomspace(values[max(at[0] - 1, 0)], values[min(at[-1] + 1, len(values) - 1)], n)


def _first_refused(holds: Callable[[int], bool], inside: int, end: int) -> int | None:
    """Return the first number from ``inside`` to ``end`` that does not hold, by halving, or None if all do."""
    if inside == end or holds(end):
        return None
    outside = end
    while abs(outside - inside) > 1:
        middle = (inside + outside) // 2
        inside, outside = (middle, outside) if holds(middle) else (inside, middle)
    return outside


def _lack_of_fit(ratios: Float[np.ndarray, " m"], cell: Any) -> float:
    """Return the p-value of the F test of the cells' means against the spread within them."""
    counts = np.bincount(cell)
    within, between = len(ratios) - len(counts), len(counts) - 4
    if within < 1 or between < 1:
        return math.nan
    means = np.bincount(cell, ratios) / counts
    inner = float(np.square(ratios - means[cell]).sum()) / within
    outer = float((counts * np.square(means - 1)).sum()) / between
    return float(stats.f.sf(outer / max(inner, 1e-8), between, within))  # no law holds to more than 1e-4


class _Table:
    """Rows of a study, and least squares on them for given prices and exponents."""

    def __init__(self, clean: Any, noisy: Any, y: Any, relative: Any) -> None:
        self.clean, self.noisy, self.y, self.weights = clean, noisy, y, relative**2

    def sizes(
        self, price: float, exponents: Any, tables: Float[np.ndarray, "r m"]
    ) -> tuple[Any, Any, Any, float]:
        """Return the squared relative errors (exponents, tables), with c and b, not negative, and the unit of n."""
        n = self.clean + self.noisy / price
        unit = math.exp(float(np.log(n).mean()))
        z, w = (n / unit) ** -exponents[:, None], self.weights
        total, sz, szz = w.sum(), ((z * w).sum(1))[:, None], ((z * z * w).sum(1))[:, None]
        wy = tables * w
        sy, syy, szy = wy.sum(1), (wy * tables).sum(1), z @ wy.T
        b = np.maximum((szy - sz * sy / total) / np.maximum(szz - sz**2 / total, 1e-300), 0)
        c = (sy - b * sz) / total
        b, c = np.where(c < 0, szy / szz, b), np.maximum(c, 0)
        size = syy - 2 * c * sy - 2 * b * szy + c**2 * total + 2 * b * c * sz + b**2 * szz
        return np.maximum(size, 1e-14 * syy), c, b, unit  # below it is rounding

    def law(self, price: float, exponents: Any) -> tuple[Float[np.ndarray, " m"], float, float, float]:
        """Return the best law's metric in every row, and its c, b and p."""
        size, c, b, unit = self.sizes(price, exponents, self.y[None])
        k = int(size[:, 0].argmin())
        p, factor = float(exponents[k]), float(b[k, 0])
        n = self.clean + self.noisy / price
        return c[k, 0] + factor * (n / unit) ** -p, float(c[k, 0]), factor * unit**p, p


@dataclass(frozen=True)
class PriceBracket(Result):
    """Between which numbers of noisy samples the worth of a clean one lies, by comparing mixtures in pairs.

    Attributes
    ----------
    low : float
        The largest ratio at which replacing clean samples by so many noisy ones made the metric significantly worse;
        NaN if none did.
    high : float
        The smallest at which it made it significantly better; NaN if none did.
    ci : float
        Of all comparisons jointly.
    noise : float
        Relative standard deviation of a run.
    n_pairs : int
        Of mixtures, one with more clean, the other with more noisy samples.
    """

    low: float
    high: float
    ci: float
    noise: float
    n_pairs: int

    def plot(self, ax: Any = None) -> Any:
        """Draw the bracket on an axis of logarithms, an arrow where it has no end; and return the axes."""
        ax = new_axes(ax)
        low, high = self.low, self.high
        if math.isnan(low) and math.isnan(high):
            ax.set(title="no pair of mixtures differs significantly", xticks=[])
        else:
            ends = np.array([high / 10 if math.isnan(low) else low, 10 * low if math.isnan(high) else high])
            ax.semilogx(ends, [0, 0], color=COLORS[0])
            for end, known, arrow in zip(ends, ~np.isnan([low, high]), "<>", strict=True):
                ax.plot(end, 0, "|" if known else arrow, color=COLORS[0], markersize=14 if known else 8)
            if low >= high:
                ax.set(title="no one price: too few at the right end, enough at the left one")
        ax.set(xlabel="noisy samples that a clean one is worth", yticks=[])
        return ax

    def __str__(self) -> str:
        of = f"({self.n_pairs} pairs of mixtures, {self.ci:.0%} jointly, a run varies by {self.noise:.1%})"
        if self.low >= self.high:
            return f"no one price: {self.low:.3g} noisy for a clean sample were too few, {self.high:.3g} enough {of}"
        if not math.isnan(self.low) and not math.isnan(self.high):
            return f"a clean sample is worth between {self.low:.3g} and {self.high:.3g} noisy ones {of}"
        if math.isnan(self.low) and math.isnan(self.high):
            return f"no pair of mixtures differs significantly: the price is unidentified {of}"
        one = f"more than {self.low:.3g}" if math.isnan(self.high) else f"less than {self.high:.3g}"
        return f"a clean sample is worth {one} noisy ones; the other end is open {of}"


@checked
def price_bracket(
    study: ScalingStudy,
    *,
    noise_std: float | int | None = None,
    min_clean: float | int = 1,
    ci: float = 0.95,
) -> PriceBracket:
    """Bracket the price by pairs of mixtures, without a law; runs of one size say how large a difference is luck.

    The logarithms' differences are tested with the standard deviation pooled over all mixtures. Parameters as of
    :func:`fit_power_law`.

    Raises
    ------
    ValueError
        Fewer than 5 rows, no mixture with two runs, or no pair to compare.
    """
    check_in_range(ci, "ci", low=0.5, high=0.999)
    rows = study.at(noise_std, min_clean)
    cells = (
        rows.assign(log=np.log(rows.metric)).groupby(["n_clean", "n_noisy"]).log.agg(["mean", "count", "var"])
    )
    freedom = int((cells["count"] - 1).sum())
    if len(rows) < 5 or freedom < 1:
        raise ValueError(
            f"a bracket needs 5 rows, and two runs of one mixture, to know how much is luck; got {len(rows)} rows of "
            f"{len(cells)} mixtures with {min_clean:g} clean samples or more"
        )
    sd = math.sqrt(float((cells["var"].fillna(0) * (cells["count"] - 1)).sum()) / freedom)
    pairs = [
        ((b[1] - a[1]) / (a[0] - b[0]), cells.loc[b], cells.loc[a])
        for one, other in combinations(cells.index, 2)
        for a, b in ((one, other), (other, one))
        if a[0] > b[0] and a[1] < b[1]
    ]
    if not pairs:
        raise ValueError(
            "no mixture has fewer clean and more noisy samples than another: there is nothing to compare"
        )
    quantile = float(stats.t.ppf(1 - (1 - ci) / 2 / len(pairs), freedom))
    low, high = math.nan, math.nan
    for ratio, with_noisy, with_clean in pairs:
        above = with_noisy["mean"] - with_clean["mean"]
        luck = quantile * sd * math.sqrt(1 / with_noisy["count"] + 1 / with_clean["count"])
        if above > luck:
            low = float(np.fmax(low, ratio))
        elif above < -luck:
            high = float(np.fmin(high, ratio))
    return PriceBracket(low, high, float(ci), sd, len(pairs))
