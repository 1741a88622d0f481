r"""Means and covariances of data that come in batches and need not be kept.

Two parts with counts :math:`n_a, n_b`, means :math:`\mu_a, \mu_b` and scatters
:math:`M = \sum_i (x_i - \mu)(x_i - \mu)^\top` make a whole with

.. math:: \mu = \mu_a + \frac{n_b}{n} \delta, \qquad
          M = M_a + M_b + \frac{n_a n_b}{n} \delta \delta^\top, \qquad \delta = \mu_b - \mu_a,\; n = n_a + n_b .

Every part is centred before it is squared, and a mean is kept as an origin near the data and an offset from it (the
difference of two means far from zero would carry their rounding), so data far from zero lose nothing. Batches may come
in any order, and moments of other workers may be merged.

References
----------
T. F. Chan, G. H. Golub and R. J. LeVeque, Updating formulae and a pairwise algorithm for computing sample variances,
Stanford STAN-CS-79-773 (1979), equation 2.1.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lodim.linalg.precision import computable
from lodim.validation import check_labels, checked

__all__ = ["ClassMoments", "CrossMoments", "StreamingMoments"]

_ROWS = 4096  # whose products are computed at once


@checked
class StreamingMoments:
    """Count, mean and scatter of what :meth:`update` was given, in double precision.

    Tensors stay on the device of the first batch; everything else becomes NumPy.

    Attributes
    ----------
    count : int
    scatter : array or Tensor, shape (d, d)
        Sum of products of deviations from the mean.
    """

    def __init__(self) -> None:
        self.count = 0
        self.scatter: Any = None
        self._origin: Any = None
        self._offset: Any = None

    @property
    def mean(self) -> Any:
        """Mean, shape (d,); None before the first row."""
        return self._origin + self._offset if self.count else None

    def update(self, batch: Any) -> StreamingMoments:
        """Take in rows, shape (n, d); none at all is no error.

        Raises
        ------
        ValueError
            Not a matrix, another number of columns than before, or values that are masked, complex or not finite.
        """
        numbers = computable(batch, "batch").detach().double()
        rows: Any = numbers if isinstance(batch, Tensor) else numbers.numpy()
        if rows.ndim != 2:
            raise ValueError(f"a batch must be 2-D (rows are samples), got shape {tuple(rows.shape)}")
        if self.count and rows.shape[1] != len(self._origin):
            raise ValueError(f"a batch has {rows.shape[1]} columns, those before it had {len(self._origin)}")
        if not len(rows):
            return self
        part = StreamingMoments()
        part.count, part._origin = len(rows), rows.mean(0)
        with np.errstate(over="ignore", invalid="ignore"):  # told below
            deviation = rows - part._origin
            part._offset = deviation.mean(0)
            deviation = deviation - part._offset
            part.scatter = deviation.T @ deviation
        _check_finite(part.scatter)
        return self.merge(part)

    def merge(self, other: StreamingMoments) -> StreamingMoments:
        """Take in what another has seen; returns itself.

        Raises
        ------
        ValueError
            Different numbers of columns, or means so far apart that their square overflows.
        """
        if not other.count:
            return self
        if not self.count:
            self.__dict__.update(other.__dict__)
            return self
        if len(self._origin) != len(other._origin):
            raise ValueError(
                f"moments of {len(other._origin)} columns cannot join those of {len(self._origin)}"
            )
        origin, offset, scatter = (
            _alike(part, self.scatter) for part in (other._origin, other._offset, other.scatter)
        )
        delta, total = (origin - self._origin) + (offset - self._offset), self.count + other.count
        weight = self.count * (other.count / total)
        with np.errstate(over="ignore", invalid="ignore"):
            scatter = self.scatter + scatter + weight * (delta[:, None] * delta)
        _check_finite(scatter)
        self._offset, self.scatter, self.count = self._offset + delta * (other.count / total), scatter, total
        return self

    def covariance(self, ddof: int = 0) -> Any:
        """Scatter over ``count - ddof``, shape (d, d).

        Raises
        ------
        ValueError
            Not more than ``ddof`` rows so far.
        """
        if self.count <= ddof:
            raise ValueError(f"a covariance with ddof={ddof} needs more rows than {self.count}")
        return self.scatter / (self.count - ddof)


def _check_finite(scatter: Any) -> None:
    if not bool((abs(scatter) < np.inf).all()):
        raise ValueError("a batch must be finite, got NaN or infinite values (or their squares overflow)")


def _alike(part: Any, like: Any) -> Any:
    """Of the same kind, on the same device."""
    if isinstance(like, Tensor):
        return torch.as_tensor(part).to(like.device)
    return part.cpu().numpy() if isinstance(part, Tensor) else part


@checked
class CrossMoments:
    """Count, means, variances and cross-scatter of two matrices with the same rows; no square block is formed.

    Sums are kept in double precision. The products of a few thousand rows are computed in the precision in which they
    come (half precision in single), after their mean has been taken off. Of tensors the moments are on the device of
    the first batch, and in a batch that of X; arrays alone make arrays.

    Attributes
    ----------
    count : int
    means : pair of arrays or Tensors, shapes (p,) and (q,)
        None before the first row, as the others.
    squares : pair of arrays or Tensors, shapes (p,) and (q,)
        Sums of squared deviations.
    cross : array or Tensor, shape (p, q)
        Sum of products of deviations from the means.
    """

    def __init__(self) -> None:
        self.count = 0
        self.means: Any = None
        self.squares: Any = None
        self.cross: Any = None

    def update(self, X: Any, Y: Any) -> CrossMoments:
        """Take in rows of both, shapes (n, p) and (n, q); none at all is no error.

        Raises
        ------
        ValueError
            No matrices, another number of rows in X than in Y, other columns than before, or values that are masked,
            complex or not finite.
        """
        first, second = computable(X, "X").detach(), computable(Y, "Y").detach()
        for name, matrix in (("X", first), ("Y", second)):
            if matrix.ndim != 2:
                raise ValueError(f"{name} must be 2-D (rows are samples), got shape {tuple(matrix.shape)}")
        if len(first) != len(second):
            raise ValueError(
                f"X and Y must have the same rows, got shapes {tuple(first.shape)} and {tuple(second.shape)}; rows are "
                "samples: is one of them transposed?"
            )
        home = first.device if isinstance(X, Tensor) else second.device
        first, second = first.to(home), second.to(home)
        whole, arrays = CrossMoments(), not isinstance(X, Tensor) and not isinstance(Y, Tensor)
        for start in range(0, len(first), _ROWS):
            part = _cross_of(first[start : start + _ROWS], second[start : start + _ROWS])
            whole._join(part, in_place=True)
        if arrays and whole.count:
            whole.means, whole.squares = (
                tuple(part.numpy() for part in pair) for pair in (whole.means, whole.squares)
            )
            whole.cross = whole.cross.numpy()
        return self.merge(whole)

    def merge(self, other: CrossMoments) -> CrossMoments:
        """Take in what another has seen; returns itself.

        Raises
        ------
        ValueError
            Different numbers of columns, or products that overflow.
        """
        if self.count and other.count and self.cross.shape != other.cross.shape:
            raise ValueError(
                f"moments of {tuple(other.cross.shape)} columns cannot join those of {tuple(self.cross.shape)}"
            )
        joined = CrossMoments()._join(self)._join(other)
        for part in (joined.cross, *joined.squares) if joined.count else ():
            _check_finite(part)
        self.__dict__.update(joined.__dict__)
        return self

    def _join(self, other: CrossMoments, in_place: bool = False) -> CrossMoments:
        if not other.count:
            return self
        if not self.count:
            self.__dict__.update(other.__dict__)
            return self
        theirs = [_alike(part, self.cross) for part in (*other.means, *other.squares, other.cross)]
        total = self.count + other.count
        weight, share = self.count * (other.count / total), other.count / total
        x, y = (mean - ours for mean, ours in zip(theirs[:2], self.means))
        self.means = (self.means[0] + share * x, self.means[1] + share * y)
        with np.errstate(over="ignore", invalid="ignore"):  # told by merge
            self.squares = tuple(a + b + weight * d * d for a, b, d in zip(self.squares, theirs[2:4], (x, y)))
            if in_place:  # of tensors nobody else holds: several times faster
                self.cross.add_(theirs[4]).addr_(x, y, alpha=weight)
            else:
                self.cross = self.cross + theirs[4] + weight * (x[:, None] * y)
        self.count = total
        return self

    def correlation(self) -> Any:
        """Return correlations, shape (p, q); 0 where a column is constant, or so nearly that its squares underflow.

        Raises
        ------
        ValueError
            No rows so far.
        """
        if not self.count:
            raise ValueError("no rows so far: give some to update first")
        a, b = (part**0.5 for part in self.squares)
        found = self.cross / (a + (a == 0))[:, None] / (b + (b == 0)) * ((a > 0)[:, None] & (b > 0))
        return found.clip(-1, 1)  # in single precision sums are off by rounding


def _cross_of(X: Tensor, Y: Tensor) -> CrossMoments:
    part, n = CrossMoments(), len(X)
    coarse = [_sums(rows) / n for rows in (X, Y)]
    away = [rows - mean for rows, mean in zip((X, Y), coarse)]
    rest = [_sums(rows).double() / n for rows in away]  # what the means' rounding left
    common = torch.promote_types(X.dtype, Y.dtype)
    part.cross = _product(*(rows.to(common) for rows in away)).double().addr_(*rest, alpha=-n)
    part.count, part.means = n, tuple(mean.double() + r for mean, r in zip(coarse, rest))
    part.squares = tuple(rows.square_().sum(0).double() - n * r * r for rows, r in zip(away, rest))
    return part


def _sums(rows: Tensor) -> Tensor:
    return rows.new_ones(len(rows)) @ rows


def _product(X: Tensor, Y: Tensor) -> Tensor:
    """X'Y; on a CPU by NumPy's BLAS, which is faster at it than torch's."""
    if X.device.type != "cpu":
        return X.T @ Y
    with np.errstate(over="ignore", invalid="ignore"):  # told by merge
        return torch.from_numpy(X.numpy().T @ Y.numpy())


