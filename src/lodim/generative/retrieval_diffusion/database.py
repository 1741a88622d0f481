r"""The database beside a generator: what it is shown while it trains, what it is asked for, and whether it copies.

A generator learns :math:`p_\theta(x \mid \{\phi(y) : y \in \xi_k(x, D)\})`: content comes from neighbours in a database
D, which may be exchanged afterwards, and the network learns to compose. While training, :math:`\xi_k(x, D)` are the k
items nearest to x, x itself left out. How often an item was among them makes a proposal of what to look up when there
is no x yet:

.. math:: p_D(\tilde y) \propto \#\{x : \tilde y \in \xi_k(x, D)\}.

Sampling keeps the share m of items with the largest count, draws pseudo-queries among them, and shows the network
their neighbours. A small m gives faithful samples, a large one diverse samples.

====================================  ================================================================================
symbol in the paper                   name here
====================================  ================================================================================
:math:`D`, :math:`\phi`               ``index`` (a :class:`~lodim.neighbors.NeighborIndex` of embeddings), ``embed``
:math:`\xi_k(x, D)`                   :meth:`Retrieval.prepare` (training), :meth:`Retrieval.context` (sampling)
:math:`p_D(\tilde y)`, m              :attr:`Retrieval.counts`, ``top_m``
k                                     ``k``; while sampling it may be another one
====================================  ================================================================================

Source: A. Blattmann and others, arXiv 2204.11824, sections 3.1 to 3.3.

Departures. The search is exact (the authors' is approximate). Vectors are shown as they are in the database; the
authors' code does the same, though it searches by angle (``normalize_context`` shows unit vectors instead). The check
for copies is ours: the paper has none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lodim.generative.losses import uniform
from lodim.linalg.precision import as_tensor
from lodim.neighbors import NeighborIndex
from lodim.nets.activations import evaluation_mode
from lodim.plots import COLORS, new_axes
from lodim.randomness import RandomState, torch_draws
from lodim.results import Result
from lodim.validation import (
    check_choice,
    check_in_range,
    check_numbers,
    check_tensor,
    checked,
    plain_array,
    warn,
)

__all__ = ["Retrieval", "RetrievalReport"]

_CANDIDATES = 20  # neighbours kept of each training sample, so that k may change without another search
_SAME = 1e-6  # 1 - cos of an item and a copy of it
_CALIBRATION_ROWS = 2000
_ROUNDS = 10
_NONE = np.zeros((2, 0), dtype=np.int64)  # ids, counts

Embed = Callable[[Any], Any]


def as_query(values: Any) -> Tensor:
    """Return what is looked up as a tensor: ids, whole numbers, or vectors."""
    given = check_tensor(values, "query") if isinstance(values, Tensor) else plain_array(values, "query")
    if given.dtype == torch.bool or (isinstance(given, np.ndarray) and given.dtype.kind not in "iuf"):
        raise ValueError(f"query must be vectors of numbers, or ids, got {given.dtype}")
    if isinstance(given, Tensor):
        return given
    return torch.from_numpy(given.astype(np.float64 if given.dtype.kind == "f" else np.int64))


def as_rows(X: Any, name: str) -> Any:
    """Return samples as an array, a tensor as it is; what has no axis of them is a ValueError."""
    return check_tensor(X, name) if isinstance(X, Tensor) and X.ndim else plain_array(X, name, rows=True)


def check_share(top_m: float | int | np.number) -> bool:
    """Return whether it is a number of items; one that is neither that nor a share is a ValueError."""
    whole = isinstance(top_m, int | np.integer)
    check_in_range(top_m, "top_m", low=1 if whole else 0, high=None if whole else 1, integer=whole)
    if not top_m:
        raise ValueError("top_m must be a share in (0, 1] or a number of items from 1, got 0")
    return whole


@dataclass(frozen=True)
class RetrievalReport(Result):
    """What samples were made from, and how near they came to the database.

    Attributes
    ----------
    neighbours : int64 ndarray, shape (n, k)
        Ids of the items that the network was shown, of each sample.
    nearest : int64 ndarray, shape (n,)
        Id of the item nearest to each sample, by its embedding; -1 where there is no distance.
    distances : ndarray, shape (n,)
        To that item, in the index's metric; NaN of a sample that is not finite, or has no direction under ``"cosine"``.
    threshold : float
        Samples this near or nearer count as copies; NaN where nothing says what is near.
    n_redrawn : int
        Samples that were drawn again because they were copies.
    """

    neighbours: Int[np.ndarray, "n k"]
    nearest: Int[np.ndarray, " n"]
    distances: Float[np.ndarray, " n"]
    threshold: float
    n_redrawn: int = 0

    @property
    def copies(self) -> Bool[np.ndarray, " n"]:
        """Which samples count as copies."""
        return self.distances <= self.threshold

    def plot(self, ax: Any = None) -> Any:
        """Draw the distances' histogram with the threshold, and return the axes."""
        ax = new_axes(ax)
        ax.hist(self.distances[np.isfinite(self.distances)], bins="auto", color=COLORS[0])
        if np.isfinite(self.threshold):
            ax.axvline(self.threshold, color=COLORS[1], linestyle="--", label="copies are left of this")
            ax.legend()
        ax.set(xlabel="distance to the nearest item", ylabel="samples")
        return ax

    def __str__(self) -> str:
        known = self.distances[~np.isnan(self.distances)]
        without = len(self.distances) - len(known)
        count = f"{len(self.distances)} samples" + (f" ({without} without a distance)" if without else "")
        if not len(known):
            return count
        middle = f"{count}, median distance to the nearest item {np.median(known):.3g}"
        if np.isnan(self.threshold):
            return f"{middle}; copies not judged, see Retrieval.calibrate"
        again = f", {self.n_redrawn} redrawn" if self.n_redrawn else ""
        return (
            f"{middle}; {int(self.copies.sum())} within {self.threshold:.3g}, which counts as a copy{again}"
        )


