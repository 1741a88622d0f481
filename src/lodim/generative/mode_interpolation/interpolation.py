r"""Where samples lie between modes, and the smooth denoiser that puts them there.

:func:`score_profile` walks from one mode to another and asks a denoiser where the datum was. The exact one of two modes
a distance L apart, seen through noise of deviation s, answers by a step a :math:`4 s^2 / L` long; a network by a slope.
:func:`interpolation_mass` counts samples that are many deviations from every mode, and between which of them: nearest
neighbours, says the paper, since between those the step is the steepest the network had to learn.

=========================================================  ==========================================================
symbol in the paper                                        name here
=========================================================  ==========================================================
score :math:`s_\theta(x, t)` along a line of two modes     :func:`score_profile`, as :math:`x + \sigma^2 s_\theta`
share of samples between modes                             ``InterpolationMass.mass``
=========================================================  ==========================================================

Source: S. K. Aithal and others, arXiv 2406.09358, section 4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial.distance import cdist
from scipy.stats import binomtest

from lodim.generative.denoiser import of_shape
from lodim.generative.diffusion import Diffusion
from lodim.nets.activations import evaluation_mode
from lodim.plots import COLORS, new_axes
from lodim.results import Result
from lodim.validation import check_in_range, check_numbers, checked

__all__ = ["InterpolationMass", "ScoreProfile", "interpolation_mass", "score_profile"]

_NAMED = 30  # edges, at most, whose modes a picture says
_EQUAL, _ASIDE = 1.01, 0.25  # distances that count as equal; how far beside an edge, in its length, is on it


@dataclass(frozen=True)
class ScoreProfile(Result):
    """A denoiser's answer on the way from one mode (0) to another (1).

    Attributes
    ----------
    t : ndarray, shape (points,)
        Where on the way.
    estimate, exact : ndarray, shape (points,)
        Where on it the answer lies; ``exact`` is NaN where no exact denoiser was given.
    sigma : float
    """

    t: Float[np.ndarray, " points"]
    estimate: Float[np.ndarray, " points"]
    exact: Float[np.ndarray, " points"]
    sigma: float

    @property
    def width(self) -> float:
        """Share of the way on which the answer is in its middle half: near no mode."""
        return float(((self.estimate > 0.25) & (self.estimate < 0.75)).mean())

    @property
    def exact_width(self) -> float:
        """The exact denoiser's."""
        return (
            float(((self.exact > 0.25) & (self.exact < 0.75)).mean())
            if np.isfinite(self.exact).all()
            else np.nan
        )

    def plot(self, ax: Any = None) -> Any:
        """Draw both answers against the way; and return the axes."""
        ax = new_axes(ax)
        ax.plot(self.t, self.estimate, color=COLORS[0], label="denoiser")
        if np.isfinite(self.exact).all():
            ax.plot(self.t, self.exact, color=COLORS[1], linestyle="--", label="exact")
        ax.set(xlabel="from one mode to the other", ylabel="its estimate", title=f"level {self.sigma:.3g}")
        ax.legend()
        return ax

    def __str__(self) -> str:
        exact = "" if np.isnan(self.exact_width) else f", the exact one's on {self.exact_width:.1%}"
        return f"at level {self.sigma:.3g} the estimate is near no mode on {self.width:.1%} of the way{exact}"


@checked
def score_profile(
    denoiser: Diffusion | Callable[..., Any], a: Any, b: Any, sigma: float | int, *, exact: Any = None, n: int = 401
) -> ScoreProfile:  # fmt: skip
    """Follow a denoiser from the mode ``a`` to the mode ``b``.

    Parameters
    ----------
    denoiser : Diffusion or callable
        ``denoiser(x, sigma)`` of tensors.
    a, b : array or Tensor, of a sample's shape
    sigma : float
        The level of the noise. Interpolation shows where it is larger than a mode's deviation.
    exact : callable, optional
        The true denoiser, e.g. :class:`~lodim.generative.MixtureDenoiser`.
    n : int
        Points of the way.
    """
    start, end = (torch.from_numpy(check_numbers(point, name).copy()) for point, name in ((a, "a"), (b, "b")))
    check_in_range(n, "n", low=2, integer=True)
    if start.shape != end.shape or not start.ndim or not bool((start != end).any()):
        raise ValueError(
            "a and b must be two different points of a sample's shape, got "
            f"{tuple(start.shape)} and {tuple(end.shape)}"
        )
    if not bool((start.isfinite() & end.isfinite()).all()):
        raise ValueError("a and b must be finite")
    way, t = end - start, torch.linspace(0, 1, int(n), dtype=torch.float64)
    x = start + t.reshape(-1, *[1] * start.ndim) * way

    def along(denoise: Any) -> np.ndarray:
        if isinstance(denoise, Diffusion):
            own = denoise.denoiser.center
            with evaluation_mode(denoise), torch.no_grad():
                out = denoise.denoiser(x.to(own.device, torch.promote_types(own.dtype, torch.float32)), sigma)
        else:
            with torch.no_grad():
                out = denoise(x, sigma)
        if not bool(of_shape(out, x).isfinite().all()):
            raise ValueError("the denoiser answers NaN or infinity on the way from a to b")
        share = ((out.cpu().double() - start) * way).flatten(1).sum(1) / way.square().sum()
        return share.numpy()

    known = np.full(int(n), np.nan) if exact is None else along(exact)
    return ScoreProfile(t.numpy(), along(denoiser), known, float(sigma))


