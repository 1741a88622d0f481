r"""The kernel: how columns fall into patches, and the recursion over layers for a block of pairs of rows.

The recursion runs depth first. A meta-patch of layer l is averaged while its parts come in, so that one block of sums
for each layer is all that is held. Of a block of 256 x 256 pairs everything stays in the processor's outer cache, and
the arc cosine is most of the work: :math:`k_0` and :math:`k_1` share it, as they do :math:`\sqrt{1 - t^2}`. What is
carried is :math:`u = -t`, for :math:`\pi - \arccos t = \arccos u`, and sums are pi times their value until a layer is
done.

Where t is 1 within rounding, :math:`\arccos` turns an error :math:`\epsilon` into :math:`\sqrt{2 \epsilon}`: 1e-8 in
double, 5e-4 in single precision. So cosines are raised by 4 units of rounding and cut at 1. Equal patches then have the
cosine 1 exactly; all others move by no more than they are unsure of.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lodim.validation import check_choice, check_counts, check_in_range, check_matrix, checked

__all__ = ["KINDS", "HierarchicalKernel"]

KINDS = ("ntk", "nngp")
_UNITS = 4  # of rounding, within which a cosine of 1 is told


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows as the recursion reads them.

    ``weights[l]`` is what a position of layer l contributes to its meta-patch, the root of its share of the squared
    length; None where all are equal. ``lengths`` are those of whole rows, of which mean squares are 1 after division.
    """

    directions: Float[Tensor, "positions n size"]
    weights: list[Float[Tensor, "_ n"]] | None
    lengths: Float[Tensor, " n"] | None

    def take(self, part: slice) -> _Rows:
        weights = None if self.weights is None else [w[:, part] for w in self.weights]
        lengths = None if self.lengths is None else self.lengths[part]
        return _Rows(self.directions[:, part], weights, lengths)


class _Block:
    """The recursion for a block of pairs; the memory is used again for the next block."""

    def __init__(self, fans: Sequence[int], ntk: bool, shape: tuple[int, int], dtype: torch.dtype) -> None:
        self.fans, self.ntk = fans, ntk
        self.snap = 1 + _UNITS * torch.finfo(dtype).eps
        self.memory = [torch.empty(shape, dtype=dtype) for _ in range(4 + (1 + ntk) * (len(fans) - 1))]

    def __call__(self, x: _Rows, y: _Rows) -> Float[Tensor, "n m"]:
        """The kernel of all pairs, valid until the next call."""
        self.x, self.y = x, y
        parts = [part[: x.directions.shape[1], : y.directions.shape[1]] for part in self.memory]
        self.u, self.angle, self.root, self.share, *sums = parts
        n_layers = len(self.fans) - 1
        self.K, self.T = sums[:n_layers], sums[n_layers:]
        top = self._sum(n_layers - 1, 0)
        top.div_(math.pi * (1 if x.weights else self.fans[-1]))
        if x.lengths is not None and y.lengths is not None:
            top.mul_(x.lengths[:, None]).mul_(y.lengths)
        return top

    def _sum(self, layer: int, parent: int) -> Tensor:
        """Sum pi K' and pi Theta' over the positions of a layer (from 0) that make one of the next; return the last."""
        fan, angle, root = self.fans[layer + 1], self.angle, self.root
        K, T = self.K[layer], self.T[layer] if self.ntk else None
        for child in range(fan * parent, fan * (parent + 1)):
            if layer == 0:
                u = theta = self.u
                sign = -1  # Theta = t = -u
                torch.addmm(u, self.x.directions[child], self.y.directions[child].T, beta=0, alpha=-1, out=u)
            else:
                mean = 1 / (math.pi * (1 if self.x.weights else self.fans[layer]))
                theta, sign = self._sum(layer - 1, child), 1
                if T is not None:
                    theta.mul_(mean)
                u = self.K[layer - 1].mul_(-self.snap * mean)
            u.clamp_(-1, 1)
            torch.acos(u, out=angle)
            torch.add(u, 1, out=root)
            root.addcmul_(root, u, value=-1).sqrt_()  # of (1 + u)(1 - u), exact where u is near -1
            if self.x.weights and self.y.weights:
                torch.outer(self.x.weights[layer][child], self.y.weights[layer][child], out=self.share)
                root.mul_(self.share)
                angle.mul_(self.share)
            if child == fan * parent:
                torch.addcmul(root, u, angle, value=-1, out=K)  # K' = root + t angle
                if T is not None:
                    torch.mul(theta, angle, out=T)
                    if sign < 0:
                        T.neg_()
            else:
                K.add_(root).addcmul_(u, angle, value=-1)
                if T is not None:
                    T.addcmul_(theta, angle, value=sign)
        return K if T is None else T.add_(K)


