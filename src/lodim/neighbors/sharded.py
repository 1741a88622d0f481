r"""Neighbours in data that lie in pieces on one machine or many: :func:`search_shards`, :func:`estimate_search`.

Every shard (an ``.npy`` file, a memory map, an array, a range of rows of one) is searched by itself, in this process,
in local processes or on a Ray cluster (:func:`lodim.parallel.run_jobs`): the k nearest of all are among the k nearest
of the shards. Lists are merged by distance, then by index. A distance is computed from the difference of its two rows
in double precision and depends on nothing else, so how the data are cut and who computes does not change a bit of it.

A worker holds the queries and one block of its shard; what travels is the queries to every worker and k distances and
indices a query back. Repeated rows are found by two 64-bit hashes a row, as in :mod:`lodim.neighbors.out_of_core`; that
takes a pass of its own and about 56 bytes a row where the hashes are gathered, so data known to have no repeated rows
are told so (``duplicates="keep"``).
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from lodim.neighbors.distances import nearest_of
from lodim.neighbors.duplicates import first_equal_hashes, hash_pairs
from lodim.neighbors.queries import choose_queries, in_own_unit, safe_scale
from lodim.neighbors.search import search_block
from lodim.neighbors.sources import row_blocks
from lodim.parallel import run_jobs
from lodim.randomness import RandomState, as_generator
from lodim.validation import check_choice, check_in_range, check_matrix, check_unmasked, checked, plain_array

__all__ = ["Shard", "graph_parts", "search_shards", "split_rows"]

BACKENDS = ("blocked", "faiss")
_BLOCK_ROWS = 65_536


@checked
@dataclass(frozen=True, eq=False)
class Shard:
    """Some consecutive rows of a file or an array, described so that it travels lightly.

    Attributes
    ----------
    source : str or ndarray
        Path of a file that every worker can read, or the rows themselves.
    start, stop : int
        Rows of the source.
    dtype, shape, offset
        Of a raw memory map, the offset being its first byte; None and 0 for an ``.npy`` file or an array.
    """

    source: Any
    start: int
    stop: int
    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    offset: int = 0

    @classmethod
    def of(cls, source: Any) -> Shard:
        """Describe a whole source: the path of a file of rows of numbers, an array, a memory map, a tensor or a shard.

        An array's samples are along axis 0 and flattened. A memory map, or rows of one, is opened by the workers; a
        plain array is sent to them. Anything else is a ValueError or a TypeError.
        """
        if isinstance(source, Shard):
            return source
        if isinstance(source, str | Path):
            path = Path(source)
            if path.suffix != ".npy":
                raise ValueError(
                    f"{path.name} is no .npy file; save the rows with numpy.save, or give a memory map"
                )
            return cls(str(path.resolve()), 0, len(_checked(np.load(path, mmap_mode="r"), path.name)))
        array = plain_array(source, "a shard") if hasattr(source, "detach") else source
        if not isinstance(array, np.ndarray):
            raise TypeError(
                f"a shard is a path, an array, a memory map or a tensor, got {type(source).__name__}"
            )
        check_unmasked(array, "a shard")
        place = _place_in_file(_checked(array, "a shard"))
        if place is None:
            return cls(np.asarray(array), 0, len(array))
        return cls(place[0], 0, len(array), array.dtype.str, array.shape, place[1])

    def __len__(self) -> int:
        return self.stop - self.start

    def rows(self) -> np.ndarray:
        """Open the rows, shape (n, n_features); of a file as a memory map."""
        if isinstance(self.source, np.ndarray):
            array = self.source
        elif self.dtype is None:
            array = np.load(self.source, mmap_mode="r")
        else:
            array = np.memmap(self.source, self.dtype, "r", self.offset, self.shape)
        if self.stop > len(array):
            raise ValueError(
                f"{self.source} has {len(array)} rows, fewer than the {self.stop} it was described with"
            )
        part = array[self.start : self.stop]
        return part.reshape(len(part), -1)


def _checked(array: np.ndarray, name: str) -> np.ndarray:
    if array.ndim < 2 or array.dtype.kind not in "biuf" or not array.size:
        raise ValueError(f"{name} must hold rows of numbers, got shape {array.shape} of {array.dtype}")
    return array


def _place_in_file(array: np.ndarray) -> tuple[str, int] | None:
    """File and byte at which a memory map, or a contiguous part of one, begins; None for memory."""
    base: Any = array
    while isinstance(base, np.ndarray) and not isinstance(base.base, mmap.mmap):
        base = base.base
    if not isinstance(base, np.memmap) or not array.flags.c_contiguous:
        return None
    if base.filename is None or base.mode == "c":  # without a name, or changed in memory only
        return None
    skipped = array.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    return str(Path(os.fspath(base.filename)).resolve()), base.offset + skipped


@checked
def split_rows(source: Any, n_shards: int | np.integer) -> list[Shard]:
    """Cut a file (its path), an array or a memory map into shards of as many rows (one more or less)."""
    whole = Shard.of(source)
    check_in_range(n_shards, "n_shards", low=1, high=len(whole), integer=True)
    ends = [whole.start + round(i * len(whole) / int(n_shards)) for i in range(int(n_shards) + 1)]
    fields = (whole.dtype, whole.shape, whole.offset)
    if isinstance(whole.source, np.ndarray):  # send a worker its own rows only
        return [Shard.of(whole.source[a:b]) for a, b in pairwise(ends)]
    return [Shard(whole.source, a, b, *fields) for a, b in pairwise(ends)]


@dataclass(frozen=True)
class _Scanned:
    """What the first pass over a shard finds."""

    n: int
    width: int
    dtype: str
    hashes: np.ndarray | None = None


def _look(shard: Shard) -> _Scanned:
    rows = shard.rows()
    return _Scanned(len(rows), rows.shape[1], "float32" if rows.dtype == np.float32 else "float64")


def _scan(shard: Shard) -> _Scanned:
    hashes = [hash_pairs(block) for block in row_blocks(shard.rows(), _BLOCK_ROWS)]
    return replace(_look(shard), hashes=np.concatenate(hashes))


def _take(job: tuple[Shard, np.ndarray]) -> np.ndarray:
    shard, local = job
    rows = shard.rows()[local]
    return rows if rows.dtype == np.float32 else rows.astype(np.float64)


@dataclass(frozen=True, eq=False)
class _Search:
    """The k nearest rows of one shard; sent to each worker with the queries."""

    Q: np.ndarray
    k: int
    own: np.ndarray
    faiss: bool
    block_rows: int

    def __call__(self, job: tuple[Shard, int, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Neighbours in a shard whose first row has a given number, some of its rows left out."""
        shard, first, dropped = job
        dist, idx = np.full((len(self.Q), self.k), np.inf), np.full((len(self.Q), self.k), -1, dtype=np.int64)
        done = 0
        for block in row_blocks(shard.rows(), self.block_rows):
            kept = np.setdiff1d(np.arange(len(block)), dropped - done, assume_unique=True)
            rows = np.array(block) if len(kept) == len(block) else block[kept]  # out of the file, once
            numbers = kept + (first + done)
            done += len(block)
            if len(rows):
                near, found = self._nearest(rows, self._own(numbers), dist[:, -1])
                together = np.concatenate([dist, near], 1), np.concatenate([idx, numbers[found]], 1)
                dist, idx = nearest_of(*together, self.k)
        return dist, idx

    def _nearest(self, rows: np.ndarray, own: np.ndarray, limit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ends = [end(Z, axis=0) for Z in (self.Q, rows) for end in (np.min, np.max)]
        scale = safe_scale(np.stack(ends))
        Q, X = (Z if scale == 1.0 else Z / Z.dtype.type(scale) for Z in (self.Q, rows))
        with np.errstate(over="ignore"):
            limit = limit / scale
        near, found = search_block(Q, X, self.k, own, limit, faiss=self.faiss, each_alone=True)
        return in_own_unit(near, scale), found

    def _own(self, numbers: np.ndarray) -> Int[np.ndarray, " n_q"]:
        """Where each query stands in a block, or -1."""
        at = np.minimum(np.searchsorted(numbers, self.own), len(numbers) - 1)
        return np.where(numbers[at] == self.own, at, -1)


def _run(function: Callable[[Any], Any], jobs: Sequence[Any], what: str, where: dict[str, Any]) -> list[Any]:
    outcomes = run_jobs(function, jobs, **where)
    for number, outcome in enumerate(outcomes):
        if outcome.error is not None:
            last = outcome.error.strip().splitlines()[-1]
            kind = ValueError if last.startswith("ValueError") else RuntimeError
            raise kind(f"{what} failed on job {number} of {len(jobs)}: {last}\n{outcome.error}")
    return [outcome.value for outcome in outcomes]


def _check_alike(found: Sequence[_Scanned]) -> None:
    for what in ("width", "dtype"):
        different = sorted({str(getattr(one, what)) for one in found})
        if len(different) > 1:
            name = "features" if what == "width" else "precision"
            raise ValueError(f"shards differ in {name}: {' and '.join(different)}; they must be alike")


def _offsets(found: Sequence[_Scanned]) -> Int[np.ndarray, " m"]:
    return np.concatenate([[0], np.cumsum([one.n for one in found])]).astype(np.int64)


@checked
def search_shards(
    shards: Sequence[Any],
    queries: Any,
    k: int | np.integer,
    *,
    n_jobs: int = 1,
    ray: str | None = None,
    backend: str = "blocked",
    block_rows: int | np.integer = _BLOCK_ROWS,
) -> tuple[Float[np.ndarray, "n_q k"], Int[np.ndarray, "n_q k"]]:
    """Find the k nearest rows of all shards for each query, exactly.

    Parameters
    ----------
    shards : sequence of path, ndarray, memory map or Shard
        Rows are numbered through, shard after shard. See :class:`Shard` and :func:`split_rows`.
    queries : array-like, shape (n_q, n_features)
        Points of their own: a row of the data that equals one is its neighbour at distance zero.
    k : int
        At most the rows of all shards.
    n_jobs : int
        Local processes, one thread each.
    ray : str, optional
        Address of a Ray cluster, or ``"local"``; files must have the same path on every node.
    backend : {"blocked", "faiss"}
        What finds candidates in a block. Distances are computed again in double precision either way.
    block_rows : int
        Rows of a shard that a worker holds at a time.

    Returns
    -------
    dist : ndarray, shape (n_q, k)
        Ascending, double precision.
    idx : int ndarray, shape (n_q, k)

    Raises
    ------
    ValueError
        Shards or queries that do not fit together, rows that are not finite, more neighbours than rows.
    RuntimeError
        A worker failed; the message ends with its traceback.
    """
    where = {"n_jobs": n_jobs, "ray": ray}
    parts = [Shard.of(one) for one in shards]
    found = _run(_look, parts, "opening the shards", where) if parts else []
    _check_found(found)
    single = found[0].dtype == "float32"
    Q = np.ascontiguousarray(
        check_matrix(queries, name="queries", dtype=np.float32 if single else np.float64)
    )
    if Q.shape[1] != found[0].width:
        raise ValueError(
            f"queries have {Q.shape[1]} features but the shards {found[0].width}; they must match"
        )
    offsets = _offsets(found)
    check_in_range(k, "k", low=1, high=int(offsets[-1]), integer=True)
    nobody = np.full(len(Q), -1, dtype=np.int64)
    search = _Search(Q, int(k), nobody, *_options(backend, block_rows))
    return _search_all(search, parts, offsets, np.empty(0, dtype=np.int64), where)


def _check_found(found: Sequence[_Scanned]) -> None:
    if not found:
        raise ValueError("there are no shards; give at least one file or array")
    _check_alike(found)


def _options(backend: str, block_rows: Any) -> tuple[bool, int]:
    check_choice(backend, BACKENDS, "backend")
    return backend == "faiss", int(check_in_range(block_rows, "block_rows", low=1, integer=True))


def _search_all(
    search: _Search, parts: Sequence[Shard], offsets: np.ndarray, dropped: np.ndarray, where: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Search every shard and merge; ``dropped`` are the rows of all shards to leave out, ascending."""
    local = [rows - start for rows, start in zip(_cut(dropped, offsets), offsets)]
    jobs = list(zip(parts, offsets[:-1].tolist(), local))
    dist, idx = (
        np.full((len(search.Q), search.k), np.inf),
        np.full((len(search.Q), search.k), -1, dtype=np.int64),
    )
    for near, rows in _run(search, jobs, "the search", where):
        dist, idx = nearest_of(np.concatenate([dist, near], 1), np.concatenate([idx, rows], 1), search.k)
    return dist, idx


def _cut(rows: np.ndarray, offsets: np.ndarray) -> Iterator[np.ndarray]:
    """The ascending ``rows`` of each shard."""
    places = np.searchsorted(rows, offsets)
    for low, high in pairwise(places):
        yield rows[low:high]


def graph_parts(
    shards: Sequence[Any],
    k: int | np.integer,
    query: int | np.integer | Int[np.ndarray, " n_q"] | None = None,
    *,
    n_jobs: int = 1,
    ray: str | None = None,
    backend: str = "blocked",
    duplicates: str = "drop",
    block_rows: int | np.integer = _BLOCK_ROWS,
    random_state: RandomState = None,
) -> dict[str, Any]:
    """Search the neighbours for :meth:`lodim.neighbors.NeighborGraph.from_shards`: the fields of its graph, by name."""
    check_choice(duplicates, ("drop", "keep"), "duplicates")
    options = _options(backend, block_rows)
    where = {"n_jobs": n_jobs, "ray": ray}
    parts = [Shard.of(one) for one in shards]
    drop = duplicates == "drop"
    found = _run(_scan if drop else _look, parts, "reading the shards", where) if parts else []
    _check_found(found)
    offsets = _offsets(found)
    hashes = [one.hashes for one in found if one.hashes is not None]
    twin = first_equal_hashes(np.concatenate(hashes)) if drop else np.arange(offsets[-1])
    kept = np.flatnonzero(twin == np.arange(len(twin)))
    k = int(check_in_range(k, "k", low=1, integer=True))
    if k >= len(kept):
        raise ValueError(f"k={k} neighbours need at least {k + 1} distinct rows, got {len(kept)}; lower k")
    queries = choose_queries(query, kept, twin, as_generator(random_state))
    wanted = [
        (part, rows - start) for part, rows, start in zip(parts, _cut(queries, offsets), offsets) if len(rows)
    ]
    Q = np.concatenate(_run(_take, wanted, "taking the queries", where))
    search = _Search(np.ascontiguousarray(Q), k, queries, *options)
    dropped = np.flatnonzero(twin != np.arange(len(twin)))
    dist, idx = _search_all(search, parts, offsets, dropped, where)
    if not drop and (dist[:, 0] == 0).any():
        row = int(queries[np.argmax(dist[:, 0] == 0)])
        raise ValueError(f"row {row} is repeated, so duplicates='keep' will not do; give duplicates='drop'")
    return {
        "dist": dist,
        "idx": idx,
        "n_ref": len(kept),
        "n_dropped_duplicates": len(dropped),
        "query_idx": queries,
        "twin": twin,
        "n_features": int(Q.shape[1]),
    }
