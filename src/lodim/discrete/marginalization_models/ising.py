r"""A lattice of spins whose every marginal is known exactly while it is small: :class:`IsingModel`.

.. math:: \log f(s) = \sigma \sum_{i, j} A_{ij} s_i s_j + b \sum_i s_i, \qquad s_i = \pm 1,

with A the 0/1 matrix of neighbours on a torus. As in the marginalization models' own code the sum is over both i, j and
j, i, so that every edge counts **twice**: the coupling of an edge is :math:`2 \sigma`. Token 0 is spin -1, token 1 is
+1.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lodim.discrete.marginalization_models.model import hide
from lodim.discrete.masking import as_tokens, check_tokens, uniform
from lodim.nets import sample_categorical
from lodim.randomness import RandomState, root_seed, torch_generator
from lodim.validation import check_counts, check_in_range, checked

__all__ = ["IsingModel"]

MOST_SITES = 20


@checked
class IsingModel:
    """Spins on a periodic lattice of rows and columns.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns, each 1 or more. Along a side of 2 both neighbours are one site, which counts as one edge.
    sigma : float
        Coupling; every edge counts twice, see the module.
    bias : float
        Of every spin towards +1.

    Attributes
    ----------
    n_sites : int
        Sites in the order of rows: the length of a configuration.
    adjacency : ndarray, shape (n_sites, n_sites)
        A, as float64.

    Raises
    ------
    ValueError
        No such shape.

    Examples
    --------
    >>> lattice = IsingModel((4, 4), sigma=0.1, bias=0.2)
    >>> round(lattice.exact()[0], 6)
    12.598503
    >>> lattice.exact_log_marginal([[1, 1] + [None] * 14]).round(4)
    array([-0.5395])
    """

    def __init__(
        self, shape: Sequence[int] = (4, 4), sigma: float | int = 0.1, bias: float | int = 0.2
    ) -> None:
        if len(shape) != 2:
            raise ValueError(f"shape must be rows and columns, got {tuple(shape)}")
        rows, columns = shape
        check_counts(rows=rows, columns=columns)
        self.shape = (int(rows), int(columns))
        self.sigma = float(check_in_range(sigma, "sigma", low=-1e6, high=1e6))
        self.bias = float(check_in_range(bias, "bias", low=-1e6, high=1e6))
        self.n_sites = self.shape[0] * self.shape[1]
        site = np.arange(self.n_sites).reshape(self.shape)
        self.adjacency = np.zeros((self.n_sites, self.n_sites))
        for axis in (0, 1):
            beside = np.roll(site, 1, axis)
            self.adjacency[site, beside] = self.adjacency[beside, site] = 1.0
        np.fill_diagonal(self.adjacency, 0.0)

    def log_f(self, x: Any) -> Any:
        """Return the logarithm of the unnormalised probability of complete configurations, shape (n,)."""
        tokens, back = self._tokens(x)
        if bool((tokens == 2).any()):
            raise ValueError("log_f is of complete configurations; of partial ones see exact_log_marginal")
        return back(self._log_f(tokens).to(torch.float32 if isinstance(x, Tensor) else torch.float64))

    def _log_f(self, tokens: Tensor) -> Tensor:
        spins = 2.0 * tokens.double() - 1.0
        A = torch.from_numpy(self.adjacency).to(tokens.device)
        return self.sigma * (spins @ A * spins).sum(1) + self.bias * spins.sum(1)

    def _tokens(self, x: Any, observed: Any = None) -> tuple[Tensor, Any]:
        tokens = hide(as_tokens(x, 2), observed, 2)
        check_tokens(tokens, torch.full((self.n_sites,), 2, device=tokens.device), 2)
        return tokens, (lambda found: found) if isinstance(x, Tensor) else (lambda found: found.cpu().numpy())

    @cached_property
    def states(self) -> Int64[Tensor, "states n_sites"]:
        """All configurations, the first site changing slowest; at most 20 sites."""
        if self.n_sites > MOST_SITES:
            raise ValueError(
                f"{self.n_sites} sites have too many states to count; exact answers are for {MOST_SITES} or fewer, "
                "gibbs_samples for more"
            )
        places = torch.arange(self.n_sites - 1, -1, -1)
        return (torch.arange(2**self.n_sites)[:, None] >> places) & 1

    @cached_property
    def _log_table(self) -> Tensor:
        return torch.cat([self._log_f(part) for part in self.states.split(2**16)])

    def exact(self) -> tuple[float, Float[np.ndarray, " states"]]:
        """Return log Z and the probability of each of :attr:`states`; more than 20 sites are a ValueError."""
        log_z = float(self._log_table.logsumexp(0))
        return log_z, (self._log_table - log_z).exp().numpy()

    def exact_log_marginal(self, x: Any, observed: Any = None) -> Any:
        """Return the exact log-probability of partial configurations, by a sum over all states that agree with them.

        Parameters
        ----------
        x, observed
            As of :meth:`MarginalizationModel.log_prob`: None, NaN or 2 where a spin is summed out.

        Raises
        ------
        ValueError
            More than 20 sites, or no configurations of this lattice.
        """
        tokens, back = self._tokens(x, observed)
        cube = self._log_table.reshape((2,) * self.n_sites)
        sums = [
            cube[tuple(slice(None) if s == 2 else s for s in row)].flatten().logsumexp(0)
            for row in tokens.tolist()
        ]
        found = torch.stack(sums) - self._log_table.logsumexp(0)
        return back(found.to(tokens.device))

    @cached_property
    def colours(self) -> Int64[np.ndarray, " n_sites"]:
        """A colour for each site, neighbours having different ones: two where the lattice allows it, else three.

        A ring of odd length needs three. Colours of row and column are added: a step along either changes the sum by
        the difference of two different colours, which is not 0 modulo the number of colours.
        """

        def ring(n: int) -> np.ndarray:
            colour = np.arange(n) % 2
            if n % 2 and n > 1:
                colour[-1] = 2
            return colour

        row, column = map(ring, self.shape)
        return ((row[:, None] + column) % (1 + max(row.max(), column.max(), 1))).reshape(-1)

    def gibbs_samples(
        self, n: int, sweeps: int = 100, *, random_state: RandomState = None
    ) -> Int64[Tensor, "n n_sites"]:
        """Draw configurations by Gibbs sampling: n chains side by side, the last state of each.

        Parameters
        ----------
        n : int
            Chains, which begin at uniform states.
        sweeps : int
            Updates of every site. All sites of one colour move together, which is exact, since they do not touch.
        """
        check_counts(n=n)
        check_in_range(sweeps, "sweeps", low=0, integer=True)
        draws = torch_generator(root_seed(random_state))
        A, colours = torch.from_numpy(self.adjacency), torch.from_numpy(self.colours)
        x = (uniform(n, self.n_sites, like=A, generator=draws) < 0.5).long()
        for _ in range(sweeps):
            for colour in range(int(colours.max()) + 1):
                at = colours == colour
                field = 2.0 * self.sigma * ((2.0 * x.double() - 1.0) @ A[:, at]) + self.bias
                x[:, at] = sample_categorical(torch.stack([-field, field], -1), generator=draws)
        return x

    def __repr__(self) -> str:
        return f"IsingModel({self.shape}, sigma={self.sigma:g}, bias={self.bias:g})"
