r"""How much noise a step has: schedules of a diffusion, in the coordinates that all samplers share.

A diffusion :math:`dX = f(t) X\, dt + g(t)\, dW` keeps :math:`X_t = \alpha(t) X_0 + \sigma(t)\, n`, n standard normal.
Divided by :math:`\alpha`, every one of them is data plus noise, and only the level of the noise is left:

.. math:: X_t / \alpha(t) = X_0 + \tilde\sigma(t)\, n, \qquad \tilde\sigma = \sigma / \alpha.

In these *canonical coordinates* a schedule is no more than a list of levels and a law by which training draws them.

===================  ==================================================================================================
schedule             :math:`\alpha, \sigma`
===================  ==================================================================================================
:class:`VP`          :math:`\alpha = e^{-(b_0 t + t^2 (b_1 - b_0) / 2) / 2}`, :math:`\sigma^2 = 1 - \alpha^2`; with
                     :math:`b_0 = b_1 = 1` the Ornstein-Uhlenbeck process of 2404.07771, equation 1
:class:`VE`          :math:`\alpha = 1`, :math:`\sigma = \sigma_{min} (\sigma_{max} / \sigma_{min})^t`
:class:`EDM`         :math:`\alpha = 1`, :math:`\sigma = t`; steps even in :math:`\sigma^{1/\rho}`
:class:`DiscreteVP`  :math:`\alpha^2 = \prod_{s \le t} (1 - \beta_s)` over whole steps t
:class:`Flow`        :math:`\alpha = 1 - t`, :math:`\sigma = t`: straight lines from data to noise
===================  ==================================================================================================

Everything is computed in float64 from the logarithm of :math:`\alpha`: with :math:`\beta` from 0.001 to 0.2 the product
over a thousand steps is 1e-47, which single precision takes for zero.

Sources: Y. Song and others, arXiv 2011.13456 (VP, VE); T. Karras and others, arXiv 2206.00364 (EDM, the canonical
coordinates); J. Ho and others, arXiv 2006.11239, and A. Nichol, P. Dhariwal, arXiv 2102.09672 (whole steps);
Y. Lipman and others, arXiv 2210.02747 (straight lines).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from lodim.validation import check_choice, check_in_range, checked

__all__ = ["EDM", "VE", "VP", "DiscreteVP", "Flow", "Schedule", "schedule_named"]


class Schedule:
    """What schedules share; t is a tensor of any shape, and answers are float64.

    Attributes
    ----------
    t_max : float
        Where the noise begins; ``t_min`` is where sampling stops.
    """

    t_min: float = 0.0
    t_max: float = 1.0

    def log_alpha(self, t: Tensor) -> Tensor:
        """Logarithm of the signal's factor."""
        return torch.zeros_like(t)

    def level(self, t: Tensor) -> Tensor:
        """Return the canonical level of float64 times."""
        return torch.expm1(-2 * self.log_alpha(t)).sqrt()

    def sigma_tilde(self, t: Tensor) -> Tensor:
        r"""Return the canonical level :math:`\sigma / \alpha`."""
        return self.level(_precise(t))

    def t_of_sigma_tilde(self, s: Tensor) -> Tensor:
        """Return the time of a canonical level: the inverse of :meth:`sigma_tilde`."""
        raise NotImplementedError

    def alpha(self, t: Tensor) -> Tensor:
        """Return the signal's factor."""
        return self.log_alpha(_precise(t)).exp()

    def sigma(self, t: Tensor) -> Tensor:
        """Return the noise's factor."""
        return self.alpha(t) * self.sigma_tilde(t)

    @property
    def sigma_max(self) -> float:
        """The largest canonical level: that of the prior."""
        return float(self.sigma_tilde(torch.tensor(self.t_max, dtype=torch.float64)))

    def levels(self, u: Float[Tensor, " ..."]) -> Float[Tensor, " ..."]:
        """Return canonical levels for training, from uniform numbers: times are uniform."""
        return self.sigma_tilde(self.t_min + (self.t_max - self.t_min) * _precise(u))

    def share_below(self, s: Float[Tensor, " ..."]) -> Float[Tensor, " ..."]:
        """Return the share of training's levels below canonical ones: the inverse of :meth:`levels`."""
        share = (self.t_of_sigma_tilde(_precise(s)) - self.t_min) / (self.t_max - self.t_min)
        return share.clamp(0, 1)

    def sigmas(self, n: int) -> Float[Tensor, " steps"]:
        """Return n + 1 canonical levels, from the largest down to 0, for n steps of a sampler."""
        check_in_range(n, "the number of steps", low=2, integer=True)
        t = torch.linspace(self.t_max, self.t_min, n, dtype=torch.float64)
        return torch.cat([self.sigma_tilde(t), t.new_zeros(1)])

    def c_noise(self, s: Shaped[Tensor, " batch"]) -> Shaped[Tensor, " batch"]:
        """Return what a network is told of a canonical level: a quarter of its logarithm, or a time in thousandths."""
        return s.log() / 4


