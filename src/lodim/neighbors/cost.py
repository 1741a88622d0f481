r"""What a neighbour search over shards will take, before it is begun: :func:`estimate_search`.

With n rows of D numbers, m queries, k neighbours and w workers, a search makes :math:`m\,n\,D` multiply-adds (the
products :math:`q \cdot x`; what is measured again in double precision is less than a thousandth of that), reads the
data once (twice where repeated rows are looked for), and moves the queries to every worker and k distances and indices
a query and shard back.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

from lodim.neighbors.search import search_block
from lodim.results import Result
from lodim.validation import check_choice, check_counts, check_in_range, checked

__all__ = ["SearchEstimate", "estimate_search", "measure_rate"]

_BLOCK_ROWS, _TILE = 65_536, 2048
_NEIGHBOUR = 16  # bytes of a distance and an index
_HASHES = 16  # bytes of two hashes
_GATHERING = 56  # bytes a row at the peak of finding equal hashes: they, their sorted copy, order and twins
_TWIN = 8
_RATE_QUERIES, _RATE_WORK = 1024, 4.5e9  # enough work that single precision is chosen, as in a large search


@dataclass(frozen=True)
class SearchEstimate(Result):
    """What a search over shards takes.

    Attributes
    ----------
    memory_per_worker : int
        Bytes: the queries, one block of rows, and what is computed from them.
    memory_here : int
        Bytes where the lists are merged and repeated rows found.
    bytes_read : int
        From the files, by all workers together.
    bytes_moved : int
        Between processes or machines.
    rate, read_rate : float
        Multiply-adds a worker makes, and bytes it reads, in a second.
    seconds : float
        Wall time: computing and reading, all workers busy.
    """

    n: int
    d: int
    k: int
    n_queries: int
    workers: int
    shards: int
    memory_per_worker: int
    memory_here: int
    bytes_read: int
    bytes_moved: int
    multiply_adds: int
    rate: float
    read_rate: float
    seconds: float

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.n_queries:,} queries, {self.k} neighbours among {self.n:,} rows of {self.d} numbers, "
                f"{self.workers} workers, {self.shards} shards",
                f"  memory of a worker   {_bytes(self.memory_per_worker)}",
                f"  memory here          {_bytes(self.memory_here)}",
                f"  read from files      {_bytes(self.bytes_read)} ({self.read_rate / 1e9:.3g} GB/s a worker)",
                f"  moved                {_bytes(self.bytes_moved)}",
                f"  multiply-adds        {self.multiply_adds:.2e} ({self.rate / 1e9:.3g} G/s a worker)",
                f"  wall time            {_duration(self.seconds)}",
            ]
        )


def _bytes(count: int) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"


def _duration(seconds: float) -> str:
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def measure_rate(d: int | np.integer, *, faiss: bool = False) -> float:
    """Multiply-adds a second that a search (by faiss or not) in d features makes in this process with its threads."""
    check_in_range(d, "d", low=1, integer=True)
    rows = math.ceil(_RATE_WORK / (_RATE_QUERIES * int(d)))
    rng = np.random.default_rng(0)
    Q, X = (rng.standard_normal((n, int(d)), dtype=np.float32) for n in (_RATE_QUERIES, rows))
    own, limit = np.full(len(Q), -1, dtype=np.int64), np.full(len(Q), np.inf)
    started = time.perf_counter()
    search_block(Q, X, 10, own, limit, faiss=faiss, each_alone=True)
    return len(Q) * len(X) * int(d) / (time.perf_counter() - started)


@checked
def estimate_search(
    n: int | np.integer,
    d: int | np.integer,
    k: int | np.integer,
    n_queries: int | np.integer,
    workers: int | np.integer,
    *,
    shards: int | np.integer | None = None,
    itemsize: int = 4,
    block_rows: int | np.integer = _BLOCK_ROWS,
    duplicates: str = "drop",
    rate: float | int | np.number | None = None,
    read_rate: float | int | np.number = 1e9,
) -> SearchEstimate:
    """Estimate memory, traffic, work and time of :meth:`lodim.neighbors.NeighborGraph.from_shards`.

    Parameters
    ----------
    n, d, k : int
        Rows and features of the data; neighbours.
    workers : int
        Processes, of one thread each.
    shards : int, optional
        Default: as many as workers. Fewer leave workers idle.
    itemsize : {4, 8}
        Bytes of a number.
    block_rows : int
        Rows a worker holds at a time.
    duplicates : {"drop", "keep"}
        Whether repeated rows are looked for.
    rate : float, optional
        Multiply-adds a worker makes in a second; default: measured now (some seconds, most of them where d is 1).
    read_rate : float
        Bytes a worker reads in a second.

    Raises
    ------
    ValueError
        Numbers that are not positive.

    Examples
    --------
    >>> from lodim.neighbors import estimate_search
    >>> estimate_search(10**6, 100, 10, 1000, 4, rate=1e10).multiply_adds
    100000000000
    """
    check_counts(n=n, d=d, k=k, n_queries=n_queries, workers=workers, block_rows=block_rows)
    n, d, k, m, w = int(n), int(d), int(k), int(n_queries), int(workers)
    pieces = int(check_in_range(w if shards is None else shards, "shards", low=1, high=n, integer=True))
    check_choice(duplicates, ("drop", "keep"), "duplicates")
    if itemsize not in (4, 8):
        raise ValueError(f"itemsize must be 4 (single precision) or 8, got {itemsize}")
    rate = measure_rate(d) if rate is None else float(check_in_range(rate, "rate", low=1))
    check_in_range(read_rate, "read_rate", low=1)
    drop = duplicates == "drop"
    block = min(int(block_rows), math.ceil(n / pieces))
    # rows and queries as they are and centred; the candidates and the lists they are merged with; one tile
    worker = (block + m) * d * (2 * itemsize + 4) + 6 * m * (k + 16) * _NEIGHBOUR + _TILE**2 * 8
    worker += 2 * _HASHES * math.ceil(n / pieces) if drop else 0
    here = m * d * itemsize * 2 + (pieces + 4) * m * k * _NEIGHBOUR + n * (_GATHERING if drop else 2 * _TWIN)
    read = n * d * itemsize * (2 if drop else 1)
    sent = (min(w, pieces) + 1) * m * d * itemsize
    moved = sent + pieces * m * k * _NEIGHBOUR + (n * _HASHES if drop else 0)
    work = m * n * d
    busy = math.ceil(pieces / w) / pieces  # share of the whole that the busiest worker gets
    seconds = busy * (work / rate + read / float(read_rate))
    return SearchEstimate(
        n, d, k, m, w, pieces, worker, here, read, moved, work, rate, float(read_rate), seconds
    )
