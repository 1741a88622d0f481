"""Four questions that a classifier must answer: :func:`report`, the front of :mod:`lodim.trust`.

Which columns drive it (``black_box_surrogates``), are its probabilities true (``probability_estimation``), will it hold
elsewhere (``invariance_certificates``), can it be fooled (``latent_quantization``). Each answer has an interval, what
chance would show, and a sentence of what was not checked. The rows must be such as the model was not trained on, and
nothing here can see whether they were.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Int
from scipy.stats import binomtest, fisher_exact
from torch import Tensor, nn

from lodim.extras import versions
from lodim.linalg.precision import as_tensor
from lodim.metrics import holm, wilson_interval
from lodim.nets.activations import first_tensor
from lodim.randomness import RandomState, as_generator, derive_seed, root_seed
from lodim.trust.answers import LEVEL, Elsewhere, Fooled, Probabilities, Proportion, Reasons
from lodim.trust.black_box_surrogates import SurrogateExplainer, comprehensiveness
from lodim.trust.black_box_surrogates.importance import importances
from lodim.trust.black_boxes import BlackBox, read_black_box, take_rows
from lodim.trust.invariance_certificates import certify, invariance_test
from lodim.trust.latent_quantization import robust_accuracy
from lodim.trust.probability_estimation import calibration_check
from lodim.trust.trust_report import QUESTIONS, TrustReport
from lodim.validation import check_in_range, check_labels, checked, plain_array

_LEAST, _LEAST_EACH = 20, 20  # rows of the whole, and of an environment
_SHUFFLED, _GROWN, _ATTACKED, _RANDOM_SETS = 1000, 4000, 200, 10
_DEALS = 1999  # of right answers over environments, by chance
_PATCHES = 8  # along an edge of an image
_DEVIATIONS, _RANGES = (0.1, 0.25, 0.5), (0.01, 0.03, 0.1)
Progress = Callable[[float, str], Any]


class _NotPossible(Exception):
    """Why a question cannot be asked of these rows."""


@dataclass
class _Rows:
    """Rows, what the model says of them, and what is so."""

    box: BlackBox
    X: Any
    y: Int[np.ndarray, " n"]
    p: np.ndarray
    environments: Any
    bounds: tuple[float, float] | None
    sizes: Any
    seed: int
    notes: list[str] = field(default_factory=list)
    tell: Callable[[float], Any] | None = None  # which share of the present question is answered

    @property
    def right(self) -> Bool[np.ndarray, " n"]:
        """Which rows are answered right."""
        return self.p.argmax(1) == self.y

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one row."""
        return tuple(np.shape(self.X)[1:])

    def some(self, most: int, why: str) -> Int[np.ndarray, " m"]:
        """Numbers of at most so many rows, drawn at random."""
        n = len(self.y)
        if n <= most:
            return np.arange(n)
        return np.sort(as_generator(derive_seed(self.seed, why)).choice(n, most, replace=False))

    def numbers(self) -> np.ndarray | Tensor:
        """The rows as real numbers that can be moved a little."""
        values = self.X
        if isinstance(values, pd.DataFrame):
            if any(
                pd.api.types.is_bool_dtype(d) or not pd.api.types.is_numeric_dtype(d) for d in values.dtypes
            ):
                raise _NotPossible(
                    "some columns are no numbers, and what a small change of them is nobody has said"
                )
            values = values.to_numpy(np.float64, na_value=np.nan)
        elif not isinstance(values, Tensor) and (values.dtype.kind not in "biuf" or not self.shape):
            raise _NotPossible(
                "the rows are no table of numbers, and what a small change of them is nobody has said"
            )
        finite = values.isfinite() if isinstance(values, Tensor) else np.isfinite(values)
        if not finite.all():
            raise _NotPossible(
                "some entries are missing or infinite, and what a small change of them is nobody has said"
            )
        return values


