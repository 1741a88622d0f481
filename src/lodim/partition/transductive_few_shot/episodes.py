r"""Few-shot episodes: how well do methods label queries, with few labelled rows a class, on the same draws?

An episode draws ``n_way`` classes and of each ``n_shot`` labelled rows (the support) and queries, which are labelled
together. Features go through

- CL2N (:func:`centre_and_normalise`): minus the mean of the *base* classes, on which the network was trained, then to
  length 1;
- the shift of queries: :math:`x \leftarrow x + \bar x_{support} - \bar x_{query}`, for methods that see all queries
  (not for SimpleShot, which labels one at a time).

Episodes are independent draws: 95 % intervals are :math:`1.96\, s / \sqrt{n}` of accuracies, and of their *differences*
where two methods are compared, which cancels what makes an episode easy for both.

Source: Ziko and others 2021, arXiv 2106.09516; CL2N and SimpleShot: Wang and others 2019, arXiv 1911.04623; Dirichlet
shares: Veilleux and others 2021, arXiv 2106.12252. Many episodes are one batch for
:func:`~lodim.partition.transductive_few_shot.slk.solve`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from sklearn.base import clone

from lodim.neighbors.queries import safe_scale
from lodim.partition.transductive_few_shot.slk import SLK, check_settings, in_unit, needs_graph, solve
from lodim.plots import new_axes
from lodim.randomness import RandomState, as_generator
from lodim.results import Result
from lodim.validation import (
    ConvergenceWarning,
    check_choice,
    check_counts,
    check_in_range,
    check_labels,
    check_matrix,
    check_numbers,
    checked,
    plain_array,
    warn,
)

__all__ = [
    "Episodes",
    "FewShotAccuracy",
    "PairedDifference",
    "centre_and_normalise",
    "few_shot_episodes",
    "sample_episodes",
    "search_lambda",
]

Method = str | SLK | Callable[[np.ndarray, np.ndarray], Any]
LAMBDAS = (0.05, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0)
_BATCH = 400_000  # entries of the graphs of a batch, which stay in the cache


@checked
def centre_and_normalise(X: Any, mean: Any = None) -> Float[np.ndarray, "n d"]:
    """Subtract a mean and bring every row to length 1 (CL2N).

    Parameters
    ----------
    X : array-like, shape (n, n_features)
        Single precision stays so.
    mean : array-like, shape (n_features,), optional
        Of the base classes' features; default: of ``X`` itself.

    Returns
    -------
    ndarray
        A row equal to the mean has no direction and is zero.

    Examples
    --------
    >>> centre_and_normalise([[4.0, 5.0], [1.0, 1.0]], mean=[1.0, 1.0])
    array([[0.6, 0.8],
           [0. , 0. ]])
    """
    rows = _rows(X, "X")
    return _directions(rows, rows.mean(0) if mean is None else mean, "mean")


def _directions(rows: Float[np.ndarray, "n d"], mean: Any, name: str) -> Float[np.ndarray, "n d"]:
    base = check_matrix(np.atleast_2d(check_numbers(mean, name)), name=name)
    if base.size != rows.shape[1]:
        raise ValueError(f"{name} has {base.size} numbers but the rows {rows.shape[1]}; they must match")
    # halves, as the difference of large numbers could be beyond the largest there is
    half = rows / 2 - base.reshape(-1).astype(rows.dtype) / 2
    top = np.abs(half).max(1, keepdims=True)
    half /= np.where(top > 0, top, 1)
    length = np.linalg.norm(half, axis=1, keepdims=True)
    return half / np.where(length > 0, length, 1)


def _rows(X: Any, name: str) -> np.ndarray:
    single = str(getattr(X, "dtype", "")).rpartition(".")[2] in ("float16", "bfloat16", "float32")
    return check_matrix(X, name=name, dtype=np.float32 if single else np.float64)


# ---- drawing


@dataclass(frozen=True)
class Episodes(Result):
    """Rows of episodes, the support first.

    Attributes
    ----------
    rows : int ndarray, shape (n_episodes, n)
    codes : int ndarray, shape (n_episodes, n)
        Which of the episode's classes a row has, 0 to n_way - 1; also of queries.
    classes : ndarray, shape (n_episodes, n_way)
        Labels of the episode's classes.
    n_support : int
        So many first rows of an episode have a label: n_way times n_shot.
    """

    rows: np.ndarray
    codes: np.ndarray
    classes: np.ndarray
    n_support: int

    @property
    def given(self) -> Int[np.ndarray, "n_episodes n"]:
        """The codes with -1 for queries: all that a method is told."""
        return np.where(np.arange(self.rows.shape[1]) < self.n_support, self.codes, -1)

    def __str__(self) -> str:
        n_way, n = self.classes.shape[1], self.rows.shape[1]
        shots, queries = self.n_support // n_way, n - self.n_support
        return f"{len(self.rows)} episodes of {n_way} classes, {shots} labelled rows each, {queries} queries"


@checked
def sample_episodes(
    labels: Any,
    *,
    n_way: int | np.integer = 5,
    n_shot: int | np.integer = 1,
    n_query: int | np.integer = 15,
    n_episodes: int | np.integer = 600,
    dirichlet: float | int | np.floating | None = None,
    random_state: RandomState = None,
) -> Episodes:
    """Draw episodes; with one seed, fewer of them are the first of more.

    Parameters
    ----------
    labels : array-like, shape (n,)
    n_way, n_shot, n_query : int
        Classes of an episode; of each, labelled rows and queries. No row is drawn twice in an episode.
    dirichlet : float, optional
        Concentration of the classes' shares in an episode's ``n_way * n_query`` queries, e.g. 2; the smaller, the
        less balanced. Default: ``n_query`` of each.
    random_state : int, Generator or None

    Raises
    ------
    ValueError
        Fewer classes than ``n_way``, or a class with too few rows. With ``dirichlet`` all queries may be of one class.

    Examples
    --------
    >>> episodes = sample_episodes([0] * 5 + [1] * 5, n_way=2, n_query=3, n_episodes=4, random_state=0)
    >>> print(episodes)
    4 episodes of 2 classes, 1 labelled rows each, 6 queries
    >>> episodes.given[0]
    array([ 0,  1, -1, -1, -1, -1, -1, -1])
    """
    check_counts(n_way=n_way, n_shot=n_shot, n_query=n_query, n_episodes=n_episodes)
    if dirichlet is not None and not check_in_range(dirichlet, "dirichlet", low=0, high=1e6) > 0:
        raise ValueError("dirichlet must be positive; small values give few classes nearly all queries")
    known = check_labels(labels, len(plain_array(labels, "labels", rows=True)), name="labels")
    classes, inverse, counts = np.unique(known, return_inverse=True, return_counts=True)
    if len(classes) < n_way:
        raise ValueError(f"n_way={n_way} classes are asked for, labels has {len(classes)}")
    n_all = int(n_way * n_query)
    most = n_query if dirichlet is None else n_all
    if counts.min() < n_shot + most:
        few = classes[counts.argmin()]
        raise ValueError(
            f"class {few!s} has {counts.min()} rows, and {n_shot + most} are needed for n_shot={n_shot} and up to "
            f"{most} queries; leave it out, or ask for fewer"
        )
    rng = as_generator(random_state)
    members = np.split(np.argsort(inverse, kind="stable"), np.cumsum(counts)[:-1])
    rows = np.empty((n_episodes, n_way * n_shot + n_all), dtype=np.int64)
    codes, chosen = np.empty_like(rows), np.empty((n_episodes, n_way), dtype=np.int64)
    for e in range(n_episodes):
        chosen[e] = rng.choice(len(classes), n_way, replace=False)
        sizes = np.full(n_way, n_query)
        if dirichlet is not None:
            sizes = rng.multinomial(n_all, rng.dirichlet(np.full(n_way, dirichlet)))
        drawn = [rng.choice(members[c], n_shot + size, replace=False) for c, size in zip(chosen[e], sizes)]
        rows[e] = np.concatenate([own[:n_shot] for own in drawn] + [own[n_shot:] for own in drawn])
        codes[e] = np.concatenate([np.repeat(np.arange(n_way), n_shot), np.repeat(np.arange(n_way), sizes)])
    return Episodes(rows, codes, classes[chosen], int(n_way * n_shot))


# ---- labelling


def batches(n_episodes: int, n: int) -> Iterator[slice]:
    """Slices of episodes of n rows that are solved together."""
    size = max(1, _BATCH // n**2)
    return (slice(start, start + size) for start in range(0, n_episodes, size))


def _label(
    name: str,
    method: Method,
    X: Float[np.ndarray, "b n d"],
    given: Int[np.ndarray, "b n"],
    n_way: int,
    shift: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """What a method says of every row of episodes, and which of these converged."""
    if isinstance(method, str):  # SimpleShot: the nearest mean of a class, queries one at a time
        return label_by_slk(SLK(lam=0, max_iter=0), X, given, n_way)
    if shift:
        n_support = int((given[0] >= 0).sum())
        support, query = X[:, :n_support], X[:, n_support:]
        moved = query + (support.mean(1, keepdims=True) - query.mean(1, keepdims=True))
        X = np.concatenate([support, moved], axis=1)
    if isinstance(method, SLK):
        return label_by_slk(method, X, given, n_way)
    said = np.stack(
        [
            check_labels(method(x.copy(), y.copy()), len(y), name=f"what method {name!r} returns")
            for x, y in zip(X, given)
        ]
    )
    if said.dtype.kind not in "iuf":
        raise ValueError(
            f"method {name!r} must return numbers as y has, 0 to {n_way - 1}, got {said[0, 0]!r}"
        )
    return said, np.ones(len(X), dtype=bool)


def label_by_slk(
    model: SLK, X: Float[np.ndarray, "b n d"], given: Int[np.ndarray, "b n"], n_way: int
) -> tuple[Int[np.ndarray, "b n"], Bool[np.ndarray, " b"]]:
    """Labels of a batch, and which episodes converged."""
    check_settings(model)
    n, scale = X.shape[1], safe_scale(X.reshape(-1, X.shape[2]))
    if (graph := needs_graph(model)) and model.n_neighbors >= n:
        raise ValueError(f"n_neighbors={model.n_neighbors} must be below the {n} rows of an episode")
    if model.n_clusters not in (None, n_way):
        raise ValueError(f"n_clusters={model.n_clusters}, but episodes have {n_way} classes; leave it None")
    X = X if scale == 1 else X / scale
    W, edge = _graphs(X, int(model.n_neighbors)) if graph else (None, None)
    found = solve(in_unit(model, scale), X, given, n_way, W, edge)
    return found.labels, found.converged


def _graphs(
    X: Float[np.ndarray, "b n d"], k: int
) -> tuple[Float[np.ndarray, "b n n"], Float[np.ndarray, " b"]]:
    """Of each problem what :func:`~lodim.neighbors.knn_affinity` gives, dense, and its mean squared edge.

    Of neighbours at equal distance either may have taken another one.
    """
    X = X - X.mean(1, keepdims=True)
    squares = np.square(X).sum(2)
    scales = squares[:, :, None] + squares[:, None]
    between, rounding = scales - 2 * X @ X.swapaxes(1, 2), 8 * np.finfo(X.dtype).eps * scales
    between = np.where(between > rounding, between, 0)  # copies of a row are at no distance
    own = np.arange(X.shape[1])
    between[:, own, own] = np.inf
    W = np.zeros_like(between)
    np.put_along_axis(W, np.argpartition(between, k - 1, axis=2)[:, :, :k], 1, axis=2)
    W = np.maximum(W, W.swapaxes(1, 2))
    between[:, own, own] = 0
    return W, (W * between).sum((1, 2)) / W.sum((1, 2))


# ---- evaluating


@dataclass(frozen=True)
class PairedDifference(Result):
    """How much more accurate one method is than another on the same episodes, with the half-width of its interval."""

    first: str
    second: str
    mean: float
    ci95: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return abs(self.mean) > self.ci95

    def __str__(self) -> str:
        return f"{self.first} - {self.second}: {100 * self.mean:+.2f} +- {100 * self.ci95:.2f} points"


@dataclass(frozen=True)
class FewShotAccuracy(Result):
    """Accuracy of methods on the queries of the same episodes.

    Attributes
    ----------
    names : tuple of str
    mean, ci95 : tuple of float
        Mean accuracy, and half the width of its 95 % interval.
    per_episode : ndarray, shape (n_methods, n_episodes)
    n_way, n_shot, n_query : int
    """

    names: tuple[str, ...]
    mean: tuple[float, ...]
    ci95: tuple[float, ...]
    per_episode: np.ndarray
    n_way: int
    n_shot: int
    n_query: int

    @property
    def best(self) -> str:
        """The method of the highest mean."""
        return self.names[int(np.argmax(self.mean))]

    @checked
    def difference(self, first: str, second: str) -> PairedDifference:
        """Compare two methods by their differences episode by episode; an unknown name is a ValueError."""
        a, b = (self.names.index(check_choice(name, self.names, "name")) for name in (first, second))
        return PairedDifference(first, second, *_interval(self.per_episode[a] - self.per_episode[b]))

    def to_frame(self) -> pd.DataFrame:
        """One row a method, the best first: columns method, mean, ci95."""
        frame = pd.DataFrame({"method": self.names, "mean": self.mean, "ci95": self.ci95})
        return frame.sort_values("mean", ascending=False, ignore_index=True)

    def plot(self, ax: Any = None) -> Any:
        """Draw means with their intervals, the best on top.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
        """
        ax, frame = new_axes(ax), self.to_frame()[::-1]
        ax.errorbar(100 * frame["mean"], frame["method"], xerr=100 * frame["ci95"], fmt="o")
        ax.set(xlabel="accuracy (%)", title=f"{self.n_way} classes, {self.n_shot} labelled each")
        return ax

    def __str__(self) -> str:
        head = f"{self.per_episode.shape[1]} episodes, {self.n_way} classes, {self.n_shot} labelled each"
        return "\n".join(
            [head, *(f"{m:>20}  {100 * a:.2f} +- {100 * c:.2f} %" for m, a, c in self.to_frame().values)]
        )


def _interval(values: np.ndarray) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval."""
    return float(values.mean()), float(1.96 * values.std(ddof=1) / math.sqrt(len(values)))


