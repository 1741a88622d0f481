"""From points, images, graphs and series to complexes filtered by two numbers at once.

    function-Rips:  f(s) = (largest distance in s, max_{v in s} g(v)),     g low where data are dense,

with the codensity ``g(x_i) = -log (1/n) sum_j exp(-|x_i - x_j|^2 / (2 h^2))`` or the distance to a measure,
``g(x_i)^2 =`` mean of the squared distances to the nearest share m of the points (x_i among them).

============================ ==================== ==============================================================
in the papers                here                 meaning
============================ ==================== ==============================================================
codensity                    ``function="kde"``   minus the logarithm of a kernel density estimate
DTM                          ``function="dtm"``   distance to a measure
multifiltration              Bifiltration         raw data in, complexes out, as a scikit-learn transformer
============================ ==================== ==============================================================

Sources: Loiseaux, Carriere and Blumberg 2023, arXiv 2306.11170, sections 2 and 5; Scoccola et al. 2024, arXiv
2406.07224, section 3. Departure: the default bandwidth is 0.2 times the root-mean-square pair distance, so that
codensity does not depend on the unit of the points (and carries the gradient of that distance).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from torch import Tensor

from lodim.geometry.multiparameter_persistence.complexes import (
    MAX_CELLS,
    FilteredComplex,
    as_values,
    cubical_complex,
    graph_complex,
    too_many_cells,
)
from lodim.validation import check_choice, check_counts, check_in_range, check_numbers, check_tensor, checked

_RELATIVE_BANDWIDTH = 0.2
_MATRIX = 25  # with a threshold, so many times more pairs than cells may be looked at


def _codensity(distance: Tensor, bandwidth: Any) -> Tensor:
    h = bandwidth if bandwidth is not None else _RELATIVE_BANDWIDTH * _rms(distance)
    return np.log(len(distance)) - torch.logsumexp(-(distance**2) / (2 * h**2), 1)


def _rms(distance: Tensor) -> Tensor:
    """Root-mean-square pair distance; 1 where all points coincide, which no bandwidth could tell apart."""
    n = len(distance)
    mean_square = (distance**2).sum() / max(1, n * (n - 1))
    return mean_square.sqrt() if float(mean_square.detach()) > 0 else torch.ones_like(mean_square)


def _distance_to_measure(distance: Tensor, mass: float) -> Tensor:
    k = max(1, int(np.ceil(mass * len(distance))))
    near = (distance**2).topk(k, dim=1, largest=False).values.mean(1)
    return torch.where(near > 0, near.where(near > 0, torch.ones_like(near)).sqrt(), torch.zeros_like(near))


@checked
class FunctionRips(torch.nn.Module):
    """Vietoris-Rips complex of points, filtered by distance and by a function on the points.

    Differentiable in the points. Without a threshold nothing jumps: see
    :mod:`lodim.geometry.differentiable_persistence.losses` for what a threshold does to gradients.

    Parameters
    ----------
    bandwidth : float, optional
        Of the kernel density estimate, in the unit of the points. Default: 0.2 times the root-mean-square pair
        distance.
    function : {"kde", "dtm", "none"} or callable
        Codensity, distance to a measure, no second filtration, or ``function(x (n, d)) -> (n,)``.
    threshold : float or "enclosing", optional
        Longest edge. The enclosing radius, at which some point reaches all others, is where the homology of the whole
        cloud ends (that of its denser part may go on).
    max_dim : int
        Largest degree of homology wanted.
    mass : float
        Share of the points for the distance to a measure.

    Raises
    ------
    ValueError
        Parameters outside their ranges.
    """

    def __init__(
        self,
        bandwidth: Any = None,
        function: Any = "kde",
        threshold: Any = None,
        max_dim: Any = 1,
        *,
        mass: Any = 0.1,
    ):
        super().__init__()
        if not callable(function):
            check_choice(function, ("kde", "dtm", "none"), "function")
        for value, name in ((bandwidth, "bandwidth"), (threshold, "threshold")):
            if value is not None and value != "enclosing" and not check_in_range(value, name, low=0) > 0:
                raise ValueError(f"{name} must be positive, got {value}")
        check_in_range(mass, "mass", low=0, high=1)
        self.bandwidth, self.function, self.threshold = bandwidth, function, threshold
        self.max_dim = check_in_range(max_dim, "max_dim", low=0, integer=True)
        self.mass = mass

    def forward(self, x: Any) -> FilteredComplex:
        """Build the complex.

        Parameters
        ----------
        x : Tensor or array-like, shape (n_points, n_features)
            May be empty; equal points are allowed. Half precision is computed in single, whole numbers in double.

        Raises
        ------
        ValueError
            Not two axes, NaN or infinity, or more edges than fit.
        """
        x = checked_points(x)
        n = len(x)
        if n * (n + 1) // 2 > MAX_CELLS * (1 if self.threshold is None else _MATRIX):
            raise too_many_cells(n * (n + 1) // 2)  # before the matrix of distances is made
        distance = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
        pairs = np.stack(np.triu_indices(n, 1), 1)
        if self.threshold is not None:
            lengths = distance.detach()
            limit = self.threshold
            if limit == "enclosing":
                limit = lengths.amax(1).amin() if n else 0.0
            near = lengths[pairs[:, 0], pairs[:, 1]] <= limit
            pairs = pairs[near.cpu().numpy()]
        lengths = distance[pairs[:, 0], pairs[:, 1]]
        if n + len(pairs) > MAX_CELLS:
            raise too_many_cells(n + len(pairs))
        grades = torch.cat([x.new_zeros(n), lengths])[:, None]
        if self.function != "none":
            g = self._values(x, distance)
            on_edges = torch.maximum(g[pairs[:, 0]], g[pairs[:, 1]])
            grades = torch.cat([grades, torch.cat([g, on_edges])[:, None]], 1)
        return FilteredComplex((np.arange(n)[:, None], pairs), grades, self.max_dim, True)

    def _values(self, x: Tensor, distance: Tensor) -> Tensor:
        if len(x) == 0:
            return x.new_zeros(0)
        if self.function == "kde":
            return _codensity(distance, self.bandwidth)
        if self.function == "dtm":
            return _distance_to_measure(distance, self.mass)
        g = self.function(x)
        if not isinstance(g, Tensor) or g.shape != (len(x),):
            raise ValueError(f"function(x) must return a tensor of shape ({len(x)},), got {g!r:.80}")
        if not bool(g.isfinite().all()):
            raise ValueError("function(x) must be finite")
        return g.to(x)


def checked_points(x: Any) -> Tensor:
    """Return finite points in single or double precision, in which distances are computed."""
    x = as_values(x, "points")
    if x.ndim != 2:
        raise ValueError(
            f"points must have shape (n_points, n_features), got {tuple(x.shape)}; pass batches as a list"
        )
    bad = ~x.isfinite().all(1)
    if bool(bad.any()):
        raise ValueError(f"points hold NaN or infinity, the first in row {int(bad.nonzero()[0])}")
    return x


@checked
def delay_embedding(series: Any, *, dimension: int = 3, delay: int = 1, stride: int = 1) -> Any:
    """Return windows of a time series as points: row t is ``(s_t, s_{t + delay}, ..., s_{t + (dimension - 1) delay})``.

    Parameters
    ----------
    series : array-like or Tensor, shape (n,) or (n, n_channels)
        Channels of a window stand side by side.
    dimension, delay, stride : int
        Values in a window, steps between them, steps between windows.

    Raises
    ------
    ValueError
        A series shorter than one window.
    """
    check_counts(dimension=dimension, delay=delay, stride=stride)
    if isinstance(series, Tensor):
        values = check_tensor(series, "series", numbers=False)
    else:
        values = check_numbers(series, "series")
    if values.ndim not in (1, 2):
        raise ValueError(f"series must have shape (n,) or (n, n_channels), got {tuple(values.shape)}")
    length = (dimension - 1) * delay + 1
    if len(values) < length:
        raise ValueError(f"a window spans {length} values, but the series has only {len(values)}")
    rows = np.arange(0, len(values) - length + 1, stride)[:, None] + delay * np.arange(dimension)
    return values[rows].reshape(len(rows), -1)


@dataclass(eq=False, repr=False)
class Bifiltration(TransformerMixin, BaseEstimator):
    """Raw objects in, filtered complexes out.

    Parameters
    ----------
    kind : {"rips", "graph", "cubical", "series"}
        What an object is: points (n, d); a pair ``(edges, vertex_values)``; an image (channels, height, width); a time
        series, turned into points by :func:`delay_embedding`.
    density : {"kde", "dtm", "none"} or callable
        Second filtration of points, see :class:`FunctionRips`.
    bandwidth : float, optional
    threshold : float or "enclosing", optional
    max_dim : int
    mass : float
    dimension, delay : int
        Of the delay embedding.

    Examples
    --------
    >>> import numpy as np
    >>> print(Bifiltration().fit_transform([np.eye(3)])[0])
    complex filtered by 2 parameter(s): 3 of dimension 0, 3 of dimension 1; cliques not listed
    """

    kind: Any = "rips"
    density: Any = "kde"
    bandwidth: Any = None
    threshold: Any = None
    max_dim: Any = 1
    _: KW_ONLY
    mass: Any = 0.1
    dimension: Any = 3
    delay: Any = 1

    def __sklearn_is_fitted__(self) -> bool:
        return True  # nothing is learned

    def fit(self, X: Any, y: Any = None) -> Bifiltration:
        """Check the parameters; nothing is learned.

        Parameters
        ----------
        X : list of objects
        y : ignored
        """
        check_choice(self.kind, ("rips", "graph", "cubical", "series"), "kind")
        self._rips()
        return self

    def _rips(self) -> FunctionRips:
        return FunctionRips(self.bandwidth, self.density, self.threshold, self.max_dim, mass=self.mass)

    def transform(self, X: Any) -> list[FilteredComplex]:
        """Build one complex an object.

        Parameters
        ----------
        X : list of objects

        Raises
        ------
        ValueError
            An object that is no such data, holds NaN, or is too large; names it by its place in the list.
        """
        check_choice(self.kind, ("rips", "graph", "cubical", "series"), "kind")
        build = self._builder()
        complexes = []
        for place, item in enumerate(X):
            try:
                complexes.append(build(item))
            except ValueError as error:
                raise ValueError(f"object {place}: {error}") from error
        return complexes

    def _builder(self) -> Callable[[Any], FilteredComplex]:
        if self.kind == "graph":
            return lambda item: graph_complex(item[0], item[1], max_dim=self.max_dim)
        if self.kind == "cubical":
            return cubical_complex
        rips = self._rips()
        if self.kind == "series":
            return lambda item: rips(
                _as_points(delay_embedding(item, dimension=self.dimension, delay=self.delay))
            )
        return lambda item: rips(_as_points(item))


def _as_points(item: Any) -> Tensor:
    points = as_values(item, "points")
    return points if isinstance(item, Tensor) or points.numel() else points.reshape(0, 1)
