r"""Points of [0, 1]^d as features out of tables: :class:`HashEncoding`, on simplices or on a grid.

Level l scales a point to :math:`u = N_l x`. On simplices it is then skewed, and its cell cut along the order of the
fractions :math:`w = u' - \lfloor u' \rfloor`:

.. math:: u' = u + s \Big(\sum_i u_i\Big) 1, \quad s = \frac{\sqrt{d + 1} - 1}{d}, \qquad
          w_{p_1} \ge \dots \ge w_{p_d}, \\
          v_0 = \lfloor u' \rfloor, \quad v_k = v_{k-1} + e_{p_k}, \qquad
          \lambda_0 = 1 - w_{p_1}, \quad \lambda_k = w_{p_k} - w_{p_{k+1}}, \quad \lambda_d = w_{p_d}.

The feature is :math:`\sum_k \lambda_k\, \mathrm{table}[h(v_k)]`: piecewise linear, continuous, d + 1 rows. In the space
of x the cells are those of a nearly regular lattice. A grid weighs the :math:`2^d` corners of the cell instead.
:math:`h` numbers the vertices row by row where they fit into a table of T rows, and is
:math:`\mathrm{XOR}_j (v_j \pi_j) \bmod T`, in 32 bits, where they do not.

===================  ==================================
symbol in the paper  name here
===================  ==================================
L, F, T              ``n_levels``, ``n_features``, 2 to the power of ``log2_table``
N_min, N_max, N_l    ``n_min``, ``n_max``, ``resolutions``
pi                   ``PRIMES``
===================  ==================================

How it is computed: all levels at once, without a tensor of vertices. A step along axis j adds a stride to a dense index
and flips the bits :math:`v_j \pi_j \oplus (v_j + 1) \pi_j` of a hashed one, so that strides and flips are sorted with
the fractions by a network of comparators. The grid has the same care: its corners are built by doubling.

Departures: the skewed points are divided by :math:`\sqrt{d + 1}` (``normalize_skew``), so that a level has as many
cells a side, and rows, as the grid's. A part of these lies outside of the skewed cube, so the cells in use
are larger than the grid's. From the eighth axis on there are more multipliers than the grid's authors give.

Source: Y. Wen, Y. Yang, 2023, arXiv 2311.15439; the grid is of T. Müller and others, arXiv 2201.05989, section 3.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any, no_type_check

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from lodim.randomness import RandomState, root_seed, torch_generator
from lodim.validation import check_choice, check_counts, check_in_range, check_tensor, checked, warn

__all__ = ["KINDS", "GridHashEncoding", "HashEncoding", "SimplexHashEncoding"]

KINDS = ("simplex", "grid", "kuhn")
# seven of instant-ngp, four of xxHash
PRIMES = (
    1, 2654435761, 805459861, 3674653429, 2097192037, 1434869437, 2165219737,
    2246822519, 3266489917, 668265263, 374761393,
)  # fmt: skip
_INIT = 1e-4
MOST_GRID = 8
_MOST_ROWS = 2**31 - 1


@checked
class HashEncoding(nn.Module):
    """Features of points, interpolated in tables of several resolutions.

    Parameters
    ----------
    in_dim : int
        d, at least 1; a grid takes 8 at most.
    n_levels : int
        The features of all levels stand side by side.
    n_features : int
        Features a level.
    log2_table : int
        Binary logarithm of the most rows that a level has, 4 to 28.
    n_min, n_max : int
        Cells a side of the coarsest and the finest level; between them the side grows by a constant factor. With one
        level there is ``n_min`` alone.
    kind : {"simplex", "grid", "kuhn"}
        "kuhn" cuts the cells of the grid without skewing them.
    normalize_skew : bool
        Of "simplex": divide the skewed points by sqrt(d + 1), so that the tables are of the grid's size. Without, cells
        are as fine as the grid's, and more.
    strict : bool
        Points outside [0, 1] are an error; else they are moved to the border, with one warning. A module compiled by
        ``torch.compile`` moves them without a warning, whatever ``strict`` is, and does not look for NaN.
    random_state : int, Generator or None
        Of the tables, uniform between -1e-4 and 1e-4.

    Attributes
    ----------
    table : Parameter, shape (rows, n_features)
        First the hashed levels, then the dense ones.
    resolutions : tuple of int
        N_l.
    dense : tuple of bool
        Whether a level has a row for each vertex.
    out_dim : int
        ``n_levels * n_features``.

    Raises
    ------
    ValueError
        No such encoding, a grid of more than 8 dimensions, or more than 2^31 rows.

    Notes
    -----
    Gradients reach the tables and, where asked for, the points (constant within a simplex); they can be differentiated
    again. Features have the higher precision of points and tables, at least single; tables may be of half precision
    (``encoding.half()``), to store and to look up. A ``state_dict`` also says what the rows mean (``get_extra_state``),
    and one of another encoding is refused.

    Examples
    --------
    >>> encoding = HashEncoding(3, n_levels=4, n_max=128, random_state=0)
    >>> encoding(torch.rand(5, 3)).shape
    torch.Size([5, 8])
    """

    _n: Tensor
    _last: Tensor
    _offset: Tensor
    _mask: Tensor
    _factor: Tensor

    def __init__(
        self,
        in_dim: int,
        n_levels: int = 16,
        n_features: int = 2,
        log2_table: int = 14,
        n_min: int = 16,
        n_max: int = 512,
        kind: str = "simplex",
        normalize_skew: bool = True,
        strict: bool = False,
        random_state: RandomState = None,
    ) -> None:
        super().__init__()
        check_counts(in_dim=in_dim, n_levels=n_levels, n_features=n_features, n_min=n_min)
        check_in_range(log2_table, "log2_table", low=4, high=28, integer=True)
        if n_max < n_min:
            raise ValueError(f"n_max must be at least n_min: cells a side grow; got {n_max} and {n_min}")
        check_in_range(n_max, "n_max", high=2**20, integer=True)
        check_choice(kind, KINDS, "kind")
        if kind == "grid" and in_dim > MOST_GRID:
            raise ValueError(
                f"a grid of {in_dim} dimensions would weigh 2^{in_dim} corners; it takes {MOST_GRID} at most, "
                'kind="simplex" any number'
            )
        self.in_dim, self.n_levels, self.n_features = int(in_dim), int(n_levels), int(n_features)
        self.kind, self.normalize_skew, self.strict = kind, normalize_skew, strict
        self._pairs = _network(self.in_dim)
        self.log2_table, self.out_dim = int(log2_table), int(n_levels * n_features)
        self.resolutions, wider, sides = lattice_sides(in_dim, n_levels, n_min, n_max, kind, normalize_skew)
        self.dense = tuple(side**self.in_dim <= 2**log2_table for side in sides)
        self._lay_out(sides, wider)
        self._outside_told = False
        self.table = nn.Parameter(torch.empty(self._n_rows, self.n_features))
        draws = torch_generator(root_seed(random_state))
        with torch.no_grad():
            self.table.uniform_(-_INIT, _INIT, generator=draws)

    def _lay_out(self, sides: list[int], wider: float) -> None:
        """Find where each level begins, and by what a vertex's coordinates are multiplied to number it."""
        most, d = 2**self.log2_table, self.in_dim
        # hashed levels first: they begin at multiples of T, so that flipping bits never carries
        rows = most * (self.n_levels - sum(self.dense))
        offsets, factors, masks, hashed = [], [], [], 0
        for side, dense in zip(sides, self.dense, strict=True):
            offsets.append(rows if dense else most * hashed)
            factors.append(
                [side ** (d - 1 - j) for j in range(d)] if dense else [_signed(p) for p in _primes(d)]
            )
            masks.append(-1 if dense else most - 1)
            rows, hashed = rows + side**d * dense, hashed + (not dense)
        if rows > _MOST_ROWS:
            raise ValueError(f"{rows} rows are more than 2^31; lower log2_table or n_levels")
        self._n_rows, self._wider, self._n_dense = rows, wider, sum(self.dense)
        for name, values in {
            "_n": self.resolutions,
            "_last": [side - 2 for side in sides],
            "_offset": offsets,
            "_mask": masks,
        }.items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.int32)[:, None], persistent=False)
        strides = torch.tensor(factors, dtype=torch.int32).T[..., None]
        self.register_buffer("_factor", strides.contiguous(), persistent=False)

    def forward(self, x: Any) -> Any:
        """Return the features of points of [0, 1]^d, shapes (n, in_dim) and (n, out_dim).

        Raises
        ------
        TypeError
            No tensor.
        ValueError
            Another shape, no fractions, NaN, or with ``strict`` points outside.
        """
        base, w = self._cells(self._checked_points(x))
        weights, rows = self._corners(base, w) if self.kind == "grid" else self._simplex(base, w)
        return _LookUp.apply(self.table, len(rows), *weights, *rows)

    def _checked_points(self, x: Any) -> Any:
        """Return points in the cube, of single precision or higher."""
        if torch.compiler.is_compiling():
            return x.to(torch.promote_types(torch.float32, x.dtype)).clamp(0, 1)
        check_tensor(x, "x")
        if x.ndim != 2 or x.shape[1] != self.in_dim:
            raise ValueError(f"x must be points, shape (n, {self.in_dim}), got {tuple(x.shape)}")
        if not x.is_floating_point():
            raise ValueError(
                f"x must hold fractions in [0, 1], got {x.dtype}; divide pixels by their number first"
            )
        x = x.to(torch.promote_types(torch.float32, x.dtype))
        if not len(x):
            return x
        low, high = (float(end) for end in torch.aminmax(x.detach()))
        if low != low or high != high:
            raise ValueError(f"x has {int(x.isnan().sum())} NaN; drop or impute them")
        if low >= 0 and high <= 1:
            return x
        told = f"points must lie in [0, 1], got coordinates from {low:g} to {high:g}; scale them first"
        if self.strict:
            raise ValueError(told)
        if not self._outside_told:
            self._outside_told = True
            warn(f"{told}. They are moved to the border, here and in later calls", stacklevel=4)
        return x.clamp(0, 1)

    def _cells(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cells, int32, and the fractions within them, both of shape (d, levels, n)."""
        y, scale = x.T.contiguous(), self._wider
        if self.kind == "simplex":
            d, eps = self.in_dim, torch.finfo(x.dtype).eps
            y = torch.add(y, y.sum(0), alpha=_skew(d))
            # rounding alone leads beyond the last vertex
            scale *= (1 - (d + 4) * eps) / math.sqrt(d + 1)
        elif self.kind == "kuhn":
            # of a negative zero, whose bits would sort as the largest
            y = y + 0.0
        u = y[:, None, :] * (self._n.to(x.dtype) * scale)
        # the last vertex is the end of the last cell, not the beginning of another
        base = u.detach().to(torch.int32).clamp_(max=self._last)
        return base, u - base if u.requires_grad else u.sub_(base)

    def _and(self, a: Tensor, b: Tensor) -> Tensor:
        """Put parts of row numbers together: dense levels add, hashed ones flip. Dense levels are the first ones."""
        n = self._n_dense
        if n in (0, self.n_levels):
            return a + b if n else a ^ b
        mixed = a + b
        mixed[n:] = a[n:] ^ b[n:]
        return mixed

    def _simplex(self, base: Tensor, w: Tensor) -> tuple[Any, Any]:
        """Return weights and rows of the d + 1 vertices, each of shape (levels, n)."""
        n, part = self._n_dense, base.mul_(self._factor)
        flips = part[:, n:] + self._factor[:, n:]
        flips.bitwise_xor_(part[:, n:]).bitwise_and_(self._mask[n:])
        steps = torch.cat([self._factor[:, :n].expand(-1, -1, base.shape[2]), flips], 1) if n else flips
        row = functools.reduce(self._and, part.unbind(0)).bitwise_and_(self._mask).add_(self._offset)
        fractions, steps_sorted, order = _sort(w, self._pairs, list(steps.unbind(0)))
        if order is not None:
            fractions = list(w.gather(0, torch.stack(order).long()).unbind(0))
        less = torch.sub if w.requires_grad else Tensor.sub_
        weights = [1 - fractions[0], *(less(a, b) for a, b in itertools.pairwise(fractions)), fractions[-1]]
        rows = [row]
        for step in steps_sorted:
            rows.append(self._and(rows[-1], step))
        return weights, rows

    def _corners(self, base: Tensor, w: Tensor) -> tuple[Any, Any]:
        """Return weights and rows of the 2^d corners; corner k is at the far end of axis j where bit j of k is set."""
        near = base.mul_(self._factor)
        far = (near + self._factor).bitwise_and_(self._mask)
        near.bitwise_and_(self._mask)
        near[0] += self._offset
        far[0] += self._offset
        rows, weights = [near[0], far[0]], [1 - w[0], w[0]]
        less = torch.sub if w.requires_grad else Tensor.sub_
        for j in range(1, self.in_dim):
            rows = [self._and(row, end[j]) for end in (near, far) for row in rows]
            beyond = [weight * w[j] for weight in weights]
            weights = [less(weight, part) for weight, part in zip(weights, beyond)] + beyond
        return weights, rows

    def vertices(self, x: Any, level: int) -> tuple[Int64[Tensor, "n k in_dim"], Float[Tensor, "n k"]]:
        """Return the vertices that a level looks up for each point, in coordinates of its lattice, and their weights.

        Their weighted mean is the scaled (and skewed) point. There are d + 1, or 2^d of a grid.
        """
        check_in_range(level, "level", low=0, high=self.n_levels - 1, integer=True)
        base, w = (values[:, level] for values in self._cells(self._checked_points(x).detach()))
        if self.kind == "grid":
            bits = torch.arange(2**self.in_dim, device=x.device)[:, None] >> torch.arange(
                self.in_dim, device=x.device
            )
            ends = (bits & 1)[None]
            weights = torch.where(ends == 1, w.T[:, None], 1 - w.T[:, None]).prod(2)
            return base.T.long()[:, None] + ends, weights
        fractions, _, order = _sort(w, self._pairs, [], with_order=True)
        axes = torch.stack(order or [], 1).long()
        path = nn.functional.one_hot(axes, self.in_dim).cumsum(1)
        first = base.T.long()[:, None]
        ends = torch.cat([first, first + path], 1)
        ones = torch.ones_like(w[:1])
        return ends, -torch.cat([ones, torch.stack(fractions), 0 * ones]).diff(dim=0).T

    def rows(self, vertices: Int64[Tensor, "n k in_dim"], level: int) -> Int64[Tensor, "n k"]:
        """Return the rows of the table in which vertices of a level are: h, from its definition."""
        check_in_range(level, "level", low=0, high=self.n_levels - 1, integer=True)
        parts = vertices.long() * self._factor[:, level, 0]
        if not self.dense[level]:
            mixed = functools.reduce(torch.bitwise_xor, parts.unbind(-1))
            parts = (mixed & int(self._mask[level]))[..., None]
        return parts.sum(-1) + int(self._offset[level])

    def get_extra_state(self) -> Int64[Tensor, " settings"]:
        """Return what the rows of the table mean, for the ``state_dict``."""
        kind = KINDS.index(self.kind)
        return torch.tensor([self.in_dim, kind, int(self._wider > 1), self.log2_table, *self.resolutions])

    def set_extra_state(self, state: Int64[Tensor, " settings"]) -> None:
        """Refuse the tables of an encoding that reads them differently."""
        own = self.get_extra_state().tolist()
        if state.tolist() != own:
            names = "in_dim, number of the kind, whether not divided, log2_table, resolutions"
            raise ValueError(
                f"the state is of another encoding: {state.tolist()}, this one is {own} ({names}); make it alike first"
            )

    def extra_repr(self) -> str:
        """Say what the encoding is."""
        return (
            f"{self.in_dim}, kind={self.kind!r}, n_levels={self.n_levels}, n_features={self.n_features}, "
            f"cells a side {self.resolutions[0]} to {self.resolutions[-1]}, {len(self.table)} rows"
        )


class SimplexHashEncoding(HashEncoding):
    """A :class:`HashEncoding` on simplices: d + 1 look-ups a level."""

    def __init__(self, in_dim: int, **options: Any) -> None:
        super().__init__(in_dim, kind="simplex", **options)


class GridHashEncoding(HashEncoding):
    """A :class:`HashEncoding` on the cells of a grid, that of instant-ngp: 2^d look-ups a level."""

    def __init__(self, in_dim: int, **options: Any) -> None:
        super().__init__(in_dim, kind="grid", **options)


class _LookUp(torch.autograd.Function):
    """Weighted sums of rows of a table: features (n, levels * n_features) of k weights and rows (levels, n).

    Column by column and vertex by vertex: on a processor several times as fast as an embedding bag and its backward,
    and nothing of size k is held beyond the arguments.
    """

    # torch.compile cannot follow what checks annotations in the tests here
    @staticmethod
    @no_type_check
    def forward(table: Tensor, k: int, *corners: Any) -> Any:
        weights, rows = corners[:k], corners[k:]
        dtype = torch.promote_types(weights[0].dtype, table.dtype)
        levels, n = weights[0].shape
        out = torch.zeros(levels, table.shape[1], n, dtype=dtype, device=table.device)
        for f, column in enumerate(table.unbind(1)):
            for weight, row in zip(weights, rows):
                found = column.index_select(0, row.reshape(-1)).view(levels, n).to(dtype)
                out[:, f].addcmul_(found, weight.to(dtype))
        return out.view(levels * table.shape[1], n).T

    @staticmethod
    @no_type_check
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        table, ctx.k, *corners = inputs
        ctx.save_for_backward(table, *corners)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        table, *corners = ctx.saved_tensors
        weights, rows, k = corners[: ctx.k], corners[ctx.k :], ctx.k
        levels, n = weights[0].shape
        by_feature = grad.T.reshape(levels, table.shape[1], n).transpose(0, 1).contiguous()
        d_table = grad.new_zeros(table.shape[::-1]) if ctx.needs_input_grad[0] else None
        d_weights: list[Any] = [None] * k
        for f, g in enumerate(by_feature):
            for i, (weight, row) in enumerate(zip(weights, rows)):
                if d_table is not None:
                    d_table[f].index_add_(0, row.reshape(-1), (weight * g).reshape(-1))
                if ctx.needs_input_grad[2 + i]:
                    found = table[:, f].index_select(0, row.reshape(-1)).view(levels, n)
                    d_weights[i] = found * g if f == 0 else d_weights[i] + found * g
        d_weights = [None if d is None else d.to(w.dtype) for d, w in zip(d_weights, weights)]
        return None if d_table is None else d_table.T.to(table.dtype), None, *d_weights, *[None] * k


def lattice_sides(
    in_dim: int, n_levels: int, n_min: int, n_max: int, kind: str = "simplex", normalize_skew: bool = True
) -> tuple[tuple[int, ...], float, list[int]]:
    """Return N_l, by what skewed points are wider than the grid's, and the vertices a side of each level.

    A level has a row for each of the side^d vertices, or T rows where these are fewer.
    """
    growth = (n_max / n_min) ** (1 / max(n_levels - 1, 1))
    resolutions = tuple(math.floor(n_min * growth**level + 1e-6) for level in range(n_levels))
    wider = math.sqrt(in_dim + 1) if kind == "simplex" and not normalize_skew else 1.0
    return resolutions, wider, [math.ceil(n * wider - 1e-6) + 1 for n in resolutions]


def _skew(d: int) -> float:
    return (math.sqrt(d + 1) - 1) / d


def skew(u: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Return points of the space of simplices in the space of its cubes: u'."""
    return u + _skew(u.shape[1]) * u.sum(1, keepdim=True)


def unskew(u: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Return where skewed points come from: the inverse of :func:`skew`, g = (1 - 1/sqrt(d + 1)) / d."""
    d = u.shape[1]
    return u - (1 - 1 / math.sqrt(d + 1)) / d * u.sum(1, keepdim=True)


def _primes(d: int) -> list[int]:
    found = list(PRIMES)
    while len(found) < d:
        found.append(found[-9] * found[-10] % 2**32)
    return found[:d]


def _signed(value: int) -> int:
    """Return the 32 bits of a whole number as a signed one: products of such wrap to the same bits."""
    return value - 2**32 if value >= 2**31 else value


def _network(n: int) -> tuple[tuple[int, int], ...]:
    """Return the comparators that sort n numbers: Batcher's odd-even merge sort."""
    pairs, p = [], 1
    while p < n:
        k = p
        while k:
            for j in range(k % p, n - k, 2 * k):
                for i in range(j, min(j + k, n - k)):
                    if i // (2 * p) == (i + k) // (2 * p):
                        pairs.append((i, i + k))
            k //= 2
        p *= 2
    return tuple(pairs)


def _sort(w: Tensor, pairs: Any, loads: Any, with_order: bool = False) -> tuple[Any, Any, Any]:
    """Sort along the first axis, the largest first, and take int32 loads along; the order where w needs a gradient.

    ``pairs`` are the comparators. Fractions are not negative, so that their bits compare as they do; a mask of bits is
    many times as fast here as a choice, whose branches nobody can predict.
    """
    d, bits = len(w), torch.int64 if w.dtype == torch.float64 else torch.int32
    with_order = with_order or w.requires_grad
    values = list((w.detach().clone() if w.requires_grad else w).unbind(0))
    order = [torch.full_like(values[0], j, dtype=torch.int32) for j in range(d)] if with_order else None
    for a, b in pairs:
        first, second = values[a], values[b]
        # all bits where the first is the smaller
        less = (first.view(bits) - second.view(bits)).clamp_(-1, 0).to(torch.int32)
        values[a], values[b] = torch.maximum(first, second), second.clamp_(max=first)
        for held in filter(None, (loads, order)):
            change = (held[a] ^ held[b]).bitwise_and_(less)
            held[a].bitwise_xor_(change)
            held[b].bitwise_xor_(change)
    return values, loads, order
