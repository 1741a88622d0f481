"""A database of vectors to retrieve from, which can grow, shrink, be stored and be swapped: :class:`NeighborIndex`.

Its search is :func:`lodim.neighbors.search.search_block`: a fast pass finds candidates, distances are computed again in
double precision, equal ones go by id. What finds the candidates (blocks, or faiss where it is installed) does not show
in the answer. With ``kind="ivf"`` it does: faiss then looks into some cells only, and :meth:`NeighborIndex.recall` says
what share of the true neighbours that finds.

Source: A. Blattmann and others, arXiv 2204.11824, section 3 (a database beside the generator, which may be
exchanged after training).
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from lodim.files import check_archive, open_whole
from lodim.neighbors.distances import by_difference, nearest_of
from lodim.neighbors.queries import in_own_unit, safe_scale
from lodim.neighbors.search import cells_index, search_block, single_unit
from lodim.validation import check_choice, check_in_range, check_matrix, checked, plain_array

__all__ = ["NeighborIndex"]

_ENTRIES = 1 << 24  # of the lists held at a time
_FARTHEST = 1e100  # in units of the rows
_FAR_OFF = 1e3  # in widths of the rows


@checked
class NeighborIndex:
    """Vectors with ids (and labels), and the nearest of them to any query.

    Parameters
    ----------
    metric : {"cosine", "l2"}
        1 - cos of the angle, or the Euclidean distance.
    backend : {"auto", "blocked", "faiss"}
        What finds the candidates of ``"flat"``; ``"auto"`` takes faiss where it is installed.
    kind : {"flat", "ivf"}
        Exact, or approximate by cells (needs faiss).
    n_lists, n_probe : int, optional
        Cells of ``"ivf"`` (at most the rows), and how many a query looks into; default: about the square root of the
        rows, and a sixteenth of that.

    Attributes
    ----------
    vectors : ndarray, shape (n, dim)
        As they were given: single precision stays so, anything else becomes double.
    ids : int64 ndarray, shape (n,)
        Ascending.
    labels : ndarray, shape (n,), or None

    Raises
    ------
    ValueError
        An option that does not exist.

    Examples
    --------
    >>> index = NeighborIndex("l2").fit([[0.0, 0.0], [3.0, 4.0]], ids=[7, 9])
    >>> index.kneighbors([[0.0, 1.0]], k=1)
    (array([[1.]]), array([[7]]))
    """

    def __init__(
        self,
        metric: str = "cosine",
        backend: str = "auto",
        kind: str = "flat",
        *,
        n_lists: int | np.integer | None = None,
        n_probe: int | np.integer | None = None,
    ) -> None:
        self.metric = check_choice(metric, ("cosine", "l2"), "metric")
        self.backend = check_choice(backend, ("auto", "blocked", "faiss"), "backend")
        self.kind = check_choice(kind, ("flat", "ivf"), "kind")
        self.n_lists, self.n_probe = (
            None if value is None else int(check_in_range(value, name, low=1, integer=True))
            for value, name in ((n_lists, "n_lists"), (n_probe, "n_probe"))
        )
        self._hold(np.empty((0, 0)), np.empty(0, dtype=np.int64), None)

    def _hold(self, vectors: np.ndarray, ids: np.ndarray, labels: np.ndarray | None) -> None:
        order = np.argsort(ids)  # neighbours equally far go by row, and so by id
        self.vectors, self.ids = vectors[order], ids[order]
        self.labels = None if labels is None else labels[order]
        self._protect()
        self._rows: np.ndarray | None = None
        self._cells: Any = None

    def _protect(self) -> None:
        for array in (self.vectors, self.ids):
            array.setflags(write=False)  # what is searched is worked out from them once

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._protect()  # which copies of arrays forget

    def __len__(self) -> int:
        return len(self.ids)

    def fit(self, E: Any, ids: Any = None, labels: Any = None) -> NeighborIndex:
        """Hold these vectors instead of any others; see :meth:`add`."""
        new = NeighborIndex(self.metric).add(E, ids, labels)
        self._hold(new.vectors, new.ids, new.labels)
        return self

    def add(self, E: Any, ids: Any = None, labels: Any = None) -> NeighborIndex:
        """Take in more vectors.

        Parameters
        ----------
        E : array-like or Tensor, shape (m, dim)
        ids : int array-like, shape (m,), optional
            No two rows have the same; default: counted on from the largest there is, the first being 0.
        labels : array-like, shape (m,), optional
            Numbers, or strings, for all rows or for none.

        Raises
        ------
        ValueError
            Not a finite matrix, another number of columns, a zero vector under ``"cosine"``, an id that is taken,
            labels for some rows only, or numbers and strings among them.
        """
        new = _as_rows(E, "E")
        if not len(new):
            return self
        if len(self) and new.shape[1] != self.vectors.shape[1]:
            raise ValueError(f"E has {new.shape[1]} columns but the index {self.vectors.shape[1]}")
        self._check_direction(new, "E")
        start = int(self.ids[-1]) + 1 if len(self) else 0
        given = _as_ids(np.arange(start, start + len(new)) if ids is None else ids, len(new))
        joined = np.concatenate([self.ids, given])
        if len(np.unique(joined)) < len(joined):
            values, counts = np.unique(joined, return_counts=True)
            raise ValueError(f"id {values[counts > 1][0]} stands for two rows; ids must be unique")
        kinds = None if labels is None else plain_array(labels, "labels")
        if kinds is not None and (kinds.shape != (len(new),) or kinds.dtype.kind not in "biufUS"):
            raise ValueError(f"labels must be {len(new)} numbers or strings, got {kinds.dtype} {kinds.shape}")
        if len(self) and (kinds is None) != (self.labels is None):
            raise ValueError("labels must be given for all rows of an index or for none")
        if kinds is not None and self.labels is not None and _is_text(kinds) != _is_text(self.labels):
            raise ValueError(
                f"labels must stay numbers or strings, got {kinds.dtype} beside {self.labels.dtype}"
            )
        if len(self):
            new = np.concatenate([self.vectors, new])
            kinds = None if kinds is None else np.concatenate([self.labels, kinds])  # type: ignore[list-item]
        self._hold(new, joined, kinds)
        return self

    def remove(self, ids: Any) -> NeighborIndex:
        """Drop rows; an id that is not in the index is a ValueError."""
        keep = np.ones(len(self), dtype=bool)
        keep[self._find(ids)] = False
        self._hold(self.vectors[keep], self.ids[keep], None if self.labels is None else self.labels[keep])
        return self

    def take(self, ids: Any) -> Any:
        """Return the vectors of ids of any shape, shape (..., dim), as they were given; of a tensor a tensor.

        An id that is not in the index is a ValueError.
        """
        return _like(ids, self.vectors[self._find(ids)])[0]

    def swap(self, other: NeighborIndex) -> NeighborIndex:
        """Hold what another index holds, and keep one's own options; vectors of another length are a ValueError."""
        if len(self) and len(other) and other.vectors.shape[1] != self.vectors.shape[1]:
            raise ValueError(
                f"the other index has vectors of {other.vectors.shape[1]}, not {self.vectors.shape[1]}"
            )
        self._check_direction(other.vectors, "the other index")
        self._hold(other.vectors, other.ids, other.labels)
        return self

    def kneighbors(
        self,
        Q: Any,
        k: int | np.integer,
        *,
        exclude_ids: Any = None,
        exclude_within: float | int | np.floating | None = None,
    ) -> tuple[Any, Any]:
        """Find the k nearest rows of each query.

        Parameters
        ----------
        Q : array-like or Tensor, shape (n_q, dim)
        k : int
            At most the rows of the index that are not excluded.
        exclude_ids : int array-like, shape (n_q,), optional
            For each query a row that is not to be found: itself. An id that is not in the index excludes nothing.
        exclude_within : float, optional
            Leave out rows this near or nearer: copies of the query under other ids. Multiples of a vector, of which
            ``"cosine"`` makes copies, are that to rounding only: 1e-12 finds them.

        Returns
        -------
        dist : array or Tensor, shape (n_q, k)
            Ascending, double precision.
        ids : int64 array or Tensor, shape (n_q, k)
            Equally near ones ascending.

        Raises
        ------
        ValueError
            Queries that do not fit, or fewer than k rows left to find.
        ImportError
            faiss is asked for but not installed.
        """
        if not len(self):
            raise ValueError("the index is empty; add vectors first")
        queries = _as_rows(Q, "Q")
        if queries.shape[1] != self.vectors.shape[1]:
            raise ValueError(f"Q has {queries.shape[1]} columns but the index {self.vectors.shape[1]}")
        k = int(check_in_range(k, "k", low=1, integer=True))
        if k > len(self):
            raise ValueError(f"k={k} neighbours are more than the index has rows, {len(self)}; lower k")
        self._check_direction(queries, "Q")
        rows, scale = self._searched()
        if self.metric == "cosine":
            queries = _unit(queries).astype(rows.dtype)
        else:
            queries = queries.astype(np.float64) / scale
            if np.abs(queries).max(initial=0) > _FARTHEST:
                raise ValueError(
                    "Q lies so far from the index that squared distances overflow; check its unit"
                )
        own = np.full(len(queries), -1, dtype=np.int64)
        if exclude_ids is not None:
            wanted = _as_ids(exclude_ids, len(queries))
            at = np.minimum(np.searchsorted(self.ids, wanted), len(self) - 1)
            own = np.where(self.ids[at] == wanted, at, -1)
        within = (
            -1.0 if exclude_within is None else float(check_in_range(exclude_within, "exclude_within", low=0))
        )
        limit = np.sqrt(2 * within) if self.metric == "cosine" and within >= 0 else within / scale
        dist, idx = self._nearest(rows, queries, k, own, limit)
        if not np.isfinite(dist).all():
            row = int(np.argmax(~np.isfinite(dist).all(1)))
            left = int(np.isfinite(dist[row]).sum())
            advice = "raise n_probe or lower k" if self.kind == "ivf" else "lower k"
            raise ValueError(f"query {row} has only {left} neighbours that are not excluded, k={k}; {advice}")
        # of unit vectors |a - b|^2 = 2 (1 - cos)
        dist = dist**2 / 2 if self.metric == "cosine" else in_own_unit(dist, scale)
        return _like(Q, dist, self.ids[idx])

    def _nearest(
        self, rows: np.ndarray, Q: np.ndarray, k: int, own: np.ndarray, limit: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Lists grow until the k-th allowed row is nearer than the last of its list: then none like it is missing."""
        dist, idx = np.empty((len(Q), k)), np.empty((len(Q), k), dtype=np.int64)
        faiss = self.backend == "faiss" or (self.backend == "auto" and find_spec("faiss") is not None)
        pending = [(np.arange(len(Q)), k + 2)] if len(Q) else []
        while pending:
            some, wanted = pending.pop()
            wanted = min(wanted, len(rows))
            step = max(1, _ENTRIES // wanted)
            if len(some) > step:
                pending += [(some[start : start + step], wanted) for start in range(0, len(some), step)]
                continue
            if self.kind == "ivf":
                near, found = self._in_cells(rows, Q[some], wanted, own[some])
            else:
                far = np.full(len(some), np.inf)
                near, found = search_block(
                    Q[some], rows, wanted, own[some], far, faiss=faiss, each_alone=True
                )
            dist[some], idx[some] = nearest_of(np.where(near <= limit, np.inf, near), found, k)
            last = near[:, -1]
            settled = (dist[some, -1] < last) | np.isinf(last) | (wanted == len(rows))
            if not settled.all():
                pending.append((some[~settled], 2 * wanted))
        return dist, idx

    def _in_cells(
        self, rows: np.ndarray, Q: np.ndarray, wanted: int, own: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        centre = rows.mean(0, dtype=np.float64)
        if self._cells is None:
            self._unit = single_unit(rows - centre)
            centred = np.ascontiguousarray((rows - centre) / self._unit, dtype=np.float32)
            self._cells = cells_index(centred, self.n_lists, self.n_probe)
        queries = (
            Q - centre
        ) / self._unit  # far ones come nearer on their ray, which keeps the nearest cells
        queries /= np.maximum(1, np.abs(queries).max(1, keepdims=True) / _FAR_OFF)
        _, found = self._cells.search(np.ascontiguousarray(queries, dtype=np.float32), wanted)
        missing = (found < 0) | (found == own[:, None])
        dist = by_difference(Q, np.arange(len(Q)), rows, np.maximum(found, 0))
        return nearest_of(np.where(missing, np.inf, dist), np.maximum(found, 0), wanted)

    def recall(self, Q: Any, k: int | np.integer) -> float:
        """Share of the queries' true k nearest rows that :meth:`kneighbors` finds; 1 for ``"flat"``.

        Raises what that raises, and a ValueError where there are no queries.
        """
        if not len(Q):
            raise ValueError("recall is a mean over queries; give at least one")
        exact = NeighborIndex(self.metric, self.backend).swap(self).kneighbors(Q, k)[1]
        found = self.kneighbors(Q, k)[1]
        return float(np.mean([np.isin(a, b).mean() for a, b in zip(np.asarray(exact), np.asarray(found))]))

    def save(self, path: str | Path) -> None:
        """Write vectors, ids, labels and options to one ``.npz`` file."""
        options = {name: getattr(self, name) for name in ("metric", "backend", "kind", "n_lists", "n_probe")}
        arrays = {"vectors": self.vectors, "ids": self.ids, "options": np.array(json.dumps(options))}
        if self.labels is not None:
            arrays["labels"] = self.labels
        with open_whole(path, sealed=True) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: str | Path) -> NeighborIndex:
        """Read what :meth:`save` wrote.

        A damaged file, one that holds something else, or rows that :meth:`add` does not take, are a ValueError.
        """
        check_archive(path)
        with np.load(path, allow_pickle=False) as held:
            if not {"vectors", "ids", "options"} <= set(held.files):
                raise ValueError(f"{Path(path).name} holds no index: it has {', '.join(held.files)}")
            index = cls(**json.loads(str(held["options"])))
            if len(held["ids"]):
                index.add(held["vectors"], held["ids"], held["labels"] if "labels" in held.files else None)
        return index

    def _find(self, ids: Any) -> np.ndarray:
        wanted = _as_ids(ids)
        unknown = wanted[~np.isin(wanted, self.ids)]
        if len(unknown):
            raise ValueError(f"id {unknown[0]} is not in the index")
        return np.searchsorted(self.ids, wanted)

    def _searched(self) -> tuple[Float[np.ndarray, "n dim"], float]:
        """The rows as they are searched (unit vectors under ``"cosine"``), and the scale they were divided by."""
        if self._rows is None:
            self._scale = 1.0 if self.metric == "cosine" else safe_scale(self.vectors)
            plain = (
                self.vectors if self._scale == 1.0 else self.vectors / self.vectors.dtype.type(self._scale)
            )
            self._rows = _unit(plain) if self.metric == "cosine" else plain
        return self._rows, self._scale

    def _check_direction(self, rows: np.ndarray, name: str) -> None:
        if self.metric == "cosine" and len(rows) and not rows.any(1).all():
            row = int(np.argmin(rows.any(1)))
            raise ValueError(
                f"row {row} of {name} is zero and has no direction, which metric='cosine' compares"
            )


def _as_rows(X: Any, name: str) -> Float[np.ndarray, "n dim"]:
    single = str(getattr(X, "dtype", "")).removeprefix("torch.") == "float32"
    if str(getattr(X, "dtype", "")) in ("torch.bfloat16", "torch.float16"):
        X, single = X.float(), True  # NumPy has no bfloat16
    rows = check_matrix(X, name=name, min_rows=0, dtype=np.float32 if single else np.float64)
    return np.ascontiguousarray(rows)


def _is_text(labels: np.ndarray) -> bool:
    return labels.dtype.kind in "US"


def _as_ids(ids: Any, n: int | None = None) -> np.ndarray:
    array = plain_array(ids, "ids")
    if array.size == 0:
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu" or (n is not None and array.shape != (n,)):
        wanted = "integers" if n is None else f"{n} integers, one a row"
        raise ValueError(f"ids must be {wanted}; got {array.dtype} of shape {array.shape}")
    if array.size and array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"ids must be below 2**63, got {array.max()}")
    return array.astype(np.int64)


def _unit(rows: np.ndarray) -> np.ndarray:
    largest = (
        np.abs(rows).max(1, keepdims=True).astype(np.float64)
    )  # squares of what is left cannot underflow
    scaled = rows / largest
    return (scaled / np.linalg.norm(scaled, axis=1, keepdims=True)).astype(rows.dtype)


def _like(model: Any, *arrays: np.ndarray) -> tuple[Any, ...]:
    """The arrays, as tensors on its device if ``model`` is one."""
    if not hasattr(model, "detach"):
        return arrays
    import torch

    return tuple(torch.from_numpy(array).to(model.device) for array in arrays)
