r"""Generalisation bounds from description length: what a short model's training error certifies about new data.

The problem: n samples are drawn independently, a classifier is chosen after looking at them, and its message has K'
bits in a prefix-free code fixed beforehand. Prefix-free codes are prior distributions, P(h) >= 2^-K', so with
:math:`\mathrm{KL} = K' \ln 2` each of these holds with probability at least :math:`1 - \delta` for all h at once:

.. math::

    \text{occam} &: \hat e + \sqrt{(\mathrm{KL} + \ln\tfrac1\delta) / (2n)} \\
    \text{mcallester} &: \hat e + \sqrt{(\mathrm{KL} + \ln\tfrac1\delta + \ln n) / (2n - 1)} \\
    \text{convex} &: \frac{\hat e}{1 - \lambda/2} + \frac{C}{n \lambda (1 - \lambda/2)}, \quad
        C = \mathrm{KL} + \ln\tfrac1\delta + \ln(2\sqrt n), \quad
        \lambda = \frac{2}{1 + \sqrt{1 + 2 n \hat e / C}} \\
    \text{catoni} &: \min_{\gamma \ge 1} \frac{1 - e^{-(\gamma/n) q}}{1 - e^{-\gamma/n}}, \quad q = \hat e +
        \frac{1 + \alpha}{\gamma}\Big(\mathrm{KL} + \ln\tfrac1\delta +
        2 \ln\big(2 + \tfrac{\ln\gamma}{\ln(1 + \alpha)}\big)\Big)

None is always the tightest. ``"best"`` takes their minimum, each at :math:`\delta/4` so that all four hold together.

================================ ==============================================
symbol                           name here
================================ ==============================================
:math:`\hat e`, n, :math:`\delta` ``train_error``, ``n``, ``delta``
:math:`K'`                       ``bits`` + ``selection_bits``
:math:`\alpha`                   ``_ALPHA``, spacing of the union over gamma
================================ ==============================================

Sources: the bounds as S. Lotfi et al. use them (arXiv 2211.13609, Section 3 and appendix); catoni is Theorem 1.2.6 of
O. Catoni, "PAC-Bayesian supervised classification" (arXiv 0712.0248); convex is Thiemann et al. (arXiv 1608.05610).
Random-subspace models as short messages: arXiv 1804.08838, Section 4. Departure: the union over kinds in ``"best"``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from lodim.validation import check_choice, check_in_range, checked

__all__ = ["BOUND_KINDS", "compression_bound"]

_ALPHA = 1e-4


@checked
def compression_bound(
    train_error: Any,
    bits: Any,
    n: Any,
    *,
    delta: float = 0.05,
    kind: str = "catoni",
    selection_bits: int | float = 0.0,
) -> float:
    """Upper bound on the error on new data, from the training error and the model's length in bits.

    Parameters
    ----------
    train_error : float
        Share of the n samples on which *the coded model* errs, in [0, 1].
    bits : float
        Length of the model in a prefix-free code: for a plain message of K bits pass
        :func:`~lodim.landscape.code_lengths.prefix_free_bits` ``(K)``.
    n : int
        Samples, drawn independently from the distribution that the bound speaks of.
    delta : float
        Probability, over the samples, that the bound is wrong.
    kind : {"catoni", "occam", "convex", "mcallester", "best"}
        Which bound; ``"best"`` is the least of the four, each at a quarter of ``delta``.
    selection_bits : float
        log2 of the number of configurations tried on the same samples (seeds, d, levels, learning rates): choosing
        among them is part of the description.

    Returns
    -------
    float
        At most 1: beyond that a bound says nothing.

    Raises
    ------
    ValueError, TypeError
        Error outside [0, 1], negative bits, n below 1, delta outside (0, 1), unknown kind.
    """
    error = float(check_in_range(train_error, "train_error", low=0.0, high=1.0))
    total = float(check_in_range(bits, "bits", low=0.0))
    total += float(check_in_range(selection_bits, "selection_bits", low=0.0))
    n = int(check_in_range(n, "n", low=1, integer=True))
    check_in_range(delta, "delta", low=0.0, high=1.0)
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie strictly between 0 and 1, got {delta}")
    check_choice(kind, (*_KINDS, "best"), "kind")
    nats = total * math.log(2)
    if kind == "best":
        bound = min(f(error, nats - math.log(delta / len(_KINDS)), n) for f in _KINDS.values())
    else:
        bound = _KINDS[kind](error, nats - math.log(delta), n)
    return min(bound, 1.0)


def _occam(error: float, nats: float, n: int) -> float:
    return error + math.sqrt(nats / (2 * n))


def _mcallester(error: float, nats: float, n: int) -> float:
    return error + math.sqrt((nats + math.log(n)) / (2 * n - 1))


def _convex(error: float, nats: float, n: int) -> float:
    cost = nats + math.log(2 * math.sqrt(n))
    lam = 2 / (1 + math.sqrt(1 + 2 * n * error / cost))
    return error / (1 - lam / 2) + cost / (n * lam * (1 - lam / 2))


def _catoni(error: float, nats: float, n: int) -> float:
    """The least over gamma >= 1; ``log_gamma`` is searched on a grid, then refined beside the grid's best."""

    def bound(log_gamma: Any) -> Any:
        gamma = np.exp(log_gamma)
        grid_cost = 2 * np.log(2 + log_gamma / math.log1p(_ALPHA))
        q = error + (1 + _ALPHA) / gamma * (nats + grid_cost)
        return np.expm1(-gamma / n * q) / np.expm1(-gamma / n)

    # Beyond gamma = 40 n the denominator is 1 to double precision and the bound only grows.
    grid = np.linspace(0.0, math.log(40.0 * n), 400)
    best = int(np.argmin(bound(grid)))
    ends = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
    refined = minimize_scalar(bound, bounds=ends, method="bounded", options={"xatol": 1e-10})
    return float(min(refined.fun, bound(grid[best])))


_KINDS: dict[str, Callable[[float, float, int], float]] = {
    "catoni": _catoni,
    "occam": _occam,
    "convex": _convex,
    "mcallester": _mcallester,
}
BOUND_KINDS: tuple[str, ...] = tuple(_KINDS)
