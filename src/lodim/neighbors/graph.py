"""The k-nearest-neighbour graph that every estimator of a run shares.

Repeated rows are dropped before the search and counted: a distance of zero says nothing about a dimension and breaks
every ratio of distances. Indices always refer to the rows as they were given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from lodim.neighbors.duplicates import first_occurrences
from lodim.neighbors.queries import choose_queries, in_own_unit, safe_scale
from lodim.neighbors.search import search
from lodim.neighbors.sharded import graph_parts
from lodim.randomness import RandomState, as_generator
from lodim.validation import check_choice, check_in_range, check_matrix, checked

__all__ = ["NeighborGraph", "bootstrap", "local_blocks"]

BACKENDS = ("auto", "blocked", "kdtree", "faiss", "faiss-ivf")
_TREE_FEATURES = 15
_RECALL_QUERIES = 256


@dataclass(frozen=True)
class NeighborGraph:
    """Nearest neighbours of query points among the distinct rows of a data set.

    Attributes
    ----------
    dist : ndarray, shape (n_queries, k)
        Distances, ascending, double precision.
    idx : int ndarray, shape (n_queries, k)
        Rows of the data they lead to.
    n_ref : int
        Distinct rows: the points searched.
    n_dropped_duplicates : int
        Rows left out because they equal an earlier row.
    query_idx : int ndarray, shape (n_queries,)
        Rows of the data the queries are.
    twin : int ndarray, shape (n_samples,)
        For each row of the data the first row equal to it.
    exact : bool
        Whether the neighbours are certainly the nearest.
    recall : float
        Share of true neighbours found, measured on 256 random queries if not exact; 1.0 if exact.
    n_features : int or None
        Columns of the data; None if not known.
    """

    dist: Float[np.ndarray, "n_queries k"]
    idx: Int[np.ndarray, "n_queries k"]
    n_ref: int
    n_dropped_duplicates: int
    query_idx: Int[np.ndarray, " n_queries"]
    twin: Int[np.ndarray, " n_samples"]
    exact: bool = True
    recall: float = 1.0
    n_features: int | None = None

    @property
    def k(self) -> int:
        """Neighbours of each query."""
        return self.dist.shape[1]

    @property
    def n_queries(self) -> int:
        """Query points."""
        return len(self.query_idx)

    @property
    def distinct(self) -> Int[np.ndarray, " n_ref"]:
        """The rows searched: the first of each that are equal."""
        return np.flatnonzero(self.twin == np.arange(len(self.twin)))

    @classmethod
    def from_data(
        cls,
        X: Any,
        k: int,
        backend: str = "auto",
        query: int | np.integer | Int[np.ndarray, " n_q"] | None = None,
        *,
        device: Any = None,
        random_state: RandomState = None,
        **options: Any,
    ) -> NeighborGraph:
        """Search the neighbours.

        Parameters
        ----------
        X : array-like or Tensor, shape (n_samples, n_features)
            float32 is kept as it is, anything else becomes float64.
        k : int
            Neighbours of each query, the query itself not counted.
        backend : {"auto", "blocked", "kdtree", "faiss", "faiss-ivf"}
            ``"auto"``: a KD-tree up to 15 features, else blocks. ``"faiss-ivf"`` is approximate: the graph then
            carries its measured recall.
        query : int or int array, optional
            How many random points to search from, or which rows; default: all. All points stay references.
        device : torch.device or str, optional
            Where ``"blocked"`` computes; default: the tensor's device, else the CPU.
        random_state : int, Generator or None
            Draws the random queries.
        **options
            Passed to the backend (``block_q``, ``block_r``, ``dtype``; ``n_lists``, ``n_probe``).

        Raises
        ------
        ValueError
            Not a finite matrix, an unknown backend or option of it, or fewer than ``k + 1`` distinct rows.
        ImportError
            faiss asked for but not installed.
        """
        check_choice(backend, BACKENDS, "backend")
        k = int(check_in_range(k, "k", low=1, integer=True))
        if device is None and hasattr(X, "detach"):
            device = X.device
        data = _as_matrix(X)
        twin = first_occurrences(data)
        kept = np.flatnonzero(twin == np.arange(len(data)))
        if k >= len(kept):
            dropped = (
                f" ({len(data) - len(kept)} of {len(data)} are repeated)" if len(kept) < len(data) else ""
            )
            raise ValueError(
                f"k={k} neighbours need at least {k + 1} distinct rows, got {len(kept)}{dropped}; lower k"
            )
        rng = as_generator(random_state)
        queries = choose_queries(query, kept, twin, rng)
        distinct = data if len(kept) == len(data) else data[kept]
        scale = safe_scale(distinct)
        if scale != 1.0:
            distinct = distinct / scale
        if backend == "auto":
            backend = "kdtree" if data.shape[1] <= _TREE_FEATURES else "blocked"
        position = np.searchsorted(kept, queries)
        dist, idx = search(distinct, k, position, backend, device=device, **options)
        recall = _recall(distinct, k, position, idx, rng) if backend == "faiss-ivf" else 1.0
        return cls(
            dist=in_own_unit(dist, scale),
            idx=kept[idx],
            n_ref=len(kept),
            n_dropped_duplicates=len(data) - len(kept),
            query_idx=queries,
            twin=twin,
            exact=backend != "faiss-ivf",
            recall=recall,
            n_features=data.shape[1],
        )

    @classmethod
    def from_shards(
        cls,
        shards: Any,
        k: int | np.integer,
        query: int | np.integer | Int[np.ndarray, " n_q"] | None = None,
        *,
        n_jobs: int = 1,
        ray: str | None = None,
        backend: str = "blocked",
        duplicates: str = "drop",
        block_rows: int | np.integer = 65_536,
        random_state: RandomState = None,
    ) -> NeighborGraph:
        """Search the neighbours in data that lie in pieces, exactly, with several processes or machines.

        Parameters
        ----------
        shards : sequence of path, ndarray, memory map or Shard
            Pieces of one data set, in order: their rows are numbered through. See
            :func:`lodim.neighbors.split_rows`.
        k : int
            Neighbours of each query, the query itself not counted.
        query : int or int array, optional
            How many random rows to search from, or which; default: all. The same seed draws the same rows as
            :meth:`from_data`.
        n_jobs : int
            Local processes, one thread each; a shard is one job.
        ray : str, optional
            Address of a Ray cluster, or ``"local"``; files must have the same path on every node.
        backend : {"blocked", "faiss"}
            What finds candidates; distances are computed again in double precision either way.
        duplicates : {"drop", "keep"}
            ``"keep"`` saves the pass over the data that finds repeated rows; they are an error if queries meet them.
        block_rows : int
            Rows of a shard that a worker holds at a time.
        random_state : int, Generator or None
            Draws the random queries.

        Raises
        ------
        ValueError
            Shards that do not fit together, rows that are not finite, or fewer than ``k + 1`` distinct rows.
        RuntimeError
            A worker failed.
        """
        return cls(
            **graph_parts(
                shards,
                k,
                query,
                n_jobs=n_jobs,
                ray=ray,
                backend=backend,
                duplicates=duplicates,
                block_rows=block_rows,
                random_state=random_state,
            )
        )

    def spread(self, values: Float[np.ndarray, " n_queries"]) -> Float[np.ndarray, " n_samples"]:
        """Give every row of the data its own query's value: a repeated row that of its twin, others NaN."""
        out = np.full(len(self.twin), np.nan)
        out[self.query_idx] = values
        return out[self.twin]


