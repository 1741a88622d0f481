r"""Samplers: from noise to data along a list of levels, each one a step that reads like its paper.

In canonical coordinates :math:`x = x_0 + \sigma n` all of them follow the same two equations, with
:math:`d = (x - D(x, \sigma)) / \sigma` the direction of the noise:

.. math:: \frac{dx}{d\sigma} = d \qquad \text{or} \qquad
          dx = -2 \sigma\, d\sigma\, \nabla \log p_\sigma(x) + \sqrt{2 \sigma}\, dw.

Every sampler is called ``sampler(denoiser, x, sigmas, **options)``: x is noise of the level ``sigmas[0]``, levels fall
to 0 (:meth:`~lodim.generative.Schedule.sigmas`), and the options are those of :class:`Options`. ``denoiser`` is any
callable of x, sigma and cond. The state is float64; denoiser and guidance see it in the precision of the x that was
given. Memory does not grow with the number of steps. For k steps the network is called as often as the last column
says.

===============================  ===========================================================================  ==========
sampler                          source                                                                       calls
===============================  ===========================================================================  ==========
:func:`euler`                    the first equation                                                           k
:func:`heun`                     arXiv 2206.00364, algorithms 1 and 2                                         2k - 1
:func:`dpmpp_2m`                 C. Lu and others, arXiv 2211.01095, algorithm 2                              k
:func:`ddim`                     J. Song and others, arXiv 2010.02502, equation 12                            k
:func:`ancestral`                J. Ho and others, arXiv 2006.11239, equation 7                               k
:func:`euler_maruyama`           the second equation, in steps of :math:`\sigma^2`                            k
:func:`exponential_integrator`   2404.07771, section 2: the Ornstein-Uhlenbeck process, step for step exact   k
                                 in all but the score
:func:`pc`                       Y. Song and others, arXiv 2011.13456, algorithms 2 and 4                     k + mk - m
===============================  ===========================================================================  ==========
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypedDict, Unpack

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lodim.generative.denoiser import Condition, of_shape
from lodim.generative.guidance import Guidance, guided
from lodim.generative.losses import normal
from lodim.validation import check_choice, check_in_range, check_numbers, check_tensor

__all__ = [
    "SAMPLERS", "Options", "SamplerState", "ancestral", "ddim", "dpmpp_2m", "euler", "euler_maruyama",
    "exponential_integrator", "heun", "pc",
]  # fmt: skip


@dataclass
class SamplerState:
    """Where a sampler stands after a step, as ``on_step`` sees it.

    Attributes
    ----------
    i, steps : int
        The step, from 0, of so many.
    sigma, sigma_next : float
        The levels before and after it.
    x : Tensor
        The samples at ``sigma_next``, float64.
    x0_hat : Tensor
        The (guided) denoiser's answer at ``sigma``.
    generator : torch.Generator or None
        The sampler's own.
    """

    i: int
    steps: int
    sigma: float
    sigma_next: float
    x: Tensor
    x0_hat: Tensor
    generator: torch.Generator | None


Callback = Callable[[SamplerState], Any]


class Options(TypedDict, total=False):
    """What every sampler takes.

    Attributes
    ----------
    cond : mapping, optional
        The network's condition.
    guidance : callable or sequence of them, optional
        See :mod:`lodim.generative.guidance`.
    generator : torch.Generator, optional
        Of the noise; default: torch's global one.
    on_step : callable or sequence of them, optional
        Called with a :class:`SamplerState` after every step. What it returns, unless None, takes the place of the
        samples: that is how data consistency, inpainting, statistics and pictures are done.
    """

    cond: Condition | None
    guidance: Guidance | Sequence[Guidance] | None
    generator: torch.Generator | None
    on_step: Callback | Sequence[Callback] | None


Denoise = Callable[..., Tensor]
Sigmas = Float[Tensor, " steps"] | Iterable[float]
Noise = Callable[[], Tensor]
Moved = tuple[Tensor, Tensor]  # the new x, and the x0_hat that led there
# of denoise(x, sigma), x, sigma, sigma_next, noise()
Step = Callable[[Denoise, Tensor, float, float, Noise], Moved]


@torch.no_grad()
def _integrate(step: Step, denoiser: Denoise, x: Tensor, sigmas: Sigmas, options: Options) -> Tensor:
    """Take a step between each two levels; the first level is that of x."""
    levels = check_levels(sigmas, check_tensor(x, "x").dtype).tolist()
    if unknown := options.keys() - Options.__annotations__.keys():
        raise TypeError(
            f"this sampler takes no option {', '.join(sorted(unknown))}; see its docstring and Options"
        )
    generator, cond = options.get("generator"), options.get("cond")
    on_step = options.get("on_step") or ()
    calls = (on_step,) if callable(on_step) else tuple(on_step)
    bent = guided(denoiser, options.get("guidance"))
    wide = torch.float32 if x.device.type == "mps" else torch.float64  # which Apple's GPUs do not have
    seen = torch.promote_types(x.dtype, torch.float32)
    dtype, x = x.dtype if x.is_floating_point() else seen, x.to(wide)

    def denoise(x: Tensor, sigma: float) -> Tensor:
        return of_shape(bent(x.to(seen), sigma, cond), x, "denoiser and guidance").to(wide)

    def noise() -> Tensor:
        return normal(x, generator)

    for i, (sigma, following) in enumerate(pairwise(levels)):
        x, x0_hat = step(denoise, x, sigma, following, noise)
        for call in calls:
            given = call(SamplerState(i, len(levels) - 1, sigma, following, x, x0_hat, generator))
            if given is not None:
                given = torch.as_tensor(given)
                if given.shape != x.shape:
                    raise ValueError(
                        f"on_step returned shape {tuple(given.shape)} in place of samples of {tuple(x.shape)}"
                    )
                x = given.to(x)
    return x.to(dtype)


def check_levels(sigmas: Any, dtype: torch.dtype = torch.float64) -> Float[np.ndarray, " steps"]:
    """Return a sampler's levels as numbers; others than finite ones that fall to 0 or above are a ValueError.

    So are those that the denoiser, which sees samples of ``dtype`` in float32 at least, would see as infinity or 0.
    """
    levels = check_numbers(sigmas, "sigmas")
    falls = levels.ndim == 1 and all(a > b for a, b in pairwise(levels))
    if not falls or len(levels) < 2 or levels[-1] < 0 or not math.isfinite(levels[0]):
        raise ValueError("sigmas must be two or more finite levels that fall, the last one 0 or above")
    wide, positive = torch.promote_types(dtype, torch.float32), levels[levels > 0]
    held = torch.from_numpy(positive).to(wide)
    if not bool((held.isfinite() & (held > 0)).all()):
        raise ValueError(
            f"sigmas from {positive[0]:.3g} to {positive[-1]:.3g} are beyond {wide}; rescale the data, or take float64"
        )
    return levels


def euler(denoiser: Denoise, x: Tensor, sigmas: Sigmas, **options: Unpack[Options]) -> Tensor:
    """Follow the noise's direction: first order."""

    def step(denoise: Denoise, x: Tensor, sigma: float, following: float, noise: Noise) -> Moved:
        x0 = denoise(x, sigma)
        return x0 + following / sigma * (x - x0), x0

    return _integrate(step, denoiser, x, sigmas, options)


