"""A small model in the black box's place: fitted, read, asked about single rows, and held against the black box."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, matthews_corrcoef
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.validation import check_is_fitted, validate_data

from lodim.metrics import wilson_interval
from lodim.randomness import RandomState, as_generator, derive_seed, root_seed
from lodim.results import Result
from lodim.trust.black_box_surrogates.importance import (
    BASELINES,
    METHODS,
    FeatureImportance,
    Rows,
    drops,
    feature_importance,
    importances,
    mean_reciprocal_rank,
    read_columns,
    read_k,
)
from lodim.trust.black_box_surrogates.rules import (
    Encoding,
    Judged,
    Label,
    Rule,
    leaf_rules,
    plain_label,
    prune,
    said,
)
from lodim.trust.black_boxes import read_black_box
from lodim.validation import check_choice, check_in_range, check_kind, check_numbers, checked

__all__ = [
    "Counterfactual",
    "Explanation",
    "RankingComparison",
    "SurrogateExplainer",
    "SurrogateReport",
    "WhatIf",
    "compare_rankings",
]

SURROGATES = ("tree", "forest", "boosting", "logistic")
_SIZES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 75, 100)
_PLATEAU, _LEAST, _N_RANDOM, _DONORS = 0.01, 10, 20, 5

# ------------------------------------------------------------------------------------------------------- the results


@dataclass(frozen=True)
class Counterfactual(Result):
    """The nearest row found that the black box answers otherwise, if one was found.

    Attributes
    ----------
    changes : dict of str to list
        Column: value before, value after.
    label : label
        What the tree answers then.
    black_box_label : label
        What the black box answers then.
    flips_black_box : bool
        Whether that is another answer than it gives the row itself.
    """

    changes: dict[str, list[Any]]
    label: Label
    black_box_label: Label
    flips_black_box: bool

    def __str__(self) -> str:
        still = "" if self.flips_black_box else "still "
        says = f"the black box {still}answers {self.black_box_label}, the tree {self.label}"
        return f"with {_changed(self.changes)} {says}"


@dataclass(frozen=True)
class Explanation(Result):
    """Why the tree answers a row as it does, and whether the black box does too.

    Attributes
    ----------
    rule : Rule
        The one that fires.
    contributions : dict of str to float
        By column, how far the splits on the row's path moved the probability of ``label``, from ``base``, the root's,
        to ``probability``, the leaf's: they sum to the difference.
    counterfactual : Counterfactual or None
        None where neither has another answer on the rows that it was fitted with.
    agrees : bool
        Whether the black box gives the row the same label; if it does not, the rule does not explain its answer.
    """

    rule: Rule
    contributions: dict[str, float]
    counterfactual: Counterfactual | None
    label: Label
    black_box_label: Label
    agrees: bool
    base: float
    probability: float

    def __str__(self) -> str:
        moved = sorted(self.contributions.items(), key=lambda item: -abs(item[1]))
        lines = [
            str(self.rule),
            f"probability of {self.label} in the tree: {self.base:.2f} at the root, "
            + "".join(f"{value:+.2f} by {name}, " for name, value in moved)
            + f"{self.probability:.2f} in the leaf",
        ]
        if not self.agrees:
            lines.append(f"The black box answers {self.black_box_label}: this does not explain its answer.")
        lines.append(str(self.counterfactual) if self.counterfactual else "No row is answered otherwise.")
        return "\n".join(lines)


@dataclass(frozen=True)
class WhatIf(Result):
    """Probabilities of the classes before and after a change, by the black box and by the surrogate."""

    classes: tuple[Label, ...]
    changes: dict[str, list[Any]]
    black_box: np.ndarray  # (2, n_classes)
    surrogate: np.ndarray

    def __str__(self) -> str:
        lines = [f"if {_changed(self.changes)}:"]
        for name, p in (("black box", self.black_box), ("surrogate", self.surrogate)):
            before, after = p.argmax(1)
            lines.append(
                f"  {name}: {self.classes[before]} ({p[0, before]:.2f}) -> {self.classes[after]} ({p[1, after]:.2f})"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class SurrogateReport(Result):
    """How faithful a surrogate is, on rows of a report's own, beside what proves nothing.

    Attributes
    ----------
    fidelity : float
        Share of rows that surrogate and black box answer alike; ``fidelity_interval`` is Wilson's, at 95 %.
    fidelity_constant : float
        That of always giving the black box's commonest answer.
    r2, mae, rmse : float
        Between their probabilities, all classes together; r2 is NaN where the black box's never change.
    accuracy_black_box, accuracy_surrogate, f1_black_box, f1_surrogate, mcc_black_box, mcc_surrogate : float or None
        Against the truth, if given; F1 is the mean over classes.
    accuracy_constant : float or None
        Of always saying the commonest label.
    comprehensiveness, sufficiency : float
        Mean fall of the answered class's probability without the first k columns, and with these only.
    area_comprehensiveness, area_sufficiency : float
        Their means over up to five sizes from 1 to k.
    comprehensiveness_random, sufficiency_random : float
        Means of 20 random rankings; their intervals hold nine in ten of these.
    share_lost, share_kept : float
        Of that probability, without the first k columns and with these only.
    n_rules, mean_length, largest_coverage : number
        Of the tree's rules; ``n_pruned``, ``mean_length_pruned``, ``coverage_pruned`` of the pruned ones, the last the
        share of rows that fire one at least.
    stability, chance_stability : float
        See :class:`FeatureImportance`, of the ranking by replacing columns of these rows.
    told_from_noise : tuple of str
        Of the first k columns those whose skill is told from noise, among all columns; of saying the truth, if given.
    """

    fidelity: float
    fidelity_interval: tuple[float, float]
    fidelity_constant: float
    r2: float
    mae: float
    rmse: float
    accuracy_black_box: float | None
    accuracy_black_box_interval: tuple[float, float] | None
    accuracy_surrogate: float | None
    accuracy_surrogate_interval: tuple[float, float] | None
    accuracy_constant: float | None
    f1_black_box: float | None
    f1_surrogate: float | None
    mcc_black_box: float | None
    mcc_surrogate: float | None
    columns: tuple[str, ...]
    k: int
    n_columns: int
    n_rows: int
    comprehensiveness: float
    comprehensiveness_interval: tuple[float, float]
    comprehensiveness_random: float
    comprehensiveness_random_interval: tuple[float, float]
    sufficiency: float
    sufficiency_interval: tuple[float, float]
    sufficiency_random: float
    sufficiency_random_interval: tuple[float, float]
    area_comprehensiveness: float
    area_comprehensiveness_random: float
    area_sufficiency: float
    area_sufficiency_random: float
    share_lost: float
    share_kept: float
    surrogate: str
    n_rules: int
    mean_length: float
    largest_coverage: float
    n_pruned: int
    mean_length_pruned: float
    coverage_pruned: float
    stability: float
    chance_stability: float
    told_from_noise: tuple[str, ...]

    def to_frame(self) -> pd.DataFrame:
        """One row for each figure, with its interval and what proves nothing beside it."""
        rows: list[tuple[Any, ...]] = [
            ("fidelity", self.fidelity, self.fidelity_interval, self.fidelity_constant, "commonest answer"),
            ("r2", self.r2, None, 0.0, "mean answer"),
            ("comprehensiveness", self.comprehensiveness, self.comprehensiveness_interval,
             self.comprehensiveness_random, "random ranking"),
            ("sufficiency", self.sufficiency, self.sufficiency_interval, self.sufficiency_random, "random ranking"),
            ("stability", self.stability, None, self.chance_stability, "random choice"),
        ]  # fmt: skip
        for who in ("black_box", "surrogate"):
            value = getattr(self, f"accuracy_{who}")
            if value is not None:
                interval = getattr(self, f"accuracy_{who}_interval")
                rows.append((f"accuracy_{who}", value, interval, self.accuracy_constant, "commonest label"))
        table = pd.DataFrame(rows, columns=["figure", "value", "interval", "beside", "of"])
        ends = [(math.nan, math.nan) if ends is None else ends for ends in table.pop("interval")]
        table[["low", "high"]] = ends
        return table

    def __str__(self) -> str:
        told = set(self.told_from_noise)
        low, high = self.fidelity_interval
        lines = [
            f"{self.surrogate} on {self.k} of {self.n_columns} columns agrees with the black box in "
            f"{self.fidelity:.1%} [{low:.1%}, {high:.1%}] of {self.n_rows} rows; the commonest answer "
            f"alone would in {self.fidelity_constant:.1%}."
        ]
        if self.fidelity_interval[0] <= self.fidelity_constant:
            lines.append("The surrogate cannot be told from that constant answer: its rules explain nothing.")
        if not told:
            lines.append("The data cannot tell these columns from noise: no ranking of them means anything.")
        elif len(told) < self.k:
            lines.append(f"Told from noise: {len(told)} of the {self.k} columns.")
        black_box, constant = self.accuracy_black_box_interval, self.accuracy_constant
        if black_box is not None and constant is not None and black_box[0] <= constant:
            lines.append(
                "The black box cannot be told from the commonest label: what it answers by is no knowledge."
            )
        return "\n".join([*lines, self.to_frame().to_string(index=False, float_format="{:.3g}".format)])


@dataclass(frozen=True)
class RankingComparison(Result):
    """Rankings side by side, a random one among them (means of 20, its intervals hold nine in ten of these).

    Attributes
    ----------
    methods : tuple of str
        ``"random"`` is the last.
    comprehensiveness, sufficiency, area_comprehensiveness, area_sufficiency : tuple of float
        As in :class:`SurrogateReport`, with 95 % intervals ``low`` and ``high`` of the first.
    stability : tuple of float
        As in :class:`FeatureImportance`; of the random ranking, what chance gives.
    precision : tuple of float
        Share of the first k that are ``relevant``; NaN where these are not known.
    n_driving : int
        Columns told from noise.
    """

    methods: tuple[str, ...]
    k: int
    comprehensiveness: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    sufficiency: tuple[float, ...]
    area_comprehensiveness: tuple[float, ...]
    area_sufficiency: tuple[float, ...]
    stability: tuple[float, ...]
    precision: tuple[float, ...]
    n_driving: int
    n_columns: int

    def to_frame(self) -> pd.DataFrame:
        """One row for each ranking."""
        names = ("comprehensiveness", "low", "high", "sufficiency", "area_comprehensiveness", "area_sufficiency",
                 "stability", "precision")  # fmt: skip
        return pd.DataFrame({"ranking": self.methods, **{name: getattr(self, name) for name in names}})

    def __str__(self) -> str:
        none = "The data cannot tell any column from noise.\n" if not self.n_driving else ""
        head = f"first {self.k} of {self.n_columns} columns, {self.n_driving} of all told from noise"
        table = self.to_frame().dropna(axis=1, how="all")
        return f"{none}{head}\n{table.to_string(index=False, float_format='{:.3g}'.format)}"


def _changed(changes: Mapping[str, list[Any]]) -> str:
    return ", ".join(f"{name} {said(before)} -> {said(after)}" for name, (before, after) in changes.items())


def _as_kind(value: Any, kind: Any, name: str) -> Any:
    """One value as a column of that type has it; a ValueError where none is equal to it."""
    try:
        if isinstance(kind, pd.CategoricalDtype) and not pd.isna(value) and value not in kind.categories:
            raise ValueError(f"the categories are {kind.categories.tolist()[:8]}")
        held = pd.Series([value], dtype=object).astype(kind)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a value of a column of {kind}, got {value!r}: {error}") from error
    if held.isna()[0] and not pd.isna(value):
        raise ValueError(f"{name} must be a value of a column of {kind}, got {value!r}")
    return held


def _told(row: Rows, change: Mapping[int, Any]) -> dict[str, list[Any]]:
    """Columns by name, with their values before and after."""
    return {
        row.names[j]: [_plain(np.asarray(row.column(j))[0]), _plain(np.asarray(value)[0])]
        for j, value in change.items()
    }


def _plain(value: Any) -> Any:
    plain = value.item() if isinstance(value, np.generic) else value
    return plain if isinstance(plain, int | float | str | bool) or plain is None else str(plain)


# ------------------------------------------------------------------------------------------------- rankings compared


@dataclass(frozen=True)
class _Falls:
    """Of some rankings: falls without and with the first k in every row, and their means over sizes up to k."""

    without: Float[np.ndarray, "r n"]
    kept: Float[np.ndarray, "r n"]
    area_without: Float[np.ndarray, " r"]
    area_kept: Float[np.ndarray, " r"]

    @classmethod
    def of(cls, box: Any, rows: Rows, rankings: Sequence[Any], k: int, baseline: str) -> _Falls:
        sizes = np.unique(np.linspace(1, k, min(k, 5)).round().astype(int))
        sets = [ranking[:size] for ranking in rankings for size in sizes]
        without, kept = (
            drops(box, rows, sets, kept=only, baseline=baseline).reshape(len(rankings), len(sizes), -1)
            for only in (False, True)
        )
        return cls(without[:, -1], kept[:, -1], without.mean((1, 2)), kept.mean((1, 2)))

    def beside_random(self) -> dict[str, Any]:
        """What a report says of the first ranking, and of the others as random ones."""
        found: dict[str, Any] = {}
        for name, falls, areas in (
            ("comprehensiveness", self.without, self.area_without),
            ("sufficiency", self.kept, self.area_kept),
        ):
            others = falls[1:].mean(1)
            found |= {
                name: float(falls[0].mean()),
                f"{name}_interval": _mean_interval(falls[0]),
                f"{name}_random": float(others.mean()),
                f"{name}_random_interval": _nine_in_ten(others),
                f"area_{name}": float(areas[0]),
                f"area_{name}_random": float(areas[1:].mean()),
            }
        return found


def _against_truth(who: str, labels: np.ndarray, truth: np.ndarray | None) -> dict[str, Any]:
    """What a report says of the answers' truth; None where that is not known."""
    names = (f"accuracy_{who}", f"accuracy_{who}_interval", f"f1_{who}", f"mcc_{who}")
    if truth is None:
        return dict.fromkeys(names)
    right = labels == truth
    f1 = float(f1_score(truth, labels, average="macro", zero_division=0.0))
    values = (
        float(right.mean()),
        wilson_interval(right.sum(), len(right)),
        f1,
        float(matthews_corrcoef(truth, labels)),
    )
    return dict(zip(names, values, strict=True))


