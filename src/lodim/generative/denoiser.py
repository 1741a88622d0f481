r"""The one object of this room: a denoiser, :math:`D(x, \sigma) \approx E[x_0 \mid x = x_0 + \sigma n]`.

Score, noise and velocity are other words for it (M. Chen and others, arXiv 2404.07771, section 2; Tweedie's formula):

.. math:: \nabla \log p_\sigma(x) = \frac{D(x, \sigma) - x}{\sigma^2}, \qquad
          \hat n = \frac{x - D(x, \sigma)}{\sigma}.

A network F becomes a denoiser through four factors, so that its inputs and targets have unit size at every level:

.. math:: D(x, \sigma) = c_{skip}\, x + c_{out}\, F(c_{in}\, x, c_{noise}).

=============  =========================  ===============================  ======================  ==============
``precond``    :math:`c_{skip}`           :math:`c_{out}`                  :math:`c_{in}`          F predicts
=============  =========================  ===============================  ======================  ==============
``"edm"``      :math:`s^2 / (\sigma^2     :math:`\sigma s / \sqrt{\sigma^2  :math:`1 / \sqrt{      a mixture
               + s^2)`                    + s^2}`                          \sigma^2 + s^2}`
``"eps"``      1                          :math:`-\sigma`                  :math:`1 / r`           the noise
``"x0"``       0                          1                                :math:`1 / r`           the data
``"v"``        :math:`1 / r^2`            :math:`-\sigma / r`              :math:`1 / r`           a velocity
``"ve"``       1                          :math:`\sigma`                   1                       minus the noise
``"flow"``     :math:`1 / (1 + \sigma)`   :math:`-\sigma / (1 + \sigma)`   :math:`1 / (1 +         noise - data
                                                                           \sigma)`
``"blind"``    1                          -1                               1                       :math:`\sigma n`
=============  =========================  ===============================  ======================  ==============

with s = ``sigma_data`` and :math:`r^2 = 1 + \sigma^2`. What F is told of the level is the schedule's ``c_noise``; a
blind network is told nothing.

Data need not be of unit size: x is first taken to :math:`(x - \mathrm{center}) / \mathrm{scale}`, and everything a
caller gives or gets, noise levels included, is in the data's own unit.

Sources: T. Karras and others, arXiv 2206.00364, table 1; T. Salimans, J. Ho, arXiv 2202.00512 (v); Y. Lipman and
others, arXiv 2210.02747 (flow); Z. Kadkhodaie and others, arXiv 2310.02557 (blind).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from lodim.generative.schedules import Schedule
from lodim.validation import check_choice, check_in_range, checked

__all__ = [
    "Condition", "Denoiser", "EmpiricalDenoiser", "GaussianDenoiser", "MixtureDenoiser", "as_levels", "of_shape",
]  # fmt: skip

PRECONDITIONINGS = ("edm", "eps", "x0", "v", "ve", "flow", "blind")
Condition = Mapping[str, Tensor]
Level = float | int | Tensor


class _Scores(nn.Module):
    """What follows from ``forward(x, sigma, cond) -> x0_hat``, for whichever denoiser."""

    def eps(
        self, x: Float[Tensor, "batch ..."], sigma: Level, cond: Condition | None = None
    ) -> Float[Tensor, "batch ..."]:
        """Return the noise found in x, in units of ``sigma``."""
        return (x - self(x, sigma, cond)) / as_levels(sigma, x)

    def score(
        self, x: Float[Tensor, "batch ..."], sigma: Level, cond: Condition | None = None
    ) -> Float[Tensor, "batch ..."]:
        """Return the gradient of the log density of noisy data."""
        return -self.eps(x, sigma, cond) / as_levels(sigma, x)

    def v(
        self, x: Float[Tensor, "batch ..."], sigma: Level, cond: Condition | None = None
    ) -> Float[Tensor, "batch ..."]:
        r"""Return the velocity :math:`\alpha \hat n - \sigma \hat x_0` of the variance-preserving process."""
        s, x0 = as_levels(sigma, x), self(x, sigma, cond)
        return ((x - x0) / s - s * x0) / _hypot(s)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> _Scores:
        """Keep what is known of the data in float32 at least: in half precision 1000.7 is 1000."""
        own = {name: value for name, value in self._buffers.items() if value is not None}
        super()._apply(fn, recurse)
        for name, value in own.items():
            if (now := self._buffers[name]) is not None and now.dtype in (torch.float16, torch.bfloat16):
                self._buffers[name] = value.to(now.device, torch.float32)
        return self


def as_levels(sigma: Level, x: Tensor) -> Tensor:
    """Return one level a sample, shaped to multiply ``x``; not positive or not finite is a ValueError."""
    if not isinstance(sigma, Tensor):
        if not 0 < check_in_range(sigma, "sigma") < math.inf:
            raise ValueError(f"sigma must be positive and finite, got {sigma}")
        return torch.full((len(x), *[1] * (x.ndim - 1)), float(sigma), dtype=_wide(x.dtype), device=x.device)
    seen = not torch.compiler.is_compiling() and sigma.device.type == "cpu"
    if seen and not bool(((sigma > 0) & (sigma < math.inf)).all()):
        raise ValueError(f"sigma must be positive and finite, got {sigma.flatten()[:12].tolist()}")
    if sigma.numel() not in (1, len(x)):
        raise ValueError(f"sigma must be a number or one a sample ({len(x)}), got shape {tuple(sigma.shape)}")
    level = sigma.to(x.device, _wide(x.dtype)).reshape(-1).expand(len(x))
    return level.reshape(-1, *[1] * (x.ndim - 1))


def of_shape(out: Any, x: Tensor, name: str = "the denoiser") -> Tensor:
    """Return what a caller's function made of samples, if it is a tensor of their shape."""
    if not isinstance(out, Tensor):
        raise TypeError(f"{name} must return a tensor, got {type(out).__name__}")
    if out.shape != x.shape:
        raise ValueError(
            f"{name} must return the shape it is given, {tuple(x.shape)}, got shape {tuple(out.shape)}"
        )
    return out


