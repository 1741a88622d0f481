"""Environments: rows split by a label, and linear structural equation models that are intervened on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.sparse.csgraph import breadth_first_order, connected_components

from lodim.randomness import RandomState, as_generator
from lodim.validation import (
    check_choice,
    check_counts,
    check_in_range,
    check_labels,
    check_matrix,
    check_numbers,
    checked,
    plain_array,
)

__all__ = [
    "LinearSEM",
    "Rows",
    "project",
    "random_sem",
    "read_covariances",
    "read_environments",
    "split_environments",
    "with_target",
]

_BLOCK = 250_000  # entries of covariances worked on at a time
KINDS = ("soft", "hard", "noise")
_NOISE = (0.25, 4.0)  # variances of noise that is intervened on, as a multiple of what they were


# ---- environments as they are given


@dataclass(frozen=True)
class Rows:
    """Environments: their names, each one's columns X and target y, and the columns' names where they have any."""

    names: tuple[str, ...]
    X: tuple[np.ndarray, ...]
    y: tuple[np.ndarray, ...]
    columns: tuple[str, ...] | None

    @property
    def n_columns(self) -> int:
        """Of X."""
        return self.X[0].shape[1]


def read_environments(environments: Any, *, min_rows: int = 2) -> Rows:
    """Check pairs (X, y), in a sequence or by name in a mapping."""
    if not isinstance(environments, Iterable) or isinstance(environments, str):
        raise TypeError(
            f"environments must be a sequence of pairs (X, y), or a mapping of names to them, got "
            f"{type(environments).__name__}"
        )
    named = environments.items() if isinstance(environments, Mapping) else enumerate(environments)
    names: list[str] = []
    tables: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    columns: tuple[str, ...] | None = None
    for name, pair in named:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ValueError(
                f"environments must be pairs (X, y), one an environment; environment {name} is none. "
                "split_environments makes them of one table"
            )
        X = check_matrix(pair[0], name=f"X of environment {name}")
        y = check_numbers(check_labels(pair[1], len(X), name=f"y of environment {name}"), "y")
        if not np.isfinite(y).all():
            raise ValueError(f"y of environment {name} has infinite values; drop those rows")
        its = tuple(map(str, pair[0].columns)) if hasattr(pair[0], "columns") else None
        if tables and (X.shape[1] != tables[0].shape[1] or its != columns):
            raise ValueError(
                f"environments must have the same columns: {name} has {_said(X, its)}, {names[0]} has "
                f"{_said(tables[0], columns)}"
            )
        if len(X) < min_rows:
            raise ValueError(
                f"environment {name} has {len(X)} rows where at least {min_rows} are needed; leave it out, or merge it "
                "with another"
            )
        columns = its
        names.append(str(name))
        tables.append(X)
        targets.append(y)
    if len(names) < 2:
        raise ValueError(f"at least 2 environments are needed, got {len(names)}")
    return Rows(tuple(names), tuple(tables), tuple(targets), columns)


def _said(X: np.ndarray, columns: tuple[str, ...] | None) -> str:
    return f"{X.shape[1]} columns" + (f" ({', '.join(columns[:6])})" if columns else "")


def read_covariances(covariances: Any) -> np.ndarray:
    """Check a stack of covariance matrices of (X, y), y last."""
    stack = check_numbers(covariances, "covariances")
    if stack.ndim != 3 or stack.shape[1] != stack.shape[2] or stack.shape[1] < 2:
        raise ValueError(
            f"covariances must have shape (environments, d + 1, d + 1), the target last, got {stack.shape}"
        )
    if len(stack) < 2:
        raise ValueError(f"covariances must be those of at least 2 environments, got {len(stack)}")
    for part in np.array_split(stack, math.ceil(stack.size / _BLOCK)):  # blocks that stay in the cache
        scale = np.maximum(part.max(), -part.min())
        if not np.isfinite(scale):
            raise ValueError("covariances have NaN or infinite entries")
        if (part - part.swapaxes(1, 2)).max() > 1e-8 * scale:  # each difference is there with both signs
            raise ValueError("covariances must be symmetric")
        try:
            np.linalg.cholesky(
                part + 1e-8 * max(scale, 1e-300) * np.eye(part.shape[1])
            )  # rounding may be negative
        except np.linalg.LinAlgError:
            raise ValueError(
                "covariances must not have negative eigenvalues: no variables have these"
            ) from None
    return stack


@checked
def split_environments(X: Any, y: Any, by: Any) -> dict[str, tuple[Any, np.ndarray]]:
    """Split one table into environments, in the order of their sorted labels.

    Parameters
    ----------
    X : data frame or array-like, shape (n, d)
    y : array-like, shape (n,), or str
        The target, or the name of its column, which is taken out of X.
    by : array-like, shape (n,), or str
        Label of each row's environment, or the name of its column. That column is taken out of X, since it is
        constant in each environment. Bin numbers first (``pandas.qcut``): each value is an environment.

    Returns
    -------
    dict
        Pairs (X, y) by label.

    Raises
    ------
    ValueError
        A name that is no column, or labels of another number than rows.
    """
    for name, given in (("y", y), ("by", by)):
        if isinstance(given, str) and given not in getattr(X, "columns", ()):
            raise ValueError(f"{name} is {given!r}, which is no column of X; give the labels themselves")
    taken = [given for given in (y, by) if isinstance(given, str)]
    if len(taken) == 2 and y == by:
        raise ValueError(f"y and by are the same column, {y!r}")
    target, label = (X[given].to_numpy() if isinstance(given, str) else given for given in (y, by))
    X = X.drop(columns=taken) if taken else X
    table = X if hasattr(X, "iloc") else check_matrix(X)
    labels, values = check_labels(label, len(table), name="by"), check_labels(target, len(table))
    values = check_numbers(values, "y")
    rows = {str(each): np.flatnonzero(labels == each) for each in np.unique(labels)}
    return {
        name: (table.iloc[at] if hasattr(table, "iloc") else table[at], values[at])
        for name, at in rows.items()
    }


def with_target(Phi: np.ndarray) -> np.ndarray:
    """Return the map of (X, y) to (Phi X, y)."""
    P = np.zeros((len(Phi) + 1, Phi.shape[1] + 1))
    P[:-1, :-1], P[-1, -1] = Phi, 1
    return P


def project(covariances: np.ndarray, P: np.ndarray) -> np.ndarray:
    """Return P S P^T of every S of a stack: tall products, a block of environments at a time."""
    found = np.empty((len(covariances), len(P), len(P)))
    step = max(1, _BLOCK // P.shape[1] ** 2)
    for start in range(0, len(found), step):
        part = covariances[start : start + step]
        half = (part.reshape(-1, P.shape[1]) @ P.T).reshape(len(part), P.shape[1], len(P))
        tall = np.ascontiguousarray(half.swapaxes(1, 2)).reshape(-1, P.shape[1])
        found[start : start + step] = (tall @ P.T).reshape(len(part), len(P), len(P))
    return found


# ---- models that make them


@dataclass(frozen=True, eq=False)
class LinearSEM:
    """A linear structural equation model V = B V + noise without cycles, whose last node is the target y.

    The other nodes are the columns of X, or X is a linear map of them. A stack of models, axes in front, is one of
    these too; an intervention on many environments makes one.

    Parameters
    ----------
    B : array-like, shape (..., n, n)
        Weight of the edge from node j to node i in row i, column j.
    noise_var : array-like, shape (..., n)
        Variances of the independent Gaussian noises.
    mixing : array-like, shape (n_observed, n - 1), optional
        Indirect observation: X is this matrix times the nodes but the target.

    Raises
    ------
    ValueError
        Shapes that do not fit, cycles, or negative variances.
    """

    B: Any
    noise_var: Any
    mixing: Any = None

    def __post_init__(self) -> None:
        B, noise = check_numbers(self.B, "B"), check_numbers(self.noise_var, "noise_var")
        if B.ndim < 2 or B.shape[-1] != B.shape[-2] or B.shape[-1] < 2:
            raise ValueError(f"B must be square, of two nodes or more, got shape {B.shape}")
        if noise.shape != B.shape[:-1]:
            raise ValueError(f"noise_var must have shape {B.shape[:-1]}, as B has rows; got {noise.shape}")
        if not (np.isfinite(B).all() and np.isfinite(noise).all() and (noise >= 0).all()):
            raise ValueError("B and noise_var must be finite, and noise_var not negative")
        edges = (B != 0).any(axis=tuple(range(B.ndim - 2)))
        if edges.diagonal().any() or connected_components(edges, connection="strong")[0] < len(edges):
            raise ValueError("B has a cycle: no order of the nodes puts causes before effects")
        if self.mixing is not None:
            A = check_matrix(self.mixing, name="mixing")
            if A.shape[1] != B.shape[-1] - 1:
                raise ValueError(
                    f"mixing must have {B.shape[-1] - 1} columns, a node each, got shape {A.shape}"
                )
            object.__setattr__(self, "mixing", A)
        object.__setattr__(self, "B", B)
        object.__setattr__(self, "noise_var", noise)

    @property
    def edges(self) -> np.ndarray:
        """Whether node j is a parent of node i in any model of the stack, in row i and column j."""
        return (self.B != 0).any(axis=tuple(range(self.B.ndim - 2)))

    def descendants(self, node: int | np.integer) -> tuple[int, ...]:
        """Nodes that a node has an effect on, itself left out."""
        n = self.B.shape[-1]
        at = int(check_in_range(node, "node", low=-n, high=n - 1, integer=True)) % n
        found = breadth_first_order(self.edges.T, at, return_predecessors=False)
        return tuple(int(i) for i in sorted(found) if i != at)

    def causal_head(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the Phi that keeps the parents of y, and the w of their effects (of the first of a stack)."""
        parents = np.flatnonzero(self.edges[-1])
        B = self.B.reshape(-1, *self.B.shape[-2:])[0]
        return np.eye(self.B.shape[-1] - 1)[parents], B[-1, parents]

    def intervene(
        self,
        sites: Sequence[int] | np.ndarray | int,
        kind: str = "soft",
        random_state: RandomState = None,
        *,
        size: int | np.integer | None = None,
        scale: float | int | np.floating = 1.5,
    ) -> LinearSEM:
        """Return another environment, or a stack of ``size`` environments.

        Parameters
        ----------
        sites : sequence of int
            Nodes. The last, the target, may be one of them: then nothing need be invariant.
        kind : {"soft", "hard", "noise"}
            New weights of the edges there are, uniform in (-scale, scale); no edges, and noise of another variance;
            noise of another variance alone. Variances are multiplied by numbers log-uniform in (1/4, 4).
        random_state : int, Generator or None
        size : int, optional
        scale : float

        Raises
        ------
        ValueError
            Sites that are no nodes, or a stack that is to be stacked again.
        """
        check_choice(kind, KINDS, "kind")
        check_in_range(scale, "scale", low=0, high=1e6)
        if self.B.ndim > 2:
            raise ValueError(
                "this is a stack of environments already; intervene on the model that it came from"
            )
        if size is not None:
            check_counts(size=size)
        n = len(self.B)
        at = np.atleast_1d(plain_array(sites, "sites"))
        if at.ndim != 1 or at.dtype.kind not in "iu" or not at.size or (at < -n).any() or (at >= n).any():
            raise ValueError(f"sites must be whole numbers of nodes, below {n}, got {sites!r}"[:200])
        rng, stack = as_generator(random_state), () if size is None else (int(size),)
        B, noise = (np.broadcast_to(part, (*stack, *part.shape)).copy() for part in (self.B, self.noise_var))
        if kind == "soft":
            B[..., at, :] = np.where(
                self.B[at] != 0, rng.uniform(-float(scale), float(scale), (*stack, len(at), n)), 0
            )
        else:
            noise[..., at] *= np.exp(rng.uniform(math.log(_NOISE[0]), math.log(_NOISE[1]), (*stack, len(at))))
        if kind == "hard":
            B[..., at, :] = 0
        return replace(self, B=B, noise_var=noise)

    def covariance(self) -> np.ndarray:
        """Exact covariance of the columns of X and of y, which is last: shape (..., d + 1, d + 1)."""
        M = self._effects()
        return (M * self.noise_var[..., None, :]) @ M.swapaxes(-1, -2)

    def sample(self, n: int | np.integer, random_state: RandomState = None) -> tuple[np.ndarray, np.ndarray]:
        """Draw rows: X of shape (..., n, d) and y of shape (..., n)."""
        check_counts(n=n)
        shape = (*self.noise_var.shape[:-1], int(n), self.noise_var.shape[-1])
        eta = as_generator(random_state).normal(size=shape) * np.sqrt(self.noise_var)[..., None, :]
        rows = eta @ self._effects().swapaxes(-1, -2)
        return rows[..., :-1], rows[..., -1]

    def _effects(self) -> np.ndarray:
        """What a unit of each noise does to the columns of X and to y."""
        M = np.linalg.inv(np.eye(self.B.shape[-1]) - self.B)
        return M if self.mixing is None else with_target(self.mixing) @ M


