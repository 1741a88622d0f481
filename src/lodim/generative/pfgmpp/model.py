r"""PFGM++: data as electric charges in D further dimensions, whose field lines carry noise to data.

Put the data's N numbers into the plane z = 0 of N + D dimensions. The field of these charges depends on z only through
:math:`r = |z|`, and its lines are a flow between noise at a large r and the data at r = 0:

.. math:: E(x, r) \propto \int \frac{(x - y,\, r)}{(|x - y|^2 + r^2)^{(N + D) / 2}}\, p(y)\, dy, \qquad
          \frac{dx}{dr} = \frac{E_x}{E_r} = \frac{x - \mathbb{E}[y \mid x, r]}{r}.

The mean is over data seen through the kernel :math:`p_r(x \mid y) \propto (|x - y|^2 + r^2)^{-(N + D) / 2}`. So it is
learnt as any denoiser's: add noise, ask for the data back. At :math:`r = \sigma \sqrt{D}` the kernel is a multivariate
t distribution of D degrees of freedom and scale :math:`\sigma`, as D grows the normal one, and the flow is
:math:`dx / d\sigma = (x - D_\theta(x, \sigma)) / \sigma` for every D. Schedule, preconditioning, loss and samplers are
those of :class:`~lodim.generative.Diffusion`; what differs is the noise, hence also what sampling begins with.

=============================================================  =======================================================
symbol in the paper                                            name here
=============================================================  =======================================================
N, D                                                           numbers of a sample, ``D``
:math:`\sigma = r / \sqrt{D}`                                  levels, in the data's unit
:math:`p_r(x \mid y)`                                          :class:`PoissonKernel`
:math:`f_\theta = \sqrt{D} E_x / E_r = (x - D_\theta)/\sigma`  ``denoiser.eps``
D = 1 (PFGM), :math:`D \to \infty` (diffusion)                 ``D=1``, ``D=float("inf")``, which is ``Diffusion``
=============================================================  =======================================================

Source: Y. Xu and others, arXiv 2302.04265: sections 3.1 and 3.2, theorem 4.1, appendix B.

Departures. The kernel is drawn as :math:`\sigma n \sqrt{D / \chi^2_D}`, which has the paper's law, a uniform direction
times :math:`R = r \sqrt{B / (1 - B)}` with B from Beta(N/2, D/2), at one gamma draw a sample; nothing is clipped unless
``beta_clip`` says so (the authors' code keeps B in [0.001, 0.999], which with N = 2 changes 3 % of all draws). With
D <= 2 the kernel has no variance and plain preconditioning fails: see :class:`NormDenoiser`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from scipy.special import betaincinv, betaln, gammaincinv, gammaln
from torch import Tensor, nn

from lodim.generative.denoiser import Condition, Denoiser, EmpiricalDenoiser, as_levels
from lodim.generative.diffusion import Diffusion
from lodim.generative.losses import gaussian, normal
from lodim.generative.samplers import unwrapped
from lodim.randomness import RandomState, torch_draws
from lodim.validation import check_in_range, checked, warn

__all__ = ["PFGMPP", "EmpiricalPoissonDenoiser", "NormDenoiser", "PoissonKernel"]

_LEAST, _LEAST_SHARE = 0.01, 0.01
_FARTHEST = 1e30  # levels that sampling begins within, for single precision
_HEAVY, _LEARNABLE = 2, 4  # the kernel has a variance above the one; learnt fields work from the other on


def _check_dimensions(D: float | int) -> float:
    if not check_in_range(D, "D") >= _LEAST:
        raise ValueError(
            f"D must be at least {_LEAST} (any number, or infinity for diffusion), got {D}; radii of a smaller one "
            "exceed single precision"
        )
    return float(D)


@checked
class PoissonKernel(nn.Module):
    r"""The noise of PFGM++: multivariate t of D degrees of freedom and scale :math:`\sigma = r / \sqrt{D}`.

    Its variance in each coordinate is :math:`\sigma^2 D / (D - 2)` for D > 2. D is in the ``state_dict``.

    Parameters
    ----------
    D : float
        Extra dimensions, any number from 0.01; infinity is normal noise, draw for draw. Below 0.2 radii now and then
        exceed single precision.
    beta_clip : float, optional
        Keep :math:`B = R^2 / (R^2 + r^2)` in [beta_clip, 1 - beta_clip].
    """

    def __init__(self, D: float | int = 2048, *, beta_clip: float | int | None = None) -> None:
        super().__init__()
        self.D, self.beta_clip = _check_dimensions(D), beta_clip
        if beta_clip is not None and not 0 <= check_in_range(beta_clip, "beta_clip") < 0.5:
            raise ValueError(f"beta_clip must be at least 0 and below 1/2, got {beta_clip}")

    def forward(self, like: Tensor, levels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw noise shaped as ``like``, for one level a sample; angles and radii come from the generator."""
        if math.isinf(self.D):
            return gaussian(like, levels, generator)
        n = normal(like, generator)
        device = like.device if generator is None else generator.device
        half = torch.full((len(like),), self.D / 2, dtype=torch.float64, device=device)
        # torch's Gamma and Beta distributions would ignore the generator
        gamma = torch._standard_gamma(half, generator).to(like.device).reshape(-1, *[1] * (like.ndim - 1))
        stretch = (self.D / 2 / gamma).sqrt()
        if self.beta_clip:
            r2 = n.double().square().sum(tuple(range(1, like.ndim)), keepdim=True)
            b = (r2 / (r2 + 2 * gamma)).clamp(self.beta_clip, 1 - self.beta_clip)
            stretch = (self.D * b / (1 - b) / r2).sqrt()
        return levels * stretch.to(levels.dtype) * n

    def log_prob(
        self, displacement: Float[Tensor, "batch ..."], sigma: float | int | Shaped[Tensor, " ..."]
    ) -> Float[Tensor, " batch"]:
        """Return the log density of x - y, in float64; that of the kernel without clipping."""
        flat = displacement.double().flatten(1)
        level, N = as_levels(sigma, flat).double().squeeze(1), flat.shape[1]
        d2 = flat.square().sum(1) / level.square()
        if math.isinf(self.D):
            return -d2 / 2 - N / 2 * math.log(2 * math.pi) - N * level.log()
        # the difference of two log gammas, of large numbers when D is, through the beta function
        norm = float(gammaln(N / 2) - betaln(N / 2, self.D / 2)) - N / 2 * math.log(math.pi * self.D)
        return norm - N * level.log() - (N + self.D) / 2 * torch.log1p(d2 / self.D)

    def max_radius(self, N: int, share: float | int) -> float:
        r"""Return the radius, in units of :math:`\sigma`, within which this share of the noise lies."""
        check_in_range(share, "share", low=0)
        if share >= 1:
            return math.inf
        if math.isinf(self.D):
            return math.sqrt(2 * gammaincinv(N / 2, share))
        # B or 1 - B, whichever is small: the other would lose its digits
        b, rest = float(betaincinv(N / 2, self.D / 2, share)), float(betaincinv(self.D / 2, N / 2, 1 - share))
        b, rest = (b, 1 - b) if b < 0.5 else (1 - rest, rest)
        if self.beta_clip:
            b = min(max(b, self.beta_clip), 1 - self.beta_clip)
            rest = 1 - b
        return math.sqrt(self.D) * math.sqrt(b / rest) if rest else math.inf

    def get_extra_state(self) -> Tensor:
        """Return D for the ``state_dict``; as a buffer it would follow the module into half precision."""
        return torch.tensor(self.D, dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Take D from a ``state_dict``."""
        self.D = float(state)

    def extra_repr(self) -> str:
        """Return D as text."""
        return f"D={self.D:g}"


@checked
class EmpiricalPoissonDenoiser(EmpiricalDenoiser):
    r"""The exact denoiser of a finite set: weights :math:`\propto (|x - y_i|^2 + r^2)^{-(N + D) / 2}`, in float64.

    Its flow is that of the charges themselves. Infinite D is :class:`~lodim.generative.EmpiricalDenoiser`.

    Parameters
    ----------
    Y : Tensor, shape (n, ...)
    D : float
    chunk : int
        Numbers of the weights' matrix held at once.
    """

    def __init__(self, Y: Float[Tensor, "n ..."], D: float | int, *, chunk: int = 2**24) -> None:
        super().__init__(Y, chunk=chunk)
        self.D = _check_dimensions(D)

    def log_weights(self, d2: Tensor, sigma: Tensor) -> Tensor:
        """Log weights, up to a constant, from squared distances (batch, n) and levels (batch, 1)."""
        if math.isinf(self.D):
            return super().log_weights(d2, sigma)
        N = self.Y[0].numel()
        return -(N + self.D) / 2 * torch.log1p(d2 / (self.D * sigma.square()))


@checked
class NormDenoiser(Denoiser):
    r"""EDM's preconditioning at the size that the noise has, not at the one that its level says.

    Under heavy tails x is at times far larger than :math:`\sigma`, and :math:`c_{skip} x` with it. Here the factors are
    those of :math:`s_{eff} = \max(\sigma, |x - \mathrm{center}| / \sqrt{N})`, and the network is told both levels:
    s_eff as usual, sigma as ``cond["vector"]`` (so it needs ``cond_dim=1``). It prevents samples that run away, no
    more: learnt fields of D = 1 stay poor.
    """

    def forward(
        self,
        x: Float[Tensor, "batch ..."],
        sigma: float | int | Shaped[Tensor, " ..."],
        cond: Condition | None = None,
    ) -> Float[Tensor, "batch ..."]:
        """Return the mean of the data given noisy samples."""
        s = as_levels(sigma, x)
        size = (x - self.center).double().flatten(1).square().mean(1).sqrt().reshape(s.shape)
        told = (s / self.scale).log().reshape(-1, 1) / 4
        return super().forward(x, torch.maximum(s, size.to(s.dtype)), {**(cond or {}), "vector": told})


@checked
class PFGMPP(Diffusion):
    """A generative model of arrays or images with one knob more than :class:`~lodim.generative.Diffusion`.

    Parameters
    ----------
    net, shape
        As of :class:`~lodim.generative.Diffusion`. With ``precond="norm"`` a net of your own needs ``cond_dim=1``.
    D : float
        Extra dimensions: small ones forgive errors of the network while sampling, large ones are easier to learn.
        Infinity is diffusion itself, bit for bit.
    precond : str
        As of :class:`~lodim.generative.Denoiser`, or "norm" (:class:`NormDenoiser`). "auto": "norm" for D <= 2, else
        the schedule's own.
    beta_clip : float, optional
        As of :class:`PoissonKernel`, while training and sampling.
    max_radius_quantile : float, optional
        Sampling begins within the radius that this share (from 0.01) of the noise lies in, drawn again where it does
        not. Default: 0.999 for D <= 2, else all of it.
    **options
        Those of :class:`~lodim.generative.Diffusion`.

    Warns
    -----
    UserWarning
        D below 4, where networks seldom learn the field.

    Examples
    --------
    >>> X = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    >>> model = PFGMPP(shape=2, D=64, random_state=0).fit(X, steps=20)
    >>> model.sample(4, generator=0).shape
    torch.Size([4, 2])
    """

    def __init__(
        self,
        net: nn.Module | None = None,
        shape: int | Sequence[int] = (2,),
        D: float | int = 2048,
        *,
        precond: str = "auto",
        beta_clip: float | int | None = None,
        max_radius_quantile: float | int | None = None,
        **options: Any,
    ) -> None:
        kernel = PoissonKernel(D, beta_clip=beta_clip)
        by_norm = precond == "norm" or (precond == "auto" and kernel.D <= _HEAVY)
        if by_norm and options.get("cond_dim"):
            raise ValueError(
                "precond='norm' tells the network a number of its own: give classes, not cond_dim"
            )
        if kernel.D < _LEARNABLE:
            warn(f"D={D:g}: networks seldom learn fields of fewer than 4 extra dimensions; take 16 or more")
        own = None if by_norm or precond == "auto" else precond
        super().__init__(
            net, shape, precond=own, kernel=kernel, **{**options, "cond_dim": 1} if by_norm else options
        )
        if by_norm:
            self.cond_dim, plain = 0, self.denoiser
            self.denoiser = NormDenoiser(
                plain.net, "edm", float(plain.sigma_data), self.schedule, center=plain.center
            )
        if (
            max_radius_quantile is not None
            and not _LEAST_SHARE <= check_in_range(max_radius_quantile, "max_radius_quantile") <= 1
        ):
            raise ValueError(
                f"max_radius_quantile must be from {_LEAST_SHARE} to 1, got {max_radius_quantile}: what lies outside "
                "is drawn again"
            )
        self.max_radius_quantile = max_radius_quantile

    @property
    def D(self) -> float:
        """Extra dimensions."""
        return self.kernel.D  # type: ignore[no-any-return, attr-defined]

    def prior(self, n: int, sigma: float, generator: torch.Generator | RandomState = None) -> Tensor:
        """Draw what sampling begins with: the kernel's noise of a level, around the data's centre."""
        source = torch_draws(generator)
        x = super().prior(n, sigma, source)
        share = self.max_radius_quantile or (0.999 if self.D <= _HEAVY else 1.0)
        limit = self.kernel.max_radius(math.prod(self.shape), share)  # type: ignore[attr-defined]
        limit = min(limit, _FARTHEST) if self.D <= _HEAVY else limit
        limit *= sigma * (1 + 1e-5)  # radii that beta_clip has set are on it, up to rounding
        while math.isfinite(limit):
            outside = ~((x - self.denoiser.center).double().flatten(1).norm(dim=1) <= limit)
            if not bool(outside.any()):
                break
            x[outside] = super().prior(int(outside.sum()), sigma, source)
        return x

    def sample(self, n: int, *, sampler: str | Callable[..., Tensor] = "heun", **options: Any) -> Any:
        """Draw new samples along the field's lines; options and answer as of :meth:`Diffusion.sample`.

        Raises
        ------
        ValueError
            Samplers that draw noise on their way ("ancestral", "euler_maruyama", "exponential_integrator", "pc", and
            so :meth:`inpaint`; ``churn``, ``eta``): they solve a diffusion's equation, so they need ``D=float("inf")``.
        """
        name: Any = getattr(unwrapped(sampler), "__name__", sampler)
        drawing = name in ("ancestral", "euler_maruyama", "exponential_integrator", "pc")
        own = {**getattr(sampler, "keywords", {}), **options}
        if math.isfinite(self.D) and (drawing or own.get("churn") or own.get("eta")):
            raise ValueError(
                f"sampler={name!r} adds noise on its way, which is right for D=float('inf') only; with D={self.D:g} "
                "take 'heun', 'dpmpp_2m', 'ddim' or 'euler', without churn and eta"
            )
        return super().sample(n, sampler=sampler, **options)