def _hypot(s: Tensor, unit: Tensor | None = None) -> Tensor:
    """Return the root of s^2 + unit^2: levels of 1e24 occur, whose squares float32 does not hold."""
    return torch.hypot(s, torch.ones_like(s) if unit is None else unit.to(s.dtype))


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


@checked
class Denoiser(_Scores):
    """A network as a denoiser.

    Parameters
    ----------
    net : nn.Module
        ``net(x, c_noise)`` or, with a condition, ``net(x, c_noise, cond)``, of the shape of x; with ``"blind"``
        ``net(x)``. See :mod:`lodim.nets.denoisers`.
    precond : {"edm", "eps", "x0", "v", "ve", "flow", "blind"}
        What the network predicts: the table above.
    sigma_data : float
        Standard deviation of all the numbers of the data, after ``center`` and ``scale``.
    schedule : Schedule, optional
        Says how the network is told the level; by default a quarter of its logarithm.
    center, scale : Tensor or float
        Of the data: ``center`` has a sample's shape or none, ``scale`` is one positive number, so that noise stays
        equal in all directions.

    Raises
    ------
    ValueError
        Numbers out of range; on use, a level that is not positive, or a network that returns another shape.
    """

    sigma_data: Tensor
    center: Tensor
    scale: Tensor

    def __init__(
        self,
        net: nn.Module,
        precond: str = "edm",
        sigma_data: float | int = 0.5,
        schedule: Schedule | None = None,
        *,
        center: Tensor | float | int = 0.0,
        scale: float | int = 1.0,
    ) -> None:
        super().__init__()
        check_choice(precond, PRECONDITIONINGS, "precond")
        for value, name in ((sigma_data, "sigma_data"), (scale, "scale")):
            if not check_in_range(value, name) > 0 or math.isinf(value):
                raise ValueError(f"{name} must be positive and finite, got {value}")
        self.net, self.precond, self.schedule = net, precond, schedule or Schedule()
        self.register_buffer("sigma_data", torch.tensor(float(sigma_data)))
        self.register_buffer("center", torch.as_tensor(center, dtype=torch.float32).clone())
        self.register_buffer("scale", torch.tensor(float(scale)))

    def forward(
        self,
        x: Float[Tensor, "batch ..."],
        sigma: float | int | Shaped[Tensor, " ..."],
        cond: Condition | None = None,
    ) -> Float[Tensor, "batch ..."]:
        """Return the mean of the data given what noise has made of them; in float32 at least, also under autocast.

        Parameters
        ----------
        sigma : float or Tensor
            Standard deviation of the noise, one number or one a sample.
        cond : mapping, optional
            As the network takes it.
        """
        s = as_levels(sigma, x) / self.scale
        z = (x.to(s.dtype) - self.center) / self.scale
        c_skip, c_out, c_in = self._factors(s)
        inner = (c_in * z).to(_dtype_of(self.net, z.dtype))
        if self.precond == "blind":
            out = self.net(inner)
        else:
            told = self.schedule.c_noise(s.reshape(-1)).to(_wide(inner.dtype))
            out = self.net(inner, told) if cond is None else self.net(inner, told, cond)
        of_shape(out, x, "the net")
        return self.center + self.scale * (c_skip * z + c_out * out.to(z.dtype))

    def _factors(self, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return c_skip, c_out and c_in."""
        one = torch.ones_like(s)
        if self.precond == "edm":
            sd, r = self.sigma_data.to(s.dtype), _hypot(s, self.sigma_data)
            return (sd / r).square(), sd * (s / r), 1 / r
        if self.precond == "flow":
            return 1 / (1 + s), -s / (1 + s), 1 / (1 + s)
        r = _hypot(s)
        return {
            "eps": (one, -s, 1 / r),
            "x0": (0 * one, one, 1 / r),
            "v": ((1 / r).square(), -s / r, 1 / r),
            "ve": (one, s, one),
            "blind": (one, -one, one),
        }[self.precond]


def _dtype_of(net: nn.Module, default: torch.dtype) -> torch.dtype:
    """The precision in which a network computes: that of its first parameter."""
    return next((p.dtype for p in net.parameters() if p.is_floating_point()), default)


@checked
class EmpiricalDenoiser(_Scores):
    r"""The exact denoiser of a finite set: :math:`\sum_i w_i y_i`, :math:`w_i \propto e^{-|x - y_i|^2 / 2 \sigma^2}`.

    What a network with no limits would learn from these samples: its samplers give back the set itself. It serves as
    oracle and as the picture of memorisation.

    Parameters
    ----------
    Y : Tensor, shape (n, ...)
    chunk : int
        Numbers of the weights' matrix held at once.
    """

    Y: Tensor

    def __init__(self, Y: Float[Tensor, "n ..."], *, chunk: int = 2**24) -> None:
        super().__init__()
        if not len(Y) or not bool(Y.isfinite().all()):
            raise ValueError("Y must have one sample or more, all finite")
        self.chunk = int(check_in_range(chunk, "chunk", low=1, integer=True))
        self.register_buffer("Y", Y.detach().double())

    def log_weights(self, d2: Tensor, sigma: Tensor) -> Tensor:
        """Log weights, up to a constant, from squared distances (batch, n) and levels (batch, 1)."""
        return -d2 / (2 * sigma.square())

    def forward(
        self, x: Float[Tensor, "batch ..."], sigma: float | int | Shaped[Tensor, " ..."], cond: Any = None
    ) -> Float[Tensor, "batch ..."]:
        """Return the posterior means."""
        levels = as_levels(sigma, x).double().reshape(-1, 1)
        flat, rows = x.double().flatten(1), self.Y.double().flatten(1)
        parts = zip(
            flat.split(max(1, self.chunk // len(rows))), levels.split(max(1, self.chunk // len(rows)))
        )
        means = [self.weights(part, level) @ rows for part, level in parts]
        return torch.cat(means).reshape(x.shape).to(_wide(x.dtype)) if means else x.to(_wide(x.dtype))

    def weights(
        self, x: Float[Tensor, "batch d"], sigma: Float[Tensor, "batch 1"]
    ) -> Float[Tensor, "batch n"]:
        """Return the posterior over the set, for flattened samples."""
        rows = self.Y.double().flatten(1)
        middle = rows.mean(0)
        x, rows = x.double() - middle, rows - middle  # less cancels in what follows
        # torch.cdist would do, but its gradient under vmap is wrong
        d2 = x.square().sum(1, keepdim=True) + rows.square().sum(1) - 2 * x @ rows.mT
        return self.log_weights(d2.clamp_min(0), sigma.double()).softmax(1)


@checked
class GaussianDenoiser(_Scores):
    r"""The exact denoiser of N(m, C), :math:`m + C (C + \sigma^2 I)^{-1} (x - m)`: the best linear one of any data.

    Parameters
    ----------
    mean : Tensor, shape (...)
        Of a sample's shape, of d numbers in all.
    covariance : Tensor, shape (d, d)
    """

    mean: Tensor
    values: Tensor
    basis: Tensor

    def __init__(self, mean: Float[Tensor, " ..."], covariance: Float[Tensor, "d d"]) -> None:
        super().__init__()
        if mean.numel() != len(covariance):
            raise ValueError(f"mean has {mean.numel()} numbers, but covariance is {tuple(covariance.shape)}")
        if not (mean.isfinite().all() and covariance.isfinite().all()):
            raise ValueError("mean and covariance must be finite, got NaN or infinity")
        if not torch.allclose(covariance, covariance.mT, atol=1e-6 * float(covariance.abs().max())):
            raise ValueError("covariance must be symmetric")
        values, basis = torch.linalg.eigh(covariance.detach().double())
        if values[0] < -1e-8 * values[-1].abs():
            raise ValueError(f"covariance must have no negative eigenvalue, got {float(values[0]):.3g}")
        self.register_buffer("mean", mean.detach().double())
        self.register_buffer("values", values.clamp_min(0))
        self.register_buffer("basis", basis)

    @classmethod
    def fit(cls, Y: Float[Tensor, "n ..."]) -> GaussianDenoiser:
        """Take mean and covariance of samples."""
        if not len(Y):
            raise ValueError("Y must have one sample or more")
        rows = Y.detach().double().flatten(1)
        centered = rows - rows.mean(0)
        return cls(rows.mean(0).reshape(Y.shape[1:]), centered.mT @ centered / len(rows))

    def forward(
        self, x: Float[Tensor, "batch ..."], sigma: float | int | Shaped[Tensor, " ..."], cond: Any = None
    ) -> Float[Tensor, "batch ..."]:
        """Return the posterior means."""
        s2 = as_levels(sigma, x).double().reshape(-1, 1).square()
        values, basis = self.values.double(), self.basis.double()
        own = (x.double() - self.mean).flatten(1) @ basis
        back = (own * values / (values + s2)) @ basis.mT
        return (back.reshape(x.shape) + self.mean).to(_wide(x.dtype))


@checked
class MixtureDenoiser(_Scores):
    r"""The exact denoiser of a mixture of equal round Gaussians, in float64.

    Seen through more noise its modes are points: with :math:`\bar c` the mean of the centres' posterior at the level
    :math:`\sqrt{s^2 + \sigma^2}`, it is :math:`(s^2 x + \sigma^2 \bar c) / (s^2 + \sigma^2)`.

    Parameters
    ----------
    centers : Tensor, shape (m, ...)
    std : float
        Of every mode in each coordinate; 0 is :class:`EmpiricalDenoiser`.
    """

    def __init__(self, centers: Float[Tensor, "m ..."], std: float | int) -> None:
        super().__init__()
        if math.isinf(check_in_range(std, "std", low=0)):
            raise ValueError("std must be finite")
        self.modes, self.std = EmpiricalDenoiser(centers), float(std)

    def forward(
        self, x: Float[Tensor, "batch ..."], sigma: float | int | Shaped[Tensor, " ..."], cond: Any = None
    ) -> Float[Tensor, "batch ..."]:
        """Return the posterior means."""
        s2 = as_levels(sigma, x).double().square()
        total = s2 + self.std**2
        means = self.modes(x.double(), total.sqrt().reshape(-1))
        return ((self.std**2 * x.double() + s2 * means) / total).to(_wide(x.dtype))
