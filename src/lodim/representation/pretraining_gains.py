r"""How many labels rows without labels are worth: :func:`pretraining_gain`.

Let :math:`R(n)` be the mean error of a predictor on new rows when it learns from n labelled rows: of :math:`P`, whose
first phase learnt from the unlabelled rows, and of its rivals, who have none of them: a tuned supervised predictor, and
the same two phases on the labelled rows alone. Otherwise a gain could be that of the model and not of the rows. The
unlabelled rows are worth w labels beside n when

.. math:: \min_k R_k(n + w) = R_P(n).

**Estimate.** Labelled rows are dealt anew into those to learn from and those to test on, J times; in each deal all
predictors learn from the same first n rows, for a grid of n, and are tested on the same rows. Between the n of the
grid, errors are linear in log n.

**Interval.** w is not rejected if 0 lies within Student's interval, with J - 1 degrees of freedom, of the mean
difference :math:`D = R_k(n + w) - R_P(n)`. Deals share rows, so their spread alone would promise too much. The variance
of the mean of D has two parts, which are added:

- rows tested on: :math:`\operatorname{Var}_i(\bar D_i) / N`, with :math:`\bar D_i` the mean of row i's difference over
  the deals that test it, N all labelled rows;
- rows learnt from, of each of the two predictors:
  :math:`\tau^2 \left(\frac{1}{J} + \frac{\rho}{1 - \rho}\right)`, with :math:`\tau^2` the variance of its error over
  deals beyond what the rows tested on bring about, and :math:`\rho = n / N`: an average over subsets of n of N rows has
  at most :math:`n / N` of the variance of one subset (Hoeffding 1948, section 5).

Each rival has its own share of the level, and the least of them decides.

The grid ends where the labels do. Worth beyond it is not guessed: then only "more than" is said.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy import stats
from sklearn.base import BaseEstimator, clone
from sklearn.decomposition import PCA
from sklearn.utils.multiclass import type_of_target

from lodim.parallel import JobsInterrupted, run_jobs
from lodim.plots import COLORS, new_axes
from lodim.randomness import RandomState, derive_seed, root_seed
from lodim.representation.pretraining_advantage.predictors import (
    PretrainedClassifier,
    PretrainedRegressor,
    default_head,
    read_labelled,
    read_unlabelled,
    supervised_baselines,
)
from lodim.representation.pretraining_advantage.pretrainers import (
    FactorPretrainer,
    MixturePretrainer,
    posterior_of,
)
from lodim.results import Result
from lodim.validation import check_in_range, check_labels, checked, plain_array

__all__ = ["PretrainingGain", "pretraining_gain"]

GAIN, NONE, UNKNOWN = "gain", "none", "the data cannot tell"
_MARGIN = 0.1  # of n: labels fewer than these are none to speak of
RIVALS = ("supervised", "labelled rows alone")
_FEWEST, _SIZES, _STEP = 8, 6, math.sqrt(2)
_FINE = 200  # points at which the line between sizes is looked at
_DIRECTIONS = 20  # to which many columns are reduced before a mixture
_SOME = 5  # deals without which nothing is said
Progress = Callable[[float, str], None]


@dataclass(frozen=True, eq=False)
class PretrainingGain(Result):
    """What unlabelled rows are worth beside n labelled ones, for a grid of n.

    Attributes
    ----------
    n_labels : ndarray, shape (S,)
    headline : int
        Which of them the first line speaks of, chosen without looking at errors.
    error : ndarray, shape (S,)
        Mean error with the unlabelled rows: squared, or share of wrong classes.
    rivals : dict of str to ndarray, shape (S,)
        The same without them; NaN where a pretrainer cannot learn from so few.
    half_width : ndarray, shape (S,)
        Of the interval of ``error``.
    worth, low, high : ndarray, shape (S,)
        Labels beside n that do as well, and the interval. NaN in ``worth`` and ``high``: beyond what labels at hand
        can show. ``low`` is ``-n_labels`` where the fewest labels looked at do as well.
    verdicts : tuple of str
        "gain" if ``low`` is above 0, "none" if ``high`` is below a tenth of n, else "the data cannot tell". Each has
        the error of its level; the grid as a whole has more.
    constant : float
        Error of the best constant, beside which an error has learnt something.
    n_components : int
        What the unlabelled rows have shown.
    n_unlabelled, n_rows, n_test, n_repeats : int
    ci : float
        Coverage of the intervals, such as 0.95.
    notes : tuple of str
    """

    n_labels: Int[np.ndarray, " S"]
    headline: int
    error: Float[np.ndarray, " S"]
    rivals: dict[str, Float[np.ndarray, " S"]]
    half_width: Float[np.ndarray, " S"]
    worth: Float[np.ndarray, " S"]
    low: Float[np.ndarray, " S"]
    high: Float[np.ndarray, " S"]
    verdicts: tuple[str, ...]
    constant: float
    n_components: int
    n_unlabelled: int
    n_rows: int
    n_test: int
    n_repeats: int
    ci: float
    notes: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """That of the headline."""
        return self.verdicts[self.headline]

    def to_frame(self) -> pd.DataFrame:
        """Return a row for each n."""
        return pd.DataFrame(
            {
                "n_labels": self.n_labels,
                "error": self.error,
                **self.rivals,
                "worth": self.worth,
                "low": self.low,
                "high": self.high,
                "verdict": self.verdicts,
            }
        )

    def plot(self, ax: Any = None) -> Any:
        """Draw the learning curves and, as an arrow, the headline's worth; returns the axes."""
        ax = new_axes(ax)
        for color, (name, errors) in zip(COLORS[1:], self.rivals.items()):
            ax.plot(self.n_labels, errors, marker="o", color=color, label=name)
        ax.plot(self.n_labels, self.error, marker="o", color=COLORS[0], label="with unlabelled rows")
        band = (self.error - self.half_width, self.error + self.half_width)
        ax.fill_between(self.n_labels, *band, color=COLORS[0], alpha=0.15, linewidth=0)
        n, height = int(self.n_labels[self.headline]), float(self.error[self.headline])
        worth = self.worth[self.headline]
        end = n + worth if math.isfinite(worth) else int(self.n_labels[-1])
        if self.verdict == GAIN:
            ax.annotate("", (end, height), (n, height), arrowprops={"arrowstyle": "->", "color": "0.3"})
        ax.set(xscale="log", xlabel="labelled rows", ylabel="error", title=self._told(self.headline))
        ax.set_xticks(self.n_labels, [str(n) for n in self.n_labels])
        ax.set_xticks([], minor=True)
        ax.legend()
        return ax

    def _told(self, i: int) -> str:
        n, worth, low, high = (float(each[i]) for each in (self.n_labels, self.worth, self.low, self.high))
        beside, most = f"Beside {n:.0f} labels: ", self.n_labels[-1] - n
        if self.verdicts[i] == UNKNOWN:
            return beside + UNKNOWN
        if self.verdicts[i] == NONE:
            return beside + ("worth none" if high <= 0 else f"worth {high:.0f} at most")
        mean = f"more than {most:.0f}" if math.isnan(worth) else f"{worth:.0f} more"
        upto = f"more than {most:.0f}" if math.isnan(high) else f"{high:.0f}"
        return beside + f"worth {mean} ({low:.0f} to {upto})"

    def __str__(self) -> str:
        i, table = self.headline, self.to_frame()
        for name in ("worth", "high"):
            table[name] = ["beyond" if math.isnan(each) else f"{each:.3g}" for each in table[name]]
        lines = [
            f"{self._told(i)}. {self.n_unlabelled} unlabelled rows, {self.n_components} components; error "
            f"{self.error[i]:.3g}, without them "
            + ", ".join(f"{errors[i]:.3g} ({name})" for name, errors in self.rivals.items())
            + f"; intervals of {self.ci:.0%}.",
            table.to_string(index=False, float_format="{:.3g}".format, na_rep="-"),
        ]
        return "\n".join([*lines, *self.notes])


