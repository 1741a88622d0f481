"""A kernel density estimator for tens to hundreds of dimensions, with the right bandwidth and a diagnosis.

    log rho_h(x) = log sum_i w_i k(|x - y_i| / h) - log sum_i w_i - log c_d - d log h

in one pass over blocks of distances with running maximum and sum; several bandwidths share each block. The bandwidth's
rules are in :mod:`.bandwidth`, the theory of the regimes (Biroli and Mezard 2024, arXiv 2408.05807) in :mod:`.theory`,
what the diagnosis means in :mod:`.regime`. The interface is that of scikit-learn's ``KernelDensity``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from lodim.geometry.high_dimensional_kde import bandwidth as rules
from lodim.geometry.high_dimensional_kde.kernels import (
    COMPACT,
    KERNELS,
    GibbsMoments,
    draw_kernel,
    log_norm,
    log_sums,
    pass_dtype,
    tail_power,
)
from lodim.geometry.high_dimensional_kde.regime import KDERegime, hill_index, measured_regime
from lodim.geometry.high_dimensional_kde.theory import KDETheory, kde_theory
from lodim.geometry.high_dimensional_kde.whitening import check_whiten, make_frame
from lodim.neighbors import NeighborGraph, TopK, first_occurrences, stream_pairs
from lodim.randomness import RandomState, as_generator, derive_seed, root_seed
from lodim.results import Result
from lodim.validation import (
    check_choice,
    check_device,
    check_in_range,
    check_labels,
    check_matrix,
    check_numbers,
)

_HILL_SHARE, _HILL_MOST, _HILL_LEAST = 0.01, 200, 10


@dataclass(frozen=True)
class Divergence(Result):
    """Monte-Carlo estimate of a Kullback-Leibler divergence, in nats.

    Attributes
    ----------
    se : float
        Standard error of the sampling.
    n : int
        Samples.
    """

    value: float
    se: float
    n: int

    def __str__(self) -> str:
        return f"KL = {self.value:.4g} +- {self.se:.2g} nats ({self.n:,} samples)"


@dataclass(eq=False, repr=False)
class HighDimKDE(DensityMixin, BaseEstimator):
    """Kernel density estimate with a bandwidth for many dimensions, and a diagnosis of its values.

    Parameters
    ----------
    bandwidth : float or str
        A positive number, or a rule: ``"loo"`` (maximises the leave-one-out likelihood), ``"nn"`` (typical distance to
        the nearest neighbour over sqrt(d)), ``"auto"`` (default; the first up to 200,000 distinct rows, the second
        above), ``"gaussian"`` (theory for Gaussian data of the sample's covariance), ``"cv"`` (five folds),
        ``"scott"``, ``"silverman"`` (with the data's scale). See :mod:`lodim.geometry.high_dimensional_kde.bandwidth`.
    kernel : {"gaussian", "exponential", "epanechnikov", "tophat"}
        The last two give minus infinity where no point is within the bandwidth.
    whiten : None, "diag", "full" or "pca(k)"
        Coordinates to measure distances in: as they are; columns of unit variance; principal components of unit
        variance, all or the first k. Densities are per unit of volume of the original coordinates (of the k
        components' plane for ``"pca(k)"``).
    adaptive : int, optional
        Let the bandwidth of each point vary as its distance to so-manieth neighbour (geometric mean 1); gaussian
        and exponential kernels.
    n_queries : int
        Points on which a bandwidth is tried and thresholds are measured, drawn if there are more.
    block_size : int
        Rows and columns of a block of distances.
    device : torch.device or str, optional
        Where distances are computed; default: the tensor's device, else the CPU.
    random_state : int, Generator or None
        Draws the queries, the folds, and samples.

    Attributes
    ----------
    bandwidth_ : float
    rule_ : str or None
        The rule it comes from, ``"auto"`` resolved; None for a given number.
    h_g_, h_clt_ : float
        Thresholds measured on the points
        (:meth:`lodim.geometry.high_dimensional_kde.bandwidth.Curves.condensation`); NaN for kernels
        of bounded support, adaptive bandwidths, or points too few.
    h_g_is_bound_ : bool
        Whether the thresholds are upper bounds: many points are equally near, so that no bandwidth leaves a few.
    alpha_ : float
        log(n) / d.
    curves_ : Curves or None
        Leave-one-out likelihood and shares over a grid of bandwidths.
    n_points_, n_duplicates_ : int
        Distinct rows, and rows equal to an earlier one: they count as one point of their summed weight, and leaving
        one out leaves out all, so that repetition cannot drive the bandwidth to zero.
    n_features_in_ : int

    References
    ----------
    Biroli and Mezard 2024, arXiv 2408.05807.

    Examples
    --------
    >>> import numpy as np
    >>> from lodim.geometry import HighDimKDE
    >>> X = np.random.default_rng(0).normal(size=(2000, 30))
    >>> kde = HighDimKDE(random_state=0).fit(X)
    >>> bool(kde.bandwidth_ < kde.h_g_)
    True
    """

    bandwidth: Any = "auto"
    kernel: Any = "gaussian"
    whiten: Any = None
    adaptive: Any = None
    n_queries: Any = 2000
    block_size: Any = 2048
    device: Any = None
    random_state: Any = None

    def _check_parameters(self) -> None:
        check_choice(self.kernel, KERNELS, "kernel")
        if isinstance(self.bandwidth, str):
            check_choice(self.bandwidth, rules.RULES, "bandwidth")
        elif not check_in_range(self.bandwidth, "bandwidth", low=0) > 0 or math.isinf(self.bandwidth):
            raise ValueError(f"bandwidth must be positive and finite, got {self.bandwidth}")
        check_whiten(self.whiten)
        check_in_range(self.n_queries, "n_queries", low=2, integer=True)
        check_in_range(self.block_size, "block_size", low=1, integer=True)
        if self.adaptive is not None:
            check_in_range(self.adaptive, "adaptive", low=1, integer=True)
            if self.kernel in COMPACT:
                raise ValueError(
                    f"adaptive bandwidths are for gaussian and exponential kernels, not {self.kernel!r}"
                )

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> HighDimKDE:
        """Take in the points and choose the bandwidth.

        Parameters
        ----------
        X : array-like or Tensor, shape (n_samples, n_features)
        y : ignored
        sample_weight : array-like, shape (n_samples,), optional
            Nonnegative; rows of weight zero are left out.

        Raises
        ------
        ValueError
            Bad input, or a rule for the bandwidth with fewer than two distinct rows.
        """
        self._check_parameters()
        self._device = check_device(
            self.device if self.device is not None else X.device if isinstance(X, Tensor) else "cpu"
        )
        data = check_matrix(X)
        validate_data(self, X if hasattr(X, "columns") else data, skip_check_array=True)
        rows, weights = _merge(data, _check_weights(sample_weight, len(data)))
        self.n_points_, self.n_duplicates_ = len(rows), len(data) - len(rows)
        self._frame = make_frame(self.whiten, rows, weights)
        self._seed = root_seed(self.random_state)
        inside = torch.tensor(self._frame.inward(rows), device=self._device)
        rng = np.random.default_rng(derive_seed(self._seed, "queries"))
        drawn = rng.choice(len(rows), size=min(self.n_queries, len(rows)), replace=False)
        scales = None if self.adaptive is None else _local_scales(inside, int(self.adaptive))
        self._points = rules.Points(
            inside, weights, self.kernel, int(self.block_size), np.sort(drawn), scales
        )
        self.alpha_ = math.log(len(rows)) / inside.shape[1]
        self._choose_bandwidth()
        return self

    def _choose_bandwidth(self) -> None:
        power, points = tail_power(self.kernel), self._points
        self.rule_ = rule = self._rule()
        if len(points.rows) < 2:
            if rule is not None:
                raise ValueError(
                    f"bandwidth={self.bandwidth!r} needs at least 2 distinct rows, got n_samples = 1; give a number"
                )
            self.curves_, self.h_g_, self.h_clt_, self.h_g_is_bound_ = None, math.nan, math.nan, False
            self.bandwidth_ = float(self.bandwidth)
            return
        self.curves_ = curves = rules.survey(points)
        self.h_g_ = math.nan if power is None else curves.condensation(power)
        self.h_clt_ = math.nan if power is None else 2 ** (1 / power) * self.h_g_
        self.h_g_is_bound_ = curves.is_bound
        self.bandwidth_ = float(self._apply_rule(curves))

    def _rule(self) -> str | None:
        if not isinstance(self.bandwidth, str):
            return None
        if self.bandwidth == "auto":
            return "loo" if self.n_points_ <= rules.MOST_FOR_LOO else "nn"
        return self.bandwidth

    def _apply_rule(self, curves: rules.Curves) -> float:
        points, rule = self._points, self.rule_
        if rule is None:
            return float(self.bandwidth)
        if rule == "nn":
            return curves.h_nn
        if rule == "gaussian":
            return rules.carried_over(points, self.theory().h_opt)
        if rule in ("scott", "silverman"):
            return rules.classical(points, rule)
        if rule == "loo":
            return rules.maximise(lambda h: rules.leave_one_out(points, h), curves.h, curves.loo)

        def folds(h: np.ndarray) -> np.ndarray:
            return rules.cross_validated(points, h, np.random.default_rng(derive_seed(self._seed, "folds")))

        return rules.maximise(folds, curves.h, folds(curves.h))

    def theory(self) -> KDETheory:
        """Thresholds and the best (Gaussian-kernel) bandwidth for Gaussian data with the points' covariance.

        Raises
        ------
        ValueError
            With fewer than two distinct points.
        """
        if self.n_points_ < 2:
            raise ValueError("theory needs at least 2 distinct points")
        return kde_theory(max(2.0, self._points.n_effective), spectrum=rules.spectrum_of(self._points))

    def _inward(self, X: Any) -> Tensor:
        check_is_fitted(self, "bandwidth_")
        data = check_matrix(X)
        validate_data(self, X if hasattr(X, "columns") else data, skip_check_array=True, reset=False)
        return torch.tensor(self._frame.inward(data), device=self._device)

    def _log_constant(self) -> float:
        """What the log of the sum lacks to be the log density in the original coordinates."""
        points = self._points
        volume = log_norm(self.kernel, points.d) + points.d * math.log(self.bandwidth_)
        return self._frame.log_det - volume - math.log(points.weights.sum())

    def score_samples(self, X: Any) -> Any:
        """Log density at each row; a tensor for a tensor.

        Parameters
        ----------
        X : array-like or Tensor, shape (n_queries, n_features)

        Returns
        -------
        ndarray or Tensor, shape (n_queries,)
        """
        queries = self._inward(X)
        points = self._points
        sums = log_sums(
            queries, points.rows, [self.bandwidth_], kernel=self.kernel, scales=points.scales,
            weights=points.own_weights, block_size=points.block_size,
        )[:, 0]  # fmt: skip
        return _like(X, sums + self._log_constant())

    def score(self, X: Any, y: Any = None) -> float:
        """Total log density of the rows.

        Parameters
        ----------
        X : array-like or Tensor, shape (n_queries, n_features)
        y : ignored
        """
        return float(self.score_samples(X).sum())

    def _moments(self, queries: Tensor, *more: Any, values: Tensor | None = None) -> list[Any]:
        power, points = tail_power(self.kernel), self._points
        if power is None:
            raise ValueError(
                f"the shares of a {self.kernel} kernel have no tail; use gaussian or exponential"
            )
        logs = np.log(points.weights)
        if points.scales is not None:
            logs = logs - points.d * np.log(points.scales)
        gibbs = GibbsMoments(self.bandwidth_, power, logs, points.scales, values)
        least = self.bandwidth_ * (1.0 if points.scales is None else float(points.scales.min()))
        dtype = pass_dtype(points.rows, len(queries), len(points.rows), least)
        size = points.block_size
        return stream_pairs(
            queries, points.rows, reducers=[gibbs, *more], dtype=dtype, block_q=size, block_r=size
        )

    def diagnose(self, X: Any) -> KDERegime:
        """Say what the density at each row rests on, and in which regime the estimate is.

        Parameters
        ----------
        X : array-like or Tensor, shape (n_queries, n_features)
            Fresh points: a point of the fit finds itself.

        Raises
        ------
        ValueError
            For adaptive bandwidths, kernels of bounded support, or fewer than 10 distinct points.
        """
        queries = self._inward(X)
        if self.adaptive is not None:
            raise ValueError("the regimes are those of one bandwidth for all points; fit with adaptive=None")
        n, points = self.n_points_, self._points
        if n < _HILL_LEAST:
            raise ValueError(f"a diagnosis needs at least {_HILL_LEAST} distinct points, got {n}")
        k = min(_HILL_MOST, max(_HILL_LEAST, int(_HILL_SHARE * n)))
        (log_z, y2, entropy, _), (squares, _) = self._moments(queries, TopK(k))
        power, theory = tail_power(self.kernel), self.theory()
        assert power is not None
        terms = -((squares.sqrt() / self.bandwidth_) ** power) / power
        mu = (self.bandwidth_ / self.h_g_) ** power
        return KDERegime(
            bandwidth=self.bandwidth_, n=n, d=points.d, alpha=self.alpha_, h_g=self.h_g_, h_clt=self.h_clt_,
            h_g_theory=theory.h_g, h_clt_theory=theory.h_clt, h_opt_theory=theory.h_opt, tail_index=mu,
            regime=measured_regime(mu, self.h_g_is_bound_), h_g_is_bound=self.h_g_is_bound_,
            log_density=(log_z + self._log_constant()).cpu().numpy(), n_eff=(1 / y2).cpu().numpy(),
            entropy=entropy.cpu().numpy(), hill=hill_index(terms.cpu().numpy()),
        )  # fmt: skip

    def grad_log_density(self, X: Any) -> Any:
        """Gradient of the log density at each row, ``(sum_i p_i y_i - x) / h^2``: the score of a diffusion model.

        Parameters
        ----------
        X : array-like or Tensor, shape (n_queries, n_features)

        Returns
        -------
        ndarray or Tensor, shape (n_queries, n_features)

        Raises
        ------
        ValueError
            For other kernels than the Gaussian.
        """
        queries = self._inward(X)
        if self.kernel != "gaussian":
            raise ValueError(f"the gradient is implemented for the gaussian kernel, not {self.kernel!r}")
        points = self._points
        rows = points.rows - points.rows.mean(0)  # the means' rounding is then relative to the data's spread
        precision = torch.ones(len(rows), 1, dtype=rows.dtype, device=rows.device)
        if points.scales is not None:
            precision = torch.as_tensor(points.scales**-2.0, device=rows.device)[:, None]
        values = torch.cat([rows * precision, precision], 1)
        (moments,) = self._moments(queries, values=values)
        pull, stiffness = moments[3][:, :-1], moments[3][:, -1:]
        inside = (pull - (queries - points.rows.mean(0)) * stiffness) / self.bandwidth_**2
        return _like(X, self._frame.gradient_outward(inside))

    def sample(
        self, n_samples: Any = 1, random_state: RandomState = None
    ) -> Float[np.ndarray, "n n_features"]:
        """Draw from the estimate.

        Parameters
        ----------
        n_samples : int
        random_state : int, Generator or None
            Default: derived from the estimator's, so that repeated calls agree.
        """
        check_is_fitted(self, "bandwidth_")
        check_in_range(n_samples, "n_samples", low=1, integer=True)
        rng = as_generator(derive_seed(self._seed, "sample") if random_state is None else random_state)
        points = self._points
        chosen = rng.choice(len(points.rows), size=int(n_samples), p=points.weights / points.weights.sum())
        steps = self.bandwidth_ * draw_kernel(self.kernel, int(n_samples), points.d, rng)
        if points.scales is not None:
            steps *= points.scales[chosen, None]
        return self._frame.outward(points.rows.cpu().numpy()[chosen] + steps)

    def kl_to(self, other: Any, n: Any = 2000, random_state: RandomState = 0) -> Divergence:
        """Kullback-Leibler divergence from this estimate to another density, by sampling from this one.

        Parameters
        ----------
        other : object or callable
            With ``score_samples``, or itself a function from rows (m, n_features) to log densities (m,).
        n : int
            Samples.

        Raises
        ------
        ValueError
            Log densities of another shape, or NaN; or one of two estimates is on a plane, of ``whiten="pca(k)"``, that
            is not the other's: such densities have no common unit.
        """
        check_in_range(n, "n", low=2, integer=True)
        drawn = self.sample(n, random_state)
        theirs = check_numbers(getattr(other, "score_samples", other)(drawn), "the other's log densities")
        if theirs.shape != (n,) or np.isnan(theirs).any():
            raise ValueError(
                f"the other's log densities must be ({n},) numbers, got shape {theirs.shape} or NaN"
            )
        if isinstance(other, HighDimKDE) and not self._frame.shares_volume(other._frame):
            raise ValueError(
                "a density on a plane (whiten='pca(k)') has a divergence only from one on the same plane: project the "
                "rows yourself and fit both to what comes out"
            )
        gaps = self.score_samples(drawn) - theirs
        with np.errstate(invalid="ignore"):  # infinite where the other has no density at some sample
            return Divergence(float(gaps.mean()), float(gaps.std(ddof=1) / math.sqrt(n)), int(n))


def _check_weights(sample_weight: Any, n: int) -> np.ndarray:
    if sample_weight is None:
        return np.ones(n)
    weights = check_labels(sample_weight, n, name="sample_weight").astype(np.float64)
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError("sample_weight must be finite and nonnegative")
    if not (weights > 0).any():
        raise ValueError("every sample_weight is zero; at least one must be positive")
    return weights


def _merge(data: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct rows of positive weight, and their summed weights (ones where all are alike)."""
    twin = first_occurrences(data)
    total = np.bincount(twin, weights, minlength=len(data))
    kept = total > 0
    total = total[kept]
    return (data if kept.all() else data[kept]), np.ones(len(total)) if np.ptp(total) == 0 else total


def _local_scales(rows: Tensor, k: int) -> np.ndarray:
    graph = NeighborGraph.from_data(rows, k)
    radius = graph.dist[:, -1]
    return np.exp(np.log(radius) - np.log(radius).mean())


def _like(X: Any, values: Tensor) -> Any:
    return values.to(X.device) if isinstance(X, Tensor) else values.cpu().numpy()
