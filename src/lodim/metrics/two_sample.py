r"""Distances between two samples: Wasserstein, exact and sliced, kernel mean discrepancies, a classifier's success.

For samples :math:`x_1 \ldots x_n` and a reference :math:`y_1 \ldots y_m`:

.. math::
    \mathrm{SW}_p^p = \mathbb{E}_\theta \int_0^1
        |F^{-1}_{\theta \cdot x}(q) - F^{-1}_{\theta \cdot y}(q)|^p \, dq, \qquad
    \widehat{\mathrm{MMD}}{}^2_u = \frac{1}{n(n-1)} \sum_{i \ne j} k(x_i, x_j)
        + \frac{1}{m(m-1)} \sum_{i \ne j} k(y_i, y_j) - \frac{2}{nm} \sum_{i, j} k(x_i, y_j)

The second is a U-statistic, unbiased, and hence below zero about half the time when the two distributions are one.

==========================================  ===========================================================
in the papers                               here
==========================================  ===========================================================
:math:`\theta`, on the unit sphere          ``n_projections`` random directions
k, Gaussian                                 mean over five bandwidths, median distance x (1/4 ... 4)
k, cubic: :math:`(x \cdot y / d + 1)^3`     :func:`kid` (Binkowski et al. 2018, arXiv 1801.01401)
C2ST statistic                              area under the ROC curve, 1/2 where nothing can be told
==========================================  ===========================================================

References
----------
N. Bonneel, J. Rabin, G. Peyre and H. Pfister, Sliced and Radon Wasserstein barycenters of measures, J. Math. Imaging
and Vision 51 (2015). A. Gretton et al., A kernel two-sample test, JMLR 13 (2012), equation 3. D. Lopez-Paz and
M. Oquab, Revisiting classifier two-sample tests, arXiv 1610.06545.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from sklearn.base import clone
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from lodim.metrics.samples import Rows, TwoSample, as_pair, in_own_unit, measured
from lodim.neighbors import stream_pairs
from lodim.randomness import RandomState, as_generator, derive_seed, root_seed
from lodim.validation import ConvergenceWarning, check_in_range, checked

__all__ = ["c2st", "kid", "mmd_rbf", "sliced_wasserstein", "wasserstein"]

_MEDIAN_ROWS = 1000  # a median of half a million distances is known well enough
_BLOCK = 2048
_LARGEST_POWER = 100
_WIDEST = 1e150  # bandwidth in the data's unit, or one over it: squares of more leave double precision
_CANCELLED = 1e-4  # of the largest distance: below, matrix products leave less than eight digits


@checked
def sliced_wasserstein(
    samples: Any,
    reference: Any,
    n_projections: int = 200,
    p: int | float = 2,
    *,
    random_state: RandomState = 0,
) -> TwoSample:
    """p-Wasserstein distance along random lines, in the data's unit.

    Parameters
    ----------
    samples, reference : array or Tensor, shape (n, ...), (m, ...)
    p : float
        From 1 to 100; what lies beyond underflows.

    Raises
    ------
    ValueError
        No two rows in the reference, different numbers of features, or values that are not finite.
    """
    check_in_range(p, "p", low=1.0, high=_LARGEST_POWER)
    check_in_range(n_projections, "n_projections", low=1, integer=True)
    x, y, unit = in_own_unit(*as_pair(samples, reference, 1, 2))
    rng = as_generator(derive_seed(root_seed(random_state), "directions"))
    normal = torch.from_numpy(rng.standard_normal((x.shape[1], n_projections))).to(x.device)
    directions = normal / normal.norm(dim=0)

    def figure(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> float:
        return unit * _over_lines(x @ directions, y @ directions, p)

    return measured("sliced_wasserstein", figure, x, y, random_state)


@checked
def wasserstein(
    samples: Any, reference: Any, p: int | float = 1, *, random_state: RandomState = 0
) -> TwoSample:
    """p-Wasserstein distance, exactly, in the data's unit: the cheapest pairing of the rows of both samples.

    Memory grows with the square of the number of rows, time nearly with its cube: a second or two for 2,000.

    Parameters
    ----------
    samples, reference : array or Tensor, shape (n, ...)
        As many rows each.
    p : float
        From 1 to 100.

    Raises
    ------
    ValueError
        Samples of different sizes, fewer than 2 rows, different numbers of features, or values that are not finite.
    """
    check_in_range(p, "p", low=1.0, high=_LARGEST_POWER)
    x, y, unit = in_own_unit(*as_pair(samples, reference, 2, 2))
    if len(x) != len(y):
        raise ValueError(
            f"an exact pairing needs as many samples as rows in the reference, got {len(x)} and {len(y)}; drop rows of "
            "the larger one at random, or use sliced_wasserstein"
        )

    def figure(x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> float:
        distances = torch.cdist(x, y)
        if bool((distances < _CANCELLED * distances.max()).any()):  # by products, these would pair at random
            distances = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
        rows, columns = linear_sum_assignment((distances / (distances.max() or 1)).pow(p).cpu().numpy())
        paired = torch.linalg.vector_norm(x[rows] - y[columns], dim=1)
        largest = float(paired.max()) or 1.0
        return unit * largest * float((paired / largest).pow(p).mean()) ** (1 / p)

    return measured("wasserstein", figure, x, y, random_state)


def _over_lines(x: Float[Tensor, "n l"], y: Float[Tensor, "m l"], p: int | float) -> float:
    """Root of the mean over columns of ``W_p^p``: quantile functions are steps, compared between all their jumps."""
    x, y = x.sort(0).values, y.sort(0).values
    n, m = len(x), len(y)
    # in whole steps of 1/(n m): quantiles of unequal samples meet without rounding
    jumps = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()
    width = torch.diff(jumps, prepend=jumps.new_zeros(1)).to(x.device, x.dtype) / (n * m)
    below = (jumps - 1).to(x.device)
    gaps = (x[below // m] - y[below // n]).abs()
    largest = float(gaps.max()) or 1.0  # powers of small gaps underflow
    return largest * float((width @ (gaps / largest) ** p).mean()) ** (1 / p)


class _KernelSums:
    """Sums of k over pairs within each column's marked points, over pairs that start there, and over all pairs.

    k is the mean of Gaussian kernels of bandwidths ``width * (1/4, 1/2, 1, 2, 4)``: each is the fourth power of the
    next wider.
    """

    def __init__(self, marked: Float[Tensor, "n c"], width: int | float):
        self.marked, self.width = marked, width
        self.within, self.starting, self.total = marked.new_zeros(3, marked.shape[1])

    def start(self, n_q: int, n_r: int, device: torch.device, dtype: torch.dtype, unit: float) -> None:
        """Express the rate of the widest kernel in the pass's unit."""
        self.rate = (unit / self.width) ** 2 / 32

    def update(self, rows: slice, cols: slice, block: Tensor) -> None:
        """Add the block (a point does not meet itself: its distance there is infinite)."""
        wider = (-self.rate * block).exp()
        kernel = wider.clone()
        for _ in range(4):
            wider = wider.square().square()
            kernel += wider
        kernel /= 5
        self._marginal, self._both = kernel.sum(0), (self.marked[rows] * (kernel @ self.marked[cols])).sum(0)
        self._add(kernel.sum(1), rows)

    def mirror(self, rows: slice, cols: slice, block: Tensor) -> None:
        """Add the transposed block: the update before has left its sums."""
        self._add(self._marginal, cols)

    def _add(self, sums: Tensor, starts: slice) -> None:
        self.within += self._both
        self.starting += sums @ self.marked[starts]
        self.total += sums.sum()

    def result(self) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"], Float[Tensor, " c"]]:
        """Return the sums."""
        return self.within, self.starting, self.total


