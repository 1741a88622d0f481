r"""How many dimensions data have, read off a trained denoiser.

Canonical coordinates: :math:`x = x_0 + \sigma n`, the density of x is :math:`p_\sigma`, and a denoiser
:math:`f(x) = E[x_0 \mid x]` gives :math:`\nabla \log p_\sigma = (f - x) / \sigma^2` and
:math:`J = \nabla f = \mathrm{Cov}[x_0 \mid x] / \sigma^2`. Near a point of a d-dimensional set in :math:`R^D`, with
:math:`\sigma` small against the set's curvature and the scale of its density, f projects on the tangent space. Four
readings of that:

``"jacobian"``
    :math:`\operatorname{tr} J(x)` at noisy points: the directions that are kept. The default: a network was trained at
    such points.
``"flipd"``
    On the set :math:`p_\sigma \propto \sigma^{d - D}`: noise thins out in the D - d normal directions only. By the heat
    equation :math:`\partial p_\sigma / \partial \sigma = \sigma \Delta p_\sigma`, so

    .. math:: d_\sigma(x_0) = D + \frac{\partial \log p_\sigma(x_0)}{\partial \log \sigma}
              = D + \sigma^2 \left(\Delta \log p_\sigma + |\nabla \log p_\sigma|^2\right)
              = \operatorname{tr} J(x_0) + \frac{|f(x_0) - x_0|^2}{\sigma^2},

    at the data themselves: over noisy points its mean is D, whatever the data, because
    :math:`\int \Delta p_\sigma = 0`. But of all the points at distance about :math:`\sigma \sqrt D` that a network was
    trained on, the data are none.
``"rank"``
    Eigenvalues of the symmetric part of J(x) above 1/2, where data vary more than the noise:
    :math:`\lambda / (\lambda + \sigma^2) > 1/2`.
``"normal_bundle"``
    The noise found at :math:`x_0 + \sigma n_k`, :math:`(x - f) / \sigma`, spans the normal space. Of all 4 D of them
    the singular values :math:`v_1 \ge \dots \ge v_D`, in units of the noise, are those of :math:`I - J`: near 1 in
    normal directions, near 0 in tangent ones. D less the place of their largest gap :math:`v_k - v_{k+1}` (with
    :math:`v_0 = 1`, :math:`v_{D+1} = 0`) is the dimension, and the gap's size, 1 at best, says how clear it is.

For data N(m, C), C of eigenvalues l, all of them are known at every level: :math:`\operatorname{tr} J = \sum l / (l +
\sigma^2)`, FLIPD adds :math:`\sum \sigma^2 z^2 / (l + \sigma^2)^2` at a point with principal coordinates z, and
:math:`v = \sigma^2 / (l + \sigma^2)`. (FLIPD's mean is :math:`\sum 1 - \sigma^4 / (l + \sigma^2)^2`: it is off by the
fourth power of the noise where the trace is by the second.) Points of a finite set that are far apart against
:math:`\sigma` have dimension 0: so has a network that has memorised them. None of the readings is negative.

**Which level.** Curvature and density move every reading by a term of order :math:`\sigma^2`: by half its slope over
:math:`\log \sigma`. A network that cannot resolve a small level lets the noise pass, and reads up to D there. The
dimension is where the curve over the levels is flat: on the plateau of the smallest noise that is not the ambient one.
And only where the network has learnt, which a posterior mean shows by itself:

.. math:: \frac{E |f(x_0 + \sigma n) - x_0|^2}{\sigma^2} = E \operatorname{tr} J
          = \frac{E\, n \cdot (f(x_0 + \sigma n) - f(x_0 - \sigma n))}{2 \sigma}

(the second by Stein's identity: no derivative needed). The left side is an upper bound for that of the best denoiser,
and hence for the dimension, if the points are not those it was trained on.

=======================================  ====================================
symbol                                   here
=======================================  ====================================
:math:`f, x_0, \sigma`                   ``denoiser``, ``X``, ``sigma``
:math:`d_\sigma`                         ``DenoiserDimension.profile``
:math:`E |f - x_0|^2 / \sigma^2`         ``DenoiserDimension.error``
:math:`E \operatorname{tr} J` by Stein   ``DenoiserDimension.trace``
:math:`\max (v_k - v_{k+1})`             ``DenoiserDimension.gap``
=======================================  ====================================

Sources: H. Kamkari and others, arXiv 2406.03537 (FLIPD), and K. K. Leung and others, arXiv 2506.20705 (its limit on
curved manifolds); J. Stanczuk and others, arXiv 2212.12611 (normal bundle); Z. Kadkhodaie and others, arXiv 2310.02557
(Jacobian); E. Yeats and others, arXiv 2510.12975 (the error as a bound). Departures: the level is chosen by plateau
and identity, where 2406.03537 takes a fixed time or a knee; perturbations of the normal bundle are orthogonal frames of
the noise's length :math:`\sqrt D` in both signs, so that a linear denoiser's singular values are exact and those of a
curved set lose their even terms; its gap is that of the values, not of their logarithms, because here they have a known
scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lodim.dimension import Estimate
from lodim.generative.denoiser import of_shape
from lodim.generative.jacobian import jacobian, jacobian_trace
from lodim.linalg.precision import as_tensor
from lodim.nets.activations import evaluation_mode
from lodim.randomness import RandomState, as_generator, derive_seed, root_seed, torch_generator
from lodim.results import Result
from lodim.validation import check_choice, check_in_range, check_numbers, check_tensor, checked, plain_array

__all__ = ["DenoiserDimension", "estimate_dimension"]

METHODS = ("jacobian", "flipd", "rank", "normal_bundle")
_EXACT = 256  # coordinates up to which traces are exact where nothing is asked for
_PROBES = 32
_LEVELS = 14  # from a hundredth of the data's size up to it
_NUMBERS_AT_ONCE = 2**16
# by how much a plateau may change over a factor e of the noise, twice its error: less than the 1/2 of one direction
# that is lost in the noise, l / (l + s^2) at s^2 = l; or a tenth of the dimension
_FLAT = (0.4, 0.1)
_LEAST_WIDTH = math.log(2)
_UNLEARNT = 0.1  # share of the dimension by which error and trace may differ
_AGREE = 0.15  # share of the trace by which another reading may differ from it
_CLEAR = 0.25  # a gap below it, of singular values between 0 and 1, separates nothing


@dataclass(frozen=True)
class DenoiserDimension(Result):
    """The dimension of data as a denoiser sees it, over levels of noise.

    Attributes
    ----------
    dimension : float
        Median over the points, at ``sigma``.
    method : str
    sigma : float
        The level chosen: the flattest of the plateau, or where there is none of all that are learnt.
    plateau : (float, float) or None
        Levels between which the dimension stays; None: the data cannot tell, or one level was asked for.
    plateaus : tuple of (float, float, float)
        Of all plateaus the ends and the dimension, by growing noise.
    sigmas : ndarray, shape (levels,)
    profile : ndarray, shape (levels, n_queries)
        The dimension at every level and point.
    query_idx : ndarray, shape (n_queries,)
        Rows of the data that points are.
    se : ndarray, shape (levels,)
        Of one point's trace by its probes (root mean square over points); 0 where it is exact.
    error, trace : ndarray, shape (levels,)
        Mean squared error over the noise's, and mean trace by Stein's identity: equal for the best denoiser.
    learnt : ndarray of bool, shape (levels,)
        Whether they are, by a share of the trace and twice their standard error; other levels make no plateau.
    gap : ndarray, shape (levels,)
        Of ``"normal_bundle"``: median gap of the singular values, 1 at best. Else NaN.
    n_features : int
        Coordinates, D.
    n_calls : int
        Forward and backward passes of the network for each point and level.
    """

    dimension: float
    method: str
    sigma: float
    plateau: tuple[float, float] | None
    plateaus: tuple[tuple[float, float, float], ...]
    sigmas: Float[np.ndarray, " levels"]
    profile: Float[np.ndarray, "levels n_queries"]
    query_idx: Int[np.ndarray, " n_queries"]
    se: Float[np.ndarray, " levels"]
    error: Float[np.ndarray, " levels"]
    trace: Float[np.ndarray, " levels"]
    learnt: Bool[np.ndarray, " levels"]
    gap: Float[np.ndarray, " levels"]
    n_features: int
    n_calls: int

    @property
    def pointwise(self) -> Float[np.ndarray, " n_queries"]:
        """Dimension at each point, at ``sigma``; see :attr:`lodim.dimension.DimensionSummary.pointwise`."""
        return self.profile[self._chosen]

    @property
    def _chosen(self) -> int:
        return int(np.argmin(np.abs(self.sigmas - self.sigma)))

    def estimate(self) -> Estimate:
        """Return the answer as one of :attr:`lodim.dimension.DimensionSummary.estimates`, to stand beside others."""
        low, high = np.quantile(self.pointwise, (0.25, 0.75))
        # of a median, from the spread of the points' middle half, as if it were normal
        se = float(1.2533 * (high - low) / 1.349 / math.sqrt(len(self.pointwise)))
        return Estimate(self.dimension, se=se, note="; ".join(self.doubts()))

    def doubts(self) -> tuple[str, ...]:
        """Say what a reader must know before relying on the dimension."""
        found = []
        curve = np.median(self.profile, 1)
        if len(self.sigmas) > 1 and self.plateau is None:
            found.append(
                f"the data cannot tell: no plateau, the curve goes from {curve[0]:.3g} to {curve[-1]:.3g}"
            )
        if self.dimension < -0.5:
            found.append("negative, which no posterior mean's can be: not learnt at these points")
        elif self.dimension < 0.5:
            found.append(
                "zero: points stand alone at this noise; so does what a denoiser has memorised (try points it was not "
                "trained on)"
            )
        elif self.plateau and self.dimension > _below_ambient(self.n_features):
            found.append("all coordinates: full-dimensional data, or levels too small for the network")
        others = [p for p in self.plateaus if p[:2] != self.plateau]
        if others:
            told = ", ".join(f"{d:.3g} at noise {low:.2g} to {high:.2g}" for low, high, d in others)
            found.append(f"another dimension at another scale: {told}")
        if not self.learnt[self._chosen]:
            found.append(
                f"not learnt here: the error is that of {self.error[self._chosen]:.3g} dimensions, the trace is "
                f"{self.trace[self._chosen]:.3g}"
            )
        elif abs(self.dimension - self.trace[self._chosen]) > max(
            0.5, _AGREE * abs(self.trace[self._chosen])
        ):
            found.append(
                f"the trace at noisy points, where networks are trained, is {self.trace[self._chosen]:.3g}: rather that"
            )
        if self.learnt[self._chosen] and not self.learnt.all():
            found.append(f"{int((~self.learnt).sum())} of {len(self.learnt)} levels are not learnt")
        if self.error[0] > 1.5 * self.n_features:
            found.append(
                f"at noise {self.sigmas[0]:.2g} the denoiser is worse than none: its error is that of "
                f"{self.error[0]:.3g} dimensions. It has learnt other points by heart, or these are not of its data"
            )
        if self.gap[self._chosen] < _CLEAR:
            found.append(
                f"the data cannot tell: the largest gap of the singular values is {self.gap[self._chosen]:.2g}"
            )
        return tuple(found)

    def to_frame(self) -> Any:
        """Return the curve as a data frame, one row a level."""
        import pandas as pd

        low, middle, high = np.quantile(self.profile, (0.25, 0.5, 0.75), axis=1)
        columns = {
            "sigma": self.sigmas, "dimension": middle, "low": low, "high": high, "se": self.se,
            "error": self.error, "trace": self.trace, "learnt": self.learnt, "gap": self.gap,
        }  # fmt: skip
        return pd.DataFrame(columns)

    def plot(self, ax: Any = None) -> Any:
        """Draw the dimension over the noise, with the plateau as a band, and return the axes."""
        from lodim.plots import COLORS, new_axes

        ax = new_axes(ax)
        low, middle, high = np.quantile(self.profile, (0.25, 0.5, 0.75), axis=1)
        ax.fill_between(self.sigmas, low, high, color=COLORS[0], alpha=0.2, linewidth=0)
        ax.semilogx(self.sigmas, middle, "o-", color=COLORS[0], label=self.method)
        ax.semilogx(self.sigmas, self.error, ":", color=COLORS[1], label="error / noise: a bound")
        if not self.learnt.all():
            ax.semilogx(self.sigmas[~self.learnt], middle[~self.learnt], "o", color="w", markersize=3)
        if self.plateau:
            ax.axvspan(*self.plateau, color="0.5", alpha=0.15, linewidth=0, label="plateau")
        ax.axhline(self.dimension, color="0.3", linestyle="--", linewidth=1, label=f"{self.dimension:.2f}")
        top = max(float(high.max()), self.dimension + 1)
        ax.set(
            xlabel="noise", ylabel="dimension", ylim=(min(0.0, float(low.min())), 1.1 * top),
            title=f"Dimension by a denoiser, of {self.n_features}",
        )  # fmt: skip
        ax.legend()
        return ax

    def __str__(self) -> str:
        low, high = np.quantile(self.pointwise, (0.25, 0.75))
        flat = f", flat from {self.plateau[0]:.2g} to {self.plateau[1]:.2g}" if self.plateau else ""
        lines = [
            f"Dimension {self.dimension:.2f} in {self.n_features} coordinates, "
            f"by {self.method} at noise {self.sigma:.3g}{flat}",
            f"  middle half of {len(self.query_idx)} points {low:.2f} to {high:.2f}; the error there is that of "
            f"{self.error[self._chosen]:.2f} dimensions",
        ]
        return "\n".join([*lines, *(f"  ! {text}" for text in self.doubts())])


@checked
def estimate_dimension(
    denoiser: Callable[..., Any],
    X: Any,
    sigma: float | int | Sequence[float | int] | np.ndarray | None = None,
    *,
    method: str = "jacobian",
    n_queries: int | None = 200,
    n_probes: int | None = None,
    cond: Any = None,
    chunk: int | None = None,
    random_state: RandomState = 0,
) -> DenoiserDimension:
    """Estimate the dimension of data from a denoiser of them.

    Parameters
    ----------
    denoiser : callable
        ``denoiser(x, sigma)`` or, with a condition, ``denoiser(x, sigma, cond)``, which returns the mean of the data:
        a :class:`Denoiser`, an oracle, a :class:`Diffusion`, or a function.
    X : array or Tensor, shape (n, ...)
        Data, best such as it was not trained on: of its own it may know each by heart.
    sigma : float or sequence of float, optional
        Levels of noise in the data's unit, to look for a plateau; one: no looking. Default: 14 from a hundredth of the
        data's size (root mean square about their mean) up to it.
    method : {"jacobian", "flipd", "rank", "normal_bundle"}
        Costs, in passes of the network for a point and level: D (or ``n_probes``) + 3, D (or ``n_probes``) + 3, D + 3,
        4 D + 2.
    n_queries : int, optional
        Measure at so many random rows; None: at all.
    n_probes : int, optional
        Random signs for the trace, at least 2; default: exact up to 256 coordinates, else 32.
    cond : array, Tensor or mapping, optional
        As the denoiser takes it, one row a row of X.
    chunk : int, optional
        Points taken at once; fewer need less memory.

    Raises
    ------
    ValueError
        No finite data, all rows equal, levels that are not positive, or a denoiser that returns another shape or
        hides its derivative (then take ``"normal_bundle"``, which needs none).

    Examples
    --------
    >>> import numpy as np, torch
    >>> from lodim.generative import GaussianDenoiser, estimate_dimension
    >>> flat = np.random.default_rng(0).normal(size=(500, 2)) @ np.eye(2, 6)
    >>> found = estimate_dimension(GaussianDenoiser.fit(torch.from_numpy(flat)), flat)
    >>> print(str(found).splitlines()[0])
    Dimension 2.00 in 6 coordinates, by jacobian at noise 0.00563, flat from 0.0056 to 0.4
    """
    check_choice(method, METHODS, "method")
    rows = as_tensor(X, "X").detach()
    if rows.ndim < 2 or len(rows) < 2 or not rows[0].numel():
        raise ValueError(f"X must hold points, two or more of real numbers, got shape {tuple(rows.shape)}")
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    if not bool(rows.isfinite().all()):
        raise ValueError("X has NaN or infinity; drop or impute such rows")
    if isinstance(cond, Mapping):
        cond = {
            name: (check_tensor if isinstance(part, Tensor) else plain_array)(part, f"cond[{name!r}]")
            for name, part in cond.items()
        }
    elif cond is not None:
        cond = check_tensor(cond, "cond") if isinstance(cond, Tensor) else check_numbers(cond, "cond")
    for part in cond.values() if isinstance(cond, Mapping) else () if cond is None else (cond,):
        if part.shape[:1] != (len(rows),):
            raise ValueError(
                f"cond must have a row for each of the {len(rows)} points, got shape {tuple(part.shape)}"
            )
    sigmas = _levels(sigma, rows)
    seed, size = root_seed(random_state), rows[0].numel()
    index = np.arange(len(rows))
    if n_queries is not None and n_queries < len(rows):
        check_in_range(n_queries, "n_queries", low=2, integer=True)
        drawn = as_generator(derive_seed(seed, "queries")).choice(len(rows), n_queries, replace=False)
        index = np.sort(drawn)
    if chunk is not None:
        check_in_range(chunk, "chunk", low=1, integer=True)
    if n_probes is None and size > _EXACT:
        n_probes = _PROBES
    generator = torch_generator(derive_seed(seed, "noise"))
    # the same noise at every level, so that the curve over them is smooth
    noise = torch.randn(len(index), *rows.shape[1:], generator=generator, dtype=torch.float64)
    frames = (
        torch.randn(2, size, size, generator=generator, dtype=torch.float64)
        if method == "normal_bundle"
        else None
    )
    reading = _Reading(
        denoiser, rows, index, noise, frames, cond, n_probes, chunk or max(1, _NUMBERS_AT_ONCE // size), seed
    )
    with reading.ready():
        parts = [reading.at(float(level), method) for level in sigmas]
    profile, se, gap, error, trace = (np.stack(part) for part in zip(*parts, strict=True))
    learnt = _learnt(error, trace)
    curve = np.median(profile, 1)
    plateaus, chosen = _plateaus(sigmas, curve, learnt, size)
    runs = tuple(
        (float(sigmas[a]), float(sigmas[b]), float(np.median(curve[a : b + 1]))) for a, b in plateaus
    )
    own = next((r for r in runs if r[0] <= sigmas[chosen] <= r[1]), None)
    counts = {"normal_bundle": 4 * size, "rank": size + 1}
    return DenoiserDimension(
        float(curve[chosen]), method, float(sigmas[chosen]), own and own[:2], runs, sigmas, profile, index,
        np.sqrt((se**2).mean(1)), error.mean(1), trace.mean(1), learnt, np.median(gap, 1),
        size, counts.get(method, (n_probes or size) + 1) + 2,
    )  # fmt: skip


def _levels(sigma: Any, rows: Tensor) -> np.ndarray:
    size = float((rows.double() - rows.double().mean(0)).square().mean().sqrt())
    if not size > 0:
        raise ValueError("all rows of X are equal: one point has dimension 0")
    if sigma is None:
        return size * np.geomspace(0.01, 1, _LEVELS)
    given = np.atleast_1d(check_numbers(sigma, "sigma"))
    levels = np.unique(given)
    if given.ndim != 1 or not len(levels) or not (np.isfinite(levels).all() and levels[0] > 0):
        raise ValueError(f"sigma must be positive and finite, one number or a row of them, got {sigma}")
    return levels


def _learnt(error: np.ndarray, trace: np.ndarray) -> np.ndarray:
    """Whether the error is that of a posterior mean with this trace."""
    excess = error - trace
    doubt = 2 * excess.std(1) / math.sqrt(excess.shape[1])
    return np.abs(excess.mean(1)) <= _UNLEARNT * np.maximum(1, np.abs(trace.mean(1))) + doubt


def _below_ambient(size: int) -> float:
    return size - max(0.5, 0.05 * size)


def _plateaus(
    sigmas: np.ndarray, curve: np.ndarray, learnt: np.ndarray, size: int
) -> tuple[list[tuple[int, int]], int]:
    """First and last level of every plateau, and the level to take."""
    if len(sigmas) == 1:
        return [], 0
    slope = np.abs(np.diff(curve) / np.diff(np.log(sigmas)))
    slope = slope / np.maximum(_FLAT[0], _FLAT[1] * np.abs(curve[1:] + curve[:-1]) / 2)
    flat = (slope <= 1) & learnt[1:] & learnt[:-1]
    edges = np.flatnonzero(np.diff(np.r_[False, flat, False]))  # begins and ends of runs, in turn
    runs = [
        (int(a), int(b)) for a, b in edges.reshape(-1, 2) if np.log(sigmas[b] / sigmas[a]) >= _LEAST_WIDTH
    ]
    steepest = np.maximum(np.r_[slope[:1], slope], np.r_[slope, slope[-1:]])  # on either side of a level
    if not runs:
        return [], int(np.where(learnt, steepest, np.inf if learnt.any() else steepest).argmin())
    inner = [r for r in runs if np.median(curve[r[0] : r[1] + 1]) <= _below_ambient(size)]
    a, b = (inner or runs)[0]
    return runs, a + int(steepest[a : b + 1].argmin())


@dataclass(frozen=True)
class _Reading:
    """A denoiser at the query points."""

    denoiser: Callable[..., Any]
    rows: Tensor
    index: np.ndarray
    noise: Tensor
    frames: Tensor | None
    cond: Any
    n_probes: int | None
    chunk: int
    seed: int

    def ready(self) -> Any:
        module = self.denoiser if isinstance(self.denoiser, nn.Module) else None
        return evaluation_mode(module) if module is not None else nullcontext()

    def at(self, sigma: float, method: str) -> tuple[np.ndarray, ...]:
        """Dimension, its standard error, gap, error and trace by Stein, all of them at every point."""
        found = [self._part(sigma, method, part) for part in _parts(len(self.index), self.chunk)]
        return tuple(torch.cat(parts).double().cpu().numpy() for parts in zip(*found, strict=True))

    def _part(self, sigma: float, method: str, part: np.ndarray) -> tuple[Tensor, ...]:
        index, held = self.index[part], _held(self.denoiser)
        x = self.rows[index] if held is None else self.rows[index].to(held.device)
        noise = self.noise[part].to(x)
        f = self._function(sigma, index)
        with torch.no_grad():
            out = {sign: of_shape(f(x + sign * sigma * noise), x) for sign in (1, -1)}
        error = ((out[1] - x).square() + (out[-1] - x).square()).flatten(1).sum(1) / (2 * sigma**2)
        trace = (noise * (out[1] - out[-1])).flatten(1).sum(1) / (2 * sigma)
        none = torch.full_like(error, math.nan)
        if method == "normal_bundle":
            dimension, gap = self._normal_bundle(x, sigma, index)
            return dimension, 0 * error, gap, error, trace
        # one row of all these Jacobians at a time: of several at once, torch takes cdist's derivative wrongly
        chunk = len(index)
        if method == "rank":
            J = jacobian(f, x + sigma * noise, chunk=chunk).double()
            kept = torch.linalg.eigvalsh((J + J.mT) / 2) > 0.5
            return kept.sum(1).to(error), 0 * error, none, error, trace
        y = x if method == "flipd" else x + sigma * noise
        seed = derive_seed(self.seed, "probes", int(part[0]))
        told = jacobian_trace(f, y, self.n_probes, chunk=chunk, random_state=seed)
        dimension, se = (torch.tensor(part, dtype=torch.float64) for part in (told.trace, told.se))
        if method == "flipd":
            with torch.no_grad():
                dimension = dimension.to(error) + (f(x) - x).square().flatten(1).sum(1) / sigma**2
        return dimension.to(error), se.to(error), none, error, trace

    def _normal_bundle(self, x: Tensor, sigma: float, index: np.ndarray) -> tuple[Tensor, Tensor]:
        size = x[0].numel()
        assert self.frames is not None
        moves = math.sqrt(size) * sigma * torch.linalg.qr(self.frames).Q.flatten(0, 1).to(x)  # (2 D, D)
        found = []
        for some in _parts(len(x), max(1, _NUMBERS_AT_ONCE // size**2)):
            points = x[some].repeat_interleave(len(moves), 0)
            here = points + moves.repeat(len(some), 1).view(points.shape)
            f = self._function(sigma, index[some].repeat(len(moves)))
            with torch.no_grad():
                odd = (f(here) - f(2 * points - here)).view(len(some), *moves.shape) / 2
            found.append(torch.linalg.svdvals((moves - odd).double() / (sigma * math.sqrt(2 * size))))
        values = torch.cat(found)
        gaps = -torch.diff(values, prepend=torch.ones_like(values[:, :1]), append=0 * values[:, :1])
        largest = gaps.max(1)
        return (size - largest.indices).to(x), largest.values.to(x)

    def _function(self, sigma: float, index: np.ndarray) -> Callable[[Tensor], Tensor]:
        """The denoiser at a level as a function of points, which have these rows' condition."""
        call = getattr(self.denoiser, "denoise", self.denoiser)
        if self.cond is None:
            return lambda points: call(points, sigma)
        if isinstance(self.cond, Mapping):
            given: Any = {name: value[index] for name, value in self.cond.items()}
        else:
            given = self.cond[index]
        return lambda points: call(points, sigma, given)


def _parts(n: int, at_once: int) -> list[np.ndarray]:
    return np.split(np.arange(n), range(at_once, n, at_once))


def _held(denoiser: Any) -> Tensor | None:
    """A number that the denoiser holds, for its device."""
    if not isinstance(denoiser, nn.Module):
        return None
    return next((t for part in (denoiser.parameters(), denoiser.buffers()) for t in part), None)