def heun(
    denoiser: Denoise, x: Tensor, sigmas: Sigmas, *, churn: float | int = 0.0, churn_min: float | int = 0.0,
    churn_max: float | int = math.inf, churn_noise: float | int = 1.003, **options: Unpack[Options],
) -> Tensor:  # fmt: skip
    """Average the directions at both ends of a step: second order.

    Parameters
    ----------
    churn : float
        Noise added afresh before each step whose level lies in [``churn_min``, ``churn_max``]: the level rises by the
        factor 1 + min(churn / steps, sqrt(2) - 1). 0 is deterministic. ``churn_noise`` multiplies what is added.
    """
    check_in_range(churn, "churn", low=0)
    for value, name in ((churn_min, "churn_min"), (churn_max, "churn_max"), (churn_noise, "churn_noise")):
        check_in_range(value, name, low=0)
    levels = check_levels(sigmas)
    gamma = min(churn / (len(levels) - 1), math.sqrt(2) - 1)

    def step(denoise: Denoise, x: Tensor, sigma: float, following: float, noise: Noise) -> Moved:
        if gamma and churn_min <= sigma <= churn_max:
            risen = sigma * (1 + gamma)
            x, sigma = x + churn_noise * math.sqrt(risen**2 - sigma**2) * noise(), risen
        x0 = denoise(x, sigma)
        d = (x - x0) / sigma
        end = x + (following - sigma) * d
        if following > 0:
            d = (d + (end - denoise(end, following)) / following) / 2
            end = x + (following - sigma) * d
        return end, x0

    return _integrate(step, denoiser, x, levels, options)


