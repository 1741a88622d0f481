r"""A problem whose intrinsic dimension is known: sums of groups of parameters.

The problem: D parameters fall into m groups of equal size, and the i-th group shall sum to i,

.. math:: L(\theta) = \sum_{i=1}^{m} \Big( \sum_{j \in G_i} \theta_j - i \Big)^2 = \|A \theta - c\|^2 .

The solutions form an affine space of dimension D - m, so a random affine plane :math:`\theta_0 + P v` of dimension d
meets it (almost surely) exactly when d >= m: the intrinsic dimension is m, whatever D. In the plane the problem is
least squares, :math:`\min_v \|(A P) v - (c - A \theta_0)\|`, which is solved exactly here; :math:`A P` costs m
adjoints, not a matrix of D x d.

==================== ==========================================
symbol               name here
==================== ==========================================
D, m                 ``D``, ``groups``
:math:`A`, :math:`c` ``rows()``, ``targets()``
:math:`L`            ``loss``
exp(-L)              ``performance``
:math:`v^*`          ``optimum``
==================== ==========================================

Source: C. Li et al., "Measuring the intrinsic dimension of objective landscapes" (arXiv 1804.08838), Section 2 and
Figure 1 (D = 1000, ten groups; a hundred parameters each). Departure: an exact solver instead of gradient descent.

**Structure destroyed on purpose** (:func:`shuffle_pixels`, :func:`shuffle_labels`). Does a network's intrinsic
dimension measure the task, or an advantage of its architecture? Permuting the pixels of all images alike leaves a fully
connected network's task unchanged and takes the neighbourhoods from a convolutional one. Giving samples each other's
labels leaves nothing to learn but the labels themselves.

Source: C. Li et al., "Measuring the intrinsic dimension of objective landscapes" (arXiv 1804.08838), Sections 3.1 and
S5. Departure: labels move along one random cycle of the chosen samples, so exactly the stated number is reassigned and
the classes keep their sizes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lodim.randomness import RandomState, as_generator, derive_seed, root_seed, torch_generator
from lodim.results import Result
from lodim.sketch import RandomProjection, make_projection
from lodim.validation import (
    check_fraction,
    check_in_range,
    check_tensor,
    check_unmasked,
    checked,
    plain_array,
)

__all__ = ["ToyCurve", "ToySumProblem", "shuffle_labels", "shuffle_pixels", "toy_sum_problem"]


@dataclass(frozen=True)
class ToyCurve(Result):
    """Best performance within random subspaces of the toy problem.

    Attributes
    ----------
    dims : tuple of int
        Subspace dimensions, increasing.
    performance : ndarray, shape (n_dims, n_seeds)
        exp(-loss) at the subspace's optimum.
    threshold : float
        Mean performance that counts as solved.
    """

    D: int
    n_groups: int
    dims: tuple[int, ...]
    performance: np.ndarray
    threshold: float

    @property
    def d_int(self) -> float:
        """Least dimension from which on all mean performances reach the threshold; infinite if the last does not."""
        failed = np.flatnonzero(self.performance.mean(1) < self.threshold)
        first = int(failed[-1]) + 1 if len(failed) else 0
        return float(self.dims[first]) if first < len(self.dims) else math.inf

    def to_frame(self) -> Any:
        """Return a data frame with columns d, replica and performance."""
        import pandas as pd

        n_seeds = self.performance.shape[1]
        return pd.DataFrame(
            {
                "d": np.repeat(self.dims, n_seeds),
                "replica": np.tile(np.arange(n_seeds), len(self.dims)),
                "performance": self.performance.ravel(),
            }
        )

    def plot(self, ax: Any = None) -> Any:
        """Draw performance against subspace dimension; return the axes."""
        from lodim.plots import COLORS, mark_value, new_axes

        ax = new_axes(ax)
        frame = self.to_frame()
        ax.plot(frame.d, frame.performance, "o", color=COLORS[0], alpha=0.35, label="one subspace")
        ax.plot(self.dims, self.performance.mean(1), color=COLORS[0], label="mean")
        if math.isfinite(self.d_int):
            mark_value(ax, self.d_int, None, f"intrinsic dimension {self.d_int:.0f}")
        ax.set(xlabel="subspace dimension d", ylabel="performance exp(-loss)")
        ax.legend()
        return ax

    def __str__(self) -> str:
        return (
            f"toy problem of D={self.D} parameters in {self.n_groups} groups: intrinsic dimension {self.d_int:g} "
            f"({self.performance.shape[1]} random subspaces for each of {len(self.dims)} dimensions)"
        )


@dataclass(frozen=True)
class ToySumProblem:
    """Make ``n_groups`` sums of D parameters equal 1, 2, ..., n_groups, which is the intrinsic dimension."""

    D: int
    n_groups: int

    def __post_init__(self) -> None:
        check_in_range(self.D, "D", low=1, integer=True)
        check_in_range(self.n_groups, "n_groups", low=1, high=self.D, integer=True)
        if self.D % self.n_groups:
            raise ValueError(
                f"D={self.D} parameters do not split into {self.n_groups} equal groups; choose a multiple"
            )

    def rows(self) -> Float[Tensor, "n_groups D"]:
        """The matrix A of the sums, float64."""
        return torch.eye(self.n_groups, dtype=torch.float64).repeat_interleave(self.D // self.n_groups, dim=1)

    def targets(self) -> Float[Tensor, " n_groups"]:
        """The right-hand side c = (1, ..., n_groups), float64."""
        return torch.arange(1, self.n_groups + 1, dtype=torch.float64)

    def loss(self, theta: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch"]:
        """Sum of squared misses of the targets; differentiable."""
        sums = theta.unflatten(-1, (self.n_groups, -1)).sum(-1)
        return ((sums - self.targets().to(theta)) ** 2).sum(-1)

    def performance(self, theta: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch"]:
        """exp(-loss), in (0, 1]."""
        return torch.exp(-self.loss(theta))

    def optimum(
        self, projection: RandomProjection, theta0: Float[Tensor, " D"] | None = None
    ) -> Float[Tensor, " d"]:
        """The least-norm v that minimises the loss at theta0 + P v, in float64; theta0 is zero if not given."""
        if projection.D != self.D:
            raise ValueError(
                f"the projection produces {projection.D} parameters, the problem has {self.D}; make it with D={self.D}"
            )
        rows, wanted = self.rows(), self.targets()
        if theta0 is not None:
            wanted = wanted - rows @ theta0.double()
        return torch.linalg.lstsq(projection.adjoint(rows), wanted, driver="gelsd").solution

    @checked
    def curve(
        self,
        dims: Sequence[int] = tuple(range(1, 21)),
        *,
        n_seeds: int = 5,
        projection: str = "dense",
        threshold: float | int = 0.9,
        random_state: RandomState = 0,
    ) -> ToyCurve:
        """Best performance in random subspaces of several dimensions.

        Each of the ``n_seeds`` subspaces of a dimension has its own origin theta0 ~ N(0, I); a mean performance of
        ``threshold`` counts as solved. For ``projection`` see :func:`lodim.sketch.make_projection`.
        """
        check_in_range(n_seeds, "n_seeds", low=1, integer=True)
        check_fraction(threshold, "threshold")
        dims = tuple(sorted({int(check_in_range(d, "d", low=1, high=self.D, integer=True)) for d in dims}))
        if not dims:
            raise ValueError("dims must name at least one dimension")
        scores, seed = np.empty((len(dims), n_seeds)), root_seed(random_state)
        for i, d in enumerate(dims):
            for j in range(n_seeds):
                generator = torch_generator(derive_seed(seed, "theta0", d, j))
                theta0 = torch.randn(self.D, generator=generator, dtype=torch.float64)
                P = make_projection(
                    projection, self.D, d, seed=derive_seed(seed, "P", d, j), dtype=torch.float64
                )
                scores[i, j] = self.performance(theta0 + P(self.optimum(P, theta0)))
        return ToyCurve(self.D, self.n_groups, dims, scores, threshold)


@checked
def toy_sum_problem(D: int = 1000, n_groups: int = 10) -> ToySumProblem:
    """The toy problem of known intrinsic dimension.

    Parameters
    ----------
    D : int
        Number of parameters, a multiple of ``n_groups``.
    n_groups : int
        Number of sums to be met; the intrinsic dimension.

    Raises
    ------
    ValueError
        If the groups cannot be of equal size.

    Examples
    --------
    >>> toy_sum_problem(1000, 10).curve(range(8, 13), n_seeds=3).d_int
    10.0
    """
    return ToySumProblem(int(D), int(n_groups))


@checked
def shuffle_pixels(X: Any, random_state: RandomState = 0) -> Any:
    """Permute the pixels of every image by one fixed permutation.

    Parameters
    ----------
    X : ndarray or Tensor, shape (n, n_pixels), (n, height, width) or (n, channels, height, width)
        Pixels are the columns, or the positions of the last two axes (channels move together).
    random_state : int, numpy.random.Generator or None
        Determines the permutation: give the same int for training and test images.

    Returns
    -------
    ndarray or Tensor
        A new array like X.

    Raises
    ------
    ValueError
        X with fewer than two or more than four axes.
    """
    check_unmasked(X, "X")
    if isinstance(X, torch.Tensor):
        check_tensor(X, "X", numbers=False)
    elif not isinstance(X, np.ndarray):
        raise TypeError(f"X must be an array or a tensor, got {type(X).__name__}")
    elif np.iscomplexobj(X):
        raise ValueError("Complex data not supported: X must hold real numbers")
    if not 2 <= X.ndim <= 4:
        raise ValueError(
            f"X must have shape (n, pixels), (n, height, width) or (n, channels, height, width), got {X.shape}"
        )
    shape = tuple(X.shape)
    kept = shape[:1] if X.ndim == 2 else shape[:-2]
    flat = X.reshape(*kept, math.prod(shape[len(kept) :]))
    order = as_generator(random_state).permutation(flat.shape[-1])
    return flat[..., _like(order, X)].reshape(shape)


@checked
def shuffle_labels(y: Any, fraction: int | float = 1.0, random_state: RandomState = 0) -> Any:
    """Give a fixed random part of the samples each other's labels.

    Parameters
    ----------
    y : array-like or Tensor, shape (n,)
    fraction : float
        ``round(fraction * n)`` samples are chosen, and each gets the label of another of them. The samples chosen
        for a smaller fraction are among those for a larger one.
    random_state : int, numpy.random.Generator or None
        Determines which and how.

    Returns
    -------
    ndarray or Tensor, shape (n,)
        A new array; classes keep their sizes.

    Raises
    ------
    ValueError
        Labels with several axes or complex, fraction outside [0, 1], or a single chosen sample (nothing to
        swap with).
    """
    if hasattr(y, "detach"):
        labels = check_tensor(y, "y", numbers=False).clone()
    else:
        labels = plain_array(y, "y").copy()
    if "complex" in str(labels.dtype):
        raise ValueError("Complex data not supported: y must hold labels or real numbers")
    if labels.ndim != 1:
        raise ValueError(f"y must be 1-D (one label a sample), got shape {tuple(labels.shape)}")
    n_chosen = round(check_fraction(fraction, "fraction") * len(labels))
    if n_chosen == 1:
        raise ValueError(
            f"fraction {fraction} of {len(labels)} samples is one, which has nothing to swap with"
        )
    chosen = as_generator(random_state).permutation(len(labels))[:n_chosen]
    labels[_like(chosen, labels)] = labels[_like(np.roll(chosen, 1), labels)]
    return labels


def _like(index: np.ndarray, array: Any) -> Any:
    """The index as a tensor on the array's device where the array is a tensor."""
    if not hasattr(array, "detach"):
        return index
    import torch

    return torch.as_tensor(index, device=array.device)
