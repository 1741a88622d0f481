"""DANCo: dimension from how norms and angles concentrate, compared with balls (Ceruti 2014, arXiv 1206.3881).

Two statistics of a neighbourhood depend on the dimension in different ways: the ratio of the nearest distance to the
farthest, and the angles between the directions to the neighbours, which gather around a right angle as d grows.
DANCo fits a law to each and answers the d whose uniform ball, with as many points, has the most similar laws.

============== ============================== ===========================================================
in the paper   here                           meaning
============== ============================== ===========================================================
k              ``k``                          neighbours whose angles are taken; r_{k+1} is needed too
rho            ``exp(-l)``                    r_1 / r_{k+1}
d-hat_ML       ``dhat``                       maximum-likelihood dimension of the ratios (MiND-ML)
nu             ``nu``                         mean direction of the C(k, 2) angles of a point (von Mises)
tau            ``concentration(eta)``         their concentration: A(tau) = I_1(tau)/I_0(tau) = eta
N              ``n``                          points
============== ============================== ===========================================================

With ``g(r; k, d) = k d r^(d-1) (1 - r^d)^(k-1)`` the law of rho and q the quotient of the ball's d-hat by the data's,

    KL(g, g_ball) = H_k (q - 1) - log q - (k-1)/k - (k-1) sum_i (-1)^i C(k,i) psi(1 + i/q)
    KL(vM, vM_ball) = log(I_0(tau_b)/I_0(tau)) + A(tau) (tau - tau_b cos(nu - nu_b))

and the answer minimises their sum over d (fractal: over real d, the ball's statistics being splined).

Departures. (1) The ball's statistics are not measured on samples of points but drawn from their exact law
(:func:`ball_statistics`), so they are the same every time; those for k = 10 are shipped (the paper's "DANCoFit" is the
same idea by regression). (2) The resultant length eta is averaged over points and turned into tau afterwards: at the
end of a curve all neighbours lie on one side, tau is infinite there and so would be its mean. (3) A is inverted
exactly, not by Fisher's piecewise approximation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from scipy.interpolate import CubicSpline
from scipy.optimize import brentq, minimize_scalar
from scipy.special import betainc, betaincinv, comb, digamma, i0e, i1e

from lodim.dimension.ball_tables import danco_table
from lodim.dimension.calibration import ball_distances, stratified_radii
from lodim.dimension.nearest import gride, log_ratios
from lodim.neighbors import NeighborGraph, local_blocks
from lodim.validation import check_in_range

LARGEST = 100
_LARGEST_K = 25  # the alternating sum over C(k, i) loses 2^k / 10^16
_DRAWS = 1 << 12
_SEED = 20140401
_RUN_TIME_DIMENSIONS = (*range(1, 11), 12, 14, 17, 20, 24, 29, 35, 42, 50, 60, 72, 86, LARGEST)


@dataclass(frozen=True)
class Concentration:
    """What DANCo compares at each point.

    ``l`` is ``log(r_{k+1} / r_1)``, ``nu`` and ``eta`` the direction and length of the mean of ``exp(i theta)`` over
    its angles.
    """

    l: Float[np.ndarray, " n_queries"]
    nu: Float[np.ndarray, " n_queries"]
    eta: Float[np.ndarray, " n_queries"]
    k: int

    def statistics(self, drawn: np.ndarray | None = None) -> tuple[float, float, float]:
        """Return d-hat, mean nu and mean eta over all points or those at the positions ``drawn``."""
        l, nu, eta = (v if drawn is None else v[drawn] for v in (self.l, self.nu, self.eta))
        return gride(l, 1, self.k + 1)[0], float(nu.mean()), float(eta.mean())


def angle_statistics(cosines: Float[np.ndarray, "b k k"]) -> tuple[np.ndarray, np.ndarray]:
    """Direction nu and length eta of the mean of ``exp(i theta)`` over the pairs of each point's neighbours."""
    i, j = np.triu_indices(cosines.shape[1], 1)
    c = np.minimum(np.maximum(cosines[:, i, j], -1.0), 1.0)  # rounding may leave [-1, 1] by an ulp
    x, y = c.mean(1), np.sqrt(1 - c**2).mean(1)
    return np.arctan2(y, x), np.hypot(x, y)


def neighbour_concentration(
    X: Float[np.ndarray, "n features"], graph: NeighborGraph, k: int
) -> Concentration:
    """Measure norms and angles around every query point of a graph with at least ``k + 1`` neighbours."""
    nu, eta = np.empty(graph.n_queries), np.empty(graph.n_queries)
    for part, near in local_blocks(X, graph, k):
        directions = near.astype(np.float64, copy=False)
        directions = directions - X[graph.query_idx[part], None]
        directions /= graph.dist[part, :k, None]
        nu[part], eta[part] = angle_statistics(directions @ directions.transpose(0, 2, 1))
    return Concentration(log_ratios(graph.dist, 1, k + 1), nu, eta, k)


@lru_cache(maxsize=1024)  # the data's own is asked for at every step of a search
def concentration(eta: int | float) -> float:
    """Concentration tau of the von Mises law with mean resultant length ``I_1(tau)/I_0(tau) = eta``; infinite at 1."""
    if eta >= 1:
        return math.inf
    if eta <= 0:
        return 0.0
    high = 2.0 / (1 - eta)  # A(tau) > 1 - 1/tau for tau >= 1
    return float(brentq(lambda tau: i1e(tau) / i0e(tau) - eta, 0.0, high, xtol=1e-12))