@checked
class Retrieval(nn.Module):
    """A database with the way into it, for a generator that looks things up.

    The ``state_dict`` has the counts. The database and ``embed`` are not in it (store the first with
    :meth:`NeighborIndex.save <lodim.neighbors.NeighborIndex.save>`); pickles and copies hold all three.

    Parameters
    ----------
    index : NeighborIndex or array
        The database: an index of embeddings, or samples, shape (n, ...), of which one under ``"cosine"`` is made with
        ids from 0.
    embed : callable, optional
        ``embed(X)`` of samples, shape (n, ...), gives their vectors, shape (n, c), of the index's kind. A module gets
        tensors, anything else (such as a fitted ``PCA``'s ``transform``) NumPy arrays. Default: the samples themselves,
        flattened.
    k : int
        Neighbours that the network is shown.
    normalize_context : bool
        Show vectors of length 1.
    same_within : float, optional
        Items this near to a training sample are the sample itself: not shown. Default: a cosine distance of 1e-6, or
        a millionth of the database's width under ``"l2"``.

    Attributes
    ----------
    index : NeighborIndex

    Raises
    ------
    ValueError
        Fewer items than k.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(100, 5))
    >>> retrieval = Retrieval(X, k=2)
    >>> table = retrieval.prepare(X, ids=np.arange(100))
    >>> int(retrieval.counts.sum())
    200
    >>> context, neighbours = retrieval.context(retrieval.queries(3, generator=0))
    >>> context.shape
    torch.Size([3, 2, 5])
    """

    def __init__(
        self,
        index: Any,
        embed: Embed | None = None,
        k: int | np.integer = 4,
        *,
        normalize_context: bool = False,
        same_within: float | int | None = None,
    ) -> None:
        super().__init__()
        self._embed = (embed,)  # in a tuple a module's weights are not the generator's
        self.normalize_context = normalize_context
        if same_within is not None:
            check_in_range(same_within, "same_within", low=0)
        self.same_within = same_within
        self._held: tuple[np.ndarray, Tensor, Tensor] | None = None
        self._counted = _NONE
        self._real: np.ndarray | None = None
        self._threshold: float | None = None
        self.index = self._as_index(index, NeighborIndex())
        self._known = self.index.ids, self.index.vectors  # of which counts and distances tell
        self.k = self._check_k(k)

    # ------------------------------------------------------------------------------------------------ the database

    @property
    def dim(self) -> int:
        """Numbers of an embedding."""
        return int(self.index.vectors.shape[1])

    @property
    def counts(self) -> Int[np.ndarray, " items"] | None:
        """How often each item of the index was among a training sample's k neighbours; None where it is not known."""
        self._notice()
        ids, counts = self._counted
        if not len(ids):
            return None
        at = np.minimum(np.searchsorted(ids, self.index.ids), len(ids) - 1)
        return counts[at] if bool((ids[at] == self.index.ids).all()) else None

    def embed(self, X: Any) -> Float[np.ndarray, "n dim"]:
        """Return the samples' embeddings; a wrong number of them, or of their columns, is a ValueError."""
        return self._vectors(X, "X")

    def _vectors(self, X: Any, name: str) -> Float[np.ndarray, "n dim"]:
        (function,) = self._embed
        X, said = as_rows(X, name), "what embed returned"
        if function is None:
            out, said = check_numbers(X, name), name
            out = out.reshape(len(out), math.prod(out.shape[1:]))
        elif isinstance(function, nn.Module):
            own = next((p for p in function.parameters() if p.is_floating_point()), torch.zeros(0))
            rows = as_tensor(X, name)
            with evaluation_mode(function), torch.no_grad():
                out = function(rows.to(own.device, own.dtype, copy=True))  # which may write into what it gets
        else:
            out = function(np.array(X.detach().cpu() if isinstance(X, Tensor) else X))
        vectors = check_numbers(out, said)
        if vectors.ndim != 2 or len(vectors) != len(X):
            raise ValueError(
                f"embed must return a vector a sample, shape ({len(X)}, c), got {vectors.shape} for {len(X)} samples"
            )
        if bad := int((~np.isfinite(vectors).all(1)).sum()):
            raise ValueError(f"{said} has NaN or infinity in {bad} of {len(vectors)} rows")
        return vectors

    def swap(self, index: Any, embed: Embed | None = None) -> Retrieval:
        """Use another database (and another way into it) from now on; no weight changes.

        Counts are kept if all its items, by id and vector, were in the former one, and forgotten otherwise. An index
        that is changed in place is another database too.

        Parameters
        ----------
        index : NeighborIndex or array
            As of the class, but of samples an index with the former one's metric and options is made. Its vectors must
            be as long as the former ones.
        embed : callable, optional
            Default: the former one.
        """
        self._notice()
        dim, way = self.dim, self._embed
        self._embed = way if embed is None else (embed,)
        try:
            new = self._as_index(index, self.index)
            if new.vectors.shape[1] != dim:
                raise ValueError(
                    f"the new database has vectors of {new.vectors.shape[1]} numbers, but the network was built for "
                    f"{dim}; embed it as the former one was"
                )
            self._check_k(self.k, new)
        except Exception:
            self._embed = way
            raise
        self.index, self._real, self._threshold = new, None, None
        self._notice()
        return self

    def _notice(self) -> None:
        """Forget of another database, or one changed in place, what is not known of it."""
        (ids, vectors), new = self._known, self.index
        if new.vectors is vectors and new.ids is ids:
            return
        at = np.minimum(np.searchsorted(ids, new.ids), len(ids) - 1)
        if not np.array_equal(ids[at], new.ids) or not np.array_equal(vectors[at], new.vectors):
            self._counted = _NONE
        self._known, self._real, self._threshold = (new.ids, new.vectors), None, None

    @contextmanager
    def using(self, index: Any) -> Iterator[Retrieval]:
        """Use another database for a while; None: the own one. What is calibrated meanwhile is forgotten."""
        former = self._state()
        try:
            yield self if index is None else self.swap(index)
        finally:
            if index is not None:
                self.__dict__.update(former)

    @contextmanager
    def or_as_before(self) -> Iterator[None]:
        """Undo what was prepared or swapped meanwhile if there is an error."""
        former = self._state()
        try:
            yield
        except Exception:
            self.__dict__.update(former)
            raise

    def _state(self) -> dict[str, Any]:
        names = ("index", "_embed", "_known", "_counted", "_real", "_threshold")
        return {name: getattr(self, name) for name in names}

    def _as_index(self, index: Any, like: NeighborIndex) -> NeighborIndex:
        if isinstance(index, NeighborIndex):
            if not len(index):
                raise ValueError("the database is empty; add vectors first")
            return index
        if isinstance(index, str) or not hasattr(index, "__len__"):
            raise TypeError(
                f"index must be a NeighborIndex or an array of samples, got {type(index).__name__}"
            )
        rows = as_rows(index, "index")
        if not len(rows):
            raise ValueError("index is empty; give one sample or more")
        new = NeighborIndex(like.metric, like.backend, like.kind, n_lists=like.n_lists, n_probe=like.n_probe)
        vectors = self._vectors(rows, "index")
        if like.metric == "cosine" and (zero := np.flatnonzero(~vectors.any(1))).size:
            raise ValueError(
                f"the embedding of row {zero[0]} of index is zero and has no direction, by which items are compared; "
                'give NeighborIndex("l2").fit(embeddings)'
            )
        return new.fit(vectors)

    def _check_k(self, k: int | np.integer, index: NeighborIndex | None = None) -> int:
        items = len(self.index if index is None else index)
        if check_in_range(k, "k", low=1, integer=True) > items:
            raise ValueError(f"k={k} neighbours are more than the {items} items of index; lower k")
        return int(k)

    def vectors(self, ids: Tensor, device: Any = None) -> Float[Tensor, "... dim"]:
        """Return the vectors of ids of any shape, float32, as the network is shown them; unknown: a ValueError."""
        device = ids.device if device is None else torch.device(device)
        if self._held is None or self._held[0] is not self.index.vectors or self._held[1].device != device:
            rows = torch.from_numpy(self.index.vectors.astype(np.float32))
            if self.normalize_context:
                rows = nn.functional.normalize(rows)
            self._held = self.index.vectors, torch.tensor(self.index.ids, device=device), rows.to(device)
        _, known, rows = self._held
        wanted = ids.to(device).contiguous()
        at = torch.searchsorted(known, wanted).clamp_max(len(known) - 1)
        if device.type == "cpu" and not torch.equal(known[at], wanted):
            missing = wanted[known[at] != wanted][0]
            raise ValueError(
                f"id {int(missing)} is not in the database; fit or prepare again after it changed"
            )
        return rows[at]

    # ------------------------------------------------------------------------------------------------ training

    def prepare(self, X: Any, ids: Any = None, neighbours: Any = None) -> Int[Tensor, "n m"]:
        """Find the neighbours to train with, and count them.

        Parameters
        ----------
        X : array or Tensor, shape (n, ...)
            Samples to train on.
        ids : int array, shape (n,), optional
            Each sample's own id in the database, where it is not found; one that is not there leaves out nothing.
            Copies of it are left out too, by ``same_within``, whether or not there are ids.
        neighbours : int array, shape (n, k or more), optional
            Ids found elsewhere, the nearest first, instead of a search; then ``ids`` say nothing.

        Returns
        -------
        Tensor, shape (n, m)
            Ids, the nearest first; m is 20 (but at most half the items) or k, if that is more, or if so many are not
            left of the items beside a sample's copies.
        """
        X = as_rows(X, "X")
        if not len(X):
            raise ValueError("X has no samples to find neighbours of")
        real = None
        if neighbours is None:
            try:
                dist, found = self.search(X, ids, max(self.k, min(_CANDIDATES, len(self.index) // 2)))
            except ValueError:  # copies of a sample may leave fewer candidates, and k are enough
                dist, found = self.search(X, ids)
            real = dist[:, 0]
        else:
            found = plain_array(neighbours, "neighbours")
            fits = found.ndim == 2 and len(found) == len(X) and found.shape[1] >= self.k
            if not fits or found.dtype.kind not in "iu":
                raise ValueError(
                    f"neighbours must be ids of shape ({len(X)}, {self.k} or more), got {found.dtype} {found.shape}"
                )
            found = found.astype(np.int64)
        table = torch.tensor(found)
        self.vectors(table[:, : self.k])  # which knows unknown ids
        at = np.searchsorted(self.index.ids, found[:, : self.k].ravel())
        self._known, self._real, self._threshold = (self.index.ids, self.index.vectors), real, None
        self._counted = np.stack([self.index.ids, np.bincount(at, minlength=len(self.index))])
        return table

    def search(self, X: Any, ids: Any = None, m: int | np.integer | None = None) -> tuple[Any, Any]:
        """Return distances and ids, shape (n, m), of the m (default: k) items nearest to samples, without themselves.

        Parameters
        ----------
        X, ids
            As of :meth:`prepare`.
        """
        return self.index.kneighbors(
            self.embed(X), self.k if m is None else m, exclude_ids=ids, exclude_within=self._same_within()
        )

    def _same_within(self) -> float:
        if self.same_within is not None:
            return float(self.same_within)
        if self.index.metric == "cosine":
            return _SAME
        rows = self.index.vectors.astype(np.float64)
        largest = float(np.abs(rows).max()) or 1.0
        return _SAME * largest * float(np.sqrt(((rows - rows.mean(0)) / largest).__pow__(2).sum(1).mean()))

    # ------------------------------------------------------------------------------------------------ sampling

    def queries(
        self,
        n: int | np.integer,
        *,
        top_m: float | int | np.number = 0.01,
        use_weights: bool = False,
        labels: Any = None,
        generator: torch.Generator | RandomState = None,
    ) -> Int[Tensor, " n"]:
        """Draw pseudo-queries: ids of items, whose neighbours a sample will be made from.

        Parameters
        ----------
        top_m : float or int
            Of the items (of a label) keep those with the largest counts: a share in (0, 1], or so many (at most all).
        use_weights : bool
            Draw by counts; by default all that are kept are drawn alike.
        labels : optional
            One label for all, or one a sample: only items of it are drawn.
        generator : torch.Generator, int or None
            A seed gives the same queries again.

        Warns
        -----
        UserWarning
            The counts are not known, after a swap: all items (of a label) are drawn alike.
        """
        n = int(check_in_range(n, "n", low=0, integer=True))
        whole, counts = check_share(top_m), self.counts
        if counts is None and (use_weights or top_m != 1.0 or whole):
            warn(
                "how often items of this database were neighbours is not known (it was swapped, or never prepared): "
                "queries are drawn from all of it alike; prepare(X) counts, top_m=1.0 says that this is wanted"
            )
        u = uniform(torch.empty(n), torch_draws(generator)).cpu().numpy()
        kinds = self.kinds(labels, n)
        out = np.empty(n, dtype=np.int64)
        for kind in {None} if kinds is None else set(kinds.tolist()):
            rows = slice(None) if kinds is None else kinds == kind
            own = np.arange(len(self.index)) if kind is None else np.flatnonzero(self.index.labels == kind)
            if counts is None:
                weights = np.ones(len(own))
            else:
                kept = int(min(top_m, len(own))) if whole else max(1, round(float(top_m) * len(own)))
                own = own[np.lexsort((own, -counts[own]))[:kept]]
                weights = counts[own] if use_weights else np.ones(len(own))
            edges = np.cumsum(weights, dtype=np.float64)
            if not edges[-1]:
                raise ValueError(
                    f"none of the items{'' if kind is None else f' of label {kind}'} was a neighbour of a training "
                    "sample, so there are no weights to draw by; use_weights=False"
                )
            out[rows] = self.index.ids[own[np.searchsorted(edges, u[rows] * edges[-1], side="right")]]
        return torch.from_numpy(out)

    def kinds(self, labels: Any, n: int) -> np.ndarray | None:
        """Return labels, one a sample, of one for all or as many; one that the database has not is a ValueError."""
        if labels is None:
            return None
        known = self.index.labels
        if known is None:
            raise ValueError("the database has no labels; give them to NeighborIndex.fit")
        kinds = plain_array(labels, "labels")
        if kinds.shape not in ((), (n,)):
            raise ValueError(f"labels must be one label or {n}, one a sample, got shape {kinds.shape}")
        if len(absent := np.setdiff1d(kinds, known)):
            raise ValueError(
                f"no item of the database has the label {absent[0]}; it has {np.unique(known)[:20].tolist()}"
            )
        return np.broadcast_to(kinds, (n,))

    def context(
        self, query: Any, k: int | np.integer | None = None, mode: str = "prepend", *, device: Any = None
    ) -> tuple[Float[Tensor, "n k dim"], Int[Tensor, "n m"]]:
        """Return what the network is shown, and the ids of the items in it.

        Parameters
        ----------
        query : Tensor or array
            Ids of items, shape (n,), as :meth:`queries` draws them: their neighbours, each its own first one (or an
            item equal to it, of a smaller id). Ids, shape (n, k): these items. Or vectors, shape (n, dim), of a sample,
            a text, or anything else that is embedded into the same space.
        k : int, optional
            Of the vectors shown; default: as many as in training.
        mode : {"prepend", "omit", "only"}
            With vectors: the vector itself and its k - 1 neighbours, its k neighbours, or the vector k times.
        """
        check_choice(mode, ("prepend", "omit", "only"), "query_mode")
        wide, k = k, self._check_k(self.k if k is None else k)
        given = as_query(query)
        device = given.device if device is None else torch.device(device)
        given = given.detach().cpu()
        if not given.is_floating_point():
            if given.ndim not in (1, 2):
                raise ValueError(f"ids to look up must have shape (n,) or (n, k), got {tuple(given.shape)}")
            if given.ndim == 2:
                self.index.take(given.numpy())  # which knows unknown ids, whatever the device
                if not given.shape[1] or wide not in (None, given.shape[1]):
                    raise ValueError(
                        f"{given.shape[1]} items a sample were named, k={k} are to be shown; give no k"
                    )
                return self.vectors(given.long(), device), given.long()
            if not len(given):
                return torch.zeros(0, k, self.dim, device=device), torch.zeros(0, k, dtype=torch.int64)
            found = torch.from_numpy(self.index.kneighbors(self.index.take(given.numpy()), k)[1])
            return self.vectors(found, device), found
        if given.ndim != 2 or given.shape[1] != self.dim:
            raise ValueError(
                f"a query has {self.dim} numbers, shape (n, {self.dim}), got {tuple(given.shape)}"
            )
        asked = given.float()
        if not bool(asked.isfinite().all()):  # NaN would stand for no neighbours
            raise ValueError("query has NaN or infinity, or numbers beyond single precision")
        if self.normalize_context:
            asked = nn.functional.normalize(asked)
        wanted = {"prepend": k - 1, "omit": k, "only": 0}[mode]
        found = torch.zeros(len(given), wanted, dtype=torch.int64)
        if wanted and len(given):
            found = self.index.kneighbors(given, wanted)[1]
        shown = asked[:, None].expand(-1, k - wanted, -1).to(device)
        return torch.cat([shown, self.vectors(found, device)], 1), found

    def maker(
        self,
        n: int,
        generate: Callable[[Tensor], Any],
        *,
        query: Any = None,
        query_mode: str = "prepend",
        labels: Any = None,
        top_m: float | int | np.number = 0.01,
        use_weights: bool = False,
        k: int | np.integer | None = None,
        generator: torch.Generator | None = None,
        device: Any = None,
    ) -> Callable[[Tensor], tuple[Any, Tensor]]:
        """Return what :meth:`draw` needs: a function that looks up for some of n samples, and generates them.

        Parameters
        ----------
        generate : callable
            ``generate(context)`` returns a sample for each row of what :meth:`context` gave.
        query : array or Tensor, optional
            A vector for all, shape (dim,), or one a sample, or ids, see :meth:`context`; default: those of
            :meth:`queries`, new ones at each call.
        """
        if query is not None and labels is not None:
            raise ValueError("query says what to look up already: give it or labels")
        asked, kinds = None if query is None else as_query(query), self.kinds(labels, n)
        if asked is not None:
            if asked.is_floating_point() and asked.ndim == 1:
                asked = asked.expand(n, -1)
            if asked.shape[:1] != (n,):
                raise ValueError(
                    f"query must be one vector, or {n} vectors or ids, one a sample, got shape {tuple(asked.shape)}"
                )

        def make(rows: Tensor) -> tuple[Any, Tensor]:
            if asked is None:
                own = None if kinds is None else kinds[rows.numpy()]
                wanted = self.queries(
                    len(rows), top_m=top_m, use_weights=use_weights, labels=own, generator=generator
                )
            else:
                wanted = asked[rows.to(asked.device)]
            context, shown = self.context(wanted, k, query_mode, device=device)
            return generate(context), shown

        return make

    # ------------------------------------------------------------------------------------------------ copies

    def calibrate(self, X: Any = None, quantile: float | int = 0.01) -> float:
        """Set the distance at which a sample counts as a copy: a low quantile of real data's distances.

        Real samples that are an item, by ``same_within``, are compared with the others. So where real data repeat one
        another, or lie that near by themselves (angles of two or three numbers), more of them than ``quantile`` says
        would be called copies.

        Parameters
        ----------
        X : array or Tensor, optional
            Real samples. Default: the samples last prepared, or (after a swap) up to 2000 items, each against the
            others.
        quantile : float
            So large a share of new real samples that are no item would be called copies.
        """
        check_in_range(quantile, "quantile", low=0, high=1)
        self._notice()
        if X is not None:
            X = as_rows(X, "X")
            if not len(X):
                raise ValueError("X has no samples to measure distances of")
            real = self.search(X, m=1)[0][:, 0]
        elif self._real is not None:
            real = self._real
        else:
            some = np.unique(np.linspace(0, len(self.index) - 1, _CALIBRATION_ROWS).astype(np.int64))
            rows, ids = self.index.vectors[some], self.index.ids[some]
            try:
                near = self.index.kneighbors(rows, 1, exclude_ids=ids, exclude_within=self._same_within())
            except ValueError as error:
                raise ValueError(
                    f"the database's items do not say what is near ({error}); give real samples, calibrate(X)"
                ) from error
            real = near[0][:, 0]
        self._threshold = float(np.quantile(real, quantile))
        return self._threshold

    def report(self, samples: Any, neighbours: Any, n_redrawn: int = 0) -> RetrievalReport:
        """Return how near samples came to the database; ``neighbours`` are the ids that :meth:`context` gave."""
        self._notice()
        shown, samples = plain_array(neighbours, "neighbours"), as_rows(samples, "samples")
        dist, nearest = np.full(len(samples), np.nan), np.full(len(samples), -1)
        rows = check_numbers(samples, "samples")
        fit = np.flatnonzero(np.isfinite(rows).all(tuple(range(1, rows.ndim))))
        if len(fit):
            vectors = self.embed(samples[fit])
            if self.index.metric == "cosine":
                fit, vectors = fit[vectors.any(1)], vectors[vectors.any(1)]
            found, near = self.index.kneighbors(vectors, 1)
            dist[fit], nearest[fit] = found[:, 0], near[:, 0]
        if self._threshold is None:
            with suppress(ValueError):  # one item, or copies of one, say of nothing whether it is near
                self.calibrate()
        threshold = float("nan") if self._threshold is None else self._threshold
        return RetrievalReport(shown, nearest, dist, threshold, n_redrawn)

    def draw(
        self, n: int, make: Callable[[Tensor], tuple[Any, Tensor]], copies: str = "report"
    ) -> tuple[Any, RetrievalReport]:
        """Draw samples and look at each for a copy.

        Parameters
        ----------
        make : callable
            ``make(rows)`` draws those of the n samples whose numbers are in the tensor ``rows``, anew at each call,
            and returns them with the ids that :meth:`context` gave.
        copies : {"report", "redraw", "raise"}
            Note them, draw them again (up to ten times, then it is a ValueError), or refuse them with a ValueError.
        """
        check_choice(copies, ("report", "redraw", "raise"), "copies")
        samples, neighbours = make(torch.arange(n))
        report, n_redrawn = self.report(samples, neighbours), 0
        if copies != "report" and n and np.isnan(report.threshold):
            raise ValueError("what counts as a copy is not known; give real samples, calibrate(X)")
        for _ in range(_ROUNDS if copies == "redraw" else 0):
            rows = np.flatnonzero(report.copies)
            if not len(rows):
                break
            again, shown = make(torch.from_numpy(rows))
            samples[rows], neighbours[rows] = again, shown
            n_redrawn += len(rows)
            part = self.report(again, shown)
            nearest, distances = report.nearest.copy(), report.distances.copy()
            nearest[rows], distances[rows] = part.nearest, part.distances
            report = RetrievalReport(
                neighbours.cpu().numpy(), nearest, distances, report.threshold, n_redrawn
            )
        if copies != "report" and (left := int(report.copies.sum())):
            raise ValueError(
                f"{left} of {n} samples lie within {report.threshold:.3g} of an item of the database, as copies do"
                + (f", after {_ROUNDS} draws" if copies == "redraw" else "")
                + '; raise top_m, lower the guidance, or take them with copies="report"'
            )
        return samples, report

    # ------------------------------------------------------------------------------------------------ stored

    def identity(self) -> dict[str, Any]:
        """Return what a loss depends on, for checkpoints, which another database is then refused by."""
        ids = torch.tensor(self.index.ids)
        return {"k": self.k, "ids": ids, "shown": self.vectors(ids)}

    def get_extra_state(self) -> Int[Tensor, "2 items"]:
        """Return ids and counts for the ``state_dict``."""
        return torch.from_numpy(self._counted.copy())

    def set_extra_state(self, state: Tensor) -> None:
        """Take ids and counts from a ``state_dict``."""
        self._counted = state.cpu().numpy().astype(np.int64)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_held": None}  # worked out again from the index

    def extra_repr(self) -> str:
        """Return the database's size, the vectors' length and k as text."""
        return f"{len(self.index)} items, dim={self.dim}, k={self.k}"