@checked
def pretraining_gain(
    X_unlabelled: Any,
    X: Any,
    y: Any,
    *,
    predictor: Any = None,
    baseline: Any = None,
    n_labels: Sequence[int] | np.ndarray | None = None,
    n_repeats: int | np.integer = 50,
    test_share: float = 0.25,
    ci: float = 0.95,
    n_jobs: int = 1,
    progress: Progress | None = None,
    random_state: RandomState = 0,
) -> PretrainingGain:
    """Say how many labels rows without labels are worth, with an interval; or that they are worth none.

    The first phase learns once, from ``X_unlabelled`` alone; then predictors learn from more and more of the labelled
    rows, with it and without, and are tested on others of them. Of a run that is interrupted (Ctrl-C) what is known by
    then comes back.

    Parameters
    ----------
    X_unlabelled : array-like, shape (m, n_features)
        Rows that are in X too are left out, unless so few values make chance copies likely. Columns as in X.
    X : array-like, shape (n_samples, n_features)
        Labelled rows, 24 at least, drawn alike and apart: not several of one patient. Copies count once, unless columns
        have so few values that rows agree by chance.
    y : array-like, shape (n_samples,)
        Classes, or numbers.
    predictor : PretrainedClassifier or PretrainedRegressor, optional
        Which pretrainer and head. By default a classifier where y has classes (strings, booleans, whole numbers): a
        mixture in the 20 leading directions, its size by BIC; else factors, their number by BIC.
    baseline : estimator, optional
        The supervised rival; by default logistic or ridge regression, tuned.
    n_labels : sequence of int, optional
        Sizes to look at; by default up to six, each the square root of two times the one before, to the most
        that learn.
    n_repeats : int
        Deals, 5 at least.
    test_share : float
        Of the labelled rows, to test on.
    ci : float
        Coverage of the intervals, such as 0.95.
    n_jobs : int
        Processes; see :func:`lodim.parallel.run_jobs`.
    progress : callable, optional
        ``progress(share, text)`` after each deal.
    random_state : int, Generator or None
        Deals rows, and seeds what has a ``random_state`` of None.

    Raises
    ------
    ValueError
        Bad input, too few rows, no unlabelled row left, one class, whole numbers that may be classes or not.

    Examples
    --------
    >>> from lodim.representation import FactorModel, pretraining_gain
    >>> model = FactorModel.random(n_features=100, n_components=5, random_state=0)
    >>> X, y = model.sample(2200, random_state=1)
    >>> found = pretraining_gain(X[200:], X[:200], y[:200], random_state=0)
    >>> found.verdict
    'gain'
    """
    check_in_range(n_repeats, "n_repeats", low=_SOME, integer=True)
    check_in_range(test_share, "test_share", low=0.05, high=0.6)
    check_in_range(ci, "ci", low=0.5, high=0.999)
    classification = _has_classes(y, predictor)
    rows, target = read_labelled(X, y, classification, "pretraining_gain")
    target = np.asarray(target)
    if target.ndim != 1:
        raise ValueError(f"y must have one value for each row, got shape {target.shape}")
    extra = read_unlabelled(X_unlabelled, rows, X)
    notes: list[str] = []
    rows, target, extra = _apart(rows, target, extra, notes)
    n = len(rows)
    if n < 3 * _FEWEST:
        raise ValueError(f"X must have {3 * _FEWEST} different labelled rows at least, got {n}")
    if len(extra) < 2:
        raise ValueError(f"X_unlabelled must have two rows at least that are not in X, got {len(extra)}")
    if len(np.unique(target)) < 2:
        raise ValueError(f"y holds one value only, {target.tolist()[0]!r}: there is nothing to learn")
    n_test = max(2, round(test_share * n))
    sizes = _grid(n_labels, n - n_test, len(np.unique(target)) if classification else 1)
    seed = root_seed(random_state)
    start, head = (_seeded(each, seed) for each in _phases(predictor, classification, rows.shape[1]))
    pretrainer = clone(start).fit(extra)
    features, is_table = posterior_of(pretrainer, rows)
    if not features.shape[1]:
        notes.append(
            "The pretrainer finds no component in the unlabelled rows: with them a constant is predicted."
        )
    if baseline is None:
        baseline = supervised_baselines(classification)["logistic" if classification else "ridge"]
    work = _Deals(
        rows, target, features, _head(head, features, is_table, classification),
        _seeded(baseline, seed), start, head, classification, sizes, n_test, seed,
    )  # fmt: skip
    done = 0

    def on_done(index: int, outcome: Any) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done / int(n_repeats), f"deal {done} of {n_repeats}")

    try:
        outcomes = run_jobs(work, range(int(n_repeats)), n_jobs=n_jobs, on_done=on_done)
    except JobsInterrupted as interrupt:
        outcomes = [one for one in interrupt.outcomes if one.done]
        if sum(one.error is None for one in outcomes) < _SOME:
            raise
        notes.append(f"Interrupted: {len(outcomes)} of {n_repeats} deals.")
    for one in outcomes:
        if one.error is not None:
            raise ValueError(f"a predictor could not learn from the rows of a deal:\n{one.error}")
    losses, tested = (
        np.array(each) for each in zip(*(one.value for one in outcomes if one.value is not None))
    )
    if np.isinf(losses).any() or np.isnan(losses[:, :2]).any():
        raise ValueError("squared errors are not finite: numbers in y or X are too large; scale them")
    constant, r = _constant(target, classification), int(features.shape[1])
    return _answer(losses, tested, sizes, n, ci, notes, constant, r, len(extra))