def _as_matrix(X: Any) -> np.ndarray:
    single = str(getattr(X, "dtype", "")).removeprefix("torch.") == "float32"
    return np.ascontiguousarray(check_matrix(X, min_rows=2, dtype=np.float32 if single else np.float64))


def _recall(X: np.ndarray, k: int, position: np.ndarray, idx: np.ndarray, rng: np.random.Generator) -> float:
    some = rng.choice(len(position), size=min(_RECALL_QUERIES, len(position)), replace=False)
    _, true = search(X, k, position[some], "blocked")
    return float(np.mean([len(np.intersect1d(a, b)) / k for a, b in zip(idx[some], true)]))


@checked
def local_blocks(
    X: Float[np.ndarray, "n features"], graph: NeighborGraph, k: int, *, max_entries: int = 1 << 18
) -> Iterator[tuple[slice, Float[np.ndarray, "b k features"]]]:
    """Yield the neighbourhoods of the queries, some at a time: ``(queries, points (b, k, n_features))``.

    The blocks are the caller's to change. They hold at most ``max_entries`` numbers; the default fits a processor's
    cache. A graph with fewer than ``k`` neighbours, or of other data than X, is a ValueError.
    """
    if k > graph.k:
        raise ValueError(f"the graph has {graph.k} neighbours of each point, {k} are needed")
    if len(X) != len(graph.twin):
        raise ValueError(f"X has {len(X)} rows but the graph was made from {len(graph.twin)}")
    step = max(1, max_entries // (k * X.shape[1]))
    for start in range(0, graph.n_queries, step):
        part = slice(start, min(start + step, graph.n_queries))
        yield part, X[graph.idx[part, :k]]


@checked
def bootstrap(
    stat_fn: Callable[[np.ndarray], Any], n: int, B: int = 200, random_state: RandomState = None
) -> Float[np.ndarray, "B ..."]:
    """Values of a statistic on ``B`` resamples of ``n`` query points, the neighbour graph staying as it is.

    Drawing the *data* again would repeat points and put neighbours at distance zero. ``stat_fn`` takes the positions
    drawn, shape (n,), and returns a number or an array.
    """
    check_in_range(B, "B", low=1, integer=True)
    rng = as_generator(random_state)
    return np.array([stat_fn(rng.integers(n, size=n)) for _ in range(B)], dtype=np.float64)
