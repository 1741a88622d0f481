r"""Do sharper labels mean more errors, and easier attacks? :func:`sharpness_of_pairs`, :func:`sharpness_report`.

*The Effect of Intrinsic Dataset Properties on Generalization*, Konz and Mazurowski 2024, arXiv 2401.08865, sections 4
and 5: over data sets of one kind, a larger label sharpness :math:`K_F` goes with a larger test loss and with a larger
loss under attack, since the radius within which a well-fitted classifier cannot be fooled goes as :math:`1/K_F`. Here
the relation is measured as a rank correlation (Spearman) over pairs of classes of one data set, or over data sets.

============== ==================== ====================================================
in the paper   here                 meaning
============== ==================== ====================================================
K_F            ``k_f``              label sharpness of a pair's training samples
L              ``error``            share of test samples classified wrongly
attack loss    ``drop``             accuracy lost to an attack of size ``eps``
============== ==================== ====================================================

Departures. Errors instead of losses; rank correlations, which suppose no straight line. Pairs of classes that share a
class are not independent, so their bootstrap draws *classes*: a pair enters as often as both its classes were drawn
together (Snijders and Borgatti 1999, for networks). Unrelated data sets are drawn themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata, spearmanr
from torch import nn

from lodim.geometry.dataset_properties.adversarial import Bounds, Number, adversarial_accuracy
from lodim.geometry.dataset_properties.label_sharpness import LabelSharpness
from lodim.neighbors import bootstrap
from lodim.plots import COLORS, new_axes
from lodim.randomness import RandomState, derive_seed, root_seed
from lodim.results import Result
from lodim.validation import check_in_range, check_labels, check_numbers, checked, plain_array, warn


@dataclass(frozen=True)
class PairRecord(Result):
    """One pair of classes, or one data set.

    Attributes
    ----------
    name : str or pair
        The two classes; or a data set's name.
    k_f : float
        Label sharpness.
    error : float or None
        Test error.
    drop : float or None
        Accuracy lost under attack.
    """

    name: Any
    k_f: float
    error: float | None = None
    drop: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.name, list):  # as JSON has pairs
            object.__setattr__(self, "name", tuple(self.name))


@dataclass(frozen=True)
class Correlation(Result):
    """Spearman's rank correlation of the label sharpness with something.

    Attributes
    ----------
    interval : (float, float)
        By percentiles of the bootstrap.
    positive : float
        Share of the resamples whose correlation is positive.
    n : int
        Pairs or data sets.
    """

    value: float
    interval: tuple[float, float]
    positive: float
    n: int

    def __str__(self) -> str:
        low, high = self.interval
        return f"rank correlation {self.value:+.2f} ({low:+.2f} to {high:+.2f}) over {self.n}"


@dataclass(frozen=True)
class SharpnessReport(Result):
    """How label sharpness goes with test error and with adversarial drop.

    Attributes
    ----------
    error, drop : Correlation or None
        None where the records do not have it.
    resampled : str
        ``"classes"`` or ``"data sets"``: what the bootstrap drew.
    """

    error: Correlation | None
    drop: Correlation | None
    records: tuple[PairRecord, ...]
    resampled: str

    def to_frame(self) -> Any:
        """Return one row a record: name, k_f, error, drop; the sharpest first."""
        import pandas as pd

        columns = ["name", "k_f", "error", "drop"]
        rows = [(one.name, one.k_f, one.error, one.drop) for one in self.records]
        return pd.DataFrame(rows, columns=columns).sort_values("k_f", ascending=False, ignore_index=True)

    def plot(self, ax: Any = None) -> Any:
        """Draw error and drop against the label sharpness and return the axes.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
        """
        ax = new_axes(ax)
        frame = self.to_frame()
        for column, found, color in (("error", self.error, COLORS[0]), ("drop", self.drop, COLORS[1])):
            if found is not None:
                label = (
                    f"{'test error' if column == 'error' else 'adversarial drop'}, rank {found.value:+.2f}"
                )
                ax.scatter(frame.k_f, frame[column].astype(float), s=18, color=color, label=label)
        ax.set(xlabel="label sharpness", ylabel="share of the test samples")
        ax.legend()
        return ax

    def __str__(self) -> str:
        found = (("test error", self.error), ("adversarial drop", self.drop))
        lines = [f"label sharpness and {what}: {c}" for what, c in found if c is not None]
        return "\n".join([*lines, f"(interval: bootstrap over {self.resampled})"])


@checked
def sharpness_report(
    records: Sequence[PairRecord],
    *,
    ci: float = 0.95,
    n_bootstrap: int | np.integer = 1000,
    random_state: RandomState = 0,
) -> SharpnessReport:
    """Correlate label sharpness with test error and with adversarial drop.

    Parameters
    ----------
    records : sequence of PairRecord
        At least four. If every name is a pair of classes, the bootstrap draws classes; else it draws records.
    ci : float
        Coverage of the intervals.
    n_bootstrap : int
        Resamples that the intervals are made of.
    random_state : int, Generator or None
        Draws the resamples.

    Raises
    ------
    ValueError
        Too few records, a quantity that only some have, or one that does not vary.

    Warns
    -----
    UserWarning
        More than a tenth of the resamples hold fewer than two different records, so that the interval says little: too
        few pairs share their classes.

    Examples
    --------
    >>> from lodim.geometry import PairRecord, sharpness_report
    >>> sharp = [PairRecord(f"set {i}", k_f=0.1 * i, error=0.02 * i**2) for i in range(1, 9)]
    >>> sharpness_report(sharp, random_state=0).error.value
    1.0
    """
    check_in_range(ci, "ci", low=1e-6, high=1 - 1e-6)
    check_in_range(n_bootstrap, "n_bootstrap", low=1, integer=True)
    records = tuple(records)
    if len(records) < 4:
        raise ValueError(f"a rank correlation needs at least 4 records, got {len(records)}")
    pairs = [one.name for one in records]
    as_classes = all(isinstance(name, tuple | list) and len(name) == 2 for name in pairs)
    members = _members(pairs) if as_classes else np.arange(len(records))[:, None]
    seed, k_f = root_seed(random_state), np.array([one.k_f for one in records])
    found: dict[str, Correlation | None] = {"error": None, "drop": None}
    for what in found:
        given = [getattr(one, what) for one in records]
        if all(value is None for value in given):
            continue
        if any(value is None for value in given):
            raise ValueError(f"some records have no {what}; give all or none")
        drawn = derive_seed(seed, what)
        found[what] = _correlate(k_f, np.array(given, dtype=np.float64), members, ci, int(n_bootstrap), drawn)
    if not any(found.values()):
        raise ValueError("the records have neither error nor drop to correlate label sharpness with")
    return SharpnessReport(found["error"], found["drop"], records, "classes" if as_classes else "data sets")


def _members(pairs: Sequence[Any]) -> np.ndarray:
    """The numbers of the two classes of each pair, shape (n, 2)."""
    names = list(dict.fromkeys(one for pair in pairs for one in pair))
    return np.array([[names.index(one) for one in pair] for pair in pairs])


def _correlate(
    k_f: np.ndarray, values: np.ndarray, members: np.ndarray, ci: float, n_bootstrap: int, seed: int
) -> Correlation:
    if not (np.isfinite(k_f).all() and np.isfinite(values).all()):
        raise ValueError("records must hold finite numbers")
    if np.ptp(k_f) == 0 or np.ptp(values) == 0:
        raise ValueError("a quantity that is the same in all records has no rank correlation")
    n_units = int(members.max()) + 1

    def resampled(drawn: np.ndarray) -> float:
        times = np.bincount(drawn, minlength=n_units)[members].prod(1)
        x, y = np.repeat(k_f, times), np.repeat(values, times)
        if not len(x) or np.ptp(x) == 0 or np.ptp(y) == 0:
            return math.nan  # a resample of one pair only
        return float(np.asarray(np.corrcoef(rankdata(x), rankdata(y)))[1, 0])  # spearmanr finds p-values too

    draws = bootstrap(resampled, n_units, n_bootstrap, seed)
    known = draws[np.isfinite(draws)]
    if len(known) < 0.9 * len(draws):
        warn(
            f"{len(draws) - len(known)} of {len(draws)} resamples hold no two different records, so that the interval "
            "of the rest says little: take more pairs, which share their classes"
        )
    low, high = np.quantile(known, [(1 - ci) / 2, (1 + ci) / 2]) if len(known) else (math.nan, math.nan)
    value = float(spearmanr(k_f, values).statistic)
    positive = float((known > 0).mean()) if len(known) else math.nan
    return Correlation(value, (float(low), float(high)), positive, len(k_f))


@checked
def sharpness_of_pairs(
    train: tuple[Any, Any],
    test: tuple[Any, Any],
    fit: Callable[[np.ndarray, np.ndarray, int], nn.Module],
    *,
    eps: Number = 8 / 255,
    attack: str = "fgsm",
    bounds: Bounds = None,
    pairs: Sequence[tuple[Any, Any]] | None = None,
    n_train: int | np.integer | None = 1000,
    n_repeats: int | np.integer = 3,
    random_state: RandomState = None,
    progress: Callable[[float, str], Any] | None = None,
) -> tuple[PairRecord, ...]:
    """Measure label sharpness, test error and adversarial drop of every pair of classes of a data set.

    Parameters
    ----------
    train, test : (array, labels)
        Samples along axis 0, flattened for the label sharpness and given to ``fit`` and the model as they are.
    fit : callable
        ``fit(X, y, seed) -> nn.Module``: trains a classifier of two classes, 0 and 1, on one pair's samples.
    eps, attack, bounds
        Of :func:`adversarial_accuracy`.
    pairs : sequence of pairs, optional
        Of labels; default: all.
    n_train : int, optional
        Training samples of a pair, half of each class, drawn at random, at least 2; None: all.
    n_repeats : int
        Draws of 1,000 samples that the label sharpness is averaged over.
    random_state : int, Generator or None
        Draws samples and seeds.
    progress : callable, optional
        ``progress(done, text)`` after each pair.

    Raises
    ------
    ValueError
        Labels or shapes that do not fit, pairs of classes that are not there, NaN, fewer samples of a class than asked
        for, or what the parts raise.
    """
    if n_train is not None:
        check_in_range(n_train, "n_train", low=2, integer=True)
    X, X_test = _samples(train[0], "train[0]"), _samples(test[0], "test[0]")
    if X_test.shape[1:] != X.shape[1:]:
        raise ValueError(
            f"test has samples of shape {X_test.shape[1:]}, but train of {X.shape[1:]}; they must match"
        )
    y, y_test = check_labels(train[1], len(X)), check_labels(test[1], len(X_test), name="y_test")
    classes = np.unique(y).tolist()
    chosen = list(combinations(classes, 2)) if pairs is None else [_known(pair, classes) for pair in pairs]
    if missing := {label for pair in chosen for label in pair} - set(np.unique(y_test).tolist()):
        raise ValueError(
            f"test has no samples of {', '.join(map(repr, sorted(missing)))}; every class needs some"
        )
    seed, found = root_seed(random_state), []
    for step, (a, b) in enumerate(chosen):
        of_pair = derive_seed(seed, "pair", a, b)
        members = np.flatnonzero((y == a) | (y == b))
        sharp = LabelSharpness(n_repeats=n_repeats, random_state=of_pair)
        k_f = sharp.fit(X[members].reshape(len(members), -1), y[members]).k_f_
        rows = members if n_train is None else _draw(y, (a, b), int(n_train), of_pair)
        model = fit(X[rows], (y[rows] == b).astype(np.int64), of_pair)
        held = np.flatnonzero((y_test == a) | (y_test == b))
        targets = (y_test[held] == b).astype(np.int64)
        inputs = torch.from_numpy(np.ascontiguousarray(X_test[held]))
        curve = adversarial_accuracy(model, inputs, targets, eps, attack, bounds, random_state=of_pair)
        found.append(PairRecord((a, b), k_f, 1 - curve.clean, curve.drop[0]))
        if progress is not None:
            progress((step + 1) / len(chosen), f"{a} and {b}")
    return tuple(found)


def _known(pair: tuple[Any, Any], classes: list[Any]) -> tuple[Any, Any]:
    """The labels of a pair as those of the training set, whatever kind of number they were given as."""
    for label in pair:
        if label not in classes:
            raise ValueError(f"pairs holds {label!r}, and the classes are {', '.join(map(repr, classes))}")
    if pair[0] == pair[1]:
        raise ValueError(f"a pair is of two classes, got {pair!r}")
    return classes[classes.index(pair[0])], classes[classes.index(pair[1])]


def _samples(values: Any, name: str) -> np.ndarray:
    """Numbers in the dtype in which they came, if torch has it too."""
    dtype = plain_array(values, name, rows=True).dtype
    found = check_numbers(
        values, name, dtype=dtype if dtype.kind in "biuf" and dtype.itemsize <= 8 else np.float64
    )
    if not np.isfinite(found).all():
        raise ValueError(f"{name} has NaN or infinity; drop or impute them")
    return found


def _draw(y: np.ndarray, classes: tuple[Any, Any], n: int, seed: int) -> np.ndarray:
    """Rows of two classes, half of each."""
    rng, parts = np.random.default_rng(derive_seed(seed, "samples")), []
    for label in classes:
        members = np.flatnonzero(y == label)
        if len(members) < n // 2:
            raise ValueError(
                f"class {label!r} has {len(members)} samples, n_train={n} needs {n // 2}; lower n_train"
            )
        parts.append(rng.choice(members, n // 2, replace=False))
    return np.concatenate(parts)