def _precise(t: Tensor) -> Tensor:
    return torch.as_tensor(t, dtype=torch.float64).detach().clone()


@checked
class VP(Schedule):
    """Variance preserving, linear beta(t) for t in [0, 1]; ``t_min`` is where sampling and training stop."""

    def __init__(
        self,
        beta_min: float | int = 0.1,
        beta_max: float | int = 20.0,
        *,
        t_min: float | int = 1e-3,
        t_max: float | int = 1.0,
    ) -> None:
        check_in_range(beta_min, "beta_min", low=0)
        check_in_range(beta_max, "beta_max", low=beta_min)
        if not 0 < t_min < t_max < math.inf:
            raise ValueError(f"t_min must lie between 0 and a finite t_max, got {t_min} and {t_max}")
        if not 0 < beta_max < math.inf:
            raise ValueError(f"beta_max must be positive and finite, got {beta_max}")
        self.beta_min, self.beta_max, self.t_min, self.t_max = beta_min, beta_max, t_min, t_max

    def log_alpha(self, t: Tensor) -> Tensor:
        """Logarithm of the signal's factor."""
        return -(self.beta_min * t + (self.beta_max - self.beta_min) * t.square() / 2) / 2

    def t_of_sigma_tilde(self, s: Tensor) -> Tensor:
        """Return the time of a canonical level."""
        integral = torch.log1p(torch.as_tensor(s, dtype=torch.float64).square())
        slope = self.beta_max - self.beta_min
        below = self.beta_min + (self.beta_min**2 + 2 * slope * integral).sqrt()
        return 2 * integral / below.clamp_min(1e-300)  # 0 at level 0, where beta_min is 0 too

    def c_noise(self, s: Shaped[Tensor, " batch"]) -> Shaped[Tensor, " batch"]:
        """Return 999 t / t_max."""
        return 999 / self.t_max * self.t_of_sigma_tilde(s)


@checked
class VE(Schedule):
    """Variance exploding: the level grows geometrically with t in [0, 1]."""

    def __init__(self, sigma_min: float | int = 0.01, sigma_max: float | int = 50.0) -> None:
        self.low, self.high = _ordered(sigma_min, sigma_max)

    def level(self, t: Tensor) -> Tensor:
        """Return the canonical level."""
        return self.low * (self.high / self.low) ** t

    def t_of_sigma_tilde(self, s: Tensor) -> Tensor:
        """Return the time of a canonical level."""
        return (torch.as_tensor(s, dtype=torch.float64) / self.low).log() / math.log(self.high / self.low)