def dpmpp_2m(denoiser: Denoise, x: Tensor, sigmas: Sigmas, **options: Unpack[Options]) -> Tensor:
    """Extrapolate the denoiser's answers in the logarithm of the level: second order at one call a step."""
    former: list[tuple[float, Tensor]] = []  # the last step's width, and its answer

    def step(denoise: Denoise, x: Tensor, sigma: float, following: float, noise: Noise) -> Moved:
        x0 = denoise(x, sigma)
        if following == 0:
            return x0, x0
        h = math.log(sigma / following)
        ahead = x0
        if former:
            width, last = former.pop()
            ahead = x0 + h / (2 * width) * (x0 - last)
        former.append((h, x0))
        return following / sigma * x - math.expm1(-h) * ahead, x0

    return _integrate(step, denoiser, x, sigmas, options)


def ddim(
    denoiser: Denoise, x: Tensor, sigmas: Sigmas, *, eta: float | int = 0.0, **options: Unpack[Options]
) -> Tensor:
    """Keep the noise's direction and replace a part of it by new noise; ``eta`` 0 is :func:`euler`, 1 ancestral."""
    check_in_range(eta, "eta", low=0, high=1)

    def step(denoise: Denoise, x: Tensor, sigma: float, following: float, noise: Noise) -> Moved:
        x0 = denoise(x, sigma)
        fresh = eta * following * math.sqrt(1 - (following / sigma) ** 2)
        kept = math.sqrt(following**2 - fresh**2)
        x = x0 + kept / sigma * (x - x0)
        return (x + fresh * noise() if fresh else x), x0

    return _integrate(step, denoiser, x, sigmas, options)


def ancestral(
    denoiser: Denoise, x: Tensor, sigmas: Sigmas, *, variance: str = "small", unit: float | int = 1.0,
    **options: Unpack[Options],
) -> Tensor:  # fmt: skip
    r"""Draw from the posterior of the level below given the denoised sample.

    Parameters
    ----------
    variance : {"small", "large"}
        The posterior's own, :math:`\sigma'^2 (\sigma^2 - \sigma'^2) / \sigma^2`, right for a single datum; or that of
        the forward step of the variance-preserving process, right for normal data.
    unit : float
        The standard deviation that this process preserves.
    """
    check_choice(variance, ("small", "large"), "variance")
    unit2 = _square(unit)

    def step(denoise: Denoise, x: Tensor, sigma: float, following: float, noise: Noise) -> Moved:
        x0 = denoise(x, sigma)
        mean = x0 + (following / sigma) ** 2 * (x - x0)
        left = 1 - (following / sigma) ** 2
        small = following**2 * left
        large = (unit2 + following**2) * left * sigma**2 / (unit2 + sigma**2)
        if following == 0:
            return mean, x0
        return mean + math.sqrt(small if variance == "small" else large) * noise(), x0

    return _integrate(step, denoiser, x, sigmas, options)


