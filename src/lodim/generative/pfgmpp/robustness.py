r"""What a generator bears: noise while sampling, rounded weights, few steps; and where a sample loses its datum.

Each function takes a model, the values to try and a metric of samples, and returns a table over values and repeated
draws. The draws of one number are the same for every value and model, since a metric differs more between two draws
than between two good models.

=======================  ==============================================================================================
function                 what is done, by its value
=======================  ==============================================================================================
:func:`noise_injection`  before every step :math:`x \leftarrow x + a \sigma_i n`, n standard normal
:func:`weight_rounding`  weights of linear and convolution layers are rounded to b bits: :math:`2^b` even steps from a
                         matrix's least to its largest entry
:func:`step_sweep`       so many steps of the sampler
=======================  ==============================================================================================

Source: Y. Xu and others, arXiv 2302.04265, section 5 (robustness) and section 4.1 (phases). The paper measures phases
on CIFAR-10 as here: mean total variation between the posterior over the data and the uniform distribution.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from lodim.generative.diffusion import Diffusion, figure_of
from lodim.generative.losses import normal
from lodim.generative.pfgmpp.model import EmpiricalPoissonDenoiser, PoissonKernel
from lodim.generative.samplers import SamplerState
from lodim.plots import new_axes
from lodim.randomness import RandomState, derive_seed, root_seed, torch_generator
from lodim.results import Result
from lodim.validation import check_in_range, check_numbers, checked

__all__ = ["PhaseProfile", "Robustness", "noise_injection", "phase_profile", "step_sweep", "weight_rounding"]

Metric = Callable[[Any], Any]


@dataclass(frozen=True)
class Robustness(Result):
    """A metric of samples at several values of what was done to their making.

    Attributes
    ----------
    what : str
        Was done: "noise", "bits" or "steps".
    values : tuple of float
    scores : ndarray, shape (values, repeats)
    """

    what: str
    values: tuple[float, ...]
    scores: Float[np.ndarray, "values repeats"]

    @property
    def mean(self) -> Float[np.ndarray, " values"]:
        """Mean over the repeated draws."""
        return self.scores.mean(1)

    def to_frame(self) -> pd.DataFrame:
        """Return a row a value: the mean, the least and the largest score."""
        low, high = self.scores.min(1), self.scores.max(1)
        return pd.DataFrame({self.what: self.values, "mean": self.mean, "low": low, "high": high})

    def plot(self, ax: Any = None, **style: Any) -> Any:
        """Draw means against values, with bars from the least to the largest score; and return the axes."""
        ax = new_axes(ax)
        reach = np.abs(np.stack([self.scores.min(1), self.scores.max(1)]) - self.mean)
        ax.errorbar(self.values, self.mean, reach, **{"capsize": 3, "marker": "o", **style})
        ax.set(xlabel=self.what, ylabel="metric")
        return ax

    def __str__(self) -> str:
        return ", ".join(f"{value:g}: {score:.4g}" for value, score in zip(self.values, self.mean)) + (
            f" ({self.what}: metric, mean of {self.scores.shape[1]} draws)"
        )


def _table(
    what: str, draw: Callable[[Any, int], Any], values: Sequence[Any], metric: Metric, n_repeats: int,
    random_state: RandomState,
) -> Robustness:  # fmt: skip
    """Score samples ``draw(value, seed)`` of every value and repeat; the seeds are the same for all values."""
    if not len(values):
        raise ValueError("values must hold one number or more")
    check_in_range(n_repeats, "n_repeats", low=1, integer=True)
    root = root_seed(random_state)
    seeds = [derive_seed(root, "robustness", repeat) for repeat in range(n_repeats)]
    scores = [[figure_of(metric, draw(value, seed)) for seed in seeds] for value in values]
    return Robustness(what, tuple(float(v) for v in values), np.array(scores))


@checked
def noise_injection(
    model: Diffusion, values: Sequence[float | int], metric: Metric, *, n: int = 2000, steps: int = 18,
    n_repeats: int = 3, random_state: RandomState = 0, **options: Any,
) -> Robustness:  # fmt: skip
    """Score samples whose way was disturbed by noise of a times the level before every step.

    Parameters
    ----------
    model : Diffusion
        Or :class:`~lodim.generative.PFGMPP`.
    values : sequence of float
        Of a; 0 disturbs nothing.
    metric : callable
        Of samples: a number, or an object with a ``value`` such as :class:`~lodim.metrics.FrechetDistance` returns.
    n, n_repeats : int
        Samples of a draw, and draws.
    **options
        Of :meth:`~lodim.generative.Diffusion.sample`.
    """
    for a in values:
        check_in_range(a, "values", low=0)

    def draw(a: float, seed: int) -> Any:
        source, highest = torch_generator(derive_seed(seed, "injected")), float(model.sigmas(steps)[0])

        def inject(state: SamplerState) -> Tensor:
            return state.x + a * state.sigma_next * normal(state.x, source)

        start = model.prior(n, highest, torch_generator(seed))
        start = start + a * highest * normal(start, source)
        drawing = torch_generator(derive_seed(seed, "sampler"))  # of samplers that draw noise of their own
        return model.sample(n, steps=steps, start=start, on_step=inject, generator=drawing, **options)

    return _table("noise", draw, values, metric, n_repeats, random_state)


@checked
def weight_rounding(
    model: Diffusion, values: Sequence[int], metric: Metric, *, n: int = 2000, steps: int = 18,
    n_repeats: int = 3, random_state: RandomState = 0, **options: Any,
) -> Robustness:  # fmt: skip
    """Score samples of copies of the model with weights of so many bits; see :func:`noise_injection`.

    Biases, normalisations and tables of classes stay as they are.
    """

    def draw(bits: int, seed: int) -> Any:
        return _rounded(model, bits).sample(n, steps=steps, generator=seed, **options)

    return _table("bits", draw, values, metric, n_repeats, random_state)


@torch.no_grad()
def _rounded(model: Diffusion, bits: int) -> Diffusion:
    check_in_range(bits, "values", low=1, high=16, integer=True)
    model = copy.deepcopy(model)
    for layer in model.modules():
        if isinstance(layer, nn.Linear | _ConvNd):
            low, high = layer.weight.min(), layer.weight.max()
            step = ((high - low) / (2**bits - 1)).clamp_min(
                1e-30
            )  # of equal entries there is nothing to round
            rounded = low + step * ((layer.weight - low) / step).round()
            layer.weight.copy_(rounded)
            if not torch.equal(layer.weight, rounded):
                raise ValueError(
                    f"a {type(layer).__name__}'s weight is computed from others (weight norm or so) and cannot be "
                    "rounded; torch.nn.utils.parametrize.remove_parametrizations makes it one of its own"
                )
    return model


@checked
def step_sweep(
    model: Diffusion, values: Sequence[int], metric: Metric, *, n: int = 2000, n_repeats: int = 3,
    random_state: RandomState = 0, **options: Any,
) -> Robustness:  # fmt: skip
    """Score samples made in so many steps; see :func:`noise_injection`."""

    def draw(steps: int, seed: int) -> Any:
        return model.sample(n, steps=steps, generator=seed, **options)

    return _table("steps", draw, values, metric, n_repeats, random_state)


@dataclass(frozen=True)
class PhaseProfile(Result):
    """How much a noisy sample still says about which datum it was, by level and by D.

    Attributes
    ----------
    sigmas : ndarray, shape (levels,)
        In the data's unit.
    dimensions : tuple of str
        Values of D ("inf" is diffusion).
    tv : ndarray, shape (dimensions, levels)
        Mean total variation between the posterior over the m data and the uniform distribution: near 1 - 1/m one
        datum is left, near 0 all are.
    """

    sigmas: Float[np.ndarray, " levels"]
    dimensions: tuple[str, ...]
    tv: Float[np.ndarray, "dimensions levels"]

    def to_frame(self) -> pd.DataFrame:
        """Return a row a level, a column a D."""
        return pd.DataFrame(
            {"sigma": self.sigmas, **{f"D={D}": row for D, row in zip(self.dimensions, self.tv)}}
        )

    def plot(self, ax: Any = None) -> Any:
        """Draw a curve for every D; and return the axes."""
        ax = new_axes(ax)
        for D, row in zip(self.dimensions, self.tv, strict=True):
            ax.semilogx(self.sigmas, row, label=f"D={D}")
        ax.set(xlabel="level of the noise", ylabel="total variation from uniform")
        ax.legend()
        return ax

    def __str__(self) -> str:
        def half(row: np.ndarray) -> str:
            if row[0] < 0.5:
                return f"below {self.sigmas[0]:.3g}"
            if row[-1] > 0.5:
                return f"above {self.sigmas[-1]:.3g}"
            return f"{np.interp(-0.5, -row, self.sigmas):.3g}"

        return "noise at which a sample has half lost sight of its datum (total variation 1/2): " + ", ".join(
            f"{half(row)} (D={D})" for D, row in zip(self.dimensions, self.tv)
        )


@checked
def phase_profile(
    Y: Any, D: Sequence[float | int] = (1, 64, 2048, math.inf), sigmas: Any = None, *, n: int = 500,
    random_state: RandomState = 0,
) -> PhaseProfile:  # fmt: skip
    r"""Measure at which noise a sample loses sight of its datum, for several D.

    Under :math:`r = \sigma \sqrt{D}` the curves nearly coincide, unless D is small: that is why the settings of a
    diffusion carry over.

    Parameters
    ----------
    Y : array or Tensor, shape (m, ...)
        The data, a few thousand at most: every noisy sample is compared with each.
    D : sequence of float
    sigmas : array or Tensor, shape (levels,), optional
        Rising levels; default 25 from 1/100 to 100 times the data's standard deviation.
    n : int
        Noisy samples a level, of data drawn with repetition.
    """
    rows = torch.from_numpy(check_numbers(Y, "Y").copy())
    if rows.ndim < 2 or len(rows) < 2:
        raise ValueError(f"Y must hold two samples or more, one a row, got shape {tuple(rows.shape)}")
    if not bool(rows.isfinite().all()):
        raise ValueError("Y holds NaN or infinity; drop or impute these samples")
    if bool((rows == rows[0]).all()):
        raise ValueError("all samples of Y are equal: there is no datum to lose sight of")
    if not len(D):
        raise ValueError("D must hold one number or more")
    check_in_range(n, "n", low=1, integer=True)
    rows = rows.flatten(1)
    if sigmas is None:
        sigmas = float((rows - rows.mean(0)).square().mean().sqrt()) * np.geomspace(0.01, 100, 25)
    levels = torch.from_numpy(check_numbers(sigmas, "sigmas").astype(float)).reshape(-1)
    squares = levels.square()
    if not len(levels) or not bool(((squares > 0) & (squares < math.inf) & (levels > 0)).all()):
        raise ValueError("sigmas must be positive and finite, also when squared")
    if not bool((levels.diff() > 0).all()):
        raise ValueError("sigmas must rise, each above the one before")
    seed = root_seed(random_state)
    tv = np.empty((len(D), len(levels)))
    for i, dimension in enumerate(D):
        exact, kernel = EmpiricalPoissonDenoiser(rows, dimension), PoissonKernel(dimension)
        for j, level in enumerate(levels):
            source = torch_generator(derive_seed(seed, "phase", j))
            y = rows[torch.randint(len(rows), (n,), generator=source)]
            each = level.expand(n, 1)
            weights = exact.weights(y + kernel(y, each, source), each)
            tv[i, j] = float((weights - 1 / len(rows)).abs().sum(1).mean() / 2)
    return PhaseProfile(levels.numpy(), tuple(f"{dimension:g}" for dimension in D), tv)
