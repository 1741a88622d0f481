"""What :func:`lodim.geometry.intrinsic_dimensions` returns: a data set's dimension seen by several estimators.

The consensus and its interval come from simulated shapes of known dimension (:mod:`lodim.dimension.calibrated`); its
level is nominal, for shapes like those.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from lodim.dimension.bounds import BOUND_TEXTS
from lodim.results import Result


@dataclass(frozen=True)
class Estimate(Result):
    """One estimator's answer.

    Attributes
    ----------
    dimension : float
        As the estimator's paper defines it; NaN if it could not be computed (the note says why).
    interval : tuple of float or None
        Around ``calibrated``, and nominal over all shapes simulated together: an estimator alone cannot tell them
        apart, and on some it misses always, mostly where the consensus is ``unfamiliar``. Without
        ``calibrated``: a percentile bootstrap of ``dimension`` over query points, the neighbour graph fixed, which
        holds the sample's doubt alone and does not cover the dimension.
    se : float or None
        Standard error of ``dimension`` for other samples of the same set: from the estimator's likelihood where it has
        one, else from the bootstrap.
    note : str
        What the reader must know, e.g. that the value is only a lower bound.
    calibrated : float or None
        What the estimator's answer says by itself: the median dimension of simulated shapes on which it answers the
        same with as many points. None for estimators that are not functions of the neighbour graph.
    """

    dimension: float
    interval: tuple[float, float] | None = None
    se: float | None = None
    note: str = ""
    calibrated: float | None = None


@dataclass(frozen=True)
class ScalePoint(Result):
    """The dimension seen at one scale.

    Attributes
    ----------
    kind : str
        ``"gride"`` (all points, neighbours ``n1`` and ``2 n1``) or ``"decimation"`` (TwoNN on fewer points).
    n1 : int
        Order of the nearer neighbour.
    n_used : int
        Points of the (sub)sample.
    radius : float
        Mean distance to the farther of the two neighbours, in the data's unit.
    """

    kind: str
    n1: int
    n_used: int
    dimension: float
    se: float
    radius: float


@dataclass(frozen=True)
class DimensionSummary(Result):
    """Intrinsic dimension of a data set: consensus, estimators, scales, classes, points, linear spectrum.

    Attributes
    ----------
    dimension : float
        Consensus: the calibrated dimension, at most the columns, the rank of the data or the distinct rows less one.
    interval : tuple of float
        Holds the dimension of a share ``level`` of shapes like those simulated; see the flags.
    level : float
        That share.
    unfamiliar : bool
        The data are unlike the shapes that the interval was calibrated on.
    scale_dependent : bool
        The dimension changes between neighbourhoods by more than its interval, and by a fifth at least: noise, or
        curvature between neighbours.
    bounded_by : {None, "columns", "rank", "rows"}
        The consensus stands at that bound, where the interval ends too.
    tied : bool
        Many distances tie (a lattice, rounded or categorical data): the interval says nothing.
    per_class : dict of str to Estimate
        The same consensus within each class (label as text); empty without labels.
    pointwise : ndarray, shape (n_queries,)
        Local dimension at each query point, smoothed over its neighbours; infinite where their distances tie.
    query_idx : ndarray, shape (n_queries,)
        Rows of the data the entries of ``pointwise`` belong to.
    spectrum : ndarray, shape (min(n_samples, n_features),)
        Eigenvalues of the covariance, descending.
    participation_ratio : float
        ``(sum l)^2 / sum l^2`` of the spectrum.
    n_components : dict of int to int
        Principal components that explain 90, 95 and 99 % of the variance.
    n_samples, n_features, n_queries, n_duplicates : int
        A repeated row counts once in every number: neighbours, pairs, graphs, and the linear spectrum.
    """

    dimension: float
    interval: tuple[float, float]
    estimates: dict[str, Estimate]
    per_class: dict[str, Estimate]
    pointwise: Float[np.ndarray, " n_queries"]
    query_idx: Int[np.ndarray, " n_queries"]
    scales: tuple[ScalePoint, ...]
    spectrum: Float[np.ndarray, " n_components"]
    participation_ratio: float
    n_components: dict[int, int]
    n_samples: int
    n_features: int
    n_queries: int
    n_duplicates: int
    constant_columns: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()
    level: float = 0.95
    unfamiliar: bool = False
    scale_dependent: bool = False
    bounded_by: str | None = None
    tied: bool = False

    def to_frame(self) -> Any:
        """Return the estimates as a data frame, one row an estimator."""
        import pandas as pd

        rows = []
        for name, e in self.estimates.items():
            low, high = e.interval if e.interval is not None else (math.nan, math.nan)
            rows.append((name, e.dimension, low, high, e.se, e.calibrated, e.note))
        columns = ["method", "dimension", "low", "high", "se", "calibrated", "note"]
        return pd.DataFrame(rows, columns=columns).set_index("method")

    def scale_frame(self) -> Any:
        """Return :attr:`scales` as a data frame with columns kind, n1, n_used, dimension, se, radius."""
        import pandas as pd

        return pd.DataFrame([s.to_dict() for s in self.scales], columns=list(ScalePoint.__dataclass_fields__))

    def plot(self, ax: Any = None) -> Any:
        """Draw the dimension against the scale, with the consensus as a band, and return the axes.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
        """
        from lodim.plots import new_axes

        ax = new_axes(ax)
        for kind, marker in (("gride", "o-"), ("decimation", "s--")):
            points = sorted((s for s in self.scales if s.kind == kind), key=lambda s: s.radius)
            if points:
                label = {"gride": "all points, farther neighbours", "decimation": "fewer points"}[kind]
                ax.errorbar(
                    [s.radius for s in points],
                    [s.dimension for s in points],
                    yerr=[1.96 * s.se for s in points],
                    fmt=marker,
                    capsize=2,
                    label=label,
                )
        if all(math.isfinite(v) for v in (*self.interval, self.dimension)):
            ax.axhline(self.dimension, color="0.3", linestyle=":", label=f"consensus {self.dimension:.1f}")
            ax.axhspan(*self.interval, color="0.5", alpha=0.15, linewidth=0)
        ax.set(xlabel="distance between neighbours", ylabel="dimension", title="Dimension across scales")
        ax.legend()
        return ax

    def __str__(self) -> str:
        low, high = self.interval
        end = f", {BOUND_TEXTS[self.bounded_by]}" if self.bounded_by else ""
        lines = [
            f"Intrinsic dimension {self.dimension:.1f} ({low:.1f} to {high:.1f}{end}; nominal {100 * self.level:g} % "
            f"for shapes like those simulated) of {self.n_samples} points in {self.n_features} columns",
        ]
        for name, e in self.estimates.items():
            interval = f" ({e.interval[0]:.2f} to {e.interval[1]:.2f}" if e.interval is not None else ""
            interval += "" if not interval else ")" if e.calibrated is not None else " by the sample alone)"
            calibrated = f", calibrated {e.calibrated:.2f}" if e.calibrated is not None else ""
            note = f"  [{e.note}]" if e.note else ""
            lines.append(f"  {name:<8} {e.dimension:8.2f}{calibrated}{interval}{note}")
        if self.per_class:
            parts = ", ".join(f"{label}: {e.dimension:.1f}" for label, e in self.per_class.items())
            lines.append(f"  by class: {parts}")
        shares = ", ".join(f"{share} %: {m}" for share, m in self.n_components.items())
        lines.append(f"  linear: participation ratio {self.participation_ratio:.1f}; components for {shares}")
        if self.n_duplicates:
            lines.append(f"  {self.n_duplicates} duplicated rows were dropped")
        if self.constant_columns:
            lines.append(f"  {len(self.constant_columns)} columns are constant")
        lines += [f"  ! {text}" for text in self.warnings]
        return "\n".join(lines)
