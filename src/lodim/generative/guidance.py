r"""Guidance: a denoiser bent towards a condition, a classifier or a wish.

Each is a callable ``guide(denoise, x, sigma, cond) -> x0_hat`` around a denoising function, and what it returns is a
denoising function again: :func:`guided` puts one inside the other. In scores s, with :math:`D = x + \sigma^2 s`
(2404.07771, section 4):

==========================  ============================================================================================
:class:`ClassifierFree`     :math:`s(x, \varnothing) + \lambda\, (s(x, y) - s(x, \varnothing))`, the survey's
                            :math:`(1 + w) s(x, y) - w s(x, \varnothing)` with :math:`\lambda = 1 + w`: 1 is plain
                            conditional sampling, 0 unconditional
:class:`Classifier`         :math:`s(x) + \lambda \nabla_x \log c(y \mid x, \sigma)`, of a classifier of noisy data;
                            with a reward in its place the naive gradient, which leaves the data's subspace
:class:`LookAheadLoss`      :math:`s(x) - \lambda \nabla_x \ell(D(x, \sigma))`: through the denoiser, so that the push
                            lies in the range of its Jacobian, which is the data's subspace
==========================  ============================================================================================

In a sequence of them each bends what the former made, and the look-ahead differentiates through them all: two rewards
of normal data are both met.

An absent condition is a label of -1, a vector of NaN, a context left out (:mod:`lodim.nets.denoisers`).

Sources: J. Ho, T. Salimans, arXiv 2207.12598; P. Dhariwal, A. Nichol, arXiv 2105.05233; H. Chung and others, arXiv
2209.14687 (through the denoiser); Y. Guo and others, arXiv 2404.14743 (which keeps the subspace); S. Lin and others,
arXiv 2305.08891 (rescaling); T. Kynkäänniemi and others, arXiv 2404.07724 (interval).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lodim.generative.denoiser import Condition, as_levels
from lodim.validation import check_in_range, checked

__all__ = ["Classifier", "ClassifierFree", "Guidance", "LookAheadLoss", "guided", "unconditional"]

Denoise = Callable[..., Tensor]
Guidance = Callable[[Denoise, Tensor, Any, Condition | None], Tensor]


def guided(denoiser: Denoise, guidance: Guidance | Sequence[Guidance] | None = None) -> Denoise:
    """Return the denoising function that a guidance makes of a denoiser; of several, the first is the innermost."""
    for guide in () if guidance is None else (guidance,) if callable(guidance) else guidance:
        denoiser = partial(guide, denoiser)
    return denoiser


def unconditional(cond: Condition) -> dict[str, Tensor]:
    """Return the condition that says nothing, for as many samples."""
    none = {"label": (-1, torch.int64), "vector": (float("nan"), torch.float32)}
    out = {}
    for name in none.keys() & cond.keys():
        (value, least), given = none[name], cond[name]  # bytes have no -1, whole numbers no NaN
        dtype = given.dtype if given.is_floating_point() else least
        out[name] = torch.full_like(given, value, dtype=dtype)
    return out


@checked
class ClassifierFree:
    """Away from the unconditional answer, of a network trained with conditions that were sometimes left out.

    Parameters
    ----------
    scale : float
        1: plain conditional, 0: unconditional, above 1: surer of the condition and less diverse.
    rescale : float
        In [0, 1]: how far the answer is brought back to the conditional one's standard deviation.
    interval : (float, float), optional
        Levels, in the data's unit, within which to guide; elsewhere the answer is the conditional one.
    without : callable, optional
        Makes of a condition the one that says nothing, of the same rows, or None; default: :func:`unconditional`.
    """

    def __init__(
        self,
        scale: float | int,
        rescale: float | int = 0.0,
        interval: tuple[float | int, float | int] | None = None,
        *,
        without: Callable[[Condition], Condition | None] = unconditional,
    ) -> None:
        self.without = without
        self.scale = finite(scale)
        self.rescale = float(check_in_range(rescale, "rescale", low=0, high=1))
        if interval is not None and (len(interval) != 2 or not 0 <= interval[0] < interval[1]):
            raise ValueError(f"interval must be two levels, the lower one first, got {interval}")
        self.interval = interval

    def __call__(self, denoise: Denoise, x: Tensor, sigma: Any, cond: Condition | None = None) -> Tensor:
        """Return the guided answer; without a condition it is a ValueError."""
        if not cond:
            raise ValueError("guidance without a classifier needs a condition: give cond")
        if self.scale == 1 or not self._guides(sigma):
            return denoise(x, sigma, cond)
        if self.scale == 0:
            return denoise(x, sigma, self.without(cond) or None)
        levels, without = as_levels(sigma, x).reshape(-1), self.without(cond) or {}
        if without.keys() == cond.keys():  # one call of the network for both
            both = {name: torch.cat([without[name], cond[name]]) for name in cond}
            none, some = denoise(torch.cat([x, x]), torch.cat([levels, levels]), both).chunk(2)
        else:
            none, some = denoise(x, sigma, without or None), denoise(x, sigma, cond)
        out = none + self.scale * (some - none)
        if self.rescale:
            axes = tuple(range(1, x.ndim))
            some, bent = (part.std(axes, correction=0, keepdim=True) for part in (some, out))
            mean = out.mean(axes, keepdim=True)
            out = out + self.rescale * (some / bent.clamp_min(1e-12) - 1) * (out - mean)
        return out

    def _guides(self, sigma: Any) -> bool:
        if self.interval is None:
            return True
        level = float(torch.as_tensor(sigma).reshape(-1)[0])  # a sampler's step has one
        return self.interval[0] <= level <= self.interval[1]


@checked
class Classifier:
    """Up the gradient of a log probability (or of any reward) of the noisy sample.

    Parameters
    ----------
    log_prob : callable
        ``log_prob(x, sigma)``, one number a sample, differentiable in x.
    """

    def __init__(self, log_prob: Callable[..., Any], scale: float | int = 1.0) -> None:
        self.log_prob, self.scale = log_prob, finite(scale)

    def __call__(self, denoise: Denoise, x: Tensor, sigma: Any, cond: Condition | None = None) -> Tensor:
        """Return the guided answer."""
        levels = as_levels(sigma, x)
        with differentiable(x) as (at, outer):
            push = gradient(self.log_prob(at, levels.reshape(-1)), at, "log_prob", outer)
        return denoise(x, sigma, cond) + self.scale * levels.square() * push


@checked
class LookAheadLoss:
    """Down the gradient of a loss of the denoised sample, taken through the denoiser.

    With the loss :math:`|y - A x_0|^2 / 2 s^2` it samples what may have been measured as y (diffusion posterior
    sampling); with minus a reward it samples towards reward.

    Parameters
    ----------
    loss : callable
        ``loss(x0_hat)``, one number a sample, differentiable.
    """

    def __init__(self, loss: Callable[..., Any], scale: float | int = 1.0) -> None:
        self.loss, self.scale = loss, finite(scale)

    def __call__(self, denoise: Denoise, x: Tensor, sigma: Any, cond: Condition | None = None) -> Tensor:
        """Return the guided answer."""
        with differentiable(x) as (at, outer):
            x0_hat = denoise(at, sigma, cond)
            push = gradient(self.loss(x0_hat), at, "loss", outer)
            out = x0_hat - self.scale * as_levels(sigma, x).square() * push
        return out if outer else out.detach()


def finite(value: float | int, name: str = "scale") -> float:
    """Return a number as a float; infinity and NaN are a ValueError."""
    if math.isinf(check_in_range(value, name)):
        raise ValueError(f"{name} must be finite, got {value}")
    return float(value)


@contextmanager
def differentiable(x: Tensor) -> Iterator[tuple[Tensor, bool]]:
    """Where gradients are taken, in no_grad and inference_mode too; and whether an outer guidance takes its own."""
    outer = torch.is_grad_enabled() and x.requires_grad
    with torch.inference_mode(False), torch.enable_grad():
        yield (x if outer else x.detach().clone().requires_grad_()), outer


def gradient(values: Any, x: Tensor, name: str, outer: bool = False) -> Tensor:
    """Return the gradient in x of numbers, one a sample; with ``outer`` to be differentiated again."""
    if not isinstance(values, Tensor) or values.shape != (len(x),):
        got = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(f"{name} must return one number a sample, shape ({len(x)},), got {got}")
    if not values.requires_grad:
        raise ValueError(f"{name} does not depend on the sample in a way that can be differentiated")
    return torch.autograd.grad(values.sum(), x, create_graph=outer, retain_graph=True)[0]