@checked
def report(
    model: Any,
    X: Any,
    y: Any,
    environments: Any = None,
    *,
    classes: Any = None,
    bounds: tuple[Any, Any] | None = None,
    eps: Any = None,
    name: str = "",
    random_state: RandomState = 0,
    progress: Progress | None = None,
) -> TrustReport:
    """Ask a classifier which columns drive it, whether its probabilities are true, where it holds and what fools it.

    Parameters
    ----------
    model : classifier, nn.Module or callable
        A fitted scikit-learn classifier or pipeline with ``predict_proba``; a torch module that returns logits or
        probabilities; a function from rows to probabilities.
    X : data frame, array-like or Tensor, shape (n, ...)
        Rows as the model takes them, at least 20, that it was not trained on.
    y : array-like, shape (n,)
        Their labels.
    environments : array-like of shape (n,), or str, optional
        Where each row comes from (a hospital, a year), or the column of the data frame that says so. At least two with
        20 rows each; smaller ones are left out, and the report says so.
    classes : array-like, optional
        Labels in the order of the model's outputs, where it does not name them: of a module or function.
    bounds : (float, float), optional
        Least and largest value that an entry may take, e.g. ``(0, 1)`` for pixels.
    eps : float or sequence of float, optional
        Sizes of the chosen changes, in standard deviations of each column (default 0.1, 0.25, 0.5); for images, and
        with ``bounds``, as a share of the range (default 0.01, 0.03, 0.1).
    name : str
        Of the model, for the report.
    progress : callable, optional
        ``progress(done, text)`` before every question and at every shuffle of a column, which is what most of the time
        of hundreds of columns goes to; ``done`` in [0, 1] is the share of questions answered.

    Returns
    -------
    TrustReport
        Ctrl-C ends it with the answers that are there, and ``complete`` is False.

    Raises
    ------
    TypeError, ValueError
        A model that gives no probabilities, labels that it does not know, fewer than 20 rows, or fewer than two
        environments.
    """
    started, seed = time.monotonic(), root_seed(random_state)
    rows = _read(model, X, y, environments, classes, bounds, eps, seed)
    n = len(rows.y)
    found: dict[str, Any] = dict.fromkeys(QUESTIONS)
    skipped: dict[str, str] = {}
    complete = True
    for i, (question, ask) in enumerate(zip(QUESTIONS, (_reasons, _probabilities, _elsewhere, _fooled))):
        try:
            if progress is not None and complete:
                rows.tell = partial(_tell, progress, i, QUESTIONS[question])
                rows.tell(0.0)
            found[question] = ask(rows) if complete else None
        except _NotPossible as why:
            skipped[question] = str(why)
        except KeyboardInterrupt:
            complete = False
        if not complete:
            skipped[question] = "the run was interrupted"
    if rows.right.all():
        rows.notes.append("Every row is answered right. See whether the model was trained on these rows.")
    notes = (
        "Whether the model was trained on these rows cannot be seen from here. If it was, all figures flatter it.",
        "Intervals take the rows as independent. Several rows of one person, or neighbours in time, make them too "
        "narrow.",
        *rows.notes,
    )
    return TrustReport(
        source=name or rows.box.name,
        n_rows=n,
        n_columns=int(np.prod(rows.shape)) if rows.shape else 1,
        classes=tuple(map(str, rows.box.classes)),
        right=_proportion(rows.right),
        majority=float(np.bincount(rows.y).max() / n),
        p_majority=_like_majority(rows),
        **found,
        skipped=skipped,
        notes=notes,
        seed=seed,
        seconds=time.monotonic() - started,
        versions=versions(),
        complete=complete,
    )


def _tell(progress: Progress, i: int, question: str, share: float) -> None:
    progress((i + share) / len(QUESTIONS), question)


