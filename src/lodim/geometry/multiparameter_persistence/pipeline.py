"""Raw data in, topological features out: transformers for any scikit-learn pipeline.

:class:`MultiparameterPersistence` chains the steps of *A Framework for Fast and Stable Representations of
Multiparameter Persistent Homology Decompositions* (Loiseaux, Carriere and Blumberg 2023, arXiv 2306.11170):

    objects -> bifiltration -> candidate intervals -> S-CDR image -> row of numbers.

``method="hilbert"`` takes the signed measure of the Hilbert function instead of candidates and convolves it with a
Gaussian. :class:`PersistenceImage` is the one-parameter baseline: bars (b, d) of the Rips filtration as Gaussians at
(b, d - b), weighted by (d - b)^p. :func:`perturbation_stability` measures what the stability theorem is about.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from lodim.geometry.multiparameter_persistence.bifiltrations import Bifiltration
from lodim.geometry.multiparameter_persistence.candidates import CandidateRepresentation
from lodim.geometry.multiparameter_persistence.fibered import FiberedDecomposition
from lodim.geometry.multiparameter_persistence.measure_image import SignedMeasureImage
from lodim.geometry.multiparameter_persistence.measures import SignedMeasure, hilbert_signed_measure
from lodim.geometry.multiparameter_persistence.mma import MMADecomposition
from lodim.geometry.multiparameter_persistence.ranks import check_degrees
from lodim.randomness import as_generator
from lodim.validation import check_choice, check_in_range, check_numbers, checked, require

Images = Float[np.ndarray, "n n_degrees rows columns"]


def _range_of(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the box of some points; the unit box if there are none."""
    if not len(columns):
        return np.zeros(columns.shape[1]), np.ones(columns.shape[1])
    return columns.min(0), columns.max(0)


def _check_some(found: Any) -> None:
    if not len(found):
        raise ValueError(
            "fit needs at least one object, got none: the training set's ranges are learned from them"
        )


def _flat(images: Images) -> np.ndarray:
    return images.reshape(len(images), int(np.prod(images.shape[1:])))


class _MeasureImages:
    """Hilbert measures as images over the box of the training set."""

    def __init__(self, degrees: tuple[int, ...], resolution: int, bandwidth: float, grid: Any):
        self.degrees, self.resolution, self.bandwidth, self.grid = degrees, resolution, bandwidth, grid

    def measures(self, complexes: list[Any]) -> list[list[SignedMeasure]]:
        """One list a complex, one measure a degree."""
        with torch.no_grad():
            return [[hilbert_signed_measure(fc, k, grid=self.grid) for k in self.degrees] for fc in complexes]

    def fit(self, found: list[list[SignedMeasure]]) -> _MeasureImages:
        """Learn the box of each degree."""
        self.boxes_ = [
            _range_of(np.concatenate([m.points.cpu().numpy() for m in of_degree]))
            for of_degree in zip(*found, strict=True)
        ]
        return self

    def transform(self, found: list[list[SignedMeasure]]) -> Images:
        """Return the images."""
        layers = [SignedMeasureImage(self.resolution, self.bandwidth, box) for box in self.boxes_]
        out = np.zeros((len(found), len(self.degrees), self.resolution, self.resolution))
        for row, measures in enumerate(found):
            for k, (layer, measure) in enumerate(zip(layers, measures, strict=True)):
                out[row, k] = layer(measure).cpu().numpy()
        return out