@dataclass(frozen=True)
class InterpolationMass(Result):
    """Samples away from all modes, and between which of them.

    Attributes
    ----------
    mass : float
        Their share.
    n, n_off : int
        Samples, and those away from all modes.
    edges : int ndarray, shape (edges, 2)
        Pairs of modes that are nearest neighbours, of one of them at least.
    counts : int ndarray, shape (edges,)
        Samples away from all modes that lie along each.
    elsewhere : int
        Those along none.
    """

    mass: float
    n: int
    n_off: int
    edges: Int[np.ndarray, "edges 2"]
    counts: Int[np.ndarray, " edges"]
    elsewhere: int

    def to_frame(self) -> Any:
        """Return a row an edge."""
        import pandas as pd

        return pd.DataFrame({"a": self.edges[:, 0], "b": self.edges[:, 1], "count": self.counts})

    def plot(self, ax: Any = None) -> Any:
        """Draw the count of every edge, in falling order; and return the axes."""
        ax = new_axes(ax)
        order = np.argsort(-self.counts, kind="stable")
        ax.bar(range(len(order)), self.counts[order], color=COLORS[0])
        if len(order) <= _NAMED:
            ax.set_xticks(range(len(order)), [f"{a} to {b}" for a, b in self.edges[order]], rotation=90)
        title = f"{self.mass:.2%} of {self.n} samples away from all modes"
        ax.set(xlabel="edges between nearest modes", ylabel="samples", title=title)
        return ax

    def __str__(self) -> str:
        low, high = binomtest(self.n_off, self.n).proportion_ci()
        return (
            f"{self.mass:.3%} ({low:.3%} to {high:.3%}) of {self.n} samples away from all modes, "
            f"{int(self.counts.sum())} of {self.n_off} between nearest neighbours"
        )


@checked
def interpolation_mass(
    samples: Any, modes: Any, std: float | int, *, radius: float | int = 6.0
) -> InterpolationMass:
    """Count samples further than ``radius`` deviations from every mode, and along which edge they lie.

    A sample lies along an edge if its foot is between the ends and it is no further from it than a quarter of its
    length.

    Parameters
    ----------
    samples : array or Tensor, shape (n, d)
    modes : array or Tensor, shape (m, d)
        Two or more, all different.
    std : float
        Of a mode in each coordinate.
    radius : float
        In ``std``. Of true samples in the plane one in 7e7 is further than 6; in d dimensions take sqrt(d) + 6.
    """
    x, centers = (check_numbers(rows, name) for rows, name in ((samples, "samples"), (modes, "modes")))
    if x.ndim != 2 or centers.ndim != 2 or x.shape[1] != centers.shape[1] or not len(x) or len(centers) < 2:
        raise ValueError(
            "samples and modes must be rows of as many columns, one sample and two modes at least, got shapes "
            f"{x.shape} and {centers.shape}"
        )
    if not np.isfinite(x).all() or not np.isfinite(centers).all():
        raise ValueError("samples and modes must be finite; drop rows with NaN or infinity")
    for value, name in ((std, "std"), (radius, "radius")):
        check_in_range(value, name, low=0)
    between = cdist(centers, centers)
    np.fill_diagonal(between, np.inf)
    nearest = between.min(1)
    if not nearest.min() > 0:
        raise ValueError("two of the modes are equal")
    edges = np.argwhere(np.triu(between <= _EQUAL * np.maximum.outer(nearest, nearest)))
    blocks = np.array_split(x, 1 + len(x) * len(centers) // 2**24)
    away = np.concatenate([rows[cdist(rows, centers).min(1) > radius * std] for rows in blocks])
    counts, elsewhere = np.zeros(len(edges), int), 0
    ways = centers[edges[:, 1]] - centers[edges[:, 0]]
    squares = np.square(ways).sum(1)
    for sample in away:
        own = sample - centers[edges[:, 0]]
        t = (own * ways).sum(1) / squares
        aside = np.sqrt(np.square(own - t[:, None] * ways).sum(1) / squares)
        aside[(t <= 0) | (t >= 1) | (aside > _ASIDE)] = np.inf
        if np.isfinite(aside).any():
            counts[aside.argmin()] += 1
        else:
            elsewhere += 1
    return InterpolationMass(len(away) / len(x), len(x), len(away), edges, counts, elsewhere)