@checked
class EDM(Schedule):
    r"""The level is the time; training draws :math:`\ln \sigma \sim N(P_{mean}, P_{std}^2)`.

    Parameters
    ----------
    rho : float
        Steps are even in ``sigma ** (1 / rho)``: larger values put more of them at low noise.
    """

    def __init__(
        self,
        sigma_min: float | int = 0.002,
        sigma_max: float | int = 80.0,
        rho: float | int = 7.0,
        *,
        P_mean: float | int = -1.2,
        P_std: float | int = 1.2,
    ) -> None:
        self.t_min, self.t_max = _ordered(sigma_min, sigma_max)
        self.rho = float(check_in_range(rho, "rho", low=1))
        self.P_mean = float(check_in_range(P_mean, "P_mean"))
        self.P_std = float(check_in_range(P_std, "P_std", low=0))
        for value, name in ((self.rho, "rho"), (self.P_mean, "P_mean"), (self.P_std, "P_std")):
            if math.isinf(value):
                raise ValueError(f"{name} must be finite, got {value}")

    def level(self, t: Tensor) -> Tensor:
        """Return the canonical level: t itself."""
        return t

    def t_of_sigma_tilde(self, s: Tensor) -> Tensor:
        """Return the time of a canonical level: the level itself."""
        return torch.as_tensor(s, dtype=torch.float64)

    def levels(self, u: Float[Tensor, " ..."]) -> Float[Tensor, " ..."]:
        """Return canonical levels for training, from uniform numbers."""
        return (self.P_mean + self.P_std * torch.special.ndtri(_precise(u))).exp()

    def share_below(self, s: Float[Tensor, " ..."]) -> Float[Tensor, " ..."]:
        """Return the share of training's levels below canonical ones; with ``P_std=0`` a step."""
        above_mean = _precise(s).log() - self.P_mean
        return torch.special.ndtr((above_mean / self.P_std).nan_to_num(0.0))  # 0/0: none is below

    def sigmas(self, n: int) -> Float[Tensor, " steps"]:
        """Return n + 1 canonical levels, from the largest down to 0, for n steps of a sampler."""
        check_in_range(n, "the number of steps", low=2, integer=True)
        ends = self.t_max ** (1 / self.rho), self.t_min ** (1 / self.rho)
        steps = torch.linspace(*ends, n, dtype=torch.float64) ** self.rho
        return torch.cat([steps, steps.new_zeros(1)])


