r"""How a denoiser is trained: one loss, of which the well-known ones are laws of the level and weights.

.. math:: L = \mathbb{E}_{x_0, \sigma, n}\; w(\sigma)\, \frac1N |D(x_0 + \sigma n, \sigma) - x_0|^2

over the N numbers of a sample. Whatever the weights, its minimiser is the posterior mean (denoising score matching).

============================  ===============================================  ===================================
loss                          levels                                           :math:`w`
============================  ===============================================  ===================================
:func:`edm_loss`              :math:`\ln \sigma` normal                        :math:`(\sigma^2 + s^2) / (\sigma s)^2`
:func:`vp_loss`               t uniform                                        :math:`1 / \sigma^2`: error of the noise
:func:`ve_loss`               :math:`\ln \sigma` uniform                       :math:`1 / \sigma^2`
:func:`ddpm_loss`             whole steps, uniform                             :math:`1 / \sigma^2`
:func:`flow_matching_loss`    :math:`\tau = \sigma / (1 + \sigma)` uniform     :math:`1 / \tau^2`: error of the velocity
============================  ===============================================  ===================================

Levels are in the data's own unit, so all are multiplied by the denoiser's ``scale``.

Sources: T. Karras and others, arXiv 2206.00364, equations 2 and 8; Y. Song and others, arXiv 2011.13456, equation 7;
J. Ho and others, arXiv 2006.11239, equation 14; Y. Lipman and others, arXiv 2210.02747, equation 23.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from lodim.generative.denoiser import Condition, Denoiser, as_levels
from lodim.generative.schedules import EDM, VE, VP, DiscreteVP, Flow, Schedule
from lodim.validation import check_choice

__all__ = ["Kernel", "ddpm_loss", "edm_loss", "flow_matching_loss", "gaussian", "ve_loss", "vp_loss"]

# what is added to samples at these levels: kernel(like, levels, generator), shaped like the samples
Kernel = Callable[[Tensor, Tensor, torch.Generator | None], Tensor]


def gaussian(like: Tensor, levels: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw normal noise of these levels, shaped as ``like``."""
    return levels * normal(like, generator)


def normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw standard normal numbers on the generator's device, so that a seed means the same on every device."""
    device = like.device if generator is None else generator.device
    return torch.randn(like.shape, dtype=like.dtype, device=device, generator=generator).to(like.device)


def uniform(like: Tensor, generator: torch.Generator | None) -> Float[Tensor, " batch"]:
    """Draw a number of (0, 1) a sample, likewise."""
    device = like.device if generator is None else generator.device
    u = torch.rand(len(like), dtype=torch.float64, device=device, generator=generator).to(like.device)
    return u.clamp(1e-9, 1 - 1e-9)  # float64 draws can be 0, whose quantile is not finite


def edm_loss(
    denoiser: Denoiser, x: Float[Tensor, "batch ..."], cond: Condition | None = None, *,
    schedule: Schedule | None = None, perturb: Kernel = gaussian, generator: torch.Generator | None = None,
    reduction: str = "mean",
) -> Float[Tensor, " ..."]:  # fmt: skip
    """Return EDM's loss: a number, or with ``reduction="none"`` one a sample.

    Parameters
    ----------
    schedule : Schedule, optional
        Its law of levels; default ``EDM()``.
    perturb : callable
        ``perturb(like, levels, generator)`` draws the noise.
    """
    own = schedule or EDM()
    return _loss(
        denoiser, x, cond, draw_levels(own, denoiser, x, generator), weights(EDM, denoiser), perturb, generator,
        reduction,
    )  # fmt: skip


def vp_loss(
    denoiser: Denoiser, x: Float[Tensor, "batch ..."], cond: Condition | None = None, *,
    schedule: Schedule | None = None, perturb: Kernel = gaussian, generator: torch.Generator | None = None,
    reduction: str = "mean",
) -> Float[Tensor, " ..."]:  # fmt: skip
    """Return the mean squared error of the noise over uniform times of ``VP()``; see :func:`edm_loss`."""
    levels = draw_levels(schedule or VP(), denoiser, x, generator)
    return _loss(denoiser, x, cond, levels, weights(VP, denoiser), perturb, generator, reduction)


def ve_loss(
    denoiser: Denoiser, x: Float[Tensor, "batch ..."], cond: Condition | None = None, *,
    schedule: Schedule | None = None, perturb: Kernel = gaussian, generator: torch.Generator | None = None,
    reduction: str = "mean",
) -> Float[Tensor, " ..."]:  # fmt: skip
    """Return the mean squared error of the noise over levels uniform in the logarithm, of ``VE()``."""
    return vp_loss(
        denoiser,
        x,
        cond,
        schedule=schedule or VE(),
        perturb=perturb,
        generator=generator,
        reduction=reduction,
    )


def ddpm_loss(
    denoiser: Denoiser, x: Float[Tensor, "batch ..."], cond: Condition | None = None, *,
    schedule: Schedule | None = None, perturb: Kernel = gaussian, generator: torch.Generator | None = None,
    reduction: str = "mean",
) -> Float[Tensor, " ..."]:  # fmt: skip
    """Return the mean squared error of the noise over uniform whole steps, of the denoiser's schedule or a default."""
    own = denoiser.schedule if isinstance(denoiser.schedule, DiscreteVP) else DiscreteVP()
    return vp_loss(
        denoiser, x, cond, schedule=schedule or own, perturb=perturb, generator=generator, reduction=reduction
    )


def flow_matching_loss(
    denoiser: Denoiser, x: Float[Tensor, "batch ..."], cond: Condition | None = None, *,
    schedule: Schedule | None = None, perturb: Kernel = gaussian, generator: torch.Generator | None = None,
    reduction: str = "mean",
) -> Float[Tensor, " ..."]:  # fmt: skip
    r"""Return the mean squared error of the velocity along the lines of ``Flow()``, whose times are uniform."""
    own = schedule or Flow()
    return _loss(
        denoiser, x, cond, draw_levels(own, denoiser, x, generator), weights(Flow, denoiser), perturb, generator,
        reduction,
    )  # fmt: skip


def weights(kind: type[Schedule], denoiser: Denoiser) -> Callable[[Tensor], Tensor]:
    """Return the weight as a function of levels in the data's unit: what goes with a kind of schedule, see above."""
    scale = denoiser.scale.double()
    if issubclass(kind, EDM):
        sd = denoiser.sigma_data.double() * denoiser.scale
        return lambda s: (s.square() + sd.square()) / (s * sd).square()
    if issubclass(kind, Flow):
        return lambda s: ((s + scale) / s).square() / scale.square()
    return lambda s: s**-2


def draw_levels(
    schedule: Schedule, denoiser: Denoiser, x: Tensor, generator: torch.Generator | None
) -> Float[Tensor, " batch"]:
    """Draw a level a sample by the schedule's law, in the data's unit, float64."""
    return denoiser.scale * schedule.levels(uniform(x, generator))


def _loss(
    denoiser: Denoiser, x: Tensor, cond: Condition | None, sigma: Tensor, weight: Callable[[Tensor], Tensor],
    perturb: Kernel, generator: torch.Generator | None, reduction: str,
) -> Tensor:  # fmt: skip
    check_choice(reduction, ("mean", "none"), "reduction")
    levels = as_levels(sigma, x)
    x0_hat = denoiser(x + perturb(x, levels, generator), levels, cond)
    error = weight(levels.double()).sqrt().to(x0_hat.dtype) * (
        x0_hat - x
    )  # of unit size, where levels may be 1e24
    each = error.square().flatten(1).mean(1)
    return each.mean() if reduction == "mean" else each