@checked
def few_shot_episodes(
    features: Any,
    labels: Any,
    methods: Mapping[str, Method] | None = None,
    *,
    n_way: int | np.integer = 5,
    n_shot: int | np.integer = 1,
    n_query: int | np.integer = 15,
    n_episodes: int | np.integer = 600,
    base_mean: Any = None,
    shift: bool = True,
    dirichlet: float | int | np.floating | None = None,
    random_state: RandomState = 0,
) -> FewShotAccuracy:
    """Measure methods on few-shot episodes, all on the same ones.

    Parameters
    ----------
    features : array-like, shape (n, n_features)
        Of a frozen network, for images of classes that it was not trained on. Single precision is computed in it.
    labels : array-like, shape (n,)
    methods : mapping, optional
        By name: an :class:`SLK`, all of whose episodes are solved in batches; ``"simpleshot"``, the nearest class mean
        without a shift of queries; or any ``function(X, y) -> labels`` of one episode, where y is 0 to n_way - 1,
        and -1 for queries.
        Default: SimpleShot, K-means and K-modes (``lam=0``), SLK-Means and SLK-MS (``prototype="mode"``: mean shift).
    n_way, n_shot, n_query, n_episodes, dirichlet
        See :func:`sample_episodes`.
    base_mean : array-like, shape (n_features,), optional
        Mean feature of the base classes: features go through :func:`centre_and_normalise`. Default: they are used as
        they are.
    shift : bool
        Move an episode's queries so that their mean is that of the support. It takes classes to be balanced.
    random_state : int, Generator or None
        Draws the episodes.

    Raises
    ------
    ValueError
        Bad input, a single episode, classes with too few rows, a method that does not return one number a row, an SLK
        whose ``n_clusters`` is not ``n_way``.

    Warns
    -----
    ConvergenceWarning
        Some episodes of an SLK did not converge.

    Examples
    --------
    >>> import numpy as np
    >>> from lodim.partition import few_shot_episodes
    >>> y = np.repeat(np.arange(6), 30)
    >>> X = np.eye(6)[y] + 0.3 * np.random.default_rng(0).normal(size=(180, 6))
    >>> found = few_shot_episodes(X, y, n_episodes=100, random_state=0)
    >>> found.difference("SLK-Means", "SimpleShot").is_clear
    True
    """
    rows = _rows(features, "features")
    rows = rows if base_mean is None else _directions(rows, base_mean, "base_mean")
    check_in_range(n_episodes, "n_episodes", low=2, integer=True)
    check_labels(labels, len(rows), name="labels")
    named = _usual_methods() if methods is None else dict(methods)
    if not named:
        raise ValueError("methods is empty: give at least one, by its name")
    for name, method in named.items():
        if not isinstance(name, str):
            raise TypeError(f"names of methods must be texts, got {name!r}")
        if isinstance(method, str):
            check_choice(method, ("simpleshot",), f"method {name!r}")
        elif not isinstance(method, SLK) and (isinstance(method, type) or not callable(method)):
            raise TypeError(
                f'method {name!r} must be an SLK, "simpleshot" or a function of X and y, got {method!r}; '
                "for a classifier give lambda X, y: classifier.fit(X[y >= 0], y[y >= 0]).predict(X)"
            )
    episodes = sample_episodes(
        labels, n_way=n_way, n_shot=n_shot, n_query=n_query, n_episodes=n_episodes, dirichlet=dirichlet,
        random_state=random_state,
    )  # fmt: skip
    given, n = episodes.given, episodes.rows.shape[1]
    accuracy, unsettled = np.empty((len(named), n_episodes)), np.zeros(len(named), dtype=int)
    for part in batches(int(n_episodes), n):
        X, truth = rows[episodes.rows[part]], episodes.codes[part]
        for i, (name, method) in enumerate(named.items()):
            said, settled = _label(name, method, X, given[part], int(n_way), shift)
            accuracy[i, part] = (said == truth)[:, episodes.n_support :].mean(1)
            unsettled[i] += (~settled).sum()
    for name, count in zip(named, unsettled):
        if count:
            warn(
                f"{name}: {count} of {n_episodes} episodes did not converge; raise max_iter",
                ConvergenceWarning,
            )
    means, halves = zip(*map(_interval, accuracy))
    return FewShotAccuracy(tuple(named), means, halves, accuracy, int(n_way), int(n_shot), int(n_query))


