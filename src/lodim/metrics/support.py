r"""Do samples lie where the reference lies, and everywhere there? Do they repeat what was trained on?

:math:`B(y)` is the ball around y through its k-th nearest neighbour of its own set; the union of the reference's
balls estimates where its distribution lives. For n samples x and m points y of the reference:

.. math::
    \text{precision} = \frac1n \sum_j 1[\exists i: x_j \in B(y_i)], \qquad
    \text{recall} = \frac1m \sum_i 1[\exists j: y_i \in B(x_j)]

    \text{density} = \frac{1}{k n} \sum_{i, j} 1[x_j \in B(y_i)], \qquad
    \text{coverage} = \frac1m \sum_i 1[\exists j: x_j \in B(y_i)]

Recall rests on balls around samples, which a single outlier among them inflates; density and coverage use the
reference's balls only.

References
----------
T. Kynkäänniemi et al., Improved precision and recall metric for assessing generative models, arXiv 1904.06991,
equations 1-2. M. F. Naeem et al., Reliable fidelity and diversity metrics for generative models, arXiv 2002.09797,
equations 2-3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.special import rel_entr
from torch import Tensor

from lodim.linalg.precision import power_of_two
from lodim.metrics.samples import as_pair, halves
from lodim.neighbors import stream_pairs
from lodim.neighbors.distances import distances_of_pairs, product_error
from lodim.neighbors.search import search_block
from lodim.randomness import RandomState, as_generator, derive_seed, root_seed
from lodim.results import Result
from lodim.validation import check_in_range, checked

__all__ = [
    "DensityCoverage",
    "MemorisationGap",
    "ModeCoverage",
    "PrecisionRecall",
    "density_coverage",
    "memorisation_gap",
    "mode_coverage",
    "precision_recall",
]


@dataclass(frozen=True)
class PrecisionRecall(Result):
    """Share of samples within the reference's support, and the other way round.

    Attributes
    ----------
    floor : tuple of float
        Both figures between two halves of the reference: what perfect samples, half as many, would get.
    """

    precision: float
    recall: float
    n: int
    n_reference: int
    floor: tuple[float, float]

    def __str__(self) -> str:
        return (
            f"precision {self.precision:.3f} (halves of the reference: {self.floor[0]:.3f}), "
            f"recall {self.recall:.3f} ({self.floor[1]:.3f})"
        )


@dataclass(frozen=True)
class DensityCoverage(Result):
    """How densely samples fill the reference's balls (may pass 1), and the share of balls that hold any.

    Attributes
    ----------
    floor : tuple of float
        Both figures between two halves of the reference: what perfect samples, half as many, would get.
    """

    density: float
    coverage: float
    n: int
    n_reference: int
    floor: tuple[float, float]

    def __str__(self) -> str:
        return (
            f"density {self.density:.3f} (halves of the reference: {self.floor[0]:.3f}), "
            f"coverage {self.coverage:.3f} ({self.floor[1]:.3f})"
        )


class _Within:
    """Counts pairs no further apart than the reference's radius: for each query, and for each reference.

    Pairs that a product cannot put on one side of a radius are measured by their difference, so that a point that
    stands twice is within a ball of radius zero around its twin.
    """

    def __init__(self, radii: np.ndarray, points: np.ndarray, centres: np.ndarray):
        self.rounding = 2 * product_error(centres.shape[1], torch.float64)  # of distances that are equal
        self.radii, self.points, self.centres = radii * (1 + self.rounding), points, centres

    def start(self, n_q: int, n_r: int, device: torch.device, dtype: torch.dtype, unit: float) -> None:
        """Prepare the counts."""
        squares = (self.radii / unit) ** 2
        # Norms are at most one unit.
        error = 4 * product_error(self.centres.shape[1], dtype) + 4 * self.rounding * squares
        self.surely, self.maybe = (
            torch.tensor(squares + sign * error, dtype=dtype, device=device) for sign in (-1, 1)
        )
        self.of_query = torch.zeros(n_q, dtype=torch.int64, device=device)
        self.of_reference = torch.zeros(n_r, dtype=torch.int64, device=device)

    def update(self, rows: slice, cols: slice, block: Tensor) -> None:
        """Count the block."""
        inside = block < self.surely[cols]
        row, col = torch.nonzero((block <= self.maybe[cols]) & ~inside, as_tuple=True)
        at, centre = (row + rows.start).cpu().numpy(), (col + cols.start).cpu().numpy()
        near = distances_of_pairs(self.points, at, self.centres, centre) <= self.radii[centre]
        inside[row, col] = torch.from_numpy(near).to(inside.device)
        self.of_query[rows] += inside.sum(1)
        self.of_reference[cols] += inside.sum(0)

    def mirror(self, rows: slice, cols: slice, block: Tensor) -> None:
        """Queries and references are different sets here."""
        raise NotImplementedError

    def result(self) -> tuple[Int[Tensor, " n_q"], Int[Tensor, " n_r"]]:
        """Return both counts."""
        return self.of_query, self.of_reference


def _nearest(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], k: int, own: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Distances from each row of x to the k nearest rows of y but ``own`` (-1: none), by differences, and which."""
    farthest = np.full(len(x), np.inf)
    rows = (x.cpu().numpy(), y.cpu().numpy())
    return search_block(*rows, k, own, farthest, device=x.device, each_alone=True)