def euler_maruyama(denoiser: Denoise, x: Tensor, sigmas: Sigmas, **options: Unpack[Options]) -> Tensor:
    r"""Step the reverse stochastic equation by :math:`\sigma^2 - \sigma'^2`; the last step adds no noise."""

    def step(denoise: Denoise, x: Tensor, sigma: float, following: float, noise: Noise) -> Moved:
        x0 = denoise(x, sigma)
        span = sigma**2 - following**2
        x = x + span / sigma**2 * (x0 - x)
        return (x + math.sqrt(span) * noise() if following else x), x0

    return _integrate(step, denoiser, x, sigmas, options)


def exponential_integrator(
    denoiser: Denoise, x: Tensor, sigmas: Sigmas, *, unit: float | int = 1.0, **options: Unpack[Options]
) -> Tensor:
    r"""Solve the reversed Ornstein-Uhlenbeck process exactly between steps, with the score held.

    The survey's :math:`e^{h/2} x + 2 (e^{h/2} - 1) s + \sqrt{e^h - 1}\, n` with :math:`\sigma^2 = e^t - 1`, divided by
    :math:`e^{-t/2}`; ``unit`` is the standard deviation that the process preserves.
    """
    unit2 = _square(unit)

    def step(denoise: Denoise, x: Tensor, sigma: float, following: float, noise: Noise) -> Moved:
        x0 = denoise(x, sigma)
        h = math.log1p(sigma**2 / unit2) - math.log1p(following**2 / unit2)
        grown = (unit2 + sigma**2) / sigma**2
        x = x - 2 * math.expm1(-h / 2) * grown * (x0 - x)
        return (x + math.sqrt(-math.expm1(-h) * (unit2 + sigma**2)) * noise() if following else x), x0

    return _integrate(step, denoiser, x, sigmas, options)


def _square(unit: float | int) -> float:
    if not check_in_range(unit, "unit") > 0:
        raise ValueError(f"unit must be positive, got {unit}")
    return float(unit) ** 2


def pc(
    denoiser: Denoise, x: Tensor, sigmas: Sigmas, *, snr: float | int = 0.16, corrector_steps: int = 1,
    **options: Unpack[Options],
) -> Tensor:  # fmt: skip
    """Predict by a step of :func:`euler_maruyama`, correct by Langevin steps at the level reached.

    Parameters
    ----------
    snr : float
        Of a Langevin step: its pull over its noise.
    """
    check_in_range(snr, "snr", low=0)
    check_in_range(corrector_steps, "corrector_steps", low=0, integer=True)

    def step(denoise: Denoise, x: Tensor, sigma: float, following: float, noise: Noise) -> Moved:
        x0 = denoise(x, sigma)
        span = sigma**2 - following**2
        x = x + span / sigma**2 * (x0 - x)
        if following == 0:
            return x, x0
        x = x + math.sqrt(span) * noise()
        for _ in range(corrector_steps):
            score, z = (denoise(x, following) - x) / following**2, noise()
            norms = [part.flatten(1).norm(dim=1).mean() for part in (z, score)]
            size = 2 * (snr * norms[0] / norms[1].clamp_min(1e-30)).square()
            x = x + size * score + (2 * size).sqrt() * z
        return x, x0

    return _integrate(step, denoiser, x, sigmas, options)


def unwrapped(sampler: Any) -> Any:
    """Return the function of which a sampler may be a partial."""
    return getattr(sampler, "func", sampler)


SAMPLERS: dict[str, Callable[..., Tensor]] = {
    f.__name__: f
    for f in (euler, heun, dpmpp_2m, ddim, ancestral, euler_maruyama, exponential_integrator, pc)
}
