r"""Which columns a black box answers by, told from noise, and how far its answers fall without them.

With :math:`p(x)` the row of class probabilities and :math:`x'` the row in which a column (or a group) was replaced:

.. math::
    \text{change} = \frac1n \sum_i \lVert p(x_i) - p(x_i') \rVert_1, \qquad
    \text{skill} = \frac1n \sum_i (t_i - \bar t) \cdot \big[(p - \bar p)(x_i) - (p - \bar p)(x_i')\big],

bars being means over the rows and :math:`t_i` what the answers are held against: the truth, one-hot, or without labels
the answers :math:`p(x_i)` themselves. Skill is a drop in covariance. Its mean is zero where t does not depend on the
rows, however the model uses the column; with :math:`t = p` and independent columns it is half the mean of
:math:`\lVert p(x) - p(x') \rVert^2`, the numerator of Sobol's total index, and zero only where the column is not used.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from scipy import stats
from torch import Tensor, nn

from lodim.extras import require
from lodim.metrics import holm
from lodim.nets.activations import evaluation_mode, first_tensor, model_inputs
from lodim.plots import COLORS, new_axes
from lodim.randomness import RandomState, as_generator, derive_seed, root_seed
from lodim.results import Result
from lodim.trust.black_box_surrogates.networks import SelfAttentionClassifier, SelfAttentionNetwork
from lodim.trust.black_boxes import BlackBox, read_black_box
from lodim.validation import check_choice, check_counts, check_in_range, check_matrix, checked, plain_array

__all__ = [
    "BASELINES",
    "METHODS",
    "FeatureImportance",
    "Rows",
    "chance_jaccard",
    "comprehensiveness",
    "drops",
    "feature_importance",
    "importances",
    "mean_reciprocal_rank",
    "read_columns",
    "sufficiency",
]

METHODS = ("permutation", "mean", "noise", "attention", "gradient", "integrated", "shap")
BASELINES = ("mean", "median")
LEVEL = 0.05
_CELLS = 2**22  # numbers in the copies of the table that a model is asked about at once
_ROUNDING = 1e-6  # changes of a probability below this may be those of single precision
_BOOTSTRAPS, _STEPS, _SHAP_ROWS = 50, 64, 64

# --------------------------------------------------------------------------------------------------------- the rows


@dataclass(frozen=True)
class Rows:
    """A table as the model takes it, of which copies with replaced columns can be made."""

    data: Any  # pd.DataFrame, or ndarray of numbers
    names: tuple[str, ...]
    is_tensor: bool = False

    @classmethod
    def of(cls, X: Any, names: Sequence[str] | None = None) -> Rows:
        """Read a data frame (kept as it is), or an array or tensor of numbers."""
        if isinstance(X, pd.DataFrame):
            if min(X.shape) < 1:
                raise ValueError(f"X must have rows and columns, got shape {X.shape}")
            return cls(X.reset_index(drop=True), tuple(map(str, X.columns)))
        data = check_matrix(X)
        return cls(data, tuple(names or (f"x{i}" for i in range(data.shape[1]))), isinstance(X, Tensor))

    @property
    def given(self) -> Any:
        """What is handed to the model."""
        return torch.from_numpy(self.data) if self.is_tensor else self.data

    def take(self, at: Any) -> Rows:
        """Some of the rows."""
        part = self.data.iloc[at].reset_index(drop=True) if self.is_frame else self.data[at]
        return Rows(part, self.names, self.is_tensor)

    @property
    def is_frame(self) -> bool:
        """Whether the model is given data frames."""
        return isinstance(self.data, pd.DataFrame)

    def column(self, j: int | np.integer) -> Any:
        """A column as it is."""
        return self.data.iloc[:, j] if self.is_frame else self.data[:, j]

    def has_numbers(self, j: int | np.integer) -> bool:
        """Whether a column can be averaged; truth values and all else that is no number cannot."""
        kind = self.column(j).dtype
        return pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind)

    def moved(self, j: int | np.integer, order: Int[np.ndarray, " n"]) -> Any:
        """A column in another order of the rows."""
        column = self.column(j)
        return column.take(order).reset_index(drop=True) if self.is_frame else column[order]

    def baseline(self, j: int | np.integer, how: str) -> Any:
        """A column of its mean or median; of what is no number, of its most frequent entry."""
        column, n = self.column(j), len(self.data)
        if self.has_numbers(j):
            return np.full(n, getattr(pd.Series(column), how)())  # gaps do not count
        codes, _ = pd.factorize(column, use_na_sentinel=False)
        return self.moved(j, np.full(n, np.flatnonzero(codes == np.bincount(codes).argmax())[0]))

    def numbers(self) -> Float[np.ndarray, "n d"]:
        """The rows as numbers, for what computes with the columns themselves."""
        return check_matrix(self.data)

    def copies(self, changes: Sequence[Mapping[Any, Any]]) -> Any:
        """Copies of the table under one another, each with some columns replaced."""
        n, many = len(self.data), len(changes)
        if not self.is_frame:
            stacked = np.tile(self.data, (many, 1))
            for i, change in enumerate(changes):
                for j, values in change.items():
                    stacked[i * n : (i + 1) * n, j] = values
            return torch.from_numpy(stacked) if self.is_tensor else stacked
        frame = pd.concat([self.data] * many, ignore_index=True)
        for j in {j for change in changes for j in change}:
            parts = [pd.Series(change[j]) if j in change else self.column(j) for change in changes]
            frame.isetitem(j, pd.concat(parts, ignore_index=True))
        return frame

    def answers(self, box: BlackBox, changes: Iterable[Mapping[Any, Any]]) -> Iterable[Any]:
        """Probabilities after each change, (n, n_classes), the model being asked about many at once."""
        n, d = self.data.shape
        many = max(1, _CELLS // (n * d))
        held: list[Mapping[Any, Any]] = []

        def flush() -> Iterable[Any]:
            yield from box.predict_proba(self.copies(held)).reshape(len(held), n, -1)

        for change in changes:
            held.append(change)
            if len(held) == many:
                yield from flush()
                held = []
        if held:
            yield from flush()


def read_columns(columns: Any, names: Sequence[str]) -> Int[np.ndarray, " k"]:
    """Numbers of columns that are named, numbered or marked by a mask; each once."""
    held = plain_array(columns, "columns") if hasattr(columns, "dtype") else columns
    wanted = np.atleast_1d(np.asarray(held, dtype=object))
    found: list[int] = []
    if wanted.ndim == 1 and len(wanted) == len(names) and all(isinstance(c, bool | np.bool_) for c in wanted):
        return np.flatnonzero(wanted.astype(bool))
    for column in wanted.ravel():
        if isinstance(column, str):
            if column not in names:
                raise ValueError(
                    f"columns must be among those of X, got {column!r}: they are {list(names)[:8]}"
                )
            found.append(list(names).index(column))
        else:
            found.append(int(check_in_range(column, "columns", low=0, high=len(names) - 1, integer=True)))
    return np.array(list(dict.fromkeys(found)), dtype=np.int64)


def _read_groups(groups: Any, names: Sequence[str]) -> tuple[list[Any], tuple[str, ...]]:
    """Groups of columns with their names; a column in none is one of its own."""
    if groups is None:
        return [np.array([j]) for j in range(len(names))], tuple(names)
    if not isinstance(groups, Mapping):
        raise TypeError(f"groups must be a dict from names to columns, got {type(groups).__name__}")
    found = {str(name): read_columns(columns, names) for name, columns in groups.items()}
    every = np.concatenate([np.empty(0, np.int64), *found.values()])
    if not found or len(every) != len(set(every.tolist())) or not all(map(len, found.values())):
        raise ValueError("groups must be one or more, of a column or more each, and no column twice")
    for j in sorted(set(range(len(names))) - set(every.tolist())):
        found[names[j]] = np.array([j])
    return list(found.values()), tuple(found)


# ------------------------------------------------------------------------------------------------------- the result


@dataclass(frozen=True)
class FeatureImportance(Result):
    """How much a model's answers depend on each column, and which columns can be told from noise.

    Attributes
    ----------
    names : tuple of str
        Of the columns, or of their groups.
    scores, low, high : ndarray, shape (d,)
        Mean effect over the rows, and its 95 % interval, each column's for itself (normal, over the rows;
        where columns are permuted a row counts by what it suffers and by what its value does to others).
    drives : ndarray of bool, shape (d,)
        Whether replacing the column takes skill, see :mod:`.importance`: one-sided t tests over the rows, Holm's
        correction for all columns at 5 %.
    p_values : ndarray, shape (d,)
        Of these tests, before the correction.
    stability, chance_stability : float
        Mean Jaccard index of the first k of two bootstraps of the rows, ties broken at random, and that of k random
        columns. The model stays the same: another training may rank otherwise.
    with_truth : bool
        Whether skill is that of saying ``y``; otherwise nothing is said of whether the answers are right.
    n_rows : int
        Rows that the scores are means of.
    """

    names: tuple[str, ...]
    scores: np.ndarray
    low: np.ndarray
    high: np.ndarray
    drives: np.ndarray
    p_values: np.ndarray
    stability: float
    chance_stability: float
    k: int
    method: str
    n_rows: int
    with_truth: bool = False

    @property
    def ranking(self) -> np.ndarray:
        """Numbers of the columns, the most important first."""
        return np.argsort(-self.scores, kind="stable")

    def to_frame(self) -> pd.DataFrame:
        """One row for each column, the most important first."""
        names = ("scores", "low", "high", "drives", "p_values")
        table = pd.DataFrame({"name": self.names, **{name: getattr(self, name) for name in names}})
        return table.iloc[self.ranking].reset_index(drop=True)

    def __str__(self) -> str:
        of = "of saying y" if self.with_truth else "of its own answers"
        n = int(self.drives.sum())
        told = (
            f"{n} of {len(self.names)} columns are told from noise"
            if n
            else f"The data cannot tell any of these {len(self.names)} columns from noise"
        )
        lines = [
            f"{self.method} importance over {self.n_rows} rows. {told} (skill {of}, 5 % for all together).",
            f"First {self.k} of two bootstraps of the rows: Jaccard index {self.stability:.2f}; by chance "
            f"{self.chance_stability:.2f}.",
        ]
        for j in self.ranking[: self.k]:
            mark = "drives" if self.drives[j] else ""
            lines.append(
                f"  {self.names[j]}: {self.scores[j]:.4g} [{self.low[j]:.4g}, {self.high[j]:.4g}] {mark}".rstrip()
            )
        return "\n".join(lines)

    def plot(self, ax: Any = None) -> Any:
        """The first k columns with their intervals; filled points are told from noise.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
        """
        ax = new_axes(ax)
        at = self.ranking[: self.k][::-1]
        for i, j in enumerate(at):
            ax.plot([self.low[j], self.high[j]], [i, i], color=COLORS[0])
            ax.plot(self.scores[j], i, "o", color=COLORS[0], mfc=COLORS[0] if self.drives[j] else "white")
        ax.set_yticks(range(len(at)), [self.names[j] for j in at])
        ax.set_xlabel(f"{self.method} importance")
        ax.set_title("Filled: told from noise")
        return ax


# -------------------------------------------------------------------------------------------------------- importance


@checked
def feature_importance(
    model: Any,
    X: Any,
    y: Any = None,
    *,
    method: str = "permutation",
    groups: Mapping[str, Any] | None = None,
    n_repeats: int = 5,
    k: int | None = None,
    classes: Any = None,
    random_state: RandomState = 0,
) -> FeatureImportance:
    """Rank the columns by what a model's answers depend on, and say which are told from noise.

    Whatever the method, ``drives`` is decided by replacing columns (permuting them where the method is no replacement).
    It says what the *model* depends on. Of two columns that say the same the model may use one, and permuting either
    shows half: give such columns as a group.

    Parameters
    ----------
    model : classifier, nn.Module or callable
        See :func:`lodim.trust.read_black_box`.
    X : array-like or data frame, shape (n, d)
        Rows that the model has not learnt from, so that its noise does not count as skill.
    y : array-like, shape (n,), optional
        The truth. Scores of replacements are then the loss of skill, else the change of the answers; of the other
        methods, means over the rows that are answered rightly.
    method : {"permutation", "mean", "noise", "attention", "gradient", "integrated", "shap"}
        Replace columns by a permutation, their mean, or themselves plus noise of their own deviation (what is no number
        is permuted). Weights of a self-attention network, the model itself or else one trained on its answers:
        weights of rows, for the diagonal of its matrix ranks columns no better than chance. Size of the gradient of
        the answered class's logit times the column less its mean; integrated gradients of its probability from the
        mean row; Shapley values of at most 64 rows (``lodim[explain]``).
    groups : dict of str to columns, optional
        Columns, by name or number, that are replaced together; the others stand for themselves.
    n_repeats : int
        Permutations (or noises) of each column.
    k : int, optional
        How many columns ``stability`` is about: by default 20, or half of them where there are fewer than 40.
    classes : array-like, optional
        Labels in the order of the model's answers.
    random_state : int, Generator or None

    Raises
    ------
    TypeError
        A model without gradients, where they are asked for.
    ValueError
        Answers that are no probabilities, labels of no class, k or columns out of range.

    References
    ----------
    Karim et al. 2022, arXiv 2208.13405; Breiman, Random forests, 2001; Sundararajan et al., arXiv 1703.01365.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(400, 4))
    >>> found = feature_importance(lambda X: 1 / (1 + np.exp(-3 * X[:, 2])), X, random_state=0)
    >>> found.ranking[0], found.drives.tolist()
    (np.int64(2), [False, False, True, False])
    """
    check_choice(method, METHODS, "method")
    check_counts(n_repeats=n_repeats)
    (found,) = importances(model, X, [y], [method], groups, int(n_repeats), k, classes, random_state)
    return found[method]


def importances(
    model: Any,
    X: Any,
    truths: Sequence[Any],
    methods: Sequence[str],
    groups: Any = None,
    n_repeats: int = 5,
    k: Any = None,
    classes: Any = None,
    random_state: RandomState = None,
    progress: Callable[[float], Any] | None = None,
) -> list[dict[str, FeatureImportance]]:
    """What several methods say of each truth (None: the model's own answers); columns are permuted once for all."""
    rows, seed = Rows.of(X), root_seed(random_state)
    box = read_black_box(model, rows.given, classes=classes)
    parts, names = _read_groups(groups, rows.names)
    k = read_k(k, len(parts))
    p = box.predict_proba(rows.given)
    known = [None if y is None else box.class_numbers(y, len(p)) for y in truths]
    replaced: dict[str, Any] = {}
    found: list[dict[str, FeatureImportance]] = [{} for _ in truths]
    for method, (at, truth) in itertools.product(methods, enumerate(known)):
        replaces = method in ("permutation", "mean", "noise")
        by = method if replaces else "permutation"
        if by not in replaced:
            rng = as_generator(derive_seed(seed, "replacements"))
            replaced[by] = _replaced(rows, box, p, known, parts, by, n_repeats, rng, progress)
        effects, skill = (each[at] for each in replaced[by])
        if not replaces:
            right = np.arange(len(p)) if truth is None else np.flatnonzero(p.argmax(1) == truth)
            if not len(right):
                raise ValueError(
                    "the model answers no row of y rightly: leave y out to rank by its own answers"
                )
            each = _read_inside(model, box, rows.take(right), p[right], method, derive_seed(seed, method))
            effects = np.column_stack([np.abs(each[:, part].sum(1)) for part in parts])
        n, p_values, scores = len(effects), _p_values(skill), effects.mean(0)
        half = 1.96 * effects.std(0, ddof=min(1, n - 1)) / math.sqrt(n)
        rng = as_generator(derive_seed(seed, "bootstraps"))
        found[at][method] = FeatureImportance(
            names,
            scores,
            scores - half,
            scores + half,
            holm(p_values) <= LEVEL,
            p_values,
            _stability(effects, k, rng),
            chance_jaccard(len(parts), k),
            k,
            method,
            n,
            truth is not None,
        )
    return found


def read_k(k: Any, d: int) -> int:
    """How many of d columns are looked at."""
    if k is None:
        return min(20, max(1, d // 2))
    return int(check_in_range(k, "k", low=1, high=d, integer=True))


def _replaced(
    rows: Rows,
    box: BlackBox,
    p: Float[np.ndarray, "n c"],
    truths: Sequence[Int[np.ndarray, " n"] | None],
    parts: Sequence[Any],
    method: str,
    n_repeats: int,
    rng: np.random.Generator,
    progress: Callable[[float], Any] | None = None,
) -> tuple[Float[np.ndarray, "t n d"], Float[np.ndarray, "t n d"]]:
    """What each row adds to the mean effect of each part's replacement, and the skill of each row, by each truth.

    The effect is a loss of skill, or where the truth is None the change of the answers.

    A row counts twice where columns are permuted: it is changed, and its value changes another. With e and g the means
    over r repeats of what it suffers and gives, the mean effect's variance is that of (e + g) less 1/r of that of a
    single effect, over n; that of e alone is too small by up to four. What is returned first has this variance.
    """
    n = len(p)
    orders: deque[Any] = deque()
    repeats = (
        1 if method == "mean" and all(rows.has_numbers(j) for part in parts for j in part) else n_repeats
    )

    def changes() -> Iterable[dict[Any, Any]]:
        for part in parts:
            for _ in range(repeats):
                order = rng.permutation(n)
                change = {}
                permuted = [j for j in part if method == "permutation" or not rows.has_numbers(j)]
                orders.append(order if permuted else None)
                for j in part:
                    if j in permuted:
                        change[j] = rows.moved(j, order)
                    elif method == "mean":
                        change[j] = rows.baseline(j, "mean")
                    else:
                        column = np.asarray(rows.column(j), dtype=float)
                        change[j] = column + np.nanstd(column) * rng.standard_normal(n)
                yield change

    targets = [p if truth is None else np.eye(p.shape[1])[truth] for truth in truths]
    aims = [target - target.mean(0) for target in targets]
    effect, given, skill = np.zeros((3, len(truths), n, len(parts)))
    single = np.zeros((len(truths), 1, len(parts)))
    for i, after in enumerate(rows.answers(box, changes()), 1):
        part, order = (i - 1) // repeats, orders.popleft()
        moved = p - after
        moved[np.abs(moved) < _ROUNDING] = 0
        for t, (truth, aim) in enumerate(zip(truths, aims, strict=True)):
            gain = np.einsum("nc,nc->n", aim, moved - moved.mean(0)) / repeats
            each = np.abs(moved).sum(1) / repeats if truth is None else gain
            skill[t, :, part] += gain
            effect[t, :, part] += each
            if order is not None:
                given[t, order, part] += each
                single[t, 0, part] += repeats * each.var()
        if progress is not None:
            progress(i / (repeats * len(parts)))
    both = effect + given
    variance, least = both.var(1, keepdims=True), effect.var(1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        less = np.sqrt(np.maximum(variance - single / repeats, least) / variance)
    mean = effect.mean(1, keepdims=True)
    return mean + np.nan_to_num(less, posinf=0.0) * (both - both.mean(1, keepdims=True)), skill


def _p_values(skill: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " d"]:
    """One-sided, that the mean is above zero; one where all rows are alike."""
    n, deviation = len(skill), skill.std(0, ddof=min(1, len(skill) - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(deviation > _ROUNDING**2, skill.mean(0) / deviation * math.sqrt(n), 0.0)
    return np.where(t > 0, stats.t.sf(t, max(1, n - 1)), 1.0)


def _stability(effects: Float[np.ndarray, "n d"], k: int, rng: np.random.Generator) -> float:
    """Mean Jaccard index of the first k columns of pairs of bootstraps."""
    n, d = effects.shape
    weights = rng.multinomial(n, np.full(n, 1 / n), size=2 * _BOOTSTRAPS) / n
    scores = weights @ effects
    first = np.zeros((2 * _BOOTSTRAPS, d), dtype=bool)
    for top, row in zip(first, scores, strict=True):
        top[np.lexsort((rng.random(d), -row))[:k]] = True
    one, other = first[::2], first[1::2]
    return float(((one & other).sum(1) / (one | other).sum(1)).mean())


def chance_jaccard(d: int, k: int) -> float:
    """Mean Jaccard index of two random choices of k among d."""
    shared = np.arange(max(0, 2 * k - d), k + 1)
    return float(stats.hypergeom(d, k, k).pmf(shared) @ (shared / (2 * k - shared)))


@checked
def mean_reciprocal_rank(scores: Sequence[Any]) -> Float[np.ndarray, " d"]:
    """Combine rankings: the mean of 1 / rank over several scores of the same columns, equal scores sharing their rank.

    Parameters
    ----------
    scores : sequence of array-like, each of shape (d,)
        Or of :class:`FeatureImportance`.
    """
    each = [getattr(one, "scores", one) for one in scores]
    ranks = [
        stats.rankdata(-check_matrix(plain_array(one, "scores")[None], name="scores")[0]) for one in each
    ]
    if not ranks or len({len(rank) for rank in ranks}) > 1:
        raise ValueError(f"scores must hold one or more of the same columns, got {[len(r) for r in ranks]}")
    return np.mean([1 / rank for rank in ranks], axis=0)


# ------------------------------------------------------------------------------------------ what a network shows inside


def _read_inside(
    model: Any, box: BlackBox, rows: Rows, p: Float[np.ndarray, "n c"], method: str, seed: int
) -> Float[np.ndarray, "m d"]:
    """What a method gives each column in each row."""
    if method == "shap":
        return _shapley(box, rows, seed)
    X = rows.numbers()
    if method == "attention":
        inside = getattr(model, "module_", model)
        if isinstance(inside, SelfAttentionNetwork):
            with evaluation_mode(inside), torch.no_grad():
                return inside.attention(*model_inputs(inside, X)[0]).double().cpu().numpy()
        answered = p.argmax(1)
        if len(np.unique(answered)) < 2:  # nothing to attend to
            return np.full(X.shape, 1 / X.shape[1])
        return SelfAttentionClassifier(random_state=seed).fit(X, answered).attention(X)
    net = module_of(model, box, X[:64])
    answered, mean = p.argmax(1), X.mean(0)
    found = np.empty(X.shape)
    with evaluation_mode(net):
        for start in range(0, len(X), 256):
            at = slice(start, start + 256)
            steps = (np.arange(_STEPS) + 0.5) / _STEPS if method == "integrated" else [1.0]
            slopes = sum(
                _slope(net, mean + share * (X[at] - mean), answered[at], method, box.is_probability)
                for share in steps
            ) / len(steps)
            found[at] = slopes * (X[at] - mean)
    return found


def module_of(model: Any, box: BlackBox, X: Float[np.ndarray, "n d"]) -> nn.Module:
    """The network that gradients are taken of: the model, or its ``module_`` if that answers alike."""
    net = box.module or getattr(model, "module_", None)
    if isinstance(net, nn.Module):
        same = box.module is not None or np.allclose(
            read_black_box(net, X).predict_proba(X), box.predict_proba(X), atol=1e-4
        )
        if same:
            return net
    raise TypeError(
        f"gradients are had from torch modules, and {box.name} is none; take method='permutation' or 'mean'"
    )


@torch.inference_mode(False)
def _slope(
    net: nn.Module, X: Any, answered: Int[np.ndarray, " n"], method: str, is_probability: bool
) -> Float[np.ndarray, "n d"]:
    """Gradient of the answered class's logit or probability in every row."""
    inputs = model_inputs(net, np.ascontiguousarray(X))[0]
    x = inputs[0].detach().requires_grad_()
    out = first_tensor(net(x)).double()
    if out.ndim == 1 or out.shape[1] == 1:
        out = torch.stack([-out.reshape(-1) / 2, out.reshape(-1) / 2], 1)
    if method == "integrated":
        out = out if is_probability else out.softmax(1)
    at = torch.from_numpy(answered).to(out.device)[:, None]
    (slope,) = torch.autograd.grad(out.gather(1, at).sum(), x)
    return slope.double().cpu().numpy()


def _shapley(box: BlackBox, rows: Rows, seed: int) -> Float[np.ndarray, "n d"]:
    """Sizes of Shapley values, summed over the classes, against some rows as background."""
    shap = require("shap", "explain")
    rng = as_generator(seed)
    X = rows.numbers()
    at = np.sort(rng.permutation(len(X))[:_SHAP_ROWS])
    background = X[rng.permutation(len(X))[:32]]

    def ask(values: Any) -> Any:
        if rows.is_frame:
            values = pd.DataFrame(values, columns=rows.data.columns)
        return box.predict_proba(torch.from_numpy(values) if rows.is_tensor else values)

    explainer = shap.PermutationExplainer(ask, shap.maskers.Independent(background), seed=seed)
    values = explainer(X[at], max_evals=2 * X.shape[1] + 1, silent=True).values
    return np.abs(values).sum(2)


# ---------------------------------------------------------------------------------------------- how far answers fall


def drops(
    box: BlackBox, rows: Rows, sets: Sequence[Any], *, kept: bool, baseline: str
) -> Float[np.ndarray, "s n"]:
    """Fall of the answered class's probability, in every row, when each set of columns goes (or alone is kept)."""
    check_choice(baseline, BASELINES, "baseline")
    p = box.predict_proba(rows.given)
    n, d = rows.data.shape
    plain = [rows.baseline(j, baseline) for j in range(d)]
    changes = ({int(j): plain[j] for j in (np.setdiff1d(range(d), at) if kept else at)} for at in sets)
    answered = np.arange(n), p.argmax(1)
    return np.array([p[answered] - after[answered] for after in rows.answers(box, changes)]).reshape(
        len(sets), n
    )


@checked
def comprehensiveness(model: Any, X: Any, columns: Any, *, baseline: str = "mean") -> float:
    """Mean fall of the answered class's probability when columns are replaced by a baseline: large if all that counts.

    Parameters
    ----------
    model : classifier, nn.Module or callable
    X : array-like or data frame, shape (n, d)
    columns : sequence
        Names or numbers of columns.
    baseline : {"mean", "median"}
        Of the rows given; what is no number becomes its most frequent entry.
    """
    rows = Rows.of(X)
    at = read_columns(columns, rows.names)
    return float(drops(read_black_box(model, rows.given), rows, [at], kept=False, baseline=baseline).mean())


@checked
def sufficiency(model: Any, X: Any, columns: Any, *, baseline: str = "mean") -> float:
    """Mean fall of the answered class's probability when only these columns are kept: small if they are enough.

    Parameters
    ----------
    model : classifier, nn.Module or callable
    X : array-like or data frame, shape (n, d)
    columns : sequence
        Names or numbers of columns.
    baseline : {"mean", "median"}
        As in :func:`comprehensiveness`.
    """
    rows = Rows.of(X)
    at = read_columns(columns, rows.names)
    return float(drops(read_black_box(model, rows.given), rows, [at], kept=True, baseline=baseline).mean())