def _balls(
    points: Float[Tensor, "n d"], centres: Float[Tensor, "m d"], k: int
) -> tuple[Int[Tensor, " n"], Int[Tensor, " m"]]:
    """How many balls of the centres hold each point, and how many points each ball holds."""
    own, rows = np.arange(len(centres)), centres.cpu().numpy()
    radii = distances_of_pairs(rows, own, rows, _nearest(centres, centres, k, own)[1][:, -1])
    within = _Within(radii, points.cpu().numpy(), rows)
    return stream_pairs(points, centres, reducers=[within], dtype=torch.float64)[0]


def _pair_for_balls(samples: Any, reference: Any, k: int) -> tuple[Tensor, Tensor]:
    check_in_range(k, "k", low=1, integer=True)
    x, y = as_pair(samples, reference, k + 1, 2 * (k + 1))
    unit = power_of_two(float(torch.cat([x, y]).abs().max()))
    return x / unit, y / unit


@checked
def precision_recall(
    samples: Any, reference: Any, k: int = 3, *, random_state: RandomState = 0
) -> PrecisionRecall:
    """Precision and recall of two samples' supports, each a union of balls.

    Parameters
    ----------
    samples, reference : array or Tensor, shape (n, ...), (m, ...)
        Best in a feature space whose distances mean something.

    Raises
    ------
    ValueError
        Fewer than k + 1 samples or 2 (k + 1) of the reference, different numbers of features, not finite.
    """
    x, y = _pair_for_balls(samples, reference, k)
    precision, recall = _precision_recall(x, y, k)
    floor = _precision_recall(*halves(y, derive_seed(root_seed(random_state), "halves")), k)
    return PrecisionRecall(precision, recall, len(x), len(y), floor)


def _precision_recall(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], k: int) -> tuple[float, float]:
    precision, recall = (float((_balls(a, b, k)[0] > 0).double().mean()) for a, b in ((x, y), (y, x)))
    return precision, recall


@checked
def density_coverage(
    samples: Any, reference: Any, k: int = 5, *, random_state: RandomState = 0
) -> DensityCoverage:
    """Density and coverage: as precision and recall, but with balls around the reference only. Input as there."""
    x, y = _pair_for_balls(samples, reference, k)
    density, coverage = _density_coverage(x, y, k)
    floor = _density_coverage(*halves(y, derive_seed(root_seed(random_state), "halves")), k)
    return DensityCoverage(density, coverage, len(x), len(y), floor)


def _density_coverage(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], k: int) -> tuple[float, float]:
    of_sample, of_ball = _balls(x, y, k)
    return float(of_sample.double().mean() / k), float((of_ball > 0).double().mean())