@checked
class ClassMoments:
    """:class:`StreamingMoments` of each class, and how the classes scatter within and between themselves.

    Attributes
    ----------
    by_class : dict
        From label to :class:`StreamingMoments`, in the order of appearance.
    """

    def __init__(self) -> None:
        self.by_class: dict[Hashable, StreamingMoments] = {}

    def update(self, batch: Any, labels: Any) -> ClassMoments:
        """Take in rows, shape (n, d), and the label of each.

        Raises
        ------
        ValueError
            As :meth:`StreamingMoments.update`, or labels that are missing or not one a row; nothing is taken in.
        """
        names = np.asarray(labels.detach().cpu() if isinstance(labels, Tensor) else labels)
        if names.shape != (len(batch),):
            raise ValueError(f"labels must be 1-D, one a row ({len(batch)}), got shape {names.shape}")
        rows = batch if isinstance(batch, Tensor) else np.asarray(batch)
        codes, found = pd.factorize(check_labels(names, len(names), name="labels"))
        parts = [StreamingMoments().update(rows[np.flatnonzero(codes == code)]) for code in range(len(found))]
        for name, part in zip(found.tolist(), parts):  # after all have been found good
            self._of(name).merge(part)
        return self

    def merge(self, other: ClassMoments) -> ClassMoments:
        """Take in what another has seen; returns itself."""
        for name, moments in other.by_class.items():
            self._of(name).merge(moments)
        return self

    def _of(self, name: Hashable) -> StreamingMoments:
        return self.by_class.setdefault(name, StreamingMoments())

    def total(self) -> StreamingMoments:
        """Moments of all rows, whatever their class."""
        whole = StreamingMoments()
        for part in self.by_class.values():
            whole.merge(part)
        return whole

    def within(self) -> Any:
        """Covariance around the class means, shape (d, d)."""
        whole = self.total()
        if not whole.count:
            raise ValueError("no rows so far: give some to update first")
        return sum(_alike(part.scatter, whole.scatter) for part in self.by_class.values()) / whole.count

    def between(self) -> Any:
        """Covariance of the class means, each weighted by its rows; the total one is ``within() + between()``."""
        return self.total().covariance() - self.within()
