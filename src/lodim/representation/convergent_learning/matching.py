r"""Which unit of one network is which of another: pairs by correlation or mutual information.

From scores :math:`S_{ij}` of unit i of net a and unit j of net b:

.. math::
    \text{semi: } \pi(i) = \arg\max_j S_{ij}, \qquad
    \text{one to one: } \pi = \arg\max_{\pi \text{ injective}} \sum_i S_{i \pi(i)} .

Where the two differ, several units of a are like one unit of b. Within one net a unit may not be its own partner.

A unit that (almost) never varies is dead. Its correlation is 0 by definition, it has no partner and counts in no mean,
unless ``include_dead=True``: a third of a layer may be dead, and a mean over it says more of that than of the match.

**Mutual information** of two units is that of their bins, :math:`\sum_{kl} p_{kl} \log (p_{kl} / p_k p_l)` in nats.
Zeros of a rectified unit are a bin of their own, the rest is cut at quantiles. Of unrelated units it is
:math:`(B_i - 1)(B_j - 1) / 2n` on average (n rows, B occupied bins), which is subtracted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from scipy.special import entr
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from lodim.linalg import CrossMoments
from lodim.nets.activations import batches_of, the_layer, watch_layers
from lodim.plots import COLORS, new_axes
from lodim.randomness import RandomState, derive_seed, root_seed
from lodim.representation.activations import REDUCTIONS, attended, unit_rows
from lodim.representation.convergent_learning.similarity import dead_units, read_units
from lodim.results import Result
from lodim.validation import (
    check_choice,
    check_counts,
    check_in_range,
    check_kind,
    check_matrix,
    check_tensor,
    checked,
    plain_array,
    to_numpy,
)

__all__ = [
    "METHODS",
    "SIMILARITIES",
    "Consensus",
    "Matching",
    "TopActivating",
    "UnitMatcher",
    "consensus_units",
    "dead_sides",
    "layer_outputs",
    "match_units",
    "mutual_information",
    "paired_rows",
    "read_rows",
    "top_activating",
]

SIMILARITIES = ("correlation", "abs_correlation", "mutual_information")
_CELLS = 16_000_000  # of tables held at a time
_ZERO = 1e-6  # of a unit's largest value: what a rectified unit says at rest

METHODS = ("one_to_one", "semi")


@dataclass(frozen=True)
class Matching(Result):
    """A partner in net b for each unit of net a.

    Attributes
    ----------
    match : ndarray of int, shape (p,)
        Unit of b; -1 for a unit of a that is dead or left over.
    scores : ndarray, shape (p,)
        Of the pair; 0 without a partner.
    mean : float
        Over the live units of a, those that were left over too.
    method : {"one_to_one", "semi"}
    live : ndarray of bool, shape (p,)
    """

    match: Int[np.ndarray, " p"]
    scores: Float[np.ndarray, " p"]
    mean: float
    method: str
    live: Bool[np.ndarray, " p"]

    def __str__(self) -> str:
        dead, left = int((~self.live).sum()), int((self.live & (self.match < 0)).sum())
        rest = "".join(f", {count} {what}" for count, what in ((dead, "dead"), (left, "left over")) if count)
        matched = f"{int((self.match >= 0).sum())} of {len(self.match)} units matched ({self.method})"
        return f"{matched}{rest}; mean score {self.mean:.3g}"

    def to_frame(self) -> Any:
        """Return one row a unit of a, the best matched first."""
        import pandas as pd

        table = pd.DataFrame({"unit_b": self.match, "score": self.scores, "live": self.live})
        return table.rename_axis("unit_a").sort_values("score", ascending=False, kind="stable")

    def plot(self, ax: Any = None) -> Any:
        """Draw the scores of live units in falling order."""
        ax = new_axes(ax)
        scores = np.sort(self.scores[self.live])[::-1]
        ax.plot(np.arange(1, len(scores) + 1), scores, ".-", color=COLORS[0], label=self.method)
        ax.set(xlabel="units of a, best first", ylabel="score of the pair")
        ax.legend()
        return ax


@checked
def match_units(
    scores: Any, *, method: str = "one_to_one", dead_a: Any = None, dead_b: Any = None, within: bool = False
) -> Matching:
    """Pair the units of two nets from the scores of all pairs.

    Parameters
    ----------
    scores : array-like, shape (p, q)
        Larger is closer.
    method : {"one_to_one", "semi"}
        The assignment of the largest sum, which leaves units over where p != q; or each unit's best (of equal ones the
        first).
    dead_a, dead_b : array-like of bool, shapes (p,) and (q,), optional
        Units without a partner, which count in no mean; None: all take part.
    within : bool
        Both are the same units: the diagonal is forbidden.

    Raises
    ------
    ValueError
        No live unit, one of another shape than the scores, scores that are not finite.
    """
    check_choice(method, METHODS, "method")
    table = check_matrix(scores, name="scores")
    if within and table.shape[0] != table.shape[1]:
        raise ValueError(f"scores within one net must be square, got shape {table.shape}")
    live = []
    for name, dead, count in zip(("dead_a", "dead_b"), (dead_a, dead_b), table.shape):
        mask = np.zeros(count, dtype=bool) if dead is None else plain_array(dead, name)
        if mask.shape != (count,) or mask.dtype.kind != "b":
            raise ValueError(
                f"{name} must be {count} truth values, one a unit, got {mask.dtype} of shape {mask.shape}"
            )
        if mask.all():
            raise ValueError(f"{name} says that all {count} units are dead: there is nothing to match")
        live.append(np.flatnonzero(~mask))
    a, b = live
    among = table[np.ix_(a, b)]
    if within:
        if len(a) < 2:
            raise ValueError("scores within one net need at least two live units")
        among = np.where(a[:, None] == b, -np.inf, among)
    if method == "semi":
        rows, columns = np.arange(len(a)), among.argmax(1)
    else:
        rows, columns = linear_sum_assignment(among, maximize=True)
    match, found = np.full(len(table), -1), np.zeros(len(table))
    match[a[rows]], found[a[rows]] = b[columns], among[rows, columns]
    alive = np.zeros(len(table), dtype=bool)
    alive[a] = True
    return Matching(match, found, float(found[a].mean()), method, alive)


# ---- scores of all pairs


def read_rows(X: Any, Y: Any, least: int = 2) -> tuple[Float[np.ndarray, "n p"], Float[np.ndarray, "n q"]]:
    """Check two matrices with the same rows; a single unit of Y may have one axis."""
    x = read_units(X, "X", least)
    y = read_units(plain_array(Y, "Y")[:, None] if plain_array(Y, "Y").ndim == 1 else Y, "Y", least)
    if len(x) != len(y):
        raise ValueError(
            f"X and Y must have the same rows, got shapes {x.shape} and {y.shape}; rows are samples: did you transpose "
            "one?"
        )
    return x, y


def _codes(X: Float[np.ndarray, "n p"], n_bins: int) -> Int[np.ndarray, "n p"]:
    """The bin of each value: of a unit that is never negative and often zero the zeros, then equal counts.

    Equal values are never parted, so that a unit may have fewer bins.
    """
    codes = np.empty(X.shape, dtype=np.intp)
    for unit, values in enumerate(np.ascontiguousarray(X.T)):
        rest = _ZERO * values.max()
        at_rest = (values <= rest) if values.min() >= 0 else np.zeros(len(values), dtype=bool)
        moving = values[~at_rest]
        parts = n_bins - bool(at_rest.any())
        edges = np.quantile(moving, np.arange(1, parts) / parts) if len(moving) else np.empty(0)
        cut = np.searchsorted(np.unique(edges), values, side="right") + at_rest.any()
        codes[:, unit] = np.where(at_rest, 0, cut)
    return codes


def _one_hot(codes: Int[np.ndarray, "n p"], n_bins: int) -> Float[np.ndarray, "n pb"]:
    n, p = codes.shape
    table = np.zeros((n, p * n_bins), dtype=np.float32)
    table[np.arange(n)[:, None], np.arange(p) * n_bins + codes] = 1
    return table


@checked
def mutual_information(
    X: Any, Y: Any, *, n_bins: int | np.integer = 10, bias_correction: str | None = "miller_madow"
) -> Float[np.ndarray, "p q"]:
    """Mutual information of every unit of X with every unit of Y, in nats.

    All joint histograms are one product of indicator matrices, by blocks.

    Parameters
    ----------
    X, Y : array-like, shapes (n, p) and (n, q)
    n_bins : int
        For each unit, at least 2; the zeros of a rectified unit are one of them.
    bias_correction : {"miller_madow", None}
        Subtract what unrelated units have on average, which may leave less than 0. It takes rows to be independent.
    """
    check_in_range(n_bins, "n_bins", low=2, integer=True)
    check_choice(bias_correction, ("miller_madow", None), "bias_correction")
    x, y = read_rows(X, Y)
    bins, n = int(n_bins), len(x)
    a, b = _codes(x, bins), _codes(y, bins)
    p, q = a.shape[1], b.shape[1]
    found = np.empty((p, q))
    units = max(1, _CELLS // (q * bins * bins))
    rows = max(1, _CELLS // ((min(units, p) + q) * bins))
    for first in range(0, p, units):
        some = slice(first, first + units)
        joint = np.zeros((min(units, p - first) * bins, q * bins))
        for start in range(0, n, rows):  # counts below 2^24 are exact in single precision
            part = slice(start, start + rows)
            joint += _one_hot(a[part, some], bins).T @ _one_hot(b[part], bins)
        shares = joint.reshape(-1, bins, q, bins) / n
        of_a, of_b = shares.sum(3), shares.sum(1)
        found[some] = entr(of_a).sum(1) + entr(of_b).sum(2) - entr(shares).sum((1, 3))
        if bias_correction is not None:
            found[some] -= ((of_a > 0).sum(1) - 1) * ((of_b > 0).sum(2) - 1) / (2 * n)
    return found


def dead_sides(moments: CrossMoments, eps: float = 1e-8) -> list[Bool[np.ndarray, " p"]]:
    """:func:`dead_units` of both sides."""
    return [
        dead_units(to_numpy(mean), np.sqrt(np.maximum(to_numpy(squares), 0) / moments.count), eps)
        for mean, squares in zip(moments.means, moments.squares)
    ]


# ---- the estimator


class UnitMatcher(BaseEstimator):
    """Match the units of two nets (or of one with itself) by what they say of the same inputs.

    Parameters
    ----------
    similarity : {"correlation", "abs_correlation", "mutual_information"} or callable
        How close two units are; ``similarity(X, Y)`` returns all pairs, shape (p, q), larger is closer.
    method : {"one_to_one", "semi"}
        See :func:`match_units`.
    include_dead : bool
        Whether dead units take part, with score 0.
    n_bins : int
        For mutual information.
    eps : float
        A unit whose standard deviation is below this share of the layer's median is dead.

    Attributes
    ----------
    matching_ : Matching
    match_ : ndarray of int, shape (p,)
        Unit of Y for each unit of X, -1 without one.
    match_score_ : ndarray, shape (p,)
    mean_score_ : float
        Over live units of X.
    random_score_ : float
        Its expected value for pairs drawn at random, one to one.
    semi_match_, semi_score_ : ndarray, shape (p,)
        The best partner whether or not another unit has it too.
    score_matrix_ : ndarray, shape (p, q)
        0 for dead units.
    dead_a_, dead_b_ : ndarray of bool, shapes (p,) and (q,)
    n_features_in_ : int

    Examples
    --------
    >>> import numpy as np
    >>> from lodim.representation import UnitMatcher
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> UnitMatcher().fit(X, 5 * X[:, [2, 0, 1]] + 1).match_
    array([1, 2, 0])
    """

    def __init__(
        self,
        similarity: Any = "correlation",
        method: Any = "one_to_one",
        include_dead: Any = False,
        n_bins: Any = 10,
        eps: Any = 1e-8,
    ) -> None:
        self.similarity = similarity
        self.method = method
        self.include_dead = include_dead
        self.n_bins = n_bins
        self.eps = eps

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.single_output = False
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, Y: Any = None) -> UnitMatcher:
        """Match the units of X with those of Y.

        Parameters
        ----------
        X : array-like, shape (n, p)
        Y : array-like, shape (n, q), optional
            None: with the other units of X itself, which says how redundant one net is.

        Raises
        ------
        ValueError
            Bad input, different numbers of rows (is one transposed?), a net without a live unit.
        """
        self._check_options()
        within = Y is None
        x, y = read_rows(X, X if within else Y)
        validate_data(self, X if hasattr(X, "columns") else x, skip_check_array=True)
        moments = CrossMoments().update(x, y)
        if not self._needs_rows():
            scores = self._of_correlations(moments)
        elif not callable(self.similarity):
            scores = mutual_information(x, y, n_bins=self.n_bins)
        else:
            scores = check_matrix(self.similarity(x, y), name="what similarity returns")
            if scores.shape != (x.shape[1], y.shape[1]):
                raise ValueError(
                    f"similarity must return all pairs, shape {(x.shape[1], y.shape[1])}, got {scores.shape}"
                )
        return self._keep(scores, moments, within)

    @checked
    def fit_moments(self, moments: CrossMoments, *, within: bool = False) -> UnitMatcher:
        """As :meth:`fit`, from moments gathered in one pass.

        Parameters
        ----------
        moments : CrossMoments
        within : bool
            Both sides are the same net.

        Raises
        ------
        ValueError
            No rows, or a similarity that needs the rows themselves.
        """
        self._check_options()
        if self._needs_rows():
            raise ValueError(
                f"similarity must be a correlation to be found from moments, got {self.similarity!r}: fit the rows"
            )
        if moments.count < 2:
            raise ValueError(f"moments must be of two rows or more, got {moments.count}")
        self.n_features_in_ = int(moments.cross.shape[0])
        if hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        return self._keep(self._of_correlations(moments), moments, within)

    @checked
    def fit_models(
        self,
        model_a: nn.Module,
        model_b: nn.Module,
        layer_a: str,
        layer_b: str,
        loader: Any,
        *,
        reduce: str = "channels",
        max_positions: int | np.integer | None = None,
        batch_size: int | np.integer = 256,
        random_state: RandomState = None,
    ) -> UnitMatcher:
        """Match the units of a layer of each of two models on the same inputs; correlations need no activations kept.

        Parameters
        ----------
        model_a, model_b : nn.Module
        layer_a, layer_b : str
            Names, or last parts of names.
        loader : array, Tensor or iterable of batches
            Gone through once: both models get each batch.
        reduce : {"channels", "mean", "flatten"}
            What a row is; see :func:`lodim.representation.collect`.
        max_positions : int, optional
            At most so many places of an image, the same in both models.
        batch_size : int
            Of an array or tensor.
        random_state : int, Generator or None
            Draws the places.

        Raises
        ------
        ValueError
            No such layer, no batch, layers with different numbers of rows.
        """
        self._check_options()
        check_choice(reduce, REDUCTIONS, "reduce")
        check_counts(batch_size=batch_size)
        if max_positions is not None:
            check_counts(max_positions=max_positions)
        pairs = paired_rows(
            (model_a, model_b),
            (layer_a, layer_b),
            loader,
            reduce,
            max_positions,
            batch_size,
            root_seed(random_state),
        )
        if self._needs_rows():
            x, y = (np.concatenate([to_numpy(part.double()) for part in side]) for side in zip(*pairs))
            return self.fit(x, y)
        moments = CrossMoments()
        for rows_a, rows_b in pairs:
            moments.update(rows_a, rows_b)
        return self.fit_moments(moments)

    def align(self, Y: Any) -> tuple[Any, Bool[np.ndarray, " p"]]:
        """Return columns of Y in the order of X's units, and which of these have a partner; columns of others are 0.

        Parameters
        ----------
        Y : array-like or Tensor, shape (m, q)
        """
        check_is_fitted(self)
        values = check_tensor(Y, "Y") if isinstance(Y, Tensor) else check_matrix(Y, name="Y")
        q = self.score_matrix_.shape[1]
        if values.ndim != 2 or values.shape[1] != q:
            raise ValueError(f"Y must have the {q} units it had in fit, got shape {tuple(values.shape)}")
        has = self.match_ >= 0
        order, mask = np.where(has, self.match_, 0), has.astype(float)
        if isinstance(values, Tensor):
            factor = torch.from_numpy(mask).to(values)
            return values[:, torch.from_numpy(order).to(values.device)] * factor, has
        return values[:, order] * mask, has

    def _check_options(self) -> None:
        if not callable(self.similarity):
            check_choice(self.similarity, SIMILARITIES, "similarity")
        check_choice(self.method, METHODS, "method")
        check_kind(self.include_dead, bool, "include_dead")
        check_in_range(self.n_bins, "n_bins", low=2, integer=True)
        check_in_range(self.eps, "eps", low=0.0, high=1.0)

    def _needs_rows(self) -> bool:
        return callable(self.similarity) or self.similarity == "mutual_information"

    def _of_correlations(self, moments: CrossMoments) -> Float[np.ndarray, "p q"]:
        found = np.nan_to_num(to_numpy(moments.correlation()))
        return np.abs(found) if self.similarity == "abs_correlation" else found

    def _keep(self, scores: np.ndarray, moments: CrossMoments, within: bool) -> UnitMatcher:
        self.dead_a_, self.dead_b_ = dead = dead_sides(moments, float(self.eps))
        scores = np.where(dead[0][:, None] | dead[1], 0.0, scores)
        for name, mask in zip("XX" if within else "XY", dead):
            if mask.all():
                raise ValueError(f"{name} has no unit that varies over the rows: all {len(mask)} are dead")
        masks = (None, None) if self.include_dead else dead
        found = {
            method: match_units(scores, method=method, dead_a=masks[0], dead_b=masks[1], within=within)
            for method in METHODS
        }
        self.score_matrix_, self.matching_ = scores, found[self.method]
        self.match_, self.match_score_ = self.matching_.match, self.matching_.scores
        self.mean_score_ = self.matching_.mean
        self.semi_match_, self.semi_score_ = found["semi"].match, found["semi"].scores
        a, b = (np.ones(len(d), dtype=bool) if self.include_dead else ~d for d in dead)
        allowed = np.outer(a, b)
        if within:
            np.fill_diagonal(allowed, False)
        share = min(1.0, b.sum() / a.sum())  # of a's units that have a partner
        self.random_score_ = float(scores[allowed].mean() * share)
        return self


def paired_rows(
    models: Sequence[nn.Module],
    layers: Sequence[str],
    loader: Any,
    reduce: str,
    positions: int | np.integer | None,
    batch_size: int | np.integer,
    seed: int,
) -> Iterator[list[Tensor]]:
    """Give each batch to both models, and yield what their layers say of it as rows of units.

    Raises
    ------
    ValueError
        No such layer, no batch.
    """
    if not all(layers):
        raise ValueError(f"layer_a and layer_b must be names of layers, got {tuple(layers)}")
    sides = [(model, *the_layer(model, name)) for model, name in zip(models, layers)]
    number = -1
    for number, batch in enumerate(batches_of(loader, batch_size)):
        drawn = derive_seed(seed, number)
        rows = []
        for model, full, layer in sides:
            output = layer_outputs(model, batch, {full: layer})[full]
            mask = attended(batch, output)
            rows.append(unit_rows(output, layer, reduce, positions=positions, mask=mask, seed=drawn)[0])
        yield rows
    if number < 0:
        raise ValueError("the loader holds no batch")


def layer_outputs(model: nn.Module, batch: Any, layers: dict[str, nn.Module]) -> dict[str, Tensor]:
    """What some layers of a model return on one batch."""
    found: dict[str, Tensor] = {}
    watch_layers(model, [batch], layers, lambda _, outputs: found.update(outputs))
    return found


# ---- what a matching is good for


@dataclass(frozen=True)
class TopActivating(Result):
    """The samples on which matched units say most.

    Attributes
    ----------
    units_a, units_b : ndarray of int, shape (m,)
        The m matched pairs.
    top_a, top_b : ndarray of int, shape (m, k)
        Numbers of samples, largest activation first.
    overlap : ndarray, shape (m,)
        Share of the k samples that both have; k / n_samples on average by chance.
    n_samples : int
    """

    units_a: Int[np.ndarray, " m"]
    units_b: Int[np.ndarray, " m"]
    top_a: Int[np.ndarray, "m k"]
    top_b: Int[np.ndarray, "m k"]
    overlap: Float[np.ndarray, " m"]
    n_samples: int

    def __str__(self) -> str:
        k = self.top_a.shape[1]
        return (
            f"{len(self.overlap)} pairs share {self.overlap.mean():.0%} of their top {k} samples "
            f"(by chance {k / self.n_samples:.2g})"
        )

    def to_frame(self) -> Any:
        """Return one row a pair."""
        import pandas as pd

        return pd.DataFrame({"unit_a": self.units_a, "unit_b": self.units_b, "overlap": self.overlap})


@checked
def top_activating(
    X: Any, Y: Any, match: Any, *, n_top: int | np.integer = 9, samples: Any = None
) -> TopActivating:
    """Return for each matched pair the samples with the largest activations: what the two units respond to.

    Parameters
    ----------
    X, Y : array-like, shapes (n, p) and (n, q)
    match : array-like of int, shape (p,)
        ``UnitMatcher.match_``.
    n_top : int
        Samples for each unit.
    samples : array-like of int, shape (n,), optional
        Number of the sample that each row is of (``Activations.samples``): its largest row counts. None: a row a
        sample.
    """
    import pandas as pd

    x, y = read_rows(X, Y, 1)
    partner = plain_array(match, "match")
    if partner.shape != (x.shape[1],) or partner.dtype.kind not in "iu":
        raise ValueError(
            f"match must be {x.shape[1]} integers, one a unit of X, got {partner.dtype} of shape {partner.shape}"
        )
    if partner.max() >= y.shape[1] or partner.min() < -1 or not (partner >= 0).any():
        raise ValueError(
            f"match must name units of Y, 0 to {y.shape[1] - 1}, or -1 for none, and at least one"
        )
    owner = np.arange(len(x)) if samples is None else plain_array(samples, "samples")
    if owner.shape != (len(x),) or owner.dtype.kind not in "iu":
        raise ValueError(
            f"samples must be {len(x)} integers, one a row, got {owner.dtype} of shape {owner.shape}"
        )
    partner, owner = partner.astype(np.int64), owner.astype(np.int64)
    a = np.flatnonzero(partner >= 0)
    numbers = np.unique(owner)
    if check_in_range(n_top, "n_top", low=1, integer=True) > len(numbers):
        raise ValueError(
            f"n_top must be at most the number of different samples, {len(numbers)}, got {n_top}"
        )
    top = []
    for values in (x[:, a], y[:, partner[a]]):
        largest = pd.DataFrame(values).groupby(owner).max().to_numpy()
        top.append(numbers[np.argsort(-largest, axis=0, kind="stable")[: int(n_top)].T])
    overlap = np.array([len(np.intersect1d(*pair)) / int(n_top) for pair in zip(*top)])
    return TopActivating(a, partner[a], top[0], top[1], overlap, len(numbers))


@dataclass(frozen=True)
class Consensus(Result):
    """Units that several nets have in common.

    Attributes
    ----------
    names : tuple of str
    reference : str
        The net that is matched best by the others, whose units the columns below are.
    units : ndarray of int, shape (n_nets, p)
        Partner in each net, -1 without one.
    agreement : ndarray, shape (p,)
        Least correlation among all pairs of these units; 0 where a net has none.
    similarity : ndarray, shape (n_nets, n_nets)
        Mean one-to-one correlation of each two nets.
    """

    names: tuple[str, ...]
    reference: str
    units: Int[np.ndarray, "nets p"]
    agreement: Float[np.ndarray, " p"]
    similarity: Float[np.ndarray, "nets nets"]

    def __str__(self) -> str:
        count = int((self.agreement > 0.5).sum())
        return (
            f"{count} of {len(self.agreement)} units of {self.reference} have partners in all {len(self.names)} nets "
            "that correlate above 0.5 with each other"
        )

    def to_frame(self) -> Any:
        """Return one row a unit of the reference: its partners and how far they agree, the best first."""
        import pandas as pd

        table = pd.DataFrame(self.units.T, columns=list(self.names)).assign(agreement=self.agreement)
        return table.sort_values("agreement", ascending=False, kind="stable", ignore_index=True)


@checked
def consensus_units(representations: Mapping[str, Any] | Sequence[Any]) -> Consensus:
    """Match three nets or more, and find the units that all of them have.

    All are matched one to one with the net that has the largest sum of mean correlations with the others. A unit's
    partners need not agree among each other; how far they do is its agreement.

    Parameters
    ----------
    representations : mapping of names to matrices, or sequence of matrices
        Shapes (n, p_k), the same rows.
    """
    if isinstance(representations, str):
        raise TypeError(f"representations must be matrices, got {representations!r}")
    named = representations if isinstance(representations, Mapping) else dict(enumerate(representations))
    names, matrices = [str(name) for name in named], list(named.values())
    count = len(names)
    if count < 3:
        raise ValueError(f"representations must be of three nets or more, got {count}; UnitMatcher takes two")
    fitted = {(i, j): UnitMatcher().fit(matrices[i], matrices[j]) for i, j in _pairs(count)}
    similarity = np.eye(count)
    for (i, j), found in fitted.items():
        # of as many pairs as there can be: the same from either side
        partners = found.match_ >= 0
        similarity[i, j] = similarity[j, i] = found.match_score_[partners].mean()
    reference = int(similarity.sum(0).argmax())
    p = np.shape(matrices[reference])[1]
    units = np.full((count, p), -1)
    for k in range(count):
        if k == reference:
            units[k] = np.arange(p)
        elif reference < k:
            units[k] = fitted[reference, k].match_
        else:
            match = fitted[k, reference].match_
            units[k, match[match >= 0]] = np.flatnonzero(match >= 0)
    agreement = np.full(p, np.inf)
    for i, j in _pairs(count):
        both = (units[i] >= 0) & (units[j] >= 0)
        correlation = np.zeros(p)
        correlation[both] = fitted[i, j].score_matrix_[units[i][both], units[j][both]]
        agreement = np.minimum(agreement, correlation)
    complete = (units >= 0).all(0)
    return Consensus(tuple(names), names[reference], units, np.where(complete, agreement, 0.0), similarity)


def _pairs(count: int) -> Iterator[tuple[int, int]]:
    return ((i, j) for i in range(count) for j in range(i + 1, count))