@dataclass(eq=False, repr=False)
class MultiparameterPersistence(TransformerMixin, BaseEstimator):
    """Stable topological features of point clouds, graphs, images or time series.

    Parameters
    ----------
    kind : {"rips", "graph", "cubical", "series"}
        What an object is; see :class:`Bifiltration`.
    density : {"kde", "dtm", "none"} or callable
    bandwidth : float, optional
    threshold : float or "enclosing", optional
        See :class:`FunctionRips`.
    method : {"mma", "fibered", "hilbert"}
        Candidate intervals by multipers; boxes along lines (gudhi only); or the Hilbert measure, which is no candidate
        decomposition but fast. There is no silent change from one to another.
    degrees : tuple of int
        Of homology.
    max_error : float
        Of ``"mma"``.
    n_lines : int
        Of ``"fibered"``.
    grid : int, optional
        Of ``"hilbert"``: values kept of each parameter.
    op, weight_power, phi, delta, resolution
        See :class:`CandidateRepresentation`; ``delta`` is the Gaussian's bandwidth for ``"hilbert"``.
    flatten : bool
        Rows of numbers for a classifier, or images of shape (n_degrees, resolution, resolution).

    Attributes
    ----------
    representation_ : object
        The fitted last step.
    """

    kind: Any = "rips"
    density: Any = "kde"
    bandwidth: Any = None
    threshold: Any = None
    method: Any = "mma"
    degrees: Any = (0, 1)
    _: KW_ONLY
    max_error: Any = 0.01
    n_lines: Any = 20
    grid: Any = None
    op: Any = "wmean"
    weight_power: Any = 2.0
    phi: Any = "local_weight"
    delta: Any = 0.1
    resolution: Any = 20
    flatten: Any = True

    def decompose(self, X: Any) -> list[Any]:
        """Return what the last step takes: candidate intervals, or the Hilbert measures of every degree.

        Parameters
        ----------
        X : list of objects
        """
        check_choice(self.method, ("mma", "fibered", "hilbert"), "method")
        degrees = check_degrees(self.degrees)
        filtration = Bifiltration(self.kind, self.density, self.bandwidth, self.threshold, max(1, *degrees))
        complexes = filtration.fit_transform(X)
        if self.method == "mma":
            return MMADecomposition(self.max_error, degrees).fit_transform(complexes)
        if self.method == "fibered":
            return FiberedDecomposition(self.n_lines, degrees).fit_transform(complexes)
        return self._representation().measures(complexes)

    def _representation(self) -> Any:
        if self.method == "hilbert":
            return _MeasureImages(tuple(self.degrees), self.resolution, self.delta, self.grid)
        return CandidateRepresentation(
            self.op, self.weight_power, self.phi, self.delta, self.resolution, degrees=tuple(self.degrees)
        )

    def fit(self, X: Any, y: Any = None) -> MultiparameterPersistence:
        """Learn the boxes of the training set.

        Parameters
        ----------
        X : list of objects
        y : ignored

        Raises
        ------
        ImportError
            Without the libraries that ``method`` needs.
        ValueError
            No objects, or some with NaN or too large, named by their place.
        """
        self._fit(X)
        return self

    def _fit(self, X: Any) -> list[Any]:
        found = self.decompose(X)
        _check_some(found)
        self.representation_ = self._representation().fit(found)
        return found

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Fit, and return the features of the same objects without decomposing them twice.

        Parameters
        ----------
        X : list of objects
        y : ignored
        """
        return self._rows(self._fit(X))

    def transform(self, X: Any) -> np.ndarray:
        """Return the features, shape (n, n_degrees * resolution^2), or images if not ``flatten``.

        Parameters
        ----------
        X : list of objects
        """
        check_is_fitted(self)
        return self._rows(self.decompose(X))

    def _rows(self, found: list[Any]) -> np.ndarray:
        images = self.representation_.transform(found)
        return _flat(images) if self.flatten else images


@dataclass(eq=False, repr=False)
class PersistenceImage(TransformerMixin, BaseEstimator):
    """One-parameter persistence images of point clouds: the baseline.

    Parameters
    ----------
    degrees : tuple of int
    resolution : int
    bandwidth : float
        In units of the training set's range of births and lengths.
    weight_power : float
        Power of a bar's length.
    flatten : bool

    Attributes
    ----------
    boxes_ : list of pair of ndarray
        Corners of the range of (birth, length) for each degree.
    """

    degrees: Any = (0, 1)
    resolution: Any = 20
    bandwidth: Any = 0.1
    weight_power: Any = 1.0
    flatten: Any = True

    def _bars(self, X: Any) -> list[list[np.ndarray]]:
        ripser = require("gudhi.sklearn.rips_persistence", "topology").RipsPersistence
        check_in_range(self.resolution, "resolution", low=1, integer=True)
        degrees = check_degrees(self.degrees)
        clouds = [
            np.ascontiguousarray(check_numbers(cloud, f"object {place}")) for place, cloud in enumerate(X)
        ]
        for place, cloud in enumerate(clouds):
            if cloud.size and (cloud.ndim != 2 or not np.isfinite(cloud).all()):
                raise ValueError(f"object {place} must be a finite array (n_points, n_features)")
        model = ripser(homology_dimensions=list(degrees), input_type="point cloud", num_collapses=0)
        found = []
        for cloud in clouds:
            diagrams = model.fit_transform([cloud])[0] if len(cloud) else [np.empty((0, 2))] * len(degrees)
            finite = [bars[np.isfinite(bars[:, 1])] for bars in diagrams]
            found.append([np.c_[bars[:, 0], bars[:, 1] - bars[:, 0]] for bars in finite])
        return found

    def fit(self, X: Any, y: Any = None) -> PersistenceImage:
        """Learn the range of births and lengths.

        Parameters
        ----------
        X : list of array-like, shapes (n_i, d)
        y : ignored
        """
        found = self._bars(X)
        _check_some(found)
        self.boxes_ = [
            _range_of(np.concatenate([np.empty((0, 2)), *(bars[k] for bars in found)]))
            for k in range(len(self.degrees))
        ]
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the features, shape (n, n_degrees * resolution^2), or images if not ``flatten``.

        Parameters
        ----------
        X : list of array-like, shapes (n_i, d)
        """
        check_is_fitted(self)
        layers = [SignedMeasureImage(self.resolution, self.bandwidth, box) for box in self.boxes_]
        images = []
        for bars in self._bars(X):
            for layer, columns in zip(layers, bars, strict=True):
                points = torch.from_numpy(columns)
                images.append(layer(SignedMeasure(points, points[:, 1] ** self.weight_power)).numpy())
        out = np.array(images).reshape(-1, len(self.degrees), self.resolution, self.resolution)
        return _flat(out) if self.flatten else out


