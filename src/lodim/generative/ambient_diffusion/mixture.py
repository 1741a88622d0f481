r"""The theory's bench: mixtures of Gaussians whose samples carry known noise, each its own.

.. math:: y_i = x_i + s_i n_i, \quad x_i \sim \sum_k \pi_k N(\mu_k, \Sigma_k) \qquad \Rightarrow \qquad
          y_i \sim \sum_k \pi_k N(\mu_k, \Sigma_k + s_i^2 I).

Here the worth of a noisy sample can be seen without a network. Responsibilities :math:`r_{ik}` are computed from
logarithms. The mean that maximises the expected likelihood weighs samples by what is left of them, and the variances
follow from the mean and variance of the clean x given y (:math:`g = \Sigma / (\Sigma + s^2)` in each coordinate):

.. math:: \mu_k = \frac{\sum_i r_{ik}\, y_i / (\Sigma_k + s_i^2)}{\sum_i r_{ik} / (\Sigma_k + s_i^2)}, \qquad
          \Sigma_k = \frac{\sum_i r_{ik} \left[ g_{ik}^2 (y_i - \mu_k)^2 + g_{ik} s_i^2 \right]}{\sum_i r_{ik}} .

Neither step lowers the likelihood. The two-stage estimator first takes the subspace that the means span, k - 1
directions about their centre, from the second moments of *all* samples less their noise, and finds the mixture within:
to find directions, noise costs a power of its strength more samples; to tell components apart, exponentially more,
which few clean samples spare (the paper's finding for this setting; its bounds are not restated here).

===============================  =======================================
symbol in the paper              name here
===============================  =======================================
k, :math:`\mu_i`, weights        ``n_components``, ``means_``, ``weights_``
known noise of a sample          ``noise_std``
===============================  =======================================

Source: G. Daras and others, arXiv 2411.02780, section 5. The steps: J. Bovy, D. Hogg, S. Roweis, Extreme
deconvolution, Annals of Applied Statistics 5 (2011), with C. Liu, D. Rubin, The ECME algorithm, Biometrika 81 (1994).
The paper's estimator is one for its proof; ours begins with k-means on the cleanest samples, and weighs second moments
by the inverse square of their samples' total variance.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp
from sklearn.base import BaseEstimator
from sklearn.cluster import KMeans
from sklearn.utils.validation import check_is_fitted, validate_data

from lodim.generative.ambient_diffusion.model import _noise_levels
from lodim.randomness import derive_seed, root_seed
from lodim.validation import ConvergenceWarning, check_choice, check_in_range, check_kind, check_matrix, warn

__all__ = ["HeteroscedasticGMM"]

_START = 10  # samples a component, at least, that the means begin with


class HeteroscedasticGMM(BaseEstimator):
    """A mixture of Gaussians fitted to samples with known noise.

    Parameters
    ----------
    n_components : int
    covariance_type : {"spherical", "diag"}
        One variance a component, or one for each of its coordinates.
    two_stage : bool
        Find the means' subspace first and the mixture within; for spherical components.
    n_init : int
        Starts, of which the likeliest counts.
    max_iter : int
        Steps of a start.
    tol : float
        A start ends when the mean log likelihood rises by less.
    var_floor : float
        The least variance of a component, as a share of the data's.
    random_state : int, Generator or None
        Of the starts.

    Attributes
    ----------
    weights_ : ndarray, shape (n_components,)
    means_ : ndarray, shape (n_components, n_features)
    variances_ : ndarray, shape (n_components, 1) or (n_components, n_features)
        Of clean samples.
    subspace_ : ndarray, shape (n_features, n_components - 1), or None
        With ``two_stage``: orthonormal directions that the means span about their centre.
    converged_ : bool
    n_iter_ : int
    log_likelihood_ : float
        Mean, of the samples fitted to.
    n_features_in_ : int

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(300, 2)) * 0.2 + rng.choice([-1, 1], size=(300, 1))
    >>> noise = np.where(np.arange(300) < 30, 0, 0.8)
    >>> gmm = HeteroscedasticGMM(2, random_state=0).fit(X + noise[:, None] * rng.normal(size=X.shape), noise_std=noise)
    >>> gmm.means_.shape
    (2, 2)
    """

    def __init__(
        self,
        n_components: Any = 2,
        *,
        covariance_type: Any = "spherical",
        two_stage: Any = False,
        n_init: Any = 1,
        max_iter: Any = 500,
        tol: Any = 1e-6,
        var_floor: Any = 1e-6,
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.two_stage = two_stage
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.var_floor = var_floor
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, noise_std: Any = 0.0) -> HeteroscedasticGMM:
        """Fit the mixture of clean samples.

        Parameters
        ----------
        X : array-like or Tensor, shape (n_samples, n_features)
        y : ignored
        noise_std : float, array or Tensor, shape (n_samples,)
            Standard deviation of each sample's noise; 0: all are clean.

        Raises
        ------
        ValueError
            Bad input, fewer samples than components, ``two_stage`` with other than spherical components, or numbers so
            far from 1 that their squares leave double precision.

        Warns
        -----
        ConvergenceWarning
            The best start did not end within ``max_iter`` steps.
        """
        k = check_in_range(self.n_components, "n_components", low=1, integer=True)
        check_choice(self.covariance_type, ("spherical", "diag"), "covariance_type")
        for name in ("n_init", "max_iter"):
            check_in_range(getattr(self, name), name, low=1, integer=True)
        for name in ("tol", "var_floor"):
            check_in_range(getattr(self, name), name, low=0)
        check_kind(self.two_stage, bool | np.bool_, "two_stage")
        if self.two_stage and self.covariance_type != "spherical":
            raise ValueError("two_stage finds the means' directions for spherical components only")
        data = check_matrix(X)
        validate_data(self, X if hasattr(X, "columns") else data, skip_check_array=True)
        if len(data) < k:
            raise ValueError(f"{k} components need as many samples, got n_samples = {len(data)}")
        if not 1e-60 < (size := float(np.ptp(data, axis=0).max()) or 1.0) < 1e60:
            raise ValueError(
                f"X spreads over {size:.3g}, whose powers leave double precision; rescale X and noise_std"
            )
        s2 = _noise_levels(noise_std, len(data), "cpu").numpy() ** 2
        self.subspace_, inner, center = None, data, np.zeros(data.shape[1])
        if self.two_stage and k > 1:
            center, self.subspace_ = _subspace(data, s2, min(k - 1, data.shape[1]))
            inner = (data - center) @ self.subspace_
        seed = root_seed(self.random_state)
        starts = [self._climb(inner, s2, derive_seed(seed, "start", i)) for i in range(self.n_init)]
        best = max(starts, key=lambda start: start["likelihood"])
        self.weights_, self.means_, self.variances_ = best["weights"], best["means"], best["variances"]
        self.converged_, self.n_iter_ = best["converged"], best["steps"]
        if not self.converged_:
            warn(
                f"the likelihood still rose after {self.max_iter} steps; raise max_iter or tol, or take fewer of them",
                ConvergenceWarning,
            )
        if self.subspace_ is not None:
            r = np.exp(_joint(inner, s2, self.weights_, self.means_, self.variances_)[1])
            self.means_ = center + self.means_ @ self.subspace_.T
            self.variances_ = self._full_variances(data, s2, r)
        self.log_likelihood_ = float(self._log_joint(data, s2)[0].mean())
        return self

    def _climb(self, X: Float[np.ndarray, "n d"], s2: Float[np.ndarray, " n"], seed: int) -> dict[str, Any]:
        """Raise the likelihood from one start until it stands still."""
        k, n = int(self.n_components), len(X)
        cleanest = np.argsort(s2, kind="stable")[: max(_START * k, int((s2 == s2.min()).sum()))]
        start = KMeans(k, n_init=1, random_state=seed).fit(X[cleanest])
        spread = X.var(0).mean()
        floor = self._floor(X)
        within = start.inertia_ / (len(cleanest) * X.shape[1]) - s2[cleanest].mean()
        wide = X.shape[1] if self.covariance_type == "diag" else 1
        variances = np.full((k, wide), max(within, 0.1 * (spread - s2.mean()), floor))
        weights, means = np.bincount(start.labels_, minlength=k) / len(cleanest), start.cluster_centers_
        before, steps, converged, noise = -math.inf, 0, False, s2[:, None]
        likelihood, log_r = _joint(X, s2, weights, means, variances)
        while steps < self.max_iter and not converged:
            steps += 1
            r = np.exp(log_r)
            total = r.sum(0) + 1e-300
            weights = total / n
            for j in range(k):
                if total[j] <= 1e-300:  # a component has died: it stays where it was
                    continue
                left = r[:, j : j + 1] / (variances[j] + noise)
                means[j] = (left * X).sum(0) / left.sum(0)
                gain = variances[j] / (variances[j] + noise)
                clean = gain * gain * np.square(X - means[j]) + gain * noise
                per = (r[:, j] @ clean) / total[j]
                variances[j] = np.maximum(per if wide > 1 else per.mean(), floor)
            likelihood, log_r = _joint(X, s2, weights, means, variances)
            now = float(likelihood.mean())
            converged, before = now - before < self.tol, now
        return {
            "weights": weights, "means": means, "variances": variances, "steps": steps, "converged": bool(converged),
            "likelihood": float(likelihood.mean()),
        }  # fmt: skip

    def _full_variances(self, X: Any, s2: Any, r: Any) -> Float[np.ndarray, "k 1"]:
        """Return each component's variance over all coordinates, from squares less the noise."""
        floor, found = self._floor(X), []
        for j, mean in enumerate(self.means_):
            total = self.variances_[j] + s2
            w = r[:, j] * np.square(total.min() / total)
            found.append(w @ (np.square(X - mean).mean(1) - s2) / (w.sum() + 1e-300))
        return np.maximum(found, floor).reshape(-1, 1)

    def _floor(self, X: Any) -> float:
        return float(self.var_floor * X.var(0).mean() or np.finfo(float).tiny ** 0.5)

    def _log_joint(self, X: Any, s2: Any) -> tuple[Any, Any]:
        return _joint(X, s2, self.weights_, self.means_, self.variances_)

    def _seen(self, X: Any, noise_std: Any) -> tuple[Any, Any]:
        check_is_fitted(self)
        data = check_matrix(X)
        validate_data(self, X if hasattr(X, "columns") else data, skip_check_array=True, reset=False)
        return self._log_joint(data, _noise_levels(noise_std, len(data), "cpu").numpy() ** 2)

    def score_samples(self, X: Any, noise_std: Any = 0.0) -> Float[np.ndarray, " n"]:
        """Return the log density of samples with this noise; parameters as of :meth:`fit`."""
        return self._seen(X, noise_std)[0]

    def score(self, X: Any, y: Any = None, noise_std: Any = 0.0) -> float:
        """Return the mean log density; parameters as of :meth:`fit`."""
        return float(self.score_samples(X, noise_std).mean())

    def predict_proba(self, X: Any, noise_std: Any = 0.0) -> Float[np.ndarray, "n k"]:
        """Return how likely each component is for each sample; parameters as of :meth:`fit`."""
        return np.exp(self._seen(X, noise_std)[1])

    def predict(self, X: Any, noise_std: Any = 0.0) -> np.ndarray:
        """Return the likeliest component of each sample; parameters as of :meth:`fit`."""
        return self._seen(X, noise_std)[1].argmax(1)


