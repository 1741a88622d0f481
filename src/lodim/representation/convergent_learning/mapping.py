r"""From few units of one network to each unit of another: sparse maps, and what an upper half makes of a mapped layer.

Units standardised, each unit :math:`y_j` of net b is predicted from those of net a by

.. math:: \min_w \frac{1}{2n} \Vert y_j - X w \Vert^2 + \alpha \Vert w \Vert_1 ,

over a path of alpha. :math:`X^\top X` is one for all units j and all alpha, and is computed once. Beside the path stand
its two ends: the best single unit, which is what matching finds, and the map without a penalty. R2 is of rows that the
map has not seen: 1 is perfect, 0 what the mean of the unit predicts.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin, clone
from sklearn.linear_model import LinearRegression, lasso_path
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from lodim.nets.activations import batches_of, the_layer
from lodim.plots import COLORS, new_axes
from lodim.randomness import RandomState, root_seed
from lodim.representation.activations import check_places, is_map, labels_of, placed_units
from lodim.representation.convergent_learning.matching import (
    UnitMatcher,
    layer_outputs,
    paired_rows,
    read_rows,
)
from lodim.representation.convergent_learning.similarity import dead_units
from lodim.results import Result
from lodim.validation import (
    ConvergenceWarning,
    check_counts,
    check_in_range,
    check_kind,
    check_labels,
    check_matrix,
    check_numbers,
    checked,
    plain_array,
    warn,
)

__all__ = ["MappingComparison", "SparsePredictor", "StitchingTest", "compare_mappings", "stitching_test"]

_SHORTEST = 1e-3  # least alpha of a path, as a share of the one at which all weights are 0


class SparsePredictor(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Predict each unit of net b from few units of net a, over a path of penalties.

    Parameters
    ----------
    alphas : array-like, optional
        Penalties, 0 allowed; None: ``n_alphas`` of them in geometric progression, from the least at which all weights
        are 0 down to a thousandth of it.
    standardize : bool
        Scale units to variance 1, or only centre them.
    n_alphas : int
    test_size : float
        Share of the rows on which maps are judged.
    max_iter : int
        Of coordinate descent, for each alpha and unit.
    random_state : int, Generator or None
        Draws these rows.

    Attributes
    ----------
    alphas_ : ndarray, shape (n_alphas,)
        In falling order.
    coefs_ : ndarray, shape (n_alphas, q, p)
        Weights between units as they were scaled.
    r2_ : ndarray, shape (n_alphas, q)
        Of the held-out rows; NaN for a unit that does not vary.
    n_nonzero_ : ndarray of int, shape (n_alphas, q)
        Units of a that a unit of b takes.
    r2_single_, r2_full_ : ndarray, shape (q,)
        Of the best single unit, and of least squares.
    single_ : ndarray of int, shape (q,)
        That unit of a: the largest absolute correlation.
    alpha_ : float
        The penalty that predicts held-out rows best, over all units.
    coef_, intercept_ : ndarray, shapes (q, p) and (q,)
        Its map, between units as they came.
    n_iter_ : int
        Most rounds of coordinate descent.
    converged_ : ndarray of bool, shape (q,)
    n_features_in_ : int
    """

    def __init__(
        self,
        alphas: Any = None,
        standardize: Any = True,
        n_alphas: Any = 20,
        test_size: Any = 0.5,
        max_iter: Any = 2000,
        random_state: Any = None,
    ) -> None:
        self.alphas = alphas
        self.standardize = standardize
        self.n_alphas = n_alphas
        self.test_size = test_size
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X: Any, Y: Any, groups: Any = None) -> SparsePredictor:
        """Find the maps on some of the rows, judge them on the others.

        Parameters
        ----------
        X : array-like, shape (n, p)
        Y : array-like, shape (n, q) or (n,)
        groups : array-like, shape (n,), optional
            Rows of one group (the places of one image) are not parted.

        Raises
        ------
        ValueError
            Bad input, different numbers of rows, Y without a unit that varies, one group.

        Warns
        -----
        ConvergenceWarning
            Coordinate descent was not at an end after ``max_iter`` rounds.
        """
        check_counts(n_alphas=self.n_alphas, max_iter=self.max_iter)
        check_kind(self.standardize, bool, "standardize")
        if not 0 < check_in_range(self.test_size, "test_size", low=0.0, high=1.0) < 1:
            raise ValueError(f"test_size must be between 0 and 1, got {self.test_size}")
        if Y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        x, y = read_rows(X, Y, 4)
        validate_data(self, X if hasattr(X, "columns") else x, skip_check_array=True)
        self._one_axis = plain_array(Y, "Y").ndim == 1
        train, test = self._split(len(x), groups)
        if min(len(train), len(test)) < 2:
            raise ValueError(
                f"test_size={self.test_size} leaves {len(train)} rows to fit and {len(test)} to judge: two each are "
                f"needed, got n_samples = {len(x)}"
            )
        (xs, x_mean, x_scale, _), (ys, y_mean, y_scale, dead) = (
            _scaled(rows, train, bool(self.standardize)) for rows in (x, y)
        )
        if dead.all():
            raise ValueError(
                "Y has no unit that varies in the rows drawn for the fit: there is nothing to predict"
            )
        X_train, Y_train = np.asfortranarray(xs[train]), np.asfortranarray(ys[train])
        n, p, q = len(train), x.shape[1], y.shape[1]
        gram, products = np.ascontiguousarray(X_train.T @ X_train), X_train.T @ Y_train
        self.alphas_ = self._path(products / n)
        full = np.linalg.lstsq(X_train, Y_train, rcond=None)[0].T
        self.coefs_ = np.zeros((len(self.alphas_), q, p))
        self.coefs_[self.alphas_ == 0] = full
        self.converged_, self.n_iter_ = np.ones(q, dtype=bool), 1
        penalised = self.alphas_[self.alphas_ > 0]
        for unit in np.flatnonzero(~dead) if len(penalised) else []:
            with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):  # one is told for all
                _, path, _, rounds = lasso_path(
                    X_train, Y_train[:, unit], alphas=penalised, precompute=gram, Xy=products[:, unit].copy(),
                    max_iter=int(self.max_iter), return_n_iter=True, check_input=False,
                )  # fmt: skip
            self.coefs_[: len(penalised), unit] = path.T
            self.converged_[unit] = max(rounds) < self.max_iter
            self.n_iter_ = max(self.n_iter_, *(int(each) for each in rounds))
        if not self.converged_.all():
            warn(
                f"coordinate descent was not at an end after {self.max_iter} rounds for {(~self.converged_).sum()} of "
                f"{q} units: raise max_iter",
                ConvergenceWarning,
            )
        lengths = np.sqrt(np.diag(gram))
        correlation = np.abs(products) / np.where(lengths > 0, lengths, 1)[:, None]
        self.single_ = correlation.argmax(0)
        single = np.zeros((q, p))
        at = np.arange(q), self.single_
        squares = np.diag(gram)[self.single_]
        single[at] = products[self.single_, np.arange(q)] / np.where(squares > 0, squares, 1)
        X_test, Y_test = xs[test], ys[test]
        # what varies less than this on the rows held out is constant there
        least = np.where(dead, np.inf, 1e-24 * np.square(Y_train).mean(0))
        self.r2_ = np.stack([_r2(X_test, Y_test, weights, least) for weights in self.coefs_])
        self.r2_single_, self.r2_full_ = (_r2(X_test, Y_test, weights, least) for weights in (single, full))
        self.n_nonzero_ = np.count_nonzero(self.coefs_, axis=2)
        seen = np.isfinite(self.r2_[0])
        # of equal ones the sparsest
        best = int(self.r2_[:, seen].mean(1).argmax()) if seen.any() else len(self.alphas_) - 1
        self.alpha_ = float(self.alphas_[best])
        coef = self.coefs_[best] * y_scale[:, None] / x_scale
        intercept = y_mean - coef @ x_mean
        self.coef_: np.ndarray = coef[0] if self._one_axis else coef
        self.intercept_: Any = float(intercept[0]) if self._one_axis else intercept
        return self

    def predict(self, X: Any) -> Float[np.ndarray, "*shape"]:
        """Predict the units of b, shape (m, q), with the map of ``alpha_``."""
        check_is_fitted(self)
        data = check_matrix(X)
        validate_data(self, X if hasattr(X, "columns") else data, reset=False, skip_check_array=True)
        return data @ self.coef_.T + self.intercept_

    def _split(self, n: int, groups: Any) -> tuple[np.ndarray, np.ndarray]:
        seed = root_seed(self.random_state) % 2**32
        if groups is None:
            return next(ShuffleSplit(1, test_size=self.test_size, random_state=seed).split(np.empty(n)))
        named = check_labels(groups, n, name="groups")
        owner = pd.factorize(named.astype(named.dtype.newbyteorder("=")))[0]
        if not owner.any():
            raise ValueError("groups must be two or more: rows of one group are not parted")
        cut = GroupShuffleSplit(1, test_size=self.test_size, random_state=seed)
        return next(cut.split(np.empty(n), groups=owner))

    def _path(self, slopes: Float[np.ndarray, "p q"]) -> Float[np.ndarray, " n_alphas"]:
        if self.alphas is None:
            top = float(np.abs(slopes).max())
            return top * np.geomspace(1, _SHORTEST, int(self.n_alphas)) if top > 0 else np.ones(1)
        alphas = np.sort(check_numbers(self.alphas, "alphas").ravel())[::-1].copy()
        if not len(alphas) or not np.isfinite(alphas).all() or alphas[-1] < 0:
            raise ValueError(f"alphas must be finite numbers of 0 or more, at least one, got {self.alphas}")
        return alphas