def _read(
    model: Any, X: Any, y: Any, environments: Any, classes: Any, bounds: Any, eps: Any, seed: int
) -> _Rows:
    if not isinstance(X, pd.DataFrame | Tensor):
        X = plain_array(X, "X", rows=True)
    n = len(X)
    if isinstance(X, pd.DataFrame) and not X.columns.is_unique:
        twice = X.columns[X.columns.duplicated()][0]
        raise ValueError(f"X has several columns of the name {str(twice)!r}; each needs a name of its own")
    if n < _LEAST:
        raise ValueError(f"X has {n} rows; a report needs at least {_LEAST}")
    if bounds is not None:
        low, high = (float(check_in_range(end, "bounds")) for end in bounds)
        if not low < high:
            raise ValueError(f"bounds must be (least, largest), got {bounds}")
        bounds = (low, high)
        _check_inside(X, bounds)
    if eps is not None:
        eps = tuple(
            sorted(float(check_in_range(e, "eps", low=0)) for e in np.atleast_1d(eps).ravel().tolist())
        )
        if not eps or eps[0] == 0:
            raise ValueError(f"eps must be sizes above zero, got {eps}")
    box = read_black_box(model, X, classes=classes)
    numbers = box.class_numbers(y, n)
    if environments is not None:
        environments = _labels_of(environments, X, n)
    return _Rows(box, X, numbers, box.predict_proba(X), environments, bounds, eps, seed)


def _check_inside(X: Any, bounds: tuple[float, float]) -> None:
    if isinstance(X, pd.DataFrame):
        X = X.select_dtypes("number").to_numpy(np.float64, na_value=np.nan)
    values = X.detach().double().cpu().numpy() if isinstance(X, Tensor) else X
    if values.dtype.kind not in "iuf" or np.isnan(values).all():
        return
    least, most = float(np.nanmin(values)), float(np.nanmax(values))
    off = 1e-6 * max(map(abs, bounds))  # of single precision
    if least < bounds[0] - off or most > bounds[1] + off:
        raise ValueError(f"X goes from {least:.4g} to {most:.4g}, outside bounds {bounds}")


def _labels_of(environments: Any, X: Any, n: int) -> np.ndarray:
    if isinstance(environments, str):
        if environments not in getattr(X, "columns", ()):
            raise ValueError(f"environments={environments!r} is no column of X; give labels, one a row")
        environments = X[environments]
    labels = check_labels(environments, n, name="environments").astype(str)
    names, counts = np.unique(labels, return_counts=True)
    if (counts >= _LEAST_EACH).sum() < 2:
        raise ValueError(
            f"environments must have at least two values with {_LEAST_EACH} rows each, got {len(names)} values, the "
            f"largest with {counts.max()} rows; bin numbers first (pandas.qcut)"
        )
    return labels


# ---- which columns drive it


