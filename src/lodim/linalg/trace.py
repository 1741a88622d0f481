r"""The trace of a matrix known only by its products: Hutchinson's estimator.

For any square :math:`A` and a random vector of independent signs :math:`z \in \{-1, +1\}^n` (a Rademacher probe),

.. math:: \mathbb{E}\, z^\top A z = \operatorname{tr} A, \qquad
          \operatorname{Var} z^\top A z = \tfrac12 \sum_{i \ne j} (A_{ij} + A_{ji})^2 ,

so a diagonal matrix is known after one probe, and signs have less variance than Gaussian probes (:math:`2 \|A\|_F^2`
for a symmetric matrix). One probe also serves all diagonal blocks at once,
:math:`\mathbb{E}\, z_b^\top (A z)_b = \operatorname{tr} A_{bb}`, at the price of the variance that the entries beside
the block bring.

==================================  ==========================================
Symbol                              Here
==================================  ==========================================
:math:`z \mapsto A z`               ``product``
:math:`\operatorname{tr} A_{bb}`    ``TraceEstimate.trace[b]``
number of probes m                  ``TraceEstimate.n_probes``
==================================  ==========================================

References
----------
M. F. Hutchinson, A stochastic estimator of the trace of the influence matrix for Laplacian smoothing splines,
Communications in Statistics 18 (1989).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lodim.randomness import RandomState, root_seed, torch_generator
from lodim.results import Result
from lodim.validation import ConvergenceWarning, check_device, check_in_range, checked, warn

__all__ = ["TraceEstimate", "hutchinson_trace"]

MIN_PROBES = 10  # before the scatter of the probes is trusted


@dataclass(frozen=True)
class TraceEstimate(Result):
    """Traces of the diagonal blocks of a matrix.

    Attributes
    ----------
    trace : tuple of float
        One for each block; a single one where no blocks were asked for.
    se : tuple of float
        Standard deviation of the probes' values over the root of their number.
    n_probes : int
        Products that were taken.
    converged : bool
        Whether every block's standard error is within the tolerance.
    """

    trace: tuple[float, ...]
    se: tuple[float, ...]
    n_probes: int
    converged: bool

    def __str__(self) -> str:
        values = ", ".join(f"{t:.4g} ± {s:.2g}" for t, s in zip(self.trace, self.se))
        return f"trace {values} from {self.n_probes} probes{'' if self.converged else ' (not converged)'}"


@checked
def hutchinson_trace(
    product: Callable[[Tensor], Tensor],
    n: int,
    *,
    blocks: Sequence[int] | None = None,
    n_probes: int = 100,
    rtol: float = 0.05,
    random_state: RandomState = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> TraceEstimate:
    """Estimate the trace of a matrix, or those of its diagonal blocks, from products with random signs.

    Probes are taken until the standard error of every block is at most ``rtol`` times its trace (after at least 10),
    or until ``n_probes`` are spent.

    Parameters
    ----------
    product : callable
        Maps a vector of shape (n,) to the matrix's product with it.
    n : int
        Size of the matrix.
    blocks : sequence of int, optional
        Sizes of the diagonal blocks, one after the other; they sum to ``n``.
    n_probes : int
        Most products to take, at least 2.
    rtol : float
        Standard error, relative to the trace, that will do; 0 spends all probes.
    random_state : int, Generator or None
        Of the probes, which are drawn on the CPU, so every device sees the same.
    dtype, device
        Of the vectors handed to ``product``.

    Returns
    -------
    TraceEstimate

    Raises
    ------
    ValueError
        Blocks that do not sum to ``n``, a product of another shape, or one that is not finite.

    Warns
    -----
    ConvergenceWarning
        Probes ran out before the tolerance was met (never for ``rtol=0``).

    Examples
    --------
    >>> import torch
    >>> hutchinson_trace(lambda z: 3 * z, 5).trace
    (15.0,)
    """
    sizes = [int(n)] if blocks is None else [int(size) for size in blocks]
    if sum(sizes) != n or min(sizes) < 1:
        raise ValueError(f"blocks must be positive and sum to n={n}, got {sizes}")
    limit = int(check_in_range(n_probes, "n_probes", low=2, integer=True))
    rtol = float(check_in_range(rtol, "rtol", low=0.0))
    device = None if device is None else check_device(device)
    generator = torch_generator(root_seed(random_state))
    values = torch.empty(limit, len(sizes), dtype=torch.float64)
    mean = error = torch.zeros(len(sizes), dtype=torch.float64)
    taken, converged = 0, False
    while taken < limit and not converged:
        probe = (2 * torch.randint(0, 2, (n,), generator=generator) - 1).to(device=device, dtype=dtype)
        values[taken] = _block_values(probe, product(probe), sizes, taken)
        taken += 1
        if taken > 1:
            mean, error = values[:taken].mean(0), values[:taken].std(0) / math.sqrt(taken)
        enough = taken >= min(MIN_PROBES, limit) and rtol > 0
        converged = enough and bool((error <= rtol * mean.abs()).all())
    if not converged and rtol > 0:
        worst = float((error / mean.abs()).max())
        warn(
            f"{limit} probes leave a relative standard error of {worst:.2g} (asked for: {rtol:.2g}); raise n_probes, "
            "or rtol if that will do",
            ConvergenceWarning,
        )
    return TraceEstimate(tuple(mean.tolist()), tuple(error.tolist()), taken, converged)


def _block_values(
    probe: Float[Tensor, " n"], image: Tensor, sizes: Sequence[int], index: int
) -> Float[Tensor, " blocks"]:
    """``z_b . (A z)_b`` of each block, in double precision."""
    if image.shape != probe.shape:
        raise ValueError(
            f"product must return a vector of shape {tuple(probe.shape)}, got {tuple(image.shape)}"
        )
    products = probe.detach().double() * image.detach().double()
    values = torch.stack([part.sum() for part in products.split(list(sizes))]).cpu()
    if not bool(values.isfinite().all()):
        raise ValueError(f"the product with probe {index} is not finite")
    return values