@checked
class DiscreteVP(Schedule):
    """Variance preserving over whole steps t = 0 ... T - 1; between them the logarithm of the level is linear.

    Parameters
    ----------
    T : int
        Steps.
    kind : {"linear", "cosine", "quad"}
        Of the betas: even from ``beta_start`` to ``beta_end``, even in their roots, or such that alpha^2 follows a
        squared cosine (the betas at most 0.999).
    betas : Tensor, optional
        Given one by one instead, shape (T,), each in (0, 1).
    """

    def __init__(
        self,
        T: int = 1000,
        kind: str = "linear",
        beta_start: float | int = 1e-4,
        beta_end: float | int = 0.02,
        *,
        betas: Float[Tensor, " T"] | None = None,
    ) -> None:
        check_in_range(T, "T", low=2, integer=True)
        check_choice(kind, ("linear", "cosine", "quad"), "kind")
        if betas is None and kind == "cosine":
            angles = (torch.arange(T + 1, dtype=torch.float64) / T + 0.008) / 1.008 * math.pi / 2
            bars = angles.cos().square()
            betas = (1 - bars[1:] / bars[:-1]).clamp(max=0.999)
        elif betas is None:
            check_in_range(beta_start, "beta_start", low=0.0, high=1.0)
            check_in_range(beta_end, "beta_end", low=beta_start, high=1.0)
            root = 0.5 if kind == "quad" else 1.0
            betas = torch.linspace(beta_start**root, beta_end**root, T, dtype=torch.float64) ** (1 / root)
        if len(betas) < 2 or not bool(((betas > 0) & (betas < 1)).all()):
            raise ValueError(
                "every beta must lie between 0 and 1, both excluded, and there must be two or more"
            )
        self.betas = betas.double()
        self._log_level = torch.expm1(-torch.log1p(-self.betas).cumsum(0)).log() / 2
        self.t_max = float(len(betas) - 1)

    def log_alpha(self, t: Tensor) -> Tensor:
        """Logarithm of the signal's factor."""
        return -torch.log1p(self.level(t).square()) / 2

    def level(self, t: Tensor) -> Tensor:
        """Return the canonical level."""
        table = self._log_level.to(t.device)
        low = t.detach().floor().long().clamp(0, len(table) - 2)
        return (table[low] + (t - low) * (table[low + 1] - table[low])).exp()

    def t_of_sigma_tilde(self, s: Tensor) -> Tensor:
        """Return the (broken) step of a canonical level."""
        logs = torch.as_tensor(s, dtype=torch.float64).log()
        table = self._log_level.to(logs.device)
        at = torch.searchsorted(table, logs.contiguous()).clamp(1, len(table) - 1)
        low, high = table[at - 1], table[at]
        return (at - 1 + (logs - low) / (high - low)).clamp(0, len(table) - 1)

    def levels(self, u: Float[Tensor, " ..."]) -> Float[Tensor, " ..."]:
        """Return canonical levels for training, from uniform numbers: those of whole steps."""
        steps = (_precise(u) * len(self.betas)).long().clamp(max=len(self.betas) - 1)
        return self._log_level.to(u.device)[steps].exp()

    def share_below(self, s: Float[Tensor, " ..."]) -> Float[Tensor, " ..."]:
        """Return the share of steps whose level is below canonical ones."""
        logs = _precise(s).log().contiguous()
        return torch.searchsorted(self._log_level.to(logs.device), logs).double() / len(self.betas)

    def c_noise(self, s: Shaped[Tensor, " batch"]) -> Shaped[Tensor, " batch"]:
        """Return the step."""
        return self.t_of_sigma_tilde(s)


@checked
class Flow(Schedule):
    """Straight lines :math:`(1 - t) x_0 + t n`, for t from t_min to t_max, short of pure noise."""

    def __init__(self, *, t_min: float | int = 1e-3, t_max: float | int = 0.999) -> None:
        if not 0 < t_min < t_max < 1:
            raise ValueError(f"t_min and t_max must rise within (0, 1), got {t_min} and {t_max}")
        self.t_min, self.t_max = float(t_min), float(t_max)

    def log_alpha(self, t: Tensor) -> Tensor:
        """Logarithm of the signal's factor."""
        return torch.log1p(-t)

    def level(self, t: Tensor) -> Tensor:
        """Return the canonical level."""
        return t / (1 - t)

    def t_of_sigma_tilde(self, s: Tensor) -> Tensor:
        """Return the time of a canonical level."""
        s = torch.as_tensor(s, dtype=torch.float64)
        return s / (1 + s)

    def c_noise(self, s: Shaped[Tensor, " batch"]) -> Shaped[Tensor, " batch"]:
        """Return 999 t."""
        return 999 * self.t_of_sigma_tilde(s)


def _ordered(low: float | int, high: float | int) -> tuple[float, float]:
    if not check_in_range(low, "sigma_min", low=0) > 0:
        raise ValueError(f"sigma_min must be positive, got {low}")
    if not check_in_range(high, "sigma_max", low=0) > low or math.isinf(high):
        raise ValueError(f"sigma_max must be finite and above sigma_min={low}, got {high}")
    return float(low), float(high)


_NAMED = {"edm": EDM, "vp": VP, "ve": VE, "ddpm": DiscreteVP, "flow": Flow}


def schedule_named(schedule: str | Schedule) -> Schedule:
    """Return a schedule, or the default one of a name: "edm", "vp", "ve", "ddpm" or "flow"."""
    if isinstance(schedule, Schedule):
        return schedule
    return _NAMED[check_choice(schedule, tuple(_NAMED), "schedule")]()