def _joint(X: Any, s2: Any, weights: Any, means: Any, variances: Any) -> tuple[Any, Any]:
    """Return the log density of each sample, and the logarithms of its responsibilities."""
    parts = np.empty((len(X), len(means)))
    with np.errstate(divide="ignore"):  # a component may have died
        for j, (weight, mean, variance) in enumerate(zip(weights, means, variances, strict=True)):
            total = variance + s2[:, None]
            logs = np.log(total).sum(1) * (X.shape[1] / total.shape[1])
            squares = (np.square(X - mean) / total).sum(1)
            parts[:, j] = np.log(weight) - (X.shape[1] * math.log(2 * math.pi) + logs + squares) / 2
    density = logsumexp(parts, axis=1)
    return density, parts - density[:, None]


def _subspace(X: Any, s2: Any, q: int) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, "d q"]]:
    """Return centre and first directions of the clean samples' second moments, from all samples less their noise."""
    own = max(float(np.square(X - X.mean(0)).mean() - s2.mean()), 0.01 * float(X.var(0).mean())) or 1.0
    left = 1 / (own + s2)
    center = left @ X / left.sum()
    w = np.square(left) / np.square(left).sum()
    moments = (X - center).T @ (w[:, None] * (X - center))  # the noise adds a multiple of I: directions stay
    return center, np.linalg.eigh(moments)[1][:, ::-1][:, :q]