# ---- what is given


def _has_classes(y: Any, predictor: Any) -> bool:
    if isinstance(predictor, PretrainedClassifier | PretrainedRegressor):
        return isinstance(predictor, PretrainedClassifier)
    if predictor is not None:
        raise TypeError(
            "predictor must be a PretrainedClassifier or a PretrainedRegressor, which says whether y has classes; got "
            f"{type(predictor).__name__}"
        )
    target = np.asarray(plain_array(y, "y"))
    if target.ndim != 1 or not len(target):
        raise ValueError(f"y must have one value for each row, got shape {target.shape}")
    target = check_labels(target, len(target))
    kind = type_of_target(target)
    if (
        kind == "multiclass"
        and target.dtype.kind in "iuf"
        and len(np.unique(target)) > max(10, len(target) / 10)
    ):
        raise ValueError(
            f"y has {len(np.unique(target))} different whole numbers in {len(target)} rows: classes, or numbers? Give "
            "predictor=PretrainedClassifier() or PretrainedRegressor()"
        )
    return kind != "continuous"


def _apart(
    rows: np.ndarray, target: np.ndarray, extra: np.ndarray, notes: list[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Without copies among the labelled rows, which would be learnt from and tested on, or among the others.

    Where independent columns would agree in a pair of rows by chance, copies are rows like others: without them, rows
    and classes would not be as frequent as they are.
    """
    n = len(rows)
    shares = [np.unique(column, return_counts=True)[1] / n for column in rows.T]
    if n * (n - 1) / 2 * np.prod([share @ share for share in shares]) >= 1:
        return rows, target, extra
    seen = pd.DataFrame(rows).assign(target=target).duplicated().to_numpy()
    if seen.any():
        notes.append(f"{int(seen.sum())} labelled rows are copies of another and are left out.")
        rows, target = rows[~seen], target[~seen]
    with np.errstate(over="ignore"):
        single = [part.astype(np.float32) for part in (rows, extra)]
    # else one came in that precision
    if not any(np.array_equal(*pair) for pair in zip((rows, extra), single)):
        single = [rows, extra]
    known = {row.tobytes() for row in np.ascontiguousarray(single[0] + 0.0)}
    there = np.array([row.tobytes() in known for row in np.ascontiguousarray(single[1] + 0.0)], dtype=bool)
    if there.any():
        notes.append(f"{int(there.sum())} of the unlabelled rows are labelled rows and are left out.")
    return rows, target, extra[~there]


def _grid(given: Any, most: int, n_classes: int) -> np.ndarray:
    fewest = max(_FEWEST, 2 * n_classes)
    if given is None:
        if most < fewest * _STEP:
            raise ValueError(
                f"{most} labelled rows to learn from are too few for {n_classes} classes: {math.ceil(fewest * _STEP)} "
                "at least"
            )
        steps = np.arange(_SIZES)
        sizes = np.round(most / _STEP**steps).astype(int)
        return np.unique(sizes[sizes >= fewest])
    sizes = np.asarray(plain_array(given, "n_labels"))
    if sizes.ndim != 1 or sizes.dtype.kind not in "iu" or len(np.unique(sizes)) < 2:
        raise ValueError(f"n_labels must be two different whole numbers at least, got {given!r}")
    if sizes.min() < 2 or sizes.max() > most:
        raise ValueError(
            f"n_labels must lie between 2 and {most}, the rows not tested on; got {sizes.min()} to {sizes.max()}"
        )
    return np.unique(sizes)


def _phases(predictor: Any, classification: bool, d: int) -> tuple[Any, Any]:
    """The pretrainer, not fitted, and the head or None."""
    if predictor is not None and predictor.pretrainer is not None:
        return predictor.pretrainer, predictor.head
    head = None if predictor is None else predictor.head
    if not classification:
        return FactorPretrainer(), head
    mixture = MixturePretrainer(max_components=_DIRECTIONS, random_state=0)
    return (mixture if d <= _DIRECTIONS else _ReducedMixture(mixture)), head


class _ReducedMixture(BaseEstimator):
    """A mixture in leading directions, of which few rows have fewer."""

    def __init__(self, mixture: Any = None) -> None:
        self.mixture = mixture

    def fit(self, X: np.ndarray) -> Any:
        self.directions_ = PCA(min(_DIRECTIONS, len(X) - 1), random_state=0).fit(X)
        self.mixture_ = clone(self.mixture).fit(self.directions_.transform(X))
        return self

    def posterior(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(self.mixture_.posterior(self.directions_.transform(X)))


def _seeded(model: Any, seed: int) -> Any:
    """A copy of which no part draws from the global generator."""
    if model is None:
        return None
    model = clone(model)
    free = [name for name, value in model.get_params().items() if value is None]
    parts = {name: derive_seed(seed, name) for name in free if name.split("__")[-1] == "random_state"}
    return model.set_params(**parts)


def _head(head: Any, features: np.ndarray, is_table: bool, classification: bool) -> Any:
    """Without columns, what predicts a constant."""
    return default_head(is_table, classification) if head is None or not features.shape[1] else head


def _constant(target: np.ndarray, classification: bool) -> float:
    if not classification:
        return float(np.var(target.astype(float), ddof=1))
    return float(1 - np.unique(target, return_counts=True)[1].max() / len(target))


# ---- deals


class _Deals:
    """Losses of one deal: with the unlabelled rows, of the baseline, and of both phases on labelled rows alone."""

    def __init__(self, *given: Any) -> None:
        (
            self.rows, self.target, self.features, self.head, self.baseline, self.pretrainer, self.other_head,
            self.classification, self.sizes, self.n_test, self.seed,
        ) = given  # fmt: skip

    def __call__(self, index: int) -> tuple[Float[np.ndarray, "3 S t"], Int[np.ndarray, " t"]]:
        order = np.random.default_rng(derive_seed(self.seed, "deal", index)).permutation(len(self.rows))
        test, pool = order[: self.n_test], order[self.n_test :]
        losses = np.full((3, len(self.sizes), len(test)), np.nan)
        for i, size in enumerate(self.sizes):
            own = pool[:size]
            losses[0, i] = self._loss(self.head, self.features[own], self.features[test], own, test)
            losses[1, i] = self._loss(self.baseline, self.rows[own], self.rows[test], own, test)
            losses[2, i] = self._alone(own, test)
        return losses, test

    def _alone(self, own: np.ndarray, test: np.ndarray) -> Any:
        try:
            pretrainer = clone(self.pretrainer).fit(self.rows[own])
        except (
            ValueError
        ):  # more components than rows: the answer says for how few rows there is no such rival
            return math.nan
        features, is_table = posterior_of(pretrainer, self.rows[np.concatenate([own, test])])
        head = _head(self.other_head, features, is_table, self.classification)
        return self._loss(head, features[: len(own)], features[len(own) :], own, test)

    def _loss(
        self, model: Any, inputs: np.ndarray, new: np.ndarray, own: np.ndarray, test: np.ndarray
    ) -> Float[np.ndarray, " t"]:
        known, truth = self.target[own], self.target[test]
        if len(np.unique(known)) == 1:  # which many classifiers refuse
            said = np.full(len(test), known[0], dtype=known.dtype)
        else:
            try:
                said = np.asarray(clone(model).fit(inputs, known).predict(new))
            except Exception as error:
                raise ValueError(
                    f"{type(model).__name__} fails with {len(own)} rows (n_labels says how many): {error}"
                ) from error
        if said.shape != truth.shape:
            raise ValueError(f"{type(model).__name__} must predict shape {truth.shape}, got {said.shape}")
        if self.classification and not np.isin(said, known).all():
            raise ValueError(f"{type(model).__name__} predicts what is no class: is it a regressor?")
        if not self.classification and np.isnan(said.astype(float)).any():
            raise ValueError(f"{type(model).__name__} predicts NaN")
        if self.classification:
            return (said != truth).astype(float)
        return np.asarray((said - truth.astype(float)) ** 2)


# ---- what follows


class _Curve:
    """A predictor's losses, on a line between the sizes at which it has some."""

    def __init__(
        self, losses: Float[np.ndarray, "J S t"], tested: Int[np.ndarray, "J t"], sizes: np.ndarray, n: int
    ):
        there = np.isfinite(losses).all((0, 2))
        losses = losses[:, there]
        self.sizes, self.n = sizes[there], n
        self.means = losses.mean(2)  # deals, sizes
        J, S, t = losses.shape
        centred = losses - self.means[..., None]
        self.within = np.einsum("jsi,jsi->s", centred, centred) / (J * t * (t - 1))
        self.between = np.einsum("jsi,jsi->s", centred[:, 1:], centred[:, :-1]) / (J * t * (t - 1))
        times = np.bincount(tested.ravel(), minlength=n)
        sums = np.stack([np.bincount(tested.ravel(), losses[:, s].ravel(), minlength=n) for s in range(S)])
        self.rows = sums[:, times > 0] / times[times > 0]  # sizes, rows that were tested

    def at(self, points: Float[np.ndarray, " p"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of sizes: the mean in each deal, of each row, and the variance of the mean by the rows learnt from."""
        logs, fine = np.log(self.sizes), np.log(points)
        left = np.clip(np.searchsorted(logs, fine, side="right") - 1, 0, len(logs) - 2)
        b = np.clip((fine - logs[left]) / (logs[left + 1] - logs[left]), 0, 1)
        a = 1 - b
        means = a * self.means[:, left] + b * self.means[:, left + 1]
        rows = a[:, None] * self.rows[left] + b[:, None] * self.rows[left + 1]
        within = a**2 * self.within[left] + b**2 * self.within[left + 1] + 2 * a * b * self.between[left]
        spread, shared = np.maximum(means.var(0, ddof=1) - within, 0), points / self.n
        return means, rows, spread * (1 / len(means) + shared / (1 - shared))


def _answer(
    losses: Float[np.ndarray, "J 3 S t"],
    tested: Int[np.ndarray, "J t"],
    sizes: Int[np.ndarray, " S"],
    n: int,
    ci: float,
    notes: list[str],
    constant: float,
    n_components: int,
    n_unlabelled: int,
) -> PretrainingGain:
    J, S = len(losses), len(sizes)
    own, *others = (
        _Curve(losses[:, k], tested, sizes, n) for k in range(3) if np.isfinite(losses[:, k, -2:]).all()
    )
    rivals = dict(zip(RIVALS, others))
    for name in RIVALS:
        known = rivals[name].sizes if name in rivals else sizes[:0]
        if len(known) < S:
            fewer = sizes[~np.isin(sizes, known)].max()
            notes.append(f"The pretrainer cannot learn from {fewer} rows: {name} is no rival there.")
    t = float(stats.t.ppf(1 - (1 - ci) / (2 * len(rivals)), J - 1))
    worth, low, high = (np.empty(S) for _ in range(3))
    for i, size in enumerate(sizes):
        found = [_as_good(curve, own, int(size), t) for curve in rivals.values()]
        worth[i], low[i], high[i] = (min(each) - size for each in zip(*found))
    verdicts = tuple(
        GAIN if a > 0 else NONE if b <= _MARGIN * size else UNKNOWN for a, b, size in zip(low, high, sizes)
    )
    means, rows, learnt = own.at(sizes.astype(float))
    se = np.sqrt(rows.var(1, ddof=1) / n + learnt)
    errors = {name: np.full(S, np.nan) for name in rivals}
    for name, curve in rivals.items():
        errors[name][np.isin(sizes, curve.sizes)] = curve.means.mean(0)
    if min(float(means.mean(0)[-1]), *(float(each[-1]) for each in errors.values())) >= constant:
        notes.append(
            f"No predictor has less error than the best constant ({constant:.3g}): nothing is learnt here."
        )
    worth, low, high = (np.where(np.isfinite(each), each, np.nan) for each in (worth, low, high))
    return PretrainingGain(
        sizes, int(np.abs(np.log(sizes / (sizes[-1] / 4))).argmin()), means.mean(0), errors,
        float(stats.t.ppf((1 + ci) / 2, J - 1)) * se, worth, low, high,
        verdicts, constant, n_components, n_unlabelled, n, tested.shape[1], J, ci, tuple(notes),
    )  # fmt: skip


def _as_good(rival: _Curve, own: _Curve, size: int, t: float) -> tuple[float, float, float]:
    """With how many labels a rival does as well, and the interval: from no label, if the fewest do as well."""
    points = np.geomspace(rival.sizes[0], rival.sizes[-1], _FINE)
    (theirs, their_rows, learnt), (ours, our_rows, own_learnt) = (
        rival.at(points),
        own.at(np.array([float(size)])),
    )
    mean = (theirs - ours).mean(0)
    half = t * np.sqrt((their_rows - our_rows).var(1, ddof=1) / own.n + learnt + own_learnt)
    slack = 1e-12 * (1 + np.abs(mean).max())  # of rounding, where two predictors say the same
    as_good = np.flatnonzero(mean - half <= slack)
    no_better = np.flatnonzero(mean + half >= -slack)
    first = np.flatnonzero(mean <= slack)
    low = points[-1] if not len(as_good) else points[as_good[0]] if as_good[0] else 0.0
    high = (
        points[0] if not len(no_better) else math.inf if no_better[-1] == _FINE - 1 else points[no_better[-1]]
    )
    return float(points[first[0]]) if len(first) else math.inf, float(low), float(high)