def _scaled(rows: np.ndarray, train: np.ndarray, standardize: bool) -> tuple[np.ndarray, ...]:
    """Units less their mean and over their deviation (dead ones: 0), both on the rows of the fit."""
    mean, deviation = rows[train].mean(0), rows[train].std(0)
    dead = dead_units(mean, deviation)
    scale = np.where(dead, 1.0, deviation) if standardize else np.ones(len(mean))
    return (rows - mean) / scale * ~dead, mean, scale, dead


def _r2(X: np.ndarray, Y: np.ndarray, weights: np.ndarray, least: np.ndarray) -> Float[np.ndarray, " q"]:
    rest, whole = np.square(Y - X @ weights.T).sum(0), np.square(Y - Y.mean(0)).sum(0)
    known = whole > least * len(Y)
    return np.where(known, 1 - rest / np.where(known, whole, 1), np.nan)


# ---- the three kinds of map beside each other


@dataclass(frozen=True)
class MappingComparison(Result):
    """How well units of one net are predicted from one, few or all units of the other.

    Attributes
    ----------
    direction : tuple of str
        "a to b" and "b to a"; the entries below are of one and the other.
    r2_single, r2_sparse, r2_full : tuple of float
        Of rows not seen, means over units that vary.
    n_nonzero : tuple of float
        Mean number of units that the sparse map takes for a unit.
    n_units : tuple of int
        Of how many: units of the net that is predicted from.
    alpha : float
        Penalty of the sparse map.
    """

    direction: tuple[str, ...]
    r2_single: tuple[float, ...]
    r2_sparse: tuple[float, ...]
    r2_full: tuple[float, ...]
    n_nonzero: tuple[float, ...]
    n_units: tuple[int, ...]
    alpha: float

    def __str__(self) -> str:
        return "\n".join(
            f"{way}: R2 {one:.3f} from the best unit, {few:.3f} from {count:.1f} of {units} units, {every:.3f} from all"
            for way, one, few, every, count, units in zip(
                self.direction, self.r2_single, self.r2_sparse, self.r2_full, self.n_nonzero, self.n_units
            )
        )

    def to_frame(self) -> Any:
        """Return one row a direction."""
        return pd.DataFrame(
            {
                "direction": self.direction, "r2_single": self.r2_single, "r2_sparse": self.r2_sparse,
                "r2_full": self.r2_full, "n_nonzero": self.n_nonzero, "n_units": self.n_units,
            }
        )  # fmt: skip

    def plot(self, ax: Any = None) -> Any:
        """Draw the three R2 of each direction."""
        ax = new_axes(ax)
        for at, (way, color) in enumerate(zip(self.direction, COLORS)):
            heights = self.r2_single[at], self.r2_sparse[at], self.r2_full[at]
            ax.bar(np.arange(3) + 0.4 * at - 0.2, heights, 0.36, color=color, label=way)
        ax.set_xticks(range(3), ["best unit", f"few units\n(alpha = {self.alpha:g})", "all units"])
        ax.set(ylabel="R2 of rows not seen")
        ax.legend()
        return ax


