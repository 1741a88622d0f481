r"""Log likelihoods of decoder models ``x = f(z) + sigma e``, ``z ~ N(0, I)``: two bounds and the sum over a grid.

.. math::
    \mathrm{ELBO} &= \mathbb{E}_{q(z|x)} \log N(x; f(z), \sigma^2 I) - \mathrm{KL}(q(z|x) \,|\, N(0, I)) \\
    \mathrm{IWAE}_K &= \log \frac1K \sum_k \frac{N(x; f(z_k), \sigma^2 I) N(z_k; 0, I)}{q(z_k|x)},
        \qquad z_k \sim q(z|x) \\
    \mathrm{grid}_M &= \log \frac1M \sum_j N(x; f(z_j), \sigma^2 I),
        \qquad z_j = \Phi^{-1}\big((j + U_j) / M\big)

In expectation ELBO <= IWAE_K <= IWAE_(K+1) <= log p(x), of which the third line is an unbiased estimate before the
logarithm. q is a Gaussian with a diagonal covariance.

Sources: D. P. Kingma, M. Welling, arXiv 1312.6114; Y. Burda, R. Grosse, R. Salakhutdinov, arXiv 1509.00519.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from lodim.validation import check_in_range, checked

__all__ = ["gaussian_vae_elbo", "grid_log_likelihood", "grid_log_weights", "iwae_bound", "stratified_latents"]

_LOG_2PI = math.log(2 * math.pi)
Deviation = Float[Tensor, ""] | float | int


def _log_normal(x: Tensor, mean: Tensor, log_sigma: Tensor) -> Tensor:
    """Sum over the last axis of log N(x; mean, sigma^2)."""
    z = (x - mean) * (-log_sigma).exp()
    return -0.5 * z.square().sum(-1) - (log_sigma + 0.5 * _LOG_2PI).expand_as(z).sum(-1)


def _check_dim(x: Tensor, points: Tensor) -> None:
    if points.shape[-1] != x.shape[-1]:
        raise ValueError(
            f"the decoder must return {x.shape[-1]} numbers a point, as x has, got {points.shape[-1]}"
        )


def _log_decoder(x: Tensor, mean: Tensor, sigma: Tensor | float) -> Tensor:
    """The same for one deviation of all columns: no column's own sum is needed."""
    _check_dim(x, mean)
    sigma = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
    constant = x.shape[-1] * (sigma.log() + 0.5 * _LOG_2PI)
    return (x - mean).square().sum(-1) * (-0.5 / sigma.square()) - constant


@checked
def gaussian_vae_elbo(
    x: Float[Tensor, "batch dim"],
    reconstruction: Float[Tensor, "batch dim"],
    sigma: Deviation,
    mean: Float[Tensor, "batch latent"],
    log_var: Float[Tensor, "batch latent"],
) -> Float[Tensor, " batch"]:
    """Evidence lower bound of every row, in nats, with the divergence from the prior in closed form.

    Parameters
    ----------
    reconstruction : Tensor
        f(z) of one draw z from q.
    sigma : Tensor or float
        The decoder's standard deviation.
    mean, log_var : Tensor
        Of q(z|x).
    """
    divergence = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(-1)
    return _log_decoder(x, reconstruction, sigma) - divergence


@checked
def iwae_bound(
    x: Float[Tensor, "batch dim"],
    reconstructions: Float[Tensor, "k batch dim"],
    sigma: Deviation,
    z: Float[Tensor, "k batch latent"],
    mean: Float[Tensor, "batch latent"],
    log_var: Float[Tensor, "batch latent"],
) -> Float[Tensor, " batch"]:
    """Importance-weighted bound of every row, in nats, from k draws of q; of one draw, an ELBO without closed forms."""
    prior = _log_normal(z, torch.zeros_like(z), torch.zeros_like(log_var))
    log_weights = _log_decoder(x, reconstructions, sigma) + prior - _log_normal(z, mean, 0.5 * log_var)
    return log_weights.logsumexp(0) - math.log(len(z))


@checked
def grid_log_weights(
    x: Float[Tensor, "batch dim"], points: Float[Tensor, "m dim"], sigma: Deviation
) -> Float[Tensor, "batch m"]:
    """``log N(x; f(z_j), sigma^2 I) - log M`` of all pairs; in a row its softmax is the posterior over the grid.

    Squared distances come from one matrix product: in single precision their error, about 1e-7 of the data's squared
    spread, must be small against ``sigma^2``.
    """
    _check_dim(x, points)
    sigma = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
    rate = -0.5 / sigma.square()
    centre = points.detach().mean(0)  # cancels less
    x, points = x - centre, points - centre
    sides = rate * (x.square().sum(1, keepdim=True) + points.square().sum(1))
    constant = x.shape[1] * (sigma.log() + 0.5 * _LOG_2PI) + math.log(len(points))
    return torch.addmm(sides - constant, x * (-2 * rate), points.T)


@checked
def grid_log_likelihood(
    x: Float[Tensor, "batch dim"], points: Float[Tensor, "m dim"], sigma: Deviation
) -> Float[Tensor, " batch"]:
    """Log density of every row, in nats, under the equal mixture of normal laws at the points f(z_j)."""
    return grid_log_weights(x, points, sigma).logsumexp(1)


@checked
def stratified_latents(
    m: int,
    latent_dim: int,
    *,
    generator: torch.Generator | None = None,
    jitter: bool = True,
    dtype: torch.dtype = torch.float64,
) -> Float[Tensor, "m latent_dim"]:
    """One standard normal point from each of m cells of equal probability (of a square: the nearest square number).

    ``jitter=False`` takes the cells' middles.

    Raises
    ------
    ValueError
        More than two latent dimensions, where a grid has too many cells.
    """
    check_in_range(m, "m", low=1, integer=True)
    check_in_range(latent_dim, "latent_dim", low=1, high=2, integer=True)
    side = round(m ** (1 / latent_dim))
    corners = torch.cartesian_prod(*[torch.arange(side, dtype=dtype)] * latent_dim).view(-1, latent_dim)
    inside = torch.rand(corners.shape, generator=generator, dtype=dtype) if jitter else 0.5
    uniform = (corners + inside) / side
    return torch.special.ndtri(uniform.clamp(torch.finfo(dtype).tiny, 1 - torch.finfo(dtype).eps))
