r"""What coarse random numbers do to draws by Gumbel-max: their exact law, and the temperature it amounts to.

Gumbel-max takes the largest of :math:`\log \pi_k + G_k`, :math:`G = -\log(-\log U)`. A uniform number of b bits is at
most :math:`1 - 2^{-b}`, so that G ends at :math:`M = -\log(-\log(1 - 2^{-b}))`: 16.6 for 24 bits. With the masses of K
categories in ascending order, :math:`\pi_0 = 0`, :math:`S_i = \sum_{k \ge i} \pi_k` and :math:`e = e^{-M}`, category n
is drawn with probability

.. math::

    P_n = \pi_n \sum_{i=1}^{n} b_i, \qquad
    b_i = \frac1{S_i} \Big[ \exp\Big((K-i+1) e - \frac{S_i e}{\pi_i}\Big)
          - \exp\Big((K-i+1) e - \frac{S_i e}{\pi_{i-1}}\Big) \Big].

Every :math:`b_i \ge 0`, hence :math:`P_n / \pi_n` grows with n: likely categories gain, as at a temperature below one.
Masses far above :math:`2^{-b}` keep their probability. A sampler of N small steps draws each token with a mass of about
1/N of its own beside that of the mask, which is why masked diffusion with many steps suffers.

=====================  =======================
paper                  here
=====================  =======================
:math:`\pi`            ``p``
:math:`P`              the value returned
:math:`M`              given by ``bits``
=====================  =======================

Source: K. Zheng and others, arXiv 2409.02908, section 5. Departures: categories of mass zero are left out; differences
of exponentials are formed without cancellation. The paper's law cuts G but leaves it continuous; numbers of b bits lie
on a grid as well, rounded down. With :math:`h = 2^{-b} / \pi` a rare category beside a large one is then drawn with
probability :math:`\pi\, h / (e^h - 1)`, not :math:`\pi\, e^{-h}`: the grid does about half the harm where h is small.
Take this law as a bound of it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq
from torch import Tensor, from_numpy

from lodim.validation import check_in_range, check_numbers, checked

__all__ = ["effective_temperature", "truncated_gumbel_probs"]


@checked
def truncated_gumbel_probs(
    p: Any, bits: int = 24
) -> Float[np.ndarray, "*batch n_categories"] | Float[Tensor, "*batch n_categories"]:
    """Return the law of Gumbel-max draws whose uniform numbers have so many bits.

    Parameters
    ----------
    p : array or Tensor, shape (..., n_categories)
        Probabilities: the law of exact draws.
    bits : int
        From 1 to 64: 24 is float32 as torch draws it, 53 float64, 11 float16, 8 bfloat16.

    Returns
    -------
    array or Tensor, as ``p``, in double precision

    Raises
    ------
    ValueError
        Rows of ``p`` that are no probabilities, or ``bits`` out of range.

    Examples
    --------
    >>> truncated_gumbel_probs(np.array([0.9, 0.09, 0.01]), bits=4).round(3)
    array([0.949, 0.051, 0.   ])
    """
    check_in_range(bits, "bits", low=1, high=64, integer=True)
    law = _probabilities(p, "p")
    order = law.argsort(-1, kind="stable")
    mass = np.take_along_axis(law, order, -1)
    e = -math.log1p(-(2.0**-bits))
    tail = mass[..., ::-1].cumsum(-1)[..., ::-1]  # S_i: from the largest down, so that no mass is lost
    active = np.arange(mass.shape[-1], 0, -1)  # K - i + 1
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        ends = e / mass
        gap = np.concatenate([np.full_like(ends[..., :1], np.inf), ends[..., :-1]], -1) - ends
        b = np.exp(e * (active - tail / mass)) * -np.expm1(-tail * gap) / tail
    gain = np.where(np.isfinite(ends), b, 0.0).cumsum(-1)
    out = np.empty_like(law)
    np.put_along_axis(out, order, mass * gain, -1)
    return from_numpy(out).to(p.device) if isinstance(p, Tensor) else out


@checked
def effective_temperature(
    p: Any,
    q: Any,
) -> float:
    r"""Return the temperature T at which :math:`p^{1/T}`, normalised, has the entropy of q.

    Below one q is sharper than p, above one softer; one where their entropies agree to twelve digits.

    Parameters
    ----------
    p, q : array or Tensor, shape (n_categories,)
        Probabilities; only the entropy of ``q`` matters.

    Raises
    ------
    ValueError
        No temperature gives this entropy: it is not between those of the likeliest categories and of all, evenly drawn.

    Examples
    --------
    >>> p = np.array([0.7, 0.2, 0.1])
    >>> round(effective_temperature(p, truncated_gumbel_probs(p, bits=4)), 2)
    0.81
    """
    first, second = (_probabilities(x, name) for x, name in ((p, "p"), (q, "q")))
    for law, name in ((first, "p"), (second, "q")):
        if law.ndim != 1:
            raise ValueError(f"{name} must be one distribution, shape (n_categories,), got shape {law.shape}")
    logits, wanted = np.log(first[first > 0]), _entropy(second)
    if abs(_entropy(first) - wanted) <= 1e-12 * max(1.0, wanted):
        return 1.0

    def excess(log_t: float) -> float:
        cooled = np.exp((logits - logits.max()) / math.exp(log_t))
        return _entropy(cooled / cooled.sum()) - wanted

    least, most = math.log(np.sum(logits == logits.max())), math.log(len(logits))
    reach = 1.0
    while reach < 64 and not excess(-reach) < 0 < excess(reach):
        reach *= 2
    if not least + 1e-12 < wanted < most - 1e-12 or reach == 64:
        raise ValueError(
            f"no temperature of p has the entropy of q, {wanted:.6g} nats: those of p lie between {least:.6g} and "
            f"{most:.6g}, the ends left out"
        )
    return math.exp(float(brentq(excess, -reach, reach, xtol=1e-13)))


def _entropy(p: Float[np.ndarray, " n"]) -> float:
    held = p[p > 0]
    return float(-np.sum(held * np.log(held)))


def _probabilities(values: Any, name: str) -> Float[np.ndarray, "*batch n_categories"]:
    """Probabilities in double precision, their rows' sums one to its last digits."""
    law = check_numbers(values, name)
    if not law.ndim or not law.shape[-1]:
        raise ValueError(f"{name} must have at least one category, got shape {law.shape}")
    sums = law.sum(-1, keepdims=True)
    # not above the tolerance but not below it: NaN is refused too
    if law.size and not (law.min() >= 0 and np.abs(sums - 1).max() <= 1e-3):
        raise ValueError(
            f"{name} must hold probabilities, numbers from 0 whose rows sum to 1; got a least of {law.min():.4g} and "
            f"sums from {sums.min():.6g} to {sums.max():.6g}. Divide by the sums, or take softmax of logits"
        )
    return law / sums
