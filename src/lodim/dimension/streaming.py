"""Intrinsic dimension of data that pass by: too large for memory, or never all there at once.

:func:`stream_dimension` measures random query rows against *all* rows of a file, a memory map or a data loader, block
by block (:func:`lodim.neighbors.stream_neighbors`): the same answer as in memory. :class:`StreamingDimension` sees
each batch once, keeps a uniform random sample of the rows (reservoir sampling, Vitter 1985) and measures that: for
activations during training, where nothing can be read twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from lodim.dimension.answers import NEED_DATA
from lodim.dimension.doubts import check_enough
from lodim.dimension.estimator import IntrinsicDimension
from lodim.dimension.methods import METHODS, default_k
from lodim.neighbors import row_blocks, stream_neighbors
from lodim.randomness import RandomState, as_generator, derive_seed, root_seed
from lodim.validation import check_choice, check_in_range, check_matrix, checked, plain_array


@checked
def stream_dimension(
    source: Any,
    method: str = "consensus",
    *,
    k: int | np.integer | None = None,
    n_queries: int | np.integer = 4096,
    block_rows: int | np.integer = 65_536,
    columns: list[str] | None = None,
    device: Any = None,
    random_state: RandomState = None,
    **parameters: Any,
) -> IntrinsicDimension:
    """Estimate the dimension of a source too large for memory and return the fitted estimator.

    Parameters
    ----------
    source : array, memory map, path, iterable or callable
        An ``.npy`` or Parquet file, a ``DataLoader`` that does not shuffle, ...: see
        :func:`lodim.neighbors.row_blocks`. It is read three times, its beginning five times (for the consensus of
        data of low rank, all of it four times).
    method : str
        A method of :class:`~lodim.geometry.IntrinsicDimension` that needs neighbour distances only.
    k : int, optional
        Neighbours; default: the method's own.
    n_queries : int
        Random rows to measure at; all rows are their possible neighbours.
    block_rows : int
        Rows held at a time.
    columns : list of str, optional
        Of a Parquet file.
    device : torch.device or str, optional
        Where distances are computed.
    **parameters
        ``calibrate``, ``aggregate``, ``ci`` of :class:`~lodim.geometry.IntrinsicDimension`.

    Returns
    -------
    IntrinsicDimension
        Fitted; of rows that are all equal its dimension is 0, with a warning.

    Raises
    ------
    ValueError
        A method that needs the data themselves, a source that cannot be read (see there), or too few distinct rows.

    Examples
    --------
    >>> import numpy as np
    >>> from lodim.geometry import stream_dimension
    >>> sheet = np.random.default_rng(0).uniform(size=(3000, 2)) @ np.ones((2, 5))
    >>> round(stream_dimension(sheet, "mle", n_queries=500, block_rows=1000, random_state=0).dimension_)
    1
    """
    check_choice(method, METHODS, "method")
    if method in (*NEED_DATA, "abide"):
        able = ", ".join(m for m in METHODS if m not in (*NEED_DATA, "abide"))
        raise ValueError(f"method={method!r} needs all data in memory; from a stream there are {able}")
    seed = root_seed(random_state)
    model = IntrinsicDimension(method, k=k, n_queries=n_queries, random_state=seed, **parameters)
    if n_equal := _all_equal(row_blocks(source, block_rows, columns)):
        return model.fit_constant(n_equal)

    def own_k(n: int) -> int:
        check_enough(method, n)
        return default_k(method, n)

    # as IntrinsicDimension.fit draws them, so that the answers agree
    graph = stream_neighbors(
        source,
        own_k if k is None else k,
        n_queries=n_queries,
        block_rows=block_rows,
        columns=columns,
        device=device,
        random_state=derive_seed(seed, "queries"),
    )
    return model._fit_graph(graph, row_blocks(source, block_rows, columns))


def _all_equal(blocks: Iterator[np.ndarray]) -> int:
    """How many rows there are if all are equal, else 0, found as soon as one differs."""
    first, n = None, 0
    for block in blocks:
        first = block[:1].copy() if first is None else first
        if (block != first).any():
            return 0
        n += len(block)
    return n


@checked
class StreamingDimension:
    """Intrinsic dimension of rows that are seen once, as a metric with ``update`` and ``compute``.

    Parameters
    ----------
    method : str
        As for :class:`~lodim.geometry.IntrinsicDimension`.
    max_points : int
        Rows to keep: a uniform sample of all that were seen, whatever the batches. They keep their precision: single
        for tensors and arrays of single precision or less, else double.
    **parameters
        Further parameters of :class:`~lodim.geometry.IntrinsicDimension`.

    Attributes
    ----------
    n_seen : int
        Rows that went by.
    model : IntrinsicDimension or None
        The estimator of the last ``compute``.

    Examples
    --------
    >>> import torch
    >>> from lodim.geometry import StreamingDimension
    >>> metric = StreamingDimension("mle", random_state=0)
    >>> generator = torch.Generator().manual_seed(0)
    >>> for _ in range(10):
    ...     metric.update(torch.rand(100, 1, generator=generator) * torch.ones(8))
    >>> round(metric.compute())
    1
    """

    def __init__(
        self,
        method: str = "twonn",
        *,
        max_points: int | np.integer = 10_000,
        random_state: RandomState = None,
        **parameters: Any,
    ):
        check_choice(method, METHODS, "method")
        self.method, self.parameters = method, parameters
        self.max_points = int(check_in_range(max_points, "max_points", low=4, integer=True))
        self._seed = root_seed(random_state)
        self.reset()

    def reset(self) -> None:
        """Forget every row."""
        self.n_seen = 0
        self.model: IntrinsicDimension | None = None
        self._rows: np.ndarray | None = None
        self._rng = as_generator(derive_seed(self._seed, "reservoir"))

    def update(self, batch: Any) -> None:
        """Take in some rows.

        Parameters
        ----------
        batch : array-like or Tensor, shape (b, ...)
            Samples are flattened; a tensor may be on any device. A batch of no rows changes nothing.

        Raises
        ------
        ValueError
            Not finite numbers, a single number, or rows of another width than before.
        """
        array = _as_array(batch)
        if array.ndim == 0:
            raise ValueError(f"a batch must hold samples along axis 0, got the single number {array!r}")
        if not len(array):
            return
        precision = np.float32 if array.dtype == np.float32 else np.float64
        rows = check_matrix(array.reshape(len(array), -1), name="batch", dtype=precision)
        if self._rows is None:
            self._rows = np.empty((self.max_points, rows.shape[1]), dtype=rows.dtype)
        elif rows.dtype != self._rows.dtype == np.float32:
            kept, self._rows = self.sample, np.empty(self._rows.shape)
            self._rows[: len(kept)] = kept
        if rows.shape[1] != self._rows.shape[1]:
            raise ValueError(f"a batch has {rows.shape[1]} features, those before had {self._rows.shape[1]}")
        position = self.n_seen + np.arange(len(rows))
        slot = np.floor(self._rng.random(len(rows)) * (position + 1)).astype(np.int64)
        slot = np.where(position < self.max_points, position, slot)
        inside = slot < self.max_points
        self._rows[slot[inside]] = rows[inside]  # of rows for one slot the last stays, as one by one
        self.n_seen += len(rows)

    @property
    def sample(self) -> np.ndarray:
        """The rows kept, shape (min(n_seen, max_points), n_features)."""
        if self._rows is None:
            raise ValueError("no rows yet: call update(batch) first")
        return self._rows[: min(self.n_seen, self.max_points)]

    def compute(self) -> float:
        """Estimate the dimension of the rows kept."""
        self.model = IntrinsicDimension(self.method, random_state=self._seed, **self.parameters).fit(
            self.sample
        )
        return self.model.dimension_


def _as_array(batch: Any) -> np.ndarray:
    """A batch on the CPU, half precisions in single."""
    array = plain_array(batch, "batch")
    return array.astype(np.float32) if array.dtype == np.float16 else array
