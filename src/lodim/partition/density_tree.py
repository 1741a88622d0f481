r"""The tree of a sample's density: which rows stay together when everything thinner than a level is taken away.

**Density.** With :math:`r_k(i)` the distance from row i to its k-th neighbour, the logarithm of the density is
:math:`-d \log r_k(i)` up to a constant, d the dimension of the rows, and its noise is about :math:`1 / \sqrt k`.

**Tree.** Rows are joined to their nearest neighbours. An edge is as thin as the thinner of its ends; an edge that
bridges a gap is as thin as the gap is long,
:math:`s_{ij} = \max(r_k(i), r_k(j), \Vert x_i - x_j \Vert)` (mutual reachability). A minimum spanning tree of
:math:`s`, read from dense to thin, tells where parts meet; among edges equally thin the one to the denser row comes
first, so that every row joins its densest neighbour.

**Valley.** Where two parts of at least ``least`` rows meet at s, the valley between them is

.. math:: D = d\,(\log s - \log r_*)

deep, in nats of density: :math:`\log r_*` is the level that the densest fifth of a part reaches, of the part with the
lower summit; d is measured on the rows of each part at the scale of the comparison, from the k-th to the 2k-th
neighbour, :math:`d = \log 2 / \overline{\log(r_{2k} / r_k)}`, and the smaller one counts. Parts whose valley is
shallower than asked for are one.

===============================  =======================================================
in the formulas                  here
===============================  =======================================================
:math:`\log r_k`                 ``level``
:math:`\log(r_{2k} / r_k)`       ``growth``
:math:`\log s`                   ``height``
D                                ``depth``
===============================  =======================================================

Sources: K. Chaudhuri and S. Dasgupta 2010 (rates of convergence for the cluster tree: the tree by core distances);
F. Chazal, L. Guibas, S. Oudot and P. Skraba 2013 (ToMATo: merging by prominence along a neighbour graph); R. Campello,
D. Moulavi and J. Sander 2013 (mutual reachability). Departures: the level of a part is a quantile and not its single
densest row, whose noise grows with the sample; the dimension is that of the parts, so that a thread that grows out of
a ball is not judged by the ball's; and a part needs a least number of rows. A row is joined to its 6 nearest neighbours
only, to 4 where the rows are of 4 dimensions or more from afar too: those suffice to go round a chance dip there, and
with more of them single rows bridge real valleys.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from lodim.neighbors import MinByLabelPair, NeighborGraph, stream_pairs
from lodim.partition.valley_null import chance, deep_enough, least_rows

__all__ = ["Edges", "Neighborhoods", "Tree", "best_tree", "grow_tree", "measured_dimension"]

FEW_EDGES, MORE_EDGES = 4, 6  # in many dimensions, and in few
_MANY_DIMENSIONS = 4
_SUMMIT = 0.2  # share of a part's rows that reach its level
_FAR = 16  # pairs kept of two pieces that lists do not join

Edges = tuple[np.ndarray, np.ndarray, np.ndarray]  # two rows and the length of each


@dataclass(frozen=True)
class Neighborhoods:
    """Neighbour lists of rows, no two of them equal.

    Attributes
    ----------
    X : ndarray, shape (n, features)
    dist, idx : ndarray, shape (n, n_listed)
        Distances, ascending, and rows.
    far : tuple
        Edges: the nearest pairs of rows of pieces that no list joins.
    """

    X: Float[np.ndarray, "n features"]
    dist: Float[np.ndarray, "n n_listed"]
    idx: Int[np.ndarray, "n n_listed"]
    far: Edges = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))

    @classmethod
    def of(cls, X: Float[np.ndarray, "n features"], n_listed: int) -> Neighborhoods:
        """Search the lists of different rows, of ordinary extent."""
        graph = NeighborGraph.from_data(X, n_listed)
        return cls(X, graph.dist, graph.idx).joined()

    def take(self, kept: Bool[np.ndarray, " n"], n_listed: int) -> Neighborhoods:
        """Return the lists of some rows among themselves; they are searched only if the lists here are too short."""
        alive = kept[self.idx[kept]]
        if alive.sum(1).min() < n_listed:
            return Neighborhoods.of(self.X[kept], n_listed)
        first = np.argsort(~alive, axis=1, kind="stable")[:, :n_listed]
        place = np.cumsum(kept) - 1
        dist, idx = (np.take_along_axis(values[kept], first, 1) for values in (self.dist, self.idx))
        tail, head, length = (part[kept[self.far[0]] & kept[self.far[1]]] for part in self.far)
        return Neighborhoods(self.X[kept], dist, place[idx], (place[tail], place[head], length)).joined()

    def joined(self) -> Neighborhoods:
        """Return the lists with the far edges that they need for one piece."""
        tail, head, _ = self.edges()
        n_pieces, piece = _pieces(tail, head, len(self.X))
        if n_pieces == 1:
            return self
        order = np.argsort(piece, kind="stable")
        rows = np.ascontiguousarray(self.X[order])
        ((squares, pairs),) = stream_pairs(rows, reducers=[MinByLabelPair(piece[order], _FAR, points=rows)])
        there = np.isfinite(squares)
        tail, head = order[pairs[there]].T
        return replace(self, far=(tail, head, np.sqrt(squares[there])))

    def edges(self, n_edges: int = FEW_EDGES) -> Edges:
        """Edges to the nearest neighbours, and the shortest listed ones that join their pieces."""
        tail, head = _pairs(self.idx[:, :n_edges])
        near = (tail, head, self.dist[:, :n_edges].ravel())
        n_pieces, piece = _pieces(tail, head, len(self.X))
        if n_pieces == 1:
            return near
        every = zip((*_pairs(self.idx), self.dist.ravel()), self.far)
        from_, to, length = (np.concatenate(both) for both in every)
        between = np.flatnonzero(piece[from_] != piece[to])
        shortest = between[np.argsort(length[between], kind="stable")]
        used = _spanning(piece[from_], piece[to], n_pieces, shortest)
        return tuple(np.r_[a, b[used]] for a, b in zip(near, (from_, to, length)))  # type: ignore[return-value]


def _pairs(idx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.repeat(np.arange(len(idx)), idx.shape[1]), idx.ravel()


def _pieces(tail: np.ndarray, head: np.ndarray, n: int) -> tuple[int, np.ndarray]:
    return connected_components(csr_array((np.ones(len(tail)), (tail, head)), shape=(n, n)), directed=False)


def _spanning(tail: np.ndarray, head: np.ndarray, n: int, order: np.ndarray) -> np.ndarray:
    """Positions of the edges of the spanning forest, in the order in which edges are to be taken."""
    a, b = np.minimum(tail, head)[order], np.maximum(tail, head)[order]
    _, first = np.unique(a.astype(np.int64) * n + b, return_index=True)  # the first of parallel edges
    ranks = csr_array((first + 1.0, (a[first], b[first])), shape=(n, n))
    return order[np.sort(minimum_spanning_tree(ranks).data.astype(np.int64)) - 1]


@dataclass(frozen=True)
class Tree:
    """Valleys of the density at one k, and the parts between those that are deep enough.

    Attributes
    ----------
    depths : ndarray, shape (n_valleys,)
        Of all valleys between parts of enough rows, the deepest first, in nats.
    labels : int ndarray, shape (n,)
        Part of each row, the largest first; -1 for rows that lie apart, too few to be a part.
    level, saddle : ndarray, shape (n,) and (n_parts,)
        ``log r_k`` of each row, and of each part the densest ``log s`` at which it meets another (infinite for one).
    part_depths, part_dims : ndarray, shape (n_parts,)
        Depth of that valley seen from the part, and the part's dimension there.
    dimension : float
        Of all rows.
    """

    depths: Float[np.ndarray, " n_valleys"]
    labels: Int[np.ndarray, " n"]
    level: Float[np.ndarray, " n"]
    saddle: Float[np.ndarray, " n_parts"]
    part_depths: Float[np.ndarray, " n_parts"]
    part_dims: Float[np.ndarray, " n_parts"]
    dimension: float


def grow_tree(
    lists: Neighborhoods,
    edges: Edges,
    k: int,
    least: int,
    deep: float,
    dimension: float | None = None,
    ceiling: float = math.inf,
) -> Tree:
    """Read the tree at the k-th neighbour.

    Parameters
    ----------
    edges : tuple
        Of :meth:`Neighborhoods.edges`.
    k : int
        At most half of the neighbours listed.
    least : int
        Rows that a part needs.
    deep : float
        Nats from which a valley divides.
    dimension : float, optional
        Instead of the measured one.
    ceiling : float
        The most a measured one may be: the columns.
    """
    raw = np.log(lists.dist[:, k - 1])
    order = np.argsort(raw, kind="stable")  # from here on row 0 is the densest
    rank = np.argsort(order)
    level, growth = raw[order], (np.log(lists.dist[:, 2 * k - 1]) - raw)[order]
    ends = np.sort([rank[edges[0]], rank[edges[1]]], axis=0)
    height = np.maximum(level[ends[1]], np.log(edges[2]))
    used = _spanning(ends[0], ends[1], len(level), np.lexsort((ends[0], height)))

    def measured(members: Any) -> float:
        if dimension is not None:
            return dimension
        mean = float(growth[members].mean())
        return min(ceiling, math.log(2) / mean) if mean > 0 else ceiling

    def summit(members: list[int]) -> float:
        reach = max(0, round(_SUMMIT * len(members)) - 1)
        return float(np.partition(level[members], reach)[reach])

    part = list(range(len(level)))
    held = [[i] for i in part]
    depths, cut, sides, apart = [], [], [], []
    for at, (u, v, s) in enumerate(
        zip(ends[1, used].tolist(), ends[0, used].tolist(), height[used].tolist())
    ):
        a, b = part[u], part[v]
        small, large = (a, b) if len(held[a]) < len(held[b]) else (b, a)
        if len(held[small]) >= least:
            rises = [max(0.0, s - summit(held[side])) for side in (a, b)]
            dims = [measured(held[side]) for side in (a, b)]
            depths.append(min(dims) * min(rises))
            if depths[-1] >= deep:
                cut.append(at)
                sides += [(u, s, dims[0] * rises[0], dims[0]), (v, s, dims[1] * rises[1], dims[1])]
        elif len(held[large]) >= least and len(held[small]) > 1:
            apart += held[small] * (measured(held[small]) * (s - summit(held[small])) >= deep)
        for i in held[small]:
            part[i] = large
        held[large] += held[small]
        held[small] = []
    whole = np.delete(used, cut)
    n_parts, labels = _pieces(ends[1, whole], ends[0, whole], len(level))
    labels = np.argsort(np.argsort(-np.bincount(labels), kind="stable"))[labels]  # the largest is 0
    meets = np.full((n_parts, 3), [math.inf, math.inf, measured(slice(None))])
    for row, *valley in sides:
        if valley[0] < meets[labels[row], 0]:
            meets[labels[row]] = valley
    labels[apart] = -1
    saddle, part_depths, part_dims = meets.T
    of_all = measured(slice(None))
    return Tree(np.sort(depths)[::-1], labels[rank], raw, saddle, part_depths, part_dims, of_all)


def best_tree(
    lists: Neighborhoods, ks: tuple[int, ...], level: float | int, dimension: float | None = None
) -> tuple[int, Tree]:
    """The k among ``ks`` at which the most parts differ, of equals the one with the rarest valley; and its tree.

    Parameters
    ----------
    level : float
        Chance of parts where there are none.
    dimension : float, optional
        Instead of the measured ones.
    """
    n, columns = lists.X.shape
    many = measured_dimension(lists, ks[-1]) >= _MANY_DIMENSIONS
    edges = lists.edges(FEW_EDGES if many else MORE_EDGES)
    found = []
    for k in ks:
        deep = deep_enough(n, k, len(ks), level)
        tree = grow_tree(lists, edges, k, least_rows(n, k), deep, dimension, float(columns))
        rarest = chance(float(tree.depths[0]), n, k, len(ks)) if len(tree.depths) else 1.0
        found.append((-len(tree.saddle), rarest, k, tree))
    return min(found, key=lambda one: one[:3])[2:]


def measured_dimension(lists: Neighborhoods, k: int) -> float:
    """Dimension of all rows from the k-th to the 2k-th neighbour; infinite where they tie."""
    mean = float(np.log(lists.dist[:, 2 * k - 1] / lists.dist[:, k - 1]).mean())
    return math.log(2) / mean if mean > 0 else math.inf