@checked
def random_sem(
    n: int | np.integer,
    in_degree: int | np.integer = 2,
    random_state: RandomState = None,
    *,
    scale: float | int | np.floating = 1.5,
) -> LinearSEM:
    """Draw a model of n nodes: a random order, in which each has ``in_degree`` of those before as parents, or all.

    The target is in the middle of the order and has a child. Weights are uniform in (-scale, scale), noises of
    variance 1.

    Parameters
    ----------
    n : int
        At least 3.
    in_degree : int
    random_state : int, Generator or None
    scale : float
    """
    check_in_range(n, "n", low=3, integer=True)
    check_counts(in_degree=in_degree)
    check_in_range(scale, "scale", low=0, high=1e6)
    rng, middle = as_generator(random_state), int(n) // 2
    order = rng.permutation(int(n) - 1)
    order = np.insert(order, middle, int(n) - 1)  # the last node is the target
    B = np.zeros((int(n), int(n)))
    for place in range(1, int(n)):
        before = rng.permutation(place)
        if place == middle + 1:
            before = np.r_[middle, before[before != middle]]
        parents = order[before[: int(in_degree)]]
        B[order[place], parents] = rng.uniform(-float(scale), float(scale), len(parents))
    return LinearSEM(B, np.ones(int(n)))