@dataclass(frozen=True)
class ModeCoverage(Result):
    """How samples spread over known modes.

    Attributes
    ----------
    counts : tuple of int
        Samples within the radius of each mode, each counted at its nearest.
    inside : float
        Share of samples within the radius of some mode.
    kl : float
        Kullback-Leibler divergence, in nats, of the counts' distribution from the uniform one; NaN if nothing is
        inside, ``log(modes)`` if all is at one mode.
    n : int
    """

    counts: tuple[int, ...]
    inside: float
    kl: float
    n: int

    def __str__(self) -> str:
        covered = sum(count > 0 for count in self.counts)
        return f"{covered} of {len(self.counts)} modes, {self.inside:.1%} of {self.n} samples inside, KL {self.kl:.3g}"


@checked
def mode_coverage(samples: Any, modes: Any, radius: int | float) -> ModeCoverage:
    """Count the samples near each of a mixture's modes.

    Parameters
    ----------
    samples : array or Tensor, shape (n, d)
    modes : array or Tensor, shape (k, d)
    radius : float
        In the data's unit.

    Raises
    ------
    ValueError
        Different numbers of columns, values that are not finite, a negative radius.
    """
    radius = float(check_in_range(radius, "radius", low=0.0))
    x, centres = as_pair(samples, modes, name="modes")
    unit = power_of_two(float(torch.cat([x, centres]).abs().max()))
    x, centres = x / unit, centres / unit
    distance, mode = torch.cdist(x, centres, compute_mode="donot_use_mm_for_euclid_dist").min(1)
    counts = torch.bincount(mode[unit * distance <= radius], minlength=len(centres)).cpu().numpy()
    total = int(counts.sum())
    uniform = 1 / len(counts)
    kl = float(rel_entr(counts / total, uniform).sum()) if total else math.nan
    return ModeCoverage(tuple(counts.tolist()), total / len(x), kl, len(x))


@dataclass(frozen=True)
class MemorisationGap(Result):
    """Are samples nearer to what was trained on than to what was held out?

    Attributes
    ----------
    value : float
        Mean distance to the nearest held-out point less that to the nearest training point, in the data's unit. About
        0 for new samples, positive for copies.
    to_train, to_test : float
        The two means.
    share : float
        Of samples nearer to a training point (ties count half): 1/2 for new samples, 1 for copies.
    n : int
        Samples.
    n_each : int
        Training points, and held-out ones: as many of the larger set were drawn as the smaller has.
    """

    value: float
    to_train: float
    to_test: float
    share: float
    n: int
    n_each: int

    def __str__(self) -> str:
        return (
            f"memorisation gap {self.value:.4g} ({self.to_train:.4g} to training points, {self.to_test:.4g} to others; "
            f"{self.share:.1%} of {self.n} samples nearer to training points)"
        )


@checked
def memorisation_gap(
    samples: Any, train: Any, test: Any, *, random_state: RandomState = 0
) -> MemorisationGap:
    """Compare distances to the nearest training point and to the nearest held-out one.

    A larger set has nearer points, so both are brought to one size by a random choice of the larger.

    Parameters
    ----------
    samples, train, test : array or Tensor, shape (n, ...)

    Raises
    ------
    ValueError
        Different numbers of features, or values that are not finite.
    """
    x, seen = as_pair(samples, train, name="train")
    _, unseen = as_pair(samples, test, name="test")
    unit = power_of_two(float(torch.cat([x, seen, unseen]).abs().max()))
    x, seen, unseen = x / unit, seen / unit, unseen / unit
    size = min(len(seen), len(unseen))
    near = []
    for name, rows in (("train", seen), ("test", unseen)):
        order = as_generator(derive_seed(root_seed(random_state), name)).permutation(len(rows))[:size]
        chosen = rows[torch.from_numpy(np.sort(order)).to(rows.device)]
        near.append(_nearest(x, chosen, 1, np.full(len(x), -1))[0][:, 0])
    nearer = (near[0] < near[1]) + 0.5 * (near[0] == near[1])
    to_train, to_test = (unit * float(distances.mean()) for distances in near)
    return MemorisationGap(to_test - to_train, to_train, to_test, float(nearer.mean()), len(x), size)