def _read_methods(methods: Any, name: str) -> list[str]:
    check_kind(methods, Sequence[str], name)
    found = [check_choice(one, METHODS, name) for one in ([methods] if isinstance(methods, str) else methods)]
    if not found:
        raise ValueError(f"{name} must name one or more of {METHODS}")
    return found


def _random_rankings(d: int, seed: int) -> list[Any]:
    rng = as_generator(seed)
    return [rng.permutation(d) for _ in range(_N_RANDOM)]


def _mean_interval(values: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """95 % of a mean."""
    half = 1.96 * values.std(ddof=min(1, len(values) - 1)) / math.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def _nine_in_ten(values: Float[np.ndarray, " r"]) -> tuple[float, float]:
    low, high = np.quantile(values, (0.05, 0.95))
    return float(low), float(high)


@checked
def compare_rankings(
    model: Any,
    X: Any,
    y: Any = None,
    *,
    methods: Sequence[str] = ("permutation", "mean"),
    k: int | None = None,
    relevant: Any = None,
    baseline: str = "mean",
    random_state: RandomState = 0,
) -> RankingComparison:
    """Hold rankings of the columns against each other and against a random one.

    Parameters
    ----------
    model, X, y, k, random_state
        As in :func:`feature_importance`.
    methods : sequence of str
        Each as in :func:`feature_importance`.
    relevant : sequence, optional
        Columns known to matter, by name or number.
    baseline : {"mean", "median"}
        See :func:`comprehensiveness`.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(200, 6))
    >>> model = lambda X: 1 / (1 + np.exp(-3 * X[:, 2]))
    >>> found = compare_rankings(model, X, k=1, relevant=[2], random_state=0)
    >>> found.methods, found.precision[:2]
    (('permutation', 'mean', 'random'), (1.0, 1.0))
    """
    rows, seed = Rows.of(X), root_seed(random_state)
    names = _read_methods(methods, "methods")
    k, d = read_k(k, len(rows.names)), len(rows.names)
    (ranked,) = importances(model, X, [y], names, k=k, random_state=seed)
    found = [ranked[name] for name in names]
    box = read_black_box(model, rows.given)
    random = _random_rankings(d, derive_seed(seed, "random"))
    falls = _Falls.of(box, rows, [one.ranking for one in found] + random, k, baseline)
    n = len(found)
    intervals = [*map(_mean_interval, falls.without[:n]), _nine_in_ten(falls.without[n:].mean(1))]
    wanted = None if relevant is None else read_columns(relevant, rows.names)
    precision = (
        [math.nan] * n
        if wanted is None
        else [float(np.isin(one.ranking[:k], wanted).mean()) for one in found]
    )

    def each(values: Any) -> tuple[float, ...]:
        return (*values[:n].tolist(), float(values[n:].mean()))

    return RankingComparison(
        (*names, "random"),
        k,
        each(falls.without.mean(1)),
        tuple(low for low, _ in intervals),
        tuple(high for _, high in intervals),
        each(falls.kept.mean(1)),
        each(falls.area_without),
        each(falls.area_kept),
        (*(one.stability for one in found), found[0].chance_stability),
        (*precision, math.nan if wanted is None else len(wanted) / d),
        int(found[0].drives.sum()),
        d,
    )


# -------------------------------------------------------------------------------------------------------- the surrogate


@dataclass(eq=False, repr=False)
class SurrogateExplainer(BaseEstimator):
    """Replace a black box by a small model on the few columns that it answers by.

    Of the rows, 70 % rank the columns and train surrogates on the black box's answers; the others choose k and judge
    the tree's rules (surrogates without rules then learn from them too). For honest figures, ask :meth:`report` with
    rows that were not there.

    Parameters
    ----------
    black_box : classifier, nn.Module or callable
        See :func:`lodim.trust.read_black_box`. ``clone`` keeps it as it is, fitted.
    k : int or "auto"
        Columns to use; ``"auto"`` takes the fewest whose held-out fidelity is within 0.01 of the best.
    surrogate : {"tree", "forest", "boosting", "logistic"}
        A tree is grown beside the others too, for rules and explanations.
    max_depth : int or None
        Of the tree.
    importances : sequence of str
        Methods of :func:`feature_importance`, combined by the mean of reciprocal ranks.
    baseline : {"mean", "median"}
        What removed columns are replaced by in :meth:`report`.
    random_state : int, Generator or None
    target : {"labels", "probabilities"}
        What the surrogate learns of the black box: its answers, or how sure it is of each class (every row counts for
        every class, by its probability). The one is best for fidelity, the other for R^2.

    Attributes
    ----------
    ranking_ : ndarray of int, shape (d,)
    columns_ : tuple of str
        The first k of it.
    k_ : int
    fidelity_curve_ : dict of int to float
        Held-out fidelity for each k that was tried; the chosen one's is a little too good, having been chosen.
    rules_ : tuple of Rule
        The tree's leaves, the widest first: every row fires exactly one.
    pruned_rules_ : tuple of Rule
        Shorter ones, which may overlap.
    importances_ : dict of str to FeatureImportance
    surrogate_, tree_ : classifier
        On the numbers made of the columns.
    classes_ : ndarray
        The black box's.
    feature_names_in_, n_features_in_
        Of the table.

    References
    ----------
    Karim et al. 2022, arXiv 2208.13405.

    Examples
    --------
    >>> X = np.random.default_rng(0).integers(0, 9, size=(600, 4)).astype(float)
    >>> model = SurrogateExplainer(lambda X: (X[:, 1] > 5).astype(float), random_state=0).fit(X)
    >>> print(model.rules_text().splitlines()[0])
    if x1 <= 5.5: 0 (60.7% of rows; the black box agrees on 100% [94%, 100%] of 60 held-out rows)
    """

    black_box: Any = None
    k: Any = "auto"
    surrogate: Any = "tree"
    max_depth: Any = 5
    importances: Any = ("permutation", "mean")
    baseline: Any = "mean"
    random_state: Any = None
    target: Any = "labels"

    def __sklearn_clone__(self) -> SurrogateExplainer:
        return type(self)(**self.get_params(deep=False))

    def fit(self, X: Any, y: Any = None) -> SurrogateExplainer:
        """Rank, choose k, and fit the surrogate to the black box's answers.

        Parameters
        ----------
        X : array-like or data frame, shape (n, d)
            Ten rows at least, as the black box takes them; rows it has not learnt from are best.
        y : ignored
            What is explained is the black box.

        Raises
        ------
        TypeError
            The black box gives no probabilities, or no gradients where they are asked for.
        ValueError
            Options out of range, or too few rows.
        """
        check_choice(self.surrogate, SURROGATES, "surrogate")
        check_choice(self.target, ("labels", "probabilities"), "target")
        check_choice(self.baseline, BASELINES, "baseline")
        if self.max_depth is not None:
            check_in_range(self.max_depth, "max_depth", low=1, integer=True)
        methods = _read_methods(self.importances, "importances")
        if self.black_box is None:
            raise ValueError("black_box must be the classifier to be explained, got None")
        rows = self._rows(X, reset=True)
        n, d = rows.data.shape
        if n < _LEAST:
            raise ValueError(f"X has {n} sample(s) (shape={(n, d)}) while a minimum of {_LEAST} is required.")
        picks = isinstance(self.k, str) and self.k == "auto"
        if not picks:
            check_in_range(self.k, "k", low=1, high=d, integer=True)
        self._seed = root_seed(self.random_state)
        box = read_black_box(self.black_box, rows.given)
        self.classes_ = box.classes
        order = as_generator(derive_seed(self._seed, "held out")).permutation(n)
        grown, held = (rows.take(np.sort(part)) for part in np.split(order, [round(0.7 * n)]))
        p, p_held = (box.predict_proba(part.given) for part in (grown, held))
        held_answers = p_held.argmax(1)
        (found,) = importances(
            self.black_box, grown.given, [None], methods, random_state=derive_seed(self._seed, "importances")
        )
        self.importances_: dict[str, FeatureImportance] = found
        self._encoding = Encoding.of(grown)
        combined = mean_reciprocal_rank(list(self.importances_.values()))
        one_value = ~np.isin(np.arange(d), self._encoding.origin)  # columns without any number of their own
        self.ranking_ = np.lexsort((-next(iter(self.importances_.values())).scores, -combined, one_value))
        judged = Judged(
            self._encoding.numbers(grown), self._encoding.numbers(held), held_answers, self.classes_
        )

        sizes = [k for k in _SIZES if k < d] + [min(d, _SIZES[-1])] if picks else [int(self.k)]
        self.fidelity_curve_: dict[int, float] = {}
        tried = {}
        for k in sizes:
            at = self._encoding.columns_of(self.ranking_[:k])
            tried[k] = self._small(self.surrogate, judged.grown[:, at], p)
            self.fidelity_curve_[k] = float((tried[k].predict(judged.held[:, at]) == held_answers).mean())
        goal = max(self.fidelity_curve_.values()) - _PLATEAU
        self.k_ = next(k for k, fidelity in self.fidelity_curve_.items() if fidelity >= goal)
        self.columns_ = tuple(rows.names[j] for j in self.ranking_[: self.k_])
        self._at = self._encoding.columns_of(self.ranking_[: self.k_])
        self.surrogate_ = tried[self.k_]
        self.tree_ = self.surrogate_
        if not isinstance(
            self.surrogate_, DecisionTreeClassifier
        ):  # has no rules of its own that are to be judged
            self.tree_ = self._small("tree", judged.grown[:, self._at], p)
            both = np.vstack([judged.grown, judged.held])[:, self._at]
            self.surrogate_ = self._small(self.surrogate, both, np.vstack([p, p_held]))
        rules, self._leaves, labels = leaf_rules(self.tree_, self._at, self._encoding, judged)
        self.rules_, self._leaf_labels = tuple(rules), np.array(labels)
        halves = np.array_split(as_generator(derive_seed(self._seed, "pruning")).permutation(n - len(p)), 2)
        pair = [replace(judged, held=judged.held[half], answers=held_answers[half]) for half in halves]
        self.pruned_rules_ = tuple(prune(rules, labels, *pair))
        self._grown, self._answers = grown, p.argmax(1)
        self._leaf_of = self.tree_.apply(judged.grown[:, self._at])
        return self

    def _rows(self, X: Any, *, reset: bool) -> Rows:
        rows = Rows.of(X)
        validate_data(self, rows.data if rows.is_frame else X, reset=reset, skip_check_array=True)
        return rows

    def _small(self, kind: str, numbers: Float[np.ndarray, "n e"], p: Float[np.ndarray, "n c"]) -> Any:
        """A surrogate of probabilities; where these have one answer only, a tree without splits."""
        seed, at, labels = derive_seed(self._seed, "surrogate"), np.arange(len(p)), p.argmax(1)
        weights: Any = None
        if self.target == "probabilities":
            at, labels = np.nonzero(p > 1e-3)
            weights = p[at, labels]
        if kind == "tree" or len(np.unique(labels)) < 2:
            model: Any = DecisionTreeClassifier(max_depth=self.max_depth, random_state=seed)
        elif kind == "forest":
            model = RandomForestClassifier(200, random_state=seed)
        elif kind == "boosting":
            model = HistGradientBoostingClassifier(random_state=seed)
        else:
            scaled = StandardScaler().fit(numbers)
            model = LogisticRegression(max_iter=2000).fit(scaled.transform(numbers)[at], labels, weights)
            return make_pipeline(scaled, model)
        return model.fit(numbers[at], labels, sample_weight=weights)

    def _numbers(self, rows: Rows) -> Float[np.ndarray, "n e"]:
        return self._encoding.numbers(rows)[:, self._at]

    def _spread(self, model: Any, numbers: Float[np.ndarray, "n e"]) -> Float[np.ndarray, "n c"]:
        """Probabilities in all classes of the black box, some of which the model may not have met."""
        p = np.zeros((len(numbers), len(self.classes_)))
        p[:, model.classes_] = model.predict_proba(numbers)
        return p

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes by the surrogate, shape (n, n_classes).

        Parameters
        ----------
        X : array-like or data frame, shape (n, d)
        """
        check_is_fitted(self)
        return self._spread(self.surrogate_, self._numbers(self._rows(X, reset=False)))

    def predict(self, X: Any) -> np.ndarray:
        """Label of each row by the surrogate.

        Parameters
        ----------
        X : array-like or data frame, shape (n, d)
        """
        p = self.predict_proba(X)
        return self.classes_[p.argmax(1)]

    def rules_text(self, *, pruned: bool = True) -> str:
        """The rules, one a line, the widest first.

        Parameters
        ----------
        pruned : bool
            Short rules that may overlap, or else the tree's leaves, of which every row fires one.
        """
        check_is_fitted(self)
        return "\n".join(map(str, self.pruned_rules_ if pruned else self.rules_))

    # -------------------------------------------------------------------------------------------------- of one row

    def _row(self, x: Any) -> Rows:
        """A row: an array of one axis, a series, or a table of one row."""
        if isinstance(x, pd.Series):
            x = x.to_frame().T
            if self._grown.is_frame and set(x.columns) == set(self._grown.data.columns):
                x = x[list(self._grown.data.columns)]
        elif not hasattr(x, "columns"):
            x = np.atleast_2d(check_numbers(x, "x"))
            if self._grown.is_frame and x.shape[1] == self._grown.data.shape[1]:
                x = pd.DataFrame(x, columns=self._grown.data.columns)
        row = self._rows(x, reset=False)
        if len(row.data) != 1:
            raise ValueError(f"x must be one row, got {len(row.data)}")
        data = row.data.astype(self._grown.data.dtypes) if self._grown.is_frame and row.is_frame else row.data
        return Rows(data, self._grown.names, self._grown.is_tensor)

    def explain(self, x: Any) -> Explanation:
        """Say which rule a row fires, by which columns, and what would change the answer.

        The counterfactual takes, from the nearest row (in deviations) in a leaf of another answer, the columns which
        that leaf asks for; leaves are tried by how many columns change, then by how far. If the black box follows none,
        it takes columns of a near row that the black box itself answers otherwise: the first of the ranking, as few as
        turn it, none of which can be left out. All values are those of rows.

        Parameters
        ----------
        x : array-like or data frame, shape (d,) or (1, d)
        """
        check_is_fitted(self)
        row = self._row(x)
        box = read_black_box(self.black_box, row.given, classes=self.classes_)
        numbers = self._numbers(row)
        path = self.tree_.decision_path(numbers).indices
        tree = self.tree_.tree_
        shares = tree.value[path, 0] / tree.value[path, 0].sum(1, keepdims=True)
        which = self._leaves.index(int(path[-1]))
        label = int(self._leaf_labels[which])
        p = shares[:, list(self.tree_.classes_).index(label)]
        contributions: dict[str, float] = {}
        for node, step in zip(path[:-1], np.diff(p), strict=True):
            name = row.names[self._encoding.origin[self._at[tree.feature[node]]]]
            contributions[name] = contributions.get(name, 0.0) + float(step)
        own = int(box.predict_proba(row.given).argmax(1)[0])
        return Explanation(
            self.rules_[which],
            contributions,
            self._counterfactual(row, own, box),
            plain_label(self.classes_[label]),
            plain_label(self.classes_[own]),
            own == label,
            float(p[0]),
            float(p[-1]),
        )

    def _counterfactual(self, row: Rows, own: int, box: Any) -> Counterfactual | None:
        whole, mine = self._encoding.numbers(self._grown), self._encoding.numbers(row)[0]
        scale = whole.std(0)
        scale[scale == 0] = 1
        away = np.abs(whole - mine) / scale
        found: list[tuple[int, float, int, list[int]]] = []
        for leaf, rule, other in zip(self._leaves, self.rules_, self._leaf_labels, strict=True):
            broken = {
                int(self._encoding.origin[c.number]) for c in rule.conditions if not c.holds(mine[None])[0]
            }
            if other == own or not broken:
                continue
            inside = np.flatnonzero(self._leaf_of == leaf)
            turned = inside[self._answers[inside] != own]
            inside = turned if len(turned) else inside
            far = away[inside][:, self._encoding.columns_of(sorted(broken))].sum(1)
            at = int(far.argmin())
            found.append((len(broken), float(far[at]), int(inside[at]), sorted(broken)))
        tried = [self._taken(donor, broken) for _, _, donor, broken in sorted(found)]
        turns = [int(p[0].argmax()) != own for p in row.answers(box, tried)]
        change = tried[turns.index(True)] if any(turns) else self._fewest(row, own, box, away.sum(1))
        if change is None:
            if not tried:
                return None
            change = tried[0]
        then = row.copies([change])
        says = int(box.predict_proba(then).argmax(1)[0])
        tree = self._tree_says(Rows.of(then, row.names))
        return Counterfactual(
            _told(row, change),
            plain_label(self.classes_[tree]),
            plain_label(self.classes_[says]),
            says != own,
        )

    def _tree_says(self, row: Rows) -> int:
        return int(self.tree_.predict(self._numbers(row))[0])

    def _taken(self, donor: int, columns: Any) -> dict[int, Any]:
        return {int(j): self._grown.moved(j, np.array([donor])) for j in columns}

    def _fewest(self, row: Rows, own: int, box: Any, away: Float[np.ndarray, " n"]) -> dict[int, Any] | None:
        """Columns of a near row of another answer that turn the black box, none of which can be left out."""
        others = np.flatnonzero(self._answers != own)
        others = others[np.argsort(away[others], kind="stable")[:_DONORS]].tolist()
        d = len(self.ranking_)
        tried = [
            self._taken(donor, self.ranking_[:m])
            for m in [size for size in _SIZES if size < d] + [d]
            for donor in others
        ]
        turning = (
            change for change, p in zip(tried, row.answers(box, tried), strict=True) if p[0].argmax() != own
        )
        change = next(turning, None)
        if change is None:
            return None
        size = len(change)
        while size > 1:  # leave out halves, quarters, ..., and last single columns
            size = -(-size // 2)
            columns = list(change)[::-1]
            for at in range(0, len(columns), size):
                less = {j: value for j, value in change.items() if j not in columns[at : at + size]}
                if less and next(iter(row.answers(box, [less])))[0].argmax() != own:
                    change = less
        return change

    def what_if(self, x: Any, changes: Mapping[str, Any]) -> WhatIf:
        """Answers before and after some columns of a row are set to other values.

        Parameters
        ----------
        x : array-like or data frame, shape (d,) or (1, d)
        changes : dict
            Column (by name or number): value.
        """
        check_is_fitted(self)
        check_kind(changes, Mapping[str, Any], "changes")
        row = self._row(x)
        if not changes:
            raise ValueError("changes must name one column or more")
        change: dict[int, Any] = {}
        for name, value in changes.items():
            j = int(read_columns([name], row.names)[0])
            kind = row.column(j).dtype
            change[j] = [value]
            if row.has_numbers(j):
                change[j] = [float(check_in_range(value, f"changes[{name!r}]"))]
            elif pd.api.types.is_bool_dtype(kind):
                check_kind(value, bool, f"changes[{name!r}]")
            elif not pd.api.types.is_object_dtype(kind):
                change[j] = _as_kind(value, kind, f"changes[{name!r}]")
        both = row.copies([{}, change])
        rows = Rows.of(both, row.names)
        box = read_black_box(self.black_box, both, classes=self.classes_)
        return WhatIf(
            tuple(map(plain_label, self.classes_)),
            _told(row, change),
            box.predict_proba(both),
            self._spread(self.surrogate_, self._numbers(rows)),
        )

    # ------------------------------------------------------------------------------------------------ of many rows

    def report(self, X: Any, y: Any = None) -> SurrogateReport:
        """Measure the surrogate against the black box, and the ranking against random ones.

        Parameters
        ----------
        X : array-like or data frame, shape (n, d)
            Rows that neither the black box nor the surrogate has learnt from.
        y : array-like, shape (n,), optional
            The truth.
        """
        check_is_fitted(self)
        rows = self._rows(X, reset=False)
        box = read_black_box(self.black_box, rows.given, classes=self.classes_)
        (n, d), k = rows.data.shape, self.k_
        p, numbers = box.predict_proba(rows.given), self._encoding.numbers(rows)
        q = self._spread(self.surrogate_, numbers[:, self._at])
        own, small = p.argmax(1), q.argmax(1)
        truth = None if y is None else box.class_numbers(y, n)
        method = next((m for m in self.importances_ if m in ("permutation", "mean", "noise")), "permutation")
        here = feature_importance(
            self.black_box, rows.given, y, method=method, k=k, classes=self.classes_,
            random_state=derive_seed(self._seed, "report"),
        )  # fmt: skip
        falls = _Falls.of(
            box,
            rows,
            [self.ranking_, *_random_rankings(d, derive_seed(self._seed, "random"))],
            k,
            self.baseline,
        )
        spread = float(np.square(p - p.mean(0)).sum())
        lengths = [[len(rule.conditions) for rule in rules] for rules in (self.rules_, self.pruned_rules_)]
        agree, top = own == small, float(p.max(1).mean())
        return SurrogateReport(
            fidelity=float(agree.mean()),
            fidelity_interval=wilson_interval(agree.sum(), n),
            fidelity_constant=float(np.bincount(own).max() / n),
            r2=1 - float(np.square(p - q).sum()) / spread if spread > 1e-12 * n else math.nan,
            mae=float(np.abs(p - q).mean()),
            rmse=float(np.sqrt(np.square(p - q).mean())),
            **_against_truth("black_box", own, truth),
            **_against_truth("surrogate", small, truth),
            accuracy_constant=None if truth is None else float(np.bincount(truth).max() / n),
            columns=self.columns_,
            k=k,
            n_columns=d,
            n_rows=n,
            **falls.beside_random(),
            share_lost=float(falls.without[0].mean()) / top,
            share_kept=1 - float(falls.kept[0].mean()) / top,
            surrogate=self.surrogate,
            n_rules=len(self.rules_),
            mean_length=float(np.mean(lengths[0])),
            largest_coverage=max(rule.coverage for rule in self.rules_),
            n_pruned=len(self.pruned_rules_),
            mean_length_pruned=float(np.mean(lengths[1])),
            coverage_pruned=float(
                np.any([rule.fires(numbers) for rule in self.pruned_rules_], axis=0).mean()
            ),
            stability=here.stability,
            chance_stability=here.chance_stability,
            told_from_noise=tuple(rows.names[j] for j in self.ranking_[:k] if here.drives[j]),
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.categorical = True
        return tags