@checked
def compare_mappings(
    X: Any,
    Y: Any,
    *,
    alpha: float | int = 0.1,
    groups: Any = None,
    test_size: float = 0.5,
    random_state: RandomState = 0,
) -> MappingComparison:
    """Predict units of each net from one, from few and from all units of the other.

    Parameters
    ----------
    X, Y : array-like, shapes (n, p) and (n, q)
    alpha : float
        Penalty of the sparse map, units scaled to variance 1: the larger, the fewer.
    groups : array-like, shape (n,), optional
        Rows of one group (the places of one image) are not parted.
    test_size : float
        Share of the rows on which maps are judged.
    random_state : int, Generator or None
        Draws these rows, the same for both directions.
    """
    if not check_in_range(alpha, "alpha", low=0.0) > 0:
        raise ValueError(f"alpha must be positive, got {alpha}")
    seed, found = root_seed(random_state), []
    for source, target in ((X, Y), (Y, X)):
        rows, wanted = (plain_array(each, name) for each, name in ((source, "X"), (target, "Y")))
        model = SparsePredictor([alpha], test_size=test_size, random_state=seed)
        model.fit(rows[:, None] if rows.ndim == 1 else rows, wanted, groups)
        known = np.isfinite(model.r2_[0])
        if not known.any():
            raise ValueError("no unit varies both in the rows of the fit and in the others: give more rows")
        means = [float(part[known].mean()) for part in (model.r2_single_, model.r2_[0], model.r2_full_)]
        found.append((*means, float(model.n_nonzero_[0, known].mean()), int(model.n_features_in_)))
    single, sparse, full, count, units = zip(*found)
    return MappingComparison(("a to b", "b to a"), single, sparse, full, count, units, float(alpha))