def _reasons(rows: _Rows) -> Reasons:
    if not rows.shape:
        raise _NotPossible("the rows are no table of columns")
    shuffled = rows.some(_SHUFFLED, "shuffled")
    if len(rows.y) > len(shuffled):
        rows.notes.append(f"Columns were shuffled in {len(shuffled):,} rows drawn at random.")
    box, table = _flat(rows)
    groups, unit = (None, "column") if len(rows.shape) == 1 else (_patches(rows.shape), "block")
    part = take_rows(table, shuffled)
    found, skill = (
        each["permutation"]
        for each in importances(
            box,
            part,
            [None, box.classes[rows.y[shuffled]]],
            ["permutation"],
            groups,
            random_state=derive_seed(rows.seed, "shuffles"),
            progress=rows.tell,
        )
    )
    order = found.ranking
    k = max(1, min(int(found.drives.sum()), len(order) // 2))
    rng = as_generator(derive_seed(rows.seed, "random sets"))
    at = list(groups.values()) if groups else [[i] for i in range(len(order))]
    columns = lambda chosen: [i for j in chosen for i in at[j]]  # noqa: E731
    removed = comprehensiveness(box, part, columns(order[:k]))
    beside = [
        comprehensiveness(box, part, columns(rng.choice(len(order), k, replace=False)))
        for _ in range(_RANDOM_SETS)
    ]
    fidelity, guess, rules = None, 0.0, tuple[str, ...]()
    if unit == "column" and len(rows.y) >= 4 * _LEAST:
        fidelity, guess, rules = _tree(replace(rows, box=box, X=table))
    return Reasons(
        names=tuple(found.names[i] for i in order),
        scores=found.scores[order],
        low=found.low[order],
        high=found.high[order],
        drives=found.drives[order],
        helps=skill.drives[order],
        n_rows=len(shuffled),
        k=k,
        removed=float(removed),
        removed_random=float(np.mean(beside)),
        k_overlap=found.k,
        stability=found.stability,
        chance_stability=found.chance_stability,
        fidelity=fidelity,
        guess=guess,
        rules=rules,
        unit=unit,
        not_checked=(
            f"causes in the world, for these are reasons of the model; {unit}s that say the same as others, each of "
            "which may seem to matter little since the others keep what it says; rows that the model answers by other "
            "reasons than most."
        ),
    )


def _flat(rows: _Rows) -> tuple[BlackBox, Any]:
    """The rows as a table, and the model for it: images are laid flat, whole numbers and precisions come back."""
    given, shape, box = rows.X, rows.shape, rows.box
    if isinstance(given, pd.DataFrame):
        if np.isinf(given.select_dtypes("number").to_numpy(np.float64, na_value=np.nan)).any():
            raise _NotPossible("some entries are infinite")
        return box, given
    dtype = given.dtype
    if isinstance(given, Tensor):
        given = given.detach().cpu()
        given = (given.double() if given.is_floating_point() else given).numpy()
    kind = given.dtype

    def answer(Z: Any) -> np.ndarray:
        values = np.asarray(Z)
        if kind.kind in "biu" and values.dtype.kind == "f":
            values = values.round()  # means of a column
        values = np.ascontiguousarray(values, dtype=kind).reshape(len(values), *shape)
        if not isinstance(rows.X, Tensor):
            return box.answer(values)
        return box.answer(torch.from_numpy(values).to(dtype))

    table = given.reshape(len(given), -1)
    if kind.kind == "f" and np.isinf(table).any():
        raise _NotPossible("some entries are infinite")
    if kind.kind not in "biuf" or not np.isfinite(table).all():  # which frames may hold
        table = pd.DataFrame(table, columns=[f"x{i}" for i in range(table.shape[1])]).infer_objects()
    return replace(box, answer=answer, module=None), table


def _patches(shape: tuple[int, ...]) -> dict[str, list[int]]:
    """Entries of the patches of an image, all channels together."""
    at = np.arange(int(np.prod(shape))).reshape(-1, *shape[-2:])
    steps = [max(1, -(-edge // _PATCHES)) for edge in shape[-2:]]
    return {
        f"rows {i}–{min(i + steps[0], shape[-2]) - 1}, columns {j}–{min(j + steps[1], shape[-1]) - 1}": at[
            :, i : i + steps[0], j : j + steps[1]
        ]
        .ravel()
        .tolist()
        for i in range(0, shape[-2], steps[0])
        for j in range(0, shape[-1], steps[1])
    }


def _tree(rows: _Rows) -> tuple[Proportion, float, tuple[str, ...]]:
    """How often a tree that was grown on one half of the rows answers as the model does on the other, and its rules."""
    some = as_generator(derive_seed(rows.seed, "halves")).permutation(rows.some(_GROWN, "grown"))
    grown, held = np.sort(some[: len(some) // 2]), np.sort(some[len(some) // 2 :])
    explainer = SurrogateExplainer(rows.box, importances=("permutation",), random_state=rows.seed)
    explainer.fit(take_rows(rows.X, grown))
    other = take_rows(rows.X, held)
    said = rows.p[held].argmax(1)
    same = np.asarray(explainer.predict(other)) == rows.box.classes[said]
    return _proportion(same), float(np.bincount(said).max() / len(said)), tuple(map(str, explainer.rules_))


# ---- are its probabilities true


def _event(rows: _Rows) -> tuple[str, np.ndarray, np.ndarray]:
    """What is foretold, with which probability, and whether it happened."""
    if len(rows.box.classes) == 2:
        return f"class {str(rows.box.classes[1])!r}", rows.p[:, 1], (rows.y == 1).astype(int)
    return "its answer being right", rows.p.max(1), rows.right.astype(int)


def _probabilities(rows: _Rows) -> Probabilities:
    n_bins = min(15, len(rows.y) // 10)
    if n_bins < 5:
        raise _NotPossible(f"{len(rows.y)} rows are too few for bins of ten")
    event, p, happened = _event(rows)
    found = calibration_check(p, happened, n_bins=n_bins, random_state=derive_seed(rows.seed, "calibration"))
    others = (
        "" if len(rows.box.classes) == 2 else " the probabilities of the classes that it does not answer;"
    )
    return Probabilities(
        event=event,
        ece=found.ece,
        low=found.interval[0],
        high=found.interval[1],
        if_true=found.ece_if_true,
        p_value=found.p_value,
        brier=found.brier,
        n=found.n,
        n_bins=found.n_bins,
        predicted=found.curve.predicted,
        observed=found.curve.observed,
        observed_low=found.low,
        observed_high=found.high,
        counts=found.curve.counts,
        not_checked=(
            f"{others} whether they are true of each kind of row: a bin mixes rows, and errors of one kind may hide "
            "those of another."
        ).strip(),
    )


# ---- will it hold elsewhere


def _elsewhere(rows: _Rows) -> Elsewhere:
    if rows.environments is None:
        raise _NotPossible("no environments were given, so nothing is known of other places or times")
    names, counts = np.unique(rows.environments, return_counts=True)
    if few := [str(name) for name, n in zip(names, counts) if n < _LEAST_EACH]:
        rows.notes.append(
            f"Environments with fewer than {_LEAST_EACH} rows were left out: {', '.join(few[:8])}."
        )
    kept = [str(name) for name, n in zip(names, counts) if n >= _LEAST_EACH]
    inside = [rows.environments == name for name in kept]
    hits = np.array([[rows.right[at].sum(), (~rows.right[at]).sum()] for at in inside])
    p_same, differs = _unequal(hits, derive_seed(rows.seed, "permutations"))
    better = hits[:, 0] / hits.sum(1) > hits[:, 0].sum() / hits.sum()
    _, p, happened = _event(rows)
    split = {name: (p[at, None], happened[at].astype(float)) for name, at in zip(kept, inside)}
    meaning = invariance_test(split)
    p_same, p_meaning = holm([p_same, meaning.p_value]).tolist()
    differs &= p_same < LEVEL
    held = certify(None, [1.0], split, form="risk", random_state=derive_seed(rows.seed, "certificate"))
    return Elsewhere(
        names=tuple(kept),
        right=tuple(_proportion(rows.right[at]) for at in inside),
        p_same=p_same,
        worse=tuple(name for name, off, up in zip(kept, differs, better) if off and not up),
        better=tuple(name for name, off, up in zip(kept, differs, better) if off and up),
        p_meaning=p_meaning,
        means_otherwise=tuple(kept[i] for i in meaning.differs) if p_meaning < LEVEL else (),
        gap=held.eps,
        brier=float(np.mean((p - happened) ** 2)),
        delta=held.delta,
        vacuous=held.vacuous,
        certificate=str(held),
        not_checked=(
            "environments of another kind than these. What is said of new ones takes these as drawn at random from "
            "them all; hospitals that volunteered, or the years before a change, are not."
        ),
    )


def _unequal(hits: Int[np.ndarray, "m 2"], seed: int) -> tuple[float, Bool[np.ndarray, " m"]]:
    """Chance that environments of one accuracy differ as much, and which differ from the rest (Holm)."""
    if not hits.sum(0).all():  # all right or all wrong
        return 1.0, np.zeros(len(hits), dtype=bool)
    n, right = hits.sum(1), int(hits[:, 0].sum())
    by_chance = as_generator(seed).multivariate_hypergeometric(n, right, size=_DEALS, method="marginals")
    expected = n * right / n.sum()
    # chi-square, but for a factor
    lack = ((np.vstack([hits[:, 0], by_chance]) - expected) ** 2 / expected).sum(1)
    p = np.mean(lack >= lack[0] * (1 - 1e-12))
    each = [fisher_exact(np.array([own, hits.sum(0) - own])).pvalue for own in hits]
    return float(p), holm(each) < LEVEL


# ---- can it be fooled


class _InUnits(nn.Module):
    """A module of rows in units of its own: a step of one is a standard deviation, or the whole range."""

    shift: Tensor
    scale: Tensor

    def __init__(self, module: nn.Module, shift: Tensor, scale: Tensor, is_probability: bool) -> None:
        super().__init__()
        self.module, self.is_probability = module, is_probability
        self.register_buffer("shift", shift)
        self.register_buffer("scale", scale)

    def forward(self, z: Tensor) -> Tensor:
        out = first_tensor(self.module(self.shift + self.scale * z))
        return out.clamp_min(1e-30).log() if self.is_probability else out


def _fooled(rows: _Rows) -> Fooled:
    values = rows.numbers()
    some = rows.some(_ATTACKED, "attacked")
    whole = as_tensor(values, "X").detach()
    fractions = values.is_floating_point() if isinstance(values, Tensor) else values.dtype.kind == "f"
    if rows.box.module is not None and not fractions:
        try:
            rows.box.answer(whole[some[:1]].float())
        except ValueError as error:
            raise _NotPossible("the model takes whole numbers only, which have no small changes") from error
    pixels, whole_numbers = (
        len(rows.shape) > 1,
        not whole.is_floating_point() or bool((whole == whole.round()).all()),
    )
    if rows.bounds is not None or pixels:
        low, high = rows.bounds or (float(whole.min()), float(whole.max()))
        shift, scale = torch.full(rows.shape, low), torch.full(rows.shape, high - low)
        unit, sizes, inside = "of the range", rows.sizes or _RANGES, (0.0, 1.0)
        if rows.bounds is None:
            rows.notes.append(
                f"Entries were taken to lie within {low:.4g} and {high:.4g}, as those of X do; give bounds."
            )
    else:
        shift, scale = torch.zeros(rows.shape), whole.double().std(0)
        unit, sizes, inside = "standard deviations", rows.sizes or _DEVIATIONS, None
    shift, scale = shift.double(), scale.double()
    z = (whole[some].cpu().double() - shift.cpu()) / torch.where(scale > 0, scale, 1.0).cpu()
    if inside is not None:
        z = z.clamp(*inside)  # which rounding may have left
    found = robust_accuracy(
        _in_units(rows, shift, scale),
        z,
        rows.y[some],
        sizes,
        bounds=inside,
        random_state=derive_seed(rows.seed, "attacks"),
    )
    more = (
        []
        if found.adaptive
        else ["what an attacker does who has the model's gradients, which is at least as much"]
    )
    more += ["changes of whole numbers by whole steps only, since they were moved by fractions"] * (
        whole_numbers and not pixels
    )
    return Fooled(
        sizes=found.eps,
        unit=unit,
        clean=found.clean,
        attacked=tuple(
            Proportion(a, low, high, found.n_samples)
            for a, (low, high) in zip(found.accuracy, found.intervals)
        ),
        noise=found.noise,
        attacks=tuple(found.attacks.items()),
        warnings=found.warnings,
        not_checked="; ".join(
            [
                *more,
                "changes of another kind (rotations, other words, missing values), and attackers who try longer",
            ]
        )
        + ".",
    )


def _in_units(rows: _Rows, shift: Tensor, scale: Tensor) -> Any:
    """The model for rows in these units."""
    box = rows.box
    if box.module is not None:
        first = next((p for p in box.module.parameters() if p.is_floating_point()), torch.zeros(1))
        return _InUnits(box.module, shift.to(first), scale.to(first), box.is_probability)
    columns = rows.X.columns if isinstance(rows.X, pd.DataFrame) else None
    low, step = shift.numpy(), scale.numpy()

    def answer(z: Any) -> np.ndarray:
        values = low + step * np.asarray(z, dtype=np.float64)
        return box.answer(values if columns is None else pd.DataFrame(values, columns=columns))

    return answer


def _like_majority(rows: _Rows) -> float:
    """Chance that always answering the commonest class differs as much, of rows where the one is right, the other not.

    That class is chosen by these very rows, which favours it: less often than it counts for as many tests as classes.
    """
    theirs = rows.y == np.bincount(rows.y).argmax()
    more, less = int((rows.right & ~theirs).sum()), int((~rows.right & theirs).sum())
    if more == less:
        return 1.0
    p = float(binomtest(more, more + less).pvalue)
    return p if more > less else min(1.0, p * len(rows.box.classes))


def _proportion(right: Bool[np.ndarray, " n"]) -> Proportion:
    return Proportion(float(right.mean()), *wilson_interval(right.sum(), len(right)), len(right))