def _mmd_of_splits(
    pooled: Float[Tensor, "n d"], marked: Float[Tensor, "n c"], width: int | float
) -> Float[Tensor, " c"]:
    """Unbiased squared MMD between the rows that a column marks (by 1) and the others."""
    sums = stream_pairs(pooled, reducers=[_KernelSums(marked, width)], dtype=torch.float64)
    within, starting, total = sums[0]
    n = marked.sum(0)
    m = len(pooled) - n
    across = starting - within
    return within / (n * (n - 1)) + (total - within - 2 * across) / (m * (m - 1)) - 2 * across / (n * m)


def _median_distance(pooled: Rows, random_state: RandomState) -> float:
    """Median distance of two different points; 1 if there are none."""
    chosen = as_generator(random_state).permutation(len(pooled))[:_MEDIAN_ROWS]
    distances = torch.pdist(pooled[torch.from_numpy(chosen).to(pooled.device)])
    distances = distances[distances > 0]
    return float(distances.median()) if len(distances) else 1.0


@checked
def mmd_rbf(
    samples: Any,
    reference: Any,
    *,
    bandwidth: int | float | None = None,
    n_permutations: int = 200,
    random_state: RandomState = 0,
) -> TwoSample:
    """Squared maximum mean discrepancy with Gaussian kernels, unbiased, and the p-value of its permutation test.

    Parameters
    ----------
    samples, reference : array or Tensor, shape (n, ...), (m, ...)
    bandwidth : float, optional
        The middle one of five. Default: the median distance between different points of both samples together, which
        does not change when they are permuted: the test keeps its level in samples of any size.
    n_permutations : int
        0 for no test. The least p-value is ``1 / (n_permutations + 1)``.

    Raises
    ------
    ValueError
        Fewer than 2 samples or 4 rows in the reference, different numbers of features, values that are not finite.
    """
    check_in_range(n_permutations, "n_permutations", low=0, integer=True)
    x, y, unit = in_own_unit(*as_pair(samples, reference, 2, 4))
    seed = root_seed(random_state)
    pooled = torch.cat([x, y])
    width = _median_distance(pooled, derive_seed(seed, "median")) if bandwidth is None else bandwidth / unit
    if not 1 / _WIDEST < width < _WIDEST:
        raise ValueError(
            f"bandwidth must be positive and not too far from the data's unit, {unit:.3g}, got {bandwidth}"
        )
    rng = as_generator(derive_seed(seed, "permutations"))
    marked = np.zeros((len(pooled), 1 + n_permutations))
    marked[: len(x), 0] = 1
    for column in range(1, 1 + n_permutations):
        marked[rng.permutation(len(pooled))[: len(x)], column] = 1
    found = _mmd_of_splits(pooled, torch.from_numpy(marked).to(pooled.device), width)
    # splits that tie must count as ties whatever the order of a sum
    as_large = int((found[1:] >= found[0] - 1e-12).sum())
    p_value = (1 + as_large) / (1 + n_permutations) if n_permutations else None

    def figure(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> float:
        is_x = torch.cat([x.new_ones(len(x), 1), y.new_zeros(len(y), 1)])
        return float(_mmd_of_splits(torch.cat([x, y]), is_x, width)[0])

    return measured("mmd_rbf", figure, x, y, random_state, p_value)


@checked
def kid(samples: Any, reference: Any, *, random_state: RandomState = 0) -> TwoSample:
    """Squared maximum mean discrepancy with the cubic kernel of the kernel inception distance, unbiased.

    Give features of samples, not samples: the figure has no scale of its own. Input as for :func:`mmd_rbf`;
    features whose sixth powers overflow are refused.
    """
    x, y = as_pair(samples, reference, 2, 4)
    return measured("kid", _cubic_mmd, x, y, random_state)


def _cubic_mmd(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> float:
    n, m = len(x), len(y)
    within = [
        (_cubic_sum(z, z) - _cubic(z.square().sum(1), z).sum()) / (len(z) * (len(z) - 1)) for z in (x, y)
    ]
    value = float(within[0] + within[1] - 2 * _cubic_sum(x, y) / (n * m))
    if not math.isfinite(value):
        raise ValueError("cubes of products overflow; give features of a moderate unit")
    return value


def _cubic(products: Float[Tensor, " ..."], rows: Float[Tensor, "m d"]) -> Tensor:
    return (products / rows.shape[1] + 1) ** 3


def _cubic_sum(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Tensor:
    return torch.stack([_cubic(part @ y.T, y).sum() for part in x.split(_BLOCK)]).sum()


@checked
def c2st(
    samples: Any,
    reference: Any,
    *,
    classifier: Any = None,
    n_permutations: int = 0,
    random_state: RandomState = 0,
) -> TwoSample:
    """How well a classifier tells new samples from new rows of the reference: mean area under the ROC curve, 5 folds.

    1/2: not at all. Below it: rows that stand in both samples, or in one of them many times.

    Parameters
    ----------
    samples, reference : array or Tensor, shape (n, ...), (m, ...)
    classifier : scikit-learn classifier, optional
        Default: a network of 64 hidden units on standardised features, weights decayed, 100 steps of L-BFGS.
    n_permutations : int
        Fits as many more times five classifiers on permuted labels, for a p-value.

    Raises
    ------
    ValueError
        Fewer than 5 samples or 10 rows in the reference, different numbers of features, values that are not finite.
    """
    check_in_range(n_permutations, "n_permutations", low=0, integer=True)
    x, y, _ = in_own_unit(*as_pair(samples, reference, 5, 10))
    seed = root_seed(random_state)
    if classifier is None:
        seed_net = derive_seed(seed, "network")
        network = MLPClassifier((64,), solver="lbfgs", alpha=1.0, max_iter=100, random_state=seed_net)
        classifier = make_pipeline(StandardScaler(), network)
    folds = StratifiedKFold(5, shuffle=True, random_state=derive_seed(seed, "folds"))

    def labelled(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> tuple[np.ndarray, np.ndarray]:
        return torch.cat([x, y]).cpu().numpy(), np.repeat([1, 0], [len(x), len(y)])

    def success(rows: np.ndarray, labels: np.ndarray) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", ConvergenceWarning
            )  # more steps would only fit the training folds better
            scores = cross_val_score(clone(classifier), rows, labels, cv=folds, scoring="roc_auc")
        return float(scores.mean())

    def figure(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> float:
        return success(*labelled(x, y))

    found = measured("c2st", figure, x, y, random_state)
    if not n_permutations:
        return found
    rows, labels = labelled(x, y)
    rng = as_generator(derive_seed(seed, "permutations"))
    as_large = sum(success(rows, rng.permutation(labels)) >= found.value for _ in range(n_permutations))
    return replace(found, p_value=(1 + as_large) / (1 + n_permutations))
