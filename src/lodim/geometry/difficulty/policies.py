r"""The bits of inductive bias of policies, in closed form (arXiv 2305.01034, reinforcement learning).

Observations of known range lie on a torus, whose functions of frequency below :math:`2 \pi / \delta` are counted by
the volume of a ball; everything else is as in :mod:`lodim.geometry.difficulty.formula`.
"""

from __future__ import annotations

import math

from scipy.special import gammaln

from lodim.geometry.difficulty.formula import LN2, Difficulty, Number, bits_of
from lodim.validation import check_counts, check_in_range, checked


@checked
def rl_difficulty(
    obs_dim: Number, act_dim: Number, n: Number = 1e6, delta: Number = 1e-3, eps: Number = 1e-3
) -> Difficulty:
    r"""Bits for a policy on observations of known range: the MuJoCo tasks.

    .. math::

        D \left(2 \left(\tfrac{2 \pi}{\delta}\right)^m \frac{\pi^{m/2}}{\Gamma(m/2 + 1)} - n\right)
        \left(\log_2 \tfrac{4 \pi^2}{\sqrt 6} + \log_2 D + \tfrac12 \log_2 m - \log_2 \delta - \tfrac1m \log_2 n
        - \log_2 \epsilon\right)

    Parameters
    ----------
    obs_dim : int
        m, numbers in an observation.
    act_dim : int
        D, numbers in an action.
    n : float
        Steps seen.
    delta, eps : float
        Resolution, wanted error.

    Raises
    ------
    ValueError
        Dimensions below 1, or another number that is not positive.

    Examples
    --------
    >>> print(f"{rl_difficulty(6, 2).bits:.2e}")  # Reacher
    2.91e+25
    """
    check_counts(obs_dim=obs_dim, act_dim=act_dim)
    constant = 4 * math.pi**2 / math.sqrt(6)
    return _torus_difficulty(obs_dim, n, delta, eps, math.log(act_dim), constant * act_dim)


@checked
def cartpole_difficulty(
    n_observations: Number, n: Number = 1e4, delta: Number = 1e-3, eps: Number = 1e-3
) -> Difficulty:
    r"""Bits for balancing a pole whose speeds are not seen, from T observations of its two positions.

    .. math::

        \left(2 \left(\tfrac{2 \pi}{\delta}\right)^{2T} \frac{\pi^T}{\Gamma(T + 1)} - n\right)
        \left(\log_2 \tfrac{4 \pi^2}{\sqrt 3} + \tfrac12 \log_2 T - \log_2 \delta - \tfrac{1}{2T} \log_2 n
        - \log_2 \epsilon\right)

    Parameters
    ----------
    n_observations : int
        T.
    n, delta, eps : float
        As in :func:`rl_difficulty`.

    Raises
    ------
    ValueError
        A number that is not positive.

    Examples
    --------
    >>> print(f"{cartpole_difficulty(2).bits:.2e}")
    3.33e+17
    """
    check_in_range(n_observations, "n_observations", low=1, integer=True)
    constant = 4 * math.pi**2 / math.sqrt(6)  # sqrt(m / 6) with m = 2 T is sqrt(T / 3)
    return _torus_difficulty(2 * n_observations, n, delta, eps, 0.0, constant)


def _torus_difficulty(
    m: Number, n: Number, delta: Number, eps: Number, ln_outputs: Number, constant: Number
) -> Difficulty:
    """A basis of the frequencies in a ball of radius 2 pi / delta."""
    for name, value in (("n", n), ("delta", delta), ("eps", eps)):
        if not (check_in_range(value, name) > 0 and math.isfinite(value)):
            raise ValueError(f"{name} must be a positive number, got {value!r}")
    ln_basis = float(m * math.log(2 * math.pi / delta) + m / 2 * math.log(math.pi) - gammaln(m / 2 + 1))
    log2_ratio = math.log2(constant) + math.log2(m) / 2 - math.log2(delta) - math.log2(n) / m - math.log2(eps)
    return bits_of(None, eps, math.nan, ln_basis, ln_outputs, LN2 + ln_basis, math.log(n), log2_ratio)