def divergence(
    found: tuple[float, float, float],
    dhat: Float[np.ndarray, " m"],
    nu: Float[np.ndarray, " m"],
    tau: Float[np.ndarray, " m"],
    k: int,
) -> Float[np.ndarray, " m"]:
    """Kullback-Leibler divergence of the data's two laws (``found``: d-hat, nu and eta) from those of balls, summed.

    With eta = 1 it is infinite for every ball; then what differs between balls is returned.
    """
    own, direction, eta = found
    own_tau = concentration(eta)
    q = dhat / own
    i = np.arange(k + 1)
    signs = (-1.0) ** i * comb(k, i)
    beyond = digamma(1 + i / q[:, None]) @ signs  # E log(1 - u^q) for u the least of k uniform numbers
    norms = (q - 1) * (1 / np.arange(1, k + 1)).sum() - np.log(q) - (k - 1) / k - (k - 1) * beyond
    if not math.isfinite(own_tau):  # leave out the infinite terms, which are the same for every ball
        return norms + np.log(i0e(tau)) + tau - eta * tau * np.cos(direction - nu)
    logs = np.log(i0e(tau)) + tau - np.log(i0e(own_tau)) - own_tau
    return norms + logs + eta * (own_tau - tau * np.cos(direction - nu))


def _ball_cosines(d: int, n: int, k: int, m: int) -> np.ndarray:
    """Cosines (m, k, k) between the directions to the neighbours of uniform queries in the d-ball.

    Given the query (rho from the centre) and a distance r, the neighbour's direction is uniform on the part of the
    sphere of radius r inside the ball, ``t <= (1 - rho^2 - r^2) / (2 rho r)`` for t its cosine to the outward axis;
    without that condition (1 + t)/2 is Beta((d-1)/2, (d-1)/2).
    """
    r = ball_distances(d, n, k + 1, m)
    rho = np.repeat(stratified_radii(d), len(r) // len(stratified_radii(d)))[:, None]
    rng = np.random.default_rng(_SEED)
    near = r[:, :k]
    limit = np.minimum((1 - rho**2 - near**2) / (2 * rho * near), 1.0)
    u = rng.random(near.shape)
    if d == 1:
        t = np.where((limit >= 1) & (u < 0.5), 1.0, -1.0)
        return t[:, :, None] * t[:, None, :]
    half = (d - 1) / 2
    t = 2 * betaincinv(half, half, u * betainc(half, half, (1 + limit) / 2)) - 1
    across = rng.standard_normal((*near.shape, d - 1))
    across *= (np.sqrt(np.maximum(1 - t**2, 0)) / np.linalg.norm(across, axis=2))[:, :, None]
    return t[:, :, None] * t[:, None, :] + across @ across.transpose(0, 2, 1)


@lru_cache(maxsize=4096)
def ball_statistics(d: int, n: int, k: int) -> tuple[float, float, float]:
    """d-hat, nu and eta of n uniform points of the d-ball, by Monte Carlo of their exact law."""
    cosines = _ball_cosines(d, n, k, _DRAWS)
    more = ball_distances(d, n, k + 1, 4 * _DRAWS)  # the ratios cost less than the angles
    nu, eta = angle_statistics(cosines)
    return gride(log_ratios(more, 1, k + 1), 1, k + 1)[0], float(nu.mean()), float(eta.mean())


@dataclass(frozen=True)
class _Balls:
    """Statistics of balls on a fine grid of dimensions, and as splines of log d."""

    d: np.ndarray
    dhat: np.ndarray
    nu: np.ndarray
    tau: np.ndarray
    spline: CubicSpline


@lru_cache(maxsize=64)
def _balls(n: int, k: int) -> _Balls:
    shipped = danco_table(n, k)
    if shipped is not None:
        dims, table = np.arange(1, len(shipped) + 1), shipped
    else:
        dims = np.array(_RUN_TIME_DIMENSIONS)
        table = np.array([ball_statistics(int(d), n, k) for d in dims])
    logs = np.log(np.column_stack([table[:, 0], table[:, 1], table[:, 2]]))
    spline = CubicSpline(np.log(dims), logs)
    d = np.geomspace(1, LARGEST, 400)
    dhat, nu, eta = np.exp(spline(np.log(d))).T
    return _Balls(d, dhat, nu, np.array([concentration(e) for e in eta]), spline)


def danco(found: tuple[float, float, float], n: int, k: int) -> tuple[float, bool]:
    """Return the dimension of :meth:`Concentration.statistics`, and whether it is only a lower bound.

    k is 3 to 25: two neighbours have one angle, whose mean has no spread.
    """
    check_in_range(k, "k", low=3, high=_LARGEST_K, integer=True)
    if not math.isfinite(found[0]):
        return math.inf, False
    balls = _balls(n, k)
    best = int(np.argmin(divergence(found, balls.dhat, balls.nu, balls.tau, k)))
    if best in (0, len(balls.d) - 1):
        return float(balls.d[best]), best > 0

    def at(log_d: float) -> float:
        dhat, nu, eta = np.exp(balls.spline(log_d))
        tau = concentration(eta)
        return float(divergence(found, np.array([dhat]), np.array([nu]), np.array([tau]), k)[0])

    ends = np.log(balls.d[best - 1]), np.log(balls.d[best + 1])
    return float(np.exp(minimize_scalar(at, bounds=ends, method="bounded", options={"xatol": 1e-6}).x)), False