@checked
@dataclass(frozen=True)
class HierarchicalKernel:
    """Kernel of an infinitely wide network with ReLU and non-overlapping patches, a function of two matrices.

    Where scikit-learn takes a function of matrices as ``kernel`` it can be given (``SVC``); the others take its values
    as ``"precomputed"``, and :class:`HierarchicalKernelRegressor` takes it as it is.

    Parameters
    ----------
    filter_sizes : sequence of int, optional
        Numbers in a patch, then for each further layer how many patches of the layer below it joins. For images sides
        of squares. Default: the whole row is one patch, which is the fully connected network.
    depth : int, optional
        Hidden layers. Those beyond ``filter_sizes`` join nothing: they are fully connected at each position. Default:
        as many as ``filter_sizes``, and 3 without them.
    kind : {"ntk", "nngp"}
        Neural tangent kernel, of training by gradient descent; or covariance of the Gaussian process that the
        network is at initialisation, of training its last layer.
    normalize : bool
        Whether patches are scaled to length 1, as theory has it. Without, rows may have patches of zeros, and the
        kernel is homogeneous: c times a row has c times its values.
    image_shape : tuple of int, optional
        (height, width) or (channels, height, width) of the image that a row is, flattened in this order.
    dtype : {"float64", "float32"}
        Precision of computation and values. Single precision is about twice as fast, and off by some 1e-6, and where
        rows nearly agree by up to 1e-3.
    block_size : int
        Rows and columns of the block that is computed at a time; ``2 * depth + 4`` of that size are held.

    References
    ----------
    Cagnetta, Favero and Wyart 2022, arXiv 2208.01003, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 1.0, 0.0]])
    >>> HierarchicalKernel((2,), kind="nngp")(X).round(3).tolist()  # one patch agrees, the other is orthogonal: 1 / pi
    [[1.0, 0.659], [0.659, 1.0]]
    """

    filter_sizes: Sequence[int | np.integer] | None = None
    depth: int | np.integer | None = None
    kind: str = "ntk"
    normalize: bool = True
    image_shape: Sequence[int | np.integer] | None = None
    dtype: Any = "float64"
    block_size: int | np.integer = 256

    def __post_init__(self) -> None:
        for name in ("filter_sizes", "image_shape"):
            sizes = getattr(self, name)
            if sizes is not None:
                for size in sizes:
                    check_in_range(size, name, low=1, integer=True)
                object.__setattr__(self, name, tuple(int(size) for size in sizes))
        if self.filter_sizes is not None and not len(self.filter_sizes):
            raise ValueError(
                "filter_sizes must have at least one size, or be None for one patch that is the row"
            )
        check_choice(self.kind, KINDS, "kind")
        check_counts(block_size=self.block_size)
        if self.depth is not None:
            check_in_range(self.depth, "depth", low=len(self.filter_sizes or (1,)), high=200, integer=True)
        try:
            known = np.dtype(self.dtype) in (np.float32, np.float64)
        except TypeError:
            known = False
        if not known or self.dtype is None:  # which NumPy reads as float64
            raise ValueError(f"dtype must be 'float32' or 'float64', got {self.dtype!r}")
        object.__setattr__(self, "dtype", np.dtype(self.dtype).name)  # np.float32 makes the same kernel
        if self.image_shape is not None:
            if len(self.image_shape) not in (2, 3):
                raise ValueError(
                    f"image_shape must be (height, width) or (channels, height, width), got {self.image_shape}"
                )
            if self.filter_sizes is None:
                raise ValueError(
                    "image_shape says how patches lie: give filter_sizes, or leave out image_shape"
                )

    @property
    def smoothness(self) -> float:
        """The paper's nu: 1/2 for the NTK, 3/2 for the NNGP."""
        return 0.5 if self.kind == "ntk" else 1.5

    @property
    def n_layers(self) -> int:
        """L, the hidden layers."""
        return int(self.depth) if self.depth is not None else len(self.filter_sizes or range(3))

    def fans(self, n_features: int | np.integer) -> tuple[int, ...]:
        """How many numbers make a patch, how many patches each further layer joins, and how many positions are left.

        Raises
        ------
        ValueError
            Filters do not divide rows of ``n_features`` numbers.
        """
        check_counts(n_features=n_features)
        d = int(n_features)
        if self.filter_sizes is None:
            return (d, *(1,) * (self.n_layers - 1), 1)
        sizes = [*map(int, self.filter_sizes), *[1] * (self.n_layers - len(self.filter_sizes))]
        joined = math.prod(sizes)
        if self.image_shape is None:
            if d % joined:
                raise ValueError(
                    f"filter_sizes={self.filter_sizes} join {joined} numbers, which do not divide the {d} features of "
                    "X: pad rows with zeros (and normalize=False), or take other filters"
                )
            return (*sizes, d // joined)
        channels, height, width = self._image(d)
        if height % joined or width % joined:
            raise ValueError(
                f"filter_sizes={self.filter_sizes} join squares of side {joined}, which do not divide images of "
                f"{height} x {width}: pad them with zeros (and normalize=False), or take other filters"
            )
        return (channels * sizes[0] ** 2, *(s**2 for s in sizes[1:]), height * width // joined**2)

    def _image(self, d: int) -> tuple[int, int, int]:
        shape = tuple(int(size) for size in self.image_shape or ())
        if math.prod(shape) != d:
            raise ValueError(
                f"image_shape={self.image_shape} has {math.prod(shape)} numbers, X has {d} features: they must agree"
            )
        return (1, *shape) if len(shape) == 2 else shape  # type: ignore[return-value]

    def _order(self, d: int) -> Int[np.ndarray, " d"]:
        """Columns of images such that those of a meta-patch lie side by side, at every layer."""
        channels, height, width = self._image(d)
        sizes = (*(self.filter_sizes or ()), *(1,) * (self.n_layers - len(self.filter_sizes or ())))[::-1]
        left = math.prod(sizes)
        cut = np.arange(d).reshape(channels, height // left, *sizes, width // left, *sizes)
        half = len(sizes) + 1
        sides = [axis for pair in zip(range(1, half + 1), range(half + 1, 2 * half + 1)) for axis in pair]
        return cut.transpose(*sides, 0).ravel()

    def patches(
        self, X: Any, name: str = "X"
    ) -> tuple[Float[np.ndarray, "positions n size"], Float[np.ndarray, "positions n"]]:
        """Directions of patches and their lengths as the kernel takes them (1 under ``normalize=True``, or that of x).

        They stand in the order that layers join them; a patch of zeros has neither.

        Parameters
        ----------
        X : array-like, shape (n, n_features)
        name : str
            How messages call it.

        Raises
        ------
        ValueError
            Bad input, filters that do not divide it, patches of zeros under ``normalize=True``, or else numbers whose
            products are beyond the range of ``dtype``.
        """
        values = check_matrix(X, name=name)
        n, d = values.shape
        fans = self.fans(d)
        if self.image_shape is not None:
            values = values[:, self._order(d)]
        cut = np.array(
            values.reshape(n, -1, fans[0]).swapaxes(0, 1), order="C"
        )  # a copy, which is scaled in place
        top = np.abs(cut).max(2)
        empty = top == 0
        if self.normalize and empty.any():
            position, row = (int(i) for i in np.argwhere(empty)[0])
            raise ValueError(
                f"{name} has {int(empty.sum())} patches of zeros, the first in row {row}, patch {position}: they have "
                "no direction. Take normalize=False, where they count for nothing"
            )
        cut /= np.where(empty, 1, top)[:, :, None]  # no square overflows
        norms = np.sqrt(np.square(cut).sum(2))
        cut /= np.where(empty, 1, norms)[:, :, None]
        if self.normalize:
            return cut, np.ones_like(norms)
        limit = math.sqrt(float(np.finfo(self.dtype).max)) / 1e3
        scale = float(top.max())
        if scale and not 1 / limit <= scale <= limit:
            raise ValueError(
                f"{name} has entries of up to {scale:.2g}, of which products are beyond the range of "
                f"{np.dtype(self.dtype)}: scale it"
            )
        return cut, norms * top

    def _read(self, X: Any, name: str, n_features: int | None = None) -> _Rows:
        directions, lengths = self.patches(X, name)
        positions, n, size = directions.shape
        if n_features is not None and positions * size != n_features:
            raise ValueError(f"{name} has {positions * size} features, X has {n_features}: they must agree")
        dtype = np.dtype(self.dtype)
        directions *= math.sqrt(1 + _UNITS * float(np.finfo(dtype).eps))
        unit = torch.tensor(
            directions.astype(dtype, copy=False)
        )  # where torch aligns it: products round by that
        if self.normalize:
            return _Rows(unit, None, None)
        scale = lengths.max(0)  # of each row, so that squares of short ones do not vanish
        scale[scale == 0] = 1
        levels = [lengths / scale]
        weights = []
        for fan in self.fans(positions * size)[1:]:
            part = levels[-1]
            whole = np.sqrt(np.square(part).reshape(-1, fan, n).mean(1))
            levels.append(whole)
            parent = np.repeat(whole, fan, axis=0) * math.sqrt(fan)
            share = np.divide(part, parent, out=np.zeros_like(part), where=parent > 0)
            weights.append(torch.from_numpy(share.astype(dtype, copy=False)))
        return _Rows(unit, weights, torch.from_numpy((levels[-1][0] * scale).astype(dtype)))

    def __call__(self, X: Any, Y: Any = None) -> Float[np.ndarray, "n m"]:
        """Values of all pairs of rows.

        Parameters
        ----------
        X : array-like, shape (n, n_features)
        Y : array-like, shape (m, n_features), optional
            Default: X, of which half the pairs are computed.

        Raises
        ------
        ValueError
            Bad input, filters that do not divide the features, patches of zeros under ``normalize=True``.
        """
        x = self._read(X, "X")
        n, d = x.directions.shape[1], x.directions.shape[0] * x.directions.shape[2]
        y = x if Y is None else self._read(Y, "Y", d)
        m, size = y.directions.shape[1], int(self.block_size)
        block = _Block(self.fans(d), self.kind == "ntk", (min(size, n), min(size, m)), x.directions.dtype)
        values = np.empty((n, m), dtype=self.dtype)
        for i in range(0, n, size):
            rows = slice(i, i + size)
            part = x.take(rows)
            for j in range(0, i + 1 if Y is None else m, size):
                columns = slice(j, j + size)
                tile = block(part, y.take(columns)).numpy()
                if Y is None and i == j:
                    tile = np.tril(tile) + np.tril(tile, -1).T  # products round alike on both sides or not
                values[rows, columns] = tile
                if Y is None and i != j:
                    values[columns, rows] = tile.T
        if Y is None:
            np.fill_diagonal(values, self._diagonal(x))
        return values

    def diag(self, X: Any) -> Float[np.ndarray, " n"]:
        """Values of each row with itself, without the matrix: L + 1 (NTK) or 1 (NNGP) times its mean square.

        Parameters
        ----------
        X : array-like, shape (n, n_features)
            The mean is over its patches' squared lengths, which are 1 under ``normalize=True``.
        """
        return self._diagonal(self._read(X, "X"))

    def _diagonal(self, x: _Rows) -> Float[np.ndarray, " n"]:
        times = self.n_layers + 1 if self.kind == "ntk" else 1
        if x.lengths is None:
            return np.full(x.directions.shape[1], times, dtype=self.dtype)
        return times * np.square(x.lengths.numpy())