# ---- stitching


@dataclass(frozen=True)
class StitchingTest(Result):
    """Accuracy of net b's upper layers on what net a says, mapped to b's units.

    Attributes
    ----------
    accuracy : float
        Of the stitched net.
    accuracy_a, accuracy_b : float
        Of both nets as they are.
    accuracy_constant : float
        Of b's upper layers when they see the mean of b's layer whatever the input: what no map at all gives.
    n_test : int
    mapping : str
    """

    accuracy: float
    accuracy_a: float
    accuracy_b: float
    accuracy_constant: float
    n_test: int
    mapping: str

    def __str__(self) -> str:
        return (
            f"stitched ({self.mapping}) {self.accuracy:.4f}; a {self.accuracy_a:.4f}, b {self.accuracy_b:.4f}, b on a "
            f"constant {self.accuracy_constant:.4f} ({self.n_test} samples)"
        )


class _Said(nn.Module):
    """Stands in for a layer and returns what it was told to."""

    said: Tensor

    def forward(self, *_: Any, **__: Any) -> Tensor:
        return self.said


@checked
def stitching_test(
    model_a: nn.Module,
    model_b: nn.Module,
    layer_a: str,
    layer_b: str,
    train: Any,
    test: Any,
    *,
    mapping: Any = None,
    max_positions: int | np.integer | None = None,
    batch_size: int | np.integer = 256,
    random_state: RandomState = 0,
) -> StitchingTest:
    """Feed a layer of net a, mapped to the units of a layer of net b, into what follows that layer in b.

    What a map by activations alone keeps may not be what b needs, and the other way round: this asks b.

    Parameters
    ----------
    model_a, model_b : nn.Module
        Classifiers of the same inputs; neither is changed.
    layer_a, layer_b : str
        Whose outputs have the same places (images: the same height and width).
    train : array, Tensor or iterable of batches
        The map is found on these; labels are not used.
    test : iterable of pairs (inputs, labels)
    mapping : regressor or "one_to_one", optional
        With ``coef_`` and ``intercept_`` after ``fit(X, Y)``, such as :class:`SparsePredictor`; or each unit of b from
        the unit of a that :class:`UnitMatcher` gives it. None: least squares.
    max_positions : int, optional
        At most so many places of an image in the fit of the map.
    batch_size : int
        Of an array or tensor.
    random_state : int, Generator or None
        Draws the places.

    Raises
    ------
    ValueError
        No such layer, layers with different places, batches of ``test`` without labels, a model that returns no row of
        logits a sample.
    """
    check_counts(batch_size=batch_size)
    if isinstance(mapping, str) and mapping != "one_to_one":
        raise ValueError(f"mapping must be a regressor, 'one_to_one' or None, got {mapping!r}")
    if mapping is not None and not isinstance(mapping, str) and not hasattr(mapping, "fit"):
        raise TypeError(f"mapping must be a regressor, 'one_to_one' or None, got a {type(mapping).__name__}")
    if max_positions is not None:
        check_counts(max_positions=max_positions)
    models = (model_a, model_b)
    pairs = paired_rows(
        models, (layer_a, layer_b), train, "channels", max_positions, batch_size, root_seed(random_state)
    )
    X, Y = (np.concatenate([part.double().cpu().numpy() for part in side]) for side in zip(*pairs))
    weight, bias = _fit_map(mapping, X, Y)
    (name_a, part_a), (name_b, part_b) = the_layer(model_a, layer_a), the_layer(model_b, layer_b)
    stitched, said = copy.deepcopy(model_b), _Said()
    if not name_b:
        raise ValueError("layer_b must be a part of model_b, not the whole: nothing follows it")
    stitched.set_submodule(name_b, said)
    hits, count = np.zeros(4), 0
    for batch in batches_of(test, batch_size):
        a = layer_outputs(model_a, batch, {"": model_a, name_a: part_a})
        b = layer_outputs(model_b, batch, {"": model_b, name_b: part_b})
        labels = labels_of(batch, len(a[""]))
        if labels is None:
            raise ValueError("test holds no labels: let it yield pairs (inputs, labels)")
        labels = check_places(labels)
        shape, axis = b[name_b].shape, 1 if is_map(b[name_b], part_b) else -1
        placed = placed_units(a[name_a], part_a).double().cpu()
        mapped = (placed @ torch.from_numpy(weight).T + torch.from_numpy(bias)).movedim(-1, axis)
        if mapped.shape != shape:
            raise ValueError(
                f"layer_a has places of another shape than layer_b: mapped {tuple(mapped.shape)}, not {tuple(shape)}"
            )
        constant = (
            torch.from_numpy(Y.mean(0)).expand(*mapped.movedim(axis, -1).shape).movedim(-1, axis).clone()
        )
        answers = [a[""], b[""]]
        for told in (mapped, constant):
            said.said = told.to(b[name_b])
            answers.append(layer_outputs(stitched, batch, {"": stitched})[""])
        for at, logits in enumerate(answers):
            if logits.ndim != 2:
                raise ValueError(
                    f"a model must return a row of logits a sample, got shape {tuple(logits.shape)}"
                )
            if len(labels) and labels.max() >= logits.shape[1]:
                raise ValueError(f"label {labels.max()} has no output: a model has {logits.shape[1]}")
            hits[at] += (logits.argmax(1).cpu().numpy() == labels).sum()
        count += len(labels)
    if not count:
        raise ValueError("test holds no batch")
    of_a, of_b, of_both, of_none = (float(hit) for hit in hits / count)
    label = mapping if isinstance(mapping, str) else type(mapping).__name__
    return StitchingTest(of_both, of_a, of_b, of_none, count, "least squares" if mapping is None else label)


def _fit_map(mapping: Any, X: np.ndarray, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights, shape (q, p), and constants."""
    if not isinstance(mapping, str):
        model = LinearRegression() if mapping is None else clone(mapping)
        model.fit(X, Y)
        if not (hasattr(model, "coef_") and hasattr(model, "intercept_")):
            raise TypeError(
                f"mapping must be a linear regressor, with coef_ and intercept_; {type(model).__name__} has none"
            )
        return np.asarray(model.coef_, dtype=float), np.asarray(model.intercept_, dtype=float)
    found = UnitMatcher().fit(Y, X)  # a partner for each unit of b
    weight = np.zeros((Y.shape[1], X.shape[1]))
    has = np.flatnonzero(found.match_ >= 0)
    partner = found.match_[has]
    weight[has, partner] = found.match_score_[has] * Y.std(0)[has] / X.std(0)[partner]
    return weight, Y.mean(0) - weight @ X.mean(0)
