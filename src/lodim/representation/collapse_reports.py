"""How far a classifier has collapsed, each figure beside what chance shows: :func:`collapse_report`.

The metrics of :mod:`lodim.representation.collapse` fall for other reasons than collapse. Where a class has few rows in
many dimensions, its mean lies near them and the scatter along the means' directions is small whatever the labels; with
one row a class it is zero. Random means in many dimensions are nearly a simplex. So every metric is measured again with
the labels shuffled, copies of an input together, and the verdict follows from both: "collapsed" takes a metric below
its limit where no shuffling comes near.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.stats import spearmanr
from torch import nn

from lodim.nets.activations import the_layer
from lodim.plots import COLORS, new_axes
from lodim.randomness import RandomState, as_generator, derive_seed, root_seed
from lodim.representation.collapse import CollapseMetrics, Gathering, gathered_metrics
from lodim.representation.heads import Head, LabelledBatches, find_head, walk
from lodim.representation.neural_collapse.minimiser import CRITERIA, UFMSolution, predict_geometry
from lodim.results import Result
from lodim.validation import check_choice, check_in_range, check_numbers, checked, to_numpy

__all__ = ["CollapseReport", "LayerCollapse", "collapse_report"]

LIMITS = {"nc1": 0.1, "nc2": 0.2, "nc3": 0.2, "nc4": 0.01}
COLLAPSED, PARTLY, NO, UNKNOWN = "collapsed", "better than chance", "no", "the data cannot tell"
_NEAR = 10  # where a shuffling is below the limit itself, the metric must be so many times lower than it


@dataclass(frozen=True, eq=False)
class LayerCollapse(Result):
    """One layer's metrics, the same with shuffled labels, and what follows.

    Attributes
    ----------
    layer : str
    part : {"head", "before"}
        Features that a linear layer of the head is given, or what another layer returns.
    n_units : int
    metrics : CollapseMetrics
    null : dict of str to tuple of float
        NC1 to NC4 of each shuffling.
    verdicts : dict of str to str
        Of NC1 to NC4: "collapsed", "better than chance" (below all shufflings but above the limit or half of what
        they show, as classes that differ are in any network, trained or not), "no", or "the data cannot tell".
    """

    layer: str
    part: str
    n_units: int
    metrics: CollapseMetrics
    null: dict[str, tuple[float, ...]]
    verdicts: dict[str, str]

    def to_frame(self) -> pd.DataFrame:
        """Return a row for each metric with a null: value, limit of "collapsed", the null, verdict."""
        rows = []
        for name, verdict in self.verdicts.items():
            null = self.null[name]
            rows.append(
                {
                    "layer": self.layer,
                    "metric": name,
                    "value": getattr(self.metrics, name),
                    "limit": LIMITS[name],
                    "null_lowest": _lowest(null),
                    "null_median": float(np.median(null)) if null else np.nan,
                    "verdict": verdict,
                }
            )
        return pd.DataFrame(rows)

    def plot(self, ax: Any = None) -> Any:
        """Draw metrics, and with shuffled labels in grey, on a logarithmic scale; returns the axes."""
        ax = new_axes(ax)
        for i, name in enumerate(self.verdicts):
            ax.plot(self.null[name], [i] * len(self.null[name]), "|", color="0.6", markersize=12)
            ax.plot([getattr(self.metrics, name)], [i], "o", color=COLORS[0])
        ax.set(
            xscale="log",
            xlabel="0 is collapse; grey: shuffled labels",
            yticks=range(len(self.verdicts)),
            yticklabels=list(self.verdicts),
            title=f"before {self.layer}" if self.part == "head" else self.layer,
        )
        ax.invert_yaxis()
        return ax

    def __str__(self) -> str:
        return self.to_frame().to_string(index=False, float_format="{:.3g}".format)


@dataclass(frozen=True, eq=False)
class CollapseReport(Result):
    """How far a classifier has collapsed on some data.

    Attributes
    ----------
    layers : tuple of LayerCollapse
        Layers that were asked for, then those of the head in order; the last is the classifier's.
    n_rows : int
    class_counts : ndarray, shape (K,)
        Of the classes that are there.
    distinct : ndarray, shape (K,)
        How many different inputs each class has.
    accuracy : float
    n_null : int
        Number of shufflings.
    predicted : UFMSolution or None
        Geometry of free features with the same decay and classes.
    predicted_distance, predicted_correlation : float
        Distance of the classifier's Gram matrix from the predicted one, both of unit norm, and Spearman correlation of
        the rows' lengths with those predicted; NaN without a prediction, or where all lengths predicted are equal.
    notes : tuple of str
    """

    layers: tuple[LayerCollapse, ...]
    n_rows: int
    class_counts: Int[np.ndarray, " K"]
    distinct: Int[np.ndarray, " K"]
    accuracy: float
    n_null: int
    predicted: UFMSolution | None
    predicted_distance: float
    predicted_correlation: float
    notes: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """Verdict on the variability of what the last layer is given, NC1."""
        return self.layers[-1].verdicts["nc1"]

    def to_frame(self) -> pd.DataFrame:
        """Return a row for each layer and metric."""
        return pd.concat([layer.to_frame() for layer in self.layers], ignore_index=True)

    def plot(self, ax: Any = None) -> Any:
        """Draw NC1 to NC3 over the layers, and the range of shuffled labels; returns the axes."""
        ax, places = new_axes(ax), range(len(self.layers))
        for name, color in zip(("nc1", "nc2", "nc3"), COLORS):
            nulls = [layer.null.get(name, ()) for layer in self.layers]
            ax.plot(
                places,
                [getattr(layer.metrics, name) for layer in self.layers],
                marker="o",
                color=color,
                label=name,
            )
            low, high = ([float(f(n)) if n else np.nan for n in nulls] for f in (np.min, np.max))
            if len(self.layers) > 1:
                ax.fill_between(places, low, high, color=color, alpha=0.15, linewidth=0)
            else:  # a band of one layer has no width
                ax.vlines(places, low, high, color=color, alpha=0.3, linewidth=8)
        ax.set(
            yscale="log",
            xticks=places,
            xticklabels=[layer.layer for layer in self.layers],
            ylabel="0 is collapse",
        )
        ax.legend(title="bands: shuffled labels")
        return ax

    def __str__(self) -> str:
        last = self.layers[-1]
        value, chance = last.metrics.nc1, _lowest(last.null["nc1"])
        lines = [
            f"Before {last.layer!r}, variability within classes: {self.verdict} (NC1 {value:.3g}; with shuffled labels "
            f"{chance:.3g} at least). {self.n_rows} rows, {len(self.class_counts)} classes, accuracy "
            f"{self.accuracy:.3f}.",
            self.to_frame().to_string(index=False, float_format="{:.3g}".format),
        ]
        if self.predicted is not None:
            rank = (
                ""
                if np.isnan(self.predicted_correlation)
                else f", rank correlation {self.predicted_correlation:.2f}"
            )
            lines.append(
                f"Classifier against free features: distance {self.predicted_distance:.3g} (0: the same){rank}."
            )
        return "\n".join([*lines, *self.notes])


def _lowest(null: Sequence[float]) -> float:
    return float(np.min(null)) if len(null) else np.nan


def _verdict(value: float, null: Sequence[float], limit: float) -> str:
    lowest = _lowest(null)
    if np.isnan(value) or np.isnan(lowest):
        return UNKNOWN
    if value > limit:
        return PARTLY if value < lowest else NO
    if lowest > limit:  # where chance is just above the limit, to be just below it says nothing
        return COLLAPSED if value < lowest / 2 else PARTLY
    return COLLAPSED if value < lowest / _NEAR else UNKNOWN


def _fingerprints(inputs: Any) -> list[int]:
    """A number for each input of a batch; copies have the same."""
    parts = list(inputs.values()) if isinstance(inputs, dict) else [inputs]
    arrays = [np.asarray(to_numpy(p)) for p in parts if hasattr(p, "__len__")]
    return [
        hash(b"".join(np.ascontiguousarray(a[i]).tobytes() for a in arrays)) for i in range(len(arrays[0]))
    ]


def _shuffled(
    labels: np.ndarray, prints: np.ndarray, n: int, rng: np.random.Generator
) -> tuple[list[np.ndarray], np.ndarray]:
    """Labels dealt anew to the different inputs of each class, and how many of those each class has."""
    pairs = np.stack([pd.factorize(prints)[0], labels], axis=1)  # in an order that no process changes
    _, first, owner = np.unique(pairs, axis=0, return_index=True, return_inverse=True)
    owner = owner.reshape(-1)
    own = labels[first]
    return [rng.permutation(own)[owner] for _ in range(n)], np.bincount(own, minlength=labels.max() + 1)


@checked
def collapse_report(
    model: nn.Module,
    loader: Any,
    *,
    layers: str | Sequence[str] | None = None,
    classifier: str | None = None,
    weight_decay: Any = None,
    feature_decay: float | int | None = None,
    criterion: str = "mse",
    n_null: int | np.integer = 19,
    random_state: RandomState = 0,
) -> CollapseReport:
    """Say how far a classifier has collapsed on some data, at every linear layer of its head.

    The loader is gone through three times: for the labels, for means and for the scatter around them. Features are not
    kept.

    Parameters
    ----------
    model : nn.Module
        A classifier, Hugging Face models too; computes in evaluation mode.
    loader : iterable of batches
        Pairs (inputs, labels) or mappings with "labels", which are places among the outputs. A shuffled data loader is
        gone through in order; a generator will not do. Collapse is a matter of the training data.
    layers : str or sequence of str, optional
        More layers, whose returned features (means over places) are measured.
    classifier : str, optional
        Name of the last linear layer; otherwise that whose outputs are the model's. Linear layers directly before it
        belong to the head.
    weight_decay : float or sequence of float, optional
        Of the head's layers, as torch's optimisers take it. With it the geometry of free features is predicted for the
        classes' numbers in the loader; see :func:`predict_geometry`.
    feature_decay : float, optional
        Unless given, the one that the features act as if they had.
    criterion : {"mse", "mse_mean", "ce"}
        Which loss the model was trained with, for the prediction.
    n_null : int
        How often labels are shuffled.
    random_state : int, Generator or None
        Of the shuffling.

    Raises
    ------
    ValueError
        No labels, one class only, labels that are no places among the outputs, no linear head, features that are not
        finite, or a loader that yields other rows in another pass.
    """
    check_in_range(n_null, "n_null", low=1, integer=True)
    check_choice(criterion, CRITERIA, "criterion")
    rng = as_generator(derive_seed(root_seed(random_state), "shuffling"))  # not what drew the caller's labels
    batches = LabelledBatches(loader)
    head = find_head(model, loader, classifier)
    names = [] if layers is None else [layers] if isinstance(layers, str) else list(layers)
    others = dict(the_layer(model, name) for name in names)
    if twice := [name for name in others if name in head.layers]:
        raise ValueError(f"layers must be others than those of the head, measured anyway; got {twice}")
    told, seen = [], []
    for inputs in batches:
        told.append(batches.labels)
        seen.extend(_fingerprints(inputs))
    labels = np.concatenate(told) if told else np.zeros(0, dtype=np.int64)
    if len(np.unique(labels)) < 2:
        raise ValueError(
            f"the labels hold {len(np.unique(labels))} class: collapse is a matter of at least two"
        )
    deals, distinct = _shuffled(labels, np.array(seen), int(n_null), rng)
    gathered, squares, right = _gather(model, batches, head, others, [labels, *deals])
    counts = np.bincount(labels, minlength=head.n_classes)
    distinct, counts = distinct[counts[: len(distinct)] > 0], counts[counts > 0]
    few = distinct < 2
    found = tuple(
        _judged(name, "before" if name in others else "head", each, bool(few.mean() > 0.5))
        for name, each in gathered.items()
    )
    notes = _notes(counts, distinct, len(labels), int(n_null), weight_decay is None)
    last = found[-1].verdicts
    if last["nc1"] == COLLAPSED and last["nc4"] in (NO, PARTLY):
        notes += (
            "The classifier does not decide as the nearest class mean does (NC4): classes may lie apart in the inputs "
            "already, as they then do in an untrained network.",
        )
    predicted, distance, correlation = None, np.nan, np.nan
    if weight_decay is not None:
        predicted, more = _predict(head, counts, weight_decay, feature_decay, criterion, squares)
        notes += more
        if predicted is not None:
            W, _ = next(iter(head.classifiers().values()))
            distance, correlation = _compare(W, predicted)
    return CollapseReport(
        found,
        len(labels),
        counts,
        distinct,
        right / len(labels),
        int(n_null),
        predicted,
        distance,
        correlation,
        notes,
    )


def _gather(
    model: nn.Module,
    batches: LabelledBatches,
    head: Head,
    others: Mapping[str, nn.Module],
    codes: Sequence[np.ndarray],
) -> tuple[dict[str, list[Gathering]], float, int]:
    """What two passes tell of each layer with each labelling, the true one first; squares of features; rows right."""
    maps, labels = head.classifiers(), codes[0]
    gathered: dict[str, list[Gathering]] = {}
    for name in (*others, *maps):
        W, b = maps.get(name, (None, None))  # others than the head's have no classifier
        gathered[name] = [Gathering(head.n_classes, W=W, b=b) for _ in codes]
    squares, right, start = 0.0, 0, dict.fromkeys(gathered, 0)

    def visit(second: bool) -> Any:
        start.update(dict.fromkeys(start, 0))

        def each(name: str, rows: np.ndarray, now: np.ndarray) -> None:
            nonlocal squares, right
            at = slice(start[name], start[name] + len(rows))
            if not np.array_equal(labels[at], now):
                raise ValueError(
                    "the loader yields other labels in another pass: give one with a fixed order"
                )
            start[name] = at.stop
            for gathering, dealt in zip(gathered[name], codes):
                (gathering.second if second else gathering.first)(rows, dealt[at])
            if not second and name == next(iter(maps)):
                squares += float(np.square(rows.astype(np.float64)).sum())
            if not second and name == list(maps)[-1]:
                W, b = maps[name]
                right += int(((rows @ W.T + b).argmax(1) == now).sum())

        return each

    walk(model, batches, head, visit(False), others)
    for gathering in (one for each in gathered.values() for one in each):
        gathering.turn()
    walk(model, batches, head, visit(True), others)
    return gathered, squares, right


def _judged(name: str, part: str, gathered: list[Gathering], few: bool) -> LayerCollapse:
    observed, *nulls = [gathered_metrics(one) for one in gathered]
    judged = [m for m in LIMITS if part == "head" or m in ("nc1", "nc2")]
    null = {m: tuple(float(getattr(one, m)) for one in nulls) for m in judged}
    verdicts = {
        m: UNKNOWN if few and m != "nc4" else _verdict(getattr(observed, m), null[m], LIMITS[m])
        for m in judged
    }
    return LayerCollapse(name, part, int(gathered[0].geometry().means.shape[1]), observed, null, verdicts)


def _notes(counts: np.ndarray, distinct: np.ndarray, n: int, n_null: int, advise: bool) -> tuple[str, ...]:
    notes = []
    if alone := int((distinct < 2).sum()):
        notes.append(
            f"{alone} of {len(counts)} classes have one different input only, which scatters by 0 in any network."
        )
    if int(distinct.sum()) < n:
        notes.append(
            f"{n - int(distinct.sum())} of {n} rows are copies of another; shuffling keeps them together."
        )
    if counts.max() > 1.5 * counts.min():
        notes.append(
            f"Classes have {counts.min()} to {counts.max()} rows: means and rows of W are then not of one length, and "
            "NC2 and NC3 (against a simplex) need not fall"
            + ("; give weight_decay for the prediction." if advise else ".")
        )
    if n_null < 19:
        notes.append(
            f"With {n_null} shufflings, chance alone is below all of them in one case of {n_null + 1}."
        )
    return tuple(notes)


def _predict(
    head: Head, counts: np.ndarray, weight_decay: Any, feature_decay: Any, criterion: str, squares: float
) -> tuple[UFMSolution | None, tuple[str, ...]]:
    notes: tuple[str, ...] = ()
    decay = np.atleast_1d(check_numbers(weight_decay, "weight_decay"))
    layers: list[Any] = list(head.layers.values())
    decay = np.repeat(decay, len(layers)) if len(decay) == 1 else decay
    if len(decay) != len(layers):
        raise ValueError(
            f"weight_decay must be a number or one for each of the head's layers {list(head.layers)}"
        )
    first: Any = layers[0].weight
    if len(counts) < head.n_classes:
        return None, (
            f"No prediction: {head.n_classes - len(counts)} of the classifier's classes have no rows here.",
        )
    if feature_decay is None:
        weights = float(first.detach().double().square().sum())
        if not squares * weights > 0:
            return None, ("No prediction: the features or the head's first layer are all zero.",)
        feature_decay = float(decay[0] * weights / squares)
        notes = (
            f"The features act as if they had a decay of {feature_decay:.3g}: the head's balance says so.",
        )
    widths = [layer.weight.shape for layer in layers]
    if criterion == "ce" and min(min(s) for s in widths) < len(counts) - 1:
        return None, ("No prediction: with cross-entropy the simplex needs layers of K - 1 units at least.",)
    try:
        predicted = predict_geometry(
            counts, decay, feature_decay, width=int(min(min(s) for s in widths)),
            criterion=criterion, bias=getattr(layers[-1], "bias", None) is not None,
        )  # fmt: skip
    except NotImplementedError as error:
        return None, (f"No prediction: {error}.",)
    return predicted, notes


def _compare(W: Float[np.ndarray, "K d"], predicted: UFMSolution) -> tuple[float, float]:
    W = W - W.mean(0) if predicted.loss_name == "ce" else W
    gram, wanted = W @ W.T, predicted.classifier_gram
    sizes = np.linalg.norm(gram), np.linalg.norm(wanted)
    if not min(sizes) > 0:
        return np.nan, np.nan
    norms = predicted.classifier_norms
    spread = np.ptp(norms) > 1e-9 * norms.max()
    correlation = float(spearmanr(norms, np.sqrt(np.diag(gram))).statistic) if spread else np.nan
    return float(np.linalg.norm(gram / sizes[0] - wanted / sizes[1])), correlation