def _usual_methods() -> dict[str, Method]:
    return {
        "SimpleShot": "simpleshot",
        "K-means": SLK(lam=0),
        "K-modes": SLK(lam=0, prototype="mode"),
        "SLK-Means": SLK(),
        "SLK-MS": SLK(prototype="mode"),
    }


@checked
def search_lambda(
    features: Any, labels: Any, model: SLK | None = None, grid: Sequence[float] = LAMBDAS, **episodes: Any
) -> FewShotAccuracy:
    """Try lambdas on validation episodes, of classes that are neither trained on nor tested.

    Parameters
    ----------
    features : array-like, shape (n, n_features)
    labels : array-like, shape (n,)
    model : SLK, optional
        Its other settings.
    grid : sequence of float
        The paper's by default.
    **episodes
        As in :func:`few_shot_episodes`, which also says what is raised; all lambdas meet the same episodes.

    Returns
    -------
    FewShotAccuracy
        Methods are named by their lambda: ``float(found.best)``.

    Examples
    --------
    >>> import numpy as np
    >>> from lodim.partition import search_lambda
    >>> y = np.repeat(np.arange(6), 30)
    >>> X = np.eye(6)[y] + 0.3 * np.random.default_rng(0).normal(size=(180, 6))
    >>> search_lambda(X, y, grid=(0.0, 0.5), n_episodes=50, random_state=0).best  # round groups: neighbours add nothing
    '0.0'
    """
    base = SLK() if model is None else model
    lams = [float(check_in_range(lam, "grid", low=0, high=1e6)) for lam in grid]
    if not lams:
        raise ValueError("grid is empty: give at least one lambda")
    models = {str(lam): clone(base).set_params(lam=lam) for lam in lams}
    return few_shot_episodes(features, labels, models, **episodes)