@checked
def perturbation_stability(
    model: Any, X: Any, sizes: Any = (0.01, 0.02, 0.05, 0.1), *, random_state: Any = None
) -> pd.DataFrame:
    """Move every point by at most t and measure the largest change of the representation.

    Parameters
    ----------
    model : fitted transformer
    X : list of array-like, shapes (n_i, d)
    sizes : sequence of float
        Values of t, positive.
    random_state : int, Generator or None

    Returns
    -------
    DataFrame
        ``size``, ``change`` (largest over objects of the sup-norm change) and ``ratio``, change over size, which
        stability bounds.
    """
    sizes = np.atleast_1d(check_numbers(sizes, "sizes"))
    if not (np.isfinite(sizes) & (sizes > 0)).all():
        raise ValueError(f"sizes must be positive numbers, got {sizes}")
    if not len(X):
        raise ValueError("X holds no object to move")
    rng, rows = as_generator(random_state), []
    base = model.transform(X)
    for size in sizes:
        moved = []
        for cloud in X:
            step = rng.normal(size=np.shape(cloud))
            step *= size * rng.random((len(cloud), 1)) / np.linalg.norm(step, axis=1, keepdims=True)
            moved.append(check_numbers(cloud, "a cloud") + step)
        change = float(np.abs(model.transform(moved) - base).max())
        rows.append({"size": float(size), "change": change, "ratio": change / size})
    return pd.DataFrame(rows)
